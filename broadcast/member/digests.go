package member

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// Digest mode at a receiver (docs/protocol.md section 6.2): digests are compared
// with what opened, and what only digests tell of is asked for.

// maxCopyAsks is how often one digest is asked for, by whomever.
const maxCopyAsks = 2

// seenDigest is a D that some paths show and under which nothing has opened.
type seenDigest struct {
	d     wire.Digest
	paths uint64      // that show it
	asks  uint8       // that were made or seen for it
	since int64       // Unix seconds
	due   time.Time   // when it is asked for, or given up; zero: given up
	rank  wire.Digest // by sortedDigests
}

// digestsSeen are the digests of both kinds.
type digestsSeen struct {
	of    map[wire.Digest]messageKey  // of what has opened
	open  map[wire.Digest]*seenDigest // under which nothing has
	next  time.Time                   // first due; zero: none
	asked []time.Time                 // own questions of the last hour
	salt  wire.Digest                 // drawn when first needed: nobody can place a digest before others
}

var errNoEpoch = errors.New("member: no epoch key fits")

// deliverDigest takes the digest of a bundle that other relays carry.
func (m *Machine) deliverDigest(p *path, f proto.DeliverDigest) {
	if p.once(f.N) {
		if !m.again(p, f.N, f.Digest(), f.Root, f.Signature) {
			return
		}
	} else if !m.next(p, f.N, f.Digest(), f.Root, f.Signature) {
		return
	} else {
		m.checkRoot(p, f.N, f.Root)
	}
	if m.genesis == nil || len(m.keyring.epochs) == 0 {
		return // of before this member came
	}
	if m.isMember() && m.unknownHint(p, f.Hint) {
		m.keepUnreadDigest(p, f)
		return
	}
	m.readDigest(p, f)
}

// badDigest notes a digest that does not open.
func (m *Machine) badDigest(p *path) {
	p.stats[crossverify.Failed]++
	m.savePath(p)
	m.relayEvent(p, "digest", "", fmt.Sprintf("Relay %s delivered a digest that does not open: it was altered there, or made by somebody without the group's key. The other paths carry the messages. Nothing for you to do.", p.name()))
}

// readDigest compares a digest, or notes that only digests tell of what it is of.
func (m *Machine) readDigest(p *path, f proto.DeliverDigest) {
	d, err := m.openDigest(p, f)
	if err != nil {
		m.badDigest(p)
		return
	}
	if msg := m.messages[m.digests.of[d]]; msg != nil && msg.opened && msg.d == d {
		if m.matchDigest(p, msg) {
			m.marksChanged(msg)
		}
		return
	}
	m.sawDigest(p, d)
}

// openDigest takes the relay's seal off.
func (m *Machine) openDigest(p *path, f proto.DeliverDigest) (wire.Digest, error) {
	for _, e := range m.keysOf(p).epochs {
		if e.hint == f.Hint {
			return broadcast.OpenDigest(m.gid, &e.Key, p.ref.Key, f.Nonce, f.Sealed)
		}
	}
	return wire.Digest{}, errNoEpoch
}

// matchDigest compares a digest with a message that opened. Where the sender
// named the relay as a carrier a digest says nothing: there the full copy must
// come.
func (m *Machine) matchDigest(p *path, msg *message) bool {
	s, at := msg.key.subject(), crossverify.Path(p.index)
	if m.carries(p, msg.carriers, msg.era) || m.ledger.Report(s).Status[at] == crossverify.Matched {
		return false
	}
	m.ledger.Claim(m.now, at, s, msg.d)
	m.learn(p, msg)
	msg.digests |= p.bit()
	return true
}

// matchDigests compares what paths showed of a message before it opened.
func (m *Machine) matchDigests(msg *message) {
	seen := m.digests.open[msg.d]
	if seen == nil {
		return
	}
	for _, p := range m.paths {
		if seen.paths&p.bit() != 0 {
			m.matchDigest(p, msg)
		}
	}
	m.forgetDigest(seen)
}

