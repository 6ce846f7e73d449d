package member

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// seatByName finds a seat laid down by laidDown.
func seatByName(t *testing.T, m *Machine, name string) *seatState {
	for _, st := range m.sortedSeats() {
		if st.ann != nil && st.ann.Name == name {
			return st
		}
	}
	t.Fatalf("no seat of %s", name)
	return nil
}

// TestSignedFacts: what a signature check alone stops never reaches the
// comparison, from however many paths it comes.
func TestSignedFacts(t *testing.T) {
	other := keys.NewPrivate[keys.RoleMember]([32]byte{1, 2, 3})
	for name, forge := range map[string]func(*Announcement){
		"a second key for the seat": func(a *Announcement) { a.Signing = other.Public(); a.Sign(other) },
		"another identity key":      func(a *Announcement) { a.Identity[3] ^= 1 },
		"another prekey":            func(a *Announcement) { a.Prekey[3] ^= 1 },
		"another mailbox":           func(a *Announcement) { a.Mailboxes[0].ID[3] ^= 1 },
		"a next version by another key": func(a *Announcement) {
			a.Version, a.Previous = 2, a.Digest()
			a.Signing = other.Public()
			a.Sign(other)
		},
		"another group": func(a *Announcement) { a.Group[0] ^= 1; a.Sign(other) },
	} {
		t.Run(name, func(t *testing.T) {
			m := laidDown(t, 3)
			st := seatByName(t, m, "M0")
			before := st.ann.Append(nil)
			forged := *st.ann
			forged.Mailboxes = append([]Mailbox(nil), st.ann.Mailboxes...)
			forge(&forged)
			for _, p := range m.paths {
				p.syncRoot()
				m.sawAnnouncement(p, st.seat, forged.Append(nil))
			}
			if !bytes.Equal(st.ann.Append(nil), before) || !m.usable(st) {
				t.Fatal("a forged announcement changed the seat")
			}
			for _, p := range m.paths {
				if p.stats[crossverify.Failed] == 0 {
					t.Errorf("path %s: the forgery is not counted", p.label())
				}
			}
		})
	}
}

// TestOpenFacts: a seat that fewer than q operators show gets no key used, and
// no slot; when q show it, it does.
func TestOpenFacts(t *testing.T) {
	m := laidDown(t, 2)
	secret := keys.NewSecret[keys.RoleInviting]([32]byte{5})
	inv := Invitation{Secret: secret}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 2048, PerHour: 2048, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	signing := keys.NewPrivate[keys.RoleMember]([32]byte{6})
	a := *seatByName(t, m, "M0").ann
	a.Signing, a.Name = signing.Public(), "Liar"
	a.Seat = NewSeat(m.gid, a.Signing)
	a.Sign(signing)
	adm := &Admission{Group: m.gid, Seat: a.Seat, Announcement: a.Digest()}
	adm.Sign(inv.InviteKey())
	for i, p := range m.paths {
		p.syncRoot()
		m.sawAnnouncement(p, a.Seat, a.Append(nil))
		m.sawAdmission(p, a.Seat, adm.Append(nil))
		m.settle()
		if got, want := m.usable(m.seats[a.Seat]), i >= 1; got != want {
			t.Fatalf("shown by %d of 3 relays: usable %v, want %v", i+1, got, want)
		}
		if got, want := len(m.recipients().seats), 2; i == 0 && got != want {
			t.Fatalf("a bundle goes to %d seats, want %d", got, want)
		}
	}
}

// FuzzRecords feeds every record reader: a store that does not read is told,
// never believed and never a panic.
func FuzzRecords(f *testing.F) {
	m := laidDown(f, 3)
	m.sendBundle(KindText, []byte("corpus"))
	m.noteReached(m.paths[0], "/ip4/192.0.2.1/tcp/1")
	kinds := []byte{keyPath, keyLog, keyBoard, keySeat, keySessions, keySet, keyBundle, keyPost, keyReceived, keyMessage, keyHeld, keyHello, keyEvidence, keyPrekeys, keyKept, keyReached}
	for _, op := range m.ops {
		f.Add(op.Key[16], op.Key[17:], op.Value)
	}
	for _, k := range kinds {
		f.Add(k, []byte{0}, []byte{0})
		f.Add(k, make([]byte, 32), make([]byte, 40))
	}
	f.Fuzz(func(t *testing.T, kind byte, key, value []byte) {
		for k, read := range map[byte]func(key, value []byte) error{
			keyPath: m.loadPath, keyLog: m.loadLogged, keyBoard: m.loadBoard, keySeat: m.loadSeat, keySessions: m.loadSessions,
			keySet: m.loadSet, keyBundle: m.loadBundle, keyPost: m.loadPost, keyReceived: m.loadReceived, keyMessage: m.loadMessage,
			keyHeld: m.loadHeld, keyHello: m.loadHello, keyEvidence: m.loadEvidence, keyPrekeys: m.loadPrekeys, keyKept: m.loadKept, keyReached: m.loadReached,
		} {
			if k == kind {
				_ = read(key, value)
			}
		}
		if kind == keyCounters {
			_, _ = parseCounters(value)
		}
	})
}

