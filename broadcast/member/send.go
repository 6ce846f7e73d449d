package member

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// recipientSet is whom a bundle has slots for: seats ascending, with their
// mailbox on each relay (zero: none). Stored once under its hash.
type recipientSet struct {
	hash  wire.Digest
	seats []wire.Seat
	boxes [][]wire.MailboxID // by seat, by relay
	lists []fanout           // by relay, made when first needed
}

// fanout is a set as one relay sees it.
type fanout struct {
	list  []wire.MailboxID
	order []int // places in seats
	hash  wire.Digest
}

// bundleRecord is a bundle in the outbox, unmasked.
type bundleRecord struct {
	order    uint64
	key      messageKey
	d        wire.Digest
	epoch    int
	set      wire.Digest
	classes  []broadcast.Class // by seat of the set
	envelope []byte
	slots    []byte // in the order of the set
	pending  int    // posts that have no receipt
}

type postKind uint8

const (
	postCreate postKind = 1
	postGrant  postKind = 2
	postBoard  postKind = 3
	postAdmit  postKind = 4
	postBundle postKind = 5
)

// postItem is one post that has no receipt yet; sent again byte for byte until
// it has.
type postItem struct {
	order    uint64
	kind     postKind
	id       wire.PostID
	d        wire.Digest // what the receipt must say; zero: not checked
	frame    broadcast.Frame
	bundle   uint64 // order of the bundle, for postBundle
	nonce    [broadcast.MaskNonceSize]byte
	inFlight bool
	refused  bool // for good; kept only where its absence would mean success
}

func (m *Machine) enqueue(p *path, q *postItem) {
	m.counters.order++
	q.order = m.counters.order
	p.queue = append(p.queue, q)
	b := append([]byte{byte(q.kind)}, q.id[:]...)
	b = append(b, q.d[:]...)
	b = append(b, q.frame.Type)
	b = wire.AppendBytes(b, q.frame.Body)
	b = wire.AppendU64(b, q.bundle)
	b = append(b, q.nonce[:]...)
	m.put(m.postKey(p, q), b)
	m.saveCounters()
}

func (m *Machine) postKey(p *path, q *postItem) []byte {
	return m.key(keyPost, []byte{byte(p.index)}, wire.U64(q.order))
}

func (m *Machine) loadPost(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) != 9 {
		return wire.ErrFormat
	}
	kr := wire.NewReader(key[1:])
	r := wire.NewReader(value)
	q := &postItem{order: kr.U64(), kind: postKind(r.U8())}
	r.Fixed(q.id[:])
	r.Fixed(q.d[:])
	q.frame.Type = r.U8()
	q.frame.Body = r.Bytes(proto.MaxFrame)
	q.bundle = r.U64()
	r.Fixed(q.nonce[:])
	if err := r.Done(); err != nil {
		return err
	}
	if q.kind == postBundle {
		b := m.bundles[q.bundle]
		if b == nil {
			return fmt.Errorf("a post names a bundle that is not there: %w", wire.ErrFormat)
		}
		b.pending++
	}
	p.queue = append(p.queue, q)
	return nil
}

// forgetPost ends a post: by its receipt, or since its relay was set aside.
func (m *Machine) forgetPost(p *path, q *postItem) {
	m.del(m.postKey(p, q))
	p.queue = slices.DeleteFunc(slices.Clone(p.queue), func(o *postItem) bool { return o == q })
	if b := m.bundles[q.bundle]; q.kind == postBundle && b != nil {
		if b.pending--; b.pending <= 0 {
			delete(m.bundles, q.bundle)
			m.del(m.key(keyBundle, wire.U64(b.order)))
		}
	}
}

// recipients is the set that a bundle made now goes to: every usable seat and
// this one. Seats whose key is contested or not agreed yet get no slot at all.
func (m *Machine) recipients() *recipientSet {
	if m.current == nil {
		m.current = m.gather()
	}
	return m.current
}

