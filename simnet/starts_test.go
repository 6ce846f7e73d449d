package simnet

import (
	"fmt"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// TestManyJoin: six others are more than a joiner begins at once, so its
// sessions are begun by jobs, whose outcomes come in an order of their own in
// every world. One seed is one trace all the same, and a text sent as soon as
// the joining is answered reaches everybody.
func TestManyJoin(t *testing.T) {
	join := func(seed uint64) string {
		s := NewScenario(Config{Seed: seed})
		s.Honest = true
		s.Invariant(func() error { return s.quiet() })
		s.AddRelays(3)
		for i := range 7 {
			s.AddMember(fmt.Sprintf("m%d", i))
		}
		if err := s.Create(s.Members[0], false, 0); err != nil {
			t.Fatal(err)
		}
		if err := s.Join(s.Members[1:6]...); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(15 * time.Second); err != nil {
			t.Fatal(err)
		}
		last := s.Members[6]
		if err := s.Join(last); err != nil {
			t.Fatal(err)
		}
		info, err := s.Do(last, member.SendText{Text: "here I am", Wait: member.WaitAll})
		if err != nil || info.(member.SentInfo).Members != 6 {
			t.Fatalf("seed %d: %+v, %v", seed, info, err)
		}
		if err := s.Run(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		for _, n := range s.Members {
			if s.shown(n) != 1 {
				t.Errorf("seed %d: %s did not get it", seed, n.Name())
			}
		}
		return s.Trace()
	}
	for seed := range uint64(3) {
		if a, b := join(seed), join(seed); a != b {
			t.Errorf("seed %d: two traces", seed)
		}
	}
}
