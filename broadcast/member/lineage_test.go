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
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// of is a statement of the accused relay in another lineage.
func (a *accused) of(l wire.Lineage, n uint64, head byte) crossverify.Statement {
	return crossverify.SignStatement(a.key, a.p.channel, l, n, wire.Digest{head}, wire.Digest{head}, wire.Digest{})
}

func life(ordinal, random byte) wire.Lineage {
	return wire.NewLineage(uint64(ordinal), [8]byte{random})
}

// connect makes a link and takes the Open that goes out on it.
func (a *accused) connect(link broadcast.Link) (o proto.Open) {
	a.t.Helper()
	a.sends, a.p.registered = nil, true
	a.up(broadcast.Up{Link: link, Relay: a.p.ref.Key, Use: broadcast.ReadLink})
	a.onRead(a.p, proto.Welcome{Nonce: [32]byte{byte(link)}})
	for _, s := range a.sends {
		if msg, err := proto.Parse(s.Frame); err == nil {
			if f, ok := msg.(proto.Open); ok {
				return f
			}
		}
	}
	a.t.Fatal("the mailbox is not opened")
	return o
}

// answers lets the relay open the mailbox at a statement.
func (a *accused) answers(s crossverify.Statement) {
	o := crossverify.SignOpened(a.key, a.p.channel, a.p.read.nonce, a.p.read.shown, s.Lineage, s.N, s.H)
	a.opened(a.p, proto.OpenedFrame(s, o, 0))
}

// TestAskedAboutALineage: a statement of another lineage is shown to the relay, and
// its answer convicts it exactly if no honest relay could have given it.
func TestAskedAboutALineage(t *testing.T) {
	own, twin := life(2, 1), life(2, 9)
	for _, c := range []struct {
		name      string
		known     wire.Lineage // brought by others, number 7
		answer    wire.Lineage
		n         uint64
		ask, held bool // the relay is asked; it is convicted
		failed    uint64
	}{
		{"an older one", life(1, 1), own, 5, false, false, 0},
		{"a newer one: it goes on in it", life(3, 1), life(3, 1), 7, true, false, 0},
		{"a newer one: it goes on in it, further", life(3, 1), life(3, 1), 9, true, false, 0},
		{"a newer one: it stays", life(3, 1), own, 5, true, true, 0},
		{"a newer one: it stays, further", life(3, 1), own, 50, true, true, 0},
		{"a newer one: it lost it too", life(3, 1), life(4, 1), 1, true, false, 1},
		{"a newer one: a twin of it", life(3, 1), life(3, 2), 9, true, true, 1},
		{"a newer one: before it", life(3, 1), life(3, 1), 6, true, true, 0},
		{"a newer one: older than the own", life(3, 1), life(1, 1), 9, true, true, 0},
		{"a twin: it stays", twin, own, 5, true, true, 0},
		{"a twin: it goes over", twin, twin, 8, true, false, 0},
		{"a twin: it had lost both", twin, life(3, 3), 1, true, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAccused(t)
			a.startLineage(a.p, own)
			a.life = own
			a.read(a.sign(5, wire.Digest{1}, a.p.tree.Root()))
			known := a.of(c.known, 7, 7)
			a.sawStatement(a.p, known)
			a.stepLineages()
			if a.p.read.link == 0 || a.told(EventRelay, "") > 0 {
				t.Fatal("it is asked at once: a link may just be on its way to the newer lineage")
			}
			a.now = a.now.Add(lineageWait)
			if at := a.lineagesAt(); c.ask && at.After(a.now) {
				t.Errorf("it is asked at %v", at)
			}
			a.stepLineages()
			if asked := a.p.read.link == 0; asked != c.ask || a.told(EventRelay, "another log than yours") != map[bool]int{true: 1}[c.ask] {
				t.Fatalf("asked %v", asked)
			}
			if a.p.stats[crossverify.Dissented] != map[bool]uint64{true: 1}[c.ask] {
				t.Errorf("%d dissents", a.p.stats[crossverify.Dissented])
			}
			o := a.connect(9)
			if o.Known == nil || (*o.Known == known) != c.ask || o.Lineage != own || o.After != 5 {
				t.Fatalf("Open shows %+v", o.Known)
			}
			if !o.Verify(a.cfg.Verify, a.p.box.Public(), a.p.ref.Key, a.p.channel, a.p.read.nonce) {
				t.Error("Open is not signed over what it shows")
			}
			switch s := a.of(c.answer, c.n, 3); {
			case c.answer == own && c.n == 5:
				a.answers(a.p.newest)
			case c.answer == c.known && c.n == 7:
				a.answers(known)
			default:
				a.answers(s)
			}
			if held := len(a.Machine.evidence) == 1 && a.Machine.evidence[0].Form == "answer"; held != c.held || a.p.aside != c.held {
				t.Errorf("convicted %v", held)
			}
			if a.p.stats[crossverify.Failed] != c.failed || a.p.lineage != c.answer || a.p.ahead.N != 0 {
				t.Errorf("failed %d, reads %v, %+v is left", a.p.stats[crossverify.Failed], a.p.lineage, a.p.ahead)
			}
			if again := a.lineagesAt(); !again.IsZero() {
				t.Error("it is asked once more")
			}
			// What was shown in the lineage it goes on in binds it.
			if c.answer == c.known && !c.held {
				a.sawStatement(a.p, a.of(c.answer, 7, 8))
				if len(a.Machine.evidence) != 1 || a.Machine.evidence[0].Form != "fork" {
					t.Error("another statement for the number that was shown does not convict")
				}
			}
		})
	}
}

