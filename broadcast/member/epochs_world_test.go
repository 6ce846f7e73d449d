package member_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

// blind keeps a member from learning what becomes of the group: no relay shows it
// what is written to the boards, as one that changed its own software would not
// care.
func (w *world) blind(n *memberNode) {
	for _, r := range w.relays {
		r.filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
			if to == n && (f.Type == proto.TypeEntry || f.Type == proto.TypeBoardPage) {
				return nil
			}
			return []broadcast.Frame{f}
		}
	}
}

// offlineDo is a wish of a member that reaches nobody.
func (n *memberNode) offlineDo(w member.Wish) {
	n.in = append(n.in, command(n, w))
	for n.step() {
		n.drain()
	}
}

// numbers are how many entries each relay's log has.
func (w *world) numbers() (all []int) {
	for _, r := range w.relays {
		for _, u := range r.units {
			from := append(append([]byte{}, u.unit[:]...), 'l')
			kvs, _, err := r.store.Scan(from, append(append([]byte{}, u.unit[:]...), 'm'), 1<<30)
			if err != nil {
				w.t.Fatal(err)
			}
			all = append(all, len(kvs))
		}
	}
	return all
}

// reaches fails unless a text of one member comes to exactly these, and every
// relay takes it.
func (w *world) reaches(from *memberNode, text string, to ...*memberNode) {
	w.t.Helper()
	if _, err := from.do(member.SendText{Text: text, Wait: member.WaitAll}); err != nil {
		w.t.Errorf("%s sends: %v", from.name, err)
	}
	w.run(10 * time.Second)
	for _, n := range w.nodes {
		if n == from || n.offline {
			continue
		}
		got, want := slices.Contains(n.texts(), from.name+": "+text), slices.Contains(to, n)
		if got != want {
			w.t.Errorf("%s: %s has it: %v, want %v (%q)", text, n.name, got, want, n.texts())
		}
	}
}

func (w *world) calm(nodes ...*memberNode) {
	w.t.Helper()
	for _, n := range nodes {
		if a := n.alarms(); len(a) > 0 {
			w.t.Errorf("%s was told %q", n.name, a)
		}
	}
}

// TestRemovedIsOut: whoever was removed, and does not care, posts nothing on any
// relay and reads nothing; the old link is dead, the new one admits.
func TestRemovedIsOut(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	old := w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	w.reaches(bob, "before", ann, cy)
	bob.leave()
	w.blind(bob)
	info := ann.must(member.RemoveMember{Member: "Bob"}).(member.OperationInfo)
	w.run(20 * time.Second)
	bob.offline = false
	w.run(20 * time.Second)
	before := w.numbers()
	if _, err := bob.do(member.SendText{Text: "still here"}); err == nil {
		t.Error("who was removed sends")
	}
	w.run(time.Minute)
	if after := w.numbers(); !slices.Equal(before, after) {
		t.Errorf("relays had %v entries and have %v", before, after)
	}
	w.reaches(ann, "without him", cy)
	w.reaches(cy, "nor here", ann)
	eve := w.add("Eve")
	if _, err := eve.do(member.JoinGroup{Link: old, Name: "Eve"}); err == nil {
		t.Error("the old link admits")
	}
	eve.leave()
	dee := w.add("Dee")
	dee.must(member.JoinGroup{Link: info.Link, Name: "Dee"})
	w.run(2 * time.Minute)
	w.reaches(dee, "new", ann, cy)
	w.reaches(cy, "hello", ann, dee)
	w.calm(ann, cy, dee)
	if r := w.agree(ann, cy, dee); r.Epochs != 1 || len(r.Removed) != 1 {
		t.Errorf("%d epochs, removed %+v", r.Epochs, r.Removed)
	}
}

