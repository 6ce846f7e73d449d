package member

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parallax/internal/wire"
)

// Requests as members see them (docs/protocol.md section 8.4). Every member of the
// epoch reads them; admins are told and decide.

// maxForms is how many different requests of one seat are kept: they are all
// signed by it.
const maxForms = 4

// askedSeat is a seat that asks to be let in.
type askedSeat struct {
	seat      wire.Seat
	invite    [16]byte
	forms     []askedForm // in the order of their coming
	since     int64       // Unix seconds when the first came here
	told      bool        // the admin was
	refused   bool        // by an admin; it may be let in all the same
	withdrawn bool        // by itself
	version   uint64      // of the own decision on it; 0: none
	epoch     uint64      // in use when it was let in, as far as is known here; 0: it is not
}

// askedForm is one request and the paths that show it.
type askedForm struct {
	request *Request
	by      relayMask
}

// Why a request is not granted.
var (
	// ErrTooFew: fewer operators show a request than are enough.
	ErrTooFew = errors.New("too few relays show the same request")
)

// sawRequest takes a request that a path shows. Who asks and was told no, or is in,
// is not asked for again.
func (m *Machine) sawRequest(p *path, invite [16]byte, seat wire.Seat, value []byte) {
	i := slices.IndexFunc(m.state.Invites, func(x Invite) bool { return x.ID == invite })
	if i < 0 {
		return
	}
	inv := &m.state.Invites[i]
	r := m.requests[seat]
	if s := m.standing(seat); s.in && r == nil || s.gone && r == nil || m.now.After(inv.Record.Expires.Add(m.cfg.Limits.RequestLife)) {
		return
	}
	var q *Request
	for _, key := range m.requestKeys(invite) {
		if open, err := OpenRequest(value, key, m.gid, invite, seat); err == nil {
			q = open
			break
		}
	}
	if q == nil {
		return // sealed under an epoch whose key is gone
	}
	if q.Verify(m.cfg.Verify, inv.Record.Key) != nil {
		m.invalid(p, "a request")
		return
	}
	if r == nil {
		if inv.Revoked || q.Withdrawn || m.overdue(q.Made.Unix(), m.now.Unix()) || !m.roomForRequest() {
			return
		}
		r = &askedSeat{seat: seat, invite: invite, since: m.now.Unix()}
		m.requests[seat] = r
	}
	r.show(q, p.index)
	r.withdrawn = r.withdrawn || q.Withdrawn // signed by the seat: newer, whichever path brought it
	m.askedLook = true
	m.saveAsked(r)
}

// show notes which request a path shows now.
func (r *askedSeat) show(q *Request, path int) {
	d, at := q.Digest(), -1
	for i := range r.forms {
		r.forms[i].by &^= 1 << path
		if r.forms[i].request.Digest() == d {
			at = i
		}
	}
	if at < 0 {
		if len(r.forms) == maxForms {
			return
		}
		r.forms, at = append(r.forms, askedForm{request: q}), len(r.forms)
	}
	r.forms[at].by |= 1 << path
}

// newest is the request that most paths show, of several the one that came first.
func (r *askedSeat) newest() *askedForm {
	best := &r.forms[0]
	for i := range r.forms {
		if r.forms[i].by.len() > best.by.len() {
			best = &r.forms[i]
		}
	}
	return best
}

// differs tells whether the seat signed two announcements to ask with.
func (r *askedSeat) differs() bool {
	first := r.forms[0].request.Announcement.Digest()
	return slices.ContainsFunc(r.forms, func(f askedForm) bool { return f.request.Announcement.Digest() != first })
}

// requestAgreed tells whether enough operators show one request of a seat.
func (m *Machine) requestAgreed(r *askedSeat) bool {
	by := r.newest().by
	return !r.differs() && m.enough(func(p *path) bool { return by.has(p.index) })
}

// overdue tells whether a request has had its time, by the newcomer's clock or by
// when it came here.
func (m *Machine) overdue(made, since int64) bool {
	life := int64(m.cfg.Limits.RequestLife / time.Second)
	return m.now.Unix() >= min(made, since)+life
}

