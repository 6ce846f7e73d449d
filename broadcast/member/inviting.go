package member

import (
	"fmt"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
)

// makeInvite makes an invitation: an operation of the roster and a grant at each
// relay. The answer waits for q operators.
func (m *Machine) makeInvite(id uint64, w MakeInvite) {
	if err := m.mayChange(RoleAdmin); err != nil {
		m.answer(id, nil, err)
		return
	}
	if len(m.meta.Admin) == 0 { // the relays would refuse its grant
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
	op, err := m.makeOperation(OpInvite{Record: *rec})
	if err != nil {
		m.answer(id, nil, err)
		return
	}
	wanted := m.publish(op)
	for _, p := range m.paths {
		if !p.takesPosts() {
			continue
		}
		admin := ChannelAdmin(k.admin, p.ref.Key)
		g := proto.Grant{PostID: m.drawID(), Posting: inv.InvitePosting(p.ref.Key).Public(), Uses: rec.Uses, PerHour: rec.PerHour, Expires: uint64(rec.Expires.Unix())}
		g.Sign(admin, p.ref.Key, p.channel)
		m.enqueue(p, &postItem{kind: postGrant, id: g.PostID, d: g.Digest(), frame: proto.Encode(g)})
		wanted[g.PostID] = p
	}
	result := func() InviteInfo {
		n, _, _ := m.keptBy(wanted)
		return InviteInfo{Link: inv.Link(), Uses: rec.Uses, Expires: rec.Expires, Relays: n}
	}
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.rules().Deadline),
		done: func() (any, error, bool) {
			_, _, pending := m.keptBy(wanted)
			return result(), nil, !pending && m.keptEnough(wanted)
		},
		late: func() (any, error) {
			n, _, _ := m.keptBy(wanted)
			if m.keptEnough(wanted) {
				return result(), nil
			}
			return nil, fmt.Errorf("%w: %d of %d needed relays keep the invitation so far; it is sent to the others when they are back", ErrUnreached, n, m.needed())
		}})
}
