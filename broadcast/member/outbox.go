package member

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// bundleRecord is a bundle in the outbox, unmasked.
type bundleRecord struct {
	order    uint64
	key      messageKey
	d        wire.Digest
	epoch    uint64 // number
	sent     int64  // Unix seconds
	set      wire.Digest
	classes  []broadcast.Class // by seat of the set
	envelope []byte
	slots    []byte // in the order of the set, share spaces zero
	shares   []seatShares
	pending  int // posts that have no receipt
}

type postKind uint8

const (
	postCreate postKind = 1
	postGrant  postKind = 2
	postBoard  postKind = 3
	postAdmit  postKind = 4
	postBundle postKind = 5
	postDigest postKind = 6 // of a bundle that other relays carry
	postRotate postKind = 7
)

// postItem is one post that has no receipt yet; sent again byte for byte until
// it has.
type postItem struct {
	order    uint64
	kind     postKind
	id       wire.PostID
	d        wire.Digest // what the receipt must say; zero: not checked
	frame    broadcast.Frame
	bundle   uint64 // order of the bundle, for postBundle and postDigest
	nonce    [broadcast.MaskNonceSize]byte
	decided  bool  // which shares do not go on this path
	withheld []int // places in the set, ascending
	inFlight bool
	listed   bool      // sent with the list that the relay asked for, on this link
	sentAt   time.Time // if it is in flight
	overdue  bool      // its receipt did not come in time, on this link
	signed   uint64    // epoch whose posting key signed it when it was sent last; 0: none did
	rounds   int       // times that it was not allowed, in this opening
	refused  bool      // for good; kept only where its absence would mean success
}

// ofBundle tells a post that carries a bundle, or its digest.
func (q *postItem) ofBundle() bool { return q.kind == postBundle || q.kind == postDigest }

func (m *Machine) enqueue(p *path, q *postItem) {
	m.counters.order++
	q.order = m.counters.order
	p.queue = append(p.queue, q)
	m.savePost(p, q)
	m.saveCounters()
}

// lastPost is the post that was put into the outbox last; nil: none waits.
func (p *path) lastPost() *postItem {
	if len(p.queue) == 0 {
		return nil
	}
	return p.queue[len(p.queue)-1]
}

