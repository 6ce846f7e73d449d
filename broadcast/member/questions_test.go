package member

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"parallax/internal/wire"
)

// asks runs all questions about a source to their end, each step when it is due,
// and counts how often each number was asked for.
func (m *Machine) asks(t *testing.T, l *lack) map[uint64]int {
	t.Helper()
	asked := map[uint64]int{}
	for steps := 0; !l.due.IsZero(); steps++ {
		if steps > 10_000 {
			t.Fatal("it does not end")
		}
		if l.due.After(m.now) {
			m.now = l.due
		}
		ask := &asking{room: maxNumbers}
		if m.endAnswered(l) {
			m.runQuestions(l, ask)
		}
		n := uint64(0)
		for _, s := range ask.spans {
			for i := s.From; i <= s.To; i++ {
				asked[i]++
				n++
			}
		}
		if n > maxNumbers || len(ask.spans) > MaxRefetchSpans {
			t.Fatalf("%d numbers in %d spans are asked for at once", n, len(ask.spans))
		}
		if n > 0 {
			if m.now.Before(m.askedAt.Add(askEvery)) {
				t.Fatal("asked twice within a minute")
			}
			m.askedAt = m.now
		}
	}
	return asked
}

// TestManyMissing: of a hole that does not fit into a refetch every number is asked
// for before it is given up, and so is one of more parts than there are questions.
func TestManyMissing(t *testing.T) {
	for _, last := range []uint64{2, 300, 256 * (maxQuestions + 3)} {
		m := laidDown(t, 1)
		x := newPeer(t, m, "Bob")
		x.everywhere(x.text(t, "first"))
		x.sequence = last
		x.everywhere(x.text(t, "last"))
		l := m.lacks[source{x.st.seat, x.st.ann.Incarnation}]
		if l == nil {
			t.Fatal("nothing is missing")
		}
		asked := m.asks(t, l)
		for n := uint64(2); n <= last; n++ {
			if asked[n] != maxAsks {
				t.Fatalf("of %d numbers, number %d was asked for %d times", last, n, asked[n])
			}
		}
		told := 0
		for _, e := range m.events {
			if b := e.Body.(Event); b.Kind == EventGap {
				told += b.Total
			}
		}
		if told != int(last-1) || l.gaveUp != last || len(l.questions) != 0 {
			t.Errorf("told of %d of %d, gave up to %d, %d questions are left", told, last-1, l.gaveUp, len(l.questions))
		}
	}
}

// TestNewHolesKeepOldOnes: a hole that shows later neither begins the asking for an
// older one again nor is given up with it.
func TestNewHolesKeepOldOnes(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "1"))
	asked, began := map[uint64]int{}, m.now
	for i := range 40 * 24 { // an hour a turn, a new hole every fourth
		if i%4 == 0 {
			x.sequence++
			x.everywhere(x.text(t, "after a hole"))
		}
		l := m.lacks[source{x.st.seat, x.st.ann.Incarnation}]
		m.now = m.now.Add(time.Hour)
		ask := &asking{room: maxNumbers}
		if m.endAnswered(l) {
			m.runQuestions(l, ask)
		}
		for _, s := range ask.spans {
			for n := s.From; n <= s.To; n++ {
				asked[n]++
			}
		}
		if len(l.questions) > maxQuestions {
			t.Fatalf("%d questions", len(l.questions))
		}
	}
	l := m.lacks[source{x.st.seat, x.st.ann.Incarnation}]
	for n := uint64(2); n <= l.gaveUp; n += 2 {
		if asked[n] == 0 || asked[n] > maxAsks {
			t.Errorf("number %d was given up after %d questions", n, asked[n])
		}
	}
	if l.gaveUp < x.sequence/2 {
		t.Errorf("after %v number %d is still asked for, the newest is %d", m.now.Sub(began), l.gaveUp+1, x.sequence)
	}
}

