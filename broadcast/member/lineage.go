package member

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// A relay has one lineage at a time. Two prove nothing: it may have lost data.
// So who meets another than its own gets a statement of it, and shows it to the
// relay, which has to go on from it or convicts itself (docs/protocol.md section
// 9, form 3, and 13).
const (
	// lineageWait is how long a path has to come to a newer lineage by itself,
	// after a view or a statement of it. Default: 2 s, doubled each time, up to
	// 68 min: a relay can begin lineages without end.
	lineageWait  = 2 * time.Second
	lineageMost  = 11 // doublings
	causeLineage = "lineage"
)

// newerLife tells whether a lineage comes after another: that an honest relay goes
// on in the other when it was shown this one is excluded.
func newerLife(l, than wire.Lineage) bool { return l != than && l.Ordinal() >= than.Ordinal() }

// best is the newest statement known of a path's relay: what shows others that
// their lineage is not the newest.
func (p *path) best() crossverify.Statement {
	if p.ahead.N > 0 && p.ahead.Lineage.Ordinal() > p.lineage.Ordinal() {
		return p.ahead
	}
	return p.newest
}

// setAhead keeps the statement of a newer lineage than the path's; zero: none.
func (m *Machine) setAhead(p *path, s crossverify.Statement) {
	if s == p.ahead {
		return
	}
	if p.ahead = s; s.N > 0 {
		m.put(m.key(keyHead, []byte{byte(p.index)}), s.Append(nil))
	} else {
		m.del(m.key(keyHead, []byte{byte(p.index)}))
	}
}

// sawStatement takes a statement of a path's relay, from wherever it came.
func (m *Machine) sawStatement(p *path, s crossverify.Statement) {
	if s.Lineage == p.lineage {
		m.checkHead(p, s)
		m.keepStatement(p, s)
		return
	}
	m.comparePast(p, s)
	if e, ok := crossverify.FindFork(p.ahead, s); ok {
		m.convict(p, e)
	}
	if s.N == 0 || !newerLife(s.Lineage, p.lineage) {
		return
	}
	if o := p.ahead; o.N > 0 && s.Lineage.Ordinal() <= o.Lineage.Ordinal() && (s.Lineage != o.Lineage || s.N <= o.N) {
		return
	}
	if s.Lineage != p.ahead.Lineage {
		p.aheadAt = m.now.Add(lineageWait << min(p.asked, lineageMost))
	}
	m.setAhead(p, s)
}

// stepLineages asks relays that show others a newer log: the link is opened anew
// with the statement of it.
func (m *Machine) stepLineages() {
	for _, p := range m.paths {
		if !p.mayAsk() || m.now.Before(p.aheadAt) {
			continue
		}
		p.asked++
		p.stats[crossverify.Dissented]++
		m.savePath(p)
		m.relayEvent(p, "another lineage", "", fmt.Sprintf("Relay %s shows other members another log than yours: it lost data and began again, or it shows members different things. It is asked which, and has to sign its answer. Nothing for you to do.", p.name()))
		m.sends = append(m.sends, broadcast.Send{Link: p.read.link, Close: true})
		m.drop(p, p.read.link, broadcast.ReadLink)
	}
}

// mayAsk tells whether the relay of a link that stands has a question to answer.
func (p *path) mayAsk() bool {
	return p.ahead.N > 0 && p.read.opened && !p.aside && p.read.shownS != p.ahead
}

func (m *Machine) lineagesAt() (t time.Time) {
	for _, p := range m.paths {
		if p.mayAsk() && (t.IsZero() || p.aheadAt.Before(t)) {
			t = p.aheadAt
		}
	}
	return t
}

// beginLineage goes over to another lineage of the relay.
func (m *Machine) beginLineage(p *path, l wire.Lineage) {
	if p.newest.N > 0 {
		m.lostData(p)
	}
	shown := p.ahead.N > 0 && p.read.shownS == p.ahead
	m.startLineage(p, l)
	switch {
	case p.ahead.N == 0 || newerLife(p.ahead.Lineage, l) && !shown:
		return
	case p.ahead.Lineage == l:
		m.keepStatement(p, p.ahead)
	case shown && newerLife(l, p.ahead.Lineage): // it lost what it had just signed, too
		p.stats[crossverify.Failed]++
		m.savePath(p)
	}
	m.setAhead(p, crossverify.Statement{})
}

// lostData tells that a relay began again, ever more seldom if it goes on so.
func (m *Machine) lostData(p *path) {
	switch n := m.times(p, causeLineage); {
	case n == 1:
		m.show(Event{Kind: EventRelay, Relay: p.label(), Text: fmt.Sprintf("Relay %s lost data and started again. What other relays keep is read from them. Nothing for you to do.", p.name())})
	case bits.OnesCount32(n) == 1:
		m.show(Event{Kind: EventRelay, Relay: p.label(), Text: fmt.Sprintf("Relay %s says that it lost data and started again, %d times by now. Its disk fails again and again, or it shows members different logs and owns up to none: nobody can prove which. Other relays carry the messages. %s", p.name(), n, m.successor(p))})
	}
}

// strays notes a view that names another lineage than the path's, or not any more.
func (m *Machine) strays(p *path, seat wire.Seat, v RelayView) {
	by := claimant{p.index, seat}
	if v.Lineage == p.lineage || p.aside || p.lineage == (wire.Lineage{}) {
		delete(m.lives, by)
		return
	}
	if own, ok := p.past[v.N]; ok && own.Lineage == v.Lineage && own.H != v.Head {
		m.headsDiffer(p, own, seat)
	}
	m.lives[by] = v.Lineage
	if !m.tells(p, v.Lineage) || slices.ContainsFunc(m.exchange, func(e exchangeDue) bool { return e.path == p.index && e.lineage }) {
		return
	}
	x := m.strayed[by]
	if x.theirs != v.Lineage || x.best != p.best().Lineage {
		x.theirs, x.best, x.same = v.Lineage, p.best().Lineage, 0
	}
	if x.same >= maxReshares {
		return // it has the statement by now, and may be cut off from the relay
	}
	wait := lineageWait << min(x.times, lineageMost)
	x.same, x.times = x.same+1, x.times+1
	m.strayed[by] = x
	m.exchange = append(m.exchange, exchangeDue{at: m.now.Add(wait + m.shareJitter()), path: p.index, lineage: true})
}

// stray is how often views of a seat in another lineage led to an exchange, in this
// opening.
type stray struct {
	theirs, best wire.Lineage
	same, times  int // for these two lineages, and in all
}

// tells tells whether what is known of a path is news for who is in a lineage, or
// brings news from it.
func (m *Machine) tells(p *path, l wire.Lineage) bool {
	return l != p.lineage && p.best().N > 0 && p.best().Lineage != l
}

// lineageDue is what is exchanged for members in other lineages; false: nobody is
// any more.
func (m *Machine) lineageDue(p *path) (s crossverify.Statement, due bool) {
	for by, l := range m.lives {
		if by.path == p.index && m.tells(p, l) {
			return p.best(), !p.aside
		}
	}
	return s, false
}

// lineageShared: a member's exchange brought a statement that others would bring.
func (m *Machine) lineageShared(p *path, s crossverify.Statement) {
	if s.Lineage == p.best().Lineage {
		m.exchange = slices.DeleteFunc(m.exchange, func(e exchangeDue) bool { return e.path == p.index && e.lineage })
	}
}
