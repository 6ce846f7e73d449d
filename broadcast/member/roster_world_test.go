package member_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/store"
)

func (n *memberNode) roster() member.RosterInfo {
	n.w.t.Helper()
	return n.must(member.GetRoster{Draw: true}).(member.RosterInfo)
}

func labelsOf(list []member.RosterMember) (names []string) {
	for _, x := range list {
		names = append(names, x.Name)
	}
	slices.Sort(names)
	return names
}

// told are the texts of a member's events of a kind.
func (n *memberNode) told(kind member.EventKind) (all []string) {
	for _, e := range n.events {
		if e.Kind == kind {
			all = append(all, e.Text)
		}
	}
	return all
}

// agree fails unless these members have the same roster.
func (w *world) agree(nodes ...*memberNode) member.RosterInfo {
	w.t.Helper()
	first := nodes[0].roster()
	for _, n := range nodes[1:] {
		if r := n.roster(); r.Digest != first.Digest {
			w.t.Fatalf("%s has another roster than %s:\n%s\n%s", n.name, nodes[0].name, r.Drawing, first.Drawing)
		}
	}
	return first
}

// TestAdmissionsBecomeSigned: an admin makes complete admissions operations, and
// every member reads them from the boards; who joins later reads them too.
func TestAdmissionsBecomeSigned(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	link := w.group(false)
	if r := w.nodes[1].roster(); r.Operations != 1 || len(r.Asking) != 2 || len(r.Invites) != 1 || !r.Invites[0].Live {
		t.Fatalf("before anybody is adopted: %+v", r)
	}
	w.run(2 * time.Minute)
	r := w.agree(w.nodes...)
	if got := labelsOf(r.Members); !slices.Equal(got, []string{"Ann", "Bob", "Cy"}) || len(r.Asking) != 0 {
		t.Fatalf("members %v, asking %v", got, r.Asking)
	}
	dee := w.add("Dee")
	dee.must(member.JoinGroup{Link: link, Name: "Dee"})
	w.run(2 * time.Minute)
	if got := labelsOf(w.agree(w.nodes...).Members); len(got) != 4 {
		t.Fatalf("after a join members %v", got)
	}
	for _, n := range w.nodes {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s was told %q", n.name, a)
		}
		n.restart()
	}
	w.run(time.Second)
	w.agree(w.nodes...)
	w.nodes[2].must(member.SendText{Text: "hello"})
	w.run(time.Second)
	for _, n := range w.nodes {
		if !slices.Contains(n.texts(), "Cy: hello") {
			t.Errorf("%s did not get the text", n.name)
		}
	}
}

// TestRevokedInvite: who came by an invitation stays when it ends, and nobody
// comes by it any more.
func TestRevokedInvite(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	ann.must(member.RevokeInvite{ID: ann.roster().Invites[0].ID[:8]})
	w.run(time.Second)
	if r := w.agree(ann, bob); len(r.Members) != 2 || !r.Invites[0].Revoked {
		t.Fatalf("after the end of the invitation: %+v", r)
	}
	cy := w.add("Cy")
	cy.do(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(time.Minute)
	ann.must(member.SendText{Text: "for members"})
	w.run(10 * time.Second)
	if !slices.Contains(bob.texts(), "Ann: for members") || slices.Contains(cy.texts(), "Ann: for members") {
		t.Errorf("Bob has %q, Cy has %q", bob.texts(), cy.texts())
	}
	if _, err := ann.do(member.RevokeInvite{ID: ann.roster().Invites[0].ID}); !errors.Is(err, member.ErrNothingToDo) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := bob.do(member.RevokeInvite{ID: ann.roster().Invites[0].ID}); !errors.Is(err, member.ErrNotAdmin) {
		t.Errorf("revoked by a member: %v", err)
	}
}

// TestRemove: nothing goes to who was removed, all are told once and calmly, what
// it sent before still counts, and it is told itself.
func TestRemove(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	bob.must(member.SendText{Text: "before"})
	w.run(time.Second)
	if _, err := bob.do(member.RemoveMember{Member: "Cy"}); !errors.Is(err, member.ErrNotAdmin) {
		t.Fatalf("a member removes: %v", err)
	}
	info := ann.must(member.RemoveMember{Member: "Bob"}).(member.OperationInfo)
	if info.Link == "" || !info.Epoch || info.Relays < 2 {
		t.Fatalf("removing answers %+v", info)
	}
	w.run(5 * time.Second)
	r := w.agree(ann, cy)
	if got := labelsOf(r.Removed); !slices.Equal(got, []string{"Bob"}) || r.Epochs != 1 {
		t.Fatalf("removed: %v, %d epochs", got, r.Epochs)
	}
	cy.must(member.SendText{Text: "without bob"})
	w.run(5 * time.Second)
	if !slices.Contains(ann.texts(), "Cy: without bob") || slices.Contains(bob.texts(), "Cy: without bob") {
		t.Errorf("Ann has %q, Bob has %q", ann.texts(), bob.texts())
	}
	for _, n := range []*memberNode{ann, cy} {
		if got := n.told(member.EventRemoved); len(got) != 1 || !strings.HasPrefix(got[0], "Bob was removed by ") {
			t.Errorf("%s was told %q", n.name, got)
		}
		if !slices.Contains(n.texts(), "Bob: before") {
			t.Errorf("%s lacks what Bob sent before", n.name)
		}
	}
	dee := w.add("Dee")
	dee.must(member.JoinGroup{Link: info.Link, Name: "Dee"})
	w.run(2 * time.Minute)
	dee.must(member.SendText{Text: "new here"})
	w.run(5 * time.Second)
	if !slices.Contains(cy.texts(), "Dee: new here") || slices.Contains(bob.texts(), "Dee: new here") {
		t.Errorf("Cy has %q, Bob has %q", cy.texts(), bob.texts())
	}
	w.agree(ann, cy, dee)
	for _, n := range []*memberNode{ann, cy, dee} {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s was told %q", n.name, a)
		}
	}
}

