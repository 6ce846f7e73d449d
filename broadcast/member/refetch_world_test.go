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

// hider makes relays show one member bare numbers in place of bundles, for good
// or until they are asked once more.
type hider struct {
	victim *memberNode
	hiding bool
	hidden map[*relayNode]map[uint64]bool
	open   bool // asked once more, they show what they hid
}

func (w *world) hide(victim *memberNode) *hider {
	h := &hider{victim: victim, hidden: map[*relayNode]map[uint64]bool{}}
	for _, r := range w.relays {
		h.hidden[r] = map[uint64]bool{}
		r.filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
			if to != victim || f.Type != proto.TypeDeliver {
				return []broadcast.Frame{f}
			}
			msg, err := proto.Parse(f)
			if err != nil {
				w.t.Fatal(err)
			}
			d := msg.(proto.Deliver)
			again := h.hidden[r][d.N]
			if h.hiding {
				h.hidden[r][d.N] = true
			}
			if !h.hidden[r][d.N] || again && h.open {
				return []broadcast.Frame{f}
			}
			return []broadcast.Frame{proto.Encode(proto.Bare{N: d.N, D: d.Digest(), Root: d.Root, Signature: d.Signature})}
		}
	}
	return h
}

// said are messages with how they came.
func (n *memberNode) said() (all []string) {
	for _, e := range n.events {
		line := e.Member + ": " + e.Text
		switch {
		case e.Kind == member.EventPassed:
			line = fmt.Sprintf("%s passes on of %s: %s", e.Member, e.Of, e.Text)
		case e.Kind != member.EventMessage:
			continue
		case e.Passed != "":
			line += " (by " + e.Passed + ")"
		case e.Late:
			line += " (late)"
		}
		all = append(all, line)
	}
	return all
}

func (n *memberNode) says(want ...string) {
	n.w.t.Helper()
	if got := n.said(); !slices.Equal(got, want) {
		n.w.t.Errorf("%s shows %q, want %q", n.name, got, want)
	}
}

// TestRefetchFromRelays: what relays showed bare is asked of them once more when
// a hole shows, and members are not asked.
func TestRefetchFromRelays(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	h := w.hide(bob)
	h.hiding, h.open = true, true
	ann.must(member.SendText{Text: "one"})
	h.hiding = false
	ann.must(member.SendText{Text: "two"})
	posts := len(bob.controls)
	w.run(2 * time.Minute)
	bob.says("Ann: two", "Ann: one")
	if n := len(bob.controls) - posts; n != 0 {
		t.Errorf("Bob posted %d times", n)
	}
	w.quiet()
}

// TestRefetchFromSender: what no relay shows comes from the sender, and is the
// sender's word.
func TestRefetchFromSender(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, 3, "Ann", "Bob", "Cy")
		w.group(strict)
		ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
		h := w.hide(bob)
		h.hiding = true
		ann.must(member.SendText{Text: "one"})
		h.hiding = false
		ann.must(member.SendText{Text: "two"})
		w.run(20 * time.Second)
		bob.says("Ann: two", "Ann: one (late)")
		cy.says("Ann: one", "Ann: two")
		w.run(time.Hour)
		bob.says("Ann: two", "Ann: one (late)") // once
		status := bob.must(member.GetStatus{}).(member.Status)
		for _, m := range status.Members {
			if m.Missing != 0 {
				t.Errorf("%d messages of %s are missing", m.Missing, m.Name)
			}
		}
		w.quiet()
	}
}

// TestRefetchFromOther: while the sender is away another member sends it again;
// it is the sender's since the sender's next envelope names it.
func TestRefetchFromOther(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	h := w.hide(bob)
	h.hiding = true
	ann.must(member.SendText{Text: "one"})
	h.hiding = false
	ann.must(member.SendText{Text: "two"})
	ann.leave()
	w.run(3 * time.Second)
	bob.says("Ann: two")
	w.run(5 * time.Minute)
	bob.says("Ann: two", "Ann: one (by Cy)")
	w.quiet()
}

// lacks compares what a member is told of messages that are missing: how many, what
// is done, how often members were asked, and the beginning of the sentence.
func (n *memberNode) lacks(want ...string) {
	n.w.t.Helper()
	var got []string
	for _, l := range n.must(member.GetSecurity{}).(member.Security).Lacks {
		got = append(got, fmt.Sprintf("%d %s %d: %s", l.Messages, l.State, l.Asked, l.Text))
		if l.Member != "Ann" || l.Next.IsZero() != (l.State == member.LackEnded) {
			n.w.t.Errorf("%+v", l)
		}
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		n.w.t.Errorf("%s lacks %q, want %q", n.name, got, want)
	}
}

