package ratchet

import (
	"bytes"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"strings"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// codeRounds makes each try of a search for a colliding code cost as many
// hashes, as in Signal's numeric fingerprint.
const codeRounds = 5200

// NumericCode is a security code that people compare: 60 digits. Equal codes at
// both ends mean equal keys; only that may be called verified.
type NumericCode [60]byte

// CodeHolder is a seat and its signing key, as one side has them.
type CodeHolder struct {
	Seat wire.Seat
	Key  keys.SigningPublic
}

// PairCode is the code of two seats, the same whichever comes first: 30 digits
// of each, sorted. Each side iterates hash = SHA-512(hash || key) from version
// (u16 0) || key || seat.
func PairCode(a, b CodeHolder) (code NumericCode) {
	x, y := holderDigits(a), holderDigits(b)
	if bytes.Compare(x[:], y[:]) > 0 {
		x, y = y, x
	}
	copy(code[:30], x[:])
	copy(code[30:], y[:])
	return code
}

func holderDigits(h CodeHolder) [30]byte { return fingerprint(0, h.Key[:], h.Seat[:]) }

// fingerprint is Signal's displayable fingerprint of one side: 30 digits of an
// iterated SHA-512 from version (u16), key and identifier of any length.
func fingerprint(version uint16, key, identifier []byte) (digits [30]byte) {
	first := binary.BigEndian.AppendUint16(nil, version)
	sum := sha512.Sum512(slices.Concat(first, key, identifier, key))
	in := append(sum[:], key...)
	for range codeRounds - 1 {
		sum = sha512.Sum512(in)
		copy(in, sum[:])
	}
	writeDigits(digits[:], in[:sha512.Size])
	return digits
}

// GroupCode is the one code of a whole group: of every seat with its key, in
// any order. It starts from H("group-code", gid, U64(count), seat || key of each
// seat ascending) and iterates SHA-512.
func GroupCode(group wire.GroupID, members []CodeHolder) (code NumericCode) {
	sorted := slices.SortedFunc(slices.Values(members), func(a, b CodeHolder) int {
		if c := bytes.Compare(a.Seat[:], b.Seat[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.Key[:], b.Key[:])
	})
	parts := [][]byte{group[:], wire.U64(uint64(len(sorted)))}
	for i := range sorted {
		parts = append(parts, slices.Concat(sorted[i].Seat[:], sorted[i].Key[:]))
	}
	first := wire.Hash(tagGroupCode, parts...)
	sum := sha512.Sum512(first[:])
	for range codeRounds - 1 {
		sum = sha512.Sum512(sum[:])
	}
	writeDigits(code[:], sum[:])
	return code
}

// writeDigits turns every 5 bytes of sum, as a big-endian number modulo
// 100,000, into 5 digits until digits is full.
func writeDigits(digits, sum []byte) {
	for i := 0; i < len(digits); i += 5 {
		var b [8]byte
		copy(b[3:], sum[i:i+5])
		v := binary.BigEndian.Uint64(b[:]) % 100_000
		for j := 4; j >= 0; j-- {
			digits[i+j] = '0' + byte(v%10)
			v /= 10
		}
	}
}

// String is the code in 12 groups of five digits.
func (c NumericCode) String() string {
	var b strings.Builder
	for i := 0; i < len(c); i += 5 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.Write(c[i : i+5])
	}
	return b.String()
}

// Matches compares with what somebody typed or scanned, in constant time;
// white space in it does not count.
func (c NumericCode) Matches(typed string) bool {
	return subtle.ConstantTimeCompare(c[:], []byte(strings.Join(strings.Fields(typed), ""))) == 1
}
