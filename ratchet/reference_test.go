package ratchet

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/bits"
	"slices"
	"testing"
)

// This file is the session once more, slowly, from the formulas of
// docs/protocol.md section 5 and the pseudo-code of the Double Ratchet, section
// 3, without any of the package's own functions and, X25519, ML-KEM and SHA-256
// excepted, without the libraries that those call.

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// refHMAC is RFC 2104 for keys of at most a block.
func refHMAC(key, data []byte) []byte {
	pad := func(with byte) []byte {
		block := append(cat(key), make([]byte, 64-len(key))...)
		for i := range block {
			block[i] ^= with
		}
		return block
	}
	inner := sha256.Sum256(cat(pad(0x36), data))
	outer := sha256.Sum256(cat(pad(0x5c), inner[:]))
	return outer[:]
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

// refAEAD is ChaCha20-Poly1305 of RFC 8439 section 2.8.
type refAEAD struct{ key, nonce []byte }

func (a refAEAD) xor(in []byte) (out []byte) {
	for i := range in {
		out = append(out, in[i]^refBlock(a.key, uint32(1+i/64), a.nonce)[i%64])
	}
	return out
}

// tag is Poly1305, with numbers as in RFC 8439 section 2.5.
func (a refAEAD) tag(ciphertext, ad []byte) []byte {
	number := func(little []byte) *big.Int {
		b := slices.Clone(little)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	padded := func(b []byte) []byte { return append(cat(b), make([]byte, (16-len(b)%16)%16)...) }
	length := func(b []byte) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(len(b))) }
	otk := refBlock(a.key, 0, a.nonce)
	clamp, _ := new(big.Int).SetString("0ffffffc0ffffffc0ffffffc0fffffff", 16)
	r := new(big.Int).And(number(otk[:16]), clamp)
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	sum := new(big.Int)
	for block := range slices.Chunk(cat(padded(ad), padded(ciphertext), length(ad), length(ciphertext)), 16) {
		sum.Add(sum, number(append(cat(block), 1)))
		sum.Mod(sum.Mul(sum, r), p)
	}
	sum.Add(sum, number(otk[16:32]))
	out := make([]byte, 32)
	sum.FillBytes(out)
	slices.Reverse(out)
	return out[:16]
}

func (a refAEAD) seal(plain, ad []byte) []byte {
	c := a.xor(plain)
	return append(c, a.tag(c, ad)...)
}

// open gives nil for what was not sealed so.
func (a refAEAD) open(sealed, ad []byte) []byte {
	n := len(sealed) - 16
	if !slices.Equal(a.tag(sealed[:n], ad), sealed[n:]) {
		return nil
	}
	return a.xor(sealed[:n])
}

// The reference's own functions against published vectors.
func TestReferenceVectors(t *testing.T) {
	run := func(from, n byte) (b []byte) {
		for i := range n {
			b = append(b, from+i)
		}
		return b
	}
	sunscreen := []byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")
	sealed := refAEAD{run(0x80, 32), cat([]byte{7, 0, 0, 0}, run(0x40, 8))}.seal(sunscreen, cat(run(0x50, 4), run(0xc0, 8)))
	for name, v := range map[string]struct {
		got  []byte
		want string
	}{
		"HMAC, RFC 4231 section 4.3": {
			refHMAC([]byte("Jefe"), []byte("what do ya want for nothing?")),
			"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		},
		"HKDF, RFC 5869 appendix A.1": {
			refHKDF(run(0, 13), slices.Repeat([]byte{0x0b}, 22), string(run(0xf0, 10)), 42),
			"3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
		},
		"ChaCha20, RFC 8439 section 2.8.2": {sealed[:16], "d31a8d34648e60db7b86afbc53ef7ec2"},
		"Poly1305, RFC 8439 section 2.8.2": {sealed[len(sunscreen):], "1ae10b594f09e26a7e902ecbd0600691"},
		"X25519, RFC 7748 section 5.2": {
			refDH([32]byte(unhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")),
				unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")),
			"c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
		},
	} {
		if hex.EncodeToString(v.got) != v.want {
			t.Errorf("%s: %x, want %s", name, v.got, v.want)
		}
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	must(err)
	return b
}

// refSession has the state variables of the Double Ratchet, section 3.2.
type refSession struct {
	t, self, peer  []byte
	hkSend, hkRecv []byte
	dhs            [32]byte
	dhsPublic      []byte // of dhs, once a message needed it
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
	if r.dhsPublic == nil {
		r.dhsPublic = refPublic(r.dhs)
	}
	h := cat(r.dhsPublic, be(4, uint64(r.ns)), be(1, r.mix.count()), be(3, uint64(r.pn)))
	r.ns++
	ct := refAEAD{mk, make([]byte, 12)}.seal(content, refAD(r.t, r.self, r.peer, d, h))
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
	content := refAEAD{mk, make([]byte, 12)}.open(slot[40:], ad)
	if content == nil {
		panic("the reference was given a slot that is not authentic")
	}
	return content
}

// turn is DHRatchet.
func (r *refSession) turn(dh []byte) {
	r.pn, r.ns, r.nr, r.dhr = r.ns, 0, 0, dh
	out := refHKDF(r.rk, refDH(r.dhs, r.dhr), "parallax/1/root", 64)
	r.rk, r.ckr = r.mix.answered(r, dh, out)
	r.dhs, r.dhsPublic = r.rand.take32(), nil
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

// An unmixed contact has a policy too: no path, k = 0.
func TestReferenceUnmixedPolicy(t *testing.T) {
	g := contact(testA, testB).Group
	if got := (Paths{}).Digest(g); string(got[:]) != string(refPol(0, nil)) {
		t.Fatalf("pol = %x, want %x", got, refPol(0, nil))
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
