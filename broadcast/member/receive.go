package member

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// item is one delivery, unmasked.
type item struct {
	path     *path
	n        uint64
	lineage  wire.Lineage
	header   broadcast.Header
	d        wire.Digest
	envelope []byte
	slot     []byte
	spoiled  bool // its share does not open: the path failed for this message
}

// compare orders copies by path and number.
func (it *item) compare(o *item) int {
	return cmp.Or(it.path.index-o.path.index, slices.Compare(it.lineage[:], o.lineage[:]), cmp.Compare(it.n, o.n))
}

func (it *item) key() messageKey {
	return messageKey{source{it.header.Seat, it.header.Incarnation}, it.header.Sequence}
}

// slotDigest is what is compared over the paths: the slot without share space.
func slotDigest(slot []byte) wire.Digest {
	switch len(slot) {
	case ratchet.HelloSlotSize:
		return wire.Hash("parallax/1/slot", slot[:ratchet.HandshakeSize], slot[ratchet.HandshakeSize+ratchet.ShareSize:])
	case ratchet.AnsweringSlotSize:
		return wire.Hash("parallax/1/slot", slot[ratchet.ShareSize:])
	}
	return wire.Hash("parallax/1/slot", slot)
}

var errNoSession = errors.New("member: no session with this seat yet")

// deliver takes a bundle's envelope and this member's slot from a path.
func (m *Machine) deliver(p *path, f proto.Deliver) {
	if p.once(f.N) {
		m.deliverAgain(p, f)
		return
	}
	if !m.next(p, f.N, f.Digest(), f.Root, f.Signature) {
		return
	}
	m.checkRoot(p, f.N, f.Root)
	it := m.unmask(p, f, p.lineage)
	if it == nil {
		if m.isMember() && m.unknownHint(p, f.Hint) {
			m.keepUnread(p, f)
		} else {
			m.badHeader(p)
		}
		return
	}
	m.process(it, func() { m.hold(it, f) })
}

// unmask takes the relay's mask off and reads the header; nil if no epoch key
// fits.
func (m *Machine) unmask(p *path, f proto.Deliver, l wire.Lineage) *item {
	epochs := m.keysOf(p).epochs
	for i := range epochs {
		if epochs[i].hint != f.Hint {
			continue
		}
		e := &epochs[i]
		it := &item{path: p, n: f.N, lineage: l, envelope: slices.Clone(f.Envelope), slot: slices.Clone(f.Slot)}
		mask := broadcast.NewMasker(&e.Key, p.ref.Key, f.Nonce)
		mask.Mask(it.envelope, 0)
		mask.Mask(it.slot, len(f.Envelope)+int(f.Offset))
		var err error
		if it.header, it.d, err = broadcast.ReadHeader(m.gid, &e.Key, it.envelope); err == nil && it.header.Epoch == e.Number {
			return it
		}
	}
	return nil
}

// process takes an item as far as it goes; hold keeps it for later.
func (m *Machine) process(it *item, hold func()) {
	k := it.key()
	if k.seat == m.self && m.starting.unsure {
		hold() // a later state of this folder may have sent it
		return
	}
	if msg := m.messages[k]; msg != nil && msg.opened {
		m.duplicate(it, msg)
		return
	}
	if m.received[k.source].has(k.sequence) {
		// Elsewhere it may have been posted in full later.
		if k.sequence > m.received[k.source].filled && m.carries(it.path, it.header.Carriers, m.meta.Lists.era()) {
			m.replayed(it)
		}
		return
	}
	st := m.seats[k.seat]
	if k.seat == m.self && k.incarnation != m.keyring.inc {
		return // of an earlier installation of one's own
	}
	switch {
	case st == nil || k.seat == m.self:
		hold()
		return
	case m.usable(st):
	case m.out(k.seat): // what counts of it is read, and the rest is told apart
		if len(it.slot) == ratchet.HelloSlotSize && !m.counts(st, k) {
			return
		}
	default:
		hold()
		return
	}
	held := hold
	hold = func() { held(); m.mayLackOf(it) }
	if it.path.stops(k.seat) {
		hold()
		return
	}
	// Every slot is tried, of every path: who may write to the channel can
	// spoil slots in anybody's name, and a relay may never end its listing, so
	// no rule that waits for other paths keeps what is true from being shown.
	before := st.skipped()
	content, err := m.openSlot(st, it)
	switch {
	case err == nil:
		m.openedItem(st, it, &content, st.skipped()-before)
		if len(it.slot) == ratchet.SlotSize {
			return
		}
	case errors.Is(err, errCopies):
		hold()
	default:
		if tooFarAhead(err) {
			m.stall(it.path, k.seat)
		}
		hold()
		return
	}
	if !m.retrying { // a session came: what was held for it follows
		m.retryHeld(st.seat)
	}
}

