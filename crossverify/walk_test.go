package crossverify

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

// drawBoard is a board that shares some entries with others of its kind.
func drawBoard(t *rapid.T, what string) (tree Tree) {
	for range rapid.IntRange(0, 40).Draw(t, what) {
		tree.Put(Leaf{drawName(t), rapid.Uint64Range(1, 2).Draw(t, "version"), digest(1)})
	}
	return tree
}

// answer is what an honest relay has at one place.
func answer(tree *Tree, p Prefix) Subtree {
	if l, only := tree.Only(p); only {
		return Subtree{Entry: &l}
	}
	return Subtree{Nodes: tree.Nodes(p)}
}

// result is the board that a walk found.
func result(expected *Tree, w *Walk) (out Tree) {
	gone, found := w.Result()
	for _, l := range expected.Leaves() {
		if !gone[l.Name] {
			out.Put(l)
		}
	}
	for _, l := range found {
		out.Put(l)
	}
	return out
}

// A walk ends at the board that is there, whatever was expected, and asks for
// each place once, for none that is as expected, and ascending.
func TestWalkAgainstTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expected, there := drawBoard(t, "expected"), drawBoard(t, "there")
		if rapid.Bool().Draw(t, "alike") {
			there = *expected.Clone()
			for range rapid.IntRange(0, 3).Draw(t, "differ") {
				there.Put(Leaf{drawName(t), 3, digest(2)})
			}
		}
		w := NewWalk(&expected, there.Root())
		if w.Done() != (expected.Root() == there.Root() || there.Len() == 0) {
			t.Fatal("a walk begins where nothing is to be asked, or does not begin")
		}
		asked := map[Prefix]bool{}
		for turn := 0; !w.Done(); turn++ {
			list := w.Ask(rapid.IntRange(1, 8).Draw(t, "at once"))
			answers := make([]Subtree, len(list))
			for i, p := range list {
				if i > 0 && list[i-1].Compare(p) >= 0 {
					t.Fatal("questions are not ascending")
				}
				if i > 0 && rapid.IntRange(0, 4).Draw(t, "later") == 0 {
					continue
				}
				if answers[i] = answer(&there, p); asked[p] || expected.Sum(p) == there.Sum(p) {
					t.Fatalf("%v is asked for without need", p)
				}
				asked[p] = true
			}
			if err := w.Take(answers); err != nil {
				t.Fatal(err)
			}
			if turn > 3000 {
				t.Fatal("the walk does not end")
			}
		}
		if w.Spots() != len(asked) {
			t.Errorf("%d spots, %d were asked for", w.Spots(), len(asked))
		}
		if got := result(&expected, w); got.Root() != there.Root() || !slices.Equal(got.Leaves(), there.Leaves()) {
			t.Fatal("the walk ends at another board")
		}
	})
}

// Nodes of a place: what the tree has there, nothing else holds.
func TestNodesAgainstTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := drawBoard(t, "board")
		name := drawName(t)
		p := Prefix{}
		for range rapid.IntRange(0, nameBits).Draw(t, "depth") {
			p = p.child(bit(&name, int(p.Len)))
		}
		var want []Leaf
		for _, l := range tree.Leaves() {
			if p.Holds(l.Name) {
				want = append(want, l)
			}
		}
		if got := tree.Below(p); !slices.Equal(got, want) {
			t.Fatalf("below %v: %v, want %v", p, got, want)
		}
		if tree.Sum(p) != scratchRoot(want, int(p.Len)) {
			t.Fatal("the hash of a subtree is not that of its entries")
		}
		only, one := tree.Only(p)
		if one != (len(want) == 1) || one && only != want[0] {
			t.Fatalf("the only entry: %v %v, want %v", only, one, want)
		}
		nodes := tree.Nodes(p)
		encoded := nodes.Append(nil)
		r := wire.NewReader(encoded)
		again := ReadNodes(r)
		if err := r.Done(); err != nil || !slices.Equal(again, nodes) || len(nodes) > MaxNodes {
			t.Fatalf("%d nodes do not survive their encoding: %v", len(nodes), err)
		}
		top := Spot{Prefix: p, Hash: tree.Sum(p)}
		spots, err := nodes.Check(top)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spots {
			if below := tree.Below(s.Prefix); tree.Sum(s.Prefix) != s.Hash || s.Leaf != (len(below) == 1) || s.Len > p.Len+WalkLevels {
				t.Fatalf("spot %v has %d entries", s, len(below))
			}
		}
		encoded[rapid.IntRange(0, len(encoded)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		r = wire.NewReader(encoded)
		if changed := ReadNodes(r); r.Done() == nil {
			if _, err := changed.Check(top); err == nil && !sameHashes(changed, nodes) {
				t.Fatal("changed nodes hold")
			}
		}
	})
}

