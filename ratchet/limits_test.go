package ratchet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"parallax/internal/wire"
)

func TestLateBy50DHSteps(t *testing.T) {
	a, b := start("late")
	toB, toA := a.seal(), b.seal()
	for range 50 {
		must(a.open(b.seal()))
		must(b.open(a.seal()))
	}
	a.reopen()
	b.reopen()
	must(b.open(toB))
	must(a.open(toA))
	if a.s.Skipped()+b.s.Skipped() != 0 {
		t.Fatal("keys left")
	}
}

// sealUpTo moves a's chain so that its next message has number n.
func sealUpTo(a *side, n uint32) {
	a.chain = a.s.Chain(a.chain)
	for a.chain.N < n {
		var mk [32]byte
		chainStep(&a.chain.Key, &mk)
		a.chain.N++
	}
}

func TestJumpLimits(t *testing.T) {
	a, b := start("jump")
	sealUpTo(a, 1+MaxForwardJump+1)
	far := a.seal()
	unchanged(t, b, func() {
		if err := b.open(far); !errors.Is(err, ErrJump) {
			t.Fatalf("one too far: %v", err)
		}
	})
	a, b = start("jump")
	sealUpTo(a, 1+MaxForwardJump)
	l := a.seal()
	unchanged(t, b, func() {
		if err := b.open(l); !errors.Is(err, ErrFull) {
			t.Fatalf("no room: %v", err)
		}
	})
	if _, err := b.s.OpenDrained(testNow, b.rand, &b.chain, l.slot, l.d); err != nil {
		t.Fatalf("drained: %v", err)
	}
	if b.s.Skipped() != MaxSkipped || b.s.skipped.chains[0].keys[0].n != 1+MaxForwardJump-MaxSkipped {
		t.Fatalf("%d kept from %d on: not the newest", b.s.Skipped(), b.s.skipped.chains[0].keys[0].n)
	}
	b.reopen()
	if n := len(b.record()); n != 376+34+40*MaxSkipped {
		t.Errorf("record of %d bytes", n)
	}
	// Any further gap waits; what skips nothing does not.
	must(b.open(a.seal()))
	lost := a.seal()
	next := a.seal()
	unchanged(t, b, func() {
		if err := b.open(next); !errors.Is(err, ErrFull) {
			t.Fatalf("full: %v", err)
		}
		bad := letter{slot: bytes.Clone(next.slot), d: next.d}
		bad.slot[80] ^= 1
		if err := b.open(bad); errors.Is(err, ErrFull) || err == nil {
			t.Fatalf("ErrFull for a forged slot: %v", err)
		}
	})
	// Drained, the oldest key goes for the new one.
	if _, err := b.s.OpenDrained(testNow, b.rand, &b.chain, next.slot, next.d); err != nil {
		t.Fatalf("drained and full: %v", err)
	}
	if first := b.s.skipped.chains[0].keys[0].n; b.s.Skipped() != MaxSkipped || first != 2+MaxForwardJump-MaxSkipped {
		t.Fatalf("%d kept from %d on: not the oldest went", b.s.Skipped(), first)
	}
	must(b.open(lost))
}

func TestJumpLimitsAtADHStep(t *testing.T) {
	a, b := start("jump at a step")
	a.seal()
	must(b.open(a.seal())) // one key is kept before
	answer := b.seal()
	sealUpTo(a, 3+1500) // PN leaves 1500 of the first chain
	must(a.open(answer))
	sealUpTo(a, 900)
	l := a.seal()
	unchanged(t, b, func() {
		if err := b.open(l); !errors.Is(err, ErrFull) {
			t.Fatalf("1500 and 900: %v", err)
		}
	})
	if _, err := b.s.OpenDrained(testNow, b.rand, &b.chain, l.slot, l.d); err != nil {
		t.Fatal(err)
	}
	c := b.s.skipped.chains
	if b.s.Skipped() != MaxSkipped || len(c) != 2 || len(c[0].keys) != 1100 || len(c[1].keys) != 900 || c[0].keys[0].n != 3+400 {
		t.Fatalf("%d kept: not the newest of both chains", b.s.Skipped())
	}
	b.reopen()

	a, b = start("far at a step")
	answer = b.seal()
	sealUpTo(a, 1+MaxForwardJump+1)
	must(a.open(answer))
	l = a.seal()
	unchanged(t, b, func() {
		if err := b.open(l); !errors.Is(err, ErrJump) {
			t.Fatalf("PN too far: %v", err)
		}
	})
}

