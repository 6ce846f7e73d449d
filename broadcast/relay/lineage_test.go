package relay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// restored is r's relay after a restore from an older copy of its store.
func (r *rig) restored(st *memory.Store) *rig {
	r.t.Helper()
	f, err := newFront(relay.Open(config()), st, 2)
	if err != nil {
		r.t.Fatal(err)
	}
	n := &rig{front: f, t: r.t, st: st, birth: r.birth}
	n.c = f.dial()
	n.settle()
	return n
}

// innocent checks that no two of these statements convict.
func innocent(t *testing.T, all []crossverify.Statement) {
	t.Helper()
	for i, a := range all {
		for _, b := range all[:i] {
			if e, guilty := crossverify.FindFork(a, b); guilty {
				t.Errorf("convicted: %+v", e)
			}
		}
	}
}

func TestRestoreStartsANewLineage(t *testing.T) {
	r := newRig(t)
	var all []crossverify.Statement
	w, _ := r.follow("a", 1000)
	other, _ := r.follow("b", 1000)
	all = append(all, r.birth)
	for i := range 5 {
		all = append(all, r.post(fmt.Sprint("before", i), "a", "b"))
	}
	x1 := one[proto.Receipt](t, r.c, putFrame("b1", "x", 1, "v", "o")).Statement
	old := r.st.Snapshot()
	for i := range 5 {
		all = append(all, r.post(fmt.Sprint("lost", i), "a", "b"))
	}
	x2 := one[proto.Receipt](t, r.c, putFrame("b2", "x", 2, "w", "o")).Statement
	all = append(all, x1, x2)
	r.good(w)
	knew, atB := *w.newest, other.at

	// A post in the same turn, before the Open that shows the future.
	n := r.restored(old)
	quiet := newFollower("b", r.birth)
	quietConn := n.dial()
	n.settle()
	quiet.listen(quietConn, 100, nil)
	n.settle()
	n.good(quiet)
	c := n.dial()
	n.settle()
	n.c.got = nil
	n.c.send(postFrame("lost3", nil, 0, "a", "b"))
	n.c.send(putFrame("b1", "x", 1, "v", "o"))
	n.c.send(registerFrame("c", thePosting))
	w.listen(c, 1000, &knew)
	n.settle()
	n.good(w)
	n.good(quiet)
	for _, got := range n.c.got {
		st := crossverify.Statement{}
		switch got := got.(type) {
		case proto.Receipt:
			st = got.Statement
		case proto.Registered:
			st = got.Statement
		default:
			t.Fatalf("got %+v", got)
		}
		if st.Lineage.Ordinal() != 2 {
			t.Errorf("signed in the lineage that ended: %+v", st)
		}
		all = append(all, st)
	}
	if len(n.c.got) != 3 {
		t.Errorf("got %d answers", len(n.c.got))
	}
	last := w.opened[len(w.opened)-1]
	if last.Statement.Lineage.Ordinal() != 2 || *last.Shown != knew.Position() {
		t.Errorf("Opened %+v", last)
	}
	if _, guilty := crossverify.FindAnswer(knew, last.Signed(c.nonce)); guilty {
		t.Error("the answer convicts")
	}
	if w.seen[0] != 1 || w.at.N != 3 {
		t.Errorf("the new lineage gave %v", w.seen)
	}
	// The one that was connected is told, and reads the new one from 1.
	if quiet.at != w.at || len(quiet.opened) != 2 {
		t.Errorf("the other mailbox is at %+v, was told %d times", quiet.at, len(quiet.opened))
	}
	// The board stayed, and neither its root nor a proof convicts.
	proof := one[proto.BoardProof](t, n.c, proto.BoardProve{Name: wire.Hash("name", []byte("x"))})
	if leaf, ok, err := proof.Proof.Check(proof.Name, proof.Statement.Root); err != nil || !ok || leaf.Version != 1 {
		t.Errorf("the board lost x: %+v %v", leaf, err)
	}
	for i, st := range []crossverify.Statement{x1, x2} {
		leaf := crossverify.Leaf{Name: proof.Name, Version: uint64(i + 1), Value: crossverify.ValueDigest([]byte{"vw"[i]})}
		if _, guilty := crossverify.FindForgotten(st, leaf, proof.Statement, proof.Proof); guilty {
			t.Errorf("board version %d convicts", i+1)
		}
	}
	all = append(all, proof.Statement)
	all = append(all, n.post("lost1", "a", "b"))
	innocent(t, all)
	// A position of the old lineage is delivered the new one from 1.
	c2 := n.dial()
	n.settle()
	late := &follower{name: "b", verify: w.verify, at: atB, posts: map[wire.Digest]int{}, slots: map[uint64][]byte{}, told: w.told}
	late.listen(c2, 100, nil)
	n.settle()
	if n.good(late); late.at != w.at || late.seen[0] != 1 {
		t.Errorf("an old position led to %+v", late.at)
	}
}

