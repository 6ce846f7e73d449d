package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/crossverify"
)

func unixSeconds(s int64) time.Time { return time.Unix(s, 0).UTC() }

// status answers GetStatus.
func (m *Machine) status() Status {
	s := Status{GroupInfo: m.info(), Ready: m.isMember(), Joining: m.meta.Phase == phaseJoining, Asking: m.askingInfo(), Left: m.gone(), Evidence: len(m.evidence), Missing: m.toldOf(), Events: m.counters.event, Acked: m.acked[""], Messages: uint64(len(m.recent))}
	if m.genesis != nil {
		s.Strict, s.Quorum, s.Counted = m.rules().Strict, m.needed(), m.operatorsLeft(m.policy())
	}
	s.Ordinal, s.Spares = m.meta.Lists.Ordinal, m.spares()
	for _, p := range m.paths {
		if p.standing == vacant {
			continue
		}
		r := RelayStatus{
			Label: p.label(), Key: p.ref.Key, Operator: p.ref.OperatorName, Addrs: p.ref.Addrs, Standing: m.standingOf(p), Connected: p.read.opened, CaughtUp: p.caughtUp, Ended: p.ended,
			SetAside: p.aside, Position: p.position, Outbox: len(p.queue), Problem: p.problem,
			Matched: p.stats[crossverify.Matched], Dissented: p.stats[crossverify.Dissented],
			Silent: p.stats[crossverify.Silent], Failed: p.stats[crossverify.Failed],
		}
		r.Done, r.Total = p.waited()
		if at := m.meta.Relays[p.index].Missing; at != 0 && p.standing == inUse {
			r.Gone = unixSeconds(at)
		}
		if p.standing == retired || p.standing == closed {
			s.Former = append(s.Former, r)
		} else {
			s.Relays = append(s.Relays, r)
		}
		s.Outbox += len(p.queue)
	}
	if m.ledger == nil {
		return s
	}
	for _, st := range m.sortedSeats() {
		if st.ann == nil || m.out(st.seat) {
			continue
		}
		r := m.report(st)
		ms := MemberStatus{Seat: st.seat.String(), Name: st.ann.Name, Label: m.display(st), Verdict: strings.ToLower(r.Verdict.String()), Usable: m.usable(st),
			Session: m.sender(st) != nil, Own: st.own, Founder: m.isFounder(st), Role: m.roleWord(st), Operators: r.Operators, Marks: m.marks(r.Status)}
		ms.Two = m.twoSuccessors(st)
		ms.Missing = m.holes(source{st.seat, st.ann.Incarnation})
		m.showConfirmed(&ms, st)
		if st.verified() {
			s.Verified++
		}
		if r.Verdict == crossverify.Contested {
			s.Disputes++
		}
		s.Members = append(s.Members, ms)
	}
	slices.SortStableFunc(s.Members, func(a, b MemberStatus) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// operatorsLeft is how many operators count by a policy, those of relays that are set
// aside left out.
func (m *Machine) operatorsLeft(p crossverify.Policy) int {
	p.Outside = append(slices.Clone(p.Outside), make([]bool, len(p.Operators)-len(p.Outside))...)
	for _, path := range m.paths[:min(len(m.paths), len(p.Outside))] {
		p.Outside[path.index] = p.Outside[path.index] || path.aside
	}
	return p.Distinct()
}

// pathsOf answers GetPaths.
func (m *Machine) pathsOf(w GetPaths) (Paths, error) {
	set(&w.Limit, 20)
	var v Paths
	list := m.recent
	if w.Message != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(msg *message) bool { return !strings.HasPrefix(msg.d.Short(), strings.ToLower(w.Message)) })
		switch {
		case len(list) == 0:
			return v, fmt.Errorf("%w: message %s is not among the %d newest", ErrNoSuch, w.Message, len(m.recent))
		case len(list) > 1:
			return v, fmt.Errorf("%w: %s begins %d messages", ErrAmbiguous, w.Message, len(list))
		}
	}
	if len(list) > w.Limit {
		list = list[len(list)-w.Limit:]
	}
	var seen relayMask
	for _, msg := range list {
		seen |= m.meta.Lists.counted(msg.era)
	}
	for _, p := range m.paths {
		if p.standing == inUse || seen.has(p.index) {
			v.Relays = append(v.Relays, p.label())
			if p.aside {
				v.Aside = append(v.Aside, p.label())
			}
		}
	}
	v.Times = m.pathTimes()
	of := map[int]int{} // by era
	for _, msg := range list {
		if _, known := of[msg.era]; !known {
			of[msg.era] = m.operatorsLeft(m.policyOf(m.meta.Lists.eraOf(msg.era)))
		}
		var digests []string
		for _, p := range m.inSet(msg.digests) {
			digests = append(digests, p.label())
		}
		r := m.ledger.Report(msg.key.subject())
		v.Messages = append(v.Messages, PathsRow{ID: msg.d.Short(), Member: m.display(m.seatOf(msg.key.seat)), Text: preview(msg.text),
			Verdict: strings.ToLower(r.Verdict.String()), Operators: r.Operators, Of: of[msg.era], Marks: m.messageMarks(msg), Digests: digests})
	}
	return v, nil
}

// findMember finds a seat by name, seat, or a unique beginning of the seat.
func (m *Machine) findMember(name string) (*seatState, error) {
	var found []*seatState
	for _, st := range m.sortedSeats() {
		if st.ann == nil {
			continue
		}
		if st.ann.Name == name || m.display(st) == name || (len(name) >= 4 && strings.HasPrefix(st.seat.String(), strings.ToLower(name))) {
			found = append(found, st)
		}
	}
	// Who is in the group carries the name, before who was in it once.
	if in := slices.DeleteFunc(slices.Clone(found), func(st *seatState) bool { return m.out(st.seat) }); len(in) > 0 {
		found = in
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: no member is called %q", ErrNoSuch, name)
	case 1:
		return found[0], nil
	}
	var seats []string
	for _, st := range found {
		seats = append(seats, st.seat.Short())
	}
	return nil, fmt.Errorf("%w: %q is the name of the seats %s; name the seat", ErrAmbiguous, name, strings.Join(seats, ", "))
}

// evidenceOf answers GetEvidence.
func (m *Machine) evidenceOf(w GetEvidence) ([]EvidenceInfo, error) {
	list := []EvidenceInfo{}
	for _, r := range m.evidence {
		p := m.paths[r.Path]
		info := EvidenceInfo{ID: r.ID, Relay: p.label(), Operator: p.ref.OperatorName, Sentence: r.Sentence, Time: r.Time}
		if w.ID != "" {
			if !strings.HasPrefix(r.ID, strings.ToLower(w.ID)) {
				continue
			}
			info.Text = r.Text
		}
		list = append(list, info)
	}
	if w.ID != "" && len(list) == 0 {
		return nil, fmt.Errorf("%w: there is no evidence %s", ErrNoSuch, w.ID)
	}
	return list, nil
}
