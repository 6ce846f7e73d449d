package member_test

import (
	"fmt"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// TestReinforced: in a small group every session mixes encapsulations in both
// directions after each announcement, nothing is lost by it, also with restarts,
// and where it is off nobody does.
func TestReinforced(t *testing.T) {
	for _, off := range []bool{false, true} {
		w := newWorld(t, 3, "Ann", "Bob", "Cy")
		limits := member.Limits{}
		if off {
			limits.Reinforced = -1
		}
		for _, n := range w.nodes {
			n.open = member.Open(member.Config{Verify: w.verify, Limits: limits})
			n.restart()
		}
		w.group(false)
		var want []string
		for i := range 40 { // two a day, in turn
			n := w.nodes[i%3]
			text := fmt.Sprint("text ", i)
			n.must(member.SendText{Text: text, Wait: member.WaitAll})
			want = append(want, n.name+": "+text)
			if i%7 == 3 {
				w.nodes[(i+1)%3].restart()
			}
			w.run(12 * time.Hour)
		}
		for _, n := range w.nodes {
			if got := n.history(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s has %d texts of %d", n.name, len(got), len(want))
			}
			for name, mixes := range n.machine.(*member.Machine).RootMixes() {
				// One by the answer; then one each way in each of three weeks.
				if off && mixes != 1 || !off && mixes < 5 {
					t.Errorf("off %v: %d root mixes of %s's session with %s", off, mixes, n.name, name)
				}
			}
		}
		w.quiet()
	}
}

// TestReinforcedFewAtATime: control slots are spread over bundles.
func TestReinforcedFewAtATime(t *testing.T) {
	names := []string{"Ann"}
	for i := range 12 {
		names = append(names, fmt.Sprint("M", i))
	}
	w := newWorldOf(t, 1, remembered(), names...)
	w.group(false)
	for _, n := range w.nodes {
		n.must(member.SendText{Text: "hello", Wait: member.WaitAll})
	}
	ann := w.nodes[0]
	w.run(time.Minute)
	ann.controls = nil
	for range 4 {
		ann.must(member.SendText{Text: "x", Wait: member.WaitAll})
	}
	sum := 0
	for _, n := range ann.controls {
		if sum += n; n > 8 {
			t.Errorf("%d control slots in one bundle, at most 8", n)
		}
	}
	if sum != 12 {
		t.Errorf("%d control slots to 12 members", sum)
	}
}
