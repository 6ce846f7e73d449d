package member_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/store"
)

// remembered is a Verify that remembers answers: the runs of one scenario are
// the same until the crash, so that most of them are asked again.
func remembered() keys.Verify {
	seen := map[string]bool{}
	var mu sync.Mutex // worlds run side by side
	return func(key [32]byte, message, signature []byte) bool {
		k := string(key[:]) + string(signature) + string(message)
		mu.Lock()
		ok, had := seen[k]
		mu.Unlock()
		if !had {
			ok = keys.Ed25519(key, message, signature)
			mu.Lock()
			seen[k] = ok
			mu.Unlock()
		}
		return ok
	}
}

// scenario is founding, inviting, joining and talking both ways, as a person
// does it who repeats what was not answered.
type scenario struct {
	*world
	ann, bob *memberNode
	link     string
}

func (s *scenario) until(what string, done func() bool) {
	s.t.Helper()
	for range 600 {
		if done() {
			return
		}
		s.run(200 * time.Millisecond)
	}
	s.t.Fatalf("%s: not within two minutes", what)
}

func (n *memberNode) ready() bool {
	v, err := n.do(member.GetStatus{})
	return err == nil && v.(member.Status).Ready
}

// ask repeats a wish until it is answered without "unreached".
func (s *scenario) ask(n *memberNode, w member.Wish) any {
	s.t.Helper()
	for range 20 {
		v, err := n.do(w)
		if err == nil {
			return v
		}
		if !errors.Is(err, member.ErrUnreached) && !strings.HasPrefix(err.Error(), "no answer") {
			s.t.Fatalf("%s: %s: %v", n.name, w.Wish(), err)
		}
	}
	s.t.Fatalf("%s: %s is never answered", n.name, w.Wish())
	return nil
}

// say sends a text unless the store has it already.
func (s *scenario) say(n *memberNode, text string) {
	s.t.Helper()
	for range 20 {
		if slices.Contains(n.history(), n.name+": "+text) {
			return
		}
		if _, err := n.do(member.SendText{Text: text}); err == nil {
			return
		}
	}
	s.t.Fatalf("%s cannot say %q", n.name, text)
}

func (s *scenario) play() {
	s.t.Helper()
	var spots []member.FoundingSpot
	for _, r := range s.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
	}
	found := member.CreateGroup{Group: "Test", Name: "Ann", Relays: spots, Deadline: 3 * time.Second}
	s.until("founding", func() bool {
		_, err := s.ann.do(found)
		return err == nil || errors.Is(err, member.ErrTaken) && s.ann.ready()
	})
	s.link = s.ask(s.ann, member.MakeInvite{}).(member.InviteInfo).Link
	s.until("joining", func() bool {
		_, err := s.bob.do(member.JoinGroup{Link: s.link, Name: "Bob"})
		return err == nil || errors.Is(err, member.ErrTaken) && s.bob.ready()
	})
	s.run(time.Second)
	s.say(s.ann, "to bob")
	s.run(time.Second)
	s.say(s.bob, "to ann")
	s.say(s.ann, "again")
	s.run(40 * time.Second)
}

// at plays the scenario with one node that crashes at its k-th write; false if
// it does not write as often.
func (s *scenario) at(who string, k int, lost bool) *crash {
	c := &crash{at: k, lost: lost}
	switch who {
	case "Ann":
		s.ann.crash = c
	case "Bob":
		s.bob.crash = c
	default:
		s.relays[0].crash = c
	}
	return c
}

// TestCrashAtEveryWrite reopens one node from its store right after its k-th
// write, and right before it, for every k there is: everybody shows every text
// once, nothing waits any more, nobody is alarmed.
func TestCrashAtEveryWrite(t *testing.T) {
	verify := remembered()
	for _, who := range []string{"Ann", "Bob", "R1"} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/lost=%v", who, lost), func(t *testing.T) {
				t.Parallel()
				for k := 1; ; k++ {
					w := newWorldOf(t, 3, verify, "Ann", "Bob")
					w.single = true
					s := &scenario{world: w, ann: w.nodes[0], bob: w.nodes[1]}
					c := s.at(who, k, lost)
					s.play()
					w.everybody("Ann: to bob", "Bob: to ann", "Ann: again")
					for _, n := range w.nodes {
						if a := n.alarms(); len(a) > 0 {
							t.Errorf("%s has alarms %q", n.name, a)
						}
						st := n.must(member.GetStatus{}).(member.Status)
						if st.Outbox != 0 || len(st.Members) != 2 || st.Disputes != 0 {
							t.Errorf("%s: %+v", n.name, st)
						}
						for _, row := range n.must(member.GetPaths{}).(member.Paths).Messages {
							for r, mark := range row.Marks {
								if mark != "matched" {
									t.Errorf("%s: %q on %s: %s", n.name, row.Text, r, mark)
								}
							}
						}
					}
					for r := range w.relays { // a receipt and the end of its post are one write
						if a, b := len(s.ann.receipts(r)), len(s.bob.receipts(r)); a < 3 || b != 2 {
							t.Errorf("receipts of R%d: Ann has %d, Bob %d", r+1, a, b)
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
}

// TestFoundingWithARelayDown: a founding that cannot end waits without a stir,
// and ends when the relay is there.
func TestFoundingWithARelayDown(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	w.relays[2].down = true
	var spots []member.FoundingSpot
	for _, r := range w.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
	}
	ann := w.nodes[0]
	if _, err := ann.do(member.CreateGroup{Group: "Test", Name: "Ann", Relays: spots}); !errors.Is(err, member.ErrUnreached) {
		t.Errorf("a relay is down: %v", err)
	}
	w.run(time.Minute)
	w.relays[2].down = false
	w.run(time.Minute)
	if !ann.ready() {
		t.Error("the relay is back and the group is not founded")
	}
}

// TestMailboxLost: a relay that is restored from before a member registered
// does not know its mailbox: the member registers again and reads on.
func TestMailboxLost(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	ann, bob := w.nodes[0], w.nodes[1]
	var spots []member.FoundingSpot
	for _, r := range w.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
	}
	ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: spots, Deadline: 3 * time.Second})
	link := ann.must(member.MakeInvite{}).(member.InviteInfo).Link
	w.run(time.Second)
	r := w.relays[2]
	before := r.store.Snapshot()
	bob.must(member.JoinGroup{Link: link, Name: "Bob"})
	bob.must(member.SendText{Text: "one", Wait: member.WaitAll})
	w.run(20 * time.Second)
	r.stop()
	r.store, r.units, r.down = before, map[store.Unit]*actor{}, false
	w.run(30 * time.Second)
	ann.must(member.SendText{Text: "two", Wait: member.WaitAll})
	bob.must(member.SendText{Text: "three", Wait: member.WaitAll})
	w.run(30 * time.Second)
	w.everybody("Bob: one", "Ann: two", "Bob: three")
	w.quiet()
	for _, n := range w.nodes {
		for _, p := range n.must(member.GetStatus{}).(member.Status).Relays {
			if !p.Connected || !p.CaughtUp {
				t.Errorf("%s: %+v", n.name, p)
			}
		}
		rows := n.must(member.GetPaths{}).(member.Paths).Messages
		for _, row := range rows[1:] {
			if row.Marks["R3"] != "matched" {
				t.Errorf("%s: %q on R3: %s", n.name, row.Text, row.Marks["R3"])
			}
		}
	}
}
