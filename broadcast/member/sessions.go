package member

import (
	"errors"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// sessions are the pairwise sessions with one seat, oldest first. More than one
// stand when both ends initiated; the one with the smaller transcript sends,
// the others stay receive-only (docs/protocol.md section 5.3).
type sessions struct {
	list  []*session
	index int
}

// session is a ratchet session and the place of its send chain in the vector.
type session struct {
	*ratchet.Session
	index       int
	incarnation wire.Incarnation // of the other end, when it began
	retired     bool             // it only receives: another took its place
	kem         uint32           // ML-KEM key of the last encapsulation, and
	reinforced  int64            // Unix seconds when it was made; 0: none
	counted     int              // its skipped keys in the membership's count
	everywhere  uint8            // bundles that carried its answer's shares on all relays
}

// maxSessions is how many sessions with one seat are kept, and maxHellos how
// many it may begin while our prekeys live: each is remembered that long.
const (
	maxSessions = 4
	maxHellos   = 64
)

// sender is the session that sends, nil if none can: with another installation of
// the other end there is none. One whose answer is still
// awaited sends only if there is no other: its hello may have lost its shares.
func (m *Machine) sender(st *seatState) *session {
	var best *session
	for _, s := range st.session.list {
		if s.retired || st.ann == nil || s.incarnation != st.ann.Incarnation || !s.CanSend(m.chains.get(s.index)) {
			continue
		}
		if best == nil || s.answered() && !best.answered() || s.answered() == best.answered() && less(s.Transcript(), best.Transcript()) {
			best = s
		}
	}
	return best
}

// skipped is how many keys are kept for slots of a seat that have not come.
func (st *seatState) skipped() (n int) {
	for _, s := range st.session.list {
		n += s.Skipped()
	}
	return n
}

// answered: the other end is known to have it.
func (s *session) answered() bool {
	_, awaited := s.AnswerShares()
	return awaited == 0
}

func less(a, b wire.Digest) bool { return slices.Compare(a[:], b[:]) < 0 }

// addSession keeps a new session under the next place in the vector.
func (m *Machine) addSession(st *seatState, s *ratchet.Session, chain ratchet.SendChain, of wire.Incarnation) *session {
	rec := &session{Session: s, incarnation: of}
	if len(st.session.list) < maxSessions {
		rec.index = m.chains.grow()
		m.chains.set(rec.index, chain)
	} else { // in the place of the oldest, whose chain must not stay there
		rec.index = st.session.list[0].index
		m.skipped -= st.session.list[0].counted
		st.session.list = slices.Delete(st.session.list, 0, 1)
		m.chains.set(rec.index, chain)
		m.saveVector()
	}
	st.session.list = append(st.session.list, rec)
	m.review(st)
	return rec
}

func (m *Machine) saveSessions(st *seatState) {
	m.countSkipped(st)
	m.writeSessions(st)
}

// writeSessions writes: u8 sessions, each: place in the vector u32 | retired bool
// | incarnation 8 | ML-KEM id u32 | reinforced u64 | everywhere u8 | record bytes.
func (m *Machine) writeSessions(st *seatState) {
	b := []byte{byte(len(st.session.list))}
	for _, s := range st.session.list {
		if m.chains.stored(s.index).Generation == s.Generation() {
			s.DropInitial() // the vector has it, in this batch or before
		}
		b = wire.AppendU32(b, uint32(s.index))
		b = wire.AppendBool(b, s.retired)
		b = append(b, s.incarnation[:]...)
		b = wire.AppendU32(b, s.kem)
		b = wire.AppendU64(b, uint64(s.reinforced))
		b = append(b, s.everywhere)
		raw, err := s.MarshalBinary()
		if err != nil {
			panic("member: session record: " + err.Error())
		}
		b = wire.AppendBytes(b, raw)
	}
	m.put(m.key(keySessions, st.seat[:]), b)
}

func (m *Machine) loadSessions(key, value []byte) error {
	if len(key) != 32 {
		return wire.ErrFormat
	}
	st := m.seatOf(wire.Seat(key))
	r := wire.NewReader(value)
	n := int(r.U8())
	if n > maxSessions {
		return wire.ErrTooLong
	}
	for range n {
		rec := &session{index: int(r.U32()), retired: r.Bool()}
		r.Fixed(rec.incarnation[:])
		rec.kem, rec.reinforced, rec.everywhere = r.U32(), int64(r.U64()), r.U8()
		raw := r.Bytes(1 << 20)
		if r.Err() != nil {
			break
		}
		s, err := ratchet.ParseSession(raw)
		if err != nil {
			return err
		}
		if rec.index > 1<<20 {
			return wire.ErrTooLong
		}
		m.chains.reserve(rec.index)
		rec.Session = s
		st.session.list = append(st.session.list, rec)
	}
	m.countSkipped(st)
	return r.Done()
}

// chainVector is the group's send chains, one after the other: a send rewrites
// it whole and nothing else of any session.
type chainVector struct {
	bytes []byte
	saved []byte // as written last
}

const chainSize = 40

func (v *chainVector) get(i int) ratchet.SendChain {
	c, err := ratchet.ParseSendChain(v.bytes[i*chainSize : (i+1)*chainSize])
	if err != nil {
		return ratchet.SendChain{}
	}
	return c
}

// stored is a chain as the store has it, or will with this turn.
func (v *chainVector) stored(i int) ratchet.SendChain {
	if (i+1)*chainSize > len(v.saved) {
		return ratchet.SendChain{}
	}
	c, _ := ratchet.ParseSendChain(v.saved[i*chainSize : (i+1)*chainSize])
	return c
}

func (v *chainVector) set(i int, c ratchet.SendChain) {
	c.Append(v.bytes[: i*chainSize : (i+1)*chainSize])
}

func (v *chainVector) grow() int {
	i := len(v.bytes) / chainSize
	v.reserve(i)
	return i
}

func (v *chainVector) reserve(i int) {
	for len(v.bytes) < (i+1)*chainSize {
		v.bytes = append(v.bytes, make([]byte, chainSize)...)
	}
}

func (m *Machine) saveVector() {
	m.chains.saved = slices.Clone(m.chains.bytes)
	m.put(m.key(keyVector), m.chains.saved)
}

// contact is what this member knows of a first contact that it begins with a
// seat: the newest announcements of both.
func (m *Machine) contact(st *seatState) *ratchet.Contact {
	return m.contactOf(m.keyring.newest(), ratchet.Party{Seat: st.seat, Announcement: st.digest, Identity: st.ann.Identity})
}

// contactOf is a first contact from an own announcement with one of a seat's.
func (m *Machine) contactOf(own *ownPrekeys, peer ratchet.Party) *ratchet.Contact {
	return &ratchet.Contact{
		Group: m.gid, Identity: m.keyring.identity, Paths: m.pathsPolicy(), Peer: peer,
		Self: ratchet.Party{Seat: m.self, Announcement: own.digest, Identity: m.keyring.identity.Public()},
	}
}

// initiate starts a session here and now: the slot's first 1,176 bytes,
// handshake and share space; the session's message 0 follows.
func (m *Machine) initiate(st *seatState) (*session, []byte, [][ratchet.ShareSize]byte, error) {
	b := m.startWith(st).begin(m.entropy)
	if b.err != nil {
		return nil, nil, nil, b.err
	}
	s, shares := m.keep(st, b)
	return s, b.head, shares, nil
}

// openSlot tries a slot of a seat: a hello begins a session, any other is tried
// on the sessions there are. After an error nothing has changed but shares that
// were taken in.
func (m *Machine) openSlot(st *seatState, it *item) (key keys.ContentKey, err error) {
	if len(it.slot) == ratchet.HelloSlotSize {
		return m.openHello(st, it)
	}
	err = errNoSession
	for i := len(st.session.list) - 1; i >= 0; i-- {
		var e error
		if key, e = m.openWith(st, st.session.list[i], it); e == nil {
			return key, nil
		}
		if !errors.Is(err, errCopies) {
			err = e
		}
	}
	return key, err
}

// helloSeen is who began a session, and from which version of the own
// announcement: a transcript is remembered while its prekeys live.
type helloSeen struct {
	seat    wire.Seat
	version uint64
}

func (m *Machine) loadHello(key, value []byte) error {
	if len(key) != 32 {
		return wire.ErrFormat
	}
	var h helloSeen
	r := wire.NewReader(value)
	r.Fixed(h.seat[:])
	h.version = r.U64()
	m.seen[wire.Digest(key)] = h
	m.seatOf(h.seat).hellos++
	return r.Done()
}

// drained tells whether every path that is connected has nothing waiting, or was
// stopped.
func (m *Machine) drained() bool {
	for _, p := range m.paths {
		if p.read.opened && !p.caughtUp && len(p.read.stalls) == 0 && !m.forced {
			return false
		}
	}
	return true
}
