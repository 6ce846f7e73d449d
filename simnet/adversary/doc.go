// Package adversary makes dishonest relays and members out of honest ones. Each
// wraps the function that opens machines (broadcast.Open), as whoever runs one
// can: everything that leaves an honest machine passes through the wrapper, which
// also holds the relay key and may sign whatever it likes.
//
// A Fork runs two honest machines under one relay key and shows one to its
// victims and the other to everybody else: each is consistent in itself, and
// only a message that crosses between the two views gives it away; the second may
// have a lineage of its own. A Rewriter
// changes what single readers get of one honest log, and signs again what its
// lie makes necessary, so that the reader's chain of this relay stays whole. A
// Forgetter goes on with a board from which entries it took are gone.
// A Gate keeps answers to itself, a Rollback goes on from an older copy of its
// disk, a Misread is a member that says of a relay what it never signed, and a
// Poster posts what an Insider forged. The guarantees that all are measured
// against are those of docs/threat-model.md.
//
// A wrapper outlives the processes it lies in. It is used by one goroutine at a
// time.
package adversary

import (
	"io"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// Place is where a frame was met: what a relay knows of it without reading it.
type Place struct {
	Relay   keys.RelayPublic
	Channel wire.ChannelID // of the link's Hello
	Link    broadcast.Link
}

// scanBytes is how much of a unit is copied by one Scan.
const scanBytes = 1 << 20

// copyUnit is a private store with what r has of a unit, or nil if it has
// nothing.
func copyUnit(u store.Unit, r store.Reader) (*memory.Store, error) {
	from := append([]byte(nil), u[:]...)
	to := append(append([]byte(nil), u[:]...), 0xff)
	b := store.Batch{Unit: u}
	for {
		kvs, more, err := r.Scan(from, to, scanBytes)
		if err != nil {
			return nil, err
		}
		for _, kv := range kvs {
			b.Ops = append(b.Ops, store.Op{Key: kv.Key, Value: kv.Value})
		}
		if !more || len(kvs) == 0 {
			break
		}
		from = append(append([]byte(nil), kvs[len(kvs)-1].Key...), 0)
	}
	if len(b.Ops) == 0 {
		return nil, nil
	}
	s := memory.New()
	return s, s.Apply([]store.Batch{b})[0]
}

// source lets a wrapper say what a machine draws as the nonce of a link, so
// that two machines greet one link alike.
type source struct {
	broadcast.Entropy
	nonce *proto.Nonce // nil: none is prescribed
}

func (s *source) Read(b []byte) (int, error) {
	if s.nonce != nil && len(b) == len(s.nonce) {
		return copy(b, s.nonce[:]), nil
	}
	return s.Entropy.Read(b)
}

// with prescribes a nonce while do runs.
func (s *source) with(n proto.Nonce, do func()) {
	s.nonce = &n
	do()
	s.nonce = nil
}

func draw(r io.Reader, b []byte) {
	if _, err := io.ReadFull(r, b); err != nil {
		panic("adversary: entropy: " + err.Error())
	}
}