// gather makes the set, and the roster digest that views carry: both change
// only when a seat does (seatChanged).
func (m *Machine) gather() *recipientSet {
	s := &recipientSet{}
	var roster []byte
	h := []byte{}
	for _, st := range m.sortedSeats() {
		if !m.usable(st) {
			continue
		}
		boxes := make([]wire.MailboxID, len(m.paths))
		for _, b := range st.ann.Mailboxes {
			if p := m.pathOf(b.Relay); p != nil {
				boxes[p.index] = b.ID
			}
		}
		s.seats = append(s.seats, st.seat)
		s.boxes = append(s.boxes, boxes)
		roster = append(roster, st.seat[:]...)
		roster = append(roster, st.digest[:]...)
	}
	m.oneEach(s)
	for i := range s.seats {
		h = append(h, s.seats[i][:]...)
		for j := range s.boxes[i] {
			h = append(h, s.boxes[i][j][:]...)
		}
	}
	m.roster = wire.Hash("parallax/1/roster", m.gid[:], roster)
	s.hash = wire.Hash("parallax/1/recipients", h)
	if known := m.sets[s.hash]; known != nil {
		return known
	}
	s.lists = make([]fanout, len(m.paths))
	for _, hash := range sortedDigests(m.sets) {
		if !m.inOutbox(hash) {
			delete(m.sets, hash)
			m.del(m.key(keySet, hash[:]))
		}
	}
	m.sets[s.hash] = s
	m.put(m.key(keySet, s.hash[:]), h)
	return s
}

// oneEach leaves every mailbox to one seat. An announcement names mailboxes
// without proof that they are its own, so whoever could take over another's
// would keep it from reading: who was known first keeps it. Of those that were
// all there before this member each has it on some relays.
func (m *Machine) oneEach(s *recipientSet) {
	for _, p := range m.paths {
		holders := map[wire.MailboxID][]int{}
		for i := range s.seats {
			if box := s.boxes[i][p.index]; box != (wire.MailboxID{}) {
				holders[box] = append(holders[box], i)
			}
		}
		for i, seat := range s.seats {
			list := holders[s.boxes[i][p.index]]
			if len(list) < 2 || list[0] != i { // once for each mailbox
				continue
			}
			rank := func(i int) uint64 {
				if s.seats[i] == m.self {
					return 0
				}
				return 1 + m.seats[s.seats[i]].order
			}
			best := slices.MinFunc(list, func(a, b int) int { return cmp.Compare(rank(a), rank(b)) })
			same := slices.DeleteFunc(slices.Clone(list), func(i int) bool { return rank(i) != rank(best) })
			keeps := same[p.index%len(same)]
			for _, j := range list {
				if j == keeps {
					continue
				}
				s.boxes[j][p.index] = wire.MailboxID{}
				if st := m.seats[s.seats[j]]; !st.claimed {
					st.claimed = true
					m.show(Event{Kind: EventDispute, Relay: p.label(), Seat: seat.String(), Member: m.display(st),
						Text: fmt.Sprintf("%s and %s name one mailbox on relay %s: one of them is not its owner. There it gets what is for %s. Ask how %s came into the group.",
							m.display(m.seats[s.seats[keeps]]), m.display(st), p.name(), m.display(m.seats[s.seats[keeps]]), m.display(st))})
				}
			}
		}
	}
}

func (m *Machine) inOutbox(set wire.Digest) bool {
	for _, b := range m.bundles {
		if b.set == set {
			return true
		}
	}
	return false
}

func (m *Machine) loadSet(key, value []byte) error {
	size := 32 + 16*len(m.paths)
	if len(key) != 32 || len(value)%size != 0 {
		return wire.ErrFormat
	}
	s := &recipientSet{hash: wire.Digest(key), lists: make([]fanout, len(m.paths))}
	r := wire.NewReader(value)
	for r.Len() > 0 {
		var seat wire.Seat
		r.Fixed(seat[:])
		boxes := make([]wire.MailboxID, len(m.paths))
		for i := range boxes {
			r.Fixed(boxes[i][:])
		}
		s.seats, s.boxes = append(s.seats, seat), append(s.boxes, boxes)
	}
	m.sets[s.hash] = s
	return r.Done()
}

