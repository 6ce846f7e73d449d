// Package storetest is the one conformance suite of the store engines: a test
// per sentence of the contract in package store, and a random walk beside a
// plain map (docs/protocol.md section 12).
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"parallax/internal/store"
)

// Run checks an engine. open returns an empty store; reopen closes the store
// and opens what it left. Both are called many times; the suite closes every
// store that it was given.
func Run(t *testing.T, open func(t *testing.T) store.Store, reopen func(t *testing.T, s store.Store) store.Store) {
	for name, test := range map[string]func(*testing.T, *fixture){
		"NotFound":        testNotFound,
		"Ops":             testOps,
		"OpsInOrder":      testOpsInOrder,
		"Conflict":        testConflict,
		"EachOnItsOwn":    testEachOnItsOwn,
		"SameUnit":        testSameUnit,
		"Malformed":       testMalformed,
		"RangeDelete":     testRangeDelete,
		"Scan":            testScan,
		"Ownership":       testOwnership,
		"Lazy":            testLazy,
		"Watch":           testWatch,
		"OneWinner":       testOneWinner,
		"ReadersSeeWhole": testReadersSeeWhole,
		"Closed":          testClosed,
		"CloseUnderWay":   testCloseUnderWay,
		"Reopen":          testReopen,
		"Large":           testLarge,
	} {
		t.Run(name, func(t *testing.T) {
			f := &fixture{s: open(t), reopen: reopen}
			defer func() {
				if err := f.s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			test(t, f)
		})
	}
	t.Run("Model", func(t *testing.T) { testModel(t, open, reopen) })
}

type fixture struct {
	s      store.Store
	reopen func(t *testing.T, s store.Store) store.Store
}

// Three units, two of them neighbours in key order.
var one, two, far = store.Unit{15: 1}, store.Unit{15: 2}, store.Unit{0: 0xff, 15: 0xff}

func key(u store.Unit, name string) []byte { return append(u[:], name...) }

func put(u store.Unit, name, value string) store.Op {
	return store.Op{Key: key(u, name), Value: []byte(value)}
}

func del(u store.Unit, name string) store.Op { return store.Op{Key: key(u, name)} }

func batch(u store.Unit, base uint64, ops ...store.Op) store.Batch {
	return store.Batch{Unit: u, Base: base, Ops: ops}
}

// apply wants exactly these answers.
func (f *fixture) apply(t *testing.T, want []error, batches ...store.Batch) {
	t.Helper()
	errs := f.s.Apply(batches)
	if len(errs) != len(batches) {
		t.Fatalf("Apply gave %d answers to %d batches", len(errs), len(batches))
	}
	for i, err := range errs {
		if !errors.Is(err, want[i]) {
			t.Fatalf("batch %d: %v, want %v", i, err, want[i])
		}
	}
}

func (f *fixture) ok(t *testing.T, batches ...store.Batch) {
	t.Helper()
	f.apply(t, make([]error, len(batches)), batches...)
}

// is wants the unit to hold exactly these entries, "name=value" in key order.
func (f *fixture) is(t *testing.T, u store.Unit, revision uint64, want ...string) {
	t.Helper()
	if r, err := f.s.Revision(u); err != nil || r != revision {
		t.Fatalf("revision %d, %v, want %d", r, err, revision)
	}
	got := contents(t, f.s, u)
	if !slices.Equal(got, want) {
		t.Fatalf("unit holds %q, want %q", got, want)
	}
	for _, e := range want {
		name, value, _ := bytes.Cut([]byte(e), []byte("="))
		if v, err := f.s.Get(key(u, string(name))); err != nil || !bytes.Equal(v, value) {
			t.Fatalf("Get %s: %q, %v, but Scan has %q", name, v, err, value)
		}
	}
}

func contents(t *testing.T, s store.Store, u store.Unit) []string {
	t.Helper()
	kvs, more, err := s.Scan(u[:], u.End(), 1<<30)
	if err != nil || more {
		t.Fatalf("Scan of a unit: more %v, %v", more, err)
	}
	var out []string
	for _, kv := range kvs {
		if !bytes.HasPrefix(kv.Key, u[:]) {
			t.Fatalf("Scan of unit %x gave key %x", u, kv.Key)
		}
		out = append(out, fmt.Sprintf("%s=%s", kv.Key[len(u):], kv.Value))
	}
	return out
}
