package member

import (
	"strings"
	"testing"
	"time"

	"parallax/crossverify"
)

// hiding is a membership with an admin Bob, whose operations the test shows on the
// paths it likes; all paths were read to their end.
func hiding(t *testing.T) (m *Machine, makes func(body OperationBody, on ...int) *logged) {
	m = laidDown(t, 6)
	bob, key := newcomer(t, m, "Bob", m.paths...)
	m.adopt(func(*seatState) bool { return true })
	m.follow()
	if _, err := m.makeOperation(OpRole{Seat: bob.seat, Role: RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	m.follow()
	for _, p := range m.paths {
		p.read.opened, p.listed, p.caughtUp, p.read.told, p.read.tell = true, true, true, true, m.now
	}
	m.settle()
	return m, func(body OperationBody, on ...int) *logged {
		t.Helper()
		op := m.roster.Next(key.Public(), unixTime(m.now), body)
		op.Sign(key)
		for _, i := range on {
			m.sawPage(m.paths[i], bob.seat, 0, m.pageVersion(1), AppendOperations(nil, []*Operation{op}))
		}
		m.follow()
		l := m.log[op.Digest()]
		if l == nil || !m.roster.Has(l.digest) {
			t.Fatal("the operation is refused")
		}
		return l
	}
}

// pass lets time pass in steps, so that what is due is told when it is.
func pass(m *Machine, d time.Duration) {
	for end := m.now.Add(d); m.now.Before(end); {
		m.Tick(m.now.Add(time.Second))
	}
}

// TestHiddenRemoval: a relay that does not show a removal which enough others show is
// silent for it after the deadline; a person is told once, in a calm line, after a
// while, and finds it again. What it shows in time, or late, is not told.
func TestHiddenRemoval(t *testing.T) {
	m, makes := hiding(t)
	l := makes(OpRemove{Seat: seatByName(t, m, "M1").seat}, 0, 1)
	status := func() []crossverify.Status { return m.ledger.Report(operationSubject(l)).Status }
	if !m.out(seatByName(t, m, "M1").seat) {
		t.Error("the removal does not count")
	}
	if s := status(); s[0] != crossverify.Matched || s[2] != crossverify.Awaiting {
		t.Errorf("at once: %v", s)
	}
	pass(m, m.rules().Deadline+time.Second)
	if s := status(); s[2] != crossverify.Silent {
		t.Errorf("after the deadline: %v", s)
	}
	if n := m.told(EventRelay, "does not show"); n != 0 {
		t.Error("told within the time that an author may be cut off")
	}
	pass(m, hiddenPatience)
	if n := m.told(EventRelay, "Relay R3 (operator Op) does not show the removal of M1 by Bob, which R1 and R2 show. It counts all the same. Nothing for you to do."); n != 1 {
		t.Errorf("told %d times", n)
	}
	if v := m.rosterInfo(GetRoster{}).Hidden; len(v) != 1 || v[0].What != "remove M1" || len(v[0].Missing) != 1 || v[0].Missing[0] != "R3" {
		t.Errorf("what relays do not show is %+v", v)
	}
	pass(m, time.Hour)
	if n := m.told(EventRelay, "does not show"); n != 1 {
		t.Errorf("told %d times", n)
	}
	again := reopened(t, m)
	again.Tick(m.now)
	pass(again, m.rules().Deadline+time.Second)
	if s := again.ledger.Report(operationSubject(l)).Status; s[0] != crossverify.Matched || s[2] != crossverify.Silent {
		t.Errorf("after a restart: %v", s)
	}
	m.sawPage(m.paths[2], l.op.Seat(), 0, m.pageVersion(1), AppendOperations(nil, []*Operation{l.op}))
	if s := status(); s[2] != crossverify.Matched || len(m.rosterInfo(GetRoster{}).Hidden) != 0 {
		t.Errorf("when the relay shows it: %v", s)
	}
}

// TestHiddenOperationsAreOneLine: what a relay hides of many is one line, what too few
// show is none of a relay's doing, and neither is what an author wrote who had no
// mailbox there.
func TestHiddenOperationsAreOneLine(t *testing.T) {
	m, makes := hiding(t)
	for _, name := range []string{"M1", "M2", "M3", "M4"} {
		makes(OpRole{Seat: seatByName(t, m, name).seat, Role: RoleReader}, 0, 1)
	}
	pass(m, hiddenPatience+m.rules().Deadline+time.Second)
	if n := m.told(EventRelay, "R3 (operator Op) does not show 4 changes of the group that other relays show: the role of M1 by Bob, the role of M2 by Bob, the role of M3 by Bob and 1 more. They count"); n != 1 || m.told(EventRelay, "does not show") != 1 {
		t.Errorf("told %d times", n)
	}

	m, makes = hiding(t)
	makes(OpRole{Seat: seatByName(t, m, "M1").seat, Role: RoleReader}, 0)
	bob := seatByName(t, m, "Bob")
	a := *bob.ann
	a.Mailboxes = a.Mailboxes[:2]
	gone := m.pathOf(bob.ann.Mailboxes[2].Relay).index
	bob.ann = &a
	var on []int
	for i := range m.paths {
		if i != gone {
			on = append(on, i)
		}
	}
	makes(OpRole{Seat: seatByName(t, m, "M2").seat, Role: RoleReader}, on...)
	pass(m, hiddenPatience+m.rules().Deadline+time.Second)
	for _, e := range m.events {
		if e, ok := e.Body.(Event); ok && e.Kind == EventRelay && strings.Contains(e.Text, "does not show") {
			t.Errorf("told: %s", e.Text)
		}
	}
}
