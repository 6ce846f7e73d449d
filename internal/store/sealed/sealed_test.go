package sealed

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/store/pebble"
	"parallax/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	unit  = store.Unit{0: 0xab, 15: 0xcd}
	start = time.Unix(1_800_000_000, 0)
	kinds = []byte{'s', 'v', 0xff}
)

func testKey(t testing.TB) *FolderKey {
	t.Helper()
	k, err := NewFolderKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// config is of a state key file in a folder of its own.
func config(t testing.TB) Config {
	return Config{Folder: testKey(t), File: filepath.Join(t.TempDir(), "statekey"), Kinds: kinds, Entropy: rand.Reader, Now: start, Path: "STORE"}
}

func mustOpen(t testing.TB, inner store.Store, cfg Config) *Store {
	t.Helper()
	s, err := Open(inner, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	type place struct {
		cfg Config
		dir string
		fs  vfs.FS
	}
	for name, open := range map[string]func(t *testing.T, p place, from *Store) store.Store{
		"memory": func(t *testing.T, _ place, from *Store) store.Store {
			if from == nil {
				return memory.New()
			}
			return from.inner.(*memory.Store).Snapshot()
		},
		"pebble": func(t *testing.T, p place, _ *Store) store.Store {
			s, err := pebble.Open(p.dir, pebble.Options{FS: p.fs, MemTableBytes: 16 << 10})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			checks := flag.Lookup("rapid.checks").Value.String()
			flag.Set("rapid.checks", "40")
			defer flag.Set("rapid.checks", checks)
			places := map[store.Store]place{}
			storetest.Run(t,
				func(t *testing.T) store.Store {
					p := place{config(t), "store", vfs.NewMem()}
					s := mustOpen(t, open(t, p, nil), p.cfg)
					places[s] = p
					return s
				},
				func(t *testing.T, s store.Store) store.Store {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					p := places[s]
					again := mustOpen(t, open(t, p, s.(*Store)), p.cfg)
					places[again] = p
					return again
				})
		})
	}
}

func record(u store.Unit, name string) []byte { return append(u[:], name...) }

func apply(t testing.TB, s store.Store, u store.Unit, ops ...store.Op) {
	t.Helper()
	base, err := s.Revision(u)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply([]store.Batch{{Unit: u, Base: base, Ops: ops}})[0]; err != nil {
		t.Fatal(err)
	}
}

func put(u store.Unit, name, value string) store.Op {
	return store.Op{Key: record(u, name), Value: []byte(value)}
}

// raw is all that the inner store holds.
func raw(t testing.TB, s store.Store) []store.KV {
	t.Helper()
	kvs, _, err := s.Scan(nil, lastKey, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return kvs
}

func TestClasses(t *testing.T) {
	s := mustOpen(t, memory.New(), config(t))
	apply(t, s, unit, put(unit, "m", "one"), put(unit, "s", "two"), put(unit, "v", ""), put(unit, "", "three"), put(unit, "\xff", "four"), put(unit, "as", "five"))
	want := map[string]byte{"m": 0, "s": 1, "v": 1, "": 0, "\xff": 1, "as": 0}
	for _, kv := range raw(t, s.inner) {
		name := string(kv.Key[16:])
		if kv.Value[0] != 0 || kv.Value[1] != want[name] {
			t.Errorf("%q is sealed with key %x, want %d", name, kv.Value[:2], want[name])
		}
		delete(want, name)
	}
	if len(want) != 0 {
		t.Errorf("missing %v", want)
	}
}

// No value opens under another record's name, another unit's, another class,
// after a flipped bit, or shortened; the error names the record.
func TestDamagedValues(t *testing.T) {
	inner := memory.New()
	cfg := config(t)
	s := mustOpen(t, inner, cfg)
	other := store.Unit{1}
	apply(t, s, unit, put(unit, "ma", "secret"), put(unit, "mb", "secret"), put(unit, "sa", "secret"))
	good := map[string][]byte{}
	for _, kv := range raw(t, inner) {
		good[string(kv.Key[16:])] = kv.Value
	}
	flip := func(v []byte, i int) []byte { v = bytes.Clone(v); v[i] ^= 1; return v }
	a := good["ma"]
	for name, c := range map[string]struct {
		key   []byte
		value []byte
		why   string
	}{
		"of another record": {record(unit, "ma"), good["mb"], "does not open"},
		"of another unit":   {record(other, "ma"), a, "does not open"},
		"of another class":  {record(unit, "ma"), good["sa"], "does not open"},
		"id to state key":   {record(unit, "ma"), flip(a, 1), "does not open"},
		"id unknown":        {record(unit, "ma"), flip(a, 0), "sealed with state key 256, which is gone"},
		"nonce":             {record(unit, "ma"), flip(a, 2), "does not open"},
		"first byte":        {record(unit, "ma"), flip(a, 26), "does not open"},
		"last byte":         {record(unit, "ma"), flip(a, len(a)-1), "does not open"},
		"cut":               {record(unit, "ma"), a[:len(a)-1], "does not open"},
		"cut to nothing":    {record(unit, "ma"), a[:41], "41 bytes"},
		"empty":             {record(unit, "ma"), []byte{}, "0 bytes"},
		"longer":            {record(unit, "ma"), append(bytes.Clone(a), 0), "does not open"},
	} {
		apply(t, inner, store.Unit(c.key), store.Op{Key: c.key, Value: c.value})
		_, err := s.Get(c.key)
		d, ok := errors.AsType[*store.CorruptError](err)
		if !ok || !strings.Contains(err.Error(), c.why) || !strings.Contains(d.Path, fmt.Sprintf("%x/'m'/61", c.key[:16])) || !strings.Contains(d.Path, "STORE") {
			t.Errorf("%s: Get: %v, want %q", name, err, c.why)
		}
		if _, _, err := s.Scan(c.key, append(c.key, 0), 1); !errors.As(err, &d) {
			t.Errorf("%s: Scan: %v", name, err)
		}
	}
	apply(t, inner, unit, store.Op{Key: record(unit, "ma"), Value: a})
	if v, err := s.Get(record(unit, "ma")); err != nil || string(v) != "secret" {
		t.Errorf("the true value again: %q, %v", v, err)
	}
}

// Of what is written nothing is to be read in the inner store, and two equal
// values are not seen to be equal.
func TestNothingReadable(t *testing.T) {
	s := mustOpen(t, memory.New(), config(t))
	secret := strings.Repeat("plain words ", 20)
	for range 3 {
		apply(t, s, unit, put(unit, "a", secret), put(unit, "b", secret), put(unit, "s", secret))
		seen := map[string]bool{}
		for _, kv := range raw(t, s.inner) {
			if bytes.Contains(kv.Value, []byte("plain")) || len(kv.Value) != len(secret)+overhead {
				t.Errorf("value %q", kv.Value)
			}
			seen[string(kv.Value[2:26])] = true
			seen[string(kv.Value[26:])] = true
		}
		if len(seen) != 6 {
			t.Errorf("%d different nonces and values, want 6", len(seen))
		}
	}
}

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, errors.New("no entropy") }

func TestNoEntropy(t *testing.T) {
	cfg := config(t)
	inner := memory.New()
	s := mustOpen(t, inner, cfg)
	s.cfg.Entropy = empty{}
	errs := s.Apply([]store.Batch{{Unit: unit, Ops: []store.Op{put(unit, "a", "x")}}, {Unit: unit}})
	if len(errs) != 2 || errs[0] == nil || errs[1] == nil || len(raw(t, inner)) != 0 {
		t.Errorf("without entropy: %v", errs)
	}
}

// While a reader has the store frozen no batch gets in, and reads go on.
func TestFrozen(t *testing.T) {
	s := mustOpen(t, memory.New(), config(t))
	apply(t, s, unit, put(unit, "a", "1"))
	wrote := make(chan error, 1)
	err := s.Frozen(func(r store.Reader) error {
		go func() {
			wrote <- s.Apply([]store.Batch{{Unit: unit, Base: 1, Ops: []store.Op{put(unit, "a", "2")}}})[0]
		}()
		time.Sleep(20 * time.Millisecond)
		for range 2 {
			if v, err := s.Get(record(unit, "a")); err != nil || string(v) != "1" {
				t.Errorf("Get meanwhile: %q, %v", v, err)
			}
		}
		if n, err := r.Revision(unit); n != 1 || err != nil {
			t.Errorf("revision %d, %v", n, err)
		}
		kvs, _, err := r.Scan(unit[:], unit.End(), 1<<20)
		if err != nil || len(kvs) != 1 || string(kvs[0].Value) != "1" {
			t.Errorf("frozen Scan: %q, %v", kvs, err)
		}
		return err
	})
	if e := <-wrote; err != nil || e != nil {
		t.Fatal(err, e)
	}
	if v, err := s.Get(record(unit, "a")); err != nil || string(v) != "2" {
		t.Errorf("afterwards: %q, %v", v, err)
	}
}
