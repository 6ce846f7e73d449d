package relay_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

func TestHello(t *testing.T) {
	f, err := newFront(relay.Open(config()), memory.New(), 1)
	if err != nil {
		t.Fatal(err)
	}
	up := func() *conn {
		f.last++
		c := &conn{f: f, id: f.last}
		f.conns[c.id] = c
		f.step(broadcast.Up{Link: c.id})
		return c
	}
	w := one[proto.Welcome](t, up(), proto.Hello{Min: 0, Max: 9, Channel: theChannel})
	if w.Version != 1 || w.MaxFrame != proto.MaxFrame || w.MaxWindow != 1024 || w.Retention != 21*24*time.Hour || w.Nonce == (proto.Nonce{}) {
		t.Errorf("Welcome %+v", w)
	}
	if again := one[proto.Welcome](t, up(), proto.Hello{Min: 1, Max: 1, Channel: theChannel}); again.Nonce == w.Nonce {
		t.Error("two links have one nonce")
	}
	for name, c := range map[string]struct {
		first proto.Message
		code  proto.Code
	}{
		"future version":  {proto.Hello{Min: 2, Max: 3, Channel: theChannel}, proto.CodeVersion},
		"another channel": {proto.Hello{Min: 1, Max: 1}, proto.CodeNoChannel},
		"Ping first":      {proto.Ping{}, proto.CodeMalformed},
		"relay's frame":   {proto.Pong{}, proto.CodeMalformed},
	} {
		lk := up()
		refused(t, lk, c.first, c.code)
		if !lk.down {
			t.Errorf("%s: the link stays", name)
		}
	}
	c := up()
	c.ask(proto.Hello{Min: 1, Max: 1, Channel: theChannel})
	refused(t, c, proto.Hello{Min: 1, Max: 1, Channel: theChannel}, proto.CodeMalformed)

	c = f.dial()
	f.settle()
	c.got = nil
	f.step(broadcast.Received{Link: c.id, Frame: broadcast.Frame{Type: 0x90, Body: []byte("later")}})
	f.settle()
	if len(c.got) != 0 || c.down {
		t.Errorf("a skippable type: %v", c.got)
	}
	f.step(broadcast.Received{Link: c.id, Frame: broadcast.Frame{Type: 0x3f}})
	f.settle()
	if len(c.got) != 1 || c.got[0].(proto.Refused).Code != proto.CodeUnknownType || !c.down {
		t.Errorf("an unknown critical type: %v, down %v", c.got, c.down)
	}
	c = f.dial()
	f.settle()
	c.got = nil
	f.step(broadcast.Received{Link: c.id, Frame: broadcast.Frame{Type: proto.TypeAck, Body: []byte{1}}})
	f.settle()
	if len(c.got) != 1 || c.got[0].(proto.Refused).Code != proto.CodeMalformed || !c.down {
		t.Errorf("a malformed body: %v, down %v", c.got, c.down)
	}
	if f.stepErr != nil || f.writes != 0 {
		t.Errorf("%v, %d writes", f.stepErr, f.writes)
	}
}

func TestChannelBegins(t *testing.T) {
	f, err := newFront(relay.Open(config()), memory.New(), 1)
	if err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	info := one[proto.InfoIs](t, c, proto.Info{})
	if !info.Verify(remembered(), relayID) || info.Name != "Somebody" || info.Operator != theOperator.Public() {
		t.Errorf("InfoIs %+v", info)
	}
	if p := one[proto.Pong](t, c, proto.Ping{Value: 7}); p.Value != 7 {
		t.Errorf("Pong %d", p.Value)
	}
	refused(t, c, registerFrame("a", thePosting), proto.CodeNoChannel)
	refused(t, c, postFrame("p", nil, 0, "a"), proto.CodeNoChannel)
	bad := createFrame()
	bad.Token = []byte("open barley")
	refused(t, c, bad, proto.CodeNotAllowed)
	bad = createFrame()
	bad.Signature[0] ^= 1
	refused(t, c, bad, proto.CodeNotAllowed)
	if f.writes != 0 {
		t.Errorf("refusals wrote %d times", f.writes)
	}
	st := one[proto.Receipt](t, c, createFrame()).Statement
	if !st.Verify(remembered()) || st.N != 1 || st.D != createFrame().Digest() || st.Lineage.Ordinal() != 1 || st.Root != (wire.Digest{}) ||
		st.H != crossverify.ChainNext(crossverify.ChainStart(relayID, theChannel, st.Lineage), 1, st.D, st.Root) {
		t.Errorf("statement of creation %+v", st)
	}
	if again := one[proto.Receipt](t, c, createFrame()); again.Statement != st {
		t.Error("creating again gives another statement")
	}
	other := createFrame()
	other.Posting = inviteKey("x").Public()
	other.Sign(theAdmin, relayID, theChannel)
	refused(t, c, other, proto.CodeConflict)
	if got := c.ask(proto.Bye{}); len(got) != 0 || !c.down {
		t.Errorf("Bye: %v", got)
	}
	// Reopened from the store it is the same channel.
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	if again := one[proto.Receipt](t, f.dial(), createFrame()); again.Statement != st {
		t.Error("a reopened channel gives another statement")
	}
}

