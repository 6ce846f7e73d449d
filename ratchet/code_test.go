package ratchet

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"parallax/internal/wire"
)

func holder(name string) CodeHolder {
	r := newStream("holder " + name)
	return CodeHolder{Seat: r.take32(), Key: r.take32()}
}

// refCode is the fingerprint once more, from its definition.
func refCode(h CodeHolder) (digits string) {
	sum := cat([]byte{0, 0}, h.Key[:], h.Seat[:])
	for range 5200 {
		d := sha512.New()
		d.Write(sum)
		d.Write(h.Key[:])
		sum = d.Sum(nil)
	}
	return refDigits(sum[:30])
}

func refDigits(b []byte) (digits string) {
	for i := 0; i < len(b); i += 5 {
		v := new(big.Int).SetBytes(b[i : i+5])
		digits += fmt.Sprintf("%05d", v.Mod(v, big.NewInt(100000)))
	}
	return digits
}

func TestPairCode(t *testing.T) {
	a, b := holder("a"), holder("b")
	code := PairCode(a, b)
	x, y := refCode(a), refCode(b)
	if want := min(x, y) + max(x, y); string(code[:]) != want {
		t.Fatalf("code %s, want %s", code[:], want)
	}
	if PairCode(b, a) != code {
		t.Error("the two ends have different codes")
	}
	for _, other := range []CodeHolder{{Seat: a.Seat, Key: b.Key}, {Seat: b.Seat, Key: a.Key}, holder("c")} {
		if PairCode(a, other) == code {
			t.Error("another seat or key has the same code")
		}
	}
	const golden = "57470 12853 61454 83220 12796 25437 63487 05411 98263 59505 73932 83868"
	if code.String() != golden {
		t.Errorf("code %s, want %s", code, golden)
	}
}

// Signal's published vector of its numeric fingerprint: 33-byte identity keys,
// telephone numbers as identifiers, version 0. Both sides show one number.
func TestFingerprintIsSignals(t *testing.T) {
	const displayed = "300354477692869396892869876765458257569162576843440918079131"
	alice := unhex("0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868")
	bob := unhex("05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b")
	a, b := fingerprint(0, alice, []byte("+14152222222")), fingerprint(0, bob, []byte("+14153333333"))
	if got := string(a[:]) + string(b[:]); got != displayed {
		t.Errorf("Alice then Bob: %s, want %s", got, displayed)
	}
	if bytes.Compare(a[:], b[:]) > 0 {
		t.Error("the smaller half is not in front: sorting would show another number")
	}
	if fingerprint(1, alice, []byte("+14152222222")) == a {
		t.Error("the version does not count")
	}
	if fingerprint(0, alice, []byte("+14152222223")) == a || fingerprint(0, bob, []byte("+14152222222")) == a {
		t.Error("identifier or key does not count")
	}
}

// What a pair sees is that fingerprint of signing key and seat.
func TestPairCodeIsTheFingerprintOfKeyAndSeat(t *testing.T) {
	a, b := holder("a"), holder("b")
	x, y := fingerprint(0, a.Key[:], a.Seat[:]), fingerprint(0, b.Key[:], b.Seat[:])
	code := PairCode(a, b)
	if want := min(string(x[:]), string(y[:])) + max(string(x[:]), string(y[:])); string(code[:]) != want {
		t.Errorf("code %s, want %s", code[:], want)
	}
}

func TestGroupCode(t *testing.T) {
	gid := wire.GroupID{1}
	a, b, c := holder("a"), holder("b"), holder("c")
	code := GroupCode(gid, []CodeHolder{a, b, c})
	if GroupCode(gid, []CodeHolder{c, a, b}) != code {
		t.Error("the order counts")
	}
	swapped := []CodeHolder{{a.Seat, b.Key}, {b.Seat, a.Key}, c}
	for name, other := range map[string]NumericCode{
		"fewer": GroupCode(gid, []CodeHolder{a, b}), "another group": GroupCode(wire.GroupID{2}, []CodeHolder{a, b, c}),
		"keys swapped": GroupCode(gid, swapped), "one twice": GroupCode(gid, []CodeHolder{a, b, c, c}), "none": GroupCode(gid, nil),
	} {
		if other == code {
			t.Errorf("%s: the same code", name)
		}
	}
	one := wire.Hash("parallax/1/group-code", gid[:], wire.U64(1), cat(a.Seat[:], a.Key[:]))
	sum := one[:]
	for range 5200 {
		next := sha512.Sum512(sum)
		sum = next[:]
	}
	if got := GroupCode(gid, []CodeHolder{a}); string(got[:]) != refDigits(sum[:60]) {
		t.Errorf("code of one %s, want %s", got[:], refDigits(sum[:60]))
	}
}

func TestNumericCodeText(t *testing.T) {
	code := PairCode(holder("a"), holder("b"))
	text := code.String()
	if g := strings.Split(text, " "); len(g) != 12 || len(text) != 71 {
		t.Fatalf("%q is not 12 groups of five", text)
	}
	for _, typed := range []string{text, string(code[:]), "  " + strings.ReplaceAll(text, " ", "\n") + "\t"} {
		if !code.Matches(typed) {
			t.Errorf("%q does not match", typed)
		}
	}
	wrong := []byte(text)
	wrong[70] ^= 1
	for _, typed := range []string{"", text[:70], text + "0", string(wrong)} {
		if code.Matches(typed) {
			t.Errorf("%q matches", typed)
		}
	}
}
