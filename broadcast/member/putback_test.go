package member_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// TestPutBack: a folder is put back to an older copy of itself, after it sent,
// after both ends turned their ratchets, or after it announced itself. The
// membership goes on under a new incarnation before it posts anything: nothing is
// lost that anybody still has, nobody is alarmed or blamed, and no relay is named.
func TestPutBack(t *testing.T) {
	for name, meanwhile := range map[string]func(w *world, ann, bob *memberNode) (texts []string){
		"one text": func(w *world, _, bob *memberNode) []string {
			bob.must(member.SendText{Text: "lost", Wait: member.WaitAll})
			w.run(time.Second)
			return []string{"Bob: lost"}
		},
		"turned ratchets": func(w *world, ann, bob *memberNode) []string {
			var texts []string
			for range 3 {
				bob.must(member.SendText{Text: "ping", Wait: member.WaitAll})
				ann.must(member.SendText{Text: "pong", Wait: member.WaitAll})
				w.run(time.Second)
				texts = append(texts, "Bob: ping", "Ann: pong")
			}
			return texts
		},
		"an announcement": func(w *world, ann, bob *memberNode) []string {
			bob.must(member.SendText{Text: "lost", Wait: member.WaitAll})
			w.run(8 * day)
			ann.must(member.SendText{Text: "pong", Wait: member.WaitAll})
			w.run(time.Second)
			return []string{"Bob: lost", "Ann: pong"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3, "Ann", "Bob", "Cy")
			w.group(false)
			ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
			bob.must(member.SendText{Text: "before", Wait: member.WaitAll})
			w.run(time.Minute)
			older := bob.store.Snapshot()
			w.run(2 * day)
			want := append([]string{"Bob: before"}, meanwhile(w, ann, bob)...)
			bob.leave()
			w.run(time.Hour)

			said := len(bob.events)
			bob.store = older
			bob.offline = false
			bob.restart()
			bob.do(member.SendText{Text: "at once", Wait: member.WaitNone})
			w.run(5 * time.Minute)
			bob.must(member.SendText{Text: "afterwards", Wait: member.WaitAll})
			ann.must(member.SendText{Text: "heard", Wait: member.WaitAll})
			w.run(time.Minute)
			want = append(want, "Bob: at once", "Bob: afterwards", "Ann: heard")
			ann.sees(want...)
			cy.sees(want...)
			for _, text := range want {
				if strings.HasPrefix(text, "Ann: ") && !slices.Contains(bob.history(), text) {
					t.Errorf("Bob does not have %q", text)
				}
			}
			w.run(20 * day)
			bob.must(member.SendText{Text: "weeks later", Wait: member.WaitAll})
			w.run(time.Minute)
			want = append(want, "Bob: weeks later")
			ann.sees(want...)
			cy.sees(want...)
			w.quiet()
			for _, n := range w.nodes {
				lines := map[member.EventKind][]string{}
				for _, e := range n.events {
					lines[e.Kind] = append(lines[e.Kind], e.Text)
				}
				if len(lines[member.EventRelay]) > 0 {
					t.Errorf("%s is told of relays: %q", n.name, lines[member.EventRelay])
				}
				again := slices.DeleteFunc(slices.Clone(lines[member.EventSession]), func(s string) bool { return !strings.Contains(s, "new installation") })
				if n != bob && len(again) != 1 {
					t.Errorf("%s is told %q", n.name, lines[member.EventSession])
				}
			}
			var own []string
			for _, e := range bob.events[said:] {
				if e.Kind == member.EventSession && e.Own {
					own = append(own, e.Text)
				}
			}
			if len(own) != 2 || !strings.Contains(own[0], "an older copy") || !strings.Contains(own[1], "You are back in") || strings.Contains(own[1], "backup") {
				t.Errorf("Bob is told %q", own)
			}
		})
	}
}

// TestPutBackAdmin: an admin's older copy makes no second operation under one number,
// though it is told to before any relay has answered.
func TestPutBackAdmin(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	older := ann.store.Snapshot()
	deadline := 40 * time.Second
	ann.must(member.SetPolicy{Deadline: &deadline})
	w.run(time.Minute)
	ann.leave()
	ann.store, ann.offline = older, false
	ann.restart()
	later := 50 * time.Second
	if _, err := ann.do(member.SetPolicy{Deadline: &later}); err == nil || !strings.Contains(err.Error(), "backup or an older copy") {
		t.Errorf("the policy is changed from an older copy: %v", err)
	}
	w.run(time.Minute)
	ann.must(member.SetPolicy{Deadline: &later})
	w.run(time.Minute)
	for _, n := range []*memberNode{ann, bob} {
		info := n.must(member.GetRoster{}).(member.RosterInfo)
		if info.Policy.Deadline != later || len(info.Disputes) > 0 {
			t.Errorf("%s has deadline %v, disputes %+v", n.name, info.Policy.Deadline, info.Disputes)
		}
	}
	w.quiet()
}

// TestNotPutBack: none of this happens where nothing was put back, whatever restarts.
func TestNotPutBack(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	for range 5 {
		bob.must(member.SendText{Text: "ping", Wait: member.WaitAll})
		bob.restart()
		ann.must(member.SendText{Text: "pong", Wait: member.WaitAll})
		w.relays[0].stop()
		w.run(time.Second)
		w.relays[0].down = false
		w.run(time.Minute)
	}
	for _, e := range bob.events {
		if strings.Contains(e.Text, "older copy") {
			t.Error(e.Text)
		}
	}
}