// at is the set as one relay sees it.
func (s *recipientSet) at(relay int) *fanout {
	f := &s.lists[relay]
	if f.list != nil {
		return f
	}
	for i := range s.seats {
		if s.boxes[i][relay] != (wire.MailboxID{}) {
			f.order = append(f.order, i)
		}
	}
	slices.SortFunc(f.order, func(a, b int) int {
		x, y := s.boxes[a][relay], s.boxes[b][relay]
		return slices.Compare(x[:], y[:])
	})
	for _, i := range f.order {
		f.list = append(f.list, s.boxes[i][relay])
	}
	f.hash = broadcast.FanoutHash(f.list)
	return f
}

// view is what this member saw, for others to compare.
func (m *Machine) view() View {
	m.recipients()
	v := View{Roster: m.roster}
	for _, p := range m.paths {
		if p.position > 0 {
			v.Relays = append(v.Relays, RelayView{Relay: p.ref.Key, Lineage: p.lineage, N: p.position, Head: p.head})
		}
	}
	const most = 4
	for i := len(m.recent) - 1; i >= 0 && len(v.Recents) < most; i-- {
		if msg := m.recent[i]; !msg.own && msg.opened {
			v.Recents = append(v.Recents, Recent{Seat: [8]byte(msg.key.seat[:8]), Incarnation: msg.key.incarnation, Sequence: msg.key.sequence, D: msg.d})
		}
	}
	return v
}

// sendBundle encrypts once, gives every session a slot, and puts the bundle
// into the outbox of every path. Everything is durable before a byte leaves.
func (m *Machine) sendBundle(kind Kind, body []byte) *message {
	m.counters.sequence++
	k := messageKey{source{m.self, m.keyring.inc}, m.counters.sequence}
	c := &Content{Previous: m.counters.previous, Kind: kind, Sent: unixTime(m.now), View: m.view(), Body: body}
	var content keys.ContentKey
	if err := content.Draw(m.entropy); err != nil {
		panic("member: entropy: " + err.Error())
	}
	epoch := m.keyring.epoch()
	h := broadcast.Header{Epoch: epoch.Number, Seat: m.self, Incarnation: m.keyring.inc, Sequence: k.sequence}
	envelope, d, err := broadcast.SealEnvelope(m.gid, &epoch.Key, h, &content, c.Append(nil))
	if err != nil {
		panic("member: content was checked before: " + err.Error())
	}
	set := m.recipients()
	b := &bundleRecord{key: k, d: d, epoch: len(m.keyring.epochs) - 1, set: set.hash, envelope: envelope, classes: make([]broadcast.Class, len(set.seats))}
	b.slots = make([]byte, 0, len(set.seats)*broadcast.StandingSize)
	var own wire.Digest
	var begun []*seatState
	for i, seat := range set.seats {
		start := len(b.slots)
		b.classes[i], b.slots = m.appendSlot(b.slots, m.seats[seat], &content, d)
		if seat == m.self {
			own = slotDigest(b.slots[start:])
		}
		if b.classes[i] == broadcast.FirstContact {
			begun = append(begun, m.seats[seat])
		}
	}
	content.Zero()
	m.saveVector()
	for _, st := range begun { // after the vector, so that the chain is kept once
		m.saveSessions(st)
	}

	m.counters.order++
	b.order = m.counters.order
	m.counters.previous = d
	for _, p := range m.paths {
		if p.aside {
			continue
		}
		q := &postItem{kind: postBundle, id: m.drawID(), bundle: b.order}
		m.draw(q.nonce[:])
		b.pending++
		m.enqueue(p, q)
	}
	m.bundles[b.order] = b
	m.saveBundle(b)

	m.counters.messages++
	msg := &message{key: k, d: d, slot: own, kind: kind, own: true, opened: true, sent: m.now.Unix(), order: m.counters.messages}
	m.messages[k] = msg
	m.ledger.Restore(k.subject(), d, make([]crossverify.Status, len(m.paths)))
	m.awaitCopies(msg)
	m.addReceived(k)
	m.saveMessage(msg)
	m.saveCounters()
	return msg
}

