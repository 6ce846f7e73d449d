package member_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

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
