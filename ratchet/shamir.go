package ratchet

import (
	"crypto/subtle"
	"fmt"
	"io"
)

// Shamir's secret sharing (Communications of the ACM 22(11), 1979) of 32 bytes,
// byte by byte over GF(2^8) with the polynomial of AES, x^8+x^4+x^3+x+1. Share i
// of n is the value at x = i+1, so the order of the paths is the order of the
// shares. No table is indexed and no branch taken by a secret: places are
// public, values are not.

// fieldMul is a*b, in the same steps for all values.
func fieldMul(a, b byte) (p byte) {
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// fieldInv is 1/a = a^254; 0 for 0.
func fieldInv(a byte) byte {
	inv := byte(1)
	for range 7 { // a^(2+4+...+128)
		a = fieldMul(a, a)
		inv = fieldMul(inv, a)
	}
	return inv
}

// split shares secret among n so that any k of them give it back: 1 <= k <= n
// <= MaxPaths. It reads 32*(k-1) bytes from entropy, the coefficients of x, x^2
// and so on.
func split(entropy io.Reader, secret *[32]byte, k, n int) ([][32]byte, error) {
	coefficients := make([][32]byte, k)
	defer clear(coefficients)
	coefficients[0] = *secret
	for i := 1; i < k; i++ {
		if _, err := io.ReadFull(entropy, coefficients[i][:]); err != nil {
			return nil, fmt.Errorf("coefficient %d of %d: %w", i, k-1, err)
		}
	}
	shares := make([][32]byte, n)
	for i := range shares {
		for c := k - 1; c >= 0; c-- { // Horner
			for j := range shares[i] {
				shares[i][j] = fieldMul(shares[i][j], place(i)) ^ coefficients[c][j]
			}
		}
	}
	return shares, nil
}

// combine gives back what split shared, from exactly k shares: values[j] is the
// share of path at[j], paths distinct. Other values give another secret; that a
// share is authentic is the business of its seal.
func combine(at []int, values [][32]byte) (secret [32]byte) {
	for j := range at {
		weight := byte(1) // of share j in the interpolation at 0
		for m := range at {
			if m != j {
				weight = fieldMul(weight, fieldMul(place(at[m]), fieldInv(place(at[m])^place(at[j]))))
			}
		}
		var term [32]byte
		for b := range term {
			term[b] = fieldMul(values[j][b], weight)
		}
		subtle.XORBytes(secret[:], secret[:], term[:])
		clear(term[:])
	}
	return secret
}

// place is the x of a path's share.
func place(path int) byte { return byte(path + 1) }
