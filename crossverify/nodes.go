package crossverify

import (
	"bytes"
	"errors"
	"fmt"

	"parallax/internal/wire"
)

// WalkLevels is how far below the top of a subtree its Nodes go: at most 16
// hashes, so that a walk takes a quarter of the turns that one level at a time
// would. Default: 4.
const WalkLevels = 4

// MaxNodes is the longest Nodes: forks on all levels but the last.
const MaxNodes = 2<<WalkLevels - 1

// nameBits is the length of a name in bits.
const nameBits = 256

// Errors of subtrees.
var (
	// ErrPrefix: the bytes are not a prefix.
	ErrPrefix = errors.New("not a prefix of board names")
	// ErrNodes: nodes that no board has, or that do not lead to the hash of the
	// subtree that they are said to be.
	ErrNodes = errors.New("the board nodes do not hold")
)

// Prefix is a place in the board's tree: where the names that begin with its
// bits stand.
type Prefix struct {
	Len  uint16      // bits, at most 256; 0: the whole board
	Bits wire.Digest // zero from bit Len on
}

// Holds tells whether a name stands there.
func (p Prefix) Holds(name wire.Digest) bool {
	whole := p.Len / 8
	if !bytes.Equal(p.Bits[:whole], name[:whole]) {
		return false
	}
	return p.Len%8 == 0 || (p.Bits[whole]^name[whole])>>(8-p.Len%8) == 0
}

// Compare orders places by their bits, those above before those below.
func (p Prefix) Compare(o Prefix) int {
	if c := bytes.Compare(p.Bits[:], o.Bits[:]); c != 0 {
		return c
	}
	return int(p.Len) - int(o.Len)
}

// child is the place one level below, on side 0 or 1; Len is below nameBits.
func (p Prefix) child(side int) Prefix {
	if side == 1 {
		p.Bits[p.Len/8] |= 0x80 >> (p.Len % 8)
	}
	p.Len++
	return p
}

// Append appends u16 length in bits, then as many bytes as they need.
func (p Prefix) Append(b []byte) []byte {
	return append(wire.AppendU16(b, p.Len), p.Bits[:(p.Len+7)/8]...)
}

// ReadPrefix reads what Append wrote, and nothing else.
func ReadPrefix(r *wire.Reader) (p Prefix) {
	p.Len = r.U16()
	if p.Len > nameBits {
		r.Fail(ErrPrefix)
		return Prefix{}
	}
	used := int(p.Len+7) / 8
	r.Fixed(p.Bits[:used])
	if p.Len%8 != 0 && p.Bits[used-1]<<(p.Len%8) != 0 {
		r.Fail(ErrPrefix)
	}
	return p
}

// NodeKind is what stands at one place of the tree.
type NodeKind uint8

// Kinds of nodes; their numbers are those of section 7.
const (
	NodeEmpty NodeKind = 0 // nothing: the hash is zero and is not sent
	NodeLeaf  NodeKind = 1 // one entry, of that hash
	NodeInner NodeKind = 2 // two entries or more, of that hash; WalkLevels below the top
	NodeFork  NodeKind = 3 // two entries or more, whose two sides follow
)

// Node is one place of a subtree.
type Node struct {
	Kind NodeKind
	Hash wire.Digest // of NodeLeaf and NodeInner
}

// Nodes is a subtree from its top to WalkLevels below, each fork before its left
// side and that before its right one.
type Nodes []Node

// at is the node that stands at a place; nil: nothing does.
func (t *Tree) at(p Prefix) *node {
	n := t.root
	for depth := 0; n != nil && n.kids != nil && depth < int(p.Len); depth++ {
		n = n.kids[bit(&p.Bits, depth)]
	}
	if n != nil && n.kids == nil && !p.Holds(n.leaf.Name) {
		return nil
	}
	return n
}

// Sum is the hash of a subtree: zero if it is empty, the leaf's if it is one
// entry, however deep.
func (t *Tree) Sum(p Prefix) wire.Digest { return t.at(p).sum() }

