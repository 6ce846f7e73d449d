package sealed

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// failing is a process that ends at one of its writes, before or after it.
type failing struct {
	left  int // writes until then; negative: never
	after bool
}

var errCrash = errors.New("crash")

func (f *failing) do(write func() error) error {
	if f.left == 0 {
		if f.after {
			if err := write(); err != nil {
				return err
			}
		}
		return errCrash
	}
	f.left--
	return write()
}

// crashing is an engine whose writes count.
type crashing struct {
	*memory.Store
	f *failing
}

func (c crashing) Apply(b []store.Batch) (errs []error) {
	err := c.f.do(func() error { errs = c.Store.Apply(b); return nil })
	if err != nil {
		errs = slices.Repeat([]error{err}, len(b))
	}
	return errs
}

func (s *Store) withCrash(f *failing) *Store {
	s.inner = crashing{s.inner.(*memory.Store), f}
	s.write = func(path string, b []byte) error { return f.do(func() error { return quick(path, b) }) }
	return s
}

// quick is replace without fsync: the processes of these tests end, the
// computer does not.
func quick(path string, b []byte) error {
	if err := os.WriteFile(path+tempSuffix, b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+tempSuffix, path)
}

var units = []store.Unit{{0: 1}, {0: 1, 15: 1}, {0: 0xff, 1: 0xff}}

// filled holds live records of several pages, and others.
func filled(t testing.TB, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, u := range units {
		var ops []store.Op
		for i, kind := range "msv\xffe" {
			most := 200
			if kind == 's' && u == units[1] {
				most = 20_000 // 480 kB: two batches
			}
			for j := range 6 {
				ops = append(ops, put(u, fmt.Sprintf("%s%d", string([]byte{byte(kind)}), j), strings.Repeat(fmt.Sprint(i, j, " "), most)))
			}
		}
		ops = append(ops, put(u, "", "bare"), put(u, "\xff\xff", "last"))
		apply(t, s, u, ops...)
		for _, op := range ops {
			all[string(op.Key)] = string(op.Value)
		}
	}
	return all
}

