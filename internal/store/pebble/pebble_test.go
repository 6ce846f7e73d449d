package pebble_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t testing.TB, dir string, opt pebble.Options) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	// Both on the real file system, where an fsync is an fsync, and in memory;
	// the small table makes batches overflow into tables.
	for name, opt := range map[string]func() pebble.Options{
		"disk":   func() pebble.Options { return pebble.Options{} },
		"memory": func() pebble.Options { return pebble.Options{FS: vfs.NewMem(), MemTableBytes: 16 << 10} },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "disk" { // an fsync per step: fewer walks
				checks := flag.Lookup("rapid.checks").Value.String()
				flag.Set("rapid.checks", "15")
				defer flag.Set("rapid.checks", checks)
			}
			type place struct {
				dir string
				opt pebble.Options
			}
			places := map[store.Store]place{}
			open := func(t *testing.T, p place) store.Store {
				s := mustOpen(t, p.dir, p.opt)
				places[s] = p
				return s
			}
			base, n := t.TempDir(), 0
			storetest.Run(t,
				func(t *testing.T) store.Store {
					n++
					p := place{dir: filepath.Join(base, fmt.Sprint(n), "store"), opt: opt()}
					return open(t, p)
				},
				func(t *testing.T, s store.Store) store.Store {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					p := places[s]
					delete(places, s)
					return open(t, p)
				})
		})
	}
}

var unit = store.Unit{0: 0xab, 15: 0xcd}

func key(u store.Unit, name string) []byte { return append(u[:], name...) }

func put(u store.Unit, base uint64, name, value string) store.Batch {
	return store.Batch{Unit: u, Base: base, Ops: []store.Op{{Key: key(u, name), Value: []byte(value)}}}
}

func apply(t testing.TB, s store.Store, batches ...store.Batch) {
	t.Helper()
	for _, err := range s.Apply(batches) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLocked(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"disk": nil, "memory": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := mustOpen(t, dir, pebble.Options{FS: fs})
			if _, err := pebble.Open(dir, pebble.Options{FS: fs}); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) {
				t.Errorf("second Open: %v, want ErrLocked and the directory", err)
			}
			apply(t, s, put(unit, 0, "a", "1")) // the first one is unharmed
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, dir, pebble.Options{FS: fs})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The directory is one place by whatever name, and for its owner alone.
func TestDirectory(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	s := mustOpen(t, "a/b/store", pebble.Options{})
	defer s.Close()
	if _, err := pebble.Open(filepath.Join(base, "a/b/store"), pebble.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("Open by the absolute name: %v, want ErrLocked", err)
	}
	info, err := os.Stat("a/b/store")
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", info.Mode(), err)
	}
}

// What the operating system refuses is no damage and no lock.
func TestOpenRefusedByTheSystem(t *testing.T) {
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := pebble.Open(filepath.Join(base, "file"), pebble.Options{})
	var corrupt *store.CorruptError
	if err == nil || errors.Is(err, store.ErrLocked) || errors.As(err, &corrupt) {
		t.Errorf("Open of a file: %v", err)
	}
}

