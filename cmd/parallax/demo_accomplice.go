package main

import (
	"context"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/node"
)

// demoAccomplice is the node behind the false seat: an ordinary membership,
// joined with the true link under the hidden member's name, that speaks to the
// lying relays only. What it shows is what leaked.
type demoAccomplice struct {
	*demoMember
	cancel func()
	joined chan struct{} // closed when its joining ended
}

// startAccomplice lets it join. Where the liars are no quorum the joining never
// completes; the seat stands on their boards all the same.
func startAccomplice(dir, name, link string, liars []*demoRelay) (*demoAccomplice, error) {
	reach := map[keys.RelayPublic]bool{}
	for _, r := range liars {
		reach[r.key.Public()] = true
	}
	a := &demoAccomplice{demoMember: newDemoMember(dir, "false-"+name), joined: make(chan struct{})}
	honest := a.open
	a.open = func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := honest(u, r, e)
		if err != nil {
			return nil, err
		}
		return &demoConfined{m, reach, map[uint64]bool{}}, nil
	}
	if err := a.start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() {
		defer close(a.joined)
		_, _ = a.node.Do(ctx, node.Request{Wish: member.JoinGroup{Link: link, Name: name}})
	}()
	until := time.Now().Add(demoEnd)
	for len(a.node.Groups()) == 0 && time.Now().Before(until) {
		time.Sleep(time.Millisecond)
	}
	a.listen()
	return a, nil
}

// read is how many texts of a seat it shows.
func (a *demoAccomplice) read(seat string) (n int) {
	for _, e := range a.events() {
		if e.Kind == member.EventMessage && e.Seat == seat {
			n++
		}
	}
	return n
}

// close ends it; a joining under way is given up first, since its folder goes
// with it.
func (a *demoAccomplice) close() {
	a.cancel()
	<-a.joined
	_ = a.stop()
}

// demoConfined is the accomplice's machine: it wants links to the liars only,
// and does not give up joining.
type demoConfined struct {
	broadcast.Machine
	reach map[keys.RelayPublic]bool
	joins map[uint64]bool
}

// Step implements broadcast.Machine.
func (c *demoConfined) Step(now time.Time, in broadcast.Input) error {
	if cmd, ok := in.(broadcast.Command); ok {
		if _, ok := cmd.Wish.(member.JoinGroup); ok {
			c.joins[cmd.ID] = true
		}
	}
	return c.Machine.Step(now, in)
}

// Ready implements broadcast.Machine.
func (c *demoConfined) Ready() broadcast.Ready {
	r := c.Machine.Ready()
	if r.Links != nil {
		links := []broadcast.WantLink{}
		for _, l := range r.Links {
			if c.reach[l.Relay] {
				links = append(links, l)
			}
		}
		r.Links = links
	}
	var answers []broadcast.Answer
	for _, a := range r.Answers {
		if a.Err == nil || !c.joins[a.ID] {
			answers = append(answers, a)
		}
	}
	r.Answers = answers
	return r
}
