package ratchet

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Paths is the policy of a first contact: over which relays its secrets are
// shared and how many shares suffice. Both sides take it from their own roster,
// never from a message, and it is in the transcript: sides that differ in it
// have no session.
type Paths struct {
	K      int                // shares that suffice, 1 to len(Relays); 0: unmixed
	Relays []keys.RelayPublic // ascending, distinct, at most MaxPaths
}

// Digest is pol, which enters the transcript: H("paths", gid, U64(k), relay
// keys); of an unmixed policy H("paths", gid, U64(0)).
func (p Paths) Digest(group wire.GroupID) wire.Digest {
	parts := append(make([][]byte, 0, 2+MaxPaths), group[:], wire.U64(uint64(p.K)))
	if p.K != 0 {
		for i := range p.Relays {
			parts = append(parts, p.Relays[i][:])
		}
	}
	return sha256.Sum256(wire.Input(tagPaths, parts...))
}

// check refuses what is no policy of a mixed first contact.
func (p Paths) check() error {
	if p.K < 1 || p.K > len(p.Relays) || len(p.Relays) > MaxPaths {
		return fmt.Errorf("ratchet: %d of %d paths, at most %d: %w", p.K, len(p.Relays), MaxPaths, ErrPaths)
	}
	for i := 1; i < len(p.Relays); i++ {
		if !ascends(p.Relays[i-1], p.Relays[i]) {
			return fmt.Errorf("ratchet: path %d of %d: %w", i, len(p.Relays), ErrPaths)
		}
	}
	return nil
}

func ascends(a, b keys.RelayPublic) bool { return bytes.Compare(a[:], b[:]) < 0 }

// place is the path of a relay, or ErrPath.
func (p Paths) place(relay keys.RelayPublic) (int, error) {
	i := slices.Index(p.Relays, relay)
	if i < 0 {
		return 0, fmt.Errorf("ratchet: relay %s: %w", relay, ErrPath)
	}
	return i, nil
}

// clone keeps the policy apart from the caller's list.
func (p Paths) clone() Paths { return Paths{K: p.K, Relays: slices.Clone(p.Relays)} }

// shareKeys are the keys of all shares of one secret: one for each path and
// used for one share, since a key that sealed two would give away their
// difference (the nonce is zero). salt is T or T', secret SK0 or RKa.
type shareKeys struct {
	prk  [32]byte
	salt wire.Digest
	tag  string
	text [ShareSize]byte // the AEAD is called through an interface: no allocation for each share
}

func newShareKeys(salt wire.Digest, secret *[32]byte, tag string) shareKeys {
	return shareKeys{prk: extract((*[32]byte)(&salt), secret[:]), salt: salt, tag: tag}
}

// key is the second half of HKDF with info Input(tag, relay key).
func (k *shareKeys) key(relay keys.RelayPublic) [32]byte {
	b := append(make([]byte, 0, maxMessage), byte(len(k.tag)))
	b = append(b, k.tag...)
	b = wire.AppendU32(b, uint32(len(relay)))
	b = append(b, relay[:]...)
	return mac(&k.prk, append(b, 0x01))
}

// seal makes the sealed share of a path, 48 bytes.
func (k *shareKeys) seal(relay keys.RelayPublic, share *[32]byte) (sealed [ShareSize]byte) {
	key := k.key(relay)
	copy(k.text[:], share[:])
	newAEAD(&key).Seal(k.text[:0], zeroNonce[:], k.text[:len(share)], k.salt[:])
	clear(key[:])
	return k.text
}

// open opens what seal made for the same path, or ErrShare.
func (k *shareKeys) open(relay keys.RelayPublic, sealed *[ShareSize]byte) (share [32]byte, err error) {
	key := k.key(relay)
	k.text = *sealed
	plain, err := newAEAD(&key).Open(k.text[:0], zeroNonce[:], k.text[:], k.salt[:])
	clear(key[:])
	if err != nil {
		return share, fmt.Errorf("ratchet: path of relay %s: %w", relay, ErrShare)
	}
	copy(share[:], plain)
	clear(k.text[:])
	return share, nil
}

func (k *shareKeys) zero() { clear(k.prk[:]) }

// mixStep mixes the responder's secret into the root key of its first chain:
// the next root key and that chain's key. m is erased.
func mixStep(root, m *[32]byte, answer wire.Digest) (next, chain [32]byte) {
	var ikm [64]byte
	copy(ikm[:], m[:])
	copy(ikm[32:], answer[:])
	next, chain = derivePair(root, ikm[:], tagMixResponder)
	clear(ikm[:])
	clear(m[:])
	return next, chain
}

// answerTranscript is T': own is the first ratchet key that the responder drew.
func answerTranscript(t wire.Digest, own keys.RatchetPublic) wire.Digest {
	return sha256.Sum256(wire.Input(tagAnswer, t[:], own[:]))
}
