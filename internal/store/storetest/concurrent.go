package storetest

import (
	"errors"
	"fmt"
	"testing"

	"parallax/internal/store"
)

const writers = 8

// parallel runs f for 0 to n-1 at the same time and waits for all.
func parallel(n int, f func(i int)) {
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			f(i)
		}()
	}
	for range n {
		<-done
	}
}

// Two batches of one unit and one base never both succeed, and what the losers
// wrote is nowhere.
func testOneWinner(t *testing.T, f *fixture) {
	for round := range 20 {
		errs := make([]error, writers)
		parallel(writers, func(i int) {
			errs[i] = f.s.Apply([]store.Batch{batch(one, uint64(round),
				put(one, "by", fmt.Sprint(i)), put(one, fmt.Sprintf("round %02d", round), fmt.Sprint(i)))})[0]
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				t.Fatalf("round %d: %d and %d both won", round, winner, i)
			case !errors.Is(err, store.ErrConflict):
				t.Fatalf("round %d: %v, want ErrConflict", round, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		for _, name := range []string{"by", fmt.Sprintf("round %02d", round)} {
			if v, err := f.s.Get(key(one, name)); err != nil || string(v) != fmt.Sprint(winner) {
				t.Fatalf("round %d: %s is %q, %v, but %d won", round, name, v, err, winner)
			}
		}
		if r, err := f.s.Revision(one); err != nil || r != uint64(round)+1 {
			t.Fatalf("round %d: revision %d, %v", round, r, err)
		}
	}
	if got := len(contents(t, f.s, one)); got != 21 {
		t.Errorf("%d entries, want 21", got)
	}
}

// Writers of different units never conflict, and a reader sees each batch
// whole: every batch gives all three keys of its unit one value.
func testReadersSeeWhole(t *testing.T, f *fixture) {
	const rounds = 25
	stop, torn := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(torn)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for i := range writers {
				u := store.Unit{0: byte(i)}
				kvs, _, err := f.s.Scan(u[:], u.End(), 1<<20)
				if err == nil && len(kvs) != 0 && (len(kvs) != 3 || string(kvs[0].Value) != string(kvs[1].Value) || string(kvs[0].Value) != string(kvs[2].Value)) {
					err = fmt.Errorf("half a batch: %q", kvs)
				}
				if err != nil {
					torn <- err
					return
				}
			}
		}
	}()
	parallel(writers, func(i int) {
		u := store.Unit{0: byte(i)}
		for r := range rounds {
			v := fmt.Sprint(r)
			if err := f.s.Apply([]store.Batch{batch(u, uint64(r), put(u, "a", v), put(u, "b", v), put(u, "c", v))})[0]; err != nil {
				t.Errorf("writer %d, round %d: %v", i, r, err)
				return
			}
			if got, err := f.s.Get(key(u, "b")); err != nil || string(got) != v { // a writer reads its writes
				t.Errorf("writer %d, round %d: reads back %q, %v", i, r, got, err)
				return
			}
		}
	})
	close(stop)
	if err := <-torn; err != nil {
		t.Error(err)
	}
}

// Close waits for calls under way: each answers in full or ErrClosed, and what
// was acknowledged is there afterwards.
func testCloseUnderWay(t *testing.T, f *fixture) {
	acked := make([]uint64, writers)
	started := make(chan struct{}, writers)
	all := make(chan struct{})
	go func() {
		defer close(all)
		parallel(writers, func(i int) {
			u := store.Unit{0: byte(i)}
			for r := uint64(0); ; r++ {
				err := f.s.Apply([]store.Batch{batch(u, r, put(u, fmt.Sprintf("%06d", r), "v"))})[0]
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("Apply while closing: %v", err)
					}
					acked[i] = r
					break
				}
				if r == 0 {
					started <- struct{}{}
				}
				if _, err := f.s.Get(key(u, "000000")); err != nil && !errors.Is(err, store.ErrClosed) {
					t.Errorf("Get while closing: %v", err)
				}
			}
		})
	}()
	for range writers {
		<-started
	}
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	<-all
	f.s = f.reopen(t, f.s)
	for i, n := range acked {
		u := store.Unit{0: byte(i)}
		if r, err := f.s.Revision(u); err != nil || r != n {
			t.Errorf("unit %d: revision %d, %v, but %d batches were acknowledged", i, r, err, n)
		}
		if got := len(contents(t, f.s, u)); uint64(got) != n {
			t.Errorf("unit %d: %d entries, but %d were acknowledged", i, got, n)
		}
	}
}
