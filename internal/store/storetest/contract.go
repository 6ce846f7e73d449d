package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"parallax/internal/store"
)

func testNotFound(t *testing.T, f *fixture) {
	f.is(t, one, 0)
	f.ok(t, batch(one, 0, put(one, "a", "1")))
	for _, k := range [][]byte{key(one, ""), key(one, "a0"), key(one, "A"), key(two, "a"), nil, {}} {
		if v, err := f.s.Get(k); !errors.Is(err, store.ErrNotFound) || v != nil {
			t.Errorf("Get %q: %q, %v, want ErrNotFound", k, v, err)
		}
	}
	f.is(t, two, 0)
}

func testOps(t *testing.T, f *fixture) {
	f.ok(t, batch(one, 0, put(one, "b", "2"), put(one, "", "root"), put(one, "a", "")))
	f.is(t, one, 1, "=root", "a=", "b=2")
	if v, err := f.s.Get(key(one, "a")); err != nil || v == nil {
		t.Errorf("an empty value is a value: %v, %v", v, err)
	}
	f.ok(t, batch(one, 1, del(one, "b"), del(one, "never was"), put(one, "a", "1")))
	f.is(t, one, 2, "=root", "a=1")
	f.ok(t, batch(one, 2)) // no ops: the revision alone moves
	f.is(t, one, 3, "=root", "a=1")
}

// Within a batch the last word counts.
func testOpsInOrder(t *testing.T, f *fixture) {
	f.ok(t, batch(one, 0, put(one, "a", "1"), put(one, "a", "2"), put(one, "b", "1"), del(one, "b"), put(one, "c", "1"),
		store.Op{Key: key(one, "c"), To: key(one, "d")}, put(one, "c", "2"), del(one, "d"), put(one, "d", "1")))
	f.is(t, one, 1, "a=2", "c=2", "d=1")
}

func testConflict(t *testing.T, f *fixture) {
	f.apply(t, []error{store.ErrConflict}, batch(one, 1, put(one, "a", "ahead")))
	f.is(t, one, 0)
	f.ok(t, batch(one, 0, put(one, "a", "1")))
	for _, base := range []uint64{0, 2, 1 << 63} {
		f.apply(t, []error{store.ErrConflict}, batch(one, base, put(one, "a", "x"), del(one, "a")))
		f.is(t, one, 1, "a=1")
	}
}

// A batch that is refused takes no other one with it.
func testEachOnItsOwn(t *testing.T, f *fixture) {
	f.ok(t, batch(two, 0, put(two, "a", "1")))
	f.apply(t, []error{nil, store.ErrConflict, store.ErrBatch, nil},
		batch(one, 0, put(one, "a", "1")),
		batch(two, 0, put(two, "a", "x")),
		batch(two, 1, put(one, "a", "x")),
		batch(far, 0, put(far, "a", "1")))
	f.is(t, one, 1, "a=1")
	f.is(t, two, 1, "a=1")
	f.is(t, far, 1, "a=1")
	if errs := f.s.Apply(nil); len(errs) != 0 {
		t.Errorf("Apply of nothing: %v", errs)
	}
}

// Several batches of one unit in one call apply in order, each on the revision
// that the one before left.
func testSameUnit(t *testing.T, f *fixture) {
	f.apply(t, []error{nil, nil, store.ErrConflict, nil, store.ErrConflict},
		batch(one, 0, put(one, "a", "1"), put(one, "b", "1")),
		batch(one, 1, put(one, "a", "2"), del(one, "b")),
		batch(one, 1, put(one, "a", "x")),
		batch(one, 2, put(one, "c", "1")),
		batch(one, 4, put(one, "c", "x")))
	f.is(t, one, 3, "a=2", "c=1")
}