func TestPost(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"a", "b", "c"} {
		r.register(name)
	}
	a, _ := r.follow("a", 100)
	c, _ := r.follow("c", 100)
	p := postFrame("one", broadcast.Exceptions{{Index: 0, Class: broadcast.FirstContact}, {Index: 1, Class: broadcast.Answering}}, 1000, "a", "b")
	st := one[proto.Receipt](t, r.c, p).Statement
	if st.D != p.Digest() || st.N != 2 || !st.Verify(remembered()) {
		t.Fatalf("receipt %+v", st)
	}
	r.good(a)
	r.good(c)
	index, _ := broadcast.FanoutIndex(p.Mailboxes, mailboxID("a"))
	offset, size := broadcast.SlotSpan(p.Exceptions, index)
	if !bytes.Equal(a.slots[2], p.Slots[offset:offset+size]) {
		t.Error("mailbox a got another slot than its own")
	}
	if c.at.N != 2 || c.slots[2] != nil {
		t.Error("mailbox c is not in the list, yet did not get the number bare")
	}
	if again := one[proto.Receipt](t, r.c, p); again.Statement != st || a.at.N != 2 {
		t.Error("posting again gave another number")
	}
	byHash := postFrame("two", nil, 0, "a", "b")
	byHash.Mailboxes = nil
	if got := one[proto.Receipt](t, r.c, byHash).Statement; got.N != 3 || got.D != byHash.Digest() {
		t.Errorf("by hash: %+v", got)
	}
	unknown := postFrame("three", nil, 0, "a", "b", "c")
	full := unknown
	unknown.Mailboxes = nil
	if need := one[proto.NeedFanout](t, r.c, unknown); need.PostID != unknown.PostID || need.Fanout != unknown.Fanout {
		t.Errorf("NeedFanout %+v", need)
	}
	if got := one[proto.Receipt](t, r.c, full).Statement; got.N != 4 {
		t.Errorf("with the list: %+v", got)
	}
	// After a restart post ids, lists and numbers go on.
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	r.c = r.dial()
	if again := one[proto.Receipt](t, r.c, p); again.Statement != st {
		t.Error("posting again after a restart gave another statement")
	}
	byHash = postFrame("four", nil, 0, "a", "b")
	byHash.Mailboxes = nil
	if got := one[proto.Receipt](t, r.c, byHash).Statement; got.N != 5 {
		t.Errorf("by hash after a restart: %+v", got)
	}

	writes := r.writes
	bad := postFrame("five", nil, 0, "a", "b")
	bad.Signature[3] ^= 1
	refused(t, r.c, bad, proto.CodeNotAllowed)
	bad = postFrame("five", nil, 0, "a", "b")
	bad.PostID = wire.PostID{}
	refused(t, r.c, bad, proto.CodeMalformed)
	bad = postFrame("five", nil, 0, "a", "b")
	bad.Fanout[0] ^= 1
	bad.Sign(thePosting, relayID, theChannel, bad.Digest())
	refused(t, r.c, bad, proto.CodeMalformed)
	bad = postFrame("five", nil, 0, "a", "b")
	bad.Mailboxes, bad.Slots = nil, bad.Slots[:100]
	bad.Sign(thePosting, relayID, theChannel, bad.Digest())
	refused(t, r.c, bad, proto.CodeMalformed)
	bad = postFrame("five", nil, 0, "a", "b")
	bad.Envelope = bad.Envelope[:10]
	bad.Sign(thePosting, relayID, theChannel, bad.Digest())
	refused(t, r.c, bad, proto.CodeMalformed)
	if r.writes != writes {
		t.Errorf("refusals wrote %d times", r.writes-writes)
	}
}

