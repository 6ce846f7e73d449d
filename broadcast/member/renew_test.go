package member_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

const day = 24 * time.Hour

// records counts what a member's store has of one kind.
func (n *memberNode) records(kind byte) (count int) {
	from := append(slices.Clone(n.unit[:]), kind)
	to := append(slices.Clone(n.unit[:]), kind+1)
	for {
		kvs, more, err := n.store.Scan(from, to, 1<<20)
		if err != nil {
			n.w.t.Fatal(err)
		}
		count += len(kvs)
		if !more {
			return count
		}
		from = append(slices.Clone(kvs[len(kvs)-1].Key), 0)
	}
}

// sees checks that somebody shows exactly these texts, in this order.
func (n *memberNode) sees(want ...string) {
	n.w.t.Helper()
	if got := n.texts(); !slices.Equal(got, want) {
		n.w.t.Errorf("%s shows %q, want %q", n.name, got, want)
	}
}

// TestPrekeysRotate: prekeys are replaced every week without anybody noticing,
// who joins later begins from the newest, and what is older than the retention
// time is gone from the store.
func TestPrekeysRotate(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	for range 9 {
		w.run(7*day + time.Hour)
		ann.must(member.SendText{Text: "tick", Wait: member.WaitAll})
	}
	for _, n := range w.nodes {
		if got := n.records('o'); got < 4 || got > 5 {
			t.Errorf("%s keeps prekeys of %d versions, want those of 28 days", n.name, got)
		}
		if got := n.records('w'); got != 0 {
			t.Errorf("%s remembers %d transcripts of hellos whose prekeys are erased", n.name, got)
		}
	}
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: ann.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Cy"})
	w.run(30 * time.Second)
	cy.must(member.SendText{Text: "hello", Wait: member.WaitAll})
	bob.must(member.SendText{Text: "welcome", Wait: member.WaitAll})
	w.run(time.Minute)
	cy.sees("Cy: hello", "Bob: welcome")
	if got := bob.texts(); got[len(got)-2] != "Cy: hello" || len(got) != 11 {
		t.Errorf("Bob shows %q", got)
	}
	w.quiet()
}

// TestHelloFromBefore: a hello that waited while both ends replaced their
// prekeys opens all the same.
func TestHelloFromBefore(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	bob := w.nodes[1]
	bob.leave()
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(time.Second)
	cy.must(member.SendText{Text: "for whoever comes back", Wait: member.WaitAll})
	w.run(15 * day)
	bob.offline = false
	bob.restart()
	w.run(time.Minute)
	bob.sees("Cy: for whoever comes back")
	bob.must(member.SendText{Text: "thanks", Wait: member.WaitAll})
	w.run(time.Minute)
	cy.sees("Cy: for whoever comes back", "Bob: thanks")
	w.quiet()
}

// TestExpiredPrekeys: nobody begins with prekeys that have expired; their seat
// gets its sessions when it is back.
func TestExpiredPrekeys(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	bob.leave()
	w.run(29 * day)
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: ann.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Cy"})
	w.run(time.Minute)
	info := cy.must(member.SendText{Text: "one", Wait: member.WaitAll}).(member.SentInfo)
	if info.Members != 1 || info.Waiting != 1 {
		t.Errorf("sent to %d members, %d wait; Bob's prekeys have expired", info.Members, info.Waiting)
	}
	bob.offline = false
	bob.restart()
	w.run(time.Minute)
	info = cy.must(member.SendText{Text: "two", Wait: member.WaitAll}).(member.SentInfo)
	if info.Members != 2 || info.Waiting != 0 {
		t.Errorf("Bob is back: sent to %d members, %d wait", info.Members, info.Waiting)
	}
	w.run(time.Minute)
	bob.sees("Cy: one", "Cy: two") // the first was sent once more
}

// fromBackup opens a member elsewhere with what a backup has of it: identity,
// group and history, no session, no prekey, nothing under way.
func (w *world) fromBackup(n *memberNode, of store.Reader) *memberNode {
	s := memory.New()
	kvs, err := member.Backup(n.unit, of)
	if err != nil {
		w.t.Fatal(err)
	}
	var ops []store.Op
	for _, kv := range kvs {
		ops = append(ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	if err := s.Apply([]store.Batch{{Unit: n.unit, Ops: ops}})[0]; err != nil {
		w.t.Fatal(err)
	}
	back := w.add(n.name)
	back.unit, back.store = n.unit, s
	back.start()
	return back
}

// TestRestored: who comes back from a backup agrees on new sessions with
// everybody by itself; the others see a calm line and no second text under one
// number, and the installation that was lost, if it appears again, is silent.
func TestRestored(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	bob.must(member.SendText{Text: "before", Wait: member.WaitAll})
	w.run(8 * day)
	backup := bob.store.Snapshot()
	bob.must(member.SendText{Text: "after the backup", Wait: member.WaitAll})
	ann.must(member.SendText{Text: "to the lost one", Wait: member.WaitAll})
	w.run(time.Minute)
	w.run(7 * day) // the lost one announces once more
	bob.leave()
	back := w.fromBackup(bob, backup)
	for _, r := range w.relays {
		r.stop()
	}
	if _, err := back.do(member.SendText{Text: "nobody hears"}); err == nil {
		t.Error("a text is sent before the restored one is announced")
	}
	for _, r := range w.relays {
		r.down = false
	}
	back.must(member.SendText{Text: "I am back", Wait: member.WaitAll})
	ann.must(member.SendText{Text: "welcome", Wait: member.WaitAll})
	w.run(time.Minute)
	cy.must(member.SendText{Text: "indeed", Wait: member.WaitAll})
	w.run(time.Minute)
	want := []string{"Bob: before", "Bob: after the backup", "Ann: to the lost one", "Bob: I am back", "Ann: welcome", "Cy: indeed"}
	ann.sees(want...)
	cy.sees(want...)
	back.sees("Bob: I am back", "Ann: welcome", "Ann: to the lost one", "Cy: indeed") // the third was sent once more
	lines := 0
	for _, e := range ann.events {
		if e.Kind == member.EventSession && strings.Contains(e.Text, "new installation") {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("Ann is told %d times of the new installation", lines)
	}
	w.quiet()

	bob.offline = false
	bob.restart()
	w.run(time.Minute)
	if _, err := bob.do(member.SendText{Text: "two of me"}); err == nil || !strings.Contains(err.Error(), "took over") {
		t.Errorf("the lost installation sends: %v", err)
	}
	w.run(20 * day)
	if a := bob.alarms(); len(a) != 1 || !strings.Contains(a[0], "took over your seat") {
		t.Errorf("the lost installation is told %q", a)
	}
	w.nodes = slices.DeleteFunc(w.nodes, func(n *memberNode) bool { return n == bob })
	w.quiet()
	back.must(member.SendText{Text: "still here", Wait: member.WaitAll})
	w.run(time.Minute)
	ann.sees(append(want, "Bob: still here")...)
}
