package member

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/internal/wire"
)

// A question is how far asking for some numbers of one source came. It is durable,
// step by step, so that a client that is opened for a minute a day gets as far as
// one that runs: its waits are counted by the member's own clock, which decides
// nothing else, and one step follows in each opening when its wait is over. Numbers
// that show later are another question, so that what is new never begins what is
// old again.

// question covers the missing numbers after the question before it, up to its last.
// Of a number that only others named: that number.
type question struct {
	last  uint64
	asked uint8 // times that members were asked
	steps uint8 // what was done beside
	at    int64 // Unix seconds of the last step; of a new one: when it showed
	due   time.Time
	// others asked for it, of a number that only others named, in this opening.
	others []wire.Seat
}

// Steps of a question.
const (
	stepWaited  = 1 << iota // the jitter passed
	stepFetched             // the relays were asked
	stepPutOff              // it waited since another member asked
	stepOver                // it was given up: a number that only others named
)

// maxQuestions bounds the questions about one source that wait for answers; those
// about what others named are maxSeen more.
const maxQuestions = 8

// maxOthers is how many others ask in vain for what only others named until it is not
// asked for any more. Default: 8.
const maxOthers = 8

// lackRest is how long an opened membership lets slower relays come before it goes
// on with its questions: a part of the deadline.
const lackRest = 6

func (q *question) did(step uint8) bool { return q.steps&step != 0 }

// wait is how long a question waits after its last step.
func (q *question) wait(deadline time.Duration) time.Duration {
	if q.asked == 0 {
		return deadline
	}
	return askAgain[min(int(q.asked), maxAsks)-1]
}

// step notes that something was done; the next follows at due.
func (m *Machine) step(q *question, due time.Time) { q.at, q.due = m.now.Unix(), due }

// mayLack notes that something of a source may be missing, up to a number: it is
// looked at when slower paths had their time.
func (m *Machine) mayLack(s source, upTo uint64) {
	if s.seat == m.self || m.genesis == nil {
		return
	}
	l := m.lackOf(s)
	if l == nil || upTo <= l.gaveUp {
		return
	}
	if n := len(l.questions); n > 0 && (upTo <= l.questions[n-1].last || l.questions[n-1].asked == 0) {
		if upTo <= l.questions[n-1].last {
			return
		}
		l.questions[n-1].last = upTo
	} else { // there is room: the last one is asked only if another finds place after it
		l.questions = append(l.questions, question{last: upTo, at: m.now.Unix(), due: m.now.Add(m.rules().Deadline)})
	}
	m.questionsChanged(l)
}

// mayLackSeen does the same for a number that others named. Who lies about it costs
// a question; what is far away makes room for what is near, and what was given up is
// asked for again when it is named after a while: whoever named it first may have
// lied to have it given up.
func (m *Machine) mayLackSeen(s source, n uint64) {
	l := m.lackOf(s)
	if l == nil || m.genesis == nil {
		return
	}
	fresh := question{last: n, at: m.now.Unix(), due: m.now.Add(m.rules().Deadline)}
	i, known := slices.BinarySearchFunc(l.seen, n, func(q question, n uint64) int { return cmp.Compare(q.last, n) })
	switch {
	case known && l.seen[i].did(stepOver) && m.over(l.seen[i].at):
		l.seen[i] = fresh
	case known || i >= maxSeen:
		return
	default:
		l.seen = slices.Insert(l.seen, i, fresh)
		l.seen = l.seen[:min(len(l.seen), maxSeen)]
	}
	m.questionsChanged(l)
}

// questionsChanged writes a source's questions and sets when the next of them is due.
func (m *Machine) questionsChanged(l *lack) {
	var due time.Time
	for _, list := range [][]question{l.questions, l.seen} {
		for i := range list {
			if q := &list[i]; !q.did(stepOver) && (due.IsZero() || q.due.Before(due)) {
				due = q.due
			}
		}
	}
	if l.due = due; due.IsZero() {
		delete(m.seeking, l.source)
	} else {
		m.seeking[l.source] = l
	}
	m.saveLack(l)
}