// TestNewestLineageIsKept: of many statements the one of the greatest ordinal, then
// of the greatest number, is shown, also after a restart; a link to come, and an
// Opened that was pushed meanwhile, do not lose it.
func TestNewestLineageIsKept(t *testing.T) {
	a := newAccused(t)
	a.read(a.sign(5, wire.Digest{1}, a.p.tree.Root()))
	for _, s := range []crossverify.Statement{a.of(life(2, 1), 3, 1), a.of(life(4, 4), 2, 1), a.of(life(4, 5), 9, 1), a.of(life(3, 1), 50, 1), a.of(life(4, 4), 6, 2), a.of(life(4, 4), 4, 3)} {
		a.sawStatement(a.p, s)
	}
	want := a.of(life(4, 4), 6, 2)
	if a.p.ahead != want || len(a.Machine.evidence) != 0 {
		t.Fatalf("%+v is kept", a.p.ahead)
	}
	a.savePath(a.p)
	r := reopened(t, a.Machine)
	if r.paths[0].ahead != want {
		t.Errorf("%+v is kept over a restart", r.paths[0].ahead)
	}
	a.connect(9)
	a.p.read.shown, a.p.read.shownS = crossverify.Position{}, crossverify.Statement{}
	a.answers(a.of(life(2, 1), 1, 1)) // pushed on a link that was not shown it
	if a.p.ahead != want || a.p.lineage != life(2, 1) {
		t.Errorf("%+v is kept, of %v", a.p.ahead, a.p.lineage)
	}
	a.sawStatement(a.p, a.of(life(4, 4), 6, 7)) // a fork where this member reads nothing
	if len(a.Machine.evidence) != 1 {
		t.Error("two statements for one number of a lineage that is not read do not convict")
	}
}

// TestLeapsAreFew: a relay that begins lineage after lineage is asked ever more
// seldom, and told of ever more seldom.
func TestLeapsAreFew(t *testing.T) {
	a := newAccused(t)
	a.read(a.sign(5, wire.Digest{1}, a.p.tree.Root()))
	asked, begun := 0, a.now
	for i := range byte(60) {
		a.sawStatement(a.p, a.of(life(2*i+2, 1), 1, 1))
		if at := a.lineagesAt(); at.After(a.now) {
			a.now = at
		}
		if a.stepLineages(); a.p.read.link != 0 {
			t.Fatal("it is not asked")
		}
		asked++
		a.connect(broadcast.Link(i) + 10)
		a.answers(a.of(life(2*i+3, 1), 1, 1))
	}
	if took := a.now.Sub(begun); took < 40*time.Hour {
		t.Errorf("%d questions within %v", asked, took)
	}
	if n := a.told(EventRelay, ""); n > 2+6 {
		t.Errorf("%d lines", n)
	}
	if len(a.Machine.evidence) > 0 || a.p.stats[crossverify.Failed] != 60 {
		t.Errorf("%d pieces of evidence, failed %d", len(a.Machine.evidence), a.p.stats[crossverify.Failed])
	}
}

