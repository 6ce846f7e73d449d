package ratchet

import "crypto/sha256"

// HKDF-SHA-256 (RFC 5869) with salts of 32 bytes, from the HMAC below; info is
// the tag itself.

// extract is the first half of HKDF. The header keys of both directions come
// from one extraction, so that a record keeps 32 bytes for the two.
func extract(salt *[32]byte, ikm []byte) (prk [32]byte) { return mac(salt, ikm) }

// expand is the second half for 32 bytes.
func expand(prk *[32]byte, tag string) [32]byte {
	return mac(prk, append(append(make([]byte, 0, maxMessage), tag...), 0x01))
}

// derive is HKDF for 32 bytes.
func derive(salt *[32]byte, ikm []byte, tag string) (out [32]byte) {
	prk := extract(salt, ikm)
	out = expand(&prk, tag)
	clear(prk[:])
	return out
}

// derivePair is HKDF for 64 bytes.
func derivePair(salt *[32]byte, ikm []byte, tag string) (first, second [32]byte) {
	prk := extract(salt, ikm)
	first = expand(&prk, tag)
	var b [maxMessage]byte
	second = mac(&prk, append(append(append(b[:0], first[:]...), tag...), 0x02))
	clear(prk[:])
	clear(b[:])
	return first, second
}

// rootStep is KDF_RK of the Double Ratchet, section 3.1, as recommended in its
// section on algorithms: the next root key and a chain key. dh is erased.
func rootStep(root *[32]byte, dh []byte) (next, chain [32]byte) {
	next, chain = derivePair(root, dh, tagRoot)
	clear(dh)
	return next, chain
}

// chainStep is KDF_CK of the Double Ratchet: mk = HMAC(ck, 0x01), then ck
// becomes HMAC(ck, 0x02).
func chainStep(ck, mk *[32]byte) {
	*mk, *ck = chainMACs(ck)
}

// maxMessage is the longest input of mac that stays on the stack.
const maxMessage = 64

// mac is HMAC-SHA-256 (RFC 2104). It is written out because keys of 32 bytes and
// inputs up to maxMessage stay on the stack: this runs twice for each of a
// thousand members, and 100,000 times for the dearest forgery.
func mac(key *[32]byte, message []byte) [32]byte {
	var short [64 + maxMessage]byte
	var outer [64 + 32]byte
	for i := range 32 {
		short[i] = key[i] ^ 0x36
		outer[i] = key[i] ^ 0x5c
	}
	for i := 32; i < 64; i++ {
		short[i] = 0x36
		outer[i] = 0x5c
	}
	inner := append(short[:64], message...)
	*(*[32]byte)(outer[64:]) = sha256.Sum256(inner)
	sum := sha256.Sum256(outer[:])
	clear(inner)
	clear(short[:])
	clear(outer[:])
	return sum
}