// appendSlot is one member's slot: of its session, of a new one where this end
// begins it, else random bytes that no relay can tell from a slot.
func (m *Machine) appendSlot(dst []byte, st *seatState, content *keys.ContentKey, d wire.Digest) (broadcast.Class, []byte) {
	class := broadcast.Standing
	s := m.sender(st)
	if s == nil && m.starts(st) {
		fresh, head, err := m.initiate(st)
		if err == nil {
			s, class, dst = fresh, broadcast.FirstContact, append(dst, head...)
		} else {
			st.session.index = badPrekeys
		}
	}
	if s == nil {
		start := len(dst)
		dst = append(dst, make([]byte, ratchet.SlotSize)...)
		m.draw(dst[start:])
		return broadcast.Standing, dst
	}
	chain := m.chains.get(s.index)
	dst = s.Seal(&chain, content, d, dst)
	m.chains.set(s.index, chain)
	return class, dst
}

// badPrekeys marks a seat whose announced prekeys nobody can use.
const badPrekeys = -2

// starts tells whether this end begins the session with a seat now.
func (m *Machine) starts(st *seatState) bool {
	if st.own || len(st.session.list) > 0 || st.session.index == badPrekeys || st.since.IsZero() {
		return false
	}
	// A seat known since before this opening was waited for already, as soon
	// as nothing waits in the mailboxes: a process may live shorter than the wait.
	return st.initial || st.waited && m.reading() && m.drained() || !m.now.Before(st.since.Add(m.cfg.Limits.HelloWait))
}

// reading tells whether a quorum of operators has been read to its end.
func (m *Machine) reading() bool {
	return m.operators(func(p *path) bool { return p.read.opened && p.caughtUp }) >= m.needed()
}

// greet sends a hello when there is somebody to begin with.
func (m *Machine) greet() {
	if !m.isMember() {
		return
	}
	for _, st := range m.seats {
		if m.starts(st) && m.usable(st) {
			m.sendBundle(KindHello, nil)
			return
		}
	}
}

func (m *Machine) nextGreeting() (t time.Time) {
	if !m.isMember() {
		return t
	}
	for _, st := range m.seats {
		if st.own || len(st.session.list) > 0 || st.since.IsZero() || st.session.index == badPrekeys {
			continue
		}
		if at := st.since.Add(m.cfg.Limits.HelloWait); t.IsZero() || at.Before(t) {
			t = at
		}
	}
	return t
}

func (m *Machine) saveBundle(b *bundleRecord) {
	v := append(b.key.bytes(), b.d[:]...)
	v = append(v, byte(b.epoch))
	v = append(v, b.set[:]...)
	v = wire.AppendU32(v, uint32(len(b.classes)))
	for _, c := range b.classes {
		v = append(v, byte(c))
	}
	v = wire.AppendBytes(v, b.envelope)
	v = wire.AppendBytes(v, b.slots)
	m.put(m.key(keyBundle, wire.U64(b.order)), v)
}

func (m *Machine) loadBundle(key, value []byte) error {
	kr := wire.NewReader(key)
	b := &bundleRecord{order: kr.U64()}
	if err := kr.Done(); err != nil {
		return err
	}
	r := wire.NewReader(value)
	r.Fixed(b.key.seat[:])
	r.Fixed(b.key.incarnation[:])
	b.key.sequence = r.U64()
	r.Fixed(b.d[:])
	b.epoch = int(r.U8())
	r.Fixed(b.set[:])
	for range r.Count(broadcast.MaxMailboxes, 1) {
		b.classes = append(b.classes, broadcast.Class(r.U8()))
	}
	b.envelope = r.Bytes(proto.MaxEnvelope)
	b.slots = r.Bytes(proto.MaxSlots)
	if err := r.Done(); err != nil {
		return err
	}
	set := m.sets[b.set]
	if set == nil || len(set.seats) != len(b.classes) || b.epoch >= len(m.keyring.epochs) {
		return fmt.Errorf("a bundle names a set that is not there: %w", wire.ErrFormat)
	}
	m.bundles[b.order] = b
	return nil
}

