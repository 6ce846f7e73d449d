package member

import (
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// Session starts (docs/protocol.md section 5.3) cost half a millisecond each,
// so a joiner's leave as jobs: pure functions of a seed and of values copied
// when the job was issued. Nothing of a start is durable before the bundle that
// carries it, so after a crash they are made again.

// startsAtOnce is how many sessions are begun within the input that asks for
// them, and startsPerJob how many one job begins at most: some eight
// milliseconds.
const (
	startsAtOnce = 2
	startsPerJob = 16
)

// starting is what is under way of sessions that this end begins.
type starting struct {
	last  uint64                   // id of the newest job; never used again in a machine's life
	jobs  map[uint64]bool          // without an outcome
	begun map[wire.Seat]*begunWith // outcomes, until the bundle that carries them
	total int                      // of the batch, for people
	texts []queuedText             // that wait for the bundle with the starts, in order

	unsure bool // nothing is sent yet: the folder may be an older copy of itself (putback.go)
}

type queuedText struct {
	id    uint64
	w     SendText
	until time.Time // when it is answered without having been sent; zero: never
}

// underWay tells whether nothing is sealed now: jobs begin sessions, or the relays
// have not said yet how far this membership was read.
func (s *starting) underWay() bool { return s.unsure || len(s.jobs) > 0 }

// queues tells whether a command waits as a text.
func (s *starting) queues(id uint64) bool {
	return slices.ContainsFunc(s.texts, func(t queuedText) bool { return t.id == id })
}

// basis is what a start was computed from: if any of it is another one when the
// start would be used, the two ends' transcripts would differ.
type basis struct {
	self, peer ratchet.Party
	paths      wire.Digest
	attempt    uint64
}

func basisOf(c *ratchet.Contact) basis {
	return basis{c.Self, c.Peer, wire.Digest(c.Paths), c.Attempt}
}

// start is everything that beginning one session needs, apart from the machine.
type start struct {
	contact ratchet.Contact
	prekeys ratchet.Prekeys
	paths   ratchet.Paths // K 0: unmixed
}

// begunWith is a session with one seat that no bundle has carried yet.
type begunWith struct {
	basis   basis
	session *ratchet.Session
	chain   ratchet.SendChain
	head    []byte                    // handshake and share space, 1,176 bytes
	paths   ratchet.Paths             // the shares are in the order of its relays
	shares  [][ratchet.ShareSize]byte // nil: unmixed, the share space is random
	err     error                     // prekeys that nobody can use
}

func (m *Machine) startWith(st *seatState) *start {
	return &start{
		contact: *m.contact(st),
		prekeys: ratchet.Prekeys{ID: st.ann.PrekeyID, Key: st.ann.Prekey, KEMID: st.ann.KEMID, KEM: st.ann.KEM},
		paths:   m.mixing(),
	}
}

// begin is the work: it reads nothing but the start and the entropy.
func (s *start) begin(entropy broadcast.Entropy) *begunWith {
	b := &begunWith{basis: basisOf(&s.contact), paths: s.paths}
	var part [ratchet.HandshakeSize]byte
	var space [ratchet.ShareSize]byte
	if s.paths.K == 0 {
		b.session, b.chain, part, b.err = ratchet.Initiate(entropy, entropy, &s.contact, &s.prekeys)
		if b.err == nil {
			draw(entropy, space[:])
		}
	} else {
		b.session, b.chain, part, b.shares, b.err = ratchet.InitiateMixed(entropy, entropy, &s.contact, &s.prekeys, s.paths)
	}
	b.head = slices.Concat(part[:], space[:])
	return b
}

// keep makes a session that was begun the seat's. The shares are by relay, nil
// in an unmixed contact.
func (m *Machine) keep(st *seatState, b *begunWith) (s *session, shares [][ratchet.ShareSize]byte) {
	if b.shares != nil {
		shares = make([][ratchet.ShareSize]byte, len(m.paths))
		for i, relay := range b.paths.Relays {
			shares[m.pathOf(relay).index] = b.shares[i]
		}
	}
	return m.addSession(st, b.session, b.chain, st.ann.Incarnation), shares
}

// unbegin forgets a start that will not be used.
func (m *Machine) unbegin(seat wire.Seat) {
	if b := m.starting.begun[seat]; b != nil && b.session != nil {
		b.session.Zero()
	}
	delete(m.starting.begun, seat)
}

// begunFor is what a job began with a seat, nil if there is nothing that still
// holds: what was computed from another announcement or policy is dropped.
func (m *Machine) begunFor(st *seatState) *begunWith {
	b := m.starting.begun[st.seat]
	if b == nil {
		return nil
	}
	if b.basis != basisOf(m.contact(st)) {
		m.unbegin(st.seat)
		return nil
	}
	if b.err != nil {
		st.session.index = badPrekeys
		m.unbegin(st.seat)
		return nil
	}
	return b
}

// unbegun are the seats, ascending, with which a session is due that no job has
// begun; begun tells whether jobs have begun others.
func (m *Machine) unbegun() (seats []*seatState, begun bool) {
	for _, st := range m.lacking {
		switch {
		case !m.starts(st) || !m.usable(st):
		case m.begunFor(st) != nil:
			begun = true
		case st.session.index != badPrekeys:
			seats = append(seats, st)
		}
	}
	slices.SortFunc(seats, func(a, b *seatState) int { return slices.Compare(a.seat[:], b.seat[:]) })
	return seats, begun
}

// greet sends a hello when there is somebody to begin with, and what waited for
// it. Few sessions are begun in the bundle itself; more by jobs first, so that
// one bundle carries all.
func (m *Machine) greet() {
	if !m.mayAsk() {
		return
	}
	due, begun := m.unbegun()
	if len(due) > startsAtOnce {
		m.issue(due)
		return
	}
	if begun || len(due) > 0 || m.repeats() {
		notes := m.notes()
		m.sendBundle(KindHello, AppendHello(nil, notes))
		m.tellAgain(notes)
	}
	for seat := range m.starting.begun { // a session came from the other end, or the seat left
		m.unbegin(seat)
	}
	texts := m.starting.texts
	m.starting.texts = nil
	for _, t := range texts {
		m.sendText(t.id, t.w)
	}
}

// textsWait tells whether a text has to wait, so as not to miss somebody for whom
// jobs begin a session.
func (m *Machine) textsWait() bool {
	if m.meta.Restored || m.starting.underWay() || len(m.starting.texts) > 0 {
		return true
	}
	due, _ := m.unbegun()
	return len(due) > startsAtOnce
}

// refuseTexts answers texts that wait for a restored membership to be announced,
// when the relays have not answered for too long.
func (m *Machine) refuseTexts() {
	m.starting.texts = slices.DeleteFunc(m.starting.texts, func(t queuedText) bool {
		if t.until.IsZero() || m.now.Before(t.until) || !m.meta.Restored {
			return false
		}
		m.answer(t.id, nil, fmt.Errorf("%w: this membership comes from a backup or an older copy and is announced anew first, for which a quorum of relays must answer. The text was not sent", ErrUnreached))
		return true
	})
}

// issue hands out the jobs of a batch.
func (m *Machine) issue(due []*seatState) {
	s := &m.starting
	if s.jobs == nil {
		s.jobs = map[uint64]bool{}
	}
	if s.begun == nil {
		s.begun = map[wire.Seat]*begunWith{}
	}
	s.total = len(s.begun) + len(due)
	fork := m.entropy.Fork
	for chunk := range slices.Chunk(due, min(startsPerJob, (len(due)+3)/4)) { // some for each core
		list := make([]*start, len(chunk))
		for i, st := range chunk {
			list[i] = m.startWith(st)
		}
		s.last++
		s.jobs[s.last] = true
		m.jobs = append(m.jobs, broadcast.Job{ID: s.last, Seed: m.draw32(), Run: func(seed [32]byte) any {
			entropy := fork(seed)
			outcome := make([]*begunWith, len(list))
			for i := range list {
				outcome[i] = list[i].begin(entropy)
			}
			return outcome
		}})
	}
}

// finished takes the outcome of a job. One that was issued before the state was
// read again is not known any more.
func (m *Machine) finished(in broadcast.Finished) {
	s := &m.starting
	outcome, ok := in.Result.([]*begunWith)
	if !ok || !s.jobs[in.ID] {
		return
	}
	delete(s.jobs, in.ID)
	for _, b := range outcome {
		s.begun[b.basis.peer.Seat] = b
	}
	m.hint(Event{Kind: EventProgress, Done: len(s.begun), Total: s.total, Text: fmt.Sprintf("sessions %d of %d", len(s.begun), s.total)})
}
