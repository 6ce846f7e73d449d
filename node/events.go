package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/store"
)

// AfterAcked, in place of a number, reads events after the newest that the
// application acknowledged.
const AfterAcked = math.MaxUint64 - 1

// Limits of reading events.
const (
	eventBytes = 256 << 10 // of one read
	maxHints   = 64        // passing hints kept for a reader that lags; the oldest go
)

// hub wakes the readers of one membership's events.
type hub struct {
	mu      sync.Mutex // readers and their hints
	readers map[*eventReader]bool
}

// event is Hooks.Event. A numbered event is durable already, so readers find
// it in the store; a hint is passed on.
func (h *hub) event(e broadcast.Event) {
	hint, ok := e.Body.(member.Event)
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.readers {
		if e.Number == 0 && ok {
			if len(r.hints) == maxHints {
				r.hints = r.hints[1:]
			}
			r.hints = append(r.hints, hint)
		}
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// eventReader reads a membership's events once each, in order, with the
// passing hints between them. It belongs to one goroutine.
type eventReader struct {
	m     *membership
	after uint64
	wake  chan struct{}
	hints []member.Event // guarded by hub.mu
}

func (m *membership) readEvents(after uint64) (*eventReader, error) {
	if after == AfterAcked {
		v, err := m.store.Get(member.AckedKey(m.unit))
		switch {
		case errors.Is(err, store.ErrNotFound):
			after = 0
		case errors.Is(err, store.ErrClosed):
			return nil, ErrClosed
		case err != nil:
			return nil, err
		case len(v) != 8:
			return nil, fmt.Errorf("what was acknowledged in %s does not read: %w", m.dir, member.ErrStore)
		default:
			after = binary.BigEndian.Uint64(v)
		}
	}
	r := &eventReader{m: m, after: after, wake: make(chan struct{}, 1)}
	r.wake <- struct{}{} // look at once
	m.hub.mu.Lock()
	m.hub.readers[r] = true
	m.hub.mu.Unlock()
	return r, nil
}

func (r *eventReader) close() {
	r.m.hub.mu.Lock()
	delete(r.m.hub.readers, r)
	r.m.hub.mu.Unlock()
}

// next waits for events: at least one, or an error.
func (r *eventReader) next(ctx context.Context) ([]member.Event, error) {
	for {
		if r.after < math.MaxUint64 {
			kvs, more, err := r.m.store.Scan(member.EventKey(r.m.unit, r.after+1), member.EventKey(r.m.unit, math.MaxUint64), eventBytes)
			if errors.Is(err, store.ErrClosed) {
				err = ErrClosed
			}
			if err != nil {
				return nil, err
			}
			list := make([]member.Event, len(kvs))
			for i, kv := range kvs {
				if err := json.Unmarshal(kv.Value, &list[i]); err != nil {
					return nil, fmt.Errorf("an event in %s does not read: %w", r.m.dir, err)
				}
				r.after = list[i].Number
			}
			if more && len(list) > 0 {
				return list, nil
			}
			r.m.hub.mu.Lock()
			list = append(list, r.hints...)
			r.hints = nil
			r.m.hub.mu.Unlock()
			if len(list) > 0 {
				return list, nil
			}
		}
		select {
		case <-r.wake:
		case <-r.m.closed:
			return nil, r.m.failure()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// events is the reader as an iterator, which ends with an error or when the
// caller has enough.
func (m *membership) events(ctx context.Context, after uint64) iter.Seq2[member.Event, error] {
	return func(yield func(member.Event, error) bool) {
		r, err := m.readEvents(after)
		if err != nil {
			yield(member.Event{}, err)
			return
		}
		defer r.close()
		for {
			list, err := r.next(ctx)
			if err != nil {
				yield(member.Event{}, err)
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}