// rewrite sets or deletes a key behind the store's back.
func rewrite(t *testing.T, fs vfs.FS, change func(*engine.DB) error) {
	t.Helper()
	db, err := engine.Open("store", &engine.Options{FS: fs, FormatMajorVersion: engine.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := change(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}

func TestFormat(t *testing.T) {
	formatKey := []byte("\x00format") // the layout of keys.go, spelled out
	for name, c := range map[string]struct {
		change func(*engine.DB) error
		found  uint64
	}{
		"newer": {func(db *engine.DB) error {
			return db.Set(formatKey, binary.BigEndian.AppendUint32(nil, 2), engine.Sync)
		}, 2},
		"older":   {func(db *engine.DB) error { return db.Set(formatKey, make([]byte, 4), engine.Sync) }, 0},
		"missing": {func(db *engine.DB) error { return db.Delete(formatKey, engine.Sync) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := mustOpen(t, "store", pebble.Options{FS: fs})
			apply(t, s, put(unit, 0, "a", "1"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			rewrite(t, fs, c.change)
			before := contents(fs, "store")
			_, err := pebble.Open("store", pebble.Options{FS: fs})
			var e *store.FormatError
			if !errors.As(err, &e) || e.Found != c.found || e.Supported != pebble.Format || e.Path != "store" || e.Of != "store" {
				t.Errorf("Open: %v (%+v)", err, e)
			}
			unchanged(t, before, contents(fs, "store"))
		})
	}
}

// A newer Pebble's files are refused as a format too, not as damage.
func TestEngineFormat(t *testing.T) {
	fs := vfs.NewMem()
	if err := mustOpen(t, "store", pebble.Options{FS: fs}).Close(); err != nil {
		t.Fatal(err)
	}
	writeFiles(fs, "store", map[string]string{"marker.format-version.000099.099": ""})
	before := contents(fs, "store")
	_, err := pebble.Open("store", pebble.Options{FS: fs})
	var e *store.FormatError
	if !errors.As(err, &e) || e.Found != 99 || e.Of != "Pebble" {
		t.Errorf("Open: %v", err)
	}
	unchanged(t, before, contents(fs, "store"))
}

// The keys in Pebble, byte for byte: what an older store holds must stay
// readable until Format changes.
func TestLayoutGolden(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, "store", pebble.Options{FS: fs})
	apply(t, s, put(unit, 0, "a", "1"), put(unit, 1, "", ""))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	rewrite(t, fs, func(db *engine.DB) error {
		it, err := db.NewIter(nil)
		if err != nil {
			return err
		}
		for it.First(); it.Valid(); it.Next() {
			got = append(got, fmt.Sprintf("%x = %x", it.Key(), it.Value()))
		}
		return it.Close()
	})
	want := `00666f726d6174 = 00000001
01ab0000000000000000000000000000cd = 0000000000000002
02ab0000000000000000000000000000cd = 
02ab0000000000000000000000000000cd61 = 31`
	if g := strings.Join(got, "\n"); g != want {
		t.Errorf("stored:\n%s\nwant:\n%s", g, want)
	}
}

// A key of a unit that looks like a revision key or the format key is but a
// key of a unit.
func TestNoCollision(t *testing.T) {
	s := mustOpen(t, "store", pebble.Options{FS: vfs.NewMem()})
	defer s.Close()
	tricky := store.Unit{0: 0x01, 1: 0xab}
	apply(t, s, put(tricky, 0, "", "x"), put(store.Unit{}, 0, "\x00format", "y"), put(unit, 0, "a", "1"))
	for _, u := range []store.Unit{tricky, {}, unit} {
		if r, err := s.Revision(u); err != nil || r != 1 {
			t.Errorf("unit %x: revision %d, %v", u, r, err)
		}
	}
	kvs, more, err := s.Scan(nil, []byte{0xff}, 1<<20)
	if err != nil || more || len(kvs) != 3 {
		t.Errorf("a scan of everything shows %d entries, %v, %v", len(kvs), more, err)
	}
}

// Reads do not see a batch whose fsync is under way, and are not held up by it.
func TestReadsSeeWhatIsDurable(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	fs := &tapFS{FS: vfs.NewMem(), before: func(kind, name string) error {
		if kind == "sync" && strings.HasSuffix(name, ".log") && armed.CompareAndSwap(true, false) {
			close(reached)
			<-release
		}
		return nil
	}}
	s := mustOpen(t, "store", pebble.Options{FS: fs})
	defer s.Close()
	apply(t, s, put(unit, 0, "a", "old"))
	armed.Store(true)
	answer := make(chan error)
	go func() { answer <- s.Apply([]store.Batch{put(unit, 1, "a", "new")})[0] }()
	<-reached
	if v, err := s.Get(key(unit, "a")); err != nil || string(v) != "old" {
		t.Errorf("before the fsync, Get shows %q, %v", v, err)
	}
	if r, err := s.Revision(unit); err != nil || r != 1 {
		t.Errorf("before the fsync, the revision is %d, %v", r, err)
	}
	close(release)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(key(unit, "a")); err != nil || string(v) != "new" {
		t.Errorf("after the fsync, Get shows %q, %v", v, err)
	}
}

// One call is one fsync, calls that wait share one, and a lazy one is none.
func TestGroupCommit(t *testing.T) {
	var syncs atomic.Int32
	var gate sync.Mutex
	fs := &tapFS{FS: vfs.NewMem(), before: func(kind, name string) error {
		if kind == "sync" && strings.HasSuffix(name, ".log") {
			syncs.Add(1)
			gate.Lock()
			defer gate.Unlock()
		}
		return nil
	}}
	s := mustOpen(t, "store", pebble.Options{FS: fs})
	syncs.Store(0)
	var many []store.Batch
	for i := range 50 {
		many = append(many, put(store.Unit{0: byte(i)}, 0, "a", "1"))
	}
	apply(t, s, many...)
	if n := syncs.Load(); n != 1 {
		t.Errorf("50 units in one call: %d fsyncs", n)
	}
	lazy := put(unit, 0, "hint", "1")
	lazy.Lazy = true
	apply(t, s, lazy)
	apply(t, s) // nothing at all
	if n := syncs.Load(); n != 1 {
		t.Errorf("a lazy call: %d fsyncs", n-1)
	}

	gate.Lock() // the first call's fsync stands still until all others wait
	syncs.Store(0)
	const callers = 20
	var done sync.WaitGroup
	call := func(i int) {
		done.Go(func() { apply(t, s, put(store.Unit{0: byte(i)}, 1, "a", "2")) })
	}
	call(0)
	for syncs.Load() == 0 {
		runtime.Gosched()
	}
	for i := range callers - 1 {
		call(i + 1)
	}
	for s.Waiting() < callers-1 {
		runtime.Gosched()
	}
	gate.Unlock()
	done.Wait()
	if n := syncs.Load(); n != 2 {
		t.Errorf("one caller and then %d: %d fsyncs, want 2", callers-1, n)
	}
	for i := range callers {
		if r, err := s.Revision(store.Unit{0: byte(i)}); err != nil || r != 2 {
			t.Errorf("caller %d: revision %d, %v", i, r, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
