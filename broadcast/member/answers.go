package member

import (
	"cmp"
	"slices"
	"time"

	"parallax/internal/wire"
)

// Answers that wait are durable (docs/protocol.md section 6.1): a client that is opened
// for a moment a day would else lose each of them, since others let the sender answer
// first.

// addAnswer keeps an answer until it is due.
func (m *Machine) addAnswer(a *dueAnswer) {
	for _, o := range m.answersDue {
		a.number = max(a.number, o.number+1)
	}
	m.answersDue = append(m.answersDue, a)
	m.put(m.key(keyAnswer, wire.U64(a.number)), a.append(nil))
}

// append appends: due u64 (Unix seconds) | asked u64 | own bool | spans of nothing |
// orders of texts u64 each.
func (a *dueAnswer) append(b []byte) []byte {
	b = wire.AppendU64(wire.AppendU64(b, uint64(a.at.Unix())), uint64(a.asked.Unix()))
	b = appendSpans(wire.AppendBool(b, a.own), a.nothing)
	for _, t := range a.texts {
		b = wire.AppendU64(b, t.order)
	}
	return b
}

// loadAnswer reads what append wrote; texts that are not kept any more are left out.
func (m *Machine) loadAnswer(key, value []byte) error {
	kr, r := wire.NewReader(key), wire.NewReader(value)
	a := &dueAnswer{number: kr.U64()}
	a.at, a.asked = time.Unix(int64(r.U64()), 0), time.Unix(int64(r.U64()), 0)
	a.own, a.nothing = r.Bool(), readSpans(r)
	for r.Len() > 0 && r.Err() == nil {
		order := r.U64()
		if i, ok := slices.BinarySearchFunc(m.texts.list, order, func(t *keptText, order uint64) int { return cmp.Compare(t.order, order) }); ok {
			a.texts = append(a.texts, m.texts.list[i])
		}
	}
	m.answersDue = append(m.answersDue, a)
	if err := kr.Done(); err != nil {
		return err
	}
	return r.Done()
}

// wakeAnswers lets answers from before this opening wait until the mailboxes had
// time to be read, and a moment for every member.
func (m *Machine) wakeAnswers() {
	rest := m.rules().Deadline / lackRest
	for _, a := range m.answersDue {
		at := m.now.Add(rest + m.jitter(rest))
		if a.own || a.at.Before(at) || a.at.Sub(m.now) > time.Hour { // or the clock was set back
			a.at = at
		}
	}
}