// openedItem takes an item whose slot opened: it is the sender's. So many slots
// before it in the session's chain have not come.
func (m *Machine) openedItem(st *seatState, it *item, key *keys.ContentKey, skips int) {
	k := it.key()
	first := m.received[k.source] == nil
	st.epoch = it.header.Epoch
	m.counters.messages++
	msg := &message{key: k, d: it.d, slot: slotDigest(it.slot), opened: true, order: m.counters.messages, carriers: it.header.Carriers, known: m.now, era: m.meta.Lists.era()}
	m.messages[k] = msg
	m.digests.of[it.d] = k
	m.ledger.Opened(m.now, crossverify.Path(it.path.index), k.subject(), it.d)
	m.learn(it.path, msg)
	m.awaitCopies(msg)
	m.addReceived(k)
	if got := m.received[k.source]; first && skips > 0 {
		got.base = k.sequence - min(k.sequence-1, uint64(skips))
		m.saveReceived(k.source, got)
	}
	plain, err := broadcast.OpenEnvelope(m.gid, it.header, key, it.envelope)
	var c *Content
	if err == nil {
		c, err = ParseContent(plain)
	}
	if err != nil {
		m.show(Event{Kind: EventBlame, ID: it.d.Short(), Seat: k.seat.String(), Member: m.display(st),
			Text: fmt.Sprintf("%s sent a message that does not open although its key does: %v. It is not shown.", m.display(st), err)})
	} else {
		m.heardOf(c.Kind)
		if c.Kind == KindText {
			a := &Again{Header: it.header, Sealed: [broadcast.SealedHeaderSize]byte(it.envelope), Key: *key, Content: plain}
			m.keepText(a, it.d, msg.order)
		}
		m.content(st, msg, c)
	}
	key.Zero()
	m.arrived(k)
	if got := m.received[k.source]; !got.has(k.sequence-1) && (!first || got.base > 0) {
		m.mayLack(k.source, k.sequence-1)
	}
	m.copies(k, msg)
	m.matchDigests(msg)
	m.marksChanged(msg)
	m.saveCounters()
}

// awaitCopies notes that every path was asked for a message: those that have
// not carried it lag until the deadline, then they are silent.
func (m *Machine) awaitCopies(msg *message) {
	s := msg.key.subject()
	counted := m.meta.Lists.counted(msg.era)
	for i, status := range m.ledger.Report(s).Status {
		if status == crossverify.Awaiting && counted.has(i) {
			m.ledger.Absent(m.now, crossverify.Path(i), s)
		}
	}
}

// content acts on what a message says.
func (m *Machine) content(st *seatState, msg *message, c *Content) {
	msg.kind, msg.sent = c.Kind, c.Sent.Unix()
	if !m.heard(st, msg, c) {
		return
	}
	switch {
	case c.Kind == KindText:
		msg.text = textOf(c.Body)
		if !m.rules().Strict {
			m.showMessage(msg)
		}
		m.recent = append(m.recent, msg)
	case c.Kind == KindHello:
		m.sawHello(st, c.Body)
	case c.Kind == KindRoster:
		m.sawNews(c.Body)
	case c.Kind == KindStatements:
		m.sawExchange(c.Body)
	case c.Kind == KindRefetch:
		m.sawRefetch(st, c.Body)
	case c.Kind == KindAgain && m.rules().Strict:
		msg.text = string(c.Body) // until every path carried it
	case c.Kind == KindAgain:
		m.sawAnswer(st, c.Body)
	case c.Kind.Known() || c.Kind.Skippable():
	default:
		msg.text = "(a message that needs a newer version of parallax)"
		m.showMessage(msg)
	}
	m.compareRosters(st, c.View.Roster)
	m.noteNamed(msg.key, c)
	m.noteSeen(st.seat, c.View)
	m.compareView(st, c.View)
	m.noteView(st, msg, c.View)
}

