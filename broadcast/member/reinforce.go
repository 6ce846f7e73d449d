package member

import (
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// Post-quantum after the start in the membership (docs/protocol.md section 5.7,
// awaiting independent review): in groups up to Limits.Reinforced members, each
// side encapsulates to the other's announced ML-KEM key once for each of its
// announcements, and at most every Limits.ReinforceEvery. The ciphertext rides in
// front of a slot that is due anyway.

// maxControls bounds the control slots of one bundle: 0.9 ms of encapsulation
// and 9 kB a relay.
const maxControls = 8

// reinforces tells whether this member makes control slots in this group.
func (m *Machine) reinforces(members int) bool { return members <= m.cfg.Limits.Reinforced }

// control tells whether the slot for a seat is a control slot now, and prepares
// what it carries.
func (m *Machine) control(st *seatState, s *session) bool {
	pending, sealed := s.Reinforcing()
	if pending && !sealed {
		return true // each generation carries it again until it is mixed
	}
	if !s.Confirmed() || m.expired(st) || s.kem == st.ann.KEMID || m.now.Sub(time.Unix(s.reinforced, 0)) < m.cfg.Limits.ReinforceEvery {
		return false
	}
	prekeys := &ratchet.Prekeys{KEMID: st.ann.KEMID, KEM: st.ann.KEM}
	if s.Reinforce(m.entropy, prekeys) != nil {
		return false // one is under way, or the key is none: another time
	}
	s.kem, s.reinforced = st.ann.KEMID, m.now.Unix()
	return true
}

// openControl opens a control slot on one session.
func (m *Machine) openControl(s *session, chain *ratchet.SendChain, slot []byte, d wire.Digest, drained bool) (keys.ContentKey, error) {
	own := make([]ratchet.PrekeysPrivate, len(m.keyring.prekeys))
	for i, o := range m.keyring.prekeys {
		own[i] = o.PrekeysPrivate
	}
	open := s.OpenControl
	if drained {
		open = s.OpenControlDrained
	}
	return open(m.now, m.entropy, chain, own, slot, d)
}

var _ = [1]struct{}{}[broadcast.ControlSize-ratchet.ControlSlotSize] // they are one size