// TestLiesAboutNumbers: numbers that a member names and that are not there cost
// questions, hide no hole, and push out no number that is near.
func TestLiesAboutNumbers(t *testing.T) {
	m := laidDown(t, 1)
	x, mal := newPeer(t, m, "Bob"), newPeer(t, m, "Mal")
	x.everywhere(x.text(t, "1"))
	s := source{x.st.seat, x.st.ann.Incarnation}
	lie := View{}
	for i := range uint64(MaxRecents) {
		lie.Recents = append(lie.Recents, Recent{Seat: [8]byte(s.seat[:8]), Incarnation: s.incarnation, Sequence: 1<<62 + i, D: wire.Digest{1}})
	}
	mal.everywhere(mal.write(t, Content{Kind: KindAck, View: lie}))
	l := m.lacks[s]
	if l == nil || len(l.seen) != maxSeen {
		t.Fatal("what a member names is not asked for")
	}
	m.noteSeen(mal.st.seat, View{Recents: []Recent{{Seat: [8]byte(s.seat[:8]), Incarnation: s.incarnation, Sequence: 2}}})
	if len(l.seen) != maxSeen || l.seen[0].last != 2 {
		t.Fatalf("number 2 found no place: %+v", l.seen)
	}
	if asked := m.asks(t, l); asked[2] != maxAsks || asked[1<<62] != maxAsks || l.gaveUp != 0 {
		t.Errorf("asked %v, gave up to %d", asked, l.gaveUp)
	}
	mal.everywhere(mal.write(t, Content{Kind: KindAck, View: lie}))
	if !l.due.IsZero() {
		t.Error("what was given up is asked for again at once")
	}
	m.now = m.now.Add(notedFor + time.Second)
	m.noteSeen(mal.st.seat, View{Recents: []Recent{{Seat: [8]byte(s.seat[:8]), Incarnation: s.incarnation, Sequence: 2}}})
	if l.due.IsZero() {
		t.Error("it is never asked for again")
	}
	// Bob speaks: number 2 is missing by his own word.
	x.sequence = 2
	x.everywhere(x.text(t, "3"))
	if l = m.lacks[s]; len(l.questions) != 1 || slices.ContainsFunc(l.seen, func(q question) bool { return q.last <= 3 }) {
		t.Fatalf("%+v", l.questions)
	}
	if asked := m.asks(t, l); asked[2] != maxAsks || l.gaveUp != 2 {
		t.Errorf("asked %v, gave up to %d", asked, l.gaveUp)
	}
}

// TestNobodyIsKeptFromAsking: questions of others put an own one off once.
func TestNobodyIsKeptFromAsking(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "1"))
	x.sequence++
	x.everywhere(x.text(t, "3"))
	l := m.lacks[source{x.st.seat, x.st.ann.Incarnation}]
	first := l.due
	ask := []Span{{l.seat, l.incarnation, 2, 2}}
	m.othersAsk(wire.Seat{1}, ask)
	once := l.due
	m.now = m.now.Add(20 * time.Second)
	m.othersAsk(wire.Seat{2}, ask)
	if !once.After(first) || !l.due.Equal(once) {
		t.Errorf("due at %v, then at %v, then at %v", first, once, l.due)
	}
}

// TestALieAsksOnce: for what only others named a member waits longer with each other
// that asks, and not at all any more when many have; one that asks again and again
// changes nothing, and a hole by the sender's own word is asked for whoever asked.
func TestALieAsksOnce(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "1"))
	s := source{x.st.seat, x.st.ann.Incarnation}
	m.mayLackSeen(s, 3)
	l := m.lacks[s]
	ask := []Span{{l.seat, l.incarnation, 2, 9}}
	began := m.now
	for i := range byte(maxOthers) {
		if l.due.IsZero() {
			t.Fatalf("over after %d others", i)
		}
		m.othersAsk(wire.Seat{9, i}, ask)
		due := l.due
		m.othersAsk(wire.Seat{9, i}, ask)
		if !l.due.Equal(due) {
			t.Fatal("one member puts a question off again and again")
		}
	}
	if !l.due.IsZero() || !l.seen[0].did(stepOver) || len(m.events) > 0 && m.told(EventGap, "") > 0 {
		t.Errorf("after %d others it is due at %v", maxOthers, l.due)
	}
	if m.now != began {
		t.Fatal("time passed")
	}
	x.sequence = 3
	x.everywhere(x.text(t, "4"))
	if asked := m.asks(t, l); asked[3] != maxAsks || asked[2] != maxAsks {
		t.Errorf("asked %v", asked)
	}
}

