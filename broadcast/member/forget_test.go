package member_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// keptReceipt is a record of a member's store: the receipt of an own entry.
type keptReceipt struct {
	relay int
	name  wire.Digest
	st    crossverify.Statement
}

// receipts are those that a member's store has of one relay.
func (n *memberNode) receipts(relay int) (all []keptReceipt) {
	n.w.t.Helper()
	prefix := append(append([]byte(nil), n.unit[:]...), 't', byte(relay))
	kvs, more, err := n.store.Scan(prefix, append(append([]byte(nil), prefix[:17]...), byte(relay)+1), 1<<20)
	if err != nil || more {
		n.w.t.Fatalf("receipts: %v, more: %v", err, more)
	}
	for _, kv := range kvs {
		st, err := crossverify.ParseStatement(kv.Value[:crossverify.StatementSize])
		if err != nil {
			n.w.t.Fatal(err)
		}
		all = append(all, keptReceipt{relay, wire.Digest(kv.Key[len(prefix):]), st})
	}
	return all
}

// again starts a relay on what its store has now.
func (r *relayNode) again() { r.units, r.down = map[store.Unit]*actor{}, false }

// unit is the relay's only channel.
func (r *relayNode) unit() store.Unit {
	for u := range r.units {
		return u
	}
	r.w.t.Fatal("the relay has no channel")
	return store.Unit{}
}

// records are the keys and values that a relay has of a board entry.
func (r *relayNode) records(u store.Unit, name wire.Digest) (ops []store.Op) {
	kvs, _, err := r.store.Scan(u[:], append(append([]byte(nil), u[:]...), 0xff), 1<<30)
	if err != nil {
		r.w.t.Fatal(err)
	}
	for _, kv := range kvs {
		if len(kv.Key) == 49 && wire.Digest(kv.Key[17:]) == name {
			ops = append(ops, store.Op{Key: kv.Key, Value: kv.Value})
		}
	}
	return ops
}

func (r *relayNode) apply(u store.Unit, ops []store.Op) {
	r.w.t.Helper()
	base, err := r.store.Revision(u)
	if err == nil {
		err = r.store.Apply([]store.Batch{{Unit: u, Base: base, Ops: ops}})[0]
	}
	if err != nil {
		r.w.t.Fatal(err)
	}
}

// holds is the sentence of the evidence that a member holds, checked as a
// stranger would; empty: none.
func (n *memberNode) holds() string {
	n.w.t.Helper()
	list := n.must(member.GetEvidence{}).([]member.EvidenceInfo)
	if len(list) == 0 {
		return ""
	}
	if len(list) > 1 {
		n.w.t.Errorf("%s holds %d pieces of evidence", n.name, len(list))
	}
	text := n.must(member.GetEvidence{ID: list[0].ID}).([]member.EvidenceInfo)[0].Text
	e, err := crossverify.ParseEvidence(text)
	if err != nil {
		n.w.t.Fatal(err)
	}
	f, err := e.Check(keys.Ed25519)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return list[0].Relay + " " + f.Form.String()
}

// TestRelayForgetsAnEntry: a relay that takes an entry from its board, or goes
// back to an older version of it, and goes on in the same lineage is convicted by
// the entry's owner, who shares the evidence.
func TestRelayForgetsAnEntry(t *testing.T) {
	for i, what := range []string{"first entry", "second entry"} {
		for _, offline := range []bool{false, true} {
			w := newWorld(t, 3, "Ann", "Bob")
			w.group(false)
			ann, bob, r := w.nodes[0], w.nodes[1], w.relays[1]
			own := bob.receipts(1)
			if len(own) != 2 || len(ann.receipts(1)) != 3 {
				t.Fatalf("Bob has %d receipts, Ann %d", len(own), len(ann.receipts(1)))
			}
			if offline {
				bob.leave()
			}
			u := r.unit()
			r.stop()
			var gone []store.Op
			for _, op := range r.records(u, own[i].name) {
				gone = append(gone, store.Op{Key: op.Key})
			}
			if len(gone) != 2 {
				t.Fatalf("%d records of an entry", len(gone))
			}
			r.apply(u, gone)
			r.again()
			w.run(20 * time.Second)
			ann.must(member.SendText{Text: "one"})
			w.run(5 * time.Second)
			bob.offline = false
			if offline {
				bob.restart()
			}
			w.run(20 * time.Second)
			if got := bob.holds(); got != "R2 forgotten" {
				t.Errorf("%s, offline %v: Bob holds %q", what, offline, got)
			}
			if got := ann.holds(); got != "R2 forgotten" {
				t.Errorf("%s: Ann, whom Bob tells, holds %q", what, got)
			}
			bob.must(member.SendText{Text: "two"})
			w.run(10 * time.Second)
			w.everybody("Ann: one", "Bob: two")
			for _, p := range bob.must(member.GetStatus{}).(member.Status).Relays {
				if p.SetAside != (p.Label == "R2") {
					t.Errorf("%s set aside: %v", p.Label, p.SetAside)
				}
			}
		}
	}
}

