package member

import (
	"time"
)

// A member that only reads never turns a ratchet, and its first contacts are never
// confirmed. So it sends, rarely, an envelope with nothing but its view (content
// kind 7; docs/protocol.md section 6.1).

// ackPerMember is by how much each member makes these envelopes rarer: a group of
// 1,000 sees one of each a week.
const ackPerMember = 10 * time.Minute

// ackEvery is how long this member says nothing before it sends one.
func (m *Machine) ackEvery() time.Duration {
	return max(m.cfg.Limits.AckEvery, time.Duration(len(m.recipients().seats))*ackPerMember)
}

// nextAck is when one is due: only after others have said more than that.
func (m *Machine) nextAck() time.Time {
	if m.counters.heard == 0 || !m.mayAsk() || !m.reading() {
		return time.Time{}
	}
	if !m.ackAt.IsZero() {
		return m.ackAt
	}
	return time.Unix(int64(m.counters.spoke), 0).Add(m.ackEvery())
}

// runAcks sends one when it is due, at another moment by every member.
func (m *Machine) runAcks() {
	at := m.nextAck()
	switch {
	case at.IsZero() || m.now.Before(at):
	case m.ackAt.IsZero():
		m.ackAt = m.now.Add(m.jitter(m.ackEvery() / 2))
	default:
		m.sendBundle(KindAck, nil)
	}
}

// heardOf counts what others said since this member last did.
func (m *Machine) heardOf(k Kind) {
	if k == KindAck {
		return
	}
	if m.counters.heard++; m.counters.spoke == 0 {
		m.counters.spoke = uint64(m.now.Unix())
	}
}

// spoke notes an envelope of this member.
func (m *Machine) spoke() {
	m.counters.spoke, m.counters.heard, m.ackAt = uint64(m.now.Unix()), 0, time.Time{}
}
