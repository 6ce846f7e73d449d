package ratchet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// The coalition holds a seat of its own, evil, with all its private keys, and
// shows it under another member's name: so it knows SK0 of the first contact.
// What it lacks is the share of an honest path.
var evil = newEnd("evil", 9)

// reads tells whether a session that the coalition computed opens a slot.
func (r *refSession) reads(l letter) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return bytes.Equal(r.open(l.slot, l.d[:]), l.key.Expose())
}

// asResponder is the coalition in the place of the responder, with m as it
// guesses it.
func asResponder(h *mixedHello, m []byte) *refSession {
	t, sk0 := refAgree(testA, evil, h.part[:], refPol(h.paths.K, h.paths.Relays))
	r := refProvisional(newStream("coalition"), testA, evil, t, sk0, m)
	r.mix = &refMix{k: h.paths.K, relays: h.paths.Relays}
	return r
}

// speaks makes an answer from a guess, without having read anything: the header
// key comes from SK0, so the initiator's ratchet key is known.
func speaks(r *refSession, heard letter) (slot []byte, shares [][]byte, d wire.Digest) {
	r.turn(refMask(heard.slot[:40], r.hkRecv, heard.slot[72:])[:32])
	d = wire.Hash("test/coalition")
	return r.seal(make([]byte, 32), d[:]), r.mix.shares, d
}

// open opens the coalition's shares of a hello, as only SK0 is needed for it.
func (h *mixedHello) open(at []int) (values [][]byte) {
	acc := h.accept(testA, evil)
	for _, i := range at {
		must(acc.Share(h.paths.Relays[i], h.shares[i]))
		values = append(values, acc.values[i][:])
	}
	return values
}

// TestCoalitionWithoutAShare is T4 of the paper as far as it lies here: with the
// announcement substituted, all slots and the shares of k-1 paths, whichever they
// are, a coalition opens nothing and makes nothing that opens. With k it does
// both, so the test sees the difference.
func TestCoalitionWithoutAShare(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for k := 1; k <= n; k++ {
			x, h := initiateMixed(fmt.Sprint("coalition ", k, n), testA, evil, testPaths(k, n))
			zero, one := x.seal(), x.seal()
			said := func(m []byte, paths int) error {
				slot, shares, d := speaks(asResponder(h, m), zero)
				victim := &side{rand: newStream("victim"), chain: x.chain}
				rec, err := x.s.MarshalBinary()
				must(err)
				victim.s, err = ParseSession(rec)
				must(err)
				for i := range paths {
					_, err = victim.s.OpenAnswer(testNow, victim.rand, &victim.chain, h.paths.Relays[i], append(bytes.Clone(shares[i]), slot...), d)
				}
				if err != nil {
					_, e := victim.s.Open(testNow, victim.rand, &victim.chain, slot, d)
					if !errors.Is(e, ErrShares) {
						t.Fatalf("%d of %d: without shares: %v", k, n, e)
					}
				}
				return err
			}
			subsets(n, k, func(at []int) {
				m := refCombine(at, h.open(at))
				if !asResponder(h, m).reads(zero) || said(m, k) != nil {
					t.Fatalf("%d of %d: a coalition with all it needs fails: the test shows nothing", k, n)
				}
			})
			subsets(n, k-1, func(at []int) {
				got := h.open(at)
				guesses := [][]byte{make([]byte, 32)}
				if k > 1 {
					guesses = append(guesses, refCombine(at, got)) // as if k-1 were enough
					guesses = append(guesses, got...)
				}
				// A share of its own for a path it lacks: it can seal one.
				acc := h.accept(testA, evil)
				for _, i := range at {
					must(acc.Share(h.paths.Relays[i], h.shares[i]))
				}
				if _, ok := acc.Ready(); ok {
					t.Fatalf("%d of %d: ready with %d", k, n, len(at))
				}
				for i, relay := range h.paths.Relays {
					if !acc.have[i] {
						made := newStream("made up").take32()
						must(acc.Share(relay, acc.keys.seal(relay, &made)))
						break
					}
				}
				s, _ := acc.Ready()
				if _, err := s.Open(testNow, newStream("c"), new(SendChain), zero.slot, zero.d); !errors.Is(err, ErrAuth) {
					t.Fatalf("%d of %d: with a share made up: %v", k, n, err)
				}
				for i, m := range guesses {
					if asResponder(h, m).reads(zero) || asResponder(h, m).reads(one) {
						t.Fatalf("%d of %d: shares %v and guess %d read", k, n, at, i)
					}
					if err := said(m, n); err == nil {
						t.Fatalf("%d of %d: shares %v and guess %d speak", k, n, at, i)
					}
				}
			})
		}
	}
}

