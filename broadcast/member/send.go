package member

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// sendBundle encrypts once, gives every session a slot, and puts the bundle
// into the outbox of every path. Everything is durable before a byte leaves.
func (m *Machine) sendBundle(kind Kind, body []byte) *message {
	m.counters.sequence++
	k := messageKey{source{m.self, m.keyring.inc}, m.counters.sequence}
	c := &Content{Previous: m.counters.previous, Kind: kind, Sent: unixTime(m.now), View: m.view(kind, len(body)), Body: body}
	var content keys.ContentKey
	if err := content.Draw(m.entropy); err != nil {
		panic("member: entropy: " + err.Error())
	}
	epoch := m.keyring.epoch()
	if kind == KindRoster { // also for who lacks the key in use, which may be in it
		epoch = m.keyring.first()
	}
	set := m.recipients()
	full := m.chooseCarriers(kind, set)
	h := broadcast.Header{Epoch: epoch.Number, Seat: m.self, Incarnation: m.keyring.inc, Sequence: k.sequence, Carriers: m.carrierBits(full)}
	envelope, d, err := broadcast.SealEnvelope(m.gid, &epoch.Key, h, &content, c.Append(nil))
	if err != nil {
		panic("member: content was checked before: " + err.Error())
	}
	b := &bundleRecord{key: k, d: d, epoch: epoch.Number, sent: m.now.Unix(), set: set.hash, envelope: envelope, classes: make([]broadcast.Class, len(set.seats))}
	record, at := b.appendHead(len(m.starting.begun))
	var own wire.Digest
	var begun []*seatState
	may := allowance{hello: kind == KindHello, atOnce: startsAtOnce}
	if m.starting.underWay() { // they would be begun twice
		may.atOnce = 0
	}
	if m.reinforces(len(set.seats)) {
		may.controls = maxControls
	}
	for i, st := range set.states {
		start := len(record)
		var sealed [][ratchet.ShareSize]byte
		b.classes[i], record, sealed = m.appendSlot(record, st, &content, d, &may)
		if sealed != nil {
			b.shares = append(b.shares, seatShares{seat: i, sealed: sealed})
		}
		if st.own {
			own = slotDigest(record[start:])
		}
		if c := b.classes[i]; c == broadcast.FirstContact || c == broadcast.Control || c == broadcast.Answering && full == 0 && m.everywhere(st) {
			begun = append(begun, st)
		}
	}
	if kind == KindText {
		a := &Again{Header: h, Sealed: [broadcast.SealedHeaderSize]byte(envelope), Key: content, Content: c.Append(nil)}
		m.keepText(a, d, m.counters.messages+1)
	}
	content.Zero()
	m.saveVector()
	for _, st := range begun { // after the vector, so that the chain is kept once
		m.saveSessions(st)
	}

	m.counters.order++
	b.order = m.counters.order
	m.counters.previous = d
	m.spoke()
	for _, p := range m.paths {
		if !p.listedRelay() || len(set.at(p.index).list) == 0 { // nobody reads there yet
			continue
		}
		if p.aside && (kind != KindStatements || p.post.link == 0) {
			continue // evidence goes out on every wire that stands: all may be convicted
		}
		kind := postBundle
		if full != 0 && full&p.bit() == 0 {
			kind = postDigest
		}
		m.postOn(p, b, kind)
	}
	m.bundles[b.order] = b
	m.put(m.key(keyBundle, wire.U64(b.order)), b.finish(record, at))
	m.bundleBytes += b.size()
	if full != 0 {
		m.keepForRepair(b, full)
	}

	m.counters.messages++
	msg := &message{key: k, d: d, slot: own, kind: kind, own: true, opened: true, sent: m.now.Unix(), order: m.counters.messages, carriers: h.Carriers, known: m.now, era: m.meta.Lists.era()}
	m.messages[k] = msg
	m.digests.of[d] = k
	m.ledger.Restore(k.subject(), d, make([]crossverify.Status, len(m.paths)), m.ledger.Era())
	m.awaitCopies(msg)
	m.addReceived(k)
	m.saveMessage(msg)
	m.saveCounters()
	return msg
}

