package ratchet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Path-mixed first contact, one test for each sentence of docs/protocol.md
// section 5.3 that this package keeps.

func TestPathsDigest(t *testing.T) {
	g := contact(testA, testB).Group
	if (Paths{}).Digest(g) != wire.Hash("parallax/1/paths", g[:], wire.U64(0)) {
		t.Error("unmixed")
	}
	if (Paths{Relays: testPaths(1, 2).Relays}).Digest(g) != (Paths{}).Digest(g) {
		t.Error("relays of an unmixed policy count")
	}
	seen := map[wire.Digest]bool{(Paths{}).Digest(g): true}
	for n := 1; n <= 4; n++ {
		for k := 1; k <= n; k++ {
			seen[testPaths(k, n).Digest(g)] = true
		}
	}
	seen[testPaths(1, 1).Digest(wire.GroupID{})] = true
	if len(seen) != 12 {
		t.Errorf("%d digests of 12 policies", len(seen))
	}
}

func TestPoliciesThatAreNone(t *testing.T) {
	good := testPaths(2, 3)
	r := good.Relays
	for name, p := range map[string]Paths{
		"unmixed": {}, "no k": {Relays: r}, "no relays": {K: 1}, "k too large": {K: 4, Relays: r}, "negative": {K: -1, Relays: r},
		"one twice": {K: 2, Relays: []keys.RelayPublic{r[0], r[0], r[1]}}, "descending": {K: 2, Relays: []keys.RelayPublic{r[1], r[0]}},
		"too many": testPaths(2, MaxPaths+1),
	} {
		s := newStream("none")
		if x, _, _, shares, err := InitiateMixed(s, s, contact(testA, testB), &testB.pre, p); !errors.Is(err, ErrPaths) || x != nil || shares != nil {
			t.Errorf("%s: initiate: %v", name, err)
		}
		if acc, err := AcceptMixed(contact(testB, testA), nil, nil, p); !errors.Is(err, ErrPaths) || acc != nil {
			t.Errorf("%s: accept: %v", name, err)
		}
	}
	for _, p := range []Paths{testPaths(1, 1), testPaths(MaxPaths, MaxPaths)} {
		a, b := startMixed("most", p)
		confirmMixed(a, b, p)
	}
}

func TestMixedStartRefusesWhatStartRefuses(t *testing.T) {
	p, h := testPaths(2, 3), hello(t)
	r := newStream("refuse")
	if _, _, _, _, err := InitiateMixed(r, r, contact(testA, testA), &testB.pre, p); !errors.Is(err, ErrSelf) {
		t.Errorf("to oneself: %v", err)
	}
	if _, err := AcceptMixed(contact(testB, testA), nil, h, p); !errors.Is(err, ErrPrekey) {
		t.Errorf("no prekeys: %v", err)
	}
	if _, err := AcceptMixed(contact(testB, testA), []PrekeysPrivate{testB.own}, h[1:], p); !errors.Is(err, wire.ErrShort) {
		t.Errorf("a cut handshake part: %v", err)
	}
	for n := range 64 + 32*p.K { // 32 for m, 32 for each coefficient but the first
		short := io.LimitReader(newStream("short"), int64(n))
		if s, _, _, shares, err := InitiateMixed(short, newStream("e"), contact(testA, testB), &testB.pre, p); err == nil || s != nil || shares != nil {
			t.Fatalf("%d bytes of entropy were enough", n)
		}
	}
}

func TestTheContactsOwnDigestIsNotRead(t *testing.T) {
	p := testPaths(2, 2)
	c, d := contact(testA, testB), contact(testB, testA)
	r := newStream("digest")
	s, _, part, shares, err := InitiateMixed(r, r, c, &testB.pre, p)
	must(err)
	d.Paths = [32]byte{}
	acc, err := AcceptMixed(d, []PrekeysPrivate{testB.own}, part[:], p)
	must(err)
	c.Paths = p.Digest(c.Group)
	tr, err := HandshakeTranscript(&Contact{Group: c.Group, Self: testB.party, Peer: testA.party, Paths: c.Paths, Attempt: 1}, part[:])
	must(err)
	if acc.Transcript() != s.Transcript() || tr != s.Transcript() {
		t.Fatal("transcripts differ")
	}
	must(acc.Share(p.Relays[1], shares[1]))
}

