package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"

	engine "github.com/cockroachdb/pebble/v2"

	"parallax/internal/store"
)

// call is one Apply on its way; whoever holds Store.write fills it in.
type call struct {
	batches []store.Batch
	errs    []error
	done    bool
}

// Apply implements store.Store. Calls that come while another one is being
// made durable are committed together by the first of them that gets its turn:
// one Pebble batch and one fsync for all their batches.
func (s *Store) Apply(batches []store.Batch) []error {
	c := &call{batches: batches, errs: make([]error, len(batches))}
	s.queueMu.Lock()
	s.queue = append(s.queue, c)
	s.queueMu.Unlock()

	s.write.Lock()
	defer s.write.Unlock()
	if !c.done {
		s.queueMu.Lock()
		group := s.queue
		s.queue = nil
		s.queueMu.Unlock()
		s.commit(group)
	}
	return c.errs
}

// commit answers the calls of a group. Store.write is held, so db and closed
// do not change.
func (s *Store) commit(group []*call) {
	g := &staging{db: s.db, revisions: map[store.Unit]uint64{}}
	refused := s.fence.failure()
	if s.closed {
		refused = store.ErrClosed
	}
	if refused == nil {
		g.batch = s.db.NewBatch()
		defer g.batch.Close()
		mark := []byte{afterDurable}
		if s.lazy {
			mark[0] = afterLazy
		}
		g.put(g.batch.LogData(mark, nil))
	}
	for _, c := range group {
		c.done = true
		for i := range c.batches {
			if refused != nil {
				c.errs[i] = refused
			} else if c.errs[i] = s.damage(g.admit(&c.batches[i])); c.errs[i] == nil {
				g.admitted = append(g.admitted, &c.errs[i])
			}
		}
	}
	if len(g.admitted) == 0 {
		return
	}
	opts := engine.NoSync
	if g.sync {
		opts = engine.Sync
	}
	err := g.err
	if err == nil {
		err = g.batch.Commit(opts)
	}
	if err != nil {
		s.fence.fail(err)
	}
	// Asked even if Commit answered nil: behind the fence Pebble is never told
	// that a write failed.
	if err := s.fence.failure(); err != nil {
		for _, e := range g.admitted {
			*e = err
		}
		return
	}
	s.lazy = !g.sync
	view := s.db.NewSnapshot()
	s.mu.Lock()
	view, s.view = s.view, view
	s.mu.Unlock()
	view.Close() // nobody reads it: that would have kept mu
}

// staging collects what one commit will write.
type staging struct {
	db        *engine.DB
	batch     *engine.Batch
	revisions map[store.Unit]uint64 // of units that this commit moves, afterwards
	admitted  []*error              // where the answers go
	sync      bool                  // an admitted batch is not Lazy
	err       error                 // the batch cannot be committed
}

// admit puts b into the commit or answers why not. All that can be refused is
// looked at before the first op.
func (g *staging) admit(b *store.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	revision, ok := g.revisions[b.Unit]
	if !ok {
		var err error
		if revision, err = readRevision(g.db, b.Unit); err != nil {
			return err
		}
	}
	if revision != b.Base {
		return store.ErrConflict
	}
	for _, op := range b.Ops {
		switch {
		case op.To == nil && op.Value == nil:
			g.put(g.batch.Delete(dataKey(op.Key), nil))
		case op.To == nil:
			g.put(g.batch.Set(dataKey(op.Key), op.Value, nil))
		case string(op.Key) < string(op.To): // Pebble takes no empty range
			g.put(g.batch.DeleteRange(dataKey(op.Key), dataKey(op.To), nil))
		}
	}
	g.put(g.batch.Set(revisionKey(b.Unit), binary.BigEndian.AppendUint64(nil, b.Base+1), nil))
	g.revisions[b.Unit] = b.Base + 1
	g.sync = g.sync || !b.Lazy
	return nil
}

func (g *staging) put(err error) {
	if g.err == nil {
		g.err = err
	}
}

// readRevision answers 0 for a unit that was never written.
func readRevision(r engine.Reader, u store.Unit) (uint64, error) {
	v, closer, err := r.Get(revisionKey(u))
	if errors.Is(err, engine.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("store: reading the revision of unit %x: %w", u, err)
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, fmt.Errorf("store: the revision of unit %x has %d bytes: %w", u, len(v), engine.ErrCorruption)
	}
	return binary.BigEndian.Uint64(v), nil
}