// The other way: the coalition's seat stands in the place of the initiator. It
// makes the hello itself, so it has m; the answer's shares of honest paths do
// not reach it.
func TestCoalitionCannotReadTheAnswer(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for k := 1; k <= n; k++ {
			p := testPaths(k, n)
			c, h := initiateMixed("coalition", evil, testB, p)
			acc := h.accept(evil, testB)
			for i := range p.K {
				must(acc.Share(p.Relays[i], h.shares[i]))
			}
			s, _ := acc.Ready()
			b := &side{s: s, rand: newStream("honest responder")}
			must(b.open(c.seal()))
			l := b.seal()
			subsets(n, k-1, func(at []int) {
				rec, err := c.s.MarshalBinary()
				must(err)
				held, err := ParseSession(rec)
				must(err)
				try := &side{s: held, chain: c.chain, rand: newStream("coalition")}
				for _, i := range at {
					if err := try.openAnswer(p.Relays[i], b.answering(p.Relays[i], l), l); !errors.Is(err, ErrShares) {
						t.Fatalf("%d of %d, path %d: %v", k, n, i, err)
					}
				}
				if try.open(l) == nil {
					t.Fatalf("%d of %d: paths %v are enough", k, n, at)
				}
				// As if less were needed, whatever this code asks for.
				held.awaited.paths.K = len(at)
				if len(at) == 0 {
					held.awaited = nil
				}
				if err := try.open(l); !errors.Is(err, ErrAuth) {
					t.Fatalf("%d of %d: paths %v: %v", k, n, at, err)
				}
			})
		}
	}
}

// The rules of section 5.3, one by one: the attack works where the reference
// breaks the rule, and not on this package.

// contactOver is a first contact to b by the reference under broken rules.
func contactOver(rules refRules, p Paths, b *end) (*refSession, *mixedHello, letter) {
	x := &refMix{rules: rules, k: p.K, relays: p.Relays}
	r, part, sealed, _ := refInitiateMixed(newStream("broken"), testA, b, x)
	h := &mixedHello{paths: p, part: [HandshakeSize]byte(part)}
	for i := range sealed {
		h.shares = append(h.shares, [ShareSize]byte(sealed[i]))
	}
	l := letter{d: wire.Hash("test/broken"), key: keys.NewSecret[keys.RoleContent](wire.Hash("test/content"))}
	l.slot = r.seal(l.key.Expose(), l.d[:])
	return r, h, l
}

func TestRuleOneKeyForEachPath(t *testing.T) {
	p := testPaths(2, 3)
	// Two relays put their sealed shares together, knowing no key at all.
	difference := func(h *mixedHello) []byte {
		d := make([]byte, 32)
		for i := range d {
			d[i] = h.shares[0][i] ^ h.shares[1][i]
		}
		return d
	}
	x := &refMix{rules: refRules{oneKey: true}, k: 2, relays: p.Relays}
	_, _, sealed, shares := refInitiateMixed(newStream("broken"), testA, testB, x)
	broken := &mixedHello{shares: [][ShareSize]byte{[ShareSize]byte(sealed[0]), [ShareSize]byte(sealed[1])}}
	want := make([]byte, 32)
	for i := range want {
		want[i] = shares[0][i] ^ shares[1][i]
	}
	if !bytes.Equal(difference(broken), want) {
		t.Fatal("with one key the difference of shares does not show: the test shows nothing")
	}
	_, h := initiateMixed("whole", testA, testB, p)
	acc := h.accept(testA, testB)
	for i := range p.Relays {
		must(acc.Share(p.Relays[i], h.shares[i]))
	}
	for i := range want {
		want[i] = acc.values[0][i] ^ acc.values[1][i]
	}
	if bytes.Equal(difference(h), want) {
		t.Fatal("two relays learn the difference of their shares")
	}

	// A relay brings the share of another.
	r := refAcceptMixed(newStream("b"), testA, testB, partOf(t, x), [][]byte{sealed[1], sealed[1], nil}, x)
	if r == nil {
		t.Fatal("with one key another path's share does not open: the test shows nothing")
	}
	acc = h.accept(testA, testB)
	if err := acc.Share(p.Relays[0], h.shares[1]); !errors.Is(err, ErrShare) {
		t.Fatalf("another path's share: %v", err)
	}
	if have, _ := acc.Shares(); have != 0 {
		t.Fatal("it counts")
	}
}

// partOf is the handshake part that refInitiateMixed makes on stream "broken".
func partOf(t *testing.T, x *refMix) []byte {
	t.Helper()
	return refPropose(newStream("broken"), testA, testB, refPol(x.k, x.relays)).part
}

