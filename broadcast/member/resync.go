package member

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"parallax/internal/wire"
	"parallax/ratchet"
)

// Beginning again with a seat (docs/protocol.md section 5.5): what a hello says
// beside its slots, a handshake part sent once more to who missed it, and a new
// attempt in the place of one that cannot be answered. Each is authenticated by
// the slot that carries it, and none clears what people have compared.

// helloFormat is the first byte of a hello's body.
const helloFormat = 1

// MaxHelloNotes bounds what one hello says of seats; those beyond are told in
// the next.
const MaxHelloNotes = 1024

// HelloNote is what a hello says to one seat.
type HelloNote struct {
	Seat     [8]byte     // its first bytes
	Replaces wire.Digest // transcript of the session that the new one takes the place of; zero: none
	Missed   bool        // the sender holds slots of that seat without having got its hello
}

const helloNoteSize = 8 + 32 + 1

// AppendHello appends the body of a hello: format u8 | u16 notes, each seat
// prefix 8 | transcript 32 | missed bool. Notes beyond MaxHelloNotes are left
// out; without any the body is empty.
func AppendHello(b []byte, notes []HelloNote) []byte {
	if len(notes) == 0 {
		return b
	}
	notes = notes[:min(len(notes), MaxHelloNotes)]
	b = wire.AppendU16(append(b, helloFormat), uint16(len(notes)))
	for _, n := range notes {
		b = append(append(b, n.Seat[:]...), n.Replaces[:]...)
		b = wire.AppendBool(b, n.Missed)
	}
	return b
}

