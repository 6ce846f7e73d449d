package ratchet

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// header is the plain header of a slot (Double Ratchet, section 3.1, HEADER).
type header struct {
	ratchet keys.RatchetPublic
	n       uint32 // number of the message in its chain
	mixes   uint8  // root mixes after the start, modulo 256
	pn      uint32 // messages in the sender's previous chain, 24 bits
}

func (h *header) encode() (b [headerSize]byte) {
	copy(b[:32], h.ratchet[:])
	binary.BigEndian.PutUint32(b[32:36], h.n)
	binary.BigEndian.PutUint32(b[36:40], uint32(h.mixes)<<24|h.pn)
	return b
}

func decodeHeader(b *[headerSize]byte) (h header) {
	copy(h.ratchet[:], b[:32])
	h.n = binary.BigEndian.Uint32(b[32:36])
	mixed := binary.BigEndian.Uint32(b[36:40])
	h.mixes, h.pn = uint8(mixed>>24), mixed&MaxChain
	return h
}

// applyMask hides or shows a header: xor with 40 bytes of the one ChaCha20
// block that the slot's tag selects (as QUIC does, RFC 9001 section 5.7.4).
// The counter keeps 31 bits, so that the cipher never wraps around.
func applyMask(h *[headerSize]byte, key *[32]byte, tag []byte) {
	c, err := chacha20.NewUnauthenticatedCipher(key[:], tag[4:16])
	if err != nil {
		panic("ratchet: ChaCha20 of a 32-byte key and a 12-byte nonce: " + err.Error())
	}
	c.SetCounter(binary.LittleEndian.Uint32(tag[:4]) & 0x7fffffff)
	c.XORKeyStream(h[:], h[:])
}

// zeroNonce serves every slot: each message key is used once.
var zeroNonce [chacha20poly1305.NonceSize]byte

func newAEAD(mk *[32]byte) cipher.AEAD {
	a, err := chacha20poly1305.New(mk[:])
	if err != nil {
		panic("ratchet: ChaCha20-Poly1305 of a 32-byte key: " + err.Error())
	}
	return a
}

// associatedData is SHA-256 over T, sender, receiver, D and the plain header,
// 168 bytes; it binds a slot to all of them (docs/protocol.md section 5.2). The
// slot of a control slot has 32 bytes more, the digest of the encapsulation.
func associatedData(t wire.Digest, sender, receiver wire.Seat, d wire.Digest, h *[headerSize]byte, encapsulation *wire.Digest) [32]byte {
	var b [4*32 + headerSize + 32]byte
	copy(b[0:], t[:])
	copy(b[32:], sender[:])
	copy(b[64:], receiver[:])
	copy(b[96:], d[:])
	copy(b[128:], h[:])
	if encapsulation != nil {
		copy(b[168:], encapsulation[:])
		return sha256.Sum256(b[:])
	}
	return sha256.Sum256(b[:168])
}

// chainMACs is mac of 0x01 and of 0x02 under one key, whose two padded blocks
// are laid out once: these are half of what a slot costs.
func chainMACs(key *[32]byte) (one, two [32]byte) {
	var inner [64 + 1]byte
	var outer [64 + 32]byte
	subtle.XORBytes(inner[:32], key[:], innerPad[:])
	subtle.XORBytes(outer[:32], key[:], outerPad[:])
	*(*[32]byte)(inner[32:]), *(*[32]byte)(outer[32:]) = innerPad, outerPad
	inner[64] = 0x01
	*(*[32]byte)(outer[64:]) = sha256.Sum256(inner[:])
	one = sha256.Sum256(outer[:])
	inner[64] = 0x02
	*(*[32]byte)(outer[64:]) = sha256.Sum256(inner[:])
	two = sha256.Sum256(outer[:])
	clear(inner[:])
	clear(outer[:])
	return one, two
}

// What HMAC pads a key with (RFC 2104).
var (
	innerPad = [32]byte(bytes.Repeat([]byte{0x36}, 32))
	outerPad = [32]byte(bytes.Repeat([]byte{0x5c}, 32))
)
