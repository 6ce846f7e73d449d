package member

import (
	"cmp"
	"fmt"
	"slices"

	"parallax/broadcast"
	"parallax/internal/wire"
)

// recipientSet is whom a bundle has slots for: seats ascending, with their
// mailbox on each relay (zero: none). Stored once under its hash.
type recipientSet struct {
	hash  wire.Digest
	seats []wire.Seat
	boxes [][]wire.MailboxID // by seat, by relay
	lists []fanout           // by relay, made when first needed

	// Of the current set only.
	states []*seatState // by place in seats
	held   int          // seats known that are not in it
}

// fanout is a set as one relay sees it.
type fanout struct {
	list  []wire.MailboxID
	order []int // places in seats
	hash  wire.Digest
}

// recipients is the set that a bundle made now goes to: every usable seat and
// this one. Seats whose key is contested or not agreed yet get no slot at all.
func (m *Machine) recipients() *recipientSet {
	if m.current == nil {
		m.current = m.gather()
	}
	return m.current
}

// gather makes the set, which changes only when a seat does (seatChanged).
func (m *Machine) gather() *recipientSet {
	s := &recipientSet{}
	var states []*seatState
	held := 0
	h := []byte{byte(len(m.paths))}
	for _, st := range m.sortedSeats() {
		if !m.usable(st) {
			if st.ann != nil && !m.out(st.seat) {
				held++
			}
			continue
		}
		states = append(states, st)
		boxes := make([]wire.MailboxID, len(m.paths))
		for _, b := range st.ann.Mailboxes {
			if p := m.pathOf(b.Relay); p != nil && p.listedRelay() {
				boxes[p.index] = b.ID
			}
		}
		s.seats = append(s.seats, st.seat)
		s.boxes = append(s.boxes, boxes)
	}
	m.oneEach(s)
	for i := range s.seats {
		h = append(h, s.seats[i][:]...)
		for j := range s.boxes[i] {
			h = append(h, s.boxes[i][j][:]...)
		}
	}
	s.hash = wire.Hash("parallax/1/recipients", h)
	if known := m.sets[s.hash]; known != nil {
		known.states, known.held = states, held
		return known
	}
	s.states, s.held = states, held
	s.lists = make([]fanout, len(m.paths))
	for _, hash := range sortedDigests(m.sets) {
		if !m.inOutbox(hash) {
			delete(m.sets, hash)
			m.del(m.key(keySet, hash[:]))
		}
	}
	m.sets[s.hash] = s
	m.put(m.key(keySet, s.hash[:]), h)
	return s
}

// oneEach leaves every mailbox to one seat. An announcement names mailboxes
// without proof that they are its own, so whoever could take over another's
// would keep it from reading: who was known first keeps it. Of those that were
// all there before this member each has it on some relays.
func (m *Machine) oneEach(s *recipientSet) {
	for _, p := range m.paths {
		holders := map[wire.MailboxID][]int{}
		for i := range s.seats {
			if box := s.boxes[i][p.index]; box != (wire.MailboxID{}) {
				holders[box] = append(holders[box], i)
			}
		}
		for i, seat := range s.seats {
			list := holders[s.boxes[i][p.index]]
			if len(list) < 2 || list[0] != i { // once for each mailbox
				continue
			}
			rank := func(i int) uint64 {
				if s.seats[i] == m.self {
					return 0
				}
				return 1 + m.seats[s.seats[i]].order
			}
			best := slices.MinFunc(list, func(a, b int) int { return cmp.Compare(rank(a), rank(b)) })
			same := slices.DeleteFunc(slices.Clone(list), func(i int) bool { return rank(i) != rank(best) })
			keeps := same[p.index%len(same)]
			for _, j := range list {
				if j == keeps {
					continue
				}
				s.boxes[j][p.index] = wire.MailboxID{}
				if st := m.seats[s.seats[j]]; !st.claimed {
					st.claimed = true
					m.show(Event{Kind: EventDispute, Relay: p.label(), Seat: seat.String(), Member: m.display(st),
						Text: fmt.Sprintf("%s and %s name one mailbox on relay %s: one of them is not its owner. There it gets what is for %s. Ask how %s came into the group.",
							m.display(m.seats[s.seats[keeps]]), m.display(st), p.name(), m.display(m.seats[s.seats[keeps]]), m.display(st))})
				}
			}
		}
	}
}

func (m *Machine) inOutbox(set wire.Digest) bool {
	for _, b := range m.bundles {
		if b.set == set {
			return true
		}
	}
	return false
}

// loadSet reads: paths u8 | for each seat: seat 32 | mailbox 16 of each path.
func (m *Machine) loadSet(key, value []byte) error {
	s := &recipientSet{lists: make([]fanout, len(m.paths))}
	r := wire.NewReader(value)
	paths := int(r.U8())
	if len(key) != 32 || paths > len(m.paths) {
		return wire.ErrFormat
	}
	s.hash = wire.Digest(key)
	for r.Len() > 0 && r.Err() == nil {
		var seat wire.Seat
		r.Fixed(seat[:])
		boxes := make([]wire.MailboxID, len(m.paths))
		for i := range paths {
			r.Fixed(boxes[i][:])
		}
		s.seats, s.boxes = append(s.seats, seat), append(s.boxes, boxes)
	}
	m.sets[s.hash] = s
	return r.Done()
}

// grow gives the set more paths, on which nobody of it has a mailbox.
func (s *recipientSet) grow(paths int) {
	s.lists = append(s.lists, make([]fanout, paths-len(s.lists))...)
	for i := range s.boxes {
		s.boxes[i] = append(s.boxes[i], make([]wire.MailboxID, paths-len(s.boxes[i]))...)
	}
}

// at is the set as one relay sees it.
func (s *recipientSet) at(relay int) *fanout {
	f := &s.lists[relay]
	if f.list != nil {
		return f
	}
	for i := range s.seats {
		if s.boxes[i][relay] != (wire.MailboxID{}) {
			f.order = append(f.order, i)
		}
	}
	slices.SortFunc(f.order, func(a, b int) int {
		x, y := s.boxes[a][relay], s.boxes[b][relay]
		return slices.Compare(x[:], y[:])
	})
	for _, i := range f.order {
		f.list = append(f.list, s.boxes[i][relay])
	}
	f.hash = broadcast.FanoutHash(f.list)
	return f
}
