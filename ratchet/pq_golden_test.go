package ratchet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"parallax/internal/wire"
)

// TestReinforcedGoldens pins the bytes of section 5.7 and of record format 3.
func TestReinforcedGoldens(t *testing.T) {
	a, b := pqStart("pq golden", true)
	must(a.reinforce(b, 0))
	encapsulated := a.record()
	slot := a.sealControl()
	sent := a.record()
	must(b.open(slot))
	received := b.record()
	must(a.open(b.seal()))
	must(b.open(a.seal()))
	turned := b.record()
	late := b.seal()
	mixed := b.seal()
	must(a.open(mixed))
	skipped := a.record()
	must(a.open(late))
	q := encapsulationDigest(a.s.transcript, a.s.self, a.s.peer, slot.slot[:1088], 70)
	hash := func(p []byte) []byte { h := sha256.Sum256(p); return h[:] }
	for _, g := range []struct {
		name string
		got  []byte
		size int
		want string
	}{
		{"digest of the encapsulation", q[:], 32, "60220cc2047e6773352ddb83bddc52c8cca976d0aefd6403547252a6aae18b92"},
		{"control slot, hash", slot.slot, ControlSlotSize, "cd6a40bb0f7fe8dce7c02e6a09fc3d3ec009a62f5d08a5fa545df0bcf3848c4b"},
		{"slot in it", slot.slot[1092:], SlotSize, "99cf5cdbd099098cc2a3de655f8aa12fd7083877b588c72fc8db80de16cd0409c09c7f4c75abb8d51261218d29038cca5cc2bd471da1002ea1e7f02f4e9a5f11a557bae8e2de44905f6fe819fbd85c89aaddaeece0a4ffe2"},
		{"first slot of the mixed chain", mixed.slot, SlotSize, "51045a58349624f0a4332933f4c0eed6abc224c8f1526462905124009973f1a13ac8dbdd7daefb2f3638680e0f8c8e3636a791149d9e422c3903b70c522ec1220321629c0b4928d913791cca9bbd97791f9d9ef4147cfe59"},
		{"record with an encapsulation", encapsulated, SendChainSize + 336 + 1 + 1128, "93b14dccd56cf9153441ca16e411cf64471ebf6ed1367989cb493a1a443455cb"},
		{"record after its control slot", sent, SendChainSize + 336 + 1 + 1128, "2eed79f2a9dc540e16ab4aee35a5dadecd93aa00e3ef62962a174062f274f6d5"},
		{"record with one received", received, SendChainSize + 336 + 1 + 64, "f168c20655baef43f7c71a76b05c35459742e6934a31e14c4d1d0edd8fd24042"},
		{"record after the turn", turned, SendChainSize + 336 + 1, "6a761ac074a864e0915182b5994f12702466a0c2dc1f1b99bfc7d777bf9eb156"},
		{"record with a skipped key", skipped, SendChainSize + 336 + 1 + 75, "903b324fe2c42dae6fcab99ee6a7c70a294f8982567bb7f2581b82806abf92f9"},
	} {
		got := g.got
		if len(got) != g.size {
			t.Errorf("%s: %d bytes, want %d", g.name, len(got), g.size)
		}
		if len(got) > SlotSize {
			got = hash(got)
		}
		want, _ := hex.DecodeString(g.want)
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %s", g.name, got, g.want)
		}
	}
}

