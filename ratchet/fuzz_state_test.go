package ratchet

import (
	"bytes"
	"crypto/mlkem"
	"errors"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// fuzzRecords are real records of every kind, with slots that would open.
func fuzzRecords() (records [][]byte, chains []SendChain, letters []letter) {
	add := func(p *side) {
		b, err := p.s.MarshalBinary()
		must(err)
		records, chains = append(records, b), append(chains, p.chain)
	}
	a, b := start("fuzz state")
	add(a)
	add(b)
	letters = append(letters, a.seal())
	must(b.open(a.seal()))
	add(b) // a skipped key
	letters = append(letters, b.seal())
	must(a.open(letters[len(letters)-1]))
	letters = append(letters, a.seal(), a.seal())
	must(b.open(letters[len(letters)-1]))
	add(b) // skipped keys of two chains
	b.s.DropInitial()
	add(b)
	p := testPaths(2, 3)
	x, y := startMixed("fuzz state, mixed", p)
	add(x)
	add(y)
	l := y.seal()
	letters = append(letters, l)
	if x.openAnswer(p.Relays[1], y.answering(p.Relays[1], l), l) == nil {
		panic("one share was enough")
	}
	add(x) // a share staged
	must(x.openAnswer(p.Relays[0], y.answering(p.Relays[0], l), l))
	letters = append(letters, x.seal(), x.seal())
	must(y.open(letters[len(letters)-1]))
	add(x)
	add(y)
	return records, chains, letters
}

// FuzzStateFromDisk spoils a real record and its sending chain, as a disk might
// that was not sealed: what parses is used without a panic, comes back as it
// was, keeps within the limits, and after an error is what it was before.
func FuzzStateFromDisk(f *testing.F) {
	records, chains, letters := fuzzRecords()
	for i := range records {
		f.Add(uint8(i), uint16(0), []byte{}, []byte{}, []byte{0, 1, 2, 3, 4, 5, 6, 7})
		f.Add(uint8(i), uint16(1), []byte{3}, []byte{0, 0, 0, 1}, []byte{9, 0, 8, 1, 7, 2, 6})
		f.Add(uint8(i), uint16(258), []byte{0, 0, 0, 0xff}, []byte{0xff}, []byte{0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, spoil, chainSpoil, ops []byte) {
		if len(ops) > 32 {
			return
		}
		record := bytes.Clone(records[int(which)%len(records)])
		for i, c := range spoil {
			record[(int(at)+i)%len(record)] ^= c
		}
		s, err := ParseSession(record)
		if err != nil {
			return
		}
		stored := chains[int(which)%len(chains)].Append(nil)
		for i, c := range chainSpoil {
			stored[i%len(stored)] ^= c
		}
		chain, err := ParseSendChain(stored)
		if err != nil {
			chain = s.Chain(SendChain{})
		}
		p := &side{s: s, chain: chain, rand: newStream("fuzz disk")}
		again, err := s.MarshalBinary()
		if err != nil || !bytes.Equal(again, record) {
			t.Fatalf("not canonical: %v", err)
		}
		relay := testPaths(2, 3).Relays[0]
		for _, op := range ops {
			l := letters[int(op>>3)%len(letters)]
			before := p.record()
			var err error
			switch op % 8 {
			case 0, 1:
				_, err = s.Open(testNow, p.rand, &p.chain, l.slot, l.d)
			case 2:
				_, err = s.OpenDrained(testNow, p.rand, &p.chain, l.slot, l.d)
			case 3:
				// Staging is allowed beside an error: only that it does not panic.
				s.OpenAnswer(testNow, p.rand, &p.chain, relay, append(make([]byte, ShareSize), l.slot...), l.d)
			case 4:
				if s.CanSend(p.chain) {
					n := s.Chain(p.chain).N
					if len(p.seal().slot) != SlotSize || p.chain.N != n+1 || p.chain.Generation != s.Generation() {
						t.Fatal("Seal did something else")
					}
				}
			case 5:
				s.DropOldest(1)
			case 6:
				s.DropSkipped(testNow)
			case 7:
				s.AnswerShare(relay)
				s.AnswerShares()
				if s.CanSend(p.chain) && s.Chain(p.chain) == p.chain {
					s.DropInitial()
				}
			}
			if err != nil && !bytes.Equal(before, p.record()) {
				t.Fatalf("op %d: the state changed with %v", op, err)
			}
			if s.Skipped() > MaxSkipped {
				t.Fatal("too many keys")
			}
		}
		// What it became is a record again.
		b, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSession(b); err != nil {
			t.Fatalf("a record that does not parse any more: %v", err)
		}
	})
}

// FuzzChainOfSession pairs any stored chain with a session: no chain of another
// generation than the session's sends, except its own initial one.
func FuzzChainOfSession(f *testing.F) {
	records, chains, _ := fuzzRecords()
	for i, c := range chains {
		f.Add(uint8(i), c.Append(nil))
		f.Add(uint8(i+1), c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		c, err := ParseSendChain(b)
		if err != nil {
			return
		}
		s, err := ParseSession(records[int(which)%len(records)])
		must(err)
		got := s.Chain(c)
		switch {
		case c.Generation == s.Generation():
			if got != c {
				t.Fatal("not the stored chain")
			}
		case c.Generation > s.Generation():
			if got != (SendChain{}) || s.CanSend(c) {
				t.Fatal("an old record sends")
			}
		default:
			if got != (SendChain{}) && (got.Generation != s.Generation() || got.N != 0) {
				t.Fatal("not the initial chain")
			}
		}
		if s.CanSend(c) != (got.Generation > 0 && got.N < MaxChain) {
			t.Fatal("CanSend and Chain differ")
		}
		if s.CanSend(c) {
			key := keys.NewSecret[keys.RoleContent]([32]byte{1})
			if slot := s.Seal(&c, &key, wire.Digest{}, nil); len(slot) != SlotSize || c.N != got.N+1 {
				t.Fatal("Seal did something else")
			}
		}
	})
}

// spoiled is b altered by xor from a place on and cut or continued to a length.
// Fuzz targets take what to spoil rather than a whole hello: inputs stay short,
// so that the fuzzer does not spend its time on shortening them.
func spoiled(b []byte, at uint16, spoil []byte, length int) []byte {
	b = bytes.Clone(b)
	for i, c := range spoil {
		b[(int(at)+i)%len(b)] ^= c
	}
	return append(b, make([]byte, max(0, length-len(b)))...)[:length]
}

// FuzzInitiate takes the peer's keys as an announcement may hold them.
func FuzzInitiate(f *testing.F) {
	f.Add(uint8(0), uint16(0), []byte{})
	f.Add(uint8(0), uint16(0), testB.pre.Key[:])
	f.Add(uint8(1), uint16(0), bytes.Repeat([]byte{0xff}, 8))
	f.Add(uint8(1), uint16(1183), []byte{1})
	f.Add(uint8(2), uint16(0), testB.party.Identity[:])
	f.Fuzz(func(t *testing.T, which uint8, at uint16, spoil []byte) {
		pre, c := testB.pre, contact(testA, testB)
		switch which % 3 {
		case 0:
			pre.Key = keys.PrekeyPublic(spoiled(pre.Key[:], at, spoil, 32))
		case 1:
			pre.KEM = [mlkem.EncapsulationKeySize768]byte(spoiled(pre.KEM[:], at, spoil, len(pre.KEM)))
		case 2:
			c.Peer.Identity = keys.IdentityPublic(spoiled(c.Peer.Identity[:], at, spoil, 32))
		}
		r := newStream("fuzz initiate")
		s, chain, part, err := Initiate(r, r, c, &pre)
		if err != nil {
			if s != nil || chain != (SendChain{}) || part != [HandshakeSize]byte{} {
				t.Fatal("something beside an error")
			}
			if !errors.Is(err, wire.ErrFormat) && !errors.Is(err, keys.ErrSmallOrder) {
				t.Fatal(err)
			}
			return
		}
		if _, _, err := HandshakeIDs(part[:]); err != nil || !s.CanSend(chain) {
			t.Fatalf("an initiator that cannot send: %v", err)
		}
	})
}

// FuzzMixedHello takes a handshake part, a share and message 0 from the wire.
func FuzzMixedHello(f *testing.F) {
	p := testPaths(1, 2)
	a, h := initiateMixed("fuzz mixed hello", testA, testB, p)
	zero := a.seal()
	f.Add(uint16(0), []byte{}, []byte{}, []byte{}, 0)
	f.Add(uint16(31), []byte{0x80}, []byte{}, []byte{}, 0)
	f.Add(uint16(1125), []byte{1}, []byte{}, []byte{}, 0)
	f.Add(uint16(0), []byte{}, []byte{1}, []byte{}, 0)
	f.Add(uint16(0), []byte{}, []byte{}, []byte{0, 1}, 0)
	f.Add(uint16(0), []byte{}, []byte{}, []byte{}, 1)
	f.Fuzz(func(t *testing.T, at uint16, partSpoil, shareSpoil, slotSpoil []byte, longer int) {
		if longer < -HandshakeSize || longer > 64 {
			return
		}
		part := spoiled(h.part[:], at, partSpoil, HandshakeSize+longer)
		share := spoiled(h.shares[0][:], at, shareSpoil, ShareSize)
		slot := spoiled(zero.slot, at, slotSpoil, SlotSize)
		c := contact(testB, testA)
		acc, err := AcceptMixed(c, []PrekeysPrivate{testB.own}, part, p)
		spk, kem, idErr := HandshakeIDs(part)
		tr, trErr := HandshakeTranscript(c.with(p), part)
		if (len(part) == HandshakeSize) != (idErr == nil) || (idErr == nil) != (trErr == nil) {
			t.Fatalf("%d bytes: %v, %v", len(part), idErr, trErr)
		}
		if err != nil {
			if errors.Is(err, ErrPrekey) && spk == testB.pre.ID && kem == testB.pre.KEMID {
				t.Fatal("prekeys that are held are refused")
			}
			return
		}
		if acc.Transcript() != tr {
			t.Fatal("two transcripts of one handshake part")
		}
		err = acc.Share(p.Relays[0], [ShareSize]byte(share))
		honest := bytes.Equal(part, h.part[:]) && bytes.Equal(share, h.shares[0][:])
		if (err == nil) != honest {
			t.Fatalf("honest %v: %v", honest, err)
		}
		s, ok := acc.Ready()
		if ok != honest {
			t.Fatalf("honest %v, ready %v", honest, ok)
		}
		if ok {
			var chain SendChain
			_, err := s.Open(testNow, newStream("fuzz"), &chain, slot, zero.d)
			if (err == nil) != bytes.Equal(slot, zero.slot) || (err == nil) != (chain.Generation == 1) {
				t.Fatalf("message 0: %v", err)
			}
		}
	})
}

// FuzzMatches takes what a person typed or scanned.
func FuzzMatches(f *testing.F) {
	code := PairCode(holder("a"), holder("b"))
	f.Add(code.String())
	f.Add("")
	f.Add("57470 12853")
	f.Fuzz(func(t *testing.T, typed string) {
		var digits []byte
		for _, c := range []byte(typed) {
			if c >= '0' && c <= '9' {
				digits = append(digits, c)
			}
		}
		if code.Matches(typed) && !bytes.Equal(digits, code[:]) {
			t.Fatalf("%q matches", typed)
		}
	})
}
