package member

import (
	"encoding/hex"
	"slices"
	"strings"

	"parallax/internal/wire"
)

// rosterInfo answers GetRoster.
func (m *Machine) rosterInfo(w GetRoster) RosterInfo {
	s := m.state
	digest := m.roster.Digest()
	v := RosterInfo{Digest: hex.EncodeToString(digest[:]), Operations: m.roster.Len(), Waiting: len(m.roster.order), Headless: s.Headless,
		Relays: len(s.Relays), Ordinal: s.Ordinal, Epochs: len(s.Epochs),
		Policy:  RosterPolicy{Quorum: m.needed(), Strict: s.Policy.Strict, Mode: modeName(s.Policy.Mode), Deadline: s.Policy.Deadline, Retention: s.Policy.Retention, Carriers: int(s.Policy.Carriers)},
		Members: []RosterMember{}, Removed: []RosterMember{}, Pending: []RosterMember{}, Asking: []RosterMember{},
		Invites: []RosterInvite{}, Disputes: []RosterDispute{}, Void: []RosterVoidLine{}}
	v.Role = m.roleWord(m.seats[m.self])
	for i := range s.Members {
		x := &s.Members[i]
		r := m.rosterMember(x.Seat)
		r.Role, r.Since, r.Suspended = Role(roleName(x.Role)), x.Since, x.Suspended
		if x.By != x.Seat {
			r.By = m.called(x.By)
		}
		v.Members = append(v.Members, r)
	}
	for i := range s.Removed {
		x := &s.Removed[i]
		r := m.rosterMember(x.Seat)
		r.Left = x.Left
		if by := m.removedBy(x.Seat); by != (wire.Seat{}) {
			r.By = m.called(by)
		}
		v.Removed = append(v.Removed, r)
	}
	for i := range s.Pending {
		x := &s.Pending[i]
		r := m.rosterMember(x.Seat)
		r.Role, r.By = Role(roleName(x.Role)), m.called(x.By)
		v.Pending = append(v.Pending, r)
	}
	for _, st := range m.sortedSeats() {
		if s := m.standing(st.seat); st.ann != nil && !s.in && !s.gone && s.pending < 0 {
			r := m.rosterMember(st.seat)
			r.Role = m.roleWord(st)
			v.Asking = append(v.Asking, r)
		}
	}
	for i := range s.Invites {
		x := &s.Invites[i]
		v.Invites = append(v.Invites, RosterInvite{ID: hex.EncodeToString(x.ID[:]), By: m.called(x.By), Role: Role(roleName(x.Record.Role)),
			Mode: modeName(x.Record.Mode), Uses: x.Record.Uses, Expires: x.Record.Expires, Revoked: x.Revoked, Live: !x.Revoked && m.now.Before(x.Record.Expires)})
	}
	for i := range s.Disputes {
		d := &s.Disputes[i]
		r := RosterDispute{Kind: [...]string{"", "fork", "draw", "lists"}[d.Kind], Settled: d.Settled, Text: m.disputeText(d)}
		for _, seat := range d.Seats {
			r.Members = append(r.Members, m.called(seat))
		}
		for _, op := range d.Operations {
			r.Operations = append(r.Operations, op.Short())
		}
		v.Disputes = append(v.Disputes, r)
	}
	for i := range s.Void {
		x := &s.Void[i]
		v.Void = append(v.Void, RosterVoidLine{Operation: x.Operation.Short(), By: m.called(x.Author), Cause: x.Cause.String(),
			What: describe(m.roster.Operation(x.Operation).Body, m.called)})
	}
	for _, list := range [][]RosterMember{v.Members, v.Removed, v.Pending, v.Asking} {
		slices.SortStableFunc(list, func(a, b RosterMember) int { return strings.Compare(a.Name, b.Name) })
	}
	v.Hidden = m.hiddenInfo()
	if w.Draw {
		v.Drawing = m.roster.Draw(m.called)
	}
	return v
}

// roleWord is a seat's role in a word; empty: it has none.
func (m *Machine) roleWord(st *seatState) Role {
	if role := m.role(st); role != 0 {
		return Role(roleName(role))
	}
	return ""
}

// rosterMember is what is known of a seat beside the roster.
func (m *Machine) rosterMember(seat wire.Seat) RosterMember {
	r := RosterMember{Seat: seat.String(), Name: "seat " + seat.Short(), Label: m.called(seat), Own: seat == m.self}
	if st := m.seats[seat]; st != nil && st.ann != nil {
		r.Name, r.Usable = st.ann.Name, m.usable(st)
	}
	return r
}