// ParseHello reads what AppendHello wrote and nothing else. A note says
// something, and no two are for one seat.
func ParseHello(b []byte) ([]HelloNote, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := wire.NewReader(b)
	if format := r.U8(); format != helloFormat {
		return nil, fmt.Errorf("hello of format %d, this version reads %d: %w", format, helloFormat, wire.ErrFormat)
	}
	n := int(r.U16())
	if n > MaxHelloNotes {
		return nil, fmt.Errorf("hello of %d notes, at most %d: %w", n, MaxHelloNotes, wire.ErrTooLong)
	}
	if n == 0 || n*helloNoteSize > r.Len() {
		return nil, fmt.Errorf("hello of %d notes in %d bytes: %w", n, len(b), wire.ErrFormat)
	}
	notes := make([]HelloNote, n)
	seen := make(map[[8]byte]bool, n)
	for i := range notes {
		r.Fixed(notes[i].Seat[:])
		r.Fixed(notes[i].Replaces[:])
		notes[i].Missed = r.Bool()
		if seen[notes[i].Seat] || !notes[i].Missed && notes[i].Replaces == (wire.Digest{}) {
			r.Fail(wire.ErrFormat)
		}
		seen[notes[i].Seat] = true
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	return notes, nil
}

// Bounds of beginning again with one seat.
const (
	maxAttempts = 3 // first contacts begun in a day, the first included
	maxRepeats  = 3 // times that one handshake part is sent once more
	attemptDay  = 24 * time.Hour
)

// keptHello is the handshake part of an own first contact with its shares, as
// long as no answer has come: who missed it asks, and then it rides in front of
// a later slot, each share on its own path as before.
type keptHello struct {
	transcript wire.Digest
	repeats    uint8
	handshake  [ratchet.HandshakeSize]byte
	shares     [][ratchet.ShareSize]byte // by relay; nil: unmixed
}

// keepHello keeps the handshake part of a session that this end just began.
func (m *Machine) keepHello(st *seatState, s *session, handshake []byte, shares [][ratchet.ShareSize]byte) {
	st.kept = &keptHello{transcript: s.Transcript(), handshake: [ratchet.HandshakeSize]byte(handshake), shares: slices.Clone(shares)}
	m.saveHello(st)
}

func (m *Machine) saveHello(st *seatState) {
	h := st.kept
	b := append(append([]byte(nil), h.transcript[:]...), h.repeats)
	b = append(b, h.handshake[:]...)
	b = append(b, byte(len(h.shares)))
	for i := range h.shares {
		b = append(b, h.shares[i][:]...)
	}
	m.put(m.key(keyKept, st.seat[:]), b)
}

func (m *Machine) loadKept(key, value []byte) error {
	if len(key) != len(wire.Seat{}) {
		return wire.ErrFormat
	}
	h, r := &keptHello{}, wire.NewReader(value)
	r.Fixed(h.transcript[:])
	h.repeats = r.U8()
	r.Fixed(h.handshake[:])
	if n := int(r.U8()); n > 0 && n <= len(m.paths) && r.Len() == n*ratchet.ShareSize {
		h.shares = make([][ratchet.ShareSize]byte, len(m.paths))
		for i := range n {
			r.Fixed(h.shares[i][:])
		}
	} else if n != 0 {
		r.Fail(wire.ErrFormat)
	}
	m.seatOf(wire.Seat(key)).kept = h
	return r.Done()
}

// forgetKept drops the kept handshake part: its session was answered, or another
// takes its place.
func (m *Machine) forgetKept(st *seatState) {
	if st.kept != nil {
		st.kept, st.repeat = nil, false
		m.review(st)
		m.del(m.key(keyKept, st.seat[:]))
	}
}

// unanswered is the session whose handshake part is kept, nil if none is.
func (st *seatState) unanswered() *session {
	if st.kept == nil {
		return nil
	}
	i := slices.IndexFunc(st.session.list, func(s *session) bool { return s.Transcript() == st.kept.transcript })
	if i < 0 || st.session.list[i].Confirmed() {
		return nil
	}
	return st.session.list[i]
}

// appendRepeat makes a slot of the kept session with its handshake part in
// front: of a later message, whose earlier ones the other end then finds among
// the skipped.
func (m *Machine) appendRepeat(dst []byte, st *seatState) (head []byte, s *session, shares [][ratchet.ShareSize]byte) {
	s, h := st.unanswered(), st.kept
	if s == nil || !s.CanSend(m.chains.get(s.index)) {
		return dst, nil, nil
	}
	st.repeat = false
	m.review(st)
	h.repeats++
	m.saveHello(st)
	space := make([]byte, ratchet.ShareSize)
	if h.shares == nil {
		m.draw(space)
	}
	return append(append(dst, h.handshake[:]...), space...), s, h.shares
}

// wants tells whether this end lacks a session that it could send in, or has
// one that nobody can answer, and from when on it may begin another, if the seat
// is reachable then: that costs more to know than all else.
func (m *Machine) wants(st *seatState) (at time.Time, ok bool) {
	if st.own || st.ann == nil || st.since.IsZero() || st.session.index == badPrekeys || m.expired(st) {
		return at, false
	}
	switch s := m.sender(st); {
	case s == nil:
		at = st.since.Add(m.cfg.Limits.HelloWait)
		if st.initial || st.waited && m.reading() && m.drained() {
			// A seat known since before this opening was waited for already, as soon
			// as nothing waits in the mailboxes: a process may live shorter than the wait.
			at = st.since
		}
	case !st.stuck.IsZero() && m.reading() && m.drained():
		at = st.stuck.Add(m.cfg.Limits.AnswerWait)
	default:
		return at, false
	}
	if len(st.attempts) >= maxAttempts {
		if free := time.Unix(st.attempts[0], 0).Add(attemptDay); free.After(at) {
			at = free
		}
	}
	return at, true
}

// starts tells whether this end begins a session with a seat now.
func (m *Machine) starts(st *seatState) bool {
	at, ok := m.wants(st)
	return ok && !m.now.Before(at) && m.reachable(st)
}

// begun notes a first contact that this end began; what it replaces only
// receives from now on.
func (m *Machine) begun(st *seatState, fresh *session) {
	for len(st.attempts) >= maxAttempts {
		st.attempts = slices.Delete(st.attempts, 0, 1)
	}
	st.attempts = append(st.attempts, m.now.Unix())
	for _, s := range st.session.list {
		if s != fresh && (!s.answered() || !st.stuck.IsZero()) {
			s.retired = true
		}
	}
	st.stuck = time.Time{}
	m.review(st)
	m.saveSeat(st)
}

// notes are what a hello made now says: of each seat that this end begins with
// the session that it replaces, and whether slots of that seat wait for a hello.
func (m *Machine) notes() (list []HelloNote) {
	for _, st := range m.lacking {
		if !m.usable(st) || !m.starts(st) {
			continue
		}
		n := HelloNote{Seat: [8]byte(st.seat[:8]), Missed: len(st.session.list) == 0 && m.holds(st.seat)}
		if s := m.sender(st); s != nil {
			n.Replaces = s.Transcript()
		}
		if n.Missed || n.Replaces != (wire.Digest{}) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b HelloNote) int { return slices.Compare(a.Seat[:], b.Seat[:]) })
	return list
}

// sawHello acts on what a hello says to this seat.
func (m *Machine) sawHello(st *seatState, body []byte) {
	notes, err := ParseHello(body)
	if err != nil {
		return // of a later format, or nonsense: its session stands all the same
	}
	i := slices.IndexFunc(notes, func(n HelloNote) bool { return n.Seat == [8]byte(m.self[:8]) })
	if i < 0 {
		return
	}
	for _, s := range st.session.list {
		if notes[i].Replaces != (wire.Digest{}) && s.Transcript() == notes[i].Replaces && !s.retired {
			s.retired = true
			m.saveSessions(st)
			m.show(Event{Kind: EventSession, Seat: st.seat.String(), Member: m.display(st),
				Text: fmt.Sprintf("%s agrees on new session keys with you, since what you sent under the earlier ones did not open there. What was compared stays. Nothing for you to do.", m.display(st))})
		}
	}
	if notes[i].Missed && st.unanswered() != nil && st.kept.repeats < maxRepeats {
		st.repeat = true
	}
	m.review(st)
}