func testMalformed(t *testing.T, f *fixture) {
	f.ok(t, batch(one, 0, put(one, "a", "1")), batch(two, 0, put(two, "a", "1")))
	for name, op := range map[string]store.Op{
		"foreign key":   put(two, "a", "x"),
		"no key":        {Value: []byte("x")},
		"foreign range": {Key: key(one, "a"), To: key(two, "b")},
		"reversed":      {Key: key(one, "b"), To: key(one, "a")},
		"both":          {Key: key(one, "a"), To: key(one, "b"), Value: []byte("x")},
	} {
		errs := f.s.Apply([]store.Batch{batch(one, 1, put(one, "a", "half"), op)})
		if !errors.Is(errs[0], store.ErrBatch) {
			t.Errorf("%s: %v, want ErrBatch", name, errs[0])
		}
		f.is(t, one, 1, "a=1")
		f.is(t, two, 1, "a=1")
	}
}

func testRangeDelete(t *testing.T, f *fixture) {
	var ops []store.Op
	for _, n := range strings.Split("a b c d e", " ") {
		ops = append(ops, put(one, n, "1"))
	}
	f.ok(t, batch(one, 0, ops...), batch(two, 0, put(two, "a", "1")))
	f.ok(t, batch(one, 1, store.Op{Key: key(one, "b"), To: key(one, "d")}))
	f.is(t, one, 2, "a=1", "d=1", "e=1")
	f.ok(t, batch(one, 2, store.Op{Key: key(one, "a"), To: key(one, "a")})) // empty
	f.is(t, one, 3, "a=1", "d=1", "e=1")
	f.ok(t, batch(one, 3, put(one, "b", "2"))) // into the hole
	f.is(t, one, 4, "a=1", "b=2", "d=1", "e=1")
	f.ok(t, batch(one, 4, store.Op{Key: one[:], To: one.End()}))
	f.is(t, one, 5)
	f.is(t, two, 1, "a=1")
}

func testScan(t *testing.T, f *fixture) {
	const n, size = 10, len(one) + 1 + 3 // key and value of one entry
	var ops []store.Op
	for i := range n {
		ops = append(ops, put(one, fmt.Sprint(i), "val"))
	}
	f.ok(t, batch(one, 0, ops...), batch(two, 0, put(two, "0", "val")))
	for _, c := range []struct {
		from, to []byte
		limit    int
		want     string
		more     bool
	}{
		{one[:], one.End(), 1 << 30, "0123456789", false},
		{one[:], one.End(), 10 * size, "0123456789", false},
		{one[:], one.End(), 10*size - 1, "0123456789", false},
		{one[:], one.End(), 9 * size, "012345678", true},
		{one[:], one.End(), 2*size + 1, "012", true},
		{one[:], one.End(), 1, "0", true},
		{one[:], one.End(), 0, "0", true}, // at least one
		{one[:], one.End(), -1, "0", true},
		{key(one, "3"), key(one, "5"), 1 << 30, "34", false}, // to is not in it
		{key(one, "3"), key(one, "5"), size, "3", true},
		{key(one, "30"), key(one, "50"), 1 << 30, "45", false},
		{key(one, "9"), key(one, "z"), 0, "9", false},
		{key(one, "a"), key(one, "z"), 1 << 30, "", false},
		{key(one, "5"), key(one, "5"), 1 << 30, "", false},
		{key(one, "5"), key(one, "3"), 1 << 30, "", false},
		{one[:], nil, 1 << 30, "", false},
		{nil, key(one, "2"), 1 << 30, "01", false},
		{key(one, "9"), two.End(), 1 << 30, "90", false},
	} {
		kvs, more, err := f.s.Scan(c.from, c.to, c.limit)
		var got string
		for _, kv := range kvs {
			got += string(kv.Key[len(one):])
			if string(kv.Value) != "val" {
				t.Errorf("value %q", kv.Value)
			}
		}
		if err != nil || got != c.want || more != c.more {
			t.Errorf("Scan [%q, %q) limit %d: %q more %v, %v; want %q more %v", c.from, c.to, c.limit, got, more, err, c.want, c.more)
		}
	}
}

