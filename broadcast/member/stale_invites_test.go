package member_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// live lists the ids of the invitations that a member's roster calls live.
func live(n *memberNode) (ids []string) {
	for _, inv := range n.must(member.GetRoster{}).(member.RosterInfo).Invites {
		if inv.Live {
			ids = append(ids, inv.ID)
		}
	}
	return ids
}

// ended is how often a member was told that invitations of its own ended.
func ended(n *memberNode) (times int) {
	for _, text := range n.told(member.EventRoster) {
		if strings.Contains(text, "`parallax invite` makes a new one") {
			times++
		}
	}
	return times
}

// joins lets a newcomer try a link for some minutes.
func (w *world) joins(name, link string) bool {
	n := w.add(name)
	_, err := n.do(member.JoinGroup{Link: link, Name: name})
	w.run(2 * time.Minute)
	v, ask := n.do(member.GetStatus{})
	return err == nil && ask == nil && v.(member.Status).Ready
}

// TestLinksAfterALeave: when somebody leaves, the links of before let nobody in any
// more, the roster says so, whoever made them is told once, and a new one works.
func TestLinksAfterALeave(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	old := w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	bob.must(member.LeaveGroup{})
	w.run(5 * time.Minute)
	for _, n := range []*memberNode{ann, cy} {
		if got := live(n); len(got) != 0 {
			t.Errorf("%s calls %v live", n.name, got)
		}
	}
	if ended(ann) != 1 || ended(cy) != 0 {
		t.Errorf("told %d times and %d times: %q", ended(ann), ended(cy), ann.told(member.EventRoster))
	}
	if w.joins("Dee", old) {
		t.Error("the old link lets somebody in")
	}
	if !w.joins("Eve", ann.must(member.MakeInvite{}).(member.InviteInfo).Link) {
		t.Error("a new link lets nobody in")
	}
	w.reaches(w.nodes[4], "new", ann, cy)
}

// TestLinksOfConcurrentRemovals: two admins remove at once, and each is given a
// link; who was removed by one may know the other's. Both end.
func TestLinksOfConcurrentRemovals(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee", "Eve")
	w.group(false)
	ann, bob, eve := w.nodes[0], w.nodes[1], w.nodes[4]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(2 * time.Minute)
	ann.leave()
	bob.leave()
	ann.offlineDo(member.RemoveMember{Member: "Cy"})
	bob.offlineDo(member.RemoveMember{Member: "Dee"})
	ann.offline, bob.offline = false, false
	w.run(10 * time.Minute)
	w.agree(ann, bob, eve)
	for _, n := range []*memberNode{ann, bob, eve} {
		if got := live(n); len(got) != 0 {
			t.Errorf("%s calls %v live", n.name, got)
		}
	}
	if ended(ann) == 0 || ended(bob) == 0 || ended(eve) != 0 {
		t.Errorf("told: %q, %q", ann.told(member.EventRoster), bob.told(member.EventRoster))
	}
	if !w.joins("Fay", bob.must(member.MakeInvite{}).(member.InviteInfo).Link) {
		t.Error("a new link lets nobody in")
	}
}

// TestInviteBesideARemoval: an invitation made while another admin removes somebody
// leads to keys that are no more: it ends, and its maker is told.
func TestInviteBesideARemoval(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(2 * time.Minute)
	bob.leave()
	bob.offlineDo(member.MakeInvite{})
	ann.must(member.RemoveMember{Member: "Cy"})
	w.run(time.Minute)
	before := live(ann)
	bob.offline = false
	w.run(10 * time.Minute)
	w.agree(ann, bob)
	for _, n := range []*memberNode{ann, bob} {
		if got := live(n); !slices.Equal(got, before) || len(got) != 1 {
			t.Errorf("%s calls %v live, not %v", n.name, got, before)
		}
	}
	if ended(bob) != 1 || ended(ann) != 0 {
		t.Errorf("told: %q, %q", ann.told(member.EventRoster), bob.told(member.EventRoster))
	}
}
