package crossverify

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
	"time"

	"parallax/internal/wire"
)

const (
	// MaxSubjects is how many subjects a Ledger holds. When it is full, a
	// sixteenth leaves at once, as leave.go has it: what a coalition below the
	// quorum makes up leaves before what enough operators show and before what
	// others show alone. A subject that left and is claimed again starts anew.
	MaxSubjects = 65_536
	// MaxPolicies is how many policies a Ledger keeps, for the messages of their
	// time; older messages count by the oldest of them.
	MaxPolicies = 64
	// MaxShown is how many different digests of one subject a path is
	// remembered for: the smallest ones, so that order does not matter. Only
	// a path that floods its own claims can lose one by it.
	MaxShown = 4

	leaveShare = 16
)

// Ledger compares what the paths show, subject by subject. What it reports
// depends only on which calls were made and on the latest time seen, not on
// their order or repetition, as long as it was never full; except that SetPolicy
// parts the messages known before it from those that come after. It blames
// nobody: conviction needs Evidence.
type Ledger struct {
	policy   Policy
	voters   *voters         // of policy
	former   []*voters       // of the policies before it, oldest first
	era      int             // number of policy, from 0
	deadline []time.Duration // of each path
	own      []bool          // of each path: SetDeadline gave it
	aside    []bool
	now      time.Time
	max      int
	entries  map[Subject]*entry
	dirty    map[Subject]struct{} // may report something else than at the last Advance
	due      deadlines
	changes  int // of the policy, so far
}

// entry is the union of what was said about one subject; it only grows.
type entry struct {
	known bool
	since time.Time     // first known; not set while only restored
	truth []wire.Digest // Message: digests that opened, the two smallest
	split bool          // restored while two digests stood against each other
	paths []said        // as many as there were when it was last written
	era   int           // of the policy when it was first known

	told    Report // as of the last Advance or Restore
	wasTold bool
	changes int       // Ledger.changes then
	queued  time.Time // next deadline in Ledger.due; zero: none
}

// said is all that one path said about one subject.
type said struct {
	shown  []wire.Digest // ascending, the smallest MaxShown
	opened bool          // Message: one of them opened here
	absent bool
	failed bool
	silent bool // restored as Silent
	other  bool // restored as Dissented: the digest was not kept
}

// NewLedger makes an empty ledger for a policy.
func NewLedger(policy Policy) *Ledger {
	l := &Ledger{
		max:     MaxSubjects,
		entries: make(map[Subject]*entry),
		dirty:   make(map[Subject]struct{}),
	}
	l.take(policy)
	return l
}

// SetPolicy puts a policy in the place of the one before: with more paths behind
// those there are, or with others of them Outside. What there is of the paths
// stays, and paths that the new policy leaves off are Outside. Announcements and
// all other facts count by the new policy at once; a message by the one of its
// time (Era), but what that one holds for a path that is gone is freed. A policy under which the same count as before begins no era.
func (l *Ledger) SetPolicy(policy Policy) {
	n, had := len(l.aside), len(policy.Operators)
	if n > had {
		policy.Operators = append(slices.Clone(policy.Operators), l.policy.Operators[had:]...)
		outside := make([]bool, n)
		copy(outside, policy.Outside)
		for i := had; i < n; i++ {
			outside[i] = true
		}
		policy.Outside = outside
	}
	if policy.Deadline == 0 {
		policy.Deadline = DefaultDeadline
	}
	if !l.policy.counts(&policy) {
		if l.former = append(l.former, l.voters); len(l.former) >= MaxPolicies {
			l.former = l.former[1:]
		}
		l.era++
	}
	l.take(policy)
	l.changes++
	for s, e := range l.entries {
		if s.Kind != Message || l.in(s, e).strict {
			l.dirty[s] = struct{}{}
		}
		l.queue(s, e)
	}
}

// Era is the number of the policy in force, from 0.
func (l *Ledger) Era() int { return l.era }

func (l *Ledger) take(policy Policy) {
	if policy.Deadline == 0 {
		policy.Deadline = DefaultDeadline
	}
	l.policy, l.voters = policy, newVoters(policy)
	for i := range policy.Operators {
		if i == len(l.aside) {
			l.aside, l.own, l.deadline = append(l.aside, false), append(l.own, false), append(l.deadline, 0)
		}
		if !l.own[i] {
			l.deadline[i] = policy.Deadline
		}
	}
	l.voters.leave(l.aside)
}

// in is who counts for e: messages stay with the policy of their time.
func (l *Ledger) in(s Subject, e *entry) *voters {
	if before := l.era - e.era; s.Kind == Message && before > 0 && len(l.former) > 0 {
		return l.former[max(0, len(l.former)-before)]
	}
	return l.voters
}

// counts tells whether by o the same paths count for the same as by p, which has
// at most as many.
func (p *Policy) counts(o *Policy) bool {
	for i := range o.Operators {
		old := i >= len(p.Operators) || p.outside(i)
		if old != o.outside(i) || !old && p.Operators[i] != o.Operators[i] {
			return false
		}
	}
	return slices.Equal(p.Families, o.Families) && p.Quorum == o.Quorum && p.Rule.equal(o.Rule) && p.Strict == o.Strict && p.Deadline == o.Deadline
}

