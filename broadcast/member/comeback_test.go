package member_test

import (
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
)

// lost takes a member's device away and returns what a backup of it has.
func (w *world) lost(n *memberNode, kvs []store.KV) *memberNode {
	n.leave()
	w.nodes = slices.DeleteFunc(w.nodes, func(o *memberNode) bool { return o == n })
	back := w.add(n.name)
	var ops []store.Op
	for _, kv := range kvs {
		ops = append(ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	back.unit = n.unit
	if err := back.store.Apply([]store.Batch{{Unit: n.unit, Ops: ops}})[0]; err != nil {
		w.t.Fatal(err)
	}
	back.start()
	return back
}

func (n *memberNode) backup() []store.KV {
	n.w.t.Helper()
	kvs, err := member.Backup(n.unit, n.reader())
	if err != nil {
		n.w.t.Fatal(err)
	}
	return kvs
}

// TestBackupFromBeforeEpochs: a backup from before epochs began leads back into the
// group, whoever is there to help, and whether the lost installation announced
// itself since or not. No relay is blamed.
func TestBackupFromBeforeEpochs(t *testing.T) {
	for _, x := range []struct {
		name  string
		after time.Duration // between the last epoch and the loss
		helps string
	}{{"at once", time.Minute, "Ann"}, {"weeks later", 30 * day, "Ann"}, {"without an admin", 30 * day, "Dee"}} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee", "Eve", "Fay")
			w.group(false)
			ann, bob, cy, dee := w.nodes[0], w.nodes[1], w.nodes[2], w.nodes[3]
			w.run(2 * time.Minute)
			kvs := cy.backup()
			ann.must(member.RemoveMember{Member: "Eve"})
			w.run(2 * time.Minute)
			ann.must(member.RemoveMember{Member: "Fay"})
			for range x.after / day {
				w.run(day)
				ann.restart()
				dee.restart()
			}
			w.run(time.Minute)
			bob.leave()
			helper := ann
			if x.helps == "Dee" {
				helper = dee
				ann.leave()
			}
			cy = w.lost(cy, kvs)
			w.run(15 * time.Minute)
			w.agree(cy, helper)
			w.untroubled(cy)
			w.reaches(cy, "back", w.here(ann, dee)...)
			w.reaches(helper, "good", append(w.here(ann, dee), cy)...)
			ann.offline, bob.offline = false, false
			ann.restart()
			bob.restart()
			w.run(15 * time.Minute)
			w.agree(ann, bob, cy, dee)
			w.reaches(bob, "all of us", ann, cy, dee)
			w.reaches(cy, "again", ann, bob, dee)
		})
	}
}

// here are those of some members that are not away.
func (w *world) here(nodes ...*memberNode) []*memberNode {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *memberNode) bool { return n.offline })
}

// TestRemovedStaysOut: a backup of who was removed leads nowhere: relays take
// nothing of it, and nobody seals a key to it.
func TestRemovedStaysOut(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	kvs := bob.backup()
	ann.must(member.RemoveMember{Member: "Bob"})
	w.run(5 * time.Minute)
	before := w.numbers()
	bob = w.lost(bob, kvs)
	w.blind(bob)
	w.run(3 * time.Hour)
	if after := w.numbers(); !slices.Equal(before, after) {
		t.Errorf("relays had %v entries and have %v", before, after)
	}
	if _, err := bob.do(member.SendText{Text: "still here"}); err == nil {
		t.Error("who was removed sends")
	}
	w.reaches(ann, "without him", cy)
	w.calm(ann, cy)
}
