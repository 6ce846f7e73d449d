package member_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/relay"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// honestRestores is a group whose third relay is honest and loses data, while
// members are away from it, or begin again from their stores.
type honestRestores struct {
	*world
	relay *relayNode
	unit  store.Unit
	copy  *memory.Store
	cut   bool // Bob from the relay
	said  []string
}

func newHonestRestores(t *testing.T, verify keys.Verify) *honestRestores {
	h := &honestRestores{world: newWorldOf(t, 3, verify, "Ann", "Bob", "Cy")}
	h.group(false)
	h.relay = h.relays[2]
	h.unit, h.copy = h.relay.unit(), h.relay.store.Snapshot()
	return h
}

func (h *honestRestores) speak(n *memberNode) {
	text := fmt.Sprint("text ", len(h.said))
	h.said = append(h.said, n.name+": "+text)
	n.must(member.SendText{Text: text})
}

// apart cuts Bob from the relay that is restored, and only from it, or ends that.
func (h *honestRestores) apart(cut bool) {
	bob, until := h.nodes[1], h.now
	if h.cut = cut; cut {
		until = until.AddDate(1, 0, 0)
	}
	for _, use := range []broadcast.Use{broadcast.ReadLink, broadcast.PostLink} {
		k := linkKey{h.relay.key.Public(), use}
		h.world.cut(bob.actor, bob.up[k])
		bob.after[k] = until
	}
}

func (h *honestRestores) restore(marked bool) {
	h.relay.stop()
	h.relay.store = h.copy.Snapshot()
	if marked {
		if _, err := relay.MarkRestored(h.relay.store); err != nil {
			h.t.Fatal(err)
		}
	}
	h.relay.again()
}

// step is one event. What an operator does who says to nobody that the store is an
// older one is left out while a member is away: the relay can sign under numbers
// that it used, as docs/operators.md has it.
func (h *honestRestores) step(what byte) {
	switch what {
	case 's':
		h.speak(h.nodes[len(h.said)%3])
		return // in the same moment as what follows
	case 'c':
		h.copy = h.relay.store.Snapshot()
		return
	case 'm':
		h.restore(true)
	case 'u':
		if h.cut {
			return
		}
		h.run(5 * time.Second)
		h.restore(false)
		h.run(5 * time.Second)
	case 'b':
		h.apart(!h.cut)
	case 'r':
		h.nodes[2].restart()
	}
	h.run(700 * time.Millisecond)
}

func (h *honestRestores) play(steps string) {
	for _, s := range []byte(steps) {
		h.step(s)
	}
	h.apart(false)
	h.run(30 * time.Second)
	for _, n := range h.nodes {
		h.speak(n)
	}
	h.run(90 * time.Second)
	h.everybody(h.said...)
	h.quiet()
	restores := strings.Count(steps, "m") + strings.Count(steps, "u")
	var at uint64
	for i, n := range h.nodes {
		lines := 0
		for _, e := range n.events {
			if e.Kind == member.EventRelay && (strings.Contains(e.Text, "lost data") || strings.Contains(e.Text, "another log")) {
				lines++
			}
		}
		if lines > 2*restores {
			h.t.Errorf("%s is told %d lines of %d restores", n.name, lines, restores)
		}
		for _, r := range n.must(member.GetStatus{}).(member.Status).Relays {
			if r.SetAside || !r.CaughtUp {
				h.t.Errorf("%s: %+v", n.name, r)
			}
			if r.Label != "R3" {
				continue
			}
			if i > 0 && r.Position != at {
				h.t.Errorf("%s stands at %d, Ann at %d: they are not in one log", n.name, r.Position, at)
			}
			at = r.Position
		}
	}
}

// TestHonestRestores: whatever a relay loses, as often as it likes, and whoever is
// away from it or begins again meanwhile: nobody is convicted, all end in one log
// and nothing is lost. All short courses, and some long ones.
func TestHonestRestores(t *testing.T) {
	const events = "scmubr"
	var courses []string
	for _, a := range events {
		for _, b := range events {
			courses = append(courses, "scs"+string(a)+string(b)+"ms")
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		var s []byte
		for range 10 {
			s = append(s, events[r.IntN(len(events))])
		}
		courses = append(courses, string(s))
	}
	verify := remembered()
	for i := range 2 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for j := i; j < len(courses); j += 2 {
				newHonestRestores(t, verify).play(courses[j])
				if t.Failed() {
					t.Fatalf("the course %q", courses[j])
				}
			}
		})
	}
}

// TestMailboxLostTwice: a relay that is restored twice from one copy, of before a
// member registered, has two lineages of one ordinal: the member shows it the one
// that it read, and no path fails.
func TestMailboxLostTwice(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	ann, bob := w.nodes[0], w.nodes[1]
	var spots []member.FoundingSpot
	for _, r := range w.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
	}
	ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: spots, Deadline: 3 * time.Second})
	link := ann.must(member.MakeInvite{}).(member.InviteInfo).Link
	w.run(time.Second)
	h := &honestRestores{world: w, relay: w.relays[2], copy: w.relays[2].store.Snapshot()}
	bob.must(member.JoinGroup{Link: link, Name: "Bob"})
	bob.must(member.SendText{Text: "one", Wait: member.WaitAll})
	for range 2 {
		ann.offline = true // Bob comes first
		h.restore(true)
		w.run(10 * time.Second)
		ann.offline = false
		w.run(10 * time.Second)
	}
	ann.must(member.SendText{Text: "two", Wait: member.WaitAll})
	bob.must(member.SendText{Text: "three", Wait: member.WaitAll})
	w.run(30 * time.Second)
	w.everybody("Bob: one", "Ann: two", "Bob: three")
	w.quiet()
	for _, n := range w.nodes {
		for _, e := range n.events {
			if strings.Contains(e.Text, "failed") {
				t.Errorf("%s is told: %s", n.name, e.Text)
			}
		}
		for _, r := range n.must(member.GetStatus{}).(member.Status).Relays {
			if !r.CaughtUp || r.Failed > 0 {
				t.Errorf("%s: %+v", n.name, r)
			}
		}
	}
}
