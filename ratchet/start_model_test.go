package ratchet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

// pairModel is two members and the paths between them, each a small member: it
// may start a session at any moment, also while the other does, tries what comes
// on all its sessions and keeps what does not open yet. It says nothing of the
// reference, which runs beside one session in model_test.go and
// mix_model_test.go; it is about which sessions there are and who agrees.
type pairModel struct {
	paths  Paths // K = 0: unmixed, but the relays carry all the same
	kinds  []pathKind
	ends   [2]*pairEnd
	all    map[wire.Digest]*inFlight // every letter, by its envelope
	sent   []copyOnPath              // every copy there was: a path may bring it again
	way    []copyOnPath
	hellos map[wire.Digest]*heldSession // every initiator, by T
}

// copyOnPath is a slot as a path carries it, in one of its three forms.
type copyOnPath struct {
	to, path int
	bytes    []byte
	d        wire.Digest
	hello    wire.Digest // T, of a hello
}

// pairEnd is one member.
type pairEnd struct {
	name       string
	self, peer *end
	sessions   []*heldSession
	hellos     map[wire.Digest]*heldHello
	inbox      []copyOnPath
	started    int
}

type heldSession struct {
	side
	part   [HandshakeSize]byte // initiator
	shares [][ShareSize]byte   // initiator: by path
}

// heldHello is a hello that has no session yet: what came of it, and what was
// computed from that.
type heldHello struct {
	part   []byte
	shares map[int][ShareSize]byte // that opened, by path
	acc    *Accepting
	once   *Session // of an unmixed hello
}

func newPairModel(t *rapid.T) *pairModel {
	n := rapid.IntRange(1, 4).Draw(t, "n")
	m := &pairModel{paths: testPaths(rapid.IntRange(0, n).Draw(t, "k"), n), all: map[wire.Digest]*inFlight{}, hellos: map[wire.Digest]*heldSession{}}
	for range n {
		m.kinds = append(m.kinds, rapid.SampledFrom([]pathKind{honest, honest, silent, lying}).Draw(t, "kind"))
	}
	m.ends[0] = &pairEnd{name: "first", self: testA, peer: testB, hellos: map[wire.Digest]*heldHello{}}
	m.ends[1] = &pairEnd{name: "second", self: testB, peer: testA, hellos: map[wire.Digest]*heldHello{}}
	return m
}

func (m *pairModel) contact(e *pairEnd) *Contact { return contact(e.self, e.peer).with(m.paths) }

