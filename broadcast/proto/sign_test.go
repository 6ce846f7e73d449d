package proto

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// signed is a signed message, how to check it, and what its signature is over.
type signed struct {
	name   string
	m      Message
	verify func(Message, keys.RelayPublic, wire.ChannelID) bool
	free   [][2]int // bytes from, to that the signature does not cover
	tag    string
	parts  [][]byte
	sig    []byte
	key    [32]byte
}

func signedMessages() []signed {
	admin := new(keys.AdminPrivate).FromSeed(fill32(0x61))
	posting := new(keys.PostingPrivate).FromSeed(fill32(0x62))
	mailbox := new(keys.MailboxPrivate).FromSeed(fill32(0x63))
	owner := new(keys.OwnerPrivate).FromSeed(fill32(0x64))
	operator := new(keys.OperatorPrivate).FromSeed(fill32(0x65))
	relay, channel := testRelay[:], testChannel[:]

	create := Create{PostID: fill16(1), Token: []byte{2}, Posting: fill32(3)}
	create.Sign(admin, testRelay, testChannel)
	grant := Grant{PostID: fill16(1), Posting: fill32(2), Uses: 3, PerHour: 4, Expires: 5, Revoke: true}
	grant.Sign(admin, testRelay, testChannel)
	rotate := Rotate{PostID: fill16(1), Rotation: 2, Posting: fill32(3), Admins: []Admin{{fill32(4), RankAdmin}, {fill32(5), RankOwner}}, Ended: []wire.MailboxID{fill16(6)}}
	rotate.Sign(admin, testRelay, testChannel)
	register := Register{Mailbox: fill32(1)}
	register.Sign(posting, testRelay, testChannel)
	known := someStatement()
	open := Open{Lineage: fill16(1), After: 2, Window: 3}
	open.Sign(mailbox, testRelay, testChannel, testNonce)
	openKnown := Open{Lineage: fill16(1), After: 2, Window: 3, Known: &known}
	openKnown.Sign(mailbox, testRelay, testChannel, testNonce)
	post := Post{
		PostID: fill16(1), Hint: [8]byte{2}, Nonce: [24]byte{3}, Fanout: fill32(4),
		Exceptions: broadcast.Exceptions{{Index: 0, Class: broadcast.Answering}}, Envelope: []byte{5}, Slots: []byte{6},
	}
	post.Sign(posting, testRelay, testChannel, post.Digest())
	only := PostDigest{PostID: fill16(1), Hint: [8]byte{2}, Nonce: [24]byte{3}, Sealed: [48]byte{4}}
	only.Sign(posting, testRelay, testChannel, only.Digest())
	put := BoardPut{PostID: fill16(1), Name: fill32(2), Version: 3, Value: []byte{4}}
	put.SignOwner(owner, testRelay, testChannel)
	put.Sign(posting, testRelay, testChannel)
	info := InfoIs{Name: "n"}
	info.Sign(operator, testRelay)

	postDigest, onlyDigest, putDigest, value := post.Digest(), only.Digest(), put.Digest(), crossverify.ValueDigest([]byte{4})
	openParts := func(known []byte) [][]byte {
		id := MailboxOf(testRelay, testChannel, mailbox.Public())
		return [][]byte{relay, channel, testNonce[:], id[:], fill(1, 16), wire.U64(2), wire.U64(3), known}
	}
	verifyOpen := func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
		return m.(Open).Verify(keys.Ed25519, mailbox.Public(), r, c, testNonce)
	}
	const putSize = 16 + 32 + 8 + 4 + 1
	return []signed{
		{
			"create", create,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(Create).Verify(keys.Ed25519, r, c)
			},
			[][2]int{{0, 16 + 4 + 1}},
			"parallax/1/create", [][]byte{relay, channel, fill(3, 32)}, create.Signature[:], admin.Public(),
		},
		{
			"grant", grant,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(Grant).Verify(keys.Ed25519, r, c)
			},
			[][2]int{{0, 16}},
			"parallax/1/grant",
			[][]byte{relay, channel, fill(2, 32), wire.U64(3), wire.U64(4), wire.U64(5), wire.U64(1)},
			grant.Signature[:], admin.Public(),
		},
		{
			"rotate", rotate,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(Rotate).Verify(keys.Ed25519, r, c)
			},
			[][2]int{{0, 16}},
			"parallax/1/rotate",
			[][]byte{
				relay, channel, wire.U64(2), fill(3, 32),
				slices.Concat([]byte{2}, fill(4, 32), []byte{1}, fill(5, 32), []byte{2}), slices.Concat([]byte{0, 0, 0, 1}, fill(6, 16)),
			},
			rotate.Signature[:], admin.Public(),
		},
		{
			"register", register,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(Register).Verify(keys.Ed25519, r, c)
			},
			nil, "parallax/1/register", [][]byte{relay, channel, fill(1, 32)}, register.Signature[:], posting.Public(),
		},
		{"open", open, verifyOpen, nil, "parallax/1/open", openParts(nil), open.Signature[:], mailbox.Public()},
		{"open with known", openKnown, verifyOpen, nil, "parallax/1/open", openParts(known.Append(nil)), openKnown.Signature[:], mailbox.Public()},
		{
			"post", post,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				p := m.(Post)
				return p.Verify(keys.Ed25519, posting.Public(), r, c, p.Digest())
			},
			// The list is bound by its hash, which the channel checks.
			[][2]int{{16 + 8 + 24 + 32, 16 + 8 + 24 + 32 + 4}},
			"parallax/1/post", [][]byte{relay, channel, fill(1, 16), postDigest[:]}, post.Signature[:], posting.Public(),
		},
		{
			"post digest", only,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				p := m.(PostDigest)
				return p.Verify(keys.Ed25519, posting.Public(), r, c, p.Digest())
			},
			nil, "parallax/1/post", [][]byte{relay, channel, fill(1, 16), onlyDigest[:]}, only.Signature[:], posting.Public(),
		},
		{
			"board put, capability", put,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(BoardPut).Verify(keys.Ed25519, r, c)
			},
			[][2]int{{putSize, putSize + 32 + 64}},
			"parallax/1/post", [][]byte{relay, channel, fill(1, 16), putDigest[:]}, put.Signature[:], posting.Public(),
		},
		{
			"board put, owner", put,
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(BoardPut).VerifyOwner(keys.Ed25519, r, c)
			},
			[][2]int{{0, 16}, {putSize + 32 + 64, putSize + 2*(32+64)}},
			"parallax/1/board/put", [][]byte{relay, channel, fill(2, 32), wire.U64(3), value[:]}, put.OwnerSignature[:], owner.Public(),
		},
		{
			"admit, capability", Admit{put},
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return m.(Admit).Verify(keys.Ed25519, r, c)
			},
			[][2]int{{putSize, putSize + 32 + 64}},
			"parallax/1/post", [][]byte{relay, channel, fill(1, 16), putDigest[:]}, put.Signature[:], posting.Public(),
		},
		{
			"info", info,
			// The operator vouches for the relay, whatever channel asks.
			func(m Message, r keys.RelayPublic, c wire.ChannelID) bool {
				return c == testChannel && m.(InfoIs).Verify(keys.Ed25519, r)
			},
			[][2]int{{32, 32 + 4 + 1}},
			"parallax/1/operator", [][]byte{relay}, info.Signature[:], operator.Public(),
		},
	}
}

