package relay

import (
	"bytes"
	"errors"
	"slices"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

var (
	errCapability = errors.New("neither the channel's posting key nor a live invite posting key")
	errShown      = errors.New("the statement shown is not this relay's for this channel")
	errRotation   = errors.New("a rotation of this ordinal or a greater one is in force")
	errEnded      = errors.New("an admin of the channel ended this mailbox")
	errMailbox    = errors.New("no such mailbox, or its key did not sign this link's nonce")
)

func sortedBoxes(boxes map[wire.MailboxID]*mailbox) []wire.MailboxID {
	ids := make([]wire.MailboxID, 0, len(boxes))
	for id := range boxes {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareBoxes)
	return ids
}

func compareBoxes(a, b wire.MailboxID) int { return bytes.Compare(a[:], b[:]) }

// register makes a mailbox that gets every number after the head of now.
// Registering it again gives the first answer.
func (m *machine) register(q *request, r proto.Register) {
	s := &m.st.meta
	id := proto.MailboxOf(m.self, s.channel, r.Mailbox)
	if !q.verify(func() bool { return r.Verify(m.cfg.Verify, m.self, s.channel) }) {
		m.denyf(q, proto.CodeNotAllowed, "the capability did not sign this mailbox key")
		return
	}
	if box := m.st.boxes[id]; box != nil {
		if box.end.over(s.lineage(), m.start(box)) {
			m.deny(q, &proto.Refusal{Code: proto.CodeEnded, Err: errEnded})
			return
		}
		m.reply(q, proto.Registered{Mailbox: id, Statement: box.birth})
		return
	}
	if r.Capability != s.posting {
		if no := m.st.grants[r.Capability].live(m.unix()); no != nil {
			m.deny(q, no)
			return
		}
	}
	if len(m.st.boxes) >= m.cfg.Limits.MaxMailboxes && !m.forgetMailbox() {
		m.denyLimit(q, proto.CodeQuota, "MaxMailboxes", 0)
		return
	}
	box := &mailbox{key: r.Mailbox, birth: s.head, seen: m.unix()}
	m.st.boxes[id] = box
	m.op(key(m.unit, keyMailbox, id[:]), box.encode())
	m.op(key(m.unit, keyHint, id[:]), box.encodeHint())
	s.mailboxRev++
	m.cur.changed = true
	m.cur.born = append(m.cur.born, id)
	m.reply(q, proto.Registered{Mailbox: id, Statement: box.birth})
}

// forgetMailbox drops the mailbox that nobody opened for longest, if that is
// longer than anything is kept: all it could miss is gone anyway.
func (m *machine) forgetMailbox() bool {
	var idle wire.MailboxID
	var found *mailbox
	for _, id := range sortedBoxes(m.st.boxes) {
		if box := m.st.boxes[id]; box.links == 0 && (found == nil || box.seen < found.seen) {
			idle, found = id, box
		}
	}
	if found == nil || found.seen+uint64(m.cfg.Limits.Retention.Seconds()) >= m.unix() {
		return false
	}
	delete(m.st.boxes, idle)
	m.op(key(m.unit, keyMailbox, idle[:]), nil)
	m.op(key(m.unit, keyHint, idle[:]), nil)
	m.st.meta.mailboxRev++
	m.cur.changed = true
	return true
}

// open starts reading a mailbox, once it is clear that the log goes on from
// what the member was told.
func (m *machine) open(q *request, o proto.Open) {
	lk, s := q.link, &m.st.meta
	lk.opening = true
	box := m.st.boxes[o.Mailbox]
	if box == nil || !q.verify(func() bool { return o.Verify(m.cfg.Verify, box.key, m.self, s.channel, lk.nonce) }) {
		m.deny(q, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errMailbox})
		return
	}
	if o.Window == 0 {
		m.deny(q, &proto.Refusal{Code: proto.CodeMalformed, Err: errWindow})
		return
	}
	var shown crossverify.Position
	if o.Known != nil {
		k := o.Known
		if k.Relay != m.self || k.Channel != s.channel || k.N == 0 || !k.Verify(m.cfg.Verify) {
			m.deny(q, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errShown})
			return
		}
		goesOn, ready := m.continues(q, k)
		if !ready {
			return
		}
		if !goesOn {
			if err := m.renew(k.Lineage.Ordinal()); err != nil {
				m.unreadable(q, err)
				return
			}
		}
		shown = k.Position()
	}
	start := m.start(box)
	if o.Lineage == s.lineage() {
		start = max(start, o.After)
	}
	if start > s.head.N || o.Lineage != s.lineage() && o.Lineage.Ordinal() >= s.lineage().Ordinal() {
		m.denyf(q, proto.CodeLineage, "the log is not at number %d of lineage %s; show the newest statement you know", o.After, o.Lineage)
		return
	}
	if box.end.over(s.lineage(), start) {
		m.deny(q, &proto.Refusal{Code: proto.CodeEnded, Err: errEnded})
		return
	}
	opened := crossverify.SignOpened(m.cfg.Key, s.channel, lk.nonce, shown, s.lineage(), s.head.N, s.head.H)
	sub := &sub{
		box: o.Mailbox, shown: shown, lineage: s.lineage(), pos: start, acked: start,
		window: uint64(min(o.Window, m.cfg.Limits.MaxWindow)),
	}
	q.onApplied = func() {
		lk.sub = sub
		m.subs = append(m.subs, lk)
		if box := m.st.boxes[sub.box]; box != nil {
			box.links++
		}
		m.hint(sub.box, sub.lineage, sub.pos)
		m.enqueue(lk)
	}
	m.reply(q, proto.OpenedFrame(s.head, opened, box.readIn(s.lineage())))
}

// start is the number after which a mailbox gets everything in this lineage.
func (m *machine) start(box *mailbox) uint64 {
	if box.birth.Lineage == m.st.meta.lineage() {
		return box.birth.N
	}
	return 0
}

// continues tells whether our log goes on from a statement that we once
// signed. If we hold less than it says, or something else, we lost data.
func (m *machine) continues(q *request, k *crossverify.Statement) (yes, ready bool) {
	s := &m.st.meta
	switch {
	case k.Lineage != s.lineage():
		return k.Lineage.Ordinal() < s.lineage().Ordinal(), true
	case k.N > s.head.N:
		return false, true
	case k.N == s.head.N:
		return *k == s.head, true
	case k.N < s.first-1:
		return true, true // nothing left to compare it with
	case k.N == s.first-1:
		return k.H == s.before, true
	}
	if e := m.tailAt(s.lineage(), k.N); e != nil {
		return *k == e.st, true
	}
	v, ready := m.get(q, logKey(m.unit, keySpine, s.lineage(), k.N))
	if !ready {
		return false, false
	}
	if v == nil { // it is not durable yet, or another front-end moved on
		m.fence(q)
		return false, false
	}
	sp, err := parseSpine(v)
	if err != nil {
		m.unreadable(q, err)
		return false, false
	}
	return sp.h == k.H, true
}