// TestConcurrentRemovals: two admins remove somebody each, unknowing. Both are
// out, nobody is locked out, and one epoch is left.
func TestConcurrentRemovals(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee", "Eve")
	w.group(false)
	ann, bob, cy, dee, eve := w.nodes[0], w.nodes[1], w.nodes[2], w.nodes[3], w.nodes[4]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(2 * time.Minute)
	ann.leave()
	bob.leave()
	ann.offlineDo(member.RemoveMember{Member: "Cy"})
	bob.offlineDo(member.RemoveMember{Member: "Dee"})
	ann.offline = false
	w.run(3 * time.Second)
	bob.offline = false
	w.run(10 * time.Minute)
	r := w.agree(ann, bob, eve)
	if got := labelsOf(r.Removed); !slices.Equal(got, []string{"Cy", "Dee"}) || r.Epochs != 1 {
		t.Fatalf("removed %v, %d epochs\n%s", got, r.Epochs, r.Drawing)
	}
	w.reaches(eve, "three", ann, bob)
	w.reaches(bob, "of us", ann, eve)
	w.reaches(ann, "are left", bob, eve)
	w.calm(ann, bob, eve)
	for _, n := range []*memberNode{cy, dee} {
		if got := n.told(member.EventRemoved); len(got) == 0 {
			t.Errorf("%s was not told", n.name)
		}
	}
	link := bob.must(member.MakeInvite{}).(member.InviteInfo).Link
	fay := w.add("Fay")
	fay.must(member.JoinGroup{Link: link, Name: "Fay"})
	w.run(2 * time.Minute)
	w.reaches(fay, "new", ann, bob, eve)
	w.calm(fay)
}

// TestRemoverDies: whoever removes somebody ends at any of its writes, and comes
// back or does not. What is begun is finished, by it or by another admin.
func TestRemoverDies(t *testing.T) {
	verify := remembered()
	for _, back := range []bool{true, false} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("back=%v lost=%v", back, lost), func(t *testing.T) {
				t.Parallel()
				step := 3
				if back && !lost {
					step = 1
				}
				for k := 1; ; k += step {
					w := newWorldOf(t, 3, verify, "Ann", "Bob", "Cy", "Dee")
					w.group(false)
					ann, bob, cy, dee := w.nodes[0], w.nodes[1], w.nodes[2], w.nodes[3]
					w.run(2 * time.Minute)
					ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
					w.run(2 * time.Minute)
					w.single = true
					ann.crash = &crash{at: k, lost: lost}
					ann.in = append(ann.in, command(ann, member.RemoveMember{Member: "Cy"}))
					w.run(0)
					if ann.crash.writes < k {
						break
					}
					if !back {
						ann.leave()
					}
					w.run(10 * time.Minute)
					left := []*memberNode{bob, dee}
					if back {
						left = append(left, ann)
					}
					r := w.agree(left...)
					if len(r.Removed) == 0 { // it ended before anything left it
						if back && !(k == 1 && lost) {
							t.Fatalf("at write %d: nobody was removed", k)
						}
						continue
					}
					if r.Epochs != 1 {
						t.Errorf("at write %d: %d epochs", k, r.Epochs)
					}
					w.reaches(dee, "done", left...)
					before := w.numbers()
					if _, err := cy.do(member.SendText{Text: "in vain"}); err == nil {
						t.Errorf("at write %d: who was removed sends", k)
					}
					if after := w.numbers(); !slices.Equal(before, after) {
						t.Errorf("at write %d: relays had %v entries and have %v", k, before, after)
					}
					w.calm(left...)
					if t.Failed() {
						t.Fatalf("at write %d", k)
					}
				}
			})
		}
	}
}

// TestLateUnderAnEpoch: what was written before an epoch and comes after it is
// read, and who was away is told the key by what waits for it; also where relays
// carry digests, which come before the key. No relay is to blame.
func TestLateUnderAnEpoch(t *testing.T) {
	for _, relays := range []int{3, 5} {
		w := newWorld(t, relays, "Ann", "Bob", "Cy")
		w.group(false)
		ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
		w.run(2 * time.Minute)
		cy.leave()
		cy.offlineDo(member.SendText{Text: "late", Wait: member.WaitNone})
		ann.must(member.RemoveMember{Member: "Bob"})
		w.run(time.Minute)
		ann.must(member.SendText{Text: "meanwhile"})
		cy.restart()
		cy.offline = false
		w.run(time.Minute)
		if !slices.Contains(ann.texts(), "Cy: late") || !slices.Contains(cy.texts(), "Ann: meanwhile") || slices.Contains(bob.texts(), "Cy: late") {
			t.Errorf("Ann has %q, Cy %q, Bob %q", ann.texts(), cy.texts(), bob.texts())
		}
		w.reaches(cy, "back", ann)
		w.calm(ann, cy)
		for _, n := range []*memberNode{ann, cy} {
			for _, r := range n.must(member.GetStatus{}).(member.Status).Relays {
				if r.Failed+r.Dissented > 0 {
					t.Errorf("%d relays, %s, honest %s: %+v", relays, n.name, r.Label, r)
				}
			}
		}
	}
}

