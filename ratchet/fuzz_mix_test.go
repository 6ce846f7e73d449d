package ratchet

import (
	"bytes"
	"errors"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

func FuzzParseMixedSession(f *testing.F) {
	p := testPaths(2, 3)
	a, b := startMixed("fuzz mixed record", p)
	add := func(p *side) {
		rec, err := p.s.MarshalBinary()
		must(err)
		f.Add(rec)
	}
	add(a)
	add(b)
	a.seal()
	must(b.open(a.seal()))
	l := b.seal()
	a.openAnswer(p.Relays[2], b.answering(p.Relays[2], l), l)
	add(a)
	add(b)
	long := b.answering(p.Relays[0], l)
	c := &side{s: a.s, chain: a.chain, rand: newStream("fuzz")}
	c.reopen()
	must(c.openAnswer(p.Relays[0], long, l))
	add(c)
	c.seal()
	must(b.open(c.seal()))
	add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseSession(raw)
		if err != nil {
			return
		}
		again, err := s.MarshalBinary()
		if err != nil || !bytes.Equal(raw, again) {
			t.Fatalf("not canonical: %v", err)
		}
		// Whatever was read can be used without a panic.
		p := &side{s: s, chain: s.Chain(SendChain{}), rand: newStream("fuzz")}
		if s.CanSend(p.chain) {
			p.seal()
		}
		relay := testPaths(1, 1).Relays[0]
		s.AnswerShare(relay)
		s.AnswerShares()
		s.OpenAnswer(testNow, p.rand, &p.chain, relay, long, l.d)
		s.Open(testNow, p.rand, &p.chain, l.slot, l.d)
		if _, err := s.MarshalBinary(); err != nil {
			t.Fatal(err)
		}
	})
}

// Any share on any path: only the true one on its own path counts.
func FuzzAcceptingShare(f *testing.F) {
	p := testPaths(2, 3)
	a, h := initiateMixed("fuzz share", testA, testB, p)
	zero := a.seal()
	for i := range h.shares {
		f.Add(i, h.shares[i][:])
		f.Add((i+1)%3, h.shares[i][:])
	}
	f.Fuzz(func(t *testing.T, path int, sealed []byte) {
		if len(sealed) != ShareSize || path < 0 || path > 3 {
			return
		}
		acc := h.accept(testA, testB)
		must(acc.Share(p.Relays[1], h.shares[1]))
		relay := keys.RelayPublic{}
		if path < 3 {
			relay = p.Relays[path]
		}
		err := acc.Share(relay, [ShareSize]byte(sealed))
		genuine := path < 3 && bytes.Equal(sealed, h.shares[path][:])
		if (err == nil) != genuine || err != nil && !errors.Is(err, ErrShare) && !errors.Is(err, ErrPath) {
			t.Fatalf("true %v, error %v", genuine, err)
		}
		s, ok := acc.Ready()
		if ok != (genuine && path != 1) {
			t.Fatalf("ready %v", ok)
		}
		if ok {
			if _, err := s.Open(testNow, newStream("fuzz"), new(SendChain), zero.slot, zero.d); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzOpenAnswer(f *testing.F) {
	p := testPaths(2, 3)
	a, b := startMixed("fuzz answer", p)
	l := b.seal()
	if err := a.openAnswer(p.Relays[0], b.answering(p.Relays[0], l), l); !errors.Is(err, ErrShares) {
		f.Fatal(err)
	}
	rec, err := a.s.MarshalBinary()
	must(err)
	f.Add(1, b.answering(p.Relays[1], l), l.d[:])
	f.Add(2, b.answering(p.Relays[1], l), l.d[:])
	f.Add(0, b.answering(p.Relays[0], l), l.d[:])
	forged := forge(a, header{ratchet: b.s.own, mixes: 1, n: 3})
	f.Add(1, append(bytes.Clone(b.answering(p.Relays[1], l)[:ShareSize]), forged.slot...), forged.d[:])
	f.Fuzz(func(t *testing.T, path int, slot, d []byte) {
		if len(d) != 32 || path < 0 || path > 2 {
			return
		}
		s, err := ParseSession(rec)
		must(err)
		x := &side{s: s, chain: a.chain, rand: newStream("fuzz")}
		before := x.record()
		_, err = s.OpenAnswer(testNow, x.rand, &x.chain, p.Relays[path], slot, wire.Digest(d))
		var honest bool
		if path > 0 && wire.Digest(d) == l.d {
			honest = bytes.Equal(slot, b.answering(p.Relays[path], l))
		}
		have, _ := s.AnswerShares()
		switch {
		case (err == nil) != honest:
			t.Fatalf("honest %v, error %v", honest, err)
		case err != nil && have < 2 && !bytes.Equal(before, x.record()):
			t.Fatal("state changed by a refused slot")
		}
	})
}
