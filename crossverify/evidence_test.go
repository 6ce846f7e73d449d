package crossverify

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// convictions are one true case of every form and way of contradiction.
func convictions() map[string]Evidence {
	key := relayKey(1)
	sign := func(l wire.Lineage, n uint64, d, h, root wire.Digest) Statement {
		return SignStatement(key, testChannel, l, n, d, h, root)
	}
	life := lineage(2, 7)
	all := map[string]Evidence{}
	add := func(name string, e Evidence, found bool) {
		if !found {
			panic(name + ": no contradiction found")
		}
		all[name] = e
	}
	s := sign(life, 7, digest(1), digest(2), digest(3))
	for name, other := range map[string]Statement{
		"fork in d":    sign(life, 7, digest(9), digest(2), digest(3)),
		"fork in h":    sign(life, 7, digest(1), digest(9), digest(3)),
		"fork in root": sign(life, 7, digest(1), digest(2), digest(9)),
	} {
		e, found := FindFork(s, other)
		add(name, e, found)
	}

	leaf := Leaf{digest(0x50), 3, digest(0x51)}
	receipt := sign(life, 4, BoardDigest(leaf.Name, leaf.Version, leaf.Value), digest(2), digest(3))
	forget := func(name string, n uint64, leaves ...Leaf) {
		var board Tree
		board.Put(Leaf{digest(0x5f), 1, digest(1)})
		board.Put(Leaf{digest(0x90), 1, digest(1)})
		for _, l := range leaves {
			board.Put(l)
		}
		e, found := FindForgotten(receipt, leaf, sign(life, n, digest(8), digest(9), board.Root()), board.Prove(leaf.Name))
		add(name, e, found)
	}
	forget("forgotten", 6)
	forget("forgotten at once", 4)
	forget("older version", 6, Leaf{leaf.Name, 2, leaf.Value})
	forget("other value", 6, Leaf{leaf.Name, 3, digest(0x52)})

	for name, is := range map[string]Position{
		"answer from an older lineage":  {lineage(1, 1), 90, digest(2)},
		"answer from a smaller number":  {life, 6, digest(2)},
		"answer from a twin of lineage": {lineage(2, 8), 90, digest(2)},
	} {
		e, found := FindAnswer(s, SignOpened(key, testChannel, [32]byte{1}, s.Position(), is.Lineage, is.N, is.H))
		add(name, e, found)
	}
	return all
}

