package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/internal/wire"
)

// follow acts on what the roster says since it was last looked at.
func (m *Machine) follow() {
	if m.roster == nil || m.roster.State() == m.state {
		return
	}
	before := m.state
	m.state = m.roster.State()
	m.rosterChanged(before, m.state)
}

// rosterChanged follows up on every change of what the roster says.
func (m *Machine) rosterChanged(before, after *State) {
	m.governed, m.revoking.look, m.askedLook = false, true, true
	m.current = nil
	m.noteDigest()
	m.endsUnknown, m.stale = m.roster.endsUnknown(), m.roster.staleInvites(after.Epochs)
	invites := m.readInvites()
	changed := changedSeats(before, after)
	for _, seat := range changed {
		if st := m.seats[seat]; st != nil {
			m.seatChanged(st)
		}
	}
	if invites {
		for _, st := range m.sortedSeats() {
			if len(st.adms) > 0 && !m.standing(st.seat).in {
				m.seatChanged(st)
			}
		}
	}
	m.turnEpoch(after.Epochs)
	m.tellRoster(before, after)
	for _, seat := range changed {
		m.beyondCut(seat)
	}
	for _, seat := range letInAgain(before, after) {
		m.asksBack(m.seats[seat])
	}
	m.forgetTried(after)
	m.followRelays()
}

// letInAgain lists the seats that were removed and are members now.
func letInAgain(before, after *State) (list []wire.Seat) {
	for i := range before.Removed {
		if _, in := after.Member(before.Removed[i].Seat); in {
			list = append(list, before.Removed[i].Seat)
		}
	}
	return list
}

// changedSeats lists, ascending, the seats of which two states say different
// things.
func changedSeats(before, after *State) (list []wire.Seat) {
	says := func(s *State) map[wire.Seat]string {
		all := make(map[wire.Seat]string, len(s.Members)+len(s.Removed)+len(s.Pending))
		for i := range s.Members {
			x := &s.Members[i]
			all[x.Seat] = string(append(x.Admitted[:], x.Role))
		}
		for i := range s.Removed {
			all[s.Removed[i].Seat] = fmt.Sprint("out", s.Removed[i].Cuts, s.Removed[i].Left)
		}
		for i := range s.Pending {
			all[s.Pending[i].Seat] = "pending"
		}
		return all
	}
	a, b := says(before), says(after)
	for seat, what := range b {
		if was, ok := a[seat]; !ok || was != what {
			list = append(list, seat)
		}
	}
	for seat := range a {
		if _, ok := b[seat]; !ok {
			list = append(list, seat)
		}
	}
	slices.SortFunc(list, compareSeats)
	return list
}

// readInvites brings the invites up to the roster, and tells whether any became
// live or ended.
func (m *Machine) readInvites() (changed bool) {
	live := map[[16]byte]bool{}
	for i := range m.state.Invites {
		if inv := &m.state.Invites[i]; !inv.Revoked && inv.Record.Mode == ModeOpen {
			live[inv.ID] = true
			changed = changed || !m.live[inv.ID]
		}
	}
	m.adopted = map[[16]byte]int{}
	once := map[wire.Seat]bool{}
	for _, i := range m.roster.lists[opAdopt] {
		for _, a := range m.roster.ops[i].op.Body.(OpAdopt).Seats {
			if !once[a.Seat] {
				once[a.Seat] = true
				m.adopted[a.Invite]++
			}
		}
	}
	changed = changed || len(live) != len(m.live)
	m.live = live
	rooms := 0
	for i := range m.state.Invites {
		if m.state.Invites[i].Record.Mode == ModeApprove {
			rooms++
		}
	}
	if rooms != m.rooms && m.keyring != nil { // their entries open now
		m.rooms = rooms
		m.keyring.turns++
	}
	for _, i := range m.roster.lists[opInvite] {
		rec := m.roster.ops[i].op.Body.(OpInvite).Record
		m.addInvite(&rec)
	}
	return changed
}