// Claim: path showed digest for subject. For Signed and Open the caller has
// checked the signatures; for Message it is a copy whose slot is not known to
// open. A path that the policy does not have is ignored, here and below.
func (l *Ledger) Claim(now time.Time, path Path, subject Subject, digest wire.Digest) {
	if e := l.touch(now, path, subject); e != nil {
		e.paths[path].shown = insert(e.paths[path].shown, digest, MaxShown)
	}
}

// Opened: on path the slot of a Message opened, which fixes the message's
// digest. Another digest that opens too is the sender's doing. For the other
// kinds it is Claim.
func (l *Ledger) Opened(now time.Time, path Path, subject Subject, digest wire.Digest) {
	e := l.touch(now, path, subject)
	if e == nil {
		return
	}
	p := &e.paths[path]
	p.shown = insert(p.shown, digest, MaxShown)
	if subject.Kind == Message {
		p.opened = true
		e.truth = insert(e.truth, digest, 2)
	}
}

// Absent: path was asked for subject and shows nothing, by its answer or by
// giving none. That is lag until the deadline; then the path is Silent.
func (l *Ledger) Absent(now time.Time, path Path, subject Subject) {
	if e := l.touch(now, path, subject); e != nil {
		e.paths[path].absent = true
		l.queue(subject, e)
	}
}

// Fail: path gave something for subject that does not open or verify. With
// Message that is the fate of all the path's copies that did not open; with
// the other kinds a valid claim of the same path outweighs it.
func (l *Ledger) Fail(now time.Time, path Path, subject Subject) {
	if e := l.touch(now, path, subject); e != nil {
		e.paths[path].failed = true
	}
}

// SetAside makes path count, or not count, for quorum. It is compared all the
// same. When fewer operators are left than the quorum asks for, all that are
// left must match: whoever is set aside by proof is never honest, so they
// include every honest one, and nothing passes without it.
func (l *Ledger) SetAside(path Path, aside bool) {
	if int(path) >= len(l.aside) || l.aside[path] == aside {
		return
	}
	l.aside[path] = aside
	for _, v := range append(l.former[:len(l.former):len(l.former)], l.voters) {
		v.leave(l.aside)
	}
	for s := range l.entries {
		l.dirty[s] = struct{}{}
	}
}

// SetDeadline gives path a deadline of its own in place of the policy's, such as
// Delays learns. It counts for all that the path lacks now, too. Facts have the
// policy's at least: they are written by somebody who may be slow, one path
// after the other, and a dispute is told of once all paths have answered or
// fallen silent.
func (l *Ledger) SetDeadline(path Path, deadline time.Duration) {
	if int(path) >= len(l.deadline) || l.own[path] && l.deadline[path] == deadline {
		return
	}
	l.deadline[path], l.own[path] = deadline, true
	for s, e := range l.entries {
		l.dirty[s] = struct{}{}
		l.queue(s, e)
	}
}

// Enough tells whether the operators of the paths that hold are enough now,
// those set aside left out.
func (l *Ledger) Enough(holds func(Path) bool) bool { return l.voters.enough(l.holding(holds)) }

// Count is how many operators those are, families counted once.
func (l *Ledger) Count(holds func(Path) bool) int { return count(l.holding(holds).by) }

// Needed is how many operators are enough now, at least.
func (l *Ledger) Needed() int { return l.voters.fewest() }

func (l *Ledger) holding(holds func(Path) bool) tally {
	t := l.voters.none()
	for i, aside := range l.aside {
		if !aside && holds(Path(i)) {
			l.voters.add(&t, i)
		}
	}
	return t
}

// Advance lets deadlines pass and returns the subjects that report something
// else than at the Advance before, ascending by kind, id, incarnation and
// number.
func (l *Ledger) Advance(now time.Time) []Subject {
	l.see(now)
	for len(l.due) > 0 && !l.due[0].at.After(l.now) {
		d := heap.Pop(&l.due).(deadline)
		if e := l.entries[d.subject]; e != nil && e.queued.Equal(d.at) {
			e.queued = time.Time{}
			l.dirty[d.subject] = struct{}{}
			l.queue(d.subject, e)
		}
	}
	var changed []Subject
	for s := range l.dirty {
		e := l.entries[s]
		r := l.report(s, e)
		if !e.wasTold || !r.equal(&e.told) {
			e.told, e.wasTold = r, true
			changed = append(changed, s)
		}
		e.changes = l.changes
	}
	clear(l.dirty)
	slices.SortFunc(changed, Subject.compare)
	return changed
}

// Next is when Advance has a deadline to let pass; zero: none.
func (l *Ledger) Next() time.Time {
	for len(l.due) > 0 {
		d := l.due[0]
		e := l.entries[d.subject]
		if e != nil && e.queued.Equal(d.at) {
			if !d.at.After(l.now) || l.nextOf(d.subject.Kind, e).Equal(d.at) {
				return d.at
			}
			e.queued = time.Time{}
			heap.Pop(&l.due)
			l.queue(d.subject, e) // what lagged then came; another path may lag
			continue
		}
		heap.Pop(&l.due)
	}
	return time.Time{}
}

