package member

import (
	"bytes"
	"slices"
	"testing"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

func (m *Machine) statusOf(it *item) []crossverify.Status {
	return m.ledger.Report(it.key().subject()).Status
}

func (m *Machine) hasOpened(it *item) bool {
	msg := m.messages[it.key()]
	return msg != nil && msg.opened
}

// TestHelloNeedsShares: a hello that came on one path does not open, nor what
// follows it; the second path's opens all of it, in order, whatever the third
// does.
func TestHelloNeedsShares(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	all := []*item{x.text(t, "one"), x.text(t, "two"), x.text(t, "three")}
	for _, it := range all {
		x.on(m.paths[2], it)
	}
	x.on(m.paths[0], all[1])
	if len(m.messages) > 0 || len(x.st.session.list) > 0 || len(m.held) != 4 {
		t.Fatalf("one share of two: %d messages, %d sessions, %d held", len(m.messages), len(x.st.session.list), len(m.held))
	}
	x.on(m.paths[0], all[0])
	var got []string
	for _, msg := range m.recent {
		got = append(got, msg.text)
	}
	if !slices.Equal(got, []string{"one", "two", "three"}) || len(m.held) != 0 {
		t.Fatalf("two shares: %q, %d held", got, len(m.held))
	}
	x.on(m.paths[1], all[0])
	for i, s := range m.statusOf(all[0]) {
		if s != crossverify.Matched {
			t.Errorf("R%d: %v", i+1, s)
		}
	}
}

// TestSpoiledShare: a share that was altered makes its path failed for that
// message and holds up nothing; one that was not sent blames nobody.
func TestSpoiledShare(t *testing.T) {
	for _, withheld := range []bool{false, true} {
		m := laidDown(t, 1)
		x := newPeer(t, m, "Bob")
		it := x.text(t, "hello")
		x.shares[m.paths[0]] = x.m.entropyBytes(ratchet.ShareSize)
		want := crossverify.Failed
		if withheld {
			x.shares[m.paths[0]] = make([]byte, ratchet.ShareSize)
			want = crossverify.Matched
		}
		x.on(m.paths[0], it)
		x.on(m.paths[1], it)
		if m.hasOpened(it) {
			t.Fatal("one good share of two opened it")
		}
		x.on(m.paths[2], it)
		if !m.hasOpened(it) {
			t.Fatal("two good shares did not open it")
		}
		if got := m.statusOf(it); !slices.Equal(got, []crossverify.Status{want, crossverify.Matched, crossverify.Matched}) {
			t.Errorf("withheld %v: %v", withheld, got)
		}
		if n := m.told(EventRelay, "spoiled slot"); (n > 0) == withheld {
			t.Errorf("withheld %v: %d events", withheld, n)
		}
	}
}

// TestSpoiledSlotGoodShare: the share that was missing comes beside an altered
// slot; the copy that waits opens at once.
func TestSpoiledSlotGoodShare(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	it := x.text(t, "hello")
	x.on(m.paths[1], it)
	bad := *it
	bad.slot = slices.Clone(it.slot)
	bad.slot[len(bad.slot)-1] ^= 1
	x.on(m.paths[0], &bad)
	if !m.hasOpened(it) {
		t.Fatal("an altered slot holds up the true one")
	}
	if got := m.statusOf(it); got[0] != crossverify.Failed || got[1] != crossverify.Matched {
		t.Errorf("%v", got)
	}
}

// TestAddressingOfReceiving: a share counts only from a path whose board shows
// the sender, and from then on.
func TestAddressingOfReceiving(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeerOn(t, m, "Bob", m.paths[0], m.paths[1])
	it := x.text(t, "hello")
	x.on(m.paths[0], it)
	x.on(m.paths[2], it)
	if m.hasOpened(it) {
		t.Fatal("a share counted from a path that does not show the sender")
	}
	m.sawAnnouncement(m.paths[2], x.st.seat, x.st.ann.Append(nil))
	if !m.hasOpened(it) {
		t.Error("the path shows the sender now, and its share does not count")
	}
}

// slotFor is what a frame posted to a relay has for a seat, and all of it,
// unmasked.
func (m *Machine) slotFor(p *path, q *postItem, post proto.Post, seat wire.Seat) (slot, whole []byte, d wire.Digest, h broadcast.Header) {
	b := m.bundles[q.bundle]
	set := m.sets[b.set]
	whole = slices.Concat(post.Envelope, post.Slots)
	epoch := &m.keyring.epochAt(b.epoch).Key
	broadcast.Mask(whole, epoch, p.ref.Key, post.Nonce, 0)
	at := len(b.envelope)
	for _, i := range set.at(p.index).order {
		size := b.classes[i].Size()
		if set.seats[i] == seat {
			slot = whole[at : at+size]
		}
		at += size
	}
	h, d, err := broadcast.ReadHeader(m.gid, epoch, whole[:len(b.envelope)])
	if err != nil {
		panic(err)
	}
	return slot, whole, d, h
}

// reopenOutbox reads bundles and posts again from what this turn wrote.
func (m *Machine) reopenOutbox(t *testing.T) {
	m.bundles = map[uint64]*bundleRecord{}
	for _, p := range m.paths {
		p.queue = nil
	}
	for _, kind := range []byte{keyBundle, keyPost} {
		for _, op := range m.ops {
			if op.Key[16] != kind {
				continue
			}
			read := map[byte]func(key, value []byte) error{keyBundle: m.loadBundle, keyPost: m.loadPost}[kind]
			if err := read(op.Key[17:], op.Value); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSharesKeepToTheirPath: a relay gets its own share and no other's, the same
// bytes after a crash; a relay that does not show the seat gets none, also when
// it shows the seat later.
func TestSharesKeepToTheirPath(t *testing.T) {
	for _, shown := range []int{3, 2} {
		m := laidDown(t, 1)
		x := newPeerOn(t, m, "Bob", m.paths[:shown]...)
		x.st.initial = true
		m.Ready()
		m.sendBundle(KindHello, nil)
		for _, p := range m.paths {
			q := p.queue[len(p.queue)-1]
			b := m.bundles[q.bundle]
			if len(b.shares) != 1 || !bytes.Contains(b.slots, make([]byte, ratchet.ShareSize)) {
				t.Fatal("the bundle does not keep slot and shares apart")
			}
			first := m.post(p, q, true)
			slot, whole, _, _ := m.slotFor(p, q, first.Post, x.st.seat)
			for i, o := range m.paths {
				want := i == p.index && i < shown
				if got := bytes.Contains(whole, b.shares[0].sealed[o.index][:]); got != want {
					t.Errorf("%d show the seat: share of %s in the frame to %s: %v", shown, o.label(), p.label(), got)
				}
			}
			if len(slot) != ratchet.HelloSlotSize || blank(shareAt(slot)) != (p.index >= shown) {
				t.Errorf("%d show the seat: the slot for %s", shown, p.label())
			}
			m.sawAnnouncement(p, x.st.seat, x.st.ann.Append(nil))
			m.reopenOutbox(t)
			again := m.post(p, p.queue[len(p.queue)-1], true)
			if !bytes.Equal(first.Frame().Body, again.Frame().Body) {
				t.Errorf("%d show the seat: other bytes to %s after a crash", shown, p.label())
			}
		}
	}
}

// TestNotReachable: nobody begins with a seat that too few paths show.
func TestNotReachable(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeerOn(t, m, "Bob", m.paths[0], m.paths[1])
	x.st.initial = true
	if !m.starts(x.st) {
		t.Error("two of three paths show the seat, and nobody begins")
	}
	m.state.Policy.Strict, m.genesis.Policy.Strict, m.voting = true, true, nil
	if m.starts(x.st) {
		t.Error("begun in a strict group before every relay shows the seat")
	}
	m.setAside(&evidenceRecord{Path: 2})
	if !m.starts(x.st) {
		t.Error("a convicted relay is waited for")
	}
}

// TestAnswerNeedsShares: the first answer opens with two paths' shares, though
// the third alters its own; until then it is kept, also over a restart.
func TestAnswerNeedsShares(t *testing.T) {
	for _, strict := range []bool{false, true} {
		m := laidDown(t, 1)
		m.state.Policy.Strict, m.genesis.Policy.Strict, m.voting = strict, strict, nil
		x := newPeer(t, m, "Bob")
		x.st.initial = true
		m.sendBundle(KindHello, nil)
		self := m.seats[m.self]
		c := &ratchet.Contact{Group: m.gid, Identity: x.identity, Paths: m.pathsPolicy(),
			Self: ratchet.Party{Seat: x.st.seat, Announcement: x.st.digest, Identity: x.identity.Public()},
			Peer: ratchet.Party{Seat: self.seat, Announcement: self.digest, Identity: self.ann.Identity}}
		own := []ratchet.PrekeysPrivate{{ID: 1, Key: x.prekey, KEMID: 1, KEM: m.keyring.prekeys[0].KEM}}
		var a *ratchet.Accepting
		var slot []byte
		var d wire.Digest
		for _, p := range m.paths {
			q := p.queue[len(p.queue)-1]
			slot, _, d, _ = m.slotFor(p, q, m.post(p, q, true).Post, x.st.seat)
			var err error
			if a == nil {
				if a, err = ratchet.AcceptMixed(c, own, slot[:ratchet.HandshakeSize], m.mixing()); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.Share(p.ref.Key, [ratchet.ShareSize]byte(shareAt(slot))); err != nil {
				t.Fatal(err)
			}
		}
		s, ok := a.Ready()
		if !ok {
			t.Fatal("three shares are not enough")
		}
		x.chain = ratchet.SendChain{}
		if _, err := s.Open(m.now, m.entropy, &x.chain, slot[ratchet.HandshakeSize+ratchet.ShareSize:], d); err != nil {
			t.Fatal(err)
		}
		x.session, x.hello = s, nil
		it := x.text(t, "answer")
		on := func(p *path, spoil bool) {
			share, ok := s.AnswerShare(p.ref.Key)
			if !ok {
				t.Fatal("no share of the answer")
			}
			if spoil {
				share[0] ^= 1
			}
			o := *it
			o.slot = append(share[:], it.slot...)
			x.on(p, &o)
		}
		on(m.paths[0], !strict)
		on(m.paths[1], false)
		if m.hasOpened(it) {
			t.Fatal("opened with too few shares")
		}
		raw, err := x.st.session.list[0].MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ratchet.ParseSession(raw)
		if err != nil {
			t.Fatal(err)
		}
		x.st.session.list[0].Session = again
		on(m.paths[2], false)
		if !m.hasOpened(it) {
			t.Fatalf("strict %v: the answer does not open", strict)
		}
		want := []crossverify.Status{crossverify.Failed, crossverify.Matched, crossverify.Matched}
		if strict {
			want[0] = crossverify.Matched
		}
		if got := m.statusOf(it); !slices.Equal(got, want) {
			t.Errorf("strict %v: %v", strict, got)
		}
	}
}

// TestAnsweringBundle: a responder's slots carry the answer's shares until the
// other end is known to have them, each on its path.
func TestAnsweringBundle(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	m.sendBundle(KindText, []byte("back"))
	var content keys.ContentKey
	for i, p := range m.paths {
		q := p.queue[len(p.queue)-1]
		slot, whole, d, _ := m.slotFor(p, q, m.post(p, q, true).Post, x.st.seat)
		if len(slot) != ratchet.AnsweringSlotSize {
			t.Fatalf("a slot of %d bytes", len(slot))
		}
		for j, share := range m.bundles[q.bundle].shares[0].sealed {
			if bytes.Contains(whole, share[:]) != (i == j) {
				t.Errorf("share of R%d in the frame to %s", j+1, p.label())
			}
		}
		var err error
		content, err = x.session.OpenAnswer(m.now, m.entropy, &x.chain, p.ref.Key, slot, d)
		if (err == nil) != (i == 1) && i < 2 {
			t.Fatalf("path %d: %v", i, err)
		}
	}
	content.Zero()
	x.everywhere(x.text(t, "confirmed"))
	m.sendBundle(KindText, []byte("standing"))
	if c := m.bundles[m.counters.order-3].classes; slices.Contains(c, broadcast.Answering) {
		t.Errorf("after the confirmation: %v", c)
	}
}

// TestConvictedLeavesThePolicy: a convicted relay's share does not count. A
// hello from before the conviction opens by the others, one made after it by
// whoever has the evidence too, also when that comes later.
func TestConvictedLeavesThePolicy(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	before := x.text(t, "before")
	m.setAside(&evidenceRecord{Path: 2})
	x.on(m.paths[2], before)
	x.on(m.paths[0], before)
	if m.hasOpened(before) {
		t.Fatal("a convicted relay's share counted")
	}
	x.on(m.paths[1], before)
	if !m.hasOpened(before) {
		t.Fatal("a hello from before the conviction does not open")
	}
	x.greet(t)
	after := x.text(t, "after")
	m.paths[2].aside = false
	x.on(m.paths[0], after)
	x.on(m.paths[1], after)
	if m.hasOpened(after) {
		t.Fatal("a policy that this member does not know was taken")
	}
	m.setAside(&evidenceRecord{Path: 2})
	m.retryHeld(wire.Seat{})
	if !m.hasOpened(after) {
		t.Error("the evidence came, and the hello does not open")
	}
}

// TestSharesOfOneOperator: k counts relays and is such that fewer than a quorum
// of operators never hold k shares, however many relays one of them runs.
func TestSharesOfOneOperator(t *testing.T) {
	for _, c := range []struct {
		operators string // of the relays, a letter each
		quorum    uint8
		strict    bool
		k         int
	}{
		{"ABC", 0, false, 2}, {"ABCDE", 0, false, 3}, {"ABC", 0, true, 3}, {"ABC", 1, false, 1},
		{"AABC", 0, false, 3}, {"AABBC", 0, false, 3}, {"AABBCC", 0, false, 3}, {"AAABC", 3, false, 5}, {"AA", 0, false, 1}, {"AAB", 0, false, 3},
	} {
		m := laidDown(t, 1)
		m.state.Policy.Strict, m.state.Policy.Quorum = c.strict, c.quorum
		m.voting, m.genesis.Relays, m.paths = nil, nil, nil
		for i, o := range c.operators {
			ref := RelayRef{Key: keys.NewPrivate[keys.RoleRelay]([32]byte{byte(i + 1)}).Public(), Operator: keys.NewPrivate[keys.RoleOperator]([32]byte{byte(o)}).Public()}
			m.genesis.Relays = append(m.genesis.Relays, ref)
			m.paths = append(m.paths, &path{index: i, ref: ref})
		}
		if got := m.mixing(); got.K != c.k || len(got.Relays) != len(c.operators) {
			t.Errorf("relays of %s, quorum %d, strict %v: %d of %d, want %d", c.operators, c.quorum, c.strict, got.K, len(got.Relays), c.k)
		}
	}
}
