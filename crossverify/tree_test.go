package crossverify

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

// scratchRoot is the root of section 7 from the definition alone.
func scratchRoot(leaves []Leaf, depth int) wire.Digest {
	switch len(leaves) {
	case 0:
		return wire.Digest{}
	case 1:
		return wire.Hash("parallax/1/board/leaf", leaves[0].Name[:], wire.U64(leaves[0].Version), leaves[0].Value[:])
	}
	var side [2][]Leaf
	for _, l := range leaves {
		b := l.Name[depth/8] >> (7 - depth%8) & 1
		side[b] = append(side[b], l)
	}
	left, right := scratchRoot(side[0], depth+1), scratchRoot(side[1], depth+1)
	return wire.Hash("parallax/1/board/node", left[:], right[:])
}

// names that share prefixes of every length, so that chains of single
// children and the greatest depth occur.
func drawName(t *rapid.T) (name wire.Digest) {
	switch rapid.IntRange(0, 3).Draw(t, "shape") {
	case 0:
		name[0] = rapid.Byte().Draw(t, "first")
	case 1:
		name[31] = rapid.ByteRange(0, 3).Draw(t, "last")
	case 2:
		at := rapid.IntRange(0, 255).Draw(t, "bit")
		name[at/8] = 0x80 >> (at % 8)
	default:
		copy(name[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "name"))
	}
	return name
}

func TestTreeAgainstScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		have := map[wire.Digest]Leaf{}
		all := func() (out []Leaf) {
			for _, l := range have {
				out = append(out, l)
			}
			slices.SortFunc(out, func(a, b Leaf) int { return bytes.Compare(a.Name[:], b.Name[:]) })
			return out
		}
		clone, cloned, had := tree.Clone(), tree.Root(), 0
		for i := range rapid.IntRange(0, 12).Draw(t, "puts") {
			l := Leaf{drawName(t), rapid.Uint64Range(0, 2).Draw(t, "version"), digest(byte(i))}
			if rapid.Bool().Draw(t, "clone") {
				clone, cloned, had = tree.Clone(), tree.Root(), tree.Len()
			}
			tree.Put(l)
			have[l.Name] = l
			if got, want := tree.Root(), scratchRoot(all(), 0); got != want {
				t.Fatalf("root %s, want %s", got, want)
			}
			if clone.Root() != cloned || clone.Len() != had || len(clone.Leaves()) != had {
				t.Fatal("a clone changed with the tree it came from")
			}
		}
		if tree.Len() != len(have) || !slices.Equal(tree.Leaves(), all()) {
			t.Fatal("Len or Leaves are not what was put")
		}
		for i := range 12 {
			name := drawName(t)
			if i < len(have) {
				name = all()[i].Name
			}
			want, there := have[name]
			if got, ok := tree.Get(name); got != want || ok != there {
				t.Fatalf("Get: %v %v, want %v %v", got, ok, want, there)
			}
			proof := tree.Prove(name)
			got, present, err := proof.Check(name, tree.Root())
			if err != nil || present != there || got != want {
				t.Fatalf("proof: %v %v %v, want %v %v", got, present, err, want, there)
			}
			encoded := proof.Append(nil)
			again, err := ParseProof(encoded)
			if err != nil || !bytes.Equal(again.Append(nil), encoded) {
				t.Fatalf("proof does not survive its encoding: %v", err)
			}
			wrong := tree.Root()
			wrong[rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
			if _, _, err := proof.Check(name, wrong); !errors.Is(err, ErrProof) {
				t.Fatalf("a proof holds for a wrong root: %v", err)
			}
			encoded[rapid.IntRange(0, len(encoded)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if p, err := ParseProof(encoded); err == nil {
				if _, _, err := p.Check(name, tree.Root()); !errors.Is(err, ErrProof) {
					t.Fatalf("a changed proof holds: %v", err)
				}
			}
		}
	})
}

// Another name's leaf proves absence only where that name can stand.
func TestProofOfAnotherPlace(t *testing.T) {
	var tree Tree
	for _, b := range []byte{0x00, 0x40, 0x80} {
		tree.Put(Leaf{Name: wire.Digest{b}, Version: 1})
	}
	hidden := tree.Prove(wire.Digest{0x40}) // of the entry 0x40 itself
	if _, present, err := hidden.Check(wire.Digest{0x41}, tree.Root()); present || err != nil {
		t.Errorf("absence of 0x41 beside 0x40: %v %v", present, err)
	}
	if _, _, err := hidden.Check(wire.Digest{0x80}, tree.Root()); !errors.Is(err, ErrProof) {
		t.Errorf("0x80 was hidden behind the leaf of 0x40: %v", err)
	}
	if _, _, err := hidden.Check(wire.Digest{0x00}, tree.Root()); !errors.Is(err, ErrProof) {
		t.Errorf("0x00 was hidden behind the leaf of 0x40: %v", err)
	}
}

func TestParseProofBounds(t *testing.T) {
	full := Proof{Siblings: make([]wire.Digest, MaxSiblings), Occupied: true}
	if _, err := ParseProof(full.Append(nil)); err != nil {
		t.Errorf("a proof of %d siblings: %v", MaxSiblings, err)
	}
	long := Proof{Siblings: make([]wire.Digest, MaxSiblings+1)}
	if _, err := ParseProof(long.Append(nil)); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("a proof of %d siblings: %v", MaxSiblings+1, err)
	}
	if _, _, err := long.Check(wire.Digest{}, wire.Digest{}); !errors.Is(err, ErrProof) {
		t.Errorf("checking %d siblings: %v", MaxSiblings+1, err)
	}
	for _, bad := range [][]byte{nil, {0}, {0, 0}, {0, 1, 0}, {0, 0, 2}, {0, 0, 1}, {0, 0, 0, 0}} {
		if _, err := ParseProof(bad); !errors.Is(err, ErrProofFormat) {
			t.Errorf("%x: %v, want ErrProofFormat", bad, err)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	var tree Tree
	f.Add(tree.Prove(digest(1)).Append(nil))
	for i := range byte(20) {
		tree.Put(Leaf{Name: wire.Hash("test", []byte{i}), Version: uint64(i)})
	}
	f.Add(tree.Prove(digest(1)).Append(nil))
	f.Add(tree.Prove(tree.Leaves()[3].Name).Append(nil))
	root := tree.Root()
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Append(nil), b) {
			t.Fatal("a proof is written differently than read")
		}
		for _, l := range tree.Leaves() {
			if got, present, err := p.Check(l.Name, root); err == nil && (!present || got != l) {
				t.Fatal("a proof denies an entry")
			}
		}
	})
}

func BenchmarkTreePut(b *testing.B) {
	var tree Tree
	for i := uint64(0); b.Loop(); i++ {
		tree.Put(Leaf{Name: wire.Hash("test", wire.U64(i%3000)), Version: i})
	}
}