// standing is what the roster says of a seat.
func (m *Machine) standing(seat wire.Seat) *seatStanding { return m.roster.all().seat(seat) }

// out tells whether a seat was removed or left.
func (m *Machine) out(seat wire.Seat) bool { return m.roster != nil && m.standing(seat).gone }

// role is a seat's role: by the roster, or, as long as nobody adopted it, by its
// invite. 0: none.
func (m *Machine) role(st *seatState) uint8 {
	if s := m.standing(st.seat); s.in || s.gone || s.pending >= 0 {
		return s.role
	}
	if st.own {
		if m.keyring.adm != nil && m.invites[m.keyring.adm.Invite] != nil {
			return m.invites[m.keyring.adm.Invite].Role
		}
		return RoleMember
	}
	if adm, _ := m.admission(st); adm != nil && m.invites[adm.Invite] != nil {
		return m.invites[adm.Invite].Role
	}
	return 0
}

// admin tells whether this member can make operations now.
func (m *Machine) admin() bool {
	return m.isMember() && !m.meta.Restored && !m.meta.Superseded && m.able(m.self, RoleAdmin)
}

// able tells whether a seat may do what a role may.
func (m *Machine) able(seat wire.Seat, role uint8) bool {
	s := m.standing(seat)
	return s.in && privilege(s.role) >= privilege(role) && !m.roster.all().suspended(seat)
}

// admittedAs tells whether a seat's announcement is what the roster admitted, or
// a later version of it.
func (m *Machine) admittedAs(st *seatState, s *seatStanding) bool {
	if s.source == genesisAdmits || st.ann.Version > 1 {
		return true
	}
	ann, _ := m.roster.ops[s.source].admits(st.seat)
	return ann == st.digest
}

// maxNames is how many members one event names.
const maxNames = 3

// tellRoster tells, calmly, what changed.
func (m *Machine) tellRoster(before, after *State) {
	if !m.isMember() {
		return
	}
	var removed, left, roles, pending []wire.Seat
	for i := range after.Removed {
		r := &after.Removed[i]
		if _, was := before.Member(r.Seat); !was && (m.seats[r.Seat] == nil || !m.seats[r.Seat].shown) {
			continue // nobody saw it come
		}
		if slices.ContainsFunc(before.Removed, func(o Removed) bool { return o.Seat == r.Seat }) {
			continue
		}
		if r.Left {
			left = append(left, r.Seat)
		} else {
			removed = append(removed, r.Seat)
		}
	}
	for i := range after.Members {
		x := &after.Members[i]
		if was, ok := before.Member(x.Seat); ok && was.Role != x.Role || !ok && x.Role != RoleMember {
			roles = append(roles, x.Seat)
		}
	}
	for i := range after.Pending {
		if _, was := before.Member(after.Pending[i].Seat); was {
			pending = append(pending, after.Pending[i].Seat)
		}
	}
	m.tellSeats(EventRemoved, removed, func(s wire.Seat) string {
		if s == m.self {
			return fmt.Sprintf("You were removed from %s%s. What you have stays here; you neither get nor send anything any more.", m.meta.Group, m.byWhom(m.removedBy(s)))
		}
		return fmt.Sprintf("%s was removed%s.", m.called(s), m.byWhom(m.removedBy(s)))
	}, "were removed")
	m.tellSeats(EventLeft, left, func(s wire.Seat) string {
		if s == m.self {
			return fmt.Sprintf("You left %s.", m.meta.Group)
		}
		return fmt.Sprintf("%s left the group.", m.called(s))
	}, "left the group")
	m.tellSeats(EventRole, letInAgain(before, after), func(s wire.Seat) string {
		if s == m.self {
			return fmt.Sprintf("You were let into %s again%s.", m.meta.Group, m.byWhom(m.roleBy(s)))
		}
		return fmt.Sprintf("%s was let in again%s.", m.called(s), m.byWhom(m.roleBy(s)))
	}, "were let in again")
	m.tellSeats(EventRole, roles, func(s wire.Seat) string {
		who, is, role, by := m.called(s), "is", withArticle(roleName(m.standing(s).role)), m.roleBy(s)
		if s == m.self {
			who, is = "You", "are"
		}
		switch {
		case by == wire.Seat{} || by == s:
			return fmt.Sprintf("%s %s %s now.", who, is, role)
		case by == m.self:
			return fmt.Sprintf("You made %s %s.", who, role)
		case s == m.self:
			who = "you"
		}
		return fmt.Sprintf("%s made %s %s.", m.called(by), who, role)
	}, "have another role now")
	m.tellSeats(EventRoster, pending, func(s wire.Seat) string {
		switch shut := m.shutOut(s); {
		case shut && s == m.self:
			return fmt.Sprintf("%s was shut to those who let themselves in while you came: an admin has to approve you.", m.meta.Group)
		case shut:
			return fmt.Sprintf("%s came in while the group was shut to those who let themselves in: an admin has to approve %s.", m.called(s), m.called(s))
		}
		if s == m.self {
			return fmt.Sprintf("Whoever let you into %s was removed at the same time: another admin has to approve you.", m.meta.Group)
		}
		return fmt.Sprintf("Whoever let %s in was removed at the same time: an admin has to approve %s again.", m.called(s), m.called(s))
	}, "have to be approved: who let them in was removed at the same time, or the group was shut")
	m.tellInvites(before, after)
	m.tellLists(before, after)
}

