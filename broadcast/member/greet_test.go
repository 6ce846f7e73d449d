package member

import "testing"

// TestWaited: a seat that was usable before this opening was waited for
// already. As soon as a quorum is read to its end and no hello was there, this
// end starts, since a process may live shorter than the wait.
func TestWaited(t *testing.T) {
	m := laidDown(t, 2)
	st := seatByName(t, m, "M0")
	st.session.list, st.initial = nil, false
	m.wakeUp()
	if m.starts(st) {
		t.Error("started before anything was read")
	}
	for i, p := range m.paths {
		p.read.opened, p.caughtUp = true, i == 0
	}
	if m.starts(st) {
		t.Error("started while a hello may still wait")
	}
	for _, p := range m.paths {
		p.caughtUp = true
	}
	if !m.starts(st) {
		t.Error("not started although the mailboxes are drained")
	}
	st.waited = false
	if m.starts(st) {
		t.Error("started at once with a seat that just came")
	}
}