func TestAcceptingIsBuiltAgainFromItsHellos(t *testing.T) {
	p := testPaths(2, 3)
	a, h := initiateMixed("again", testA, testB, p)
	l := a.seal()
	order := func(paths ...int) *Session {
		acc := h.accept(testA, testB)
		for _, i := range paths {
			must(acc.Share(p.Relays[i], h.shares[i]))
			must(acc.Share(p.Relays[i], h.shares[i])) // comes twice
		}
		s, ok := acc.Ready()
		if !ok {
			t.Fatalf("paths %v are not enough", paths)
		}
		again, _ := acc.Ready()
		if again == s || again.root != s.root {
			t.Fatal("Ready gives one session away twice, or another")
		}
		if s.CanSend(SendChain{}) || s.Confirmed() || !s.Mixed() {
			t.Fatal("a provisional session sends, or does not know it is mixed")
		}
		if _, ok := s.AnswerShare(p.Relays[0]); ok {
			t.Fatal("a provisional session has an answer")
		}
		acc.Zero()
		if _, ok := acc.Ready(); ok {
			t.Fatal("ready after Zero")
		}
		if err := acc.Share(p.Relays[0], h.shares[0]); !errors.Is(err, ErrPath) {
			t.Fatalf("a share after Zero: %v", err)
		}
		return s
	}
	root := order(0, 1).root
	for _, paths := range [][]int{{1, 0}, {2, 0}, {1, 2}, {2, 1, 0}} {
		s := order(paths...)
		if s.root != root {
			t.Fatalf("paths %v give another root", paths)
		}
		must((&side{s: s, rand: newStream("b")}).open(l))
	}
}

func TestSharesOnWrongPaths(t *testing.T) {
	p := testPaths(2, 3)
	_, h := initiateMixed("wrong", testA, testB, p)
	acc := h.accept(testA, testB)
	if err := acc.Share(keys.RelayPublic{1}, h.shares[0]); !errors.Is(err, ErrPath) {
		t.Errorf("a relay outside the policy: %v", err)
	}
	must(acc.Share(p.Relays[0], h.shares[0]))
	// Another share under the right key: only who knows SK0 makes one. The first
	// one stays.
	other := [32]byte{1}
	if err := acc.Share(p.Relays[0], acc.keys.seal(p.Relays[0], &other)); !errors.Is(err, ErrShare) {
		t.Errorf("a second share that differs: %v", err)
	}
	if have, need := acc.Shares(); have != 1 || need != 2 {
		t.Errorf("%d of %d shares", have, need)
	}

	a, b := startMixed("wrong answer", p)
	l := b.seal()
	long := b.answering(p.Relays[0], l)
	unchanged(t, a, func() {
		if err := a.openAnswer(keys.RelayPublic{1}, long, l); !errors.Is(err, ErrPath) {
			t.Errorf("a relay outside the policy: %v", err)
		}
		if err := a.openAnswer(p.Relays[1], long, l); !errors.Is(err, ErrShare) {
			t.Errorf("on another path: %v", err)
		}
		if err := a.openAnswer(p.Relays[0], long[:135], l); !errors.Is(err, wire.ErrFormat) {
			t.Errorf("a cut answering slot: %v", err)
		}
		if err := a.open(l); !errors.Is(err, ErrShares) {
			t.Errorf("without shares: %v", err)
		}
	})
	if _, ok := b.s.AnswerShare(keys.RelayPublic{1}); ok {
		t.Error("a share for a relay outside the policy")
	}
	if _, ok := a.s.AnswerShare(p.Relays[0]); ok {
		t.Error("the initiator has shares of an answer")
	}
	small := forge(a, header{mixes: 1})
	unchanged(t, a, func() {
		if err := a.openAnswer(p.Relays[0], append(make([]byte, ShareSize), small.slot...), small); !errors.Is(err, keys.ErrSmallOrder) {
			t.Errorf("a ratchet key of small order: %v", err)
		}
	})
}

