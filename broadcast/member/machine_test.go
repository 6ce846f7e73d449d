package member_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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
			n.command++
			n.in = append(n.in, broadcast.Command{ID: n.command, Wish: member.SendText{Text: text, Wait: member.WaitNone}})
			n.step()
			n.drain()
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
