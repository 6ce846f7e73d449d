package ratchet

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// This file is the session once more, slowly, from the formulas of
// docs/protocol.md section 5 and the pseudo-code of the Double Ratchet, section
// 3, without any of the package's own functions.

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func refHMAC(key, data []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(data)
	return m.Sum(nil)
}

func refHKDF(salt, ikm []byte, info string, n int) (out []byte) {
	prk := refHMAC(salt, ikm)
	var t []byte
	for i := byte(1); len(out) < n; i++ {
		t = refHMAC(prk, cat(t, []byte(info), []byte{i}))
		out = append(out, t...)
	}
	return out[:n]
}

func refDH(private [32]byte, public []byte) []byte {
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	must(err)
	p, err := ecdh.X25519().NewPublicKey(public)
	must(err)
	out, err := k.ECDH(p)
	must(err)
	return out
}

func refPublic(private [32]byte) []byte {
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	must(err)
	return k.PublicKey().Bytes()
}

func be(n int, v uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return b[8-n:]
}

// refBlock is the ChaCha20 block function of RFC 8439 section 2.3.
func refBlock(key []byte, counter uint32, nonce []byte) []byte {
	var x [16]uint32
	copy(x[:], []uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574})
	for i := range 8 {
		x[4+i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	x[12] = counter
	for i := range 3 {
		x[13+i] = binary.LittleEndian.Uint32(nonce[4*i:])
	}
	w := x
	quarter := func(a, b, c, d int) {
		w[a] += w[b]
		w[d] = bits.RotateLeft32(w[d]^w[a], 16)
		w[c] += w[d]
		w[b] = bits.RotateLeft32(w[b]^w[c], 12)
		w[a] += w[b]
		w[d] = bits.RotateLeft32(w[d]^w[a], 8)
		w[c] += w[d]
		w[b] = bits.RotateLeft32(w[b]^w[c], 7)
	}
	for range 10 {
		quarter(0, 4, 8, 12)
		quarter(1, 5, 9, 13)
		quarter(2, 6, 10, 14)
		quarter(3, 7, 11, 15)
		quarter(0, 5, 10, 15)
		quarter(1, 6, 11, 12)
		quarter(2, 7, 8, 13)
		quarter(3, 4, 9, 14)
	}
	var out []byte
	for i := range w {
		out = binary.LittleEndian.AppendUint32(out, w[i]+x[i])
	}
	return out
}

// refSession has the state variables of the Double Ratchet, section 3.2.
type refSession struct {
	t, self, peer  []byte
	hkSend, hkRecv []byte
	dhs            [32]byte
	dhr            []byte
	rk, cks, ckr   []byte
	ns, nr, pn     uint32
	mkskipped      map[string][]byte
	rand           *stream
	mix            *refMix // nil: unmixed
}

func refStart(initiator bool, a, b *end, t, sk0, m []byte) *refSession {
	r := &refSession{t: t, mkskipped: map[string][]byte{}}
	r.rk = refHKDF(sk0, cat(m, t), "parallax/1/mix/initiator", 32)
	ir := refHKDF(sk0, t, "parallax/1/header/initiator", 32)
	ri := refHKDF(sk0, t, "parallax/1/header/responder", 32)
	if initiator {
		r.self, r.peer, r.hkSend, r.hkRecv = a.party.Seat[:], b.party.Seat[:], ir, ri
	} else {
		r.self, r.peer, r.hkSend, r.hkRecv = b.party.Seat[:], a.party.Seat[:], ri, ir
	}
	return r
}

func refTranscript(a, b *end, ek, ct, pol []byte) []byte {
	c := contact(a, b)
	in := cat(be(1, 16), []byte("parallax/1/first"))
	for _, p := range [][]byte{
		c.Group[:], a.party.Seat[:], b.party.Seat[:], a.party.Announcement[:], b.party.Announcement[:],
		a.party.Identity[:], b.party.Identity[:], ek, ct,
		be(8, uint64(b.pre.ID)), be(8, uint64(b.pre.KEMID)), pol, be(8, c.Attempt),
	} {
		in = cat(in, be(4, uint64(len(p))), p)
	}
	sum := sha256.Sum256(in)
	return sum[:]
}

func refSK0(dh1, dh2, dh3, ss []byte) []byte {
	f := make([]byte, 32)
	for i := range f {
		f[i] = 0xff
	}
	return refHKDF(make([]byte, 32), cat(f, dh1, dh2, dh3, ss), "parallax/1/pqxdh", 32)
}

var (
	refUnmixed = make([]byte, 32)
	refPaths   = func() []byte { p := contact(testA, testB).Paths; return p[:] }()
)

func refInitiate(rand *stream, a, b *end) (*refSession, []byte) {
	p := refPropose(rand, a, b, refPaths)
	return p.session(a, b, refUnmixed), p.part
}

// refProposal is an initiator after PQXDH.
type refProposal struct {
	rand         *stream
	dhs          [32]byte
	t, sk0, part []byte
}

func refPropose(rand *stream, a, b *end, pol []byte) *refProposal {
	ek, dhs := rand.take32(), rand.take32()
	kem, err := mlkem.NewEncapsulationKey768(b.pre.KEM[:])
	must(err)
	ss, ct := rand.Encapsulate(kem)
	sk0 := refSK0(refDH(a.identity.Seed(), b.pre.Key[:]), refDH(ek, b.party.Identity[:]), refDH(ek, b.pre.Key[:]), ss)
	return &refProposal{
		rand: rand, dhs: dhs, t: refTranscript(a, b, refPublic(ek), ct, pol), sk0: sk0,
		part: cat(refPublic(ek), ct, be(4, uint64(b.pre.ID)), be(4, uint64(b.pre.KEMID))),
	}
}

func (p *refProposal) session(a, b *end, m []byte) *refSession {
	r := refStart(true, a, b, p.t, p.sk0, m)
	r.rand, r.dhs, r.dhr = p.rand, p.dhs, b.pre.Key[:]
	out := refHKDF(r.rk, refDH(r.dhs, r.dhr), "parallax/1/root", 64)
	r.rk, r.cks = out[:32], out[32:]
	return r
}

func refAccept(rand *stream, a, b *end, part []byte) *refSession {
	t, sk0 := refAgree(a, b, part, refPaths)
	return refProvisional(rand, a, b, t, sk0, refUnmixed)
}

// refAgree is the responder's PQXDH.
func refAgree(a, b *end, part, pol []byte) (t, sk0 []byte) {
	ek, ct := part[:32], part[32:1120]
	ss, err := b.own.KEM.Decapsulate(ct)
	must(err)
	spk := b.own.Key.Seed()
	sk0 = refSK0(refDH(spk, a.party.Identity[:]), refDH(b.identity.Seed(), ek), refDH(spk, ek), ss)
	return refTranscript(a, b, ek, ct, pol), sk0
}

func refProvisional(rand *stream, a, b *end, t, sk0, m []byte) *refSession {
	r := refStart(false, a, b, t, sk0, m)
	r.rand, r.dhs = rand, b.own.Key.Seed()
	return r
}

func refAD(t, sender, receiver, d, h []byte) []byte {
	all := cat(t, sender, receiver, d, h)
	if len(all) != 168 {
		panic("associated data is 168 bytes")
	}
	sum := sha256.Sum256(all)
	return sum[:]
}

func refMask(h, hk, tag []byte) []byte {
	ks := refBlock(hk, binary.LittleEndian.Uint32(tag)&0x7fffffff, tag[4:])
	out := make([]byte, 40)
	for i := range out {
		out[i] = h[i] ^ ks[i]
	}
	return out
}

// seal is RatchetEncrypt.
func (r *refSession) seal(content, d []byte) []byte {
	mk := refHMAC(r.cks, []byte{1})
	r.cks = refHMAC(r.cks, []byte{2})
	h := cat(refPublic(r.dhs), be(4, uint64(r.ns)), be(1, r.mix.count()), be(3, uint64(r.pn)))
	r.ns++
	aead, err := chacha20poly1305.New(mk)
	must(err)
	ct := aead.Seal(nil, make([]byte, 12), content, refAD(r.t, r.self, r.peer, d, h))
	return cat(refMask(h, r.hkSend, ct[32:]), ct)
}

func refKey(dh []byte, n uint32) string { return string(cat(dh, be(4, uint64(n)))) }

// open is RatchetDecrypt. It changes state before it knows whether the slot is
// authentic, so it is for authentic slots only.
func (r *refSession) open(slot, d []byte) []byte {
	h := refMask(slot[:40], r.hkRecv, slot[72:])
	dh, n, pn := h[:32], binary.BigEndian.Uint32(h[32:]), binary.BigEndian.Uint32(h[36:])&0xffffff
	ad := refAD(r.t, r.peer, r.self, d, h)
	mk, ok := r.mkskipped[refKey(dh, n)]
	if ok {
		delete(r.mkskipped, refKey(dh, n))
	} else {
		if string(dh) != string(r.dhr) || r.ckr == nil {
			r.skip(pn)
			r.turn(dh)
		}
		r.skip(n)
		mk = refHMAC(r.ckr, []byte{1})
		r.ckr = refHMAC(r.ckr, []byte{2})
		r.nr++
	}
	aead, err := chacha20poly1305.New(mk)
	must(err)
	content, err := aead.Open(nil, make([]byte, 12), slot[40:], ad)
	must(err)
	return content
}

// turn is DHRatchet.
func (r *refSession) turn(dh []byte) {
	r.pn, r.ns, r.nr, r.dhr = r.ns, 0, 0, dh
	out := refHKDF(r.rk, refDH(r.dhs, r.dhr), "parallax/1/root", 64)
	r.rk, r.ckr = r.mix.answered(r, dh, out)
	r.dhs = r.rand.take32()
	out = refHKDF(r.rk, refDH(r.dhs, r.dhr), "parallax/1/root", 64)
	r.rk, r.cks = r.mix.answer(r, out)
}

func (r *refSession) skip(until uint32) {
	for r.ckr != nil && r.nr < until {
		r.mkskipped[refKey(r.dhr, r.nr)] = refHMAC(r.ckr, []byte{1})
		r.ckr = refHMAC(r.ckr, []byte{2})
		r.nr++
	}
}

func TestReferenceStart(t *testing.T) {
	a, b := newStream("ref start"), newStream("ref start")
	ref, want := refInitiate(a, testA, testB)
	s, _, part, err := Initiate(b, b, contact(testA, testB), &testB.pre)
	must(err)
	if string(part[:]) != string(want) {
		t.Fatal("handshake parts differ")
	}
	tr := s.Transcript()
	if string(tr[:]) != string(ref.t) || string(s.root[:]) != string(ref.rk) || string(s.initial[:]) != string(ref.cks) {
		t.Fatal("transcript, root key or chain key differ")
	}
	if string(s.sendHeader[:]) != string(ref.hkSend) || string(s.recvHeader[:]) != string(ref.hkRecv) {
		t.Fatal("header keys differ")
	}
}
