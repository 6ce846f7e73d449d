package member_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
)

func TestGroupTalks(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	for i, n := range w.nodes {
		n.must(member.SendText{Text: fmt.Sprintf("hello %d", i)})
	}
	w.run(time.Second)
	w.nodes[0].must(member.SendText{Text: "again"})
	w.run(20 * time.Second)
	want := []string{"Ann: again", "Ann: hello 0", "Bob: hello 1", "Cy: hello 2"}
	for _, n := range w.nodes {
		got := n.texts()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", n.name, got, want)
		}
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s has alarms: %q", n.name, a)
		}
		st := n.must(member.GetStatus{}).(member.Status)
		for _, m := range st.Members {
			if !m.Usable || (!m.Own && !m.Session) {
				t.Errorf("%s: member %+v", n.name, m)
			}
		}
		for _, row := range n.must(member.GetPaths{}).(member.Paths).Messages {
			for r, mark := range row.Marks {
				if mark != "matched" {
					t.Errorf("%s: %s on %s: %s", n.name, row.Text, r, mark)
				}
			}
		}
	}
}

// TestCrashes reopens members and relays from their stores at random moments:
// everything sent is shown by everybody else exactly once, and nobody is
// alarmed.
func TestCrashes(t *testing.T) {
	for seed := range uint64(6) {
		w := newWorld(t, 3, "Ann", "Bob", "Cy", "Di")
		w.group(seed%2 == 1)
		rng := rand.New(rand.NewPCG(seed, 7))
		want := map[string]int{}
		for i := range 30 {
			n := w.nodes[rng.IntN(len(w.nodes))]
			text := fmt.Sprintf("m%d", i)
			n.later(text)
			want[n.name+": "+text]++
			for range rng.IntN(6) {
				w.turn()
			}
			switch rng.IntN(3) {
			case 0:
				w.nodes[rng.IntN(len(w.nodes))].restart()
			case 1:
				r := w.relays[rng.IntN(len(w.relays))]
				for _, u := range r.units {
					u.restart()
				}
			}
		}
		w.run(30 * time.Second)
		for _, n := range w.nodes {
			got := map[string]int{}
			for _, s := range n.history() {
				got[s]++
			}
			if !maps.Equal(got, want) {
				t.Errorf("seed %d: %s has %v, want %v", seed, n.name, got, want)
			}
			if a := n.alarms(); len(a) > 0 {
				t.Errorf("seed %d: %s has alarms %q", seed, n.name, a)
			}
		}
	}
}

// everybody fails the test unless all members have exactly these texts.
func (w *world) everybody(want ...string) {
	w.t.Helper()
	slices.Sort(want)
	for _, n := range w.nodes {
		got := n.history()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			w.t.Errorf("%s has %q, want %q", n.name, got, want)
		}
	}
}

func (w *world) quiet() {
	w.t.Helper()
	for _, n := range w.nodes {
		for _, e := range n.events {
			if e.Kind == member.EventDispute || e.Kind == member.EventEvidence || e.Kind == member.EventBlame {
				w.t.Errorf("%s was alarmed: %s", n.name, e.Text)
			}
		}
	}
}

// TestOneRelay: one relay works, and says that nothing is compared.
func TestOneRelay(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, 1, "Ann", "Bob")
		w.group(strict)
		w.nodes[1].must(member.SendText{Text: "hi", Wait: member.WaitAll})
		w.run(5 * time.Second)
		w.everybody("Bob: hi")
		w.quiet()
		for _, m := range w.nodes[0].must(member.GetStatus{}).(member.Status).Members {
			if !m.Own && m.Verdict == "agreed" && !m.Founder {
				t.Errorf("strict %v: %s is %s with nothing to compare", strict, m.Name, m.Verdict)
			}
		}
		if !slices.ContainsFunc(w.nodes[0].events, func(e member.Event) bool {
			return e.Kind == member.EventJoined && strings.Contains(e.Text, "nothing is compared")
		}) {
			t.Error("the founder is not told that nothing is compared")
		}
	}
}

// TestRelayDown: with one of three relays down people join and talk; when it is
// back, it gets everything.
func TestRelayDown(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	w.relays[2].stop()
	w.nodes[0].must(member.SendText{Text: "two relays"})
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(time.Second)
	cy.must(member.SendText{Text: "I am here"})
	w.run(10 * time.Second)
	w.relays[2].down = false
	w.run(time.Minute)
	for _, n := range w.nodes {
		st := n.must(member.GetStatus{}).(member.Status)
		if st.Outbox != 0 || st.Disputes != 0 || !st.Relays[2].Connected {
			t.Errorf("%s: outbox %d, disputes %d, relays %+v", n.name, st.Outbox, st.Disputes, st.Relays[2])
		}
		for _, m := range st.Members {
			if m.Marks["R3"] != "matched" && !m.Own {
				t.Errorf("%s: %s on R3: %s", n.name, m.Name, m.Marks["R3"])
			}
		}
	}
	w.quiet()
	for _, s := range []string{"Ann: two relays", "Cy: I am here"} {
		if !slices.Contains(w.nodes[1].history(), s) {
			t.Errorf("Bob lacks %q", s)
		}
	}
}

