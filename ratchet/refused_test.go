package ratchet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Everything that is altered, exchanged or put elsewhere is refused, and record
// and sending chain are the same bytes before and after.

// refuses fails the test if the slot opens, if another error comes than one for
// forgeries, or if the state changes.
func refuses(t *testing.T, what string, p *side, l letter) {
	t.Helper()
	before := p.record()
	err := p.open(l)
	if err == nil || !errors.Is(err, ErrAuth) && !errors.Is(err, ErrJump) && !errors.Is(err, ErrDuplicate) && !errors.Is(err, ErrShares) {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(before, p.record()) {
		t.Fatalf("%s: the state changed", what)
	}
}

// states are the situations in which a slot may come: the side that receives and
// the slot that would open there.
func states(seed string) map[string]func() (*side, letter) {
	return map[string]func() (*side, letter){
		"next in a chain": func() (*side, letter) {
			a, b := start(seed)
			return b, a.seal()
		},
		"ahead in a chain": func() (*side, letter) {
			a, b := start(seed)
			a.seal()
			a.seal()
			return b, a.seal()
		},
		"skipped": func() (*side, letter) {
			a, b := start(seed)
			l := a.seal()
			must(b.open(a.seal()))
			return b, l
		},
		"skipped in an old chain": func() (*side, letter) {
			a, b := start(seed)
			l := a.seal()
			must(b.open(a.seal()))
			must(a.open(b.seal()))
			must(b.open(a.seal()))
			return b, l
		},
		"first answer": func() (*side, letter) {
			a, b := start(seed)
			return a, b.seal()
		},
		"at a step": func() (*side, letter) {
			a, b := start(seed)
			must(a.open(b.seal()))
			return b, a.seal()
		},
		"at a step, after a gap": func() (*side, letter) {
			a, b := start(seed)
			a.seal()
			must(a.open(b.seal()))
			a.seal()
			return b, a.seal()
		},
		"from a record": func() (*side, letter) {
			a, b := start(seed)
			must(a.open(b.seal()))
			b.reopen()
			return b, a.seal()
		},
		"in a mixed session": func() (*side, letter) {
			p := testPaths(2, 3)
			a, b := startMixed(seed, p)
			confirmMixed(a, b, p)
			must(a.open(b.seal()))
			return b, a.seal()
		},
		"answer with its shares staged": func() (*side, letter) {
			p := testPaths(2, 2)
			a, b := startMixed(seed, p)
			l := b.seal()
			for i := range p.Relays { // beside spoiled slots, which stage their shares
				slot := b.answering(p.Relays[i], l)
				slot[ShareSize+headerSize] ^= 1
				if a.openAnswer(p.Relays[i], slot, l) == nil {
					panic("a spoiled slot opened")
				}
			}
			return a, l
		},
		"answer without its shares": func() (*side, letter) {
			a, b := startMixed(seed, testPaths(2, 2))
			return a, b.seal()
		},
	}
}

// flips are one bit of every byte, and the top bit of a ratchet key's last byte,
// which X25519 itself ignores. TestDR_3_5_AfterAnErrorNothingHasChanged alters
// every bit in the two states that a slot comes in mostly.
func flips(size int) (bits []int) {
	for i := range size {
		bits = append(bits, 8*i+i%8)
	}
	return append(bits, 8*(size-SlotSize+31)+7)
}

func TestEveryByteOfASlotCounts(t *testing.T) {
	for name, f := range states("bits") {
		p, l := f()
		for _, bit := range flips(SlotSize) {
			spoiled := letter{slot: bytes.Clone(l.slot), d: l.d, key: l.key}
			spoiled.slot[bit/8] ^= 1 << (bit % 8)
			refuses(t, fmt.Sprintf("%s, bit %d", name, bit), p, spoiled)
		}
		for i := range l.d {
			rebound := l
			rebound.d[i] ^= 1 << (i % 8)
			refuses(t, fmt.Sprintf("%s, byte %d of D", name, i), p, rebound)
		}
		if name == "answer without its shares" {
			continue
		}
		if err := p.open(l); err != nil {
			t.Fatalf("%s: the true slot after all of them: %v", name, err)
		}
	}
}

// Slots of two sessions of one pair exchange any of their parts.
func TestSwappedSlotsAreRefused(t *testing.T) {
	for name, f := range states("swap") {
		p, l := f()
		foreign := states("another pair")[name]
		_, other := foreign()
		for what, s := range map[string]letter{
			"whole":      {slot: other.slot, d: other.d},
			"for this D": {slot: other.slot, d: l.d},
			"header":     {slot: cat(other.slot[:40], l.slot[40:]), d: l.d},
			"ciphertext": {slot: cat(l.slot[:40], other.slot[40:72], l.slot[72:]), d: l.d},
			"tag":        {slot: cat(l.slot[:72], other.slot[72:]), d: l.d},
			"body":       {slot: cat(l.slot[:40], other.slot[40:]), d: l.d},
			"other's D":  {slot: l.slot, d: other.d},
			"zeros":      {slot: make([]byte, SlotSize), d: l.d},
		} {
			refuses(t, name+", "+what, p, s)
		}
	}
}

// The slots of one chain exchange envelopes and parts.
func TestSlotsOfOneChainDoNotExchangeParts(t *testing.T) {
	a, b := start("one chain")
	x, y := a.seal(), a.seal()
	for what, s := range map[string]letter{
		"envelopes":        {slot: x.slot, d: y.d},
		"envelopes, later": {slot: y.slot, d: x.d},
		"headers":          {slot: cat(y.slot[:40], x.slot[40:]), d: x.d},
		"bodies":           {slot: cat(x.slot[:40], y.slot[40:]), d: x.d},
		"ciphertexts":      {slot: cat(x.slot[:40], y.slot[40:72], x.slot[72:]), d: x.d},
	} {
		refuses(t, what, b, s)
	}
	must(b.open(x))
	must(b.open(y))
}

// A group of three: the slots of one envelope for its two receivers, and what
// one of them may do with its own.
func TestASlotIsForOneReceiverAndOneSession(t *testing.T) {
	c := newEnd("c", 11)
	reach := func(from, to *end, seed string) (x, y *side) {
		x, y = &side{rand: newStream(seed + " x")}, &side{rand: newStream(seed + " y")}
		s, chain, part, err := Initiate(x.rand, x.rand, contact(from, to), &to.pre)
		must(err)
		x.s, x.chain = s, chain
		y.s, err = Accept(contact(to, from), []PrekeysPrivate{to.own}, part[:])
		must(err)
		must(y.open(x.seal()))
		return x, y
	}
	ab, ba := reach(testA, testB, "a to b")
	ac, ca := reach(testA, c, "a to c")
	bc, cb := reach(testB, c, "b to c")
	again, reverse := reach(testA, testB, "a to b again")
	d := wire.Hash("test/one envelope")
	key := keys.NewSecret[keys.RoleContent]([32]byte{1})
	toB := letter{slot: ab.s.Seal(&ab.chain, &key, d, nil), d: d, key: key}
	toC := letter{slot: ac.s.Seal(&ac.chain, &key, d, nil), d: d, key: key}
	for what, f := range map[string]struct {
		p *side
		l letter
	}{
		"b's slot at c":                   {ca, toB},
		"c's slot at b":                   {ba, toC},
		"b's slot at c, as from b":        {cb, toB},
		"c's slot at b, as from c":        {bc, toC},
		"b's slot in an earlier session":  {reverse, toB},
		"b's slot back at a":              {ab, toB},
		"b's slot back at a, as from c":   {ac, toB},
		"b's slot at a's earlier session": {again, toB},
	} {
		refuses(t, what, f.p, f.l)
	}
	must(ba.open(toB))
	must(ca.open(toC))
	// What b read it cannot pass on as a's: its own key material makes slots of
	// b's own sessions only.
	relayed := letter{slot: ba.s.Seal(&ba.chain, &key, d, nil), d: d, key: key}
	refuses(t, "b's answer at c", ca, relayed)
	refuses(t, "b's answer at c, as from b", cb, relayed)
}

// Every byte of an unmixed hello, its share space excepted, which nobody reads.
// The top bit of the ephemeral key is one that X25519 itself ignores.
func TestEveryByteOfAHelloCounts(t *testing.T) {
	a := &side{rand: newStream("hello bytes")}
	s, initial, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
	must(err)
	a.s, a.chain = s, initial
	zero := a.seal()
	try := func(part, slot []byte) (*side, error) {
		b := &side{rand: newStream("hello bytes b")}
		b.s, err = Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part)
		if err != nil {
			return nil, err
		}
		return b, b.open(letter{slot: slot, d: zero.d, key: zero.key})
	}
	for i := range HandshakeSize {
		spoiled := part
		spoiled[i] ^= 0x80
		if _, err := try(spoiled[:], zero.slot); !errors.Is(err, ErrAuth) && !errors.Is(err, ErrPrekey) && !errors.Is(err, ErrJump) {
			t.Fatalf("byte %d of the handshake part: %v", i, err)
		}
	}
	b, err := Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part[:])
	must(err)
	var chain SendChain
	for _, bit := range flips(SlotSize) {
		slot := bytes.Clone(zero.slot)
		slot[bit/8] ^= 1 << (bit % 8)
		if _, err := b.Open(testNow, newStream("x"), &chain, slot, zero.d); !errors.Is(err, ErrAuth) && !errors.Is(err, ErrJump) {
			t.Fatalf("bit %d of message 0: %v", bit, err)
		}
		if chain != (SendChain{}) || b.Generation() != 0 || b.Skipped() != 0 {
			t.Fatalf("bit %d of message 0 changed the provisional session", bit)
		}
	}
	// After all of them it is what a fresh one is.
	tried := &side{s: b, rand: newStream("hello bytes b")}
	must(tried.open(zero))
	fresh, err := try(part[:], zero.slot)
	must(err)
	if !bytes.Equal(tried.record(), fresh.record()) {
		t.Fatal("what was refused left something behind")
	}
}

