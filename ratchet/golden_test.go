package ratchet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// Goldens pin the bytes of docs/protocol.md section 5 and of the record. A
// changed one means another tag, or another record format number.
func TestGoldens(t *testing.T) {
	a, b := &side{rand: newStream("golden a")}, &side{rand: newStream("golden b")}
	s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
	must(err)
	a.s, a.chain = s, chain
	b.s, err = Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part[:])
	must(err)
	zero := a.seal()
	unanswered := a.record()
	must(b.open(zero))
	answer := b.seal()
	must(a.open(answer))
	a.seal()
	later := a.seal()
	must(b.open(later))
	t0 := a.s.Transcript()
	sum := sha256.New()
	for _, p := range [][]byte{a.record(), b.record(), unanswered} {
		sum.Write(p)
	}
	hash := func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	for _, g := range []struct {
		name string
		got  []byte
		want string
	}{
		{"handshake, hash", hash(part[:]), "401459d7099fa1f435cab7c730b6338d0a71d06618e4f4981ccd812ba5862fd5"},
		{"transcript", t0[:], "349b0ef9a1865fbb13ded2f57536ffd40d16a0476448e26852085808ec4db6b7"},
		{"message 0", zero.slot, "5fa1e6f8a5d233734b63c58921e882326b019c65bc5924a00309a371789f5bcf9633d1e8d7490a935b2684cd19451d3f6add01456e3b7aecccc4351eef731e3e0f795450d4fb93e184ca9dcc72f302b246132870199b90a5"},
		{"answer", answer.slot, "a4218b9ce42a0f1c4ed327aa3d6130bac1b97d48fa7750d185e643dc7050fcf5d2d7660f1d284616194e5b536257fc639bedfc79ba31ccb7613ddd244bf94a68a6e4978e58f54b637ef2c964797020454bf8585479ca37d0"},
		{"later slot, hash", hash(later.slot), "565593050d58c8b82449e943ddaa227c908d17f921c78184c03425dba056785f"},
		{"vector entry", a.chain.Append(nil), "00000002000000022cb99fad39e75b9d1a018a51420e6b1a9592674dc332919e63a5fb15f51cbef9"},
		{"records, hash", sum.Sum(nil), "094435f396abaca8de2d1b8698f56e8d69f6b9ca00e6b04e68a40cb837fceacd"},
	} {
		want, _ := hex.DecodeString(g.want)
		if !bytes.Equal(g.got, want) {
			t.Errorf("%s:\n got %x\nwant %s", g.name, g.got, g.want)
		}
	}
}

// TestMixedGoldens pins the bytes of section 5.3 and of record format 2.
func TestMixedGoldens(t *testing.T) {
	p := testPaths(2, 3)
	a, h := initiateMixed("golden", testA, testB, p)
	acc := h.accept(testA, testB)
	must(acc.Share(p.Relays[0], h.shares[0]))
	must(acc.Share(p.Relays[2], h.shares[2]))
	s, _ := acc.Ready()
	b := &side{s: s, rand: newStream("golden b")}
	zero := a.seal()
	must(b.open(zero))
	answer := b.seal()
	share := b.answering(p.Relays[1], answer)[:ShareSize]
	if a.openAnswer(p.Relays[1], b.answering(p.Relays[1], answer), answer) == nil {
		t.Fatal("one share was enough")
	}
	sum := sha256.New()
	sum.Write(a.record())
	sum.Write(b.record())
	must(a.openAnswer(p.Relays[2], b.answering(p.Relays[2], answer), answer))
	later := a.seal()
	must(b.open(later))
	sum.Write(a.record())
	sum.Write(b.record())
	pol, tr := p.Digest(contact(testA, testB).Group), a.s.Transcript()
	for _, g := range []struct {
		name string
		got  []byte
		want string
	}{
		{"policy", pol[:], "08a27403446c85373ab11855ad1271e9db3462aa66492f9dd82ed2e19bd2eb3c"},
		{"transcript", tr[:], "f4e7bb70ae55da8644d67ee90ea55a062f3ecb9fe570b4e273237bb0fe56b5b4"},
		{"share of the second path", h.shares[1][:], "ee3b5d93c2f91363c457a1392848fd805f17fbc3d6633c19a09562746a2a5b3d78d40fb38eb3c43ed94e4a9c7103d94c"},
		{"message 0", zero.slot, "a02bc488c47f270a4edf39752c8dc33ab5db786d8e74f3787e4cb99a0f2331211fad68e4150c2c326109de2b79770a98e2df687bca23dac110c129fcb7cf170592e38de5d1c13bb79786c1a2038f5e5eb15e5a979a04d6bb"},
		{"share of the answer, second path", share, "4e0b7d5b6db164af2e4336462c0f5f91c85a98e77b602d474cca16b7750781d0bc1023ad501b64aeef3ac90d416d6e96"},
		{"answer", answer.slot, "ad7400473ad725c75b2238f4f1c78d9f3fdfc1fc73629e28e13de34c0360b7b3b7b0cb547f05d83c8567ff786a9f5a1a3302f72ebbafe06f1a200e3cbab9851f6423a8ae96933cdd111f37819c9750a3f094d73217be5dbc"},
		{"later slot", later.slot, "73294ae6602067622a0731cd3a166fb9da96d9591bcd8a6f16420c3c5a06461367329fd9e2fc4f7eaffaa2d502cb2b3a48425d0ebacc9b9f3ba261933d3a01fe2a1ad1ee9dbd5153cea405d8b5ac84ce87b497311ded7946"},
		{"records, hash", sum.Sum(nil), "ca46c0c5dbea9c4a8a013ee8bf455dbd5c7749856d6a4dad14f58310a67142be"},
	} {
		want, _ := hex.DecodeString(g.want)
		if !bytes.Equal(g.got, want) {
			t.Errorf("%s:\n got %x\nwant %s", g.name, g.got, g.want)
		}
	}
}
