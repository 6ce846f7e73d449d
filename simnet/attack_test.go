package simnet

import (
	"flag"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

var attackSeed = flag.Uint64("seed", 1, "the seed of TestAttackSeed")

// TestAttackSeed substitutes a key in a world drawn from a seed, with delay and
// jitter: the victim notices, the false seat reads nothing, everybody else gets
// everything, the liar convicts itself and nobody else is convicted.
func TestAttackSeed(t *testing.T) {
	t.Logf("seed %d", *attackSeed)
	s := NewScenario(Config{Seed: *attackSeed})
	r := s.Rand("attack")
	s.AddRelays(3)
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
		s.AddMember(name)
	}
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(s.Create(s.Node("alice"), false, 10*time.Second))
	step(s.Join(s.Members[1:4]...))
	step(s.Run(15 * time.Second))
	net := s.Net()
	net.Jitter = between(r, 0, 80*time.Millisecond)
	liar := s.Relays[r.IntN(3)]
	step(s.Substitute([]*Relay{liar}, "erin", "bob", "mallory", false))
	erin := s.Node("erin")
	step(s.Join(erin))
	step(s.Run(time.Second))

	noticed := func() bool {
		for _, e := range erin.Events {
			if m, ok := e.Body.(member.Event); ok && m.Kind == member.EventDispute && strings.Contains(m.Text, "bob") {
				return true
			}
		}
		return false
	}
	if !noticed() {
		t.Error("erin had not noticed the substitution when she joined")
	}
	var texts []string
	for _, n := range s.Members[:5] {
		text := n.Name() + " says it"
		_, err := s.Do(n, member.SendText{Text: text})
		step(err)
		texts = append(texts, text)
		step(s.Run(between(r, 0, 2*time.Second)))
	}
	step(s.Run(40 * time.Second))

	for _, n := range s.Members {
		events, err := s.History(n, 0)
		step(err)
		got := map[string]int{}
		for _, e := range events {
			switch e.Kind {
			case member.EventMessage:
				got[e.Text]++
			case member.EventBlame:
				t.Errorf("%s blames a member: %s", n.Name(), e.Text)
			}
		}
		if n.Name() == "mallory" {
			if len(got) > 0 {
				t.Errorf("the false seat read %v", got)
			}
			continue
		}
		for _, text := range texts {
			if got[text] != 1 {
				t.Errorf("%s was shown %q %d times", n.Name(), text, got[text])
			}
		}
		v, err := s.Do(n, member.GetStatus{})
		step(err)
		for i, p := range v.(member.Status).Relays {
			if lied := s.Relays[i] == liar; p.SetAside != lied {
				t.Errorf("%s: relay %s set aside: %v, lied: %v", n.Name(), p.Label, p.SetAside, lied)
			}
		}
	}
}