// post makes the frame of a bundle for one relay: the same bytes every time.
func (m *Machine) post(p *path, q *postItem, withList bool) proto.Post {
	b := m.bundles[q.bundle]
	f := m.sets[b.set].at(p.index)
	epoch := &m.keyring.epochs[b.epoch].Key
	msg := proto.Post{PostID: q.id, Hint: broadcast.Hint(epoch, p.ref.Key), Nonce: q.nonce, Fanout: f.hash}
	if withList {
		msg.Mailboxes = f.list
	}
	starts := make([]int, len(b.classes)+1)
	for i, c := range b.classes {
		starts[i+1] = starts[i] + c.Size()
	}
	whole := make([]byte, 0, len(b.envelope)+len(b.slots))
	whole = append(whole, b.envelope...)
	for at, i := range f.order {
		whole = append(whole, b.slots[starts[i]:starts[i+1]]...)
		if c := b.classes[i]; c != broadcast.Standing {
			msg.Exceptions = append(msg.Exceptions, broadcast.Exception{Index: uint16(at), Class: c})
		}
	}
	broadcast.Mask(whole, epoch, p.ref.Key, q.nonce, 0)
	msg.Envelope, msg.Slots = whole[:len(b.envelope):len(b.envelope)], whole[len(b.envelope):]
	q.d = msg.Digest()
	msg.Sign(PostingKey(epoch, p.ref.Key), p.ref.Key, p.channel, q.d)
	return msg
}

// pumpPosts sends what waits on every path whose post link stands.
func (m *Machine) pumpPosts() {
	for _, p := range m.paths {
		if !p.retryAt.IsZero() && m.now.Before(p.retryAt) {
			continue
		}
		p.retryAt = time.Time{}
		if p.post.link == 0 || !p.post.welcome {
			continue
		}
		flying := 0
		for _, q := range p.queue {
			if q.inFlight {
				flying++
			}
		}
		for _, q := range p.queue {
			if flying >= m.cfg.Limits.InFlight {
				break
			}
			if q.inFlight || q.refused {
				continue
			}
			q.inFlight = true
			flying++
			if q.kind != postBundle {
				m.sends = append(m.sends, broadcast.Send{Link: p.post.link, Frame: q.frame})
				continue
			}
			hash := m.sets[m.bundles[q.bundle].set].at(p.index).hash
			m.send(p.post.link, m.post(p, q, !p.post.lists[hash]))
			p.post.lists[hash] = true
		}
	}
}

// onPost handles what comes on the link that posts.
func (m *Machine) onPost(p *path, msg proto.Message) {
	switch f := msg.(type) {
	case proto.Welcome:
		p.post.welcome = true
		if m.meta.Phase == phaseFounding && p.post.operator == nil {
			m.send(p.post.link, proto.Info{})
		}
	case proto.InfoIs:
		if !f.Verify(m.cfg.Verify, p.ref.Key) {
			m.closeLink(p, p.post.link, fmt.Sprintf("relay %s names an operator that does not vouch for it", p.label()))
			return
		}
		if f.Name == "" || CheckName(f.Name) != nil {
			f.Name = "operator " + f.Operator.String()[:8]
		}
		p.post.operator = &f
	case proto.Receipt:
		m.receipt(p, f)
	case proto.NeedFanout:
		if q := m.queuedPost(p, f.PostID); q != nil && q.kind == postBundle {
			m.send(p.post.link, m.post(p, q, true))
		}
	case proto.Refused:
		m.refusedPost(p, f)
	case proto.Leaving:
		m.closeLink(p, p.post.link, fmt.Sprintf("relay %s is shutting down", p.label()))
	}
}

func (m *Machine) queuedPost(p *path, id wire.PostID) *postItem {
	for _, q := range p.queue {
		if q.id == id {
			return q
		}
	}
	return nil
}

