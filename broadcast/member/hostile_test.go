package member

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// peer is a member whose keys the test has: it writes true envelopes to m, and
// whatever an insider can write.
type peer struct {
	m        *Machine
	st       *seatState
	identity keys.IdentityPrivate
	prekey   keys.PrekeyPrivate
	session  *ratchet.Session
	chain    ratchet.SendChain
	hello    []byte
	shares   map[*path][]byte // of the hello
	sequence uint64
	n        [16]uint64 // numbers given out, by path
}

// newPeer adds a usable seat with a session begun by its side. It comes first
// in the order of seats, as one can that draws keys until it does.
func newPeer(t *testing.T, m *Machine, name string) *peer {
	return newPeerOn(t, m, name, m.paths...)
}

// newPeerOn is a peer that these paths show.
func newPeerOn(t *testing.T, m *Machine, name string, paths ...*path) *peer {
	draw := func() (s [32]byte) { m.draw(s[:]); return s }
	x := &peer{m: m, identity: keys.NewDHPrivate[keys.RoleIdentity](draw()),
		prekey: keys.NewDHPrivate[keys.RolePrekey](draw())}
	var signing keys.SigningPrivate
	for {
		signing = keys.NewPrivate[keys.RoleMember](draw())
		if s := NewSeat(m.gid, signing.Public()); s[0] < 8 {
			break
		}
	}
	self := m.seats[m.self]
	a := &Announcement{Suite: Suite1, Group: m.gid, Version: 1, Signing: signing.Public(), Identity: x.identity.Public(),
		PrekeyID: 1, Prekey: x.prekey.Public(), KEMID: 1, KEM: self.ann.KEM, Expires: m.now.Add(time.Hour), Name: name}
	a.Seat = NewSeat(m.gid, a.Signing)
	for _, p := range m.paths {
		a.Mailboxes = append(a.Mailboxes, Mailbox{Relay: p.ref.Key, ID: [16]byte(m.entropyBytes(16))})
	}
	slices.SortFunc(a.Mailboxes, func(x, y Mailbox) int { return slices.Compare(x.Relay[:], y.Relay[:]) })
	a.Sign(signing)
	x.st = x.announce(t, a, paths...)
	for _, p := range m.paths {
		p.syncRoot()
		p.read.opened, p.caughtUp = true, true
	}
	x.greet(t)
	return x
}

// announce makes a seat known to m as these relays would show it.
func (x *peer) announce(t *testing.T, a *Announcement, paths ...*path) *seatState {
	m := x.m
	adm := &Admission{Group: m.gid, Seat: a.Seat, Announcement: a.Digest()}
	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 99, PerHour: 99, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	adm.Sign(inv.InviteKey())
	for _, p := range paths {
		p.syncRoot()
		m.sawAnnouncement(p, a.Seat, a.Append(nil))
		m.takeAdmission(p, adm)
	}
	st := m.seats[a.Seat]
	if !m.usable(st) {
		t.Fatal("the peer is not usable")
	}
	return st
}

// greet begins a new session.
func (x *peer) greet(t *testing.T) {
	self := x.m.seats[x.m.self]
	c := &ratchet.Contact{Group: x.m.gid, Identity: x.identity, Paths: x.m.pathsPolicy(),
		Self: ratchet.Party{Seat: x.st.seat, Announcement: x.st.digest, Identity: x.identity.Public()},
		Peer: ratchet.Party{Seat: self.seat, Announcement: self.digest, Identity: self.ann.Identity}}
	paths := x.m.mixing()
	s, chain, handshake, shares, err := ratchet.InitiateMixed(x.m.entropy, x.m.entropy, c, &ratchet.Prekeys{ID: self.ann.PrekeyID, Key: self.ann.Prekey, KEMID: self.ann.KEMID, KEM: self.ann.KEM}, paths)
	if err != nil {
		t.Fatal(err)
	}
	x.session, x.chain, x.hello = s, chain, append(handshake[:], make([]byte, ratchet.ShareSize)...)
	x.shares = map[*path][]byte{}
	for i, relay := range paths.Relays {
		x.shares[x.m.pathOf(relay)] = shares[i][:]
	}
}

