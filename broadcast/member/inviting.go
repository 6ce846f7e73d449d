package member

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// makeInvite makes an invitation: an operation of the roster and a grant at each
// relay. The answer waits for q operators.
func (m *Machine) makeInvite(id uint64, w MakeInvite) {
	if err := m.mayInvite(); err != nil {
		m.answer(id, nil, err)
		return
	}
	set(&w.Uses, DefaultUses)
	set(&w.Valid, DefaultValid)
	set(&w.Role, AsMember)
	role, err := roleOf(w.Role)
	if err == nil && checkInviteRole(role) != nil {
		err = fmt.Errorf("%w: an invitation makes members or readers; who is in is made %s by `parallax member role`", ErrNoSuch, w.Role)
	}
	if err != nil {
		m.answer(id, nil, err)
		return
	}
	inv, rec, op, err := m.newInvite(w.Uses, w.Valid, role)
	if err != nil {
		m.answer(id, nil, err)
		return
	}
	wanted := m.publish(op)
	m.grant(inv, rec, wanted)
	m.openRoom(rec, wanted)
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.rules().Deadline),
		done: func() (any, error, bool) {
			return m.invitation(inv, rec, wanted), nil, !m.awaited(wanted) && m.enough(m.keeps(wanted))
		},
		late: func() (any, error) {
			if m.enough(m.keeps(wanted)) {
				return m.invitation(inv, rec, wanted), nil
			}
			return nil, fmt.Errorf("%w: %d of %d needed relays keep the invitation so far; it is sent to the others when they are back", ErrUnreached, m.operators(m.keeps(wanted)), m.needed())
		}})
}

// mayInvite tells why this member cannot invite, or nil.
func (m *Machine) mayInvite() error {
	if m.state.Policy.Mode == ModeClosed {
		return modeError(ModeClosed)
	}
	return m.mayChange(RoleAdmin)
}

// newInvite draws an invitation and makes the operation that issues it.
func (m *Machine) newInvite(uses uint32, valid time.Duration, role uint8) (*Invitation, *InviteRecord, *logged, error) {
	k := m.keyring
	inv := &Invitation{Group: m.gid, Door: DoorKey(&k.epoch().Key, m.gid), Secret: keys.NewSecret[keys.RoleInviting](m.draw32()), Channels: k.channels,
		Expires: unixTime(m.now.Add(valid)), Role: role, Mode: m.state.Policy.Mode}
	if inv.Mode == ModeApprove {
		id := InviteID(inv.InviteKey().Public())
		inv.Door, inv.Requests = RoomKey(&k.first().Key, m.gid, id), RequestKey(&k.epoch().Key, m.gid, id).Public()
	}
	for _, p := range m.used() {
		inv.Relays = append(inv.Relays, LinkRelay{Key: p.ref.Key, Addrs: p.ref.Addrs})
	}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: uses, PerHour: min(uses, DefaultPerHour), Expires: inv.Expires, Role: role, Mode: inv.Mode}
	rec.Sign(k.signing)
	op, err := m.makeOperation(OpInvite{Record: *rec, Postings: inv.postings()})
	return inv, rec, op, err
}

// grant tells every relay of an invite, and adds the posts to those of its
// operation.
func (m *Machine) grant(inv *Invitation, rec *InviteRecord, posts map[wire.PostID]*path) {
	for _, p := range m.paths {
		if !p.takesPosts() {
			continue
		}
		admin := ChannelAdmin(m.keyring.owner, p.ref.Key)
		g := proto.Grant{PostID: m.drawID(), Posting: inv.InvitePosting(p.ref.Key).Public(), Uses: rec.Uses, PerHour: rec.PerHour, Expires: uint64(rec.Expires.Unix())}
		g.Sign(admin, p.ref.Key, p.channel)
		m.enqueue(p, &postItem{kind: postGrant, id: g.PostID, d: g.Digest(), frame: proto.Encode(g)})
		posts[g.PostID] = p
		m.governed = false
	}
}

// postings are the posting keys of the invite on the relays of its link.
func (i *Invitation) postings() (list []Posting) {
	for _, l := range i.Relays {
		list = append(list, Posting{Relay: l.Key, Key: i.InvitePosting(l.Key).Public()})
	}
	slices.SortFunc(list, func(a, b Posting) int { return bytes.Compare(a.Relay[:], b.Relay[:]) })
	return list
}

func (m *Machine) invitation(inv *Invitation, rec *InviteRecord, posts map[wire.PostID]*path) InviteInfo {
	return InviteInfo{Link: inv.Link(), Mode: modeName(rec.Mode), Role: Role(roleName(rec.Role)), Uses: rec.Uses, Expires: rec.Expires, Relays: m.operators(m.keeps(posts))}
}
