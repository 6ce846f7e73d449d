package crossverify

import (
	"errors"
	"fmt"

	"parallax/internal/wire"
)

const (
	tagLeaf = "parallax/1/board/leaf"
	tagNode = "parallax/1/board/node"
)

// MaxSiblings is the greatest length of a Proof: one sibling for every bit of
// a name.
const MaxSiblings = 256

// Errors of proofs.
var (
	// ErrProofFormat: the bytes are not a proof.
	ErrProofFormat = errors.New("not a board proof")
	// ErrProof: a well-formed proof that does not lead to the root, or whose
	// leaf cannot stand where the name leads.
	ErrProof = errors.New("the board proof does not hold")
)

// Leaf is one board entry as the tree sees it.
type Leaf struct {
	Name    wire.Digest // masked name
	Version uint64
	Value   wire.Digest // ValueDigest of the sealed value
}

func (l Leaf) hash() wire.Digest {
	return wire.Hash(tagLeaf, l.Name[:], wire.U64(l.Version), l.Value[:])
}

func nodeHash(left, right wire.Digest) wire.Digest { return wire.Hash(tagNode, left[:], right[:]) }

// node is never changed once it is reachable, so that clones share it. A leaf
// has no children; an inner node has at least two leaves below it.
type node struct {
	hash wire.Digest
	leaf Leaf
	kids *[2]*node
}

func (n *node) sum() wire.Digest {
	if n == nil {
		return wire.Digest{}
	}
	return n.hash
}

// Tree is the board as a binary trie over the bits of the name, most
// significant first (section 7). The zero value is the empty board.
type Tree struct {
	root *node
	n    int
}

// bit is bit i of name, 0 the most significant.
func bit(name *wire.Digest, i int) int { return int(name[i/8]>>(7-i%8)) & 1 }

// Put sets the entry of l.Name. It hashes one node for every level of depth.
func (t *Tree) Put(l Leaf) {
	if _, had := t.Get(l.Name); !had {
		t.n++
	}
	t.root = put(t.root, &node{hash: l.hash(), leaf: l}, 0)
}

func put(at, leaf *node, depth int) *node {
	if at == nil || at.kids == nil && at.leaf.Name == leaf.leaf.Name {
		return leaf
	}
	var kids [2]*node
	if at.kids != nil {
		kids = *at.kids
	} else {
		kids[bit(&at.leaf.Name, depth)] = at
	}
	side := bit(&leaf.leaf.Name, depth)
	kids[side] = put(kids[side], leaf, depth+1)
	return &node{hash: nodeHash(kids[0].sum(), kids[1].sum()), kids: &kids}
}

// Get is the entry of name, and whether there is one.
func (t *Tree) Get(name wire.Digest) (Leaf, bool) {
	n := t.root
	for depth := 0; n != nil && n.kids != nil; depth++ {
		n = n.kids[bit(&name, depth)]
	}
	if n == nil || n.leaf.Name != name {
		return Leaf{}, false
	}
	return n.leaf, true
}

// Root is the hash that statements commit to; zero for the empty board.
func (t *Tree) Root() wire.Digest { return t.root.sum() }

// Len is the number of entries.
func (t *Tree) Len() int { return t.n }

// Leaves are all entries, ascending by name.
func (t *Tree) Leaves() []Leaf {
	out := make([]Leaf, 0, t.n)
	var walk func(*node)
	walk = func(n *node) {
		switch {
		case n == nil:
		case n.kids == nil:
			out = append(out, n.leaf)
		default:
			walk(n.kids[0])
			walk(n.kids[1])
		}
	}
	walk(t.root)
	return out
}

// Clone is an independent tree; it takes constant time, as nodes are shared.
func (t *Tree) Clone() *Tree { c := *t; return &c }

// Prove is the proof of what the board has for name: its entry, another
// name's entry at its place, or emptiness there.
func (t *Tree) Prove(name wire.Digest) Proof {
	var p Proof
	n := t.root
	for depth := 0; n != nil && n.kids != nil; depth++ {
		side := bit(&name, depth)
		p.Siblings = append(p.Siblings, n.kids[1-side].sum())
		n = n.kids[side]
	}
	if n != nil {
		p.Occupied, p.Leaf = true, n.leaf
	}
	return p
}

// Proof shows what stands under one root at the place a name leads to. For
// one root and name only one proof can hold, unless SHA-256 collides.
type Proof struct {
	Siblings []wire.Digest // from the root down, at most MaxSiblings
	Occupied bool          // false: the place is empty and Leaf is zero
	Leaf     Leaf
}

// Append appends the encoding of section 7: u16 count, siblings, u8, leaf.
func (p Proof) Append(b []byte) []byte {
	b = wire.AppendU16(b, uint16(len(p.Siblings)))
	for _, s := range p.Siblings {
		b = append(b, s[:]...)
	}
	b = wire.AppendBool(b, p.Occupied)
	if p.Occupied {
		b = append(b, p.Leaf.Name[:]...)
		b = wire.AppendU64(b, p.Leaf.Version)
		b = append(b, p.Leaf.Value[:]...)
	}
	return b
}

// ParseProof reads one proof and nothing more.
func ParseProof(b []byte) (Proof, error) {
	r := wire.NewReader(b)
	var p Proof
	count := int(r.U16())
	switch {
	case count > MaxSiblings:
		r.Fail(wire.ErrTooLong)
	case count*len(wire.Digest{}) > r.Len():
		r.Fail(wire.ErrShort)
	case count > 0:
		p.Siblings = make([]wire.Digest, count)
	}
	for i := range p.Siblings {
		r.Fixed(p.Siblings[i][:])
	}
	if p.Occupied = r.Bool(); p.Occupied {
		r.Fixed(p.Leaf.Name[:])
		p.Leaf.Version = r.U64()
		r.Fixed(p.Leaf.Value[:])
	}
	if err := r.Done(); err != nil {
		return Proof{}, fmt.Errorf("%w: it %w", ErrProofFormat, err)
	}
	return p, nil
}

// Check computes the root from the proof. It returns the entry of name and
// true, or false if the board provably has none, or ErrProof.
func (p Proof) Check(name, root wire.Digest) (leaf Leaf, present bool, err error) {
	depth := len(p.Siblings)
	if depth > MaxSiblings {
		return Leaf{}, false, fmt.Errorf("%w: %d siblings, at most %d", ErrProof, depth, MaxSiblings)
	}
	var at wire.Digest
	if p.Occupied {
		for i := range depth {
			if bit(&p.Leaf.Name, i) != bit(&name, i) {
				return Leaf{}, false, fmt.Errorf("%w: its leaf %s cannot stand where %s leads", ErrProof, p.Leaf.Name.Short(), name.Short())
			}
		}
		at = p.Leaf.hash()
	}
	for i := depth - 1; i >= 0; i-- {
		if bit(&name, i) == 0 {
			at = nodeHash(at, p.Siblings[i])
		} else {
			at = nodeHash(p.Siblings[i], at)
		}
	}
	if at != root {
		return Leaf{}, false, fmt.Errorf("%w: it leads to root %s, not %s", ErrProof, at.Short(), root.Short())
	}
	if !p.Occupied || p.Leaf.Name != name {
		return Leaf{}, false, nil
	}
	return p.Leaf, true, nil
}
