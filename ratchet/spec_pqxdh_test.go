package ratchet

import (
	"bytes"
	"crypto/mlkem"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// One test for each sentence of Signal's PQXDH specification, revision 3, that
// binds this package, named by its section. Sentences without a test:
//
//	2.1  sets and names of curve and KEM in info  one suite for each version; the tag's number is it
//	2.1  XEdDSA; 2.4, 4.5 signatures of prekeys   announcements: Ed25519 over all of them, checked by broadcast/member
//	2.2  encodings of curve and KEM keys          fixed sizes, each with its length in T: no two encodings meet
//	2.3  roles of the server                      relays: broadcast/relay
//	2.4, 2.5, 3.2 to 3.4 one-time prekeys         none are published: last-resort prekeys only (design.md section 4)
//	2.5, 3.2 signed last-resort KEM prekey        announcements, see 2.1
//	3.2  when to publish and replace prekeys      broadcast/member; that erased ones refuse is tested under 3.4
//	3.3  fetching a bundle; verify or abort       broadcast/member: Prekeys come checked
//	3.3  IK_A in the initial message              the envelope names the seat, the announcement its key; both are in T
//	3.3  every byte of the initial message        TestEveryByteOfAHelloCounts
//	3.4  delete one-time keys after use           none
//	4.1  comparing identity keys                  code_test.go
//	4.6  how often keys should change             broadcast/member
//	4.8  active quantum adversaries               not covered, and the package's documentation says so
//	4.9  server trust                             crossverify; path-mixed first contact in mix_test.go
//	4.10 identity binding                         tested under 3.3: both seats are in T
//	4.11 quality of randomness                    entropy is the caller's; one that ends is an error, tested below

func TestPQXDH_2_1_InfoIdentifiesTheApplication(t *testing.T) {
	tags := []string{
		tagStart, tagFirst, tagPaths, tagAnswer, tagMixInitiator, tagMixResponder, tagShareInitiator, tagShareResponder,
		tagHeaderInitiator, tagHeaderResponder, tagRoot, tagGroupCode,
	}
	seen := map[string]bool{}
	for _, tag := range tags {
		if len(tag) < 8 || !strings.HasPrefix(tag, "parallax/1/") || strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("tag %q: not ASCII of 8 bytes at least that names the application and its version", tag)
		}
		if seen[tag] {
			t.Errorf("tag %q has two uses", tag)
		}
		seen[tag] = true
	}
}

// KDF is HKDF with a salt of zeros over 32 bytes of 0xff, then the key material
// in the order of section 3.3.
func TestPQXDH_2_2_KDF(t *testing.T) {
	r := newStream("kdf")
	in := [4][32]byte{r.take32(), r.take32(), r.take32(), r.take32()}
	agreed := func(order ...int) []byte {
		var c [4][]byte
		for i, from := range order {
			c[i] = bytes.Clone(in[from][:])
		}
		out := keyAgreement(c[0], c[1], c[2], c[3])
		for i := range c {
			if !bytes.Equal(c[i], make([]byte, 32)) {
				t.Errorf("secret %d is not erased (section 3.3)", i)
			}
		}
		return out[:]
	}
	sk := agreed(0, 1, 2, 3)
	if want := refSK0(in[0][:], in[1][:], in[2][:], in[3][:]); len(sk) != 32 || !bytes.Equal(sk, want) {
		t.Fatalf("SK = %x, want %x", sk, want)
	}
	for _, order := range [][]int{{1, 0, 2, 3}, {0, 2, 1, 3}, {0, 1, 3, 2}} {
		if bytes.Equal(agreed(order...), sk) {
			t.Errorf("order %v gives the same SK", order)
		}
	}
	for i := range in {
		in[i][31] ^= 1
		if bytes.Equal(agreed(0, 1, 2, 3), sk) {
			t.Errorf("secret %d does not count", i)
		}
		in[i][31] ^= 1
	}
}

func TestPQXDH_2_4_EachRunHasAFreshEphemeralKey(t *testing.T) {
	_, h := initiateMixed("run", testA, testB, testPaths(1, 1))
	r := newStream("another run")
	first := map[[32]byte]bool{[32]byte(h.part[:]): true}
	for i := range 5 {
		s, _, part, err := Initiate(r, r, contact(testA, testB), &testB.pre)
		must(err)
		if ek := [32]byte(part[:]); first[ek] || first[s.own] || ek == s.own {
			t.Fatalf("run %d: the ephemeral or the ratchet key was used before", i)
		}
		first[[32]byte(part[:])], first[s.own] = true, true
		if bytes.Contains(part[:], s.own[:]) {
			t.Fatal("the handshake part names the ratchet key in clear")
		}
	}
}

