package node

import (
	"container/heap"
	"encoding/hex"
	"time"

	"parallax/broadcast"
	"parallax/internal/store"
)

// unit is an open machine. Only its loop touches it.
type unit struct {
	id       store.Unit
	m        broadcast.Machine
	lane     *lane
	turns    []*turn // in order, the oldest first
	revision uint64  // of the state the machine has, as far as it is durable
	hinted   bool    // compare revision when no turn is under way
	dirty    bool    // in loop.dirty
	full     bool    // wants a Ready but has turnsInFlight
	held     int64   // bytes Stepped since the last Ready
	frames   int     // frames likewise
	links    int
	jobs     int            // under way
	reads    []*pendingRead // in the order asked, whose answers are handed over in that order
	used     time.Time
	wake     time.Time
	index    int // in loop.wakes, -1: not there
	closed   bool
}

// pendingRead is a read under way. Reads run in parallel, but a machine gets
// the answers in the order in which it asked: so a relay numbers the posts of
// one link as they came.
type pendingRead struct {
	answer *broadcast.Loaded // nil: not there yet
}

type hexUnit store.Unit

func (u hexUnit) String() string { return hex.EncodeToString(u[:]) }

func (l *loop) setWake(u *unit, at time.Time) {
	u.wake = at
	switch {
	case at.IsZero() && u.index >= 0:
		heap.Remove(&l.wakes, u.index)
	case at.IsZero():
	case u.index >= 0:
		heap.Fix(&l.wakes, u.index)
	default:
		heap.Push(&l.wakes, u)
	}
}

// wakes is a heap of units by wake.
type wakes []*unit

func (w wakes) Len() int           { return len(w) }
func (w wakes) Less(i, j int) bool { return w[i].wake.Before(w[j].wake) }
func (w wakes) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

func (w *wakes) Push(x any) {
	u := x.(*unit)
	u.index = len(*w)
	*w = append(*w, u)
}

func (w *wakes) Pop() any {
	u := (*w)[len(*w)-1]
	u.index = -1
	(*w)[len(*w)-1] = nil
	*w = (*w)[:len(*w)-1]
	return u
}