func TestEveryByteOfAMixedHelloCounts(t *testing.T) {
	p := testPaths(2, 3)
	a, h := initiateMixed("mixed bytes", testA, testB, p)
	zero := a.seal()
	for i := range HandshakeSize {
		if i > 40 && i < HandshakeSize-16 && i%8 != 0 {
			continue // the ciphertext: every byte of it above
		}
		spoiled := h.part
		spoiled[i] ^= 0x80
		acc, err := AcceptMixed(contact(testB, testA), []PrekeysPrivate{testB.own}, spoiled[:], p)
		if i >= HandshakeSize-8 {
			if !errors.Is(err, ErrPrekey) {
				t.Fatalf("byte %d of the handshake part: %v", i, err)
			}
			continue
		}
		must(err)
		if err := acc.Share(p.Relays[0], h.shares[0]); !errors.Is(err, ErrShare) {
			t.Fatalf("byte %d of the handshake part, its share: %v", i, err)
		}
		if have, _ := acc.Shares(); have != 0 || acc.Transcript() == a.s.Transcript() {
			t.Fatalf("byte %d of the handshake part changed nothing", i)
		}
	}
	acc := h.accept(testA, testB)
	must(acc.Share(p.Relays[1], h.shares[1]))
	for bit := range 8 * ShareSize {
		for path, relay := range p.Relays {
			spoiled := h.shares[path]
			spoiled[bit/8] ^= 1 << (bit % 8)
			if err := acc.Share(relay, spoiled); !errors.Is(err, ErrShare) {
				t.Fatalf("bit %d of share %d: %v", bit, path, err)
			}
		}
	}
	for path := range p.Relays { // every share on every other path
		for wrong, relay := range p.Relays {
			if wrong != path {
				if err := acc.Share(relay, h.shares[path]); !errors.Is(err, ErrShare) {
					t.Fatalf("share %d on path %d: %v", path, wrong, err)
				}
			}
		}
	}
	if have, _ := acc.Shares(); have != 1 {
		t.Fatalf("%d shares after refusing all", have)
	}
	must(acc.Share(p.Relays[2], h.shares[2]))
	s, ok := acc.Ready()
	if !ok {
		t.Fatal("not ready with two true shares")
	}
	must((&side{s: s, rand: newStream("b")}).open(zero))
}