// TestStrayViews: whose view names another lineage is sent what is known, once all
// that waits was read, ever more seldom, and not if another did it.
func TestStrayViews(t *testing.T) {
	m := laidDown(t, 2)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	a := &accused{Machine: m, t: t, p: m.paths[0], key: benchRelay(0), life: life(2, 1)}
	m.startLineage(a.p, a.life)
	a.read(a.sign(5, wire.Digest{1}, a.p.tree.Root()))
	view := func(l wire.Lineage) {
		t.Helper()
		m.compareView(x.st, View{Relays: []RelayView{{Relay: a.p.ref.Key, Lineage: l, N: 3, Head: wire.Digest{1}}}})
	}
	exchanges := func(d time.Duration) (n int) {
		for until := m.now.Add(d); m.now.Before(until); m.now = m.now.Add(time.Second) {
			before := m.counters.sequence
			m.runExchanges()
			n += int(m.counters.sequence - before)
		}
		return n
	}
	a.p.caughtUp = false
	view(life(1, 1))
	if n := exchanges(10 * time.Second); n != 0 {
		t.Error("an exchange before what waits was read")
	}
	view(a.life) // it came over meanwhile
	a.p.caughtUp = true
	if n := exchanges(10 * time.Second); n != 0 {
		t.Error("an exchange for who is in the same lineage")
	}
	for i, l := range []wire.Lineage{life(1, 1), life(3, 1), life(2, 9)} {
		view(l)
		view(l)
		if n := exchanges(60 * time.Second); n != 1 {
			t.Errorf("case %d: %d exchanges", i, n)
		}
	}
	view(life(1, 1))
	m.sawExchange((&Exchange{Statements: []crossverify.Statement{a.p.newest}}).Append(nil))
	if n := exchanges(10 * time.Minute); n != 0 {
		t.Error("an exchange after another's")
	}
	m.sawExchange((&Exchange{Statements: []crossverify.Statement{a.of(life(3, 1), 4, 1)}}).Append(nil))
	if view(life(3, 1)); exchanges(10*time.Minute) != 0 {
		t.Error("an exchange for who is ahead, as this member knows")
	}
	hour := func(of func(i byte) wire.Lineage) (sent int) {
		for i := range byte(60) {
			view(of(i))
			sent += exchanges(time.Minute)
		}
		return sent
	}
	if n := hour(func(byte) wire.Lineage { return life(1, 1) }); n == 0 || n > maxReshares {
		t.Errorf("%d exchanges in an hour for who is cut off from the relay", n)
	}
	if n := hour(func(i byte) wire.Lineage { return life(2, i+20) }); n == 0 || n > 8 {
		t.Errorf("%d exchanges in an hour for an insider that names lineage after lineage", n)
	}
	if len(m.evidence) > 0 || m.told(EventRelay, "")+m.told(EventDispute, "") > 0 {
		t.Errorf("%q", m.textsTold())
	}
}

func (m *Machine) textsTold() (all []string) {
	for _, e := range m.events {
		if e.Number > 0 {
			all = append(all, e.Body.(Event).Text)
		}
	}
	return all
}