func (m *Machine) savePost(p *path, q *postItem) {
	b := append([]byte{byte(q.kind)}, q.id[:]...)
	b = append(b, q.d[:]...)
	b = append(b, q.frame.Type)
	b = wire.AppendBytes(b, q.frame.Body)
	b = wire.AppendU64(b, q.bundle)
	b = append(b, q.nonce[:]...)
	b = wire.AppendBool(b, q.decided)
	b = wire.AppendU32(b, uint32(len(q.withheld)))
	for _, i := range q.withheld {
		b = wire.AppendU32(b, uint32(i))
	}
	m.put(m.postKey(p, q), b)
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
	q.decided = r.Bool()
	for range r.Count(broadcast.MaxMailboxes, 4) {
		i := int(r.U32())
		if n := len(q.withheld); !q.decided || n > 0 && i <= q.withheld[n-1] {
			r.Fail(wire.ErrFormat)
		}
		q.withheld = append(q.withheld, i)
	}
	if err := r.Done(); err != nil {
		return err
	}
	if q.ofBundle() {
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
	if b := m.bundles[q.bundle]; q.ofBundle() && b != nil {
		if b.pending--; b.pending <= 0 && m.repairs[q.bundle] == nil {
			m.forgetBundle(b)
		}
	}
}

func (m *Machine) forgetBundle(b *bundleRecord) {
	delete(m.bundles, b.order)
	m.bundleBytes -= b.size()
	m.del(m.key(keyBundle, wire.U64(b.order)))
}

// appendHead begins the record of a bundle: what stands before the slots, which
// are appended to it one by one from at on, so that they lie in memory once.
// firsts is how many of them begin a session, as far as is known.
func (b *bundleRecord) appendHead(firsts int) (record []byte, at int) {
	seats := len(b.classes)
	v := make([]byte, 0, len(b.key.seat)+len(b.key.incarnation)+8+len(b.d)+8+8+len(b.set)+4+seats+4+len(b.envelope)+4+
		seats*broadcast.StandingSize+firsts*(broadcast.FirstContactSize-broadcast.StandingSize+4+MaxRelays*ratchet.ShareSize)+4)
	v = append(v, b.key.seat[:]...)
	v = append(v, b.key.incarnation[:]...)
	v = wire.AppendU64(v, b.key.sequence)
	v = append(v, b.d[:]...)
	v = wire.AppendU64(v, b.epoch)
	v = wire.AppendU64(v, uint64(b.sent))
	v = append(v, b.set[:]...)
	v = wire.AppendU32(v, uint32(seats))
	v = append(v, make([]byte, seats)...) // classes, when all slots are there
	v = wire.AppendBytes(v, b.envelope)
	v = wire.AppendU32(v, 0) // length of the slots, likewise
	return v, len(v)
}

// finish ends the record that appendHead began, with the slots from at on; the
// bundle has them there.
func (b *bundleRecord) finish(record []byte, at int) []byte {
	b.slots = record[at:len(record):len(record)]
	binary.BigEndian.PutUint32(record[at-4:], uint32(len(b.slots)))
	classes := record[at-4-len(b.envelope)-4-len(b.classes):]
	for i, c := range b.classes {
		classes[i] = byte(c)
	}
	return appendShares(record, b.shares)
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
	b.epoch = r.U64()
	b.sent = int64(r.U64())
	r.Fixed(b.set[:])
	for range r.Count(broadcast.MaxMailboxes, 1) {
		b.classes = append(b.classes, broadcast.Class(r.U8()))
	}
	b.envelope = r.Bytes(proto.MaxEnvelope)
	b.slots = r.Bytes(proto.MaxSlots)
	b.shares = m.readShares(r, len(b.classes))
	if err := r.Done(); err != nil {
		return err
	}
	set := m.sets[b.set]
	if set == nil || len(set.seats) != len(b.classes) || m.keyring.epochAt(b.epoch) == nil {
		return fmt.Errorf("a bundle names a set that is not there: %w", wire.ErrFormat)
	}
	m.bundles[b.order] = b
	m.bundleBytes += b.size()
	return nil
}

// posting is the posting key of a path in one epoch, which would be derived anew
// for each bundle.
type posting struct {
	epoch keys.EpochKey
	key   keys.PostingPrivate
}

// postingAt is the posting key of an epoch on a path.
func (p *path) postingAt(epoch *keys.EpochKey) keys.PostingPrivate {
	if p.posting.key.IsZero() || !p.posting.epoch.Equal(epoch) {
		p.posting = posting{*epoch, PostingKey(epoch, p.ref.Key)}
	}
	return p.posting.key
}

// post makes the frame of a bundle for one relay: the same bytes every time.
func (m *Machine) post(p *path, q *postItem, withList bool) *proto.PostFrame {
	m.decide(p, q)
	b := m.bundles[q.bundle]
	f := m.sets[b.set].at(p.index)
	epoch := m.keysOf(p).at(b.epoch)
	head := proto.Post{PostID: q.id, Hint: epoch.hint, Nonce: q.nonce, Fanout: f.hash}
	if withList {
		head.Mailboxes = f.list
	}
	starts := make([]uint32, len(b.classes)+1)
	for i, c := range b.classes {
		starts[i+1] = starts[i] + uint32(c.Size())
	}
	size := 0
	for at, i := range f.order {
		c := b.classes[i]
		size += c.Size()
		if c != broadcast.Standing {
			head.Exceptions = append(head.Exceptions, broadcast.Exception{Index: uint16(at), Class: c})
		}
	}
	post := proto.NewPostFrame(head, len(b.envelope), size)
	copy(post.Envelope, b.envelope)
	rest := post.Slots
	for _, i := range f.order {
		n := copy(rest, b.slots[starts[i]:starts[i+1]])
		if len(b.shares) == 0 {
			rest = rest[n:]
			continue
		}
		if j, ok := slices.BinarySearchFunc(b.shares, i, func(s seatShares, i int) int { return s.seat - i }); ok {
			if _, held := slices.BinarySearch(q.withheld, i); !held {
				copy(shareAt(rest[:n]), b.shares[j].sealed[p.index][:])
			}
		}
		rest = rest[n:]
	}
	mask := broadcast.NewMasker(&epoch.Key, p.ref.Key, q.nonce)
	mask.Mask(post.Envelope, 0)
	mask.Mask(post.Slots, len(post.Envelope))
	q.d = post.Digest()
	capability := m.capability(p)
	post.Sign(p.postingAt(&capability.Key), p.ref.Key, p.channel, q.d)
	q.signed = capability.Number
	return post
}

// pumpPosts sends what waits on every path whose post link stands.
func (m *Machine) pumpPosts() {
	if m.starting.unsure {
		return
	}
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
			if q.inFlight || q.refused || m.undecided(p, q) || m.awaitsRotation(p, q) {
				continue
			}
			q.inFlight, q.sentAt, q.overdue = true, m.now, false
			flying++
			if q.kind == postDigest {
				m.sends = append(m.sends, broadcast.Send{Link: p.post.link, Frame: m.digestFrame(p, q)})
				continue
			}
			if q.kind != postBundle {
				m.sends = append(m.sends, broadcast.Send{Link: p.post.link, Frame: m.frameOf(p, q)})
				continue
			}
			hash := m.sets[m.bundles[q.bundle].set].at(p.index).hash
			m.sends = append(m.sends, broadcast.Send{Link: p.post.link, Frame: m.post(p, q, !p.post.lists[hash]).Frame()})
			p.post.lists[hash] = true
		}
	}
}