// write seals a content as the peer's next message; the slot is true.
func (x *peer) write(t *testing.T, c Content) *item {
	x.sequence++
	var content keys.ContentKey
	if err := content.Draw(x.m.entropy); err != nil {
		t.Fatal(err)
	}
	c.Sent = unixTime(x.m.now)
	h := broadcast.Header{Epoch: x.m.keyring.epoch().Number, Seat: x.st.seat, Incarnation: x.st.ann.Incarnation, Sequence: x.sequence}
	envelope, d, err := broadcast.SealEnvelope(x.m.gid, &x.m.keyring.epoch().Key, h, &content, c.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	slot := append(slices.Clone(x.hello), x.session.Seal(&x.chain, &content, d, nil)...)
	x.hello = nil
	return &item{header: h, d: d, envelope: envelope, slot: slot}
}

func (x *peer) text(t *testing.T, s string) *item {
	return x.write(t, Content{Kind: KindText, Body: []byte(s)})
}

// spoiled is the same envelope with another slot; forged another envelope
// under the same number. Both can be made by whoever has the epoch key.
func (x *peer) spoiled(it *item) *item {
	c := *it
	c.slot = x.m.entropyBytes(ratchet.SlotSize)
	return &c
}

func (x *peer) forged(t *testing.T, sequence uint64) *item {
	var content keys.ContentKey
	if err := content.Draw(x.m.entropy); err != nil {
		t.Fatal(err)
	}
	h := broadcast.Header{Epoch: x.m.keyring.epoch().Number, Seat: x.st.seat, Incarnation: x.st.ann.Incarnation, Sequence: sequence}
	envelope, d, err := broadcast.SealEnvelope(x.m.gid, &x.m.keyring.epoch().Key, h, &content, (&Content{Kind: KindText, Body: []byte("forged")}).Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return &item{header: h, d: d, envelope: envelope, slot: x.m.entropyBytes(ratchet.SlotSize)}
}

// on hands an item over as path p delivered it.
func (x *peer) on(p *path, it *item) {
	c := *it
	x.n[p.index]++
	c.path, c.n, c.lineage = p, x.n[p.index], p.lineage
	c.envelope, c.slot = slices.Clone(it.envelope), slices.Clone(it.slot)
	if len(c.slot) == ratchet.HelloSlotSize && blank(shareAt(c.slot)) {
		copy(shareAt(c.slot), x.shares[p])
	}
	x.m.process(&c, func() { x.m.hold(&c, proto.Deliver{N: c.n}) })
}

// everywhere hands an item over as all paths deliver it.
func (x *peer) everywhere(it *item) {
	for _, p := range x.m.paths {
		x.on(p, it)
	}
}

func (m *Machine) told(kind EventKind, part string) (n int) {
	for _, e := range m.events {
		if body := e.Body.(Event); body.Kind == kind && strings.Contains(body.Text, part) {
			n++
		}
	}
	return n
}

func anyKey([32]byte, []byte, []byte) bool { return true }

// within fails a test that does not end: some of what a relay sends could make
// a member count for years.
func within(t *testing.T, d time.Duration, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatal("it does not end")
	}
}

// TestInsiderCannotSuppress: three forgeries in a peer's name on every path,
// and a relay that never says it is done, do not hold up what the peer sends.
func TestInsiderCannotSuppress(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	m.paths[0].caughtUp = false
	for i := range 5 {
		for _, p := range m.paths {
			x.on(p, x.forged(t, uint64(10+i)))
		}
	}
	it := x.text(t, "true")
	x.on(m.paths[1], it)
	if msg := m.messages[it.key()]; msg == nil || !msg.opened {
		t.Fatal("a true copy with a true slot is not shown")
	}
}

// TestTrueCopyAfterSpoiled: a spoiled copy that came first on a path, which an
// insider can post, gives way to the true one: a strict group shows it.
func TestTrueCopyAfterSpoiled(t *testing.T) {
	m := laidDown(t, 1)
	m.state.Policy.Strict, m.genesis.Policy.Strict, m.voting = true, true, nil
	m.ledger = crossverify.NewLedger(m.policy())
	x := newPeer(t, m, "Bob")
	it := x.text(t, "hello")
	x.on(m.paths[0], it)
	x.on(m.paths[1], x.spoiled(it))
	x.on(m.paths[2], x.forged(t, it.header.Sequence))
	x.on(m.paths[1], it)
	x.on(m.paths[2], it)
	msg := m.messages[it.key()]
	for i, s := range m.ledger.Report(msg.key.subject()).Status {
		if s != crossverify.Matched {
			t.Errorf("R%d: %v", i+1, s)
		}
	}
	if msg.event == 0 {
		t.Error("the message is not shown though every relay carried it")
	}
	if n := m.told(EventRelay, "repeated"); n > 0 {
		t.Errorf("%d relays are said to have repeated something", n)
	}
}

// TestSpoiledAfterForged: a spoiled copy after a forged envelope, or after another
// spoiled one, is no repetition: an insider can post both, before the sender.
func TestSpoiledAfterForged(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "first"))
	it := x.text(t, "hello")
	x.on(m.paths[0], it)
	x.on(m.paths[1], x.forged(t, it.header.Sequence))
	x.on(m.paths[1], x.spoiled(it))
	x.on(m.paths[2], x.spoiled(it))
	x.on(m.paths[2], x.spoiled(it))
	for i, want := range []crossverify.Status{crossverify.Matched, crossverify.Failed, crossverify.Failed} {
		if s := m.ledger.Report(it.key().subject()).Status[i]; s != want {
			t.Errorf("R%d: %v, want %v", i+1, s, want)
		}
	}
	x.on(m.paths[1], it)
	x.on(m.paths[1], x.spoiled(it))
	if s := m.ledger.Report(it.key().subject()).Status[1]; s != crossverify.Matched {
		t.Errorf("R2 carried the true one: %v", s)
	}
	if n := m.told(EventRelay, "repeated"); n > 0 {
		t.Errorf("%d relays are said to have repeated something", n)
	}
	x.on(m.paths[1], it)
	if n := m.told(EventRelay, "repeated"); n != 1 {
		t.Errorf("a true repetition is told %d times", n)
	}
}

