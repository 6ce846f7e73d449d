package crossverify

import (
	"errors"
	"fmt"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Tags of section 9: what each hash and signature is over.
const (
	tagStatement = "parallax/1/statement"
	tagOpened    = "parallax/1/opened"
	tagTrimmed   = "parallax/1/trimmed"
	tagChain0    = "parallax/1/chain/0"
	tagChain     = "parallax/1/chain"
	tagOuter     = "parallax/1/outer"
	tagSlots     = "parallax/1/slots"
	tagBundle    = "parallax/1/entry/bundle"
	tagBoard     = "parallax/1/entry/board"
	tagGrant     = "parallax/1/entry/grant"
	tagDigest    = "parallax/1/entry/digest"
	tagValue     = "parallax/1/board/value"
)

// ErrStatement is the cause of every refusal of ParseStatement.
var ErrStatement = errors.New("not a statement")

// Statement is what a relay signs for every number of a channel's log, as a
// receipt and as a forward alike: entry digest D, chain head H and board root
// Root after entry N of one lineage.
type Statement struct {
	Relay     keys.RelayPublic
	Channel   wire.ChannelID
	Lineage   wire.Lineage
	N         uint64
	D, H      wire.Digest
	Root      wire.Digest
	Signature [64]byte
}

// StatementSize is the length of an encoded statement.
const StatementSize = 32 + 32 + 16 + 8 + 3*32 + 64

// SignStatement builds and signs the statement for number n of a log.
func SignStatement(key keys.RelayPrivate, channel wire.ChannelID, lineage wire.Lineage, n uint64, d, h, root wire.Digest) Statement {
	s := Statement{Relay: key.Public(), Channel: channel, Lineage: lineage, N: n, D: d, H: h, Root: root}
	s.Signature = [64]byte(key.Sign(tagStatement, s.parts()...))
	return s
}

func (s *Statement) parts() [][]byte {
	return [][]byte{s.Relay[:], s.Channel[:], s.Lineage[:], wire.U64(s.N), s.D[:], s.H[:], s.Root[:]}
}

// Verify tells whether s.Relay signed s.
func (s Statement) Verify(v keys.Verify) bool {
	return s.Relay.Verify(v, s.Signature[:], tagStatement, s.parts()...)
}

// Append appends the StatementSize bytes of s.
func (s Statement) Append(b []byte) []byte {
	b = append(b, s.Relay[:]...)
	b = append(b, s.Channel[:]...)
	b = append(b, s.Lineage[:]...)
	b = wire.AppendU64(b, s.N)
	b = append(b, s.D[:]...)
	b = append(b, s.H[:]...)
	b = append(b, s.Root[:]...)
	return append(b, s.Signature[:]...)
}

// ParseStatement reads exactly StatementSize bytes. It checks no signature.
func ParseStatement(b []byte) (Statement, error) {
	r := wire.NewReader(b)
	var s Statement
	r.Fixed(s.Relay[:])
	r.Fixed(s.Channel[:])
	r.Fixed(s.Lineage[:])
	s.N = r.U64()
	r.Fixed(s.D[:])
	r.Fixed(s.H[:])
	r.Fixed(s.Root[:])
	r.Fixed(s.Signature[:])
	if err := r.Done(); err != nil {
		return Statement{}, fmt.Errorf("%w: it %w (%d bytes, want %d)", ErrStatement, err, len(b), StatementSize)
	}
	return s, nil
}

// Position is a place in a channel's log: number n of one lineage, head h.
type Position struct {
	Lineage wire.Lineage
	N       uint64
	H       wire.Digest
}

// Position is where s stands.
func (s Statement) Position() Position { return Position{s.Lineage, s.N, s.H} }

// Opened is what a relay signs when a mailbox is opened: under the nonce of
// this link it was shown Shown (zero: nothing) and stands at Lineage, N, H.
type Opened struct {
	Relay     keys.RelayPublic
	Channel   wire.ChannelID
	Nonce     [32]byte
	Shown     Position
	Lineage   wire.Lineage
	N         uint64
	H         wire.Digest
	Signature [64]byte
}

// SignOpened builds and signs a relay's answer to Open.
func SignOpened(key keys.RelayPrivate, channel wire.ChannelID, nonce [32]byte, shown Position, lineage wire.Lineage, n uint64, h wire.Digest) Opened {
	o := Opened{Relay: key.Public(), Channel: channel, Nonce: nonce, Shown: shown, Lineage: lineage, N: n, H: h}
	o.Signature = [64]byte(key.Sign(tagOpened, o.parts()...))
	return o
}

func (o *Opened) parts() [][]byte {
	return [][]byte{
		o.Relay[:], o.Channel[:], o.Nonce[:],
		o.Shown.Lineage[:], wire.U64(o.Shown.N), o.Shown.H[:],
		o.Lineage[:], wire.U64(o.N), o.H[:],
	}
}

// Verify tells whether o.Relay signed o.
func (o Opened) Verify(v keys.Verify) bool {
	return o.Relay.Verify(v, o.Signature[:], tagOpened, o.parts()...)
}

// Trimmed is what a relay signs when it no longer keeps what was asked for:
// First is the first number it keeps, H the head at First-1.
type Trimmed struct {
	Relay     keys.RelayPublic
	Channel   wire.ChannelID
	Lineage   wire.Lineage
	First     uint64
	H         wire.Digest
	Signature [64]byte
}

// SignTrimmed builds and signs a relay's account of where its log begins.
func SignTrimmed(key keys.RelayPrivate, channel wire.ChannelID, lineage wire.Lineage, first uint64, h wire.Digest) Trimmed {
	t := Trimmed{Relay: key.Public(), Channel: channel, Lineage: lineage, First: first, H: h}
	t.Signature = [64]byte(key.Sign(tagTrimmed, t.parts()...))
	return t
}

func (t *Trimmed) parts() [][]byte {
	return [][]byte{t.Relay[:], t.Channel[:], t.Lineage[:], wire.U64(t.First), t.H[:]}
}

// Verify tells whether t.Relay signed t.
func (t Trimmed) Verify(v keys.Verify) bool {
	return t.Relay.Verify(v, t.Signature[:], tagTrimmed, t.parts()...)
}

// ChainStart is h_0 of a lineage.
func ChainStart(relay keys.RelayPublic, channel wire.ChannelID, lineage wire.Lineage) wire.Digest {
	return wire.Hash(tagChain0, relay[:], channel[:], lineage[:])
}

// ChainNext is h_n from h_(n-1), the entry digest d_n and the board root after
// entry n.
func ChainNext(prev wire.Digest, n uint64, d, root wire.Digest) wire.Digest {
	return wire.Hash(tagChain, prev[:], wire.U64(n), d[:], root[:])
}

// OuterDigest covers what all readers of a bundle share: hint, mask nonce and
// the masked envelope.
func OuterDigest(hint [8]byte, nonce [24]byte, envelope []byte) wire.Digest {
	return wire.Hash(tagOuter, hint[:], nonce[:], envelope)
}

// SlotsDigest covers who a bundle's slots are for and the masked slots.
func SlotsDigest(fanout wire.Digest, exceptions, slots []byte) wire.Digest {
	return wire.Hash(tagSlots, fanout[:], exceptions, slots)
}

// BundleDigest is d of a bundle.
func BundleDigest(outer, slots wire.Digest) wire.Digest {
	return wire.Hash(tagBundle, outer[:], slots[:])
}

// SealedDigest is d of an entry that has only the sealed digest of a bundle.
func SealedDigest(hint [8]byte, nonce [24]byte, sealed []byte) wire.Digest {
	return wire.Hash(tagDigest, hint[:], nonce[:], sealed)
}

// ValueDigest is the value digest of a board entry's sealed value.
func ValueDigest(value []byte) wire.Digest { return wire.Hash(tagValue, value) }

// BoardDigest is d of a board write.
func BoardDigest(name wire.Digest, version uint64, value wire.Digest) wire.Digest {
	return wire.Hash(tagBoard, name[:], wire.U64(version), value[:])
}

// GrantDigest is d of a capability change; body is the request's body.
func GrantDigest(body []byte) wire.Digest { return wire.Hash(tagGrant, body) }
