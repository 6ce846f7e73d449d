package member

// RootMixes counts, for each other seat's name, the root mixes of the session
// that sends to it.
func (m *Machine) RootMixes() map[string]uint8 {
	mixes := map[string]uint8{}
	for _, st := range m.seats {
		if s := m.sender(st); s != nil {
			mixes[st.ann.Name] = s.Mixes()
		}
	}
	return mixes
}

// Decide puts a decision on a request on the boards, admin or not.
func (m *Machine) Decide(seat string, admitted bool, reason string) {
	for _, r := range m.sortedAsked() {
		if r.seat.String() == seat {
			m.decideOn(r, admitted, reason, nil)
		}
	}
	m.settle()
}
