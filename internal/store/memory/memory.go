// Package memory is the store engine that the simulator and tests run on: the
// contract of package store (docs/protocol.md section 12) over a map in
// memory. A batch is durable as soon as it is applied, for as long as the
// process lives.
//
// A Store is safe for concurrent use.
package memory

import (
	"bytes"
	"slices"
	"sync"

	"parallax/internal/store"
)

// Store is one handle on a map. Handles of one map come from Front and behave
// as processes that share an engine.
type Store struct {
	data *data
	// closed and watchers are guarded by data.mu.
	closed   bool
	watchers []func(store.Unit)
}

// data is what the handles share.
type data struct {
	mu        sync.RWMutex // guards all fields, and those of the fronts
	tree      tree
	revisions map[store.Unit]uint64
	fronts    []*Store
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return newStore(&data{tree: tree{owner: new(owner)}, revisions: map[store.Unit]uint64{}})
}

func newStore(d *data) *Store {
	s := &Store{data: d}
	d.fronts = append(d.fronts, s)
	return s
}

// Front returns another handle on the same data, open even if s is closed:
// what a second process that shares the engine would have. Writes through one
// handle are hinted to the watchers of the others.
func (s *Store) Front() *Store {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	return newStore(s.data)
}

// Snapshot returns an independent store with the contents of this moment, open
// even if s is closed: what a process finds that restarts after a crash. It
// costs a copy of the revisions; the entries are shared until one side writes.
func (s *Store) Snapshot() *Store {
	d := s.data
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &data{tree: tree{root: d.tree.root, owner: new(owner)}, revisions: make(map[store.Unit]uint64, len(d.revisions))}
	d.tree.owner = new(owner)
	for u, r := range d.revisions {
		c.revisions[u] = r
	}
	return newStore(c)
}

// Revision implements store.Reader.
func (s *Store) Revision(u store.Unit) (uint64, error) {
	s.data.mu.RLock()
	defer s.data.mu.RUnlock()
	if s.closed {
		return 0, store.ErrClosed
	}
	return s.data.revisions[u], nil
}

// Get implements store.Reader.
func (s *Store) Get(key []byte) ([]byte, error) {
	s.data.mu.RLock()
	defer s.data.mu.RUnlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	n := s.data.tree.get(key)
	if n == nil {
		return nil, store.ErrNotFound
	}
	return clone(n.value), nil
}

// Scan implements store.Reader.
func (s *Store) Scan(from, to []byte, limit int) (kvs []store.KV, more bool, err error) {
	s.data.mu.RLock()
	defer s.data.mu.RUnlock()
	if s.closed {
		return nil, false, store.ErrClosed
	}
	size := 0
	s.data.tree.root.ascend(from, to, func(n *node) bool {
		if more = len(kvs) > 0 && size >= limit; more {
			return false
		}
		kvs = append(kvs, store.KV{Key: clone(n.key), Value: clone(n.value)})
		size += len(n.key) + len(n.value)
		return true
	})
	return kvs, more, nil
}

// Apply implements store.Store.
func (s *Store) Apply(batches []store.Batch) []error {
	errs := make([]error, len(batches))
	d := s.data
	d.mu.Lock()
	var hints []func()
	for i := range batches {
		errs[i] = s.apply(&batches[i])
		if errs[i] != nil {
			continue
		}
		for _, f := range d.fronts {
			if f == s {
				continue
			}
			for _, w := range f.watchers {
				hints = append(hints, func() { w(batches[i].Unit) })
			}
		}
	}
	d.mu.Unlock()
	for _, hint := range hints { // unlocked: a watcher may read the store
		hint()
	}
	return errs
}

// apply changes nothing unless it answers nil: all that can be refused is
// looked at before the first op.
func (s *Store) apply(b *store.Batch) error {
	if s.closed {
		return store.ErrClosed
	}
	if err := b.Check(); err != nil {
		return err
	}
	d := s.data
	if d.revisions[b.Unit] != b.Base {
		return store.ErrConflict
	}
	for _, op := range b.Ops {
		switch {
		case op.To != nil:
			d.tree.deleteRange(op.Key, op.To)
		case op.Value == nil:
			d.tree.delete(op.Key)
		default:
			d.tree.put(bytes.Clone(op.Key), clone(op.Value))
		}
	}
	d.revisions[b.Unit] = b.Base + 1
	return nil
}

// Watch implements store.Store: hints come from writes through other handles,
// in the goroutine of the writer.
func (s *Store) Watch(f func(store.Unit)) {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	if !s.closed {
		s.watchers = append(s.watchers, f)
	}
}

// Close implements store.Store; closing again does nothing. The data stay, for
// Snapshot and Front.
func (s *Store) Close() error {
	d := s.data
	d.mu.Lock()
	defer d.mu.Unlock()
	s.closed, s.watchers = true, nil
	d.fronts = slices.DeleteFunc(d.fronts, func(f *Store) bool { return f == s })
	return nil
}

// clone keeps an empty value apart from none.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
