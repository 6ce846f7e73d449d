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
	epoch    int
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
	if !m.next(p, f.N, f.Digest(), f.Root, f.Signature) {
		return
	}
	m.checkRoot(p, f.N, f.Root)
	it := m.unmask(p, f, p.lineage)
	if it == nil {
		p.stats[crossverify.Failed]++
		m.savePath(p)
		if m.genesis != nil && len(m.keyring.epochs) > 0 {
			m.relayEvent(p, "header", "", fmt.Sprintf("Relay %s delivered a message whose header does not open: it was altered there, or made by somebody without the group's key. The other paths carry the true one. Nothing for you to do.", p.name()))
		}
		return
	}
	m.process(it, func() { m.hold(it, f) })
}

// unmask takes the relay's mask off and reads the header; nil if no epoch key
// fits.
func (m *Machine) unmask(p *path, f proto.Deliver, l wire.Lineage) *item {
	for i := len(p.hints); i < len(m.keyring.epochs); i++ {
		p.hints = append(p.hints, broadcast.Hint(&m.keyring.epochs[i].Key, p.ref.Key))
	}
	for i, hint := range p.hints {
		if hint != f.Hint {
			continue
		}
		e := &m.keyring.epochs[i].Key
		it := &item{path: p, n: f.N, lineage: l, epoch: i, envelope: slices.Clone(f.Envelope), slot: slices.Clone(f.Slot)}
		mask := broadcast.NewMasker(e, p.ref.Key, f.Nonce)
		mask.Mask(it.envelope, 0)
		mask.Mask(it.slot, len(f.Envelope)+int(f.Offset))
		var err error
		if it.header, it.d, err = broadcast.ReadHeader(m.gid, e, it.envelope); err == nil {
			return it
		}
	}
	return nil
}

// process takes an item as far as it goes; hold keeps it for later.
func (m *Machine) process(it *item, hold func()) {
	k := it.key()
	if msg := m.messages[k]; msg != nil && msg.opened {
		m.duplicate(it, msg)
		return
	}
	if m.received[k.source].has(k.sequence) {
		m.replayed(it)
		return
	}
	st := m.seats[k.seat]
	if k.seat == m.self && k.incarnation != m.keyring.inc {
		return // of an earlier installation of one's own
	}
	if st == nil || k.seat == m.self || !m.usable(st) {
		hold()
		return
	}
	// Every slot is tried, of every path: who may write to the channel can
	// spoil slots in anybody's name, and a relay may never end its listing, so
	// no rule that waits for other paths keeps what is true from being shown.
	content, err := m.openSlot(st, it)
	switch {
	case err == nil:
		m.openedItem(st, it, &content)
		if len(it.slot) == ratchet.SlotSize {
			return
		}
	case errors.Is(err, errCopies):
		hold()
	default:
		hold()
		return
	}
	if !m.retrying { // a session came: what was held for it follows
		m.retryHeld(st.seat)
	}
}

// openedItem takes an item whose slot opened: it is the sender's.
func (m *Machine) openedItem(st *seatState, it *item, key *keys.ContentKey) {
	k := it.key()
	m.counters.messages++
	msg := &message{key: k, d: it.d, slot: slotDigest(it.slot), opened: true, order: m.counters.messages, known: m.now, era: m.meta.Lists.era()}
	m.messages[k] = msg
	m.ledger.Opened(m.now, crossverify.Path(it.path.index), k.subject(), it.d)
	m.learn(it.path, msg)
	m.awaitCopies(msg)
	m.addReceived(k)
	plain, err := broadcast.OpenEnvelope(m.gid, it.header, key, it.envelope)
	key.Zero()
	var c *Content
	if err == nil {
		c, err = ParseContent(plain)
	}
	if err != nil {
		m.show(Event{Kind: EventBlame, ID: it.d.Short(), Seat: k.seat.String(), Member: m.display(st),
			Text: fmt.Sprintf("%s sent a message that does not open although its key does: %v. It is not shown.", m.display(st), err)})
	} else {
		m.content(st, msg, c)
	}
	m.copies(k, msg)
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
	switch {
	case c.Kind == KindText:
		msg.text = strings.ToValidUTF8(string(c.Body), "\uFFFD")
		if !m.rules().Strict {
			m.showMessage(msg)
		}
		m.recent = append(m.recent, msg)
	case c.Kind == KindHello:
		m.sawHello(st, c.Body)
	case c.Kind == KindStatements:
		m.sawStatements(c.Body)
	case c.Kind.Known() || c.Kind.Skippable():
	default:
		msg.text = "(a message that needs a newer version of parallax)"
		m.showMessage(msg)
	}
	m.compareView(st, c.View)
	m.noteView(st, msg, c.View)
}

// duplicate compares another path's copy with the message that opened.
func (m *Machine) duplicate(it *item, msg *message) {
	k := it.key()
	at := crossverify.Path(it.path.index)
	status := m.ledger.Report(k.subject()).Status[at]
	matched := status == crossverify.Matched
	first := status == crossverify.Awaiting || status == crossverify.Silent
	st := m.seatOf(k.seat)
	switch {
	case it.d == msg.d && slotDigest(it.slot) == msg.slot && !matched && !it.spoiled:
		// Also after another copy: somebody in the group can be faster than
		// the sender with a spoiled one.
		m.ledger.Opened(m.now, at, k.subject(), it.d)
		if first {
			m.learn(it.path, msg)
		}
	case it.d == msg.d && !first:
		m.replayed(it)
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