// Posts that wait together become durable together.
func TestGroupCommit(t *testing.T) {
	r := newRig(t)
	r.register("a")
	var msgs []proto.Message
	for i := range 20 {
		msgs = append(msgs, postFrame(fmt.Sprint("p", i/2), nil, 0, "a")) // each twice
	}
	writes := r.writes
	got := r.c.ask(msgs...)
	if len(got) != 20 || r.writes != writes+1 {
		t.Fatalf("%d answers in %d writes, want 20 in one", len(got), r.writes-writes)
	}
	numbers := map[wire.PostID]crossverify.Statement{}
	for _, g := range got {
		rc := g.(proto.Receipt)
		if was, ok := numbers[rc.PostID]; ok && was != rc.Statement {
			t.Error("one post id has two statements")
		}
		numbers[rc.PostID] = rc.Statement
	}
	if len(numbers) != 10 {
		t.Errorf("%d numbers for 10 posts", len(numbers))
	}
}

// What is not durable is neither pushed nor receipted, and what a conflict
// voids is done again.
func TestNothingBeforeItIsDurable(t *testing.T) {
	r := newRig(t)
	w, _ := r.follow("a", 100)
	r.c.send(postFrame("one", nil, 0, "a"))
	r.ready()
	for len(r.reads) > 0 {
		r.read(0)
	}
	r.ready()
	if len(r.turns) != 1 || r.turns[0].Write == nil {
		t.Fatalf("turns %+v", r.turns)
	}
	r.ready()
	if w.at.N != 1 || len(r.c.got) != 0 {
		t.Fatal("something left before the write was durable")
	}
	r.changed()
	if r.settle(); w.at.N != 2 || len(r.c.got) != 1 {
		t.Fatalf("after Changed: mailbox at %d, sender got %v", w.at.N, r.c.got)
	}
	// Written, but the driver does not know: the stored statement answers.
	r.c.got = nil
	r.c.send(postFrame("two", nil, 0, "a"))
	r.ready()
	for len(r.reads) > 0 {
		r.read(0)
	}
	r.ready()
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	r.changed()
	r.settle()
	if rc, ok := r.c.got[0].(proto.Receipt); !ok || rc.Statement.N != 3 || w.at.N != 3 {
		t.Fatalf("got %v, mailbox at %d", r.c.got, w.at.N)
	}
	r.good(w)
}

