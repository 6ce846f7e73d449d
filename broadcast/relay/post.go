package relay

import (
	"crypto/subtle"
	"fmt"
	"io"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// create makes the channel: entry 1 of its first lineage. Creating it again
// with the keys in force, or with the same frame, gives the first answer.
func (m *machine) create(q *request, c proto.Create) {
	if !q.verify(func() bool { return c.Verify(m.cfg.Verify, m.self, q.link.channel) }) {
		m.denyf(q, proto.CodeNotAllowed, "the admin key did not sign this channel and posting key")
		return
	}
	if m.st.exists {
		meta := &m.st.meta
		again := proto.RankOf(meta.admins, c.Admin) == proto.RankOwner && meta.posting == c.Posting || meta.creation.D == c.Digest()
		if again && meta.channel == q.link.channel {
			m.reply(q, proto.Receipt{PostID: q.post, Statement: meta.creation})
		} else {
			m.denyf(q, proto.CodeConflict, "the channel exists with other keys")
		}
		return
	}
	if !m.cfg.OpenCreation && !m.tokenGood(c.Token) {
		m.denyf(q, proto.CodeNotAllowed, "creating a channel takes a token of this relay's operator")
		return
	}
	lineage, err := m.drawLineage(1)
	if err != nil {
		m.unreadable(q, err)
		return
	}
	m.st.exists = true
	m.st.meta = meta{relay: m.self, channel: q.link.channel, posting: c.Posting, admins: []proto.Admin{{Key: c.Admin, Rank: proto.RankOwner}}}
	m.begin(lineage, c.Digest())
	m.reply(q, proto.Receipt{PostID: q.post, Statement: m.st.meta.creation})
}

func (m *machine) tokenGood(token []byte) bool {
	good := 0
	for _, t := range m.cfg.Tokens {
		good |= subtle.ConstantTimeCompare(token, []byte(t))
	}
	return good == 1
}

func (m *machine) drawLineage(ordinal uint64) (wire.Lineage, error) {
	var random [8]byte
	if _, err := io.ReadFull(m.entropy, random[:]); err != nil {
		return wire.Lineage{}, fmt.Errorf("relay: no randomness for a lineage: %w", err)
	}
	return wire.NewLineage(ordinal, random), nil
}

// begin starts a life of the log with the creation as entry 1.
func (m *machine) begin(l wire.Lineage, creation wire.Digest) {
	s := &m.st.meta
	s.head = crossverify.Statement{Relay: m.self, Channel: s.channel, Lineage: l, H: crossverify.ChainStart(m.self, s.channel, l)}
	s.first, s.before, s.firstTime, s.kept = 1, s.head.H, 0, 0
	s.creation = m.append(&entry{kind: kindGrant}, wire.PostID{}, creation)
}

// renew ends the lineage and starts one that is newer than it and than shown:
// this relay lost data. The board and the mailboxes stay; entries, post ids
// and fan-out lists go, and what this turn answered is looked at again.
func (m *machine) renew(shown uint64) error {
	l, err := m.drawLineage(max(m.st.meta.lineage().Ordinal(), shown) + 1)
	if err != nil {
		return err
	}
	m.recall()
	old := m.st.meta.lineage()
	m.opRange(logKey(m.unit, keyLog, old, 0), logEnd(m.unit, keyLog, old))
	m.opRange(logKey(m.unit, keySpine, old, 0), logEnd(m.unit, keySpine, old))
	for _, letter := range []byte{keyPost, keyFanout, keyFanUse} {
		m.opRange(key(m.unit, letter), keyEnd(m.unit, letter))
	}
	m.tail, m.tailBytes, m.order, m.evicted = nil, 0, nil, 0
	clear(m.recent)
	clear(m.st.fans)
	for _, q := range m.live {
		q.head = 0 // what it reads is of the numbers that end
	}
	m.begin(l, m.st.meta.creation.D)
	return nil
}

// append gives the next number: it signs the statement, and writes entry,
// spine and post id (zero: none). The board already holds what e writes to it.
func (m *machine) append(e *entry, post wire.PostID, d wire.Digest) crossverify.Statement {
	s := &m.st.meta
	n, root := s.head.N+1, m.st.board.tree.Root()
	h := crossverify.ChainNext(s.head.H, n, d, root)
	e.st = crossverify.SignStatement(m.cfg.Key, s.channel, s.lineage(), n, d, h, root)
	e.time = m.unix()
	record := e.encode()
	sp := spine{time: e.time, bytes: uint64(len(record)), post: post, h: h}
	m.op(logKey(m.unit, keyLog, s.lineage(), n), record)
	m.op(logKey(m.unit, keySpine, s.lineage(), n), sp.encode())
	if post != (wire.PostID{}) {
		m.op(key(m.unit, keyPost, post[:]), e.st.Append(nil))
		m.recent[post] = e.st
		m.order = append(m.order, post)
	}
	if s.first == n {
		s.firstTime = e.time
	}
	s.head = e.st
	s.kept += sp.bytes
	m.cur.changed = true
	m.keep(e)
	return e.st
}

// forgetPosts bounds the post ids in memory. One that is not durable stays:
// nobody else knows it.
func (m *machine) forgetPosts() {
	for len(m.order) > m.cfg.Limits.RecentPosts {
		st, ok := m.recent[m.order[0]]
		if ok && (st.N > m.durable.head.N || st.Lineage != m.durable.lineage()) {
			return
		}
		if ok {
			m.evicted = st.N
			delete(m.recent, m.order[0])
		}
		m.order = m.order[1:]
	}
}

// known finds the statement of a post id. ready is false while the store is
// asked, and when what it says is of a state newer than ours.
func (m *machine) known(q *request) (st crossverify.Statement, found, ready bool) {
	if q.post == (wire.PostID{}) {
		return st, false, true
	}
	if st, ok := m.recent[q.post]; ok {
		return st, true, true
	}
	if m.evicted > q.head {
		q.got = nil // it may have come, and left memory, since the store was asked
	}
	v, ready := m.get(q, key(m.unit, keyPost, q.post[:]))
	if !ready || v == nil {
		return st, false, ready
	}
	st, err := crossverify.ParseStatement(v)
	if err != nil {
		m.unreadable(q, corrupt("post id", err))
		return st, false, false
	}
	if st.Lineage != m.st.meta.lineage() || st.N > m.st.meta.head.N {
		m.fence(q) // another front-end wrote it, or a lineage ends just now
		return st, false, false
	}
	return st, true, true
}

func (m *machine) receipt(q *request, st crossverify.Statement) {
	m.reply(q, proto.Receipt{PostID: q.post, Statement: st})
}

// post appends a bundle.
func (m *machine) post(q *request, p proto.Post) {
	s := &m.st.meta
	if q.d == (wire.Digest{}) {
		q.slots = crossverify.SlotsDigest(p.Fanout, p.Exceptions.Append(nil), p.Slots)
		q.d = crossverify.BundleDigest(crossverify.OuterDigest(p.Hint, p.Nonce, p.Envelope), q.slots)
	}
	switch {
	case p.PostID == wire.PostID{}:
		m.denyf(q, proto.CodeMalformed, "a post id of zeros means none")
		return
	case q.size > m.cfg.Limits.MaxPostBytes:
		m.denyLimit(q, proto.CodeTooLarge, "MaxPostBytes", 0)
		return
	case len(p.Envelope) < broadcast.MinEnvelope:
		m.denyf(q, proto.CodeMalformed, "an envelope of %d bytes, at least %d", len(p.Envelope), broadcast.MinEnvelope)
		return
	case !q.verifyUnder(s.posting, func() bool { return p.Verify(m.cfg.Verify, s.posting, m.self, s.channel, q.d) }):
		m.replaced(q, q.d, "the channel's posting key did not sign this post")
		return
	case len(p.Mailboxes) > 0 && broadcast.FanoutHash(p.Mailboxes) != p.Fanout:
		m.denyf(q, proto.CodeMalformed, "the fan-out list has another hash")
		return
	}
	st, found, ready := m.known(q)
	switch {
	case !ready:
		return
	case found:
		m.receipt(q, st)
		return
	}
	list, ready := m.fanout(q, p)
	if !ready {
		return
	}
	if err := p.CheckSlots(len(list)); err != nil {
		m.denyf(q, proto.CodeMalformed, "%w", err)
		return
	}
	e := &entry{
		kind: kindBundle, hint: p.Hint, nonce: p.Nonce, fanout: p.Fanout, slots: q.slots,
		exceptions: p.Exceptions, envelope: p.Envelope, block: p.Slots, list: list,
	}
	st = m.append(e, p.PostID, q.d)
	use := fanUse{last: st.N, count: uint32(len(list))}
	if _, ok := m.st.fans[p.Fanout]; !ok {
		b := encodeList(list)
		m.op(key(m.unit, keyFanout, p.Fanout[:]), b)
	}
	m.st.fans[p.Fanout] = use
	m.op(key(m.unit, keyFanUse, p.Fanout[:]), use.encode())
	m.receipt(q, st)
}

// postDigest appends the sealed digest of a bundle that other relays carry.
func (m *machine) postDigest(q *request, p proto.PostDigest) {
	s := &m.st.meta
	q.d = p.Digest()
	switch {
	case p.PostID == wire.PostID{}:
		m.denyf(q, proto.CodeMalformed, "a post id of zeros means none")
		return
	case !q.verifyUnder(s.posting, func() bool { return p.Verify(m.cfg.Verify, s.posting, m.self, s.channel, q.d) }):
		m.replaced(q, q.d, "the channel's posting key did not sign this post")
		return
	}
	st, found, ready := m.known(q)
	switch {
	case !ready:
		return
	case !found:
		st = m.append(&entry{kind: kindDigest, hint: p.Hint, nonce: p.Nonce, envelope: p.Sealed[:]}, p.PostID, q.d)
	}
	m.receipt(q, st)
}
