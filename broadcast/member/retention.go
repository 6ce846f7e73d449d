package member

import (
	"time"
)

// sweepEvery is how often skipped keys are looked through while there are any.
const sweepEvery = time.Hour

// countSkipped brings the membership's count of skipped keys up to date after a
// seat's sessions changed, and keeps it within Limits.Skipped: the session that
// has most of them loses its oldest, so that who forces many pays with its own.
func (m *Machine) countSkipped(st *seatState) {
	for _, s := range st.session.list {
		m.skipped += s.Skipped() - s.counted
		s.counted = s.Skipped()
	}
	if m.skipped > 0 && m.sweepAt.IsZero() {
		m.sweepAt = m.now.Add(sweepEvery)
	}
	for m.skipped > m.cfg.Limits.Skipped {
		of, most := m.mostSkipped()
		dropped := most.DropOldest(min(most.Skipped(), m.skipped-m.cfg.Limits.Skipped))
		most.counted -= dropped
		m.skipped -= dropped
		if of != st {
			m.writeSessions(of)
		}
	}
}

func (m *Machine) mostSkipped() (of *seatState, most *session) {
	for _, st := range m.sortedSeats() {
		for _, s := range st.session.list {
			if most == nil || s.Skipped() > most.Skipped() {
				of, most = st, s
			}
		}
	}
	return of, most
}

// sweep drops the skipped keys whose retention time is over: their messages are
// not kept by the relays either (Double Ratchet, section 8.4).
func (m *Machine) sweep() {
	if m.sweepAt.IsZero() || m.now.Before(m.sweepAt) {
		return
	}
	before := m.now.Add(-m.retention())
	for _, st := range m.sortedSeats() {
		dropped := 0
		for _, s := range st.session.list {
			if s.Skipped() > 0 {
				dropped += s.DropSkipped(before)
			}
		}
		if dropped > 0 {
			m.saveSessions(st)
		}
	}
	m.sweepAt = time.Time{}
	if m.skipped > 0 {
		m.sweepAt = m.now.Add(sweepEvery)
	}
}