// TestOffline: a member that was away gets everything, once.
func TestOffline(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	w.nodes[2].leave()
	var want []string
	for i := range 300 {
		text := fmt.Sprintf("m%d", i)
		w.nodes[i%2].must(member.SendText{Text: text})
		want = append(want, w.nodes[i%2].name+": "+text)
	}
	w.nodes[2].offline = false
	w.run(time.Minute)
	w.everybody(want...)
	w.quiet()
}

// TestConcurrentJoins: newcomers that join at one moment all meet each other.
func TestConcurrentJoins(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.group(false)
	for i := range 5 {
		n := w.add(fmt.Sprintf("N%d", i))
		n.command++
		n.in = append(n.in, broadcast.Command{ID: n.command, Wish: member.JoinGroup{Link: link, Name: n.name}})
	}
	w.run(30 * time.Second)
	var want []string
	for _, n := range w.nodes {
		n.must(member.SendText{Text: "here"})
		want = append(want, n.name+": here")
	}
	w.run(30 * time.Second)
	w.everybody(want...)
	w.quiet()
}

// TestJoinRefused: what a newcomer is told.
func TestJoinRefused(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	w.group(false)
	link := w.nodes[0].must(member.MakeInvite{Uses: 1}).(member.InviteInfo).Link
	w.add("Bob").must(member.JoinGroup{Link: link, Name: "Bob"})
	if _, err := w.add("Cy").do(member.JoinGroup{Link: link, Name: "Cy"}); !errors.Is(err, member.ErrExpired) {
		t.Errorf("a link that is used up: %v", err)
	}
	w.now = w.now.Add(8 * 24 * time.Hour)
	if _, err := w.add("Di").do(member.JoinGroup{Link: link, Name: "Di"}); !errors.Is(err, member.ErrExpired) {
		t.Errorf("a link that has expired: %v", err)
	}
	for _, r := range w.relays {
		r.stop()
	}
	fresh := newWorld(t, 3, "Ann")
	link = fresh.group(false)
	for _, r := range fresh.relays {
		r.stop()
	}
	if _, err := fresh.add("Ed").do(member.JoinGroup{Link: link, Name: "Ed"}); !errors.Is(err, member.ErrUnreached) {
		t.Errorf("no relay answers: %v", err)
	}
}

// TestCommandOnce: a command repeated under its id gives the first answer.
func TestCommandOnce(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann := w.nodes[0]
	first := ann.must(member.SendText{Text: "once"}).(member.SentInfo)
	delete(ann.answers, ann.command)
	ann.in = append(ann.in, broadcast.Command{ID: ann.command, Wish: member.SendText{Text: "once"}})
	w.run(5 * time.Second)
	if again := ann.answers[ann.command].Value.(member.SentInfo); again.ID != first.ID {
		t.Errorf("the same command sent %s, then %s", first.ID, again.ID)
	}
	w.everybody("Ann: once")
}

// TestHeldOnce: a hello that was held until its seat was usable is not taken
// for a repetition of itself.
func TestHeldOnce(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.group(false)
	w.nodes[0].leave()
	w.add("Bob").must(member.JoinGroup{Link: link, Name: "Bob"})
	w.run(5 * time.Second)
	w.nodes[0].offline = false
	w.run(20 * time.Second)
	if a := w.nodes[0].alarms(); len(a) > 0 {
		t.Errorf("Ann has %q", a)
	}
	for _, r := range w.nodes[0].must(member.GetStatus{}).(member.Status).Relays {
		if r.Failed > 0 {
			t.Errorf("path %s has %d failures", r.Label, r.Failed)
		}
	}
}

// TestAwayAtJoining: a relay that was away while somebody joined, past the
// deadline, shows the members as the others do when it is back. Nothing else is
// told of it while its board is read.
func TestAwayAtJoining(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cat")
	cat := w.nodes[2]
	w.nodes = w.nodes[:2]
	link := w.group(false)
	w.nodes = append(w.nodes, cat)
	w.relays[2].stop()
	cat.must(member.JoinGroup{Link: link, Name: "Cat"})
	w.run(10 * time.Second)
	w.relays[2].down = false
	w.run(time.Minute)
	for _, n := range w.nodes {
		for _, s := range n.must(member.GetStatus{}).(member.Status).Members {
			if s.Operators != 3 {
				t.Errorf("%s: %s is shown by %d operators", n.name, s.Label, s.Operators)
			}
		}
		for _, a := range n.alarms() {
			t.Errorf("%s is told of an honest relay: %s", n.name, a)
		}
	}
}

