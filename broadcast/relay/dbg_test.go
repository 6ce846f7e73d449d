package relay
func (m *machine) Dbg() (uint64, bool, uint64, uint64, any) { return m.st.meta.kept, m.trimming, m.st.meta.first, m.durable.head.N, m.trimAfter }
