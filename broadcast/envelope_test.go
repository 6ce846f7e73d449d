package broadcast

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"

	"golang.org/x/crypto/chacha20"
	"pgregory.net/rapid"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// fill is n bytes of b: values that a golden shows at first sight.
func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func epochKey(b byte) *keys.EpochKey {
	var k keys.EpochKey
	if err := k.Set(fill(b, 32)); err != nil {
		panic(err)
	}
	return &k
}

func contentKey(b byte) *keys.ContentKey {
	var k keys.ContentKey
	if err := k.Set(fill(b, 32)); err != nil {
		panic(err)
	}
	return &k
}

var (
	testGroup  = wire.GroupID(fill(0x01, 32))
	testHeader = Header{
		Epoch:       2,
		Seat:        wire.Seat(fill(0x03, 32)),
		Incarnation: wire.Incarnation(fill(0x04, 8)),
		Sequence:    5,
		Carriers:    6,
	}
)

func sealed(t testing.TB, plain []byte) ([]byte, wire.Digest) {
	t.Helper()
	e, d, err := SealEnvelope(testGroup, epochKey(0x10), testHeader, contentKey(0x11), plain)
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func TestEnvelopeGolden(t *testing.T) {
	e, d := sealed(t, []byte("look at one thing from several points"))
	sum := sha256.Sum256(e)
	for _, g := range []struct{ what, got, want string }{
		{"sealed header", hex.EncodeToString(e[:SealedHeaderSize]), goldenHeader},
		{"commitment", hex.EncodeToString(e[SealedHeaderSize:][:CommitmentSize]), goldenCommitment},
		{"SHA-256 of the envelope", hex.EncodeToString(sum[:]), goldenEnvelope},
		{"D", d.String(), goldenDigest},
	} {
		if g.got != g.want {
			t.Errorf("%s\n got %s\nwant %s", g.what, g.got, g.want)
		}
	}
	if len(e) != 74+32+256+16 {
		t.Errorf("%d bytes", len(e))
	}
}

func TestEnvelopeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 1200), rapid.SampledFrom([]int{255, 256, 511, 512, 32767, 32768, MaxContent - 1, MaxContent})).Draw(t, "length")
		plain := fill(rapid.Byte().Draw(t, "byte"), n)
		h := Header{
			Epoch:    rapid.Uint64().Draw(t, "epoch"),
			Sequence: rapid.Uint64().Draw(t, "sequence"),
			Carriers: rapid.Uint16().Draw(t, "carriers"),
		}
		copy(h.Seat[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seat"))
		copy(h.Incarnation[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "incarnation"))
		e, d, err := SealEnvelope(testGroup, epochKey(0x10), h, contentKey(0x11), plain)
		if err != nil {
			t.Fatal(err)
		}
		h2, d2, err := ReadHeader(testGroup, epochKey(0x10), e)
		if err != nil || h2 != h || d2 != d {
			t.Fatalf("header %+v %v %v, want %+v %v", h2, d2, err, h, d)
		}
		got, err := OpenEnvelope(testGroup, h2, contentKey(0x11), e)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("content of %d bytes: %d, %v", n, len(got), err)
		}
		class := len(e) - SealedHeaderSize - CommitmentSize - 16
		if class&(class-1) != 0 || class < 256 || class > 65536 || class < n+1 || (class > 256 && class/2 > n) {
			t.Fatalf("%d bytes in class %d", n, class)
		}
	})
}

func TestEnvelopeTooLong(t *testing.T) {
	_, _, err := SealEnvelope(testGroup, epochKey(1), testHeader, contentKey(2), make([]byte, MaxContent+1))
	if !errors.Is(err, wire.ErrTooLong) {
		t.Fatal(err)
	}
	e, _, err := SealEnvelope(testGroup, epochKey(1), testHeader, contentKey(2), make([]byte, MaxContent))
	if err != nil || len(e) != MaxEnvelope {
		t.Fatal(len(e), err)
	}
}