// TestQuestionsOutliveRestart pins the record and what it says after opening.
func TestQuestionsOutliveRestart(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "1"))
	x.sequence++
	x.everywhere(x.text(t, "3"))
	s := source{x.st.seat, x.st.ann.Incarnation}
	l := m.lacks[s]
	q := &l.questions[0]
	q.asked, q.steps = 3, stepWaited|stepFetched
	m.step(q, m.now.Add(askAgain[2]))
	m.mayLackSeen(s, 9)
	at := q.at
	const format = "0000000000000000" + "00" + "01" + "0000000000000002" + "03" + "03" + "AT" + "01" + "0000000000000009" + "00" + "00" + "AT"
	u := hex.EncodeToString(wire.U64(uint64(at)))
	if got := hex.EncodeToString(recordOf(m, m.key(keyLack, []byte{partLack}, s.seat[:], s.incarnation[:]))); got != string(bytes.ReplaceAll([]byte(format), []byte("AT"), []byte(u))) {
		t.Errorf("the record is %s", got)
	}
	was := l.due
	r := reopened(t, m)
	r.now = time.Unix(at+60, 0)
	r.lookForLacks()
	got := r.lacks[s]
	if len(got.questions) != 1 || got.questions[0].asked != 3 || len(got.seen) != 1 || !got.questions[0].due.Equal(time.Unix(at, 0).Add(time.Hour)) {
		t.Fatalf("read back %+v, %+v; it was due at %v", got.questions, got.seen, was)
	}
	if !r.askedAt.Equal(time.Unix(at, 0)) {
		t.Errorf("asked last at %v", r.askedAt)
	}
	// A clock that was set back a year makes nobody wait for one.
	r.now = time.Unix(at, 0).AddDate(-1, 0, 0)
	r.lookForLacks()
	if got.questions[0].due.After(r.now.Add(time.Hour)) {
		t.Errorf("due at %v, it is %v", got.questions[0].due, r.now)
	}
}

// recordOf is what this turn writes under a key.
func recordOf(m *Machine, key []byte) []byte {
	if i, ok := m.opAt[string(key)]; ok {
		return m.ops[i].Value
	}
	return nil
}

func FuzzQuestions(f *testing.F) {
	f.Add(appendQuestions(nil, []question{{last: 3, asked: 2, steps: stepWaited, at: 77}, {last: 9}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wire.NewReader(b)
		list := readQuestions(r, maxQuestions)
		if r.Done() == nil && !bytes.Equal(appendQuestions(nil, list), b) {
			t.Errorf("%x reads as what is written %x", b, appendQuestions(nil, list))
		}
	})
}

// TestAnswersOutliveRestart pins the record of an answer that waits.
func TestAnswersOutliveRestart(t *testing.T) {
	m := laidDown(t, 1)
	x, y := newPeer(t, m, "Bob"), newPeer(t, m, "Cy")
	y.everywhere(y.text(t, "1"))
	y.everywhere(y.text(t, "2"))
	y.st.came, x.st.came = 1, 1
	m.sawRefetch(x.st, AppendRefetch(nil, &Refetch{Messages: []Span{
		{y.st.seat, y.st.ann.Incarnation, 1, 2}, {m.self, m.keyring.inc, 1, 3}}}))
	if len(m.answersDue) != 2 {
		t.Fatalf("%d answers wait", len(m.answersDue))
	}
	others := m.answersDue[1]
	got := hex.EncodeToString(recordOf(m, m.key(keyAnswer, wire.U64(others.number))))
	want := hex.EncodeToString(wire.U64(uint64(others.at.Unix()))) + hex.EncodeToString(wire.U64(uint64(m.now.Unix()))) + "0000" +
		hex.EncodeToString(wire.U64(others.texts[0].order)) + hex.EncodeToString(wire.U64(others.texts[1].order))
	if got != want {
		t.Errorf("the record is %s, not %s", got, want)
	}
	r := reopened(t, m)
	r.now = m.now.Add(-24 * time.Hour) // a clock that was set back
	r.wakeAnswers()
	if len(r.answersDue) != 2 || !r.answersDue[0].own || len(r.answersDue[0].nothing) != 1 || len(r.answersDue[1].texts) != 2 || r.answersDue[1].own {
		t.Fatalf("read back %+v", r.answersDue)
	}
	for _, a := range r.answersDue {
		if a.at.Sub(r.now) > time.Minute {
			t.Errorf("it waits %v", a.at.Sub(r.now))
		}
	}
}
