package broadcast

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	// MaxEntryName is the longest name of a board entry in bytes. Default: 128.
	MaxEntryName = 128
	// MaxBoardValue is the longest value of a board entry as a relay keeps it,
	// sealed. Default: 32 KiB.
	MaxBoardValue = 32 << 10
	// MaxEntryValue is the longest value that fits under the longest name.
	MaxEntryValue = MaxBoardValue - chacha20.NonceSizeX - 4 - MaxEntryName - 8 - 4
)

const (
	tagBoardName  = "parallax/1/board/name"
	tagBoardNonce = "parallax/1/board/nonce"
	tagBoardSeal  = "parallax/1/board/seal"
)

// ErrSealed: a board entry that its relay altered, moved to another name or
// showed under another version, or that is sealed under another key.
var ErrSealed = errors.New("board entry does not open")

// BoardKeys seal and open the board entries of one key on one relay
// (docs/protocol.md section 7). Sealing is deterministic: the same entry has
// the same bytes whoever seals it, and two relays' bytes have nothing in
// common. Safe for concurrent use.
type BoardKeys struct {
	_                 [0]func() // not comparable
	name, nonce, seal [keys.SeedSize]byte
}

// NewBoardKeys derives the three keys from an epoch key's or a door key's
// bytes (Expose).
func NewBoardKeys(key []byte, relay keys.RelayPublic) BoardKeys {
	return BoardKeys{
		name:  keys.Derive(key, tagBoardName, relay[:]),
		nonce: keys.Derive(key, tagBoardNonce, relay[:]),
		seal:  keys.Derive(key, tagBoardSeal, relay[:]),
	}
}

// Named is k with the names of another key: entries of one name are one entry,
// under whichever of several keys their values are sealed.
func (k BoardKeys) Named(names BoardKeys) BoardKeys {
	k.name = names.name
	return k
}

func (k BoardKeys) String() string   { return "[secret]" }
func (k BoardKeys) GoString() string { return "[secret]" }

// Name is the masked name: how the relay and its tree know the entry.
func (k BoardKeys) Name(name string) (masked wire.Digest) {
	mac(masked[:0], &k.name, []byte(name))
	return masked
}

// Seal masks the name and seals the value. name is one of section 7 and at
// most MaxEntryName bytes of UTF-8, value at most MaxEntryValue bytes: longer
// ones are refused by everybody who opens them.
func (k BoardKeys) Seal(name string, version uint64, value []byte) (masked wire.Digest, sealed []byte) {
	sealed = make([]byte, chacha20.NonceSizeX, chacha20.NonceSizeX+4+len(name)+8+4+len(value))
	sealed = wire.AppendBytes(sealed, []byte(name))
	sealed = wire.AppendU64(sealed, version)
	sealed = wire.AppendBytes(sealed, value)
	nonce, plain := sealed[:chacha20.NonceSizeX], sealed[chacha20.NonceSizeX:]
	k.nonceOf(nonce, plain)
	k.xor(plain, plain, nonce)
	return k.Name(name), sealed
}

// Open reverses Seal for what a relay shows under a masked name and a version.
// Error: ErrSealed.
func (k BoardKeys) Open(masked wire.Digest, version uint64, sealed []byte) (name string, value []byte, err error) {
	if len(sealed) < chacha20.NonceSizeX {
		return "", nil, fmt.Errorf("%w: %d bytes", ErrSealed, len(sealed))
	}
	nonce := sealed[:chacha20.NonceSizeX]
	plain := make([]byte, len(sealed)-chacha20.NonceSizeX)
	k.xor(plain, sealed[chacha20.NonceSizeX:], nonce)
	var want [chacha20.NonceSizeX]byte
	k.nonceOf(want[:], plain)
	if subtle.ConstantTimeCompare(want[:], nonce) != 1 {
		return "", nil, ErrSealed
	}
	r := wire.NewReader(plain)
	n := r.Bytes(MaxEntryName)
	v := r.U64()
	value = r.Bytes(MaxEntryValue)
	if err := r.Done(); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if name = string(n); !utf8.ValidString(name) || v != version {
		return "", nil, fmt.Errorf("%w: version %d under %d", ErrSealed, v, version)
	}
	if got := k.Name(name); subtle.ConstantTimeCompare(got[:], masked[:]) != 1 {
		return "", nil, fmt.Errorf("%w: under another name", ErrSealed)
	}
	return name, value, nil
}

// nonceOf fills dst (24 bytes) with the synthetic nonce of plain.
func (k *BoardKeys) nonceOf(dst, plain []byte) {
	var sum [sha256.Size]byte
	mac(sum[:0], &k.nonce, plain)
	copy(dst, sum[:])
}

func (k *BoardKeys) xor(dst, src, nonce []byte) {
	c, err := chacha20.NewUnauthenticatedCipher(k.seal[:], nonce)
	if err != nil {
		panic("broadcast: XChaCha20 takes any 32 and 24 bytes: " + err.Error())
	}
	c.XORKeyStream(dst, src)
}

// mac appends HMAC-SHA-256(key, text) to dst.
func mac(dst []byte, key *[keys.SeedSize]byte, text []byte) {
	h := hmac.New(sha256.New, key[:])
	h.Write(text)
	h.Sum(dst)
}
