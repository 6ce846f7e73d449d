package member

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// says sends a text and returns its delivery.
func says(t *testing.T, m *Machine, text string) *delivery {
	t.Helper()
	m.sendText(m.counters.sequence+1000, SendText{Text: text, Wait: WaitNone})
	if n := len(m.delivery.list); n == 0 || m.delivery.list[n-1].text != text {
		t.Fatalf("%q is not kept", text)
	}
	return m.delivery.list[len(m.delivery.list)-1]
}

func (m *Machine) stateOf(t *testing.T, dl *delivery, st *seatState) MemberDelivery {
	t.Helper()
	v, err := m.deliveryOf(GetDelivery{Message: dl.d.Short()})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range v.Members {
		if x.Seat == st.seat.String() {
			return x
		}
	}
	t.Fatalf("%s is not in %+v", st.seat, v.Members)
	return MemberDelivery{}
}

// receipted gives a text a receipt of path p under number n, and returns the head.
func (m *Machine) receipted(p *path, dl *delivery, n uint64) wire.Digest {
	head := wire.Hash("head", []byte{byte(p.index), byte(n)})
	for _, q := range p.queue {
		if m.posted(q) == dl {
			m.noteReceipt(p, q, crossverify.Statement{Lineage: p.lineage, N: n, H: head})
		}
	}
	return head
}

// TestDeliveryGaps: why a member cannot have it.
func TestDeliveryGaps(t *testing.T) {
	m := laidDownSeats(t, 2)
	noKey := seatByName(t, m, "M0")
	few, _ := newcomer(t, m, "Few", m.paths[0])
	dl := says(t, m, "who gets it?")
	if x := m.stateOf(t, dl, noKey); x.State != MemberNoKey || !strings.Contains(x.Why, "cannot read it") {
		t.Errorf("without a session: %+v", x)
	}
	if x := m.stateOf(t, dl, few); x.State != MemberHeld || !strings.Contains(x.Why, "not agreed on yet") {
		t.Errorf("on one relay: %+v", x)
	}
	// What was so when it was sent stays so.
	for _, p := range m.paths[1:] {
		p.read.opened, p.listed, p.caughtUp = true, true, true
		m.absences(p)
	}
	m.now = m.now.Add(m.genesis.Policy.Deadline * 2)
	m.settle()
	if r := m.report(few); r.Verdict != crossverify.Contested {
		t.Fatalf("the verdict is %v", r.Verdict)
	}
	contested := says(t, m, "and now?")
	if x := m.stateOf(t, contested, few); x.State != MemberHeld || !strings.Contains(x.Why, "contested") {
		t.Errorf("contested: %+v", x)
	}
	if x := m.stateOf(t, dl, few); !strings.Contains(x.Why, "not agreed on yet") {
		t.Errorf("afterwards: %+v", x)
	}
	late, _ := newcomer(t, m, "Late", m.paths...)
	if x := m.stateOf(t, dl, late); x.State != MemberLater {
		t.Errorf("who came later: %+v", x)
	}
}

