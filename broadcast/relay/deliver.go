package relay

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// tailAt is entry n of a lineage if memory has it.
func (m *machine) tailAt(l wire.Lineage, n uint64) *entry {
	if len(m.tail) == 0 || n < m.tail[0].st.N || n > m.tail[len(m.tail)-1].st.N {
		return nil
	}
	if e := m.tail[n-m.tail[0].st.N]; e.st.Lineage == l {
		return e
	}
	return nil
}

// keep adds the newest entry to the tail.
func (m *machine) keep(e *entry) {
	m.tail = append(m.tail, e)
	m.tailBytes += e.size()
	l := &m.cfg.Limits
	for len(m.tail) > l.TailEntries && len(m.tail) > 0 || m.tailBytes > l.TailBytes && len(m.tail) > 1 {
		m.tailBytes -= m.tail[0].size()
		m.tail[0] = nil
		m.tail = m.tail[1:]
	}
}

// cutTail drops what was pending; if the store's head is another one than what
// is left leads to, it drops all.
func (m *machine) cutTail(head crossverify.Statement) {
	for len(m.tail) > 0 && m.tail[len(m.tail)-1].st != m.durable.head {
		m.tailBytes -= m.tail[len(m.tail)-1].size()
		m.tail = m.tail[:len(m.tail)-1]
	}
	if m.durable.head != head {
		m.tail, m.tailBytes = nil, 0
	}
}

func (m *machine) enqueue(lk *link) {
	if s := lk.sub; s != nil && !s.queued {
		s.queued = true
		m.pumping = append(m.pumping, lk)
	}
}

func (m *machine) enqueueAll() {
	for _, lk := range m.subs {
		m.enqueue(lk)
	}
}

// pump serves subscribers until all are, or the budget is used up.
func (m *machine) pump() {
	for len(m.pumping) > 0 && m.budget > 0 {
		lk := m.pumping[0]
		m.pumping = m.pumping[1:]
		if lk.sub != nil {
			lk.sub.queued = false
			m.serve(lk, nil)
		}
	}
}

func (m *machine) push(lk *link, msg proto.Message) {
	f := proto.Encode(msg)
	m.outNow = append(m.outNow, broadcast.Send{Link: lk.id, Frame: f})
	m.budget -= proto.FrameHead + len(f.Body)
}

// serve sends a subscriber what is durable and what its window lets through:
// first what it fetches, then what is new to it. chunk is what was read for
// it; whatever is in neither chunk nor memory is asked for.
func (m *machine) serve(lk *link, chunk []*entry) {
	s := lk.sub
	box := m.st.boxes[s.box]
	if box == nil {
		m.refuse(lk, proto.TypeOpen, wire.PostID{}, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errMailbox}, true)
		return
	}
	if s.lineage != m.durable.lineage() {
		m.reopened(lk)
	}
	for s.reading == 0 {
		if m.budget <= 0 {
			m.enqueue(lk)
			return
		}
		if box.end.over(s.lineage, s.pos) {
			m.refuse(lk, proto.TypeOpen, wire.PostID{}, &proto.Refusal{Code: proto.CodeEnded, Err: errEnded}, true)
			return
		}
		n, last := m.nextFor(lk)
		if n > last {
			return
		}
		e := m.tailAt(s.lineage, n)
		for len(chunk) > 0 && chunk[0].st.N < n {
			chunk = chunk[1:]
		}
		if e == nil && len(chunk) > 0 && chunk[0].st.N == n {
			e = chunk[0]
		}
		if e == nil {
			m.readFor(lk, read{link: lk, next: n}, logKey(m.unit, keyLog, s.lineage, n), logKey(m.unit, keyLog, s.lineage, last+1))
			return
		}
		if e.kind == kindBundle && e.list == nil {
			if s.list == nil || s.listHash != e.fanout {
				list := m.lists.get(e.fanout)
				if list == nil {
					m.readFor(lk, read{link: lk, list: e.fanout, next: n}, key(m.unit, keyFanout, e.fanout[:]), nil)
					return
				}
				s.list, s.listHash = list, e.fanout
			}
			e.list = s.list
		}
		m.push(lk, deliver(e, s.box))
		s.gaps = 0
		if s.next == n {
			if s.next++; s.next > s.to {
				s.next, s.to = 0, 0
			}
		} else {
			s.pos = n
		}
	}
}

// nextFor is the next number that a subscriber is due and the last that may
// go out now; n > last: nothing is due.
func (m *machine) nextFor(lk *link) (n, last uint64) {
	s, d := lk.sub, &m.durable
	if s.next != 0 {
		if s.next < d.first {
			m.trimmed(lk)
			if s.next = d.first; s.next > s.to {
				s.next, s.to = 0, 0
			}
		}
		if s.next != 0 {
			return s.next, s.to
		}
	}
	if s.pos+1 < d.first {
		m.trimmed(lk)
		s.pos = d.first - 1
		s.acked = max(s.acked, s.pos)
	}
	if s.pos >= d.head.N && !s.caught {
		s.caught = true
		m.push(lk, proto.CaughtUp{N: d.head.N})
	}
	return s.pos + 1, min(d.head.N, s.acked+s.window)
}

func (m *machine) trimmed(lk *link) {
	d := &m.durable
	m.push(lk, proto.TrimmedFrame(crossverify.SignTrimmed(m.cfg.Key, d.channel, d.lineage(), d.first, d.before)))
}

