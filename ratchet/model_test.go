package ratchet

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

// inFlight is a letter with what became of it.
type inFlight struct {
	letter
	opened bool
}

// TestModel runs two ends under any schedule of sending, loss, duplicates,
// reordering, forgery and reopening from the records. The reference
// implementation runs beside them on the same randomness.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := startUnanswered("model")
		ra, part := refInitiate(newStream("model a"), testA, testB)
		rb := refAccept(newStream("model b"), testA, testB, part)
		sides, refs := [2]*side{a, b}, [2]*refSession{ra, rb}
		var way [2][]*inFlight // way[i]: letters for side i

		send := func(from int) {
			p := sides[from]
			l := p.seal()
			if !bytes.Equal(l.slot, refs[from].seal(l.key.Expose(), l.d[:])) {
				t.Fatal("the reference seals other bytes")
			}
			way[1-from] = append(way[1-from], &inFlight{letter: l})
		}
		deliver := func(to, i int) {
			l := way[to][i]
			p := sides[to]
			if l.opened {
				unchangedRapid(t, p, func() {
					if err := p.open(l.letter); !errors.Is(err, ErrDuplicate) && !errors.Is(err, ErrAuth) {
						t.Fatalf("a duplicate: %v", err)
					}
				})
				return
			}
			if err := p.open(l.letter); err != nil {
				t.Fatalf("an honest slot: %v", err)
			}
			l.opened = true
			if !bytes.Equal(l.key.Expose(), refs[to].open(l.slot, l.d[:])) {
				t.Fatal("the reference opens another key")
			}
			if p.s.Skipped() != len(refs[to].mkskipped) {
				t.Fatalf("%d keys kept, the reference keeps %d", p.s.Skipped(), len(refs[to].mkskipped))
			}
		}
		// Message 0 first: until then the responder is provisional.
		send(0)
		deliver(1, 0)

		pick := func(t *rapid.T) (to, i int) {
			to = rapid.IntRange(0, 1).Draw(t, "to")
			if len(way[to]) == 0 {
				to = 1 - to
			}
			if len(way[to]) == 0 {
				t.Skip("nothing on its way")
			}
			// Mostly the newest, sometimes any: long delays come from here.
			i = len(way[to]) - 1
			if rapid.Bool().Draw(t, "late") {
				i = rapid.IntRange(0, len(way[to])-1).Draw(t, "which")
			}
			return to, i
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				from := rapid.IntRange(0, 1).Draw(t, "from")
				for range rapid.IntRange(1, 4).Draw(t, "count") {
					send(from)
				}
			},
			"deliver": func(t *rapid.T) { to, i := pick(t); deliver(to, i) },
			"deliver again, or now": func(t *rapid.T) {
				to, i := pick(t)
				deliver(to, i)
				deliver(to, i)
			},
			"lose": func(t *rapid.T) {
				to, i := pick(t)
				way[to] = append(way[to][:i:i], way[to][i+1:]...)
			},
			"forge": func(t *rapid.T) {
				to, i := pick(t)
				l := way[to][i].letter
				l.slot = bytes.Clone(l.slot)
				switch rapid.IntRange(0, 3).Draw(t, "how") {
				case 0:
					l.slot[rapid.IntRange(0, SlotSize-1).Draw(t, "byte")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
				case 1: // under another envelope
					l.d = wire.Hash("test/rebound", l.d[:])
				case 2: // back to its sender
					to = 1 - to
				case 3: // a readable header over nothing
					l = forge(sides[to], header{
						ratchet: sides[to].s.remote,
						n:       rapid.Uint32Range(0, 40).Draw(t, "n"),
						pn:      rapid.Uint32Range(0, 40).Draw(t, "pn"),
					})
				}
				unchangedRapid(t, sides[to], func() {
					if sides[to].open(l) == nil {
						t.Fatal("a forged slot opened")
					}
				})
			},
			"reopen": func(t *rapid.T) { sides[rapid.IntRange(0, 1).Draw(t, "who")].reopen() },
			"lose the vector entry of a generation nothing was sent in": func(t *rapid.T) {
				p := sides[rapid.IntRange(0, 1).Draw(t, "who")]
				if p.chain.N == 0 && p.chain.Generation == p.s.generation {
					p.chain = SendChain{Generation: p.s.generation - 1, N: 3, Key: [32]byte{1}}
					if p.s.generation == 1 {
						p.chain = SendChain{}
					}
				}
			},
			"": func(t *rapid.T) {
				for i, p := range sides {
					if len(p.record()) > 400+74*p.s.Skipped() {
						t.Fatalf("record of side %d has %d bytes", i, len(p.record()))
					}
				}
			},
		})
		// What is still on its way opens, in any order, once.
		for to := range way {
			for i := range way[to] {
				deliver(to, len(way[to])-1-i)
			}
		}
	})
}

func unchangedRapid(t *rapid.T, p *side, f func()) {
	before := p.record()
	f()
	if !bytes.Equal(before, p.record()) {
		t.Fatal("state changed")
	}
}
