package adversary

import (
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// Rollback is a relay on an older copy of its disk that does not admit it: when
// a member shows a statement that the log does not reach any more, or one of
// another lineage, it goes on in its own instead of beginning a new one, and signs that it was
// shown what it was shown, as the member demands. The machine inside must check
// no signatures on Open while Armed (Verify), since what it is handed was
// changed. The zero value with Key set is honest.
type Rollback struct {
	Key   keys.RelayPrivate
	Armed bool
}

// Verify is what the machine inside checks signatures with.
func (b *Rollback) Verify(honest keys.Verify) keys.Verify {
	return func(pub [32]byte, message, sig []byte) bool { return b.Armed || honest(pub, message, sig) }
}

// Wrap returns the dishonest way to open machines.
func (b *Rollback) Wrap(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := open(u, r, e)
		if err != nil {
			return nil, err
		}
		return &rolledBack{m, b, map[broadcast.Link]*rolledLink{}}, nil
	}
}

// rolledBack is one life of a channel. It implements broadcast.Machine.
type rolledBack struct {
	broadcast.Machine
	back  *Rollback
	links map[broadcast.Link]*rolledLink
}

type rolledLink struct {
	nonce proto.Nonce
	shown *crossverify.Statement // by the member; nil: nothing was changed
	after uint64                 // the member has read up to here
	of    wire.Lineage           // in this lineage
}

// Step implements broadcast.Machine.
func (m *rolledBack) Step(now time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Up:
		m.links[in.Link] = &rolledLink{}
	case broadcast.Down:
		delete(m.links, in.Link)
	case broadcast.Received:
		l := m.links[in.Link]
		msg, err := proto.Parse(in.Frame)
		o, ok := msg.(proto.Open)
		if err != nil || !ok || l == nil || !m.back.Armed || o.Known == nil {
			break
		}
		l.shown, l.after, l.of = o.Known, o.After, o.Lineage
		o.Known, o.After = nil, 0
		return m.Machine.Step(now, broadcast.Received{Link: in.Link, Frame: proto.Encode(o)})
	}
	return m.Machine.Step(now, in)
}

// Ready implements broadcast.Machine.
func (m *rolledBack) Ready() broadcast.Ready {
	r := m.Machine.Ready()
	r.Now, r.Sends = m.rewrite(r.Now), m.rewrite(r.Sends)
	return r
}

func (m *rolledBack) rewrite(sends []broadcast.Send) []broadcast.Send {
	out := sends[:0:0]
	for _, s := range sends {
		l := m.links[s.Link]
		msg, err := proto.Parse(s.Frame)
		if l == nil || err != nil {
			out = append(out, s)
			continue
		}
		switch msg := msg.(type) {
		case proto.Welcome:
			l.nonce = msg.Nonce
		case proto.Opened:
			if l.shown != nil {
				st := msg.Statement
				if st.Lineage != l.of {
					l.after = 0 // another log: the member has read nothing of it
				}
				o := crossverify.SignOpened(m.back.Key, st.Channel, l.nonce, l.shown.Position(), st.Lineage, st.N, st.H)
				s.Frame = proto.Encode(proto.OpenedFrame(st, o, msg.Read))
			}
		case proto.Deliver, proto.DeliverDigest, proto.Bare, proto.Entry:
			if l.shown != nil && numberOf(msg) <= l.after {
				continue // the member has this number already
			}
		}
		out = append(out, s)
	}
	return out
}
