package member

import (
	"fmt"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// Asking a relay once more for numbers of its log that were read and that this
// member has nothing of: shown bare, or dropped when too much was held.

// maxMissed bounds the spans of such numbers on one path; the oldest go.
const maxMissed = 64

// fetching is a range of a path's log that is read once more.
type fetching struct {
	to, next uint64
	head     wire.Digest // of the number before next
	known    bool        // head is
}

// passOver notes that a number was read and nothing of it is here.
func (m *Machine) passOver(p *path, n uint64) {
	if last := len(p.missed) - 1; last >= 0 && p.missed[last].last == n-1 {
		p.missed[last].last = n
	} else {
		p.missed = append(p.missed, span{n, n})
	}
	if len(p.missed) > maxMissed {
		p.missed = p.missed[1:]
	}
	m.saveMissed(p)
}

// saveMissed writes u8 count of (first u64, last u64).
func (m *Machine) saveMissed(p *path) {
	key := m.key(keyLack, []byte{partMissed, byte(p.index)})
	if len(p.missed) == 0 {
		m.del(key)
		return
	}
	b := []byte{byte(len(p.missed))}
	for _, s := range p.missed {
		b = wire.AppendU64(wire.AppendU64(b, s.first), s.last)
	}
	m.put(key, b)
}

func readMissed(r *wire.Reader) (list []span, err error) {
	for range readCount8(r, maxMissed) {
		s := span{r.U64(), r.U64()}
		if s.first == 0 || s.last < s.first {
			r.Fail(wire.ErrFormat)
		}
		list = append(list, s)
	}
	return list, r.Err()
}

// fetchMissed asks every relay for what was passed over there, each number once,
// and tells whether any is asked.
func (m *Machine) fetchMissed() (any bool) {
	for _, p := range m.paths {
		if p.read.opened && p.caughtUp && (p.read.fetch != nil || m.fetchNext(p)) {
			any = true
		}
	}
	return any
}

// fetchNext asks for the first span that was passed over.
func (m *Machine) fetchNext(p *path) bool {
	p.read.fetch = nil
	if len(p.missed) == 0 {
		return false
	}
	s := &p.missed[0]
	f := &fetching{next: s.first, to: min(s.last, s.first+uint64(m.cfg.Limits.Window)-1)}
	if s.first = f.to + 1; s.first > s.last {
		p.missed = p.missed[1:]
	}
	m.saveMissed(p)
	p.read.fetch = f
	if f.next == 1 {
		f.head, f.known = crossverify.ChainStart(p.ref.Key, p.channel, p.lineage), true
	} else if h, ok := p.heads[f.next-1]; ok {
		f.head, f.known = h.H, true
	}
	if f.known {
		m.send(p.read.link, proto.Fetch{From: f.next, To: f.to})
	} else {
		m.send(p.read.link, proto.StatementOf{N: f.next - 1})
	}
	return true
}

// statementIs takes the statement before a range that is asked for next.
func (m *Machine) statementIs(p *path, s crossverify.Statement) {
	f := p.read.fetch
	if f == nil || f.known || s.N != f.next-1 {
		return
	}
	if !m.ours(p, s) || s.Lineage != p.lineage {
		m.pathFailed(p, "statement", fmt.Sprintf("relay %s gave a statement for number %d that is not its own", p.label(), s.N))
		return
	}
	f.head, f.known = s.H, true
	m.checkHead(p, s)
	m.send(p.read.link, proto.Fetch{From: f.next, To: f.to})
}

// fetchRefused ends a range that the relay does not show (any more).
func (m *Machine) fetchRefused(p *path, f proto.Refused) {
	if f.Code.Row().Retry {
		p.read.fetch = nil // its other numbers wait for the next time
		return
	}
	m.fetchNext(p)
}

// once tells whether number n is one that was asked for once more.
func (p *path) once(n uint64) bool {
	f := p.read.fetch
	return f != nil && f.known && n == f.next && n <= p.position
}

// again checks a number that was asked for once more as next does, against what
// was read before: two statements for one number are evidence.
func (m *Machine) again(p *path, n uint64, d, root wire.Digest, sig [64]byte) bool {
	f := p.read.fetch
	s := crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: n, D: d,
		H: crossverify.ChainNext(f.head, n, d, root), Root: root, Signature: sig}
	if !s.Verify(m.cfg.Verify) {
		m.pathFailed(p, "statement", fmt.Sprintf("relay %s sent number %d once more with a statement that is not of its log", p.label(), n))
		return false
	}
	f.head = s.H
	m.checkHead(p, s)
	if f.next++; f.next > f.to {
		m.fetchNext(p)
	}
	return true
}

// deliverAgain takes a copy that was asked for once more: what opened here
// already is compared with it only where the path had shown nothing.
func (m *Machine) deliverAgain(p *path, f proto.Deliver) {
	if !m.again(p, f.N, f.Digest(), f.Root, f.Signature) {
		return
	}
	it := m.unmask(p, f, p.lineage)
	if it == nil {
		return
	}
	k := it.key()
	if msg := m.messages[k]; msg != nil && msg.opened {
		switch m.ledger.Report(k.subject()).Status[p.index] {
		case crossverify.Awaiting, crossverify.Silent:
			m.duplicate(it, msg)
		}
		return
	}
	if !m.received[k.source].has(k.sequence) {
		m.process(it, func() { m.hold(it, f) })
	}
}
