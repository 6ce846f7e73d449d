// Package keys holds the key types of docs/protocol.md section 4. Each role
// has a type of its own, so that a mailbox key cannot sign for a seat and an
// epoch key cannot seal a slot. Private keys and secrets print as their role
// alone, cannot be compared with ==, and are zeroed by Zero. Public keys are
// comparable, so that they can be map keys.
//
// Keys are built from 32 bytes that the caller drew; nothing here reads
// randomness. Values are safe for concurrent use until Zero is called.
package keys

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"

	"parallax/internal/wire"
)

// Roles of keys: type parameters of NewPrivate, NewDHPrivate and NewSecret.
type (
	RoleMember   struct{}
	RoleRelay    struct{}
	RoleOperator struct{}
	RoleMailbox  struct{}
	RolePosting  struct{}
	RoleInvite   struct{}
	RoleAdmin    struct{}
	RoleOwner    struct{}
	RoleIdentity struct{}
	RolePrekey   struct{}
	RoleRequest  struct{}
	RoleRatchet  struct{}
	RoleEpoch    struct{}
	RoleDoor     struct{}
	RoleContent  struct{}
	RoleState    struct{}
	RoleInviting struct{}
	RoleChannels struct{}
)

// Ed25519 keys.
type (
	SigningPrivate  = Private[RoleMember] // a seat's signing key
	SigningPublic   = Public[RoleMember]
	RelayPrivate    = Private[RoleRelay] // a relay's identity; signs statements
	RelayPublic     = Public[RoleRelay]
	OperatorPrivate = Private[RoleOperator] // an operator; vouches for its relays
	OperatorPublic  = Public[RoleOperator]
	MailboxPrivate  = Private[RoleMailbox] // reads one mailbox
	MailboxPublic   = Public[RoleMailbox]
	PostingPrivate  = Private[RolePosting] // posts to one channel
	PostingPublic   = Public[RolePosting]
	InvitePrivate   = Private[RoleInvite] // admits newcomers by link
	InvitePublic    = Public[RoleInvite]
	AdminPrivate    = Private[RoleAdmin] // changes one channel's capabilities
	AdminPublic     = Public[RoleAdmin]
	OwnerPrivate    = Private[RoleOwner] // owns one board entry on one relay
	OwnerPublic     = Public[RoleOwner]
)

// X25519 keys.
type (
	IdentityPrivate = DHPrivate[RoleIdentity]
	IdentityPublic  = DHPublic[RoleIdentity]
	PrekeyPrivate   = DHPrivate[RolePrekey]
	PrekeyPublic    = DHPublic[RolePrekey]
	RequestPrivate  = DHPrivate[RoleRequest] // opens what newcomers ask by one invite
	RequestPublic   = DHPublic[RoleRequest]
	RatchetPrivate  = DHPrivate[RoleRatchet] // ratchet and ephemeral keys
	RatchetPublic   = DHPublic[RoleRatchet]
)

// Symmetric secrets of 32 bytes.
type (
	EpochKey      = Secret[RoleEpoch]
	DoorKey       = Secret[RoleDoor]
	ContentKey    = Secret[RoleContent]
	StateKey      = Secret[RoleState]
	InviteSecret  = Secret[RoleInviting] // in the link; invite and posting keys come from it
	ChannelSecret = Secret[RoleChannels] // in the link; channel ids come from it
)

// ErrSmallOrder: an X25519 public key of small order, which would make the
// shared secret known to everybody (RFC 7748 section 6.1).
var ErrSmallOrder = errors.New("public key of small order")

// SeedSize is the length of what every private key and secret is built from.
const SeedSize = 32

// Private is an Ed25519 private key of one role.
type Private[R any] struct {
	_ [0]func() // not comparable
	k ed25519.PrivateKey
}

// NewPrivate builds a key from a 32-byte seed.
func NewPrivate[R any](seed [SeedSize]byte) Private[R] {
	return Private[R]{k: ed25519.NewKeyFromSeed(seed[:])}
}

