package pebble_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/store"
	"parallax/internal/store/pebble"
)

// workload is a row of Apply calls on two units, made so that the store goes
// through new logs, tables and manifests, and what each unit holds after each
// of its batches.
type workload struct {
	calls  [][]store.Batch
	states map[store.Unit][]map[string]string // by revision
}

var left, right = store.Unit{0: 1}, store.Unit{0: 2}

func newWorkload(calls int, size int) *workload {
	w := &workload{states: map[store.Unit][]map[string]string{left: {{}}, right: {{}}}}
	add := func(u store.Unit, lazy bool, ops ...store.Op) store.Batch {
		states := w.states[u]
		now := maps.Clone(states[len(states)-1])
		for _, op := range ops {
			switch {
			case op.To != nil:
				maps.DeleteFunc(now, func(k, _ string) bool { return k >= string(op.Key) && k < string(op.To) })
			case op.Value == nil:
				delete(now, string(op.Key))
			default:
				now[string(op.Key)] = string(op.Value)
			}
		}
		w.states[u] = append(states, now)
		return store.Batch{Unit: u, Base: uint64(len(states) - 1), Ops: ops, Lazy: lazy}
	}
	for i := range calls {
		value := []byte(strings.Repeat(fmt.Sprintf("%03d ", i), size/4))
		entry := func(u store.Unit, name string) store.Op { return store.Op{Key: key(u, name), Value: value} }
		if i%4 == 2 {
			w.calls = append(w.calls, []store.Batch{add(right, true, entry(right, "hint"))})
			continue
		}
		call := []store.Batch{add(left, false, entry(left, "same"), entry(left, fmt.Sprint("new ", i)))}
		switch i % 4 {
		case 1:
			call = append(call, add(right, false, entry(right, "same"), store.Op{Key: key(right, "hint")}))
		case 3:
			call = append(call, add(left, false, store.Op{Key: key(left, "new"), To: key(left, "nex")}))
		}
		w.calls = append(w.calls, call)
	}
	return w
}

// progress is what a caller knows: per unit, the revision up to which all is
// acknowledged for good.
type progress struct {
	mu    sync.Mutex
	acked map[store.Unit]uint64
}

func (p *progress) snapshot() map[store.Unit]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.acked)
}

// run applies the workload until an error.
func (w *workload) run(s store.Store, p *progress) error {
	for _, call := range w.calls {
		for i, err := range s.Apply(call) {
			if err != nil {
				return err
			}
			if !call[i].Lazy {
				p.mu.Lock()
				p.acked[call[i].Unit] = call[i].Base + 1
				p.mu.Unlock()
			}
		}
	}
	return nil
}

// check wants every acknowledged batch in the store and none of the others
// there by half: each unit holds exactly what it held at the revision it has.
func (w *workload) check(s store.Store, acked map[store.Unit]uint64) error {
	for u, states := range w.states {
		r, err := s.Revision(u)
		if err != nil {
			return err
		}
		if r < acked[u] || r >= uint64(len(states)) {
			return fmt.Errorf("unit %x is at revision %d, acknowledged were %d", u[:1], r, acked[u])
		}
		kvs, _, err := s.Scan(u[:], u.End(), 1<<30)
		if err != nil {
			return err
		}
		got := map[string]string{}
		for _, kv := range kvs {
			got[string(kv.Key)] = string(kv.Value)
		}
		if !maps.Equal(got, states[r]) {
			return fmt.Errorf("unit %x at revision %d does not hold what it held then", u[:1], r)
		}
	}
	return nil
}

// recover opens what a crash left, checks it, and goes on working.
func (w *workload) recover(fs vfs.FS, acked map[store.Unit]uint64) error {
	s, err := pebble.Open("store", pebble.Options{FS: fs})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := w.check(s, acked); err != nil {
		return err
	}
	r, err := s.Revision(unit)
	if err != nil {
		return err
	}
	return s.Apply([]store.Batch{put(unit, r, "a", "1")})[0]
}

const smallTable = 8 << 10 // several tables and logs in a small workload

// Kill at any point: before each change that the store makes to the file
// system, what is on the disk with nothing, half or all of what was not synced
// opens again, with everything that was acknowledged by then.
func TestCrashAnywhere(t *testing.T) {
	w := newWorkload(24, 700)
	disk := vfs.NewCrashableMem()
	type crash struct {
		at    string
		acked map[store.Unit]uint64
		disks []*vfs.MemFS
	}
	var crashes []crash
	var mu sync.Mutex // changes come from several goroutines of Pebble
	p := &progress{acked: map[store.Unit]uint64{}}
	fs := &tapFS{FS: disk}
	fs.before = func(kind, name string) error {
		mu.Lock()
		defer mu.Unlock()
		fs.reuse.Lock()
		defer fs.reuse.Unlock()
		c := crash{at: fmt.Sprintf("%d: %s %s", len(crashes), kind, name), acked: p.snapshot()}
		for _, percent := range []int{0, 50, 100} {
			c.disks = append(c.disks, disk.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, uint64(len(crashes)))),
			}))
		}
		crashes = append(crashes, c)
		return nil
	}
	s := mustOpen(t, "store", pebble.Options{FS: fs, MemTableBytes: smallTable})
	if err := w.run(s, p); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, c := range crashes {
		for i, d := range c.disks {
			if err := w.recover(d, c.acked); err != nil {
				t.Errorf("crash before change %s, disk %d: %v", c.at, i, err)
			}
		}
		kinds[suffix(c.at)]++
	}
	t.Logf("%d crash points: %v", len(crashes), kinds)
	for _, k := range []string{"log", "sst", "MANIFEST", "marker"} {
		if kinds[k] == 0 {
			t.Errorf("no crash point at a %s: the workload is too small", k)
		}
	}
}

