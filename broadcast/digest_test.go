package broadcast

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

func TestSealedDigestGolden(t *testing.T) {
	nonce := [MaskNonceSize]byte(fill(0x21, MaskNonceSize))
	got := SealDigest(testGroup, epochKey(0x10), testRelay, nonce, wire.Digest(fill(0x22, 32)))
	if s := hex.EncodeToString(got[:]); s != goldenSealedDigest {
		t.Errorf("sealed digest %s", s)
	}
}

// What was sealed opens, under the same key, group, relay and nonce only, and
// with every bit as it was.
func TestSealedDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := wire.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "d"))
		nonce := [MaskNonceSize]byte(rapid.SliceOfN(rapid.Byte(), MaskNonceSize, MaskNonceSize).Draw(t, "nonce"))
		sealed := SealDigest(testGroup, epochKey(3), testRelay, nonce, d)
		if got, err := OpenDigest(testGroup, epochKey(3), testRelay, nonce, sealed); err != nil || got != d {
			t.Fatalf("%x, %v", got, err)
		}
		other := nonce
		other[rapid.IntRange(0, MaskNonceSize-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		bent := sealed
		bent[rapid.IntRange(0, SealedDigestSize-1).Draw(t, "sealed byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "sealed bit")
		for what, err := range map[string]error{
			"epoch": opens(testGroup, epochKey(4), testRelay, nonce, sealed),
			"group": opens(wire.GroupID{2}, epochKey(3), testRelay, nonce, sealed),
			"relay": opens(testGroup, epochKey(3), keys.RelayPublic{7}, nonce, sealed),
			"nonce": opens(testGroup, epochKey(3), testRelay, other, sealed),
			"bit":   opens(testGroup, epochKey(3), testRelay, nonce, bent),
		} {
			if !errors.Is(err, ErrDigest) {
				t.Errorf("another %s: %v", what, err)
			}
		}
	})
}

func opens(gid wire.GroupID, epoch *keys.EpochKey, relay keys.RelayPublic, nonce [MaskNonceSize]byte, sealed [SealedDigestSize]byte) error {
	_, err := OpenDigest(gid, epoch, relay, nonce, sealed)
	return err
}

// Towards two relays, or under two nonces, one digest has nothing in common, and
// nothing with the mask of a bundle under the same nonce.
func TestSealedDigestsApart(t *testing.T) {
	nonce, d := [MaskNonceSize]byte{1}, wire.Digest{2}
	mask := bytes.Clone(d[:])
	Mask(mask, epochKey(3), testRelay, nonce, 0)
	all := [][]byte{d[:], mask}
	for _, relay := range []keys.RelayPublic{testRelay, {7}} {
		for _, n := range [][MaskNonceSize]byte{nonce, {2}} {
			s := SealDigest(testGroup, epochKey(3), relay, n, d)
			all = append(all, s[:32], s[16:])
		}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			same := 0
			for j := range a {
				if a[j] == b[j] {
					same++
				}
			}
			if same > 4 { // of 32 random ones more are equal once in a million
				t.Errorf("%x and %x", a, b)
			}
		}
	}
}
