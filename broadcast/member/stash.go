package member

import (
	"fmt"
	"slices"
	"time"

	"parallax/broadcast/proto"
	"parallax/crossverify"
)

// Board entries that no key at hand opens wait for one: a newcomer reads the
// boards before the welcome of the path that has it, and who begins an epoch
// writes under its key before all have it.

// stash is what waits of one path. It is not stored: the board is read again.
type stash struct {
	entries []proto.BoardEntry
	turns   int       // of the keyring that they were tried with
	until   time.Time // when they are given up; zero: not by time
	missed  bool      // some were given up since the board was read
}

// putAside keeps entries that did not open with the keys of these turns. What was
// there before may have been tried with fewer.
func (m *Machine) putAside(p *path, entries []proto.BoardEntry, turns int) {
	s := &p.stash
	if len(entries) == 0 {
		return
	}
	if len(s.entries) == 0 {
		s.until = m.now.Add(m.joinWait())
	}
	if len(s.entries) == 0 || turns < s.turns {
		s.turns = turns
	}
	s.entries = append(s.entries, entries...)
	if len(s.entries) > 2*maxBoardEntries {
		*s, p.listed, p.taken = stash{}, false, false
		m.pathFailed(p, "stash", fmt.Sprintf("relay %s writes its board over and over", p.label()))
		return
	}
	m.savePath(p)
}

// unstash tries what waits with keys that came since, and gives up what waits for
// too long: a relay may have made it up.
func (m *Machine) unstash() {
	if m.ledger == nil || len(m.keyring.epochs) == 0 {
		return
	}
	for _, p := range m.paths {
		s := &p.stash
		if s.turns != m.keyring.turns {
			if s.missed && p.read.opened && p.listed {
				s.missed, p.listed, p.taken = false, false, false
				m.wantBoard(p)
			}
			items, until := s.entries, s.until
			s.entries, s.turns = nil, m.keyring.turns
			if len(items) > 0 {
				m.readBoard(p, items)
				m.absences(p)
				s.until = until
				m.savePath(p)
			}
		}
	}
	for _, p := range m.paths {
		s := &p.stash
		if len(s.entries) > 0 && m.isMember() && !m.out(m.self) && !m.now.Before(s.until) {
			names := m.namesOn(p)
			made := slices.DeleteFunc(s.entries, func(e proto.BoardEntry) bool { return m.ofEndedEpoch(p, e, names) })
			s.entries, s.missed = nil, true
			if m.meta.Restored {
				made = nil // the newer keys are asked for
			}
			p.stats[crossverify.Failed] += uint64(len(made))
			m.savePath(p)
			if len(made) > 0 {
				m.relayEvent(p, "sealed", "", fmt.Sprintf("Relay %s shows a board entry that no key of this group opens. It is ignored.", p.name()))
			}
		}
	}
	for _, p := range m.paths {
		if p.opened != nil && p.listed && !m.now.Before(p.openedAt.Add(2*m.joinWait())) && len(p.stash.entries) == 0 {
			p.opened = nil
		}
	}
}

// unstashAt is when something is given up next; zero: nothing is. Who is out gets
// no more keys.
func (m *Machine) unstashAt() (t time.Time) {
	if !m.isMember() || m.out(m.self) {
		return t
	}
	for _, p := range m.paths {
		if at := p.stash.until; len(p.stash.entries) > 0 && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}