// TestDeliveryRelays: every state of a relay, with its reason.
func TestDeliveryRelays(t *testing.T) {
	m := laidDown(t, 2)
	dl := says(t, m, "hello")
	p := m.paths[0]
	relay := func() RelayDelivery {
		v, err := m.deliveryOf(GetDelivery{})
		if err != nil {
			t.Fatal(err)
		}
		return v.Relays[0]
	}
	want := func(when string, state RelayState, why string) {
		t.Helper()
		if r := relay(); r.State != state || !strings.Contains(r.Why, why) || (why == "") != (r.Why == "") {
			t.Errorf("%s: %+v, want %s, %q", when, r, state, why)
		}
	}
	want("at once", RelayWaiting, "not connected")
	p.problem = "dial: refused"
	want("with a cause", RelayWaiting, "not connected (dial: refused)")
	p.post.link, p.post.welcome = 7, true
	want("on its way", RelayWaiting, "not given its receipt")
	q := p.queue[len(p.queue)-1]
	q.inFlight = true
	q.d = wire.Digest{}
	refused := *dl
	m.refusedPost(p, proto.Refused{PostID: q.id, Code: proto.CodeTooLarge, Text: "too large for me"})
	want("refused", RelayRefused, "too large for me")
	dl.relays = slices.Clone(refused.relays)
	dl.relays[0] = relayDelivery{phase: relayPosted}
	want("lost", RelayNothing, "no receipt")
	dl.relays[0] = relayDelivery{phase: relayReceipt, lineage: p.lineage, n: 9, at: 5}
	want("receipt", RelayReceipt, "")
	dl.relays[0].lineage = wire.Lineage{1}
	want("another life", RelayReceipt, "lost data")
	dl.relays[0].lineage = p.lineage
	p.aside = true
	want("set aside since", RelayReceipt, "set aside since")
	dl.relays[0] = relayDelivery{phase: relayPosted}
	want("set aside before", RelaySetAside, "nothing is posted")
	m.current = nil
	next := says(t, m, "next")
	if next.relays[0].phase != relayAside || next.relays[1].phase != relayPosted {
		t.Errorf("%+v", next.relays)
	}
}

// TestDeliverySigns: what a member's view proves, and what it does not.
func TestDeliverySigns(t *testing.T) {
	m := laidDown(t, 3)
	bob := seatByName(t, m, "M0")
	p := m.paths[0]
	p.position = 10
	dl := says(t, m, "hello")
	head := m.receipted(p, dl, 12)
	order := dl.order
	view := func(n uint64, head wire.Digest, recents ...Recent) MemberDelivery {
		t.Helper()
		order++
		m.noteView(bob, &message{d: wire.Digest{byte(order)}, sent: 1_800_000_000, order: order},
			View{Relays: []RelayView{{Relay: p.ref.Key, Lineage: p.lineage, N: n, Head: head}}, Recents: recents})
		return m.stateOf(t, dl, bob)
	}
	if x := m.stateOf(t, dl, bob); x.State != MemberUnheard {
		t.Errorf("nothing heard: %+v", x)
	}
	if x := view(11, wire.Digest{9}); x.State != MemberBehind || x.Message[:2] != fmt.Sprintf("%02x", byte(order)) {
		t.Errorf("before it: %+v", x)
	}
	if x := view(12, wire.Digest{9}); x.State != MemberBehind {
		t.Errorf("another log, by the receipt: %+v", x)
	}
	// A number that this device has not read yet counts as said, not compared.
	if x := view(20, wire.Digest{7}); x.State != MemberRead || len(x.Read) != 0 || !slices.Equal(x.Unchecked, []string{"R1"}) {
		t.Errorf("not read here: %+v", x)
	}
	m.checkHead(p, crossverify.Statement{Lineage: p.lineage, N: 20, H: wire.Digest{8}})
	if x := m.stateOf(t, dl, bob); x.State != MemberBehind || len(m.delivery.pending) != 0 {
		t.Errorf("it was another log: %+v, %v", x, m.delivery.pending)
	}
	view(20, wire.Digest{8})
	m.checkHead(p, crossverify.Statement{Lineage: p.lineage, N: 20, H: wire.Digest{8}})
	if x := m.stateOf(t, dl, bob); x.State != MemberRead || !slices.Equal(x.Read, []string{"R1"}) {
		t.Errorf("the same log: %+v", x)
	}
	again := &reader{}
	if raw, ok := m.opAt[string(m.key(keyDelivery, []byte{partReader}, bob.seat[:]))]; !ok {
		t.Error("what was settled is not stored")
	} else if err := m.loadDelivery(append([]byte{partReader}, bob.seat[:]...), m.ops[raw].Value); err != nil {
		t.Error(err)
	} else if again = m.delivery.readers[bob.seat]; len(again.agreed[0]) != 1 || again.claims[0].n != 0 {
		t.Errorf("stored is %+v", again)
	}
	dl.relays[0].lineage = wire.NewLineage(9, [8]byte{}) // its receipt is of another life
	if x := m.stateOf(t, dl, bob); x.State != MemberBehind {
		t.Errorf("of another life: %+v", x)
	}
	dl.relays[0].lineage = p.lineage
	m.counters.messages += 1000
	if x := m.stateOf(t, says(t, m, "next"), bob); x.State != MemberUnheard {
		t.Errorf("what was heard before it was sent: %+v", x)
	}
	if x := view(12, head); x.State != MemberRead || x.Message[:2] == fmt.Sprintf("%02x", byte(order)) {
		t.Errorf("an older number takes nothing back: %+v", x)
	}
	// Recents: only this text, of this installation, under this digest.
	self := [8]byte(m.self[:8])
	for name, rec := range map[string]Recent{
		"another's":    {Seat: [8]byte{1}, Incarnation: dl.key.incarnation, Sequence: dl.key.sequence, D: dl.d},
		"incarnation":  {Seat: self, Incarnation: wire.Incarnation{1}, Sequence: dl.key.sequence, D: dl.d},
		"sequence":     {Seat: self, Incarnation: dl.key.incarnation, Sequence: dl.key.sequence + 1, D: dl.d},
		"another text": {Seat: self, Incarnation: dl.key.incarnation, Sequence: dl.key.sequence, D: wire.Digest{1}},
	} {
		if x := view(12, head, rec); x.State == MemberOpened {
			t.Errorf("%s: %+v", name, x)
		}
	}
	true1 := Recent{Seat: self, Incarnation: dl.key.incarnation, Sequence: dl.key.sequence, D: dl.d}
	first := view(12, head, true1)
	if first.State != MemberOpened {
		t.Errorf("%+v", first)
	}
	if x := view(12, head, true1); x.Message != first.Message {
		t.Errorf("the first message that says so is %s, not %s", first.Message, x.Message)
	}
	if cy := seatByName(t, m, "M1"); m.stateOf(t, dl, cy).State != MemberUnheard {
		t.Error("a word of Bob's counts for Cy")
	}
	// A member that goes on elsewhere, and a first contact without an answer.
	cy := seatByName(t, m, "M1")
	if x := m.stateOf(t, dl, cy); !strings.Contains(x.Why, "First contact had no answer yet") {
		t.Errorf("%+v", x)
	}
	other := *cy.ann
	other.Incarnation = wire.Incarnation{5}
	cy.ann = &other
	if x := m.stateOf(t, dl, cy); x.State != MemberUnheard || !strings.Contains(x.Why, "new installation") {
		t.Errorf("%+v", x)
	}
}

