package guarded

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/store/pebble"
	"parallax/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var other = store.Unit{0xaa}

// fixture is one guarded store over a memory engine, and how often it was told
// that the store is an older copy.
type fixture struct {
	t     testing.TB
	mem   *memory.Store
	path  string
	told  int
	g     *Store
	every time.Duration
}

func newFixture(t testing.TB, dir string) *fixture {
	return &fixture{t: t, mem: memory.New(), path: filepath.Join(dir, "guard"), every: time.Hour}
}

func (f *fixture) open() {
	f.t.Helper()
	g, err := Open(f.mem.Front(), Options{Path: f.path, Every: f.every, Restored: func(store.Store) error { f.told++; return nil }})
	if err != nil {
		f.t.Fatal(err)
	}
	f.g = g
}

func (f *fixture) close() {
	f.t.Helper()
	if err := f.g.Close(); err != nil {
		f.t.Fatal(err)
	}
}

// crash ends the process: the file stays as it was.
func (f *fixture) crash() {
	f.t.Helper()
	was, err := os.ReadFile(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.close()
	if err := os.WriteFile(f.path, was, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) write(lazy bool) {
	f.t.Helper()
	base, err := f.g.Revision(other)
	if err == nil {
		err = f.g.Apply([]store.Batch{{Unit: other, Base: base, Lazy: lazy, Ops: []store.Op{{Key: append(other[:], 1), Value: []byte{1}}}}})[0]
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestOlderCopy: the sentences of the package comment, one by one.
func TestOlderCopy(t *testing.T) {
	f := newFixture(t, t.TempDir())
	expect := func(what string, told int) {
		t.Helper()
		f.open()
		if f.told != told {
			t.Errorf("%s: told %d times, want %d", what, f.told, told)
		}
	}
	expect("a new store", 0)
	f.write(false)
	f.write(false)
	f.close()
	old := f.mem.Snapshot()
	expect("ended and opened", 0)
	f.write(true)
	f.close()
	lazy := f.mem
	f.mem = old.Snapshot()
	expect("a lazy write is lost", 0)
	f.close()
	f.mem = lazy
	expect("there again", 0)
	f.write(false)
	f.crash()
	expect("crashed: the file is behind", 0)
	f.close()
	now := f.mem
	f.mem = old.Snapshot()
	expect("an older copy", 1)
	f.write(false)
	f.crash()
	expect("it is told once", 1)
	f.close()
	f.mem = now
	expect("the copy of before is older now", 2)
	f.close()
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	expect("the file is gone", 3)
	f.close()
	f.mem = memory.New()
	expect("an empty store", 4)
	f.close()
	// Store and file of one time come back together: nobody can tell.
	before, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	old = f.mem.Snapshot()
	expect("", 4)
	f.write(false)
	f.close()
	if err := os.WriteFile(f.path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	f.mem = old
	expect("both are older", 4)
	f.close()
}

// The suite of all engines, through the guard: it takes nothing away.
func TestStore(t *testing.T) {
	under := map[store.Store]*fixture{}
	open := func(t *testing.T, f *fixture) store.Store {
		f.open()
		if f.told > 0 {
			t.Error("the store counts as an older copy")
		}
		under[f.g] = f
		return f.g
	}
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, newFixture(t, t.TempDir())) },
		func(t *testing.T, s store.Store) store.Store {
			f := under[s]
			f.close()
			return open(t, f)
		})
}

// A restore that cannot be marked is not forgotten.
func TestRestoredFails(t *testing.T) {
	f := newFixture(t, t.TempDir())
	f.open()
	old := f.mem.Snapshot()
	f.write(false)
	f.close()
	f.mem = old
	broken := errors.New("broken")
	for range 2 {
		if _, err := Open(f.mem.Front(), Options{Path: f.path, Restored: func(store.Store) error { return broken }}); !errors.Is(err, broken) {
			t.Fatalf("opened: %v", err)
		}
	}
	if f.open(); f.told != 1 {
		t.Errorf("told %d times", f.told)
	}
	f.close()
}

// TestNoFalseAlarm: whatever happens to one store, in any order, it is an older
// copy only when one was put back that lacks a write which the file names.
func TestNoFalseAlarm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "guard")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		f := newFixture(t, dir)
		f.open()
		writes, filed := 0, 0 // durable ones, and how many the file names
		var copied *memory.Store
		had, want := 0, 0
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				f.write(false)
				writes++
			case 2:
				f.write(true)
			case 3:
				f.close()
				filed = writes
				f.open()
			case 4:
				f.crash()
				f.open()
			case 5:
				if copied == nil {
					copied, had = f.mem.Snapshot(), writes
					continue
				}
				f.crash()
				f.mem, copied = copied, nil
				if had < filed {
					want++
				}
				writes = had
				if f.open(); want > 0 {
					// Counted anew, the rest of the walk compares other numbers.
					if f.told != want {
						rt.Fatalf("an older copy was told of %d times, want %d", f.told, want)
					}
					f.close()
					return
				}
			}
			if f.told != want {
				rt.Fatalf("told %d times, want %d", f.told, want)
			}
		}
		f.close()
	})
}