func TestWindowAndCatchingUp(t *testing.T) {
	// A tail of two entries: nearly all comes from the store.
	r := newRig(t, func(c *relay.Config) {
		c.Limits.TailEntries, c.Limits.ReadBytes, c.Limits.MaxReads, c.Limits.CachedFanouts = 2, 2000, 1, 1
		c.Limits.PushBytes = 2000
	})
	for _, name := range []string{"a", "b", "c"} {
		r.register(name)
	}
	lists := [][]string{{"a", "b"}, {"a", "c"}, {"a", "b", "c"}}
	want := uint64(1)
	for i := range 30 {
		r.post(fmt.Sprint("p", i), lists[i%3]...)
		want++
		if i%5 == 0 {
			one[proto.Receipt](t, r.c, putFrame(fmt.Sprint("b", i), fmt.Sprint(i%3), uint64(i+1), "value", "o"+fmt.Sprint(i%3)))
			want++
		}
	}
	for _, name := range []string{"a", "b"} {
		w := newFollower(name, r.birth)
		c := r.dial()
		r.settle()
		w.listen(c, 4, nil)
		r.settle()
		if r.good(w); w.at.N != 5 {
			t.Fatalf("mailbox at %d with a window of 4 after 1", w.at.N)
		}
		for w.at.N < want {
			before := w.at.N
			c.send(proto.Ack{UpTo: w.at.N - 2})
			c.send(proto.Ack{UpTo: w.at.N + 100}) // as far as it was sent
			if before == 10 {
				c.send(proto.Ping{})
				w.err = nil
			}
			r.settle()
			if w.at.N <= before {
				t.Fatalf("the window does not open: %d", w.at.N)
			}
			if w.err != nil && before != 10 {
				t.Fatal(w.err)
			}
			w.err = nil
		}
		if w.caught != want {
			t.Errorf("CaughtUp{%d}, want %d", w.caught, want)
		}
		w.caught = 0
		c.send(proto.Ack{UpTo: want})
		r.post("live "+name, "a", "b")
		want++
		if w.at.N != want || w.caught != 0 {
			t.Errorf("live push: at %d of %d, CaughtUp %d", w.at.N, want, w.caught)
		}
		// Fetch goes outside the window and moves nothing.
		var again []uint64
		c.hear = func(msg proto.Message) {
			switch msg := msg.(type) {
			case proto.Deliver:
				again = append(again, msg.N)
			case proto.Bare:
				again = append(again, msg.N)
			case proto.Entry:
				again = append(again, msg.N)
			default:
				t.Errorf("Fetch: %+v", msg)
			}
		}
		c.send(proto.Fetch{From: 3, To: 9})
		r.settle()
		if !slices.Equal(again, []uint64{3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("Fetch gave %v", again)
		}
		c.hear = nil
		refused(t, c, proto.Fetch{From: 1, To: 9}, proto.CodeNotAllowed)
		refused(t, c, proto.Fetch{From: 9, To: 8}, proto.CodeMalformed)
		refused(t, c, proto.Fetch{From: 9, To: 9999}, proto.CodeTooLarge)
		refused(t, c, proto.Fetch{From: 9, To: 900}, proto.CodeNotKept)
		refused(t, c, c.openFrame("a", w.at, 4, nil), proto.CodeMalformed)
	}
	refused(t, r.c, proto.Fetch{From: 2, To: 3}, proto.CodeNotAllowed)
	refused(t, r.c, proto.Ack{UpTo: 3}, proto.CodeNotAllowed)
}

func TestRegister(t *testing.T) {
	r := newRig(t)
	one[proto.Receipt](t, r.c, grantFrame("g", "i", 5, 5, start.Add(time.Hour), false))
	birth := one[proto.Registered](t, r.c, registerFrame("a", inviteKey("i")))
	if birth.Statement.N != 2 || birth.Mailbox != mailboxID("a") {
		t.Fatalf("Registered %+v", birth)
	}
	r.post("one", "a")
	if again := one[proto.Registered](t, r.c, registerFrame("a", thePosting)); again != birth {
		t.Error("registering again gave another birth")
	}
	refused(t, r.c, registerFrame("b", inviteKey("nobody")), proto.CodeNotAllowed)
	bad := registerFrame("b", thePosting)
	bad.Signature[0] ^= 1
	refused(t, r.c, bad, proto.CodeNotAllowed)
	r.now = r.now.Add(2 * time.Hour)
	refused(t, r.c, registerFrame("b", inviteKey("i")), proto.CodeExpired)

	c := r.dial()
	r.settle()
	refused(t, c, c.openFrame("nobody", crossverify.Position{}, 9, nil), proto.CodeNotAllowed)
	open := c.openFrame("a", crossverify.Position{}, 9, nil)
	open.Window++
	refused(t, c, open, proto.CodeNotAllowed)
	refused(t, c, c.openFrame("a", crossverify.Position{}, 0, nil), proto.CodeMalformed)
	refused(t, c, c.openFrame("a", crossverify.Position{Lineage: r.birth.Lineage, N: 99}, 9, nil), proto.CodeLineage)
	other := crossverify.SignStatement(theRelay, wire.ChannelID{}, r.birth.Lineage, 9, wire.Digest{}, wire.Digest{}, wire.Digest{})
	refused(t, c, c.openFrame("a", crossverify.Position{}, 9, &other), proto.CodeNotAllowed)
	forged := r.birth
	forged.N = 77
	refused(t, c, c.openFrame("a", crossverify.Position{}, 9, &forged), proto.CodeNotAllowed)
	w := newFollower("a", birth.Statement)
	w.listen(c, 9, &r.birth)
	r.settle()
	if r.good(w); w.at.N != 3 || len(w.opened) != 1 || *w.opened[0].Shown != r.birth.Position() {
		t.Errorf("opened %+v at %d", w.opened, w.at.N)
	}
}

func TestBoard(t *testing.T) {
	r := newRig(t)
	w, _ := r.follow("a", 100)
	put := func(post, name string, v uint64, value, owner string) crossverify.Statement {
		t.Helper()
		return one[proto.Receipt](t, r.c, putFrame(post, name, v, value, owner)).Statement
	}
	st1 := put("1", "x", 1, "one", "alice")
	if st1.D != putFrame("1", "x", 1, "one", "alice").Digest() {
		t.Error("receipt for something else")
	}
	if put("2", "x", 1, "one", "alice") != st1 {
		t.Error("the same version and value again gave another statement")
	}
	refused(t, r.c, putFrame("3", "x", 1, "uno", "alice"), proto.CodeConflict)
	refused(t, r.c, putFrame("3", "x", 2, "two", "eve"), proto.CodeNotAllowed)
	st2 := put("4", "x", 7, "seven", "alice")
	refused(t, r.c, putFrame("5", "x", 6, "six", "alice"), proto.CodeConflict)
	if put("1", "x", 1, "one", "alice") != st1 {
		t.Error("the first post id again gave another statement")
	}
	bad := putFrame("6", "y", 1, "y", "alice")
	bad.Sign(inviteKey("x"), relayID, theChannel)
	refused(t, r.c, bad, proto.CodeNotAllowed)
	bad = putFrame("6", "y", 1, "y", "alice")
	bad.OwnerSignature[0] ^= 1
	refused(t, r.c, bad, proto.CodeNotAllowed)
	for i := range 40 {
		put(fmt.Sprint("n", i), fmt.Sprint("n", i), 1, fmt.Sprintf("value %050d", i), "bob")
	}
	var tree crossverify.Tree
	var after wire.Digest
	pages := 0
	for {
		page := one[proto.BoardPage](t, r.c, proto.BoardList{After: after, Limit: 500})
		pages++
		for _, e := range page.Entries {
			tree.Put(crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)})
			after = e.Name
		}
		if !page.More {
			if tree.Root() != page.Statement.Root || tree.Len() != 41 || pages < 5 {
				t.Errorf("%d entries in %d pages do not make the root", tree.Len(), pages)
			}
			break
		}
	}
	if page := one[proto.BoardPage](t, r.c, proto.BoardList{Limit: 1}); len(page.Entries) != 1 || !page.More {
		t.Errorf("a page of one byte has %d entries", len(page.Entries))
	}
	for name, want := range map[string]uint64{"x": 7, "n3": 1, "nothing": 0} {
		proof := one[proto.BoardProof](t, r.c, proto.BoardProve{Name: wire.Hash("name", []byte(name))})
		leaf, present, err := proof.Proof.Check(proof.Name, proof.Statement.Root)
		if err != nil || present != (want > 0) || leaf.Version != want || !proof.Statement.Verify(remembered()) {
			t.Errorf("%s: %+v %v %v", name, leaf, present, err)
		}
		if name == "x" {
			if _, guilty := crossverify.FindForgotten(st1, crossverify.Leaf{Name: proof.Name, Version: 1, Value: crossverify.ValueDigest([]byte("one"))}, proof.Statement, proof.Proof); guilty {
				t.Error("a newer version convicts")
			}
		}
	}
	if got := one[proto.StatementIs](t, r.c, proto.StatementOf{N: st2.N}); got.Statement != st2 {
		t.Error("StatementOf gave another statement")
	}
	if r.good(w); w.at.N != 1+42 {
		t.Errorf("mailbox at %d", w.at.N)
	}
	// A list, a write and a list in one turn: each page fits its statement.
	got := r.c.ask(proto.BoardList{Limit: 1 << 20}, putFrame("last", "x", 8, "eight", "alice"), proto.BoardList{Limit: 1 << 20})
	for _, g := range got {
		if page, ok := g.(proto.BoardPage); ok {
			var tree crossverify.Tree
			for _, e := range page.Entries {
				tree.Put(crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)})
			}
			if tree.Root() != page.Statement.Root {
				t.Error("a page does not fit its statement")
			}
		}
	}
	if len(got) != 3 {
		t.Errorf("got %d answers", len(got))
	}
}

