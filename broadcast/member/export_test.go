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
