package ratchet

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
)

// against measures op in turns with its floor, the same primitives straight from
// the libraries, in chunks of about chunkTime: a busy neighbour then hits both,
// and what hits a few chunks does not count, since the figures are medians.
// Time and allocations are those of op alone. x/floor is median by median;
// floor-allocs is what the floor allocates.
func against(b *testing.B, floor, op func()) {
	b.ReportAllocs()
	ours, theirs := callsIn(op), callsIn(floor)
	var took, least []float64
	allocs := testing.AllocsPerRun(10, floor)
	b.ResetTimer()
	calls, begin := 0, time.Now()
	turn := func() {
		took = append(took, float64(time.Since(begin))/float64(calls))
		b.StopTimer()
		begin = time.Now()
		for range theirs {
			floor()
		}
		least = append(least, float64(time.Since(begin))/float64(theirs))
		b.StartTimer()
		calls, begin = 0, time.Now()
	}
	for b.Loop() {
		op()
		if calls++; calls == ours {
			turn()
		}
	}
	if len(took) == 0 { // -benchtime 1x
		turn()
	}
	b.ReportMetric(median(took)/median(least), "x/floor")
	b.ReportMetric(allocs, "floor-allocs")
}

const chunkTime = 500 * time.Microsecond

// callsIn is how many calls of f fill a chunk.
func callsIn(f func()) int {
	f()
	n := 1
	for {
		begin := time.Now()
		for range n {
			f()
		}
		if time.Since(begin) >= chunkTime {
			return n
		}
		n *= 2
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

var sink, source [2 * SlotSize]byte

// floorHMAC is HMAC-SHA-256 of at most 64 bytes on stack buffers: crypto/hmac
// allocates, and is slower.
func floorHMAC(key *[32]byte, text []byte) [32]byte {
	var in [128]byte
	var out [96]byte
	for i := range 64 {
		in[i], out[i] = 0x36, 0x5c
	}
	for i := range key {
		in[i] ^= key[i]
		out[i] ^= key[i]
	}
	inner := sha256.Sum256(in[:64+copy(in[64:], text)])
	copy(out[64:], inner[:])
	return sha256.Sum256(out[:])
}

// floorStep is a slot: two HMAC, one AEAD, one SHA-256 of 168 bytes for the
// associated data, one ChaCha20 block for the header.
func floorStep() {
	key := [32]byte(source[:])
	for range 2 {
		key = floorHMAC(&key, source[:1])
	}
	floorAEAD(key[:])
	sum := sha256.Sum256(source[:168])
	copy(sink[:], sum[:])
	c, err := chacha20.NewUnauthenticatedCipher(source[:32], source[:12])
	must(err)
	c.XORKeyStream(sink[:headerSize], sink[:headerSize])
}

func floorAEAD(key []byte) {
	a, err := chacha20poly1305.New(key)
	must(err)
	a.Seal(sink[:0], source[:12], source[32:64], source[:32])
}

func floorKeygen() *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(source[:32])
	must(err)
	return k
}

func floorDH(k *ecdh.PrivateKey, p *ecdh.PublicKey) {
	_, err := k.ECDH(p)
	must(err)
}

// floorDHs is some key pairs and some X25519.
func floorDHs(pairs, dhs int) {
	for range pairs {
		floorKeygen()
	}
	for range dhs {
		floorDH(floorKey, floorKey.PublicKey())
	}
}

var floorKey = floorKeygen()

// floorHKDF gives 64 bytes: three HMAC.
func floorHKDF() {
	key := [32]byte(source[:])
	for _, n := range []int{32, 16, 48} {
		key = floorHMAC(&key, source[:n])
	}
	copy(sink[:], key[:])
}

// floorShares is n shares, sealed or opened: an HMAC and an AEAD each.
func floorShares(n int) {
	for range n {
		key := floorHMAC((*[32]byte)(source[:]), source[:32])
		floorAEAD(key[:])
	}
}

// floorField is products of 32 bytes in the field of the sharing: n shares of
// k-1 each to split, k to combine. The arithmetic is the package's own, since the
// standard library has none.
func floorField(products int) {
	v := load((*[32]byte)(source[:]))
	for p := range products {
		v = v.times(byte(p + 1))
	}
	v.store((*[32]byte)(sink[:]))
}

func BenchmarkSeal(b *testing.B) {
	a, _ := start("bench")
	l := a.seal()
	chain := a.chain
	dst := make([]byte, 0, SlotSize)
	against(b, floorStep, func() {
		chain.N = 1
		a.s.Seal(&chain, &l.key, l.d, dst)
	})
}

func BenchmarkOpen(b *testing.B) {
	b.Run("steady", func(b *testing.B) {
		x, y := start("bench")
		slots := make([]letter, 1000)
		for i := range slots {
			slots[i] = x.seal()
		}
		ck, n, i := y.s.recv, y.s.received, 0
		against(b, floorStep, func() {
			if i == len(slots) {
				y.s.recv, y.s.received, i = ck, n, 0
			}
			if _, err := y.s.Open(testNow, y.rand, &y.chain, slots[i].slot, slots[i].d); err != nil {
				b.Fatal(err)
			}
			i++
		})
	})
	// The floor of a DH step is a key pair, two X25519 and two HKDF; the slot
	// itself is not in it, nor the key pair that a record gives back as bytes.
	step := func(fromRecord bool) func(b *testing.B) {
		return func(b *testing.B) {
			x, y := start("bench")
			must(x.open(y.seal()))
			l := x.seal()
			y.s.ratchetKey()
			saved, chain := *y.s, y.chain
			if fromRecord {
				saved.private = keys.RatchetPrivate{}
			}
			against(b, func() {
				floorDHs(1, 2)
				floorHKDF()
				floorHKDF()
			}, func() {
				*y.s, y.chain = saved, chain
				if _, err := y.s.Open(testNow, y.rand, &y.chain, l.slot, l.d); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	b.Run("dhstep", step(false))
	b.Run("dhstep-from-record", step(true))
	b.Run("forged-dearest", func(b *testing.B) {
		_, y := start("bench")
		l := forge(y, header{ratchet: [32]byte(testA.party.Identity), n: MaxForwardJump, pn: MaxForwardJump})
		against(b, func() {
			key := [32]byte(source[:])
			for range 4 * MaxForwardJump {
				key = floorHMAC(&key, source[:1])
			}
		}, func() { y.open(l) })
	})
}

// BenchmarkRecord reads a standing session's record and writes it again.
// B/session is the record and its entry of the vector of sending chains, with
// the initial chain of its generation; B/skipped is what one more skipped key
// of a chain adds.
func BenchmarkRecord(b *testing.B) {
	x, y := start("bench")
	must(x.open(y.seal()))
	rec, err := x.s.MarshalBinary()
	must(err)
	size := len(x.record())
	y.seal()
	y.seal()
	must(x.open(y.seal()))
	two := len(x.record())
	y.seal()
	must(x.open(y.seal()))
	three := len(x.record())
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
	b.ReportMetric(float64(size), "B/session")
	b.ReportMetric(float64(three-two), "B/skipped")
}

// BenchmarkStart has in its floors
//   - initiate: two key pairs, four X25519, an ML-KEM key read from its bytes, an
//     encapsulation
//   - accept: three X25519, a decapsulation
//
// and no hash and no HKDF.
func BenchmarkStart(b *testing.B) {
	r := newStream("bench")
	c := contact(testA, testB)
	_, _, part, err := Initiate(r, r, c, &testB.pre)
	must(err)
	b.Run("initiate", func(b *testing.B) {
		against(b, floorInitiate, func() {
			if _, _, _, err := Initiate(r, production{}, c, &testB.pre); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("accept", func(b *testing.B) {
		c, own := contact(testB, testA), []PrekeysPrivate{testB.own}
		against(b, func() { floorAccept(part[:]) }, func() {
			if _, err := Accept(c, own, part[:]); err != nil {
				b.Fatal(err)
			}
		})
	})
}

func floorInitiate() {
	floorDHs(2, 4)
	e, err := mlkem.NewEncapsulationKey768(testB.pre.KEM[:])
	must(err)
	e.Encapsulate()
}

func floorAccept(part []byte) {
	floorDHs(0, 3)
	_, err := testB.own.KEM.Decapsulate(part[32 : 32+mlkem.CiphertextSize768])
	must(err)
}

// BenchmarkMixedStart is 2 of 3. The floors have what those of BenchmarkStart
// have, an HMAC and an AEAD for each share sealed or opened, and the products of
// 32 bytes in the field: three shares of one product to split, two to combine.
// That of an answer has two shares, two products, and the DH step: a key pair,
// two X25519, three HKDF.
func BenchmarkMixedStart(b *testing.B) {
	p := testPaths(2, 3)
	b.Run("initiate", func(b *testing.B) {
		r, c := newStream("bench"), contact(testA, testB)
		against(b, func() {
			floorInitiate()
			floorField(3)
			floorShares(3)
		}, func() {
			if _, _, _, _, err := InitiateMixed(r, production{}, c, &testB.pre, p); err != nil {
				b.Fatal(err)
			}
		})
	})
	_, h := initiateMixed("bench", testA, testB, p)
	b.Run("accept", func(b *testing.B) {
		c, own := contact(testB, testA), []PrekeysPrivate{testB.own}
		against(b, func() {
			floorAccept(h.part[:])
			floorShares(p.K)
			floorField(p.K)
		}, func() {
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
		})
	})
	b.Run("share", func(b *testing.B) {
		acc := h.accept(testA, testB)
		against(b, func() { floorShares(1) }, func() {
			if err := acc.Share(p.Relays[0], h.shares[0]); err != nil {
				b.Fatal(err)
			}
		})
	})
	x, y := startMixed("bench", p)
	l := y.seal()
	b.Run("answer", func(b *testing.B) { // the first share staged, the second opens
		saved, chain := *x.s, x.chain
		first, second := y.answering(p.Relays[0], l), y.answering(p.Relays[1], l)
		against(b, func() {
			floorDHs(1, 2)
			for range 3 {
				floorHKDF()
			}
			floorShares(p.K)
			floorField(p.K)
		}, func() {
			*x.s, x.chain = saved, chain
			x.s.awaited = newAwaited(p)
			if x.openAnswer(p.Relays[0], first, l) == nil {
				b.Fatal("one share was enough")
			}
			if err := x.openAnswer(p.Relays[1], second, l); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkShamir is the sharing alone, 3 of 5.
func BenchmarkShamir(b *testing.B) {
	const k, n = 3, 5
	secret := newStream("bench").take32()
	material := bytes.Repeat([]byte{7}, 32*(k-1))
	shares, err := split(bytes.NewReader(material), &secret, k, n)
	must(err)
	at := []int{0, 2, 4}
	values := pick(at, shares)
	b.Run("split", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := split(bytes.NewReader(material), &secret, k, n); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("combine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			combine(at, values)
		}
	})
}

// BenchmarkReinforce has in its floors an ML-KEM key read from its bytes and an
// encapsulation; a slot and a SHA-256 of what is in front of it; the same, a DH
// step of a session whose private ratchet key is built, and a decapsulation.
func BenchmarkReinforce(b *testing.B) {
	x, y := pqStart("bench", false)
	must(x.side.open(y.seal()))
	b.Run("encapsulate", func(b *testing.B) {
		against(b, func() {
			e, err := mlkem.NewEncapsulationKey768(y.theirs[0].KEM[:])
			must(err)
			e.Encapsulate()
		}, func() { must(x.s.Reinforce(production{}, &y.theirs[0])) })
	})
	var l letter
	b.Run("seal", func(b *testing.B) {
		dst := make([]byte, 0, ControlSlotSize)
		chain := x.chain
		against(b, floorControl, func() {
			chain.N = 1
			x.s.SealControl(&chain, &l.key, l.d, dst)
		})
	})
	l = x.sealControl()
	b.Run("open", func(b *testing.B) {
		y.s.ratchetKey()
		saved, chain := *y.s, y.chain
		against(b, func() {
			floorDHs(1, 2)
			floorHKDF()
			floorHKDF()
			floorControl()
			_, err := y.own[0].KEM.Decapsulate(l.slot[:mlkem.CiphertextSize768])
			must(err)
		}, func() {
			*y.s, y.chain = saved, chain
			if err := y.open(l); err != nil {
				b.Fatal(err)
			}
		})
	})
}

func floorControl() {
	floorStep()
	sum := sha256.Sum256(front[:])
	copy(sink[:], sum[:])
}

var front [ControlSlotSize - SlotSize]byte

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