// Every byte of an answering slot, with no share, one too few and enough staged.
// A share that opens beside a slot that does not is staged: that is the only
// change there is, and it is the one that the true slot makes too.
func TestEveryByteOfAnAnsweringSlotCounts(t *testing.T) {
	p := testPaths(2, 3)
	for before := range 2 {
		a, b := startMixed("answer bits", p)
		l := b.seal()
		for i := range before {
			if err := a.openAnswer(p.Relays[i], b.answering(p.Relays[i], l), l); !errors.Is(err, ErrShares) {
				t.Fatal(err)
			}
		}
		untouched, chain := a.record(), a.chain
		relay := p.Relays[2]
		restore := func() {
			s, err := ParseSession(untouched[:len(untouched)-SendChainSize])
			must(err)
			a.s, a.chain = s, chain
		}
		// What the share alone leaves: the true share beside a spoiled tag's body.
		half := b.answering(relay, l)
		half[ShareSize+headerSize] ^= 1
		if a.openAnswer(relay, half, l) == nil {
			t.Fatal("a spoiled slot opened")
		}
		staged := a.record()
		if bytes.Equal(staged, untouched) {
			t.Fatal("the share was not staged")
		}
		changed := 0
		for _, bit := range flips(AnsweringSlotSize) {
			restore()
			slot := b.answering(relay, l)
			slot[bit/8] ^= 1 << (bit % 8)
			err := a.openAnswer(relay, slot, l)
			if !errors.Is(err, ErrShare) && !errors.Is(err, ErrShares) && !errors.Is(err, ErrAuth) && !errors.Is(err, ErrJump) {
				t.Fatalf("%d staged, bit %d: %v", before, bit, err)
			}
			body := bit/8 >= ShareSize+headerSize && bit/8 < ShareSize+headerSize+32
			switch after := a.record(); {
			case bytes.Equal(after, untouched):
			case bytes.Equal(after, staged) && bit/8 >= ShareSize: // N, PN or body: the ratchet key and the count were true
				changed++
			default:
				t.Fatalf("%d staged, bit %d: the state is neither untouched nor has it the share alone", before, bit)
			}
			if body && !bytes.Equal(a.record(), staged) {
				t.Fatalf("%d staged, bit %d: a spoiled body cost the path its share", before, bit)
			}
		}
		if changed == 0 {
			t.Fatal("the test shows nothing")
		}
		restore()
		err := a.openAnswer(relay, b.answering(relay, l), l)
		if before == 1 && err != nil || before == 0 && !errors.Is(err, ErrShares) {
			t.Fatalf("%d staged, the true one: %v", before, err)
		}
	}
}

