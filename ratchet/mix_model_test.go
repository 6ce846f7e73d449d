package ratchet

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/keys"
)

// pathKind is what a path does with what it carries.
type pathKind int

const (
	honest pathKind = iota
	silent
	lying
)

// mixModel is two ends and n paths between them, any schedule, with the
// reference beside on the same randomness.
type mixModel struct {
	paths Paths
	kinds []pathKind

	a, b   *side
	acc    *Accepting
	hello  *mixedHello
	other  *mixedHello // of another attempt: what a liar may have kept
	zero   letter
	heard  map[int]bool // paths whose true share the responder has
	staged map[int]bool // paths whose true answer share the initiator has
	way    [2][]*inFlight

	ra, rb *refSession
}

func newMixModel(t *rapid.T) *mixModel {
	n := rapid.IntRange(1, 5).Draw(t, "n")
	m := &mixModel{paths: testPaths(rapid.IntRange(1, n).Draw(t, "k"), n), heard: map[int]bool{}, staged: map[int]bool{}}
	m.kinds = make([]pathKind, n)
	for i := range m.kinds {
		m.kinds[i] = pathKind(rapid.SampledFrom([]pathKind{honest, honest, silent, lying}).Draw(t, "kind"))
	}
	m.a, m.hello = initiateMixed("mix model", testA, testB, m.paths)
	_, m.other = initiateMixed("mix model, earlier", testA, testB, m.paths)
	m.b = &side{rand: newStream("mix model b")}
	m.acc = m.hello.accept(testA, testB)
	m.ra, _, _, _ = refInitiateMixed(newStream("mix model a"), testA, testB, &refMix{k: m.paths.K, relays: m.paths.Relays})
	m.zero = m.seal(t, 0)
	return m
}

func (m *mixModel) seal(t *rapid.T, from int) letter {
	p, ref := m.a, m.ra
	if from == 1 {
		p, ref = m.b, m.rb
	}
	l := p.seal()
	if !bytes.Equal(l.slot, ref.seal(l.key.Expose(), l.d[:])) {
		t.Fatal("the reference seals other bytes")
	}
	return l
}