// TestNobodyHasIt: asking ends, with one line.
func TestNobodyHasIt(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	h := w.hide(bob)
	h.hiding = true
	ann.must(member.SendText{Text: "one"})
	h.hiding = false
	ann.must(member.SendText{Text: "two"})
	ann.leave()
	posts := len(bob.controls)
	bob.lacks("1 waits 0: 1 message of Ann is missing here. Every relay is asked again, then the members.")
	w.run(6 * time.Second)
	bob.lacks("1 members 1: 1 message of Ann is missing here. The members were asked once. Nothing for you to do.")
	w.run(15 * time.Minute)
	bob.lacks("1 members 3: 1 message of Ann is missing here. The members were asked 3 times.")
	w.run(5 * day)
	bob.lacks("1 given up 0: 1 message of Ann did not arrive here: no relay shows it, and no member sent it again. Ask Ann what was said.")
	bob.says("Ann: two")
	gaps := slices.DeleteFunc(slices.Clone(bob.events), func(e member.Event) bool { return e.Kind != member.EventGap })
	if len(gaps) != 1 || gaps[0].Total != 1 || !strings.Contains(gaps[0].Text, "1 message of Ann did not arrive") {
		t.Errorf("told %v", gaps)
	}
	if n := len(bob.controls) - posts; n < 3*6 || n > 3*12 { // six questions, and an announcement and acks beside
		t.Errorf("%d posts", n)
	}
	bob.restart()
	w.run(5 * day)
	if n := bob.must(member.GetStatus{}).(member.Status).Members; n[0].Missing != 1 {
		t.Errorf("%+v", n)
	}
	// Ann is back, reads what she was asked, and answers; what is new is asked for.
	ann.offline = false
	ann.restart()
	w.run(time.Minute)
	h.hiding = true
	ann.must(member.SendText{Text: "three"})
	h.hiding = false
	ann.must(member.SendText{Text: "four"})
	w.run(time.Minute)
	bob.says("Ann: two", "Ann: one (late)", "Ann: four", "Ann: three (late)")
	bob.lacks()
	if n := bob.must(member.GetStatus{}).(member.Status).Members; n[0].Missing != 0 {
		t.Errorf("%+v", n)
	}
}

// TestBeforeASession: a text that was sent before a session with a newcomer stood
// becomes readable to it.
func TestBeforeASession(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	ann.must(member.SendText{Text: "before"})
	bob.leave()
	cy := w.add("Cy")
	link := ann.must(member.MakeInvite{}).(member.InviteInfo).Link
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	cy.leave() // its hello reached nobody yet
	w.run(time.Second)
	bob.offline = false
	bob.restart()
	w.run(3 * time.Second)
	if info := ann.must(member.SendText{Text: "to all"}).(member.SentInfo); info.Members+info.Waiting != 2 {
		t.Fatalf("%+v", info)
	}
	cy.offline = false
	cy.restart()
	w.run(5 * time.Minute)
	got := cy.said()
	if len(got) != 1 || !strings.HasPrefix(got[0], "Ann: to all") {
		t.Errorf("Cy shows %q", got) // and nothing from before
	}
	w.quiet()
}

// TestPassOn: texts that are passed on to a joiner are the passer's until their
// senders' own envelopes name them; own ones are its own.
func TestPassOn(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	for i := range 3 {
		bob.must(member.SendText{Text: fmt.Sprintf("b%d", i)})
		ann.must(member.SendText{Text: fmt.Sprintf("a%d", i)})
	}
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(time.Minute)
	cy.says()
	info := ann.must(member.PassOn{Last: 5}).(member.PassedInfo)
	if info.Messages != 5 || info.Envelopes != 1 {
		t.Errorf("%+v", info)
	}
	w.run(time.Minute)
	passed := []string{"Ann: a0 (late)", "Ann passes on of Bob: b1", "Ann: a1 (late)", "Ann passes on of Bob: b2", "Ann: a2 (late)"}
	cy.says(passed...)
	cy.restart()
	w.run(time.Second)
	bob.must(member.SendText{Text: "b3"})
	w.run(time.Minute)
	got := cy.said()
	if len(got) != 8 || !slices.Equal(got[:5], passed) || !slices.Contains(got, "Bob: b1 (by Ann)") || !slices.Contains(got, "Bob: b2 (by Ann)") || !slices.Contains(got, "Bob: b3") {
		t.Errorf("Cy shows %q", got)
	}
	bob.must(member.PassOn{Last: 100})
	w.run(time.Minute)
	if more := cy.said()[8:]; len(more) != 1 || more[0] != "Bob: b0 (late)" { // all else is known
		t.Errorf("Cy shows %q more", more)
	}
	if _, err := ann.do(member.PassOn{}); err == nil {
		t.Error("nothing is passed on without an error")
	}
	w.quiet()
}
