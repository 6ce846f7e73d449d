package relay

import (
	"errors"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// fetch sends a range again, outside the window.
func (m *machine) fetch(q *request, f proto.Fetch) {
	s := q.link.sub
	if s == nil {
		m.deny(q, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errNotOpen})
		return
	}
	box := m.st.boxes[s.box]
	switch d := &m.durable; {
	case box == nil:
		m.deny(q, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errMailbox})
	case s.next != 0:
		m.denyf(q, proto.CodeBusy, "a Fetch of this link is under way")
	case f.From == 0 || f.To < f.From:
		m.denyf(q, proto.CodeMalformed, "a range from %d to %d", f.From, f.To)
	case f.To-f.From >= uint64(m.cfg.Limits.MaxWindow):
		m.denyLimit(q, proto.CodeTooLarge, "MaxWindow", 0)
	case f.From <= m.start(box):
		m.denyf(q, proto.CodeNotAllowed, "the mailbox gets what comes after number %d", m.start(box))
	case f.To > d.head.N || s.lineage != d.lineage():
		m.denyf(q, proto.CodeNotKept, "the newest number is %d", d.head.N)
	default:
		s.next, s.to = f.From, f.To
		m.finish(q)
		m.enqueue(q.link)
	}
}

// entryOf finds entry n for a request; nil while it is under way or refused.
func (m *machine) entryOf(q *request, n uint64) *entry {
	s := &m.st.meta
	switch {
	case n == 0 || n > s.head.N:
		m.denyf(q, proto.CodeNotKept, "the newest number is %d", s.head.N)
		return nil
	case n < s.first:
		m.denyf(q, proto.CodeNotKept, "the first number kept is %d", s.first)
		return nil
	}
	if e := m.tailAt(s.lineage(), n); e != nil {
		return e
	}
	v, ready := m.get(q, logKey(m.unit, keyLog, s.lineage(), n))
	if !ready {
		return nil
	}
	if v == nil {
		m.fence(q) // not durable yet, or another front-end moved on
		return nil
	}
	e, err := parseEntry(v)
	if err == nil && e.st.N != n {
		err = corrupt("log entry", errGap)
	}
	if err != nil {
		m.unreadable(q, err)
		return nil
	}
	return e
}

func (m *machine) statementOf(q *request, n uint64) {
	if e := m.entryOf(q, n); e != nil {
		m.reply(q, proto.StatementIs{Statement: e.st})
	}
}

// slotBlock shows a mailbox's reader all slots of a bundle, so that it can
// check the slots digest.
func (m *machine) slotBlock(q *request, n uint64) {
	if q.link.sub == nil {
		m.deny(q, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errNotOpen})
		return
	}
	e := m.entryOf(q, n)
	if e == nil {
		return
	}
	if e.kind != kindBundle {
		m.denyf(q, proto.CodeNotKept, "number %d carries no slots", n)
		return
	}
	list := e.list
	if list == nil {
		if list = m.lists.get(e.fanout); list == nil {
			v, ready := m.get(q, key(m.unit, keyFanout, e.fanout[:]))
			if !ready {
				return
			}
			var err error
			if list, err = parseList(v); err != nil || broadcast.FanoutHash(list) != e.fanout {
				m.unreadable(q, corrupt("fan-out list", errors.Join(err, wire.ErrFormat)))
				return
			}
			m.lists.put(e.fanout, list)
		}
	}
	m.reply(q, proto.SlotBlockIs{N: n, Mailboxes: list, Exceptions: e.exceptions, Slots: e.block})
}
