package ratchet

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"parallax/internal/keys"
)

// The reference of path-mixed first contact, from docs/protocol.md section 5.3.
// It can break one rule at a time, so that tests can show what the rule is for.
type refRules struct {
	oneKey      bool // one share key for all paths
	freeShares  bool // T neither salts the share keys nor is associated data
	derived     bool // the sharing's coefficients come from SK0, not from entropy
	plainAnswer bool // the answer mixes nothing
}

// refMix is a session's part in the mixing.
type refMix struct {
	rules     refRules
	k         int
	relays    []keys.RelayPublic
	initiator bool
	done      bool     // the answer's mix has entered the root
	given     [][]byte // initiator: sealed shares of the answer, nil where none came
	shares    [][]byte // responder: the same, made
}

func (x *refMix) count() uint64 {
	if x != nil && x.done {
		return 1
	}
	return 0
}

func refHash(tag string, parts ...[]byte) []byte {
	sum := sha256.Sum256(refInput(tag, parts...))
	return sum[:]
}

func refInput(tag string, parts ...[]byte) []byte {
	in := cat(be(1, uint64(len(tag))), []byte(tag))
	for _, p := range parts {
		in = cat(in, be(4, uint64(len(p))), p)
	}
	return in
}

func refPol(k int, relays []keys.RelayPublic) []byte {
	g := contact(testA, testB).Group
	parts := [][]byte{g[:], be(8, uint64(k))}
	for i := range relays {
		parts = append(parts, relays[i][:])
	}
	return refHash("parallax/1/paths", parts...)
}

// refShareSeal returns the AEAD of a path's share and its associated data.
func (x *refMix) seal(tag string, salt, secret []byte, path int) (func(share []byte) []byte, func(sealed []byte) []byte) {
	relay := x.relays[path][:]
	if x.rules.oneKey {
		relay = nil
	}
	if x.rules.freeShares {
		salt = make([]byte, 0, 32)
	}
	aead := refAEAD{refHKDF(salt, secret, string(refInput(tag, relay)), 32), make([]byte, 12)}
	return func(share []byte) []byte { return aead.seal(share, salt) },
		func(sealed []byte) []byte {
			if len(sealed) != ShareSize {
				return nil
			}
			return aead.open(sealed, salt)
		}
}

// split draws coefficients and shares m.
func (x *refMix) split(rand *stream, m, sk0 []byte) [][]byte {
	coefficients := [][]byte{m}
	for i := 1; i < x.k; i++ {
		c := rand.take32()
		if x.rules.derived {
			c = [32]byte(refHKDF(nil, sk0, string(be(1, uint64(i))), 32))
		}
		coefficients = append(coefficients, c[:])
	}
	return refSplit(coefficients, len(x.relays))
}

// refInitiateMixed also gives the shares as they were before they were sealed.
func refInitiateMixed(rand *stream, a, b *end, x *refMix) (r *refSession, part []byte, sealed, shares [][]byte) {
	p := refPropose(rand, a, b, refPol(x.k, x.relays))
	m := rand.take32()
	shares = x.split(rand, m[:], p.sk0)
	for i := range shares {
		seal, _ := x.seal("parallax/1/share/initiator", p.t, p.sk0, i)
		sealed = append(sealed, seal(shares[i]))
	}
	r = p.session(a, b, m[:])
	x.initiator, x.given = true, make([][]byte, len(x.relays))
	r.mix = x
	return r, p.part, sealed, shares
}

// combine opens what it can of sealed and gives the secret, nil if too few.
func (x *refMix) combine(tag string, salt, secret []byte, sealed [][]byte) []byte {
	var at []int
	var shares [][]byte
	for i := range sealed {
		_, open := x.seal(tag, salt, secret, i)
		if share := open(sealed[i]); share != nil && len(at) < x.k {
			at, shares = append(at, i), append(shares, share)
		}
	}
	if len(at) < x.k {
		return nil
	}
	return refCombine(at, shares)
}

func refAcceptMixed(rand *stream, a, b *end, part []byte, sealed [][]byte, x *refMix) *refSession {
	t, sk0 := refAgree(a, b, part, refPol(x.k, x.relays))
	m := x.combine("parallax/1/share/initiator", t, sk0, sealed)
	if m == nil {
		return nil
	}
	r := refProvisional(rand, a, b, t, sk0, m)
	r.mix = x
	return r
}

// answer is the step after the responder's first ordinary root step.
func (x *refMix) answer(r *refSession, out []byte) (rk, ck []byte) {
	if x == nil || x.done || x.initiator || x.rules.plainAnswer {
		return out[:32], out[32:]
	}
	x.done = true
	m := r.rand.take32()
	t := refHash("parallax/1/answer", r.t, refPublic(r.dhs))
	for i, share := range x.split(r.rand, m[:], out[:32]) {
		seal, _ := x.seal("parallax/1/share/responder", t, out[:32], i)
		x.shares = append(x.shares, seal(share))
	}
	mixed := refHKDF(out[:32], cat(m[:], t), "parallax/1/mix/responder", 64)
	return mixed[:32], mixed[32:]
}

// answered is the initiator's side of it.
func (x *refMix) answered(r *refSession, dh, out []byte) (rk, ck []byte) {
	if x == nil || x.done || !x.initiator || x.rules.plainAnswer {
		return out[:32], out[32:]
	}
	x.done = true
	t := refHash("parallax/1/answer", r.t, dh)
	m := x.combine("parallax/1/share/responder", t, out[:32], x.given)
	mixed := refHKDF(out[:32], cat(m, t), "parallax/1/mix/responder", 64)
	return mixed[:32], mixed[32:]
}

func TestReferenceMixedStart(t *testing.T) {
	p := testPaths(2, 3)
	x := &refMix{k: 2, relays: p.Relays}
	ref, part, sealed, _ := refInitiateMixed(newStream("ref mixed"), testA, testB, x)
	r := newStream("ref mixed")
	s, _, got, shares, err := InitiateMixed(r, r, contact(testA, testB), &testB.pre, p)
	must(err)
	pol := p.Digest(contact(testA, testB).Group)
	if !bytes.Equal(pol[:], refPol(2, p.Relays)) || !bytes.Equal(got[:], part) || !bytes.Equal(s.root[:], ref.rk) || !bytes.Equal(s.initial[:], ref.cks) {
		t.Fatal("policy, handshake part, root key or chain key differ")
	}
	for i := range shares {
		if !bytes.Equal(shares[i][:], sealed[i]) {
			t.Fatalf("sealed share %d differs", i)
		}
	}
}
