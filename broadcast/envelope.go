package broadcast

import (
	"bytes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Layout of an envelope (docs/protocol.md section 6): sealed header, then
// commitment, then ciphertext. All sizes in bytes.
const (
	headerSize       = 8 + 32 + 8 + 8 + 2
	SealedHeaderSize = headerSize + chacha20poly1305.Overhead
	CommitmentSize   = 32
	minPadded        = 256
	maxPadded        = 65536

	// MaxContent is the longest content of an envelope; one byte of the
	// largest size class is padding.
	MaxContent = maxPadded - 1
	// MinEnvelope and MaxEnvelope are the smallest and the largest envelope.
	MinEnvelope = SealedHeaderSize + CommitmentSize + minPadded + chacha20poly1305.Overhead
	MaxEnvelope = SealedHeaderSize + CommitmentSize + maxPadded + chacha20poly1305.Overhead
)

const (
	tagCommit   = "parallax/1/commit"
	tagHeader   = "parallax/1/header"
	tagEnc      = "parallax/1/enc"
	tagEnvelope = "parallax/1/envelope"
)

// Why an envelope is refused.
var (
	// ErrHeader: not an envelope's length, or its header is not sealed under
	// this epoch key for this group.
	ErrHeader = errors.New("envelope header does not open")
	// ErrCommitment: the content key is not the one the envelope commits to.
	// Without this check one envelope could open as two texts.
	ErrCommitment = errors.New("envelope commits to another content key")
	// ErrContent: altered, bound to another header, or padded wrongly.
	ErrContent = errors.New("envelope content does not open")
)

// Header is what an envelope says about itself under the epoch key.
type Header struct {
	Epoch       uint64
	Seat        wire.Seat // the sender
	Incarnation wire.Incarnation
	Sequence    uint64 // dense from 1 within the incarnation
	Carriers    uint16 // bit i: the i-th relay, keys ascending, carries it in full; 0: every one does
}

// append writes the header's plaintext, 58 bytes.
func (h Header) append(b []byte) []byte {
	return wire.AppendU16(h.bind(b), h.Carriers)
}

// bind writes what ties the content to its header: all but Carriers.
func (h Header) bind(b []byte) []byte {
	b = wire.AppendU64(b, h.Epoch)
	b = append(b, h.Seat[:]...)
	b = append(b, h.Incarnation[:]...)
	return wire.AppendU64(b, h.Sequence)
}

func parseHeader(b []byte) (h Header, err error) {
	r := wire.NewReader(b)
	h.Epoch = r.U64()
	r.Fixed(h.Seat[:])
	r.Fixed(h.Incarnation[:])
	h.Sequence = r.U64()
	h.Carriers = r.U16()
	return h, r.Done()
}

// SealEnvelope encrypts plain once, for all members, and returns the envelope
// (MinEnvelope to MaxEnvelope bytes) and its digest D, to which every slot is
// bound. content must be fresh: it seals one envelope only. The result is a
// function of its arguments. Error: wire.ErrTooLong for plain beyond MaxContent.
func SealEnvelope(gid wire.GroupID, epoch *keys.EpochKey, h Header, content *keys.ContentKey, plain []byte) (envelope []byte, d wire.Digest, err error) {
	if len(plain) > MaxContent {
		return nil, d, fmt.Errorf("broadcast: content of %d bytes, at most %d: %w", len(plain), MaxContent, wire.ErrTooLong)
	}
	commitment := content.Derive(tagCommit)
	b := make([]byte, 0, SealedHeaderSize+CommitmentSize+paddedSize(len(plain))+chacha20poly1305.Overhead)
	b = seal(b, epoch.Derive(tagHeader, commitment[:]), h.append(nil), gid[:])
	b = sealContent(b, gid, h, content, plain)
	return b, envelopeDigest(gid, b), nil
}

// ReadHeader opens the header of an unmasked envelope and computes D. Error:
// ErrHeader. A header that opens says that its author knew the epoch key,
// nothing more: the sender is authenticated by its slot.
func ReadHeader(gid wire.GroupID, epoch *keys.EpochKey, envelope []byte) (Header, wire.Digest, error) {
	if !envelopeLength(len(envelope)) {
		return Header{}, wire.Digest{}, fmt.Errorf("%w: %d bytes is not an envelope's length", ErrHeader, len(envelope))
	}
	commitment := envelope[SealedHeaderSize : SealedHeaderSize+CommitmentSize]
	plain, err := open(epoch.Derive(tagHeader, commitment), envelope[:SealedHeaderSize], gid[:])
	if err != nil {
		return Header{}, wire.Digest{}, ErrHeader
	}
	h, err := parseHeader(plain)
	if err != nil {
		return Header{}, wire.Digest{}, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return h, envelopeDigest(gid, envelope), nil
}

// OpenSealed opens a sealed header by itself, for who has the content key. Error:
// ErrHeader.
func OpenSealed(gid wire.GroupID, epoch *keys.EpochKey, content *keys.ContentKey, sealed []byte) (Header, error) {
	commitment := content.Derive(tagCommit)
	plain, err := open(epoch.Derive(tagHeader, commitment[:]), sealed, gid[:])
	if err != nil {
		return Header{}, ErrHeader
	}
	h, err := parseHeader(plain)
	if err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return h, nil
}

// OpenEnvelope returns the content. h is what ReadHeader gave for the same
// envelope, content the key from a slot bound to its digest. The commitment is
// compared, in constant time, before anything is decrypted. Errors:
// ErrCommitment, ErrContent.
func OpenEnvelope(gid wire.GroupID, h Header, content *keys.ContentKey, envelope []byte) ([]byte, error) {
	if !envelopeLength(len(envelope)) {
		return nil, fmt.Errorf("%w: %d bytes is not an envelope's length", ErrContent, len(envelope))
	}
	rest := envelope[SealedHeaderSize:]
	commitment := content.Derive(tagCommit)
	if subtle.ConstantTimeCompare(commitment[:], rest[:CommitmentSize]) != 1 {
		return nil, ErrCommitment
	}
	padded, err := open(content.Derive(tagEnc), rest[CommitmentSize:], h.bind(gid[:]))
	if err != nil {
		return nil, ErrContent
	}
	plain, ok := unpad(padded)
	if !ok {
		return nil, fmt.Errorf("%w: padding", ErrContent)
	}
	return plain, nil
}

// ResealedDigest is D of the envelope that SealEnvelope made of h, content and
// plain: sealed are its first 74 bytes, so that it takes no epoch key. Whoever
// passes an envelope on passes on these, and can make no other text of one D.
// Errors: ErrHeader for another length of sealed, wire.ErrTooLong.
func ResealedDigest(gid wire.GroupID, sealed []byte, h Header, content *keys.ContentKey, plain []byte) (d wire.Digest, err error) {
	if len(sealed) != SealedHeaderSize {
		return d, fmt.Errorf("%w: %d bytes, not %d", ErrHeader, len(sealed), SealedHeaderSize)
	}
	if len(plain) > MaxContent {
		return d, fmt.Errorf("broadcast: content of %d bytes, at most %d: %w", len(plain), MaxContent, wire.ErrTooLong)
	}
	return envelopeDigest(gid, sealContent(bytes.Clone(sealed), gid, h, content, plain)), nil
}

// sealContent appends commitment and ciphertext.
func sealContent(b []byte, gid wire.GroupID, h Header, content *keys.ContentKey, plain []byte) []byte {
	padded := make([]byte, paddedSize(len(plain)))
	copy(padded, plain)
	padded[len(plain)] = 0x80
	commitment := content.Derive(tagCommit)
	b = append(b, commitment[:]...)
	b = seal(b, content.Derive(tagEnc), padded, h.bind(gid[:]))
	clear(padded)
	return b
}

// envelopeDigest is D = H("envelope", gid, sealed header, commitment, ciphertext).
func envelopeDigest(gid wire.GroupID, e []byte) wire.Digest {
	return wire.Hash(tagEnvelope, gid[:], e[:SealedHeaderSize],
		e[SealedHeaderSize:SealedHeaderSize+CommitmentSize], e[SealedHeaderSize+CommitmentSize:])
}

// Room is how many bytes more a content of n bytes may have for the same length of
// its envelope.
func Room(n int) int { return paddedSize(n) - 1 - n }

// paddedSize is the smallest size class with room for n bytes and the 0x80.
func paddedSize(n int) int {
	size := minPadded
	for size <= n {
		size *= 2
	}
	return size
}

func envelopeLength(n int) bool {
	padded := n - (MinEnvelope - minPadded)
	return padded >= minPadded && padded <= maxPadded && padded&(padded-1) == 0
}

// unpad accepts what SealEnvelope pads and nothing else, the size class
// included, so that one content has one length.
func unpad(b []byte) ([]byte, bool) {
	plain := bytes.TrimRight(b, "\x00")
	n := len(plain) - 1
	if n < 0 || plain[n] != 0x80 || paddedSize(n) != len(b) {
		return nil, false
	}
	return plain[:n:n], true
}

// One key seals one text, so the nonce is zero.
var zeroNonce [chacha20poly1305.NonceSize]byte

func aead(key [keys.SeedSize]byte) cipher.AEAD {
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("broadcast: ChaCha20-Poly1305 takes any 32 bytes: " + err.Error())
	}
	return a
}

func seal(dst []byte, key [keys.SeedSize]byte, plain, data []byte) []byte {
	return aead(key).Seal(dst, zeroNonce[:], plain, data)
}

func open(key [keys.SeedSize]byte, sealed, data []byte) ([]byte, error) {
	return aead(key).Open(nil, zeroNonce[:], sealed, data)
}