func TestEvidenceConvicts(t *testing.T) {
	for name, e := range convictions() {
		found, err := e.Check(keys.Ed25519)
		if err != nil || found.Relay != relayKey(1).Public() || found.Form != e.Form {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		text := e.Text()
		if !strings.Contains(text, "\n"+found.Sentence+"\n") || !strings.Contains(found.Sentence, found.Relay.String()) {
			t.Errorf("%s: the letter does not say what was found:\n%s", name, text)
		}
		again, err := ParseEvidence(text)
		if err != nil || again.Text() != text {
			t.Errorf("%s: %v", name, err)
		}
		if f, err := again.Check(keys.Ed25519); err != nil || f != found {
			t.Errorf("%s, read from its text: %+v, %v", name, f, err)
		}
	}
}

func TestForkIsOneInEitherOrder(t *testing.T) {
	e := convictions()["fork in d"]
	swapped, found := FindFork(e.Second, e.First)
	if !found || swapped.Text() != e.Text() {
		t.Error("two orders of one fork are two texts")
	}
	e.First, e.Second = e.Second, e.First
	if _, err := ParseEvidence(e.Text()); !errors.Is(err, ErrEvidenceText) {
		t.Errorf("the other order is read as well: %v", err)
	}
}

// Every change of the text is refused, and every change of what it carries,
// under a check digest that fits again, convicts nobody.
func TestEvidenceChanged(t *testing.T) {
	for name, e := range convictions() {
		text := e.Text()
		for i := range len(text) {
			b := []byte(text)
			b[i] ^= 1 << (i % 7)
			if _, err := ParseEvidence(string(b)); !errors.Is(err, ErrEvidenceText) && !errors.Is(err, ErrEvidenceFormat) {
				t.Fatalf("%s: byte %d changed: %v", name, i, err)
			}
		}
		for _, bad := range []string{"", text[:len(text)-1], text + "\n", text[:len(text)/2], "\n" + text,
			strings.ReplaceAll(text, "\n", "\r\n"), strings.ToUpper(text), strings.Repeat(text, 40)} {
			if _, err := ParseEvidence(bad); !errors.Is(err, ErrEvidenceText) {
				t.Errorf("%s: %.40q of %d bytes: %v", name, bad, len(bad), err)
			}
		}
		for i, f := range e.fields() {
			size := len(f.fixed)
			if f.number != nil {
				size = 8
			}
			if f.proof != nil {
				size = len(f.proof.Append(nil))
			}
			for at := range size {
				c := e
				c.Proof.Siblings = append([]wire.Digest(nil), e.Proof.Siblings...)
				g := c.fields()[i]
				switch {
				case g.number != nil:
					*g.number ^= 1 << (8*at + at%8)
				case g.proof != nil:
					b := g.proof.Append(nil)
					b[at] ^= 1 << (at % 8)
					p, err := ParseProof(b)
					if err != nil {
						continue
					}
					*g.proof = p
				default:
					g.fixed[at] ^= 1 << (at % 8)
				}
				c.spread()
				again, err := ParseEvidence(c.Text())
				if c.Form == Fork && errors.Is(err, ErrEvidenceText) {
					again, err = c, nil // in the other order now
				}
				if err != nil {
					t.Fatalf("%s: %s: %v", name, f.name, err)
				}
				if _, err := again.Check(remembered); !errors.Is(err, ErrNotSigned) && !errors.Is(err, ErrNoContradiction) {
					t.Fatalf("%s: byte %d of %q changed: %v", name, at, f.name, err)
				}
			}
		}
	}
}

// A newer format is told from a broken text.
func TestEvidenceFormat(t *testing.T) {
	text := convictions()["forgotten"].Text()
	newer := strings.Replace(text, "evidence 1\n", "evidence 2\n", 1)
	if _, err := ParseEvidence(newer); !errors.Is(err, ErrEvidenceFormat) {
		t.Errorf("format 2: %v", err)
	}
	if _, err := (Evidence{Form: 4}).Check(func([32]byte, []byte, []byte) bool { return true }); !errors.Is(err, ErrEvidenceText) {
		t.Errorf("a fourth form: %v", err)
	}
}

// What an honest relay does is never a contradiction, and the constructors say
// so before anything is signed.
func TestNoContradiction(t *testing.T) {
	key, other := relayKey(1), relayKey(2)
	life, restored := lineage(2, 7), lineage(3, 8)
	s := SignStatement(key, testChannel, life, 7, digest(1), digest(2), digest(3))
	for name, o := range map[string]Statement{
		"the same statement":        s,
		"another number":            SignStatement(key, testChannel, life, 8, digest(9), digest(9), digest(9)),
		"another lineage (restore)": SignStatement(key, testChannel, restored, 7, digest(9), digest(9), digest(9)),
		"another relay":             SignStatement(other, testChannel, life, 7, digest(9), digest(9), digest(9)),
		"another channel":           SignStatement(key, wire.ChannelID{1}, life, 7, digest(9), digest(9), digest(9)),
	} {
		e, found := FindFork(s, o)
		if found {
			t.Errorf("fork with %s", name)
		}
		if _, err := e.Check(keys.Ed25519); e.Second.Relay == e.First.Relay && !errors.Is(err, ErrNoContradiction) {
			t.Errorf("checking a fork with %s: %v", name, err)
		}
	}

	leaf := Leaf{digest(0x50), 3, digest(0x51)}
	receipt := SignStatement(key, testChannel, life, 4, BoardDigest(leaf.Name, leaf.Version, leaf.Value), digest(2), digest(3))
	empty := new(Tree)
	board := func(leaves ...Leaf) *Tree {
		var b Tree
		for _, l := range leaves {
			b.Put(l)
		}
		return &b
	}
	for _, c := range []struct {
		name    string
		receipt Statement
		leaf    Leaf
		life    wire.Lineage
		n       uint64
		signed  *Tree
		shown   *Tree
	}{
		{"the entry is there", receipt, leaf, life, 6, board(leaf), board(leaf)},
		{"a newer version is there", receipt, leaf, life, 6, board(Leaf{leaf.Name, 4, digest(1)}), board(Leaf{leaf.Name, 4, digest(1)})},
		{"a root before the write", receipt, leaf, life, 3, empty, empty},
		{"a new lineage (restore)", receipt, leaf, restored, 6, empty, empty},
		{"a receipt for something else", s, leaf, life, 9, empty, empty},
		{"a proof under another root", receipt, leaf, life, 6, board(leaf), empty},
	} {
		later := SignStatement(key, testChannel, c.life, c.n, digest(8), digest(9), c.signed.Root())
		e, found := FindForgotten(c.receipt, c.leaf, later, c.shown.Prove(c.leaf.Name))
		if _, err := e.Check(keys.Ed25519); found || !errors.Is(err, ErrNoContradiction) {
			t.Errorf("forgotten with %s: %v, %v", c.name, found, err)
		}
	}

	for _, c := range []struct {
		name  string
		shown Position
		is    Position
	}{
		{"going on", s.Position(), Position{life, 7, digest(2)}},
		{"further on", s.Position(), Position{life, 9, digest(2)}},
		{"a new lineage (restore)", s.Position(), Position{restored, 0, digest(2)}},
		{"nothing shown", Position{}, Position{lineage(1, 1), 1, digest(2)}},
		{"another number shown", Position{life, 5, digest(2)}, Position{life, 6, digest(2)}},
		{"another head shown", Position{life, 7, digest(1)}, Position{life, 6, digest(2)}},
	} {
		e, found := FindAnswer(s, SignOpened(key, testChannel, [32]byte{1}, c.shown, c.is.Lineage, c.is.N, c.is.H))
		if _, err := e.Check(keys.Ed25519); found || !errors.Is(err, ErrNoContradiction) {
			t.Errorf("answer with %s: %v, %v", c.name, found, err)
		}
	}
}

// Whoever is not the relay cannot convict it.
func TestNotSigned(t *testing.T) {
	for name, e := range convictions() {
		forger := relayKey(9)
		forge := func(s Statement) Statement {
			f := SignStatement(forger, s.Channel, s.Lineage, s.N, s.D, s.H, s.Root)
			f.Relay = s.Relay
			return f
		}
		for part := range 2 {
			c := e
			switch {
			case part == 0:
				c.First = forge(e.First)
			case e.Form == Answer:
				o := e.Opened
				c.Opened = SignOpened(forger, o.Channel, o.Nonce, o.Shown, o.Lineage, o.N, o.H)
				c.Opened.Relay = o.Relay
			default:
				c.Second = forge(e.Second)
			}
			if _, err := c.Check(keys.Ed25519); !errors.Is(err, ErrNotSigned) {
				t.Errorf("%s, part %d forged: %v", name, part, err)
			}
		}
	}
}

func TestEvidenceGolden(t *testing.T) {
	for name, want := range map[string]string{
		"fork in d":                    "36cb1ae5edc0f61a67f6e893804519bcbaf412f1406ec8a3dc2b930bbe9c0020",
		"forgotten":                    "e0d80ec93bcbc8b5d53556e6229c5ac2a53ae30261d7493077149d3b55f0a006",
		"answer from a smaller number": "677651dae95d5015b22ae4bd18e91f401f3b94aca77a1f45708adcbc7b8a0cbc",
	} {
		h := wire.Hash("test", []byte(convictions()[name].Text()))
		golden(t, name, h[:], want)
	}
}

func TestMaxEvidence(t *testing.T) {
	e := convictions()["forgotten"]
	e.Proof.Siblings = make([]wire.Digest, MaxSiblings)
	e.First.N, e.Second.N, e.Leaf.Version = 1<<63, 1<<63, 1<<63
	if n := len(e.Text()); n > MaxEvidence {
		t.Errorf("the longest evidence has %d bytes, more than MaxEvidence", n)
	}
	if _, err := ParseEvidence(e.Text()); err != nil {
		t.Error(err)
	}
}

func ExampleEvidence_Text() {
	key := relayKey(1)
	a := SignStatement(key, testChannel, lineage(1, 1), 7, digest(1), digest(2), digest(3))
	b := SignStatement(key, testChannel, lineage(1, 1), 7, digest(4), digest(5), digest(3))
	e, _ := FindFork(a, b)
	for _, line := range strings.Split(e.Text(), "\n") {
		fmt.Println(line[:min(len(line), 60)])
	}
	finding, err := e.Check(keys.Ed25519)
	fmt.Println(finding.Form, err)
	// Output:
	// parallax evidence 1
	// The relay with Ed25519 key cecc1507dc1ddd7295951c290888f095a
	// form: fork
	// relay: cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df0
	// channel: c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c
	// lineage: 00000000000000010100000000000000
	// first number: 0000000000000007
	// first digest: 0101010101010101010101010101010101010101010101
	// first head: 020202020202020202020202020202020202020202020202
	// first root: 030303030303030303030303030303030303030303030303
	// first signature: f45bd4a06b514905db67bd3f69c4f5de39ffa147774
	// second number: 0000000000000007
	// second digest: 040404040404040404040404040404040404040404040
	// second head: 05050505050505050505050505050505050505050505050
	// second root: 03030303030303030303030303030303030303030303030
	// second signature: 96ffa831134981f9a346b0e95c856cea2353ecdc1c
	// check: e8eba6bb44bac554c930400a930bae6e4eb3eb63b32d129c88cf1
	//
	// fork <nil>
}

func FuzzParseEvidence(f *testing.F) {
	for _, e := range convictions() {
		f.Add(e.Text())
	}
	f.Add("")
	f.Add("parallax evidence 1\n\nform: forgotten\n")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEvidence(text)
		if err != nil {
			return
		}
		if e.Text() != text {
			t.Fatal("evidence is written differently than read")
		}
		e.Check(keys.Ed25519)
	})
}