// A true answering slot, on a path or in a session it is not for.
func TestAnAnsweringSlotIsForOnePathAndOneSession(t *testing.T) {
	p := testPaths(2, 3)
	a, b := startMixed("elsewhere", p)
	c, d := startMixed("elsewhere, another", p)
	l, m := b.seal(), d.seal()
	for path, relay := range p.Relays {
		for wrong, other := range p.Relays {
			if wrong == path {
				continue
			}
			unchanged(t, a, func() {
				if err := a.openAnswer(other, b.answering(relay, l), l); !errors.Is(err, ErrShare) {
					t.Errorf("share %d on path %d: %v", path, wrong, err)
				}
			})
		}
		unchanged(t, a, func() {
			for what, slot := range map[string][]byte{
				"another session's":       d.answering(relay, m),
				"another session's share": cat(d.answering(relay, m)[:ShareSize], l.slot),
				"another session's slot":  cat(b.answering(relay, l)[:ShareSize], m.slot),
				"back at its sender":      append(make([]byte, ShareSize), l.slot...),
			} {
				if err := a.openAnswer(relay, slot, m); !errors.Is(err, ErrShare) && !errors.Is(err, ErrAuth) {
					t.Errorf("%s on path %d: %v", what, path, err)
				}
			}
		})
		unchanged(t, c, func() {
			if err := c.openAnswer(relay, b.answering(relay, l), l); !errors.Is(err, ErrShare) && !errors.Is(err, ErrAuth) {
				t.Errorf("path %d in another session: %v", path, err)
			}
		})
	}
}