// onPost handles what comes on the link that posts.
func (m *Machine) onPost(p *path, msg proto.Message) {
	switch f := msg.(type) {
	case proto.Welcome:
		p.post.welcome = true
		if (m.meta.Phase == phaseFounding || p.standing == making) && p.post.operator == nil {
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
		f.Families = slices.DeleteFunc(f.Families, func(d crossverify.Declaration) bool { return d.Check(m.cfg.Verify) != nil })
		slices.SortFunc(f.Families, compareDeclarations)
		f.Families = slices.Compact(f.Families)
		p.post.operator = &f
	case proto.Receipt:
		m.receipt(p, f)
	case proto.Pong:
		p.post.pinging = p.post.pinging && f.Value != receiptPing
	case proto.NeedFanout:
		if q := m.queuedPost(p, f.PostID); q != nil && q.kind == postBundle && q.inFlight && !q.listed {
			q.listed = true // once a link: a relay that asks again has it
			m.sends = append(m.sends, broadcast.Send{Link: p.post.link, Frame: m.post(p, q, true).Frame()})
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
	if s.Lineage == p.lineage {
		p.posted = max(p.posted, s.N)
	}
	m.noteReceipt(p, q, s)
	m.noteCarried(p, q)
	m.taken(p, q)
	m.forgetPost(p, q)
	if q.kind == postRotate {
		m.rotated(p, q)
	}
	m.sawStatement(p, s)
	m.keepReceipt(p, q, s)
}

// overtaken tells of a board write whether a later own write of the same entry is
// there or on its way: a relay may look at posts of one link in another order than
// they came.
func (m *Machine) overtaken(p *path, q *postItem) bool {
	put, ok := boardWrite(q)
	if !ok || q.kind != postBoard {
		return false
	}
	if r := p.receipts.by[put.Name]; r != nil && r.leaf.Version > put.Version {
		return true
	}
	return slices.ContainsFunc(p.queue, func(o *postItem) bool {
		later, ok := boardWrite(o)
		return ok && o.kind == postBoard && later.Name == put.Name && later.Version > put.Version
	})
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
	if m.postAgain(p, q, f.Code) {
		return
	}
	if f.Code == proto.CodeConflict && m.overtaken(p, q) {
		m.hasten(q)
		m.forgetPost(p, q)
		return
	}
	if q.kind == postRotate && !row.Retry {
		m.forgetPost(p, q)
		m.rotateRefused(p, f)
		return
	}
	if !row.Retry && len(m.waiting) > 0 {
		m.declined[q.id] = true
	}
	if row.Retry {
		p.retryAt = m.now.Add(max(f.Retry, m.cfg.Limits.RetryPost))
		return
	}
	if p.standing == making {
		m.refusedMaking(p, q, f)
		return
	}
	switch {
	case !m.isMember():
		m.noteRefusal(p, f)
	case m.out(m.self): // and so it should be
	case q.kind == postBoard && q.signed == 0 && f.Code == proto.CodeNotAllowed: // by a mailbox that the relay does not know: it came after the backup
	default:
		m.relayEvent(p, "refused "+row.Label, "", fmt.Sprintf("Relay %s refused what was posted: %s. The other relays carry it.", p.name(), f.Text))
	}
	if q.kind == postAdmit || q.kind == postCreate {
		q.refused = true // nobody is admitted where this was refused
		return
	}
	m.noteRefused(p, q, f)
	m.hasten(q)
	m.forgetPost(p, q)
}
