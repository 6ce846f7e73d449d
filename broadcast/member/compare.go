package member

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// subjectChanged follows up when a deadline changed a verdict or a status.
func (m *Machine) subjectChanged(s crossverify.Subject) {
	switch s.Kind {
	case crossverify.Open:
		if st := m.seats[m.admissions[s.ID]]; st != nil {
			m.seatChanged(st)
		}
	case crossverify.Signed:
		if st := m.seats[wire.Seat(s.ID)]; st != nil {
			m.seatChanged(st)
		} else if slices.Contains(m.ledger.Report(s).Status, crossverify.Silent) { // an operation
			m.hiddenOps.look = true
		}
	case crossverify.Message:
		if msg := m.messages[messageKey{source{wire.Seat(s.ID), s.Incarnation}, s.N}]; msg != nil {
			m.marksChanged(msg)
		}
	}
}

// seatChanged follows up on anything new about a seat.
func (m *Machine) seatChanged(st *seatState) {
	m.governed, m.askedLook = false, true
	if m.ledger == nil || st.ann == nil {
		return
	}
	m.current = nil
	usable := m.usable(st)
	switch {
	case usable && st.since.IsZero():
		st.since = m.now
		m.retryHeld(st.seat)
	case !usable:
		st.since = time.Time{}
	}
	m.setUnadopted(st, usable && !st.own && !m.standing(st.seat).in)
	if usable && st.came == 0 && !st.own {
		st.came = m.counters.messages + 1
		m.put(m.key(keyLack, []byte{partCame}, st.seat[:]), wire.AppendU64(nil, st.came))
	}
	if m.isMember() && !usable && !st.own && m.usedUp(st) {
		m.tellOnce("used up "+st.seat.String(), Event{Kind: EventRoster, Seat: st.seat.String(), Member: m.display(st),
			Text: fmt.Sprintf("%s came by an invitation that was used up. Nothing is sent to this member until an admin approves it.", m.display(st))})
	}
	m.review(st)
	if m.isMember() && usable && !st.shown && !st.own {
		st.shown = true
		r := m.report(st)
		m.show(Event{Kind: EventJoined, Seat: st.seat.String(), Member: m.display(st), Marks: m.marks(r.Status),
			Text: fmt.Sprintf("%s is in the group: %s.", m.display(st), m.agreed(st, r))})
	}
	if !m.out(st.seat) {
		m.disputes(st, usable)
	}
	m.saveSeat(st)
}

// agreed says by what a seat is in: how many relays show it, or an admin's signature
// where those are not enough. Never "verified", which is kept for codes that people
// compare.
func (m *Machine) agreed(st *seatState, r crossverify.Report) string {
	if len(m.used()) == 1 {
		return "on the only relay, so nothing is compared"
	}
	if shown, _ := m.showing(r.Status); m.standing(st.seat).in && !m.enough(func(p *path) bool { return !p.aside && slices.Contains(shown, p) }) {
		return fmt.Sprintf("an admin signed that, and %s %s the keys", labels(shown), verb(shown, "shows", "show"))
	}
	n := 0
	for _, p := range m.used() {
		if r.Status[p.index] == crossverify.Matched {
			n++
		}
	}
	return fmt.Sprintf("agreed on %d of %d relays", n, len(m.used()))
}

// marks are the statuses of the paths that count, and of others that have
// something to say.
func (m *Machine) marks(status []crossverify.Status) map[string]Mark {
	return m.marksOf(status, m.usedMask())
}

func (m *Machine) marksOf(status []crossverify.Status, counted relayMask) map[string]Mark {
	marks := make(map[string]Mark, len(m.paths))
	for i, p := range m.paths {
		s := crossverify.Awaiting
		if i < len(status) {
			s = status[i]
		}
		if counted.has(i) || s != crossverify.Awaiting {
			marks[p.label()] = Mark(strings.ToLower(s.String()))
		}
	}
	return marks
}

// disputes tells, once for one cause, what the paths do not agree on. Nobody is
// blamed: only a relay's own signatures can do that.
func (m *Machine) disputes(st *seatState, usable bool) {
	r := m.report(st)
	if r.Verdict == crossverify.Contested && !st.dispute && !st.own {
		st.dispute = true
		m.alarm(m.causeOf(st), st)
	}
	if r.Verdict != crossverify.Contested {
		st.dispute = false
	}
	if usable {
		m.hides(st)
	}
}