// appendSlot is one member's slot: of its session, in a hello of a new one where
// this end begins it, else random bytes that no relay can tell from a slot. The
// shares beside it are by relay, nil if there are none.
func (m *Machine) appendSlot(dst []byte, st *seatState, content *keys.ContentKey, d wire.Digest, may *allowance) (class broadcast.Class, _ []byte, sealed [][ratchet.ShareSize]byte) {
	class = broadcast.Standing
	s := m.outgoing(st)
	switch {
	case may.hello && m.starts(st):
		if fresh, head, shares := m.first(st, &may.atOnce); fresh != nil {
			m.keepHello(st, fresh, head[:ratchet.HandshakeSize], shares)
			m.begun(st, fresh)
			s, class, dst, sealed = fresh, broadcast.FirstContact, append(dst, head...), shares
		}
	case may.hello && st.repeat:
		if head, kept, shares := m.appendRepeat(dst, st); kept != nil {
			s, class, dst, sealed = kept, broadcast.FirstContact, head, shares
		}
	}
	if s == nil {
		start := len(dst)
		dst = append(dst, make([]byte, ratchet.SlotSize)...)
		m.draw(dst[start:])
		return broadcast.Standing, dst, nil
	}
	if class == broadcast.Standing {
		if sealed = m.answerShares(s); sealed != nil {
			class, dst = broadcast.Answering, append(dst, make([]byte, ratchet.ShareSize)...)
		}
	}
	chain := m.chains.get(s.index)
	if class == broadcast.Standing && may.controls > 0 && m.control(st, s) {
		may.controls--
		class, dst = broadcast.Control, s.SealControl(&chain, content, d, dst)
	} else {
		dst = s.Seal(&chain, content, d, dst)
	}
	m.chains.set(s.index, chain)
	return class, dst, sealed
}

// outgoing is the session that sends to a seat now, nil if none can.
func (m *Machine) outgoing(st *seatState) *session {
	if st.out != nil && !st.out.CanSend(m.chains.get(st.out.index)) {
		m.review(st) // its chain is at its end
	}
	return st.out
}

// allowance is what one bundle may carry beside ordinary slots: a hello begins
// sessions, so many of them beside those that jobs have begun, and so many control
// slots.
type allowance struct {
	hello            bool
	atOnce, controls int
}

// first is the session that a job has begun with a seat, or one begun now; nil
// if it must wait for a job or nobody can use the prekeys.
func (m *Machine) first(st *seatState, atOnce *int) (s *session, head []byte, sealed [][ratchet.ShareSize]byte) {
	if b := m.begunFor(st); b != nil {
		s, sealed = m.keep(st, b)
		delete(m.starting.begun, st.seat)
		return s, b.head, sealed
	}
	if *atOnce == 0 || st.session.index == badPrekeys {
		return nil, nil, nil
	}
	*atOnce--
	s, head, sealed, err := m.initiate(st)
	if err != nil {
		st.session.index = badPrekeys
	}
	return s, head, sealed
}

// badPrekeys marks a seat whose announced prekeys nobody can use.
const badPrekeys = -2

// reading tells whether a quorum of operators has been read to its end.
func (m *Machine) reading() bool {
	return m.enough(func(p *path) bool { return p.read.opened && p.caughtUp })
}