// Only is the entry of a subtree that has one entry and no more.
func (t *Tree) Only(p Prefix) (Leaf, bool) {
	n := t.at(p)
	if n == nil || n.kids != nil {
		return Leaf{}, false
	}
	return n.leaf, true
}

// Below are the entries of a subtree, ascending by name.
func (t *Tree) Below(p Prefix) []Leaf {
	sub := Tree{root: t.at(p)}
	return sub.Leaves()
}

// Nodes shows a subtree.
func (t *Tree) Nodes(p Prefix) (out Nodes) {
	var show func(n *node, level int)
	show = func(n *node, level int) {
		switch {
		case n == nil:
			out = append(out, Node{})
		case n.kids == nil:
			out = append(out, Node{NodeLeaf, n.hash})
		case level == WalkLevels:
			out = append(out, Node{NodeInner, n.hash})
		default:
			out = append(out, Node{Kind: NodeFork})
			show(n.kids[0], level+1)
			show(n.kids[1], level+1)
		}
	}
	show(t.at(p), 0)
	return out
}

// Append appends for each node u8 kind, and its hash if it has one.
func (n Nodes) Append(b []byte) []byte {
	for i := range n {
		b = append(b, byte(n[i].Kind))
		if n[i].Kind == NodeLeaf || n[i].Kind == NodeInner {
			b = append(b, n[i].Hash[:]...)
		}
	}
	return b
}

// ReadNodes reads one subtree of a form that a board can have.
func ReadNodes(r *wire.Reader) (out Nodes) {
	var read func(level int) NodeKind
	read = func(level int) NodeKind {
		n := Node{Kind: NodeKind(r.U8())}
		at := len(out)
		out = append(out, n)
		switch {
		case r.Err() != nil:
		case n.Kind == NodeLeaf, n.Kind == NodeInner && level == WalkLevels:
			r.Fixed(out[at].Hash[:])
		case n.Kind == NodeFork && level < WalkLevels:
			left := read(level + 1)
			right := read(level + 1)
			if left <= NodeLeaf && right <= NodeLeaf && left+right < 2 { // fewer than two entries
				r.Fail(ErrNodes)
			}
		case n.Kind != NodeEmpty:
			r.Fail(ErrNodes)
		}
		return n.Kind
	}
	read(0)
	if r.Err() != nil {
		return nil
	}
	return out
}

// Spot is a place, and the hash of what stands there.
type Spot struct {
	Prefix
	Hash wire.Digest // zero: nothing
	Leaf bool        // it is one entry
}

// Check computes the hash of a subtree from its nodes, which must be that of the
// spot, and returns the spots of those that have no further nodes here, in the
// order of their names. The nodes are as ReadNodes gives them. Error: ErrNodes.
func (n Nodes) Check(top Spot) ([]Spot, error) {
	var out []Spot
	var fold func(at Prefix) (wire.Digest, error)
	fold = func(at Prefix) (wire.Digest, error) {
		if len(n) == 0 {
			return wire.Digest{}, fmt.Errorf("%w: they end early", ErrNodes)
		}
		x := n[0]
		n = n[1:]
		if x.Kind != NodeFork {
			out = append(out, Spot{at, x.Hash, x.Kind == NodeLeaf})
			return x.Hash, nil
		}
		if at.Len >= nameBits {
			return wire.Digest{}, fmt.Errorf("%w: they go deeper than names do", ErrNodes)
		}
		left, err := fold(at.child(0))
		if err != nil {
			return left, err
		}
		right, err := fold(at.child(1))
		return nodeHash(left, right), err
	}
	got, err := fold(top.Prefix)
	switch {
	case err != nil:
		return nil, err
	case len(n) > 0:
		return nil, fmt.Errorf("%w: %d too many", ErrNodes, len(n))
	case got != top.Hash:
		return nil, fmt.Errorf("%w: they lead to %s, not %s", ErrNodes, got.Short(), top.Hash.Short())
	}
	return out, nil
}