// expected tells whether an honest relay shows a seat by now: its newest
// announcement names a mailbox there, and is known for a deadline. Who was away
// when the relay came puts itself there when it is back; and so does, where an
// older one is shown, who was away when the relay was there again, or cut off
// from it: for that it has Limits.AdoptLate.
func (m *Machine) expected(p *path, st *seatState) bool {
	from, wait := st.annAt, m.rules().Deadline
	if m.showsOlder(p, st) {
		if wait = m.cfg.Limits.AdoptLate; p.read.tell.After(from) {
			from = p.read.tell
		}
	}
	return (from.IsZero() || !m.now.Before(from.Add(wait))) &&
		slices.ContainsFunc(st.ann.Mailboxes, func(b Mailbox) bool { return b.Relay == p.ref.Key })
}

// showsOlder tells whether a relay's board has an earlier announcement of a seat.
func (m *Machine) showsOlder(p *path, st *seatState) bool {
	v := m.shownVersion(p, "announcement/"+st.seat.String())
	return v > 0 && v < st.ann.Version
}

// showing splits the paths that count into those that show a subject and those that do not.
func (m *Machine) showing(status []crossverify.Status) (shown, missing []*path) {
	for _, p := range m.used() {
		switch status[p.index] {
		case crossverify.Matched:
			shown = append(shown, p)
		case crossverify.Silent, crossverify.Failed, crossverify.Dissented:
			missing = append(missing, p)
		}
	}
	return shown, missing
}

// hiddenBy finds a seat that the given paths hide while they show st: first one
// of the same name.
func (m *Machine) hiddenBy(st *seatState, shown []*path) (found *seatState) {
	better := func(o *seatState) bool {
		if found == nil || (o.ann.Name == st.ann.Name) != (found.ann.Name == st.ann.Name) {
			return found == nil || o.ann.Name == st.ann.Name
		}
		return slices.Compare(o.seat[:], found.seat[:]) < 0
	}
	for _, o := range m.seats {
		// since is the cheap sign of a usable seat: a liar's are many.
		if o == st || o.own || o.ann == nil || o.since.IsZero() || !better(o) || !m.usable(o) {
			continue
		}
		hidden := len(shown) > 0
		for _, p := range shown {
			if !p.listed || m.shows(p, "announcement/"+o.seat.String()) {
				hidden = false
			}
		}
		if hidden {
			found = o
		}
	}
	return found
}

func (m *Machine) acceptedNamesake(st *seatState) *seatState {
	for _, o := range m.namesakes(st) {
		if m.usable(o) {
			return o
		}
	}
	return nil
}