// TestDeliveryClaimsBounded: a liar that names one future number after the
// other leaves one claim.
func TestDeliveryClaimsBounded(t *testing.T) {
	m := laidDown(t, 2)
	bob, p := seatByName(t, m, "M0"), m.paths[0]
	says(t, m, "hello")
	for n := range uint64(1000) {
		m.noteView(bob, &message{order: n}, View{Relays: []RelayView{{Relay: p.ref.Key, Lineage: p.lineage, N: 1 << 40 * (n + 1), Head: wire.Digest{1}},
			{Relay: m.paths[1].ref.Key, Lineage: wire.NewLineage(n, [8]byte{}), N: n + 1, Head: wire.Digest{2}}}})
	}
	if len(m.delivery.pending) > 2 || len(m.delivery.readers) != 1 {
		t.Errorf("%d claims wait", len(m.delivery.pending))
	}
	r := m.delivery.readers[bob.seat]
	for n := range uint64(10) {
		r.agree(0, reading{lineage: wire.NewLineage(n, [8]byte{}), n: 1})
	}
	if len(r.agreed[0]) != maxLives || r.agreed[0][maxLives-1].lineage.Ordinal() != 9 {
		t.Errorf("%+v", r.agreed[0])
	}
}

// deliveryRecords applies what m wants written and returns the records.
func deliveryRecords(t *testing.T, m *Machine, s *memory.Store) []store.KV {
	t.Helper()
	if w := m.Ready().Write; w != nil {
		if rev, err := s.Revision(m.unit); err != nil {
			t.Fatal(err)
		} else {
			w.Base = rev
		}
		if err := s.Apply([]store.Batch{*w})[0]; err != nil {
			t.Fatal(err)
		}
	}
	kvs, more, err := s.Scan(m.key(keyDelivery), m.key(keyDelivery+1), 1<<30)
	if err != nil || more {
		t.Fatal(err, more)
	}
	return kvs
}