// What Alice computes is DH1 to DH3 and SS of the right keys: a party that
// lacks one of Bob's three private keys, or holds another, has another SK.
func TestPQXDH_3_3_EverySecretOfBobIsNeeded(t *testing.T) {
	other := newEnd("another b", 9)
	for name, change := range map[string]func(*Contact, *PrekeysPrivate){
		"nothing": func(*Contact, *PrekeysPrivate) {},
		"identity key": func(c *Contact, _ *PrekeysPrivate) {
			c.Identity, c.Self.Identity = other.identity, other.party.Identity
		},
		"prekey":     func(_ *Contact, p *PrekeysPrivate) { p.Key = other.own.Key },
		"ML-KEM key": func(_ *Contact, p *PrekeysPrivate) { p.KEM = other.own.KEM },
	} {
		a := &side{rand: newStream("each")}
		s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
		must(err)
		a.s, a.chain = s, chain
		c, own := contact(testB, testA), testB.own
		change(c, &own)
		b := &side{rand: newStream("each b")}
		b.s, err = Accept(c, []PrekeysPrivate{own}, part[:])
		must(err)
		if err := b.open(a.seal()); (err == nil) != (name == "nothing") {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// Each of the four secrets enters what Bob accepts, also where all the rest and
// T are right.
func TestPQXDH_4_7_AllOfTheKeyMaterialIsNeeded(t *testing.T) {
	for lacks := -1; lacks < 4; lacks++ {
		ek := newStream("lacks").take32()
		kem, err := mlkem.NewEncapsulationKey768(testB.pre.KEM[:])
		must(err)
		ss, ct := newStream("lacks kem").Encapsulate(kem)
		secrets := [][]byte{
			refDH(testA.identity.Seed(), testB.pre.Key[:]), refDH(ek, testB.party.Identity[:]), refDH(ek, testB.pre.Key[:]), ss,
		}
		if lacks >= 0 {
			secrets[lacks] = make([]byte, 32)
		}
		p := &refProposal{
			rand: newStream("lacks r"), dhs: newStream("lacks d").take32(),
			t:   refTranscript(testA, testB, refPublic(ek), ct, refPaths),
			sk0: refSK0(secrets[0], secrets[1], secrets[2], secrets[3]),
		}
		part := cat(refPublic(ek), ct, be(4, uint64(testB.pre.ID)), be(4, uint64(testB.pre.KEMID)))
		slot := p.session(testA, testB, refUnmixed).seal(make([]byte, 32), make([]byte, 32))
		s, err := Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part)
		must(err)
		_, err = s.Open(testNow, newStream("x"), new(SendChain), slot, wire.Digest{})
		if lacks < 0 && err != nil || lacks >= 0 && !errors.Is(err, ErrAuth) {
			t.Errorf("without secret %d: %v", lacks, err)
		}
	}
}

func TestPQXDH_3_3_TheInitialMessageHoldsEphemeralKeyCiphertextAndIds(t *testing.T) {
	a := newStream("hello")
	ek := newStream("hello").take32()
	_, _, part, err := Initiate(a, a, contact(testA, testB), &testB.pre)
	must(err)
	ss, err := testB.own.KEM.Decapsulate(part[32:1120])
	if err != nil || len(ss) != 32 {
		t.Fatal("no ML-KEM ciphertext after the ephemeral key")
	}
	if !bytes.Equal(part[:32], refPublic(ek)) || binary.BigEndian.Uint32(part[1120:]) != testB.pre.ID || binary.BigEndian.Uint32(part[1124:]) != testB.pre.KEMID {
		t.Fatal("ephemeral key or prekey ids are not where they belong")
	}
	again, err := parseHandshake(part[:])
	if err != nil || again.encode() != part {
		t.Fatalf("the handshake part does not come back: %v", err)
	}
}

// After SK is computed the ephemeral private key, SK and what they were made of
// are gone: nothing of them is in what a member stores.
func TestPQXDH_3_3_NothingOfTheKeyAgreementIsStored(t *testing.T) {
	a, b := start("erase")
	ek := newStream("erase a").take32()
	_, sk0 := refAgree(testA, testB, refPartOf("erase a"), refPaths)
	identity, prekey := testA.identity.Seed(), testB.own.Key.Seed()
	identityB := testB.identity.Seed()
	for name, record := range map[string][]byte{"initiator": a.record(), "responder": b.record()} {
		for what, secret := range map[string][]byte{
			"ephemeral private key": ek[:], "SK0": sk0,
			"own identity key": identity[:], "peer's identity key": identityB[:], "prekey": prekey[:],
		} {
			if bytes.Contains(record, secret) {
				t.Errorf("the %s's record holds the %s", name, what)
			}
		}
	}
}

// The mixed root key and the header keys are made of SK0 and m, and both are
// erased where they lie. A provisional responder does not copy its prekey.
func TestPQXDH_3_3_SKIsErasedWhenItWasUsed(t *testing.T) {
	sk, m := [32]byte{5}, [32]byte{6}
	begin(testA.party.Seat, testB.party.Seat, true, wire.Digest{}, &sk, &m)
	if sk != [32]byte{} || m != [32]byte{} {
		t.Error("SK0 or m outlives the start")
	}
	_, b := startUnanswered("erase")
	if b.s.seed != [32]byte{} {
		t.Error("the prekey was copied into the session")
	}
}

// refPartOf is the handshake part that startUnanswered makes on a stream.
func refPartOf(stream string) []byte {
	_, part := refInitiate(newStream(stream), testA, testB)
	return part
}

// The initial ciphertext is an AEAD under a key that SK gives and with AD.
func TestPQXDH_3_3_TheInitialCiphertextIsSealedUnderSKAndAD(t *testing.T) {
	a, _ := startUnanswered("initial")
	l := a.seal()
	r, _ := refInitiate(newStream("initial a"), testA, testB)
	h := refMask(l.slot[:40], r.hkSend, l.slot[72:])
	aead, err := chacha20poly1305.New(refHMAC(r.cks, []byte{1}))
	must(err)
	ad := refAD(r.t, testA.party.Seat[:], testB.party.Seat[:], l.d[:], h)
	plain, err := aead.Open(nil, make([]byte, 12), l.slot[40:], ad)
	if err != nil || !bytes.Equal(plain, l.key.Expose()) {
		t.Fatalf("message 0 does not open by hand: %v", err)
	}
	if _, err := aead.Open(nil, make([]byte, 12), l.slot[40:], nil); err == nil {
		t.Fatal("it opens without AD")
	}
}

// A KEM whose ciphertext did not bind its key would let a third key share SS;
// ML-KEM hashes the key into SS, and the announcement's digest is in T.
func TestPQXDH_3_3_TheKEMKeyIsBound(t *testing.T) {
	other := newEnd("another b", 9)
	pre := testB.pre
	pre.KEM = other.pre.KEM
	a := &side{rand: newStream("bound")}
	s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &pre)
	must(err)
	a.s, a.chain = s, chain
	b := &side{rand: newStream("bound b")}
	b.s, err = Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part[:])
	must(err)
	if err := b.open(a.seal()); !errors.Is(err, ErrAuth) {
		t.Fatalf("made for another ML-KEM key: %v", err)
	}
}

