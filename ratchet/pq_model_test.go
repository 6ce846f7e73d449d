package ratchet

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

// pqModel is two ends that reinforce, under any schedule of sending, loss,
// duplicates, reordering, forgery and restart, with the reference beside.
type pqModel struct {
	ends [2]*pqSide
	way  [2][]*inFlight // way[i]: letters for end i

	other []byte // the encapsulation of another session, to the same key
}

func (m *pqModel) send(t *rapid.T, from int, control bool) {
	p := m.ends[from]
	var l letter
	if control {
		l = p.sealControl()
	} else {
		l = p.seal()
	}
	if !bytes.Equal(l.slot, p.ref.seal(l.key.Expose(), l.d[:], control)) {
		t.Fatal("the reference seals other bytes")
	}
	m.way[1-from] = append(m.way[1-from], &inFlight{letter: l})
}

func (m *pqModel) deliver(t *rapid.T, to int, l *inFlight) {
	p := m.ends[to]
	if l.opened {
		unchangedRapid(t, p.side, func() {
			if err := p.open(l.letter); !errors.Is(err, ErrDuplicate) && !errors.Is(err, ErrAuth) {
				t.Fatalf("a duplicate: %v", err)
			}
		})
		return
	}
	if err := p.open(l.letter); err != nil {
		t.Fatalf("an honest slot of %d bytes: %v", len(l.slot), err)
	}
	l.opened = true
	if !bytes.Equal(l.key.Expose(), p.ref.open(l.slot, l.d[:])) {
		t.Fatal("the reference opens another key")
	}
}

