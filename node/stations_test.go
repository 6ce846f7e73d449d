package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
)

// stations are real relays of one test; each keeps its port and its store.
type stations struct {
	t    *testing.T
	dir  string
	list []*station
}

// station is one relay.
type station struct {
	t      *testing.T
	n      byte
	dir    string
	listen []string
	r      *Relay // nil: it does not run
	s      store.Store
}

func newStations(t *testing.T, relays int) *stations {
	n := &stations{t: t, dir: t.TempDir()}
	for range relays {
		n.add()
	}
	return n
}

// add starts one relay more.
func (n *stations) add() *station {
	i := len(n.list)
	s := &station{t: n.t, n: byte(i + 1), dir: filepath.Join(n.dir, fmt.Sprint("relay", i)), listen: quietPort(n.t)[i%2:]}
	n.list = append(n.list, s)
	n.t.Cleanup(s.stop)
	s.start()
	return s
}

func (s *station) start() {
	s.s = openPebble(s.t, s.dir)
	s.r = startRelay(s.t, RelayConfig{Key: relayKey(s.n), Listen: s.listen, Store: s.s, Open: channels(s.n), Retry: time.Millisecond})
}

// stop ends the relay, if it runs.
func (s *station) stop() {
	if s.r == nil {
		return
	}
	closeRelay(s.t, s.r)
	s.r = nil
	if err := s.s.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *station) spot() member.FoundingSpot {
	return member.FoundingSpot{Key: relayKey(s.n).Public(), Addrs: s.listen, Token: "sesame"}
}

func (n *stations) spots() (list []member.FoundingSpot) {
	for _, s := range n.list {
		list = append(list, s.spot())
	}
	return list
}

// options are those of members on this machine: nobody waits long.
func (n *stations) options() Options {
	return Options{MemberConfig: MemberConfig{
		Open:    member.Open(member.Config{Limits: member.Limits{HelloWait: 100 * time.Millisecond, ExchangeJitter: time.Millisecond}}),
		Dialing: Dialing{First: 5 * time.Millisecond, Most: 50 * time.Millisecond},
	}}
}

// person opens the folder of that name.
func (n *stations) person(name string) *person {
	n.t.Helper()
	return &person{n.t, connect(n.t, filepath.Join(n.dir, name), n.options()), name}
}

// group founds a group of two on all relays; both have sessions when it returns.
func (n *stations) group() (ann, ben *person) {
	n.t.Helper()
	ann, ben = n.person("Ann"), n.person("Ben")
	ann.do(member.CreateGroup{Group: "bees", Name: "Ann", Relays: n.spots(), Deadline: 2 * time.Second})
	ben.do(member.JoinGroup{Link: ann.do(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Ben"})
	allSessions(n.t, ann)
	allSessions(n.t, ben)
	return ann, ben
}

// leave ends the person's process.
func (p *person) leave() {
	p.t.Helper()
	if err := p.Close(); err != nil {
		p.t.Error(err)
	}
}

// until asks for the status until it is as wanted.
func (p *person) until(what string, ok func(member.Status) bool) {
	p.t.Helper()
	var s member.Status
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if s = p.do(member.GetStatus{}).(member.Status); ok(s) {
			return
		}
	}
	p.t.Fatalf("%s: %s: never; %+v", p.name, what, s)
}

// texts counts the messages of a history, by their text.
func (p *person) texts() map[string]int {
	p.t.Helper()
	last := p.do(member.GetStatus{}).(member.Status).Events
	n := map[string]int{}
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	for e, err := range p.Events(ctx, "", 0) {
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			p.t.Fatal(err)
		}
		if e.Kind == member.EventMessage {
			n[e.Text]++
		}
		if e.Number >= last {
			break
		}
	}
	return n
}
