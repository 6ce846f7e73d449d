package simnet

import "time"

// event is something that happens at one virtual moment. Events of one moment
// happen in the order in which they were scheduled.
type event struct {
	at  time.Duration
	seq uint64
	run func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// queue is a heap of its own, since container/heap allocates for every event.
type queue struct {
	events []event
	seq    uint64
}

func (q *queue) add(at time.Duration, run func()) {
	q.seq++
	q.events = append(q.events, event{at, q.seq, run})
	for i := len(q.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.events[i].before(&q.events[up]) {
			return
		}
		q.events[i], q.events[up] = q.events[up], q.events[i]
		i = up
	}
}

// next removes the first event that is due by end.
func (q *queue) next(end time.Duration) (event, bool) {
	if len(q.events) == 0 || q.events[0].at > end {
		return event{}, false
	}
	first, last := q.events[0], len(q.events)-1
	q.events[0], q.events[last] = q.events[last], event{}
	q.events = q.events[:last]
	for i := 0; ; {
		low := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q.events[child].before(&q.events[low]) {
				low = child
			}
		}
		if low == i {
			return first, true
		}
		q.events[i], q.events[low] = q.events[low], q.events[i]
		i = low
	}
}
