package ratchet

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/sha256"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
)

// Every benchmark measures its floor, the same primitives straight from the
// standard library, in the same process, and reports the ratio as x/floor.
func againstFloor(b *testing.B, floor func()) {
	b.StopTimer()
	best := time.Duration(1 << 62)
	for range 5 {
		n, begin := 0, time.Now()
		for ; time.Since(begin) < 20*time.Millisecond || n == 0; n++ {
			for range 16 {
				floor()
			}
		}
		best = min(best, time.Since(begin)/time.Duration(16*n))
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(best), "x/floor")
}

var sink, source [SlotSize]byte

// floorStep: two HMAC and one AEAD.
func floorStep() {
	key, nonce, text := source[:32], source[:12], source[32:64]
	for range 2 {
		m := hmac.New(sha256.New, key)
		m.Write(sink[:1])
		m.Sum(sink[:0])
	}
	a, _ := chacha20poly1305.New(key)
	a.Seal(sink[:0], nonce, text, source[:32])
}

func floorKeygen() *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(sink[:32])
	must(err)
	return k
}

func floorDH(k *ecdh.PrivateKey, p *ecdh.PublicKey) {
	_, err := k.ECDH(p)
	must(err)
}

func BenchmarkSeal(b *testing.B) {
	a, _ := start("bench")
	l := a.seal()
	chain := a.chain
	dst := make([]byte, 0, SlotSize)
	b.ReportAllocs()
	for b.Loop() {
		chain.N = 1
		a.s.Seal(&chain, &l.key, l.d, dst)
	}
	againstFloor(b, floorStep)
}

func BenchmarkOpen(b *testing.B) {
	b.Run("steady", func(b *testing.B) {
		x, y := start("bench")
		slots := make([]letter, 1000)
		for i := range slots {
			slots[i] = x.seal()
		}
		ck, n, i := y.s.recv, y.s.received, 0
		b.ReportAllocs()
		for b.Loop() {
			if i == len(slots) {
				y.s.recv, y.s.received, i = ck, n, 0
			}
			if _, err := y.s.Open(testNow, y.rand, &y.chain, slots[i].slot, slots[i].d); err != nil {
				b.Fatal(err)
			}
			i++
		}
		againstFloor(b, floorStep)
	})
	step := func(fromRecord bool) func(b *testing.B) {
		return func(b *testing.B) {
			x, y := start("bench")
			must(x.open(y.seal()))
			l := x.seal()
			saved, chain := *y.s, y.chain
			if fromRecord {
				saved.private = keys.RatchetPrivate{}
			}
			b.ReportAllocs()
			for b.Loop() {
				*y.s, y.chain = saved, chain
				if _, err := y.s.Open(testNow, y.rand, &y.chain, l.slot, l.d); err != nil {
					b.Fatal(err)
				}
			}
			k := floorKeygen()
			againstFloor(b, func() {
				floorDH(floorKeygen(), k.PublicKey())
				floorDH(k, k.PublicKey())
				for range 2 {
					hkdf.Key(sha256.New, sink[:32], sink[32:64], tagRoot, 64)
				}
			})
		}
	}
	b.Run("dhstep", step(false))
	b.Run("dhstep-from-record", step(true))
	b.Run("forged-dearest", func(b *testing.B) {
		_, y := start("bench")
		l := forge(y, header{ratchet: [32]byte(testA.party.Identity), n: MaxForwardJump, pn: MaxForwardJump})
		for b.Loop() {
			y.open(l)
		}
		againstFloor(b, func() {
			for range 4 * MaxForwardJump {
				m := hmac.New(sha256.New, sink[:32])
				m.Write(sink[:1])
				m.Sum(sink[:0])
			}
		})
	})
}

