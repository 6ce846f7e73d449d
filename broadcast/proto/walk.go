package proto

import (
	"fmt"
	"slices"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// BoardWalk asks what stands at some places of the board's tree under one root,
// from the member to the relay; BoardNodes answers. Who knows what the board has
// to be asks only for what is not so.
type BoardWalk struct {
	Root   wire.Digest
	Places []crossverify.Prefix // 1 to MaxWalk, ascending, none below another
}

func (BoardWalk) Type() uint8 { return TypeBoardWalk }
func (m BoardWalk) Append(b []byte) []byte {
	b = append(b, m.Root[:]...)
	b = append(b, uint8(len(m.Places)))
	for _, p := range m.Places {
		b = p.Append(b)
	}
	return b
}
func parseBoardWalk(r *wire.Reader) Message {
	var m BoardWalk
	r.Fixed(m.Root[:])
	n := int(r.U8())
	if r.Err() == nil && (n == 0 || n > MaxWalk) {
		r.Fail(fmt.Errorf("%w: %d places, want 1 to %d", ErrPlaces, n, MaxWalk))
	}
	for i := range n {
		p := crossverify.ReadPrefix(r)
		if r.Err() != nil {
			break
		}
		if i > 0 && (m.Places[i-1].Compare(p) >= 0 || m.Places[i-1].Len <= p.Len && m.Places[i-1].Holds(p.Bits)) {
			r.Fail(ErrPlaces)
		}
		m.Places = append(m.Places, p)
	}
	return m
}

// BoardNodes answers BoardWalk: what the board under Statement's root has at
// each place, in the order of the question; nothing at all if that is another
// root than the one asked under.
type BoardNodes struct {
	Statement crossverify.Statement
	Places    []Subtree // at most MaxWalk
}

// Subtree is what stands at one place: nodes, or the entry if it is one, or
// neither: an entry that has no room here, to be asked for again.
type Subtree struct {
	Nodes crossverify.Nodes
	Entry *BoardEntry
}

// What a subtree is shown as.
const (
	subtreeNodes uint8 = 0
	subtreeEntry uint8 = 1
	subtreeLater uint8 = 2
)

func (BoardNodes) Type() uint8 { return TypeBoardNodes }
func (m BoardNodes) Append(b []byte) []byte {
	size := statementSize + 1
	for _, s := range m.Places {
		if size++; s.Entry != nil {
			size += s.Entry.Size()
		} else if s.Nodes != nil {
			size += maxNodes
		}
	}
	b = m.Statement.Append(slices.Grow(b, size))
	b = append(b, uint8(len(m.Places)))
	for _, s := range m.Places {
		switch {
		case s.Entry != nil:
			b = s.Entry.append(append(b, subtreeEntry))
		case s.Nodes != nil:
			b = s.Nodes.Append(append(b, subtreeNodes))
		default:
			b = append(b, subtreeLater)
		}
	}
	return b
}
func parseBoardNodes(r *wire.Reader) Message {
	m := BoardNodes{Statement: statement(r)}
	n := int(r.U8())
	if n > MaxWalk {
		r.Fail(fmt.Errorf("%w: %d places, at most %d", ErrPlaces, n, MaxWalk))
	}
	for range n {
		var s Subtree
		switch kind := r.U8(); kind {
		case subtreeNodes:
			s.Nodes = crossverify.ReadNodes(r)
			if len(s.Nodes) == 1 && s.Nodes[0].Kind == crossverify.NodeLeaf { // its entry is shown
				r.Fail(crossverify.ErrNodes)
			}
		case subtreeEntry:
			e := boardEntry(r)
			s.Entry = &e
		case subtreeLater:
		default:
			r.Fail(wire.ErrFormat)
		}
		if r.Err() != nil {
			break
		}
		m.Places = append(m.Places, s)
	}
	return m
}
