package ratchet

import (
	"bytes"
	"testing"

	"parallax/internal/wire"
)

func FuzzParseSession(f *testing.F) {
	a, b := start("fuzz record")
	for _, p := range []*side{a, b} {
		rec, err := p.s.MarshalBinary()
		must(err)
		f.Add(rec)
	}
	a.seal()
	must(b.open(a.seal()))
	rec, err := b.s.MarshalBinary()
	must(err)
	f.Add(rec)
	unanswered, _ := startUnanswered("fuzz record")
	rec, err = unanswered.s.MarshalBinary()
	must(err)
	f.Add(rec)
	slot := a.seal()
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSession(b)
		if err != nil {
			return
		}
		again, err := s.MarshalBinary()
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("not canonical: %v", err)
		}
		if s.Skipped() > MaxSkipped {
			t.Fatal("too many keys")
		}
		// Whatever was read can be used without a panic.
		p := &side{s: s, chain: s.Chain(SendChain{}), rand: newStream("fuzz")}
		if s.CanSend(p.chain) {
			p.seal()
		}
		s.Open(testNow, p.rand, &p.chain, slot.slot, slot.d)
		s.DropOldest(1)
		s.DropSkipped(testNow)
	})
}

func FuzzParseSendChain(f *testing.F) {
	a, _ := start("fuzz chain")
	f.Add(a.chain.Append(nil))
	f.Add(make([]byte, SendChainSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseSendChain(b)
		if err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Fatal("not canonical")
		}
	})
}

func FuzzOpen(f *testing.F) {
	a, b := start("fuzz open")
	must(a.open(b.seal()))
	skipped, genuine := a.seal(), a.seal()
	must(b.open(genuine))
	next := a.seal()
	rec, err := b.s.MarshalBinary()
	must(err)
	for _, l := range []letter{skipped, genuine, next, forge(b, header{ratchet: b.s.remote, n: 30}), forge(b, header{ratchet: a.s.remote, n: 2, pn: 9})} {
		f.Add(l.slot, l.d[:])
	}
	f.Fuzz(func(t *testing.T, slot, d []byte) {
		if len(d) != 32 {
			return
		}
		s, err := ParseSession(rec)
		must(err)
		p := &side{s: s, chain: b.chain, rand: newStream("fuzz")}
		before := p.record()
		_, err = s.Open(testNow, p.rand, &p.chain, slot, wire.Digest(d))
		honest := bytes.Equal(slot, skipped.slot) && wire.Digest(d) == skipped.d || bytes.Equal(slot, next.slot) && wire.Digest(d) == next.d
		switch {
		case (err == nil) != honest:
			t.Fatalf("honest %v, error %v", honest, err)
		case err != nil && !bytes.Equal(before, p.record()):
			t.Fatal("state changed by a refused slot")
		}
	})
}

func FuzzAccept(f *testing.F) {
	r := newStream("fuzz accept")
	s, chain, part, err := Initiate(r, r, contact(testA, testB), &testB.pre)
	must(err)
	a := &side{s: s, chain: chain, rand: r}
	zero := a.seal()
	f.Add(uint16(0), []byte{}, 0)
	f.Add(uint16(0), []byte{}, -1)
	f.Add(uint16(31), []byte{0x80}, 0)
	f.Fuzz(func(t *testing.T, at uint16, spoil []byte, longer int) {
		if longer < -HandshakeSize || longer > 64 {
			return
		}
		b := spoiled(part[:], at, spoil, HandshakeSize+longer)
		s, err := Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, b)
		if err != nil {
			return
		}
		_, err = s.Open(testNow, newStream("fuzz"), new(SendChain), zero.slot, zero.d)
		if (err == nil) != bytes.Equal(b, part[:]) {
			t.Fatalf("message 0 of another hello: %v", err)
		}
	})
}
