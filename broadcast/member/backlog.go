package member

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The backlog: bundles that enough relays took, and one or another did not. A relay
// that is gone must not keep anybody from speaking, so they do not count towards
// Limits.Outbox; and it must not fill a disk, so they are bounded by number, bytes
// and the retention time, after which a relay would keep nothing of them either.
// What is dropped is dropped for that relay alone: the others have it. What not
// enough relays took is never dropped.

// untaken counts the bundles that not enough operators gave their receipts for.
func (m *Machine) untaken() (n int) {
	waits := m.waitsOn()
	for _, b := range m.bundles {
		if on := waits[b.order]; on != 0 && !m.tookEnough(on) {
			n++
		}
	}
	return n
}

// outboxFull tells whether nothing more is sent, with others that are about to be.
func (m *Machine) outboxFull(more int) bool {
	return len(m.bundles)+more >= m.cfg.Limits.Outbox && m.untaken()+more >= m.cfg.Limits.Outbox
}

// waitsOn tells on which paths bundles have a post without a receipt.
func (m *Machine) waitsOn() map[uint64]relayMask {
	waits := make(map[uint64]relayMask, len(m.bundles))
	for _, p := range m.paths {
		for _, q := range p.queue {
			if q.ofBundle() {
				waits[q.bundle] |= 1 << p.index
			}
		}
	}
	return waits
}

// tookEnough tells whether enough operators gave their receipts for what waits on these
// paths.
func (m *Machine) tookEnough(waits relayMask) bool {
	return m.enough(func(p *path) bool { return !waits.has(p.index) })
}

// trimBacklog drops what is too old or too much of what enough relays have. It
// looks again when the oldest of it gets too old.
func (m *Machine) trimBacklog() {
	l := &m.cfg.Limits
	if m.ledger == nil || len(m.bundles) == 0 {
		m.backlogAt = time.Time{}
		return
	}
	if m.backlogAt.IsZero() {
		m.backlogAt = m.now // what was read from the store
	}
	if len(m.bundles) <= l.Backlog && m.bundleBytes <= l.BacklogBytes && m.now.Before(m.backlogAt) {
		return
	}
	waits := m.waitsOn()
	oldest := make([]*bundleRecord, 0, len(m.bundles))
	for _, b := range m.bundles {
		if on := waits[b.order]; on != 0 && m.tookEnough(on) {
			oldest = append(oldest, b)
		}
	}
	slices.SortFunc(oldest, func(a, b *bundleRecord) int { return cmp.Compare(a.order, b.order) })
	late := m.now.Add(-m.retention()).Unix()
	n, left, bytes := 0, len(m.bundles), m.bundleBytes
	for n < len(oldest) && (oldest[n].sent <= late || left > l.Backlog || bytes > l.BacklogBytes) {
		left, bytes = left-1, bytes-oldest[n].size()
		n++
	}
	m.dropPosts(oldest[:n])
	m.backlogAt = m.now.Add(m.retention())
	for _, b := range oldest[n:] {
		if at := time.Unix(b.sent, 0).Add(m.retention()); at.Before(m.backlogAt) {
			m.backlogAt = at
		}
	}
}

// dropPosts takes bundles out of the outbox, wherever they wait.
func (m *Machine) dropPosts(list []*bundleRecord) {
	drop := make(map[uint64]bool, len(list))
	for _, b := range list {
		drop[b.order] = true
	}
	for _, p := range m.paths {
		told := false
		for _, q := range slices.Clone(p.queue) {
			if len(drop) == 0 || !q.ofBundle() || !drop[q.bundle] {
				continue
			}
			m.forgetPost(p, q)
			told = true
		}
		if told {
			m.relayEvent(p, "backlog", "", fmt.Sprintf("Relay %s has taken no messages for long: the oldest that wait for it here are dropped for it. The other relays have them. Nothing for you to do.", p.name()))
		}
	}
}

// size is what a bundle takes in memory, about: bytes.
func (b *bundleRecord) size() int { return len(b.envelope) + len(b.slots) }
