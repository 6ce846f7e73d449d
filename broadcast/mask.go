package broadcast

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"parallax/internal/keys"
)

const (
	// MaskNonceSize is the length of the fresh random bytes of every bundle
	// and relay.
	MaskNonceSize = 24
	// HintSize is the length of a Hint.
	HintSize = 8
)

const (
	tagMask = "parallax/1/mask"
	tagHint = "parallax/1/hint"
)

// Mask xors dst in place with the mask stream of one bundle towards one relay,
// from byte offset on; the same call takes the mask off. The stream runs over
// the envelope, then the slots back to back: a slot's offset is the envelope's
// length plus its place in the slot block. offset is not negative.
//
// The mask hides equal bytes from relays that compare notes; it authenticates
// nothing (docs/protocol.md section 6).
func Mask(dst []byte, epoch *keys.EpochKey, relay keys.RelayPublic, nonce [MaskNonceSize]byte, offset int) {
	NewMasker(epoch, relay, nonce).Mask(dst, offset)
}

// Masker is the mask of one bundle towards one relay, for parts of it that lie
// apart: its key is derived once.
type Masker struct{ block cipher.Block }

// NewMasker derives the mask's key.
func NewMasker(epoch *keys.EpochKey, relay keys.RelayPublic, nonce [MaskNonceSize]byte) Masker {
	key := epoch.Derive(tagMask, relay[:], nonce[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("broadcast: AES-256 takes any 32 bytes: " + err.Error())
	}
	clear(key[:])
	return Masker{block}
}

// Mask is the function Mask.
func (m Masker) Mask(dst []byte, offset int) {
	var iv, skipped [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(offset)/aes.BlockSize)
	stream := cipher.NewCTR(m.block, iv[:])
	skip := skipped[:offset%aes.BlockSize]
	stream.XORKeyStream(skip, skip)
	stream.XORKeyStream(dst, dst)
}

// Hint lets a member find the epoch key of a bundle without trying all of
// them; it differs on every relay.
func Hint(epoch *keys.EpochKey, relay keys.RelayPublic) (hint [HintSize]byte) {
	k := epoch.Derive(tagHint, relay[:])
	copy(hint[:], k[:])
	return hint
}
