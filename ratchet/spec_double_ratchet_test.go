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

// One test for each sentence of Signal's Double Ratchet specification, revision
// 4, that binds this package, named by its section, and for the sentences of
// docs/protocol.md section 5.2. Sentences without a test:
//
//	2.1  properties of KDF chains                 those of HMAC and HKDF with SHA-256; formulas under 7.2
//	3.3  Bob sends before Alice did               not offered; that he cannot is tested under 3.3
//	4    header keys that change with each step   replaced: the header is masked under one key a direction (protocol.md 5.2);
//	     4.1 trial decryption of headers          what the mask must do is tested under 4.1, the rest is not needed
//	5, 6 sparse post-quantum and triple ratchet   not used
//	7.2  AEAD of CBC and HMAC, or SIV             ChaCha20-Poly1305: a message key is used for one slot (2.2)
//	7.2  8 bytes of random in a recommended IV    zero nonce, as 3.1 allows where each key is used once
//	8.3  avoiding ratchet keys in clear           the mask, 4.1
//	8.5  deferring new ratchet keys               not done: a pair is drawn by the step that needs it
//	8.6  truncated tags                           none: 16 bytes, each bit of which is altered under 3.5
//	8.7  fingerprints of an implementation        every choice is fixed: the hashes of vectors_test.go, the limits under 3.1
//	8.8  choice of SCKA protocol                  none
//	8.11 harvest now, decrypt later               the start alone is hybrid, see PQXDH 4.7

func TestDR_2_3_EveryMessageCarriesTheCurrentRatchetKey(t *testing.T) {
	a, b := start("carried")
	for range 3 {
		for range 3 {
			l := a.seal()
			if h, _ := b.s.readHeader(l.slot); h.ratchet != a.s.own {
				t.Fatal("a message without its sender's ratchet key")
			}
			must(b.open(l))
		}
		must(a.open(b.seal()))
	}
}

// One end's sending chain is the other's receiving chain, and after each step
// the root keys agree up to the half step that one is ahead.
func TestDR_2_4_TheChainsOfBothEndsAgree(t *testing.T) {
	a, b := start("agree")
	seen := map[[32]byte]bool{}
	for i := range 6 {
		if b.s.recv != a.chain.Key || b.s.received != a.chain.N || b.s.remote != a.s.own {
			t.Fatalf("round %d: b's receiving chain is not a's sending chain", i)
		}
		dh, err := a.s.ratchetKey().DH(b.s.own)
		must(err)
		root, chain := a.s.root, b.s.initial
		next, got := rootStep(&root, dh)
		if i > 0 && (next != b.s.root || got != chain) {
			t.Fatalf("round %d: a's next root or receiving chain is not b's", i)
		}
		if seen[a.s.root] || seen[b.s.root] || seen[a.chain.Key] {
			t.Fatalf("round %d: a key came again", i)
		}
		seen[a.s.root], seen[b.s.root], seen[a.chain.Key] = true, true, true
		must(a.open(b.seal()))
		must(b.open(a.seal()))
	}
}

func TestDR_2_6_NCountsFromZeroAndPNThePreviousChain(t *testing.T) {
	a, b := startUnanswered("numbers")
	read := func(p *side, l letter, n, pn uint32) {
		t.Helper()
		if h, _ := p.s.readHeader(l.slot); h.n != n || h.pn != pn {
			t.Fatalf("N %d, PN %d; want %d, %d", h.n, h.pn, n, pn)
		}
		must(p.open(l))
	}
	for n := range uint32(3) {
		read(b, a.seal(), n, 0)
	}
	read(a, b.seal(), 0, 0)
	read(a, b.seal(), 1, 0)
	read(b, a.seal(), 0, 3)
	read(a, b.seal(), 0, 2)
	must(b.open(a.seal()))
	read(a, b.seal(), 0, 1)
}

// The step comes with whichever message of a chain comes first, and what N says
// was skipped before it is stored.
func TestDR_2_6_AnyMessageOfAChainBringsTheStep(t *testing.T) {
	a, b := start("any of a chain")
	must(a.open(b.seal()))
	first := a.seal()
	if h, _ := b.s.readHeader(first.slot); h.ratchet == b.s.remote {
		t.Fatal("the chain is not new: the test shows nothing")
	}
	must(b.open(a.seal()))
	if b.s.Skipped() != 1 || b.s.generation != 2 {
		t.Fatalf("%d keys kept in generation %d, want 1, 2", b.s.Skipped(), b.s.generation)
	}
	must(b.open(first))
}