func TestTheInitiatorSendsWhileItWaits(t *testing.T) {
	p := testPaths(3, 3)
	a, h := initiateMixed("waits", testA, testB, p)
	var sent []letter
	for range 5 {
		sent = append(sent, a.seal())
		a.reopen()
	}
	acc := h.accept(testA, testB)
	for i := range p.Relays {
		must(acc.Share(p.Relays[i], h.shares[i]))
	}
	s, _ := acc.Ready()
	b := &side{s: s, rand: newStream("waits b")}
	for _, i := range []int{2, 0, 4, 1, 3} { // any of them confirms the key
		must(b.open(sent[i]))
	}
	if !b.s.CanSend(b.chain) {
		t.Fatal("the responder cannot send")
	}
}

func TestTheAnswersBytesStayUntilConfirmed(t *testing.T) {
	p := testPaths(2, 3)
	a, b := startMixed("stay", p)
	var first [3][ShareSize]byte
	for i := range first {
		first[i], _ = b.s.AnswerShare(p.Relays[i])
		if slices.Index(first[:], first[i]) != i {
			t.Fatal("two paths have one share")
		}
	}
	for range 3 {
		b.seal()
		must(b.open(a.seal()))
		b.reopen()
		for i := range first {
			if again, ok := b.s.AnswerShare(p.Relays[i]); !ok || again != first[i] {
				t.Fatal("a share of the answer changed")
			}
		}
	}
	confirmMixed(a, b, p)
	if _, ok := b.s.AnswerShare(p.Relays[0]); ok {
		t.Fatal("a share of the answer after confirmation")
	}
	a.s.DropOldest(3)
	if len(a.record()) != 376 || len(b.record()) != 376 { // vector entry included
		t.Fatalf("records of %d and %d bytes once confirmed", len(a.record()), len(b.record()))
	}
}

func TestOneLyingPathVetoesNothing(t *testing.T) {
	p := testPaths(2, 3)
	a, b := startMixed("veto", p)
	l := b.seal()
	slot := func(path int) []byte { return b.answering(p.Relays[path], l) }

	// A true share beside a spoiled slot is worth its share.
	spoiled := slot(0)
	spoiled[ShareSize+headerSize] ^= 1
	if err := a.openAnswer(p.Relays[0], spoiled, l); !errors.Is(err, ErrShares) {
		t.Fatal(err)
	}
	a.reopen()
	second := slot(1)
	second[ShareSize+headerSize] ^= 1
	if err := a.openAnswer(p.Relays[1], second, l); !errors.Is(err, ErrAuth) {
		t.Fatalf("enough shares, a spoiled slot: %v", err)
	}
	a.reopen()
	// A true slot beside a lying share opens once there are enough others; its
	// short form does too.
	lying := slot(2)
	lying[0] ^= 1
	c := &side{s: a.s, chain: a.chain, rand: a.rand}
	c.reopen()
	must(c.open(l))
	must(a.openAnswer(p.Relays[2], lying, l))
	if err := a.openAnswer(p.Relays[0], slot(0), l); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("again: %v", err)
	}
}

