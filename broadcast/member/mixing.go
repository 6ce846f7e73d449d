package member

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// Path-mixed first contact in the membership (docs/protocol.md section 5.3,
// awaiting independent review): which shares go on which path, which that came
// count, and what waits for the others.

// mixing is the policy of first contacts begun now: k of the relays in force,
// all of them in a strict group; unmixed where the group has one relay. A relay
// that its own signatures convicted is not in force: honest ones never are, so
// what is left has all of them, and nobody gains by convicting itself.
func (m *Machine) mixing() ratchet.Paths { return m.mixingOf(func(p *path) bool { return !p.aside }) }

// mixingOf is the policy over the relays that hold.
func (m *Machine) mixingOf(in func(*path) bool) ratchet.Paths {
	var paths ratchet.Paths
	if m.unmixed() {
		return paths
	}
	var over []crossverify.Path
	var set uint64
	for _, p := range m.paths {
		if in(p) {
			paths.Relays = append(paths.Relays, p.ref.Key)
			over, set = append(over, crossverify.Path(p.index)), set|1<<p.index
		}
	}
	slices.SortFunc(paths.Relays, func(a, b keys.RelayPublic) int { return slices.Compare(a[:], b[:]) })
	// Shares go to relays, and whoever runs several of them must not count for
	// several: operators who are not enough never hold k.
	policy := m.policy()
	k, ok := m.shares[set]
	if !ok {
		k = max(1, policy.Shares(over)) // 0 would say unmixed
		m.shares[set] = k
	}
	paths.K = k
	return paths
}

// unmixed: with one relay there is nothing to mix.
func (m *Machine) unmixed() bool { return len(m.paths) < 2 }

// policies are those that a hello may have been made under: of the relays in
// force, and of all, from before somebody was set aside.
func (m *Machine) policies() []ratchet.Paths {
	list := []ratchet.Paths{m.mixing()}
	if len(list[0].Relays) < len(m.paths) {
		list = append(list, m.mixingOf(func(*path) bool { return true }))
	}
	return list
}

// pathsPolicy is pol.
func (m *Machine) pathsPolicy() wire.Digest { return m.mixing().Digest(m.gid) }

// shownBy is the addressing rule, of sending and of receiving: whether a relay's
// own board shows a seat's announcement, the one that is used or a newer one, so
// that nobody opens a mailbox on an honest relay for a seat that it does not show.
func (m *Machine) shownBy(p *path, st *seatState) bool {
	return st.ann != nil && (m.ledger.Report(crossverify.Announcement(st.seat, st.ann.Version)).Status[p.index] == crossverify.Matched ||
		m.shows(p, "announcement/"+st.seat.String()))
}

// reachable tells whether enough paths may carry a share to a seat.
func (m *Machine) reachable(st *seatState) bool {
	if m.unmixed() {
		return true
	}
	n := 0
	for _, p := range m.paths {
		if !p.aside && m.shownBy(p, st) {
			n++
		}
	}
	return n >= m.mixing().K
}

// seatShares are the sealed shares beside one seat's slot in a bundle, by relay.
// The slot itself is the same on every path and has zeros in their place.
type seatShares struct {
	seat   int // place in the set
	sealed [][ratchet.ShareSize]byte
}

// answerShares are those that ride beside a slot of a session, nil if none do.
func (m *Machine) answerShares(s *session) [][ratchet.ShareSize]byte {
	var sealed [][ratchet.ShareSize]byte
	for i, p := range m.paths {
		share, ok := s.AnswerShare(p.ref.Key)
		if ok && sealed == nil { // of most sessions none travels any more
			sealed = make([][ratchet.ShareSize]byte, len(m.paths))
		}
		if ok {
			sealed[i] = share
		}
	}
	return sealed
}

// shareAt is where the share space of a slot is, by its size.
func shareAt(slot []byte) []byte {
	if len(slot) == ratchet.HelloSlotSize {
		return slot[ratchet.HandshakeSize : ratchet.HandshakeSize+ratchet.ShareSize]
	}
	return slot[:ratchet.ShareSize]
}

// blank is a share that was not sent on its path: zeros under the mask, so that
// a relay cannot tell, and a receiver blames nobody.
func blank(share []byte) bool { return [ratchet.ShareSize]byte(share) == [ratchet.ShareSize]byte{} }

