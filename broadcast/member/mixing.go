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

// mixing is the policy of first contacts begun now: k of the relays in use, all
// of them in a strict group; unmixed where the group has one relay. A relay that
// its own signatures convicted does not count: honest ones never are convicted,
// so what is left has all of them, and nobody gains by convicting itself.
func (m *Machine) mixing() ratchet.Paths { return m.mixingOf(m.eraNow(), false) }

// mixingOf is the policy of an era, with or without those that were convicted.
func (m *Machine) mixingOf(e relayEra, all bool) ratchet.Paths {
	var paths ratchet.Paths
	if e.Relays.len() < 2 { // there is nothing to mix
		return paths
	}
	var over []crossverify.Path
	var set relayMask
	for _, p := range m.paths {
		if e.Relays.has(p.index) && (all || !p.aside) {
			paths.Relays = append(paths.Relays, p.ref.Key)
			over, set = append(over, crossverify.Path(p.index)), set|1<<p.index
		}
	}
	slices.SortFunc(paths.Relays, func(a, b keys.RelayPublic) int { return slices.Compare(a[:], b[:]) })
	paths.K = m.sharesOf(e, over, set)
	return paths
}

// sharesKey is what k follows from.
type sharesKey struct {
	relays, set relayMask
	policy      Policy
}

// sharesOf is k over a set of an era's paths. Shares go to relays, and whoever
// runs several of them must not count for several: operators who are not enough
// never hold k.
func (m *Machine) sharesOf(e relayEra, over []crossverify.Path, set relayMask) int {
	policy := m.policy() // which empties shares where they are of other relays
	key := sharesKey{e.Relays, set, e.Policy}
	k, ok := m.shares[key]
	if !ok {
		if e.Relays != m.usedMask() || e.Policy != *m.rules() {
			policy = m.policyOf(e)
		}
		k = max(1, policy.Shares(over)) // 0 would say unmixed
		m.shares[key] = k
	}
	return k
}

// unmixed: with one relay there is nothing to mix.
func (m *Machine) unmixed() bool { return m.usedMask().len() < 2 }

// maxFormerLists is under how many lists before the one in use a hello may have
// been made that comes now; none that ended more than the retention time ago.
const maxFormerLists = 4

// policies are those that a hello may have been made under: of the list in use,
// of the one that follows and of those before, each without those that were
// convicted and, from before somebody was, with them.
func (m *Machine) policies() (list []ratchet.Paths) {
	l := &m.meta.Lists
	eras := []relayEra{m.eraNow()}
	if l.Next != nil {
		eras = append(eras, relayEra{Relays: l.Next.Relays, Policy: *m.rules()})
	}
	for i := len(l.Eras) - 2; i >= max(0, len(l.Eras)-1-maxFormerLists); i-- {
		if ended := time.Unix(l.Eras[i+1].From, 0); m.now.Before(ended.Add(m.retention())) {
			eras = append(eras, l.Eras[i])
		}
	}
	for _, e := range eras {
		for _, all := range []bool{false, true} {
			paths := m.mixingOf(e, all)
			same := func(o ratchet.Paths) bool { return o.K == paths.K && slices.Equal(o.Relays, paths.Relays) }
			if len(paths.Relays) <= MaxRelays && !slices.ContainsFunc(list, same) {
				list = append(list, paths)
			}
		}
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
		if p.counts() && m.shownBy(p, st) {
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
// handshake part that came on paths of its policy, each with the share of its path;
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
	for _, paths := range m.policies() {
		if paths.K == 0 {
			continue
		}
		came := map[*path]bool{}
		of := slices.DeleteFunc(slices.Clone(copies), func(o *item) bool { return !slices.Contains(paths.Relays, o.path.ref.Key) })
		for _, o := range of {
			came[o.path] = true
		}
		if len(came) < paths.K {
			continue
		}
		a, err := ratchet.AcceptMixed(c, []ratchet.PrekeysPrivate{own.PrekeysPrivate}, handshake, paths)
		if err != nil {
			return nil, nil, err
		}
		spoiled = spoiled[:0]
		for _, o := range of {
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

// transcript is what replays of a handshake part are known by: T as of an
// unmixed contact, whatever the relays were when it was made.
func (m *Machine) transcript(c ratchet.Contact, handshake []byte) (wire.Digest, error) {
	c.Paths = ratchet.Paths{}.Digest(m.gid)
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
	var chain ratchet.SendChain
	inner := it.slot[ratchet.HandshakeSize+ratchet.ShareSize:]
	if slices.ContainsFunc(m.policies(), func(p ratchet.Paths) bool { return p.K == 0 }) {
		c.Paths = ratchet.Paths{}.Digest(m.gid)
		if s, err = ratchet.Accept(c, []ratchet.PrekeysPrivate{own.PrekeysPrivate}, handshake); err == nil {
			key, err = s.Open(m.now, m.entropy, &chain, inner, it.d)
		}
		if err != nil {
			s = nil
		}
	}
	var spoiled []*item
	if s == nil {
		mixed, copies, e := m.gathered(st, it, c, own)
		if e != nil {
			if errors.Is(e, errTooFew) && err != nil {
				e = err // nothing is mixed here
			}
			return key, e
		}
		if key, err = mixed.Open(m.now, m.entropy, &chain, inner, it.d); err != nil {
			return key, fmt.Errorf("%w: %w", errCopies, err)
		}
		s, spoiled = mixed, copies
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
	m.unstick(st)
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
			m.unstick(st)
		}
		if st.kept != nil && st.unanswered() == nil {
			m.forgetKept(st)
		}
		m.saveSessions(st)
	case errors.Is(err, ratchet.ErrShares):
		m.getStuck(st)
	}
	return key, err
}

func appendShares(b []byte, shares []seatShares) []byte {
	b = wire.AppendU32(b, uint32(len(shares)))
	for _, s := range shares {
		b = wire.AppendU32(b, uint32(s.seat))
		b = append(b, byte(len(s.sealed)))
		for i := range s.sealed {
			b = append(b, s.sealed[i][:]...)
		}
	}
	return b
}

func growShares(shares [][ratchet.ShareSize]byte, paths int) [][ratchet.ShareSize]byte {
	return append(shares, make([][ratchet.ShareSize]byte, paths-len(shares))...)
}

// readShares reads what appendShares wrote for a bundle of so many seats.
func (m *Machine) readShares(r *wire.Reader, seats int) (shares []seatShares) {
	for range r.Count(seats, 4+1) {
		s := seatShares{seat: int(r.U32()), sealed: make([][ratchet.ShareSize]byte, len(m.paths))}
		paths := int(r.U8())
		if n := len(shares); paths > len(m.paths) || s.seat >= seats || n > 0 && s.seat <= shares[n-1].seat {
			r.Fail(wire.ErrFormat)
			return nil
		}
		for i := range paths {
			r.Fixed(s.sealed[i][:])
		}
		shares = append(shares, s)
	}
	return shares
}
