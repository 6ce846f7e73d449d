package member

import (
	"fmt"
	"slices"
	"strings"

	"parallax/internal/wire"
)

// passedOn is a text that a third member passed on. Until an envelope of its
// sender's own names D, all that is known is who passed it on: it is shown as
// theirs.
type passedOn struct {
	again *Again
	d     wire.Digest
	by    wire.Seat
	order uint64 // of its coming
}

// Bounds of what is passed on and not named: beyond them the oldest of whom has
// most goes.
const (
	maxPassed      = 256
	maxPassedBytes = 1 << 20
)

// passedOn shows a text as passed on by a member, once.
func (m *Machine) passedOn(by *seatState, a *Again, d wire.Digest) {
	k := a.key()
	c, err := ParseContent(a.Content)
	if err != nil || c.Kind != KindText || m.passed[d] != nil || m.role(by) == RoleReader { // who does not speak passes nothing on in its own name
		return
	}
	of := m.known(k.seat)
	if named := m.namedAs(k); named != (wire.Digest{}) {
		m.otherPassed(by, of, named)
		return
	}
	m.counters.messages++
	m.saveCounters()
	p := &passedOn{again: &Again{Header: a.Header, Sealed: a.Sealed, Key: a.Key, Content: slices.Clone(a.Content)}, d: d, by: by.seat, order: m.counters.messages}
	m.passed[d] = p
	b := append(wire.AppendU64(nil, p.order), p.by[:]...)
	m.put(m.key(keyLack, []byte{partPassed}, d[:]), p.again.append(b))
	m.show(Event{Kind: EventPassed, ID: d.Short(), Seat: by.seat.String(), Member: m.display(by), Of: m.display(of), Sent: c.Sent,
		Text: strings.ToValidUTF8(string(c.Body), "\uFFFD")})
	m.boundPassed()
}

// otherPassed: who passes on another text than the sender's own envelopes name
// says something false, or was told so by the sender.
func (m *Machine) otherPassed(by, of *seatState, named wire.Digest) {
	if !m.accuses(by.seat) {
		return
	}
	m.show(Event{Kind: EventDispute, ID: named.Short(), Seat: by.seat.String(), Member: m.display(by), Of: m.display(of),
		Text: fmt.Sprintf("%s passed on a text as one of %s that is not the one that %s names under this number. It is not shown as %s's. No relay is blamed.", m.display(by), m.display(of), m.display(of), m.display(of))})
}

func (m *Machine) boundPassed() {
	size := 0
	for _, p := range m.passed {
		size += p.again.size()
	}
	for len(m.passed) > maxPassed || size > maxPassedBytes {
		count := map[wire.Seat]int{}
		for _, p := range m.passed {
			count[p.by] += p.again.size() + maxPassedBytes/maxPassed
		}
		var out *passedOn
		for _, p := range m.passed {
			if out == nil || count[p.by] > count[out.by] || count[p.by] == count[out.by] && p.order < out.order {
				out = p
			}
		}
		size -= out.again.size()
		m.forgetPassed(out)
	}
}

func (m *Machine) forgetPassed(p *passedOn) {
	p.again.Key.Zero()
	delete(m.passed, p.d)
	m.del(m.key(keyLack, []byte{partPassed}, p.d[:]))
}

// settlePassed takes what was passed on of a seat and what its own envelopes name
// by now. One text names those before it, so it goes on until nothing is new.
func (m *Machine) settlePassed(seat wire.Seat) {
	if m.settling {
		return
	}
	m.settling = true
	defer func() { m.settling = false }()
	for again := true; again; {
		again = false
		list := make([]*passedOn, 0, len(m.passed))
		for _, p := range m.passed {
			if p.again.Header.Seat == seat {
				list = append(list, p)
			}
		}
		slices.SortFunc(list, func(a, b *passedOn) int { return int(int64(a.order) - int64(b.order)) })
		for _, p := range list {
			k := p.again.key()
			named, by := m.namedAs(k), m.known(p.by)
			switch {
			case m.received[k.source].has(k.sequence):
				m.forgetPassed(p)
			case named == p.d:
				m.takeAgain(p.again, p.d, by)
				m.forgetPassed(p)
				again = true
			case named != (wire.Digest{}):
				m.otherPassed(by, m.known(seat), named)
				m.forgetPassed(p)
			}
		}
	}
}

func (m *Machine) loadPassed(d wire.Digest, r *wire.Reader) error {
	p := &passedOn{d: d, order: r.U64()}
	r.Fixed(p.by[:])
	p.again = readAgain(r)
	if err := r.Err(); err != nil {
		return err
	}
	p.again.Content = slices.Clone(p.again.Content)
	m.passed[d] = p
	return nil
}

// known is a seat, or one of which nothing is known: whoever passes something on
// could name seats without end.
func (m *Machine) known(seat wire.Seat) *seatState {
	if st := m.seats[seat]; st != nil {
		return st
	}
	return &seatState{seat: seat}
}