// A forger who knows the counters can steer a masked header by flipping bits.
// What the dearest of them costs is in endurance_test.go.
func TestEndlessJumpsAreRefused(t *testing.T) {
	_, b := start("forged work")
	stranger := newEnd("stranger", 1).party.Identity
	endless := []letter{
		forge(b, header{ratchet: b.s.remote, n: math.MaxUint32}),
		forge(b, header{ratchet: b.s.remote, n: MaxChain}),
		forge(b, header{ratchet: [32]byte(stranger), n: math.MaxUint32}),
		forge(b, header{ratchet: [32]byte(stranger), pn: MaxChain - 1}),
	}
	unchanged(t, b, func() {
		for i, l := range endless {
			if err := b.open(l); !errors.Is(err, ErrJump) {
				t.Errorf("endless %d: %v, want ErrJump", i, err)
			}
		}
		if n := testing.AllocsPerRun(20, func() { b.open(endless[0]) }); n > 12 {
			t.Errorf("%v allocations for a refused jump", n)
		}
	})
}

func TestChainAndGenerationEnd(t *testing.T) {
	a, b := start("ends")
	a.chain.N = MaxChain - 1
	if !a.s.CanSend(a.chain) {
		t.Fatal("the last message of a chain is refused")
	}
	a.seal()
	if a.s.CanSend(a.chain) {
		t.Fatal("PN would not fit into 3 bytes")
	}
	mustPanic(t, func() { a.seal() })
	_, provisional := startUnanswered("panic")
	mustPanic(t, func() { provisional.seal() })

	must(a.open(b.seal()))
	l := a.seal()
	b.s.generation, b.chain.Generation = math.MaxUint32, math.MaxUint32
	unchanged(t, b, func() {
		if err := b.open(l); !errors.Is(err, ErrExhausted) {
			t.Fatalf("after the last generation: %v", err)
		}
	})
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	f()
}

// The vector and the record are two values. Whichever is older, the generation
// tells, and a message key is never used for two contents.
func TestChainAfterACrash(t *testing.T) {
	a, b := start("crash")
	a.seal()
	stored := a.chain
	must(a.open(b.seal()))
	if got := a.s.Chain(stored); got != a.chain {
		t.Fatal("an older vector entry: not the initial chain")
	}
	a.chain = stored // the record was written, the vector was not
	must(b.open(a.seal()))
	if a.s.pn != 2 || b.s.Skipped() != 1 {
		t.Fatalf("PN %d, %d kept; want 2, 1", a.s.pn, b.s.Skipped())
	}

	a, b = start("rollback")
	old, err := a.s.MarshalBinary()
	must(err)
	must(a.open(b.seal()))
	a.seal()
	a.s, err = ParseSession(old) // the vector was written, the record was not
	must(err)
	if a.s.CanSend(a.chain) || a.s.Chain(a.chain) != (SendChain{}) {
		t.Fatal("an old record sends: it would use message keys twice")
	}
	unchanged(t, a, func() {
		if err := a.open(b.seal()); !errors.Is(err, ErrRolledBack) {
			t.Fatalf("an old record receives: %v", err)
		}
	})
}

// PN counts what was sent in the session's own generation. A vector entry of an
// older one says nothing of it, however much was sent then.
func TestPNIsNotThatOfAnOlderChain(t *testing.T) {
	a, b := start("older chain")
	for range 6 {
		a.seal()
	}
	old := a.chain
	must(a.open(b.seal()))
	l := a.seal()
	must(b.open(l))
	a.chain = old // the vector was set back by a whole generation
	must(a.open(b.seal()))
	if a.s.pn != 0 || a.chain.Generation != 3 || a.chain.N != 0 {
		t.Fatalf("PN %d, generation %d, N %d; want 0, 3, 0", a.s.pn, a.chain.Generation, a.chain.N)
	}
	must(b.open(a.seal()))
}