// roomForRequest makes room for one more: what fewest relays show goes, of that
// the newest. What enough operators show never makes room.
func (m *Machine) roomForRequest() bool {
	if len(m.requests) < m.cfg.Limits.Requests {
		return true
	}
	m.tellOnce("requests", Event{Kind: EventRequest, Text: fmt.Sprintf("More than %d requests to be let in wait: what too few relays show is not kept. If an invitation got into many hands, end it: parallax invite revoke", m.cfg.Limits.Requests)})
	var worst *askedSeat
	for _, r := range m.sortedAsked() {
		if !r.refused && !m.standing(r.seat).in && !m.requestAgreed(r) && (worst == nil || r.newest().by.len() < worst.newest().by.len() ||
			r.newest().by.len() == worst.newest().by.len() && r.since > worst.since) {
			worst = r
		}
	}
	if worst == nil {
		return false
	}
	m.forgetAsked(worst)
	return true
}

func (m *Machine) sortedAsked() []*askedSeat {
	return slices.SortedFunc(maps.Values(m.requests), func(a, b *askedSeat) int { return compareSeats(a.seat, b.seat) })
}

func (m *Machine) forgetAsked(r *askedSeat) {
	delete(m.requests, r.seat)
	m.del(m.key(keyAsked, r.seat[:]))
}

// stepAsked follows up on requests: tells admins of those that enough relays show,
// gives who was let in the keys of an epoch that began since, and forgets who is in
// and what had its time.
func (m *Machine) stepAsked() {
	if !m.askedLook || m.roster == nil || !m.isMember() {
		return
	}
	m.askedLook = false
	for _, r := range m.sortedAsked() {
		s, st := m.standing(r.seat), m.seats[r.seat]
		switch {
		case s.in && st != nil && st.ann != nil, m.overdue(r.newest().request.Made.Unix(), r.since):
			m.forgetAsked(r)
		case s.in:
			m.keepAdmitted(r)
		case !r.told && m.waits(r) && m.admin() && m.requestAgreed(r):
			r.told = true
			m.saveAsked(r)
			m.show(Event{Kind: EventRequest, Seat: r.seat.String(), Member: m.askedLabel(r), Text: fmt.Sprintf("%s asks to be let into %s: %s. Seat %s: ask for its beginning where no relay is in between, then `parallax member approve` or `refuse`.",
				m.askedLabel(r), m.meta.Group, m.requestShown(r), r.seat.Short())})
		}
	}
}

// waits tells whether a request is on the list of those that admins decide.
func (m *Machine) waits(r *askedSeat) bool {
	return !r.refused && !r.withdrawn && !m.standing(r.seat).in && !m.overdue(r.newest().request.Made.Unix(), r.since)
}

// keepAdmitted gives who is in, and has not come yet, the key of an epoch that
// began since: without it nothing can be put on the boards.
func (m *Machine) keepAdmitted(r *askedSeat) {
	if r.epoch == 0 {
		r.epoch = m.keyring.inUse
		m.saveAsked(r)
	}
	if r.epoch == m.keyring.inUse || !m.admin() || r.version == 0 && m.adminsBefore() >= maxGovern {
		return
	}
	m.decideOn(r, true, "", nil)
}

// decideOn puts this admin's decision on a request on the boards, sealed to the
// newcomer if it is let in.
func (m *Machine) decideOn(r *askedSeat, admitted bool, reason string, posts map[wire.PostID]*path) {
	a := r.newest().request.Announcement
	d := &Decision{Group: m.gid, Invite: r.invite, Seat: r.seat, Announcement: a.Digest(), Made: unixTime(m.now), Admitted: admitted, Reason: reason}
	if admitted {
		if err := d.SealEpochs(m.entropy, a, m.keyring.list()); err != nil {
			return // keys that nobody can use; the operation stands, and its owner sees that nothing comes
		}
		r.epoch = m.keyring.inUse
	}
	r.refused = !admitted
	r.version++
	d.Sign(m.keyring.signing)
	value := d.Append(nil)
	for _, p := range m.paths {
		if p.takesPosts() {
			m.putRoom(p, r.invite, decisionName(r.seat, m.self), r.version, value, posts)
		}
	}
	m.saveAsked(r)
}