// A PN below what came already skips nothing.
func TestDR_3_5_ASmallerPNSkipsNothing(t *testing.T) {
	a, b := start("small PN")
	for range 4 {
		must(b.open(a.seal()))
	}
	must(a.open(b.seal()))
	a.s.pn = 1 // a peer that miscounts: the header is authentic all the same
	must(b.open(a.seal()))
	if b.s.Skipped() != 0 {
		t.Fatalf("%d keys kept", b.s.Skipped())
	}
}

func TestDR_3_1_GenerateDHIsFreshEachTime(t *testing.T) {
	a, b := start("fresh")
	seen := map[keys.RatchetPublic]bool{keys.RatchetPublic(testB.pre.Key): true}
	for range 10 {
		for _, p := range []*side{a, b} {
			if seen[p.s.own] {
				t.Fatal("a ratchet key came again")
			}
			seen[p.s.own] = true
		}
		must(a.open(b.seal()))
		must(b.open(a.seal()))
	}
}

// CONCAT: what is authenticated parses in one way, since every part has its size.
func TestDR_3_1_AssociatedDataHoldsEveryPart(t *testing.T) {
	tr, sender, receiver, d := wire.Digest{1}, wire.Seat{2}, wire.Seat{3}, wire.Digest{4}
	h := [headerSize]byte{5}
	want := refAD(tr[:], sender[:], receiver[:], d[:], h[:])
	got := associatedData(tr, sender, receiver, d, &h, nil)
	if !bytes.Equal(got[:], want) {
		t.Fatalf("associated data %x, want %x", got, want)
	}
	if associatedData(tr, receiver, sender, d, &h, nil) == got {
		t.Error("the direction does not count")
	}
	for i := range headerSize {
		h[i] ^= 0x80
		if associatedData(tr, sender, receiver, d, &h, nil) == got {
			t.Errorf("byte %d of the header does not count", i)
		}
		h[i] ^= 0x80
	}
}

func TestDR_3_1_MaxSkipAndTheOtherLimits(t *testing.T) {
	// Fixed by design.md section 4: ends that differ in them lose messages.
	if MaxForwardJump != 25_000 || MaxSkipped != 2_000 || MaxChain != 1<<24-1 || MaxPaths != 16 {
		t.Fatal("a limit is not that of the design")
	}
}

func TestDR_3_2_EveryStateVariableSurvivesARestart(t *testing.T) {
	a, b := start("state")
	other, otherB := start("state")
	for i := range 8 {
		for _, p := range []*side{a, b} { // one pair restarts all the time, its twin never
			p.reopen()
		}
		skip, twinSkip := a.seal(), other.seal()
		l, twin := a.seal(), other.seal()
		if !bytes.Equal(l.slot, twin.slot) || !bytes.Equal(skip.slot, twinSkip.slot) {
			t.Fatalf("round %d: a restarted end seals other bytes", i)
		}
		must(b.open(l))
		must(otherB.open(twin))
		b.reopen()
		must(b.open(skip))
		must(otherB.open(twinSkip))
		back, twinBack := b.seal(), otherB.seal()
		if !bytes.Equal(back.slot, twinBack.slot) {
			t.Fatalf("round %d: a restarted end answers other bytes", i)
		}
		must(a.open(back))
		must(other.open(twinBack))
		if !bytes.Equal(a.record(), other.record()) || !bytes.Equal(b.record(), otherB.record()) {
			t.Fatalf("round %d: records differ from those of the twin", i)
		}
	}
}

