package member_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
)

// ask hands a wish over without waiting for its answer.
func (n *memberNode) ask(w member.Wish) (id uint64) {
	n.command++
	n.in = append(n.in, broadcast.Command{ID: n.command, Wish: w})
	return n.command
}

// release ends the jobs that were held back, the last first.
func (n *memberNode) release() {
	n.holdJobs = false
	for _, j := range slices.Backward(n.jobs) {
		n.in = append(n.in, broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)})
	}
	n.jobs = nil
}

// joining is a group of four and a fifth member whose jobs are held back: it has
// joined and begun no session yet.
func joining(t *testing.T) (w *world, eve *memberNode) {
	w = newWorld(t, 3, "Ann", "Bob", "Cy", "Dan")
	link := w.group(false)
	eve = w.add("Eve")
	eve.holdJobs = true
	id := eve.ask(member.JoinGroup{Link: link, Name: "Eve"})
	w.run(5 * time.Second)
	if len(eve.jobs) == 0 {
		t.Fatal("four sessions are due and there is no job")
	}
	if _, early := eve.answers[id]; early {
		t.Fatal("the join was answered before the sessions were there")
	}
	return w, eve
}

func (w *world) sees(name string, texts ...string) {
	w.t.Helper()
	for _, n := range w.nodes {
		if got := n.texts(); !slices.Equal(got, texts) {
			w.t.Errorf("%s: %s shows %q, want %q", name, n.name, got, texts)
		}
	}
}

// TestTextAfterJoining: who has joined reaches everybody with the first text,
// however long the sessions take; texts keep their order, and repeating a
// command does not send twice.
func TestTextAfterJoining(t *testing.T) {
	w, eve := joining(t)
	for range 2 { // two sessions are there, as few are due as a text itself may begin
		j := eve.jobs[0]
		eve.jobs = eve.jobs[1:]
		eve.in = append(eve.in, broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)})
	}
	one := eve.ask(member.SendText{Text: "one"})
	two := eve.ask(member.SendText{Text: "two"})
	eve.in = append(eve.in, broadcast.Command{ID: one, Wish: member.SendText{Text: "one"}})
	w.run(2 * time.Second)
	w.sees("jobs held back")
	if _, early := eve.answers[one]; early {
		t.Error("the text was answered before the sessions were there")
	}
	if st := eve.must(member.GetStatus{}).(member.Status); !st.Ready {
		t.Error("a member that begins its sessions answers no status")
	}
	eve.release()
	w.run(2 * time.Second)
	w.sees("jobs done", "Eve: one", "Eve: two")
	if a, ok := eve.answers[1]; !ok || a.Err != nil {
		t.Errorf("the join is answered with %+v", a)
	}
	for _, id := range []uint64{one, two} {
		if a := eve.answers[id]; a.Err != nil || a.Value.(member.SentInfo).Members != 4 || a.Value.(member.SentInfo).Waiting != 0 {
			t.Errorf("answer %+v", a)
		}
	}
	progress := slices.IndexFunc(eve.events, func(e member.Event) bool {
		return e.Kind == member.EventProgress && e.Text == "sessions 4 of 4" && e.Number == 0 && e.Done == 4 && e.Total == 4
	})
	if progress < 0 {
		t.Error("no progress was shown")
	}
	w.nodes[0].must(member.SendText{Text: "welcome"})
	w.run(2 * time.Second)
	w.sees("an answer", "Eve: one", "Eve: two", "Ann: welcome")
	for _, n := range w.nodes {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s has alarms %q", n.name, a)
		}
	}
}

// TestRefusedWhileStarting: a text that cannot be sent is refused at once.
func TestRefusedWhileStarting(t *testing.T) {
	w, eve := joining(t)
	if _, err := eve.do(member.SendText{Text: " "}); err == nil {
		t.Error("an empty text waits")
	}
	eve.release()
	w.run(time.Second)
}

// TestChangedWhileStarting: a membership that reads its state again forgets the
// jobs, whose outcomes are of no use then, and begins anew; the texts stay.
func TestChangedWhileStarting(t *testing.T) {
	w, eve := joining(t)
	id := eve.ask(member.SendText{Text: "one"})
	w.run(time.Second)
	old := eve.jobs
	eve.jobs = nil
	eve.in = append(eve.in, broadcast.Changed{Reader: eve.store})
	w.run(time.Second)
	if len(eve.jobs) == 0 || eve.jobs[0].ID <= old[len(old)-1].ID {
		t.Fatalf("%d jobs after the state was read again", len(eve.jobs))
	}
	for _, j := range old {
		eve.in = append(eve.in, broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)})
	}
	w.run(time.Second)
	w.sees("outcomes of before")
	eve.release()
	w.run(2 * time.Second)
	w.sees("outcomes of now", "Eve: one")
	if a, ok := eve.answers[id]; !ok || a.Err != nil {
		t.Errorf("the text that waited: %+v", a)
	}
}

// TestCrashWhileStarting ends the joiner's process while jobs are under way: the
// next one begins anew, and its first text reaches all.
func TestCrashWhileStarting(t *testing.T) {
	for _, late := range []bool{false, true} { // the text is the first input, or outcomes of before are
		w, eve := joining(t)
		old := eve.jobs
		eve.jobs, eve.holdJobs = nil, false
		eve.restart()
		for i := range old {
			if late { // a new machine numbers its own
				eve.in = append(eve.in, broadcast.Finished{ID: old[i].ID + 1<<20, Result: old[i].Run(old[i].Seed)})
			}
		}
		eve.must(member.SendText{Text: "one"})
		w.run(2 * time.Second)
		w.sees("after the crash", "Eve: one")
	}
}

// TestCrashAtEveryWriteOfAJoin is TestCrashAtEveryWrite for a joiner whose
// sessions are begun by jobs.
func TestCrashAtEveryWriteOfAJoin(t *testing.T) {
	verify := remembered()
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost=%v", lost), func(t *testing.T) {
			t.Parallel()
			for k := 1; ; k++ {
				w := newWorldOf(t, 1, verify, "Ann", "Bob", "Cy")
				link := w.group(false)
				dan := w.add("Dan")
				s := &scenario{world: w, bob: dan}
				c := &crash{at: k, lost: lost}
				dan.crash = c
				s.until("joining", func() bool {
					_, err := dan.do(member.JoinGroup{Link: link, Name: "Dan"})
					return err == nil || dan.ready()
				})
				s.say(dan, "one")
				w.run(2 * time.Second)
				for _, n := range w.nodes {
					if n != dan && !slices.Equal(n.texts(), []string{"Dan: one"}) {
						t.Errorf("%s shows %q", n.name, n.texts())
					}
					if a := n.alarms(); len(a) > 0 {
						t.Errorf("%s has alarms %q", n.name, a)
					}
				}
				if t.Failed() {
					t.Fatalf("at write %d", k)
				}
				if c.writes < k {
					return
				}
			}
		})
	}
}
