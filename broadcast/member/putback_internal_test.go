package member

import (
	"slices"
	"testing"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/ratchet"
)

// TestPutBackDropsWhatNoBackupHolds: what is left in the store is what a backup
// would have, but for texts kept for others and answers given.
func TestPutBackDropsWhatNoBackupHolds(t *testing.T) {
	m := laidDown(t, 3)
	s := memory.New()
	for _, o := range m.keyring.prekeys {
		m.savePrekeys(o)
	}
	x := begins(t, m)
	y := newPeer(t, m, "Cy")
	y.everywhere(y.text(t, "opens"))
	held := y.spoiled(y.text(t, "held"))
	m.speak("in the outbox")
	r := reopenedOn(t, s, m)
	r.starting.unsure = false
	held.path, held.n, held.lineage = r.paths[1], 99, r.paths[1].lineage
	r.hold(held, proto.Deliver{N: held.n})
	r.keepUnread(r.paths[1], proto.Deliver{N: 100})
	if len(r.held) == 0 || len(r.bundles) == 0 || len(r.seen) == 0 || r.seats[x.st.seat].kept == nil || len(r.keyring.prekeys) == 0 {
		t.Fatalf("there is nothing to drop: %d held, %d bundles, %d hellos seen, kept %v, %d prekeys",
			len(r.held), len(r.bundles), len(r.seen), r.seats[x.st.seat].kept != nil, len(r.keyring.prekeys))
	}
	r.putBack()
	w := r.Ready().Write
	if err := s.Apply([]store.Batch{*w})[0]; err != nil {
		t.Fatal(err)
	}
	r.load(s)
	kvs, _, err := s.Scan(r.unit[:], append(slices.Clone(r.unit[:]), 0xff), 1<<26)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		kind := kv.Key[len(r.unit)]
		i := slices.IndexFunc(kinds, func(k struct {
			kind         byte
			live, backup bool
		}) bool {
			return k.kind == kind
		})
		if !kinds[i].backup && kind != keyText && kind != keyRequest {
			t.Errorf("a record of kind %q is left", kind)
		}
	}
	if !r.meta.Restored || !slices.Equal(r.meta.Again, []string{"in the outbox"}) {
		t.Errorf("restored: %v, to be sent again: %q", r.meta.Restored, r.meta.Again)
	}
}

// TestPutBackNeedsEnough: the word of relays whose operators are not enough, or of
// whom the board is not read, changes nothing; nor does any within a day of a restore.
func TestPutBackNeedsEnough(t *testing.T) {
	for name, c := range map[string]struct {
		beyond []int
		do     func(m *Machine)
		want   bool
	}{
		"two of three":          {[]int{0, 2}, func(*Machine) {}, true},
		"one of three":          {[]int{1}, func(*Machine) {}, false},
		"a board is not read":   {[]int{0, 2}, func(m *Machine) { m.paths[2].listed = false }, false},
		"more comes":            {[]int{0, 2}, func(m *Machine) { m.paths[2].caughtUp = false }, false},
		"of a link that broke":  {[]int{0, 2}, func(m *Machine) { m.paths[2].read.opened = false }, false},
		"restored this morning": {[]int{0, 1, 2}, func(m *Machine) { m.now = m.now.Add(putBackAgain) }, false},
		"restored last week":    {[]int{0, 1, 2}, func(*Machine) {}, true},
		"restored now":          {[]int{0, 1, 2}, func(m *Machine) { m.meta.Restored = false }, false},
	} {
		m := laidDown(t, 1)
		switch name {
		case "restored this morning":
			m.meta.Began = m.now.Unix() - 3600
		case "restored last week":
			m.meta.Began = m.now.Unix() - 7*86400
		case "restored now":
			m.meta.Restored = true
		}
		for _, p := range m.paths {
			p.read.opened, p.caughtUp, p.listed, p.position = true, true, true, 7
			read := uint64(7)
			if slices.Contains(c.beyond, p.index) {
				read = 8
			}
			m.saysRead(p, proto.Opened{Statement: crossverify.Statement{Lineage: p.lineage}, Read: read})
		}
		c.do(m)
		m.lookBack()
		if m.meta.Restored != c.want {
			t.Errorf("%s: put back %v, want %v", name, m.meta.Restored, c.want)
		}
	}
}

// TestOwnCopiesWait: what comes under the own seat before the relays have said how far
// this membership read may be of a later state: it is compared afterwards.
func TestOwnCopiesWait(t *testing.T) {
	m := laidDown(t, 1)
	sent := m.speak("mine")
	var b *bundleRecord
	for _, b = range m.bundles {
	}
	m.starting.unsure = true
	for _, p := range m.paths {
		p.read.opened = true
		it := &item{path: p, n: 5, lineage: p.lineage, d: sent.d, envelope: b.envelope, slot: m.entropyBytes(ratchet.SlotSize),
			header: broadcast.Header{Epoch: b.epoch, Seat: m.self, Incarnation: m.keyring.inc, Sequence: sent.key.sequence}}
		m.process(it, func() { m.hold(it, proto.Deliver{N: it.n}) })
	}
	if len(m.held) != len(m.paths) {
		t.Fatalf("%d of %d wait", len(m.held), len(m.paths))
	}
	m.lookBack()
	if m.starting.unsure || len(m.held) != 0 {
		t.Fatalf("unsure: %v, %d are left", m.starting.unsure, len(m.held))
	}
}

// TestTwiceInUse: an announcement of this very installation that it did not make,
// where the relays do not know of a later state: somebody has its keys. It is told
// once they said so, and at once of another installation.
func TestTwiceInUse(t *testing.T) {
	for name, other := range map[string]bool{"this installation": false, "another": true} {
		m := laidDown(t, 1)
		m.starting.unsure = true
		a := *m.seats[m.self].ann
		if a.Version++; other {
			a.Incarnation[0]++
		}
		a.Sign(m.keyring.signing)
		m.paths[0].syncRoot()
		m.takeAnnouncement(m.paths[0], &a)
		if m.meta.Superseded != other {
			t.Errorf("%s: superseded %v before the relays said anything", name, m.meta.Superseded)
		}
		for _, p := range m.paths {
			p.read.opened = true
		}
		m.lookBack()
		if !m.meta.Superseded || m.told(EventDispute, "took over") != 1 {
			t.Errorf("%s: superseded %v, told %d times", name, m.meta.Superseded, m.told(EventDispute, "took over"))
		}
	}
}

// TestNothingFollowsWhileUnsure: neither a change of relays that was under way nor an
// announcement that is due follows what is known here before the relays have spoken.
func TestNothingFollowsWhileUnsure(t *testing.T) {
	m := laidDown(t, 1)
	for _, p := range m.paths {
		p.read.opened, p.caughtUp = true, true
	}
	m.meta.Change = &relayChange{Add: -1, Retire: 1}
	ops := len(m.log)
	m.starting.unsure = true
	m.stepMaking()
	if at := m.rotateAt(); len(m.log) != ops || m.meta.Change == nil || !at.IsZero() {
		t.Errorf("%d operations of %d, the next announcement at %v", len(m.log), ops, at)
	}
	m.starting.unsure = false
	at := m.rotateAt()
	m.stepMaking()
	if len(m.log) == ops || m.meta.Change != nil || at.IsZero() {
		t.Errorf("afterwards %d operations of %d, the next announcement at %v", len(m.log), ops, at)
	}
}