func TestNoReflectionAndNoRebinding(t *testing.T) {
	a, b := start("bound")
	l := a.seal()
	if a.open(l) == nil {
		t.Fatal("a slot opened at its sender")
	}
	other := l
	other.d = wire.Digest{1}
	if err := b.open(other); !errors.Is(err, ErrAuth) {
		t.Fatalf("under another envelope: %v", err)
	}
	_, c := start("another session")
	if c.open(l) == nil {
		t.Fatal("a slot opened in another session")
	}
	must(b.open(l))
}

func TestParseSessionIsStrict(t *testing.T) {
	a, b := start("strict")
	a.seal()
	must(b.open(a.seal()))
	must(a.open(b.seal()))
	a.seal()
	must(b.open(a.seal()))
	good, err := b.s.MarshalBinary() // two chains with one key each
	must(err)
	if _, err := ParseSession(good); err != nil {
		t.Fatal(err)
	}
	const generation, pn, recv = 2 + 8*32, 2 + 8*32 + 4, 2 + 9*32 + 8
	const nr, chains = recv + 32, recv + 36
	const first, second = chains + 2, chains + 2 + 74
	change := func(at int, v ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], v)
		return c
	}
	for name, bad := range map[string][]byte{
		"nothing":                nil,
		"longer":                 append(bytes.Clone(good), 0),
		"unknown flag":           change(1, 4|good[1]),
		"generation 0":           change(generation, 0, 0, 0, 0),
		"PN of generation 1":     change(generation, 0, 0, 0, 1, 0, 0, 0, 1),
		"PN too long":            change(pn, 1, 0, 0, 0),
		"Nr too long":            change(nr, 1, 0, 0, 1),
		"own seat is peer's":     change(2+64, good[2+32:2+64]...),
		"no chains but bytes":    change(chains, 0, 0),
		"more chains":            change(chains, 0, 3),
		"too many chains":        change(chains, 0xff, 0xff),
		"chain without keys":     change(first+32, 0, 0),
		"too many keys":          change(first+32, 0xff, 0xff),
		"one chain twice":        change(second, good[first:first+32]...),
		"key at Nr":              change(second+34, good[nr:nr+4]...),
		"growing chain not last": change(first, slices.Concat(good[second:second+32], good[first+32:second], good[first:first+32])...),
		"key number too long":    change(first+34, 1, 0, 0, 0),
	} {
		if s, err := ParseSession(bad); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseSession(change(0, 4)); !errors.Is(err, ErrVersion) {
		t.Errorf("format 4: %v", err)
	}
	for n := range len(good) {
		if _, err := ParseSession(good[:n]); err == nil {
			t.Fatalf("the first %d bytes: accepted", n)
		}
	}
	unanswered, _ := startUnanswered("strict")
	rec, err := unanswered.s.MarshalBinary()
	must(err)
	rec[len(rec)-1] = 1
	rec = append(rec, good[first:second]...)
	if _, err := ParseSession(rec); err == nil {
		t.Error("skipped keys before an answer: accepted")
	}

	chain := a.chain.Append(nil)
	for name, bad := range map[string][]byte{
		"short": chain[:39], "long": append(bytes.Clone(chain), 0), "counter": append([]byte{0, 0, 0, 1, 1, 0, 0, 0}, chain[8:]...),
		"no generation": append(make([]byte, 8), chain[8:]...),
	} {
		if c, err := ParseSendChain(bad); err == nil || c != (SendChain{}) {
			t.Errorf("send chain, %s: accepted", name)
		}
	}
	if c, err := ParseSendChain(make([]byte, SendChainSize)); err != nil || c != (SendChain{}) {
		t.Errorf("no send chain: %v", err)
	}
}

