package ratchet

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Post-quantum after the start, docs/protocol.md section 5.7.

// exchange lets one slot of each side through, a's first.
func exchange(a, b *pqSide) {
	must(b.open(a.seal()))
	must(a.open(b.seal()))
}

func bothKinds(t *testing.T, f func(t *testing.T, a, b *pqSide)) {
	for _, mixed := range []bool{false, true} {
		t.Run(fmt.Sprintf("mixed %v", mixed), func(t *testing.T) {
			a, b := pqStart("pq", mixed)
			f(t, a, b)
		})
	}
}

func TestReinforceStates(t *testing.T) {
	bothKinds(t, func(t *testing.T, a, b *pqSide) {
		base := a.s.Mixes()
		must(a.reinforce(b, 0))
		if pending, sealed := a.s.Reinforcing(); !pending || sealed {
			t.Fatalf("encapsulated: pending %v, sealed %v", pending, sealed)
		}
		must(b.open(a.seal())) // an ordinary slot of the same chain
		must(b.open(a.sealControl()))
		if pending, sealed := a.s.Reinforcing(); !pending || !sealed {
			t.Fatalf("sent: pending %v, sealed %v", pending, sealed)
		}
		if b.s.kemReceived() == nil || b.s.Mixes() != base {
			t.Fatal("b mixes before its turn, or took nothing")
		}
		must(a.open(b.seal())) // b's chain began before: nothing is mixed
		if pending, sealed := a.s.Reinforcing(); !pending || sealed || a.s.Mixes() != base {
			t.Fatalf("a turned: pending %v, sealed %v, %d mixes", pending, sealed, a.s.Mixes())
		}
		must(b.open(a.seal())) // b turns and mixes
		if b.s.kemReceived() != nil || b.s.Mixes() != base+1 {
			t.Fatalf("b turned: %d mixes", b.s.Mixes())
		}
		must(a.open(b.seal()))
		if a.pending() || a.s.Mixes() != base+1 {
			t.Fatalf("a has opened the mixed chain: %d mixes", a.s.Mixes())
		}
		exchange(a, b)
		if a.s.Mixes() != base+1 || b.s.Mixes() != base+1 || a.s.root == b.s.root {
			t.Fatal("later chains count other mixes")
		}
	})
}

// A control slot that turns the ratchet is mixed by that very turn.
func TestControlSlotThatTurnsMixesAtOnce(t *testing.T) {
	bothKinds(t, func(t *testing.T, a, b *pqSide) {
		base := a.s.Mixes()
		must(a.open(b.seal())) // a has a new ratchet key
		must(a.reinforce(b, 0))
		must(b.open(a.sealControl()))
		if b.s.Mixes() != base+1 || b.s.kemReceived() != nil {
			t.Fatalf("%d mixes", b.s.Mixes())
		}
		must(a.open(b.seal()))
		if a.pending() {
			t.Fatal("still pending")
		}
	})
}

// Both directions may be under way; each root step mixes at most one.
func TestBothDirectionsMix(t *testing.T) {
	bothKinds(t, func(t *testing.T, a, b *pqSide) {
		base := a.s.Mixes()
		must(a.reinforce(b, 0))
		must(b.reinforce(a, 1))
		must(b.open(a.sealControl()))
		must(a.open(b.sealControl())) // a turns with b's: one mix
		if a.s.Mixes() != base+1 {
			t.Fatalf("a: %d", a.s.Mixes())
		}
		must(b.open(a.seal())) // b sees its own mixed, and mixes a's
		if b.s.Mixes() != base+2 || b.s.currentMixes() != base+1 || b.pending() {
			t.Fatalf("b: %d, pending %v", b.s.Mixes(), b.pending())
		}
		must(a.open(b.seal()))
		if a.s.Mixes() != base+2 || a.pending() {
			t.Fatalf("a: %d, pending %v", a.s.Mixes(), a.pending())
		}
	})
}

// What was mixed is not mixed again: not from a repetition in the newest chain,
// nor from a control slot that comes late from an old one.
func TestRepeatedControlSlotsMixOnce(t *testing.T) {
	a, b := pqStart("repeat", false)
	must(a.reinforce(b, 0))
	late := a.sealControl()
	must(b.open(a.sealControl()))
	must(a.open(b.seal()))
	again, other := a.sealControl(), a.sealControl() // a cannot know yet
	must(b.open(again))                              // b turns and mixes what it took before
	must(b.open(other))
	must(b.open(late))
	if b.s.kemReceived() != nil || b.s.Mixes() != 1 {
		t.Fatalf("%d mixes, received %v", b.s.Mixes(), b.s.kemReceived())
	}
	for range 3 {
		must(a.open(b.seal()))
		must(b.open(a.seal()))
	}
	// The next one comes through, and is not taken for the one before.
	must(a.reinforce(b, 0))
	must(b.open(a.sealControl()))
	exchange(b, a)
	exchange(b, a)
	if a.s.Mixes() != 2 || b.s.Mixes() != 2 || a.pending() {
		t.Fatalf("%d and %d mixes", a.s.Mixes(), b.s.Mixes())
	}
}