// A hello that is replayed gives the same SK, and so the same first chain of
// the initiator; what Bob sends under must differ all the same.
func TestPQXDH_4_3_BobMixesFreshInputBeforeHeSends(t *testing.T) {
	a := &side{rand: newStream("replay")}
	s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
	must(err)
	a.s, a.chain = s, chain
	zero := a.seal()
	accept := func(seed string) *side {
		b := &side{rand: newStream(seed)}
		b.s, err = Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part[:])
		must(err)
		must(b.open(zero))
		return b
	}
	b, c := accept("first"), accept("second")
	if b.s.root == c.s.root || b.chain.Key == c.chain.Key || b.s.own == c.s.own || b.s.own == keys.RatchetPublic(testB.pre.Key) {
		t.Fatal("Bob sends from keys that a replay gives him again")
	}
	if b.s.Transcript() != c.s.Transcript() {
		t.Fatal("a replay is not recognised by its transcript")
	}
}

// Deniability: whoever holds Bob's private keys can make a hello and slots that
// Bob's own end takes for Alice's, so neither convinces a third person.
func TestPQXDH_4_4_BobCanMakeAlicesMessages(t *testing.T) {
	ek, dhs := newStream("deny").take32(), newStream("deny dhs").take32()
	spk, ik := testB.own.Key.Seed(), testB.identity.Seed()
	kem, err := mlkem.NewEncapsulationKey768(testB.pre.KEM[:])
	must(err)
	ss, ct := newStream("deny kem").Encapsulate(kem)
	p := &refProposal{
		rand: newStream("deny r"), dhs: dhs, t: refTranscript(testA, testB, refPublic(ek), ct, refPaths),
		sk0: refSK0(refDH(spk, testA.party.Identity[:]), refDH(ik, refPublic(ek)), refDH(spk, refPublic(ek)), ss),
	}
	part := cat(refPublic(ek), ct, be(4, uint64(testB.pre.ID)), be(4, uint64(testB.pre.KEMID)))
	content, d := bytes.Repeat([]byte{7}, 32), wire.Digest{3}
	slot := p.session(testA, testB, refUnmixed).seal(content, d[:])
	s, err := Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, part)
	must(err)
	key, err := s.Open(testNow, newStream("x"), new(SendChain), slot, d)
	if err != nil || !bytes.Equal(key.Expose(), content) {
		t.Fatalf("a message of Alice that Bob made: %v", err)
	}
}