// TestOtherEnvelopeUnderOneNumber: a second envelope under a number that is
// matched is no repetition, and two that open are the sender's doing.
func TestOtherEnvelopeUnderOneNumber(t *testing.T) {
	m := laidDown(t, 1)
	x := newPeer(t, m, "Bob")
	it := x.text(t, "hello")
	for _, p := range m.paths {
		x.on(p, it)
	}
	x.on(m.paths[0], x.forged(t, it.header.Sequence))
	if n := m.told(EventRelay, "repeated"); n > 0 {
		t.Error("an insider's envelope is said to be the relay's repetition")
	}
	x.sequence--
	second := x.text(t, "another")
	x.on(m.paths[0], second)
	if m.told(EventBlame, "two different texts") != 1 {
		t.Error("two texts under one number, on one path, are not the sender's doing")
	}
}

// TestMailboxClaimed: a seat that claims another's mailboxes does not get its
// slots: who was known first keeps them.
func TestMailboxClaimed(t *testing.T) {
	m := laidDown(t, 2)
	for _, p := range m.paths {
		p.syncRoot()
	}
	victim := seatByName(t, m, "M0")
	x := &peer{m: m}
	a := *victim.ann
	var signing keys.SigningPrivate
	for {
		signing = keys.NewPrivate[keys.RoleMember]([32]byte(m.entropyBytes(32)))
		s := NewSeat(m.gid, signing.Public())
		if slices.Compare(s[:], victim.seat[:]) < 0 {
			break
		}
	}
	a.Signing, a.Name = signing.Public(), "Liar"
	a.Seat = NewSeat(m.gid, a.Signing)
	a.Sign(signing)
	x.announce(t, &a, m.paths...)
	set := m.recipients()
	at := slices.Index(set.seats, victim.seat)
	for i, p := range m.paths {
		box := set.boxes[at][i]
		f := set.at(p.index)
		j := slices.Index(f.list, box)
		if box == (wire.MailboxID{}) || j < 0 || set.seats[f.order[j]] != victim.seat {
			t.Errorf("on %s the mailbox of %s gets somebody else's slot", p.label(), victim.ann.Name)
		}
	}
	if m.told(EventDispute, "mailbox") == 0 {
		t.Error("nobody is told")
	}
}