// textOf is a text as it is shown.
func textOf(body []byte) string { return strings.ToValidUTF8(string(body), "\uFFFD") }

// duplicate compares another path's copy with the message that opened.
func (m *Machine) duplicate(it *item, msg *message) {
	k := it.key()
	at := crossverify.Path(it.path.index)
	status := m.ledger.Report(k.subject()).Status[at]
	matched := status == crossverify.Matched
	same := it.d == msg.d && (msg.slot == wire.Digest{} || slotDigest(it.slot) == msg.slot)
	st := m.seatOf(k.seat)
	announced := msg.digests&it.path.bit() != 0 // by its digest, which a full copy may follow
	if it.d == msg.d {
		msg.digests &^= it.path.bit()
	}
	switch {
	case same && (!matched || announced) && !it.spoiled:
		// Also after another copy: somebody in the group can be faster than
		// the sender with a spoiled one.
		m.ledger.Opened(m.now, at, k.subject(), it.d)
		if status == crossverify.Awaiting || status == crossverify.Silent {
			m.learn(it.path, msg) // the path's first copy
		}
	case same && matched && !announced:
		m.replayed(it)
		return
	case it.d == msg.d && matched && !announced: // a spoiled one after the true one changes nothing
		return
	case it.d == msg.d:
		m.ledger.Fail(m.now, at, k.subject())
		m.relayEvent(it.path, "slot", "", fmt.Sprintf("Relay %s delivered message %s of %s with a spoiled slot: it did not open there. Another path carried it. Sender or relay, unknown. Nothing for you to do.",
			it.path.name(), msg.d.Short(), m.display(st)))
	default:
		m.otherText(it, msg, st, matched)
	}
	m.marksChanged(msg)
}

// otherText: a copy with another digest. If its slot opens too, the sender sent
// two texts under one number; else this path alone shows something else, or,
// where it carried the true one too, somebody wrote under the sender's number.
func (m *Machine) otherText(it *item, msg *message, st *seatState, matched bool) {
	k := it.key()
	at := crossverify.Path(it.path.index)
	if !msg.own {
		if key, err := m.openSlot(st, it); err == nil {
			key.Zero()
			m.ledger.Opened(m.now, at, k.subject(), it.d)
			m.show(Event{Kind: EventBlame, ID: msg.d.Short(), Seat: k.seat.String(), Member: m.display(st),
				Text: fmt.Sprintf("%s sent two different texts under one number: both opened under its own key. The one that came first is shown. No relay is blamed.", m.display(st))})
			return
		}
	}
	if matched {
		m.relayEvent(it.path, "under a number", "", fmt.Sprintf("Relay %s carries message %s of %s, and another one under its number that does not open. Somebody in the group wrote that one, or the relay did. It is ignored. Nothing for you to do.",
			it.path.name(), msg.d.Short(), m.display(st)))
		return
	}
	m.ledger.Claim(m.now, at, k.subject(), it.d)
	m.relayEvent(it.path, "altered", "", fmt.Sprintf("Relay %s delivered something else under the number of message %s of %s: it does not open there. The relay altered it, or somebody in the group wrote it. Another path carried the true one. Nothing for you to do.",
		it.path.name(), msg.d.Short(), m.display(st)))
}

// replayed: a path delivers what it delivered before, or what is long settled.
func (m *Machine) replayed(it *item) {
	it.path.stats[crossverify.Failed]++
	m.savePath(it.path)
	m.relayEvent(it.path, "replay", "", fmt.Sprintf("Relay %s repeated an old message under a new number. It is ignored. Nothing for you to do.", it.path.name()))
}
