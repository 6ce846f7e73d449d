package member

import (
	"slices"
	"testing"

	"parallax/crossverify"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// reopened is the membership as its store has it after what was written.
func reopened(t *testing.T, m *Machine) *Machine { return reopenedOn(t, memory.New(), m) }

// reopenedOn is the same on a store that has what was written before.
func reopenedOn(t *testing.T, s *memory.Store, m *Machine) *Machine {
	t.Helper()
	m.saveMeta()
	m.saveVector()
	for _, st := range m.sortedSeats() {
		m.saveSeat(st)
	}
	for _, l := range m.sortedLog() {
		m.saveLogged(l)
	}
	w := m.Ready().Write
	var err error
	if w.Base, err = s.Revision(m.unit); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply([]store.Batch{*w})[0]; err != nil {
		t.Fatal(err)
	}
	again, err := Open(Config{})(m.unit, s, benchEntropy{})
	if err != nil {
		t.Fatal(err)
	}
	return again.(*Machine)
}

// TestAgreementOutlivesRestart: what keeps two members from falling back behind
// what they agreed is in the store: which sessions only receive and of which
// installation they are, what was begun today, what a hello may be asked for.
func TestAgreementOutlivesRestart(t *testing.T) {
	m := laidDown(t, 1)
	for _, o := range m.keyring.prekeys {
		m.savePrekeys(o)
	}
	x := begins(t, m)
	s := x.st.session.list[0]
	s.retired, s.kem, s.reinforced, s.incarnation = true, 7, 8, [8]byte{9}
	m.saveSessions(x.st)
	m.supersede(x.st)
	x.st.kept.repeats = 2
	m.saveHello(x.st)
	m.getStuck(x.st)
	m.meta.Superseded = true

	r := reopened(t, m)
	st := r.seats[x.st.seat]
	if len(st.session.list) != 1 || st.out != nil {
		t.Fatalf("%d sessions, one sends: %v", len(st.session.list), st.out != nil)
	}
	got := st.session.list[0]
	if !got.retired || got.kem != s.kem || got.reinforced != s.reinforced || got.incarnation != s.incarnation || got.index != s.index || got.Transcript() != s.Transcript() {
		t.Errorf("the session reads back as retired %v, kem %d, reinforced %d, of %x", got.retired, got.kem, got.reinforced, got.incarnation)
	}
	if !slices.Equal(st.attempts, x.st.attempts) || len(st.attempts) != 1 {
		t.Errorf("attempts %v, not %v", st.attempts, x.st.attempts)
	}
	if st.stuck.Unix() != m.now.Unix() {
		t.Errorf("stuck since %v, not %v", st.stuck, m.now)
	}
	if !slices.Equal(st.former, x.st.former) || len(st.former) != 1 {
		t.Errorf("earlier announcements %v, not %v", st.former, x.st.former)
	}
	if st.kept == nil || st.kept.transcript != x.st.kept.transcript || st.kept.handshake != x.st.kept.handshake ||
		!slices.Equal(st.kept.shares, x.st.kept.shares) || st.kept.repeats != 2 {
		t.Errorf("the handshake part that may be asked for reads back as %+v", st.kept)
	}
	if !r.meta.Superseded {
		t.Error("a seat that was taken over would send again")
	}
	if len(r.keyring.prekeys) != 1 || r.keyring.newest().digest != m.keyring.newest().digest {
		t.Errorf("%d prekeys", len(r.keyring.prekeys))
	}
}

// TestOtherInstallation: with a new installation of a seat nothing is sent in
// sessions of the earlier one, and its hello is waited for.
func TestOtherInstallation(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	if x.st.out == nil {
		t.Fatal("no session sends")
	}
	a := *x.st.ann
	a.Version, a.Previous, a.Incarnation = 2, x.st.digest, [8]byte{1}
	m.newInstallation(x.st, &a)
	m.supersede(x.st)
	x.st.ann, x.st.digest = &a, a.Digest()
	for i := range m.paths {
		m.ledger.Claim(m.now, crossverify.Path(i), crossverify.Announcement(a.Seat, 2), x.st.digest)
	}
	m.seatChanged(x.st)
	if x.st.out != nil || m.sender(x.st) != nil {
		t.Error("a session of the lost installation still sends")
	}
	if at, ok := m.wants(x.st); !ok || !at.Equal(m.now.Add(m.cfg.Limits.HelloWait)) {
		t.Errorf("begins at %v, want after the wait", at)
	}
}
