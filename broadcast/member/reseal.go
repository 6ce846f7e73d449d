package member

import (
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/wire"
)

// What newcomers need stays on the boards under a key that members hold. Every
// member seals its own entries anew (sealAgain); for who is away or out, an admin
// carries them: operations on its own pages, announcements under carried/
// (docs/protocol.md section 14, "Rotating").

// resealEvery is how often an admin looks for it, in parts of the retention time;
// carryWithin how long before a key goes; maxCarryRank how many admins wait for
// each other.
const (
	resealEvery  = 32
	carryWithin  = 4
	maxCarryRank = 4
)

// carriedName is the name of the entry in which a seat carries another's announcement.
func carriedName(by, of wire.Seat) string { return fmt.Sprintf("carried/%s/%x", by, of[:8]) }

// staying are the generations of epochs whose keys do not go within a time.
func (m *Machine) staying(within time.Duration) map[uint64]bool {
	soon := m.now.Add(within).Unix()
	stays := map[uint64]bool{generation(FirstEpoch): true}
	for _, e := range m.keyring.epochs {
		if e.until == 0 || e.until > soon {
			stays[generation(e.Number)] = true
		}
	}
	return stays
}

// resealDue tells whether this member looks after the boards.
func (m *Machine) resealDue() bool {
	return m.roster != nil && m.state != nil && m.admin() && m.keyring.inUse != FirstEpoch && !m.starting.underWay() && m.reading()
}

// reseal carries what newcomers could not read much longer, in an admin's turn.
func (m *Machine) reseal() {
	switch {
	case !m.resealDue():
		m.resealAt = time.Time{}
		return
	case m.resealAt.IsZero():
		m.resealAt = m.now.Add(m.dutyWait())
		return
	case m.now.Before(m.resealAt):
		return
	}
	m.resealAt = m.now.Add(m.retention() / resealEvery)
	rank := time.Duration(min(m.adminsBefore(), maxCarryRank))
	m.carryGoing(m.staying(m.retention()/carryWithin - rank*m.retention()/resealEvery))
	m.carryAway(rank)
}

// carryGoing takes on own pages the operations of others whose pages are under
// keys that go, or went. Whoever is here seals its own anew before that.
func (m *Machine) carryGoing(stays map[uint64]bool) {
	going := map[wire.Seat]bool{}
	var list []*logged
	for _, l := range m.sortedLog() {
		if l.place != 0 || !m.roster.Has(l.digest) || l.sealed > 0 && stays[l.sealed-1] {
			continue
		}
		seat := l.op.Seat()
		if _, known := going[seat]; !known {
			going[seat] = m.pagesGo(seat, stays)
		}
		if going[seat] {
			list = append(list, l)
		}
	}
	m.carry(list...)
}

// pagesGo tells whether the boards show a page of a seat that is not under a key
// which stays.
func (m *Machine) pagesGo(seat wire.Seat, stays map[uint64]bool) bool {
	for page := 0; ; page++ {
		version := uint64(0)
		for _, p := range m.used() {
			version = max(version, m.shownVersion(p, pageName(seat, page)))
		}
		if version == 0 || !stays[generation(version)] {
			return version != 0
		}
	}
}

// carryAway carries the announcements of members who have not announced themselves
// for so long that they are away, once in each generation.
func (m *Machine) carryAway(rank time.Duration) {
	late := m.now.Add(m.offered() - 2*m.cfg.Limits.PrekeyLife - rank*m.retention()/resealEvery)
	now := generation(m.keyring.inUse)
	for _, st := range m.sortedSeats() {
		if st.own || !m.usable(st) || !m.standing(st.seat).in || st.ann.Expires.After(late) {
			continue
		}
		there := func(p *path) bool { // whoever carries it
			return slices.ContainsFunc(m.state.Members, func(x Member) bool {
				version := m.shownVersion(p, carriedName(x.Seat, st.seat))
				return privilege(x.Role) >= privilege(RoleAdmin) && generation(version) >= now && operationsOf(version) >= operationsOf(st.ann.Version)
			})
		}
		if !m.enough(there) {
			for _, p := range m.paths {
				m.putCarried(p, st)
			}
		}
	}
}

// putCarried puts the newest announcement of another seat on a board: whoever is
// away still stands there, by its own signature.
func (m *Machine) putCarried(p *path, st *seatState) {
	name, version := carriedName(m.self, st.seat), generation(m.keyring.inUse)<<32|operationsOf(st.ann.Version)
	if !p.keepsBoard() || m.shownVersion(p, name) >= version || m.putting(p, name, version) {
		return
	}
	m.putEntry(p, epochKey, name, version, st.ann.Append(nil), m.keyring.owner)
}

// putting tells whether an own entry of that version, or a later one, waits for
// its receipt on a path.
func (m *Machine) putting(p *path, name string, version uint64) bool {
	masked := m.entryName(p, name)
	return slices.ContainsFunc(p.queue, func(q *postItem) bool {
		put, ok := boardWrite(q)
		return ok && put.Name == masked && put.Version >= version
	})
}

// sawCarried takes an announcement that another seat carries.
func (m *Machine) sawCarried(p *path, value []byte) {
	a, err := ParseAnnouncement(value)
	if err != nil {
		m.invalid(p, "an announcement")
		return
	}
	m.sawAnnouncement(p, a.Seat, value)
}

// sealEvidence puts own entries of evidence anew under the epoch in use whose key
// goes before the next look.
func (m *Machine) sealEvidence(stays map[uint64]bool) {
	for _, rec := range m.evidence {
		if !rec.Put || len(rec.Text) > broadcast.MaxEntryValue {
			continue
		}
		name := evidenceEntry(m.self, m.paths[rec.Path])
		for _, p := range m.paths {
			if p.keepsBoard() && !stays[generation(m.shownVersion(p, name))] && !m.putting(p, name, m.pageVersion(1)) {
				m.putEntry(p, epochKey, name, m.pageVersion(1), []byte(rec.Text), m.keyring.owner)
			}
		}
	}
}
