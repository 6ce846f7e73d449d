package broadcast

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/keys"
)

var testRelay = keys.RelayPublic(fill(0x20, 32))

func TestMaskGolden(t *testing.T) {
	nonce := [MaskNonceSize]byte(fill(0x21, MaskNonceSize))
	got := make([]byte, 40)
	Mask(got, epochKey(0x10), testRelay, nonce, 0)
	if s := hex.EncodeToString(got); s != goldenMask {
		t.Errorf("mask %s", s)
	}
	hint := Hint(epochKey(0x10), testRelay)
	if s := hex.EncodeToString(hint[:]); s != goldenHint {
		t.Errorf("hint %s", s)
	}
}

// The mask is AES-256-CTR from a zero counter, block by block.
func TestMaskIsCTR(t *testing.T) {
	epoch, nonce := epochKey(9), [MaskNonceSize]byte{1}
	key := epoch.Derive(tagMask, testRelay[:], nonce[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	const n = 70_000 // beyond 4,096 blocks: the counter carries
	want := make([]byte, n)
	for i := range n / 16 {
		in := [16]byte{13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
		block.Encrypt(want[i*16:], in[:])
	}
	got := make([]byte, n)
	Mask(got, epoch, testRelay, nonce, 0)
	if !bytes.Equal(got[:n/16*16], want[:n/16*16]) {
		t.Fatal("another stream")
	}
}

// A part masked at its offset is that part of the whole.
func TestMaskOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "bundle")
		from := rapid.IntRange(0, len(whole)).Draw(t, "from")
		to := rapid.IntRange(from, len(whole)).Draw(t, "to")
		nonce := [MaskNonceSize]byte(rapid.SliceOfN(rapid.Byte(), MaskNonceSize, MaskNonceSize).Draw(t, "nonce"))
		masked := bytes.Clone(whole)
		Mask(masked, epochKey(3), testRelay, nonce, 0)
		part := bytes.Clone(masked[from:to])
		Mask(part, epochKey(3), testRelay, nonce, from)
		if !bytes.Equal(part, whole[from:to]) {
			t.Fatalf("bytes %d to %d differ", from, to)
		}
	})
}

func TestMaskDependsOnAll(t *testing.T) {
	mask := func(epoch byte, relay keys.RelayPublic, nonce byte) string {
		b := make([]byte, 32)
		Mask(b, epochKey(epoch), relay, [MaskNonceSize]byte{nonce}, 0)
		return string(b)
	}
	other := testRelay
	other[31] ^= 1
	seen := map[string]bool{mask(1, testRelay, 1): true, mask(2, testRelay, 1): true, mask(1, other, 1): true, mask(1, testRelay, 2): true}
	if len(seen) != 4 {
		t.Error("two masks have one stream")
	}
	if Hint(epochKey(1), testRelay) == Hint(epochKey(1), other) || Hint(epochKey(1), testRelay) == Hint(epochKey(2), testRelay) {
		t.Error("two relays or epochs have one hint")
	}
}

// A bundle of 1,000 standing slots. AES without hardware or block by block
// stays far below the floor.
func BenchmarkMask(b *testing.B) {
	bundle := make([]byte, MinEnvelope+1000*StandingSize)
	epoch := epochKey(1)
	b.SetBytes(int64(len(bundle)))
	for b.Loop() {
		Mask(bundle, epoch, testRelay, [MaskNonceSize]byte{}, 0)
	}
	floor(b, float64(len(bundle))/1e6, 500, "MB")
}
