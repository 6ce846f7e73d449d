package ratchet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The obvious field: polynomials are multiplied as on paper, then divided.
func refFieldMul(a, b byte) byte {
	p := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			p ^= int(a) << i
		}
	}
	for i := 14; i >= 8; i-- {
		if p>>i&1 == 1 {
			p ^= 0x11b << (i - 8)
		}
	}
	return byte(p)
}

func refFieldInv(a byte) byte {
	for b := range 256 {
		if refFieldMul(a, byte(b)) == 1 {
			return byte(b)
		}
	}
	panic("0 has no inverse")
}

// refSplit evaluates sum of c_j x^j, term by term.
func refSplit(coefficients [][]byte, n int) (shares [][]byte) {
	for x := 1; x <= n; x++ {
		share := make([]byte, 32)
		power := byte(1)
		for _, c := range coefficients {
			for b := range share {
				share[b] ^= refFieldMul(c[b], power)
			}
			power = refFieldMul(power, byte(x))
		}
		shares = append(shares, share)
	}
	return shares
}

// refCombine solves the equations sum of c_j x^j = share by elimination.
func refCombine(at []int, shares [][]byte) (secret []byte) {
	k := len(at)
	rows := make([][]byte, k)
	for i := range rows {
		rows[i] = make([]byte, k)
		power := byte(1)
		for j := range k {
			rows[i][j] = power
			power = refFieldMul(power, byte(at[i]+1))
		}
		rows[i] = append(rows[i], shares[i]...)
	}
	for c := range k {
		p := c
		for rows[p][c] == 0 {
			p++
		}
		rows[c], rows[p] = rows[p], rows[c]
		inv := refFieldInv(rows[c][c])
		for j := range rows[c] {
			rows[c][j] = refFieldMul(rows[c][j], inv)
		}
		for i := range rows {
			if f := rows[i][c]; i != c && f != 0 {
				for j := range rows[i] {
					rows[i][j] ^= refFieldMul(f, rows[c][j])
				}
			}
		}
	}
	return rows[0][k:]
}

func TestField(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			if fieldMul(byte(a), byte(b)) != refFieldMul(byte(a), byte(b)) {
				t.Fatalf("%d times %d", a, b)
			}
		}
		if a > 0 && fieldMul(byte(a), fieldInv(byte(a))) != 1 {
			t.Fatalf("1/%d", a)
		}
	}
	if fieldMul(0x57, 0x83) != 0xc1 { // FIPS 197, section 4.2
		t.Fatal("not the field of AES")
	}
}

// subsets calls f with every k of n places.
func subsets(n, k int, f func(at []int)) {
	for set := range 1 << n {
		if bits.OnesCount(uint(set)) != k {
			continue
		}
		var at []int
		for i := range n {
			if set>>i&1 == 1 {
				at = append(at, i)
			}
		}
		f(at)
	}
}

func pick[T any](at []int, all []T) (some []T) {
	for _, i := range at {
		some = append(some, all[i])
	}
	return some
}

func TestEverySubsetOfKReconstructs(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for k := 1; k <= n; k++ {
			r := newStream("subsets")
			secret := r.take32()
			shares, err := split(r, &secret, k, n)
			must(err)
			subsets(n, k, func(at []int) {
				if combine(at, pick(at, shares)) != secret {
					t.Fatalf("%d of %d: shares %v", k, n, at)
				}
				slices.Reverse(at)
				if combine(at, pick(at, shares)) != secret {
					t.Fatalf("%d of %d: shares %v", k, n, at)
				}
			})
			if k > 1 {
				subsets(n, k-1, func(at []int) {
					if combine(at, pick(at, shares)) == secret {
						t.Fatalf("%d of %d: shares %v are enough", k, n, at)
					}
				})
			}
		}
	}
}

func TestShamirAgainstTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxPaths).Draw(t, "n")
		k := rapid.IntRange(1, n).Draw(t, "k")
		material := rapid.SliceOfN(rapid.Byte(), 32*k, 32*k).Draw(t, "coefficients")
		secret := [32]byte(material)
		shares, err := split(bytes.NewReader(material[32:]), &secret, k, n)
		if err != nil {
			t.Fatal(err)
		}
		want := refSplit(slices.Collect(slices.Chunk(material, 32)), n)
		for i := range shares {
			if !bytes.Equal(shares[i][:], want[i]) {
				t.Fatalf("share %d of %d differs", i, n)
			}
		}
		at := rapid.Permutation(slices.Collect(func(yield func(int) bool) {
			for i := range n {
				if !yield(i) {
					return
				}
			}
		})).Draw(t, "order")[:k]
		got := combine(at, pick(at, shares))
		if got != secret || !bytes.Equal(refCombine(at, pick(at, want)), secret[:]) {
			t.Fatalf("shares %v of %d give another secret", at, n)
		}
	})
}

// Shares by hand: secret 0x42 in every byte, coefficients 0x01 and 0x02.
func TestShamirVectors(t *testing.T) {
	fill := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	secret := [32]byte(fill(0x42))
	shares, err := split(bytes.NewReader(slices.Concat(fill(1), fill(2))), &secret, 3, 4)
	must(err)
	// x=1: 42^01^02; x=2: 42^02^08; x=3: 42^03^0a; x=4: 42^04^20
	for i, want := range []byte{0x41, 0x48, 0x4b, 0x66} {
		if !bytes.Equal(shares[i][:], fill(want)) {
			t.Errorf("share %d is %x, want %x", i, shares[i][0], want)
		}
	}
	golden := newStream("shamir golden")
	secret = golden.take32()
	shares, err = split(golden, &secret, 2, 3)
	must(err)
	if got := hex.EncodeToString(shares[2][:]); got != "22420100fd86d39e23f8d08d0befe229076089bd110d0b58f21854d7d3231474" {
		t.Errorf("third share %s", got)
	}
	if _, err := split(bytes.NewReader(fill(1)), &secret, 3, 3); !errors.Is(err, io.EOF) {
		t.Errorf("too little entropy: %v", err)
	}
}

// k-1 shares say nothing: over all coefficients, every value of them comes up
// equally often, whatever the secret. A sharing with one coefficient less, or
// with one that is never 0, fails here.
func TestTooFewSharesAreIndependentOfTheSecret(t *testing.T) {
	one := func(secret byte, coefficients ...byte) (values [3]byte) {
		var s [32]byte
		s[0] = secret
		var material []byte
		for _, c := range coefficients {
			material = append(material, append([]byte{c}, make([]byte, 31)...)...)
		}
		shares, err := split(bytes.NewReader(material), &s, 1+len(coefficients), 3)
		must(err)
		for i := range values {
			values[i] = shares[i][0]
		}
		return values
	}
	for secret := range 256 { // 2 of 3, one share
		var seen [3][256]int
		for c := range 256 {
			for path, v := range one(byte(secret), byte(c)) {
				seen[path][v]++
			}
		}
		for path := range seen {
			for v, times := range seen[path] {
				if times != 1 {
					t.Fatalf("secret %d: share %d is %d for %d coefficients", secret, path, v, times)
				}
			}
		}
	}
	for _, secret := range []byte{0, 0x42} { // 3 of 3, two shares
		seen := make([]int, 1<<16)
		for c := range 1 << 16 {
			v := one(secret, byte(c), byte(c>>8))
			seen[int(v[0])<<8|int(v[2])]++
		}
		if i := slices.IndexFunc(seen, func(times int) bool { return times != 1 }); i >= 0 {
			t.Fatalf("secret %d: shares 0 and 2 are %x for %d coefficients", secret, i, seen[i])
		}
	}
}
