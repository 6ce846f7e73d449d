package member

import (
	"fmt"
	"slices"

	"parallax/internal/wire"
)

// What is shown of those who may not speak: readers, and who was removed.

// kindUnheard marks a message of which no text is shown.
const kindUnheard Kind = 0

// maxUnheard is how many messages of one removed seat are shown as such in one
// opening.
const maxUnheard = 16

// counts tells whether a message of a seat that is out counts: it came within the
// cuts of every removal. Of the installations of a seat those count that the
// remover knew, and the ones before.
func (m *Machine) counts(st *seatState, k messageKey) bool {
	i, ok := slices.BinarySearchFunc(m.state.Removed, k.seat, func(r Removed, s wire.Seat) int { return compareSeats(r.Seat, s) })
	if !ok {
		return true
	}
	r := &m.state.Removed[i]
	if len(r.Cuts) == 0 {
		return true
	}
	known, last := st.installations(), -1
	for _, c := range r.Cuts {
		if at := lastIndex(known, c.Incarnation); at >= 0 && (last < 0 || at < last) {
			last = at
		}
	}
	at := lastIndex(known, k.incarnation)
	return at >= 0 && (last < 0 || at <= last) && r.Counts(k.incarnation, k.sequence)
}

// installations are those of a seat that are known, oldest first.
func (st *seatState) installations() (known []wire.Incarnation) {
	for _, f := range st.former {
		known = append(known, f.incarnation)
	}
	if st.ann != nil {
		known = append(known, st.ann.Incarnation)
	}
	return known
}

// roleFor is the role in which a seat sent a message, whenever it opens here: a cut
// of an installation that is not known here has nothing before it.
func (m *Machine) roleFor(st *seatState, k messageKey) uint8 {
	if s := m.standing(st.seat); !s.in && !s.gone {
		return m.role(st)
	}
	known := st.installations()
	at := lastIndex(known, k.incarnation)
	return m.roster.all().roleAt(st.seat, func(c Cut) bool {
		cut := lastIndex(known, c.Incarnation)
		return at >= 0 && (at < cut || at == cut && k.sequence <= c.Sequence)
	})
}

func lastIndex(list []wire.Incarnation, inc wire.Incarnation) int {
	for i, o := range slices.Backward(list) {
		if o == inc {
			return i
		}
	}
	return -1
}

// heard tells whether a message is its sender's ordinary word, and tells calmly
// where it is not.
func (m *Machine) heard(st *seatState, msg *message, c *Content) bool {
	switch {
	case m.out(st.seat) && !m.counts(st, msg.key):
		m.unheard(st, msg, c)
	case c.Kind == KindText && m.roleFor(st, msg.key) == RoleReader:
		m.tellOnce("reader "+st.seat.String(), Event{Kind: EventSilent, Seat: st.seat.String(), Member: m.display(st),
			Text: fmt.Sprintf("%s sent a text as a reader: what readers send is not shown. Nothing for you to do.", m.display(st))})
	default:
		return true
	}
	msg.kind = kindUnheard
	return false
}

// beyondCut tells of texts of a seat that were shown as its word and do not count
// any more: its removal came here after them.
func (m *Machine) beyondCut(seat wire.Seat) {
	st := m.seats[seat]
	if st == nil || !m.out(seat) || m.leftItself(seat) {
		return
	}
	for _, msg := range m.recent {
		if msg.key.seat != seat || msg.own || msg.kind != KindText || msg.event == 0 || msg.beyond || m.counts(st, msg.key) {
			continue
		}
		msg.beyond = true
		m.tellUnheard(st, msg, msg.text)
	}
}

// unheard shows what somebody sent after it was removed as just that.
func (m *Machine) unheard(st *seatState, msg *message, c *Content) {
	if c.Kind == KindText {
		m.tellUnheard(st, msg, textOf(c.Body))
	}
}

func (m *Machine) tellUnheard(st *seatState, msg *message, text string) {
	st.unheard++
	switch name := m.display(st); {
	case st.unheard > maxUnheard+1:
	case st.unheard > maxUnheard:
		m.show(Event{Kind: EventSilent, Seat: st.seat.String(), Member: name,
			Text: fmt.Sprintf("%s goes on sending after it was removed%s. More of it is not shown.", name, m.byWhom(m.removedBy(st.seat)))})
	default:
		m.show(Event{Kind: EventSilent, ID: msg.d.Short(), Seat: st.seat.String(), Member: name, Sent: unixSeconds(msg.sent),
			Text: fmt.Sprintf("Sent after %s was removed%s: %q", name, m.byWhom(m.removedBy(st.seat)), preview(text))})
	}
}
