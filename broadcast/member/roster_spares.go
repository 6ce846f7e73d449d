package member

import (
	"fmt"
	"slices"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Spare is a relay that the group keeps in reserve, by its roster (docs/protocol.md
// section 8.3): every member knows it, and every admin's machine may put it in the
// place of a relay that is gone.
type Spare struct {
	Key   keys.RelayPublic
	Addrs []string // 1 to MaxAddresses multiaddrs as text
	Token string   // that relay's permission to found a channel, if it wants one: at most proto.MaxToken bytes
	Auto  bool     // no admin is asked
}

// OpSpares replaces the list of spare relays: at most MaxSpares, keys distinct, in
// the order in which they are taken.
type OpSpares struct{ Spares []Spare }

func (OpSpares) kind() uint8 { return opSpares }

func (b OpSpares) append(to []byte) []byte {
	to = append(to, uint8(len(b.Spares)))
	for i := range b.Spares {
		s := &b.Spares[i]
		to = appendAddresses(append(to, s.Key[:]...), s.Addrs)
		to = wire.AppendBool(wire.AppendBytes(to, []byte(s.Token)), s.Auto)
	}
	return to
}

func readSpares(r *wire.Reader) (b OpSpares) {
	for range readCount8(r, MaxSpares) {
		var s Spare
		r.Fixed(s.Key[:])
		s.Addrs = readAddresses(r)
		s.Token = string(r.Bytes(proto.MaxToken))
		s.Auto = r.Bool()
		if r.Err() != nil {
			break
		}
		b.Spares = append(b.Spares, s)
	}
	return b
}

func (b OpSpares) check(*Operation) error {
	if len(b.Spares) > MaxSpares {
		return fmt.Errorf("spares: %d relays, at most %d: %w", len(b.Spares), MaxSpares, wire.ErrTooLong)
	}
	seen := map[keys.RelayPublic]bool{}
	for i := range b.Spares {
		s := &b.Spares[i]
		if s.Key.IsZero() || seen[s.Key] {
			return fmt.Errorf("spares: relay %s is named twice or without a key: %w", s.Key, wire.ErrFormat)
		}
		seen[s.Key] = true
		if len(s.Addrs) == 0 {
			return fmt.Errorf("spares: relay %s has no address: %w", s.Key, wire.ErrFormat)
		}
		if err := checkAddresses(s.Addrs); err != nil {
			return fmt.Errorf("spares: relay %s: %w", s.Key, err)
		}
		if len(s.Token) > proto.MaxToken {
			return fmt.Errorf("spares: relay %s: a token of %d bytes, at most %d: %w", s.Key, len(s.Token), proto.MaxToken, wire.ErrTooLong)
		}
		for j := range len(s.Token) {
			if s.Token[j] <= ' ' || s.Token[j] > '~' {
				return fmt.Errorf("spares: relay %s: its token is not printable ASCII: %w", s.Key, wire.ErrFormat)
			}
		}
	}
	return nil
}

// spares are those in force that are left, the operation that names them (zero: none
// does), and the operations that rival for it. A spare is used up when a list of
// relays that its operation did not know named it.
func (v *rosterView) spares() (list []Spare, by wire.Digest, rivals []int) {
	at, rivals := v.inForce(opSpares, func(int) uint32 { return 0 })
	if at < 0 {
		return nil, by, nil
	}
	n := v.r.ops[at]
	used := map[keys.RelayPublic]bool{}
	for _, i := range v.r.lists[opRelays] {
		if !n.past.has(i) && v.counts(i) {
			for _, ref := range v.r.ops[i].op.Body.(OpRelays).Relays {
				used[ref.Key] = true
			}
		}
	}
	for _, s := range n.op.Body.(OpSpares).Spares {
		if !used[s.Key] {
			list = append(list, s)
		}
	}
	return list, n.digest, rivals
}

// spareAmong is the place of a relay among spares; -1: it is none of them.
func spareAmong(list []Spare, key keys.RelayPublic) int {
	return slices.IndexFunc(list, func(s Spare) bool { return s.Key == key })
}