// Keys of one chain in a record: ascending, none twice, at most MaxSkipped of
// all chains together.
func TestParseSessionCountsSkippedKeys(t *testing.T) {
	a, b := start("count keys")
	for range MaxSkipped {
		a.seal()
	}
	must(b.open(a.seal()))
	full, err := b.s.MarshalBinary()
	must(err)
	if _, err := ParseSession(full); err != nil || b.s.Skipped() != MaxSkipped {
		t.Fatalf("%d keys: %v", b.s.Skipped(), err)
	}
	const chains = 2 + 8*32 + 8 + 32 + 36 // both chains there
	const numbers = chains + 2 + 32 + 2
	twice := bytes.Clone(full)
	copy(twice[numbers+skippedKeySize:numbers+skippedKeySize+4], twice[numbers:numbers+4])
	descending := bytes.Clone(full)
	copy(descending[numbers:], full[numbers+skippedKeySize:numbers+2*skippedKeySize])
	copy(descending[numbers+skippedKeySize:], full[numbers:numbers+skippedKeySize])
	// One key more, below the others: message 0 had opened.
	more := slices.Concat(full[:numbers-2], []byte{(MaxSkipped + 1) >> 8, (MaxSkipped + 1) & 0xff}, make([]byte, skippedKeySize), full[numbers:])
	// The same in a chain of its own.
	other := slices.Concat(full[:chains], []byte{0, 2}, make([]byte, 32), []byte{0, 1}, make([]byte, skippedKeySize), full[chains+2:])
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"one number twice": {twice, wire.ErrFormat}, "descending": {descending, wire.ErrFormat},
		"one too many": {more, wire.ErrTooLong}, "one too many in two chains": {other, wire.ErrTooLong},
	} {
		if s, err := ParseSession(c.b); !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Dropping many keys at once leaves room for as many.
func TestDroppedKeysMakeRoom(t *testing.T) {
	a, b := start("room")
	fill := func() []letter {
		var late []letter
		for b.s.Skipped()+len(late) < MaxSkipped {
			late = append(late, a.seal())
		}
		must(b.open(a.seal()))
		return late
	}
	late := fill()
	if n := b.s.DropOldest(700); n != 700 || b.s.Skipped() != MaxSkipped-700 {
		t.Fatalf("%d dropped, %d left", n, b.s.Skipped())
	}
	b.reopen()
	must(a.open(b.seal())) // the next gap is of another chain
	late = append(late[700:], fill()...)
	if b.s.Skipped() != MaxSkipped || len(late) != MaxSkipped {
		t.Fatalf("%d keys kept for %d slots", b.s.Skipped(), len(late))
	}
	// Across both chains.
	if n := b.s.DropOldest(MaxSkipped - 100); n != MaxSkipped-100 || b.s.Skipped() != 100 {
		t.Fatalf("%d dropped, %d left", n, b.s.Skipped())
	}
	for i, l := range late {
		if i < MaxSkipped-100 && i%97 != 0 {
			continue // each costs a whole walk
		}
		if err := b.open(l); (err == nil) != (i >= MaxSkipped-100) {
			t.Fatalf("late message %d: %v", i, err)
		}
	}
	if b.s.Skipped() != 0 || b.s.DropOldest(1) != 0 {
		t.Fatal("keys left")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	a, _ := start("print")
	for _, s := range []string{fmt.Sprint(a.s, a.chain), fmt.Sprintf("%+v %#v", a.s, a.s), fmt.Sprintf("%+v %#v", a.chain, a.chain)} {
		if len(s) > 40 {
			t.Errorf("printed %q", s)
		}
	}
	for _, v := range []any{a.s, a.chain} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("became JSON: %s", b)
		}
	}
	a.s.Zero()
	if a.s.root != [32]byte{} || a.s.CanSend(a.chain) {
		t.Error("Zero leaves something")
	}
}

func TestSealAllocatesTheAEADOnly(t *testing.T) {
	a, b := start("allocations")
	l := a.seal()
	dst := make([]byte, 0, SlotSize)
	if n := testing.AllocsPerRun(100, func() { a.s.Seal(&a.chain, &l.key, l.d, dst) }); n > 1 {
		t.Errorf("Seal: %v allocations, want 1", n)
	}
	a, b = start("allocations")
	slots := make([]letter, 200)
	for i := range slots {
		slots[i] = a.seal()
	}
	i := 0
	if n := testing.AllocsPerRun(100, func() {
		if _, err := b.s.Open(testNow, b.rand, &b.chain, slots[i].slot, slots[i].d); err != nil {
			t.Fatal(err)
		}
		i++
	}); n > 1 {
		t.Errorf("Open: %v allocations, want 1", n)
	}
}
