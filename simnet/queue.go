package simnet

import (
	"container/heap"
	"time"
)

// event is something that happens at one virtual moment. Events of one moment
// happen in the order in which they were scheduled.
type event struct {
	at  time.Duration
	seq uint64
	run func()
}

type queue struct {
	events []event
	seq    uint64
}

func (q *queue) Len() int { return len(q.events) }
func (q *queue) Less(i, j int) bool {
	a, b := &q.events[i], &q.events[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}
func (q *queue) Swap(i, j int) { q.events[i], q.events[j] = q.events[j], q.events[i] }
func (q *queue) Push(x any)    { q.events = append(q.events, x.(event)) }
func (q *queue) Pop() any {
	last := len(q.events) - 1
	e := q.events[last]
	q.events[last] = event{}
	q.events = q.events[:last]
	return e
}

func (q *queue) add(at time.Duration, run func()) {
	q.seq++
	heap.Push(q, event{at, q.seq, run})
}

// next removes the first event that is due by end.
func (q *queue) next(end time.Duration) (event, bool) {
	if len(q.events) == 0 || q.events[0].at > end {
		return event{}, false
	}
	return heap.Pop(q).(event), true
}