// Salt and associated data both hold T; the broken copy has it in neither.
func TestRuleTranscriptInEveryShare(t *testing.T) {
	p, other := testPaths(2, 3), testPaths(3, 3)
	_, broken, _ := contactOver(refRules{freeShares: true}, p, testB)
	sealed := [][]byte{broken.shares[0][:], broken.shares[1][:], broken.shares[2][:]}
	if refAcceptMixed(newStream("b"), testA, testB, broken.part[:], sealed, &refMix{rules: refRules{freeShares: true}, k: 3, relays: other.Relays}) == nil {
		t.Fatal("shares of another transcript do not open: the test shows nothing")
	}
	_, h := initiateMixed("whole", testA, testB, p)
	for name, f := range map[string]func(c *Contact, p *Paths){
		"another k":                     func(_ *Contact, p *Paths) { p.K = 3 },
		"another attempt":               func(c *Contact, _ *Paths) { c.Attempt = 2 },
		"other relays":                  func(_ *Contact, p *Paths) { p.Relays = testPaths(2, 4).Relays },
		"the peer's newer announcement": func(c *Contact, _ *Paths) { c.Peer.Announcement[0] ^= 1 },
	} {
		c, own := contact(testB, testA), p.clone()
		f(c, &own)
		acc, err := AcceptMixed(c, []PrekeysPrivate{testB.own}, h.part[:], own)
		must(err)
		for i, relay := range p.Relays {
			if err := acc.Share(relay, h.shares[i]); !errors.Is(err, ErrShare) && !errors.Is(err, ErrPath) {
				t.Errorf("%s: share %d: %v", name, i, err)
			}
		}
	}
}

func TestRuleThePolicyIsOnesOwn(t *testing.T) {
	// One relay of three makes a hello that needs only itself.
	group := testPaths(2, 3)
	claimed := Paths{K: 1, Relays: group.Relays[1:2]}
	c, h := initiateMixed("one of one", evil, testB, claimed)
	l := c.seal()
	begin := func(p Paths) error {
		acc, err := AcceptMixed(contact(testB, evil), []PrekeysPrivate{testB.own}, h.part[:], p)
		must(err)
		if err := acc.Share(group.Relays[1], h.shares[0]); err != nil {
			return err
		}
		s, ok := acc.Ready()
		if !ok {
			return ErrShares
		}
		return (&side{s: s, rand: newStream("b")}).open(l)
	}
	if err := begin(claimed); err != nil { // the broken copy believes the sender
		t.Fatalf("a responder that believes the sender: %v: the test shows nothing", err)
	}
	if err := begin(group); !errors.Is(err, ErrShare) {
		t.Fatalf("1 of 1, claimed by the sender: %v", err)
	}
}

func TestRuleSharesRevealNothing(t *testing.T) {
	p := testPaths(3, 3)
	// The coalition has one share and SK0. If the coefficients follow from what
	// it knows, one share is as good as all.
	attack := func(h *mixedHello, l letter) bool {
		_, sk0 := refAgree(testA, evil, h.part[:], refPol(p.K, p.Relays))
		m := bytes.Clone(h.open([]int{1})[0])
		power := byte(1)
		for i := 1; i < p.K; i++ {
			power = refFieldMul(power, 2)
			for j, c := range refHKDF(nil, sk0, string(be(1, uint64(i))), 32) {
				m[j] ^= refFieldMul(c, power)
			}
		}
		return asResponder(h, m).reads(l)
	}
	_, broken, zero := contactOver(refRules{derived: true}, p, evil)
	if !attack(broken, zero) {
		t.Fatal("one share is not enough where coefficients follow from SK0: the test shows nothing")
	}
	x, h := initiateMixed("whole", testA, evil, p)
	if attack(h, x.seal()) {
		t.Fatal("one share is enough")
	}
}

func TestRuleTheAnswerIsMixed(t *testing.T) {
	p := testPaths(2, 3)
	// The coalition initiated, so it knows every key of the ordinary root step.
	attack := func(mix *refMix, answer func(part []byte, sealed [][]byte, zero letter) letter) bool {
		c, part, sealed, _ := refInitiateMixed(newStream("coalition"), evil, testB, &refMix{k: p.K, relays: p.Relays})
		c.mix = mix
		l := letter{d: wire.Hash("test/broken"), key: keys.NewSecret[keys.RoleContent](wire.Hash("test/content"))}
		l.slot = c.seal(l.key.Expose(), l.d[:])
		return c.reads(answer(part, sealed, l))
	}
	plain := func() *refMix { return &refMix{rules: refRules{plainAnswer: true}, k: p.K, relays: p.Relays} }
	if !attack(plain(), func(part []byte, sealed [][]byte, zero letter) letter {
		b := refAcceptMixed(newStream("b"), evil, testB, part, sealed, plain())
		b.open(zero.slot, zero.d[:])
		zero.slot = b.seal(zero.key.Expose(), zero.d[:])
		return zero
	}) {
		t.Fatal("an answer that mixes nothing cannot be read: the test shows nothing")
	}
	if attack(plain(), func(part []byte, sealed [][]byte, zero letter) letter {
		h := &mixedHello{paths: p, part: [HandshakeSize]byte(part)}
		acc := h.accept(evil, testB)
		for i := range p.K {
			must(acc.Share(p.Relays[i], [ShareSize]byte(sealed[i])))
		}
		s, _ := acc.Ready()
		b := &side{s: s, rand: newStream("b")}
		must(b.open(zero))
		return b.seal()
	}) {
		t.Fatal("the answer is read without a share of it")
	}
}
