package adversary

import (
	"io"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// Posting is one forged post and where it goes.
type Posting struct {
	Relay   keys.RelayPublic
	Channel wire.ChannelID
	Post    proto.Message // signed
}

// Poster is a machine of nobody's membership: it dials the relays of its
// postings, honest ones too, posts what it has for each, and hears nothing. It
// implements broadcast.Machine.
type Poster struct {
	postings []Posting
	at       map[broadcast.Link]*Posting
	out      []broadcast.Send
	wanted   bool
}

// OpenPoster opens a Poster.
func OpenPoster(postings []Posting) broadcast.Open {
	return func(store.Unit, store.Reader, broadcast.Entropy) (broadcast.Machine, error) {
		return &Poster{postings: postings, at: map[broadcast.Link]*Posting{}}, nil
	}
}

// Step implements broadcast.Machine.
func (m *Poster) Step(_ time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Up:
		for i := range m.postings {
			if p := &m.postings[i]; p.Relay == in.Relay {
				m.at[in.Link] = p
				m.say(in.Link, proto.Hello{Min: proto.Version, Max: proto.Version, Channel: p.Channel})
			}
		}
	case broadcast.Down:
		delete(m.at, in.Link)
	case broadcast.Received:
		if in.Frame.Type == proto.TypeWelcome && m.at[in.Link] != nil {
			m.say(in.Link, m.at[in.Link].Post)
		}
	}
	return nil
}

func (m *Poster) say(l broadcast.Link, msg proto.Message) {
	m.out = append(m.out, broadcast.Send{Link: l, Frame: proto.Encode(msg)})
}

// Tick implements broadcast.Machine.
func (*Poster) Tick(time.Time) {}

// Ready implements broadcast.Machine.
func (m *Poster) Ready() broadcast.Ready {
	r := broadcast.Ready{Now: m.out}
	m.out = nil
	if !m.wanted {
		m.wanted = true
		for _, p := range m.postings {
			r.Links = append(r.Links, broadcast.WantLink{Relay: p.Relay, Use: broadcast.PostLink})
		}
	}
	return r
}

// Forge makes the post of an envelope that nobody wrote, with slots of random
// bytes for the given mailboxes, those of hellos or ordinary ones: whoever holds an
// epoch key can post it under any seat's next number. It is not signed yet.
func (i *Insider) Forge(envelope []byte, boxes []wire.MailboxID, class broadcast.Class, random io.Reader) proto.Post {
	slots := make([]byte, len(boxes)*class.Size())
	draw(random, slots)
	p := i.Post(envelope, slots, boxes, random)
	if class != broadcast.Standing {
		for at := range boxes {
			p.Exceptions = append(p.Exceptions, broadcast.Exception{Index: uint16(at), Class: class})
		}
	}
	return p
}

// Post makes the post of an envelope with slots for the given mailboxes, which are
// sorted. It is not signed yet.
func (i *Insider) Post(envelope, slots []byte, boxes []wire.MailboxID, random io.Reader) proto.Post {
	e := i.Epoch[len(i.Epoch)-1]
	p := proto.Post{Hint: broadcast.Hint(e, i.Relay), Fanout: broadcast.FanoutHash(boxes), Mailboxes: boxes,
		Envelope: append([]byte(nil), envelope...), Slots: append([]byte(nil), slots...)}
	draw(random, p.PostID[:])
	draw(random, p.Nonce[:])
	broadcast.Mask(p.Envelope, e, i.Relay, p.Nonce, 0)
	broadcast.Mask(p.Slots, e, i.Relay, p.Nonce, len(envelope))
	return p
}

// Announce makes the post of a digest under which there is no envelope. It is
// not signed yet.
func (i *Insider) Announce(d wire.Digest, random io.Reader) proto.PostDigest {
	e := i.Epoch[len(i.Epoch)-1]
	p := proto.PostDigest{Hint: broadcast.Hint(e, i.Relay)}
	draw(random, p.PostID[:])
	draw(random, p.Nonce[:])
	p.Sealed = broadcast.SealDigest(i.Group, e, i.Relay, p.Nonce, d)
	return p
}