// lie makes a share that a path may bring instead of its own.
func (m *mixModel) lie(t *rapid.T, path int, own [ShareSize]byte, all func(path int) [ShareSize]byte) [ShareSize]byte {
	n := len(m.kinds)
	switch rapid.IntRange(0, 4).Draw(t, "lie") {
	case 0:
		own[rapid.IntRange(0, ShareSize-1).Draw(t, "byte")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
	case 1:
		newStream("noise").Read(own[:])
	case 2:
		if n > 1 { // another path's
			return all((path + rapid.IntRange(1, n-1).Draw(t, "whose")) % n)
		}
		own[0] ^= 1
	case 3:
		return m.other.shares[path]
	case 4: // an honest part of the hello where an answer belongs, or zeros
		if own == m.hello.shares[path] {
			return [ShareSize]byte{}
		}
		return m.hello.shares[path]
	}
	return own
}

// deliverHello brings the hello on a path, as that path brings it.
func (m *mixModel) deliverHello(t *rapid.T, path int) {
	if m.b.s != nil || m.kinds[path] == silent {
		return
	}
	relay := m.paths.Relays[path]
	share := m.hello.shares[path]
	if m.kinds[path] == lying {
		share = m.lie(t, path, share, func(i int) [ShareSize]byte { return m.hello.shares[i] })
	}
	err := m.acc.Share(relay, share)
	if m.kinds[path] == lying {
		if !errors.Is(err, ErrShare) {
			t.Fatalf("a lying share: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatalf("an honest share: %v", err)
	}
	m.heard[path] = true
	have, need := m.acc.Shares()
	s, ok := m.acc.Ready()
	if have != len(m.heard) || need != m.paths.K || ok != (have >= need) {
		t.Fatalf("%d of %d shares, ready %v; %d came", have, need, ok, len(m.heard))
	}
	if !ok {
		return
	}
	m.b.s = s
	l := m.zero
	if rapid.Bool().Draw(t, "spoiled copy of message 0 first") {
		l.slot = bytes.Clone(l.slot)
		l.slot[rapid.IntRange(0, SlotSize-1).Draw(t, "byte")] ^= 1
		if m.b.open(l) == nil {
			t.Fatal("a spoiled message 0 opened")
		}
	}
	if err := m.b.open(m.zero); err != nil {
		t.Fatalf("message 0 with enough shares: %v", err)
	}
	sealed := make([][]byte, len(m.kinds))
	for i := range m.heard {
		sealed[i] = m.hello.shares[i][:]
	}
	m.rb = refAcceptMixed(newStream("mix model b"), testA, testB, m.hello.part[:], sealed, &refMix{k: m.paths.K, relays: m.paths.Relays})
	if !bytes.Equal(m.rb.open(m.zero.slot, m.zero.d[:]), m.zero.key.Expose()) {
		t.Fatal("the reference opens another key")
	}
	for i := range m.kinds {
		share, ok := m.b.s.AnswerShare(m.paths.Relays[i])
		if !ok || !bytes.Equal(share[:], m.rb.mix.shares[i]) {
			t.Fatalf("share %d of the answer is not the reference's", i)
		}
	}
	m.acc.Zero()
}

func (m *mixModel) rebuild(t *rapid.T) {
	if m.b.s != nil {
		m.b.reopen()
		return
	}
	m.acc = m.hello.accept(testA, testB)
	for i := range m.heard {
		if err := m.acc.Share(m.paths.Relays[i], m.hello.shares[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *mixModel) opened(t *rapid.T, to int, l *inFlight) {
	if l.opened {
		t.Fatal("a slot opened twice")
	}
	l.opened = true
	ref := []*refSession{m.ra, m.rb}[to]
	if to == 0 && !m.ra.mix.done {
		for i := range m.staged {
			m.ra.mix.given[i] = m.rb.mix.shares[i]
		}
	}
	if !bytes.Equal(l.key.Expose(), ref.open(l.slot, l.d[:])) {
		t.Fatal("the reference opens another key")
	}
}

// deliver brings a letter on a path.
func (m *mixModel) deliver(t *rapid.T, to, path int, l *inFlight) {
	kind := m.kinds[path]
	if kind == silent || to == 1 && m.b.s == nil {
		return
	}
	relay := m.paths.Relays[path]
	mine := l.letter
	spoil := kind == lying && rapid.Bool().Draw(t, "spoil the slot")
	if spoil {
		mine.slot = bytes.Clone(mine.slot)
		mine.slot[headerSize] ^= 1
	}
	var err error
	awaiting := to == 0 && m.a.s.awaited != nil
	before := 0
	if share, long := m.share(to, relay); long {
		lied := kind == lying && rapid.Bool().Draw(t, "lie about the share")
		if lied {
			share = m.lie(t, path, share, func(i int) [ShareSize]byte { return [ShareSize]byte(m.rb.mix.shares[i]) })
		}
		before = len(m.staged)
		if awaiting && !lied {
			m.staged[path] = true
		}
		err = m.a.openAnswer(relay, append(share[:], mine.slot...), mine)
		if awaiting && lied && before < m.paths.K {
			if !errors.Is(err, ErrShare) {
				t.Fatalf("a lying share of the answer: %v", err)
			}
			return
		}
	} else {
		err = []*side{m.a, m.b}[to].open(mine)
	}
	switch {
	case awaiting && len(m.staged) < m.paths.K:
		if !errors.Is(err, ErrShares) {
			t.Fatalf("%d of %d shares: %v", len(m.staged), m.paths.K, err)
		}
	case spoil && !l.opened || l.opened:
		if err == nil {
			t.Fatal("a spoiled slot, or a duplicate, opened")
		}
	case err != nil:
		t.Fatalf("an honest slot: %v", err)
	default:
		m.opened(t, to, l)
	}
}

// share is what rides in front of the responder's slots, while it does.
func (m *mixModel) share(to int, relay keys.RelayPublic) (share [ShareSize]byte, ok bool) {
	if to == 1 {
		return share, false
	}
	return m.b.s.AnswerShare(relay)
}

func TestMixModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMixModel(t)
		path := func(t *rapid.T) int { return rapid.IntRange(0, len(m.kinds)-1).Draw(t, "path") }
		send := func(from int) {
			if from == 1 && m.b.s == nil {
				return
			}
			m.way[1-from] = append(m.way[1-from], &inFlight{letter: m.seal(t, from)})
		}
		t.Repeat(map[string]func(*rapid.T){
			"hello":           func(t *rapid.T) { m.deliverHello(t, path(t)) },
			"initiator sends": func(*rapid.T) { send(0) },
			"responder sends": func(*rapid.T) { send(1) },
			"deliver": func(t *rapid.T) {
				to := rapid.IntRange(0, 1).Draw(t, "to")
				if len(m.way[to]) > 0 {
					m.deliver(t, to, path(t), rapid.SampledFrom(m.way[to]).Draw(t, "letter"))
				}
			},
			"restart the initiator": func(*rapid.T) { m.a.reopen() },
			"restart the responder": func(t *rapid.T) { m.rebuild(t) },
			"": func(t *rapid.T) {
				if have, need := m.a.s.AnswerShares(); m.a.s.awaited != nil && (have != len(m.staged) || need != m.paths.K) {
					t.Fatalf("%d of %d shares of the answer, %d came", have, need, len(m.staged))
				}
				for i, p := range []*side{m.a, m.b} {
					if p.s != nil && p.s.Confirmed() && len(p.record()) > 400+75*p.s.Skipped() {
						t.Fatalf("record of side %d has %d bytes", i, len(p.record()))
					}
				}
			},
		})
		m.finish(t)
	})
}

// finish lets every honest path bring everything, and asks whether that was
// enough: exactly if k of the paths are honest, or brought their shares before.
func (m *mixModel) finish(t *rapid.T) {
	everything := func(to int) {
		for i, kind := range m.kinds {
			for _, l := range m.way[to] {
				if kind == honest && !l.opened {
					m.deliver(t, to, i, l)
				}
			}
		}
	}
	for i, kind := range m.kinds {
		if kind == honest {
			m.deliverHello(t, i)
		}
	}
	able := 0
	for _, kind := range m.kinds {
		if kind == honest {
			able++
		}
	}
	if got := m.b.s != nil; got != (able >= m.paths.K) {
		t.Fatalf("%d honest paths of %d, k = %d: begun %v", able, len(m.kinds), m.paths.K, got)
	}
	if m.b.s == nil {
		return
	}
	m.way[0] = append(m.way[0], &inFlight{letter: m.seal(t, 1)})
	for range 3 { // an answer opens what came before it
		everything(1)
		everything(0)
	}
	for to := range m.way {
		if i := slices.IndexFunc(m.way[to], func(l *inFlight) bool { return !l.opened }); i >= 0 {
			t.Fatalf("letter %d for side %d never opened", i, to)
		}
	}
	m.way[1] = append(m.way[1], &inFlight{letter: m.seal(t, 0)})
	everything(1)
	if !m.a.s.Confirmed() || !m.b.s.Confirmed() || m.b.s.answer != nil || m.a.s.awaited != nil {
		t.Fatal("not confirmed, or shares are kept")
	}
	if m.a.s.root != [32]byte(m.ra.rk) || m.b.s.root != [32]byte(m.rb.rk) {
		t.Fatal("root keys are not the reference's")
	}
	if _, ok := m.b.s.AnswerShare(m.paths.Relays[0]); ok {
		t.Fatal("a share of the answer after confirmation")
	}
}
