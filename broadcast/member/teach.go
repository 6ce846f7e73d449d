package member

import (
	"slices"
	"time"

	"parallax/internal/wire"
)

// Teaching: who began an epoch tells its key to all members it can reach then.
// Members that come into reach later, or come back after longer than relays keep
// anything, are told by any admin's machine: whoever lacks the key can neither
// post nor read who sends, so it cannot ask.

// teaching is what an admin's machine knows of that.
type teaching struct {
	of   uint64             // number of the epoch that told is about
	told map[wire.Seat]bool // or it showed that it has the key
	at   time.Time          // when those are told that were not; zero: nobody lacks it
}

// teach tells the keys of the epochs in force to who may lack them, and to all
// every third of the retention time.
func (m *Machine) teach() {
	x := &m.teaching
	if m.roster == nil || m.state == nil || !m.admin() || m.keyring.inUse == FirstEpoch || !m.mayTell() {
		x.at = time.Time{}
		return
	}
	if x.of != m.keyring.inUse {
		*x = teaching{of: m.keyring.inUse, told: map[wire.Seat]bool{}}
		for _, st := range m.sortedSeats() { // by who began it, or before this opening
			x.told[st.seat] = st.out != nil && m.usable(st)
		}
	}
	var lack []*seatState
	for _, st := range m.sortedSeats() {
		if st.epoch == x.of {
			x.told[st.seat] = true
		}
		if !st.own && !x.told[st.seat] && st.out != nil && m.usable(st) {
			lack = append(lack, st)
		}
	}
	if len(lack) == 0 {
		x.at = time.Time{}
	} else if x.at.IsZero() {
		x.at = m.now.Add(m.dutyWait())
	}
	lacks := !x.at.IsZero() && !m.now.Before(x.at)
	if !lacks && m.now.Before(m.teachAgain()) {
		return
	}
	x.at = time.Time{}
	for _, st := range lack {
		x.told[st.seat] = true
	}
	for i := range m.state.Epochs {
		if l := m.log[m.state.Epochs[i].Operation]; l != nil && !slices.Contains(m.exchanged.news, l) {
			m.exchanged.news = append(m.exchanged.news, l)
		}
	}
	m.meta.Taught = m.now.Unix()
	m.saveMeta()
}

// teachAgain is when this member tells the keys to all again; admins take turns,
// and mostly the first does it.
func (m *Machine) teachAgain() time.Time {
	return time.Unix(m.meta.Taught, 0).Add(m.retention()/3 + m.retention()/40*time.Duration(m.adminsBefore()))
}

// teachAt is when any of that is due; zero: nothing is.
func (m *Machine) teachAt() time.Time {
	if m.roster == nil || m.state == nil || !m.admin() || m.keyring.inUse == FirstEpoch || !m.mayTell() {
		return time.Time{}
	}
	if again := m.teachAgain(); m.teaching.at.IsZero() || again.Before(m.teaching.at) {
		return again
	}
	return m.teaching.at
}
