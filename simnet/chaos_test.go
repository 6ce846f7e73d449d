package simnet

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

var seeds = flag.Uint64("seeds", 0, "how many seeds TestHonestChaos and TestYear run; 0: 100 and 2")
var firstSeed = flag.Uint64("first", 1, "the first of them")

func seedsOr(def uint64) uint64 {
	if *seeds > 0 {
		return *seeds
	}
	return def
}

// With honest roles, whatever delay, loss, paths that overtake each other, crashes
// and clocks that are minutes off and drift do: nobody is alarmed, and every
// message is shown to everybody exactly once.
func TestHonestChaos(t *testing.T) {
	const workers = 2
	count := seedsOr(100)
	begun := time.Now()
	t.Cleanup(func() {
		t.Logf("%d seeds, %.3f s each on one of %d workers", count, time.Since(begun).Seconds()*workers/float64(count), workers)
	})
	for worker := range uint64(workers) {
		t.Run(fmt.Sprintf("worker %d", worker), func(t *testing.T) {
			t.Parallel()
			for seed := *firstSeed + worker; seed < *firstSeed+count; seed += workers {
				chaos(t, seed)
				if t.Failed() {
					t.Fatalf("seed %d: run it alone with -first %d -seeds 1", seed, seed)
				}
			}
		})
	}
}

// How far a clock is off, and by how many parts per million it is too fast or
// too slow: the drift is twenty times a bad quartz.
const (
	skewMost  = 10 * time.Minute
	driftMost = 2000
)

var chaosMembers = []string{"alice", "bob", "carol", "dave"}

func chaos(t *testing.T, seed uint64) (trace string) {
	cfg := Config{Seed: seed}
	if testing.Verbose() && *seeds == 1 {
		cfg.Log = func(line string) { t.Log(line) }
	}
	s := NewScenario(cfg)
	s.Honest = true
	s.Invariant(func() error { return s.quiet() })
	s.AddRelays(3 + 2*int(seed%5/4)) // every fifth time with digests
	for _, name := range chaosMembers {
		s.AddMember(name)
	}
	clocks := s.Rand("clocks")
	for _, n := range s.order {
		n.Stop() // a clock goes back only while nothing runs
		n.Skew(between(clocks, -skewMost, skewMost))
		n.Drift(driftMost - clocks.Int64N(2*driftMost+1))
		n.Start()
	}
	if err := s.Create(s.Node("alice"), false, 0); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := s.Join(s.Members[1:]...); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	// Who has no session with a member yet cannot read what that one sends.
	if err := s.Run(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	r := s.Rand("chaos")
	net := s.Net()
	net.Jitter, net.Stall, net.Break = 60*time.Millisecond, 0.02, 0.004

	const messages = 15
	const span = 40 * time.Second
	var texts []string
	for i := range messages {
		n := s.Members[r.IntN(len(s.Members))]
		text := fmt.Sprintf("%s says %d", n.Name(), i+1)
		texts = append(texts, text)
		var say func()
		say = func() { // a wish dies with the process: ask the history, not the answer
			if n.Up() && !s.said(n, text) {
				s.Wish(n, member.SendText{Text: text, Wait: member.WaitNone})
			}
			if !s.said(n, text) {
				s.At(5*time.Second, say) // a membership that was just opened lets it wait
			}
		}
		s.At(between(r, 0, span), say)
	}
	for range r.IntN(5) {
		n := s.order[r.IntN(len(s.order))]
		s.At(between(r, 0, span), func() {
			n.Crash()
			n.Skew(between(r, -skewMost, skewMost))
			s.At(between(r, 0, 3*time.Second), n.Start)
		})
	}
	for range r.IntN(4) { // what the pair's other paths carry overtakes it
		m, o := []string{s.Members[r.IntN(len(s.Members))].Name()}, []string{s.Relays[r.IntN(3)].Name()}
		by, begin := between(r, 0, 3*time.Second), between(r, 0, span)
		s.At(begin, func() { s.Slow(m, o, by) })
		s.At(begin+between(r, 0, span/2), func() { s.Slow(m, o, 0) })
	}
	if r.IntN(2) == 0 {
		m, o := s.Members[r.IntN(len(s.Members))].Name(), s.Relays[r.IntN(3)].Name()
		s.At(between(r, 0, span/2), func() { s.Partition([]string{m}, []string{o}) })
		s.At(span, s.Heal)
	}
	done := func() bool {
		return !slices.ContainsFunc(s.Members, func(n *Node) bool { return !n.Up() || s.shown(n) < messages })
	}
	err := s.Run(span)
	for until := s.Elapsed() + 3*time.Minute; err == nil && !done() && s.Elapsed() < until; {
		err = s.Run(time.Second)
	}
	if err == nil {
		err = s.Run(40 * time.Second) // what comes late must not be shown again
	}
	for until := s.Elapsed() + 10*time.Second; err == nil && underWay(t, s) && s.Elapsed() < until; {
		err = s.Run(time.Second)
	}
	if err != nil {
		t.Errorf("%v", err)
		return ""
	}
	for _, n := range s.order {
		for _, err := range n.Refusals {
			t.Errorf("seed %d: %s refused an input: %v", seed, n.Name(), err)
		}
	}
	for _, n := range s.Members {
		events, err := s.History(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, e := range events {
			if e.Kind == member.EventMessage {
				count[e.Text]++
			}
		}
		for _, text := range texts {
			if count[text] != 1 {
				t.Errorf("seed %d: %s was shown %q %d times", seed, n.Name(), text, count[text])
			}
		}
		v, err := s.Do(n, member.GetStatus{})
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, n.Name(), err)
		}
		st := v.(member.Status)
		for _, p := range st.Relays {
			if p.Dissented+p.Failed+p.Silent > 0 || p.SetAside || !p.CaughtUp || p.Outbox > 0 {
				t.Errorf("seed %d: %s: honest %s: %+v", seed, n.Name(), p.Label, p)
			}
		}
		if st.Evidence > 0 || st.Disputes > 0 {
			t.Errorf("seed %d: %s has %d pieces of evidence, %d disputes", seed, n.Name(), st.Evidence, st.Disputes)
		}
	}
	return s.Trace()
}