func BenchmarkRecord(b *testing.B) {
	x, y := start("bench")
	must(x.open(y.seal()))
	rec, err := x.s.MarshalBinary()
	must(err)
	b.ReportAllocs()
	for b.Loop() {
		s, err := ParseSession(rec)
		if err != nil {
			b.Fatal(err)
		}
		if rec, err = s.AppendBinary(rec[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	r := newStream("bench")
	c := contact(testA, testB)
	_, _, part, err := Initiate(r, r, c, &testB.pre)
	must(err)
	k := floorKeygen()
	b.Run("initiate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, _, err := Initiate(r, production{}, c, &testB.pre); err != nil {
				b.Fatal(err)
			}
		}
		againstFloor(b, func() { // two key pairs, four DH, one encapsulation to a key read from bytes
			for range 2 {
				floorKeygen()
			}
			for range 4 {
				floorDH(k, k.PublicKey())
			}
			e, err := mlkem.NewEncapsulationKey768(testB.pre.KEM[:])
			must(err)
			e.Encapsulate()
		})
	})
	b.Run("accept", func(b *testing.B) {
		c, own := contact(testB, testA), []PrekeysPrivate{testB.own}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Accept(c, own, part[:]); err != nil {
				b.Fatal(err)
			}
		}
		againstFloor(b, func() { // three DH, one decapsulation
			for range 3 {
				floorDH(k, k.PublicKey())
			}
			_, err := testB.own.KEM.Decapsulate(part[32 : 32+mlkem.CiphertextSize768])
			must(err)
		})
	})
}

// BenchmarkMixedStart is 2 of 3. The floor has what the unmixed start has and,
// for each path, an HMAC and an AEAD; the field is not in it.
func BenchmarkMixedStart(b *testing.B) {
	p := testPaths(2, 3)
	floorShares := func(n int) {
		for range n {
			floorShare()
		}
	}
	k := floorKeygen()
	b.Run("initiate", func(b *testing.B) {
		r, c := newStream("bench"), contact(testA, testB)
		b.ReportAllocs()
		for b.Loop() {
			if _, _, _, _, err := InitiateMixed(r, production{}, c, &testB.pre, p); err != nil {
				b.Fatal(err)
			}
		}
		againstFloor(b, func() {
			for range 2 {
				floorKeygen()
			}
			for range 4 {
				floorDH(k, k.PublicKey())
			}
			e, err := mlkem.NewEncapsulationKey768(testB.pre.KEM[:])
			must(err)
			e.Encapsulate()
			floorShares(3)
		})
	})
	_, h := initiateMixed("bench", testA, testB, p)
	b.Run("accept", func(b *testing.B) {
		c, own := contact(testB, testA), []PrekeysPrivate{testB.own}
		b.ReportAllocs()
		for b.Loop() {
			acc, err := AcceptMixed(c, own, h.part[:], p)
			if err != nil {
				b.Fatal(err)
			}
			for i := range p.K {
				must(acc.Share(p.Relays[i], h.shares[i]))
			}
			if _, ok := acc.Ready(); !ok {
				b.Fatal("not ready")
			}
			acc.Zero()
		}
		againstFloor(b, func() {
			for range 3 {
				floorDH(k, k.PublicKey())
			}
			_, err := testB.own.KEM.Decapsulate(h.part[32 : 32+mlkem.CiphertextSize768])
			must(err)
			floorShares(p.K)
		})
	})
	b.Run("share", func(b *testing.B) {
		acc := h.accept(testA, testB)
		for b.Loop() {
			if err := acc.Share(p.Relays[0], h.shares[0]); err != nil {
				b.Fatal(err)
			}
		}
		againstFloor(b, floorShare)
	})
	x, y := startMixed("bench", p)
	l := y.seal()
	b.Run("answer", func(b *testing.B) { // the first share staged, the second opens
		saved, chain := *x.s, x.chain
		first, second := y.answering(p.Relays[0], l), y.answering(p.Relays[1], l)
		for b.Loop() {
			*x.s, x.chain = saved, chain
			x.s.awaited = newAwaited(p)
			if x.openAnswer(p.Relays[0], first, l) == nil {
				b.Fatal("one share was enough")
			}
			if err := x.openAnswer(p.Relays[1], second, l); err != nil {
				b.Fatal(err)
			}
		}
		againstFloor(b, func() { // a DH for each share, the DH step
			for range 4 {
				floorDH(k, k.PublicKey())
			}
			floorKeygen()
			floorShares(p.K)
		})
	})
}

// floorShare: one HMAC and one AEAD.
func floorShare() {
	m := hmac.New(sha256.New, source[:32])
	m.Write(sink[:64])
	m.Sum(sink[:0])
	a, _ := chacha20poly1305.New(source[:32])
	a.Seal(sink[:0], source[:12], source[32:64], source[:32])
}

// production draws ML-KEM's randomness from the system.
type production struct{}

func (production) Encapsulate(k *mlkem.EncapsulationKey768) (shared, ct []byte) {
	return k.Encapsulate()
}

func BenchmarkPairCode(b *testing.B) {
	x, y := holder("a"), holder("b")
	for b.Loop() {
		PairCode(x, y)
	}
}
