package adversary

import (
	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Insider reads what passes a relay as a coalition does that holds the group's
// invitation: names and values of board entries, and whose a bundle is. What
// the bundle says stays closed to it.
type Insider struct {
	Relay keys.RelayPublic
	Group wire.GroupID
	Door  *keys.DoorKey
	Epoch []*keys.EpochKey // as far as known
}

// Entry opens the board entry that a BoardPut or an Admit writes; ok is false
// for other messages and for entries under keys not known.
func (i *Insider) Entry(m proto.Message) (name string, value []byte, ok bool) {
	var put proto.BoardPut
	switch m := m.(type) {
	case proto.BoardPut:
		put = m
	case proto.Admit:
		put = m.BoardPut
	default:
		return "", nil, false
	}
	secrets := [][]byte{i.Door.Expose()}
	for _, e := range i.Epoch {
		secrets = append(secrets, e.Expose())
	}
	for _, s := range secrets {
		if name, value, err := broadcast.NewBoardKeys(s, i.Relay).Open(put.Name, put.Version, put.Value); err == nil {
			return name, value, true
		}
	}
	return "", nil, false
}

// Sender is the seat in the sealed header of a Post.
func (i *Insider) Sender(m proto.Message) (wire.Seat, bool) {
	post, ok := m.(proto.Post)
	if !ok {
		return wire.Seat{}, false
	}
	for _, e := range i.Epoch {
		envelope := append([]byte(nil), post.Envelope...)
		broadcast.Mask(envelope, e, i.Relay, post.Nonce, 0)
		if h, _, err := broadcast.ReadHeader(i.Group, e, envelope); err == nil {
			return h.Seat, true
		}
	}
	return wire.Seat{}, false
}
