package member_test

import (
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// away closes a member's client while then happens, and opens it again.
func (n *memberNode) away(then func()) {
	n.leave()
	then()
	n.w.run(time.Second)
	n.offline = false
	n.restart()
	n.w.run(30 * time.Second)
}

// TestSentBeforeItsRoleChanged: what a member sent before it became a reader counts
// when it is opened later; what a reader sent before it became a member again does
// not; and so for who was removed since.
func TestSentBeforeItsRoleChanged(t *testing.T) {
	for _, removed := range []bool{false, true} {
		for _, strict := range []bool{false, true} {
			w := newWorld(t, 3, "Ann", "Bob", "Cy")
			w.group(strict)
			ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
			w.run(2 * time.Minute)
			cy.away(func() {
				bob.must(member.SendText{Text: "as a member"})
				w.run(time.Second)
				ann.must(member.SetRole{Member: "Bob", Role: member.AsReader})
				w.run(5 * time.Second)
				if removed {
					ann.must(member.RemoveMember{Member: "Bob"})
				}
			})
			if got := cy.texts(); !slices.Equal(got, []string{"Bob: as a member"}) {
				t.Errorf("removed %v, strict %v: Cy shows %q", removed, strict, got)
			}
			if got := cy.told(member.EventSilent); len(got) != 0 {
				t.Errorf("removed %v, strict %v: Cy was told %q", removed, strict, got)
			}
			w.quiet()
		}
	}
}

// TestRoleOfOneself: what an owner said before it made itself a reader counts for who
// opens it later.
func TestRoleOfOneself(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, cy := w.nodes[0], w.nodes[2]
	ann.must(member.SetRole{Member: "Bob", Role: member.AsOwner})
	w.run(time.Minute)
	cy.away(func() {
		ann.must(member.SendText{Text: "my last word"})
		ann.must(member.SetRole{Member: "Ann", Role: member.AsReader})
		w.run(5 * time.Second)
	})
	if got := cy.texts(); !slices.Equal(got, []string{"Ann: my last word"}) {
		t.Errorf("Cy shows %q", got)
	}
}