// TestOneRelayCannotBlockAJoin: one relay that shows many admissions of a seat,
// as every holder of the link can sign, does not keep the true one from
// counting.
func TestOneRelayCannotBlockAJoin(t *testing.T) {
	m := laidDown(t, 2)
	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 2048, PerHour: 2048, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	signing := keys.NewPrivate[keys.RoleMember]([32]byte{6})
	a := *seatByName(t, m, "M0").ann
	a.Signing, a.Name = signing.Public(), "Cy"
	a.Seat = NewSeat(m.gid, a.Signing)
	a.Sign(signing)
	for _, p := range m.paths {
		p.syncRoot()
	}
	for i := range 40 {
		bad := &Admission{Group: m.gid, Seat: a.Seat, Announcement: wire.Digest{byte(i)}}
		bad.Sign(inv.InviteKey())
		m.sawAdmission(m.paths[0], a.Seat, bad.Append(nil))
	}
	adm := &Admission{Group: m.gid, Seat: a.Seat, Announcement: a.Digest()}
	adm.Sign(inv.InviteKey())
	for _, p := range m.paths[1:] {
		m.sawAnnouncement(p, a.Seat, a.Append(nil))
		m.sawAdmission(p, a.Seat, adm.Append(nil))
	}
	st := m.seats[a.Seat]
	if !m.usable(st) {
		t.Error("two honest relays of three show the admission, and the seat is not usable")
	}
	if n := len(st.adms); n > len(m.paths) {
		t.Errorf("%d admissions are kept", n)
	}
	again := laidDown(t, 1)
	again.paths, again.genesis, again.gid, again.keyring, again.ledger = m.paths, m.genesis, m.gid, m.keyring, crossverify.NewLedger(m.policy())
	again.roster, again.state, again.live = m.roster, m.state, m.live
	m.saveSeat(st)
	for _, op := range m.ops {
		if op.Key[16] == keySeat && wire.Seat(op.Key[17:]) == a.Seat {
			if err := again.loadSeat(op.Key[17:], op.Value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !again.usable(again.seats[a.Seat]) {
		t.Error("after opening again the seat is not usable")
	}
}

// TestBoardFlood: a relay that pushes board entries without end is not kept.
func TestBoardFlood(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Verify = anyKey
	p := m.paths[0]
	p.syncRoot()
	p.read.opened = true
	for i := range uint64(maxBoardEntries + 100) {
		m.entry(p, proto.Entry{N: i + 1, BoardEntry: proto.BoardEntry{Name: wire.Hash("n", wire.U64(i)), Version: 1, Value: []byte("garbage")}})
		if i%100 == 0 {
			m.Ready()
		}
	}
	if p.tree.Len() > maxBoardEntries || p.position != maxBoardEntries+100 {
		t.Errorf("%d entries are kept, position %d", p.tree.Len(), p.position)
	}
}

// TestTrimmedFarAhead: a relay that says it trimmed all numbers there are does
// not keep the member busy for ever.
func TestTrimmedFarAhead(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Verify, m.cfg.Limits.Heads = anyKey, 8
	p := m.paths[0]
	p.syncRoot()
	p.read.opened = true
	bare := func(n uint64) { m.bare(p, proto.Bare{N: n}) }
	within(t, 10*time.Second, func() {
		for n := range uint64(12) {
			bare(n + 1)
		}
		for _, first := range []uint64{1 << 40, 1 << 62} {
			m.trimmed(p, proto.Trimmed{Lineage: p.lineage, First: first})
			p.read.opened = true
			for n := range uint64(30) {
				bare(first + n)
			}
		}
	})
	if len(p.heads) > 8 || p.heads[1<<62+29].N == 0 {
		t.Errorf("%d heads are kept", len(p.heads))
	}
}

// TestNoBusyWake: whatever waits for a relay that is away does not ask to be
// woken in the past, which would burn a core.
func TestNoBusyWake(t *testing.T) {
	m := laidDown(t, 1)
	m.deadline = time.Time{}
	m.Tick(m.now)
	m.paths[0].retryAt = m.now.Add(time.Second)
	m.Tick(m.now.Add(time.Minute))
	if w := m.wake(); !w.IsZero() && !w.After(m.now) {
		t.Errorf("retry: wake at %v, now is %v", w, m.now)
	}
	m = laidDown(t, 1)
	m.meta.Phase = phaseFounding
	m.paths[0].registered = false
	m.deadline = m.now.Add(time.Second)
	m.Tick(m.now.Add(time.Minute))
	if w := m.wake(); !w.IsZero() && !w.After(m.now) {
		t.Errorf("founding: wake at %v, now is %v", w, m.now)
	}
}

// TestRefusedIsNoReceipt: what every relay refused was not sent.
func TestRefusedIsNoReceipt(t *testing.T) {
	m := laidDown(t, 1)
	m.sendText(7, SendText{Text: "x"})
	for _, p := range m.paths {
		p.syncRoot()
		m.refusedPost(p, proto.Refused{PostID: p.queue[len(p.queue)-1].id, Code: proto.CodeNotAllowed})
	}
	m.settle()
	if a, ok := m.answered[7]; ok && a.Err == nil {
		t.Errorf("answered %+v", a.Value)
	}
	m.advance(m.now.Add(time.Hour))
	m.settle()
	if a := m.answered[7]; a.Err == nil || a.Value != nil && a.Value.(SentInfo).Receipts != 0 {
		t.Errorf("answered %+v, %v", a.Value, a.Err)
	}
}

// TestUnaskedReceipt: a receipt is taken only for what was sent, and only if
// it says so.
func TestUnaskedReceipt(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Verify = anyKey
	m.sendText(7, SendText{Text: "x"})
	p := m.paths[0]
	p.syncRoot()
	q := p.queue[len(p.queue)-1]
	m.receipt(p, proto.Receipt{PostID: q.id, Statement: crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, N: 1, D: wire.Digest{1}}})
	if m.queuedPost(p, q.id) == nil {
		t.Error("a statement for something else ended a post")
	}
}

// TestStrictWithoutConvicted: a relay set aside is not waited for by a strict
// group's senders.
func TestStrictWithoutConvicted(t *testing.T) {
	m := laidDown(t, 1)
	m.state.Policy.Strict, m.genesis.Policy.Strict, m.voting = true, true, nil
	m.ledger = crossverify.NewLedger(m.policy())
	m.setAside(&evidenceRecord{Path: 2})
	m.sendText(7, SendText{Text: "x"})
	for _, p := range m.paths[:2] {
		m.forgetPost(p, p.queue[len(p.queue)-1])
	}
	m.settle()
	if a, ok := m.answered[7]; !ok || a.Err != nil {
		t.Errorf("answered %v: %+v", ok, a)
	}
}

// TestExchangeIsKept: what a statement exchange sent is known after a crash,
// so that its own copies are no alarm.
func TestExchangeIsKept(t *testing.T) {
	m := laidDown(t, 2)
	for _, p := range m.paths {
		p.syncRoot()
	}
	m.exchange = []exchangeDue{{path: 0, differ: crossverify.Statement{N: 1}}}
	m.Ready()
	m.runExchanges()
	for _, op := range m.ops {
		if op.Key[16] == keyMessage {
			return
		}
	}
	t.Error("the own message is not stored")
}

// TestChangedClosesLinks: after Changed the machine knows none of its links,
// so it ends them; the driver dials again.
func TestChangedClosesLinks(t *testing.T) {
	s := memory.New()
	machine, err := Open(Config{})([16]byte{1}, s, benchEntropy{})
	if err != nil {
		t.Fatal(err)
	}
	m := machine.(*Machine)
	key := keys.NewPrivate[keys.RoleRelay]([32]byte{1}).Public()
	m.now = time.Unix(1_800_000_000, 0)
	if err := m.create(CreateGroup{Group: "G", Name: "Ann", Relays: []FoundingSpot{{Key: key, Addrs: []string{"/memory/1"}}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply([]store.Batch{*m.Ready().Write})[0]; err != nil {
		t.Fatal(err)
	}
	m.Step(m.now, broadcast.Up{Link: 9, Relay: key, Use: broadcast.PostLink})
	m.Ready()
	m.Step(m.now, broadcast.Changed{Reader: s})
	r := m.Ready()
	if !slices.ContainsFunc(r.Sends, func(s broadcast.Send) bool { return s.Link == 9 && s.Close }) {
		t.Errorf("after Changed: sends %+v", r.Sends)
	}
}

// TestNewLineageForgetsBoard: entries that a relay lost are not read back from
// the store.
func TestNewLineageForgetsBoard(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Verify = anyKey
	p := m.paths[0]
	p.syncRoot()
	p.read.opened = true
	m.entry(p, proto.Entry{N: p.position + 1, BoardEntry: proto.BoardEntry{Name: wire.Digest{1}, Version: 1, Value: []byte("x")}})
	m.Ready()
	m.startLineage(p, wire.Lineage{7: 2})
	m.boardPage(p, proto.BoardPage{Statement: crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: 1}})
	if !p.listed {
		t.Fatal("an empty board is not taken")
	}
	k := m.key(keyBoard, []byte{0}, append([]byte{1}, make([]byte, 31)...))
	if i, ok := m.opAt[string(k)]; !ok || m.ops[i].Value != nil {
		t.Error("the lost entry stays in the store")
	}
}

// TestBoardThatChanges: a board that changes between pages, however often, is
// read again, and no relay is said to lie.
func TestBoardThatChanges(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Verify = anyKey
	p := m.paths[0]
	p.syncRoot()
	p.read.opened, p.read.link, p.listed = true, 4, false
	st := func(n uint64, root wire.Digest) crossverify.Statement {
		return crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: n, Root: root}
	}
	entry := func(b byte) proto.BoardEntry {
		return proto.BoardEntry{Name: wire.Digest{b}, Version: 1, Value: []byte("x")}
	}
	for i := range uint64(4) {
		m.boardPage(p, proto.BoardPage{Entries: []proto.BoardEntry{entry(1)}, More: true, Statement: st(10+2*i, wire.Digest{byte(i), 1})})
		m.boardPage(p, proto.BoardPage{Entries: []proto.BoardEntry{entry(2)}, Statement: st(11+2*i, wire.Digest{byte(i), 2})})
	}
	if n := m.told(EventRelay, ""); n > 0 || p.read.link == 0 {
		t.Errorf("%d relay events, link %d", n, p.read.link)
	}
	m.boardPage(p, proto.BoardPage{Entries: []proto.BoardEntry{entry(1)}, More: true, Statement: st(30, wire.Digest{9})})
	m.boardPage(p, proto.BoardPage{Entries: []proto.BoardEntry{entry(2)}, Statement: st(30, wire.Digest{9})})
	if m.told(EventRelay, "not the root") != 1 {
		t.Error("one root for all pages that is not theirs is not told")
	}
}

// TestEventsAreFew: a relay that breaks its log again and again, each time at
// another number, is told once.
func TestEventsAreFew(t *testing.T) {
	m := laidDown(t, 1)
	p := m.paths[0]
	p.syncRoot()
	for i := range uint64(50) {
		p.read.opened, p.read.link = true, broadcast.Link(i+1)
		m.bare(p, proto.Bare{N: 100 + i})
	}
	if n := m.told(EventRelay, ""); n > 2 {
		t.Errorf("%d events", n)
	}
}

// TestHelloFlood: a peer that begins session after session costs no more room
// than the sessions that are kept.
func TestHelloFlood(t *testing.T) {
	m := laidDown(t, 2)
	x := newPeer(t, m, "Bob")
	before := len(m.chains.bytes)
	for range maxHellos + 20 {
		x.greet(t)
		x.everywhere(x.text(t, "hi"))
	}
	if len(x.st.session.list) != maxSessions {
		t.Errorf("%d sessions", len(x.st.session.list))
	}
	if got := len(m.chains.bytes) - before; got > maxSessions*chainSize {
		t.Errorf("the vector grew by %d bytes", got)
	}
	if len(m.seen) > maxHellos {
		t.Errorf("%d transcripts are remembered", len(m.seen))
	}
	msg := m.sendBundle(KindText, []byte("back"))
	if msg == nil || m.sender(x.st) == nil {
		t.Error("nothing can be sent to the peer any more")
	}
}

// TestFalseAccusations: an insider that misreports what others sent, and what
// relays signed, is told of a few times, and answered a few times.
func TestFalseAccusations(t *testing.T) {
	m := laidDown(t, 2)
	x, y := newPeer(t, m, "Bob"), newPeer(t, m, "Cy")
	x.everywhere(x.text(t, "hello"))
	y.everywhere(y.text(t, "hello"))
	m.cfg.Verify = anyKey
	m.Tick(m.now)
	p := m.paths[0]
	for i := range uint64(60) {
		it := y.text(t, "true")
		y.on(p, it)
		m.bare(p, proto.Bare{N: p.position + 1})
		lie := Recent{Seat: [8]byte(y.st.seat[:8]), Incarnation: it.header.Incarnation, Sequence: it.header.Sequence, D: wire.Digest{byte(i)}}
		x.on(p, x.write(t, Content{Kind: KindText, Body: []byte("x"), View: View{Recents: []Recent{lie},
			Relays: []RelayView{{Relay: p.ref.Key, Lineage: p.lineage, N: p.position, Head: wire.Digest{7}}}}}))
		m.Tick(m.now.Add(time.Second))
		p.read.opened = true
	}
	if n := m.told(EventDispute, "misreports"); n == 0 || n > maxAccusations {
		t.Errorf("%d disputes", n)
	}
	sent := 0
	for _, msg := range m.messages {
		if msg.own {
			sent++
		}
	}
	if sent == 0 || sent > 2*maxAccusations {
		t.Errorf("%d statement exchanges", sent)
	}
}

// TestViewsFromInsiders: claims about numbers that never come do not keep an
// honest member's claim from being compared, nor does a receipt use it up.
func TestViewsFromInsiders(t *testing.T) {
	m := laidDown(t, 2)
	x, y := newPeer(t, m, "Bob"), newPeer(t, m, "Cy")
	m.cfg.Verify = anyKey
	p := m.paths[0]
	view := func(n uint64, head byte) View {
		return View{Relays: []RelayView{{Relay: p.ref.Key, Lineage: p.lineage, N: n, Head: wire.Digest{head}}}}
	}
	for i := range uint64(3000) {
		m.compareView(x.st, view(1000+i, 1))
	}
	m.compareView(y.st, view(p.position+1, 2))
	m.Tick(m.now)
	s := crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: p.position + 1, H: crossverify.ChainNext(p.head, p.position+1, wire.Digest{}, wire.Digest{})}
	m.checkHead(p, s)
	m.keepStatement(p, s)
	m.bare(p, proto.Bare{N: p.position + 1})
	if len(m.exchange) == 0 {
		t.Error("an honest member's other head is not compared")
	}
}

// TestReceiptsOutliveCrashes: the newest statement of a relay that is known,
// a receipt too, is shown to it after a crash.
func TestReceiptsOutliveCrashes(t *testing.T) {
	m := laidDown(t, 1)
	m.cfg.Verify = anyKey
	p := m.paths[0]
	p.syncRoot()
	m.keepStatement(p, crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: p.position + 9, H: wire.Digest{3}})
	if p.newest.N != p.position+9 {
		t.Errorf("the newest statement known is of number %d", p.newest.N)
	}
	for i := range uint64(10_000) {
		m.keepStatement(p, crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: 1<<40 + i})
	}
	m.keepStatement(p, crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: p.position + 2, H: wire.Digest{3}})
	if _, ok := p.ownHead[p.position+2]; !ok {
		t.Error("statements of the far future keep a receipt from being kept")
	}
}

