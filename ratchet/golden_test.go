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
