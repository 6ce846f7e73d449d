package relay

import (
	"slices"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// boardPut writes a version of a board entry; admit says that the capability
// is an invite's, which counts one use. The same version with the same value
// gives the same statement, within one lineage.
func (m *machine) boardPut(q *request, p proto.BoardPut, admit bool) {
	s := &m.st.meta
	ok := q.verify(func() bool {
		return p.Verify(m.cfg.Verify, m.self, s.channel) && p.VerifyOwner(m.cfg.Verify, m.self, s.channel)
	})
	if !ok {
		m.denyf(q, proto.CodeNotAllowed, "the capability or the owner did not sign this entry")
		return
	}
	if p.PostID == (wire.PostID{}) {
		m.denyf(q, proto.CodeMalformed, "a post id of zeros means none")
		return
	}
	if q.d == (wire.Digest{}) {
		q.slots = p.ValueDigest()
		q.d = crossverify.BoardDigest(p.Name, p.Version, q.slots)
	}
	value := q.slots
	old := m.st.board.entries[p.Name]
	same := old != nil && old.version == p.Version && old.value == value && old.owner == p.Owner
	if same && old.st.Lineage == s.lineage() {
		m.receipt(q, old.st)
		return
	}
	st, found, ready := m.known(q)
	switch {
	case !ready:
		return
	case found:
		m.receipt(q, st)
		return
	case old != nil && old.owner != p.Owner:
		m.denyf(q, proto.CodeNotAllowed, "another key owns this entry")
		return
	case old != nil && !same && p.Version <= old.version:
		m.denyf(q, proto.CodeConflict, "the board has version %d of this entry", old.version)
		return
	}
	// What stands on the board already was admitted, only in a life that ended.
	if !same && !m.mayWrite(q, p, admit) {
		return
	}
	e := &entry{kind: kindBoard, name: p.Name, version: p.Version, value: p.Value}
	now := &boardEntry{version: p.Version, value: value, owner: p.Owner, bytes: uint64(len(p.Value))}
	m.st.board.put(p.Name, now)
	now.st = m.append(e, p.PostID, q.d)
	m.op(key(m.unit, keyBoard, p.Name[:]), now.encode())
	m.op(key(m.unit, keyValue, p.Name[:]), encodeValue(p.Version, p.Value))
	m.unapplied[p.Name] = pendingValue{p.Version, p.Value, m.number + 1}
	s.boardRev++
	m.receipt(q, now.st)
}

// mayWrite checks limits and capability, and counts the use of an invite last.
func (m *machine) mayWrite(q *request, p proto.BoardPut, admit bool) bool {
	b, l := m.st.board, &m.cfg.Limits
	var was uint64
	if old := b.entries[p.Name]; old != nil {
		was = old.bytes
	} else if len(b.entries) >= l.MaxBoardEntries {
		m.denyLimit(q, proto.CodeQuota, "MaxBoardEntries", 0)
		return false
	}
	if b.bytes-was+uint64(len(p.Value)) > l.MaxBoardBytes {
		m.denyLimit(q, proto.CodeQuota, "MaxBoardBytes", 0)
		return false
	}
	if !admit {
		if p.Capability != m.st.meta.posting && (b.entries[p.Name] == nil || !m.ofReader(p.Capability)) {
			m.denyf(q, proto.CodeNotAllowed, "the capability is not the channel's posting key")
			return false
		}
		return true
	}
	g := m.st.grants[p.Capability]
	if no := g.use(m.unix()); no != nil {
		m.deny(q, no)
		return false
	}
	m.op(key(m.unit, keyGrant, p.Capability[:]), g.encode())
	return true
}

// ofReader tells whether a capability is the key of a mailbox that was not ended: who
// has one may write later versions of its own entries, so that a member restored
// from before a rotation can say so.
func (m *machine) ofReader(capability keys.PostingPublic) bool {
	box := m.st.boxes[proto.MailboxOf(m.self, m.st.meta.channel, keys.MailboxPublic(capability))]
	return box != nil && box.end == (end{})
}

// boardList answers a page of the board as the newest statement has it.
func (m *machine) boardList(q *request, l proto.BoardList) {
	limit := max(1, min(int(l.Limit), m.cfg.Limits.PageBytes, proto.MaxBoardPage/4))
	from := append(key(m.unit, keyValue, l.After[:]), 0)
	if l.After == (wire.Digest{}) {
		from = key(m.unit, keyValue) // a name of zeros comes after nothing
	}
	a, ready := m.scan(q, from, keyEnd(m.unit, keyValue), limit)
	if !ready {
		return
	}
	read := map[wire.Digest][]byte{}
	last := wire.Digest{}
	for _, kv := range a.kvs {
		id := kv.Key[len(m.unit)+1:]
		if len(id) != len(last) {
			m.unreadable(q, corrupt("board value", idLength(id, len(last))))
			return
		}
		copy(last[:], id)
		if m.st.board.entries[last] == nil {
			m.fence(q) // another front-end wrote it
			return
		}
		read[last] = kv.Value
	}
	page := proto.BoardPage{Statement: m.st.meta.head}
	names := m.st.board.names
	at, _ := slices.BinarySearchFunc(names, l.After, compareNames)
	if at < len(names) && names[at] == l.After && l.After != (wire.Digest{}) {
		at++
	}
	size := 0
	for ; at < len(names); at++ {
		name := names[at]
		if a.more && compareNames(name, last) > 0 || size > 0 && size >= limit {
			page.More = true
			break
		}
		e := m.st.board.entries[name]
		value, again, ok := m.valueOf(q, name, e, read[name])
		if !ok {
			return
		}
		if again {
			q.got = nil
			m.boardList(q, l)
			return
		}
		page.Entries = append(page.Entries, proto.BoardEntry{Name: name, Version: e.version, Value: value})
		size += 44 + len(value)
	}
	m.reply(q, page)
}

// valueOf finds the value that the board has for a name in what was read or in
// what is not durable yet. again: the read came too early. Not ok: the request
// waits for the store, or was given up.
func (m *machine) valueOf(q *request, name wire.Digest, e *boardEntry, record []byte) (value []byte, again, ok bool) {
	version := uint64(0)
	if record != nil {
		var err error
		if version, value, err = parseValue(record); err != nil {
			m.unreadable(q, err)
			return nil, false, false
		}
		if version == e.version && crossverify.ValueDigest(value) == e.value {
			return value, false, true
		}
	}
	if p, pending := m.unapplied[name]; pending && p.version == e.version {
		return p.value, false, true
	}
	if record != nil && version >= e.version || m.reader != nil {
		m.fence(q) // another front-end wrote it
		return nil, false, false
	}
	if q.tries++; q.tries > maxTries {
		m.unreadable(q, corrupt("board value", wire.ErrShort))
		return nil, false, false
	}
	return nil, true, true
}