// What goes in may be reused by the caller, what comes out is the caller's.
func testOwnership(t *testing.T, f *fixture) {
	op := put(one, "a", "1")
	f.ok(t, batch(one, 0, op))
	spoil := func(b []byte) {
		b = b[:cap(b)]
		for i := range b {
			b[i] = 'X'
		}
	}
	spoil(op.Key)
	spoil(op.Value)
	f.is(t, one, 1, "a=1")
	v, err := f.s.Get(key(one, "a"))
	if err != nil {
		t.Fatal(err)
	}
	spoil(v)
	kvs, _, err := f.s.Scan(one[:], one.End(), 1)
	if err != nil {
		t.Fatal(err)
	}
	spoil(kvs[0].Key)
	spoil(kvs[0].Value)
	f.is(t, one, 1, "a=1")
	f.ok(t, batch(one, 1, put(one, "b", "1")))
	if !bytes.Equal(v[:1], []byte("X")) || !bytes.Equal(kvs[0].Key[:1], []byte("X")) {
		t.Error("the store wrote into a result")
	}
}

// A lazy batch is seen at once and kept over an orderly close.
func testLazy(t *testing.T, f *fixture) {
	lazy := batch(one, 0, put(one, "a", "1"))
	lazy.Lazy = true
	f.ok(t, lazy)
	f.is(t, one, 1, "a=1")
	lazy.Base = 1
	f.ok(t, lazy, batch(two, 0, put(two, "a", "1")))
	f.s = f.reopen(t, f.s)
	f.is(t, one, 2, "a=1")
	f.is(t, two, 1, "a=1")
}

// Hints may be lost, so none is waited for; but they are about what was
// written, and a watcher may read the store.
func testWatch(t *testing.T, f *fixture) {
	s := f.s
	stray := make(chan store.Unit, 100)
	for range 2 {
		s.Watch(func(u store.Unit) {
			if _, err := s.Revision(u); u != one && (err == nil || errors.Is(err, store.ErrClosed)) {
				stray <- u
			}
		})
	}
	for i := range 5 {
		f.ok(t, batch(one, uint64(i), put(one, "a", "1")))
		f.apply(t, []error{store.ErrConflict}, batch(two, 9))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Watch(func(store.Unit) {})
	if len(stray) > 0 {
		t.Errorf("hint for unit %x, which nobody wrote", <-stray)
	}
}

func testClosed(t *testing.T, f *fixture) {
	f.ok(t, batch(one, 0, put(one, "a", "1")))
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	f.apply(t, []error{store.ErrClosed, store.ErrClosed}, batch(one, 1), batch(one, 7))
	_, err1 := f.s.Revision(one)
	_, err2 := f.s.Get(key(one, "a"))
	_, _, err3 := f.s.Scan(one[:], one.End(), 1)
	for i, err := range []error{err1, err2, err3} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("read %d of a closed store: %v, want ErrClosed", i, err)
		}
	}
	if err := f.s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func testReopen(t *testing.T, f *fixture) {
	f.ok(t, batch(one, 0, put(one, "a", "1"), put(one, "b", "1")), batch(far, 0))
	f.ok(t, batch(one, 1, del(one, "b"), put(one, "c", "1")))
	for range 3 {
		f.s = f.reopen(t, f.s)
		f.is(t, one, 2, "a=1", "c=1")
		f.is(t, two, 0)
		f.is(t, far, 1)
		f.apply(t, []error{store.ErrConflict}, batch(one, 1, put(one, "a", "x")))
	}
	f.ok(t, batch(one, 2, store.Op{Key: one[:], To: one.End()}))
	f.s = f.reopen(t, f.s)
	f.is(t, one, 3)
}

// Batches far larger than an engine's buffers, in one call and one by one.
func testLarge(t *testing.T, f *fixture) {
	value := strings.Repeat("0123456789abcdef", 1<<12)
	var want []string
	var batches []store.Batch
	for i := range 4 {
		var ops []store.Op
		for j := range 20 {
			name := fmt.Sprintf("%d-%02d", i, j)
			ops = append(ops, put(one, name, value))
			want = append(want, name+"="+value)
		}
		batches = append(batches, batch(one, uint64(i), ops...))
	}
	f.ok(t, batches[0], batches[1])
	f.ok(t, batches[2])
	f.ok(t, batches[3])
	if got := contents(t, f.s, one); !slices.Equal(got, want) {
		t.Errorf("large values came back differently (%d entries)", len(got))
	}
	f.s = f.reopen(t, f.s)
	if got := contents(t, f.s, one); !slices.Equal(got, want) {
		t.Errorf("large values came back differently after reopening (%d entries)", len(got))
	}
}