// sawOthersDecision takes an admin's word on a request: who was refused is not
// shown any more. That somebody is let in is told by the roster.
func (m *Machine) sawOthersDecision(p *path, invite [16]byte, seat wire.Seat, value []byte) {
	d, err := ParseDecision(value)
	if err != nil || d.Group != m.gid || d.Invite != invite || d.Seat != seat || d.Verify(m.cfg.Verify) != nil {
		m.invalid(p, "a decision on a request")
		return
	}
	r, by := m.requests[seat], NewSeat(m.gid, d.Author)
	if r == nil || by == m.self || d.Admitted || r.refused || !m.able(by, RoleAdmin) || d.Announcement != r.newest().request.Announcement.Digest() {
		return
	}
	r.refused = true
	m.saveAsked(r)
	if m.admin() {
		m.show(Event{Kind: EventRequest, Seat: seat.String(), Member: m.askedLabel(r), Text: fmt.Sprintf("%s refused %s, who asked to be let in.", m.called(by), m.askedLabel(r))})
	}
}

// askedLabel is the name of who asks, told apart where another carries it.
func (m *Machine) askedLabel(r *askedSeat) string {
	st := &seatState{seat: r.seat, ann: r.newest().request.Announcement}
	same := len(m.namesakes(st)) > 0 || strings.ContainsAny(st.ann.Name, "[]")
	for _, o := range m.requests {
		other := &seatState{seat: o.seat, ann: o.newest().request.Announcement}
		same = same || o.seat != r.seat && other.plainName() == st.plainName()
	}
	if same {
		return fmt.Sprintf("%s [%s]", st.ann.Name, r.seat.Short())
	}
	return st.ann.Name
}

// requestShown says over how many relays one and the same request came.
func (m *Machine) requestShown(r *askedSeat) string {
	shown, _ := m.showers(r)
	if len(m.used()) == 1 {
		return "on the only relay, so nothing is compared"
	}
	return fmt.Sprintf("%d of %d relays show the same request", len(shown), len(m.used()))
}

// showers are the relays in use that show a seat's request, and those that were
// read and show none, or another.
func (m *Machine) showers(r *askedSeat) (shown, missing []*path) {
	by := r.newest().by
	for _, p := range m.used() {
		switch {
		case by.has(p.index):
			shown = append(shown, p)
		case p.listed && p.caughtUp:
			missing = append(missing, p)
		}
	}
	return shown, missing
}

// saveAsked writes: invite 16 | since u64 | told | refused | withdrawn | version
// u64 | epoch u64 | u8 count of: paths u64, request bytes.
func (m *Machine) saveAsked(r *askedSeat) {
	b := append([]byte(nil), r.invite[:]...)
	b = wire.AppendU64(b, uint64(r.since))
	b = wire.AppendBool(wire.AppendBool(wire.AppendBool(b, r.told), r.refused), r.withdrawn)
	b = wire.AppendU64(wire.AppendU64(b, r.version), r.epoch)
	b = append(b, uint8(len(r.forms)))
	for _, f := range r.forms {
		b = wire.AppendU64(b, uint64(f.by))
		b = wire.AppendBytes(b, f.request.Append(nil))
	}
	m.put(m.key(keyAsked, r.seat[:]), b)
}

func (m *Machine) loadAsked(key, value []byte) error {
	if len(key) != 32 {
		return wire.ErrFormat
	}
	r := &askedSeat{seat: wire.Seat(key)}
	v := wire.NewReader(value)
	v.Fixed(r.invite[:])
	r.since = int64(v.U64())
	r.told, r.refused, r.withdrawn = v.Bool(), v.Bool(), v.Bool()
	r.version, r.epoch = v.U64(), v.U64()
	for range readCount8(v, maxForms) {
		f := askedForm{by: relayMask(v.U64())}
		q, err := ParseRequest(v.Bytes(MaxRequest))
		if err != nil {
			return err
		}
		f.request = q
		r.forms = append(r.forms, f)
	}
	if err := v.Done(); err != nil || len(r.forms) == 0 {
		return wire.ErrFormat
	}
	m.requests[r.seat] = r
	return nil
}
