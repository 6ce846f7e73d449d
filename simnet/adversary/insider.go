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
	Relay    keys.RelayPublic
	Group    wire.GroupID
	Door     *keys.DoorKey
	Channels *keys.ChannelSecret
	Epoch    []*keys.EpochKey // as far as known, the group's first one first
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
	shelf := []broadcast.BoardKeys{i.Doors()}
	for _, e := range i.Epoch {
		shelf = append(shelf, i.Shelf(e))
	}
	for _, k := range shelf {
		if name, value, err := k.Open(put.Name, put.Version, put.Value); err == nil {
			return name, value, true
		}
	}
	return "", nil, false
}

// Doors seal and open what newcomers read.
func (i *Insider) Doors() broadcast.BoardKeys {
	return broadcast.NewBoardKeys(i.Door.Expose(), i.Relay).Named(broadcast.NewBoardKeys(i.Channels.Expose(), i.Relay))
}

// Shelf seals and opens what members write under an epoch.
func (i *Insider) Shelf(e *keys.EpochKey) broadcast.BoardKeys {
	return broadcast.NewBoardKeys(e.Expose(), i.Relay).Named(broadcast.NewBoardKeys(i.Epoch[0].Expose(), i.Relay))
}

// Header opens the sealed header of a Post or a Deliver, as whoever holds an
// epoch key can.
func (i *Insider) Header(m proto.Message) (h broadcast.Header, ok bool) {
	h, _, ok = i.read(m)
	return h, ok
}

// Digest is D of what a Post or a Deliver carries.
func (i *Insider) Digest(m proto.Message) (d wire.Digest, ok bool) {
	_, d, ok = i.read(m)
	return d, ok
}

func (i *Insider) read(m proto.Message) (h broadcast.Header, d wire.Digest, ok bool) {
	var masked []byte
	var nonce [broadcast.MaskNonceSize]byte
	switch m := m.(type) {
	case proto.Post:
		masked, nonce = m.Envelope, m.Nonce
	case proto.Deliver:
		masked, nonce = m.Envelope, m.Nonce
	default:
		return h, d, false
	}
	for _, e := range i.Epoch {
		envelope := append([]byte(nil), masked...)
		broadcast.Mask(envelope, e, i.Relay, nonce, 0)
		if h, d, err := broadcast.ReadHeader(i.Group, e, envelope); err == nil {
			return h, d, true
		}
	}
	return h, d, false
}

// Sender is the seat in the sealed header of a Post.
func (i *Insider) Sender(m proto.Message) (wire.Seat, bool) {
	h, ok := i.Header(m)
	return h.Seat, ok
}

// Replace is a board write with another value: sealed again under the key
// that opened it, and owned by whoever forges it. On a board that never had the
// entry before, the relay inside takes it as its first writer's. The capability
// signature is left to the caller.
func (i *Insider) Replace(put proto.BoardPut, channel wire.ChannelID, key broadcast.BoardKeys, name string, value []byte, owner keys.OwnerPrivate) proto.BoardPut {
	put.Name, put.Value = key.Seal(name, put.Version, value)
	put.SignOwner(owner, i.Relay, channel)
	return put
}