// tellInvites tells whoever made an invitation that another ended it.
func (m *Machine) tellInvites(before, after *State) {
	n, by := 0, wire.Seat{}
	for i := range after.Invites {
		inv := &after.Invites[i]
		if !inv.Revoked || inv.By != m.self || !m.now.Before(inv.Record.Expires) ||
			slices.ContainsFunc(before.Invites, func(o Invite) bool { return o.ID == inv.ID && o.Revoked }) {
			continue
		}
		for _, r := range m.roster.lists[opRevoke] {
			if o := m.roster.ops[r]; o.op.Body.(OpRevoke).Invite == inv.ID {
				by = o.seat
			}
		}
		if by != m.self { // who ends its own is answered
			n++
		}
	}
	if n > 0 {
		m.show(Event{Kind: EventRoster, Text: m.endedText(n, by)})
	}
}

// endedText says that own invitations ended.
func (m *Machine) endedText(n int, by wire.Seat) string {
	if n == 1 {
		return fmt.Sprintf("An invitation of yours ended%s: its link lets nobody in any more. `parallax invite` makes a new one.", m.byWhom(by))
	}
	return fmt.Sprintf("%d invitations of yours ended%s: their links let nobody in any more. `parallax invite` makes a new one.", n, m.byWhom(by))
}

// tellSeats shows what happened to seats: one line each, or one for many.
func (m *Machine) tellSeats(kind EventKind, seats []wire.Seat, line func(wire.Seat) string, many string) {
	if i := slices.Index(seats, m.self); i >= 0 {
		m.show(Event{Kind: kind, Own: true, Seat: m.self.String(), Member: m.meta.Name, Text: line(m.self)})
		seats = slices.Delete(seats, i, i+1)
	}
	if len(seats) > maxNames {
		var names []string
		for _, s := range seats[:maxNames] {
			names = append(names, m.called(s))
		}
		m.show(Event{Kind: kind, Text: fmt.Sprintf("%s and %d others %s.", strings.Join(names, ", "), len(seats)-maxNames, many)})
		return
	}
	for _, s := range seats {
		m.show(Event{Kind: kind, Seat: s.String(), Member: m.called(s), Text: line(s)})
	}
}