// reopened tells a subscriber that the lineage it reads has ended, and begins
// with number 1 of the new one.
func (m *machine) reopened(lk *link) {
	s, d := lk.sub, &m.durable
	o := crossverify.SignOpened(m.cfg.Key, d.channel, lk.nonce, s.shown, d.lineage(), d.head.N, d.head.H)
	m.push(lk, proto.OpenedFrame(d.head, o, 0))
	s.lineage, s.pos, s.acked, s.caught, s.next, s.to = d.lineage(), 0, 0, false, 0, 0
}

// deliver is what one mailbox gets of an entry.
func deliver(e *entry, box wire.MailboxID) proto.Message {
	st := &e.st
	switch e.kind {
	case kindBundle:
		i, ok := broadcast.FanoutIndex(e.list, box)
		if !ok {
			break
		}
		offset, size := broadcast.SlotSpan(e.exceptions, i)
		return proto.Deliver{
			N: st.N, Slots: e.slots, Root: st.Root, Signature: st.Signature, Hint: e.hint, Nonce: e.nonce,
			Envelope: e.envelope, Offset: uint32(offset), Slot: e.block[offset : offset+size],
		}
	case kindDigest:
		return proto.DeliverDigest{N: st.N, Root: st.Root, Signature: st.Signature, Hint: e.hint, Nonce: e.nonce,
			Sealed: [broadcast.SealedDigestSize]byte(e.envelope)}
	case kindBoard:
		return proto.Entry{N: st.N, Root: st.Root, Signature: st.Signature,
			BoardEntry: proto.BoardEntry{Name: e.name, Version: e.version, Value: e.value}}
	}
	return proto.Bare{N: st.N, D: st.D, Root: st.Root, Signature: st.Signature}
}

// readFor asks the store for a subscriber, or lets it wait for its turn.
func (m *machine) readFor(lk *link, rd read, from, to []byte) {
	s := lk.sub
	if m.catching >= m.cfg.Limits.MaxReads {
		if !s.starved {
			s.starved = true
			m.starved = append(m.starved, lk)
		}
		return
	}
	m.catching++
	s.reading = m.issue(rd, from, to, m.cfg.Limits.ReadBytes)
}

// release frees the place of a catching-up read.
func (m *machine) release(lk *link) {
	m.catching--
	lk.sub.reading = 0
	for len(m.starved) > 0 {
		next := m.starved[0]
		m.starved = m.starved[1:]
		if next.sub != nil {
			next.sub.starved = false
			m.enqueue(next)
			return
		}
	}
}

var errGap = errors.New("a number is missing")

func (m *machine) loadedLink(rd read, in broadcast.Loaded) error {
	lk := rd.link
	s := lk.sub
	m.release(lk)
	if in.Err != nil {
		m.fault(lk, in.Err)
		return nil
	}
	if len(in.KVs) == 0 {
		return m.gap(rd)
	}
	if rd.list != (wire.Digest{}) {
		list, err := parseList(in.KVs[0].Value)
		if err == nil && broadcast.FanoutHash(list) != rd.list {
			err = corrupt("fan-out list", wire.ErrFormat)
		}
		if err != nil {
			m.fault(lk, err)
			return fmt.Errorf("unit %x: %w", m.unit, err)
		}
		m.lists.put(rd.list, list)
		s.list, s.listHash = list, rd.list
		m.enqueue(lk)
		return nil
	}
	chunk := make([]*entry, 0, len(in.KVs))
	for i, kv := range in.KVs {
		e, err := parseEntry(kv.Value)
		if err == nil && !bytes.Equal(kv.Key, logKey(m.unit, keyLog, e.st.Lineage, e.st.N)) {
			err = corrupt("log entry", wire.ErrFormat)
		}
		if err != nil {
			m.fault(lk, err)
			return fmt.Errorf("unit %x: %w", m.unit, err)
		}
		if e.st.N != rd.next+uint64(i) {
			if i == 0 {
				return m.gap(rd)
			}
			break
		}
		chunk = append(chunk, e)
	}
	if s.lineage == chunk[0].st.Lineage {
		m.serve(lk, chunk)
	} else {
		m.enqueue(lk)
	}
	return nil
}

// gap: the store does not have what we think is durable. Either it was trimmed
// or renewed, by a turn of ours that is under way or by another front-end, or
// the log is damaged: the store's revision tells.
func (m *machine) gap(rd read) error {
	lk, st := rd.link, &m.st.meta
	s := lk.sub
	switch {
	case m.durable.lineage() != s.lineage || m.durable.first > rd.next:
		m.enqueue(lk)
		return nil
	case st.lineage() != s.lineage || st.first > rd.next:
		return nil // Applied and Changed serve all
	case s.gaps < maxTries:
		s.gaps++
		m.cur.gaps = append(m.cur.gaps, lk)
		return nil
	}
	err := corrupt(fmt.Sprintf("log of unit %x at number %d", m.unit, rd.next), errGap)
	m.fault(lk, err)
	return err
}

// fault ends a link that cannot be served.
func (m *machine) fault(lk *link, err error) {
	m.refuse(lk, proto.TypeOpen, wire.PostID{}, &proto.Refusal{Code: proto.CodeBusy, Retry: time.Second, Err: err}, true)
}