func TestOpenShown(t *testing.T) {
	r := newRig(t, func(c *relay.Config) { c.Limits.TailEntries = 1 })
	w, _ := r.follow("a", 100)
	var sts []crossverify.Statement
	for i := range 6 {
		sts = append(sts, r.post(fmt.Sprint(i), "a"))
	}
	sign := func(l wire.Lineage, n uint64, h wire.Digest) *crossverify.Statement {
		st := crossverify.SignStatement(theRelay, theChannel, l, n, wire.Digest{1}, h, wire.Digest{})
		return &st
	}
	l := r.birth.Lineage
	open := func(known *crossverify.Statement) proto.Opened {
		t.Helper()
		c := r.dial()
		r.settle()
		for _, g := range c.ask(c.openFrame("a", crossverify.Position{}, 1, known)) {
			if o, ok := g.(proto.Opened); ok {
				if !o.Signed(c.nonce).Verify(remembered()) {
					t.Error("Opened is not signed")
				}
				if _, guilty := crossverify.FindAnswer(*known, o.Signed(c.nonce)); guilty {
					t.Error("the answer convicts")
				}
				c.hangUp()
				return o
			}
		}
		t.Fatal("not opened")
		return proto.Opened{}
	}
	r.good(w)
	for i := range sts {
		if o := open(&sts[i]); o.Statement.Lineage != l || o.Statement != sts[5] {
			t.Errorf("shown number %d: %+v", sts[i].N, o.Statement)
		}
	}
	if o := open(sign(wire.NewLineage(0, [8]byte{9}), 99, wire.Digest{})); o.Statement.Lineage != l {
		t.Error("an older lineage made a new one")
	}
	ordinal := uint64(1)
	for name, known := range map[string]func() (*crossverify.Statement, uint64){
		"beyond the head": func() (*crossverify.Statement, uint64) { return sign(l, 99, wire.Digest{}), ordinal + 1 },
		"another head":    func() (*crossverify.Statement, uint64) { return sign(l, r.head().N, wire.Digest{5}), ordinal + 1 },
		"another number 3": func() (*crossverify.Statement, uint64) {
			return sign(l, 3, wire.Digest{5}), ordinal + 1
		},
		"greater ordinal": func() (*crossverify.Statement, uint64) {
			return sign(wire.NewLineage(ordinal+5, [8]byte{}), 1, wire.Digest{}), ordinal + 6
		},
		"same ordinal, other life": func() (*crossverify.Statement, uint64) {
			return sign(wire.NewLineage(ordinal, [8]byte{7}), 1, wire.Digest{}), ordinal + 1
		},
	} {
		k, want := known()
		o := open(k)
		if o.Statement.Lineage.Ordinal() != want || o.Statement.N != 1 || o.Statement.D != r.birth.D {
			t.Errorf("%s: %+v, want ordinal %d", name, o.Statement, want)
		}
		l, ordinal = o.Statement.Lineage, want
		for i := range 4 {
			r.post(fmt.Sprint(name, i), "a")
		}
	}
}

func (r *rig) head() crossverify.Statement {
	return one[proto.BoardProof](r.t, r.c, proto.BoardProve{}).Statement
}