// TestNameWithATag: a name that looks like one told apart is told apart.
func TestNameWithATag(t *testing.T) {
	m := laidDown(t, 2)
	true0 := seatByName(t, m, "M0")
	x := newPeer(t, m, fmt.Sprintf("M0 [%s]", true0.seat.Short()))
	if got := m.display(x.st); !strings.Contains(got, x.st.seat.Short()) {
		t.Errorf("shown as %q", got)
	}
	for _, name := range []string{"m0", "M\u200b0", "M\u00a00", "M0\u2060"} {
		y := newPeer(t, m, name)
		if a, b := m.display(y.st), m.display(true0); !strings.Contains(a, y.st.seat.Short()) || !strings.Contains(b, true0.seat.Short()) {
			if !strings.Contains(name, "\u00a0") {
				t.Errorf("%q beside %q: shown as %q and %q", name, "M0", a, b)
			}
		}
	}
}

// TestSeatsFlood: seats that one relay invents, with admissions as every holder
// of the link can sign, are not usable and do not fill the history.
func TestSeatsFlood(t *testing.T) {
	m := laidDown(t, 4)
	x := newPeer(t, m, "Bob")
	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	p := m.paths[0]
	const liars = 300
	for i := range liars {
		signing := keys.NewPrivate[keys.RoleMember]([32]byte{6, byte(i), byte(i >> 8)})
		a := *x.st.ann
		a.Signing, a.Name = signing.Public(), fmt.Sprintf("Liar %d", i)
		a.Seat = NewSeat(m.gid, a.Signing)
		a.Sign(signing)
		adm := &Admission{Group: m.gid, Seat: a.Seat, Announcement: a.Digest()}
		adm.Sign(inv.InviteKey())
		m.sawAnnouncement(p, a.Seat, a.Append(nil))
		m.sawAdmission(p, a.Seat, adm.Append(nil))
	}
	m.Tick(m.now.Add(time.Minute))
	m.Tick(m.now.Add(time.Minute))
	if n := m.told(EventDispute, "") + m.told(EventRelay, ""); n != aloneAlarms+1 {
		t.Errorf("%d events", n)
	}
	if n := m.told(EventDispute, fmt.Sprintf("Relay R1 (operator Op) hides members and lists %d more whom other relays do not know: ", liars-aloneAlarms)); n != 1 {
		t.Errorf("%d events of all others", n)
	}
	if got := m.status(); got.Disputes != liars {
		t.Errorf("%d seats are listed as contested", got.Disputes)
	}
	if got := len(m.recipients().seats); got != 5 {
		t.Errorf("a bundle goes to %d seats", got)
	}
}

