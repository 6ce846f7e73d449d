package relay_test

import (
	"testing"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// A sealed digest is an entry of the log as a bundle is: one number, one
// statement, shown to every mailbox, whoever is in which list.
func TestPostDigest(t *testing.T) {
	r := newRig(t, func(c *relay.Config) { c.Limits.TailEntries = 1 })
	a, _ := r.follow("a", 100)
	b, _ := r.follow("b", 100)
	r.post("bundle", "a")
	p := digestFrame("one")
	st := one[proto.Receipt](t, r.c, p).Statement
	if st.D != p.Digest() || st.N != 3 || !st.Verify(remembered()) {
		t.Fatalf("receipt %+v", st)
	}
	for _, w := range []*follower{a, b} {
		if r.good(w); w.at != st.Position() || w.posts[p.Digest()] != 1 {
			t.Errorf("mailbox %s is at %d", w.name, w.at.N)
		}
	}
	if again := one[proto.Receipt](t, r.c, p).Statement; again != st || a.at.N != 3 {
		t.Error("posting again gave another number")
	}
	// From the store, after a restart, the same bytes.
	r.post("after", "a")
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	r.c = r.dial()
	if again := one[proto.Receipt](t, r.c, p).Statement; again != st {
		t.Error("posting again after a restart gave another statement")
	}
	c := r.dial()
	r.settle()
	late := newFollower("a", r.birth)
	var got []proto.DeliverDigest
	c.hear = func(msg proto.Message) {
		if d, ok := msg.(proto.DeliverDigest); ok {
			got = append(got, d)
		}
		late.hear(c.nonce, msg)
	}
	c.send(c.openFrame("a", late.at, 100, nil))
	r.settle()
	if r.good(late); len(got) != 1 || got[0].N != 3 || got[0].Sealed != p.Sealed || got[0].Nonce != p.Nonce || got[0].Hint != p.Hint {
		t.Errorf("read again: %+v", got)
	}
	refused(t, c2(r, "b"), proto.SlotBlock{N: 3}, proto.CodeNotKept)

	writes := r.writes
	bad := digestFrame("two")
	bad.Signature[3] ^= 1
	refused(t, r.c, bad, proto.CodeNotAllowed)
	bad = digestFrame("two")
	bad.Sealed[0] ^= 1
	refused(t, r.c, bad, proto.CodeNotAllowed)
	bad = digestFrame("two")
	bad.PostID = wire.PostID{}
	refused(t, r.c, bad, proto.CodeMalformed)
	if r.writes != writes {
		t.Errorf("refusals wrote %d times", r.writes-writes)
	}
}

// c2 is a link with an open mailbox.
func c2(r *rig, name string) *conn {
	c := r.dial()
	r.settle()
	c.ask(c.openFrame(name, r.birth.Position(), 100, nil))
	return c
}

// Of a replaced posting key only what has its number is answered.
func TestPostDigestRotated(t *testing.T) {
	r := newRig(t)
	before := digestFrame("before")
	st := one[proto.Receipt](t, r.c, before).Statement
	one[proto.Receipt](t, r.c, rotateFrame("r1", 1, "p1", "", ""))
	if again := one[proto.Receipt](t, r.c, before).Statement; again != st {
		t.Error("the first answer is another one")
	}
	refused(t, r.c, digestFrame("after"), proto.CodeNotAllowed)
	after := digestFrame("after")
	after.Sign(postingKey("p1"), relayID, theChannel, after.Digest())
	one[proto.Receipt](t, r.c, after)
}

// Two digests under one number are a fork as any other.
func TestDigestForks(t *testing.T) {
	r := newRig(t)
	p := digestFrame("one")
	st := one[proto.Receipt](t, r.c, p).Statement
	p.Sealed[5] ^= 1
	d := p.Digest()
	h := crossverify.ChainNext(r.birth.H, st.N, d, st.Root)
	other := crossverify.SignStatement(theRelay, theChannel, st.Lineage, st.N, d, h, st.Root)
	e, ok := crossverify.FindFork(st, other)
	if !ok {
		t.Fatal("no evidence")
	}
	if f, err := e.Check(remembered()); err != nil || f.Relay != relayID {
		t.Errorf("%+v, %v", f, err)
	}
}
