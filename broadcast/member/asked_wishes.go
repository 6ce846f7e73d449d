package member

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// GetRequests asks who waits to be let in, for admins. Answer: []RequestInfo, the
// oldest first.
type GetRequests struct{}

// RefuseMember says no to who asks to be let in: one, or, with Invite, all who
// asked by one invitation. They are told; other admins' lists lose them. Answer:
// OperationInfo.
type RefuseMember struct {
	Member string `json:"member,omitempty"` // name, seat or a unique beginning of it
	Invite string `json:"invite,omitempty"` // invite id, hex, or a unique beginning of it
	Reason string `json:"reason,omitempty"` // one line for who is refused; at most MaxReason bytes
}

// Wish implements Wish.
func (GetRequests) Wish() string { return "requests" }

// Wish implements Wish.
func (RefuseMember) Wish() string { return "member-refuse" }

// RequestInfo is one seat that asks to be let in.
type RequestInfo struct {
	Seat    string    `json:"seat"`
	Name    string    `json:"name"`
	Label   string    `json:"label"`   // name, told apart where another carries it
	Invite  string    `json:"invite"`  // id of the invitation that it asks by
	Role    Role      `json:"role"`    // that the invitation gives
	Since   time.Time `json:"since"`   // when it came to this device first
	Made    time.Time `json:"made"`    // by the newcomer's clock
	Shown   []string  `json:"shown"`   // labels of the relays that show this request
	Missing []string  `json:"missing"` // of those that were read and do not
	Needed  int       `json:"needed"`  // operators that have to show it
	Agreed  bool      `json:"agreed"`  // enough show it: it can be approved
	Differs bool      `json:"differs"` // the seat signed two requests: it cannot
	Ended   bool      `json:"ended,omitempty"`
}

// requestsOf answers GetRequests.
func (m *Machine) requestsOf() ([]RequestInfo, error) {
	if err := m.mayChange(RoleAdmin); err != nil {
		return nil, err
	}
	list := []RequestInfo{}
	for _, r := range m.sortedAsked() {
		if !m.waits(r) {
			continue
		}
		q := r.newest().request
		v := RequestInfo{Seat: r.seat.String(), Name: q.Announcement.Name, Label: m.askedLabel(r), Invite: hex.EncodeToString(r.invite[:]), Since: unixSeconds(r.since), Made: q.Made,
			Needed: m.needed(), Agreed: m.requestAgreed(r), Differs: r.differs(), Shown: []string{}, Missing: []string{}}
		if inv := m.inviteOf(r.invite); inv != nil {
			v.Role, v.Ended = Role(roleName(inv.Record.Role)), inv.Revoked
		}
		shown, missing := m.showers(r)
		for _, p := range shown {
			v.Shown = append(v.Shown, p.label())
		}
		for _, p := range missing {
			v.Missing = append(v.Missing, p.label())
		}
		list = append(list, v)
	}
	slices.SortStableFunc(list, func(a, b RequestInfo) int { return a.Since.Compare(b.Since) })
	return list, nil
}

func (m *Machine) inviteOf(id [16]byte) *Invite {
	i := slices.IndexFunc(m.state.Invites, func(x Invite) bool { return x.ID == id })
	if i < 0 {
		return nil
	}
	return &m.state.Invites[i]
}

// findRequest finds who asks by name, seat, or a unique beginning of the seat; nil:
// nobody of that name does. Who was refused is found too, by its seat.
func (m *Machine) findRequest(name string) (*askedSeat, error) {
	var found []*askedSeat
	for _, r := range m.sortedAsked() {
		if r.withdrawn || m.standing(r.seat).in || m.overdue(r.newest().request.Made.Unix(), r.since) {
			continue
		}
		named := !r.refused && (r.newest().request.Announcement.Name == name || m.askedLabel(r) == name)
		if named || len(name) >= 4 && strings.HasPrefix(r.seat.String(), strings.ToLower(name)) {
			found = append(found, r)
		}
	}
	if len(found) > 1 {
		var seats []string
		for _, r := range found {
			seats = append(seats, r.seat.Short())
		}
		return nil, fmt.Errorf("%w: %q is the name of the seats %s, which ask to be let in; name the seat", ErrAmbiguous, name, strings.Join(seats, ", "))
	}
	if len(found) == 0 {
		return nil, nil
	}
	return found[0], nil
}

