package member

import (
	"slices"

	"parallax/internal/wire"
)

// sequences are the numbers of one source that opened, as spans: a member that
// joined late, or lost something for good, costs a span and nothing more.
type sequences struct {
	spans []span // ascending, not touching
	// base: the numbers from it to the first span were for this member too, as
	// the ratchet's counter says; 0: none were.
	base uint64
	// filled is the greatest number of a hole that closed without a message: what
	// its sender has not for this member, a path may bring all the same.
	filled uint64
}

// holes are the numbers that are missing, above one.
func (s *sequences) holes(above uint64) (list []span) {
	if s == nil {
		return nil
	}
	after := s.base
	for i, x := range s.spans {
		if i > 0 || s.base > 0 {
			if hole := (span{max(after, above+1), x.first - 1}); hole.first <= hole.last {
				list = append(list, hole)
			}
		}
		after = x.last + 1
	}
	return list
}

type span struct{ first, last uint64 }

// maxSpans bounds the gaps that are remembered; beyond it the oldest gap counts
// as received.
const maxSpans = 256

// place is the first span that ends at n or later.
func (s *sequences) place(n uint64) int {
	i, _ := slices.BinarySearchFunc(s.spans, n, func(x span, n uint64) int {
		if x.last < n {
			return -1
		}
		return 1
	})
	return i
}

func (s *sequences) has(n uint64) bool {
	if s == nil {
		return false
	}
	i := s.place(n)
	return i < len(s.spans) && s.spans[i].first <= n
}

// greatest is the greatest number that opened; 0: none did.
func (s *sequences) greatest() uint64 {
	if s == nil || len(s.spans) == 0 {
		return 0
	}
	return s.spans[len(s.spans)-1].last
}

func (s *sequences) add(n uint64) {
	if s.has(n) {
		return
	}
	i := s.place(n)
	left := i > 0 && s.spans[i-1].last == n-1
	right := i < len(s.spans) && s.spans[i].first == n+1
	switch {
	case left && right:
		s.spans[i-1].last = s.spans[i].last
		s.spans = slices.Delete(s.spans, i, i+1)
	case left:
		s.spans[i-1].last = n
	case right:
		s.spans[i].first = n
	default:
		s.spans = slices.Insert(s.spans, i, span{n, n})
	}
	if len(s.spans) > maxSpans {
		s.spans[1].first = s.spans[0].first
		s.spans = slices.Delete(s.spans, 0, 1)
	}
}

func (m *Machine) addReceived(k messageKey) {
	s := m.received[k.source]
	if s == nil {
		s = &sequences{}
		m.received[k.source] = s
	}
	s.add(k.sequence)
	m.saveReceived(k.source, s)
}

// fill closes a hole, or part of one.
func (s *sequences) fill(hole span) {
	s.filled = max(s.filled, hole.last)
	i := s.place(hole.first)
	s.spans = slices.Insert(s.spans, i, hole)
	if s.spans[i+1].first == hole.last+1 {
		s.spans[i].last = s.spans[i+1].last
		s.spans = slices.Delete(s.spans, i+1, i+2)
	}
	if i > 0 && s.spans[i-1].last == hole.first-1 {
		s.spans[i-1].last = s.spans[i].last
		s.spans = slices.Delete(s.spans, i, i+1)
	}
}

func (m *Machine) addReceivedSpan(of source, hole span) {
	s := m.received[of]
	s.fill(hole)
	m.saveReceived(of, s)
}

func (m *Machine) saveReceived(k source, s *sequences) {
	b := wire.AppendU64(nil, s.base)
	for _, x := range s.spans {
		b = wire.AppendU64(wire.AppendU64(b, x.first), x.last)
	}
	if s.filled > 0 {
		b = wire.AppendU64(b, s.filled)
	}
	m.put(m.key(keyReceived, k.seat[:], k.incarnation[:]), b)
}

func (m *Machine) loadReceived(key, value []byte) error {
	if len(key) != 40 || len(value) < 24 || len(value)%8 != 0 {
		return wire.ErrFormat
	}
	r := wire.NewReader(value)
	s := &sequences{base: r.U64()}
	for r.Len() >= 16 {
		x := span{r.U64(), r.U64()}
		if n := len(s.spans); x.first > x.last || n > 0 && s.spans[n-1].last >= x.first {
			return wire.ErrFormat
		}
		s.spans = append(s.spans, x)
	}
	if r.Len() > 0 {
		s.filled = r.U64()
	}
	m.received[source{wire.Seat(key[:32]), wire.Incarnation(key[32:])}] = s
	return r.Done()
}