// sawDigest keeps a digest under which nothing has opened.
func (m *Machine) sawDigest(p *path, d wire.Digest) {
	seen := m.digests.open[d]
	if seen == nil {
		if len(m.digests.open) >= m.cfg.Limits.Digests {
			m.evictDigests()
		}
		seen = &seenDigest{d: d, since: m.now.Unix()}
		m.digests.open[d] = seen
		m.askLater(seen)
	}
	if seen.paths&p.bit() == 0 {
		seen.paths |= p.bit()
		m.saveDigest(seen)
	}
}

// evictShare of the digests leave at once when there are too many.
const evictShare = 16

// evictDigests drops those that fewest paths show, first of all those that were
// asked for in vain.
func (m *Machine) evictDigests() {
	list := m.sortedDigests()
	slices.SortStableFunc(list, func(a, b *seenDigest) int {
		return cmp.Or(int(b.asks)-int(a.asks), bits.OnesCount64(a.paths)-bits.OnesCount64(b.paths))
	})
	for _, s := range list[:min(len(list), 1+len(list)/evictShare)] {
		m.forgetDigest(s)
	}
}

func (m *Machine) forgetDigest(s *seenDigest) {
	delete(m.digests.open, s.d)
	m.del(m.key(keyCarried, []byte{partDigest}, s.d[:]))
}

// saveDigest writes: paths u64 | asks u8 | since u64.
func (m *Machine) saveDigest(s *seenDigest) {
	b := append(wire.AppendU64(nil, s.paths), s.asks)
	m.put(m.key(keyCarried, []byte{partDigest}, s.d[:]), wire.AppendU64(b, uint64(s.since)))
}

func (m *Machine) loadDigest(key, value []byte) error {
	r := wire.NewReader(value)
	s := &seenDigest{d: wire.Digest(key), paths: r.U64(), asks: r.U8(), since: int64(r.U64())}
	m.digests.open[s.d] = s
	return r.Done()
}

// askLater sets when a digest is asked for, or given up: after a deadline, and a
// random wait, so that one of many asks.
func (m *Machine) askLater(s *seenDigest) {
	m.putOff(s, m.now.Add(m.policy().Deadline+m.jitter(m.cfg.Limits.AskJitter)))
}

func (m *Machine) putOff(s *seenDigest, to time.Time) {
	s.due = to
	if m.digests.next.IsZero() || to.Before(m.digests.next) {
		m.digests.next = to
	}
}

// resumeDigests starts the waits of what was kept.
func (m *Machine) resumeDigests() {
	if len(m.digests.open) == 0 {
		return
	}
	for _, s := range m.sortedDigests() {
		if s.asks < maxCopyAsks {
			m.askLater(s)
		}
	}
}

// sortedDigests are those under which nothing has opened, in an order that nobody
// else can foresee: who posts digests of nothing cannot put them before others.
func (m *Machine) sortedDigests() []*seenDigest {
	if m.digests.salt == (wire.Digest{}) {
		m.digests.salt = m.draw32()
	}
	list := make([]*seenDigest, 0, len(m.digests.open))
	for _, s := range m.digests.open {
		if s.rank == (wire.Digest{}) {
			s.rank = wire.Hash("parallax/1/digest/rank", m.digests.salt[:], s.d[:])
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *seenDigest) int { return bytes.Compare(a.rank[:], b.rank[:]) })
	return list
}

// askAt is when a digest is due; zero: never, or not while nothing is sent.
func (m *Machine) askAt() time.Time {
	if !m.mayAsk() {
		return time.Time{}
	}
	return m.digests.next
}