// TestRelayGoesBackToAnOlderVersion: the same with a version that was replaced.
func TestRelayGoesBackToAnOlderVersion(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob, r := w.nodes[0], w.nodes[1], w.relays[1]
	u := r.unit()
	was := map[wire.Digest][]store.Op{}
	numbers := map[wire.Digest]uint64{}
	for _, own := range bob.receipts(1) {
		was[own.name], numbers[own.name] = r.records(u, own.name), own.st.N
	}
	w.run(8 * 24 * time.Hour) // prekeys are replaced: a new announcement
	r.stop()
	renewed := 0
	for _, own := range bob.receipts(1) {
		if own.st.N != numbers[own.name] {
			renewed++
			r.apply(u, was[own.name])
		}
	}
	if renewed != 1 {
		t.Fatalf("%d receipts were renewed", renewed)
	}
	r.again()
	w.run(time.Minute)
	ann.must(member.SendText{Text: "one"})
	w.run(time.Minute)
	if got := bob.holds(); got != "R2 forgotten" {
		t.Errorf("Bob holds %q", got)
	}
}

// TestHiddenEntryConvictsNobody: a relay that hides its owner's entry from it, or
// anybody's, and signs true roots proves when asked that it has it; one that does
// not answer proves nothing, until it does.
func TestHiddenEntryConvictsNobody(t *testing.T) {
	for _, silent := range []bool{false, true} {
		w := newWorld(t, 3, "Ann", "Bob")
		asked := 0
		w.relays[1].filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
			msg, err := proto.Parse(f)
			if err != nil {
				return []broadcast.Frame{f}
			}
			switch x := msg.(type) {
			case proto.Entry:
				if to.name == "Bob" {
					return []broadcast.Frame{proto.Encode(proto.Bare{N: x.N, D: x.Digest(), Root: x.Root, Signature: x.Signature})}
				}
			case proto.BoardProof:
				asked++
				if silent {
					return nil
				}
			}
			return []broadcast.Frame{f}
		}
		w.group(false)
		ann, bob := w.nodes[0], w.nodes[1]
		ann.must(member.SendText{Text: "one"})
		w.run(time.Minute)
		if asked == 0 {
			t.Fatal("nothing was asked: the test tests nothing")
		}
		w.quiet()
		w.everybody("Ann: one")
		if !slices.ContainsFunc(bob.events, func(e member.Event) bool { return strings.Contains(e.Text, "hides or invents") }) {
			t.Error("Bob is not told")
		}
	}
}

// TestRestoreConvictsNobodyAndIsRepaired: a relay restored from before members
// wrote loses their entries with its lineage; the owners put them again, once.
func TestRestoreConvictsNobodyAndIsRepaired(t *testing.T) {
	for _, marked := range []bool{false, true} {
		w := newWorld(t, 3, "Ann", "Bob")
		ann, bob, r := w.nodes[0], w.nodes[1], w.relays[2]
		var spots []member.FoundingSpot
		for _, r := range w.relays {
			spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
		}
		ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: spots, Deadline: 3 * time.Second})
		w.run(time.Second)
		u, before := r.unit(), r.store.Snapshot()
		link := ann.must(member.MakeInvite{}).(member.InviteInfo).Link
		bob.must(member.JoinGroup{Link: link, Name: "Bob"})
		bob.must(member.SendText{Text: "one", Wait: member.WaitAll})
		w.run(20 * time.Second)
		old := append(ann.receipts(2), bob.receipts(2)...)
		r.stop()
		r.store = before
		if marked {
			base, err := r.store.Revision(u)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.store.Apply([]store.Batch{relay.Restored(u, base)})[0]; err != nil {
				t.Fatal(err)
			}
		}
		r.again()
		w.run(30 * time.Second)
		ann.must(member.SendText{Text: "two", Wait: member.WaitAll})
		w.run(30 * time.Second)
		w.quiet()
		w.everybody("Bob: one", "Ann: two")
		if len(old) != 5 {
			t.Fatalf("%d entries before", len(old))
		}
		for _, o := range old {
			if len(r.records(u, o.name)) != 2 {
				t.Errorf("marked %v: an entry was not put again", marked)
			}
		}
		for n, want := range map[*memberNode]int{ann: 1, bob: 2} { // what the copy had needs no post
			now := n.receipts(2)
			if len(now) != want {
				t.Errorf("marked %v: %s has %d receipts of the new lineage", marked, n.name, len(now))
			}
			for _, k := range now {
				if k.st.Lineage.Ordinal() < 2 {
					t.Errorf("marked %v: %s keeps a receipt of the life that ended", marked, n.name)
				}
			}
			if rows := n.must(member.GetStatus{}).(member.Status); rows.Outbox != 0 {
				t.Errorf("%s still has %d posts", n.name, rows.Outbox)
			}
		}
		// In its new life it is held to what it signed.
		r.stop()
		r.apply(u, []store.Op{{Key: r.records(u, bob.receipts(2)[0].name)[0].Key}, {Key: r.records(u, bob.receipts(2)[0].name)[1].Key}})
		r.again()
		w.run(20 * time.Second)
		ann.must(member.SendText{Text: "three"})
		w.run(20 * time.Second)
		if got := bob.holds(); got != "R3 forgotten" {
			t.Errorf("marked %v: Bob holds %q", marked, got)
		}
	}
}
