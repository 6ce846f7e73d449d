package member

import (
	"bytes"
	"slices"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Invites that ended, at the relays: they admit by an invite's posting key until
// they are told, by a Grant that revokes it. Who ends an invite tells them in the
// same turn; should its posts never leave, other admins do it later. An epoch
// needs none of this: with the posting key all grants end.

// revoking is what this member told the relays of invites that ended.
type revoking struct {
	told map[[16]byte]relayMask // posts are in the outbox, or were
	look bool                   // the roster changed
	at   time.Time              // when what another ended is told; zero: nothing is to be
}

// endGrants tells every relay of the invites that ended, but those that it was
// told of, and adds the posts to posts, if there are any.
func (m *Machine) endGrants(posts map[wire.PostID]*path) {
	for _, inv := range m.endedInvites() {
		told := m.revoking.told[inv.ID]
		for _, p := range m.paths {
			i, named := slices.BinarySearchFunc(inv.Postings, p.ref.Key, func(a Posting, key keys.RelayPublic) int { return bytes.Compare(a.Relay[:], key[:]) })
			if !named || told.has(p.index) || !p.takesPosts() {
				continue
			}
			g := proto.Grant{PostID: m.drawID(), Posting: inv.Postings[i].Key, Uses: inv.Record.Uses, PerHour: inv.Record.PerHour,
				Expires: uint64(inv.Record.Expires.Unix()), Revoke: true}
			g.Sign(ChannelAdmin(m.keyring.owner, p.ref.Key), p.ref.Key, p.channel)
			m.enqueue(p, &postItem{kind: postGrant, id: g.PostID, d: g.Digest(), frame: proto.Encode(g)})
			told |= 1 << p.index
			m.governed = false
			if posts != nil {
				posts[g.PostID] = p
			}
		}
		if told != m.revoking.told[inv.ID] {
			m.revoking.told[inv.ID] = told
			m.put(m.key(keyRevoked, inv.ID[:]), wire.AppendU64(nil, uint64(told)))
		}
	}
	m.revoking.at = time.Time{}
}

// endedInvites are those that a relay may still admit by: ended, not expired, and
// no epoch began since.
func (m *Machine) endedInvites() (list []*Invite) {
	for i := range m.state.Invites {
		inv := &m.state.Invites[i]
		if inv.Revoked && m.now.Before(inv.Record.Expires) && !m.epochSince(inv.Operation) {
			list = append(list, inv)
		}
	}
	return list
}

// epochSince tells whether an epoch that counts was begun by who knew of an
// operation.
func (m *Machine) epochSince(operation wire.Digest) bool {
	v := m.roster.all()
	at, ok := m.roster.index[operation]
	return ok && slices.ContainsFunc(m.roster.lists[opEpoch], func(i int) bool { return m.roster.ops[i].past.has(at) && v.counts(i) })
}

// untold tells whether a relay was not told of an invite that ended.
func (m *Machine) untold() bool {
	return slices.ContainsFunc(m.endedInvites(), func(inv *Invite) bool {
		return slices.ContainsFunc(inv.Postings, func(a Posting) bool {
			p := m.pathOf(a.Relay)
			return p != nil && p.takesPosts() && !m.revoking.told[inv.ID].has(p.index)
		})
	})
}

// stepRevoking does what another left undone, as long as one of the first admins
// is to: should who ended the invite be gone.
func (m *Machine) stepRevoking() {
	r := &m.revoking
	if m.roster == nil || m.starting.underWay() || !r.look && (r.at.IsZero() || m.now.Before(r.at)) {
		return
	}
	r.look = false
	switch {
	case !m.admin() || m.adminsBefore() >= maxGovern || !m.untold():
		r.at = time.Time{}
	case r.at.IsZero():
		r.at = m.now.Add(2 * m.dutyWait())
	case !m.now.Before(r.at):
		m.endGrants(nil)
	}
}

// loadRevoked reads: paths that were told u64.
func (m *Machine) loadRevoked(key, value []byte) error {
	if len(key) != 16 {
		return wire.ErrFormat
	}
	r := wire.NewReader(value)
	m.revoking.told[[16]byte(key)] = relayMask(r.U64())
	return r.Done()
}