// askMissing asks for the full copies of digests that are due: many in one
// question, and only a few questions an hour.
func (m *Machine) askMissing() {
	ds := &m.digests
	if ds.next.IsZero() || m.now.Before(ds.next) || !m.mayAsk() {
		return
	}
	ds.next = time.Time{}
	ds.asked = slices.DeleteFunc(ds.asked, func(t time.Time) bool { return m.now.Sub(t) >= time.Hour })
	deadline := m.policy().Deadline
	waits := m.closedDigests()
	drained := m.drained()
	var list []wire.Digest
	var lost []*seenDigest
	for _, s := range m.sortedDigests() {
		switch {
		case s.due.IsZero():
			if m.now.Unix()-s.since > int64(m.retention()/time.Second) {
				m.forgetDigest(s)
			}
		case m.now.Before(s.due):
			m.putOff(s, s.due)
		case m.shownInForce(s) == 0: // what only convicted relays say nobody asks for
			s.due = time.Time{}
		case s.asks >= maxCopyAsks:
			s.due = time.Time{}
			lost = append(lost, s)
		case !drained || waits[s.d] || len(list) == MaxRefetchCopies:
			m.putOff(s, m.now.Add(deadline))
		case len(ds.asked) >= m.cfg.Limits.AsksPerHour:
			m.putOff(s, ds.asked[0].Add(time.Hour))
		default:
			list = append(list, s.d)
			s.asks++
			m.saveDigest(s)
			m.askLater(s)
		}
	}
	if len(list) > 0 {
		ds.asked = append(ds.asked, m.now)
		m.sendBundle(KindRefetch, AppendRefetch(nil, &Refetch{Copies: list}))
	}
	if len(lost) > 0 && m.newCause(nil, "digests") {
		m.notCome(lost)
	}
}

// closedDigests are those of copies that are held and wait for a session with
// their sender, or for its admission: no other copy would open either.
func (m *Machine) closedDigests() map[wire.Digest]bool {
	waits := map[wire.Digest]bool{}
	for _, h := range m.held {
		st := m.seats[h.item.header.Seat]
		waits[h.item.d] = st == nil || !m.usable(st) || m.sender(st) == nil || !m.sender(st).answered()
	}
	return waits
}

// shownInForce are the paths that show a digest and are not set aside.
func (m *Machine) shownInForce(s *seenDigest) (on uint64) {
	for _, p := range m.inUse() {
		on |= s.paths & p.bit()
	}
	return on
}

// notCome tells once that messages are announced and do not come.
func (m *Machine) notCome(lost []*seenDigest) {
	var on uint64
	for _, s := range lost {
		on |= m.shownInForce(s)
	}
	shown := m.inSet(on)
	m.show(Event{Kind: EventRelay, Text: fmt.Sprintf("%s %s the digest of a message that no relay shows here, and asking for it was in vain: the relays that carry it keep it back, its sender is away, or somebody in the group posted the digest of nothing. If it comes, it is shown. Nothing for you to do.",
		labels(shown), verb(shown, "has", "have"))})
}

// toldOf is how many messages are announced by digests and were asked for.
func (m *Machine) toldOf() (n int) {
	for _, s := range m.digests.open {
		if s.asks > 0 {
			n++
		}
	}
	return n
}

// askedForCopies answers with the bundles as they are, in their order, on every
// relay that did not get them in full. That a member asked is known to all, so
// nobody asks at once again.
func (m *Machine) askedForCopies(st *seatState, list []wire.Digest) {
	var found []*repair
	for _, d := range list {
		if s := m.digests.open[d]; s != nil && !s.due.IsZero() {
			s.asks = min(s.asks+1, maxCopyAsks)
			m.saveDigest(s)
			m.askLater(s)
		}
		if r := m.repairOf(d); r != nil && slices.Contains(m.sets[r.bundle.set].seats, st.seat) && !m.everywhereFull(r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *repair) int { return cmp.Compare(a.bundle.order, b.bundle.order) })
	for _, r := range found {
		r.want = len(m.inUse())
		m.replaceCarriers(r, len(m.paths))
	}
}

// askedTexts are texts of this member's, or of others, that a member asks for by
// their digests and that it may be sent again: those whose bundle is not kept.
func (m *Machine) askedTexts(st *seatState, list []wire.Digest) (own, others []*keptText) {
	for _, t := range m.texts.list {
		if !slices.Contains(list, t.d) || t.order < st.came || st.came == 0 || m.repairOf(t.d) != nil {
			continue
		}
		if t.key.seat == m.self {
			own = append(own, t)
		} else if t.key.seat != st.seat {
			others = append(others, t)
		}
	}
	return own, others
}

// carried tells whether all that is missing of a source is asked for by digests:
// full copies say more than what is sent again.
func (m *Machine) carried(l *lack, spans []span) bool {
	for _, s := range spans {
		for n := s.first; n <= s.last; n++ {
			seen := m.digests.open[l.named[n].d]
			if seen == nil || seen.due.IsZero() {
				return false
			}
		}
	}
	return true
}