func TestPQXDH_3_3_BothSidesCalculateTheSameSecrets(t *testing.T) {
	a, b := startUnanswered("agree")
	if a.s.Transcript() != b.s.Transcript() || a.s.headerSecret != b.s.headerSecret {
		t.Fatal("transcripts or header secrets differ")
	}
	if a.s.sendHeader != b.s.recvHeader || a.s.recvHeader != b.s.sendHeader || a.s.sendHeader == a.s.recvHeader {
		t.Fatal("header keys are not one for each direction")
	}
	if !a.s.Initiator() || b.s.Initiator() || a.s.Self() != b.s.Peer() || a.s.Peer() != b.s.Self() {
		t.Fatal("roles or seats are mixed up")
	}
}

func TestPQXDH_3_4_BobLoadsTheKeysNamedByTheirIds(t *testing.T) {
	part := hello(t)
	old := newEnd("older", 5)
	if _, err := Accept(contact(testB, testA), []PrekeysPrivate{old.own, testB.own}, part); err != nil {
		t.Fatalf("an earlier prekey in front: %v", err)
	}
	mixed := testB.own
	mixed.KEMID++
	for name, own := range map[string][]PrekeysPrivate{
		"none": nil, "another": {old.own}, "another ML-KEM id": {mixed}, "erased": {{ID: testB.own.ID, KEMID: testB.own.KEMID}},
	} {
		if s, err := Accept(contact(testB, testA), own, part); !errors.Is(err, ErrPrekey) || s != nil {
			t.Errorf("%s: %v, want ErrPrekey", name, err)
		}
	}
	if spk, kem, err := HandshakeIDs(part); err != nil || spk != testB.pre.ID || kem != testB.pre.KEMID {
		t.Errorf("HandshakeIDs = %d, %d, %v", spk, kem, err)
	}
}

func TestPQXDH_3_4_IfTheInitialMessageDoesNotDecryptBobAborts(t *testing.T) {
	a, b := startUnanswered("abort")
	l := a.seal()
	l.slot[50] ^= 1
	if err := b.open(l); !errors.Is(err, ErrAuth) {
		t.Fatalf("altered message 0: %v", err)
	}
	if _, err := b.s.MarshalBinary(); !errors.Is(err, ErrProvisional) {
		t.Fatalf("a provisional session has a record: %v", err)
	}
	if b.s.CanSend(b.chain) || b.s.Confirmed() {
		t.Fatal("a provisional session sends")
	}
}