func labels(ps []*path) string {
	if len(ps) == 0 {
		return "no relay"
	}
	var s []string
	for _, p := range ps {
		s = append(s, p.label())
	}
	if len(s) == 1 {
		return s[0]
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}

func names(ps []*path, word string) string {
	if len(ps) == 1 {
		return word + " " + ps[0].name()
	}
	return word + "s " + labels(ps)
}

func verb(ps []*path, one, many string) string {
	if len(ps) == 1 {
		return one
	}
	return many
}

// Views: the newest head per relay that a sender knew.
type viewKey struct {
	path    int
	lineage wire.Lineage
	n       uint64
}

type claimedHead struct {
	seat wire.Seat
	head wire.Digest
}

// claimant is whose claims about a path are counted together.
type claimant struct {
	path int
	seat wire.Seat
}

// Bounds of what one member's views can make others keep, tell and send.
const (
	maxClaims      = 2  // heads for numbers not read yet, for each path: the first and the newest
	maxAccusations = 16 // told or answered, of those without proof, until none came for notedFor
)

// claim keeps a head for a number that was not read yet.
func (m *Machine) claim(p *path, seat wire.Seat, v RelayView) {
	k, by := viewKey{p.index, v.Lineage, v.N}, claimant{p.index, seat}
	if slices.Contains(m.claims[by], v.N) {
		return
	}
	if n := len(m.claims[by]); n >= maxClaims {
		last := viewKey{p.index, v.Lineage, m.claims[by][n-1]}
		if m.views[last] = slices.DeleteFunc(m.views[last], func(c claimedHead) bool { return c.seat == seat }); len(m.views[last]) == 0 {
			delete(m.views, last)
		}
		m.claims[by] = m.claims[by][:n-1]
	}
	m.views[k] = append(m.views[k], claimedHead{seat, v.Head})
	m.claims[by] = append(m.claims[by], v.N)
}

// claimed takes what was claimed for a number.
func (m *Machine) claimed(k viewKey) []claimedHead {
	list := m.views[k]
	delete(m.views, k)
	for _, c := range list {
		by := claimant{k.path, c.seat}
		m.claims[by] = slices.DeleteFunc(m.claims[by], func(n uint64) bool { return n == k.n })
	}
	return list
}

// forgetClaims drops those about a log that ended.
func (m *Machine) forgetClaims(p *path) {
	maps.DeleteFunc(m.views, func(k viewKey, _ []claimedHead) bool { return k.path == p.index })
	maps.DeleteFunc(m.claims, func(c claimant, _ []uint64) bool { return c.path == p.index })
}

// accuses counts what a seat says without proof, and tells whether it still
// counts.
func (m *Machine) accuses(seat wire.Seat) bool {
	n := m.accused[seat]
	if n.times++; n.times <= maxAccusations {
		n.last = m.now.Unix()
		m.accused[seat] = n
		m.saveAccused(seat, n)
	}
	return n.times <= maxAccusations
}

// compareView holds what a sender saw against what this member saw.
func (m *Machine) compareView(st *seatState, v View) {
	for _, rv := range v.Relays {
		p := m.pathOf(rv.Relay)
		if p != nil && p.aside && !rv.Convicted {
			m.lacksEvidence(p, st.seat)
		}
		if p == nil || rv.N == 0 {
			continue
		}
		m.noteLively(p, rv)
		if m.strays(p, st.seat, rv); rv.Lineage != p.lineage {
			continue
		}
		if own, ok := p.heads[rv.N]; ok {
			if own.H != rv.Head {
				m.headsDiffer(p, own, st.seat)
			}
		} else if rv.N > p.position {
			m.claim(p, st.seat, rv)
		}
	}
	for _, rec := range v.Recents {
		for key, msg := range m.messagesOf(rec) {
			msg.named++
			if msg.d != rec.D && !msg.mismatch && m.accuses(st.seat) {
				msg.mismatch = true
				m.show(Event{Kind: EventDispute, ID: msg.d.Short(), Seat: key.seat.String(), Member: m.display(m.seatOf(key.seat)),
					Text: fmt.Sprintf("%s says that %s sent another text under the number of message %s: either %s sent two texts or %s misreports. No relay is blamed.",
						m.display(st), m.display(m.seatOf(key.seat)), msg.d.Short(), m.display(m.seatOf(key.seat)), m.display(st))})
			}
		}
	}
}

func (m *Machine) messagesOf(rec Recent) map[messageKey]*message {
	var found map[messageKey]*message
	for _, seat := range m.prefixes[rec.Seat] {
		k := messageKey{source{seat, rec.Incarnation}, rec.Sequence}
		if msg := m.messages[k]; msg != nil && msg.opened {
			if found != nil {
				return nil // which one is meant is not known
			}
			found = map[messageKey]*message{k: msg}
		}
	}
	return found
}

// checkHead compares a relay's statement with every other one of the same
// number that reached this member, and with what members claimed.
func (m *Machine) checkHead(p *path, s crossverify.Statement) {
	if s.Lineage != p.lineage {
		return
	}
	for _, known := range []map[uint64]crossverify.Statement{p.heads, p.ownHead} {
		if o, ok := known[s.N]; ok && o != s {
			if e, ok := crossverify.FindFork(o, s); ok {
				m.convict(p, e)
			}
		}
	}
	if s.N <= p.position {
		delete(p.ownHead, s.N)
	}
	for _, c := range m.claimed(viewKey{p.index, s.Lineage, s.N}) {
		if c.head != s.H {
			m.headsDiffer(p, s, c.seat)
		}
	}
	m.settleReadings(p, s)
}

// keepStatement remembers a statement for a number that was not read yet.
func (m *Machine) keepStatement(p *path, s crossverify.Statement) {
	if s.Lineage != p.lineage || s.N <= p.position {
		return
	}
	if _, ok := p.ownHead[s.N]; !ok {
		p.ownHead[s.N] = s
	}
	if most := m.cfg.Limits.Heads; len(p.ownHead) > most { // the furthest go: they are read last
		for _, n := range slices.Sorted(maps.Keys(p.ownHead))[most-most/4:] {
			delete(p.ownHead, n)
		}
	}
	if s.N > p.newest.N { // shown to the relay when the mailbox is opened again
		p.newest = s
		m.savePath(p)
	}
}

// headsDiffer: a member saw another head than s has. Statements settle it.
func (m *Machine) headsDiffer(p *path, s crossverify.Statement, seat wire.Seat) {
	if m.shared[s.H] || p.aside || slices.ContainsFunc(m.exchange, func(e exchangeDue) bool { return e.differ == s }) || !m.accuses(seat) {
		return
	}
	m.exchange = append(m.exchange, exchangeDue{at: m.now.Add(m.jitter(m.cfg.Limits.ExchangeJitter)), path: p.index, differ: s})
}
