package memory_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t,
		func(t *testing.T) store.Store { return memory.New() },
		func(t *testing.T, s store.Store) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return s.(*memory.Store).Snapshot()
		})
}

var unit = store.Unit{0: 9}

func put(t *testing.T, s store.Store, base uint64, key, value string) {
	t.Helper()
	errs := s.Apply([]store.Batch{{Unit: unit, Base: base, Ops: []store.Op{{Key: append(unit[:], key...), Value: []byte(value)}}}})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
}

func want(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	got, err := s.Get(append(unit[:], key...))
	if value == "" && errors.Is(err, store.ErrNotFound) {
		return
	}
	if err != nil || string(got) != value {
		t.Errorf("%s is %q, %v, want %q", key, got, err, value)
	}
}

// A snapshot and its origin go their own ways, also a snapshot of a snapshot.
func TestSnapshotIsIndependent(t *testing.T) {
	a := memory.New()
	for i := range 100 {
		put(t, a, uint64(i), string(rune('a'+i)), "old")
	}
	b := a.Snapshot()
	put(t, a, 100, "a", "by a")
	put(t, b, 100, "b", "by b")
	c := b.Snapshot()
	put(t, b, 101, "c", "by b")
	if errs := c.Apply([]store.Batch{{Unit: unit, Base: 101, Ops: []store.Op{{Key: append(unit[:], 'a'), To: append(unit[:], 'z')}}}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	for _, w := range []struct {
		s       store.Store
		a, b, c string
	}{{a, "by a", "old", "old"}, {b, "old", "by b", "by b"}, {c, "", "", ""}} {
		want(t, w.s, "a", w.a)
		want(t, w.s, "b", w.b)
		want(t, w.s, "c", w.c)
		want(t, w.s, "z", "old")
	}
}

// Handles on the same data conflict as processes do and hint each other, not
// themselves.
func TestFronts(t *testing.T) {
	a := memory.New()
	b := a.Front()
	var atA, atB []store.Unit
	a.Watch(func(u store.Unit) { atA = append(atA, u) })
	b.Watch(func(u store.Unit) {
		if r, err := b.Revision(u); err != nil || r == 0 { // a watcher may read
			t.Errorf("revision in the watcher: %d, %v", r, err)
		}
		atB = append(atB, u)
	})
	put(t, a, 0, "k", "v")
	want(t, b, "k", "v")
	if errs := b.Apply([]store.Batch{{Unit: unit, Base: 0}}); !errors.Is(errs[0], store.ErrConflict) {
		t.Errorf("stale write through the other handle: %v", errs[0])
	}
	if len(atA) != 0 || !slices.Equal(atB, []store.Unit{unit}) {
		t.Errorf("hints: %v to the writer, %v to the other", atA, atB)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, a, 1, "k", "w")
	if len(atB) != 1 {
		t.Errorf("a closed handle was hinted")
	}
}

// 100,000 keys in ascending order, the worst one for a tree without balance,
// must neither be slow nor deep enough to matter.
func BenchmarkPut100k(b *testing.B) {
	for b.Loop() {
		s := memory.New()
		for i := range 100_000 {
			key := binary.BigEndian.AppendUint64(unit[:], uint64(i))
			s.Apply([]store.Batch{{Unit: unit, Base: uint64(i), Ops: []store.Op{{Key: key, Value: key}}}})
		}
	}
}