// A responder that was set back answers the same hello again, with another
// ratchet key: shares of the two answers are never counted together.
func TestTwoAnswersAreNotMixedUp(t *testing.T) {
	p := testPaths(2, 3)
	a, h := initiateMixed("set back", testA, testB, p)
	zero := a.seal()
	respond := func(seed string) *side {
		acc := h.accept(testA, testB)
		must(acc.Share(p.Relays[0], h.shares[0]))
		must(acc.Share(p.Relays[1], h.shares[1]))
		s, _ := acc.Ready()
		b := &side{s: s, rand: newStream(seed)}
		must(b.open(zero))
		return b
	}
	b, c := respond("one"), respond("two")
	old, now := b.seal(), c.seal()
	for _, step := range []struct {
		from *side
		l    letter
		path int
		have int
	}{{b, old, 0, 1}, {c, now, 1, 1}, {c, now, 0, 2}} {
		err := a.openAnswer(p.Relays[step.path], step.from.answering(p.Relays[step.path], step.l), step.l)
		if have, need := a.s.AnswerShares(); step.have < 2 && (!errors.Is(err, ErrShares) || have != 1 || need != 2) || step.have == 2 && err != nil {
			t.Fatalf("%+v: %v, %d of %d", step.path, err, have, need)
		}
		a.reopen()
	}
	if a.open(old) == nil {
		t.Fatal("the first answer opened too")
	}
	must(c.open(a.seal()))
}

func TestHeadersCountRootMixes(t *testing.T) {
	p := testPaths(1, 1)
	counts := func(p *side, l letter) uint8 {
		h, _ := p.s.readHeader(l.slot)
		return h.mixes
	}
	a, b := startMixed("count", p)
	late := a.seal()
	first := b.seal()
	if counts(b, late) != 0 || counts(a, first) != 1 {
		t.Fatalf("counts %d and %d, want 0 before the answer and 1 from it on", counts(b, late), counts(a, first))
	}
	must(a.openAnswer(p.Relays[0], b.answering(p.Relays[0], first), first))
	second := a.seal()
	if counts(b, second) != 1 {
		t.Fatal("the initiator's second chain does not count the mix")
	}
	must(b.open(second))
	b.reopen()
	must(b.open(late)) // of the chain before the answer: its count is 0 still

	// An end that does not count what entered its root is not understood: in a
	// next chain, in a current one, and where a key was skipped.
	a, b = startMixed("lie", p)
	l := b.seal()
	must(a.openAnswer(p.Relays[0], b.answering(p.Relays[0], l), l))
	uncounted := func() letter {
		a.s.mixed = false
		defer func() { a.s.mixed = true }()
		return a.seal()
	}
	refused := func(where string, l letter) {
		t.Helper()
		unchanged(t, b, func() {
			if err := b.open(l); !errors.Is(err, ErrAuth) {
				t.Errorf("%s that counts 0: %v", where, err)
			}
		})
	}
	wrong := uncounted()
	refused("a next chain", wrong)
	must(b.open(a.seal()))
	refused("a skipped message", wrong)
	refused("a current chain", uncounted())
	must(a.open(b.seal()))
	must(b.open(a.seal()))
	refused("a skipped message of an old chain", wrong)
	// An answer that counts no mix, and an unmixed chain that counts one.
	a, b = startMixed("answer", p)
	b.s.mixed = false
	unmixed := b.seal()
	b.s.mixed = true
	unchanged(t, a, func() {
		if err := a.openAnswer(p.Relays[0], b.answering(p.Relays[0], unmixed), unmixed); !errors.Is(err, ErrAuth) {
			t.Errorf("an answer that counts 0: %v", err)
		}
		if err := a.open(unmixed); !errors.Is(err, ErrAuth) {
			t.Errorf("an answer that counts 0, short: %v", err)
		}
	})
	x, y := start("unmixed")
	x.s.mixed, x.s.generation = true, 2
	x.chain.Generation = 2
	if err := y.open(x.seal()); !errors.Is(err, ErrAuth) {
		t.Errorf("a mix counted in an unmixed session: %v", err)
	}
}