// TestHeadsOutliveRestart: a view older than the restart, and one of the lineage
// before, finds the fork, if the head of its number is kept; not too many are.
func TestHeadsOutliveRestart(t *testing.T) {
	a := newAccused(t)
	x := newPeer(t, a.Machine, "Bob")
	const last = 6000
	a.cfg.Verify = anyKey // 6,000 signatures are not what is tested
	for n := uint64(1); n <= last; n++ {
		a.p.position = n
		a.keepRead(a.p, crossverify.Statement{Relay: a.p.ref.Key, Channel: a.p.channel, Lineage: a.life, N: n, H: wire.Digest{1, byte(n)}})
		if n%100 == 0 {
			a.Machine.savePath(a.p)
		}
	}
	disk := memory.New()
	r := reopenedOn(t, disk, a.Machine)
	p := r.paths[0]
	if most := headsKept + r.cfg.Limits.Heads/headsStep; len(p.heads) > most || len(p.heads) < most-headsKept/headsStep-1 {
		t.Errorf("%d heads are kept", len(p.heads))
	}
	differs := func(m *Machine, n uint64) bool {
		m.exchange, m.shared, m.accused = nil, map[wire.Digest]bool{}, map[wire.Seat]note{}
		m.compareView(m.seatOf(x.st.seat), View{Relays: []RelayView{{Relay: p.ref.Key, Lineage: a.life, N: n, Head: wire.Digest{9}}}})
		return slices.ContainsFunc(m.exchange, func(e exchangeDue) bool { return e.differ.N == n && e.differ.Lineage == a.life })
	}
	for _, c := range []struct {
		n    uint64
		want bool
	}{{last, true}, {last - 1, true}, {last - headsKept + 1, true}, {last - headsKept, false}, {last - last%headsStep - 10*headsStep, true}, {47 * headsStep, true}, {1, false}} {
		if got := differs(r, c.n); got != c.want && !(c.n%headsStep == 0 && !c.want) {
			t.Errorf("a view of number %d: found %v", c.n, got)
		}
	}
	// The relay begins another lineage: what it signed before still binds it.
	r.startLineage(p, life(2, 1))
	if !differs(r, last-7) {
		t.Error("a view of the lineage before finds nothing")
	}
	r = reopenedOn(t, disk, r)
	p = r.paths[0]
	if !differs(r, last-7) {
		t.Error("a view of the lineage before finds nothing after a restart")
	}
	r.keepRead(p, crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: life(2, 1), N: 1})
	r.startLineage(p, life(3, 1))
	if differs(r, last-7) || len(p.past) != 1 {
		t.Errorf("%d heads of lineages before are kept", len(p.past))
	}
}

// TestForkBeforeRestart: two statements for a number that was read before the
// restart convict after it.
func TestForkBeforeRestart(t *testing.T) {
	for _, past := range []bool{false, true} {
		a := newAccused(t)
		for n := uint64(1); n <= 40; n++ {
			a.p.position, a.p.head = n, wire.Digest{byte(n)}
			a.keepRead(a.p, a.of(a.life, n, byte(n)))
		}
		if past {
			a.startLineage(a.p, life(2, 1))
			a.keepRead(a.p, a.of(life(2, 1), 1, 1))
		}
		a.savePath(a.p)
		r := reopened(t, a.Machine)
		r.sawExchange((&Exchange{Statements: []crossverify.Statement{a.of(a.life, 23, 23)}}).Append(nil))
		if len(r.evidence) != 0 {
			t.Fatal("the same statement convicts")
		}
		r.sawExchange((&Exchange{Statements: []crossverify.Statement{a.of(a.life, 23, 99)}}).Append(nil))
		if len(r.evidence) != 1 || r.evidence[0].Form != "fork" {
			t.Errorf("past %v: %d pieces of evidence", past, len(r.evidence))
		}
	}
}

// TestToldOnceOverRestarts: what was told of a path, of seats and of a member is
// not told again by a later opening, until it was not met for long.
func TestToldOnceOverRestarts(t *testing.T) {
	m, disk := laidDown(t, 9), memory.New()
	now := m.now
	lines := map[string]int{}
	for opening := range 10 {
		for _, p := range m.paths {
			p.syncRoot()
		}
		m.now = now.Add(time.Duration(opening) * 3 * 24 * time.Hour) // met twice a week: it never ends
		m.awake = false
		m.wakeUp()
		p := m.paths[1]
		p.read.link, p.read.opened, p.listed, p.caughtUp, p.read.told = 4, true, true, true, true
		m.badHeader(p)
		m.pathFailed(p, "number", "it sent another number")
		p.read.opened = true
		m.tellOnce("newer operation", Event{Kind: EventRoster, Text: "newer"})
		k := alarmKey{hidesSeats, p.bitMask()}
		for _, st := range m.sortedSeats() {
			if !st.own && !st.hidden.has(p.index) {
				m.setHidden(st, p.bitMask())
				m.alarm(k, st)
			}
		}
		for i := range 3 {
			m.accuses(m.sortedSeats()[i].seat)
		}
		for _, e := range m.textsTold() {
			lines[e]++
		}
		m = reopenedOn(t, disk, m)
	}
	for text, n := range lines {
		if n != 1 {
			t.Errorf("told %d times: %s", n, text)
		}
	}
	if len(lines) != 3+aloneAlarms {
		t.Errorf("%d lines: %v", len(lines), lines)
	}
	if len(m.alarms) != 1 {
		t.Fatalf("%d causes", len(m.alarms))
	}
	for _, g := range m.alarms { // what waited in all these openings is not lost
		if len(g.seats) != 8-aloneAlarms {
			t.Errorf("%d seats wait", len(g.seats))
		}
	}
	if n := m.accused[m.sortedSeats()[0].seat]; n.times != 10 {
		t.Errorf("%d accusations count", n.times)
	}
	m.now = m.now.Add(2 * 24 * time.Hour)
	m.now = now.Add(27*24*time.Hour + notedFor + notedEvery + time.Hour)
	m.awake = false
	m.wakeUp()
	m.badHeader(m.paths[1])
	if m.told(EventRelay, "header") != 1 || len(m.accused) != 0 {
		t.Error("what began again after a long time is not told")
	}
}