func holds(t rapid.TB, s *Store, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	from := []byte(nil)
	for more := true; more; {
		kvs, m, err := s.Scan(from, lastKey, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		more = m
		for _, kv := range kvs {
			got[string(kv.Key)] = string(kv.Value)
			from = append(bytes.Clone(kv.Key), 0)
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("holds %d records, want %d, or others", len(got), len(want))
	}
}

// ids are the state keys that live records are sealed with.
func ids(t testing.TB, inner store.Store) []uint16 {
	seen := map[uint16]bool{}
	for _, kv := range raw(t, inner) {
		if len(kv.Key) > 16 && bytes.IndexByte(kinds, kv.Key[16]) >= 0 {
			seen[binary.BigEndian.Uint16(kv.Value)] = true
		} else if binary.BigEndian.Uint16(kv.Value) != 0 {
			t.Errorf("record %x is under a state key", kv.Key)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func TestRotate(t *testing.T) {
	inner, cfg := memory.New(), config(t)
	s := mustOpen(t, inner, cfg)
	want := filled(t, s)
	before := inner.Snapshot()
	old := s.ring.state
	for _, d := range []time.Duration{0, time.Second, RotateAfter - time.Second} {
		if err := s.Rotate(start.Add(d)); err != nil || s.ring.state != old {
			t.Fatalf("rotated after %v: %v", d, err)
		}
	}
	if err := s.Rotate(start.Add(RotateAfter)); err != nil {
		t.Fatal(err)
	}
	holds(t, s, want)
	if got := ids(t, inner); !slices.Equal(got, []uint16{2}) {
		t.Errorf("live records under keys %v, want 2", got)
	}
	if old.bytes != [keySize]byte{} || s.ring.previous != nil {
		t.Error("the old key is still there")
	}
	for _, u := range units { // the writers' revision is what it was
		if r, err := s.Revision(u); r != 1 || err != nil {
			t.Errorf("revision %d, %v, want 1", r, err)
		}
		if err := s.Apply([]store.Batch{{Unit: u, Base: 1, Ops: []store.Op{put(u, "s0", "new")}}})[0]; err != nil {
			t.Errorf("a write on the old revision: %v", err)
		}
		if err := s.Apply([]store.Batch{{Unit: u, Base: 1}})[0]; !errors.Is(err, store.ErrConflict) {
			t.Errorf("a stale write: %v, want ErrConflict", err)
		}
		want[string(record(u, "s0"))] = "new"
	}
	// A clock that went back begins anew too.
	if err := s.Rotate(start); err != nil || s.ring.state.id != 3 {
		t.Errorf("key %d, %v, want 3", s.ring.state.id, err)
	}
	s = mustOpen(t, inner, cfg)
	holds(t, s, want)

	// What an engine still keeps of the day before is noise, but for what is
	// not live.
	stale := mustOpen(t, before, cfg)
	for _, kv := range raw(t, before) {
		v, err := stale.Get(kv.Key)
		if live := len(kv.Key) > 16 && bytes.IndexByte(kinds, kv.Key[16]) >= 0; !live && err == nil {
			continue
		} else if _, ok := errors.AsType[*store.CorruptError](err); !live || !ok {
			t.Fatalf("yesterday's %q opens: %d bytes, %v", kv.Key[16:], len(v), err)
		}
	}
}

// The number of a state key goes round, and 0 stays the folder key's.
func TestRotateNumberGoesRound(t *testing.T) {
	cfg := config(t)
	s := mustOpen(t, memory.New(), cfg)
	apply(t, s, unit, put(unit, "s", "x"))
	s.ring.state.id = math.MaxUint16
	apply(t, s, unit, put(unit, "s", "y"))
	if err := s.Rotate(start.Add(RotateAfter)); err != nil || s.ring.state.id != 1 {
		t.Fatalf("key %d, %v", s.ring.state.id, err)
	}
	holds(t, s, map[string]string{string(record(unit, "s")): "y"})
}

// A process may end at any write of a rotation, before it or after it: nothing
// is lost, and the next opening ends what was begun.
func TestRotateCrash(t *testing.T) {
	steps := 0
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			inner, cfg := memory.New(), config(t)
			s := mustOpen(t, inner, cfg)
			want := filled(t, s)
			err := s.withCrash(&failing{left: at, after: after}).Rotate(start.Add(RotateAfter))
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			// Of a process that only met an error, every record is still there.
			holds(t, s, want)
			again := mustOpen(t, inner.Snapshot(), cfg)
			holds(t, again, want)
			if err := again.Rotate(start.Add(RotateAfter)); err != nil {
				t.Fatalf("after a crash at write %d: %v", at, err)
			}
			holds(t, again, want)
			if got := ids(t, again.inner); !slices.Equal(got, []uint16{2}) {
				t.Fatalf("after a crash at write %d: live records under keys %v, want 2", at, got)
			}
			if again.ring.previous != nil {
				t.Fatalf("after a crash at write %d two keys are left", at)
			}
			if err == nil {
				steps += at
				break
			}
		}
	}
	if steps < 12 {
		t.Errorf("only %d writes were cut off", steps)
	}
}

// Any sequence of writes, rotations, crashes in them and openings holds what a
// plain map holds, and never more than today's key when a rotation has ended.
func TestRotateModel(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		cfg := Config{Folder: &FolderKey{[keySize]byte{1}}, File: fmt.Sprintf("%s/%d", dir, n), Kinds: kinds, Entropy: rand.Reader, Now: start}
		inner, now := memory.New(), start
		s, err := Open(inner, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.write = quick
		want := map[string]string{}
		open := func(from *memory.Store) {
			inner = from.Snapshot()
			cfg.Now = now
			if s, err = Open(inner, cfg); err != nil {
				t.Fatal(err)
			}
			s.write = quick
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				u := rapid.SampledFrom(units).Draw(t, "unit")
				base, err := s.Revision(u)
				if err != nil {
					t.Fatal(err)
				}
				b := store.Batch{Unit: u, Base: base}
				for range rapid.IntRange(0, 3).Draw(t, "ops") {
					name := rapid.SampledFrom([]string{"", "m", "s", "s1", "v", "w", "\xff\x01"}).Draw(t, "key")
					if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
						b.Ops = append(b.Ops, store.Op{Key: record(u, name)})
						delete(want, string(record(u, name)))
						continue
					}
					v := rapid.StringN(0, 10, -1).Draw(t, "value")
					b.Ops = append(b.Ops, put(u, name, v))
					want[string(record(u, name))] = v
				}
				if err := s.Apply([]store.Batch{b})[0]; err != nil {
					t.Fatal(err)
				}
			},
			"rotate": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-1, 30).Draw(t, "hours")) * time.Hour)
				if err := s.Rotate(now); err != nil {
					t.Fatal(err)
				}
				if s.ring.previous != nil || now.Sub(s.ring.state.made).Abs() >= RotateAfter {
					t.Fatal("it did not end, or did nothing")
				}
			},
			"crash": func(t *rapid.T) {
				now = now.Add(RotateAfter)
				f := &failing{left: rapid.IntRange(0, 6).Draw(t, "at"), after: rapid.Bool().Draw(t, "after")}
				if err := s.withCrash(f).Rotate(now); err != nil && !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				open(inner)
			},
			"open": func(*rapid.T) { open(inner) },
			"":     func(t *rapid.T) { holds(t, s, want) },
		})
	})
}