// Every byte counts: in the header and the commitment for ReadHeader, in
// commitment and ciphertext for OpenEnvelope; and D changes with each.
func TestEnvelopeBitFlips(t *testing.T) {
	e, d := sealed(t, []byte("x"))
	for i := range e {
		bad := bytes.Clone(e)
		bad[i] ^= 1 << (i % 8)
		if envelopeDigest(testGroup, bad) == d {
			t.Fatalf("byte %d is not in D", i)
		}
		_, _, err := ReadHeader(testGroup, epochKey(0x10), bad)
		inHeader := i < SealedHeaderSize+CommitmentSize
		if got := errors.Is(err, ErrHeader); got != inHeader {
			t.Fatalf("byte %d: ReadHeader %v", i, err)
		}
		_, err = OpenEnvelope(testGroup, testHeader, contentKey(0x11), bad)
		switch {
		case i < SealedHeaderSize:
			if err != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
		case inHeader:
			if !errors.Is(err, ErrCommitment) {
				t.Fatalf("byte %d: %v", i, err)
			}
		default:
			if !errors.Is(err, ErrContent) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
	for _, n := range []int{0, 1, SealedHeaderSize, MinEnvelope - 1, len(e) - 1} {
		if _, _, err := ReadHeader(testGroup, epochKey(0x10), e[:n]); !errors.Is(err, ErrHeader) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := OpenEnvelope(testGroup, testHeader, contentKey(0x11), e[:n]); !errors.Is(err, ErrContent) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, _, err := ReadHeader(testGroup, epochKey(0x10), append(e, 0)); !errors.Is(err, ErrHeader) {
		t.Error("trailing byte accepted")
	}
}

func TestEnvelopeIsBound(t *testing.T) {
	e, d := sealed(t, []byte("x"))
	other := wire.GroupID(fill(0x77, 32))
	if _, _, err := ReadHeader(other, epochKey(0x10), e); !errors.Is(err, ErrHeader) {
		t.Error("another group's header opened:", err)
	}
	if _, _, err := ReadHeader(testGroup, epochKey(0x12), e); !errors.Is(err, ErrHeader) {
		t.Error("another epoch's header opened:", err)
	}
	if _, err := OpenEnvelope(other, testHeader, contentKey(0x11), e); !errors.Is(err, ErrContent) {
		t.Error("another group's content opened:", err)
	}
	if envelopeDigest(other, e) == d {
		t.Error("D does not name the group")
	}
	if _, err := OpenEnvelope(testGroup, testHeader, contentKey(0x12), e); !errors.Is(err, ErrCommitment) {
		t.Error("another content key:", err)
	}
	for what, change := range map[string]func(*Header){
		"epoch":       func(h *Header) { h.Epoch++ },
		"seat":        func(h *Header) { h.Seat[31] ^= 1 },
		"incarnation": func(h *Header) { h.Incarnation[0] ^= 1 },
		"sequence":    func(h *Header) { h.Sequence++ },
	} {
		h := testHeader
		change(&h)
		if _, err := OpenEnvelope(testGroup, h, contentKey(0x11), e); !errors.Is(err, ErrContent) {
			t.Errorf("opened under another %s: %v", what, err)
		}
	}
}

// A sender can make one ciphertext that ChaCha20-Poly1305 opens under two keys,
// as two well-padded texts. The commitment is what refuses the second.
func TestOneEnvelopeTwoTexts(t *testing.T) {
	data := testHeader.bind(testGroup[:])
	stream := func(k [32]byte) []byte {
		c, err := chacha20.NewUnauthenticatedCipher(k[:], zeroNonce[:])
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 64+minPadded)
		c.XORKeyStream(b, b)
		return b
	}
	// Two keys whose streams end alike, so that both paddings can be 0x80.
	one, two := contentKey(1), contentKey(2)
	k1 := one.Derive(tagEnc)
	s1 := stream(k1)
	var k2 [32]byte
	var s2 []byte
	for {
		two.Expose()[0]++
		if two.Expose()[0] == 0 {
			two.Expose()[1]++
		}
		if k2 = two.Derive(tagEnc); stream(k2)[64+minPadded-1] == s1[64+minPadded-1] {
			s2 = stream(k2)
			break
		}
	}

	// Poly1305 is a polynomial in r plus s: a free first block makes both tags equal.
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	number := func(b []byte) *big.Int {
		le := bytes.Clone(b)
		for i, j := 0, len(le)-1; i < j; i, j = i+1, j-1 {
			le[i], le[j] = le[j], le[i]
		}
		return new(big.Int).SetBytes(le)
	}
	high := new(big.Int).Lsh(big.NewInt(1), 128)
	keyOf := func(s []byte) (r, add *big.Int) {
		b := bytes.Clone(s[:16])
		for _, i := range []int{3, 7, 11, 15} {
			b[i] &= 15
		}
		for _, i := range []int{4, 8, 12} {
			b[i] &= 252
		}
		return number(b), number(s[16:32])
	}
	ct := make([]byte, minPadded)
	ct[minPadded-1] = s1[64+minPadded-1] ^ 0x80
	blocks := func() []byte {
		b := append(append(bytes.Clone(data), make([]byte, 96-len(data))...), ct...)
		var n [16]byte
		n[0], n[9] = byte(len(data)), minPadded>>8
		return append(b, n[:]...)
	}
	const free = 96 / 16 // the first ciphertext block
	rest := func(s []byte) (sum, factor *big.Int) {
		r, add := keyOf(s)
		b := blocks()
		sum = new(big.Int)
		for i := 0; i < len(b)/16; i++ {
			if i != free {
				sum.Add(sum, new(big.Int).Add(number(b[i*16:i*16+16]), high))
			}
			sum.Mod(sum.Mul(sum, r), p)
		}
		return sum.Add(sum, add), new(big.Int).Exp(r, big.NewInt(int64(len(b)/16-free)), p)
	}
	for try := 0; ; try++ {
		if try == 1000 {
			t.Fatal("no ciphertext under two keys found")
		}
		ct[20], ct[21] = byte(try), byte(try>>8)
		sum1, f1 := rest(s1)
		sum2, f2 := rest(s2)
		c := new(big.Int).Sub(sum2, sum1)
		f := new(big.Int).Sub(f1, f2)
		c.Mod(c.Mul(c, f.ModInverse(f.Mod(f, p), p)), p)
		c.Sub(c, high)
		if c.Sign() < 0 || c.Cmp(high) >= 0 {
			continue
		}
		c.FillBytes(ct[:16])
		for i, j := 0, 15; i < j; i, j = i+1, j-1 {
			ct[i], ct[j] = ct[j], ct[i]
		}
		// The tag under the first key; a carry may spoil the second.
		plain := make([]byte, minPadded)
		for i := range plain {
			plain[i] = ct[i] ^ s1[64+i]
		}
		full := seal(nil, k1, plain, data)
		if !bytes.Equal(full[:minPadded], ct) {
			t.Fatal("the stream is not what was computed")
		}
		other, err := open(k2, full, data)
		if err != nil {
			continue
		}
		if _, ok := unpad(other); !ok {
			t.Fatal("the second text is not well padded")
		}
		commitment := one.Derive(tagCommit)
		e := seal(nil, epochKey(0x10).Derive(tagHeader, commitment[:]), testHeader.append(nil), testGroup[:])
		e = append(append(e, commitment[:]...), full...)
		if got, err := OpenEnvelope(testGroup, testHeader, one, e); err != nil || len(got) != minPadded-1 {
			t.Fatal("the text committed to does not open:", err)
		}
		if _, err := OpenEnvelope(testGroup, testHeader, two, e); !errors.Is(err, ErrCommitment) {
			t.Fatal("one envelope opened as two texts:", err)
		}
		return
	}
}

func TestPaddingIsStrict(t *testing.T) {
	for what, c := range map[string]struct {
		padded []byte
		want   int // -1: refused
	}{
		"empty":           {append([]byte{0x80}, make([]byte, 255)...), 0},
		"full":            {append(make([]byte, 255), 0x80), 255},
		"zeros in text":   {append([]byte{1, 0, 0, 0x80}, make([]byte, 252)...), 3},
		"no mark":         {make([]byte, 256), -1},
		"another mark":    {append([]byte{7, 0x81}, make([]byte, 254)...), -1},
		"class too large": {append([]byte{7, 0x80}, make([]byte, 510)...), -1},
		"largest small":   {append(append(make([]byte, 255), 0x80), make([]byte, 256)...), -1},
		"smallest large":  {append(append(make([]byte, 256), 0x80), make([]byte, 255)...), 256},
	} {
		plain, ok := unpad(c.padded)
		if ok != (c.want >= 0) || (ok && len(plain) != c.want) {
			t.Errorf("%s: %d bytes, %v", what, len(plain), ok)
		}
	}
	// A sealed envelope whose padding is wrong is refused by OpenEnvelope too.
	content := contentKey(0x11)
	e, _ := sealed(t, nil)
	e = seal(e[:SealedHeaderSize+CommitmentSize], content.Derive(tagEnc), make([]byte, 256), testHeader.bind(testGroup[:]))
	if _, err := OpenEnvelope(testGroup, testHeader, content, e); !errors.Is(err, ErrContent) {
		t.Error(err)
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, plain := range []string{"", "x", string(fill('y', 300))} {
		e, _ := sealed(f, []byte(plain))
		f.Add(e)
		f.Add(e[:len(e)-1])
	}
	f.Fuzz(func(t *testing.T, e []byte) {
		h, d, err := ReadHeader(testGroup, epochKey(0x10), e)
		if err != nil {
			return
		}
		plain, err := OpenEnvelope(testGroup, h, contentKey(0x11), e)
		if err != nil {
			return
		}
		again, d2, err := SealEnvelope(testGroup, epochKey(0x10), h, contentKey(0x11), plain)
		if err != nil || d != d2 || !bytes.Equal(again, e) {
			t.Fatal("an envelope that opens is not what sealing makes")
		}
	})
}

// floor fails a benchmark that is slower than perSecond of what one round does.
func floor(b *testing.B, perRound, perSecond float64, unit string) {
	if b.N < 10 {
		return
	}
	rate := perRound * float64(b.N) / b.Elapsed().Seconds()
	if rate < perSecond {
		b.Errorf("%.0f %s a second, the floor is %.0f", rate, unit, perSecond)
	}
}

func BenchmarkSealEnvelope(b *testing.B) {
	plain := fill('x', 1000)
	epoch, content := epochKey(1), contentKey(2)
	for b.Loop() {
		if _, _, err := SealEnvelope(testGroup, epoch, testHeader, content, plain); err != nil {
			b.Fatal(err)
		}
	}
	floor(b, 1, 10_000, "envelopes")
}

func BenchmarkOpenEnvelope(b *testing.B) {
	e, _ := sealed(b, fill('x', 1000))
	epoch, content := epochKey(0x10), contentKey(0x11)
	for b.Loop() {
		h, _, err := ReadHeader(testGroup, epoch, e)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := OpenEnvelope(testGroup, h, content, e); err != nil {
			b.Fatal(err)
		}
	}
	floor(b, 1, 10_000, "envelopes")
}

// A sealed header opens by itself with the content key, and with no other.
func TestOpenSealed(t *testing.T) {
	e, _ := sealed(t, []byte("text"))
	h, err := OpenSealed(testGroup, epochKey(0x10), contentKey(0x11), e[:SealedHeaderSize])
	if err != nil || h != testHeader {
		t.Errorf("%+v, %v", h, err)
	}
	for what, err := range map[string]error{
		"epoch": openSealed(epochKey(1), contentKey(0x11), e[:SealedHeaderSize]),
		"key":   openSealed(epochKey(0x10), contentKey(1), e[:SealedHeaderSize]),
		"cut":   openSealed(epochKey(0x10), contentKey(0x11), e[:SealedHeaderSize-1]),
	} {
		if !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func openSealed(epoch *keys.EpochKey, content *keys.ContentKey, b []byte) error {
	_, err := OpenSealed(testGroup, epoch, content, b)
	return err
}
