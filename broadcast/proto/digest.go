package proto

import (
	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Frames of digest mode (docs/protocol.md section 6.2): what a relay gets and
// shows of a bundle that others carry.

// PostDigest is the sealed digest of a bundle for one relay. It has no fan-out
// list: every mailbox is shown it.
type PostDigest struct {
	PostID    wire.PostID
	Hint      [broadcast.HintSize]byte
	Nonce     [broadcast.MaskNonceSize]byte // of the seal
	Sealed    [broadcast.SealedDigestSize]byte
	Signature Signature // by the posting key, over Digest
}

func (PostDigest) Type() uint8 { return TypePostDigest }
func (m PostDigest) Append(b []byte) []byte {
	b = append(b, m.PostID[:]...)
	b = append(b, m.Hint[:]...)
	b = append(b, m.Nonce[:]...)
	b = append(b, m.Sealed[:]...)
	return append(b, m.Signature[:]...)
}
func parsePostDigest(r *wire.Reader) Message {
	var m PostDigest
	r.Fixed(m.PostID[:])
	r.Fixed(m.Hint[:])
	r.Fixed(m.Nonce[:])
	r.Fixed(m.Sealed[:])
	r.Fixed(m.Signature[:])
	return m
}

// Digest is d of the log entry that a PostDigest makes.
func (m PostDigest) Digest() wire.Digest {
	return crossverify.SealedDigest(m.Hint, m.Nonce, m.Sealed[:])
}

// Sign fills Signature; d is Digest, which the caller keeps to compare with the
// receipt's.
func (m *PostDigest) Sign(posting keys.PostingPrivate, relay keys.RelayPublic, channel wire.ChannelID, d wire.Digest) {
	m.Signature = Signature(posting.Sign(tagPost, relay[:], channel[:], m.PostID[:], d[:]))
}

// Verify checks Signature under the channel's posting key; d is Digest.
func (m PostDigest) Verify(v keys.Verify, posting keys.PostingPublic, relay keys.RelayPublic, channel wire.ChannelID, d wire.Digest) bool {
	return posting.Verify(v, m.Signature[:], tagPost, relay[:], channel[:], m.PostID[:], d[:])
}

// DeliverDigest is a number that has only the sealed digest of a bundle. The
// signature is that of the statement for N, whose d is Digest.
type DeliverDigest struct {
	N         uint64
	Root      wire.Digest
	Signature Signature
	Hint      [broadcast.HintSize]byte
	Nonce     [broadcast.MaskNonceSize]byte
	Sealed    [broadcast.SealedDigestSize]byte
}

func (DeliverDigest) Type() uint8 { return TypeDeliverDigest }
func (m DeliverDigest) Append(b []byte) []byte {
	b = wire.AppendU64(b, m.N)
	b = append(b, m.Root[:]...)
	b = append(b, m.Signature[:]...)
	b = append(b, m.Hint[:]...)
	b = append(b, m.Nonce[:]...)
	return append(b, m.Sealed[:]...)
}
func parseDeliverDigest(r *wire.Reader) Message {
	m := DeliverDigest{N: r.U64()}
	r.Fixed(m.Root[:])
	r.Fixed(m.Signature[:])
	r.Fixed(m.Hint[:])
	r.Fixed(m.Nonce[:])
	r.Fixed(m.Sealed[:])
	return m
}

// Digest is d of the number delivered.
func (m DeliverDigest) Digest() wire.Digest {
	return crossverify.SealedDigest(m.Hint, m.Nonce, m.Sealed[:])
}
