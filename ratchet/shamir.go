package ratchet

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Shamir's secret sharing (Communications of the ACM 22(11), 1979) of 32 bytes,
// byte by byte over GF(2^8) with the polynomial of AES, x^8+x^4+x^3+x+1. Share i
// of n is the value at x = i+1, so the order of the paths is the order of the
// shares. No table is indexed and no branch taken by a secret: places are
// public, values are not.

// values32 is 32 elements of the field, 8 in a word.
type values32 [4]uint64

func load(b *[32]byte) (v values32) {
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return v
}

func (v *values32) store(b *[32]byte) {
	for i := range v {
		binary.LittleEndian.PutUint64(b[8*i:], v[i])
	}
}

func (v *values32) add(w *values32) {
	for i := range v {
		v[i] ^= w[i]
	}
}

// times is v*x for all elements, eight at a time. Its steps depend on x, which
// is public, and not on v.
func (v *values32) times(x byte) (p values32) {
	const top = 0x8080808080808080
	for t := *v; x != 0; x >>= 1 {
		chosen := -uint64(x & 1)
		for i := range t {
			p[i] ^= t[i] & chosen
			carry := t[i] & top >> 7
			t[i] = t[i]&^top<<1 ^ carry ^ carry<<1 ^ carry<<3 ^ carry<<4
		}
	}
	return p
}

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
	var coefficients [MaxPaths]values32
	defer clear(coefficients[:])
	coefficients[0] = load(secret)
	shares := make([][32]byte, n)
	for i := 1; i < k; i++ {
		c := &shares[0] // room for what is read
		if _, err := io.ReadFull(entropy, c[:]); err != nil {
			clear(shares)
			return nil, fmt.Errorf("coefficient %d of %d: %w", i, k-1, err)
		}
		coefficients[i] = load(c)
	}
	for i := range shares {
		v := coefficients[k-1]
		for c := k - 2; c >= 0; c-- { // Horner
			v = v.times(place(i))
			v.add(&coefficients[c])
		}
		v.store(&shares[i])
		clear(v[:])
	}
	return shares, nil
}

// combine gives back what split shared, from exactly k shares: values[j] is the
// share of path at[j], paths distinct. Other values give another secret; that a
// share is authentic is the business of its seal.
func combine(at []int, values [][32]byte) (secret [32]byte) {
	var sum values32
	for j := range at {
		over, under := byte(1), byte(1) // weight of share j in the interpolation at 0
		for m := range at {
			if m != j {
				over = fieldMul(over, place(at[m]))
				under = fieldMul(under, place(at[m])^place(at[j]))
			}
		}
		v := load(&values[j])
		v = v.times(fieldMul(over, fieldInv(under)))
		sum.add(&v)
		clear(v[:])
	}
	sum.store(&secret)
	clear(sum[:])
	return secret
}

// place is the x of a path's share.
func place(path int) byte { return byte(path + 1) }
