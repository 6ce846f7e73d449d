package adversary

import (
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
)

// Gate is a relay that does what it should and keeps some of its answers to
// itself. It signs nothing anew, so whoever misses something has a path that
// failed and no proof. The zero value with Relay set is honest.
type Gate struct {
	Relay keys.RelayPublic
	// Keep tells what never leaves; nil: everything leaves.
	Keep func(Place, proto.Message) bool
}

// Wrap returns the dishonest way to open machines.
func (g *Gate) Wrap(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := open(u, r, e)
		if err != nil {
			return nil, err
		}
		return &gated{m, g, map[broadcast.Link]Place{}}, nil
	}
}

// gated is one life of a channel. It implements broadcast.Machine.
type gated struct {
	broadcast.Machine
	gate  *Gate
	links map[broadcast.Link]Place
}

// Step implements broadcast.Machine.
func (m *gated) Step(now time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Up:
		m.links[in.Link] = Place{Relay: m.gate.Relay, Link: in.Link}
	case broadcast.Down:
		delete(m.links, in.Link)
	case broadcast.Received:
		if h, err := proto.Parse(in.Frame); err == nil {
			if h, ok := h.(proto.Hello); ok {
				m.links[in.Link] = Place{m.gate.Relay, h.Channel, in.Link}
			}
		}
	}
	return m.Machine.Step(now, in)
}

// Ready implements broadcast.Machine.
func (m *gated) Ready() broadcast.Ready {
	r := m.Machine.Ready()
	if m.gate.Keep != nil {
		r.Now, r.Sends = m.pass(r.Now), m.pass(r.Sends)
	}
	return r
}

func (m *gated) pass(sends []broadcast.Send) []broadcast.Send {
	out := sends[:0:0]
	for _, s := range sends {
		if msg, err := proto.Parse(s.Frame); err == nil && m.gate.Keep(m.links[s.Link], msg) {
			if s.Close {
				out = append(out, broadcast.Send{Link: s.Link, Close: true})
			}
			continue
		}
		out = append(out, s)
	}
	return out
}