func TestAdmit(t *testing.T) {
	r := newRig(t)
	refused(t, r.c, admitFrame("1", "i", "alice"), proto.CodeNotAllowed)
	bad := grantFrame("g", "i", 3, 2, start.Add(10*time.Hour), false)
	bad.Uses++
	refused(t, r.c, bad, proto.CodeNotAllowed)
	g := grantFrame("g", "i", 3, 2, start.Add(10*time.Hour), false)
	st := one[proto.Receipt](t, r.c, g).Statement
	if st.D != g.Digest() {
		t.Error("receipt for something else")
	}
	if one[proto.Receipt](t, r.c, g).Statement != st {
		t.Error("granting again gave another statement")
	}
	a := one[proto.Receipt](t, r.c, admitFrame("1", "i", "alice")).Statement
	one[proto.Receipt](t, r.c, admitFrame("2", "i", "bob"))
	if one[proto.Receipt](t, r.c, admitFrame("1", "i", "alice")).Statement != a {
		t.Error("admitting again gave another statement")
	}
	if no := refused(t, r.c, admitFrame("3", "i", "carol"), proto.CodeRate); no.Retry != time.Hour || no.Limit == "" {
		t.Errorf("rate: %+v", no)
	}
	if err := r.start(); err != nil { // uses are durable
		t.Fatal(err)
	}
	r.c = r.dial()
	r.now = r.now.Add(time.Hour)
	one[proto.Receipt](t, r.c, admitFrame("3", "i", "carol"))
	refused(t, r.c, admitFrame("4", "i", "dave"), proto.CodeUsedUp)
	one[proto.Receipt](t, r.c, grantFrame("g2", "i", 9, 9, start.Add(10*time.Hour), false))
	one[proto.Receipt](t, r.c, admitFrame("4", "i", "dave"))
	r.now = r.now.Add(10 * time.Hour)
	refused(t, r.c, admitFrame("5", "i", "erin"), proto.CodeExpired)
	one[proto.Receipt](t, r.c, grantFrame("g3", "i", 9, 9, start.Add(90*time.Hour), true))
	refused(t, r.c, admitFrame("5", "i", "erin"), proto.CodeNotAllowed)
}

