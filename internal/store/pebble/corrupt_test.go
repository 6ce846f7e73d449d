package pebble_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/store"
	"parallax/internal/store/pebble"
)

func unchanged(t *testing.T, before, after map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[name]; !ok {
			t.Errorf("%s was removed", name)
		} else if now != before[name] {
			t.Errorf("%s was changed", name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s was added", name)
		}
	}
}

// sample is a closed store with tables, a log and a manifest of several
// records, and the workload that filled it, the first half from before it was
// opened again.
func sample(t testing.TB) (map[string]string, *workload, map[store.Unit]uint64) {
	t.Helper()
	w := newWorkload(24, 700)
	fs := vfs.NewMem()
	p := &progress{acked: map[store.Unit]uint64{}}
	for _, calls := range [][][]store.Batch{w.calls[:12], w.calls[12:]} {
		s := mustOpen(t, "store", pebble.Options{FS: fs, MemTableBytes: smallTable})
		if err := (&workload{calls: calls}).run(s, p); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return contents(fs, "store"), w, p.acked
}

// live names the newest file that begins or ends with kind.
func live(t *testing.T, files map[string]string, kind string) string {
	t.Helper()
	var name string
	for n := range files {
		if (strings.HasPrefix(n, kind) || strings.HasSuffix(n, kind)) && n > name {
			name = n
		}
	}
	if name == "" {
		t.Fatalf("the sample has no %s among %q", kind, slices.Sorted(maps.Keys(files)))
	}
	return name
}

func flip(s string, at int) string { return s[:at] + string(s[at]^0x40) + s[at+1:] }

func TestDamageIsRefused(t *testing.T) {
	files, _, _ := sample(t)
	manifest, table := live(t, files, "MANIFEST"), live(t, files, ".sst")
	options := live(t, files, "OPTIONS")
	garbage := strings.Repeat("no manifest ", 50)
	for name, c := range map[string]struct {
		change func(map[string]string)
		path   string // what CorruptError names
	}{
		"manifest missing":        {func(f map[string]string) { delete(f, manifest) }, manifest},
		"manifest empty":          {func(f map[string]string) { f[manifest] = "" }, manifest},
		"manifest garbage":        {func(f map[string]string) { f[manifest] = garbage }, manifest},
		"manifest zeroed":         {func(f map[string]string) { f[manifest] = strings.Repeat("\x00", len(f[manifest])) }, manifest},
		"manifest first record":   {func(f map[string]string) { f[manifest] = flip(f[manifest], 8) }, manifest},
		"manifest middle":         {func(f map[string]string) { f[manifest] = flip(f[manifest], len(f[manifest])/2) }, manifest},
		"manifest last byte":      {func(f map[string]string) { f[manifest] = flip(f[manifest], len(f[manifest])-1) }, manifest},
		"manifest marker missing": {func(f map[string]string) { delete(f, live(t, f, "marker.manifest")) }, "marker.manifest"},
		"manifest marker garbage": {func(f map[string]string) {
			m := live(t, f, "marker.manifest")
			delete(f, m)
			f[m[:len("marker.manifest.000001.")]+"nonsense"] = ""
		}, ""},
		"marker malformed": {func(f map[string]string) { f["marker.x"] = "" }, ""},
		"table missing":    {func(f map[string]string) { delete(f, table) }, table},
		"table cut":        {func(f map[string]string) { f[table] = f[table][:len(f[table])-10] }, table},
		"table empty":      {func(f map[string]string) { f[table] = "" }, table},
		"options garbage":  {func(f map[string]string) { f[options] = "[Version\n\x00\x01" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			broken := maps.Clone(files)
			c.change(broken)
			writeFiles(fs, "store", broken)
			_, err := pebble.Open("store", pebble.Options{FS: fs})
			var e *store.CorruptError
			if !errors.As(err, &e) {
				t.Fatalf("Open: %v, want CorruptError", err)
			}
			if want := path.Join("store", c.path); e.Path != want && c.path != "" {
				t.Errorf("Open names %s, want %s: %v", e.Path, want, err)
			}
			if !strings.Contains(err.Error(), "store") {
				t.Errorf("the text does not say where: %v", err)
			}
			unchanged(t, broken, contents(fs, "store"))
			// The refusal leaves the lock free, and mended files open.
			if err := fs.RemoveAll("store"); err != nil {
				t.Fatal(err)
			}
			writeFiles(fs, "store", files)
			if s, err := pebble.Open("store", pebble.Options{FS: fs}); err != nil {
				t.Errorf("mended: %v", err)
			} else {
				s.Close()
			}
		})
	}
}

// lazyFrom is where the lazy records of logSample have begun: before are the
// format number, which was fsynced, and the first record, which says so.
const lazyFrom = 100

// logSample is a closed store with all its batches, this many, in one log:
// batch i puts the value i under one key, in records of about 200 bytes, some
// over the end of a block of the log.
func logSample(t *testing.T, batches int, lazy bool) (files map[string]string, log string) {
	t.Helper()
	fs := vfs.NewMem()
	s := mustOpen(t, "store", pebble.Options{FS: fs})
	for i := range batches {
		b := put(unit, uint64(i), "a", fmt.Sprintf("%0150d", i))
		b.Lazy = lazy
		apply(t, s, b)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files = contents(fs, "store")
	return files, live(t, files, ".log")
}

// A log that is damaged before the last fsync is refused, in its last block
// too, which Pebble takes for cut off. The damage is found wherever a durable
// batch follows, and never when only lazy ones do: a crash may do the same.
func TestDamagedLog(t *testing.T) {
	const batches = 220
	rng := rand.New(rand.NewPCG(5, 6))
	for name, lazy := range map[string]bool{"durable": false, "lazy": true} {
		t.Run(name, func(t *testing.T) {
			files, log := logSample(t, batches, lazy)
			size := len(files[log])
			if size < 40<<10 {
				t.Fatalf("the log has %d bytes, less than two blocks", size)
			}
			lost := 0
			for i := range 75 {
				at := rng.IntN(size)
				if i%2 == 0 { // at the end there are most outcomes
					at = size - 1 - rng.IntN(600)
				}
				broken := maps.Clone(files)
				broken[log] = flip(broken[log], at)
				fs := vfs.NewMem()
				writeFiles(fs, "store", broken)
				s, err := pebble.Open("store", pebble.Options{FS: fs})
				if err != nil {
					var e *store.CorruptError
					if !errors.As(err, &e) || e.Path != "store/"+log {
						t.Errorf("byte %d of %d: %v", at, size, err)
					}
					if lazy && at >= lazyFrom {
						t.Errorf("byte %d of %d: refused, though a crash may do this: %v", at, size, err)
					}
					unchanged(t, broken, contents(fs, "store"))
					continue
				}
				r, err := s.Revision(unit)
				if err != nil {
					t.Errorf("byte %d of %d: %v", at, size, err)
				} else if v, err := s.Get(key(unit, "a")); r > 0 && (err != nil || string(v) != fmt.Sprintf("%0150d", r-1)) {
					t.Errorf("byte %d of %d: at revision %d the value is %q, %v", at, size, r, v, err)
				}
				if r < batches {
					lost++
				}
				if !lazy && r < batches-1 {
					t.Errorf("byte %d of %d: %d of %d batches are gone without a word", at, size, batches-r, batches)
				}
				s.Close()
			}
			if lost == 0 {
				t.Error("no batch was ever lost: what cannot be told was not met")
			}
		})
	}
}

// What a crash amid making a store leaves is made anew, whatever reached the
// disk of it.
func TestMakingWasCutOff(t *testing.T) {
	files, _, _ := sample(t)
	manifest := live(t, files, "MANIFEST")
	for name, left := range map[string]map[string]string{
		"nothing":  {},
		"manifest": {manifest: files[manifest][:60]},
		"marker":   {"marker.manifest.000001." + manifest: ""},
	} {
		fs := vfs.NewMem()
		writeFiles(fs, "store", left)
		s, err := pebble.Open("store", pebble.Options{FS: fs})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		apply(t, s, put(unit, 0, "a", "1"))
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A damaged block of a table shows when it is read: by name, and only there.
func TestDamagedTableIsNamedByReads(t *testing.T) {
	files, w, _ := sample(t)
	var hit int
	for name := range files {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		fs := vfs.NewMem()
		broken := maps.Clone(files)
		broken[name] = flip(broken[name], 100) // in the first block of data
		writeFiles(fs, "store", broken)
		s, err := pebble.Open("store", pebble.Options{FS: fs})
		if err == nil {
			err = w.check(s, nil)
			s.Close()
		}
		var e *store.CorruptError
		if !errors.As(err, &e) || e.Path != "store/"+name {
			t.Errorf("%s damaged: %v", name, err)
			continue
		}
		hit++
	}
	if hit == 0 {
		t.Error("no table was damaged")
	}
}

// One flipped bit anywhere is refused with a type, met later by a read, or
// without effect; it never panics, and a refused store keeps its bytes. Only
// the last record of a log may be lost by it: there, damage and a write that a
// crash cut off look the same.
func TestFlippedBits(t *testing.T) {
	files, w, acked := sample(t)
	names := slices.Sorted(maps.Keys(files))
	rng := rand.New(rand.NewPCG(3, 4))
	outcomes := map[string]int{}
	// How large each file is depends on when the engine compacts: few flips may hit
	// what only a read meets.
	for i := 0; i < 300 || i < 3000 && outcomes["met by a read"] == 0; i++ {
		name := names[rng.IntN(len(names))]
		if len(files[name]) == 0 {
			continue
		}
		at := rng.IntN(len(files[name]))
		where := fmt.Sprintf("flip %d: byte %d of %d in %s", i, at, len(files[name]), name)
		broken := maps.Clone(files)
		broken[name] = files[name][:at] + string(files[name][at]^(1<<rng.IntN(8))) + files[name][at+1:]
		fs := vfs.NewMem()
		writeFiles(fs, "store", broken)
		s, err := pebble.Open("store", pebble.Options{FS: fs})
		if err != nil {
			var corrupt *store.CorruptError
			var format *store.FormatError
			if !errors.As(err, &corrupt) && !errors.As(err, &format) {
				t.Errorf("%s: Open: %v", where, err)
			}
			unchanged(t, broken, contents(fs, "store"))
			outcomes["refused"]++
			continue
		}
		var corrupt *store.CorruptError
		switch err := w.check(s, acked); {
		case err == nil:
			outcomes["harmless"]++
		case errors.As(err, &corrupt):
			outcomes["met by a read"]++
		case w.check(s, nil) == nil && strings.HasSuffix(name, ".log"):
			outcomes["end of log lost"]++
		default:
			t.Errorf("%s: %v", where, err)
		}
		s.Close()
	}
	t.Log(outcomes)
	if outcomes["refused"] == 0 || outcomes["met by a read"] == 0 {
		t.Errorf("too tame: %v", outcomes)
	}
}

// The parsers of Pebble's files take any bytes, and refuse by the one type.
func FuzzFrames(f *testing.F) {
	files, _, _ := sample(f)
	for name, data := range files {
		if strings.HasPrefix(name, "MANIFEST") || strings.HasSuffix(name, ".log") {
			f.Add([]byte(data), uint32(16))
		}
	}
	f.Add([]byte{}, uint32(0))
	f.Add(append(make([]byte, 32<<10-5), 1, 2, 3, 4, 5, 6, 7, 8), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, number uint32) {
		fs := vfs.NewMem()
		writeFiles(fs, "store", map[string]string{"file": string(data)})
		for _, err := range []error{pebble.CheckManifest(fs, "store/file"), pebble.CheckLog(fs, "store/file", number)} {
			if err != nil && !engine.IsCorruptionError(err) {
				t.Error(err)
			}
		}
	})
}
