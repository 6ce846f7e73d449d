package member

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/internal/wire"
	"parallax/ratchet"
)

// Catching up after a long absence (docs/protocol.md section 14): how far it is,
// and what keeps it bounded. A path that is far ahead of the others, as one whose
// beginning was trimmed, would make sessions skip more keys than they keep. Each
// such slot costs a walk of its chain, so the first one stops that path's mailbox:
// nothing is acknowledged there until the others have come so far.

// catchUpFrom is from how many waiting entries on progress is told, and how many
// are between two hints.
const catchUpFrom = 256

// tellProgress tells, now and then, how much of what waited was read.
func (m *Machine) tellProgress(p *path) {
	r := &p.read
	if r.target < r.from+catchUpFrom || p.position != r.target && (p.position-r.from)%catchUpFrom != 0 || p.position > r.target {
		return
	}
	var done, total uint64
	for _, o := range m.paths {
		if r := &o.read; r.opened && r.target >= r.from+catchUpFrom {
			done += min(o.position, r.target) - r.from
			total += r.target - r.from
		}
	}
	m.hint(Event{Kind: EventProgress, Relay: p.label(), Done: int(done), Total: int(total), Text: fmt.Sprintf("caught up with %d of %d entries", done, total)})
}

// waited is how much of what waited at the relay was read, while it is not read to
// its end; zeros: nothing waited, or all of it is here.
func (p *path) waited() (done, total uint64) {
	r := &p.read
	if !r.opened || p.caughtUp || r.target <= r.from || p.position < r.from {
		return 0, 0
	}
	return min(p.position, r.target) - r.from, r.target - r.from
}

// stall stops a path's mailbox for a seat whose slots would skip too many keys.
func (m *Machine) stall(p *path, seat wire.Seat) {
	if p.read.stalls == nil {
		p.read.stalls = map[wire.Seat]stalled{}
	}
	if _, ok := p.read.stalls[seat]; !ok {
		p.read.stalls[seat] = stalled{m.now, m.counters.messages}
	}
}

// stalled is since when a path's slots of a seat are not tried, and how many
// messages had opened then.
type stalled struct {
	since    time.Time
	messages uint64
}

// stops tells whether a path's slots of a seat are not tried now.
func (p *path) stops(seat wire.Seat) bool {
	_, ok := p.read.stalls[seat]
	return ok
}

// nextStall is when a path was stopped for too long.
func (m *Machine) nextStall() (t time.Time) {
	for _, p := range m.paths {
		for _, s := range p.read.stalls {
			if at := s.since.Add(m.rules().Deadline); t.IsZero() || at.Before(t) {
				t = at
			}
		}
	}
	return t
}

// unstall goes on where paths were stopped: when the others came some way, have
// nothing waiting, or bring nothing.
func (m *Machine) unstall() {
	for _, p := range m.paths {
		if len(p.read.stalls) == 0 {
			continue
		}
		drained := m.drained()
		for _, seat := range slices.SortedFunc(maps.Keys(p.read.stalls), func(a, b wire.Seat) int { return slices.Compare(a[:], b[:]) }) {
			s := p.read.stalls[seat]
			late := !m.now.Before(s.since.Add(m.rules().Deadline))
			if !drained && !late && m.counters.messages < s.messages+catchUpFrom {
				continue
			}
			delete(p.read.stalls, seat)
			m.forced = drained || m.counters.messages == s.messages // the others bring nothing
			m.retryHeld(seat)
			m.forced = false
		}
		if len(p.read.stalls) == 0 {
			m.ack(p)
		}
	}
}

// tooFarAhead tells whether a slot failed since it would skip too much.
func tooFarAhead(err error) bool { return errors.Is(err, ratchet.ErrFull) }