func TestReinforcedRecordIsStrict(t *testing.T) {
	a, b := pqStart("strict", true)
	must(a.reinforce(b, 0))
	late := a.seal()
	must(b.open(a.sealControl()))
	received, err := b.s.MarshalBinary()
	must(err)
	must(a.open(b.seal()))
	a.seal()
	must(b.open(a.seal()))
	turned, err := b.s.MarshalBinary()
	must(err)
	sent, err := a.s.MarshalBinary()
	must(err)
	for _, good := range [][]byte{received, turned, sent} {
		s, err := ParseSession(good)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := s.MarshalBinary(); !bytes.Equal(good, again) {
			t.Fatal("a record does not come back as it was written")
		}
		for n := range len(good) {
			if _, err := ParseSession(good[:n]); err == nil {
				t.Fatalf("the first %d bytes of %d: accepted", n, len(good))
			}
		}
	}
	// Chains follow the count, which follows Nr.
	const count = 2 + 8*32 + 8 + 32 + 36
	const newest = count + 1 + 2 + 75 // in turned: the late slot's chain, then the newest
	change := func(rec []byte, at int, v ...byte) []byte {
		c := bytes.Clone(rec)
		copy(c[at:], v)
		return c
	}
	for name, bad := range map[string][]byte{
		"longer":                        append(bytes.Clone(sent), 0),
		"unknown flag":                  change(sent, 1, sent[1]|64),
		"flag of format 3 in 1":         change(sent, 0, 1),
		"flag of format 3 in 2":         change(sent, 0, 2),
		"nothing sent":                  change(sent, 1, sent[1]&^flagSent),
		"nothing received":              change(received, 1, received[1]&^flagReceived),
		"received but nothing there":    change(turned, 1, turned[1]&^flagTurned|flagReceived),
		"received after such a turn":    change(received, 1, received[1]|flagTurned),
		"generation 1":                  change(sent, 2+8*32, 0, 0, 0, 1, 0, 0, 0, 0),
		"control slot not yet sent":     change(sent, len(sent)-4, 0xff),
		"another count":                 change(turned, count, turned[count]+1),
		"another count, chain":          change(turned, newest+32, turned[newest+32]+1),
		"turned without the flag":       change(turned, 1, turned[1]&^flagTurned),
		"flag without such a turn":      change(received, 1, received[1]|flagTurned&^flagReceived),
		"an encapsulation, and no more": sent[:len(sent)-1124],
	} {
		if s, err := ParseSession(bad); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	must(b.open(late))
}

// FuzzParseReinforcedSession: what reads comes back, and can be used.
func FuzzParseReinforcedSession(f *testing.F) {
	a, b := pqStart("fuzz", true)
	add := func(p *pqSide) {
		rec, err := p.s.MarshalBinary()
		must(err)
		f.Add(rec)
	}
	must(a.reinforce(b, 0))
	add(a)
	a.seal()
	l := a.sealControl()
	must(b.open(l))
	add(a)
	add(b)
	must(a.open(b.seal()))
	must(b.open(a.seal()))
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
		p := &pqSide{side: &side{s: s, chain: s.Chain(SendChain{}), rand: newStream("fuzz")}, own: b.own}
		if s.CanSend(p.chain) && p.pending() {
			p.sealControl()
		}
		p.s.OpenControl(testNow, p.rand, &p.chain, p.own, l.slot, l.d)
		if s.Confirmed() {
			p.s.Reinforce(p.rand, &b.theirs[0])
		}
		if _, err := s.MarshalBinary(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzOpenControl: no bytes but those of the sender open, and others change
// nothing.
func FuzzOpenControl(f *testing.F) {
	a, b := pqStart("fuzz", false)
	must(a.reinforce(b, 0))
	l := a.sealControl()
	turned, other := pqStart("fuzz", false)
	must(turned.open(other.seal()))
	must(turned.reinforce(other, 1))
	next := turned.sealControl()
	for _, slot := range [][]byte{l.slot, next.slot, l.slot[1092:], nil, append(bytes.Clone(l.slot[:1092]), next.slot[1092:]...)} {
		f.Add(slot, l.d[:])
		f.Add(slot, next.d[:])
	}
	f.Fuzz(func(t *testing.T, slot, d []byte) {
		digest := wire.Digest(append(d, make([]byte, 32)...)[:32])
		p := &pqSide{side: &side{s: b.s, chain: b.chain, rand: newStream("fuzz")}, own: b.own}
		p.reopen()
		before := p.record()
		_, err := p.s.OpenControl(testNow, p.rand, &p.chain, p.own, slot, digest)
		genuine := bytes.Equal(slot, l.slot) && digest == l.d || bytes.Equal(slot, next.slot) && digest == next.d
		if (err == nil) != genuine || err != nil && !bytes.Equal(before, p.record()) {
			t.Fatalf("genuine %v: %v", genuine, err)
		}
	})
}
