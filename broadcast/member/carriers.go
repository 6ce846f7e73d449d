package member

import (
	"maps"
	"math/bits"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Digest mode at the sender (docs/protocol.md section 6.2): which relays carry a
// bundle in full, what the others get, and how more get it in full later, when
// its carriers do not take it or do not show it.

// sharesEverywhere is how many bundles carry the shares of an answer on all
// relays; later ones carry them where they go in full.
const sharesEverywhere = 3

// bit is the path's in a set of paths.
func (p *path) bit() uint64 { return 1 << p.index }

// inUse are the relays that bundles go to.
func (m *Machine) inUse() (list []*path) {
	for _, p := range m.paths {
		if p.takesPosts() {
			list = append(list, p)
		}
	}
	return list
}

// carriersWanted is how many relays carry a text: as the group's policy says, else
// this member's own limits; negative: all.
func (m *Machine) carriersWanted() int {
	if n := int(m.rules().Carriers); n > 0 && m.cfg.Limits.Carriers > 0 {
		return n
	}
	return m.cfg.Limits.Carriers
}

// chooseCarriers draws the relays that carry a bundle in full; 0: all do.
func (m *Machine) chooseCarriers(kind Kind, set *recipientSet) (full uint64) {
	list, want := m.inUse(), m.carriersWanted()
	if m.listsDiffer() { // others may count the bits by another list
		return 0
	}
	if kind != KindText && kind != KindAck || want < 0 || len(list) <= want || m.sharesTravel(set) {
		return 0
	}
	list = m.readyFirst(m.shuffled(list))
	full = pick(list, want)
	for i := range set.seats { // everybody must have a mailbox where it goes in full
		if !slices.ContainsFunc(m.paths, func(p *path) bool {
			return full&p.bit() != 0 && set.boxes[i][p.index] != (wire.MailboxID{})
		}) {
			return 0
		}
	}
	return full
}

// pick takes so many paths in their order, one of each operator before a second.
func pick(list []*path, want int) (full uint64) {
	had := map[keys.OperatorPublic]bool{}
	var again []*path
	for _, p := range list {
		if had[p.ref.Operator] {
			again = append(again, p)
			continue
		}
		had[p.ref.Operator] = true
		if want > 0 {
			full |= p.bit()
			want--
		}
	}
	for _, p := range again[:min(want, len(again))] {
		full |= p.bit()
	}
	return full
}

// readyFirst puts those to which a link stands before the others.
func (m *Machine) readyFirst(list []*path) []*path {
	slices.SortStableFunc(list, func(a, b *path) int {
		up := func(p *path) int {
			if p.read.opened || p.post.link != 0 && p.post.welcome {
				return 0
			}
			return 1
		}
		return up(a) - up(b)
	})
	return list
}

// shuffled is the list in a random order.
func (m *Machine) shuffled(list []*path) []*path {
	out := slices.Clone(list)
	for i := len(out) - 1; i > 0; i-- {
		j := int(m.below(uint32(i + 1)))
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// below draws a number below n, each as likely; n is small.
func (m *Machine) below(n uint32) uint32 {
	var b [4]byte
	for {
		m.draw(b[:])
		v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if v < 1<<32-1-(1<<32-1)%n {
			return v % n
		}
	}
}

// sharesTravel tells whether a bundle to the set has shares of an answer that all
// relays are to carry.
func (m *Machine) sharesTravel(set *recipientSet) bool {
	return slices.ContainsFunc(set.states, func(st *seatState) bool {
		s := m.outgoing(st)
		return s != nil && s.everywhere < sharesEverywhere && m.answerShares(s) != nil
	})
}

// everywhere counts a bundle that carries the shares of an answer on all relays,
// and tells whether that is news to the session's record.
func (m *Machine) everywhere(st *seatState) bool {
	s := st.out
	if s == nil || s.everywhere >= sharesEverywhere || len(m.used()) <= m.carriersWanted() {
		return false
	}
	s.everywhere++
	return true
}

// rank is the place of a relay among those of a list, keys ascending.
func (m *Machine) rank(p *path, list relayMask) (n int) {
	for _, o := range m.paths {
		if list.has(o.index) && slices.Compare(o.ref.Key[:], p.ref.Key[:]) < 0 {
			n++
		}
	}
	return n
}

// carrierBits is a set of paths as a header names it.
func (m *Machine) carrierBits(full uint64) (carriers uint16) {
	for _, p := range m.used() {
		if full&p.bit() != 0 {
			carriers |= 1 << m.rank(p, m.usedMask())
		}
	}
	return carriers
}

// carries tells whether a header names a path as a carrier, by the list that
// counted in an era.
func (m *Machine) carries(p *path, carriers uint16, era int) bool {
	list := m.meta.Lists.counted(era)
	return carriers == 0 || list.has(p.index) && carriers&(1<<m.rank(p, list)) != 0
}

// inSet are the paths of a set.
func (m *Machine) inSet(set uint64) (list []*path) {
	for _, p := range m.paths {
		if set&p.bit() != 0 {
			list = append(list, p)
		}
	}
	return list
}

// postOn puts a bundle, or its digest, into the outbox of a path.
func (m *Machine) postOn(p *path, b *bundleRecord, kind postKind) {
	q := &postItem{kind: kind, id: m.drawID(), bundle: b.order}
	m.draw(q.nonce[:])
	b.pending++
	m.enqueue(p, q)
}

// digestFrame makes the frame of a bundle's digest for one relay: the same bytes
// every time.
func (m *Machine) digestFrame(p *path, q *postItem) broadcast.Frame {
	b := m.bundles[q.bundle]
	epoch := m.keysOf(p).at(b.epoch)
	f := proto.PostDigest{PostID: q.id, Hint: epoch.hint, Nonce: q.nonce, Sealed: broadcast.SealDigest(m.gid, &epoch.Key, p.ref.Key, q.nonce, b.d)}
	q.d = f.Digest()
	capability := m.capability(p)
	f.Sign(p.postingAt(&capability.Key), p.ref.Key, p.channel, q.d)
	q.signed = capability.Number
	return proto.Encode(f)
}

// Parts of the records under keyCarried; u8 after it.
const (
	partRepair = 0 // bundle order u64: repair
	partDigest = 1 // D 32: seenDigest
)

func (m *Machine) loadCarried(key, value []byte) error {
	switch {
	case len(key) == 1+8 && key[0] == partRepair:
		return m.loadRepair(key[1:], value)
	case len(key) == 1+32 && key[0] == partDigest:
		return m.loadDigest(key[1:], value)
	}
	return wire.ErrFormat
}

// repair is what becomes of a bundle that not all relays carry. Its bundle is
// kept after all receipts came, for who asks.
type repair struct {
	bundle *bundleRecord
	want   int    // carriers
	full   uint64 // paths that it was posted to in full
	got    uint64 // those that gave their receipt
	until  int64  // Unix seconds
	due    time.Time
}

// keepForRepair begins to watch a bundle's carriers.
func (m *Machine) keepForRepair(b *bundleRecord, full uint64) {
	r := &repair{bundle: b, want: bits.OnesCount64(full), full: full, until: m.now.Add(m.cfg.Limits.RepairTime).Unix(), due: m.now.Add(m.carrierWait())}
	m.repairs[b.order] = r
	m.saveRepair(r)
}

// carrierWait is how long a carrier may take for its receipt before another relay
// gets the bundle in full: less than members wait before they ask.
func (m *Machine) carrierWait() time.Duration { return m.policy().Deadline / 2 }

// saveRepair writes: want u8 | full u64 | got u64 | until u64.
func (m *Machine) saveRepair(r *repair) {
	b := wire.AppendU64([]byte{byte(r.want)}, r.full)
	b = wire.AppendU64(wire.AppendU64(b, r.got), uint64(r.until))
	m.put(m.key(keyCarried, []byte{partRepair}, wire.U64(r.bundle.order)), b)
}

func (m *Machine) loadRepair(key, value []byte) error {
	order, r := wire.NewReader(key).U64(), wire.NewReader(value)
	x := &repair{bundle: m.bundles[order], want: int(r.U8()), full: r.U64(), got: r.U64(), until: int64(r.U64())}
	if x.bundle == nil {
		return wire.ErrFormat
	}
	m.repairs[order] = x
	return r.Done()
}

// repairOf is the repair of a bundle that is kept, nil if there is none.
func (m *Machine) repairOf(d wire.Digest) *repair {
	for _, r := range m.repairs {
		if r.bundle.d == d {
			return r
		}
	}
	return nil
}

// noteCarried takes the receipt of a full copy.
func (m *Machine) noteCarried(p *path, q *postItem) {
	if r := m.repairs[q.bundle]; r != nil && q.kind == postBundle {
		r.got |= p.bit()
		m.saveRepair(r)
	}
}

// hasten looks at once whether another relay must carry what this post did.
func (m *Machine) hasten(q *postItem) {
	if r := m.repairs[q.bundle]; r != nil && q.kind == postBundle {
		r.due = m.now
	}
}

// mend posts bundles in full on further relays for carriers that have not given
// their receipt, and forgets bundles that were kept long enough.
func (m *Machine) mend() {
	if len(m.repairs) == 0 || !m.isMember() {
		return
	}
	kept := 0
	for _, order := range slices.Backward(slices.Sorted(maps.Keys(m.repairs))) {
		r := m.repairs[order]
		lacks := r.want - bits.OnesCount64(r.got)
		switch {
		case lacks <= 0 || m.everywhereFull(r):
			r.due = time.Time{}
		case r.due.IsZero():
			r.due = m.now.Add(m.carrierWait())
		case !m.now.Before(r.due):
			m.replaceCarriers(r, lacks)
			r.due = m.now.Add(m.carrierWait())
		}
		if r.bundle.pending > 0 {
			continue
		}
		if kept += len(r.bundle.envelope) + len(r.bundle.slots); kept > m.cfg.Limits.RepairBytes || m.now.Unix() >= r.until || lacks <= 0 && m.everywhereFull(r) {
			m.forgetRepair(r)
		}
	}
}

// everywhereFull: no relay is left that could carry it besides.
func (m *Machine) everywhereFull(r *repair) bool {
	return !slices.ContainsFunc(m.inUse(), func(p *path) bool { return r.full&p.bit() == 0 })
}

func (m *Machine) forgetRepair(r *repair) {
	delete(m.repairs, r.bundle.order)
	m.del(m.key(keyCarried, []byte{partRepair}, wire.U64(r.bundle.order)))
	m.forgetBundle(r.bundle)
}

// replaceCarriers posts a bundle in full on so many relays that did not get it
// so; those whose link stands first.
func (m *Machine) replaceCarriers(r *repair, n int) {
	list := m.readyFirst(slices.DeleteFunc(m.shuffled(m.inUse()), func(p *path) bool { return r.full&p.bit() != 0 }))
	for _, p := range list[:min(n, len(list))] {
		r.full |= p.bit()
		m.postOn(p, r.bundle, postBundle)
	}
	m.saveRepair(r)
}

// mendAt is when a carrier's receipt is waited for no longer, or the first bundle
// has been kept long enough; zero: never.
func (m *Machine) mendAt() (t time.Time) {
	if !m.isMember() {
		return t
	}
	for _, r := range m.repairs {
		at := r.due
		if at.IsZero() && r.bundle.pending == 0 {
			at = time.Unix(r.until, 0)
		}
		if !at.IsZero() && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}
