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

// source is whose numbers a sequence counts in.
type source struct {
	seat        wire.Seat
	incarnation wire.Incarnation
}

type messageKey struct {
	source
	sequence uint64
}

func (k messageKey) bytes() []byte {
	b := append(slices.Clone(k.seat[:]), k.incarnation[:]...)
	return wire.AppendU64(b, k.sequence)
}

func (k messageKey) subject() crossverify.Subject {
	return crossverify.Subject{Kind: crossverify.Message, ID: wire.Digest(k.seat), Incarnation: k.incarnation, N: k.sequence}
}

// message is an envelope whose slot opened, or an own one.
type message struct {
	key      messageKey
	d        wire.Digest
	slot     wire.Digest // of this member's slot, share space aside
	event    uint64      // 0: nothing was shown (yet)
	kind     Kind
	sent     int64
	own      bool
	opened   bool
	late     bool
	mismatch bool
	text     string // what is shown; of a shown message its beginning
	status   []crossverify.Status
	order    uint64 // of opening
}

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
	for i := range m.keyring.epochs {
		e := &m.keyring.epochs[i].Key
		if broadcast.Hint(e, p.ref.Key) != f.Hint {
			continue
		}
		it := &item{path: p, n: f.N, lineage: l, epoch: i, envelope: slices.Clone(f.Envelope), slot: slices.Clone(f.Slot)}
		broadcast.Mask(it.envelope, e, p.ref.Key, f.Nonce, 0)
		broadcast.Mask(it.slot, e, p.ref.Key, f.Nonce, len(f.Envelope)+int(f.Offset))
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
	if st == nil || k.seat == m.self || !m.usable(st) {
		hold()
		return
	}
	// Every slot is tried, of every path: who may write to the channel can
	// spoil slots in anybody's name, and a relay may never end its listing, so
	// no rule that waits for other paths keeps what is true from being shown.
	content, err := m.openSlot(st, it.slot, it.d)
	if err != nil {
		hold()
		return
	}
	m.openedItem(st, it, &content)
}