// decide settles, once and before the first byte of a bundle leaves on a path,
// which shares that path does not carry.
func (m *Machine) decide(p *path, q *postItem) {
	b := m.bundles[q.bundle]
	if q.decided || len(b.shares) == 0 {
		return
	}
	q.decided = true
	set := m.sets[b.set]
	for _, s := range b.shares {
		if st := m.seats[set.seats[s.seat]]; st == nil || !m.shownBy(p, st) {
			q.withheld = append(q.withheld, s.seat)
		}
	}
	m.savePost(p, q)
}

// undecided: shares wait until the path's board has been read.
func (m *Machine) undecided(p *path, q *postItem) bool {
	return q.kind == postBundle && !q.decided && !p.listed && len(m.bundles[q.bundle].shares) > 0
}

var errTooFew = errors.New("member: too few paths have brought their share")

// gathered is the responder's session of a hello, from all copies of its
// handshake part that came on paths in force, each with the share of its path;
// message 0 has not opened. spoiled are copies whose share does not open. Copies
// that are held are all there is to it, so that it comes out the same after a
// restart.
//
// Errors: errTooFew, and those of ratchet.AcceptMixed.
func (m *Machine) gathered(st *seatState, it *item, c *ratchet.Contact, own *ownPrekeys) (s *ratchet.Session, spoiled []*item, err error) {
	handshake := it.slot[:ratchet.HandshakeSize]
	copies := []*item{it}
	for _, h := range m.held {
		if o := h.item; o != it && o.header.Seat == st.seat && len(o.slot) == ratchet.HelloSlotSize && slices.Equal(o.slot[:ratchet.HandshakeSize], handshake) {
			copies = append(copies, o)
		}
	}
	copies = slices.DeleteFunc(copies, func(o *item) bool {
		return o.path.aside || blank(shareAt(o.slot)) || !m.shownBy(o.path, st)
	})
	slices.SortFunc(copies, (*item).compare)
	came := map[*path]bool{}
	for _, o := range copies {
		came[o.path] = true
	}
	for _, paths := range m.policies() {
		if len(came) < paths.K {
			continue
		}
		a, err := ratchet.AcceptMixed(c, []ratchet.PrekeysPrivate{own.PrekeysPrivate}, handshake, paths)
		if err != nil {
			return nil, nil, err
		}
		spoiled = spoiled[:0]
		for _, o := range copies {
			if err := a.Share(o.path.ref.Key, [ratchet.ShareSize]byte(shareAt(o.slot))); err != nil {
				spoiled = append(spoiled, o)
			}
		}
		s, ok := a.Ready()
		a.Zero()
		if ok {
			return s, spoiled, nil
		}
	}
	return nil, nil, errTooFew
}

// errCopies: the item itself does not open, but its share was the one that
// others waited for.
var errCopies = errors.New("member: the slot does not open, another path's copy may")

// transcript is what replays of a handshake part are known by: T under the
// policy of all relays, whatever has been set aside since.
func (m *Machine) transcript(c ratchet.Contact, handshake []byte) (wire.Digest, error) {
	all := m.mixingOf(func(*path) bool { return true })
	c.Paths = all.Digest(m.gid)
	return ratchet.HandshakeTranscript(&c, handshake)
}

// openHello begins the session of a hello: from the own announcement whose
// prekeys it names, and the newest or an earlier one of its sender. One whose
// session stands already is a slot of that session.
func (m *Machine) openHello(st *seatState, it *item) (key keys.ContentKey, err error) {
	handshake := it.slot[:ratchet.HandshakeSize]
	prekey, kem, err := ratchet.HandshakeIDs(handshake)
	if err != nil {
		return key, err
	}
	own := m.keyring.held(prekey, kem)
	if own == nil {
		return key, ratchet.ErrPrekey
	}
	peers := m.peers(st)
	for i := range peers {
		t, err := m.transcript(*m.contactOf(own, peers[i].Party), handshake)
		if err != nil {
			return key, err
		}
		if _, again := m.seen[t]; again {
			return m.openAgain(st, it)
		}
	}
	if st.hellos >= maxHellos {
		return key, ratchet.ErrDuplicate
	}
	err = errTooFew
	for i := range peers {
		var e error
		if key, e = m.openHelloOf(st, it, own, &peers[i]); e == nil {
			return key, nil
		}
		if !errors.Is(err, errCopies) {
			err = e
		}
	}
	return key, err
}