func TestDR_3_3_WhatIsEmptyAtTheStart(t *testing.T) {
	a, b := startUnanswered("empty")
	if a.s.receiving() || b.s.receiving() || a.s.recv != [32]byte{} || b.s.recv != [32]byte{} {
		t.Error("a receiving chain before anything came")
	}
	if a.chain.N != 0 || a.s.received != 0 || a.s.pn != 0 || b.s.received != 0 || b.s.pn != 0 || b.s.remote != (keys.RatchetPublic{}) {
		t.Error("a counter or the responder's DHr is not empty")
	}
	if a.s.Skipped() != 0 || b.s.Skipped() != 0 {
		t.Error("skipped keys before anything came")
	}
	if b.s.own != keys.RatchetPublic(testB.own.Key.Public()) || b.s.CanSend(SendChain{}) {
		t.Error("the responder's first pair is not its prekey, or it sends with it")
	}
	// Alice's root has made its first step, Bob's has not.
	dh, err := b.s.ratchetKey().DH(a.s.own)
	must(err)
	if next, chain := rootStep(&b.s.root, dh); next != a.s.root || chain != a.s.initial {
		t.Error("Bob's root key is not the one before Alice's first step")
	}
}

// A slot whose key was skipped opens by it and by nothing else: neither chain
// nor ratchet moves.
func TestDR_3_5_SkippedKeysAreTriedFirst(t *testing.T) {
	a, b := start("first")
	skipped := a.seal()
	must(b.open(a.seal()))
	root, recv, received, own := b.s.root, b.s.recv, b.s.received, b.s.own
	chain := b.chain
	must(b.open(skipped))
	if b.s.root != root || b.s.recv != recv || b.s.received != received || b.s.own != own || b.chain != chain {
		t.Fatal("opening by a skipped key moved something else")
	}
}

// A slot that is refused leaves room for the true one with the same number, at a
// step, in a chain and where the key was skipped.
func TestDR_3_5_AForgeryDoesNotUseUpAKey(t *testing.T) {
	a, b := start("room")
	spoil := func(l letter) letter {
		s := letter{slot: bytes.Clone(l.slot), d: l.d, key: l.key}
		s.slot[headerSize] ^= 1 // the tag, and so the header, stays readable
		return s
	}
	check := func(where string, l letter) {
		t.Helper()
		for range 3 {
			unchanged(t, b, func() {
				if err := b.open(spoil(l)); !errors.Is(err, ErrAuth) {
					t.Fatalf("%s: %v", where, err)
				}
			})
		}
		if err := b.open(l); err != nil {
			t.Fatalf("%s, the true one: %v", where, err)
		}
	}
	check("in a chain", a.seal())
	skipped := a.seal()
	check("ahead", a.seal())
	check("skipped", skipped)
	must(a.open(b.seal()))
	check("at a step", a.seal())
}

func TestDR_4_1_TheMaskHidesTheHeader(t *testing.T) {
	a, b := start("mask")
	var before [][]byte
	for range 20 {
		l := a.seal()
		h, plain := b.s.readHeader(l.slot)
		if bytes.Contains(l.slot, plain[:8]) || bytes.Contains(l.slot, h.ratchet[:8]) {
			t.Fatal("the header is in clear")
		}
		for _, old := range before { // same ratchet key, other mask
			if bytes.Equal(old[:8], l.slot[:8]) {
				t.Fatal("two messages of a chain can be told by their headers")
			}
		}
		before = append(before, l.slot)
		if h, _ := a.s.readHeader(l.slot); h.ratchet == a.s.own {
			t.Fatal("both directions have one header key")
		}
	}
}

// The mask of each slot is xor with the bytes that its tag selects.
func TestDR_4_1_TheMaskIsThatOfTheSpecification(t *testing.T) {
	r := newStream("mask bytes")
	for range 50 {
		key, tag := r.take32(), r.take32()
		var h [headerSize]byte
		r.Read(h[:])
		want := refMask(h[:], key[:], tag[:16])
		applyMask(&h, &key, tag[:16])
		if !bytes.Equal(h[:], want) {
			t.Fatalf("masked %x, want %x", h, want)
		}
	}
	// Also where the counter's high bit is set, which is not used.
	key, tag := [32]byte{1}, bytes.Repeat([]byte{0xff}, 16)
	h := [headerSize]byte{9}
	want := refMask(h[:], key[:], tag)
	applyMask(&h, &key, tag)
	if !bytes.Equal(h[:], want) {
		t.Fatalf("masked %x, want %x", h, want)
	}
}

// The prefix of the start travels with every message until an answer came: any
// message of the first chain can be the one that opens first.
func TestDR_7_1_AnyMessageOfTheFirstChainStartsTheSession(t *testing.T) {
	for first := range 4 {
		a, b := startUnanswered("any")
		var sent []letter
		for range 4 {
			if a.s.Confirmed() {
				t.Fatal("confirmed without an answer")
			}
			sent = append(sent, a.seal())
		}
		must(b.open(sent[first]))
		for i, l := range sent {
			if i != first {
				must(b.open(l))
			}
		}
		must(a.open(b.seal()))
		if !a.s.Confirmed() {
			t.Fatal("an answer does not confirm")
		}
	}
}

