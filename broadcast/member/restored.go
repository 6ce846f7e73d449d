package member

import (
	"fmt"

	"parallax/internal/wire"
)

// A membership restored from a backup has its identity and history and no live
// session, no prekeys. It reads the boards, so that its next announcement
// follows the newest there is, then announces itself under a new incarnation and
// begins with everybody anew; what was sent before cannot be mistaken for a
// second text under one number, since sequences count within the incarnation.

// revive announces a restored membership when a quorum has been read, and the keys
// of the epochs in force are here.
func (m *Machine) revive() {
	if !m.isMember() || !m.meta.Restored || !m.reading() || m.out(m.self) {
		return
	}
	for _, p := range m.paths {
		if p.standing == inUse && p.read.opened && !p.listed {
			return
		}
	}
	if m.askBackAt.IsZero() && m.meta.Asked > 0 {
		m.askBackAt = m.now.Add(askBackAgain)
	}
	lacks, asked := m.lacksEpoch(), m.meta.Asked > 0
	switch {
	case !lacks && (m.helped || !m.unopened()): // it has what it needs
	case asked && m.now.Before(m.askBackAt):
		return
	case !lacks && asked: // nobody else opens it either
	case !lacks && m.waitsForKeys():
		return
	default:
		m.askBack()
		return
	}
	if !asked {
		m.newLife()
	}
	from, since := " from a backup", "the backup"
	if m.meta.PutBack {
		from, since = "", "this copy"
	}
	m.meta.Restored, m.meta.PutBack, m.meta.Asked, m.meta.Began = false, false, 0, m.now.Unix()
	st := m.seats[m.self]
	m.announce(st.ann.Version, st.digest)
	m.announced()
	for _, o := range m.sortedSeats() { // a hello to the lost installation is of no use here
		if o.ann != nil && !o.own && !o.initial {
			o.initial = true
			m.saveSeat(o)
		}
	}
	m.show(Event{Kind: EventSession, Own: true, Seat: m.self.String(), Member: m.meta.Name,
		Text: fmt.Sprintf("You are back in %s%s, under new session keys: they are agreed with the others now. What others sent to you after %s was made is asked for from them; what they do not keep cannot be read here.", m.meta.Group, from, since)})
}

// newLife begins another incarnation.
func (m *Machine) newLife() {
	m.draw(m.keyring.inc[:])
	m.meta.Incarnation = append([]byte(nil), m.keyring.inc[:]...)
	m.counters.sequence, m.counters.previous = 0, wire.Digest{}
	m.saveCounters()
}

// superseded: the boards show an announcement of the own seat that this
// installation did not make. Whoever restored a backup goes on elsewhere.
func (m *Machine) superseded() {
	if m.meta.Superseded {
		return
	}
	m.meta.Superseded = true
	m.saveMeta()
	m.show(Event{Kind: EventDispute, Own: true, Seat: m.self.String(), Member: m.meta.Name,
		Text: fmt.Sprintf("Another installation took over your seat in %s: a backup of yours was restored, or somebody has your keys. This one only reads what came for it before, and sends nothing. If it was not you, tell the group.", m.meta.Group)})
}

// newInstallation tells, calmly, that a seat continues on another installation:
// its own key signed it. Sessions of the earlier one only receive from now on.
func (m *Machine) newInstallation(st *seatState, a *Announcement) {
	if st.ann == nil || st.ann.Incarnation == a.Incarnation {
		return
	}
	st.initial, st.waited = false, false
	if !st.since.IsZero() {
		st.since = m.now // its hello is waited for
	}
	if m.isMember() && st.shown && !st.own {
		m.show(Event{Kind: EventSession, Seat: st.seat.String(), Member: m.display(st),
			Text: fmt.Sprintf("%s goes on from a new installation: its own key signed that. Usually this means a new device or a restored backup. Codes that you compared still hold. Nothing for you to do.", m.display(st))})
	}
}
