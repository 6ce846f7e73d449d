package crossverify

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// leaving is a subject that may have to make room.
type leaving struct {
	Subject
	*entry
	since time.Time // the entry's, at hand for sorting
	class int
	crowd int // classShown: how much of the same the least busy of those who show it shows
}

// Classes of leaving, the first to leave first.
const (
	classSettled = iota // messages that were settled at the last Advance
	classShown          // shown by fewer operators than it takes
	classMessage        // other messages
	classFact           // facts that enough operators show
)

// leave makes room when MaxSubjects are held: a sixteenth goes at once, class
// by class, the oldest first. Among what fewer operators show than it takes, the
// crowd goes first: every operator's own such subjects stand in a row, messages
// before facts and the oldest first, and what has most behind it in the row of
// each that shows it leaves. So who floods pushes out its own; what an operator
// shows that floods nothing, and what enough of them show, stays.
func (l *Ledger) leave() {
	all := make([]leaving, 0, len(l.entries))
	rows := make([][]int, len(l.aside)) // of each class of paths: indices into all
	for s, e := range l.entries {
		all = append(all, leaving{Subject: s, entry: e, since: e.since})
	}
	order := func(a, b *leaving) int {
		if c := a.since.Compare(b.since); c != 0 {
			return c
		}
		return a.Subject.compare(b.Subject)
	}
	for i := range all {
		a := &all[i]
		if a.Kind == Message && a.told.Settled {
			continue // classSettled
		}
		by := l.voters.none()
		for path := range a.paths {
			if p := &a.paths[path]; !l.aside[path] && (len(p.shown) > 0 || p.other || p.failed) {
				l.voters.add(&by, path)
			}
		}
		switch {
		case l.voters.enough(by) && a.Kind == Message:
			a.class = classMessage
		case l.voters.enough(by):
			a.class = classFact
		default:
			a.class, a.crowd = classShown, math.MaxInt
			for c, in := range by.by {
				if in {
					rows[c] = append(rows[c], i)
				}
			}
		}
	}
	for _, row := range rows {
		slices.SortFunc(row, func(a, b int) int {
			x, y := &all[a], &all[b]
			if m := (x.Kind == Message); m != (y.Kind == Message) {
				if m {
					return -1
				}
				return 1
			}
			return order(x, y)
		})
		for at, i := range row {
			all[i].crowd = min(all[i].crowd, len(row)-at)
		}
	}
	slices.SortFunc(all, func(a, b leaving) int {
		if c := cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(b.crowd, a.crowd)); c != 0 {
			return c
		}
		return order(&a, &b)
	})
	for _, s := range all[:min(len(all), max(1, l.max/leaveShare))] {
		l.Forget(s.Subject)
	}
}