// Every signature is over the input that section 10 gives it.
func TestSignatureInputs(t *testing.T) {
	for _, s := range signedMessages() {
		if !s.verify(s.m, testRelay, testChannel) {
			t.Errorf("%s: its own signature is refused", s.name)
		}
		if !keys.Ed25519(s.key, wire.Input(s.tag, s.parts...), s.sig) {
			t.Errorf("%s: not over %s", s.name, s.tag)
		}
	}
}

// Every bit that a signature covers counts, the channel and the relay too.
func TestSignaturesRefused(t *testing.T) {
	otherRelay, otherChannel := testRelay, testChannel
	otherRelay[0] ^= 1
	otherChannel[0] ^= 1
	for _, s := range signedMessages() {
		if s.verify(s.m, otherRelay, testChannel) {
			t.Errorf("%s: holds on another relay", s.name)
		}
		if s.verify(s.m, testRelay, otherChannel) {
			t.Errorf("%s: holds in another channel", s.name)
		}
		f := Encode(s.m)
		for i := range f.Body {
			bad := bytes.Clone(f.Body)
			bad[i] ^= 1 << (i % 8)
			m, err := Parse(broadcast.Frame{Type: f.Type, Body: bad})
			if err != nil {
				continue
			}
			free := false
			for _, r := range s.free {
				free = free || (i >= r[0] && i < r[1])
			}
			if got := s.verify(m, testRelay, testChannel); got != free {
				t.Errorf("%s: byte %d of %d changed, verifies: %v", s.name, i, len(bad), got)
			}
		}
	}
}

func TestOpenNeedsItsNonceAndKey(t *testing.T) {
	mailbox := new(keys.MailboxPrivate).FromSeed(fill32(1))
	var m Open
	m.Sign(mailbox, testRelay, testChannel, testNonce)
	if m.Verify(keys.Ed25519, mailbox.Public(), testRelay, testChannel, Nonce{}) {
		t.Error("holds on another link")
	}
	if m.Verify(keys.Ed25519, new(keys.MailboxPrivate).FromSeed(fill32(2)).Public(), testRelay, testChannel, testNonce) {
		t.Error("holds under another mailbox key")
	}
	// Another mailbox's id under a key of one's own.
	m.Mailbox = MailboxOf(testRelay, testChannel, new(keys.MailboxPrivate).FromSeed(fill32(2)).Public())
	m.Signature = Signature(mailbox.Sign(tagOpen, m.parts(&testRelay, &testChannel, &testNonce)...))
	if m.Verify(keys.Ed25519, mailbox.Public(), testRelay, testChannel, testNonce) {
		t.Error("opens another's mailbox")
	}
}