func TestOpenAnswerOfAnUnmixedSessionIsOpen(t *testing.T) {
	a, b := start("unmixed")
	l := b.seal()
	must(a.openAnswer(keys.RelayPublic{}, append(make([]byte, ShareSize), l.slot...), l))
	if a.s.Mixed() || b.s.Mixed() {
		t.Fatal("mixed")
	}
	if _, ok := b.s.AnswerShare(keys.RelayPublic{}); ok {
		t.Fatal("an unmixed session has shares")
	}
	if have, need := a.s.AnswerShares(); have != 0 || need != 0 {
		t.Fatal("an unmixed session awaits shares")
	}
}

func TestAnswerAfterAnErrorNothingHasChanged(t *testing.T) {
	p := testPaths(2, 3)
	a, h := initiateMixed("entropy", testA, testB, p)
	l := a.seal()
	acc := h.accept(testA, testB)
	must(acc.Share(p.Relays[0], h.shares[0]))
	must(acc.Share(p.Relays[2], h.shares[2]))
	s, _ := acc.Ready()
	var chain SendChain
	for n := range 32 + 32*p.K { // ratchet key, m', coefficient
		short := io.LimitReader(newStream("short"), int64(n))
		if _, err := s.Open(testNow, short, &chain, l.slot, l.d); err == nil || s.generation != 0 || s.answer != nil || chain.Generation != 0 {
			t.Fatalf("%d bytes of entropy: %v", n, err)
		}
	}
	b := &side{s: s, rand: newStream("entropy b")}
	must(b.open(l))

	late := b.seal()
	for range MaxSkipped {
		b.seal()
	}
	far := b.seal()
	if err := a.openAnswer(p.Relays[0], b.answering(p.Relays[0], far), far); !errors.Is(err, ErrShares) {
		t.Fatal(err)
	}
	if err := a.openAnswer(p.Relays[1], b.answering(p.Relays[1], far), far); !errors.Is(err, ErrFull) {
		t.Fatalf("skips %d: %v", MaxSkipped+1, err)
	}
	if have, _ := a.s.AnswerShares(); have != 2 {
		t.Fatal("the share was not staged")
	}
	unchanged(t, a, func() {
		if _, err := a.s.OpenAnswerDrained(testNow, io.LimitReader(a.rand, 1), &a.chain, p.Relays[1], b.answering(p.Relays[1], far), far.d); err == nil {
			t.Fatal("opened without entropy")
		}
	})
	if _, err := a.s.OpenAnswerDrained(testNow, a.rand, &a.chain, p.Relays[2], b.answering(p.Relays[2], far), far.d); err != nil {
		t.Fatal(err)
	}
	if err := a.open(late); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("the oldest key was not dropped: %v", err)
	}
}

