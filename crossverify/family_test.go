package crossverify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"parallax/internal/keys"
)

func operatorKey(b byte) keys.OperatorPrivate {
	var seed [keys.SeedSize]byte
	seed[0], seed[1] = b, 0x0b
	return new(keys.OperatorPrivate).FromSeed(seed)
}

func declared(t testing.TB, a, b byte) Declaration {
	d := Declare(operatorKey(a).Public(), operatorKey(b).Public())
	for _, who := range []byte{a, b} {
		if err := d.Sign(operatorKey(who)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestDeclaration(t *testing.T) {
	d := declared(t, 1, 2)
	if err := d.Check(keys.Ed25519); err != nil {
		t.Error(err)
	}
	b := d.Append(nil)
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); len(b) != DeclarationSize || got != "6ccde5623358b328fdbabb10439cdfbe5c9d56db20c9edb833258b72409659f4" {
		t.Errorf("a declaration has %d bytes, SHA-256 %s", len(b), got)
	}
	if again, err := ParseDeclaration(b); err != nil || again != d || declared(t, 2, 1) != d {
		t.Errorf("%v, %+v", err, again)
	}
	if err := d.Sign(operatorKey(3)); !errors.Is(err, ErrNotDeclared) {
		t.Errorf("a stranger signed: %v", err)
	}
	// A word of one side alone, of a stranger, of the same signature twice,
	// about others, or any other bytes: nothing.
	half := Declare(d.First, d.Second)
	half.Signatures[0] = d.Signatures[0]
	twice := half
	twice.Signatures[1] = d.Signatures[0]
	other := declared(t, 1, 3)
	other.Second, other.First = d.Second, d.First
	for name, bad := range map[string]Declaration{"one side": half, "one side twice": twice, "about others": other, "nobody": {}} {
		if err := bad.Check(keys.Ed25519); !errors.Is(err, ErrNotDeclared) && !errors.Is(err, ErrDeclaration) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if again, err := ParseDeclaration(c); err == nil && again.Check(keys.Ed25519) == nil {
			t.Fatalf("byte %d changed and still declared", i)
		}
	}
	for _, c := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0), append([]byte{0}, b[1:]...),
		slices.Concat(b[:1], b[33:65], b[1:33], b[65:])} {
		if _, err := ParseDeclaration(c); !errors.Is(err, ErrDeclaration) {
			t.Errorf("%d bytes: %v", len(c), err)
		}
	}
	if _, err := ParseDeclaration(append([]byte{2}, b[1:]...)); !errors.Is(err, ErrDeclarationFormat) {
		t.Error(err)
	}
}

// Declarations join in any order, through operators outside the group too;
// broken ones join nobody.
func TestFamilies(t *testing.T) {
	var group []keys.OperatorPublic
	for i := range byte(5) {
		group = append(group, operatorKey(i).Public())
	}
	broken := Declare(group[3], group[4])
	if err := broken.Sign(operatorKey(3)); err != nil {
		t.Fatal(err)
	}
	all := []Declaration{declared(t, 0, 9), broken, declared(t, 9, 2), declared(t, 2, 0)}
	want := Families(group, all, keys.Ed25519)
	if want[0] == (Family{}) || want[0] != want[2] || want[1] != (Family{}) || want[3] != (Family{}) || want[4] != (Family{}) {
		t.Fatalf("families %v", want)
	}
	golden(t, "a family's id", want[0][:], "2d99666055f5115b1bbf1fddfd49ae79a1a1a9fdaaed6c528ea5ca8454834d96")
	for range 4 {
		all = append(all[1:], all[0])
		if got := Families(group, all, keys.Ed25519); !slices.Equal(got, want) {
			t.Errorf("in another order %v", got)
		}
	}
	for _, c := range []struct {
		families []Family
		distinct int
		classes  []int
	}{
		{nil, 4, []int{0, 1, 2, 3, 0}},
		{[]Family{{1}, {2}, {1}}, 3, []int{0, 1, 0, 3, 0}},
		{[]Family{{}, {}, {}, {3}, {3}}, 3, []int{0, 1, 2, 0, 0}},
		{[]Family{{1}, {2}, {3}, {2}, {3}}, 2, []int{0, 1, 0, 1, 0}},
	} {
		p := Policy{Operators: operators("ABCDA"), Families: c.families}
		if got := p.classes(); !slices.Equal(got, c.classes) || p.Distinct() != c.distinct {
			t.Errorf("%v: classes %v, %d distinct", c.families, got, p.Distinct())
		}
	}
	// One family is one voice: two of its relays are not two operators.
	l := NewLedger(Policy{Operators: operators("ABC"), Families: []Family{{1}, {1}}})
	s := Admission(digest(1))
	l.Claim(t0, 0, s, digest(1))
	l.Claim(t0, 1, s, digest(1))
	if got := brief(l.Report(s)); got != "unconfirmed 1 mma 1/1" {
		t.Error(got)
	}
	l.Claim(t0, 2, s, digest(1))
	if got := brief(l.Report(s)); got != "agreed 1 mmm 2/2 settled usable" {
		t.Error(got)
	}
}

func FuzzParseDeclaration(f *testing.F) {
	f.Add(declared(f, 1, 2).Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDeclaration(b)
		if err != nil {
			if !errors.Is(err, ErrDeclaration) && !errors.Is(err, ErrDeclarationFormat) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(d.Append(nil), b) {
			t.Fatal("not what was read")
		}
	})
}