// TestCommandOnceOverRestarts: a command repeated after a restart gives its first
// answer; a text that was under way is not sent twice, and waits on.
func TestCommandOnceOverRestarts(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	repeat := func(id uint64, wish member.Wish) broadcast.Answer {
		delete(ann.answers, id)
		ann.in = append(ann.in, broadcast.Command{ID: id, Wish: wish})
		w.run(time.Second)
		return ann.answers[id]
	}
	text := member.SendText{Text: "once"}
	first := repeat(1000, text)
	late := repeat(1001, member.SendText{Text: " "})
	ann.restart()
	w.run(time.Second)
	if again := repeat(1000, member.PassOn{Last: 1}); !errors.Is(again.Err, member.ErrTaken) {
		t.Errorf("another command of that number: %+v", again)
	}
	if again := repeat(1000, text); again.Err != nil || again.Value != first.Value {
		t.Errorf("answered %+v, then %+v", first, again)
	}
	if again := repeat(1001, text); again.Err == nil || again.Err.Error() != late.Err.Error() {
		t.Errorf("answered %v, then %v", late.Err, again.Err)
	}
	// Two relays are down: nothing is answered yet when the process ends.
	w.relays[0].stop()
	w.relays[1].stop()
	text.Text = "under way"
	if a := repeat(1002, text); a.Value != nil || a.Err != nil {
		t.Fatalf("answered %+v", a)
	}
	ann.restart()
	w.relays[0].down, w.relays[1].down = false, false
	again := repeat(1002, text)
	if info, ok := again.Value.(member.SentInfo); again.Err != nil || !ok || info.Receipts < 2 || info.Members != 1 {
		t.Errorf("answered %+v", again)
	}
	w.run(5 * time.Second)
	bob.sees("Ann: once", "Ann: under way")
	for i := range uint64(300) {
		repeat(2000+i, member.SendText{Text: " "})
	}
	ann.restart()
	w.run(time.Second)
	repeat(1000, member.SendText{Text: "long ago"}) // not remembered any more
	w.run(5 * time.Second)
	bob.sees("Ann: once", "Ann: under way", "Ann: long ago")
}

// TestAckEvents: a reader of events goes on where it stopped, over restarts and
// restores, and never back.
func TestAckEvents(t *testing.T) {
	w := newWorld(t, 1, "Ann")
	w.group(false)
	ann := w.nodes[0]
	for range 3 {
		ann.must(member.SendText{Text: "x"})
	}
	newest := ann.must(member.GetStatus{}).(member.Status).Events
	if _, err := ann.do(member.AckEvents{UpTo: newest + 1}); !errors.Is(err, member.ErrNoSuch) {
		t.Errorf("an event that is not there yet is acknowledged: %v", err)
	}
	ann.must(member.AckEvents{UpTo: newest - 1})
	ann.must(member.AckEvents{Reader: "bot", UpTo: 2})
	if a := ann.must(member.AckEvents{UpTo: 1}).(member.AckInfo); a.UpTo != newest-1 {
		t.Errorf("it goes back to %d", a.UpTo)
	}
	ann.restart()
	if a := ann.must(member.AckEvents{Reader: "bot"}).(member.AckInfo); a.UpTo != 2 {
		t.Errorf("the bot is at %d", a.UpTo)
	}
	if s := ann.must(member.GetStatus{}).(member.Status); s.Acked != newest-1 {
		t.Errorf("the application is at %d", s.Acked)
	}
	for i := range 70 {
		_, err := ann.do(member.AckEvents{Reader: fmt.Sprintf("r%d", i), UpTo: 1})
		if (err != nil) != (i >= 62) {
			t.Errorf("reader %d: %v", i, err)
		}
	}
	if _, err := ann.do(member.AckEvents{Reader: "a\nb", UpTo: 1}); !errors.Is(err, member.ErrName) {
		t.Errorf("%v", err)
	}
}

// TestDigestAcks: who only reads sends a view now and then, so that ratchets
// turn and first contacts are confirmed; nobody answers a view with a view.
func TestDigestAcks(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann := w.nodes[0]
	ann.must(member.SendText{Text: "one"})
	w.run(time.Minute)
	posts := func() (n []int) {
		for _, x := range w.nodes {
			n = append(n, len(x.controls)/3)
		}
		return n
	}
	before := posts()
	w.run(23 * time.Hour)
	if now := posts(); !slices.Equal(now, before) {
		t.Errorf("in a day: from %v to %v posts", before, now)
	}
	w.run(14 * time.Hour)
	now := posts()
	if now[1]-before[1] != 1 || now[2]-before[2] != 1 || now[0]-before[0] > 1 {
		t.Errorf("after a day and a half: from %v to %v posts", before, now)
	}
	w.run(4 * 24 * time.Hour)
	if last := posts(); last[1] != now[1] || last[2] != now[2] {
		t.Errorf("views are answered with views: from %v to %v posts", now, last)
	}
	info := ann.must(member.GetDelivery{}).(member.DeliveryInfo)
	for _, m := range info.Members {
		if m.State != member.MemberOpened {
			t.Errorf("%s: %s", m.Member, m.State)
		}
	}
	ann.sees("Ann: one")
	w.quiet()
}