func TestStatementsAndSlotBlocks(t *testing.T) {
	r := newRig(t, func(c *relay.Config) { c.Limits.TailEntries = 1 })
	w, c := r.follow("a", 100)
	r.register("b")
	p := postFrame("one", nil, 0, "a", "b")
	st := one[proto.Receipt](t, r.c, p).Statement
	r.post("two", "a")
	r.post("three", "a")
	if got := one[proto.StatementIs](t, r.c, proto.StatementOf{N: 2}); got.Statement != st {
		t.Error("StatementOf gave another statement")
	}
	refused(t, r.c, proto.StatementOf{N: 0}, proto.CodeNotKept)
	refused(t, r.c, proto.StatementOf{N: 5}, proto.CodeNotKept)
	refused(t, r.c, proto.SlotBlock{N: 2}, proto.CodeNotAllowed)
	r.good(w)
	c.hear = nil
	if err := r.start(); err != nil { // so that list and entry come from the store
		t.Fatal(err)
	}
	c = r.dial()
	r.settle()
	c.ask(c.openFrame("a", w.at, 5, nil))
	block := one[proto.SlotBlockIs](t, c, proto.SlotBlock{N: 2})
	if block.N != 2 || !slices.Equal(block.Mailboxes, p.Mailboxes) || !bytes.Equal(block.Slots, p.Slots) {
		t.Errorf("SlotBlockIs %+v", block)
	}
	refused(t, c, proto.SlotBlock{N: 1}, proto.CodeNotKept)
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(c *relay.Config) {
		c.Limits = relay.Limits{
			PostsPerMinute: 30, RequestsPerMinute: 5, MaxMailboxes: 2, MaxBoardEntries: 2, MaxBoardBytes: 10,
			MaxGrants: 1, MaxFanouts: 1, MaxPostBytes: 3000, Retention: time.Hour,
		}
	})
	fresh := func() *conn { c := r.dial(); r.settle(); return c }
	r.c = fresh()
	r.register("a")
	r.register("b")
	no := refused(t, r.c, registerFrame("c", thePosting), proto.CodeQuota)
	if no.Limit != "MaxMailboxes" {
		t.Errorf("limit %q", no.Limit)
	}
	r.post("1", "a")
	for want, msg := range map[string]proto.Message{
		"MaxFanouts": postFrame("2", nil, 0, "b"),
		"MaxGrants":  grantFrame("g2", "j", 1, 1, start.Add(time.Hour), false),
	} {
		if want == "MaxGrants" {
			one[proto.Receipt](t, r.c, grantFrame("g", "i", 1, 1, start.Add(time.Minute), false))
		}
		if no := refused(t, r.c, msg, proto.CodeQuota); no.Limit != want {
			t.Errorf("limit %q, want %q", no.Limit, want)
		}
	}
	if no := refused(t, r.c, postFrame("3", nil, 4000, "a"), proto.CodeTooLarge); no.Limit != "MaxPostBytes" {
		t.Errorf("limit %q", no.Limit)
	}
	one[proto.Receipt](t, r.c, putFrame("b1", "x", 1, "123456789", "o"))
	if no := refused(t, r.c, putFrame("b2", "y", 1, "12", "o"), proto.CodeQuota); no.Limit != "MaxBoardBytes" {
		t.Errorf("limit %q", no.Limit)
	}
	one[proto.Receipt](t, r.c, putFrame("b3", "x", 2, "1", "o"))
	one[proto.Receipt](t, r.c, putFrame("b4", "y", 1, "1", "o"))
	if no := refused(t, r.c, putFrame("b5", "z", 1, "1", "o"), proto.CodeQuota); no.Limit != "MaxBoardEntries" {
		t.Errorf("limit %q", no.Limit)
	}
	// Rates are the link's own.
	c := fresh()
	for range 5 {
		one[proto.StatementIs](t, c, proto.StatementOf{N: 1})
	}
	if no := refused(t, c, proto.StatementOf{N: 1}, proto.CodeRate); no.Retry != 12*time.Second || no.Limit != "RequestsPerMinute" {
		t.Errorf("rate: %+v", no)
	}
	r.now = r.now.Add(12 * time.Second)
	one[proto.StatementIs](t, c, proto.StatementOf{N: 1})
	c = fresh()
	for range 30 {
		one[proto.Receipt](t, c, postFrame("1", nil, 0, "a"))
	}
	if no := refused(t, c, postFrame("9", nil, 0, "a"), proto.CodeRate); no.PostID != postID("9") || no.Limit != "PostsPerMinute" {
		t.Errorf("rate: %+v", no)
	}
	// A dead grant and an idle mailbox make room.
	r.sleep(2 * time.Hour)
	r.c = fresh()
	one[proto.Receipt](t, r.c, grantFrame("g2", "j", 1, 1, start.Add(9*time.Hour), false))
	r.register("c")
}