// openedItem takes an item whose slot opened: it is the sender's.
func (m *Machine) openedItem(st *seatState, it *item, key *keys.ContentKey) {
	k := it.key()
	m.counters.messages++
	msg := &message{key: k, d: it.d, slot: slotDigest(it.slot), opened: true, order: m.counters.messages}
	m.messages[k] = msg
	m.ledger.Opened(m.now, crossverify.Path(it.path.index), k.subject(), it.d)
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
	for i, status := range m.ledger.Report(s).Status {
		if status == crossverify.Awaiting {
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
		if !m.genesis.Policy.Strict {
			m.showMessage(msg)
		}
		m.recent = append(m.recent, msg)
	case c.Kind == KindStatements:
		m.sawStatements(c.Body)
	case c.Kind.Known() || c.Kind.Skippable():
	default:
		msg.text = "(a message that needs a newer version of parallax)"
		m.showMessage(msg)
	}
	m.compareView(st, c.View)
}

// showMessage hands a message to the application, once.
func (m *Machine) showMessage(msg *message) {
	st := m.seatOf(msg.key.seat)
	e := Event{Kind: EventMessage, ID: msg.d.Short(), Seat: msg.key.seat.String(), Member: m.display(st), Text: msg.text, Own: msg.own,
		Marks: m.marks(m.ledger.Report(msg.key.subject()).Status)}
	if msg.sent > 0 {
		e.Sent = unixSeconds(msg.sent)
	}
	msg.event = m.show(e)
	msg.text = preview(msg.text)
}

// preview is what lists show of a text.
func preview(s string) string {
	const most = 60
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
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
	case it.d == msg.d && slotDigest(it.slot) == msg.slot && !matched:
		// Also after another copy: somebody in the group can be faster than
		// the sender with a spoiled one.
		m.ledger.Opened(m.now, at, k.subject(), it.d)
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
		if key, err := m.openSlot(st, it.slot, it.d); err == nil {
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
	m.relayEvent(it.path, "altered", "", fmt.Sprintf("Relay %s delivered message %s of %s altered: it does not open there. Another path carried the true one. Nothing for you to do.",
		it.path.name(), msg.d.Short(), m.display(st)))
}

// replayed: a path delivers what it delivered before, or what is long settled.
func (m *Machine) replayed(it *item) {
	it.path.stats[crossverify.Failed]++
	m.savePath(it.path)
	m.relayEvent(it.path, "replay", "", fmt.Sprintf("Relay %s repeated an old message under a new number. It is ignored. Nothing for you to do.", it.path.name()))
}

// marksChanged stores how the paths stand for a message, and shows what waited
// for agreement.
func (m *Machine) marksChanged(msg *message) {
	r := m.ledger.Report(msg.key.subject())
	if msg.opened && !msg.own && msg.kind == KindText && msg.event == 0 && r.Usable {
		m.showMessage(msg)
	}
	for i, s := range r.Status {
		var was crossverify.Status
		if i < len(msg.status) {
			was = msg.status[i]
		}
		if s == was {
			continue
		}
		p := m.paths[i]
		if was != crossverify.Awaiting && p.stats[was] > 0 {
			p.stats[was]--
		}
		if s != crossverify.Awaiting {
			p.stats[s]++
		}
		m.savePath(p)
	}
	msg.status = slices.Clone(r.Status)
	m.saveMessage(msg)
	if msg.event > 0 {
		m.hint(Event{Kind: EventMarks, ID: msg.d.Short(), Seat: msg.key.seat.String(), Marks: m.marks(r.Status), Own: msg.own})
	}
}

func (m *Machine) saveMessage(msg *message) {
	b := append(slices.Clone(msg.d[:]), msg.slot[:]...)
	b = wire.AppendU64(b, msg.event)
	b = append(b, byte(msg.kind))
	b = wire.AppendU64(b, uint64(msg.sent))
	b = wire.AppendBool(b, msg.own)
	b = wire.AppendBool(b, msg.opened)
	b = wire.AppendU64(b, msg.order)
	b = append(b, byte(len(msg.status)))
	for _, s := range msg.status {
		b = append(b, byte(s))
	}
	b = wire.AppendBytes(b, []byte(msg.text))
	m.put(m.key(keyMessage, msg.key.bytes()), b)
}

func (m *Machine) loadMessage(key, value []byte) error {
	kr := wire.NewReader(key)
	msg := &message{}
	kr.Fixed(msg.key.seat[:])
	kr.Fixed(msg.key.incarnation[:])
	msg.key.sequence = kr.U64()
	if err := kr.Done(); err != nil {
		return err
	}
	r := wire.NewReader(value)
	r.Fixed(msg.d[:])
	r.Fixed(msg.slot[:])
	msg.event, msg.kind, msg.sent = r.U64(), Kind(r.U8()), int64(r.U64())
	msg.own, msg.opened, msg.order = r.Bool(), r.Bool(), r.U64()
	for _, s := range r.Raw(int(r.U8())) {
		msg.status = append(msg.status, crossverify.Status(s))
	}
	msg.text = string(r.Bytes(MaxContent))
	if err := r.Done(); err != nil {
		return err
	}
	m.messages[msg.key] = msg
	m.ledger.Restore(msg.key.subject(), msg.d, msg.status)
	if msg.kind == KindText {
		m.recent = append(m.recent, msg)
	}
	return nil
}

func (m *Machine) sortRecent() {
	slices.SortFunc(m.recent, func(a, b *message) int { return int(int64(a.order) - int64(b.order)) })
}

// trimMessages forgets messages on which every path agreed, beyond the newest,
// and the oldest beyond the limit. Their marks stay in their event.
func (m *Machine) trimMessages() {
	const keep = 512
	if len(m.messages) <= max(keep, m.kept)+keep/4 {
		return
	}
	defer func() { m.kept = len(m.messages) }()
	all := make([]*message, 0, len(m.messages))
	for _, msg := range m.messages {
		all = append(all, msg)
	}
	slices.SortFunc(all, func(a, b *message) int { return int(int64(a.order) - int64(b.order)) })
	left := len(all)
	for _, msg := range all[:len(all)-keep] {
		settled := m.ledger.Report(msg.key.subject()).Settled && !slices.Contains(msg.status, crossverify.Silent)
		if !settled && left <= m.cfg.Limits.OpenMessages {
			continue
		}
		left--
		delete(m.messages, msg.key)
		m.ledger.Forget(msg.key.subject())
		m.del(m.key(keyMessage, msg.key.bytes()))
		m.recent = slices.DeleteFunc(m.recent, func(o *message) bool { return o == msg })
	}
}

// Held items: copies that cannot be opened yet, or did not open.
type heldKey struct {
	path    int
	lineage wire.Lineage
	n       uint64
}

type heldItem struct {
	item *item
	key  []byte
}

func (m *Machine) hold(it *item, f proto.Deliver) {
	if len(m.held) >= m.cfg.Limits.Held {
		m.evictHeld()
	}
	k := m.key(keyHeld, []byte{byte(it.path.index)}, it.lineage[:], wire.U64(it.n))
	m.held[heldKey{it.path.index, it.lineage, it.n}] = &heldItem{it, k}
	m.put(k, f.Append(nil))
}

// evictHeld drops the oldest of those that are most: of one seat on one path,
// or on one path of all seats that are not known, which cost nothing to invent.
func (m *Machine) evictHeld() {
	type group struct {
		path int
		seat wire.Seat
	}
	of := func(h *heldItem) group {
		g := group{h.item.path.index, h.item.header.Seat}
		if st := m.seats[g.seat]; st == nil || st.ann == nil {
			g.seat = wire.Seat{}
		}
		return g
	}
	count := map[group]int{}
	for _, h := range m.held {
		count[of(h)]++
	}
	var out *heldItem
	for _, h := range m.held {
		if out == nil || cmp.Or(count[of(out)]-count[of(h)], slices.Compare(h.key, out.key)) < 0 {
			out = h
		}
	}
	if out != nil {
		m.unhold(out)
	}
}

func (m *Machine) unhold(h *heldItem) {
	delete(m.held, heldKey{h.item.path.index, h.item.lineage, h.item.n})
	m.del(h.key)
}

// sortedHeld is by path and number, so that each path's copies keep their order.
func (m *Machine) sortedHeld() []*heldItem {
	all := make([]*heldItem, 0, len(m.held))
	for _, h := range m.held {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *heldItem) int { return slices.Compare(a.key, b.key) })
	return all
}

func (m *Machine) loadHeld(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) != 1+16+8 {
		return wire.ErrFormat
	}
	msg, err := proto.Parse(broadcast.Frame{Type: proto.TypeDeliver, Body: value})
	if err != nil {
		return err
	}
	it := m.unmask(p, msg.(proto.Deliver), wire.Lineage(key[1:17]))
	if it == nil {
		return fmt.Errorf("a held message does not open: %w", wire.ErrFormat)
	}
	k := m.key(keyHeld, key)
	m.held[heldKey{p.index, it.lineage, it.n}] = &heldItem{it, k}
	return nil
}