// Writers and readers go on while keys change under them.
func TestRotateUnderWay(t *testing.T) {
	s := mustOpen(t, memory.New(), config(t))
	want := filled(t, s)
	done := make(chan error, 2)
	stop := make(chan struct{})
	loop := func(f func(i int) error) {
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := f(i); err != nil {
				done <- err
				return
			}
		}
	}
	u := units[0]
	go loop(func(i int) error {
		return s.Apply([]store.Batch{{Unit: u, Base: uint64(i) + 1, Ops: []store.Op{put(u, "s0", "new")}}})[0]
	})
	go loop(func(int) error {
		_, _, err := s.Scan(u[:], u.End(), 1<<20)
		return err
	})
	for i := range 5 {
		if err := s.Rotate(start.Add(time.Duration(i+1) * RotateAfter)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	want[string(record(u, "s0"))] = "new"
	holds(t, s, want)
}

// The state key file: what is not as it was written is refused by name, and a
// store that has records but no state key is not begun anew.
func TestStateFile(t *testing.T) {
	inner, cfg := memory.New(), config(t)
	s := mustOpen(t, inner, cfg)
	apply(t, s, unit, put(unit, "s", "x"))
	good, err := os.ReadFile(cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(cfg.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if bytes.Contains(good, s.ring.state.bytes[:8]) {
		t.Error("the state key can be read in its file")
	}
	flip := func(i int) []byte { b := bytes.Clone(good); b[i] ^= 1; return b }
	for name, b := range map[string][]byte{
		"empty": {}, "format 0": flip(0), "cut": good[:len(good)-1], "short": good[:20], "long": append(bytes.Clone(good), 0),
		"nonce": flip(1), "end": flip(len(good) - 1), "huge": make([]byte, 300),
	} {
		if err := os.WriteFile(cfg.File, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(inner, cfg)
		if d, ok := errors.AsType[*store.CorruptError](err); !ok || d.Path != cfg.File {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := bytes.Clone(good)
	newer[0] = 2
	if err := os.WriteFile(cfg.File, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	var f *store.FormatError
	if _, err := Open(inner, cfg); !errors.As(err, &f) || f.Found != 2 {
		t.Errorf("newer: %v", err)
	}
	if err := os.WriteFile(cfg.File, good, 0o600); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Folder = testKey(t)
	var d *store.CorruptError
	if _, err := Open(inner, other); !errors.As(err, &d) {
		t.Errorf("another folder key: %v", err)
	}
	// What a write that did not end left is removed; the file counts.
	if err := os.WriteFile(cfg.File+tempSuffix, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(inner, cfg); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(cfg.File + tempSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the remnant is still there: %v", err)
	}
	if err := os.Remove(cfg.File); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(inner, cfg); !errors.As(err, &d) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("without the file: %v", err)
	}
	if _, err := os.Stat(cfg.File); !errors.Is(err, os.ErrNotExist) {
		t.Error("a new state key was made in its place")
	}
}

// replace leaves nothing of what stood there before in the old file's place.
func TestReplaceOverwrites(t *testing.T) {
	path := t.TempDir() + "/f"
	if err := replace(path, []byte("yesterday")); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := replace(path, []byte("today")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 20)
	n, _ := old.Read(b)
	if !bytes.Equal(b[:n], make([]byte, len("yesterday"))) {
		t.Errorf("the old file holds %q", b[:n])
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "today" {
		t.Errorf("the new one holds %q, %v", b, err)
	}
}
