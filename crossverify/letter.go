package crossverify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"parallax/internal/wire"
)

const (
	tagEvidence    = "parallax/1/evidence"
	evidenceFormat = 1
	evidenceTitle  = "parallax evidence "
	checkField     = "check"

	// MaxEvidence is the greatest length of an evidence text in bytes. The
	// longest has a proof of MaxSiblings siblings, 16,534 hex digits.
	MaxEvidence = 24 << 10
)

// field is one `name: hex` line: a value of fixed length, a number (16 hex
// digits) or a proof.
type field struct {
	name   string
	fixed  []byte
	number *uint64
	proof  *Proof
}

// fields are the lines of e in their order, pointing into e. What the parts
// must share stands once, so reading ends with spread.
func (e *Evidence) fields() []field {
	a, b, o := &e.First, &e.Second, &e.Opened
	one := func(who string, s *Statement) []field {
		return []field{
			{name: who + " number", number: &s.N},
			{name: who + " digest", fixed: s.D[:]},
			{name: who + " head", fixed: s.H[:]},
			{name: who + " root", fixed: s.Root[:]},
			{name: who + " signature", fixed: s.Signature[:]},
		}
	}
	f := []field{
		{name: "relay", fixed: a.Relay[:]},
		{name: "channel", fixed: a.Channel[:]},
		{name: "lineage", fixed: a.Lineage[:]},
	}
	switch e.Form {
	case Fork:
		f = append(f, one("first", a)...)
		return append(f, one("second", b)...)
	case Forgotten:
		f = append(f, one("receipt", a)...)
		f = append(f,
			field{name: "entry name", fixed: e.Leaf.Name[:]},
			field{name: "entry version", number: &e.Leaf.Version},
			field{name: "entry value", fixed: e.Leaf.Value[:]})
		f = append(f, one("later", b)...)
		return append(f, field{name: "proof", proof: &e.Proof})
	}
	f = append(f, one("shown", a)...)
	return append(f,
		field{name: "nonce", fixed: o.Nonce[:]},
		field{name: "answer lineage", fixed: o.Lineage[:]},
		field{name: "answer number", number: &o.N},
		field{name: "answer head", fixed: o.H[:]},
		field{name: "answer signature", fixed: o.Signature[:]})
}

// spread copies what stands once in the text to all parts that share it.
func (e *Evidence) spread() {
	a := &e.First
	if e.Form == Answer {
		e.Opened.Relay, e.Opened.Channel, e.Opened.Shown = a.Relay, a.Channel, a.Position()
		return
	}
	e.Second.Relay, e.Second.Channel, e.Second.Lineage = a.Relay, a.Channel, a.Lineage
}

// Text is e as a letter that anybody can check: title with the format number,
// the sentence, the form, everything needed as `field: hex` lines, and a check
// digest of all lines before. ParseEvidence reads it back.
func (e Evidence) Text() string {
	var t strings.Builder
	fmt.Fprintf(&t, "%s%d\n%s\nform: %s\n", evidenceTitle, evidenceFormat, e.sentence(), e.Form)
	for _, f := range e.fields() {
		value := f.fixed
		switch {
		case f.number != nil:
			value = wire.U64(*f.number)
		case f.proof != nil:
			value = f.proof.Append(nil)
		}
		fmt.Fprintf(&t, "%s: %x\n", f.name, value)
	}
	check := wire.Hash(tagEvidence, []byte(t.String()))
	fmt.Fprintf(&t, "%s: %s\n", checkField, check)
	return t.String()
}

// ParseEvidence reads exactly what Text writes, to the byte. It refuses all
// else with ErrEvidenceText or ErrEvidenceFormat, and checks no signature.
func ParseEvidence(text string) (Evidence, error) {
	bad := func(what string, args ...any) (Evidence, error) {
		return Evidence{}, fmt.Errorf("%w: %s", ErrEvidenceText, fmt.Sprintf(what, args...))
	}
	if len(text) > MaxEvidence {
		return bad("%d bytes, at most %d", len(text), MaxEvidence)
	}
	title, rest, _ := strings.Cut(text, "\n")
	number, ok := strings.CutPrefix(title, evidenceTitle)
	if !ok {
		return bad("it does not begin with %q", evidenceTitle)
	}
	switch format, err := strconv.ParseUint(number, 10, 32); {
	case err != nil:
		return bad("its title has no format number")
	case format > evidenceFormat:
		return Evidence{}, fmt.Errorf("%w: format %d, this version reads %d", ErrEvidenceFormat, format, evidenceFormat)
	}
	_, rest, _ = strings.Cut(rest, "\n") // the sentence: compared with all else below
	line, rest, _ := strings.Cut(rest, "\n")
	var e Evidence
	switch line {
	case "form: fork":
		e.Form = Fork
	case "form: forgotten":
		e.Form = Forgotten
	case "form: answer":
		e.Form = Answer
	default:
		return bad("its third line names none of the three forms")
	}
	for _, f := range e.fields() {
		line, rest, _ = strings.Cut(rest, "\n")
		digits, ok := strings.CutPrefix(line, f.name+": ")
		if !ok {
			return bad("the line %q is missing", f.name)
		}
		value, err := hex.DecodeString(digits)
		if err == nil {
			err = f.set(value)
		}
		if err != nil {
			return bad("the line %q: %v", f.name, err)
		}
	}
	e.spread()
	if e.Form == Fork && bytes.Compare(e.First.Append(nil), e.Second.Append(nil)) > 0 {
		return bad("its two statements are not in ascending order")
	}
	if e.Text() != text {
		return bad("its check digest says that it was cut or altered")
	}
	return e, nil
}

func (f field) set(value []byte) (err error) {
	if f.proof != nil {
		*f.proof, err = ParseProof(value)
		return err
	}
	r := wire.NewReader(value)
	if f.number != nil {
		*f.number = r.U64()
	} else {
		r.Fixed(f.fixed)
	}
	return r.Done()
}
