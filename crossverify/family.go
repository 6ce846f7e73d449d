package crossverify

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	tagFamily   = "parallax/1/family"
	tagFamilyID = "parallax/1/family/id"

	declarationFormat = 1
)

// DeclarationSize is the length of an encoded Declaration.
const DeclarationSize = 1 + 2*32 + 2*64

// Errors of declarations.
var (
	// ErrDeclaration: the bytes are not a declaration.
	ErrDeclaration = errors.New("not a family declaration")
	// ErrDeclarationFormat: the declaration has a newer format than this one.
	ErrDeclarationFormat = errors.New("a family declaration of a newer format")
	// ErrNotDeclared: one of the two operators did not sign it.
	ErrNotDeclared = errors.New("not declared by both operators")
)

// Family names operators that declared, pair by pair, that they belong
// together; zero: an operator without relatives.
type Family wire.Digest

// Declaration is the word of two operators that they are one family, so that
// their relays count as one voice (section 9.1). Without both signatures it
// says nothing: nobody can be made a relative. It only ever takes weight away
// from those who sign it, so it needs no expiry.
type Declaration struct {
	First, Second keys.OperatorPublic // First has the smaller bytes
	Signatures    [2][64]byte         // in the same order
}

// Declare is an unsigned declaration of two operators, in either order.
func Declare(a, b keys.OperatorPublic) Declaration {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return Declaration{First: a, Second: b}
}

// Sign adds the signature of one of the two. It refuses another operator's key
// with ErrNotDeclared.
func (d *Declaration) Sign(key keys.OperatorPrivate) error {
	signature := [64]byte(key.Sign(tagFamily, d.First[:], d.Second[:]))
	switch key.Public() {
	case d.First:
		d.Signatures[0] = signature
	case d.Second:
		d.Signatures[1] = signature
	default:
		return fmt.Errorf("%w: operator %s is neither of the two", ErrNotDeclared, key.Public())
	}
	return nil
}

// Check is nil if two different operators, in order, both signed; otherwise
// ErrDeclaration or ErrNotDeclared.
func (d Declaration) Check(v keys.Verify) error {
	if bytes.Compare(d.First[:], d.Second[:]) >= 0 {
		return fmt.Errorf("%w: it does not name two operators in ascending order", ErrDeclaration)
	}
	for i, o := range []keys.OperatorPublic{d.First, d.Second} {
		if !o.Verify(v, d.Signatures[i][:], tagFamily, d.First[:], d.Second[:]) {
			return fmt.Errorf("%w: no signature of operator %s", ErrNotDeclared, o)
		}
	}
	return nil
}

// Append appends the DeclarationSize bytes of d: u8 format = 1, first 32,
// second 32, signature of the first 64, of the second 64.
func (d Declaration) Append(b []byte) []byte {
	b = append(b, declarationFormat)
	b = append(b, d.First[:]...)
	b = append(b, d.Second[:]...)
	b = append(b, d.Signatures[0][:]...)
	return append(b, d.Signatures[1][:]...)
}

// ParseDeclaration reads exactly what Append writes: two operators in ascending
// order. It checks no signature.
func ParseDeclaration(b []byte) (Declaration, error) {
	r := wire.NewReader(b)
	if format := r.U8(); format > declarationFormat {
		return Declaration{}, fmt.Errorf("%w: format %d, this version reads %d", ErrDeclarationFormat, format, declarationFormat)
	} else if format < declarationFormat {
		r.Fail(wire.ErrFormat)
	}
	var d Declaration
	r.Fixed(d.First[:])
	r.Fixed(d.Second[:])
	r.Fixed(d.Signatures[0][:])
	r.Fixed(d.Signatures[1][:])
	if bytes.Compare(d.First[:], d.Second[:]) >= 0 {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return Declaration{}, fmt.Errorf("%w: it %w (%d bytes, want %d)", ErrDeclaration, err, len(b), DeclarationSize)
	}
	return d, nil
}

// Families is the family of each operator, for Policy.Families. Declarations
// join operators, also by way of third ones; one that Check refuses joins
// nobody. The id hashes the keys of all its members, ascending.
func Families(operators []keys.OperatorPublic, declarations []Declaration, v keys.Verify) []Family {
	family := map[keys.OperatorPublic][]keys.OperatorPublic{} // each member's, shared by all of it
	of := func(o keys.OperatorPublic) []keys.OperatorPublic {
		if members := family[o]; members != nil {
			return members
		}
		return []keys.OperatorPublic{o}
	}
	for _, d := range declarations {
		a, b := of(d.First), of(d.Second)
		if slices.Contains(a, d.Second) || d.Check(v) != nil {
			continue
		}
		all := slices.Concat(a, b)
		for _, o := range all {
			family[o] = all
		}
	}
	out := make([]Family, len(operators))
	for i, o := range operators {
		if members := family[o]; members != nil {
			sorted := slices.SortedFunc(slices.Values(members), func(a, b keys.OperatorPublic) int { return bytes.Compare(a[:], b[:]) })
			var parts [][]byte
			for _, m := range sorted {
				parts = append(parts, m[:])
			}
			out[i] = Family(wire.Hash(tagFamilyID, parts...))
		}
	}
	return out
}
