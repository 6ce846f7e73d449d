package member

import (
	"slices"
	"testing"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// testRef is a relay that no list has yet, run by an operator of its own.
func testRef(n byte) RelayRef {
	return RelayRef{Key: keys.NewPrivate[keys.RoleRelay]([32]byte{200, n}).Public(), Operator: keys.NewPrivate[keys.RoleOperator]([32]byte{201, n}).Public(),
		OperatorName: "Later" + string('0'+n), Addrs: []string{"/memory/later"}}
}

// list are the references of some paths and others.
func (m *Machine) list(places []int, more ...RelayRef) (refs []RelayRef) {
	for _, i := range places {
		refs = append(refs, m.paths[i].ref)
	}
	return append(refs, more...)
}

// newList makes a list the next, by an operation that is not in the log, and
// announces this member on it.
func (m *Machine) newList(refs []RelayRef, ordinal uint32) {
	m.setRelayList(refs, ordinal, listOperation(refs, ordinal))
	if m.unannounced() {
		m.announce(m.keyring.ann.Version, m.keyring.ann.Digest())
		m.announced()
	}
}

func listOperation(refs []RelayRef, ordinal uint32) wire.Digest {
	return wire.Hash("list", appendRelays(wire.U64(uint64(ordinal)), refs))
}

// listShown lets a path's board show that operation.
func (m *Machine) listShown(p *path, refs []RelayRef, ordinal uint32) {
	d := listOperation(refs, ordinal)
	if m.log[d] == nil {
		m.log[d] = &logged{digest: d}
	}
	m.log[d].shown |= 1 << p.index
}

// TestReplacedOnRecord: a relay takes the place of another while records of every
// kind are there; each reads back after a restart, and counts as it did.
func TestReplacedOnRecord(t *testing.T) {
	m := laidDown(t, 3)
	for _, o := range m.keyring.prekeys {
		m.savePrekeys(o)
	}
	x := begins(t, m)
	dl := says(t, m, "before")
	bob := seatByName(t, m, "M0")
	n := uint64(3)
	head := m.receipted(m.paths[1], dl, n)
	m.noteView(bob, &message{d: dl.d, order: dl.order + 1}, View{Relays: []RelayView{{Relay: m.paths[1].ref.Key, N: n, Head: head}}})
	before := m.messages[dl.key]
	for i := range 2 {
		m.ledger.Opened(m.now, crossverify.Path(i), dl.key.subject(), dl.d)
	}
	m.settle()
	was := m.ledger.Report(dl.key.subject())
	if was.Verdict != crossverify.Agreed {
		t.Fatalf("the message is %v", was.Verdict)
	}

	m.newList(m.list([]int{0, 2}, testRef(4)), 1)
	waiting := len(m.paths[2].queue)
	after := says(t, m, "while both are used")
	if len(m.paths) != 4 || m.paths[3].label() != "R4" || m.paths[3].standing != arriving || len(m.paths[3].queue) != 2 || len(m.paths[1].queue) == 0 {
		t.Fatalf("%d paths, the fourth %d with %d posts", len(m.paths), m.paths[3].standing, len(m.paths[3].queue))
	}
	if s := m.status(); s.Relays[1].Standing != StandingLeaving || s.Relays[3].Standing != StandingComing || s.Ordinal != 0 {
		t.Errorf("standings %v, %v of list %d", s.Relays[1].Standing, s.Relays[3].Standing, s.Ordinal)
	}
	next := func(r *Machine) {
		for _, i := range []int{0, 2, 3} {
			r.listShown(r.paths[i], r.list([]int{0, 2, 3}), 1)
		}
		r.stepRelays()
	}
	check := func(what string, r *Machine) {
		t.Helper()
		if got := r.ledger.Report(dl.key.subject()); got.Verdict != was.Verdict || got.Operators != was.Operators || !slices.Equal(got.Status[:3], was.Status) {
			t.Errorf("%s: the message from before is %v of %d, %v", what, got.Verdict, got.Operators, got.Status)
		}
		if got := r.ledger.Report(r.messages[after.key].key.subject()); len(got.Status) != 4 || got.Status[3] != crossverify.Awaiting {
			t.Errorf("%s: the message of meanwhile: %v", what, got.Status)
		}
		d, err := r.deliveryOf(GetDelivery{Message: dl.d.Short()})
		if err != nil || len(d.Relays) != 3 || d.Relays[1].State != RelayReceipt {
			t.Errorf("%s: delivery over %+v, %v", what, d.Relays, err)
		}
		if d, err = r.deliveryOf(GetDelivery{Message: after.d.Short()}); err != nil || len(d.Relays) != 4 {
			t.Errorf("%s: delivery of the other over %+v, %v", what, d.Relays, err)
		}
		if v := r.stateOf(t, r.delivery.byKey[dl.key], r.seats[bob.seat]); !slices.Equal(v.Read, []string{"R2"}) {
			t.Errorf("%s: M0 read %v", what, v.Read)
		}
		st := r.seats[x.st.seat]
		if st.kept == nil || len(st.kept.shares) != 4 || !slices.Equal(st.kept.shares[:3], x.st.kept.shares[:3]) {
			t.Errorf("%s: the kept hello has other shares", what)
		}
		if got, want := len(r.paths[2].queue), waiting+1; got != want {
			t.Errorf("%s: R3 has %d posts waiting, want %d", what, got, want)
		}
		for _, q := range r.paths[2].queue {
			if q.kind == postBundle && len(r.post(r.paths[2], q, true).Frame().Body) == 0 {
				t.Errorf("%s: an empty post", what)
			}
		}
		if p := r.paths[3]; p.channel != m.paths[3].channel || p.mailbox != m.paths[3].mailbox || p.ref.Operator != testRef(4).Operator {
			t.Errorf("%s: R4 is another relay", what)
		}
	}
	check("while it comes", m)
	disk := memory.New()
	reopen := func(r *Machine) *Machine {
		t.Helper()
		r.saveMeta()
		w := r.Ready().Write
		w.Base, _ = disk.Revision(r.unit)
		if err := disk.Apply([]store.Batch{*w})[0]; err != nil {
			t.Fatal(err)
		}
		again, err := Open(Config{})(r.unit, disk, benchEntropy{})
		if err != nil {
			t.Fatal(err)
		}
		return again.(*Machine)
	}
	back := reopen(m)
	check("restarted while it comes", back)
	if back.meta.Lists.Next == nil || back.paths[3].standing != arriving {
		t.Fatal("the list that comes was forgotten")
	}

	for _, r := range []*Machine{m, back} {
		r.now, r.starting.unsure = m.now, false
		next(r)
		if r.meta.Lists.Next != nil || r.paths[1].standing != retired || r.paths[3].standing != inUse || r.meta.Lists.Ordinal != 1 {
			t.Fatalf("the new list is not in use: R2 %d, R4 %d", r.paths[1].standing, r.paths[3].standing)
		}
		check("in use", r)
		if got, want := r.marks(make([]crossverify.Status, 4)), []string{"R1", "R3", "R4"}; len(got) != 3 || got[want[0]]+got[want[1]]+got[want[2]] != "awaitingawaitingawaiting" {
			t.Errorf("marks of %v", got)
		}
		if got := r.messageMarks(r.messages[dl.key]); len(got) != 3 || got["R2"] != "matched" {
			t.Errorf("marks of the message from before: %v", got)
		}
		third := says(t, r, "after")
		if len(r.paths[3].queue) != 3 || slices.ContainsFunc(r.paths[1].queue, func(q *postItem) bool { return r.posted(q) == third }) {
			t.Errorf("the retired relay is posted to")
		}
		if got, want := r.mixing(), []keys.RelayPublic{r.paths[0].ref.Key, r.paths[2].ref.Key, r.paths[3].ref.Key}; got.K != 2 || len(got.Relays) != 3 ||
			!slices.ContainsFunc(want, func(k keys.RelayPublic) bool { return slices.Contains(got.Relays, k) }) || slices.Contains(got.Relays, r.paths[1].ref.Key) {
			t.Errorf("first contacts over %d of %v", got.K, got.Relays)
		}
	}
	if before.era != 0 || m.meta.Lists.era() != 1 {
		t.Errorf("eras %d and %d", before.era, m.meta.Lists.era())
	}
	waiting++ // the third text
	last := reopen(back)
	check("restarted again", last)
	if last.meta.Lists.era() != 1 || last.paths[1].standing != retired {
		t.Errorf("era %d, R2 %d", last.meta.Lists.era(), last.paths[1].standing)
	}
}

// TestListHolds is the rule for when a new list counts, as a table: three relays
// and two, q of each, and what a relay that goes may hinder.
func TestListHolds(t *testing.T) {
	for _, c := range []struct {
		what   string
		strict bool
		aside  []int
		keep   []int
		come   int
		shown  []int
		late   bool
		want   bool
		read   []int // that go and answer
		days   int   // later
	}{
		{"nobody shows it", false, nil, []int{0, 2}, 1, nil, true, false, nil, 0},
		{"q of the old, one of the new", false, nil, []int{0}, 2, []int{0, 1, 2}, true, false, nil, 0},
		{"q of both", false, nil, []int{0, 2}, 1, []int{0, 2}, false, true, nil, 0},
		{"the one that goes counts with the old", false, nil, []int{0, 2}, 1, []int{0, 1, 3}, false, true, nil, 0},
		{"q of the new, one of the old", false, nil, []int{0, 2}, 1, []int{0, 3}, false, false, nil, 0},
		{"one of the old hides it for good", false, nil, []int{0, 2}, 1, []int{0, 3}, true, false, nil, 0},
		{"two go and show nothing", false, nil, []int{0}, 2, []int{0, 3, 4}, false, false, nil, 0},
		{"two go and showed nothing for long", false, nil, []int{0}, 2, []int{0, 3, 4}, true, true, nil, 0},
		{"all go and showed nothing for long", false, nil, nil, 2, []int{3, 4}, true, true, nil, 0},
		{"all go, and one of the new shows it", false, nil, nil, 2, []int{3}, true, false, nil, 0},
		{"strict: all", true, nil, []int{0, 2}, 1, []int{0, 1, 2, 3}, false, true, nil, 0},
		{"strict: the one that goes is silent", true, nil, []int{0, 2}, 1, []int{0, 2, 3}, false, false, nil, 0},
		{"strict: it was silent for long", true, nil, []int{0, 2}, 1, []int{0, 2, 3}, true, true, nil, 0},
		{"strict: one that stays is silent", true, nil, []int{0, 2}, 1, []int{0, 1, 3}, true, false, nil, 0},
		{"convicted ones do not count", false, []int{2}, []int{0, 2}, 1, []int{0, 3}, true, true, nil, 0},
		{"a relay goes without another", false, nil, []int{0, 2}, 0, []int{0, 2}, false, true, nil, 0},
		{"and only one shows it", false, nil, []int{0, 2}, 0, []int{0, 1}, true, false, nil, 0},
		{"two go, answer and hide it", false, nil, []int{0}, 2, []int{0, 3, 4}, true, false, []int{1, 2}, 0},
		{"two go, one answers and shows it", false, nil, []int{0}, 2, []int{0, 2, 3, 4}, true, true, []int{2}, 0},
		{"two go, one answers and hides it", false, nil, []int{0}, 2, []int{0, 3, 4}, true, false, []int{2}, 0},
		{"two go, answer and hid it for days", false, nil, []int{0}, 2, []int{0, 3, 4}, true, true, []int{1, 2}, 3},
		{"all go, answer and hide it", false, nil, nil, 2, []int{3, 4}, true, false, []int{0, 1, 2}, 0},
		{"all go, answer, and one hides it", false, nil, nil, 2, []int{0, 1, 3, 4}, true, true, []int{0, 1, 2}, 0},
		{"strict: the one that goes answers and hides it", true, nil, []int{0, 2}, 1, []int{0, 2, 3}, true, false, []int{1}, 0},
	} {
		m := laidDown(t, 1)
		m.state.Policy.Strict, m.genesis.Policy.Strict, m.voting = c.strict, c.strict, nil
		m.countAnew()
		for _, i := range c.aside {
			m.setAside(&evidenceRecord{Path: i})
		}
		refs := m.list(c.keep)
		for i := range c.come {
			refs = append(refs, testRef(byte(i)))
		}
		m.newList(refs, 1)
		for _, i := range c.shown {
			m.listShown(m.paths[i], refs, 1)
			m.listShown(m.paths[i], refs, 2) // another one
		}
		if c.late {
			m.now = m.now.Add(m.rules().Deadline)
		}
		m.now = m.now.Add(time.Duration(c.days) * 24 * time.Hour)
		for _, i := range c.read {
			m.paths[i].read.opened, m.paths[i].caughtUp = true, true
		}
		m.stepRelays()
		if got := m.meta.Lists.Next == nil; got != c.want {
			t.Errorf("%s: in use %v", c.what, got)
		}
		if at := m.relaysWake(); !c.late && !c.want && (at.IsZero() || at.After(m.now.Add(m.rules().Deadline))) {
			t.Errorf("%s: looks again at %v", c.what, at)
		}
	}
}

// TestListsInARow: lists that come before the last one counts, go back, and name
// a relay again that was retired; every relay keeps its place.
func TestListsInARow(t *testing.T) {
	m := laidDown(t, 1)
	show := func(refs []RelayRef, ordinal uint32) {
		for _, p := range m.paths {
			m.listShown(p, refs, ordinal)
		}
		m.stepRelays()
	}
	first := m.list([]int{0, 1, 2})
	one := m.list([]int{0, 2}, testRef(1))
	m.newList(one, 1)
	two := m.list([]int{0}, testRef(1), testRef(2))
	m.newList(two, 2) // another came before the first counted
	show(one, 1)
	if m.meta.Lists.Ordinal != 0 || len(m.paths) != 5 {
		t.Fatalf("list %d is in use, %d paths", m.meta.Lists.Ordinal, len(m.paths))
	}
	m.newList(one, 1) // and is void again
	if m.paths[4].standing != retired || m.paths[3].standing != arriving {
		t.Errorf("R5 is %d", m.paths[4].standing)
	}
	show(one, 1)
	if m.meta.Lists.Ordinal != 1 || m.paths[1].standing != retired {
		t.Fatalf("list %d, R2 %d", m.meta.Lists.Ordinal, m.paths[1].standing)
	}
	m.now = m.now.Add(m.cfg.Limits.RetiredFor)
	m.stepRelays()
	if m.paths[1].standing != closed || len(m.appendLinks(nil, m.paths[1])) != 0 {
		t.Errorf("R2 is %d after a day, wants %v", m.paths[1].standing, m.appendLinks(nil, m.paths[1]))
	}
	m.newList(first, 2) // all as it was
	show(first, 2)
	if len(m.paths) != 5 || m.usedMask() != 0b111 || m.meta.Lists.era() != 2 {
		t.Errorf("paths %b of %d are in use, era %d", m.usedMask(), len(m.paths), m.meta.Lists.era())
	}
	m.newList(first, 2)
	m.newList(first, 3)
	if m.meta.Lists.Next != nil || m.meta.Lists.Ordinal != 3 || m.meta.Lists.era() != 2 {
		t.Errorf("the same relays under another ordinal: %+v", m.meta.Lists)
	}
	for i := range byte(MaxPaths) {
		m.newList(m.list([]int{0, 1, 2}, testRef(10+i)), uint32(i)+4)
	}
	if len(m.paths) != MaxPaths {
		t.Errorf("%d paths", len(m.paths))
	}
	clear(m.log) // its operations are none
	if got := reopened(t, m); len(got.paths) != MaxPaths || got.usedMask() != 0b111 {
		t.Errorf("%d paths, %b in use", len(got.paths), got.usedMask())
	}
}

// TestGoneIsTold: a relay that does not answer for days while others do is told
// of once, and again only if it came back in between; not while the device itself
// is cut off.
func TestGoneIsTold(t *testing.T) {
	m := laidDown(t, 1)
	told := func() (n int) {
		for _, e := range m.Ready().Events {
			if e := e.Body.(Event); e.Kind == EventRelay && e.Relay == "R2" {
				n++
			}
		}
		return n
	}
	on := func(up bool, places ...int) {
		for _, i := range places {
			m.paths[i].read.opened, m.paths[i].caughtUp = up, up
		}
		m.settle()
	}
	pass := func(d time.Duration) { m.now = m.now.Add(d); m.settle() }
	told()
	pass(10 * 24 * time.Hour) // cut off
	on(true, 0, 2)
	if at := m.relaysWake(); !at.Equal(m.now.Add(m.rules().Deadline)) {
		t.Errorf("looks for it at %v", at)
	}
	pass(m.rules().Deadline)
	if m.meta.Relays[1].Missing == 0 || m.status().Relays[1].Gone.IsZero() || told() != 0 {
		t.Error("it is not missed, or told of at once")
	}
	pass(m.cfg.Limits.GoneAfter - time.Second)
	if n := told(); n != 0 {
		t.Errorf("told %d times within three days", n)
	}
	pass(time.Second)
	pass(time.Hour)
	if n := told(); n != 1 {
		t.Errorf("told %d times", n)
	}
	on(true, 1)
	if n := told(); n != 1 || m.meta.Relays[1].Missing != 0 {
		t.Errorf("that it is back is told %d times", n)
	}
	on(false, 1)
	pass(m.rules().Deadline)
	on(false, 0, 2) // the device goes away, and comes back with all of them
	pass(10 * 24 * time.Hour)
	on(true, 0, 2)
	on(true, 1)
	pass(time.Hour)
	if n := told(); n != 0 {
		t.Errorf("told %d times though it answers", n)
	}
}

// TestExpected: a relay that came later is not said to hide who was away.
func TestExpected(t *testing.T) {
	m := laidDown(t, 2)
	away := seatByName(t, m, "M0")
	away.adms = map[wire.Digest]*Admission{} // shown by the three relays, as laid down
	refs := m.list([]int{0, 2}, testRef(1))
	m.newList(refs, 1)
	for _, p := range m.paths {
		m.listShown(p, refs, 1)
	}
	m.stepRelays()
	p := m.paths[3]
	if m.expected(p, away) || !m.expected(m.paths[0], away) {
		t.Errorf("expected on R4 %v, on R1 %v", m.expected(p, away), m.expected(m.paths[0], away))
	}
	away.ann.Mailboxes = append(away.ann.Mailboxes, Mailbox{Relay: p.ref.Key})
	away.annAt = m.now
	if m.expected(p, away) {
		t.Error("expected before the deadline")
	}
	m.now = m.now.Add(m.rules().Deadline)
	if !m.expected(p, away) {
		t.Error("not expected after the deadline")
	}
}

// TestListsChanged: only other relays make another list, not another policy.
func TestListsChanged(t *testing.T) {
	era := func(relays relayMask, deadline time.Duration, from int64) relayEra {
		return relayEra{Relays: relays, Policy: Policy{Deadline: deadline}, From: from}
	}
	for name, c := range map[string]struct {
		l    listsRecord
		want int64 // 0: never
	}{
		"nothing":        {listsRecord{}, 0},
		"the first":      {listsRecord{Eras: []relayEra{era(7, 1, 10)}}, 0},
		"a policy":       {listsRecord{Eras: []relayEra{era(7, 1, 10), era(7, 2, 20)}}, 0},
		"a relay":        {listsRecord{Eras: []relayEra{era(7, 1, 10), era(11, 1, 20)}}, 20},
		"both":           {listsRecord{Eras: []relayEra{era(7, 1, 10), era(11, 1, 20), era(11, 2, 30)}}, 20},
		"again":          {listsRecord{Eras: []relayEra{era(7, 1, 10), era(11, 1, 20), era(7, 1, 30)}}, 30},
		"of before":      {listsRecord{Before: 3, Eras: []relayEra{era(7, 1, 10), era(7, 2, 20)}}, 10},
		"of before, one": {listsRecord{Before: 3, Eras: []relayEra{era(7, 1, 10), era(3, 2, 20)}}, 20},
	} {
		if got := c.l.changed(); c.want == 0 != got.IsZero() || c.want != 0 && got.Unix() != c.want {
			t.Errorf("%s: %v, want %d", name, got, c.want)
		}
	}
}