// sameHashes: an inner node that is called a leaf, or the other way round, is
// found out when its entry is asked for.
func sameHashes(a, b Nodes) bool {
	return slices.EqualFunc(a, b, func(x, y Node) bool { return x.Hash == y.Hash && (x.Kind == NodeFork) == (y.Kind == NodeFork) })
}

// What does not lead to the root ends a walk.
func TestWalkRefuses(t *testing.T) {
	var there, expected Tree
	for i := range byte(40) {
		there.Put(Leaf{wire.Hash("test", []byte{i}), 1, digest(i)})
	}
	other := there.Clone()
	other.Put(Leaf{wire.Hash("test", []byte{0}), 2, digest(0)})
	some := there.Leaves()[7]
	for what, lie := range map[string]func(a []Subtree, list []Prefix) []Subtree{
		"another board": func(a []Subtree, list []Prefix) []Subtree { a[0] = answer(other, list[0]); return a },
		"an entry in the place of many": func(a []Subtree, list []Prefix) []Subtree {
			a[0] = Subtree{Entry: &some}
			return a
		},
		"emptiness": func(a []Subtree, list []Prefix) []Subtree { a[0] = Subtree{Nodes: Nodes{{}}}; return a },
		"a bare leaf": func(a []Subtree, list []Prefix) []Subtree {
			a[0] = Subtree{Nodes: Nodes{{NodeLeaf, there.Root()}}}
			return a
		},
		"nothing":  func(a []Subtree, list []Prefix) []Subtree { return nil },
		"too much": func(a []Subtree, list []Prefix) []Subtree { return append(a, a[0]) },
		"later":    func(a []Subtree, list []Prefix) []Subtree { return make([]Subtree, len(a)) },
		"nodes that end early": func(a []Subtree, list []Prefix) []Subtree {
			a[0].Nodes = a[0].Nodes[:len(a[0].Nodes)-1]
			return a
		},
		"nodes that go on": func(a []Subtree, list []Prefix) []Subtree { a[0].Nodes = append(a[0].Nodes, Node{}); return a },
	} {
		w := NewWalk(&expected, there.Root())
		list := w.Ask(9)
		if err := w.Take(lie([]Subtree{answer(&there, list[0])}, list)); !errors.Is(err, ErrNodes) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A leaf under another name than its place has.
	w := NewWalk(&expected, there.Root())
	list := w.Ask(9)
	if err := w.Take([]Subtree{answer(&there, list[0])}); err != nil {
		t.Fatal(err)
	}
	for !w.Done() {
		list = w.Ask(1)
		a := answer(&there, list[0])
		if a.Entry != nil && !list[0].Holds(some.Name) {
			if err := w.Take([]Subtree{{Entry: &some}}); !errors.Is(err, ErrNodes) {
				t.Errorf("an entry of another place: %v", err)
			}
			return
		}
		if err := w.Take([]Subtree{a}); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("no place has one entry")
}

// A signed root may stand over anything: a tree deeper than names are long is
// refused, not walked for ever.
func TestDepthEnds(t *testing.T) {
	deep := Prefix{Len: nameBits}
	n := Nodes{{Kind: NodeFork}, {NodeLeaf, digest(1)}, {NodeLeaf, digest(2)}}
	if _, err := n.Check(Spot{Prefix: deep, Hash: nodeHash(digest(1), digest(2))}); !errors.Is(err, ErrNodes) {
		t.Errorf("a fork below a whole name: %v", err)
	}
	deep.Len--
	if _, err := n.Check(Spot{Prefix: deep, Hash: nodeHash(digest(1), digest(2))}); err != nil {
		t.Errorf("a fork at the last bit: %v", err)
	}
}

func TestPrefixLayout(t *testing.T) {
	for _, c := range []struct {
		hex []byte
		ok  bool
	}{
		{[]byte{0, 0}, true}, {[]byte{0, 1, 0x80}, true}, {[]byte{0, 1, 0x40}, false}, {[]byte{0, 8, 0xff}, true},
		{[]byte{0, 9, 0xff, 0x80}, true}, {[]byte{0, 9, 0xff}, false}, {[]byte{0, 9, 0xff, 0xc0}, false},
		{append([]byte{1, 0}, make([]byte, 32)...), true}, {append([]byte{1, 1}, make([]byte, 33)...), false}, {[]byte{0}, false},
	} {
		r := wire.NewReader(c.hex)
		p := ReadPrefix(r)
		if err := r.Done(); (err == nil) != c.ok {
			t.Errorf("%x: %v", c.hex, err)
		} else if err == nil && !bytes.Equal(p.Append(nil), c.hex) {
			t.Errorf("%x is written as %x", c.hex, p.Append(nil))
		}
	}
}

// The forms that a board can have, and some that none has.
func TestNodesLayout(t *testing.T) {
	leaf := append([]byte{1}, make([]byte, 32)...)
	inner := append([]byte{2}, make([]byte, 32)...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	empty, fork := []byte{0}, []byte{3}
	deep := join(fork, fork, fork, fork, inner, empty, empty, empty, empty)
	for what, c := range map[string]struct {
		b  []byte
		ok bool
	}{
		"empty": {empty, true}, "leaf": {leaf, true}, "two leaves": {join(fork, leaf, leaf), true}, "inner below": {deep, true},
		"inner at the top": {inner, false}, "inner too high": {join(fork, inner, empty), false}, "one leaf below a fork": {join(fork, leaf, empty), false},
		"a fork of nothing": {join(fork, empty, empty), false}, "unknown": {[]byte{4}, false}, "cut": {join(fork, leaf), false},
		"a leaf and nothing below": {join(fork, fork, empty, leaf, leaf), false},
		"five levels":              {join(fork, fork, fork, fork, fork, leaf, leaf, empty, empty, empty, empty), false},
	} {
		r := wire.NewReader(c.b)
		n := ReadNodes(r)
		if err := r.Done(); (err == nil) != c.ok {
			t.Errorf("%s: %v", what, err)
		} else if err == nil && !bytes.Equal(n.Append(nil), c.b) {
			t.Errorf("%s is written otherwise", what)
		}
	}
}

func FuzzReadNodes(f *testing.F) {
	var tree Tree
	for i := range byte(40) {
		tree.Put(Leaf{Name: wire.Hash("test", []byte{i}), Version: uint64(i)})
	}
	top := Spot{Hash: tree.Root()}
	f.Add(tree.Nodes(Prefix{}).Append(nil))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wire.NewReader(b)
		n := ReadNodes(r)
		if r.Done() != nil {
			return
		}
		if !bytes.Equal(n.Append(nil), b) || len(n) > MaxNodes {
			t.Fatal("nodes are written differently than read")
		}
		if spots, err := n.Check(top); err == nil {
			for _, s := range spots {
				if tree.Sum(s.Prefix) != s.Hash {
					t.Fatal("nodes deny the board")
				}
			}
		}
	})
}