func TestDR_7_2_KDFs(t *testing.T) {
	r := newStream("kdfs")
	for range 20 {
		root, dh, ck := r.take32(), r.take32(), r.take32()
		want := refHKDF(root[:], dh[:], "parallax/1/root", 64)
		input := dh
		next, chain := rootStep(&root, input[:])
		if !bytes.Equal(next[:], want[:32]) || !bytes.Equal(chain[:], want[32:]) || input != [32]byte{} {
			t.Fatal("KDF_RK is not HKDF with the root key as salt, or keeps its input")
		}
		mk, after := refHMAC(ck[:], []byte{1}), refHMAC(ck[:], []byte{2})
		var got [32]byte
		chainStep(&ck, &got)
		if !bytes.Equal(got[:], mk) || !bytes.Equal(ck[:], after) {
			t.Fatal("KDF_CK is not HMAC of 0x01 and 0x02")
		}
	}
}

// Recovery: who copied everything of both ends reads on, until each end has
// drawn a key that the copy does not have.
func TestDR_8_2_ACompromiseIsHealedByFreshRatchetKeys(t *testing.T) {
	a, b := start("heal")
	must(a.open(b.seal()))
	thief := &side{rand: newStream("thief")}
	steal := func(p *side) {
		rec, err := p.s.MarshalBinary()
		must(err)
		thief.s, err = ParseSession(rec)
		must(err)
		thief.chain = p.chain
	}
	steal(b)
	known := a.seal() // under b's stolen key
	must(b.open(known))
	must(thief.open(known))
	must(a.open(b.seal())) // b's key is fresh, the thief drew another
	healed := a.seal()
	if err := thief.open(healed); !errors.Is(err, ErrAuth) {
		t.Fatalf("the copy still opens: %v", err)
	}
	must(b.open(healed))
	if a.open(thief.seal()) == nil {
		t.Fatal("the copy still speaks")
	}
}

// Forward secrecy: a record holds nothing that opens what was opened or sent.
func TestDR_8_1_AStolenRecordOpensNothingOld(t *testing.T) {
	a, b := start("forward")
	var old []letter
	for range 5 {
		l, back := a.seal(), b.seal()
		must(b.open(l))
		must(a.open(back))
		old = append(old, l)
	}
	thief := &side{s: b.s, chain: b.chain, rand: newStream("thief")}
	thief.reopen()
	for i, l := range old {
		if thief.open(l) == nil {
			t.Fatalf("message %d opens from a later record", i)
		}
	}
}

// Any message of a new chain carries the step: messages that are lost do not
// keep the pair from healing.
func TestDR_8_9_LostMessagesDoNotHoldUpTheRatchet(t *testing.T) {
	a, b := start("lost")
	for i := range 5 {
		before := b.s.own
		must(a.open(b.seal()))
		for range 10 {
			a.seal() // lost
		}
		must(b.open(a.seal()))
		if b.s.own == before || b.s.generation != uint32(i)+2 {
			t.Fatalf("round %d: no step", i)
		}
		b.s.DropOldest(b.s.Skipped())
	}
}

// An old chain's key is gone at the step; PN has ended it exactly.
func TestDR_8_10_OldChainKeysAreErased(t *testing.T) {
	a, b := start("old chains")
	for range 3 {
		must(b.open(a.seal()))
		oldRecv, oldRoot, oldSeed := b.s.recv, b.s.root, b.s.seed
		oldSend := b.chain.Key
		late := a.seal()
		must(a.open(b.seal()))
		must(b.open(a.seal()))
		record := b.record()
		for what, secret := range map[string][32]byte{"receiving chain": oldRecv, "root": oldRoot, "ratchet private": oldSeed, "sending chain": oldSend} {
			if bytes.Contains(record, secret[:]) {
				t.Errorf("the old %s key is still there", what)
			}
		}
		must(b.open(late)) // by its own key, that PN made
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
	if bytes.Contains(a.record(), initial[:]) || a.s.initial != [32]byte{} {
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
