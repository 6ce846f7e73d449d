package member

import (
	"fmt"

	"parallax/internal/wire"
)

// mayChange tells why this member cannot make operations of a role now, or nil.
func (m *Machine) mayChange(role uint8) error {
	s := m.standing(m.self)
	switch {
	case m.meta.Superseded:
		return ErrSuperseded
	case m.meta.Restored:
		return ErrRestoring
	case s.gone:
		return ErrOut
	case role == RoleOwner && (!s.in || s.role != RoleOwner):
		return ErrNotOwner
	case privilege(role) >= privilege(RoleAdmin) && (!s.in || privilege(s.role) < privilege(role)):
		return ErrNotAdmin
	case privilege(role) >= privilege(RoleAdmin) && m.roster.all().suspended(m.self):
		return fmt.Errorf("%w: two operations of yours stand against each other; an owner has to give you a role again", ErrNotEntitled)
	}
	return nil
}

// makeOperation makes the own next operation and takes it: durable with the turn,
// so that no two of one number are ever signed. publish hands it out.
func (m *Machine) makeOperation(body OperationBody) (*logged, error) {
	op := m.roster.Next(m.keyring.signing.Public(), unixTime(m.now), body)
	if err := m.roster.Check(op); err != nil {
		return nil, err
	}
	op.Sign(m.keyring.signing)
	m.author = true
	l, err := m.acceptOperation(op)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// publish puts own operations on the boards and follows what they change. It
// returns the posts.
func (m *Machine) publish(list ...*logged) map[wire.PostID]*path {
	posts := m.carry(list...)
	m.follow()
	m.tell(list...)
	return posts
}