// The file follows by itself, and a disk that takes nothing is told of once.
func TestFollows(t *testing.T) {
	f := newFixture(t, t.TempDir())
	var mu sync.Mutex
	var said []error
	g, err := Open(f.mem.Front(), Options{Path: f.path, Every: time.Millisecond, Restored: nil,
		Log: func(err error) { mu.Lock(); defer mu.Unlock(); said = append(said, err) }})
	if err != nil {
		t.Fatal(err)
	}
	f.g = g
	until := func(n uint64) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if got, _, err := readFile(f.path); err == nil && got == n {
				return
			}
		}
		t.Fatalf("the file never says %d", n)
	}
	f.write(false)
	until(1)
	if err := os.Mkdir(f.path+temp, 0o700); err != nil {
		t.Fatal(err)
	}
	f.write(false)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		mu.Lock()
		n := len(said)
		mu.Unlock()
		if n > 0 {
			break
		}
	}
	time.Sleep(10 * time.Millisecond)
	if err := os.Remove(f.path + temp); err != nil {
		t.Fatal(err)
	}
	until(2)
	if mu.Lock(); len(said) != 1 {
		t.Errorf("said %v", said)
	}
	mu.Unlock()
	f.write(false)
	f.close()
	until(3)
	f.close() // twice is once
}

// refuses is an engine that takes everything but the count.
type refuses struct{ store.Store }

func (r refuses) Apply(b []store.Batch) []error {
	errs := r.Store.Apply(b)
	if b[0].Unit == unit {
		errs[0] = errors.New("no")
	}
	return errs
}

// What is not counted is not answered for.
func TestUncounted(t *testing.T) {
	g, err := Open(refuses{memory.New().Front()}, Options{Path: filepath.Join(t.TempDir(), "guard")})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Apply([]store.Batch{{Unit: other}})[0]; err == nil {
		t.Error("a write that was not counted is durable")
	}
	if err := g.Apply([]store.Batch{{Unit: other, Base: 1, Lazy: true}})[0]; err != nil {
		t.Errorf("a lazy write: %v", err)
	}
}

func TestFile(t *testing.T) {
	good := encode(0x0102030405060708)
	if got, want := hex.EncodeToString(good), "010102030405060708793da363cec9055a"; got != want {
		t.Errorf("the file is %s", got)
	}
	path := filepath.Join(t.TempDir(), "guard")
	for name, c := range map[string]struct {
		content []byte
		newer   bool
	}{
		"cut": {good[:16], false}, "longer": {append(encode(1), 0), false}, "empty": {nil, false},
		"altered": {append([]byte{1, 9}, good[2:]...), false}, "newer": {append([]byte{2}, good[1:]...), true},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(memory.New().Front(), Options{Path: path})
		f, newer := errors.AsType[*store.FormatError](err)
		d, damaged := errors.AsType[*store.CorruptError](err)
		if newer != c.newer || damaged == c.newer || newer && f.Path != path || damaged && d.Path != path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(0))
	f.Add(encode(1 << 40))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parse(b); err == nil && string(encode(n)) != string(b) {
			t.Errorf("%x is read as %d", b, n)
		}
	})
}

// BenchmarkApply measures one durable batch through the guard beside the same
// engine without, in turns, so that both meet the same disk.
func BenchmarkApply(b *testing.B) {
	open := func() store.Store {
		s, err := pebble.Open(filepath.Join(b.TempDir(), "store"), pebble.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	g, err := Open(open(), Options{Path: filepath.Join(b.TempDir(), "guard")})
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	floor := open()
	defer floor.Close()
	value := make([]byte, 1024)
	var took [2]time.Duration
	n := uint64(0)
	for b.Loop() {
		for i := range 2 {
			which := (int(n) + i) % 2 // who goes first changes
			start := time.Now()
			if err := []store.Store{floor, g}[which].Apply([]store.Batch{{Unit: other, Base: n, Ops: []store.Op{{Key: append(other[:], byte(n)), Value: value}}}})[0]; err != nil {
				b.Fatal(err)
			}
			took[which] += time.Since(start)
		}
		n++
	}
	b.ReportMetric(float64(took[1])/float64(n), "guarded-ns")
	b.ReportMetric(float64(took[0])/float64(n), "floor-ns")
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "x/floor")
}
