package broadcast

import (
	"errors"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// SealedDigestSize is the length of what a relay gets of a bundle that others
// carry, in bytes.
const SealedDigestSize = len(wire.Digest{}) + chacha20poly1305.Overhead

// MaxCarriers is how many relays a header can name, by its bits.
const MaxCarriers = 16

const tagDigest = "parallax/1/digest"

// ErrDigest: altered, of another relay, group or epoch, or made without the
// epoch key.
var ErrDigest = errors.New("sealed digest does not open")

// SealDigest seals D towards one relay (docs/protocol.md section 6.2). nonce
// must be fresh: it seals one digest only.
//
// The tag is what keeps a relay from making members look for a message that
// does not exist: only who has the epoch key can seal.
func SealDigest(gid wire.GroupID, epoch *keys.EpochKey, relay keys.RelayPublic, nonce [MaskNonceSize]byte, d wire.Digest) (sealed [SealedDigestSize]byte) {
	seal(sealed[:0], epoch.Derive(tagDigest, relay[:], nonce[:]), d[:], gid[:])
	return sealed
}

// OpenDigest returns the D that SealDigest sealed. Error: ErrDigest. It says that
// somebody with the epoch key sealed it, not who.
func OpenDigest(gid wire.GroupID, epoch *keys.EpochKey, relay keys.RelayPublic, nonce [MaskNonceSize]byte, sealed [SealedDigestSize]byte) (wire.Digest, error) {
	plain, err := open(epoch.Derive(tagDigest, relay[:], nonce[:]), sealed[:], gid[:])
	if err != nil {
		return wire.Digest{}, ErrDigest
	}
	return wire.Digest(plain), nil
}
