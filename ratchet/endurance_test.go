package ratchet

import (
	"bytes"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// design.md section 4, limits: what a pair must be able to lose, delay and skip
// while it loses nothing, and what a forger may cost.

const (
	retention    = 21 * 24 * time.Hour // design.md section 9
	manyMessages = 10_000
)

// openAt opens at a time of its own.
func (p *side) openAt(now time.Time, l letter) error {
	k, err := p.s.Open(now, p.rand, &p.chain, l.slot, l.d)
	if err == nil && !k.Equal(&l.key) {
		panic("a slot opened to another content key")
	}
	return err
}

// A slot that waited somewhere for the whole retention time while its pair made
// 50 DH steps, its receiver dropping what is too old every day, still opens; one
// second later it may not.
func TestLateBy50DHStepsWithinTheRetentionTime(t *testing.T) {
	for _, over := range []time.Duration{0, time.Second} {
		a, b := start("late in time")
		now := testNow
		late := a.seal()
		must(b.openAt(now, a.seal())) // its key is stored now
		for range 50 {
			now = now.Add((retention - time.Hour) / 50)
			must(a.openAt(now, b.seal()))
			must(b.openAt(now, a.seal()))
			b.s.DropSkipped(now.Add(-retention))
			b.reopen()
		}
		if b.s.Generation() < 50 {
			t.Fatalf("%d DH steps", b.s.Generation())
		}
		now = testNow.Add(retention + over)
		b.s.DropSkipped(now.Add(-retention))
		if err := b.openAt(now, late); (err == nil) != (over == 0) {
			t.Fatalf("late by %v: %v", now.Sub(testNow), err)
		}
	}
}

// Its receiver is away for the whole retention time: 10,000 messages of one
// chain wait in the mailboxes. Drained in order nothing is even skipped.
func TestAwayForTheRetentionTime(t *testing.T) {
	a, b := start("away")
	must(a.open(b.seal()))
	letters := make([]letter, manyMessages)
	for i := range letters {
		letters[i] = a.seal()
		if i%500 == 0 {
			a.reopen()
		}
	}
	now := testNow.Add(retention)
	b.reopen()
	for i, l := range letters {
		if err := b.openAt(now, l); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if i%250 == 0 { // a turn of catching up is 256 messages
			b.s.DropSkipped(now.Add(-retention))
			b.reopen()
		}
	}
	if b.s.Skipped() != 0 {
		t.Fatalf("%d keys kept", b.s.Skipped())
	}
	must(a.openAt(now, b.seal()))
}

// The same over three relays, of which each lost two thirds of the slots, and
// one a run longer than a session may skip. What does not open yet waits until
// the other mailboxes are drained; nothing is lost.
func TestAwayAndEachRelayLostSome(t *testing.T) {
	a, b := start("away, loss")
	must(a.open(b.seal()))
	r := newStream("which relay")
	var boxes [3][]int
	letters := make([]letter, manyMessages)
	for i := range letters {
		letters[i] = a.seal()
		switch {
		case i >= 2000 && i < 2000+MaxSkipped+1500: // on the last relay alone
			boxes[2] = append(boxes[2], i)
		default:
			var c [1]byte
			r.Read(c[:])
			boxes[c[0]%3] = append(boxes[c[0]%3], i)
		}
	}
	now := testNow.Add(retention)
	opened, full := make([]bool, len(letters)), 0
	for pass := 0; slices.Contains(opened, false); pass++ {
		if pass == 2 {
			t.Fatalf("message %d is lost", slices.Index(opened, false))
		}
		for box, waiting := range boxes {
			for len(waiting) > 0 {
				i := waiting[0]
				err := b.openAt(now, letters[i])
				if errors.Is(err, ErrFull) { // the other mailboxes first
					full++
					break
				}
				if err != nil || opened[i] {
					t.Fatalf("message %d of mailbox %d, opened before %v: %v", i, box, opened[i], err)
				}
				opened[i] = true
				waiting = waiting[1:]
				if len(waiting)%250 == 0 {
					b.reopen()
				}
			}
			boxes[box] = waiting
		}
	}
	if full == 0 {
		t.Fatal("no jump had to wait: the test shows nothing")
	}
	if b.s.Skipped() != 0 {
		t.Fatalf("%d keys kept", b.s.Skipped())
	}
}

// 21 days of talk: 10,000 messages both ways, each late by anything up to a few
// days, with daily restarts, retention and a DH step whenever the talk turns.
func TestThreeWeeksOfTalkLoseNothing(t *testing.T) {
	a, b := start("three weeks")
	sides := [2]*side{a, b}
	type mail struct {
		letter
		due time.Time
	}
	var way [2][]mail
	r := newStream("three weeks' schedule")
	random := func(n int) int {
		var c [2]byte
		r.Read(c[:])
		return (int(c[0])<<8 | int(c[1])) % n
	}
	now, day := testNow, testNow
	from, opened := 0, 0
	deliver := func(until time.Time) {
		for to := range way {
			var rest []mail
			for _, m := range way[to] {
				if m.due.After(until) {
					rest = append(rest, m)
				} else if err := sides[to].openAt(now, m.letter); err != nil {
					t.Fatalf("late until %v: %v", m.due, err)
				} else {
					opened++
				}
			}
			way[to] = rest
		}
	}
	most := 0
	for range manyMessages {
		now = now.Add(retention / manyMessages)
		if random(5) == 0 {
			from = 1 - from
		}
		m := mail{letter: sides[from].seal(), due: now.Add(time.Duration(random(30)) * time.Minute)}
		switch c := random(100); {
		case c < 2:
			m.due = now.Add(time.Duration(random(20*24)) * time.Hour)
		case c < 40:
			m.due = now.Add(time.Duration(random(72)) * time.Hour)
		}
		way[1-from] = append(way[1-from], m)
		deliver(now)
		if now.Sub(day) >= 24*time.Hour {
			day = now
			for _, p := range sides {
				if n := p.s.DropSkipped(now.Add(-retention)); n != 0 {
					t.Fatalf("%d keys dropped that are younger than the retention time", n)
				}
				p.reopen()
			}
		}
		most = max(most, a.s.Skipped(), b.s.Skipped())
	}
	deliver(now.Add(2 * retention))
	if opened != manyMessages || a.s.Skipped()+b.s.Skipped() != 0 {
		t.Fatalf("%d of %d opened, %d keys left", opened, manyMessages, a.s.Skipped()+b.s.Skipped())
	}
	if a.s.Generation() < 500 || most < 100 {
		t.Fatalf("%d DH steps, at most %d keys: the test shows nothing", a.s.Generation(), most)
	}
}

// Everything a header can ask for is refused before the first chain step or
// X25519: a ratchet key of small order, which DH would refuse, is never reached.
func TestJumpsAreRefusedBeforeAnyWork(t *testing.T) {
	a, b := start("before work")
	for range 5 {
		must(b.open(a.seal()))
	}
	small := keys.RatchetPublic{}
	at := b.s.received
	for name, c := range map[string]struct {
		h    header
		want error
	}{
		"nothing skipped":       {header{ratchet: small, pn: at}, keys.ErrSmallOrder},
		"both at their most":    {header{ratchet: small, n: MaxForwardJump, pn: at + MaxForwardJump}, keys.ErrSmallOrder},
		"N too far":             {header{ratchet: small, n: MaxForwardJump + 1}, ErrJump},
		"PN too far":            {header{ratchet: small, pn: at + MaxForwardJump + 1}, ErrJump},
		"N at the end":          {header{ratchet: small, n: math.MaxUint32}, ErrJump},
		"PN at the end":         {header{ratchet: small, pn: MaxChain}, ErrJump},
		"in the chain":          {header{ratchet: b.s.remote, n: at + MaxForwardJump + 1}, ErrJump},
		"in the chain, the end": {header{ratchet: b.s.remote, n: math.MaxUint32}, ErrJump},
		"another count":         {header{ratchet: small, mixes: 1}, ErrAuth},
		"a passed message":      {header{ratchet: b.s.remote, n: at - 1}, ErrDuplicate},
	} {
		unchanged(t, b, func() {
			if err := b.open(forge(b, c.h)); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		})
	}
}

// The steps of a refused slot leave no state to count them by, so they are
// counted in what they ask for: a forgery at both limits allocates no more than
// the keys that may be kept, and any number of forgeries leaves the record as it
// was. Its hashing is bounded by the limits above and measured here against
// 2 * MaxForwardJump steps, best of several, so that a busy machine does not
// matter.
func TestTheDearestForgeryIsBounded(t *testing.T) {
	a, b := start("dearest")
	must(a.open(b.seal()))
	must(b.open(a.seal()))
	stranger := newEnd("stranger", 1).party.Identity
	at := b.s.received
	dearest := forge(b, header{ratchet: [32]byte(stranger), n: MaxForwardJump, pn: at + MaxForwardJump})
	within := forge(b, header{ratchet: b.s.remote, n: at + MaxForwardJump})
	before := b.record()

	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start := m.TotalAlloc
	const times = 4
	best := time.Duration(math.MaxInt64)
	for range times {
		for _, l := range []letter{dearest, within} {
			begin := time.Now()
			if err := b.open(l); !errors.Is(err, ErrAuth) {
				t.Fatalf("a forgery: %v", err)
			}
			best = min(best, time.Since(begin)*2*MaxForwardJump/time.Duration(1+steps(b, l)))
		}
	}
	runtime.ReadMemStats(&m)
	const each = MaxSkipped*48 + 16<<10
	if got := (m.TotalAlloc - start) / (2 * times); got > each {
		t.Errorf("%d bytes allocated for a forgery, at most %d", got, each)
	}
	if !bytes.Equal(before, b.record()) {
		t.Fatal("a forgery changed the state")
	}
	floor := time.Duration(math.MaxInt64)
	for range times {
		begin := time.Now()
		var ck, mk [32]byte
		for range 2 * MaxForwardJump {
			chainStep(&ck, &mk)
		}
		floor = min(floor, time.Since(begin))
	}
	if best > 3*floor {
		t.Errorf("%v for what %d chain steps take %v", best, 2*MaxForwardJump, floor)
	}
}

// steps is how many chain steps a forged slot may ask for, by its header.
func steps(p *side, l letter) int {
	h, _ := p.s.readHeader(l.slot)
	if h.ratchet == p.s.remote {
		return int(h.n - p.s.received)
	}
	return int(h.n) + int(max(h.pn, p.s.received)-p.s.received)
}

// After any number of forgeries the next true slot opens at the first try, as if
// nothing had come; so no forger can make a receiver deaf.
func TestForgeriesDoNotDelayTheTruth(t *testing.T) {
	a, b := start("deaf")
	r := newStream("forger")
	var letters []letter
	for range 20 {
		letters = append(letters, a.seal())
	}
	for i := len(letters) - 1; i >= 0; i-- { // newest first: the rest by kept keys
		before := b.record()
		for range 10 {
			l := letter{slot: make([]byte, SlotSize), d: wire.Hash("test/noise")}
			r.Read(l.slot)
			if b.open(l) == nil {
				t.Fatal("noise opened")
			}
			for _, h := range []header{{ratchet: b.s.remote, n: uint32(i)}, {ratchet: r.take32(), n: uint32(i), pn: uint32(2 * i)}} {
				if b.open(forge(b, h)) == nil {
					t.Fatal("a forgery opened")
				}
			}
		}
		if !bytes.Equal(before, b.record()) {
			t.Fatal("a forgery changed the state")
		}
		must(b.open(letters[i]))
	}
	if b.s.Skipped() != 0 {
		t.Fatal("keys left")
	}
}