// TestRemovedWhileAway: who was removed while it was away reads what was sent
// before, and that it is out, and leaves the relays alone from then on.
func TestRemovedWhileAway(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	bob.leave()
	cy.must(member.SendText{Text: "before"})
	w.run(time.Minute)
	ann.must(member.RemoveMember{Member: "Bob"})
	w.run(5 * time.Second)
	cy.must(member.SendText{Text: "after"})
	w.run(24 * time.Hour)
	bob.offline = false
	links := w.link
	w.run(24 * time.Hour)
	if got := bob.texts(); !slices.Contains(got, "Cy: before") || slices.Contains(got, "Cy: after") {
		t.Errorf("Bob has %q", got)
	}
	if got := bob.told(member.EventRemoved); len(got) != 1 || !strings.HasPrefix(got[0], "You were removed from ") {
		t.Errorf("Bob was told %q", got)
	}
	if _, err := bob.do(member.SendText{Text: "am I in?"}); !errors.Is(err, member.ErrOut) {
		t.Errorf("Bob sends: %v", err)
	}
	if a := bob.alarms(); len(a) > 0 {
		t.Errorf("Bob was alarmed: %q", a)
	}
	if n := w.link - links; n > 3*40 { // about once an hour and relay, in the end
		t.Errorf("Bob dialled %d times in a day", n)
	}
}

// TestSentAfterRemoval: what a removed member sends before it learns that it is
// out is shown as just that, never as its word.
func TestSentAfterRemoval(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, 3, "Ann", "Bob", "Cy")
		w.group(strict)
		ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
		w.run(2 * time.Minute)
		bob.must(member.SendText{Text: "counts"})
		w.run(10 * time.Second)
		ann.leave()
		bob.must(member.SendText{Text: "too late"})
		ann.in = append(ann.in, command(ann, member.RemoveMember{Member: "Bob"}))
		ann.step()
		ann.drain()
		ann.offline = false
		w.run(time.Minute)
		w.agree(ann, cy)
		for _, n := range []*memberNode{ann, cy} { // Cy had it before the removal came
			if !slices.Contains(n.texts(), "Bob: counts") || slices.Contains(n.texts(), "Bob: too late") != (n == cy) {
				t.Errorf("strict %v: %s has %q", strict, n.name, n.texts())
			}
			if got := n.told(member.EventSilent); len(got) != 1 || !strings.Contains(got[0], "too late") || !strings.Contains(got[0], "removed by") {
				t.Errorf("strict %v: %s was told %q", strict, n.name, got)
			}
		}
		if _, err := bob.do(member.SendText{Text: "again"}); !errors.Is(err, member.ErrOut) {
			t.Errorf("who is out sends: %v", err)
		}
		if got := bob.told(member.EventRemoved); len(got) != 1 || !strings.HasPrefix(got[0], "You were removed") {
			t.Errorf("Bob was told %q", got)
		}
	}
}

