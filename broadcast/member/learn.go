package member

import (
	"time"

	"parallax/crossverify"
)

// A path's deadline is learned from how much later than the first path it brings
// messages (docs/protocol.md section 9.1). It is learned anew in each opening: a
// device that was off, or reads through another network, is as slow as it is now.

// learn takes the delay of a copy that matched, if the path had been read to its
// end before the message was first known: what is caught up on says nothing of
// how long the path takes.
func (m *Machine) learn(p *path, msg *message) {
	if msg.known.IsZero() || !p.caughtUp || p.caughtAt.After(msg.known) {
		return
	}
	p.delays.Observe(m.now.Sub(msg.known))
	m.ledger.SetDeadline(crossverify.Path(p.index), m.deadlineOf(p))
}

// pathTimes is how long each relay in use takes, for people.
func (m *Machine) pathTimes() []PathTime {
	list := []PathTime{}
	for _, p := range m.used() {
		n := p.delays.Count()
		list = append(list, PathTime{Relay: p.label(), Delays: n, Usual: p.delays.Usual().Milliseconds(),
			Deadline: int(m.deadlineOf(p) / time.Second), Learned: n >= crossverify.MinDelays})
	}
	return list
}

// deadlineOf is how long a path may lack a message before it is silent: its own
// deadline in whole seconds, so that it changes rarely, or the policy's.
func (m *Machine) deadlineOf(p *path) time.Duration {
	d := p.delays.Deadline(m.policy().Deadline)
	return (d + time.Second - 1).Truncate(time.Second)
}
