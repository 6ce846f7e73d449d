package member_test

import (
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// TestUsedUp: each relay counts the uses of an invitation by itself, and two of
// three are enough to be in. Newcomers who each go by other relays are more than it
// allows: members use as many as it allows, say so of the others, and an admin may
// let them in all the same.
func TestUsedUp(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, 3, "Ann", "Bob")
		w.group(false)
		ann, bob := w.nodes[0], w.nodes[1]
		w.run(2 * time.Minute)
		link := ann.must(member.MakeInvite{Uses: 2}).(member.InviteInfo).Link
		w.run(time.Minute)
		ann.leave() // nobody adopts meanwhile
		var came []*memberNode
		for i, name := range []string{"Cy", "Dee", "Eve"} {
			n := w.add(name)
			without := w.relays[i]
			without.stop()
			if _, err := n.do(member.JoinGroup{Link: link, Name: name}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			w.run(20 * time.Second)
			n.leave()
			without.again()
			w.run(time.Minute)
			came = append(came, n)
		}
		if restart {
			bob.restart()
			w.run(time.Minute)
		}
		in := func(n *memberNode) (names []string) {
			for _, m := range n.must(member.GetStatus{}).(member.Status).Members {
				if m.Usable && !m.Own {
					names = append(names, m.Name)
				}
			}
			return names
		}
		if got := strings.Join(in(bob), " "); got != "Ann Cy Dee" {
			t.Errorf("restart %v: Bob uses %s", restart, got)
		}
		told := strings.Join(bob.told(member.EventRoster), "\n")
		if strings.Count(told, "came by an invitation that was used up") != 1 || !strings.Contains(told, "Eve") {
			t.Errorf("restart %v: Bob was told %q", restart, told)
		}
		ann.offline = false
		for _, n := range came {
			n.offline = false
		}
		w.run(25 * time.Hour) // what a relay does not show is adopted late
		for _, n := range []*memberNode{ann, bob} {
			if got := in(n); len(got) != 3 {
				t.Errorf("restart %v: %s uses %v when all are there", restart, n.name, got)
			}
		}
		left := "" // the admin's roster decides for all which of them it is
		for _, n := range []*memberNode{ann, bob} {
			r := n.must(member.GetRoster{}).(member.RosterInfo)
			if len(r.Members) != 4 || len(r.Asking) != 1 || left != "" && r.Asking[0].Name != left {
				t.Fatalf("restart %v: %s has members %v, asking %v", restart, n.name, labelsOf(r.Members), labelsOf(r.Asking))
			}
			left = r.Asking[0].Name
		}
		ann.must(member.ApproveMember{Member: left})
		w.run(5 * time.Minute)
		w.reaches(came[2], "here at last", ann, bob, came[0], came[1])
	}
}
