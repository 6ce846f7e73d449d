// Package guarded notices that a store was put back to an older copy of itself
// (docs/protocol.md section 12). It counts the durable writes, in the store with
// each of them, and in a file outside the store that follows a moment later. A
// store whose count is below the file's has lost what it once had made durable.
//
// Guarantee: no crash looks like a restore. The file names only writes that were
// durable before it was written, so after a crash it is behind the store, never
// ahead. What it does not notice: a copy that brings the file back too, and one
// that lacks only what was written within Every before the process was killed.
//
// A Store is safe for concurrent use; calls of Apply follow each other, so their
// batches should be gathered before, as drivers do.
package guarded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parallax/internal/store"
	"parallax/internal/wire"
)

// DefaultEvery is how often the file follows the store, while that is written.
const DefaultEvery = time.Second

const (
	format   = 1
	fileSize = 1 + 8 + 8 // format, count, check
	tagFile  = "parallax/1/store-guard"
	keyCount = 'c'
	temp     = ".new" // of a file that is about to take the place of another one
)

// unit is where the count lies: after all others, which are hashes.
var unit = store.Unit(bytes.Repeat([]byte{0xff}, len(store.Unit{})))

var errGuard = errors.New("not the guard of a store")

// Options tell how to open. Path and Restored are required.
type Options struct {
	Path  string        // of the file, outside of the store's directory
	Every time.Duration // zero: DefaultEvery
	// Restored is called once, before Open returns, when the store is older than
	// the file, or has a count and the file is gone. When it fails so does Open,
	// and the next one calls it again.
	Restored func(store.Store) error
	// Log is told when the file cannot be written, once until it can; nil: nobody.
	Log func(error)
}

// Store is the store that it was opened on, counted.
type Store struct {
	store.Store
	opt     Options
	durable atomic.Uint64
	stop    chan struct{}
	ended   chan struct{}
	closing sync.Once
	closed  error

	apply sync.Mutex // base and count
	base  uint64     // revision of unit
	count uint64     // of the newest write

	written uint64 // in the file; of the goroutine that follows
}

// Open compares file and store and begins to follow. The caller keeps s when it
// fails. Errors: *store.CorruptError and *store.FormatError about the file, what
// Restored answers, or what the operating system refused.
func Open(s store.Store, opt Options) (*Store, error) {
	if opt.Every == 0 {
		opt.Every = DefaultEvery
	}
	if opt.Log == nil {
		opt.Log = func(error) {}
	}
	g := &Store{Store: s, opt: opt, stop: make(chan struct{}), ended: make(chan struct{})}
	if err := g.read(); err != nil {
		return nil, err
	}
	known, found, err := readFile(opt.Path)
	if err != nil {
		return nil, err
	}
	if g.count < known || !found && g.count > 0 {
		if err := opt.Restored(s); err != nil {
			return nil, err
		}
		// From here on the store is ahead of every file of its earlier life.
		if err := s.Apply([]store.Batch{g.step(max(known, g.count) + 1)})[0]; err != nil {
			return nil, fmt.Errorf("counting the writes of the store: %w", err)
		}
		g.base, g.count = g.base+1, max(known, g.count)+1
		known, found = 0, false
	}
	g.durable.Store(g.count)
	if g.written = known; !found { // so that a store with a count has had a file
		if err := g.follow(g.count); err != nil {
			return nil, err
		}
	}
	go g.run()
	return g, nil
}

func (g *Store) read() (err error) {
	if g.base, err = g.Revision(unit); err != nil {
		return err
	}
	v, err := g.Get(append(unit[:], keyCount))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil && len(v) != 8 {
		err = fmt.Errorf("the count of the store's writes has %d bytes: %w", len(v), errGuard)
	}
	if err == nil {
		g.count = binary.BigEndian.Uint64(v)
	}
	return err
}

// step is the batch that counts up to n. It rides in the commit of what it counts.
func (g *Store) step(n uint64) store.Batch {
	return store.Batch{Unit: unit, Base: g.base, Ops: []store.Op{{Key: append(unit[:], keyCount), Value: binary.BigEndian.AppendUint64(nil, n)}}}
}

// Apply implements store.Store. Lazy batches alone count for nothing: they may be
// lost, and nothing is signed by them.
func (g *Store) Apply(batches []store.Batch) []error {
	if !slices.ContainsFunc(batches, func(b store.Batch) bool { return !b.Lazy }) {
		return g.Store.Apply(batches)
	}
	g.apply.Lock()
	defer g.apply.Unlock()
	errs := g.Store.Apply(append([]store.Batch{g.step(g.count + 1)}, batches...))
	counted, errs := errs[0], errs[1:]
	if counted == nil {
		g.base, g.count = g.base+1, g.count+1
		g.durable.Store(g.count)
		return errs
	}
	for i := range errs {
		if errs[i] == nil { // it may be there, and must not be answered for
			errs[i] = fmt.Errorf("counting the writes of the store: %w", counted)
		}
	}
	return errs
}

// Close implements store.Store. The file is exact afterwards.
func (g *Store) Close() error {
	g.closing.Do(func() {
		close(g.stop)
		<-g.ended
		g.closed = g.Store.Close()
	})
	return g.closed
}

// run lets the file follow, at last when the store is closed.
func (g *Store) run() {
	defer close(g.ended)
	tick := time.NewTicker(g.opt.Every)
	defer tick.Stop()
	failing := false
	for going := true; going; {
		select {
		case <-tick.C:
		case <-g.stop:
			going = false
		}
		n := g.durable.Load()
		if n == g.written {
			continue
		}
		err := g.follow(n)
		if err != nil && !failing {
			g.opt.Log(err)
		}
		failing = err != nil
	}
}

// follow writes the file, whole or not at all. That the old one comes back after
// a crash is no harm.
func (g *Store) follow(n uint64) error {
	f, err := os.OpenFile(g.opt.Path+temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(encode(n))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(g.opt.Path+temp, g.opt.Path); err != nil {
		return err
	}
	g.written = n
	return nil
}

func encode(n uint64) []byte {
	b := binary.BigEndian.AppendUint64(append(make([]byte, 0, fileSize), format), n)
	check := wire.Hash(tagFile, b)
	return append(b, check[:8]...)
}

// readFile reads the file; found is false if there is none.
func readFile(path string) (n uint64, found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	n, err = parse(b)
	if e, ok := errors.AsType[*store.FormatError](err); ok {
		e.Path = path
		return 0, false, err
	}
	if err != nil {
		return 0, false, &store.CorruptError{Path: path, Err: fmt.Errorf("%w (without it the store counts as restored from an older copy)", err)}
	}
	return n, true, nil
}

// parse reads a file's content. Errors: *store.FormatError without a path, or that
// it is no guard.
func parse(b []byte) (uint64, error) {
	if len(b) > 0 && b[0] > format {
		return 0, &store.FormatError{Of: "guard", Found: uint64(b[0]), Supported: format}
	}
	if len(b) != fileSize || b[0] != format {
		return 0, errGuard
	}
	n := binary.BigEndian.Uint64(b[1:])
	if string(encode(n)) != string(b) {
		return 0, errGuard
	}
	return n, nil
}
