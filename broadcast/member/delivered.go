package member

import (
	"slices"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// What becomes of own texts: who had a slot, which relays gave their receipt,
// and what later messages of the others say. Every message carries its sender's
// view: the newest head of each relay's log that it had read, and the last texts
// that opened there. Both are that member's own word, under its session.

// Bounds of what is kept about own texts; the newest one is always kept.
const (
	maxDeliveries    = 512    // texts
	maxDeliveryLines = 65_536 // members of them, over all texts
	maxLives         = 2      // lineages of a relay that one member's reading is kept of
	maxReason        = 256    // bytes of why a relay refused, as proto.Refused has it
)

// Parts of the records under keyDelivery; u8 after it.
const (
	partSet    = 0 // hash 32: deliverySet
	partText   = 1 // incarnation 8, sequence u64: delivery
	partOpened = 2 // incarnation 8, sequence u64, seat 32: sign
	partReader = 3 // seat 32: reader
)

// slotState is what a seat got of a text when it was sent.
type slotState uint8

const (
	slotSent       slotState = 1
	slotUnanswered slotState = 2 // in a session whose first contact had no answer
	slotNone       slotState = 3 // no session: random bytes
	slotHeld       slotState = 4 // no slot: the key was not agreed on yet
	slotContested  slotState = 5 // no slot: the key was contested
)

// deliverySet is who was there when a text was sent, the own seat aside.
// Following texts share it.
type deliverySet struct {
	hash    wire.Digest
	seats   []wire.Seat // ascending
	of      []wire.Incarnation
	states  []slotState
	members int // deliveries that name it
}

type relayPhase uint8

const (
	relayPosted  relayPhase = 1 // in the outbox when it was sent
	relayReceipt relayPhase = 2
	relayRefused relayPhase = 3 // for good
	relayAside   relayPhase = 4 // set aside before it was sent
	relayNone    relayPhase = 5 // it was none of the relays then
)

// relayDelivery is how far one relay came with a text.
type relayDelivery struct {
	phase   relayPhase
	digest  bool         // it has the digest, other relays carry it
	lineage wire.Lineage // of the receipt
	n       uint64
	head    wire.Digest
	at      int64 // Unix seconds when the receipt came
	reason  string
}

// carries: it has the full copy, says its receipt.
func (r *relayDelivery) carries() bool { return r.phase == relayReceipt && !r.digest }

// sign is a message of a member that says something.
type sign struct {
	id   [8]byte // of the message
	sent int64   // Unix seconds by its sender's clock
}

// delivery is one own text.
type delivery struct {
	key    messageKey
	d      wire.Digest
	sent   int64
	order  uint64 // of message.order
	text   string // its beginning
	set    *deliverySet
	relays []relayDelivery // by path
	opened map[wire.Seat]sign
}

// reading is how far a member said that it had read one relay.
type reading struct {
	lineage wire.Lineage
	n       uint64
	head    wire.Digest // zero once it was compared
	by      sign
}

// reader is what a member's messages said of the relays.
type reader struct {
	heard  sign
	order  uint64      // of the newest message that opened
	claims []reading   // by path: the newest that is not compared yet; n 0: none
	agreed [][]reading // by path: the furthest in each lineage, of the log that this device reads
}

type pathNumber struct {
	path int
	n    uint64
}

// ownTexts are all of that.
type ownTexts struct {
	list    []*delivery // oldest first
	byKey   map[messageKey]*delivery
	sets    map[wire.Digest]*deliverySet
	readers map[wire.Seat]*reader
	pending map[pathNumber][]wire.Seat // claims by the number that settles them
	lines   int
}

func (ds *ownTexts) make() {
	if ds.byKey == nil {
		*ds = ownTexts{byKey: map[messageKey]*delivery{}, sets: map[wire.Digest]*deliverySet{},
			readers: map[wire.Seat]*reader{}, pending: map[pathNumber][]wire.Seat{}}
	}
}

// noteSent keeps who gets a text that was just put into the outbox.
func (m *Machine) noteSent(msg *message) {
	m.delivery.make()
	s := &deliverySet{}
	for _, st := range m.sortedSeats() {
		if st.own || st.ann == nil || m.out(st.seat) {
			continue
		}
		state := slotSent
		switch session := m.sender(st); {
		case !m.usable(st) && m.report(st).Verdict == crossverify.Unconfirmed:
			state = slotHeld
		case !m.usable(st):
			state = slotContested
		case session == nil:
			state = slotNone
		case !session.answered():
			state = slotUnanswered
		}
		s.seats, s.of, s.states = append(s.seats, st.seat), append(s.of, st.ann.Incarnation), append(s.states, state)
	}
	value := s.append(nil)
	s.hash = wire.Hash("parallax/1/delivery/set", value)
	if known := m.delivery.sets[s.hash]; known != nil {
		s = known
	} else {
		m.delivery.sets[s.hash] = s
		m.put(m.key(keyDelivery, []byte{partSet}, s.hash[:]), value)
	}
	dl := &delivery{key: msg.key, d: msg.d, sent: msg.sent, order: msg.order, text: preview(msg.text), set: s, opened: map[wire.Seat]sign{}}
	repair := m.repairOf(msg.d)
	for _, p := range m.paths {
		r := relayDelivery{phase: relayPosted, digest: repair != nil && repair.full&p.bit() == 0}
		switch {
		case p.aside:
			r.phase = relayAside
		case !p.takesPosts():
			r.phase = relayNone
		}
		dl.relays = append(dl.relays, r)
	}
	m.keepDelivery(dl)
	m.saveDelivery(dl)
	for len(m.delivery.list) > 1 && (len(m.delivery.list) > maxDeliveries || m.delivery.lines > maxDeliveryLines) {
		m.forgetDelivery(m.delivery.list[0])
	}
}

// grow gives a text more relays, none of which it was posted to.
func (dl *delivery) grow(paths int) {
	for len(dl.relays) < paths {
		dl.relays = append(dl.relays, relayDelivery{phase: relayNone})
	}
}

func (r *reader) grow(paths int) {
	r.claims = append(r.claims, make([]reading, paths-len(r.claims))...)
	r.agreed = append(r.agreed, make([][]reading, paths-len(r.agreed))...)
}

func (m *Machine) keepDelivery(dl *delivery) {
	m.delivery.list = append(m.delivery.list, dl)
	m.delivery.byKey[dl.key] = dl
	m.delivery.lines += len(dl.set.seats)
	dl.set.members++
}

func (m *Machine) forgetDelivery(dl *delivery) {
	ds := &m.delivery
	ds.list = slices.DeleteFunc(ds.list, func(o *delivery) bool { return o == dl })
	delete(ds.byKey, dl.key)
	ds.lines -= len(dl.set.seats)
	m.del(m.deliveryKey(partText, dl))
	for seat := range dl.opened {
		m.del(append(m.deliveryKey(partOpened, dl), seat[:]...))
	}
	if dl.set.members--; dl.set.members == 0 {
		delete(ds.sets, dl.set.hash)
		m.del(m.key(keyDelivery, []byte{partSet}, dl.set.hash[:]))
	}
}

// posted is the text that a post carries, nil if none that is kept.
func (m *Machine) posted(q *postItem) *delivery {
	if b := m.bundles[q.bundle]; q.ofBundle() && b != nil {
		return m.delivery.byKey[b.key]
	}
	return nil
}

// noteReceipt keeps a relay's receipt for a text.
func (m *Machine) noteReceipt(p *path, q *postItem, s crossverify.Statement) {
	dl, digest := m.posted(q), q.kind == postDigest
	if dl != nil && !(digest && dl.relays[p.index].carries()) {
		dl.relays[p.index] = relayDelivery{phase: relayReceipt, digest: digest, lineage: s.Lineage, n: s.N, head: s.H, at: m.now.Unix()}
		m.saveDelivery(dl)
	}
}

// noteRefused keeps that a relay will not take a text.
func (m *Machine) noteRefused(p *path, q *postItem, f proto.Refused) {
	if dl := m.posted(q); dl != nil && dl.relays[p.index].phase != relayReceipt {
		dl.relays[p.index] = relayDelivery{phase: relayRefused, at: m.now.Unix(), reason: f.Text[:min(len(f.Text), maxReason)]}
		m.saveDelivery(dl)
	}
}

// noteView keeps what a member's message says about own texts.
func (m *Machine) noteView(st *seatState, msg *message, v View) {
	if len(m.delivery.list) == 0 {
		return
	}
	by := sign{[8]byte(msg.d[:8]), msg.sent}
	for _, rec := range v.Recents {
		dl := m.delivery.byKey[messageKey{source{m.self, rec.Incarnation}, rec.Sequence}]
		if rec.Seat != [8]byte(m.self[:8]) || dl == nil || dl.d != rec.D || !slices.Contains(dl.set.seats, st.seat) {
			continue
		}
		if _, known := dl.opened[st.seat]; !known {
			dl.opened[st.seat] = by
			m.put(append(m.deliveryKey(partOpened, dl), st.seat[:]...), by.append(nil))
		}
	}
	r := m.delivery.readers[st.seat]
	if r == nil {
		r = &reader{claims: make([]reading, len(m.paths)), agreed: make([][]reading, len(m.paths))}
		m.delivery.readers[st.seat] = r
	}
	r.heard, r.order = by, msg.order
	for _, rv := range v.Relays {
		if p := m.pathOf(rv.Relay); p != nil && rv.N > 0 && rv.Head != (wire.Digest{}) {
			m.takeReading(p, st.seat, r, reading{rv.Lineage, rv.N, rv.Head, by})
		}
	}
	m.saveReader(st.seat, r)
}

// takeReading takes what a member says of one relay: compared at once where the
// head of that number is known, else when it comes.
func (m *Machine) takeReading(p *path, seat wire.Seat, r *reader, c reading) {
	m.unclaim(p, seat, r)
	if head, ok := m.headAt(p, c); ok {
		if head == c.head { // another head is compare.go's: statements settle it
			r.agree(p.index, c)
		}
		return
	}
	r.claims[p.index] = c
	at := pathNumber{p.index, c.n}
	m.delivery.pending[at] = append(m.delivery.pending[at], seat)
}

func (m *Machine) unclaim(p *path, seat wire.Seat, r *reader) {
	at := pathNumber{p.index, r.claims[p.index].n}
	r.claims[p.index] = reading{}
	if left := slices.DeleteFunc(m.delivery.pending[at], func(s wire.Seat) bool { return s == seat }); len(left) > 0 {
		m.delivery.pending[at] = left
	} else {
		delete(m.delivery.pending, at)
	}
}

// headAt is the head that a relay signed towards this device for the number of
// a claim, if it is still known: from the log, or from a receipt.
func (m *Machine) headAt(p *path, c reading) (wire.Digest, bool) {
	if c.lineage == p.lineage {
		if s, ok := p.heads[c.n]; ok {
			return s.H, true
		}
	}
	for _, dl := range m.delivery.list {
		if r := &dl.relays[p.index]; r.phase == relayReceipt && r.n == c.n && r.lineage == c.lineage {
			return r.head, true
		}
	}
	return wire.Digest{}, false
}

// settleReadings compares what members said of a number with its statement.
func (m *Machine) settleReadings(p *path, s crossverify.Statement) {
	at := pathNumber{p.index, s.N}
	for _, seat := range slices.Clone(m.delivery.pending[at]) {
		r := m.delivery.readers[seat]
		c := r.claims[p.index]
		if c.lineage != s.Lineage {
			continue
		}
		m.unclaim(p, seat, r)
		if c.head == s.H {
			r.agree(p.index, c)
		}
		m.saveReader(seat, r)
	}
}

// agree takes a claim whose head is the own one.
func (r *reader) agree(path int, c reading) {
	c.head = wire.Digest{}
	list := r.agreed[path]
	for i := range list {
		if list[i].lineage == c.lineage {
			if c.n > list[i].n {
				list[i] = c
			}
			return
		}
	}
	if list = append(list, c); len(list) > maxLives {
		list = list[1:]
	}
	r.agreed[path] = list
}

// past tells whether a member read a relay past the number of its receipt, and
// which message of it says so; compared: its log is the one that this device reads.
func (r *reader) past(path int, rd *relayDelivery) (by sign, past, compared bool) {
	if r == nil || rd.phase != relayReceipt {
		return sign{}, false, false
	}
	for _, c := range r.agreed[path] {
		if c.lineage == rd.lineage && c.n >= rd.n {
			return c.by, true, true
		}
	}
	c := r.claims[path]
	return c.by, c.lineage == rd.lineage && c.n >= rd.n, false
}