// quiet refuses an alarm as soon as it is shown, and any line about a relay but
// these.
func (s *Scenario) quiet(lines ...string) error {
	for _, n := range s.Members {
		for _, e := range n.Events[s.read[n.name]:] {
			s.read[n.name]++
			m, ok := e.Body.(member.Event)
			if !ok {
				continue
			}
			switch m.Kind {
			case member.EventDispute, member.EventEvidence, member.EventBlame, member.EventRelay:
				if m.Kind != member.EventRelay || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(m.Text, l) }) {
					return fmt.Errorf("%s is alarmed: %s: %s", n.name, m.Kind, m.Text)
				}
			}
		}
	}
	return nil
}

// said tells whether a member's history has a text of its own.
func (s *Scenario) said(n *Node, text string) bool {
	events, _ := s.History(n, 0)
	return slices.ContainsFunc(events, func(e member.Event) bool { return e.Own && e.Text == text })
}

// shown counts the messages of a member's history.
func (s *Scenario) shown(n *Node) (count int) {
	events, _ := s.History(n, 0)
	for _, e := range events {
		if e.Kind == member.EventMessage {
			count++
		}
	}
	return count
}

// underWay tells whether somebody posts something just now, such as an
// acknowledgement.
func underWay(t *testing.T, s *Scenario) bool {
	for _, n := range s.Members {
		v, err := s.Do(n, member.GetStatus{})
		if err != nil {
			t.Fatalf("%s: %v", n.Name(), err)
		}
		if slices.ContainsFunc(v.(member.Status).Relays, func(r member.RelayStatus) bool { return r.Outbox > 0 }) {
			return true
		}
	}
	return false
}

// The machines that ship are deterministic: one seed, one trace, byte for byte.
func TestSameSeedSameTrace(t *testing.T) {
	for seed := range uint64(3) {
		if a, b := chaos(t, seed+1000), chaos(t, seed+1000); a != b {
			t.Errorf("seed %d: the traces are %s and %s", seed+1000, a, b)
		}
	}
}