// FuzzCheckEvidence holds the contradictions of check-evidence against the three
// forms of section 9 as they stand there, for a relay that signs anything.
func FuzzCheckEvidence(f *testing.F) {
	for _, e := range convictions() {
		f.Add(e.Text())
		e.Second.N++
		e.Opened.N += 9
		e.spread()
		f.Add(e.Text())
	}
	f.Fuzz(func(t *testing.T, text string) {
		// A text with another check digest says the same under the right one.
		e, err := ParseEvidence(text)
		if body, _, cut := strings.Cut(text, "\n"+checkField+": "); err != nil && cut {
			check := wire.Hash(tagEvidence, []byte(body+"\n"))
			e, err = ParseEvidence(fmt.Sprintf("%s\n%s: %s\n", body, checkField, check))
		}
		if err != nil {
			return
		}
		convicts, a, b, o := false, e.First, e.Second, e.Opened
		switch e.Form {
		case Fork:
			convicts = a.N == b.N && (a.D != b.D || a.H != b.H || a.Root != b.Root)
		case Forgotten:
			leaf, present, err := e.Proof.Check(e.Leaf.Name, b.Root)
			lacks := err == nil && (!present || leaf.Version < e.Leaf.Version || leaf.Version == e.Leaf.Version && leaf.Value != e.Leaf.Value)
			convicts = lacks && a.D == BoardDigest(e.Leaf.Name, e.Leaf.Version, e.Leaf.Value) && b.N >= a.N
		case Answer:
			convicts = o.Lineage.Ordinal() < a.Lineage.Ordinal() || o.Lineage == a.Lineage && o.N < a.N ||
				o.Lineage.Ordinal() == a.Lineage.Ordinal() && o.Lineage != a.Lineage
		}
		signed := func([32]byte, []byte, []byte) bool { return true }
		found, err := e.Check(signed)
		if (err == nil) != convicts {
			t.Fatalf("convicts: %v, Check: %v\n%s", convicts, err, text)
		}
		if err != nil && !errors.Is(err, ErrNoContradiction) {
			t.Fatal(err)
		}
		if err == nil && (found.Relay != a.Relay || strings.ContainsFunc(found.Sentence, func(c rune) bool { return c < ' ' || c > '~' })) {
			t.Fatalf("%+v", found)
		}
	})
}

// remembered is Ed25519 with a memory: tests ask the same again and again.
func remembered(pub [32]byte, message, sig []byte) bool {
	k := string(pub[:]) + string(sig) + string(message)
	ok, known := memory[k]
	if !known {
		ok = keys.Ed25519(pub, message, sig)
		memory[k] = ok
	}
	return ok
}

var memory = map[string]bool{}
