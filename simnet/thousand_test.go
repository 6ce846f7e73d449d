package simnet

import (
	"flag"
	"testing"
	"time"

	"parallax/broadcast/member"
)

var manyMembers = flag.Int("members", 100, "how many members TestThousand lays down")

func TestLaidDown(t *testing.T) {
	begun := time.Now()
	s := NewScenario(Config{Seed: 1, Limit: 1 << 40})
	s.Honest = true
	s.Relay.Limits.PostsPerMinute = 1 << 20
	s.AddRelays(5)
	l, err := layDown(s, *manyMembers, member.CreateGroup{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("laid %v", time.Since(begun))
	var awake []*Node
	for i := range 10 {
		n := map[int]*Node{0: l.founder, 1: l.witness}[i]
		if n == nil {
			n = s.AddMember(l.seats[i].name)
		}
		l.wake(n, i)
		awake = append(awake, n)
	}
	t.Logf("awake %v", time.Since(begun))
	if err := s.Run(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	t.Logf("run %v", time.Since(begun))
	for _, n := range awake {
		v, err := s.Do(n, member.SendText{Text: "from " + n.name, Wait: member.WaitAll})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %+v", n.name, v)
	}
	if err := s.Run(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, n := range awake {
		t.Log(n.name, s.shown(n), n.Refusals)
		v, err := s.Do(n, member.GetStatus{})
		if err != nil {
			t.Fatal(err)
		}
		st := v.(member.Status)
		ok := 0
		for _, m := range st.Members {
			if m.Session {
				ok++
			}
		}
		t.Logf("%d members, %d sessions %+v", len(st.Members), ok, st.Relays[0])
		for _, e := range n.Events {
			if m, ok := e.Body.(member.Event); ok && m.Kind != member.EventMessage && m.Kind != member.EventJoined {
				t.Logf("%+v", m)
				break
			}
		}
	}
	t.Logf("run %v", time.Since(begun))
}
