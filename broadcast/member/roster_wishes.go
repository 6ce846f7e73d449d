package member

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// roleOf reads a role in a word.
func roleOf(r Role) (uint8, error) {
	for _, role := range []uint8{RoleReader, RoleMember, RoleAdmin, RoleOwner} {
		if roleName(role) == string(r) {
			return role, nil
		}
	}
	return 0, fmt.Errorf("%w: a role is reader, member, admin or owner, not %q", ErrNoSuch, r)
}

// rosterWish takes the wishes that change the roster, and tells whether w is one.
func (m *Machine) rosterWish(id uint64, w Wish) bool {
	var err error
	switch w := w.(type) {
	case RemoveMember:
		err = m.removeMember(id, w)
	case ApproveMember:
		err = m.approveMember(id, w)
	case RefuseMember:
		err = m.refuseMember(id, w)
	case SetRole:
		err = m.setRole(id, w)
	case LeaveGroup:
		err = m.leaveGroup(id)
	case RevokeInvite:
		err = m.revokeInvite(id, w)
	case SetPolicy:
		err = m.setPolicy(id, w)
	case AddGroupSpare:
		err = m.addGroupSpare(id, w)
	case DropGroupSpare:
		err = m.dropGroupSpare(id, w)
	default:
		return false
	}
	if err != nil {
		m.follow() // what was made before the error stands
		m.answer(id, nil, err)
	}
	return true
}

// change makes own operations one after another: all or, when one is refused, the
// ones before it, which publish hands out all the same.
type change struct {
	m     *Machine
	list  []*logged
	err   error
	open  bool // a new invitation follows in place of those that ended
	inv   *Invitation
	rec   *InviteRecord
	posts map[wire.PostID]*path
	also  func()     // posts what goes with it, once all is published
	ended [][16]byte // invitations, by duty
}

func (c *change) make(body OperationBody) *logged {
	if c.err != nil {
		return nil
	}
	l, err := c.m.makeOperation(body)
	if err != nil {
		c.err = err
		return nil
	}
	c.list = append(c.list, l)
	return l
}

// adoptAll makes every complete admission a signed fact, but that of one seat:
// before invites end, so that who came by them stays.
func (c *change) adoptAll(but wire.Seat) {
	for c.err == nil {
		list := c.m.adopt(func(st *seatState) bool {
			return st.seat != but && c.m.usable(st) && !c.m.standing(st.seat).in
		})
		if len(list) == 0 {
			return
		}
		c.list = append(c.list, list...)
	}
}

// adoptOne makes a seat's complete admission a signed fact, if nobody did.
func (c *change) adoptOne(st *seatState) {
	if c.err == nil && !st.own && c.m.usable(st) && !c.m.standing(st.seat).in {
		c.list = append(c.list, c.m.adopt(func(o *seatState) bool { return o == st })...)
	}
}

// revoke ends invites; a new one takes their place when all is published, since
// its link opens the door of the epoch that is in use by then.
func (c *change) revoke(list [][16]byte) {
	for _, id := range list {
		c.make(OpRevoke{Invite: id})
	}
	c.open = c.err == nil && len(list) > 0 && c.m.mayInvite() == nil
}

// invite makes the invitation that takes the place of others.
func (c *change) invite() {
	inv, rec, l, err := c.m.newInvite(DefaultUses, DefaultValid, RoleMember)
	if err != nil {
		c.err = err
		return
	}
	for id, p := range c.m.publish(l) {
		c.posts[id] = p
	}
	c.inv, c.rec = inv, rec
	c.m.grant(inv, rec, c.posts)
	c.m.openRoom(rec, c.posts)
}

// done hands out what was made, and answers the command when q operators keep it.
func (c *change) done(id uint64, info OperationInfo) error {
	m := c.m
	c.posts = m.publish(c.list...)
	m.endGrants(c.posts)
	if c.also != nil {
		c.also()
	}
	if c.open && c.err == nil {
		c.invite()
	}
	if c.err != nil {
		return c.err
	}
	if c.inv != nil {
		info.What += " Earlier invitations ended; here is a new one."
	}
	info.Epoch = slices.ContainsFunc(c.list, func(l *logged) bool { return l.op.Body.kind() == opEpoch })
	result := func() OperationInfo {
		info.Relays = m.operators(m.keeps(c.posts))
		if c.inv != nil {
			info.Link, info.Expires = c.inv.Link(), c.rec.Expires
		}
		return info
	}
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.rules().Deadline),
		done: func() (any, error, bool) {
			return result(), nil, !m.awaited(c.posts) && m.enough(m.keeps(c.posts))
		},
		late: func() (any, error) {
			if m.enough(m.keeps(c.posts)) {
				return result(), nil
			}
			return result(), fmt.Errorf("%w: %d of %d needed relays have the change so far; it is made, and is sent to the others when they are back", ErrUnreached, m.operators(m.keeps(c.posts)), m.needed())
		}})
	return nil
}