// The specification's AD holds both identities; here T does, and with them
// everything that either side took from its own roster.
func TestPQXDH_3_3_EveryPartOfTheContactIsAuthenticated(t *testing.T) {
	for name, change := range map[string]func(*Contact){
		"group":                     func(c *Contact) { c.Group[3] ^= 1 },
		"own seat":                  func(c *Contact) { c.Self.Seat[3] ^= 1 },
		"peer's seat":               func(c *Contact) { c.Peer.Seat[3] ^= 1 },
		"own announcement":          func(c *Contact) { c.Self.Announcement[3] ^= 1 },
		"peer's announcement":       func(c *Contact) { c.Peer.Announcement[3] ^= 1 },
		"peer's identity":           func(c *Contact) { c.Peer.Identity = newEnd("other", 1).party.Identity },
		"paths policy":              func(c *Contact) { c.Paths[3] ^= 1 },
		"attempt":                   func(c *Contact) { c.Attempt++ },
		"own identity, as restored": func(c *Contact) { e := newEnd("re", 1); c.Identity, c.Self.Identity = e.identity, e.party.Identity },
	} {
		a := &side{rand: newStream("bind")}
		s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
		must(err)
		a.s, a.chain = s, chain
		c := contact(testB, testA)
		change(c)
		b := &side{rand: newStream("bind b")}
		if b.s, err = Accept(c, []PrekeysPrivate{testB.own}, part[:]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := b.open(a.seal()); !errors.Is(err, ErrAuth) {
			t.Errorf("%s differs: %v, want ErrAuth", name, err)
		}
		if b.s.Transcript() == a.s.Transcript() {
			t.Errorf("%s differs and the transcripts agree", name)
		}
	}
}

func TestPQXDH_4_2_AReplayedHelloHasTheSameTranscript(t *testing.T) {
	part := hello(t)
	c := contact(testB, testA)
	x, err := HandshakeTranscript(c, part)
	must(err)
	s, err := Accept(c, []PrekeysPrivate{testB.own}, part)
	must(err)
	if x != s.Transcript() {
		t.Fatal("HandshakeTranscript is not that of Accept")
	}
	if _, err := HandshakeTranscript(c, part[:HandshakeSize-1]); !errors.Is(err, wire.ErrShort) {
		t.Fatalf("a cut handshake part: %v", err)
	}
}

// smallOrder are points of small order (RFC 7748 section 6.1).
var smallOrder = [][32]byte{
	{}, {1},
	{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
}

func TestRFC7748_6_1_SmallOrderPointsAreRefused(t *testing.T) {
	part := hello(t)
	for _, p := range smallOrder {
		pre := testB.pre
		pre.Key = p
		r := newStream("x")
		if _, _, _, err := Initiate(r, r, contact(testA, testB), &pre); !errors.Is(err, keys.ErrSmallOrder) {
			t.Errorf("prekey %x: %v", p, err)
		}
		c := contact(testA, testB)
		c.Peer.Identity = p
		if _, _, _, err := Initiate(r, r, c, &testB.pre); !errors.Is(err, keys.ErrSmallOrder) {
			t.Errorf("responder's identity %x: %v", p, err)
		}
		c = contact(testB, testA)
		c.Peer.Identity = p
		if _, err := Accept(c, []PrekeysPrivate{testB.own}, part); !errors.Is(err, keys.ErrSmallOrder) {
			t.Errorf("initiator's identity %x: %v", p, err)
		}
		altered := bytes.Clone(part)
		copy(altered, p[:])
		if _, err := Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, altered); !errors.Is(err, keys.ErrSmallOrder) {
			t.Errorf("ephemeral key %x: %v", p, err)
		}
		_, b := start("small order")
		unchanged(t, b, func() {
			if err := b.open(forge(b, header{ratchet: p})); !errors.Is(err, keys.ErrSmallOrder) {
				t.Errorf("ratchet key %x: %v", p, err)
			}
		})
	}
}

func TestStartRefusesWhatNoHonestCallerMakes(t *testing.T) {
	r := newStream("x")
	c := contact(testA, testB)
	c.Peer.Seat = c.Self.Seat
	if _, _, _, err := Initiate(r, r, c, &testB.pre); !errors.Is(err, ErrSelf) {
		t.Errorf("one seat: %v", err)
	}
	c = contact(testA, testB)
	c.Identity = testB.identity
	if _, _, _, err := Initiate(r, r, c, &testB.pre); !errors.Is(err, ErrIdentity) {
		t.Errorf("another's identity key: %v", err)
	}
	c.Identity = keys.IdentityPrivate{}
	if _, err := Accept(c, nil, nil); !errors.Is(err, ErrIdentity) {
		t.Errorf("no identity key: %v", err)
	}
	pre := testB.pre
	for i := range pre.KEM {
		pre.KEM[i] = 0xff
	}
	if _, _, _, err := Initiate(r, r, contact(testA, testB), &pre); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("no ML-KEM key: %v", err)
	}
	if _, _, _, err := Initiate(bytes.NewReader(make([]byte, 40)), r, contact(testA, testB), &testB.pre); err == nil {
		t.Error("entropy that ends: no error")
	}
	part := hello(t)
	if _, err := Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, append(part, 0)); !errors.Is(err, wire.ErrTrailing) {
		t.Errorf("a longer handshake part: %v", err)
	}
}

func hello(t *testing.T) []byte {
	t.Helper()
	r := newStream("hello")
	_, _, part, err := Initiate(r, r, contact(testA, testB), &testB.pre)
	must(err)
	return part[:]
}