// review follows a change of a seat's sessions: which of them sends, and whether
// a hello may be for the seat. Who can be sent to, as nearly all, is not looked at
// with every input.
func (m *Machine) review(st *seatState) {
	st.out = m.sender(st)
	if !st.own && st.ann != nil && !st.since.IsZero() && (st.repeat || !st.stuck.IsZero() || st.out == nil) {
		m.lacking[st.seat] = st
		return
	}
	delete(m.lacking, st.seat)
}

// repeats tells whether a handshake part is to be sent once more.
func (m *Machine) repeats() bool {
	for _, st := range m.lacking {
		if st.repeat && st.unanswered() != nil && m.usable(st) {
			return true
		}
	}
	return false
}

// nextGreeting is when a session is due that is not yet; zero: never, or after
// those that jobs begin.
func (m *Machine) nextGreeting() (t time.Time) {
	if !m.mayAsk() {
		return t
	}
	for _, st := range m.lacking {
		if at, ok := m.wants(st); ok && (t.IsZero() || at.Before(t)) && m.reachable(st) && m.usable(st) {
			t = at
		}
	}
	return t
}

// getStuck notes since when messages of a seat do not open that should.
func (m *Machine) getStuck(st *seatState) {
	if st.stuck.IsZero() {
		st.stuck = m.now
		m.review(st)
		m.saveSeat(st)
	}
}

// unstick ends that: something of the seat opened.
func (m *Machine) unstick(st *seatState) {
	if !st.stuck.IsZero() {
		st.stuck = time.Time{}
		m.saveSeat(st)
	}
	m.review(st)
}

// crossed tells whether a seat that speaks in a session that is not here has not
// answered the own first contact either: both may have been lost.
func (m *Machine) crossed(st *seatState) bool {
	s := m.sender(st)
	return s != nil && !s.answered()
}

// broken tells whether a slot of a seat, newer than all that opened, is the same on
// the paths of enough operators, or on all that carry it, and opens in no session
// although the other end has one: it lost its state, or this end did. Who holds the
// epoch key can feign that, and gains a first contact that costs both a hello.
func (m *Machine) broken(st *seatState, it *item) bool {
	k := it.key()
	s, newest := m.sender(st), m.received[k.source].greatest()
	if s == nil || !s.answered() || !st.stuck.IsZero() || st.ann.Incarnation != k.incarnation ||
		k.sequence <= newest || len(it.slot) == ratchet.HelloSlotSize {
		return false
	}
	var came relayMask
	for _, h := range m.held {
		if o := h.item; o.key() == k && o.d == it.d && bytes.Equal(bare(o.slot), bare(it.slot)) && !o.path.stops(k.seat) {
			came |= 1 << o.path.index
		}
	}
	era := m.meta.Lists.era()
	return m.enough(func(p *path) bool { return came.has(p.index) }) ||
		!slices.ContainsFunc(m.paths, func(p *path) bool { return p.counts() && m.carries(p, it.header.Carriers, era) && !came.has(p.index) })
}

// bare is a slot without the share in front, which differs from path to path.
func bare(slot []byte) []byte {
	if len(slot) == ratchet.AnsweringSlotSize {
		return slot[ratchet.ShareSize:]
	}
	return slot
}

// tellAgain tells of first contacts begun in the place of sessions.
func (m *Machine) tellAgain(notes []HelloNote) {
	var again []*seatState
	for _, n := range notes {
		if n.Replaces == (wire.Digest{}) {
			continue
		}
		for _, seat := range m.prefixes[n.Seat] {
			if st := m.seats[seat]; slices.ContainsFunc(st.session.list, func(s *session) bool { return s.retired && s.Transcript() == n.Replaces }) {
				again = append(again, st)
			}
		}
	}
	const rest = "did not open here: new session keys are agreed on. What was compared stays, and what is missing is asked for. Nothing for you to do."
	switch len(again) {
	case 0:
	case 1:
		m.show(Event{Kind: EventSession, Seat: again[0].seat.String(), Member: m.display(again[0]),
			Text: fmt.Sprintf("What %s sent last %s", m.display(again[0]), rest)})
	default:
		m.show(Event{Kind: EventSession, Total: len(again), Text: fmt.Sprintf("What %d members sent last %s", len(again), rest)})
	}
}
