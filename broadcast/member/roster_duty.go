package member

import (
	"maps"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// What an admin's machine does without being asked (docs/protocol.md section 8.1,
// "What admins do"): it makes complete admissions signed facts, begins the epoch
// that another's act calls for, and carries operations that too few boards show.
// Several admins wait differently long, so that mostly one of them acts; if two
// do, the roster merges both.

// duty is when the next of it is due; zero: nothing is.
type duty struct {
	at time.Time
}

// doDuty does what is due, or sets the time for what became so.
func (m *Machine) doDuty() {
	if m.roster == nil || m.starting.underWay() {
		return
	}
	if !m.admin() || !m.toDo() {
		m.duty.at = time.Time{}
		return
	}
	if m.duty.at.IsZero() {
		m.duty.at = m.now.Add(m.dutyWait())
		return
	}
	if m.now.Before(m.duty.at) {
		return
	}
	m.duty.at = time.Time{}
	c := &change{m: m, list: m.adopt(m.adoptable)}
	switch {
	case m.epochDue(): // no link opens the door that comes
		c.adoptAll(wire.Seat{})
		c.ended = m.liveInvites()
		c.revoke(c.ended)
		if l, err := m.newEpoch(); err == nil {
			c.list = append(c.list, l)
		}
	case len(m.staleInvites()) > 0:
		c.adoptAll(wire.Seat{})
		c.ended = m.staleInvites()
		c.revoke(c.ended)
	}
	m.publish(c.list...)
	if len(c.ended) > 0 {
		m.endGrants(nil)
	}
	if n := m.ownAmong(c.ended); n > 0 {
		m.show(Event{Kind: EventRoster, Text: m.endedText(n, wire.Seat{}) + " The group's keys changed, since somebody went."})
	}
	m.carry(m.uncarried()...)
	if m.toDo() {
		m.duty.at = m.now.Add(m.dutyWait())
	}
}

// toDo tells whether there is anything to do.
func (m *Machine) toDo() bool {
	for _, st := range m.unadopted {
		if m.adoptable(st) {
			return true
		}
	}
	return m.epochDue() || len(m.staleInvites()) > 0 || len(m.uncarried()) > 0
}

// epochDue tells whether somebody is out who has the keys of an epoch in force, or
// several epochs are in force at once.
func (m *Machine) epochDue() bool { return len(m.state.Epochs) > 1 || m.endsUnknown }

// staleInvites lists, ascending, the invites that are neither revoked nor over, and
// that an epoch in force was begun without: their links open another door, and its
// Rotate ended their grants.
func (m *Machine) staleInvites() [][16]byte {
	return slices.DeleteFunc(m.liveInvites(), func(id [16]byte) bool { return !m.stale[id] })
}

// ownAmong counts those of these invites that this member made.
func (m *Machine) ownAmong(ids [][16]byte) (n int) {
	for i := range m.state.Invites {
		if inv := &m.state.Invites[i]; inv.By == m.self && slices.Contains(ids, inv.ID) {
			n++
		}
	}
	return n
}

// uncarried lists operations that came a while ago and that too few boards show:
// whoever made them may be gone.
func (m *Machine) uncarried() (list []*logged) {
	m.fresh = slices.DeleteFunc(m.fresh, func(l *logged) bool {
		return l.place != 0 || m.log[l.digest] == nil || m.enough(m.showsOperation(l))
	})
	for _, l := range m.fresh {
		if m.roster.Has(l.digest) && !m.now.Before(l.since.Add(2*m.cfg.Limits.AdoptWait)) {
			list = append(list, l)
		}
	}
	return list
}

// nextUncarried is when the next operation has waited for its boards long enough;
// zero: none does.
func (m *Machine) nextUncarried() time.Time {
	for _, l := range m.fresh {
		if at := l.since.Add(2 * m.cfg.Limits.AdoptWait); at.After(m.now) {
			return at
		}
	}
	return time.Time{}
}

// nextAdoptLate is when the next seat that some relay does not show is adopted all
// the same; zero: none waits.
func (m *Machine) nextAdoptLate() (t time.Time) {
	for _, st := range m.unadopted {
		if at := st.since.Add(m.cfg.Limits.AdoptLate); at.After(m.now) && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// adoptable tells whether a seat's complete admission may be made a signed fact
// now. A quorum shows it; as long as a relay that was read does not, which is how
// a coalition that puts seats in the place of others looks to those it did not cut
// off, it stays with the comparison, which takes back what convicted relays
// brought. A signed fact nobody takes back but an admin.
func (m *Machine) adoptable(st *seatState) bool {
	if !m.usable(st) || m.standing(st.seat).in {
		return false
	}
	if !m.now.Before(st.since.Add(m.cfg.Limits.AdoptLate)) {
		return true
	}
	_, r := m.admission(st)
	return !slices.ContainsFunc(m.paths, func(p *path) bool {
		return p.counts() && p.read.opened && p.listed && r.Status[p.index] != crossverify.Matched
	})
}

// dutyWait is how long this admin leaves things to others: those with a smaller
// seat come first, and chance keeps two from acting at once.
func (m *Machine) dutyWait() time.Duration {
	rank := 0
	for i := range m.state.Members {
		if x := &m.state.Members[i]; privilege(x.Role) >= privilege(RoleAdmin) && compareSeats(x.Seat, m.self) < 0 {
			rank++
		}
	}
	wait := m.cfg.Limits.AdoptWait
	j := m.draw32()
	return wait*time.Duration(min(rank, maxRank)+1) + wait*time.Duration(j[0])/512
}

// maxRank bounds how many admins one waits for.
const maxRank = 8

// adopt makes admissions that are complete signed facts, so that they outlive
// their invite and whatever relays keep of them: up to MaxAdopted at a time.
func (m *Machine) adopt(may func(*seatState) bool) []*logged {
	var body OpAdopt
	for _, seat := range slices.SortedFunc(maps.Keys(m.unadopted), compareSeats) {
		st := m.unadopted[seat]
		if len(body.Seats) == MaxAdopted {
			break
		}
		if !may(st) {
			continue
		}
		adm, _ := m.admission(st)
		body.Seats = append(body.Seats, Adopted{Seat: seat, Announcement: adm.Announcement, Invite: adm.Invite, Role: m.invites[adm.Invite].Role})
	}
	if len(body.Seats) == 0 {
		return nil
	}
	l, err := m.makeOperation(body)
	if err != nil {
		return nil // somebody took this member's role meanwhile
	}
	return []*logged{l}
}