// openHelloOf is openHello for one announcement of the sender.
func (m *Machine) openHelloOf(st *seatState, it *item, own *ownPrekeys, peer *peerParty) (key keys.ContentKey, err error) {
	c := m.contactOf(own, peer.Party)
	handshake := it.slot[:ratchet.HandshakeSize]
	var s *ratchet.Session
	var spoiled []*item
	if m.unmixed() {
		s, err = ratchet.Accept(c, []ratchet.PrekeysPrivate{own.PrekeysPrivate}, handshake)
	} else {
		s, spoiled, err = m.gathered(st, it, c, own)
	}
	if err != nil {
		return key, err
	}
	var chain ratchet.SendChain
	key, err = s.Open(m.now, m.entropy, &chain, it.slot[ratchet.HandshakeSize+ratchet.ShareSize:], it.d)
	if err != nil && !m.unmixed() {
		return key, fmt.Errorf("%w: %w", errCopies, err)
	}
	if err != nil {
		return key, err
	}
	t, err := m.transcript(*c, handshake)
	if err != nil {
		return key, err
	}
	for _, o := range spoiled {
		o.spoiled = true
	}
	m.seen[t] = helloSeen{st.seat, own.version}
	st.hellos++
	m.put(m.key(keyHello, t[:]), wire.AppendU64(append([]byte(nil), st.seat[:]...), own.version))
	m.addSession(st, s, chain, peer.incarnation)
	m.saveSessions(st)
	return key, nil
}

// openAgain opens a slot that has a handshake part in front for those who missed
// it: here its session stands.
func (m *Machine) openAgain(st *seatState, it *item) (key keys.ContentKey, err error) {
	inner := *it
	inner.slot = it.slot[ratchet.HandshakeSize+ratchet.ShareSize:]
	return m.openSlot(st, &inner)
}

// openWith tries a slot of a standing session or one with an answer's share on
// one session.
func (m *Machine) openWith(st *seatState, s *session, it *item) (key keys.ContentKey, err error) {
	chain := m.chains.get(s.index)
	drained := m.drained()
	have, need := s.AnswerShares()
	switch {
	case len(it.slot) == ratchet.AnsweringSlotSize && need > 0 && !blank(shareAt(it.slot)) && m.shownBy(it.path, st):
		open := s.OpenAnswer
		if drained {
			open = s.OpenAnswerDrained
		}
		key, err = open(m.now, m.entropy, &chain, it.path.ref.Key, it.slot, it.d)
		it.spoiled = errors.Is(err, ratchet.ErrShare)
		now, _ := s.AnswerShares()
		if err != nil && now > have {
			m.saveSessions(st)
			if now >= need && !errors.Is(err, ratchet.ErrShares) {
				err = fmt.Errorf("%w: %w", errCopies, err)
			}
		}
	case len(it.slot) == ratchet.ControlSlotSize:
		key, err = m.openControl(s, &chain, it.slot, it.d, drained)
	default:
		inner := it.slot
		if len(it.slot) == ratchet.AnsweringSlotSize {
			inner = it.slot[ratchet.ShareSize:]
		}
		open := s.Open
		if drained {
			open = s.OpenDrained
		}
		key, err = open(m.now, m.entropy, &chain, inner, it.d)
	}
	switch {
	case err == nil:
		m.chains.set(s.index, chain)
		if !st.stuck.IsZero() || len(st.session.list) > 1 { // another may have been answered
			st.stuck = time.Time{}
			m.review(st)
		}
		if st.kept != nil && st.unanswered() == nil {
			m.forgetKept(st)
		}
		m.saveSessions(st)
	case errors.Is(err, ratchet.ErrShares):
		m.tooFew(st)
	}
	return key, err
}

func appendShares(b []byte, shares []seatShares) []byte {
	b = wire.AppendU32(b, uint32(len(shares)))
	for _, s := range shares {
		b = wire.AppendU32(b, uint32(s.seat))
		for i := range s.sealed {
			b = append(b, s.sealed[i][:]...)
		}
	}
	return b
}

// readShares reads what appendShares wrote for a bundle of so many seats.
func (m *Machine) readShares(r *wire.Reader, seats int) (shares []seatShares) {
	for range r.Count(seats, 4+len(m.paths)*ratchet.ShareSize) {
		s := seatShares{seat: int(r.U32()), sealed: make([][ratchet.ShareSize]byte, len(m.paths))}
		if n := len(shares); s.seat >= seats || n > 0 && s.seat <= shares[n-1].seat {
			r.Fail(wire.ErrFormat)
		}
		for i := range s.sealed {
			r.Fixed(s.sealed[i][:])
		}
		shares = append(shares, s)
	}
	return shares
}
