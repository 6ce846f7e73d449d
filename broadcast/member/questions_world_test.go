package member_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// daily opens a member's client once a day for so long, and tells what it shows of
// a kind after all of them.
func (n *memberNode) daily(days int, open time.Duration) {
	for range days {
		n.leave()
		n.w.run(day - open)
		n.offline = false
		n.restart()
		n.w.run(open)
	}
}

func (n *memberNode) gaps() []member.Event {
	return slices.DeleteFunc(slices.Clone(n.events), func(e member.Event) bool { return e.Kind != member.EventGap })
}

// lacking is a group in which every relay hid Ann's first text from Bob.
func lacking(t *testing.T, names ...string) (*world, *hider) {
	w := newWorld(t, 3, append([]string{"Ann", "Bob"}, names...)...)
	w.group(false)
	h := w.hide(w.nodes[1])
	h.hiding = true
	w.nodes[0].must(member.SendText{Text: "one"})
	h.hiding = false
	w.nodes[0].must(member.SendText{Text: "two"})
	return w, h
}

// TestAskedOverShortOpenings: a client that is opened for two seconds a day, less
// than a deadline, asks the relays, then the members, each after its wait, and in
// the end tells once that nobody has it.
func TestAskedOverShortOpenings(t *testing.T) {
	w, _ := lacking(t)
	ann, bob := w.nodes[0], w.nodes[1]
	ann.leave()
	w.run(time.Second)
	posts := len(bob.controls)
	bob.daily(5, 2*time.Second)
	if n := len(bob.controls) - posts; n < 2*3 || n > 5*3 {
		t.Errorf("%d posts in five days, want a question on most of them", n)
	}
	if got := bob.gaps(); len(got) != 0 {
		t.Errorf("given up after five days: %v", got)
	}
	bob.daily(10, 2*time.Second)
	got := bob.gaps()
	if len(got) != 1 || got[0].Total != 1 || !strings.Contains(got[0].Text, "1 message of Ann did not arrive") {
		t.Fatalf("told %v", got)
	}
	posts = len(bob.controls)
	bob.daily(10, 2*time.Second)
	if n := len(bob.controls) - posts; n > 3*3 || len(bob.gaps()) != 1 { // a weekly announcement and an ack may be due
		t.Errorf("%d posts and %d lines after it was given up", n, len(bob.gaps()))
	}
	bob.says("Ann: two")
}

// TestRelaysAskedOverShortOpenings: what the relays show when they are asked once
// more comes so, and members are not asked.
func TestRelaysAskedOverShortOpenings(t *testing.T) {
	w, h := lacking(t)
	bob := w.nodes[1]
	h.open = true
	posts := len(bob.controls)
	bob.daily(4, 2*time.Second)
	bob.says("Ann: two", "Ann: one")
	if n := len(bob.controls) - posts; n != 0 {
		t.Errorf("Bob posted %d times", n)
	}
	w.quiet()
}

// TestSenderAskedOverShortOpenings: the sender answers between two openings.
func TestSenderAskedOverShortOpenings(t *testing.T) {
	w, _ := lacking(t)
	bob := w.nodes[1]
	bob.daily(6, 2*time.Second)
	bob.says("Ann: two", "Ann: one (late)")
	bob.daily(2, time.Minute)
	bob.says("Ann: two", "Ann: one (late)") // once
	if got := bob.gaps(); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	w.quiet()
}

// TestOthersWordOverShortOpenings: all relays hide a sender's newest texts from one
// member, and another's envelope names them: that word lasts, and what it leads to.
func TestOthersWordOverShortOpenings(t *testing.T) {
	w, h := lacking(t, "Cy")
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	w.run(time.Minute)
	bob.says("Ann: two", "Ann: one (late)")
	h.hiding = true
	ann.must(member.SendText{Text: "three"})
	w.run(time.Second)
	h.hiding = false
	cy.must(member.SendText{Text: "I heard three"})
	bob.leave()
	bob.daily(6, 2*time.Second)
	if got := bob.said(); !slices.Contains(got, "Ann: three (late)") {
		t.Errorf("Bob shows %q", got)
	}
	w.quiet()
}

// TestAskedManyTimesADay: openings for each command do not ask more often than one
// that lasts.
func TestAskedManyTimesADay(t *testing.T) {
	w, _ := lacking(t)
	ann, bob := w.nodes[0], w.nodes[1]
	ann.leave()
	w.run(time.Minute)
	posts := len(bob.controls)
	for range 100 {
		bob.restart()
		w.run(10 * time.Minute)
	}
	if n := len(bob.controls) - posts; n > 3*6 {
		t.Errorf("%d posts in 100 openings of 17 hours", n)
	}
}

// TestOtherAnswersOverShortOpenings: the sender is gone, and who has its text is opened
// for two seconds a day too, at another time than who lacks it.
func TestOtherAnswersOverShortOpenings(t *testing.T) {
	w, _ := lacking(t, "Cy")
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	ann.leave()
	bob.leave()
	cy.leave()
	for range 7 {
		for _, n := range []*memberNode{bob, cy} {
			n.offline = false
			n.restart()
			w.run(2 * time.Second)
			n.leave()
			w.run(day / 2)
		}
	}
	if got := bob.said(); !slices.Equal(got, []string{"Ann: two", "Ann: one (by Cy)"}) {
		t.Errorf("Bob shows %q", got)
	}
	w.quiet()
}
