package crossverify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

func relayKey(b byte) keys.RelayPrivate {
	var seed [keys.SeedSize]byte
	seed[0] = b
	return new(keys.RelayPrivate).FromSeed(seed)
}

func digest(b byte) (d wire.Digest) {
	for i := range d {
		d[i] = b
	}
	return d
}

func lineage(ordinal uint64, random byte) wire.Lineage {
	return wire.NewLineage(ordinal, [8]byte{random})
}

var testChannel = wire.ChannelID(digest(0xc1))

func golden(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if h := hex.EncodeToString(got); h != want {
		t.Errorf("%s is\n%s, want\n%s", what, h, want)
	}
}

// Section 9: layouts and inputs, pinned. Long values by their SHA-256.
func TestStatementGoldens(t *testing.T) {
	key := relayKey(1)
	s := SignStatement(key, testChannel, lineage(3, 9), 7, digest(0xd0), digest(0xd1), digest(0xd2))
	b := s.Append(nil)
	if len(b) != StatementSize {
		t.Fatalf("a statement has %d bytes, want %d", len(b), StatementSize)
	}
	golden(t, "statement without signature", b[:StatementSize-64],
		"cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc"+
			"c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"+
			"00000000000000030900000000000000"+"0000000000000007"+
			"d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0"+
			"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"+
			"d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d2")
	o := SignOpened(key, testChannel, [32]byte{4}, s.Position(), lineage(4, 1), 2, digest(5))
	tr := SignTrimmed(key, testChannel, lineage(3, 9), 12, digest(6))
	hash := func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	leaf := Leaf{digest(1), 2, digest(3)}
	d := func(d wire.Digest) []byte { return d[:] }
	for _, g := range []struct {
		what string
		got  []byte
		want string
	}{
		{"statement signature", hash(s.Signature[:]), "248eabdae472439f753b92190a87ee7cd1ca8ef414cbcbb09a5181130c6b975a"},
		{"opened signature", hash(o.Signature[:]), "7a343b966c6f96d1001b892e61e8c050411afbdc9ee04ce69f6326f2dce2a33f"},
		{"trimmed signature", hash(tr.Signature[:]), "28bd8f644f25eb280c7a21ffa8d762c43c0aefcdb0fcb6f5b8442febb17e7bd6"},
		{"h_0", d(ChainStart(key.Public(), testChannel, lineage(3, 9))), "faa19772d447115040fd17115b554359f0ac6f75e4153b6d139289e287dcb23a"},
		{"h_n", d(ChainNext(digest(1), 2, digest(3), digest(4))), "e7d845dcd29ad3055ec75a32962fa0635b5f3d244146d57505ff3b079e7331bc"},
		{"outer", d(OuterDigest([8]byte{1}, [24]byte{2}, []byte("envelope"))), "885de4a1aa1b569d4203d8fce903d9a0ff5c5260a0b4ba6b8e88555cfee6639e"},
		{"slots", d(SlotsDigest(digest(1), []byte{0, 0}, []byte("slots"))), "d7d9e1a3d5420759657bc9df23a6e58cac2b69c4db258fd58eec5c3db374755c"},
		{"bundle", d(BundleDigest(digest(1), digest(2))), "884bf93e9bcb1f4d4192be5bf30d30fb1d0d6d333e9b1a9716bc8875962eecfd"},
		{"value", d(ValueDigest([]byte("value"))), "042cfa8bc287076a74e8c4441a223b18db5f62036add34d5c95e1bc310592b5b"},
		{"board write", d(BoardDigest(leaf.Name, leaf.Version, leaf.Value)), "03c17c005b0d873715b97c2750fddf65bcfbf8d7b1b1a3bb241175cb5bcbc4af"},
		{"sealed digest", d(SealedDigest([8]byte{1}, [24]byte{2}, []byte("sealed"))), "8bbd5e2ede1813c622a0d306f2d52551c585e834058b52504f3402f697f9aa90"},
		{"grant", d(GrantDigest([]byte("body"))), "de45a42cef6efc3dabc096cdefbf63ceaf6cca125155da4f938a71230e40efa4"},
		{"leaf", d(leaf.hash()), "44318d215894840952448e1587211faa36fab5d40d94b4a74089f640431a5a2e"},
		{"node", d(nodeHash(digest(1), digest(2))), "b7b78d3fc76752b35ddf8bd0ea1d45eee772fca6b8b23a842ec480dd1cd47685"},
	} {
		golden(t, g.what, g.got, g.want)
	}
}