// TestNotesAreBounded: a relay that finds ever new causes fills its own room only,
// and what ended makes room.
func TestNotesAreBounded(t *testing.T) {
	m := laidDown(t, 1)
	tell := func(p *path, from int) (n int) {
		for i := range 2 * maxNoted {
			if m.newCause(p, fmt.Sprint("cause ", from+i)) {
				n++
			}
		}
		return n
	}
	if a, b, c := tell(m.paths[0], 0), tell(m.paths[1], 0), tell(nil, 0); a != maxNoted || b != maxNoted || c != maxNoted {
		t.Errorf("%d, %d and %d causes are told", a, b, c)
	}
	if n := tell(m.paths[0], 5000); n != 0 {
		t.Errorf("%d more are told", n)
	}
	m.now = m.now.Add(notedFor + time.Hour)
	if n := tell(m.paths[0], 5000); n != maxNoted {
		t.Errorf("%d are told after the others ended", n)
	}
	r := reopened(t, m)
	r.now = m.now
	r.awake = false
	r.wakeUp()
	if len(r.noted.by) != maxNoted || r.noted.count[0] != maxNoted || r.noted.count[1] != 0 {
		t.Errorf("%d causes are kept: %v", len(r.noted.by), r.noted.count)
	}
	if !strings.HasPrefix(string(m.noteRecord(noteOf(nil, "x"))[17:]), "n\xff") {
		t.Error("the record of a note")
	}
}

func (p *path) bitMask() relayMask { return 1 << p.index }

// TestHeadAndNoteRecords: records of heads and of what was told that are cut,
// longer, or of a part that is not known, are not read.
func TestHeadAndNoteRecords(t *testing.T) {
	a := newAccused(t)
	a.read(a.sign(5, wire.Digest{1}, a.p.tree.Root()))
	a.sawStatement(a.p, a.of(life(4, 4), 2, 1))
	a.badHeader(a.p)
	st := a.sortedSeats()[0]
	a.setHidden(st, 3)
	a.accuses(st.seat)
	k := alarmKey{exchanges, 2}
	g := a.alarmOf(k)
	a.saveAlarm(k, g)
	g.alone = aloneAlarms
	a.alarm(k, st)
	seen := map[string]bool{}
	for _, o := range a.ops {
		var load func(key, value []byte) error
		var part string
		switch kind := o.Key[16]; {
		case kind == keyHead && o.Value != nil:
			load, part = a.loadHead, fmt.Sprint("head ", len(o.Key))
		case kind == keyNoted:
			load, part = a.loadNoted, string(o.Key[16:18])
		default:
			continue
		}
		seen[part] = true
		key := o.Key[17:]
		if err := load(key, o.Value); err != nil {
			t.Fatalf("record %q: %v", part, err)
		}
		if load(key, append(slices.Clone(o.Value), 0)) == nil || len(o.Value) > 0 && load(key, o.Value[1:]) == nil || load(append(slices.Clone(key), 0), o.Value) == nil || load(nil, o.Value) == nil {
			t.Errorf("record %q is read when it is cut or longer", part)
		}
	}
	if len(seen) != 2+5 {
		t.Errorf("%d kinds of records: %v", len(seen), seen)
	}
	if a.loadNoted([]byte{'?'}, nil) == nil || a.loadNoted(append([]byte{partWaits}, make([]byte, 41)...), nil) != nil || a.loadNoted(append(append([]byte{partWaits}, make([]byte, 32)...), 9, 0, 0, 0, 0, 0, 0, 0, 0), nil) == nil {
		t.Error("a part or a cause that there is not")
	}
}
