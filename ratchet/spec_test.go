package ratchet

import (
	"bytes"
	"errors"
	"math/bits"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// One test for each sentence of the specifications that this package can break,
// named by its section. PQXDH: revision 3; DR: the Double Ratchet, revision 4.

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

func TestPQXDH_3_3_EveryByteOfTheHandshakeCounts(t *testing.T) {
	a := &side{rand: newStream("hello bits")}
	s, chain, part, err := Initiate(a.rand, a.rand, contact(testA, testB), &testB.pre)
	must(err)
	a.s, a.chain = s, chain
	l := a.seal()
	for i := 0; i < HandshakeSize; i += 7 {
		altered := part
		altered[i] ^= 1 << (i % 8)
		b := &side{rand: newStream("x")}
		b.s, err = Accept(contact(testB, testA), []PrekeysPrivate{testB.own}, altered[:])
		if i >= HandshakeSize-8 {
			if !errors.Is(err, ErrPrekey) {
				t.Fatalf("byte %d: %v, want ErrPrekey", i, err)
			}
			continue
		}
		if err == nil {
			err = b.open(l)
		}
		if !errors.Is(err, ErrAuth) {
			t.Fatalf("byte %d altered: %v, want ErrAuth", i, err)
		}
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

func TestDR_2_2_EachMessageKeyIsUsedOnce(t *testing.T) {
	a, _ := start("once")
	seen := map[[32]byte]bool{}
	ck := a.chain.Key
	for range 100 {
		var mk [32]byte
		chainStep(&ck, &mk)
		if seen[mk] || seen[ck] {
			t.Fatal("a key came again")
		}
		seen[mk], seen[ck] = true, true
		a.seal()
		if a.chain.Key != ck {
			t.Fatal("Seal does not follow the chain")
		}
	}
}

func TestDR_2_3_EachReceivedRatchetKeyReplacesTheOwnPair(t *testing.T) {
	a, b := start("turn")
	for i := range 5 {
		before := a.s.own
		must(a.open(b.seal()))
		if a.s.own == before || a.chain.Generation != uint32(i)+2 || a.chain.N != 0 {
			t.Fatalf("answer %d did not turn the ratchet: generation %d, N %d", i, a.chain.Generation, a.chain.N)
		}
		before = a.s.own
		must(a.open(b.seal()))
		if a.s.own != before {
			t.Fatal("a second message of a chain turned the ratchet")
		}
		must(b.open(a.seal()))
	}
}

func TestDR_2_6_OutOfOrderMessagesAcrossADHStep(t *testing.T) {
	a, b := start("out of order")
	var late []letter
	for range 4 {
		late = append(late, a.seal()) // PN of the next generation counts these
	}
	must(a.open(b.seal()))
	newest := []letter{a.seal(), a.seal(), a.seal()}
	if a.s.pn != 5 {
		t.Fatalf("PN = %d, want 5: message 0 and four more", a.s.pn)
	}
	must(b.open(newest[2]))
	if b.s.Skipped() != 4+2 {
		t.Fatalf("%d keys kept, want 6: PN ends a chain exactly", b.s.Skipped())
	}
	for _, l := range []letter{late[3], newest[0], late[0], late[2], newest[1], late[1]} {
		must(b.open(l))
	}
	if b.s.Skipped() != 0 || len(b.s.skipped.chains) != 0 {
		t.Fatal("keys left that nothing will ask for")
	}
}

func TestDR_3_3_TheInitiatorSendsAtOnceTheResponderAfterMessage0(t *testing.T) {
	a, b := startUnanswered("init")
	if !a.s.CanSend(a.chain) || b.s.CanSend(b.chain) || a.chain.Generation != 1 || b.chain != (SendChain{}) {
		t.Fatal("who can send is wrong")
	}
	if a.s.remote != keys.RatchetPublic(testB.pre.Key) || b.s.own != a.s.remote {
		t.Fatal("the responder's first ratchet key is not its prekey")
	}
	a.seal()
	must(b.open(a.seal())) // any message of the first chain will do
	if !b.s.CanSend(b.chain) || b.chain.Generation != 1 || b.s.own == a.s.remote {
		t.Fatal("the responder has no chain of its own after the first Open")
	}
	if a.s.Confirmed() || b.s.Confirmed() {
		t.Fatal("confirmed too early")
	}
	must(a.open(b.seal()))
	if !a.s.Confirmed() || b.s.Confirmed() {
		t.Fatal("an answer confirms the initiator, and it alone")
	}
	must(b.open(a.seal()))
	if !b.s.Confirmed() {
		t.Fatal("the initiator's turned ratchet confirms the responder")
	}
}

func TestDR_3_4_SealAdvancesTheChainAndNothingElse(t *testing.T) {
	a, _ := start("seal")
	record, err := a.s.MarshalBinary()
	must(err)
	before := a.chain
	prefix := []byte("prefix")
	key := keys.NewSecret[keys.RoleContent]([32]byte{1})
	out := a.s.Seal(&a.chain, &key, wire.Digest{2}, prefix)
	if !bytes.HasPrefix(out, prefix) || len(out) != len(prefix)+SlotSize {
		t.Fatalf("Seal gave %d bytes", len(out))
	}
	after, err := a.s.MarshalBinary()
	must(err)
	if !bytes.Equal(record, after) || a.chain.N != before.N+1 || a.chain.Generation != before.Generation || a.chain.Key == before.Key {
		t.Fatal("Seal changed something else, or not its chain")
	}
}

func TestDR_3_5_AfterAnErrorNothingHasChanged(t *testing.T) {
	a, b := start("discard")
	must(a.open(b.seal()))
	a.seal()
	l := a.seal() // a DH step for b, with one message skipped
	unchanged(t, b, func() {
		for bit := range SlotSize * 8 {
			f := letter{slot: bytes.Clone(l.slot), d: l.d}
			f.slot[bit/8] ^= 1 << (bit % 8)
			if err := b.open(f); err == nil || !errors.Is(err, ErrAuth) && !errors.Is(err, ErrJump) {
				t.Fatalf("bit %d altered: %v", bit, err)
			}
		}
		empty := &side{s: b.s, chain: b.chain, rand: nil}
		if _, err := empty.s.Open(testNow, bytes.NewReader(make([]byte, 31)), &empty.chain, l.slot, l.d); err == nil {
			t.Fatal("a DH step without entropy")
		}
		for _, n := range []int{0, 40, SlotSize - 1, SlotSize + 1} {
			if err := b.open(letter{slot: make([]byte, n)}); !errors.Is(err, wire.ErrFormat) {
				t.Fatalf("slot of %d bytes: %v", n, err)
			}
		}
	})
	must(b.open(l))
	steady := a.seal()
	unchanged(t, b, func() {
		for bit := range SlotSize * 8 {
			f := letter{slot: bytes.Clone(steady.slot), d: steady.d}
			f.slot[bit/8] ^= 1 << (bit % 8)
			if b.open(f) == nil {
				t.Fatalf("bit %d altered and opened", bit)
			}
		}
	})
	must(b.open(steady))
}

func TestDR_3_5_ASkippedKeyIsDeletedWhenUsed(t *testing.T) {
	a, b := start("used")
	first, second := a.seal(), a.seal()
	must(b.open(second))
	unchanged(t, b, func() {
		f := letter{slot: bytes.Clone(first.slot), d: first.d}
		f.slot[70] ^= 1
		if err := b.open(f); !errors.Is(err, ErrAuth) {
			t.Fatalf("altered slot of a kept key: %v", err)
		}
	})
	must(b.open(first))
	for _, l := range []letter{first, second} {
		unchanged(t, b, func() {
			if err := b.open(l); !errors.Is(err, ErrDuplicate) {
				t.Fatalf("again: %v, want ErrDuplicate", err)
			}
		})
	}
}

func TestDR_3_5_ADuplicateOfAnOldChainIsRecognisedWhileItHasKeys(t *testing.T) {
	a, b := start("old duplicates")
	kept, opened := a.seal(), a.seal()
	must(b.open(opened))
	must(a.open(b.seal()))
	must(b.open(a.seal()))
	if err := b.open(opened); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("its chain has a key: %v, want ErrDuplicate", err)
	}
	must(b.open(kept))
	if err := b.open(opened); !errors.Is(err, ErrAuth) {
		t.Fatalf("its chain is forgotten: %v, want ErrAuth", err)
	}
}

func TestDR_8_1_RecordsForgetSentAndOpenedKeys(t *testing.T) {
	a, b := start("forget")
	must(a.open(b.seal()))
	initial := a.chain.Key
	a.seal()
	if !bytes.Contains(a.record(), initial[:]) {
		t.Fatal("the initial chain is not kept")
	}
	a.s.DropInitial()
	if bytes.Contains(a.record(), initial[:]) {
		t.Fatal("the initial chain is still in the record")
	}
	a.reopen()
	if !a.s.CanSend(a.chain) || a.s.CanSend(SendChain{}) {
		t.Fatal("after DropInitial the stored chain, and it alone, sends")
	}
	must(b.open(a.seal()))
}

func TestDR_8_4_SkippedKeysAreDeletedAfterATime(t *testing.T) {
	a, b := start("retention")
	var late []letter
	for i := range 6 {
		late = append(late, a.seal())
		l := a.seal()
		k, err := b.s.Open(testNow.Add(time.Duration(i)*time.Hour), b.rand, &b.chain, l.slot, l.d)
		must(err)
		if !k.Equal(&l.key) {
			t.Fatal("another key")
		}
		if i == 2 { // keys in two chains
			must(a.open(b.seal()))
		}
	}
	if b.s.Skipped() != 6 {
		t.Fatalf("%d keys kept, want 6", b.s.Skipped())
	}
	b.reopen() // the times survive
	if n := b.s.DropSkipped(testNow); n != 0 {
		t.Fatalf("%d dropped that were not old", n)
	}
	if n := b.s.DropSkipped(testNow.Add(2 * time.Hour)); n != 2 || b.s.Skipped() != 4 {
		t.Fatalf("%d dropped, %d left; want 2, 4", n, b.s.Skipped())
	}
	if n := b.s.DropOldest(2); n != 2 || b.s.Skipped() != 2 {
		t.Fatalf("%d dropped, %d left; want 2, 2", n, b.s.Skipped())
	}
	b.reopen()
	for i, l := range late {
		if err := b.open(l); (err == nil) != (i >= 4) {
			t.Errorf("late message %d: %v", i, err)
		}
	}
	if b.s.DropOldest(5) != 0 || b.s.DropSkipped(testNow.Add(99*time.Hour)) != 0 {
		t.Error("something dropped from nothing")
	}
}

func TestProtocol_5_2_ReadsAndWritesTheHeader(t *testing.T) {
	h := header{ratchet: keys.RatchetPublic{1, 2, 3}, n: 0x01020304, mixes: 0xfe, pn: 0xabcdef}
	b := h.encode()
	if decodeHeader(&b) != h || bits.OnesCount8(b[36]) != 7 || !bytes.Equal(b[32:], []byte{1, 2, 3, 4, 0xfe, 0xab, 0xcd, 0xef}) {
		t.Fatalf("header %x", b)
	}
	_, b2 := start("mixes")
	unchanged(t, b2, func() {
		if err := b2.open(forge(b2, header{ratchet: b2.s.remote, n: 1, mixes: 1})); !errors.Is(err, ErrAuth) {
			t.Fatalf("root mixes in an unmixed session: %v", err)
		}
	})
}

func TestProtocol_5_3_Sizes(t *testing.T) {
	if HandshakeSize != 1128 || ShareSize != 48 || SlotSize != 88 || HelloSlotSize != 1264 || AnsweringSlotSize != 136 || SendChainSize != 40 {
		t.Fatal("a size is not that of the specification")
	}
	a, b := start("sizes")
	must(a.open(b.seal()))
	must(b.open(a.seal()))
	if n := len(b.record()); n != 336+40 {
		t.Errorf("record and vector entry: %d bytes, want 376", n)
	}
}

func hello(t *testing.T) []byte {
	t.Helper()
	r := newStream("hello")
	_, _, part, err := Initiate(r, r, contact(testA, testB), &testB.pre)
	must(err)
	return part[:]
}
