package member

import (
	"fmt"
	"slices"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// makeInvite makes an invitation: a grant at each relay and its record on the
// boards. The answer waits for q operators.
func (m *Machine) makeInvite(id uint64, w MakeInvite) {
	if len(m.meta.Admin) == 0 {
		m.answer(id, nil, ErrNotAdmin)
		return
	}
	set(&w.Uses, DefaultUses)
	set(&w.Valid, DefaultValid)
	k := m.keyring
	inv := &Invitation{Group: m.gid, Door: k.door, Secret: keys.NewSecret[keys.RoleInviting](m.draw32()), Channels: k.channels,
		Expires: unixTime(m.now.Add(w.Valid)), Role: RoleMember}
	for _, p := range m.used() {
		inv.Relays = append(inv.Relays, LinkRelay{Key: p.ref.Key, Addrs: p.ref.Addrs})
	}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: w.Uses, PerHour: min(w.Uses, DefaultPerHour), Expires: inv.Expires, Role: RoleMember}
	rec.Sign(k.signing)
	m.addInvite(rec)
	inviteID := InviteID(rec.Key)
	name := fmt.Sprintf("invite/%x", inviteID)
	wanted := map[wire.PostID]*path{}
	for _, p := range m.paths {
		if !p.takesPosts() {
			continue
		}
		admin := ChannelAdmin(k.admin, p.ref.Key)
		g := proto.Grant{PostID: m.drawID(), Posting: inv.InvitePosting(p.ref.Key).Public(), Uses: rec.Uses, PerHour: rec.PerHour, Expires: uint64(rec.Expires.Unix())}
		g.Sign(admin, p.ref.Key, p.channel)
		m.enqueue(p, &postItem{kind: postGrant, id: g.PostID, d: g.Digest(), frame: proto.Encode(g)})
		m.putEntry(p, doorKey, name, 1, rec.Append(nil), k.admin)
		for _, q := range p.queue[len(p.queue)-2:] {
			wanted[q.id] = p
		}
	}
	keeps := func(p *path) bool {
		mine := slices.DeleteFunc(sortedPosts(wanted), func(id wire.PostID) bool { return wanted[id] != p })
		return len(mine) > 0 && !slices.ContainsFunc(mine, func(id wire.PostID) bool { return m.queued(p, id) || m.declined[id] })
	}
	kept := func() int { return m.operators(keeps) }
	pending := func() bool {
		return slices.ContainsFunc(sortedPosts(wanted), func(id wire.PostID) bool { return wanted[id].counts() && m.queued(wanted[id], id) })
	}
	result := func() InviteInfo {
		return InviteInfo{Link: inv.Link(), Uses: rec.Uses, Expires: rec.Expires, Relays: kept()}
	}
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.genesis.Policy.Deadline),
		done: func() (any, error, bool) { return result(), nil, !pending() && m.enough(keeps) },
		late: func() (any, error) {
			if m.enough(keeps) {
				return result(), nil
			}
			return nil, fmt.Errorf("%w: %d of %d needed relays keep the invitation so far; it is sent to the others when they are back", ErrUnreached, kept(), m.needed())
		}})
}

func sortedPosts(ids map[wire.PostID]*path) []wire.PostID {
	var s []wire.PostID
	for id := range ids {
		s = append(s, id)
	}
	slices.SortFunc(s, func(a, b wire.PostID) int { return slices.Compare(a[:], b[:]) })
	return s
}