// TestFounderIsRemoved: an owner removes the founder; no relay obeys its key any
// more, whatever it tries.
func TestFounderIsRemoved(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsOwner})
	w.run(2 * time.Minute)
	ann.leave()
	w.blind(ann)
	info := bob.must(member.RemoveMember{Member: "Ann"}).(member.OperationInfo)
	w.run(time.Minute)
	ann.offline = false
	w.run(20 * time.Second)
	before := w.numbers()
	if _, err := ann.do(member.MakeInvite{}); err == nil {
		t.Error("the founder who was removed invites")
	}
	if _, err := ann.do(member.RemoveMember{Member: "Cy"}); err == nil {
		t.Error("the founder who was removed removes")
	}
	w.run(20 * time.Minute)
	if after := w.numbers(); slices.ContainsFunc(after, func(n int) bool { return n > before[0]+10 }) {
		t.Errorf("relays had %v entries and have %v", before, after)
	}
	dee := w.add("Dee")
	dee.must(member.JoinGroup{Link: info.Link, Name: "Dee"})
	w.run(2 * time.Minute)
	w.reaches(dee, "new", bob, cy)
	w.reaches(cy, "hello", bob, dee)
}

// TestOldEpochsGo: keys of epochs that are over go after the retention time, and
// whoever joins then reads all the same.
func TestOldEpochsGo(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee", "Eve")
	w.group(false)
	ann, cy := w.nodes[0], w.nodes[2]
	w.run(2 * time.Minute)
	for _, who := range []string{"Bob", "Dee", "Eve"} {
		ann.must(member.RemoveMember{Member: who})
		w.run(time.Minute)
	}
	epochs := func(n *memberNode) int {
		kvs, err := member.Backup(n.unit, n.reader())
		if err != nil {
			t.Fatal(err)
		}
		info, err := member.CheckBackup(n.unit, kvs)
		if err != nil {
			t.Fatal(err)
		}
		return info.Epochs
	}
	if n := epochs(cy); n != 4 {
		t.Errorf("Cy holds %d epochs", n)
	}
	for range 25 {
		w.run(day)
		ann.restart()
		cy.restart()
	}
	for _, n := range []*memberNode{ann, cy} {
		if got := epochs(n); got != 2 { // the first, and the one in use
			t.Errorf("%s holds %d epochs", n.name, got)
		}
	}
	link := ann.must(member.MakeInvite{}).(member.InviteInfo).Link
	fay := w.add("Fay")
	fay.must(member.JoinGroup{Link: link, Name: "Fay"})
	w.run(2 * time.Minute)
	w.agree(ann, cy, fay)
	w.reaches(fay, "new", ann, cy)
	w.reaches(cy, "hello", ann, fay)
	w.calm(ann, cy, fay)
	for _, e := range fay.events {
		if strings.Contains(e.Text, "no key of this group opens") {
			t.Errorf("Fay was told %q", e.Text)
		}
	}
}

// TestBackAfterLong: who was away for longer than relays keep anything, while an
// epoch began, is told its key.
func TestBackAfterLong(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, cy := w.nodes[0], w.nodes[2]
	w.run(2 * time.Minute)
	cy.leave()
	ann.must(member.RemoveMember{Member: "Bob"})
	w.run(45 * day)
	cy.restart()
	cy.offline = false
	w.run(10 * time.Minute)
	w.agree(ann, cy)
	w.reaches(cy, "back", ann)
}