func suffix(at string) string {
	for _, k := range []string{"MANIFEST", "OPTIONS", "marker", ".log", ".sst"} {
		if strings.Contains(at, k) {
			return strings.TrimPrefix(k, ".")
		}
	}
	return "other"
}

// A disk that is full from the k-th change on, and one that fails once, for
// every k: the store stops acknowledging, and healthy again it has all that it
// acknowledged, whether or not what was not synced survived.
func TestDiskFull(t *testing.T) {
	for name, once := range map[string]bool{"full": false, "once": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorkload(16, 700)
			k := 0
			for ; ; k++ {
				if done := diskFull(t, w, k, once); done {
					break
				}
			}
			t.Logf("%d changes, each refused", k)
			if k < 50 {
				t.Errorf("only %d changes: the workload is too small", k)
			}
		})
	}
}

// diskFull runs the workload with the k-th change refused; it is done if there
// were fewer.
func diskFull(t *testing.T, w *workload, k int, once bool) (done bool) {
	disk := vfs.NewCrashableMem()
	if err := disk.MkdirAll("/", 0o700); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	var refused atomic.Value
	fs := &tapFS{FS: disk, before: func(kind, name string) error {
		if kind == "remove" { // makes room
			return nil
		}
		if i := n.Add(1) - 1; i < int64(k) || once && i > int64(k) {
			return nil
		}
		refused.CompareAndSwap(nil, kind+" "+name)
		return syscall.ENOSPC
	}}
	p := &progress{acked: map[store.Unit]uint64{}}
	book := &logBook{}
	s, err := pebble.Open("store", pebble.Options{FS: fs, MemTableBytes: smallTable, Log: book.log})
	if err == nil {
		err = w.run(s, p)
		if err != nil {
			// Sticky: no later call is acknowledged or shows anything.
			again := s.Apply([]store.Batch{put(unit, 0, "a", "1")})[0]
			_, read := s.Get(key(left, "same"))
			for _, e := range []error{again, read} {
				if !errors.Is(e, syscall.ENOSPC) || !strings.Contains(e.Error(), "store") {
					t.Errorf("k %d (%v): a later call: %v", k, refused.Load(), e)
				}
			}
		}
		closed := s.Close()
		if lines := book.read(); len(lines) > 1 || len(lines) == 0 && closed != nil {
			t.Errorf("k %d (%v): logged %q, want the failure once", k, refused.Load(), lines)
		}
		if refused.Load() != nil && !errors.Is(closed, syscall.ENOSPC) {
			t.Errorf("k %d (%v): Close: %v", k, refused.Load(), closed)
		}
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("k %d (%v): %v", k, refused.Load(), err)
	}
	for _, percent := range []int{0, 50, 100} {
		after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(2, uint64(k)))})
		if err := w.recover(after, p.acked); err != nil {
			t.Errorf("k %d (%v), %d%% of the unsynced kept: %v", k, refused.Load(), percent, err)
		}
	}
	return refused.Load() == nil
}

// After a failed write the directory is left alone, Close included.
func TestFenceKeepsTheDirectory(t *testing.T) {
	disk := vfs.NewMem()
	var broken atomic.Bool
	fs := &tapFS{FS: disk, before: func(kind, name string) error {
		if kind == "sync" && strings.HasSuffix(name, ".log") && broken.Load() {
			return syscall.EIO
		}
		return nil
	}}
	s := mustOpen(t, "store", pebble.Options{FS: fs, MemTableBytes: smallTable})
	apply(t, s, put(unit, 0, "a", "1"))
	broken.Store(true)
	if err := s.Apply([]store.Batch{put(unit, 1, "a", "2")})[0]; !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "store") {
		t.Fatalf("Apply with a failing fsync: %v", err)
	}
	before := contents(disk, "store")
	broken.Store(false) // the disk pretends to be well again
	for range 5 {
		if err := s.Apply([]store.Batch{put(unit, 1, "a", strings.Repeat("x", smallTable))})[0]; !errors.Is(err, syscall.EIO) {
			t.Errorf("Apply after a failure: %v", err)
		}
	}
	if err := s.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close after a failure: %v", err)
	}
	unchanged(t, before, contents(disk, "store"))
}
