package member

// A relay that was away has first to hear of what happened meanwhile, from
// members who were online without it: so that it hides somebody is told when a
// path has been read to its end, board and log, for the deadline of the policy.

// readToEnd notes that a path may be complete now.
func (m *Machine) readToEnd(p *path) {
	if m.genesis != nil && p.caughtUp && p.listed && p.read.tell.IsZero() {
		p.read.tell = m.now.Add(m.rules().Deadline)
	}
}

// tellHidden tells, once a link, what the paths that are due do not show.
func (m *Machine) tellHidden() {
	for _, p := range m.paths {
		if p.read.tell.IsZero() || p.read.told || m.now.Before(p.read.tell) {
			continue
		}
		p.read.told = true
		m.hiddenOps.look = true
		for _, st := range m.sortedSeats() {
			if st.ann != nil && m.usable(st) {
				m.hides(st)
			}
		}
	}
}

// hides tells which relays do not show a seat that is usable.
func (m *Machine) hides(st *seatState) {
	r := m.report(st)
	shown, missing := m.showing(r.Status)
	if !r.Settled || len(shown) == 0 || st.own {
		return
	}
	m.setHidden(st, st.hidden&^maskOf(shown))
	for _, p := range missing {
		if !st.hidden.has(p.index) && p.read.told && p.read.opened && p.listed && p.caughtUp && m.expected(p, st) {
			m.setHidden(st, st.hidden|1<<p.index)
			m.alarm(alarmKey{hidesSeats, 1 << p.index}, st)
		}
	}
}