// lookForLacks goes on with what was asked before this opening, and notes what else
// may be missing.
func (m *Machine) lookForLacks() {
	rest := m.now.Add(m.rules().Deadline / lackRest)
	for _, s := range slices.SortedFunc(maps.Keys(m.lacks), source.compare) {
		l := m.lacks[s]
		for _, list := range [][]question{l.questions, l.seen} {
			for i := range list {
				q := &list[i]
				q.at = min(q.at, m.now.Unix())
				at := time.Unix(q.at, 0)
				q.due = at.Add(q.wait(m.rules().Deadline))
				if q.asked > 0 && at.After(m.askedAt) {
					m.askedAt = at
				}
				if q.due.Before(rest) {
					q.due = rest
				}
			}
		}
		if len(l.questions)+len(l.seen) > 0 {
			m.questionsChanged(l)
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(m.received), source.compare) {
		if holes := m.received[s].holes(0); len(holes) > 0 {
			m.mayLack(s, holes[len(holes)-1].last)
		}
	}
	for _, h := range m.sortedHeld() {
		m.mayLackOf(h.item)
	}
	m.wakeAnswers()
}

// between are the parts of spans above one number and up to another.
func between(list []span, above, upTo uint64) (part []span) {
	for _, s := range list {
		if s = (span{max(s.first, above+1), min(s.last, upTo)}); s.first <= s.last {
			part = append(part, s)
		}
	}
	return part
}

// endAnswered ends the questions about a source of which nothing is missing any
// more, and tells whether any is left.
func (m *Machine) endAnswered(l *lack) bool {
	missing, above := m.missing(l), l.gaveUp
	before := len(l.questions) + len(l.seen)
	l.questions = slices.DeleteFunc(l.questions, func(q question) bool {
		part := between(missing, above, q.last)
		above = q.last
		return len(part) == 0
	})
	got := m.received[l.source]
	l.seen = slices.DeleteFunc(l.seen, func(q question) bool { return q.last <= got.greatest() })
	left := len(l.questions) + len(l.seen)
	if left != before {
		m.questionsChanged(l)
	}
	return left > 0
}

// asking is one refetch that is put together.
type asking struct {
	spans []Span
	room  uint64 // numbers
}

// takes tells whether there is room for all of the spans. The first ones are taken
// as far as it goes.
func (a *asking) takes(spans []span) bool {
	var n uint64
	for _, x := range spans {
		n += x.last - x.first + 1
	}
	return len(a.spans) == 0 || n <= a.room && len(a.spans)+len(spans) <= MaxRefetchSpans
}

// add takes as much of the spans as there is room for; upTo: the last number that
// was taken.
func (a *asking) add(s source, spans []span) (upTo uint64) {
	for _, x := range spans {
		if a.room == 0 || len(a.spans) == MaxRefetchSpans {
			break
		}
		last := x.last
		if x.last-x.first >= a.room {
			last = x.first + a.room - 1
		}
		a.room -= last - x.first + 1
		a.spans = append(a.spans, Span{s.seat, s.incarnation, x.first, last})
		upTo = last
	}
	return upTo
}

// runLacks does what is due about what is missing.
func (m *Machine) runLacks() {
	if next := m.nextLack(); next.IsZero() || m.now.Before(next) {
		return
	}
	var due []*lack
	for _, l := range m.seeking {
		if !m.now.Before(l.due) {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, func(a, b *lack) int { return a.source.compare(b.source) })
	ask := &asking{room: maxNumbers}
	for _, l := range due {
		if m.endAnswered(l) {
			m.runQuestions(l, ask)
		}
	}
	if len(ask.spans) > 0 {
		m.askedAt = m.now
		m.sendBundle(KindRefetch, AppendRefetch(nil, &Refetch{Messages: ask.spans}))
	}
}

// runQuestions takes the next step of each question about a source that is due.
func (m *Machine) runQuestions(l *lack, ask *asking) {
	missing, above, lost := m.missing(l), l.gaveUp, uint64(0)
	for i := 0; i < len(l.questions); i++ {
		q := &l.questions[i]
		spans := between(missing, above, q.last)
		above = q.last
		switch {
		case m.now.Before(q.due) || m.stepBefore(l, q, spans):
		case q.asked >= maxAsks && i > 0:
			q.due = l.questions[i-1].due // what is older is given up first
		case q.asked >= maxAsks:
			for _, s := range spans {
				lost += s.last - s.first + 1
			}
			l.gaveUp = q.last
			l.questions = slices.Delete(l.questions, i, i+1)
			i--
		case q.asked == 0 && len(l.questions) == maxQuestions: // another has to end first
			m.step(q, m.now.Add(m.rules().Deadline))
		default:
			upTo := m.askMembers(l, q, spans, ask)
			if q.asked == 1 && upTo > 0 && upTo < spans[len(spans)-1].last { // the rest is asked next
				rest := question{last: q.last, steps: q.steps, at: q.at, due: m.now.Add(askEvery)}
				q.last = upTo
				l.questions = slices.Insert(l.questions, i+1, rest)
				i++
				above = rest.last
			}
		}
	}
	for i := range l.seen {
		q := &l.seen[i]
		spans := []span{{q.last, q.last}}
		switch {
		case q.did(stepOver) || m.now.Before(q.due) || m.stepBefore(l, q, spans):
		case q.asked >= maxAsks:
			lost++
			q.steps |= stepOver
		default:
			m.askMembers(l, q, spans, ask)
		}
	}
	m.questionsChanged(l)
	if lost > 0 {
		m.tellGap(l, lost)
	}
}

// stepBefore takes what comes before members are asked: a jitter, what is on its way
// in full, the relays. It tells whether that was the step.
func (m *Machine) stepBefore(l *lack, q *question, spans []span) bool {
	deadline := m.rules().Deadline
	switch {
	case !q.did(stepWaited): // another moment for every member
		q.steps |= stepWaited
		m.step(q, m.now.Add(m.jitter(max(deadline/2, time.Duration(len(m.seats))*100*time.Millisecond))))
	case m.carried(l, spans):
		q.due = m.now.Add(deadline)
	case q.did(stepFetched):
		return false
	default:
		q.steps |= stepFetched
		if !m.fetchMissed() {
			return false
		}
		m.step(q, m.now.Add(deadline))
	}
	return true
}

// askMembers puts a question into a refetch, if there is room, and tells up to which
// number it asks; 0: it waits.
func (m *Machine) askMembers(l *lack, q *question, spans []span, ask *asking) (upTo uint64) {
	switch next := m.askedAt.Add(askEvery); {
	case len(ask.spans) == 0 && m.now.Before(next):
		q.due = next
		return 0
	case !ask.takes(spans):
		q.due = m.now.Add(askEvery)
		return 0
	}
	q.asked++
	m.step(q, m.now.Add(askAgain[q.asked-1]))
	return ask.add(l.source, spans)
}

// tellGap says that what nobody has is not asked for any more.
func (m *Machine) tellGap(l *lack, lost uint64) {
	st, n := m.seatOf(l.seat), int(min(lost, 1<<31))
	m.show(Event{Kind: EventGap, Seat: l.seat.String(), Member: m.display(st), Total: n,
		Text: fmt.Sprintf("%s of %s did not arrive here: no relay shows them, and no member sent them again. Ask %s what was said.", plural(n, "message"), m.display(st), m.display(st))})
}

// othersAsk puts off own questions that another member has just asked. One about a
// hole: once, so that nobody keeps anybody from asking. One about what only others
// named: for each seat that asks, twice as long each time; when maxOthers lack it as
// well and got nothing, it is hardly there, and a lie in one view shall not make a
// whole group ask.
func (m *Machine) othersAsk(by wire.Seat, spans []Span) {
	for _, s := range spans {
		l := m.lacks[source{s.Seat, s.Incarnation}]
		if l == nil {
			continue
		}
		deadline, changed, above := m.rules().Deadline, false, l.gaveUp
		putOff := func(q *question, times int) {
			if at := m.now.Add(2*deadline<<times + m.jitter(deadline<<times)); q.due.Before(at) {
				q.due, changed = at, true
			}
		}
		for i := range l.questions {
			q := &l.questions[i]
			if q.asked == 0 && !q.did(stepPutOff) && s.From <= q.last && above < s.To {
				q.steps |= stepPutOff
				putOff(q, 0)
				changed = true
			}
			above = q.last
		}
		for i := range l.seen {
			q := &l.seen[i]
			if q.did(stepOver) || q.last < s.From || s.To < q.last || slices.Contains(q.others, by) {
				continue
			}
			if q.others = append(q.others, by); len(q.others) == maxOthers {
				q.steps |= stepOver
				q.at, changed = m.now.Unix(), true
				continue
			}
			putOff(q, len(q.others)-1)
		}
		if changed {
			m.questionsChanged(l)
		}
	}
}

// appendQuestions appends u8 count of (last u64, asked u8, steps u8, Unix seconds of
// the last step u64).
func appendQuestions(b []byte, list []question) []byte {
	b = append(b, byte(len(list)))
	for i := range list {
		q := &list[i]
		b = wire.AppendU64(append(wire.AppendU64(b, q.last), q.asked, q.steps), uint64(q.at))
	}
	return b
}

func readQuestions(r *wire.Reader, most int) (list []question) {
	for range readCount8(r, most) {
		q := question{last: r.U64(), asked: r.U8(), steps: r.U8(), at: int64(r.U64())}
		if n := len(list); q.asked > maxAsks || n > 0 && list[n-1].last >= q.last {
			r.Fail(wire.ErrFormat)
		}
		list = append(list, q)
	}
	return list
}