// tellLists tells of the policy, disputes and an end of all admins.
func (m *Machine) tellLists(before, after *State) {
	if before.Policy != after.Policy {
		m.show(Event{Kind: EventRoster, Text: fmt.Sprintf("The group's policy changed: %s.", describePolicy(&after.Policy))})
	}
	if before.Reserve != after.Reserve {
		m.show(Event{Kind: EventRoster, Text: describeSpares(after.Spares)})
	}
	if after.Headless && !before.Headless {
		m.show(Event{Kind: EventRoster, Text: "The group has neither owner nor admin any more: members and relays stay as they are, and nobody can change them. Begin a new group when you need to."})
	}
	for i := range after.Disputes {
		d := &after.Disputes[i]
		same := func(o Dispute) bool {
			return o.Kind == d.Kind && slices.Equal(o.Operations, d.Operations) && o.Settled == d.Settled
		}
		if !d.Settled && !slices.ContainsFunc(before.Disputes, same) {
			e := Event{Kind: EventDispute, Text: m.disputeText(d)}
			if d.Kind == DisputeFork {
				e.Seat, e.Member = d.Seats[0].String(), m.called(d.Seats[0])
			}
			m.show(e)
		}
	}
}

// disputeText says a dispute in a sentence. Nobody's relay is blamed: operations
// are signed.
func (m *Machine) disputeText(d *Dispute) string {
	var who []string
	for _, s := range d.Seats {
		who = append(who, m.called(s))
	}
	names := strings.Join(who, " and ")
	switch d.Kind {
	case DisputeFork:
		return fmt.Sprintf("%s signed two different operations after one: that happens when one seat runs on two devices, or when somebody has its keys. What it did from then on does not count until an owner gives it a role again, or removes it. No relay is blamed.", names)
	case DisputeDraw:
		return fmt.Sprintf("%s acted against each other at the same time: they are plain members now, until another admin decides.", names)
	}
	return fmt.Sprintf("%s changed the same thing at the same time: one of the changes is in force, see the roster.", names)
}

func describePolicy(p *Policy) string {
	quorum := "a majority of the relays' operators must agree"
	switch {
	case p.Text != "":
		quorum = "of the relays' operators must agree: " + p.Text
	case p.Strict:
		quorum = "all of the relays' operators must agree"
	case p.Quorum > 0:
		quorum = fmt.Sprintf("%d of the relays' operators must agree", p.Quorum)
	}
	said := fmt.Sprintf("%s, %s, a relay may stay silent for %v, messages are kept for %v", modeWords(p.Mode), quorum, inWords(p.Deadline), inWords(p.Retention))
	switch {
	case p.Carriers == MaxRelays:
		said += ", a text goes in full to all relays"
	case p.Carriers > 0:
		said += fmt.Sprintf(", a text goes in full to %d relays at most, its digest to the others", p.Carriers)
	}
	return said
}

// inWords says a length of time in words.
func inWords(d time.Duration) string {
	for _, u := range []struct {
		d    time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d >= u.d && d%u.d == 0 {
			return plural(int(d/u.d), u.name)
		}
	}
	return d.String()
}

// called is how people see a seat, whatever is known of it.
func (m *Machine) called(seat wire.Seat) string {
	if st := m.seats[seat]; st != nil {
		return m.display(st)
	}
	return "seat " + seat.Short()
}

func (m *Machine) byWhom(by wire.Seat) string {
	switch by {
	case wire.Seat{}:
		return ""
	case m.self:
		return " by you"
	}
	return " by " + m.called(by)
}

// removedBy is who removed a seat, of several the one whose operation is nearest
// to the genesis.
func (m *Machine) removedBy(seat wire.Seat) (by wire.Seat) {
	v := m.roster.all()
	var list []int
	for _, i := range v.seat(seat).ends {
		if m.roster.ops[i].kind == opRemove {
			list = append(list, i)
		}
	}
	if len(list) > 0 {
		by = m.roster.ops[v.earliest(list)].seat
	}
	return by
}

// roleBy is who gave a seat its role.
func (m *Machine) roleBy(seat wire.Seat) (by wire.Seat) {
	if at := m.standing(seat).path; at != genesisAdmits {
		by = m.roster.ops[at].seat
	}
	return by
}

func withArticle(word string) string {
	if strings.ContainsAny(word[:1], "aeiou") {
		return "an " + word
	}
	return "a " + word
}
