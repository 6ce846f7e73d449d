package member_test

import (
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// untroubled fails unless no relay failed a member.
func (w *world) untroubled(n *memberNode) {
	w.t.Helper()
	for _, r := range n.must(member.GetStatus{}).(member.Status).Relays {
		if r.Failed > 0 || r.Dissented > 0 {
			w.t.Errorf("%s, relay %s: %+v", n.name, r.Label, r)
		}
	}
}

// TestNewcomerLong after all epochs but the one in use are over: what a removed
// admin signed and the announcement of who is away stand on the boards for
// newcomers all the same, and no relay is blamed for what else lies there.
func TestNewcomerLong(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee", "Eve")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	ann.must(member.RemoveMember{Member: "Dee"})
	w.run(5 * time.Minute)
	bob.must(member.RemoveMember{Member: "Eve"}) // written under the second epoch
	w.run(5 * time.Minute)
	fay := w.add("Fay")
	fay.must(member.JoinGroup{Link: bob.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Fay"})
	w.run(5 * time.Minute)
	fay.leave()
	ann.must(member.RemoveMember{Member: "Bob"})
	for range 26 {
		w.run(day)
		ann.restart()
		cy.restart()
	}
	gil := w.add("Gil")
	gil.must(member.JoinGroup{Link: ann.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Gil"})
	w.run(5 * time.Minute)
	w.untroubled(gil)
	w.calm(gil)
	r := w.agree(ann, cy, gil)
	if got := labelsOf(r.Members); !slices.Equal(got, []string{"Ann", "Cy", "Fay", "Gil"}) {
		t.Errorf("members: %v", got)
	}
	usable := func(n *memberNode) (names []string) {
		for _, m := range n.must(member.GetStatus{}).(member.Status).Members {
			if m.Usable {
				names = append(names, m.Name)
			}
		}
		slices.Sort(names)
		return names
	}
	if got, want := usable(gil), usable(ann); !slices.Equal(got, want) || len(got) != 4 {
		t.Errorf("Gil uses %v, Ann %v", got, want)
	}
	w.reaches(gil, "new", ann, cy)
}
