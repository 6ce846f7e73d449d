package member

import (
	"fmt"
	"time"

	"parallax/internal/wire"
)

// leaveWait is how long a member that leaves waits for the relays to keep its
// operation. Default: 30 s.
const leaveWait = 30 * time.Second

// stepLeaving ends the membership of who left, when q operators have everything,
// or after a while. After a restart it goes on from what the roster says.
func (m *Machine) stepLeaving() {
	if !m.isMember() || m.roster == nil {
		return
	}
	if m.leaveAt.IsZero() {
		if !m.leftItself(m.self) {
			return
		}
		m.leaveAt = m.now.Add(leaveWait)
	}
	sent := m.enough(func(p *path) bool { return len(p.queue) == 0 }) && len(m.exchanged.news) == 0
	if sent || !m.now.Before(m.leaveAt) {
		m.left()
	}
}

// leftItself tells whether a seat is out by its own operation.
func (m *Machine) leftItself(seat wire.Seat) bool {
	s := m.standing(seat)
	if !s.gone {
		return false
	}
	for _, i := range s.ends {
		if m.roster.ops[i].kind == opLeave {
			return true
		}
	}
	return false
}

// left ends the membership: nothing is read or sent any more. What there is stays.
func (m *Machine) left() {
	m.meta.Phase = phaseLeft
	m.leaveAt = time.Time{}
	m.saveMeta()
	for _, p := range m.paths {
		for _, q := range p.queue {
			m.forgetPost(p, q)
		}
		p.queue = nil
	}
	m.exchange, m.exchanged.news = nil, nil
	m.refuseAll(fmt.Errorf("%w: you left it", ErrOut))
}

// refuseAll answers the texts that wait for sessions.
func (m *Machine) refuseAll(err error) {
	for _, t := range m.starting.texts {
		m.answer(t.id, nil, err)
	}
	m.starting.texts = nil
}

// mute tells why this member does not speak in the group, or nil.
func (m *Machine) mute() error {
	switch s := m.standing(m.self); {
	case s.gone:
		return ErrOut
	case s.pending >= 0:
		return fmt.Errorf("%w: whoever let you in was removed; an admin has to approve you", ErrOut)
	case m.role(m.seats[m.self]) == RoleReader:
		return ErrReader
	}
	return nil
}

// silent tells whether this member sends nothing at all: it is out.
func (m *Machine) silent() bool {
	s := m.standing(m.self)
	return s.gone || s.pending >= 0
}