// The peer may take an encapsulation after it has answered its chain: that is why
// it cannot be replaced one generation later.
func TestControlSlotAfterTheAnswerToItsChain(t *testing.T) {
	a, b := pqStart("crossing", false)
	exchange(b, a)
	must(a.reinforce(b, 0))
	late := a.sealControl()
	exchange(a, b)
	if err := a.reinforce(b, 1); !errors.Is(err, ErrPending) {
		t.Fatalf("replaced while the peer may take it: %v", err)
	}
	must(b.open(late))
	if b.s.kemReceived() == nil {
		t.Fatal("not taken from the newest chain")
	}
	exchange(a, b)
	if a.pending() || a.s.Mixes() != 1 || b.s.Mixes() != 1 {
		t.Fatalf("%d and %d mixes, pending %v", a.s.Mixes(), b.s.Mixes(), a.pending())
	}
}

// A lost control slot is sent again in the next generation; an encapsulation to a
// key that is gone is replaced when the peer cannot mix it any more.
func TestLostAndReplacedEncapsulations(t *testing.T) {
	a, b := pqStart("lost", false)
	must(a.reinforce(b, 2)) // b does not hold it
	if err := a.reinforce(b, 0); err != nil {
		t.Fatalf("replaced before a control slot: %v", err)
	}
	must(a.reinforce(b, 2))
	a.sealControl() // lost
	exchange(a, b)
	if err := a.reinforce(b, 0); !errors.Is(err, ErrPending) {
		t.Fatalf("one generation later: %v", err)
	}
	must(b.open(a.sealControl())) // opens, and is not taken
	if b.s.kem != nil {
		t.Fatal("taken without its key")
	}
	for range 2 {
		unchanged(t, a.side, func() {
			if err := a.reinforce(b, 0); !errors.Is(err, ErrPending) {
				t.Fatalf("too early: %v", err)
			}
		})
		must(a.open(b.seal()))
		must(b.open(a.seal()))
	}
	must(a.reinforce(b, 0))
	late := a.sealControl()
	exchange(a, b)
	exchange(a, b)
	must(b.open(late)) // of an old chain: opens, and is not taken
	if b.s.kem != nil {
		t.Fatal("taken from an old chain")
	}
	must(b.open(a.sealControl()))
	must(a.open(b.seal()))
	if b.s.Mixes() != 1 || a.pending() || a.s.Mixes() != 1 {
		t.Fatalf("%d mixes, pending %v", b.s.Mixes(), a.pending())
	}
}

func TestReinforceRefuses(t *testing.T) {
	x, y := start("refuse")
	end := newEnd("refuse", 1)
	unchanged(t, y, func() {
		if err := y.s.Reinforce(y.rand, &end.pre); !errors.Is(err, ErrUnconfirmed) {
			t.Errorf("unconfirmed: %v", err)
		}
	})
	must(x.open(y.seal()))
	bad := end.pre
	for i := range bad.KEM {
		bad.KEM[i] = 0xff
	}
	unchanged(t, x, func() {
		if err := x.s.Reinforce(x.rand, &bad); !errors.Is(err, wire.ErrFormat) {
			t.Errorf("no ML-KEM key: %v", err)
		}
	})
	defer func() {
		if recover() == nil {
			t.Error("a control slot without an encapsulation")
		}
	}()
	x.s.SealControl(&x.chain, new(keys.ContentKey), wire.Digest{}, nil)
}

