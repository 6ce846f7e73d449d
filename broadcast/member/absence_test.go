package member_test

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
)

var waiting = flag.Int("waiting", 300, "messages that wait in TestLongAbsence; continuous integration takes 10000")

// TestLongAbsence: a member that was away for three weeks takes what waits in
// turns of 256 frames: memory does not grow with what waits, a crash at any
// moment loses and doubles nothing, and people see how far it is.
func TestLongAbsence(t *testing.T) {
	w := newWorldOf(t, 3, remembered(), "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
	db, err := pebble.Open(t.TempDir(), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	bob.disk = moved(t, bob, db)
	bob.leave()
	bob.atOnce = 256
	var want []string
	for i := range *waiting {
		n := ann
		if i%5 == 4 {
			n = cy
		}
		text := fmt.Sprintf("message %d, of some length, as people write them when somebody is away for weeks", i)
		n.command++
		n.in = append(n.in, broadcast.Command{ID: n.command, Wish: member.SendText{Text: text, Wait: member.WaitNone}})
		if i%20 == 19 {
			w.run(0)
		}
		if i%500 == 499 { // as fast as relays take posts
			w.run(time.Minute)
		}
		want = append(want, n.name+": "+text)
		ann.events, cy.events = nil, nil
		if i%max(1, *waiting/4) == 0 {
			w.run((21*day - 2*time.Hour) / 4) // relays keep 21 days
		}
	}
	w.run(time.Minute)
	ann.leave()
	cy.leave()
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	bob.offline = false
	bob.restart()
	bob.events, bob.writes, bob.most = nil, 0, 0
	var peak uint64
	progress, turns, crashes := 0, 0, 0
	shown := map[string]int{}
	for quiet := 0; quiet < 3; {
		c := &crash{every: 5, at: -1 << 30}
		if crashes > 0 {
			c = &crash{}
		}
		bob.crash = c
		w.run(500 * time.Millisecond)
		if c.every > 0 {
			crashes = c.writes / c.every
		}
		if turns += c.writes; c.writes == 0 {
			quiet++
		}
		for _, e := range bob.events {
			switch e.Kind {
			case member.EventProgress:
				progress++
			case member.EventMessage:
				shown[e.ID]++
			}
		}
		bob.events = nil
		if now := heap(); now > before {
			peak = max(peak, now-before)
		}
	}
	got := bob.history()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		missing := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(got, s) })
		t.Errorf("%d of %d messages are in the history; missing %q", len(got), len(want), missing[:min(len(missing), 5)])
	}
	for id, n := range shown {
		if n > 1 {
			t.Errorf("%s is shown %d times", id, n)
		}
	}
	if crashes == 0 {
		t.Error("no crash")
	}
	if bob.most > 256 {
		t.Errorf("%d inputs in one turn", bob.most)
	}
	if *waiting*3 > 256 && progress == 0 {
		t.Error("no progress is told")
	}
	const limit = 24 << 20
	if peak > limit {
		t.Errorf("the heap grows by %d MiB", peak>>20)
	}
	t.Logf("%d messages: %d turns (one fsync each), %d crashes, heap +%.1f MiB at most, %d hints of progress", *waiting, turns, crashes, float64(peak)/(1<<20), progress)
}

// moved copies what a member has into another store.
func moved(t *testing.T, n *memberNode, to store.Store) store.Store {
	t.Helper()
	kvs, _, err := n.store.Scan(n.unit[:], append(slices.Clone(n.unit[:]), 0xff), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for _, kv := range kvs {
		ops = append(ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	if err := to.Apply([]store.Batch{{Unit: n.unit, Ops: ops}})[0]; err != nil {
		t.Fatal(err)
	}
	return to
}