// A restore that marks its units signs nothing of the past, whoever comes
// first.
func TestRestoredMark(t *testing.T) {
	r := newRig(t)
	r.register("a")
	first := r.post("1", "a")
	st := r.st.Snapshot()
	// Beside what is no channel, before and after it; twice does no harm.
	for _, u := range []store.Unit{{}, {0xff, 0xff}} {
		if err := st.Apply([]store.Batch{{Unit: u, Ops: []store.Op{{Key: append(u[:], 'c'), Value: []byte{1}}}}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if n, err := relay.MarkRestored(st); n != 1 || err != nil {
			t.Fatalf("%d channels marked, %v", n, err)
		}
	}
	n := r.restored(st)
	if again := n.post("1", "a"); again.Lineage.Ordinal() != 2 || again.N != 2 || again.D != first.D {
		t.Errorf("%+v", again)
	}
	if n.post("2", "a"); n.start() != nil {
		t.Fatal("does not open again")
	}
	n.c = n.dial()
	if st := n.post("3", "a"); st.Lineage.Ordinal() != 2 || st.N != 4 {
		t.Errorf("the mark works twice: %+v", st)
	}
}

// A store of another version's channels is told apart before anything is served.
func TestCheckFormat(t *testing.T) {
	st := newRig(t).st
	if err := relay.CheckFormat(st); err != nil {
		t.Fatal(err)
	}
	u := relay.Unit(theChannel)
	meta, err := st.Get(append(u[:], 'm'))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []int{-1, 1} {
		rev, err := st.Revision(u)
		if err != nil {
			t.Fatal(err)
		}
		changed := append([]byte{byte(int(meta[0]) + other)}, meta[1:]...)
		if err := st.Apply([]store.Batch{{Unit: u, Base: rev, Ops: []store.Op{{Key: append(u[:], 'm'), Value: changed}}}})[0]; err != nil {
			t.Fatal(err)
		}
		e, ok := errors.AsType[*store.FormatError](relay.CheckFormat(st))
		if !ok || e.Found != uint64(changed[0]) || e.Supported != uint64(meta[0]) || strings.Contains(e.Error(), "newer version") != (other > 0) {
			t.Errorf("format %d: %v", changed[0], e)
		}
	}
}

// Crash at any turn, written or not, and go on from the store.
func TestCrashAtAnyTurn(t *testing.T) {
	script := []proto.Message{
		registerFrame("a", thePosting), postFrame("1", nil, 0, "a"), postFrame("2", nil, 0, "a"),
		putFrame("3", "x", 1, "v", "o"), grantFrame("4", "i", 2, 2, start.AddDate(1, 0, 0), false),
		admitFrame("5", "i", "alice"), postFrame("6", nil, 0, "a"), admitFrame("7", "i", "bob"),
	}
	for crash := range 30 {
		f, err := newFront(relay.Open(config()), memory.New(), 1)
		if err != nil {
			t.Fatal(err)
		}
		c := f.dial()
		f.settle()
		answers := map[string]string{}
		turn := 0
		for _, msg := range append([]proto.Message{createFrame()}, script...) {
			for tries := 0; ; tries++ {
				c.got = nil
				c.send(msg)
				crashed := false
				for range 10 {
					f.ready()
					for len(f.turns) > 0 && !crashed {
						if turn++; turn == crash/2 {
							if crash%2 == 1 {
								if err := f.write(); err != nil {
									t.Fatal(err)
								}
							}
							crashed = true
							break
						}
						f.apply()
					}
					if crashed {
						break
					}
					for len(f.reads) > 0 {
						f.read(0)
					}
				}
				if !crashed {
					break
				}
				if err := f.start(); err != nil {
					t.Fatal(err)
				}
				c = f.dial()
				f.settle()
			}
			if len(c.got) != 1 {
				t.Fatalf("crash %d: %T got %d answers", crash, msg, len(c.got))
			}
			switch a := c.got[0].(type) {
			case proto.Receipt:
				answers[fmt.Sprint(a.Statement.N)] += "."
			case proto.Registered:
			default:
				t.Fatalf("crash %d: %T got %+v", crash, msg, a)
			}
		}
		for n := 1; n <= len(script); n++ {
			if answers[fmt.Sprint(n)] != "." {
				t.Errorf("crash %d: numbers %v", crash, answers)
			}
		}
	}
}

// A turn that is being made when the future is shown is made again after it.
func TestRecall(t *testing.T) {
	r := newRig(t)
	r.register("a")
	w := newFollower("a", r.birth)
	c := r.dial()
	r.settle()
	r.c.got = nil
	for _, msg := range []proto.Message{postFrame("1", nil, 0, "a"), registerFrame("b", thePosting), putFrame("2", "x", 1, "v", "o"),
		grantFrame("3", "i", 1, 1, start.AddDate(1, 0, 0), false), admitFrame("4", "i", "alice")} {
		r.c.send(msg)
	}
	r.changed() // answers all of them in the turn that begins
	future := crossverify.SignStatement(theRelay, theChannel, r.birth.Lineage, 50, wire.Digest{}, wire.Digest{}, wire.Digest{})
	w.listen(c, 9, &future)
	r.settle()
	r.good(w)
	if len(r.c.got) != 5 {
		t.Fatalf("got %d answers", len(r.c.got))
	}
	for _, g := range r.c.got {
		switch g := g.(type) {
		case proto.Receipt:
			if g.Statement.Lineage.Ordinal() != 2 {
				t.Errorf("signed in the lineage that ended: %+v", g)
			}
		case proto.Registered:
			if g.Statement.Lineage.Ordinal() != 2 {
				t.Errorf("born in the lineage that ended: %+v", g)
			}
		default:
			t.Errorf("got %+v", g)
		}
	}
	if w.at.N != 5 || w.at.Lineage.Ordinal() != 2 {
		t.Errorf("mailbox at %+v", w.at)
	}
	// The invite's one use was counted once.
	refused(t, r.c, admitFrame("5", "i", "bob"), proto.CodeUsedUp)
}

// TestOpenedSaysWhatWasRead: a relay tells each mailbox how far it was read in the
// lineage, by what was acknowledged and where it was opened, also after a restart
// and never of another lineage.
func TestOpenedSaysWhatWasRead(t *testing.T) {
	r := newRig(t)
	r.register("a")
	r.register("b")
	for i := range 6 {
		r.post(fmt.Sprint(i), "a")
	}
	open := func(name string, after uint64, known *crossverify.Statement) (*conn, proto.Opened) {
		t.Helper()
		c := r.dial()
		r.settle()
		for _, g := range c.ask(c.openFrame(name, crossverify.Position{Lineage: r.birth.Lineage, N: after}, 2, known)) {
			if o, ok := g.(proto.Opened); ok {
				return c, o
			}
		}
		t.Fatal("not opened")
		return nil, proto.Opened{}
	}
	reads := func(name string, want uint64) {
		t.Helper()
		c, o := open(name, 1, nil)
		if o.Read != want {
			t.Errorf("%s: read to %d, want %d", name, o.Read, want)
		}
		c.hangUp()
		r.settle()
	}
	reads("a", 0)
	reads("a", 1) // where it was opened
	c, _ := open("a", 1, nil)
	c.send(proto.Ack{UpTo: 3})
	c.send(proto.Ack{UpTo: 2})
	r.settle()
	c.hangUp()
	reads("a", 3)
	reads("a", 3) // an older copy of the member opened it at 1: that takes nothing back
	reads("b", 0)
	r.now = r.now.Add(time.Hour) // the hint is written
	r.m.Tick(r.now)
	r.settle()
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	reads("a", 3)
	st := crossverify.SignStatement(theRelay, theChannel, r.birth.Lineage, 99, wire.Digest{1}, wire.Digest{2}, wire.Digest{})
	if c, o := open("a", 1, &st); o.Read != 0 || o.Statement.Lineage == r.birth.Lineage {
		t.Errorf("in a new lineage it was read to %d", o.Read)
	} else {
		c.hangUp()
	}
}
