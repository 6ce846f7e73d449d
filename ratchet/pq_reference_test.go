package ratchet

import (
	"bytes"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// pqRef is docs/protocol.md section 5.7 once more, slowly, over the state
// variables of refSession.
type pqRef struct {
	*refSession
	kems  map[uint32]*mlkem.DecapsulationKey768 // own
	sent  *pqEncapsulation                      // own, not mixed yet
	got   *pqEncapsulation                      // the peer's, not mixed yet
	n     byte                                  // root mixes of the sending chain
	m     byte                                  // of the receiving chain
	mixes int                                   // encapsulations in the root, both directions

	careless bool // goes on without a mix that it cannot make: an attacker
}

type pqEncapsulation struct {
	ct, ss, q []byte
	id        uint32
}

// pqRefOf begins at a standing session.
func pqRefOf(p *side) *pqRef {
	s, c := p.s, p.s.Chain(p.chain)
	r := &refSession{
		t: slices.Clone(s.transcript[:]), self: slices.Clone(s.self[:]), peer: slices.Clone(s.peer[:]),
		hkSend: slices.Clone(s.sendHeader[:]), hkRecv: slices.Clone(s.recvHeader[:]),
		dhs: s.seed, dhr: slices.Clone(s.remote[:]),
		rk: slices.Clone(s.root[:]), cks: slices.Clone(c.Key[:]), ckr: slices.Clone(s.recv[:]),
		ns: c.N, nr: s.received, pn: s.pn,
		mkskipped: map[string][]byte{},
		rand:      &stream{seed: p.rand.seed, block: p.rand.block, rest: slices.Clone(p.rand.rest)},
	}
	if s.skipped.count > 0 || s.kem != nil {
		panic("not a fresh standing session")
	}
	x := &pqRef{refSession: r}
	if s.mixed {
		x.n, x.m = 1, 1
	}
	return x
}

// clone is what somebody has who copied the state, without the KEM keys.
func (r *pqRef) clone() *pqRef {
	c, s := *r, *r.refSession
	s.mkskipped = maps.Clone(r.mkskipped)
	s.rand = &stream{seed: r.rand.seed, block: r.rand.block, rest: slices.Clone(r.rand.rest)}
	c.refSession, c.kems, c.careless = &s, nil, true
	return &c
}

func (r *pqRef) digest(from, to, ct []byte, id uint32) []byte {
	return refHash("parallax/1/encapsulation", r.t, from, to, ct, be(8, uint64(id)))
}

func (r *pqRef) reinforce(k *Prekeys) {
	kem, err := mlkem.NewEncapsulationKey768(k.KEM[:])
	must(err)
	ss, ct := r.rand.Encapsulate(kem)
	r.sent = &pqEncapsulation{ct: ct, ss: ss, id: k.KEMID, q: r.digest(r.self, r.peer, ct, k.KEMID)}
}

func pqMix(rk []byte, e *pqEncapsulation) []byte {
	return refHKDF(rk, cat(e.ss, e.q), "parallax/1/mix/kem", 64)
}

func pqAD(parts ...[]byte) []byte {
	sum := sha256.Sum256(cat(parts...))
	return sum[:]
}

func (r *pqRef) seal(content, d []byte, control bool) []byte {
	mk := refHMAC(r.cks, []byte{1})
	r.cks = refHMAC(r.cks, []byte{2})
	h := cat(refPublic(r.dhs), be(4, uint64(r.ns)), []byte{r.n}, be(3, uint64(r.pn)))
	r.ns++
	var front, q []byte
	if control {
		front, q = cat(r.sent.ct, be(4, uint64(r.sent.id))), r.sent.q
	}
	aead, err := chacha20poly1305.New(mk)
	must(err)
	ct := aead.Seal(nil, make([]byte, 12), content, pqAD(r.t, r.self, r.peer, d, h, q))
	return cat(front, refMask(h, r.hkSend, ct[32:]), ct)
}

// open gives nil if the slot does not open. It then has spoiled its state.
func (r *pqRef) open(slot, d []byte) []byte {
	var e *pqEncapsulation
	var q []byte
	if len(slot) == 1180 {
		ct, id := slot[:1088], binary.BigEndian.Uint32(slot[1088:])
		q = r.digest(r.peer, r.self, ct, id)
		if k := r.kems[id]; k != nil {
			ss, err := k.Decapsulate(ct)
			must(err)
			e = &pqEncapsulation{ct: ct, ss: ss, q: q, id: id}
		}
		slot = slot[1092:]
	}
	h := refMask(slot[:40], r.hkRecv, slot[72:])
	dh, n, count, pn := h[:32], binary.BigEndian.Uint32(h[32:]), h[36], binary.BigEndian.Uint32(h[36:])&0xffffff
	mk, ok := r.mkskipped[refKey(dh, n)]
	newest := bytes.Equal(dh, r.dhr)
	switch {
	case ok:
		delete(r.mkskipped, refKey(dh, n))
	case !newest:
		r.skip(pn)
		if !r.turn(dh, count, e) {
			return nil
		}
		e = nil
		fallthrough
	default:
		r.skip(n)
		mk = refHMAC(r.ckr, []byte{1})
		r.ckr = refHMAC(r.ckr, []byte{2})
		r.nr++
	}
	if e != nil && newest && r.n == r.m && r.got == nil {
		r.got = e
	}
	aead, err := chacha20poly1305.New(mk)
	must(err)
	content, err := aead.Open(nil, make([]byte, 12), slot[40:], pqAD(r.t, r.peer, r.self, d, h, q))
	if err != nil {
		return nil
	}
	return content
}

// turn is DHRatchet; e came with the slot that causes it.
func (r *pqRef) turn(dh []byte, count byte, e *pqEncapsulation) bool {
	r.pn, r.ns, r.nr, r.dhr = r.ns, 0, 0, dh
	out := refHKDF(r.rk, refDH(r.dhs, r.dhr), "parallax/1/root", 64)
	switch {
	case count == r.n:
	case r.sent == nil || count != r.n+1:
		if !r.careless {
			return false
		}
	default:
		out = pqMix(out[:32], r.sent)
		r.sent = nil
		r.mixes++
	}
	r.rk, r.ckr, r.m, r.n = out[:32], out[32:], count, count
	r.dhs = r.rand.take32()
	out = refHKDF(r.rk, refDH(r.dhs, r.dhr), "parallax/1/root", 64)
	if r.got == nil {
		r.got = e
	}
	if r.got != nil {
		out = pqMix(out[:32], r.got)
		r.got = nil
		r.n++
		r.mixes++
	}
	r.rk, r.cks = out[:32], out[32:]
	return true
}