// forge changes a letter so that it must not open.
func (m *pqModel) forge(t *rapid.T, to int, l letter) letter {
	l.slot = bytes.Clone(l.slot)
	switch how := rapid.IntRange(0, 4).Draw(t, "how"); {
	case how == 0:
		l.slot[rapid.IntRange(0, len(l.slot)-1).Draw(t, "byte")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
	case how == 1:
		l.d = wire.Hash("test/rebound", l.d[:])
	case how == 2 && len(l.slot) == ControlSlotSize: // the encapsulation taken off
		l.slot = l.slot[ControlSlotSize-SlotSize:]
	case how == 2: // put on
		l.slot = append(make([]byte, ControlSlotSize-SlotSize), l.slot...)
	case how == 3 && len(l.slot) == ControlSlotSize: // exchanged for a good one of another
		copy(l.slot, m.other)
	default: // counting a mix more, over nothing
		p := m.ends[to].s
		f := forge(m.ends[to].side, header{ratchet: [32]byte(testA.party.Identity), mixes: p.nextMixes() + 1})
		l.slot = append(bytes.Clone(l.slot[:len(l.slot)-SlotSize]), f.slot...)
	}
	return l
}

func (m *pqModel) check(t *rapid.T) {
	for i, p := range m.ends {
		k := 0
		if p.s.kem != nil {
			k = 1
			if p.s.kem.sent != nil {
				k += 4 + 1088 + 32 + 4
			}
			if (p.s.kem.received != nil) != (p.ref.got != nil) {
				t.Fatalf("end %d: received %v", i, p.s.kem.received != nil)
			}
			if k1 := p.s.kem.received; k1 != nil {
				k += 64
			}
		}
		if p.s.Mixes() != p.ref.n || p.pending() != (p.ref.sent != nil) || p.s.Skipped() != len(p.ref.mkskipped) {
			t.Fatalf("end %d: %d mixes, pending %v, %d skipped; the reference %d, %v, %d",
				i, p.s.Mixes(), p.pending(), p.s.Skipped(), p.ref.n, p.ref.sent != nil, len(p.ref.mkskipped))
		}
		if p.s.root != [32]byte(p.ref.rk) {
			t.Fatalf("end %d: the reference has another root key", i)
		}
		if got, most := len(p.record()), 376+k+75*p.s.Skipped(); got > most {
			t.Fatalf("record of end %d has %d bytes, at most %d expected", i, got, most)
		}
	}
}

func TestReinforceModel(t *testing.T) {
	stranger, _ := pqStart("stranger", false)
	_, known := pqStart("pq model", false)
	must(stranger.s.Reinforce(stranger.rand, &known.theirs[0]))
	other := stranger.sealControl().slot[:ControlSlotSize-SlotSize]
	rapid.Check(t, func(t *rapid.T) {
		m := &pqModel{other: other}
		m.ends[0], m.ends[1] = pqStart("pq model", rapid.Bool().Draw(t, "mixed"))
		pick := func(t *rapid.T) (to int, l *inFlight) {
			to = rapid.IntRange(0, 1).Draw(t, "to")
			if len(m.way[to]) == 0 {
				t.Skip("nothing on its way")
			}
			i := len(m.way[to]) - 1
			if rapid.IntRange(0, 3).Draw(t, "late") == 0 {
				i = rapid.IntRange(0, i).Draw(t, "which")
			}
			return to, m.way[to][i]
		}
		control := func(t *rapid.T) {
			from := rapid.IntRange(0, 1).Draw(t, "from")
			if !m.ends[from].pending() {
				t.Skip("nothing to send")
			}
			m.send(t, from, true)
			if _, sealed := m.ends[from].s.Reinforcing(); !sealed {
				t.Fatal("a control slot is not noted")
			}
		}
		round := func(t *rapid.T) {
			from := rapid.IntRange(0, 1).Draw(t, "from")
			for _, i := range []int{from, 1 - from} {
				m.send(t, i, m.ends[i].pending() && rapid.Bool().Draw(t, "control"))
				m.deliver(t, 1-i, m.way[1-i][len(m.way[1-i])-1])
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"send":                  func(t *rapid.T) { m.send(t, rapid.IntRange(0, 1).Draw(t, "from"), false) },
			"send a control slot":   control,
			"and another":           control,
			"there and back":        round,
			"there and back, again": round,
			"deliver":               func(t *rapid.T) { to, l := pick(t); m.deliver(t, to, l) },
			"deliver more":          func(t *rapid.T) { to, l := pick(t); m.deliver(t, to, l); m.deliver(t, to, l) },
			"reopen":                func(t *rapid.T) { m.ends[rapid.IntRange(0, 1).Draw(t, "who")].reopen() },
			"forge": func(t *rapid.T) {
				to, l := pick(t)
				forged := m.forge(t, to, l.letter)
				unchangedRapid(t, m.ends[to].side, func() {
					if m.ends[to].open(forged) == nil {
						t.Fatal("a forged slot opened")
					}
				})
			},
			"lose": func(t *rapid.T) {
				to, l := pick(t)
				for i := range m.way[to] {
					if m.way[to][i] == l {
						m.way[to] = append(m.way[to][:i:i], m.way[to][i+1:]...)
						break
					}
				}
			},
			"a control slot comes after the answer to its chain": func(t *rapid.T) {
				from := rapid.IntRange(0, 1).Draw(t, "from")
				if !m.ends[from].pending() {
					t.Skip("nothing to send")
				}
				m.send(t, from, true)
				late := m.way[1-from][len(m.way[1-from])-1]
				for _, i := range []int{from, 1 - from} {
					m.send(t, i, false)
					m.deliver(t, 1-i, m.way[1-i][len(m.way[1-i])-1])
				}
				m.reinforce(t, from)
				m.deliver(t, 1-from, late)
			},
			"reinforce": func(t *rapid.T) { m.reinforce(t, rapid.IntRange(0, 1).Draw(t, "from")) },
			"":          m.check,
		})
		for to := range m.way {
			for i := range m.way[to] {
				m.deliver(t, to, m.way[to][len(m.way[to])-1-i])
			}
		}
		// Rounds without loss leave only what no key is held for, and that can be
		// replaced when it has not been sent for two generations.
		m.rounds(t)
		for i, p := range m.ends {
			if p.pending() && p.s.encapsulation().kem != notHeld || p.s.kemReceived() != nil {
				t.Fatalf("end %d: an encapsulation was never mixed", i)
			}
		}
		m.rounds(t)
		before := m.ends[0].ref.mixes
		for i, p := range m.ends {
			if err := p.reinforce(m.ends[1-i], 1); err != nil {
				t.Fatal(err)
			}
		}
		m.rounds(t)
		for i, p := range m.ends {
			if p.pending() || p.ref.mixes != before+2 {
				t.Fatalf("end %d: %d mixes after %d, pending %v", i, p.ref.mixes, before, p.pending())
			}
		}
	})
}

// reinforce encapsulates to a key of the peer, held or not.
func (m *pqModel) reinforce(t *rapid.T, from int) {
	p := m.ends[from]
	e := p.s.encapsulation()
	replaceable := e == nil || e.sealed == 0 || p.s.generation >= e.sealed+2
	key := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 1, 2}).Draw(t, "key")
	if err := p.reinforce(m.ends[1-from], key); (err == nil) != replaceable || err != nil && !errors.Is(err, ErrPending) {
		t.Fatalf("replaceable %v: %v", replaceable, err)
	}
}

// rounds lets three slots of each side through.
func (m *pqModel) rounds(t *rapid.T) {
	for range 3 {
		for from, p := range m.ends {
			m.send(t, from, p.pending() && p.s.encapsulation().kem != notHeld)
			m.deliver(t, 1-from, m.way[1-from][len(m.way[1-from])-1])
			m.check(t)
		}
	}
}
