package ratchet

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// extractExpand is HKDF-SHA-256 (RFC 5869); info is the tag itself.
func extractExpand(salt, ikm []byte, tag string, size int) []byte {
	out, err := hkdf.Key(sha256.New, ikm, salt, tag, size)
	if err != nil {
		panic("ratchet: HKDF of at most 64 bytes: " + err.Error())
	}
	return out
}

// extract is the first half of HKDF-SHA-256. The header keys of both directions
// come from one extraction, so that a record keeps 32 bytes for the two.
func extract(salt, ikm []byte) (prk [32]byte) {
	out, err := hkdf.Extract(sha256.New, ikm, salt)
	if err != nil {
		panic("ratchet: HKDF extraction: " + err.Error())
	}
	copy(prk[:], out)
	clear(out)
	return prk
}

// expand is the second half for 32 bytes: HMAC(prk, tag || 0x01).
func expand(prk *[32]byte, tag string) [32]byte {
	return mac(prk, append(append(make([]byte, 0, maxMessage), tag...), 0x01))
}

// rootStep is KDF_RK of the Double Ratchet, section 3.1, as recommended in its
// section on algorithms: the next root key and a chain key. dh is erased.
func rootStep(root *[32]byte, dh []byte) (next, chain [32]byte) {
	out := extractExpand(root[:], dh, tagRoot, 64)
	copy(next[:], out[:32])
	copy(chain[:], out[32:])
	clear(out)
	clear(dh)
	return next, chain
}

// chainStep is KDF_CK of the Double Ratchet: mk = HMAC(ck, 0x01), then ck
// becomes HMAC(ck, 0x02).
func chainStep(ck, mk *[32]byte) {
	*mk, *ck = chainMACs(ck)
}

// maxMessage is the longest input of mac.
const maxMessage = 64

// mac is HMAC-SHA-256 (RFC 2104) of at most maxMessage bytes. It is written out
// because keys and inputs of fixed sizes stay on the stack: this runs twice for
// each of a thousand members, and 100,000 times for the dearest forgery.
func mac(key *[32]byte, message []byte) [32]byte {
	var inner [64 + maxMessage]byte
	var outer [64 + 32]byte
	for i := range 32 {
		inner[i] = key[i] ^ 0x36
		outer[i] = key[i] ^ 0x5c
	}
	for i := 32; i < 64; i++ {
		inner[i] = 0x36
		outer[i] = 0x5c
	}
	n := 64 + copy(inner[64:], message)
	*(*[32]byte)(outer[64:]) = sha256.Sum256(inner[:n])
	sum := sha256.Sum256(outer[:])
	clear(inner[:])
	clear(outer[:])
	return sum
}