// about describes an operation about a seat.
func (m *Machine) about(l *logged, st *seatState, what string) OperationInfo {
	return OperationInfo{Operation: l.digest.Short(), What: what, Seat: st.seat.String(), Member: m.display(st)}
}

// stillIn finds a member that is not out.
func (m *Machine) stillIn(name string) (*seatState, error) {
	st, err := m.findMember(name)
	if r := m.letIn(name); errors.Is(err, ErrNoSuch) && r != nil {
		st, err = m.seatOf(r.seat), nil
	}
	if err == nil && m.out(st.seat) {
		return nil, fmt.Errorf("%s is not in the group any more, so this %w", m.display(st), ErrNothingToDo)
	}
	return st, err
}

// notSelf finds a member that is not this one.
func (m *Machine) notSelf(name, instead string) (*seatState, error) {
	st, err := m.stillIn(name)
	if err == nil && st.own {
		return nil, fmt.Errorf("%q is you, so this %w: %s", name, ErrNothingToDo, instead)
	}
	return st, err
}

// removeMember removes, ends every invite, for who is removed may know it, and
// begins an epoch.
func (m *Machine) removeMember(id uint64, w RemoveMember) error {
	if err := m.mayChange(RoleAdmin); err != nil {
		return err
	}
	st, err := m.notSelf(w.Member, "leave the group instead")
	if err != nil {
		return err
	}
	name := m.display(st)
	c := &change{m: m}
	c.adoptAll(st.seat)
	l := c.make(OpRemove{Seat: st.seat, Cut: m.cutNow(st)})
	if c.err != nil {
		m.publish(c.list...)
		return c.err
	}
	c.revoke(m.liveInvites())
	if c.err == nil {
		var e *logged
		if e, c.err = m.newEpoch(); c.err == nil {
			c.list = append(c.list, e)
		}
	}
	return c.done(id, m.about(l, st, fmt.Sprintf("%s was removed.", name)))
}

// cutNow is what counts of a seat that is removed now, or as in the role that it had:
// all that came here.
func (m *Machine) cutNow(st *seatState) (c Cut) {
	switch {
	case st.own:
		c.Incarnation, c.Sequence = m.keyring.inc, m.counters.sequence
	case st.ann != nil:
		c.Incarnation = st.ann.Incarnation
		c.Sequence = m.received[source{st.seat, c.Incarnation}].greatest()
	}
	return c
}

// liveInvites lists, ascending, the invites that are neither revoked nor over.
func (m *Machine) liveInvites() (list [][16]byte) {
	for i := range m.state.Invites {
		inv := &m.state.Invites[i]
		if !inv.Revoked && m.now.Before(inv.Record.Expires) && (len(list) == 0 || list[len(list)-1] != inv.ID) {
			list = append(list, inv.ID)
		}
	}
	return list
}

func (m *Machine) approveMember(id uint64, w ApproveMember) error {
	if err := m.mayChange(RoleAdmin); err != nil {
		return err
	}
	st, err := m.findMember(w.Member)
	r, unclear := m.findRequest(w.Member)
	switch {
	case unclear != nil:
		return unclear
	case r != nil && err == nil && !m.standing(st.seat).in && st.seat != r.seat && m.askedLabel(r) != w.Member:
		return fmt.Errorf("%w: %q is seat %s, which asks to be let in, and seat %s, which was here before; name the seat", ErrAmbiguous, w.Member, r.seat.Short(), st.seat.Short())
	case r != nil:
		return m.approveRequest(id, r, w)
	case err != nil:
		return err
	}
	set(&w.Role, AsMember)
	role, err := roleOf(w.Role)
	if err != nil {
		return err
	}
	if m.leftItself(st.seat) {
		return fmt.Errorf("%w: %s left by itself and reads nothing any more; it has to join again", ErrNothingToDo, m.display(st))
	}
	c := &change{m: m}
	l := c.make(OpAdd{Seat: st.seat, Announcement: st.digest, Role: role})
	if c.err != nil {
		return c.err
	}
	return c.done(id, m.about(l, st, fmt.Sprintf("%s is in the group as %s.", m.display(st), w.Role)))
}

func (m *Machine) setRole(id uint64, w SetRole) error {
	if err := m.mayChange(RoleAdmin); err != nil {
		return err
	}
	role, err := roleOf(w.Role)
	if err != nil {
		return err
	}
	st, err := m.stillIn(w.Member)
	if err != nil {
		return err
	}
	c := &change{m: m}
	c.adoptOne(st)
	l := c.make(OpRole{Seat: st.seat, Role: role, Cut: m.cutNow(st)})
	if c.err != nil {
		m.publish(c.list...)
		return c.err
	}
	return c.done(id, m.about(l, st, fmt.Sprintf("%s is %s now.", m.display(st), withArticle(string(w.Role)))))
}