// letIn finds who was let in by a request and has not come yet; nil: nobody of that
// name.
func (m *Machine) letIn(name string) *askedSeat {
	for _, r := range m.sortedAsked() {
		if m.standing(r.seat).in && (m.askedLabel(r) == name || r.newest().request.Announcement.Name == name || len(name) >= 4 && strings.HasPrefix(r.seat.String(), strings.ToLower(name))) {
			return r
		}
	}
	return nil
}

// mayApprove tells why a request cannot be granted, or nil: an admin that sees it
// by too few relays may see another's in its place.
func (m *Machine) mayApprove(r *askedSeat) error {
	if r.differs() {
		return fmt.Errorf("%w: seat %s signed two different requests, so two devices have its keys: have it ask anew by `parallax join`", ErrContested, r.seat.Short())
	}
	if m.requestAgreed(r) {
		return nil
	}
	shown, missing := m.showers(r)
	why := "the others were not read yet"
	if len(missing) > 0 {
		why = fmt.Sprintf("%s %s not show it", names(missing, "relay"), verb(missing, "does", "do"))
	}
	return fmt.Errorf("%w: %s, which makes %d of %d operators; %s. Nobody is let in on the word of fewer: try again when more relays show it", ErrTooFew,
		m.requestShown(r), m.operators(func(p *path) bool { return slices.Contains(shown, p) }), m.needed(), why)
}

// approveRequest lets in who asks.
func (m *Machine) approveRequest(id uint64, r *askedSeat, w ApproveMember) error {
	if err := m.mayApprove(r); err != nil {
		return err
	}
	if w.Role == "" {
		w.Role = AsMember
		if inv := m.inviteOf(r.invite); inv != nil {
			w.Role = Role(roleName(inv.Record.Role))
		}
	}
	role, err := roleOf(w.Role)
	if err != nil {
		return err
	}
	name := m.askedLabel(r)
	c := &change{m: m}
	l := c.make(OpAdd{Seat: r.seat, Announcement: r.newest().request.Announcement.Digest(), Role: role})
	if c.err != nil {
		return c.err
	}
	c.also = func() { m.decideOn(r, true, "", c.posts) }
	return c.done(id, OperationInfo{Operation: l.digest.Short(), Seat: r.seat.String(), Member: name,
		What: fmt.Sprintf("%s is let in as %s, and comes when its device has read it.", name, w.Role)})
}

// refuseMember says no.
func (m *Machine) refuseMember(id uint64, w RefuseMember) error {
	if err := m.mayChange(RoleAdmin); err != nil {
		return err
	}
	if err := checkReason(w.Reason); err != nil {
		return err
	}
	var list []*askedSeat
	what := ""
	switch {
	case w.Invite != "":
		var invites [][16]byte
		for _, r := range m.sortedAsked() {
			if strings.HasPrefix(hex.EncodeToString(r.invite[:]), strings.ToLower(w.Invite)) && m.waits(r) && (w.Member == "" || m.askedLabel(r) == w.Member) {
				list = append(list, r)
				if !slices.Contains(invites, r.invite) {
					invites = append(invites, r.invite)
				}
			}
		}
		if len(invites) > 1 {
			return fmt.Errorf("%w: %d invitations begin with %q", ErrAmbiguous, len(invites), w.Invite)
		}
		what = fmt.Sprintf("%s refused.", plural(len(list), "request"))
	default:
		r, err := m.findRequest(w.Member)
		if err != nil {
			return err
		}
		if r != nil && !r.refused {
			list = append(list, r)
			what = fmt.Sprintf("%s was refused.", m.askedLabel(r))
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("%w: nobody who waits is called %q", ErrNoSuch, w.Member+w.Invite)
	}
	c := &change{m: m}
	info := OperationInfo{What: what}
	if len(list) == 1 {
		info.Seat, info.Member = list[0].seat.String(), m.askedLabel(list[0])
	}
	c.also = func() {
		for _, r := range list {
			m.decideOn(r, false, w.Reason, c.posts)
		}
	}
	return c.done(id, info)
}
