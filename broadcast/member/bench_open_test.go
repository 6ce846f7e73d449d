package member

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// BenchmarkOpen is one received message of 32 bytes on the path that brings it
// first: from the frame to the turn with everything to be stored and shown, in a
// steady chain and at a DH step.
func BenchmarkOpen(b *testing.B) {
	for _, step := range []bool{false, true} {
		name := map[bool]string{false: "steady", true: "dhstep"}[step]
		b.Run(name, func(b *testing.B) {
			m, st, alice, bob, chainA, chainB := pairOf(b)
			rec := m.addSession(st, bob, chainB, st.ann.Incarnation)
			adm := &Admission{Group: m.gid, Seat: st.seat, Announcement: st.digest}
			st.adms[adm.Digest()] = adm
			for i := range m.paths {
				m.ledger.Claim(m.now, crossverify.Path(i), crossverify.Admission(adm.Digest()), adm.Digest())
				m.ledger.Claim(m.now, crossverify.Path(i), crossverify.Announcement(st.seat, 1), st.digest)
			}
			if !m.usable(st) {
				b.Fatal("the sender is not usable")
			}
			p := m.paths[0]
			p.read.link, p.read.opened = 1, true
			m.byLink[1] = p
			epoch := m.keyring.epoch()
			var content keys.ContentKey
			h := broadcast.Header{Epoch: epoch.Number, Seat: st.seat}
			frame := func() broadcast.Frame {
				h.Sequence++
				if step { // an answer first, so that the next message turns the ratchet
					back := m.chains.get(rec.index)
					slot := rec.Seal(&back, &content, wire.Digest{2}, nil)
					m.chains.set(rec.index, back)
					if _, err := alice.Open(m.now, m.entropy, &chainA, slot, wire.Digest{2}); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := io.ReadFull(m.entropy, content.Expose()); err != nil {
					b.Fatal(err)
				}
				c := &Content{Kind: KindText, Sent: unixTime(m.now), Body: []byte("a text of thirty-two characters.")}
				envelope, d, err := broadcast.SealEnvelope(m.gid, &epoch.Key, h, &content, c.Append(nil))
				if err != nil {
					b.Fatal(err)
				}
				f := proto.Deliver{N: p.position + 1, Root: p.root, Hint: broadcast.Hint(&epoch.Key, p.ref.Key), Envelope: envelope, Offset: 88 * 500,
					Slot: alice.Seal(&chainA, &content, d, nil)}
				broadcast.Mask(f.Envelope, &epoch.Key, p.ref.Key, f.Nonce, 0)
				broadcast.Mask(f.Slot, &epoch.Key, p.ref.Key, f.Nonce, len(f.Envelope)+int(f.Offset))
				head := crossverify.ChainNext(p.head, f.N, f.Digest(), f.Root)
				f.Signature = crossverify.SignStatement(benchRelay(p.index), p.channel, p.lineage, f.N, f.Digest(), head, f.Root).Signature
				return proto.Encode(f)
			}
			first := frame()
			floor := openFloor(step, len(first.Body))
			if err := m.Step(m.now, broadcast.Received{Link: 1, Frame: first}); err != nil {
				b.Fatal(err)
			}
			var r beside
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				f := frame()
				b.StartTimer()
				r.once(b, func() {
					if err := m.Step(m.now, broadcast.Received{Link: 1, Frame: f}); err != nil {
						b.Fatal(err)
					}
					m.Ready()
				}, floor)
				b.StopTimer()
				k := messageKey{source{st.seat, h.Incarnation}, h.Sequence}
				if msg := m.messages[k]; msg == nil || !msg.opened {
					b.Fatalf("message %d did not open", h.Sequence)
				}
				delete(m.messages, k)
				m.ledger.Forget(k.subject())
				m.recent = nil
				b.StartTimer()
			}
			record, err := rec.MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(record)+chainSize), "B/session")
			r.report(b)
		})
	}
}

// openFloor is the primitives that receiving one message cannot do without: the
// statement's Ed25519 check; SHA-256 over the frame for d, over the envelope for
// D, over the slot, and two short ones for d and the head; four keys by HKDF
// (mask, header, commitment, content: two HMAC each); AES-CTR over the frame;
// the AEAD of header and envelope; those of a slot. A DH step adds a key pair,
// two DH and two HKDF of 64 bytes.
func openFloor(step bool, size int) func() {
	frame := make([]byte, size)
	key := ed25519.NewKeyFromSeed(frame[:32])
	statement := make([]byte, 250)
	signature := ed25519.Sign(key, statement)
	public := key.Public().(ed25519.PublicKey)
	aead := func(n int) func() {
		a, err := chacha20poly1305.New(frame[:32])
		if err != nil {
			panic(err)
		}
		sealed, plain := a.Seal(nil, frame[:12], frame[:n], nil), make([]byte, 0, n)
		return func() {
			a, _ := chacha20poly1305.New(frame[:32])
			if _, err := a.Open(plain, frame[:12], sealed, nil); err != nil {
				panic(err)
			}
		}
	}
	header, envelope := aead(58), aead(256)
	pair := func() *ecdh.PrivateKey {
		k, err := ecdh.X25519().NewPrivateKey(floorData[:32])
		if err != nil {
			panic(err)
		}
		return k
	}
	own := pair()
	masked := make([]byte, size)
	return func() {
		if !ed25519.Verify(public, statement, signature) {
			panic("the floor's signature")
		}
		sha256.Sum256(frame)
		sha256.Sum256(frame[:458])
		sha256.Sum256(frame[:88])
		sha256.Sum256(frame[:100])
		sha256.Sum256(frame[:140])
		var prk [32]byte
		for range 4 * 2 {
			hmacFloor(&prk, 1)
		}
		block, _ := aes.NewCipher(frame[:32])
		cipher.NewCTR(block, frame[:16]).XORKeyStream(masked, frame)
		header()
		envelope()
		slotFloor(false)
		if step {
			next := pair()
			for _, k := range []*ecdh.PrivateKey{own, next} {
				peer, _ := ecdh.X25519().NewPublicKey(own.PublicKey().Bytes())
				k.ECDH(peer)
			}
			for range 2 * 3 {
				hmacFloor(&prk, 1)
			}
		}
	}
}
