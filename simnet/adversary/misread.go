package adversary

import (
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
)

// Misread makes a dishonest member out of an honest one: it believes that Relay
// signed another board root than it did, from the first number on, and says so:
// in the view of everything it sends, in the statement that it shows the relay,
// and in statement exchanges, where it accuses the relay of two statements for
// one number. Its opener must check signatures with Verify.
type Misread struct{ Relay keys.RelayPublic }

// Verify believes everything that the relay is said to have signed.
func (w *Misread) Verify(honest keys.Verify) keys.Verify {
	return func(pub [32]byte, message, sig []byte) bool {
		return pub == [32]byte(w.Relay) || honest(pub, message, sig)
	}
}

// Wrap returns the dishonest way to open a membership.
func (w *Misread) Wrap(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := open(u, r, e)
		if err != nil {
			return nil, err
		}
		return &misreading{m, w, map[broadcast.Link]bool{}}, nil
	}
}

// misreading is one life of a membership. It implements broadcast.Machine.
type misreading struct {
	broadcast.Machine
	w     *Misread
	links map[broadcast.Link]bool // to the relay
}

// Step implements broadcast.Machine.
func (m *misreading) Step(now time.Time, in broadcast.Input) error {
	switch x := in.(type) {
	case broadcast.Up:
		m.links[x.Link] = x.Relay == m.w.Relay
	case broadcast.Down:
		delete(m.links, x.Link)
	case broadcast.Received:
		msg, err := proto.Parse(x.Frame)
		if err != nil || !m.links[x.Link] {
			break
		}
		switch e := msg.(type) {
		case proto.Deliver:
			e.Root[0] ^= 1
			msg = e
		case proto.DeliverDigest:
			e.Root[0] ^= 1
			msg = e
		case proto.Bare:
			e.Root[0] ^= 1
			msg = e
		case proto.Entry:
			e.Root[0] ^= 1
			msg = e
		default:
			return m.Machine.Step(now, in)
		}
		in = broadcast.Received{Link: x.Link, Frame: proto.Encode(msg)}
	}
	return m.Machine.Step(now, in)
}