// TestRoles: an admin by the roster may what admins may; a reader does not speak,
// and what it sends all the same is not shown.
func TestRoles(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee")
	w.group(false)
	ann, bob, cy, dee := w.nodes[0], w.nodes[1], w.nodes[2], w.nodes[3]
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin}) // not adopted yet: that comes with it
	w.run(5 * time.Second)
	bob.must(member.SetRole{Member: "Cy", Role: member.AsReader})
	w.run(5 * time.Second)
	if _, err := cy.do(member.SendText{Text: "may I"}); !errors.Is(err, member.ErrReader) {
		t.Errorf("a reader speaks: %v", err)
	}
	for wish, want := range map[member.Wish]error{ // none of them changes anything
		member.RemoveMember{Member: "Ann"}:                   member.ErrNotEntitled,
		member.SetRole{Member: "Dee", Role: member.AsOwner}:  member.ErrNotEntitled,
		member.SetRole{Member: "Dee", Role: "king"}:          member.ErrNoSuch,
		member.SetRole{Member: "Dee", Role: member.AsMember}: member.ErrNothingToDo,
		member.RemoveMember{Member: "Bob"}:                   member.ErrNothingToDo,
		member.RemoveMember{Member: "Eve"}:                   member.ErrNoSuch,
		member.SetPolicy{Strict: new(bool)}:                  member.ErrNotOwner,
	} {
		if _, err := bob.do(wish); !errors.Is(err, want) {
			t.Errorf("an admin's %s %+v: %v, want %v", wish.Wish(), wish, err, want)
		}
	}
	if _, err := ann.do(member.LeaveGroup{}); !errors.Is(err, member.ErrLastOwner) {
		t.Errorf("the last owner leaves: %v", err)
	}
	yes := true
	ann.must(member.SetPolicy{Strict: &yes})
	bob.must(member.RemoveMember{Member: "Dee"})
	w.run(5 * time.Second)
	r := w.agree(ann, bob, cy)
	if got := labelsOf(r.Members); !slices.Equal(got, []string{"Ann", "Bob", "Cy"}) || !r.Policy.Strict {
		t.Fatalf("members %v, policy %+v", got, r.Policy)
	}
	bob.must(member.ApproveMember{Member: "Dee"})
	w.run(5 * time.Second)
	ann.must(member.SendText{Text: "welcome back"})
	w.run(2 * time.Minute) // an admin tells the key that Dee lacks
	if !slices.Contains(dee.texts(), "Ann: welcome back") {
		t.Errorf("who was let in again has %q", dee.texts())
	}
	if got := cy.told(member.EventRole); !slices.Equal(got, []string{"Ann made Bob an admin.", "Bob made you a reader.", "Dee was let in again by Bob."}) {
		t.Errorf("Cy was told %q", got)
	}
}

// TestLeave: who leaves is gone for everybody, keeps what it has, and does nothing
// any more, also after a restart.
func TestLeave(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	cy.must(member.SendText{Text: "history"})
	w.run(time.Second)
	bob.must(member.LeaveGroup{})
	w.run(3 * time.Minute)
	r := w.agree(ann, cy)
	if got := labelsOf(r.Members); !slices.Equal(got, []string{"Ann", "Cy"}) || len(r.Removed) != 1 || !r.Removed[0].Left || r.Epochs != 1 {
		t.Fatalf("members %v, removed %+v, %d epochs", got, r.Removed, r.Epochs)
	}
	if !strings.Contains(r.Drawing, "epoch") {
		t.Errorf("nobody began an epoch:\n%s", r.Drawing)
	}
	if got := ann.told(member.EventLeft); !slices.Equal(got, []string{"Bob left the group."}) {
		t.Errorf("Ann was told %q", got)
	}
	for range 2 {
		if len(bob.want) != 0 {
			t.Errorf("who left wants %d links", len(bob.want))
		}
		if _, err := bob.do(member.SendText{Text: "one more"}); !errors.Is(err, member.ErrOut) {
			t.Errorf("who left sends: %v", err)
		}
		if !slices.Contains(bob.history(), "Cy: history") {
			t.Error("who left lost its history")
		}
		bob.restart()
	}
	bob.must(member.LeaveGroup{})
}

// command is a wish as an input.
func command(n *memberNode, w member.Wish) broadcast.Command {
	n.command++
	return broadcast.Command{ID: n.command, Wish: w}
}

// TestRestoredAdmin: an admin from a backup reads the boards before it makes
// operations, so that it goes on after what it made since the backup, and its
// pages go on growing.
func TestRestoredAdmin(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(2 * time.Minute)
	kvs, err := member.Backup(ann.unit, ann.store)
	if err != nil {
		t.Fatal(err)
	}
	for range member.MaxPaged + 2 { // more than a page
		ann.must(member.MakeInvite{})
	}
	w.run(time.Minute)
	ann.leave()

	back := w.add("Ann")
	back.unit, back.offline = ann.unit, true
	b := store.Batch{Unit: ann.unit}
	for _, kv := range kvs {
		b.Ops = append(b.Ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	if err := back.store.Apply([]store.Batch{b})[0]; err != nil {
		t.Fatal(err)
	}
	back.restart()
	back.wish(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	if err := back.answers[back.command].Err; !errors.Is(err, member.ErrRestoring) {
		t.Fatalf("before it read the boards: %v", err)
	}
	back.offline = false
	w.run(time.Minute)
	back.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(5 * time.Second)
	r := w.agree(back, bob)
	if len(r.Disputes) != 0 || len(r.Invites) != member.MaxPaged+3 || r.Members[1].Role != member.AsAdmin {
		t.Fatalf("after the restore: %+v\n%s", r.Disputes, r.Drawing)
	}
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: back.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Cy"})
	w.run(2 * time.Minute)
	w.agree(back, bob, cy)
	for _, n := range []*memberNode{bob, cy} {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s was told %q", n.name, a)
		}
	}
}
