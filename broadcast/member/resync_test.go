package member

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"parallax/internal/wire"
	"parallax/ratchet"
)

// TestHelloGolden pins the body of a hello.
func TestHelloGolden(t *testing.T) {
	notes := []HelloNote{{Seat: [8]byte{1, 2}, Replaces: wire.Digest{3}}, {Seat: [8]byte{4}, Missed: true}}
	b := AppendHello(nil, notes)
	const want = "010002" + "0102000000000000" + "0300000000000000000000000000000000000000000000000000000000000000" + "00" +
		"0400000000000000" + "0000000000000000000000000000000000000000000000000000000000000000" + "01"
	if hex.EncodeToString(b) != want {
		t.Errorf("%x", b)
	}
	got, err := ParseHello(b)
	if err != nil || !slices.Equal(got, notes) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseHello(nil); err != nil || got != nil {
		t.Errorf("an empty hello: %v, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"cut":     b[:len(b)-1],
		"longer":  append(slices.Clone(b), 0),
		"format":  append([]byte{2}, b[1:]...),
		"none":    {1, 0, 0},
		"many":    {1, 0xff, 0xff},
		"twice":   AppendHello(nil, []HelloNote{notes[0], notes[0]}),
		"nothing": AppendHello(nil, []HelloNote{{Seat: [8]byte{9}}}),
	} {
		if _, err := ParseHello(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzHello(f *testing.F) {
	f.Add(AppendHello(nil, []HelloNote{{Seat: [8]byte{1}, Missed: true}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		notes, err := ParseHello(b)
		if err == nil && !bytes.Equal(AppendHello(nil, notes), b) {
			t.Errorf("%x reads as what is written %x", b, AppendHello(nil, notes))
		}
	})
}

// begins makes m begin with a new peer, which gets nothing of it yet.
func begins(t *testing.T, m *Machine) *peer {
	x := newPeer(t, m, "Bob")
	x.st.initial = true
	m.greet()
	if x.st.unanswered() == nil {
		t.Fatal("no session was begun")
	}
	return x
}

// lastSlots are the newest bundle's slots for a seat, by path.
func (m *Machine) lastSlots(seat wire.Seat) (slots [][]byte, d wire.Digest) {
	for _, p := range m.paths {
		q := p.queue[len(p.queue)-1]
		var slot []byte
		slot, _, d, _ = m.slotFor(p, q, m.post(p, q, true).Post, seat)
		slots = append(slots, slot)
	}
	return slots, d
}

// accepts is the peer's end of a hello that m began.
func (x *peer) accepts(t *testing.T, slots [][]byte, d wire.Digest) *ratchet.Session {
	t.Helper()
	m, self := x.m, x.m.seats[x.m.self]
	c := &ratchet.Contact{Group: m.gid, Identity: x.identity, Paths: m.pathsPolicy(),
		Self: ratchet.Party{Seat: x.st.seat, Announcement: x.st.digest, Identity: x.identity.Public()},
		Peer: ratchet.Party{Seat: self.seat, Announcement: self.digest, Identity: self.ann.Identity}}
	own := []ratchet.PrekeysPrivate{{ID: 1, Key: x.prekey, KEMID: 1, KEM: m.keyring.newest().KEM}}
	var a *ratchet.Accepting
	for i, p := range m.paths {
		if len(slots[i]) != ratchet.HelloSlotSize {
			t.Fatalf("a slot of %d bytes is no hello", len(slots[i]))
		}
		var err error
		if a == nil {
			if a, err = ratchet.AcceptMixed(c, own, slots[i][:ratchet.HandshakeSize], m.mixing()); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Share(p.ref.Key, [ratchet.ShareSize]byte(shareAt(slots[i]))); err != nil {
			t.Fatal(err)
		}
	}
	s, ok := a.Ready()
	if !ok {
		t.Fatal("too few shares")
	}
	var chain ratchet.SendChain
	if _, err := s.Open(m.now, m.entropy, &chain, slots[0][len(slots[0])-ratchet.SlotSize:], d); err != nil {
		t.Fatalf("the slot beside the handshake part: %v", err)
	}
	return s
}

// TestMissedHello: who holds slots without a hello says so in its own; then the
// handshake part comes once more, in front of a later slot, the shares on their
// own paths, and the earlier messages open too.
func TestMissedHello(t *testing.T) {
	m := laidDown(t, 1)
	x := begins(t, m)
	first, _ := m.lastSlots(x.st.seat)
	m.sendBundle(KindText, []byte("one"))
	one, oneD := m.lastSlots(x.st.seat)
	if len(one[0]) != ratchet.SlotSize {
		t.Fatalf("a text carries the handshake part: %d bytes", len(one[0]))
	}
	ask := x.write(t, Content{Kind: KindHello, Body: AppendHello(nil, []HelloNote{{Seat: [8]byte(m.self[:8]), Missed: true}})})
	x.everywhere(ask)
	if !m.hasOpened(ask) || !x.st.repeat {
		t.Fatal("the peer's own hello, which asks, has no effect")
	}
	m.settle()
	again, d := m.lastSlots(x.st.seat)
	s := x.accepts(t, again, d)
	for i := range first {
		if !bytes.Equal(first[i][:ratchet.HandshakeSize+ratchet.ShareSize], again[i][:ratchet.HandshakeSize+ratchet.ShareSize]) {
			t.Errorf("R%d: other bytes than the first time", i+1)
		}
	}
	var chain ratchet.SendChain
	if _, err := s.Open(m.now, m.entropy, &chain, one[0], oneD); err != nil {
		t.Errorf("the text before: %v", err)
	}
	for range 2 * maxRepeats { // and no more often than maxRepeats
		x.everywhere(x.write(t, Content{Kind: KindHello, Body: AppendHello(nil, []HelloNote{{Seat: [8]byte(m.self[:8]), Missed: true}})}))
		m.settle()
	}
	if x.st.kept.repeats != maxRepeats {
		t.Errorf("sent again %d times, at most %d", x.st.kept.repeats, maxRepeats)
	}
}

// TestRepeatedHello: the other end of it. Slots came without their hello, are
// held, and open when a later one brings the handshake part; where the session
// stands already it is a slot like any other.
func TestRepeatedHello(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	head := x.hello
	x.hello = nil
	one, two := x.text(t, "one"), x.text(t, "two")
	x.everywhere(one)
	x.everywhere(two)
	if len(m.recent) != 0 {
		t.Fatal("something opened without a session")
	}
	x.st.since, x.st.waited = m.now.Add(-time.Hour), true
	if notes := m.notes(); len(notes) != 1 || !notes[0].Missed || notes[0].Seat != [8]byte(x.st.seat[:8]) {
		t.Errorf("the hello asks %+v", notes)
	}
	x.hello = slices.Clone(head)
	three := x.text(t, "three")
	x.everywhere(three)
	x.hello = slices.Clone(head)
	four := x.text(t, "four")
	x.everywhere(four)
	for _, it := range []*item{one, two, three, four} {
		if !m.hasOpened(it) {
			t.Errorf("message %d has not opened", it.header.Sequence)
		}
	}
	if n := len(x.st.session.list); n != 1 {
		t.Errorf("%d sessions of one handshake part", n)
	}
}

// TestAnswerNeverComplete: an answer whose shares stay away is waited for, then
// this end begins again; the new hello names what it replaces, and only a few
// are begun in a day.
func TestAnswerNeverComplete(t *testing.T) {
	m := laidDown(t, 1)
	x := begins(t, m)
	x.st.ann.Expires = m.now.AddDate(1, 0, 0)
	slots, d := m.lastSlots(x.st.seat)
	bob := x.accepts(t, slots, d)
	old := x.st.session.list[len(x.st.session.list)-1]
	x.session, x.hello = bob, nil
	x.chain = bob.Chain(ratchet.SendChain{})
	answer := x.text(t, "answer")
	share, ok := bob.AnswerShare(m.paths[0].ref.Key)
	if !ok {
		t.Fatal("no share of the answer")
	}
	answer.slot = append(share[:], answer.slot...)
	answer.path, answer.n = m.paths[0], 1
	if _, err := m.openSlot(x.st, answer); !errors.Is(err, ratchet.ErrShares) {
		t.Fatalf("one share of two: %v", err)
	}
	for _, p := range m.paths {
		p.read.opened, p.caughtUp = true, true
	}
	m.settle()
	if len(x.st.session.list) != 1 {
		t.Fatal("begun again at once")
	}
	at, ok := m.wants(x.st)
	if want := m.now.Add(m.cfg.Limits.AnswerWait); !ok || !at.Equal(want) {
		t.Errorf("begins again at %v, want %v", at, want)
	}
	m.Tick(at)
	if len(x.st.session.list) != 2 || !old.retired || m.sender(x.st) == old {
		t.Fatal("not begun again after the wait")
	}
	fresh := m.sender(x.st)
	slots, d = m.lastSlots(x.st.seat)
	x.accepts(t, slots, d)
	for range 5 {
		m.getStuck(x.st)
		m.Tick(m.now.Add(time.Hour))
	}
	if n := len(x.st.attempts); n != maxAttempts || m.sender(x.st) == fresh {
		t.Errorf("%d attempts are remembered", n)
	}
	begun := len(x.st.session.list)
	m.Tick(m.now.Add(10 * time.Hour))
	if len(x.st.session.list) != begun {
		t.Error("more than three attempts in a day")
	}
	m.Tick(m.now.Add(attemptDay))
	if len(x.st.session.list) == begun {
		t.Error("no attempt on the next day")
	}
}

// TestReplacedSession: a hello that names a session makes it receive-only here.
func TestReplacedSession(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "one"))
	old := m.sender(x.st)
	late := x.text(t, "late")
	x.greet(t)
	x.everywhere(x.write(t, Content{Kind: KindHello, Body: AppendHello(nil, []HelloNote{{Seat: [8]byte(m.self[:8]), Replaces: old.Transcript()}})}))
	if s := m.sender(x.st); s == nil || s == old || !old.retired {
		t.Fatal("the session that was replaced still sends")
	}
	x.everywhere(late)
	if !m.hasOpened(late) {
		t.Error("what was sent before in the old session does not open any more")
	}
	if m.told(EventSession, "new session keys") != 1 {
		t.Error("nothing is said of it, or more than once")
	}
}

// TestBrokenSession: what a peer sends newest does not open, the same on enough
// paths, in a session that was answered. After the wait this end begins again
// and says what it replaces; both are told, and the old session still receives.
func TestBrokenSession(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(t *testing.T, m *Machine, x *peer)
		stuck bool
	}{
		"everywhere": {func(t *testing.T, m *Machine, x *peer) { x.everywhere(x.spoiled(x.text(t, "lost"))) }, true},
		"on enough relays": {func(t *testing.T, m *Machine, x *peer) {
			it := x.spoiled(x.text(t, "lost"))
			x.on(m.paths[0], it)
			x.on(m.paths[2], it)
		}, true},
		"on one relay": {func(t *testing.T, m *Machine, x *peer) { x.on(m.paths[0], x.spoiled(x.text(t, "lost"))) }, false},
		"differing": {func(t *testing.T, m *Machine, x *peer) {
			it := x.text(t, "lost")
			for _, p := range m.paths {
				x.on(p, x.spoiled(it))
			}
		}, false},
		"older than what opened": {func(t *testing.T, m *Machine, x *peer) {
			it := x.text(t, "lost")
			x.everywhere(x.text(t, "newer"))
			x.everywhere(x.spoiled(it))
		}, false},
		"of an installation before": {func(t *testing.T, m *Machine, x *peer) {
			it := x.spoiled(x.text(t, "lost"))
			it.header.Incarnation[0]++
			x.everywhere(it)
		}, false},
		"followed by what opens": {func(t *testing.T, m *Machine, x *peer) {
			x.everywhere(x.spoiled(x.text(t, "lost")))
			x.everywhere(x.text(t, "newer"))
		}, false},
		"by the only relay that carries it": {func(t *testing.T, m *Machine, x *peer) {
			it := x.spoiled(x.text(t, "lost"))
			it.header.Carriers = 2
			x.on(m.paths[slices.IndexFunc(m.paths, func(p *path) bool { return m.carries(p, 2, m.meta.Lists.era()) })], it)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := laidDown(t, 1)
			x := newPeer(t, m, "Bob")
			x.st.ann.Expires = m.now.AddDate(1, 0, 0)
			x.everywhere(x.text(t, "one"))
			old := m.sender(x.st)
			late := x.text(t, "late")
			c.do(t, m, x)
			if stuck := !x.st.stuck.IsZero(); stuck != c.stuck {
				t.Fatalf("stuck: %v, want %v", stuck, c.stuck)
			}
			m.Tick(m.now.Add(m.cfg.Limits.AnswerWait - time.Second))
			if m.sender(x.st) != old {
				t.Fatal("begun again before the wait")
			}
			var says []HelloNote
			if c.stuck {
				m.now = m.now.Add(time.Second)
				says = m.notes()
			}
			m.Tick(m.now.Add(time.Second))
			if again := m.sender(x.st) != old; again != c.stuck {
				t.Fatalf("begun again: %v, want %v", again, c.stuck)
			}
			if !c.stuck {
				return
			}
			if want := (HelloNote{Seat: [8]byte(x.st.seat[:8]), Replaces: old.Transcript()}); len(says) != 1 || says[0] != want {
				t.Errorf("the hello says %+v", says)
			}
			if !old.retired || m.told(EventSession, "new session keys") != 1 {
				t.Errorf("replaced: %v, told %d times", old.retired, m.told(EventSession, "new session keys"))
			}
			x.everywhere(late)
			if !m.hasOpened(late) {
				t.Error("the session that was replaced does not receive any more")
			}
		})
	}
}

// TestCrossedContacts: what a peer sends without the hello it goes with, while it
// has not answered the own, shows that both hellos were lost: this end begins
// again after the wait.
func TestCrossedContacts(t *testing.T) {
	m := laidDown(t, 1)
	x := begins(t, m)
	x.st.ann.Expires = m.now.AddDate(1, 0, 0)
	old := m.sender(x.st)
	x.greet(t)
	x.text(t, "with the hello that is lost")
	for _, p := range m.paths {
		p.read.opened, p.caughtUp = true, true
	}
	x.everywhere(x.text(t, "two"))
	if x.st.stuck.IsZero() {
		t.Fatal("nothing is noticed")
	}
	m.Tick(m.now.Add(m.cfg.Limits.AnswerWait - time.Second))
	if m.sender(x.st) != old {
		t.Fatal("begun again before the wait")
	}
	m.Tick(m.now.Add(time.Second))
	if s := m.sender(x.st); s == old || !old.retired {
		t.Fatal("not begun again after the wait")
	}
}

// TestBothBegin: both ends begin at once; each copy of the other's hello waits for
// its shares, and that makes neither of them begin again.
func TestBothBegin(t *testing.T) {
	m := laidDown(t, 1)
	x := begins(t, m)
	x.st.ann.Expires = m.now.AddDate(1, 0, 0)
	x.greet(t)
	for _, p := range m.paths {
		p.read.opened, p.caughtUp = true, true
	}
	hello := x.text(t, "with a hello")
	x.on(m.paths[0], hello)
	if x.st.stuck.IsZero() {
		t.Fatal("a hello without its shares is not waited for")
	}
	x.on(m.paths[1], hello)
	if !m.hasOpened(hello) {
		t.Fatal("the hello does not open")
	}
	n := len(x.st.session.list)
	m.Tick(m.now.Add(time.Hour))
	if !x.st.stuck.IsZero() || len(x.st.session.list) != n {
		t.Errorf("begun again: %d sessions of %d, stuck since %v", len(x.st.session.list), n, x.st.stuck)
	}
}

// TestSkippedIsBounded: all sessions together keep Limits.Skipped keys; the
// session with most of them loses its oldest. What is older than the retention
// time goes by itself.
func TestSkippedIsBounded(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Limits.Skipped = 100
	small, big := newPeer(t, m, "Bob"), newPeer(t, m, "Cy")
	for _, x := range []*peer{small, big} {
		x.everywhere(x.text(t, "first"))
	}
	skip := func(x *peer, n int) (missing []*item) {
		for range n {
			missing = append(missing, x.text(t, "late"))
		}
		x.everywhere(x.text(t, "seen"))
		return missing
	}
	few := skip(small, 30)
	many := skip(big, 60)
	many = append(many, skip(big, 60)...)
	if m.skipped != 100 {
		t.Errorf("%d keys are kept, at most 100", m.skipped)
	}
	if n := small.st.session.list[0].Skipped(); n != 30 {
		t.Errorf("the session with few keeps %d of 30", n)
	}
	big.everywhere(many[len(many)-1])
	small.everywhere(few[0])
	if !m.hasOpened(many[len(many)-1]) || !m.hasOpened(few[0]) {
		t.Error("what was kept does not open")
	}
	big.everywhere(many[0])
	if m.hasOpened(many[0]) {
		t.Error("what was dropped opens")
	}
	if m.skipped != 98 {
		t.Errorf("%d keys are counted after two were used", m.skipped)
	}
	m.Tick(m.now.Add(m.retention() - time.Hour))
	if m.skipped != 98 {
		t.Errorf("%d keys within the retention time", m.skipped)
	}
	m.Tick(m.now.Add(3 * time.Hour))
	if m.skipped != 0 || small.st.session.list[0].Skipped() != 0 {
		t.Errorf("%d keys outlive the retention time", m.skipped)
	}
	if !m.sweepAt.IsZero() {
		t.Error("there is nothing to look through and it wakes all the same")
	}
}

// TestPendingHellos: insiders who write hellos in a seat's name fill their own
// share of what is held and no more.
func TestPendingHellos(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	for range 3 * maxPending {
		it := x.text(t, "x")
		it.slot = m.entropyBytes(ratchet.HelloSlotSize)
		x.sequence++
		x.on(m.paths[1], it)
	}
	n := 0
	for _, h := range m.held {
		if len(h.item.slot) == ratchet.HelloSlotSize {
			n++
		}
	}
	if n > maxPending {
		t.Errorf("%d hellos of one seat are held on one path, at most %d", n, maxPending)
	}
	x.greet(t)
	it := x.text(t, "true")
	x.everywhere(it)
	if !m.hasOpened(it) {
		t.Error("the true hello does not open")
	}
}