func TestParseMixedSessionIsStrict(t *testing.T) {
	p := testPaths(2, 3)
	a, b := startMixed("strict", p)
	a.seal()
	must(b.open(a.seal()))
	l := b.seal()
	if err := a.openAnswer(p.Relays[1], b.answering(p.Relays[1], l), l); !errors.Is(err, ErrShares) {
		t.Fatal(err)
	}
	record := func(s *Session) []byte {
		rec, err := s.MarshalBinary()
		must(err)
		return rec
	}
	awaiting, answering := record(a.s), record(b.s)
	a.openAnswer(p.Relays[2], b.answering(p.Relays[2], l), l)
	a.seal()
	must(b.open(a.seal()))
	standing := record(b.s) // a key of the first chain, one of the second
	must(a.open(b.seal()))
	a.seal()
	must(b.open(a.seal()))
	three := record(b.s)

	const fixed = 2 + 8*32 + 4 + 4 // up to PN
	const shares = fixed + 32 + 2  // of an initiator that has sent nothing since it was made: initial chain, no skipped
	const own = fixed + 32 + 32 + 4 + 2
	const entry = 32 + 1 + 2 + 40 // a chain with one skipped key
	change := func(rec []byte, at int, v ...byte) []byte {
		c := bytes.Clone(rec)
		copy(c[at:], v)
		return c
	}
	seventeen := append(bytes.Clone(awaiting[:shares]), 2, MaxPaths+1)
	for i := range byte(MaxPaths + 1) {
		seventeen = append(append(seventeen, i), make([]byte, 32)...)
	}
	for name, bad := range map[string][]byte{
		"17 paths":                  seventeen,
		"longer":                    append(bytes.Clone(awaiting), 0),
		"unmixed, initiator":        change(awaiting, 0, 1),
		"unmixed, responder":        change(answering, 0, 1),
		"unmixed, standing":         change(standing, 0, 1),
		"k 0":                       change(awaiting, shares, 0),
		"k above n":                 change(awaiting, shares, 4),
		"no paths":                  change(awaiting, shares, 0, 0),
		"fewer paths":               change(awaiting, shares+1, 2),
		"more paths":                change(awaiting, shares+1, 4),
		"too many paths":            change(awaiting, shares+1, MaxPaths+1),
		"staged 2":                  change(awaiting, shares+2+32, 2),
		"staged without it":         change(awaiting, shares+2+32, 1),
		"descending":                change(awaiting, shares+2, 0xff, 0xff),
		"descending, answer":        change(answering, own+entry+1, 0xff, 0xff),
		"no paths, answer":          change(answering, own+entry, 0),
		"fewer paths, answer":       change(answering, own+entry, 2),
		"count of the first chain":  change(answering, own+32, 1),
		"count above 1":             change(standing, own+32, 2),
		"count of the second chain": change(standing, own+entry+32, 0),
		"count of a middle chain":   change(three, own+entry+32, 0),
		"count above 1, second":     change(standing, own+entry+32, 2),
	} {
		if s, err := ParseSession(bad); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, good := range map[string][]byte{"awaiting": awaiting, "answering": answering, "standing": standing, "three chains": three} {
		s, err := ParseSession(good)
		if err != nil || !bytes.Equal(record(s), good) {
			t.Fatalf("%s: %v", name, err)
		}
		for n := range len(good) {
			if _, err := ParseSession(good[:n]); err == nil {
				t.Fatalf("%s: the first %d bytes: accepted", name, n)
			}
		}
	}
}

func TestMixedSecretsAreErasedAndDoNotPrint(t *testing.T) {
	p := testPaths(2, 3)
	a, h := initiateMixed("erase", testA, testB, p)
	acc := h.accept(testA, testB)
	must(acc.Share(p.Relays[0], h.shares[0]))
	sk, values := acc.sk, acc.values
	if s := fmt.Sprintf("%v %+v %#v", acc, acc, acc); len(s) > 40 {
		t.Errorf("printed %q", s)
	}
	if _, err := acc.MarshalText(); err == nil {
		t.Error("became text")
	}
	acc.Zero()
	if !bytes.Equal(sk, make([]byte, 32)) || values[0] != ([32]byte{}) {
		t.Error("Zero leaves the key agreement or a share")
	}
	staged := a.s.awaited.staged
	b := mixedResponder(h, a)
	l := b.seal()
	a.openAnswer(p.Relays[0], b.answering(p.Relays[0], l), l)
	if !staged[0].here {
		t.Fatal("nothing staged")
	}
	must(a.openAnswer(p.Relays[1], b.answering(p.Relays[1], l), l))
	if slices.ContainsFunc(staged, func(s stagedShare) bool { return s != stagedShare{} }) {
		t.Error("staged shares outlive the answer")
	}
}

// mixedResponder opens message 0 of a.
func mixedResponder(h *mixedHello, a *side) *side {
	acc := h.accept(testA, testB)
	for i := range h.paths.K {
		must(acc.Share(h.paths.Relays[i], h.shares[i]))
	}
	s, _ := acc.Ready()
	b := &side{s: s, rand: newStream("responder")}
	must(b.open(a.seal()))
	return b
}
