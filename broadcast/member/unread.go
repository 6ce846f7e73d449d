package member

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// Bundles, and digests of bundles, under an epoch whose key is not here yet: who has it sends under it
// while the bundle with the key is still on its way. They are kept as they came.

// unreadItem is one of them.
type unreadItem struct {
	key     []byte
	path    *path
	lineage wire.Lineage
	frame   proto.Deliver        // of a bundle
	digest  *proto.DeliverDigest // nil: it is a bundle
	since   time.Time            // in this opening
	told    bool                 // that no key fits, after the policy's deadline
}

const (
	// maxUnread is how many are kept, over all paths. Default: 1,024.
	maxUnread = 1024
	// unreadDigest ends the key of a digest's record.
	unreadDigest = 1
	// maxUnreadBytes bounds their envelopes and slots. Default: 8 MiB.
	maxUnreadBytes = 8 << 20
)

// unknownHint tells whether no key at hand is what a hint names.
func (m *Machine) unknownHint(p *path, hint [broadcast.HintSize]byte) bool {
	return !slices.ContainsFunc(m.keysOf(p).epochs, func(e pathEpoch) bool { return e.hint == hint })
}

func (u *unreadItem) hint() [broadcast.HintSize]byte {
	if u.digest != nil {
		return u.digest.Hint
	}
	return u.frame.Hint
}

// keepUnread stores a bundle that no key opens.
func (m *Machine) keepUnread(p *path, f proto.Deliver) {
	f.Envelope, f.Slot = slices.Clone(f.Envelope), slices.Clone(f.Slot)
	u := &unreadItem{key: m.key(keyUnread, []byte{byte(p.index)}, p.lineage[:], wire.U64(f.N)), path: p, lineage: p.lineage, frame: f, since: m.now}
	m.addUnread(u, f.Append(nil))
}

// keepUnreadDigest stores a digest that no key opens.
func (m *Machine) keepUnreadDigest(p *path, f proto.DeliverDigest) {
	u := &unreadItem{key: m.key(keyUnread, []byte{byte(p.index)}, p.lineage[:], wire.U64(f.N), []byte{unreadDigest}), path: p, lineage: p.lineage, digest: &f, since: m.now}
	m.addUnread(u, f.Append(nil))
}

func (m *Machine) addUnread(u *unreadItem, value []byte) {
	m.unread = append(m.unread, u)
	m.put(u.key, value)
	for len(m.unread) > maxUnread || m.unreadBytes() > maxUnreadBytes {
		m.evictUnread()
	}
}

func (m *Machine) unreadBytes() (n int) {
	for _, u := range m.unread {
		n += len(u.frame.Envelope) + len(u.frame.Slot)
	}
	return n
}

// evictUnread drops the oldest of the path that has most: a relay can make them
// up as it likes.
func (m *Machine) evictUnread() {
	count := map[*path]int{}
	for _, u := range m.unread {
		count[u.path]++
	}
	most := slices.MaxFunc(m.paths, func(a, b *path) int { return cmp.Compare(count[a], count[b]) })
	i := slices.IndexFunc(m.unread, func(u *unreadItem) bool { return u.path == most })
	m.del(m.unread[i].key)
	m.unread = slices.Delete(m.unread, i, i+1)
}

func (m *Machine) loadUnread(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) < 1+16+8 {
		return wire.ErrFormat
	}
	kind, rest := uint8(proto.TypeDeliver), key[1+16+8:]
	switch {
	case len(rest) == 1 && rest[0] == unreadDigest:
		kind = proto.TypeDeliverDigest
	case len(rest) > 0:
		return wire.ErrFormat
	}
	msg, err := proto.Parse(broadcast.Frame{Type: kind, Body: value})
	if err != nil {
		return err
	}
	u := &unreadItem{key: m.key(keyUnread, key), path: p, lineage: wire.Lineage(key[1:17])}
	switch f := msg.(type) {
	case proto.Deliver:
		u.frame = f
	case proto.DeliverDigest:
		u.digest = &f
	}
	m.unread = append(m.unread, u)
	return nil
}

// readUnread tries what waits when keys came, and tells of what no key fits for
// longer than it takes a key to come.
func (m *Machine) readUnread() {
	if len(m.unread) == 0 || len(m.keyring.epochs) == 0 {
		return
	}
	if m.unreadTurns != m.keyring.turns {
		m.unreadTurns = m.keyring.turns
		all := m.unread
		m.unread = nil
		for _, u := range all {
			if m.unknownHint(u.path, u.hint()) {
				m.unread = append(m.unread, u)
				continue
			}
			m.del(u.key)
			if u.digest != nil {
				m.readDigest(u.path, *u.digest)
			} else if it := m.unmask(u.path, u.frame, u.lineage); it != nil {
				m.process(it, func() { m.hold(it, u.frame) })
			} else {
				m.badHeader(u.path)
			}
		}
	}
	for _, u := range m.unread {
		if u.since.IsZero() {
			u.since = m.now
		}
		if !u.told && !m.awaitsKeys() && !m.now.Before(u.since.Add(m.joinWait())) {
			u.told = true
			if u.digest != nil {
				m.badDigest(u.path)
			} else {
				m.badHeader(u.path)
			}
		}
	}
}

// unreadAt is when the next one is told of; zero: none is.
func (m *Machine) unreadAt() (t time.Time) {
	if m.meta == nil || m.awaitsKeys() {
		return t
	}
	for _, u := range m.unread {
		if at := u.since.Add(m.joinWait()); !u.told && !u.since.IsZero() && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// badHeader notes a bundle whose header does not open.
func (m *Machine) badHeader(p *path) {
	p.stats[crossverify.Failed]++
	m.savePath(p)
	if m.genesis != nil && len(m.keyring.epochs) > 0 {
		m.relayEvent(p, "header", "", fmt.Sprintf("Relay %s delivered a message whose header does not open: it was altered there, or made by somebody without the group's key. The other paths carry the true one. Nothing for you to do.", p.name()))
	}
}