// Restore puts back what Report said before a restart: its Digest and Status.
// It replaces what the ledger has for subject; Advance does not list it. Lag
// starts anew, and an Open fact without a Digest waits for claims again. A
// message belongs to the era that is given: at most Era; what is not kept is the
// oldest one.
func (l *Ledger) Restore(subject Subject, digest wire.Digest, status []Status, era int) {
	l.Forget(subject)
	e := l.add(subject)
	e.era = min(era, l.era)
	for i := range min(len(status), len(e.paths)) {
		p := &e.paths[i]
		switch status[i] {
		case Matched:
			p.shown, p.opened = []wire.Digest{digest}, subject.Kind == Message
		case Dissented:
			p.other = true
			e.split = e.split || digest == wire.Digest{}
		case Silent:
			p.silent = true
		case Failed:
			p.failed = true
		}
	}
	if subject.Kind == Message && digest != (wire.Digest{}) {
		e.truth = []wire.Digest{digest}
	}
	e.told, e.wasTold, e.changes = l.report(subject, e), true, l.changes
}

// Forget drops what is known of subject.
func (l *Ledger) Forget(subject Subject) {
	delete(l.entries, subject)
	delete(l.dirty, subject)
}

// Report is what is known of subject; of an unknown one, that every path is
// awaited. Its Status is the ledger's own: read it only.
func (l *Ledger) Report(subject Subject) Report {
	e := l.entries[subject]
	if e == nil {
		return l.report(subject, &entry{era: l.era})
	}
	if _, dirty := l.dirty[subject]; !dirty && e.wasTold && e.changes == l.changes && (e.queued.IsZero() || l.now.Before(e.queued)) {
		return e.told // nothing was said and no deadline passed since
	}
	return l.report(subject, e)
}

// Len is the number of subjects held.
func (l *Ledger) Len() int { return len(l.entries) }

func (l *Ledger) see(now time.Time) {
	if now.After(l.now) {
		l.now = now
	}
}

// touch is the entry to write into, or nil for a path that does not exist.
func (l *Ledger) touch(now time.Time, path Path, subject Subject) *entry {
	if int(path) >= len(l.aside) {
		return nil
	}
	l.see(now)
	e := l.entries[subject]
	if e == nil {
		e = l.add(subject)
	}
	for len(e.paths) < len(l.aside) {
		e.paths = append(e.paths, said{})
	}
	if !e.known || now.Before(e.since) {
		e.known, e.since = true, now
		l.queue(subject, e)
	}
	l.dirty[subject] = struct{}{}
	return e
}

func (l *Ledger) add(subject Subject) *entry {
	if len(l.entries) >= l.max {
		l.leave()
	}
	e := &entry{paths: make([]said, len(l.aside)), era: l.era}
	l.entries[subject] = e
	return e
}

func (l *Ledger) deadlineOf(kind Kind, path int) time.Duration {
	if kind == Message {
		return l.deadline[path]
	}
	return max(l.deadline[path], l.policy.Deadline)
}

// nextOf is when the next path that lacks e turns silent; zero: none does.
func (l *Ledger) nextOf(kind Kind, e *entry) (next time.Time) {
	for i := range e.paths {
		p := &e.paths[i]
		if !p.absent || len(p.shown) > 0 || p.other || p.failed || p.silent {
			continue
		}
		if at := e.since.Add(l.deadlineOf(kind, i)); at.After(l.now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func (l *Ledger) queue(subject Subject, e *entry) {
	at := l.nextOf(subject.Kind, e)
	if at.IsZero() || e.queued.Equal(at) {
		return
	}
	if len(l.due) >= 2*l.max { // subjects that left, faster than they come due
		l.due = slices.DeleteFunc(l.due, func(d deadline) bool {
			e := l.entries[d.subject]
			return e == nil || !e.queued.Equal(d.at)
		})
		heap.Init(&l.due)
	}
	e.queued = at
	heap.Push(&l.due, deadline{at, subject})
}

// insert adds d to an ascending set that keeps its smallest n.
func insert(set []wire.Digest, d wire.Digest, n int) []wire.Digest {
	i, had := slices.BinarySearchFunc(set, d, func(a, b wire.Digest) int { return bytes.Compare(a[:], b[:]) })
	if had || i == n {
		return set
	}
	set = slices.Insert(set, i, d)
	return set[:min(len(set), n)]
}

func (s Subject) compare(o Subject) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), bytes.Compare(s.ID[:], o.ID[:]),
		bytes.Compare(s.Incarnation[:], o.Incarnation[:]), cmp.Compare(s.N, o.N))
}

// deadlines is a heap; entries whose subject left or has another deadline by
// now stay until they are due.
type deadlines []deadline

type deadline struct {
	at      time.Time
	subject Subject
}

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	*d = (*d)[:last]
	return x
}