func TestTrim(t *testing.T) {
	r := newRig(t, func(c *relay.Config) {
		c.Limits.Retention, c.Limits.TrimBytes = time.Hour, 300
	})
	w, c := r.follow("a", 1000)
	late := newFollower("b", r.register("b"))
	for i := range 20 {
		r.post(fmt.Sprint("old", i), "a")
	}
	put := one[proto.Receipt](t, r.c, putFrame("b1", "x", 1, "v", "o")).Statement
	r.sleep(40 * time.Minute)
	for i := range 5 {
		r.post(fmt.Sprint("new", i), "a", "b")
	}
	r.good(w)
	c.hangUp()
	if r.wake.IsZero() || r.wake.After(start.Add(time.Hour)) {
		t.Errorf("Wake is %v", r.wake)
	}
	r.sleep(30 * time.Minute)
	refused(t, r.c, proto.StatementOf{N: 22}, proto.CodeNotKept)
	if got := one[proto.StatementIs](t, r.c, proto.StatementOf{N: 23}); got.Statement.N != 23 {
		t.Error("more was trimmed than was due")
	}
	// The board stays, and what it holds keeps its receipt.
	if one[proto.Receipt](t, r.c, putFrame("b1", "x", 1, "v", "o")).Statement != put {
		t.Error("trimming took a board receipt")
	}
	if page := one[proto.BoardPage](t, r.c, proto.BoardList{Limit: 1000}); len(page.Entries) != 1 {
		t.Error("trimming took the board")
	}
	// Who opens behind the first number kept is told, in a signature.
	c = r.dial()
	r.settle()
	late.listen(c, 100, late.newest)
	r.settle()
	if r.good(late); len(late.trims) != 1 || late.trims[0].First != 23 || late.at.N != 27 {
		t.Errorf("trims %+v, at %d", late.trims, late.at.N)
	}
	// Lists that no entry uses are gone, those in use are not.
	p := postFrame("by hash", nil, 0, "a")
	p.Mailboxes = nil
	one[proto.NeedFanout](t, r.c, p)
	p = postFrame("by hash", nil, 0, "a", "b")
	p.Mailboxes = nil
	one[proto.Receipt](t, r.c, p)
	// A trimmed post id is forgotten with its entry.
	if got := r.post("old1", "a", "b"); got.N != 29 {
		t.Errorf("a trimmed post came back as %d", got.N)
	}
	r.sleep(2 * time.Hour)
	refused(t, r.c, proto.StatementOf{N: 29}, proto.CodeNotKept)
	if got := r.post("again", "a"); got.N != 30 {
		t.Errorf("after trimming all, number %d", got.N)
	}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	r.c = r.dial()
	if got := r.post("more", "a"); got.N != 31 {
		t.Errorf("after a restart, number %d", got.N)
	}
}