// A forged or exchanged encapsulation changes nothing.
func TestForgedControlSlots(t *testing.T) {
	a, b := pqStart("forged", false)
	c, _ := pqStart("other", false)
	must(a.reinforce(b, 0))
	must(c.s.Reinforce(c.rand, &b.theirs[0]))
	l, foreign := a.sealControl(), c.sealControl()
	own := b.own
	for name, f := range map[string]func(l *letter){
		"ciphertext":         func(l *letter) { l.slot[5] ^= 1 },
		"last of ciphertext": func(l *letter) { l.slot[1087] ^= 1 },
		"kem id":             func(l *letter) { l.slot[1091] ^= 1 },
		"header":             func(l *letter) { l.slot[1092] ^= 1 },
		"tag":                func(l *letter) { l.slot[ControlSlotSize-1] ^= 1 },
		"another's":          func(l *letter) { copy(l.slot, foreign.slot[:1092]) },
		"another envelope":   func(l *letter) { l.d[0] ^= 1 },
		"short":              func(l *letter) { l.slot = l.slot[1:] },
		"without it":         func(l *letter) { l.slot = l.slot[1092:] },
		"before an ordinary": func(l *letter) { l.slot = append(bytes.Clone(l.slot[:1092]), a.seal().slot...) },
	} {
		forged := l
		forged.slot = bytes.Clone(l.slot)
		f(&forged)
		unchanged(t, b.side, func() {
			if err := b.open(forged); !errors.Is(err, ErrAuth) && !errors.Is(err, wire.ErrFormat) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	unchanged(t, b.side, func() { // not to its sender either
		a.own = own
		if a.open(l) == nil {
			t.Error("back to its sender")
		}
	})
	must(b.open(l))
}

// The count is authentic only with an encapsulation that it stands for.
func TestCountsOfReinforcedChains(t *testing.T) {
	for name, spoil := range map[string]func(s *Session){
		"more without one": func(s *Session) { s.kem = &reinforcement{sending: 1} },
		"two more":         func(s *Session) { s.kem.sending = 2 },
		"less":             func(s *Session) { s.kem.sending = 0xff },
		"none":             func(s *Session) { s.kem.sending = 0 },
	} {
		a, b := pqStart("counts", false)
		if name != "more without one" {
			must(a.reinforce(b, 0))
		}
		must(a.open(b.seal()))
		if name == "more without one" {
			must(b.open(a.seal()))
		} else {
			must(b.open(a.sealControl()))
		}
		spoil(b.s)
		unchanged(t, a.side, func() {
			if err := a.open(b.seal()); !errors.Is(err, ErrAuth) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	// Modulo 256.
	a, b := pqStart("wrap", false)
	for _, p := range []*pqSide{a, b} {
		p.s.begun().sending, p.s.begun().receiving = 255, 255
	}
	must(a.reinforce(b, 0))
	must(b.open(a.sealControl()))
	must(a.open(b.seal()))
	late := a.seal()
	must(b.open(a.seal()))
	b.reopen()
	must(a.open(b.seal()))
	a.reopen()
	must(b.open(a.seal()))
	must(b.open(late)) // of the chain before, whose count is kept
	if a.s.Mixes() != 0 || b.s.Mixes() != 0 || a.pending() {
		t.Errorf("after 255: %d and %d", a.s.Mixes(), b.s.Mixes())
	}
}

// An initiator that its responder does not know to be confirmed cannot send
// control slots; one that does anyway gets its slots opened, no more.
func TestControlSlotBeforeConfirmation(t *testing.T) {
	x, y := startUnanswered("early")
	a, b := &pqSide{side: x}, &pqSide{side: y, own: []PrekeysPrivate{testB.own}}
	x.s.kem = &reinforcement{}
	r := x.s.kem
	r.sent = &encapsulation{kem: testB.own.KEMID}
	zero, one := a.sealControl(), a.sealControl()
	must(b.open(zero))
	must(b.open(one))
	if y.s.kem != nil {
		t.Fatal("taken before the session is confirmed")
	}
	if _, err := y.s.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
}

func TestReinforcedSecretsAreErased(t *testing.T) {
	a, b := pqStart("erase", false)
	must(a.reinforce(b, 0))
	must(b.open(a.sealControl()))
	sent, received := a.s.kem.sent, b.s.kem.received
	if received.shared != sent.shared || received.shared == ([32]byte{}) {
		t.Fatal("the ends have other secrets")
	}
	must(a.open(b.seal()))
	must(b.open(a.seal()))
	if *received != (kemSecret{}) {
		t.Error("the secret received outlives its mix")
	}
	must(a.open(b.seal()))
	if *sent != (encapsulation{}) {
		t.Error("the encapsulation outlives its mix")
	}
	must(b.reinforce(a, 0))
	must(a.open(b.sealControl()))
	sent = b.s.kem.sent
	a.s.Zero()
	b.s.Zero()
	if sent.shared != ([32]byte{}) {
		t.Error("Zero leaves the encapsulation")
	}
}