// Ed25519 is deterministic, so the signatures themselves are goldens.
func TestSignatureGoldens(t *testing.T) {
	for _, s := range signedMessages() {
		if got := hex.EncodeToString(s.sig[:16]); got != signatureGoldens[s.name] {
			t.Errorf("%s: %q", s.name, got)
		}
	}
}

// Digest is what a statement signs, computed alike by sender, relay and reader.
func TestDigests(t *testing.T) {
	post := Post{Hint: [8]byte{1}, Nonce: [24]byte{2}, Fanout: fill32(3), Envelope: []byte{4}, Slots: fill(5, 136), Exceptions: broadcast.Exceptions{{Index: 0, Class: 1}}}
	outer := wire.Hash("parallax/1/outer", post.Hint[:], post.Nonce[:], post.Envelope)
	slots := wire.Hash("parallax/1/slots", post.Fanout[:], []byte{0, 1, 0, 0, 1}, post.Slots)
	want := wire.Hash("parallax/1/entry/bundle", outer[:], slots[:])
	if post.Digest() != want {
		t.Error("post")
	}
	if (Deliver{Slots: slots, Hint: post.Hint, Nonce: post.Nonce, Envelope: post.Envelope}).Digest() != want {
		t.Error("deliver")
	}
	only := PostDigest{PostID: fill16(9), Hint: [8]byte{1}, Nonce: [24]byte{2}, Sealed: [48]byte{3}}
	want = wire.Hash("parallax/1/entry/digest", only.Hint[:], only.Nonce[:], only.Sealed[:])
	if only.Digest() != want || (DeliverDigest{N: 4, Hint: only.Hint, Nonce: only.Nonce, Sealed: only.Sealed}).Digest() != want {
		t.Error("digest")
	}
	put := BoardPut{PostID: fill16(9), Name: fill32(1), Version: 2, Value: []byte{3}}
	value := wire.Hash("parallax/1/board/value", put.Value)
	want = wire.Hash("parallax/1/entry/board", put.Name[:], wire.U64(2), value[:])
	if put.Digest() != want || (Entry{N: 4, BoardEntry: BoardEntry{put.Name, 2, put.Value}}).Digest() != want {
		t.Error("board write")
	}
	create, grant, rotate := Create{Token: []byte{1}}, Grant{Uses: 1}, Rotate{Rotation: 1}
	if create.Digest() != wire.Hash("parallax/1/entry/grant", create.Append(nil)) {
		t.Error("create")
	}
	if grant.Digest() != wire.Hash("parallax/1/entry/grant", grant.Append(nil)) {
		t.Error("grant")
	}
	if rotate.Digest() != wire.Hash("parallax/1/entry/grant", rotate.Append(nil)) {
		t.Error("rotate")
	}
}

// What a relay signs survives its frame.
func TestOpenedAndTrimmed(t *testing.T) {
	key := new(keys.RelayPrivate).FromSeed(fill32(0x51))
	for _, shown := range []crossverify.Position{{}, {Lineage: fill16(1), N: 2, H: fill32(3)}} {
		now := crossverify.SignStatement(key, testChannel, fill16(4), 5, fill32(6), fill32(7), fill32(8))
		o := crossverify.SignOpened(key, testChannel, testNonce, shown, now.Lineage, now.N, now.H)
		m, err := Parse(Encode(OpenedFrame(now, o, 0)))
		if err != nil {
			t.Fatal(err)
		}
		got := m.(Opened).Signed(testNonce)
		if got != o || !got.Verify(keys.Ed25519) {
			t.Errorf("shown %+v: %+v", shown, got)
		}
		if m.(Opened).Signed(Nonce{}).Verify(keys.Ed25519) {
			t.Error("holds on another link")
		}
	}
	s := crossverify.SignTrimmed(key, testChannel, fill16(1), 2, fill32(3))
	m, err := Parse(Encode(TrimmedFrame(s)))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(Trimmed).Signed(testRelay, testChannel); got != s || !got.Verify(keys.Ed25519) {
		t.Errorf("%+v", got)
	}
}

// signatureGoldens are the first 16 bytes of each signature.
var signatureGoldens = map[string]string{
	"create":                "4d504a3e19fefbea374aa1559e625ff3",
	"grant":                 "1cad844b39b183ba227a038003311785",
	"rotate":                "51f7d3428e3bd270d1fddbc26a5986f2",
	"register":              "bf7be832486b32003d09b1e6b74238bd",
	"open":                  "d4f9c97460bdf8b262acd6af00c44e5b",
	"open with known":       "1fab3d68cfc8f6bd087dfd2317dd24c8",
	"post":                  "df2a9cd4421d021c85c1e80a5f913a97",
	"post digest":           "e2a1f5c4c9542e70561e0c1fe6b9007f",
	"board put, capability": "8e248380dc0f2154d2eb3d90b208e949",
	"board put, owner":      "f4420fef617b87c2d939be3124eda397",
	"admit, capability":     "8e248380dc0f2154d2eb3d90b208e949",
	"info":                  "4946298d819abb784d2dabcf72d0342a",
}