// TestDeliveryBound: the oldest texts go, with everything about them; what is
// left reads again as it was.
func TestDeliveryBound(t *testing.T) {
	m, s := laidDown(t, 2), memory.New()
	m.cfg.Limits.Outbox = 1 << 20
	bob := seatByName(t, m, "M0")
	for i := range maxDeliveries + 3 {
		dl := says(t, m, fmt.Sprint("text ", i))
		head := m.receipted(m.paths[i%3], dl, uint64(i+1))
		m.noteView(bob, &message{d: dl.d, order: dl.order + 1}, View{Relays: []RelayView{{Relay: m.paths[i%3].ref.Key, Lineage: m.paths[i%3].lineage, N: uint64(i + 1), Head: head}},
			Recents: []Recent{{Seat: [8]byte(m.self[:8]), Incarnation: dl.key.incarnation, Sequence: dl.key.sequence, D: dl.d}}})
	}
	kvs := deliveryRecords(t, m, s)
	count := map[byte]int{}
	for _, kv := range kvs {
		count[kv.Key[17]]++
	}
	if want := map[byte]int{partSet: count[partSet], partText: maxDeliveries, partOpened: maxDeliveries, partReader: 1}; !reflect.DeepEqual(count, want) || count[partSet] > 2 {
		t.Errorf("%v, want %v", count, want)
	}
	if len(m.delivery.list) != maxDeliveries || len(m.delivery.byKey) != maxDeliveries || m.delivery.lines != maxDeliveries || m.delivery.list[0].text != "text 3" {
		t.Errorf("%d texts, %d lines, oldest %q", len(m.delivery.list), m.delivery.lines, m.delivery.list[0].text)
	}
	// A newcomer makes another set; the old one goes with its last text.
	newcomer(t, m, "New", m.paths...)
	says(t, m, "last but two")
	if len(m.delivery.sets) != 2 {
		t.Errorf("%d sets", len(m.delivery.sets))
	}
	says(t, m, "last but one")
	m.delivery.lines += maxDeliveryLines - 4
	says(t, m, "last")
	if len(m.delivery.sets) != 1 || len(m.delivery.list) > 3 {
		t.Errorf("%d sets, %d texts, %d lines", len(m.delivery.sets), len(m.delivery.list), m.delivery.lines)
	}
	before := m.delivery
	kvs = deliveryRecords(t, m, s)
	m.delivery = ownTexts{}
	for _, kv := range kvs {
		if err := m.loadDelivery(kv.Key[17:], kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	before.lines = m.delivery.lines // the test moved it
	if !reflect.DeepEqual(m.delivery, before) {
		t.Error("what was loaded is not what was stored")
	}
}

// TestDeliveryRecords pins what is stored, and that nothing else reads.
func TestDeliveryRecords(t *testing.T) {
	m := laidDown(t, 2)
	dl := says(t, m, "hello")
	set := deliverySet{seats: []wire.Seat{{1}, {2}}, of: []wire.Incarnation{{3}, {4}}, states: []slotState{slotSent, slotContested}}
	z := func(n int) string { return strings.Repeat("00", n) }
	if got, want := hex.EncodeToString(set.append(nil)), "01"+z(31)+"03"+z(7)+"01"+"02"+z(31)+"04"+z(7)+"05"; got != want {
		t.Errorf("set %s", got)
	}
	by := sign{id: [8]byte{7}, sent: 5}
	if got, want := hex.EncodeToString(by.append(nil)), "07"+z(7)+z(7)+"05"; got != want {
		t.Errorf("sign %s", got)
	}
	c := reading{lineage: wire.Lineage{6}, n: 8, head: wire.Digest{9}, by: by}
	if got, want := hex.EncodeToString(c.append(nil)), "06"+z(15)+z(7)+"08"+"09"+z(31)+"07"+z(7)+z(7)+"05"; got != want {
		t.Errorf("reading %s", got)
	}
	dl.set.hash, dl.d, dl.sent, dl.order = wire.Digest{1}, wire.Digest{2}, 3, 4
	dl.relays = []relayDelivery{{phase: relayReceipt, digest: true, lineage: wire.Lineage{5}, n: 6, head: wire.Digest{7}, at: 8}, {phase: relayRefused, at: 9, reason: "no"}, {phase: relayPosted}}
	m.saveDelivery(dl)
	text := m.ops[m.opAt[string(m.deliveryKey(partText, dl))]]
	none := z(16) + z(8) + z(32)
	want := "01" + z(31) + "02" + z(31) + z(7) + "03" + z(7) + "04" + "00000005" + hex.EncodeToString([]byte("hello")) + "03" +
		"02" + "01" + "05" + z(15) + z(7) + "06" + "07" + z(31) + z(7) + "08" + z(4) +
		"03" + "00" + none + z(7) + "09" + "00000002" + hex.EncodeToString([]byte("no")) +
		"01" + "00" + none + z(8) + z(4)
	if got := hex.EncodeToString(text.Value); got != want {
		t.Errorf("text\n%s, want\n%s", got, want)
	}
	r := &reader{heard: by, order: 2, claims: []reading{c, {}, {}}, agreed: [][]reading{{c}, nil, nil}}
	m.saveReader(wire.Seat{1}, r)
	record := m.ops[len(m.ops)-1].Value
	empty := (&reading{}).append(nil)
	if got, want := hex.EncodeToString(record), hex.EncodeToString(by.append(nil))+z(7)+"02"+"03"+hex.EncodeToString(c.append(nil))+"01"+hex.EncodeToString(c.append(nil))+
		hex.EncodeToString(empty)+"00"+hex.EncodeToString(empty)+"00"; got != want {
		t.Errorf("reader\n%s, want\n%s", got, want)
	}

	m.delivery.sets[wire.Digest{1}] = dl.set
	seat := make([]byte, 32)
	for name, bad := range map[string][2][]byte{
		"no part":            {nil, nil},
		"unknown part":       {append([]byte{9}, seat...), nil},
		"short key":          {append([]byte{partSet}, seat[1:]...), nil},
		"set, cut":           {append([]byte{partSet}, seat...), set.append(nil)[1:]},
		"set, twice a seat":  {append([]byte{partSet}, seat...), slices.Concat(set.append(nil), set.append(nil))},
		"set, no state":      {append([]byte{partSet}, seat...), append(set.append(nil)[:81], 9)},
		"text, cut":          {text.Key[17:], text.Value[:len(text.Value)-1]},
		"text, longer":       {text.Key[17:], append(slices.Clone(text.Value), 0)},
		"text, no set":       {text.Key[17:], append([]byte{8}, text.Value[1:]...)},
		"sign of no text":    {slices.Concat([]byte{partOpened}, make([]byte, 16), seat), by.append(nil)},
		"reader, cut":        {append([]byte{partReader}, seat...), record[:len(record)-1]},
		"reader, longer":     {append([]byte{partReader}, seat...), append(slices.Clone(record), 0)},
		"reader, many lives": {append([]byte{partReader}, seat...), slices.Concat(record[:24], []byte{3}, empty, []byte{3}, empty, empty, empty, empty, []byte{0}, empty, []byte{0})},
	} {
		if err := m.loadDelivery(bad[0], bad[1]); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
