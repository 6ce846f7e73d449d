package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/crossverify"
)

// Roster operations are signed facts: a valid one counts from whichever path, and
// those that lack it take nothing from it. What a path that was read lacks is lag
// until the deadline, then the path is silent for it; people are told in one line.

// hiddenPatience is how long a relay that was read to its end may lack an operation
// before people are told, and the operation be known: whoever wrote it may be cut off
// from that relay, and nothing hangs on this line. Default: 2 min.
const hiddenPatience = 2 * time.Minute

// hiddenOperations is what is to be told of operations that paths do not show.
type hiddenOperations struct {
	look bool      // something changed
	next time.Time // not before
	rest time.Duration
}

func operationSubject(l *logged) crossverify.Subject {
	return crossverify.Operation(l.op.Seat(), l.op.Sequence)
}

// absentOperation notes that a path that was asked for an operation does not show
// it. The own ones are on their way.
func (m *Machine) absentOperation(p *path, l *logged) {
	if p.listedRelay() && l.shown&p.bit() == 0 && l.op.Seat() != m.self {
		m.ledger.Absent(m.now, crossverify.Path(p.index), operationSubject(l))
	}
}

// askedForOperation notes that every path was asked for an operation.
func (m *Machine) askedForOperation(l *logged) {
	for _, p := range m.paths {
		if p.listed || m.isMember() {
			m.absentOperation(p, l)
		}
	}
}

// hidesOperation tells whether a path that was read to its end does not show an operation
// that enough relays show. Who wrote it names a mailbox there: pages of a member that
// is away, or gone, are on the relays of its time only.
func (m *Machine) hidesOperation(p *path, l *logged) bool {
	author := m.seats[l.op.Seat()]
	return l.op.Seat() != m.self && l.shown&p.bit() == 0 && author != nil && author.ann != nil && m.expected(p, author) &&
		m.roster.Has(l.digest) && m.enough(m.showsOperation(l)) && m.ledger.Report(operationSubject(l)).Status[p.index] == crossverify.Silent
}

// tellHiddenOperations tells which operations the paths do not show, of each path in
// one line, and rarely: an admin can make any number of them.
func (m *Machine) tellHiddenOperations() {
	h := &m.hiddenOps
	if !h.look || m.now.Before(h.next) || m.roster == nil || !m.isMember() {
		return
	}
	h.look = false
	var later time.Time
	log := m.sortedLog()
	for _, p := range m.used() {
		if !p.read.told || !p.read.opened || !p.listed || !p.caughtUp {
			continue
		}
		var list []*logged
		for _, l := range log {
			if l.hidden.has(p.index) || !m.hidesOperation(p, l) {
				continue
			}
			due := p.read.tell.Add(hiddenPatience)
			if at := l.since.Add(hiddenPatience); due.Before(at) {
				due = at
			}
			if !m.now.Before(due) {
				l.hidden |= 1 << p.index
				list = append(list, l)
			} else if later.IsZero() || due.Before(later) {
				later = due
			}
		}
		if len(list) > 0 {
			h.rest = min(max(alarmRest, 2*h.rest), maxAlarmRest)
			h.next = m.now.Add(h.rest)
			m.show(Event{Kind: EventRelay, Relay: p.label(), Text: m.hiddenText(p, list)})
		}
	}
	if !later.IsZero() {
		h.look = true
		if h.next.Before(later) {
			h.next = later
		}
	}
}

// hiddenOperationsAt is when the next line may be told; zero: nothing is to be told.
func (m *Machine) hiddenOperationsAt() time.Time {
	if h := &m.hiddenOps; h.look && m.isMember() {
		return h.next
	}
	return time.Time{}
}

func (m *Machine) hiddenText(p *path, list []*logged) string {
	if len(list) == 1 {
		shown := slices.DeleteFunc(m.used(), func(o *path) bool { return !m.showsOperation(list[0])(o) })
		return fmt.Sprintf("Relay %s does not show %s, which %s %s. It counts all the same. Nothing for you to do.",
			p.name(), m.operationNoun(list[0]), labels(shown), verb(shown, "shows", "show"))
	}
	var first []string
	for _, l := range list[:min(maxNames, len(list))] {
		first = append(first, m.operationNoun(l))
	}
	what := strings.Join(first, ", ")
	if n := len(list) - len(first); n > 0 {
		what = fmt.Sprintf("%s and %d more", what, n)
	}
	return fmt.Sprintf("Relay %s does not show %d changes of the group that other relays show: %s. They count all the same. Nothing for you to do.", p.name(), len(list), what)
}

// operationNoun is what an operation is, for people.
func (m *Machine) operationNoun(l *logged) string {
	by := m.byWhom(l.op.Seat())
	switch b := l.op.Body.(type) {
	case OpInvite:
		return "an invitation" + by
	case OpAdd:
		return fmt.Sprintf("the adding of %s%s", m.called(b.Seat), by)
	case OpAdopt:
		return fmt.Sprintf("the adoption of %s%s", plural(len(b.Seats), "newcomer"), by)
	case OpRemove:
		return fmt.Sprintf("the removal of %s%s", m.called(b.Seat), by)
	case OpRole:
		return fmt.Sprintf("the role of %s%s", m.called(b.Seat), by)
	case OpRelays:
		return "a list of relays" + by
	case OpPolicy:
		return "a policy" + by
	case OpSpares:
		return "a list of spare relays" + by
	case OpEpoch:
		return "an epoch" + by
	case OpRevoke:
		return "the end of an invitation" + by
	}
	return "that " + m.called(l.op.Seat()) + " left"
}

// hiddenInfo lists for GetRoster what relays in use do not show.
func (m *Machine) hiddenInfo() []RosterHidden {
	list := []RosterHidden{}
	for _, l := range m.sortedLog() {
		var missing []string
		for _, p := range m.used() {
			if p.read.told && m.hidesOperation(p, l) {
				missing = append(missing, p.label())
			}
		}
		if len(missing) > 0 {
			list = append(list, RosterHidden{Operation: l.digest.Short(), By: m.called(l.op.Seat()), What: describe(l.op.Body, m.called), Missing: missing})
		}
	}
	return list
}