// receipt takes a relay's statement for a post, if it says what was posted.
func (m *Machine) receipt(p *path, f proto.Receipt) {
	q := m.queuedPost(p, f.PostID)
	if q == nil || !q.inFlight {
		return // nothing that was sent on this link
	}
	s := f.Statement
	if !m.ours(p, s) || (q.d != wire.Digest{} && s.D != q.d) {
		p.stats[crossverify.Failed]++
		m.relayEvent(p, "receipt", "", fmt.Sprintf("Relay %s gave a receipt for something else than what was posted. The post is sent again. Nothing for you to do.", p.name()))
		m.closeLink(p, p.post.link, "a receipt for something else")
		return
	}
	if q.kind == postCreate {
		p.post.founded = true
	}
	m.forgetPost(p, q)
	if s.Lineage == p.lineage {
		m.checkHead(p, s)
		m.keepStatement(p, s)
	}
}

func (m *Machine) refusedPost(p *path, f proto.Refused) {
	q := m.queuedPost(p, f.PostID)
	row := f.Code.Row()
	p.problem = fmt.Sprintf("relay %s refused: %s", p.label(), f.Text)
	if q == nil {
		if !m.isMember() {
			m.noteRefusal(p, f)
		}
		m.closeLink(p, p.post.link, p.problem)
		return
	}
	q.inFlight = false
	if !row.Retry && len(m.waiting) > 0 {
		m.declined[q.id] = true
	}
	if row.Retry {
		p.retryAt = m.now.Add(max(f.Retry, m.cfg.Limits.RetryPost))
		return
	}
	if !m.isMember() {
		m.noteRefusal(p, f)
	} else {
		m.relayEvent(p, "refused "+row.Label, "", fmt.Sprintf("Relay %s refused what was posted: %s. The other relays carry it.", p.name(), f.Text))
	}
	if q.kind == postAdmit || q.kind == postCreate {
		q.refused = true // nobody is admitted where this was refused
		return
	}
	m.forgetPost(p, q)
}

// sendText sends a text; the answer waits as the wish says.
func (m *Machine) sendText(id uint64, w SendText) {
	fail := func(err error) { m.answer(id, nil, err) }
	switch {
	case len(w.Text) > MaxBody:
		fail(fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(w.Text), MaxBody))
		return
	case !utf8.ValidString(w.Text) || strings.TrimSpace(w.Text) == "":
		fail(errors.New("the text is empty or not UTF-8"))
		return
	case len(m.bundles) >= m.cfg.Limits.Outbox:
		fail(fmt.Errorf("%w: %d", ErrOutboxFull, len(m.bundles)))
		return
	}
	msg := m.sendBundle(KindText, []byte(w.Text))
	msg.text = w.Text
	m.recent = append(m.recent, msg)
	m.showMessage(msg)
	m.saveMessage(msg)
	info := SentInfo{ID: msg.d.Short(), Relays: len(m.paths)}
	for _, st := range m.sortedSeats() {
		switch {
		case st.own || st.ann == nil:
		case !m.usable(st):
			info.Held++
		case len(st.session.list) > 0:
			info.Members++
		default:
			info.Waiting++
		}
	}
	posts := map[int]wire.PostID{}
	for _, p := range m.paths {
		if !p.aside {
			posts[p.index] = p.queue[len(p.queue)-1].id
		}
	}
	gone := func(p *path) bool {
		id, posted := posts[p.index]
		return posted && !p.aside && !m.queued(p, id) && !m.declined[id]
	}
	pending := func() bool {
		return slices.ContainsFunc(m.paths, func(p *path) bool { return !p.aside && m.queued(p, posts[p.index]) })
	}
	count := func() int {
		info.Receipts = 0
		for _, p := range m.paths {
			if gone(p) {
				info.Receipts++
			}
		}
		return info.Receipts
	}
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.genesis.Policy.Deadline),
		done: func() (any, error, bool) {
			n := count()
			switch w.Wait {
			case WaitNone:
				return info, nil, true
			case WaitAll:
				return info, nil, n == len(posts)
			default:
				if m.operators(gone) < m.needed() && !pending() {
					return info, fmt.Errorf("%w: %d of %d relays took message %s, and no other will", ErrRefused, n, len(m.paths), info.ID), true
				}
				return info, nil, m.operators(gone) >= m.needed()
			}
		},
		late: func() (any, error) {
			return info, fmt.Errorf("%w: %d of %d relays took message %s so far; it stays in the outbox and is sent again", ErrUnreached, count(), len(m.paths), info.ID)
		}})
}