func (m *Machine) revokeInvite(id uint64, w RevokeInvite) error {
	if err := m.mayChange(RoleAdmin); err != nil {
		return err
	}
	var found [][16]byte
	for i := range m.state.Invites {
		inv := &m.state.Invites[i]
		if w.ID != "" && strings.HasPrefix(hex.EncodeToString(inv.ID[:]), strings.ToLower(w.ID)) && !slices.Contains(found, inv.ID) {
			if inv.Revoked {
				return fmt.Errorf("invitation %x was revoked already, so this %w", inv.ID, ErrNothingToDo)
			}
			found = append(found, inv.ID)
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("%w: no invitation is called %q", ErrNoSuch, w.ID)
	case 1:
	default:
		return fmt.Errorf("%w: %d invitations begin with %q", ErrAmbiguous, len(found), w.ID)
	}
	c := &change{m: m}
	c.adoptAll(wire.Seat{})
	l := c.make(OpRevoke{Invite: found[0]})
	if c.err != nil {
		m.publish(c.list...)
		return c.err
	}
	return c.done(id, OperationInfo{Operation: l.digest.Short(), What: fmt.Sprintf("Invitation %x ended. Who came by it stays.", found[0])})
}

func (m *Machine) setPolicy(id uint64, w SetPolicy) error {
	if err := m.mayChange(RoleOwner); err != nil {
		return err
	}
	p := m.state.Policy
	if w.Mode != nil {
		mode, err := ModeNamed(*w.Mode)
		if err != nil {
			return err
		}
		p.Mode = mode
	}
	replace(&p.Quorum, w.Quorum)
	replace(&p.Strict, w.Strict)
	replace(&p.Deadline, w.Deadline)
	replace(&p.Retention, w.Retention)
	replace(&p.Text, w.Policy)
	replace(&p.Carriers, w.Carriers)
	if p == m.state.Policy {
		return fmt.Errorf("that is the policy already, so this %w", ErrNothingToDo)
	}
	g := Genesis{Policy: p, Relays: m.state.Relays}
	if n := g.operators(); int(p.Quorum) > n {
		return fmt.Errorf("a quorum of %d of %d operators: %w", p.Quorum, n, ErrUnreachable)
	}
	rule, err := p.check()
	if err != nil {
		return err
	}
	if rule != nil && !(crossverify.Policy{Operators: g.operatorKeys(), Rule: rule}).Reachable() {
		return ErrUnreachable
	}
	c := &change{m: m}
	live := len(m.liveInvites())
	if p.Mode != m.state.Policy.Mode {
		c.adoptAll(wire.Seat{}) // who came by an invitation stays
	}
	l := c.make(OpPolicy{Policy: p})
	if c.err != nil {
		m.publish(c.list...)
		return c.err
	}
	what := fmt.Sprintf("The policy is now: %s.", describePolicy(&p))
	if live > 0 && p.Mode != m.state.Policy.Mode {
		what += fmt.Sprintf(" %s ended.", plural(live, "invitation"))
	}
	return c.done(id, OperationInfo{Operation: l.digest.Short(), What: what})
}

func replace[T any](v *T, by *T) {
	if by != nil {
		*v = *by
	}
}

// leaveGroup takes this member out: by an operation, if the roster has it.
func (m *Machine) leaveGroup(id uint64) error {
	s := m.standing(m.self)
	switch {
	case m.meta.Superseded:
		return ErrSuperseded
	case m.meta.Restored:
		return ErrRestoring
	case !s.in && !s.gone:
		m.left()
		m.answer(id, OperationInfo{What: fmt.Sprintf("You left %s. No admin had confirmed your seat, so the others are not told.", m.meta.Group), Seat: m.self.String(), Member: m.meta.Name}, nil)
		return nil
	}
	c := &change{m: m}
	info := OperationInfo{What: fmt.Sprintf("You left %s.", m.meta.Group), Seat: m.self.String(), Member: m.meta.Name}
	if s.in {
		l := c.make(OpLeave{})
		switch {
		case errors.Is(c.err, ErrLastOwner) && !m.others():
			c.err = nil // nobody is left behind
		case c.err != nil:
			return c.err
		default:
			info.Operation = l.digest.Short()
			m.publish(c.list...)
		}
	}
	m.leaveAt = m.now.Add(leaveWait)
	m.waiting = append(m.waiting, waiter{id: id, done: func() (any, error, bool) {
		return info, nil, m.meta.Phase == phaseLeft
	}})
	return nil
}

// others tells whether anybody else is in the group.
func (m *Machine) others() bool {
	for _, st := range m.seats {
		if !st.own && m.usable(st) {
			return true
		}
	}
	return len(m.state.Members) > 1
}
