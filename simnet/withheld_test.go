package simnet

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

// TestWithheldByAll: every relay keeps one text of each of eleven members from a
// twelfth, for good. Nothing is missing there by its senders' own words, who say
// nothing more for long; it learns of all of them from the views of the few who speak
// first, and gets them.
func TestWithheldByAll(t *testing.T) {
	t.Parallel()
	x := NewScript(nil)
	do := func(format string, a ...any) {
		t.Helper()
		if _, err := x.Do(fmt.Sprintf(format, a...)); err != nil {
			t.Fatal(err)
		}
	}
	speakers := []string{"alice", "bob", "carol", "dave", "erin", "frank", "gina", "hank", "ida", "jane", "kim"}
	do("relays 3")
	do("members victim %s", strings.Join(speakers, " "))
	do("create alice deadline=10s")
	do("join victim %s", strings.Join(speakers[1:], " "))
	do("run 60s")
	for _, n := range append(speakers, "victim") {
		do("send %s \"hello\"", n)
	}
	do("run 60s")
	do("lie 1,2,3 withhold victim=victim")
	for _, n := range speakers {
		do("send %s \"hidden\"", n)
		do("run 10s")
	}
	for _, r := range x.s.Relays { // what was shown bare stays so, what comes is shown
		r.Rewriter.Stubborn = true
		r.Rewriter.Lie = func(m proto.Message, _ io.Reader) []proto.Message { return []proto.Message{m} }
	}
	began := x.s.Elapsed()
	do("send bob \"later\"")
	do("run 60s")
	do("send carol \"later\"")
	do("run 4m")
	events, err := x.s.History(x.s.Members[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, e := range events {
		if e.Kind == member.EventMessage && e.Text == "hidden" {
			got++
			if after := e.Time.Sub(x.s.cfg.Start) - began; after > 4*time.Minute {
				t.Errorf("one came after %v", after)
			}
		}
	}
	if got != len(speakers) {
		t.Errorf("%d of %d texts came", got, len(speakers))
	}
}