// Draw reads a seed from entropy and builds a key.
func (p *Private[R]) Draw(entropy io.Reader) error {
	var seed [SeedSize]byte
	if _, err := io.ReadFull(entropy, seed[:]); err != nil {
		return err
	}
	*p = NewPrivate[R](seed)
	clear(seed[:])
	return nil
}

// FromSeed is NewPrivate for a type alias: new(MailboxPrivate).FromSeed(seed).
func (p *Private[R]) FromSeed(seed [SeedSize]byte) Private[R] {
	*p = NewPrivate[R](seed)
	return *p
}

// IsZero tells a key that was never set or was zeroed.
func (p Private[R]) IsZero() bool { return len(p.k) == 0 }

// Seed is the 32 bytes the key was built from: for storing it.
func (p Private[R]) Seed() (seed [SeedSize]byte) {
	copy(seed[:], p.k[:min(len(p.k), SeedSize)])
	return seed
}

// Public is the matching public key.
func (p Private[R]) Public() (pub Public[R]) {
	if len(p.k) == ed25519.PrivateKeySize {
		copy(pub[:], p.k[32:])
	}
	return pub
}

// Sign signs wire.Input(tag, parts...). The result is 64 bytes.
func (p Private[R]) Sign(tag string, parts ...[]byte) []byte {
	return ed25519.Sign(p.k, wire.Input(tag, parts...))
}

// Zero overwrites the key.
func (p *Private[R]) Zero() { clear(p.k); p.k = nil }

// Raw is the ed25519 key, for a transport that needs it and for a simulated
// world that signs again (node and simnet only).
func (p Private[R]) Raw() ed25519.PrivateKey { return p.k }

func (p Private[R]) String() string   { return "[private key]" }
func (p Private[R]) GoString() string { return "[private key]" }

// MarshalText refuses: a private key never becomes text by accident.
func (p Private[R]) MarshalText() ([]byte, error) { return nil, errPrint }

var errPrint = errors.New("keys: a private key or secret was about to be printed")

// Public is an Ed25519 public key of one role; comparable.
type Public[R any] [32]byte

func (p Public[R]) String() string { return hex.EncodeToString(p[:]) }

// IsZero tells a key that was never set.
func (p Public[R]) IsZero() bool { return p == Public[R]{} }

// Verify is how signatures are checked everywhere: pub 32 bytes, message, sig
// 64 bytes. It is injected, so that the simulator can remember answers.
type Verify func(pub [32]byte, message, sig []byte) bool

// Ed25519 is the Verify of production.
func Ed25519(pub [32]byte, message, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(pub[:], message, sig)
}

// Verify checks a signature made by Sign with the same tag and parts.
func (p Public[R]) Verify(v Verify, sig []byte, tag string, parts ...[]byte) bool {
	return v([32]byte(p), wire.Input(tag, parts...), sig)
}

// DHPrivate is an X25519 private key of one role.
type DHPrivate[R any] struct {
	_ [0]func()
	k *ecdh.PrivateKey
}

// NewDHPrivate builds a key from 32 bytes (clamped by X25519 itself).
func NewDHPrivate[R any](seed [SeedSize]byte) DHPrivate[R] {
	k, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		panic("keys: X25519 takes any 32 bytes: " + err.Error())
	}
	return DHPrivate[R]{k: k}
}

// Draw reads a seed from entropy and builds a key.
func (p *DHPrivate[R]) Draw(entropy io.Reader) error {
	var seed [SeedSize]byte
	if _, err := io.ReadFull(entropy, seed[:]); err != nil {
		return err
	}
	*p = NewDHPrivate[R](seed)
	clear(seed[:])
	return nil
}

// IsZero tells a key that was never set.
func (p DHPrivate[R]) IsZero() bool { return p.k == nil }

// Seed is the 32 bytes the key was built from: for storing it.
func (p DHPrivate[R]) Seed() (seed [SeedSize]byte) {
	if p.k != nil {
		b := p.k.Bytes()
		copy(seed[:], b)
		clear(b)
	}
	return seed
}

// Public is the matching public key.
func (p DHPrivate[R]) Public() (pub DHPublic[R]) {
	if p.k != nil {
		copy(pub[:], p.k.PublicKey().Bytes())
	}
	return pub
}

