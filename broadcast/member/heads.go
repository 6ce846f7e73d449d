package member

import (
	"maps"
	"slices"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// Heads of a path outlive a restart: a view names the number that its sender
// stood at, and finds a fork only where the head of that number is known.
// Records under keyHead: relay index u8, lineage 16, number u64: d, h, root 32
// each, signature 64. Relay index u8 alone: the statement of path.ahead, 248.
const (
	// headsKept is for how many of the newest numbers of a path the statement is
	// durable. Default: 512.
	headsKept = 512
	// headsStep is of how many older ones, back to Limits.Heads, one is. Default: 64.
	headsStep = 64
)

// keepHead remembers a statement for as long as views may ask for it.
func (p *path) keepHead(s crossverify.Statement, limit int) {
	if p.heads == nil {
		p.heads = map[uint64]crossverify.Statement{}
		p.oldest = s.N
	}
	p.heads[s.N] = s
	p.oldest = min(p.oldest, s.N)
	for len(p.heads) > limit {
		if _, ok := p.heads[p.oldest]; !ok { // a gap, as long as the relay likes
			p.oldest = slices.Min(slices.Collect(maps.Keys(p.heads)))
		}
		delete(p.heads, p.oldest)
		p.oldest++
	}
}

// keepRead keeps a statement of a number that was read.
func (m *Machine) keepRead(p *path, s crossverify.Statement) {
	p.keepHead(s, m.cfg.Limits.Heads)
	m.saveHead(p, s)
	if s.N > p.newest.N {
		p.newest = s
	}
}

func (m *Machine) headKey(p *path, l wire.Lineage, n uint64) []byte {
	return m.key(keyHead, []byte{byte(p.index)}, l[:], wire.U64(n))
}

// saveHead makes a statement durable; that of a number which is not among the
// newest any more goes.
func (m *Machine) saveHead(p *path, s crossverify.Statement) {
	b := append(make([]byte, 0, 160), s.D[:]...)
	b = append(append(b, s.H[:]...), s.Root[:]...)
	m.put(m.headKey(p, s.Lineage, s.N), append(b, s.Signature[:]...))
	if n := s.N - headsKept; s.N > headsKept && n%headsStep != 0 {
		m.del(m.headKey(p, s.Lineage, n))
	}
	if n := s.N - m.headsBack(); s.N > m.headsBack() && n%headsStep == 0 {
		m.del(m.headKey(p, s.Lineage, n))
	}
}

// headsBack is how far back one of headsStep numbers is kept.
func (m *Machine) headsBack() uint64 { return uint64(max(m.cfg.Limits.Heads, headsKept)) }

// headStays tells whether the statement of a number is durable still, seen from a
// position.
func (m *Machine) headStays(n, position uint64) bool {
	return n+headsKept > position || n%headsStep == 0 && n+m.headsBack() > position
}

// loadHead takes the statements of a path's lineage, and of the one before.
func (m *Machine) loadHead(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil {
		return err
	}
	if len(key) == 1 {
		p.ahead, err = crossverify.ParseStatement(value)
		return err
	}
	if len(key) != 1+16+8 {
		return wire.ErrFormat
	}
	at := wire.NewReader(key[17:])
	s := crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: wire.Lineage(key[1:17]), N: at.U64()}
	r := wire.NewReader(value)
	r.Fixed(s.D[:])
	r.Fixed(s.H[:])
	r.Fixed(s.Root[:])
	r.Fixed(s.Signature[:])
	if err := r.Done(); err != nil {
		return err
	}
	switch {
	case s.Lineage == p.lineage && m.headStays(s.N, p.position):
		p.keepHead(s, m.cfg.Limits.Heads)
	case s.Lineage == p.lineage: // a gap in the numbers went by
		m.del(m.headKey(p, s.Lineage, s.N))
	default:
		if p.past == nil {
			p.past = map[uint64]crossverify.Statement{}
		}
		p.past[s.N] = s
	}
	return nil
}

// endHeads makes the heads of the lineage that ends those of the one before.
func (m *Machine) endHeads(p *path) {
	if len(p.heads) == 0 {
		return // nothing was read in it
	}
	for n, s := range p.past {
		m.del(m.headKey(p, s.Lineage, n))
	}
	p.past, p.heads = p.heads, nil
}

// dropHeads forgets all of a path.
func (m *Machine) dropHeads(p *path) {
	for _, list := range []map[uint64]crossverify.Statement{p.past, p.heads} {
		for n, s := range list {
			m.del(m.headKey(p, s.Lineage, n))
		}
	}
	p.past, p.heads = nil, nil
	m.setAhead(p, crossverify.Statement{})
}

// comparePast holds a statement against those of the lineage before.
func (m *Machine) comparePast(p *path, s crossverify.Statement) {
	if o, ok := p.past[s.N]; ok && o != s {
		if e, ok := crossverify.FindFork(o, s); ok {
			m.convict(p, e)
		}
	}
}