// The spelling of section 9, written a second time from the specification.
func TestStatementInputs(t *testing.T) {
	key := relayKey(1)
	relay := key.Public()
	l := lineage(3, 9)
	s := SignStatement(key, testChannel, l, 7, digest(0xd0), digest(0xd1), digest(0xd2))
	d, h, root := digest(0xd0), digest(0xd1), digest(0xd2)
	if !relay.Verify(keys.Ed25519, s.Signature[:], "parallax/1/statement", relay[:], testChannel[:], l[:], wire.U64(7), d[:], h[:], root[:]) {
		t.Error("a statement is not signed over what section 9 says")
	}
	o := SignOpened(key, testChannel, [32]byte{4}, s.Position(), lineage(4, 1), 2, digest(5))
	l4, h5 := lineage(4, 1), digest(5)
	nonce := [32]byte{4}
	if !relay.Verify(keys.Ed25519, o.Signature[:], "parallax/1/opened", relay[:], testChannel[:], nonce[:], l[:], wire.U64(7), h[:], l4[:], wire.U64(2), h5[:]) {
		t.Error("Opened is not signed over what section 9 says")
	}
	tr := SignTrimmed(key, testChannel, l, 12, digest(6))
	h6 := digest(6)
	if !relay.Verify(keys.Ed25519, tr.Signature[:], "parallax/1/trimmed", relay[:], testChannel[:], l[:], wire.U64(12), h6[:]) {
		t.Error("Trimmed is not signed over what section 9 says")
	}
}

func TestVerify(t *testing.T) {
	key := relayKey(1)
	s := SignStatement(key, testChannel, lineage(1, 1), 7, digest(1), digest(2), digest(3))
	o := SignOpened(key, testChannel, [32]byte{4}, s.Position(), lineage(1, 1), 9, digest(5))
	tr := SignTrimmed(key, testChannel, lineage(1, 1), 12, digest(6))
	if !s.Verify(keys.Ed25519) || !o.Verify(keys.Ed25519) || !tr.Verify(keys.Ed25519) {
		t.Fatal("a fresh signature does not verify")
	}
	b := s.Append(nil)
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		if p, err := ParseStatement(flipped); err != nil || p.Verify(keys.Ed25519) {
			t.Fatalf("a statement with byte %d changed: verifies, or %v", i, err)
		}
	}
	for i, change := range []func(o *Opened){
		func(o *Opened) { o.Relay[0] ^= 1 }, func(o *Opened) { o.Channel[0] ^= 1 },
		func(o *Opened) { o.Nonce[0] ^= 1 }, func(o *Opened) { o.Shown.Lineage[0] ^= 1 },
		func(o *Opened) { o.Shown.N ^= 1 }, func(o *Opened) { o.Shown.H[0] ^= 1 },
		func(o *Opened) { o.Lineage[0] ^= 1 }, func(o *Opened) { o.N ^= 1 },
		func(o *Opened) { o.H[0] ^= 1 }, func(o *Opened) { o.Signature[0] ^= 1 },
	} {
		c := o
		if change(&c); c.Verify(keys.Ed25519) {
			t.Errorf("Opened verifies after change %d", i)
		}
	}
	for i, change := range []func(o *Trimmed){
		func(o *Trimmed) { o.Relay[0] ^= 1 }, func(o *Trimmed) { o.Channel[0] ^= 1 },
		func(o *Trimmed) { o.Lineage[0] ^= 1 }, func(o *Trimmed) { o.First ^= 1 },
		func(o *Trimmed) { o.H[0] ^= 1 }, func(o *Trimmed) { o.Signature[0] ^= 1 },
	} {
		c := tr
		if change(&c); c.Verify(keys.Ed25519) {
			t.Errorf("Trimmed verifies after change %d", i)
		}
	}
}

func TestParseStatementLength(t *testing.T) {
	b := SignStatement(relayKey(1), testChannel, lineage(1, 1), 7, digest(1), digest(2), digest(3)).Append(nil)
	for _, bad := range [][]byte{nil, b[:1], b[:StatementSize-1], append(bytes.Clone(b), 0)} {
		if _, err := ParseStatement(bad); !errors.Is(err, ErrStatement) {
			t.Errorf("%d bytes: %v, want ErrStatement", len(bad), err)
		}
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add([]byte{})
	f.Add(SignStatement(relayKey(1), testChannel, lineage(1, 1), 7, digest(1), digest(2), digest(3)).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatement(b)
		if err == nil && !bytes.Equal(s.Append(nil), b) {
			t.Fatal("a statement is written differently than read")
		}
	})
}