// DH is X25519(p, pub): 32 bytes, or ErrSmallOrder.
func (p DHPrivate[R]) DH(pub [32]byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPublicKey(pub[:])
	if err != nil {
		return nil, err
	}
	s, err := p.k.ECDH(k)
	if err != nil {
		return nil, ErrSmallOrder
	}
	return s, nil
}

// Zero forgets the key. Go's ecdh keeps its own copy, which goes with the
// garbage collector: Go allows no more.
func (p *DHPrivate[R]) Zero() { p.k = nil }

func (p DHPrivate[R]) String() string               { return "[private key]" }
func (p DHPrivate[R]) GoString() string             { return "[private key]" }
func (p DHPrivate[R]) MarshalText() ([]byte, error) { return nil, errPrint }

// DHPublic is an X25519 public key of one role; comparable.
type DHPublic[R any] [32]byte

func (p DHPublic[R]) String() string { return hex.EncodeToString(p[:]) }
func (p DHPublic[R]) IsZero() bool   { return p == DHPublic[R]{} }

// Secret is a symmetric secret of 32 bytes and one role.
type Secret[R any] struct {
	_ [0]func()
	b [SeedSize]byte
}

// NewSecret takes 32 bytes.
func NewSecret[R any](b [SeedSize]byte) Secret[R] { return Secret[R]{b: b} }

// Draw reads a secret from entropy.
func (s *Secret[R]) Draw(entropy io.Reader) error {
	_, err := io.ReadFull(entropy, s.b[:])
	return err
}

// Set fills the secret from exactly 32 bytes.
func (s *Secret[R]) Set(b []byte) error {
	if len(b) != SeedSize {
		return wire.ErrFormat
	}
	copy(s.b[:], b)
	return nil
}

// Expose returns the bytes; the slice aliases the secret.
func (s *Secret[R]) Expose() []byte { return s.b[:] }

// Equal compares in constant time.
func (s *Secret[R]) Equal(o *Secret[R]) bool {
	return subtle.ConstantTimeCompare(s.b[:], o.b[:]) == 1
}

// IsZero tells a secret that was never set or was zeroed.
func (s *Secret[R]) IsZero() bool {
	var zero [SeedSize]byte
	return subtle.ConstantTimeCompare(s.b[:], zero[:]) == 1
}

// Zero overwrites the secret.
func (s *Secret[R]) Zero() { clear(s.b[:]) }

// Derive is HKDF-SHA-256 (RFC 5869): no salt, info = wire.Input(tag, parts...),
// 32 bytes.
func (s *Secret[R]) Derive(tag string, parts ...[]byte) [SeedSize]byte {
	return Derive(s.b[:], tag, parts...)
}

func (s Secret[R]) String() string               { return "[secret]" }
func (s Secret[R]) GoString() string             { return "[secret]" }
func (s Secret[R]) MarshalText() ([]byte, error) { return nil, errPrint }

// Derive is HKDF-SHA-256 with no salt and info = wire.Input(tag, parts...).
//
// It is written out for its one size, since keys are derived for every message
// and the standard library allocates some twenty times for each.
func Derive(secret []byte, tag string, parts ...[]byte) (out [SeedSize]byte) {
	var salt [32]byte // RFC 5869 section 2.2: none is 32 zero bytes
	prk := mac(&salt, secret)
	out = mac(&prk, append(wire.Input(tag, parts...), 0x01))
	clear(prk[:])
	return out
}

// mac is HMAC-SHA-256 (RFC 2104) under a key of 32 bytes; shorter messages stay
// on the stack.
func mac(key *[32]byte, message []byte) [32]byte {
	var short [64 + 128]byte
	var outer [64 + 32]byte
	for i := range 64 {
		short[i], outer[i] = 0x36, 0x5c
	}
	for i, k := range key {
		short[i] ^= k
		outer[i] ^= k
	}
	inner := append(short[:64], message...)
	*(*[32]byte)(outer[64:]) = sha256.Sum256(inner)
	sum := sha256.Sum256(outer[:])
	clear(inner)
	clear(short[:])
	clear(outer[:])
	return sum
}