func TestTrimByQuota(t *testing.T) {
	r := newRig(t, func(c *relay.Config) { c.Limits.MaxLogBytes = 10_000 })
	w, _ := r.follow("a", 10)
	for i := range 60 {
		r.post(fmt.Sprint(i), "a")
	}
	kvs, _, err := r.st.Scan(unitKey('l'), unitKey('l'+1), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, kv := range kvs {
		size += len(kv.Value)
	}
	if size > 10_000 || size < 8_000 {
		t.Errorf("%d entries of %d bytes are kept", len(kvs), size)
	}
	if r.good(w); w.at.N < 50 || len(w.trims) == 0 {
		t.Errorf("a slow reader is at %d, trimmed %d times", w.at.N, len(w.trims))
	}
}

func unitKey(letter byte) []byte {
	u := relay.Unit(theChannel)
	return append(u[:], letter)
}

func TestHintsAreLazy(t *testing.T) {
	r := newRig(t)
	_, c := r.follow("a", 10)
	r.post("1", "a")
	c.send(proto.Ack{UpTo: 2})
	r.settle()
	writes := r.writes
	r.now = r.now.Add(2 * time.Minute)
	r.m.Tick(r.now)
	rd := r.m.Ready()
	if rd.Write == nil || !rd.Write.Lazy || len(rd.Sends) != 0 {
		t.Fatalf("Ready %+v", rd)
	}
	r.turns = append(r.turns, rd)
	r.settle()
	r.sleep(2 * time.Minute)
	if r.writes != writes+1 {
		t.Errorf("%d writes for one hint", r.writes-writes)
	}
}

func TestConfig(t *testing.T) {
	good := config()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*relay.Config){
		"no key":           func(c *relay.Config) { c.Key.Zero() },
		"no Verify":        func(c *relay.Config) { c.Verify = nil },
		"other operator":   func(c *relay.Config) { c.Operator[0] ^= 1 },
		"long name":        func(c *relay.Config) { c.OperatorName = string(make([]byte, 65)) },
		"empty token":      func(c *relay.Config) { c.Tokens = []string{""} },
		"negative limit":   func(c *relay.Config) { c.Limits.MaxGrants = -1 },
		"short retention":  func(c *relay.Config) { c.Limits.Retention = time.Millisecond },
		"too many mailbox": func(c *relay.Config) { c.Limits.MaxMailboxes = 5000 },
	} {
		c := config()
		c.Key = new(keys.RelayPrivate).FromSeed(seedOf("relay"))
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := relay.Open(c)(relay.Unit(theChannel), memory.New(), newSeeded(1)); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// A post id of zeros means none: no grant has it either.
func TestGrantWithoutPostID(t *testing.T) {
	r := newRig(t)
	g := grantFrame("g", "guest", 9, 9, start.AddDate(1, 0, 0), false)
	g.PostID = wire.PostID{}
	g.Sign(theAdmin, relayID, theChannel)
	refused(t, r.c, g, proto.CodeMalformed)
}