// retryHeld tries what was held, of one seat or (zero) of all: a session or an
// admission came, or the mailboxes are drained.
func (m *Machine) retryHeld(seat wire.Seat) {
	for again := true; again; {
		again = false
		for _, h := range m.sortedHeld() {
			k := h.item.key()
			if seat != (wire.Seat{}) && k.seat != seat || m.held[heldKey{h.item.path.index, h.item.lineage, h.item.n}] == nil {
				continue
			}
			// It is taken out first: it is no copy of itself.
			at, kept := heldKey{h.item.path.index, h.item.lineage, h.item.n}, false
			delete(m.held, at)
			m.process(h.item, func() { kept = true })
			if kept {
				m.held[at] = h
			} else {
				m.del(h.key)
				again = true
			}
		}
	}
}

// copies compares what other paths delivered of a message before it opened.
func (m *Machine) copies(k messageKey, msg *message) {
	for _, h := range m.sortedHeld() {
		if h.item.key() == k {
			m.unhold(h)
			m.duplicate(h.item, msg)
		}
	}
}

// sequences are the numbers of one source that opened, as spans: a member that
// joined late, or lost something for good, costs a span and nothing more.
type sequences struct {
	spans []span // ascending, not touching
}

type span struct{ first, last uint64 }

// maxSpans bounds the gaps that are remembered; beyond it the oldest gap counts
// as received.
const maxSpans = 256

// place is the first span that ends at n or later.
func (s *sequences) place(n uint64) int {
	i, _ := slices.BinarySearchFunc(s.spans, n, func(x span, n uint64) int {
		if x.last < n {
			return -1
		}
		return 1
	})
	return i
}

func (s *sequences) has(n uint64) bool {
	if s == nil {
		return false
	}
	i := s.place(n)
	return i < len(s.spans) && s.spans[i].first <= n
}

func (s *sequences) add(n uint64) {
	if s.has(n) {
		return
	}
	i := s.place(n)
	left := i > 0 && s.spans[i-1].last == n-1
	right := i < len(s.spans) && s.spans[i].first == n+1
	switch {
	case left && right:
		s.spans[i-1].last = s.spans[i].last
		s.spans = slices.Delete(s.spans, i, i+1)
	case left:
		s.spans[i-1].last = n
	case right:
		s.spans[i].first = n
	default:
		s.spans = slices.Insert(s.spans, i, span{n, n})
	}
	if len(s.spans) > maxSpans {
		s.spans[1].first = s.spans[0].first
		s.spans = slices.Delete(s.spans, 0, 1)
	}
}

func (m *Machine) addReceived(k messageKey) {
	s := m.received[k.source]
	if s == nil {
		s = &sequences{}
		m.received[k.source] = s
	}
	s.add(k.sequence)
	var b []byte
	for _, x := range s.spans {
		b = wire.AppendU64(wire.AppendU64(b, x.first), x.last)
	}
	m.put(m.key(keyReceived, k.seat[:], k.incarnation[:]), b)
}

func (m *Machine) loadReceived(key, value []byte) error {
	if len(key) != 40 || len(value) == 0 || len(value)%16 != 0 {
		return wire.ErrFormat
	}
	r := wire.NewReader(value)
	s := &sequences{}
	for r.Len() > 0 {
		x := span{r.U64(), r.U64()}
		if n := len(s.spans); x.first > x.last || n > 0 && s.spans[n-1].last >= x.first {
			return wire.ErrFormat
		}
		s.spans = append(s.spans, x)
	}
	m.received[source{wire.Seat(key[:32]), wire.Incarnation(key[32:])}] = s
	return r.Done()
}