// TestManyHidden: a relay that hides many members is one cause, and is told of as
// one, again only of those that it hides besides.
func TestManyHidden(t *testing.T) {
	m := laidDown(t, 1)
	p := m.paths[0]
	hide := func(n int) {
		for i := range n {
			newPeerOn(t, m, fmt.Sprintf("Member %d", i), m.paths[1:]...)
		}
		p.listed, p.caughtUp, p.read.opened, p.read.told = true, true, true, false
		p.read.tell = m.now
		for range 5 {
			m.Tick(m.now.Add(time.Minute))
		}
	}
	hide(30)
	if n := m.told(EventRelay, "does not show Member"); n != aloneAlarms+1 {
		t.Errorf("%d events", n)
	}
	if n := m.told(EventRelay, " and 24 more either, whom other relays show"); n != 1 {
		t.Errorf("%d events of those that were not told alone", n)
	}
	hide(10)
	if n := m.told(EventRelay, " and 7 more either, whom other relays show"); n != 1 {
		t.Errorf("%d events of those that were hidden later", n)
	}
	if n := m.told(EventRelay, ""); n != aloneAlarms+2 {
		t.Errorf("%d events in all", n)
	}
}

// TestChainIsKeptOnce: when the vector has a send chain, the session's record
// does not have its beginning any more, from which it could be made again.
func TestChainIsKeptOnce(t *testing.T) {
	m := laidDown(t, 2)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	s := x.st.session.list[0]
	if s.Chain(ratchet.SendChain{}).Generation == 0 {
		t.Fatal("a chain that is not in the store yet is gone")
	}
	m.sendBundle(KindText, []byte("back"))
	x.on(m.paths[0], x.text(t, "again"))
	if s.Chain(ratchet.SendChain{}).Generation != 0 {
		t.Error("the record can still make the chain from its beginning")
	}
	if !s.CanSend(m.chains.get(s.index)) {
		t.Error("the chain is lost")
	}
}

// TestOrphansAreReadAgain: an admission that came before its invite waits in
// memory; a member that crashes then reads the board again.
func TestOrphansAreReadAgain(t *testing.T) {
	m := laidDown(t, 2)
	p := m.paths[0]
	p.syncRoot()
	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	adm := &Admission{Group: m.gid, Seat: wire.Seat{9}, Announcement: wire.Digest{1}}
	adm.Sign(inv.InviteKey())
	listed := func() bool {
		m.savePath(p)
		v := m.ops[m.opAt[string(m.key(keyPath, []byte{0}))]].Value
		return v[1] == 1
	}
	before := listed()
	m.sawAdmission(p, adm.Seat, adm.Append(nil))
	waits := listed()
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 2048, PerHour: 2048, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	if !before || waits || !listed() {
		t.Errorf("listed %v, while it waits %v, then %v", before, waits, listed())
	}
}
