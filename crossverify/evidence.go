package crossverify

import (
	"bytes"
	"errors"
	"fmt"

	"parallax/internal/keys"
)

// Errors of evidence, one for each way it can fail.
var (
	// ErrEvidenceText: the text is malformed, cut or altered.
	ErrEvidenceText = errors.New("not the text of evidence")
	// ErrEvidenceFormat: the text has a newer format than this one.
	ErrEvidenceFormat = errors.New("evidence of a newer format")
	// ErrNotSigned: a signature in the evidence is not the accused relay's.
	ErrNotSigned = errors.New("the evidence is not signed by the relay it accuses")
	// ErrNoContradiction: all of it can come from an honest relay, such as one
	// that lost data and started a new lineage.
	ErrNoContradiction = errors.New("the evidence shows no contradiction")
)

// Form is one of the three forms of section 9.
type Form uint8

const (
	// Fork: two statements for one number that differ.
	Fork Form = iota + 1
	// Forgotten: a board entry was receipted and a later root lacks it.
	Forgotten
	// Answer: shown its own statement, the relay answered from before it.
	Answer
)

func (f Form) String() string {
	switch f {
	case Fork:
		return "fork"
	case Forgotten:
		return "forgotten"
	case Answer:
		return "answer"
	}
	return "unknown"
}

// Evidence is signatures of one relay that cannot all be honest. Which fields
// count depends on Form; the others are zero. It proves nothing before Check.
type Evidence struct {
	Form Form

	// First: one statement of a fork, the receipt of what was forgotten, or
	// the statement that the relay was shown.
	First Statement
	// Second: the other statement of a fork, or the one whose root lacks the
	// entry. Not with Answer.
	Second Statement

	Leaf  Leaf  // Forgotten: the entry that First receipts
	Proof Proof // Forgotten: what Second.Root has for Leaf.Name

	Opened Opened // Answer: what the relay signed over First
}

// Finding is what checked evidence says.
type Finding struct {
	Relay    keys.RelayPublic
	Form     Form
	Sentence string // for people; the sentence in the evidence's text
}

// FindFork looks for a fork. It checks no signature. The same two statements
// give the same evidence in either order.
func FindFork(a, b Statement) (Evidence, bool) {
	if bytes.Compare(a.Append(nil), b.Append(nil)) > 0 {
		a, b = b, a
	}
	e := Evidence{Form: Fork, First: a, Second: b}
	return e, e.contradiction() == nil
}

// FindForgotten looks for a board entry that receipt put on the board and the
// root of later lacks; proof is what later.Root has for leaf.Name. It checks
// no signature.
func FindForgotten(receipt Statement, leaf Leaf, later Statement, proof Proof) (Evidence, bool) {
	e := Evidence{Form: Forgotten, First: receipt, Second: later, Leaf: leaf, Proof: proof}
	return e, e.contradiction() == nil
}

// FindAnswer looks for an answer to Open that goes back behind the statement
// the relay was shown. It checks no signature.
func FindAnswer(shown Statement, opened Opened) (Evidence, bool) {
	e := Evidence{Form: Answer, First: shown, Opened: opened}
	return e, e.contradiction() == nil
}

// Check verifies every signature and the contradiction: all that is needed to
// convict, from the evidence alone. The error is ErrNotSigned,
// ErrNoContradiction or, for an Evidence that no text can say, ErrEvidenceText.
func (e Evidence) Check(v keys.Verify) (Finding, error) {
	signed := e.First.Verify(v)
	switch e.Form {
	case Fork, Forgotten:
		signed = signed && e.Second.Verify(v)
	case Answer:
		signed = signed && e.Opened.Verify(v)
	default:
		return Finding{}, fmt.Errorf("%w: form %d", ErrEvidenceText, e.Form)
	}
	if !signed {
		return Finding{}, fmt.Errorf("%w: relay %s", ErrNotSigned, e.First.Relay)
	}
	if err := e.contradiction(); err != nil {
		return Finding{}, err
	}
	return Finding{Relay: e.First.Relay, Form: e.Form, Sentence: e.sentence()}, nil
}

// contradiction is nil if no honest relay could have signed all parts.
func (e *Evidence) contradiction() error {
	no := func(why string) error { return fmt.Errorf("%w: %s", ErrNoContradiction, why) }
	a, b, o := &e.First, &e.Second, &e.Opened
	switch e.Form {
	case Fork, Forgotten:
		if a.Relay != b.Relay || a.Channel != b.Channel {
			return no("the statements are of two relays or two channels")
		}
		if a.Lineage != b.Lineage {
			return no("the statements are of two lineages, as after a restore")
		}
		if e.Form == Fork {
			if a.N != b.N {
				return no("the statements are for two numbers")
			}
			if a.D == b.D && a.H == b.H && a.Root == b.Root {
				return no("the statements say the same")
			}
			return nil
		}
		if a.D != BoardDigest(e.Leaf.Name, e.Leaf.Version, e.Leaf.Value) {
			return no("the receipt is for something else than this board entry")
		}
		if b.N < a.N {
			return no("the board was signed before the entry was written")
		}
		leaf, present, err := e.Proof.Check(e.Leaf.Name, b.Root)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoContradiction, err)
		}
		if present && (leaf.Version > e.Leaf.Version || leaf == e.Leaf) {
			return no("the board has the entry or a newer version of it")
		}
	case Answer:
		if a.Relay != o.Relay || a.Channel != o.Channel {
			return no("statement and answer are of two relays or two channels")
		}
		if o.Shown != a.Position() || o.Shown == (Position{}) {
			return no("the relay was not shown this statement")
		}
		was, is := a.Lineage.Ordinal(), o.Lineage.Ordinal()
		if is > was || o.Lineage == a.Lineage && o.N >= a.N {
			return no("the answer goes on from the statement or starts a newer lineage")
		}
	}
	return nil
}

// sentence says for people what is proven about which relay.
func (e *Evidence) sentence() string {
	who := fmt.Sprintf("The relay with Ed25519 key %s", e.First.Relay)
	a, b, o := &e.First, &e.Second, &e.Opened
	switch e.Form {
	case Fork:
		return fmt.Sprintf("%s signed two different statements for number %d of one lineage of one log.", who, a.N)
	case Forgotten:
		return fmt.Sprintf("%s signed that number %d of a log put version %d of an entry on the board, and signed at number %d of the same lineage a board without it.",
			who, a.N, e.Leaf.Version, b.N)
	}
	back := fmt.Sprintf("number %d of the same lineage", o.N)
	if o.Lineage != a.Lineage {
		back = fmt.Sprintf("another lineage that is not newer, of ordinal %d", o.Lineage.Ordinal())
	}
	return fmt.Sprintf("%s was shown its own statement for number %d of a lineage of ordinal %d, and signed in answer that it stands at %s.",
		who, a.N, a.Lineage.Ordinal(), back)
}