// TestRecordsRoundTrip: what a turn writes is what opening reads.
func TestRecordsRoundTrip(t *testing.T) {
	m := laidDown(t, 4)
	msg := m.sendBundle(KindText, []byte("x"))
	m.saveMessage(msg)
	again := laidDown(t, 1)
	again.paths, again.genesis, again.gid, again.keyring, again.ledger = m.paths, m.genesis, m.gid, m.keyring, crossverify.NewLedger(m.policy())
	again.seats, again.sets, again.bundles, again.messages = map[wire.Seat]*seatState{}, map[wire.Digest]*recipientSet{}, map[uint64]*bundleRecord{}, map[messageKey]*message{}
	for _, op := range m.ops {
		key := op.Key[17:]
		var err error
		switch op.Key[16] {
		case keySet:
			err = again.loadSet(key, op.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, op := range m.ops {
		if op.Key[16] == keyBundle {
			if err := again.loadBundle(op.Key[17:], op.Value); err != nil {
				t.Fatal(err)
			}
		}
		if op.Key[16] == keyMessage {
			if err := again.loadMessage(op.Key[17:], op.Value); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, b := range m.bundles {
		c := again.bundles[b.order]
		if c == nil || !bytes.Equal(c.envelope, b.envelope) || !bytes.Equal(c.slots, b.slots) || c.set != b.set || c.d != b.d {
			t.Fatalf("a bundle reads back as %+v", c)
		}
	}
	if got := again.messages[msg.key]; got == nil || got.d != msg.d || got.slot != msg.slot || !got.own {
		t.Fatalf("a message reads back as %+v", again.messages[msg.key])
	}
}

// TestAddedNamesake: a relay that adds a second seat under an accepted name,
// hiding nobody, is the one that is named; those that do not know the seat are
// not said to hide it.
func TestAddedNamesake(t *testing.T) {
	m := laidDown(t, 2)
	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 2048, PerHour: 2048, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	signing := keys.NewPrivate[keys.RoleMember]([32]byte{6})
	a := *seatByName(t, m, "M0").ann
	a.Signing = signing.Public()
	a.Seat = NewSeat(m.gid, a.Signing)
	a.Sign(signing)
	adm := &Admission{Group: m.gid, Seat: a.Seat, Announcement: a.Digest()}
	adm.Sign(inv.InviteKey())
	for _, p := range m.paths {
		p.syncRoot()
		k := broadcast.NewBoardKeys(m.keyring.epoch().Key.Expose(), p.ref.Key)
		p.tree.Put(crossverify.Leaf{Name: k.Name("announcement/" + seatByName(t, m, "M0").seat.String()), Version: 1})
	}
	m.sawAnnouncement(m.paths[1], a.Seat, a.Append(nil))
	m.sawAdmission(m.paths[1], a.Seat, adm.Append(nil))
	m.Tick(m.now.Add(m.genesis.Policy.Deadline + time.Second))
	for _, e := range m.events {
		e, ok := e.Body.(Event)
		if !ok || e.Kind != EventDispute || e.Seat != a.Seat.String() || e.Relay == "" {
			continue
		}
		if e.Relay != "R2" || strings.Contains(e.Text, "hide") || !strings.Contains(e.Text, "R1 and R3 do not know") {
			t.Errorf("told of %s: %s", e.Relay, e.Text)
		}
		return
	}
	t.Error("the second seat is not told")
}

// TestReceivedOutlivesMessage: what was received is known as a repetition also
// when its message has left memory, and is not kept again.
func TestReceivedOutlivesMessage(t *testing.T) {
	m, st, alice, bob, chainA, chainB := pairOf(t)
	m.addSession(st, bob, chainB, st.ann.Incarnation)
	for _, p := range m.paths {
		p.syncRoot()
	}
	epoch := m.keyring.epoch()
	content := keys.NewSecret[keys.RoleContent]([32]byte{7})
	h := broadcast.Header{Epoch: epoch.Number, Seat: st.seat, Sequence: 1}
	c := &Content{Kind: KindHello, Sent: unixTime(m.now)}
	envelope, d, err := broadcast.SealEnvelope(m.gid, &epoch.Key, h, &content, c.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	it := &item{path: m.paths[0], n: 1, header: h, d: d, envelope: envelope, slot: alice.Seal(&chainA, &content, d, nil)}
	key, err := m.openSlot(st, it)
	if err != nil {
		t.Fatal(err)
	}
	m.openedItem(st, it, &key, 0)
	delete(m.messages, it.key())
	m.ledger.Forget(it.key().subject())
	failed := m.paths[0].stats[crossverify.Failed]
	m.process(it, func() { t.Error("a repetition is kept again") })
	if got := m.paths[0].stats[crossverify.Failed]; got != failed+1 {
		t.Errorf("the repetition counts %d failures, want 1", got-failed)
	}
}

// TestReceiptForSomethingElse: a relay's own statement that does not say what
// was posted ends no post; the one that does, ends it.
func TestReceiptForSomethingElse(t *testing.T) {
	m := laidDown(t, 2)
	m.cfg.Verify = func([32]byte, []byte, []byte) bool { return true }
	p := m.paths[0]
	p.syncRoot()
	m.sendBundle(KindText, []byte("x"))
	q := p.queue[len(p.queue)-1]
	p.post.link, p.post.welcome, p.post.lists = 7, true, map[wire.Digest]bool{}
	m.pumpPosts()
	s := crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, N: 1, D: wire.Digest{1}}
	m.receipt(p, proto.Receipt{PostID: q.id, Statement: s})
	if !m.queued(p, q.id) || p.stats[crossverify.Failed] != 1 {
		t.Fatalf("a receipt for something else: queued %v, %d failures", m.queued(p, q.id), p.stats[crossverify.Failed])
	}
	p.post.link, p.post.welcome = 8, true
	m.pumpPosts()
	s.D = q.d
	m.receipt(p, proto.Receipt{PostID: q.id, Statement: s})
	if m.queued(p, q.id) {
		t.Error("the true receipt does not end the post")
	}
}