// start is a first contact, or a further attempt.
func (m *pairModel) start(t *rapid.T, who int) {
	e := m.ends[who]
	if e.started == 2 {
		return
	}
	e.started++
	h := &heldSession{side: side{rand: newStream(fmt.Sprint(e.name, " starts ", e.started))}}
	var err error
	if m.paths.K == 0 {
		h.s, h.chain, h.part, err = Initiate(h.rand, h.rand, m.contact(e), &e.peer.pre)
		h.shares = make([][ShareSize]byte, len(m.kinds))
		for i := range h.shares {
			h.rand.Read(h.shares[i][:]) // the share space: nobody reads it
		}
	} else {
		h.s, h.chain, h.part, h.shares, err = InitiateMixed(h.rand, h.rand, contact(e.self, e.peer), &e.peer.pre, m.paths)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.sessions = append(e.sessions, h)
	m.hellos[h.s.Transcript()] = h
}

// sending is the session that an end sends on: one whose answer is not awaited
// before one whose is, and the smaller transcript of those (protocol.md 5.3).
func (e *pairEnd) sending() *heldSession {
	var best *heldSession
	awaits := func(h *heldSession) bool { return h.s.Initiator() && !h.s.Confirmed() }
	for _, h := range e.sessions {
		if !h.s.CanSend(h.chain) {
			continue
		}
		x, y := h.s.Transcript(), wire.Digest{}
		if best != nil {
			y = best.s.Transcript()
		}
		if best == nil || awaits(best) && !awaits(h) || awaits(best) == awaits(h) && bytes.Compare(x[:], y[:]) < 0 {
			best = h
		}
	}
	return best
}

func (m *pairModel) send(who int) {
	h := m.ends[who].sending()
	if h == nil {
		return
	}
	l := h.seal()
	m.all[l.d] = &inFlight{letter: l}
	for path, relay := range m.paths.Relays {
		c := copyOnPath{to: 1 - who, path: path, d: l.d, bytes: l.slot}
		share, long := h.s.AnswerShare(relay)
		switch {
		case h.s.Initiator() && !h.s.Confirmed():
			c.bytes, c.hello = cat(h.part[:], h.shares[path][:], l.slot), h.s.Transcript()
		case long || !h.s.Confirmed():
			c.bytes = cat(share[:], l.slot)
		}
		m.way, m.sent = append(m.way, c), append(m.sent, c)
	}
}

// arrive is what a path makes of a copy.
func (m *pairModel) arrive(t *rapid.T, c copyOnPath) {
	switch m.kinds[c.path] {
	case silent:
		return
	case lying:
		if rapid.Bool().Draw(t, "lie") {
			c = m.spoil(t, c)
		}
	}
	e := m.ends[c.to]
	if len(c.bytes) == HelloSlotSize {
		m.hear(t, e, c)
	}
	same := func(o copyOnPath) bool { return o.path == c.path && o.d == c.d && bytes.Equal(o.bytes, c.bytes) }
	if !slices.ContainsFunc(e.inbox, same) {
		e.inbox = append(e.inbox, c)
		m.progress(t, e)
	}
}

func (m *pairModel) spoil(t *rapid.T, c copyOnPath) copyOnPath {
	other := m.sent[rapid.IntRange(0, len(m.sent)-1).Draw(t, "with")]
	c.bytes, c.hello = bytes.Clone(c.bytes), wire.Digest{}
	inner := len(c.bytes) - SlotSize
	switch rapid.IntRange(0, 5).Draw(t, "how") {
	case 0:
		c.bytes[rapid.IntRange(0, len(c.bytes)-1).Draw(t, "byte")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
	case 1: // another slot in it
		copy(c.bytes[inner:], other.bytes[len(other.bytes)-SlotSize:])
	case 2: // for another envelope
		c.d = other.d
	case 3: // another path's share, or another attempt's
		if inner > 0 && len(other.bytes) > SlotSize {
			copy(c.bytes[inner-ShareSize:inner], other.bytes[len(other.bytes)-SlotSize-ShareSize:])
		}
	case 4: // another handshake part
		if inner == HelloSlotSize-SlotSize && len(other.bytes) == HelloSlotSize {
			copy(c.bytes, other.bytes[:HandshakeSize])
		}
	case 5: // another copy altogether, also one that goes the other way
		c.bytes, c.d = other.bytes, other.d
	}
	return c
}

// hear takes in the handshake part and the share of a hello.
func (m *pairModel) hear(t *rapid.T, e *pairEnd, c copyOnPath) {
	part := c.bytes[:HandshakeSize]
	tr, err := HandshakeTranscript(m.contact(e), part)
	if err != nil {
		t.Fatal(err)
	}
	if c.hello != (wire.Digest{}) && tr != c.hello {
		t.Fatal("the ends of a hello have two transcripts")
	}
	if e.session(tr) != nil {
		return
	}
	h := e.hellos[tr]
	if h == nil {
		h = &heldHello{part: part, shares: map[int][ShareSize]byte{}}
		if m.paths.K > 0 && !m.begin(t, e, h) {
			return
		}
		e.hellos[tr] = h
	}
	if m.paths.K == 0 {
		return
	}
	share := [ShareSize]byte(c.bytes[HandshakeSize:])
	switch err := h.acc.Share(m.paths.Relays[c.path], share); {
	case err == nil:
		h.shares[c.path] = share
		if m.hellos[tr] == nil || m.hellos[tr].shares[c.path] != share {
			t.Fatal("a share opened that nobody sealed for this path")
		}
	case c.hello != (wire.Digest{}) || !errors.Is(err, ErrShare):
		t.Fatalf("a share of path %d, true %v: %v", c.path, c.hello != wire.Digest{}, err)
	}
}

// begin makes the Accepting of a hello from what is kept of it.
func (m *pairModel) begin(t *rapid.T, e *pairEnd, h *heldHello) bool {
	acc, err := AcceptMixed(contact(e.self, e.peer), []PrekeysPrivate{e.self.own}, h.part, m.paths)
	if err != nil {
		return false // a spoiled prekey id or ephemeral key
	}
	for path, share := range h.shares {
		if err := acc.Share(m.paths.Relays[path], share); err != nil {
			t.Fatalf("a share that had opened: %v", err)
		}
	}
	h.acc = acc
	return true
}

func (e *pairEnd) session(tr wire.Digest) *heldSession {
	i := slices.IndexFunc(e.sessions, func(h *heldSession) bool { return h.s.Transcript() == tr })
	if i < 0 {
		return nil
	}
	return e.sessions[i]
}

// progress tries what waits until nothing opens any more: a slot may open what
// came before it.
func (m *pairModel) progress(t *rapid.T, e *pairEnd) {
	for opened := true; opened; {
		opened = false
		e.inbox = slices.DeleteFunc(e.inbox, func(c copyOnPath) bool { return m.all[c.d].opened })
		for _, c := range e.inbox {
			if m.try(t, e, c) {
				opened = true
				break
			}
		}
	}
}

// try opens a copy on any session, or makes the session that it begins.
func (m *pairModel) try(t *rapid.T, e *pairEnd, c copyOnPath) bool {
	l := letter{slot: c.bytes[len(c.bytes)-SlotSize:], d: c.d, key: m.all[c.d].key}
	opened := false
	for _, h := range e.sessions {
		before := h.record()
		awaited := h.s.awaited != nil
		var err error
		if len(c.bytes) == AnsweringSlotSize {
			err = h.openAnswer(m.paths.Relays[c.path], c.bytes, l)
		} else {
			err = h.open(l)
		}
		if err == nil {
			m.opened(t, c.d)
			opened = true
			break
		}
		// Staging a share is the one change that an error may come with.
		if !(awaited && len(c.bytes) == AnsweringSlotSize) && !bytes.Equal(before, h.record()) {
			t.Fatalf("the state changed with %v", err)
		}
	}
	if opened || len(c.bytes) != HelloSlotSize {
		return opened
	}
	tr, _ := HandshakeTranscript(m.contact(e), c.bytes[:HandshakeSize])
	hello := e.hellos[tr]
	if hello == nil {
		return false
	}
	h := &heldSession{side: side{rand: newStream("accepts " + tr.String())}}
	if m.paths.K == 0 {
		if hello.once == nil {
			hello.once, _ = Accept(m.contact(e), []PrekeysPrivate{e.self.own}, hello.part)
		}
		if h.s = hello.once; h.s == nil {
			return false
		}
	} else {
		var ok bool
		if h.s, ok = hello.acc.Ready(); !ok {
			return false
		}
	}
	if h.open(l) != nil {
		return false
	}
	if len(hello.shares) < m.paths.K {
		t.Fatalf("a session by %d shares of %d", len(hello.shares), m.paths.K)
	}
	m.opened(t, c.d)
	e.sessions = append(e.sessions, h)
	delete(e.hellos, tr)
	return true
}

func (m *pairModel) opened(t *rapid.T, d wire.Digest) {
	if m.all[d].opened {
		t.Fatal("a letter opened twice")
	}
	m.all[d].opened = true
}

// restart is a crash and a start from the store: sessions from their records,
// hellos from what was kept of them.
func (m *pairModel) restart(t *rapid.T, e *pairEnd) {
	for _, h := range e.sessions {
		h.reopen()
	}
	for _, h := range e.hellos {
		h.once = nil
		if m.paths.K == 0 {
			continue
		}
		h.acc.Zero()
		if !m.begin(t, e, h) {
			t.Fatal("a hello that had been accepted")
		}
	}
}

// finish lets the honest paths bring everything there was, again and again as
// senders do, and both ends talk for a while.
func (m *pairModel) finish(t *rapid.T) {
	able := 0
	for _, kind := range m.kinds {
		if kind == honest {
			able++
		}
	}
	m.start(t, 0) // if nobody has
	for range 4 {
		for who := range m.ends {
			m.send(who)
			for _, c := range slices.Clone(m.sent) {
				if m.kinds[c.path] == honest && (!m.all[c.d].opened || len(c.bytes) == HelloSlotSize) {
					m.arrive(t, c)
				}
			}
		}
	}
	if able < max(1, m.paths.K) {
		return
	}
	for d, l := range m.all {
		if !l.opened {
			t.Fatalf("letter %v never opened, with %d honest paths and k = %d", d, able, m.paths.K)
		}
	}
	a, b := m.ends[0].sending(), m.ends[1].sending()
	if a == nil || b == nil || a.s.Transcript() != b.s.Transcript() || !a.s.Confirmed() || !b.s.Confirmed() {
		t.Fatal("the ends do not agree on the session to send on")
	}
	if a.s.Initiator() == b.s.Initiator() {
		t.Fatal("two initiators of one session")
	}
	for _, e := range m.ends {
		for _, h := range e.sessions {
			if _, ok := h.s.AnswerShare(m.paths.Relays[0]); ok && h.s.Confirmed() {
				t.Fatal("a share of the answer after confirmation")
			}
			if h.s.Skipped() != 0 {
				t.Fatalf("%d keys for letters that all came", h.s.Skipped())
			}
		}
	}
	m.repeat(t)
}

// repeat brings every copy once more to every session: nothing opens, and
// nothing changes.
func (m *pairModel) repeat(t *rapid.T) {
	for _, c := range m.sent {
		for _, e := range m.ends {
			for _, h := range e.sessions {
				before := h.record()
				l := letter{slot: c.bytes[len(c.bytes)-SlotSize:], d: c.d, key: m.all[c.d].key}
				err := h.open(l)
				if len(c.bytes) == AnsweringSlotSize {
					err = h.openAnswer(m.paths.Relays[c.path], c.bytes, l)
				}
				if err == nil || !bytes.Equal(before, h.record()) && h.s.awaited == nil {
					t.Fatalf("a repetition: %v", err)
				}
			}
		}
	}
}

// TestConcurrentStarts runs two ends that may start sessions at any moment over
// honest, silent and lying paths, with losses, repetitions, forgeries and
// restarts: every letter opens once, and both send on one session in the end.
func TestConcurrentStarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newPairModel(t)
		who := func(t *rapid.T) int { return rapid.IntRange(0, 1).Draw(t, "who") }
		pick := func(t *rapid.T, from []copyOnPath) int {
			if len(from) == 0 {
				t.Skip("nothing on its way")
			}
			return rapid.IntRange(0, len(from)-1).Draw(t, "which")
		}
		t.Repeat(map[string]func(*rapid.T){
			"start":     func(t *rapid.T) { m.start(t, who(t)) },
			"both send": func(*rapid.T) { m.send(0); m.send(1) },
			"send":      func(t *rapid.T) { m.send(who(t)) },
			"deliver": func(t *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(t, "count") {
					i := pick(t, m.way)
					c := m.way[i]
					m.way = slices.Delete(m.way, i, i+1)
					m.arrive(t, c)
				}
			},
			"deliver again": func(t *rapid.T) { m.arrive(t, m.sent[pick(t, m.sent)]) },
			"lose":          func(t *rapid.T) { i := pick(t, m.way); m.way = slices.Delete(m.way, i, i+1) },
			"restart":       func(t *rapid.T) { m.restart(t, m.ends[who(t)]) },
		})
		m.finish(t)
	})
}