// sendText sends a text; the answer waits as the wish says. While jobs begin
// sessions, or are about to, it waits for them in its order: whoever joined
// reaches everybody with the first text.
func (m *Machine) sendText(id uint64, w SendText) {
	fail := func(err error) { m.answer(id, nil, err) }
	switch {
	case len(w.Text) > MaxBody:
		fail(fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(w.Text), MaxBody))
		return
	case !utf8.ValidString(w.Text) || strings.TrimSpace(w.Text) == "":
		fail(errors.New("the text is empty or not UTF-8"))
		return
	case m.meta.Superseded:
		fail(ErrSuperseded)
		return
	case m.mute() != nil:
		fail(m.mute())
		return
	case m.outboxFull(len(m.starting.texts)):
		fail(fmt.Errorf("%w: %d", ErrOutboxFull, m.untaken()+len(m.starting.texts)))
		return
	}
	if m.textsWait() {
		t := queuedText{id: id, w: w}
		if m.meta.Restored {
			t.until = m.now.Add(m.rules().Deadline)
		}
		m.starting.texts = append(m.starting.texts, t)
		return
	}
	m.greet() // so that the text reaches whom it can
	msg := m.speak(w.Text)
	info := SentInfo{ID: msg.d.Short(), Relays: len(m.used())}
	repair := m.repairOf(msg.d) // nil: all relays carry it
	if repair != nil {
		info.Carriers = repair.want
	}
	set := m.recipients()
	info.Held = set.held
	for _, st := range set.states {
		switch {
		case st.own:
		case st.out != nil:
			info.Members++
		default:
			info.Waiting++
		}
	}
	s := sentText{info: info, posts: map[int]wire.PostID{}, repair: repair}
	for _, p := range m.paths {
		if q := p.lastPost(); q != nil && q.ofBundle() && m.bundles[q.bundle].key == msg.key {
			s.posts[p.index] = q.id
		}
	}
	m.begunText(id, msg.key)
	m.waitSent(id, w.Wait, s)
}

// speak puts a text into the outbox and shows it.
func (m *Machine) speak(text string) *message {
	msg := m.sendBundle(KindText, []byte(text))
	msg.text = text
	m.recent = append(m.recent, msg)
	m.showMessage(msg)
	m.saveMessage(msg)
	m.noteSent(msg)
	return msg
}

// sentText is a text in the outbox: its posts by path, and what took it before
// this opening.
type sentText struct {
	info  SentInfo
	posts map[int]wire.PostID
	took  map[int]bool

	repair *repair // nil: all relays carry it
}

// waitSent answers the command of a text when the relays have it that it waits for.
func (m *Machine) waitSent(id uint64, wait Wait, s sentText) {
	info, posts := s.info, s.posts
	repair := s.repair
	carried := func() bool { return repair == nil || repair.got != 0 } // else it can be read nowhere
	gone := func(p *path) bool {
		id, posted := posts[p.index]
		return s.took[p.index] || posted && p.counts() && !m.queued(p, id) && !m.declined[id]
	}
	pending := func() bool {
		return repair != nil && repair.bundle.pending > 0 || slices.ContainsFunc(m.used(), func(p *path) bool { return !p.aside && m.queued(p, posts[p.index]) })
	}
	all := 0 // relays that count and were posted to
	count := func() int {
		info.Receipts, all = 0, 0
		for _, p := range m.used() {
			if _, posted := posts[p.index]; (posted || s.took[p.index]) && p.counts() {
				all++
			}
			if gone(p) {
				info.Receipts++
			}
		}
		return info.Receipts
	}
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.rules().Deadline),
		done: func() (any, error, bool) {
			n := count()
			switch wait {
			case WaitNone:
				return info, nil, true
			case WaitAll:
				return info, nil, n == all
			default:
				enough := m.enough(gone) && carried()
				if !enough && !pending() {
					return info, fmt.Errorf("%w: %d of %d relays took message %s, and no other will", ErrRefused, n, len(m.used()), info.ID), true
				}
				return info, nil, enough
			}
		},
		late: func() (any, error) {
			return info, fmt.Errorf("%w: %d of %d relays took message %s so far; it stays in the outbox and is sent again", ErrUnreached, count(), len(m.used()), info.ID)
		}})
}
