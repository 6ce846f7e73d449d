package ratchet

import (
	"bytes"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// testPaths is a policy over the first n test relays, k shares sufficing.
func testPaths(k, n int) Paths {
	p := Paths{K: k}
	for i := range n {
		p.Relays = append(p.Relays, keys.RelayPublic(wire.Hash("test/relay", wire.U64(uint64(i)))))
	}
	slices.SortFunc(p.Relays, func(a, b keys.RelayPublic) int { return bytes.Compare(a[:], b[:]) })
	return p
}

// mixedHello is what an initiator gave to the paths.
type mixedHello struct {
	paths  Paths
	part   [HandshakeSize]byte
	shares [][ShareSize]byte
}

// initiateMixed makes an initiator and its hello, from a's keys to b's.
func initiateMixed(seed string, a, b *end, p Paths) (*side, *mixedHello) {
	x := &side{rand: newStream(seed + " a")}
	s, chain, part, shares, err := InitiateMixed(x.rand, x.rand, contact(a, b), &b.pre, p)
	must(err)
	x.s, x.chain = s, chain
	return x, &mixedHello{paths: p, part: part, shares: shares}
}

func (h *mixedHello) accept(a, b *end) *Accepting {
	acc, err := AcceptMixed(contact(b, a), []PrekeysPrivate{b.own}, h.part[:], h.paths)
	must(err)
	return acc
}

// startMixed makes both ends, message 0 opened, none of the answer.
func startMixed(seed string, p Paths) (a, b *side) {
	a, h := initiateMixed(seed, testA, testB, p)
	acc := h.accept(testA, testB)
	for i := range p.K {
		must(acc.Share(p.Relays[i], h.shares[i]))
	}
	s, ok := acc.Ready()
	if !ok {
		panic("enough shares and not ready")
	}
	acc.Zero()
	b = &side{s: s, rand: newStream(seed + " b")}
	must(b.open(a.seal()))
	return a, b
}

// confirmMixed lets an answer and its answer through.
func confirmMixed(a, b *side, p Paths) {
	l := b.seal()
	for i := range p.K {
		err := a.openAnswer(p.Relays[i], b.answering(p.Relays[i], l), l)
		if i == p.K-1 {
			must(err)
		}
	}
	must(b.open(a.seal()))
}

// answering is a letter's slot in its long form for the path of a relay.
func (p *side) answering(relay keys.RelayPublic, l letter) []byte {
	share, ok := p.s.AnswerShare(relay)
	if !ok {
		panic("no share of the answer")
	}
	return append(share[:], l.slot...)
}

func (p *side) openAnswer(relay keys.RelayPublic, slot []byte, l letter) error {
	k, err := p.s.OpenAnswer(testNow, p.rand, &p.chain, relay, slot, l.d)
	if err == nil && !k.Equal(&l.key) {
		panic("an answering slot opened to another content key")
	}
	return err
}
