package node

import (
	"sync"

	"parallax/broadcast"
	"parallax/internal/store"
)

// turn is one Ready on its way to durability.
type turn struct {
	number  uint64
	write   *store.Batch // nil: waits for earlier turns only
	durable bool
	sends   []broadcast.Send
	events  []broadcast.Event
	answers []broadcast.Answer
	held    int64 // bytes of inputs that this turn carries
}

// lane is the queue of one machine's writes, from one opening or Changed to
// the next. Two batches of one unit are never in one Apply: if the first met a
// conflict because another front-end wrote, the second could fit the revision
// that the other one left, and must not be applied.
type lane struct {
	settle func(t *turn, err error)
	// guarded by committer.mu
	queue  []*turn
	listed bool // in committer.ready or in the Apply under way
	broken bool
}

// committer is the group commit: while one Apply runs, the batches of all
// loops gather for the next.
type committer struct {
	store store.Store
	kick  chan struct{}
	stop  chan struct{}

	mu    sync.Mutex // ready and every lane
	ready []*lane
}

func newCommitter(s store.Store) *committer {
	return &committer{store: s, kick: make(chan struct{}, 1), stop: make(chan struct{})}
}

// submit queues the turn's write. A broken lane swallows it: its machine is
// about to be Stepped Changed.
func (c *committer) submit(l *lane, t *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.broken {
		return
	}
	l.queue = append(l.queue, t)
	c.list(l)
}

// list puts a lane with work up for the next Apply. c.mu is held.
func (c *committer) list(l *lane) {
	if l.listed || len(l.queue) == 0 {
		return
	}
	l.listed = true
	c.ready = append(c.ready, l)
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// run applies until stop is closed; an Apply under way is finished first.
func (c *committer) run() {
	for {
		select {
		case <-c.kick:
		case <-c.stop:
			return
		}
		c.mu.Lock()
		lanes := c.ready
		c.ready = nil
		turns := make([]*turn, len(lanes))
		batches := make([]store.Batch, len(lanes))
		for i, l := range lanes {
			turns[i], l.queue = l.queue[0], l.queue[1:]
			batches[i] = *turns[i].write
		}
		c.mu.Unlock()
		if len(lanes) == 0 {
			continue
		}

		errs := c.store.Apply(batches)

		c.mu.Lock()
		for i, l := range lanes {
			l.listed = false
			if errs[i] != nil {
				l.broken, l.queue = true, nil
			}
			c.list(l)
		}
		c.mu.Unlock()
		for i, l := range lanes {
			l.settle(turns[i], errs[i])
		}
	}
}
