package ratchet

import (
	"bytes"
	"crypto/mlkem"
	"testing"
)

// eavesdropper stole both states of a session once. It records every slot, and
// has a quantum computer: every later X25519 key is its own, which the copied
// streams of randomness stand for. It lacks ML-KEM keys and what is encapsulated
// after the theft, unless it is given a key; encapsulation draws from a stream of
// its own, so that the copied ones stay good.
type eavesdropper struct{ a, b *pqRef }

func stealStates(a, b *pqSide) *eavesdropper {
	return &eavesdropper{a: a.ref.clone(), b: b.ref.clone()}
}

// reads tells whether it can read a slot on the way to p's end.
func (e *eavesdropper) reads(to *pqRef, l letter) bool {
	return bytes.Equal(to.open(l.slot, l.d[:]), l.key.Expose())
}

// round is a slot of a, or a control slot, and one of b; how many it reads.
func (e *eavesdropper) round(a, b *pqSide, control bool) (read int) {
	l := letter{}
	if control {
		l = a.sealControl()
	} else {
		l = a.seal()
	}
	must(b.open(l))
	if e.reads(e.b, l) {
		read++
	}
	l = b.seal()
	must(a.open(l))
	if e.reads(e.a, l) {
		read++
	}
	return read
}

// newStolen starts a session and steals its states.
func newStolen() (a, b *pqSide, e *eavesdropper) {
	a, b = pqStart("stolen", false)
	return a, b, stealStates(a, b)
}

func TestReinforcementLocksOutWhoStoleTheState(t *testing.T) {
	// Without it the eavesdropper reads on, however often the ratchet turns.
	a, b, e := newStolen()
	for i := range 20 {
		if e.round(a, b, false) != 2 {
			t.Fatalf("round %d: the attack of this test does not work", i)
		}
	}
	// With it, until the first mix and not after.
	a, b, e = newStolen()
	must(a.s.Reinforce(newStream("encapsulation"), &b.theirs[0]))
	if got := e.round(a, b, true); got != 2 {
		t.Fatalf("before the mix it reads %d of 2", got)
	}
	for i := range 20 {
		// The first slot turns b and still stands on the root before.
		if got := e.round(a, b, false); got > 1 || i > 0 && got > 0 {
			t.Fatalf("round %d after the mix: it reads %d", i, got)
		}
	}
	if a.pending() || a.s.Mixes() != 1 {
		t.Fatal("nothing was mixed")
	}
	// Who has the ML-KEM key as well stays, until the key is another.
	a, b, e = newStolen()
	e.b.kems = map[uint32]*mlkem.DecapsulationKey768{70: b.own[0].KEM}
	reinforce := func(key int) {
		must(a.s.Reinforce(newStream("encapsulation"), &b.theirs[key]))
		if own := b.theirs[key].KEMID; e.b.kems[own] != nil { // what was encapsulated is known from its ciphertext
			c := *a.s.kem.sent
			e.a.sent = &pqEncapsulation{ct: c.ciphertext[:], ss: c.shared[:], id: own, q: e.a.digest(e.a.self, e.a.peer, c.ciphertext[:], own)}
		}
	}
	reinforce(0)
	for i := range 5 {
		if got := e.round(a, b, i == 0); got != 2 {
			t.Fatalf("with the ML-KEM key, round %d: it reads %d of 2", i, got)
		}
	}
	if a.s.Mixes() != 1 {
		t.Fatal("nothing was mixed")
	}
	reinforce(1)
	read := 0
	for i := range 5 {
		read = e.round(a, b, i == 0)
	}
	if read != 0 || a.s.Mixes() != 2 {
		t.Fatalf("after the next key: it reads %d, %d mixes", read, a.s.Mixes())
	}
}
