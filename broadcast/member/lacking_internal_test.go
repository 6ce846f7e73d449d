package member

import (
	"strings"
	"testing"
	"time"

	"parallax/internal/wire"
)

// TestLackInfos: what is missing is told by member, over its installations: what is
// looked for, with what is done next, and what was given up beside it.
func TestLackInfos(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	now := source{x.st.seat, x.st.ann.Incarnation}
	before := source{x.st.seat, wire.Incarnation{9}}
	m.received[now] = &sequences{}
	for _, n := range []uint64{1, 5, 6, 9} {
		m.received[now].add(n)
	}
	if v := m.lackInfos(); len(v) != 1 || v[0].Messages != 5 || v[0].State != LackWaits || v[0].Member != "Bob" || v[0].Seat != x.st.seat.String() {
		t.Errorf("of holes that nobody looked at yet: %+v", v)
	}
	l := m.lackOf(now)
	l.questions, l.due = []question{{last: 8, steps: stepWaited | stepFetched}}, m.now.Add(time.Hour)
	if v := m.lackInfos(); len(v) != 1 || v[0].State != LackRelays || !v[0].Next.Equal(l.due) || !strings.Contains(v[0].Text, "if none shows them, the members are asked") {
		t.Errorf("after the relays: %+v", v)
	}
	m.received[before] = &sequences{}
	m.received[before].add(1)
	m.received[before].add(3)
	o := m.lackOf(before)
	o.questions, o.due = []question{{last: 2, steps: stepWaited | stepFetched, asked: 2}}, m.now.Add(time.Minute)
	if v := m.lackInfos(); len(v) != 1 || v[0].Messages != 6 || v[0].State != LackMembers || v[0].Asked != 2 || !v[0].Next.Equal(o.due) || !strings.Contains(v[0].Text, "6 messages of Bob are missing here. The members were asked twice.") {
		t.Errorf("with another installation: %+v", v)
	}
	l.questions, l.due, l.gaveUp = nil, time.Time{}, 4
	v := m.lackInfos()
	if len(v) != 2 || v[0].Messages != 3 || v[0].State != LackMembers || v[1].Messages != 3 || v[1].State != LackEnded || !v[1].Next.IsZero() ||
		!strings.HasPrefix(v[1].Text, "3 messages of Bob did not arrive here: no relay shows them") {
		t.Errorf("with some given up: %+v", v)
	}
}

// TestPathTimes: a relay's usual delay and deadline are told as they are learned.
func TestPathTimes(t *testing.T) {
	m := laidDown(t, 1)
	v := m.pathTimes()
	if len(v) != 3 || v[0].Learned || v[0].Deadline != int(m.policy().Deadline/time.Second) || v[0].Usual != 0 {
		t.Errorf("untaught %+v", v)
	}
	for range 8 {
		m.paths[1].delays.Observe(1300 * time.Millisecond)
	}
	m.paths[2].delays.Observe(time.Second)
	v = m.pathTimes()
	if v[1].Relay != "R2" || !v[1].Learned || v[1].Deadline != 6 || v[1].Usual != 1300 || v[1].Delays != 8 {
		t.Errorf("taught %+v", v[1])
	}
	if v[2].Learned || v[2].Delays != 1 || v[2].Deadline != v[0].Deadline {
		t.Errorf("by one message %+v", v[2])
	}
}
