package member

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// How a membership follows the roster's list of relays (docs/protocol.md section
// 8.3). A list that comes is read and posted to at once, beside the one in use;
// it counts, and the other ends, when enough relays of both show the operation.

// announceSpread is what each member adds to the time over which all of them
// announce mailboxes on new relays: every announcement is pushed to everybody.
const announceSpread = 100 * time.Millisecond

// followRelays follows the roster's list of relays, and its policy. Who joins
// goes by the relays of its link until it is in.
func (m *Machine) followRelays() {
	if m.ledger == nil {
		return
	}
	if !m.isMember() {
		for _, at := range m.roster.lists[opRelays] {
			m.nameOperators(m.roster.ops[at].op.Body.(OpRelays).Relays)
		}
		m.countAnew()
		return
	}
	m.setRelayList(m.state.Relays, m.state.Ordinal, m.roster.listedBy())
	m.countAnew()
}

// nameOperators takes who runs the relays of a link, where it is not known yet.
func (m *Machine) nameOperators(refs []RelayRef) {
	for i := range refs {
		if p := m.pathOf(refs[i].Key); p != nil && p.ref.Operator.IsZero() {
			p.ref = refs[i]
			m.setStanding(p, p.standing)
		}
	}
}

// unnamed are the relays in use whose operator is not known.
func (m *Machine) unnamed() []*path {
	return slices.DeleteFunc(m.used(), func(p *path) bool { return !p.ref.Operator.IsZero() })
}

// numberRelays gives the relays of who just joined the labels that they have for
// the others.
func (m *Machine) numberRelays() {
	known := m.roster.relayNumbers()
	for _, p := range m.paths {
		m.number(p, 0)
	}
	for _, p := range m.paths {
		if n := known[p.ref.Key]; n > 0 {
			m.number(p, n)
		}
	}
	for _, p := range m.paths {
		if p.number == 0 {
			m.number(p, m.freeNumber(0))
		}
	}
}

// relayNumbers counts relays as lists first named them: the genesis' first, then
// by ordinal.
func (r *Roster) relayNumbers() map[keys.RelayPublic]int {
	numbers := map[keys.RelayPublic]int{}
	take := func(refs []RelayRef) {
		for i := range refs {
			if numbers[refs[i].Key] == 0 {
				numbers[refs[i].Key] = len(numbers) + 1
			}
		}
	}
	take(r.genesis.Relays)
	lists := slices.SortedFunc(slices.Values(r.lists[opRelays]), func(a, b int) int {
		x, y := r.ops[a], r.ops[b]
		return cmp.Or(cmp.Compare(x.op.Body.(OpRelays).Ordinal, y.op.Body.(OpRelays).Ordinal), compareDigests(x.digest, y.digest))
	})
	for _, at := range lists {
		take(r.ops[at].op.Body.(OpRelays).Relays)
	}
	return numbers
}

// listedBy is the operation that made the list in force; zero: the genesis did.
func (r *Roster) listedBy() (d wire.Digest) {
	at, _ := r.all().inForce(opRelays, func(i int) uint32 { return r.ops[i].op.Body.(OpRelays).Ordinal })
	if at >= 0 {
		d = r.ops[at].digest
	}
	return d
}

// setRelayList makes a list the next to be in use.
func (m *Machine) setRelayList(refs []RelayRef, ordinal uint32, by wire.Digest) {
	l := &m.meta.Lists
	var list relayMask
	fresh := 0
	for i := range refs {
		p := m.pathOf(refs[i].Key)
		if p != nil {
			list |= 1 << p.index
		}
		if p == nil {
			fresh++
		}
	}
	if free := MaxPaths - len(m.paths) + m.vacancies(); fresh > free {
		m.tellOnce("paths", Event{Kind: EventRelay, Text: fmt.Sprintf("The group has other relays now, and this membership has had %d: it cannot use more. It goes on with those it has.", MaxPaths)})
		return
	}
	for i := range refs {
		p := m.pathOf(refs[i].Key)
		switch {
		case p == nil, !p.listedRelay():
			if p = m.appendPath(refs[i], arriving); m.roster != nil {
				m.number(p, m.freeNumber(m.roster.relayNumbers()[p.ref.Key], p))
			}
			list |= 1 << p.index
		case !sameRef(&p.ref, &refs[i]):
			p.ref = refs[i]
			m.setStanding(p, p.standing)
		}
	}
	if l.Next != nil && l.Next.Relays == list && l.Next.Operation == by || l.Next == nil && list == m.usedMask() && ordinal == l.Ordinal {
		return
	}
	for _, p := range m.paths { // of a list that was to come, and will not
		if p.standing == arriving && !list.has(p.index) {
			m.retire(p)
		}
	}
	if list == m.usedMask() {
		l.Next, l.Ordinal = nil, ordinal
		m.countAnew()
		m.saveMeta()
		return
	}
	l.Next = &nextList{Ordinal: ordinal, Relays: list, Operation: by, since: m.now}
	m.countAnew()
	m.spreadAnnouncement()
	m.saveMeta()
	if m.isMember() {
		m.show(Event{Kind: EventRelay, Text: m.changeText("The group's relays change: %s. Until enough relays show it, all of them are used. Nothing for you to do.", list)})
	}
}

func sameRef(a, b *RelayRef) bool {
	return a.Key == b.Key && a.Operator == b.Operator && a.OperatorName == b.OperatorName && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Families, b.Families)
}

func (m *Machine) vacancies() (n int) {
	for _, p := range m.paths {
		if p.standing == vacant {
			n++
		}
	}
	return n
}

// changeText says what comes and what goes with a list.
func (m *Machine) changeText(format string, list relayMask) string {
	var come, go_ []string
	for _, p := range m.paths {
		switch in := list.has(p.index); {
		case in && p.standing != inUse:
			come = append(come, p.name())
		case !in && p.standing == inUse:
			go_ = append(go_, p.name())
		}
	}
	var parts []string
	if len(come) > 0 {
		parts = append(parts, strings.Join(come, ", ")+map[bool]string{true: " comes", false: " come"}[len(come) == 1])
	}
	if len(go_) > 0 {
		parts = append(parts, strings.Join(go_, ", ")+map[bool]string{true: " goes", false: " go"}[len(go_) == 1])
	}
	return fmt.Sprintf(format, strings.Join(parts, ", "))
}

// shownOn are the paths whose boards show the operation that made a list.
func (m *Machine) shownOn(next *nextList) relayMask {
	if next.Operation == (wire.Digest{}) {
		return ^relayMask(0) // there is nothing to show
	}
	if l := m.log[next.Operation]; l != nil {
		return relayMask(l.shown)
	}
	return 0
}

// enoughOf tells whether these paths, without those, are enough in an era. Of
// nobody that is left, nobody is needed.
func (m *Machine) enoughOf(e relayEra, shown, without relayMask) bool {
	l := crossverify.NewLedger(m.policyOf(e))
	s, left := crossverify.Subject{Kind: crossverify.Open}, false
	for i, p := range m.paths {
		out := p.aside || without.has(i)
		l.SetAside(crossverify.Path(i), out)
		left = left || e.Relays.has(i) && !out
		if shown.has(i) {
			l.Claim(m.now, crossverify.Path(i), s, wire.Digest{1})
		}
	}
	return !left || l.Report(s).Usable
}

// stepRelays goes on with whatever is under way about the relays.
func (m *Machine) stepRelays() {
	if m.ledger == nil {
		return
	}
	if next := m.meta.Lists.Next; next != nil && m.listHolds(next) {
		m.takeList(next)
	}
	m.stepMaking()
	m.closeRetired()
	m.missRelays()
	m.stepSpares()
}

// listHolds tells whether the next list takes the place of the one in use: enough
// of its relays show the operation, and enough of those before, and the own
// announcement names mailboxes on it. A relay that goes and does not answer can
// hinder it for a deadline, one that answers and does not show it for
// Limits.GoneAfter: nobody makes a list that the relays before it never showed
// anybody, and nobody is kept by relays that hide it.
func (m *Machine) listHolds(next *nextList) bool {
	if m.unannounced() && m.speaks() {
		return false // nothing that is sent would come back on the new ones
	}
	now, shown := m.eraNow(), m.shownOn(next)
	if !m.enoughOf(relayEra{Relays: next.Relays, Policy: now.Policy}, shown, 0) {
		return false
	}
	return m.enoughOf(now, shown|m.leftThemselves(next), m.hinderNot(next, now.Relays&^next.Relays))
}

func (m *Machine) listWait(next *nextList) time.Time {
	return next.since.Add(m.rules().Deadline)
}

func (m *Machine) listForced(next *nextList) time.Time {
	return next.since.Add(m.cfg.Limits.GoneAfter)
}

// leftThemselves are the relays that show a list between the one in use and the next
// which leaves them out: what came after that nobody posts to them.
func (m *Machine) leftThemselves(next *nextList) (shown relayMask) {
	at, ok := m.roster.index[next.Operation]
	if !ok {
		return 0
	}
	for _, i := range m.roster.lists[opRelays] {
		n := m.roster.ops[i]
		list, l := n.op.Body.(OpRelays), m.log[n.digest]
		if l == nil || list.Ordinal <= m.meta.Lists.Ordinal || !m.roster.ops[at].past.has(i) {
			continue
		}
		for j, p := range m.paths {
			if l.shown>>j&1 == 1 && !slices.ContainsFunc(list.Relays, func(r RelayRef) bool { return r.Key == p.ref.Key }) {
				shown |= 1 << j
			}
		}
	}
	return shown
}

// hinderNot are the relays that go and do not hinder the next list any more.
func (m *Machine) hinderNot(next *nextList, goes relayMask) (without relayMask) {
	for i, p := range m.paths {
		answers := p.read.opened && p.caughtUp
		if goes.has(i) && (!answers && !m.now.Before(m.listWait(next)) || !m.now.Before(m.listForced(next))) {
			without |= 1 << i
		}
	}
	return without
}

// takeList makes the next list the one in use.
func (m *Machine) takeList(next *nextList) {
	l := &m.meta.Lists
	text := m.changeText("The group uses other relays now: %s. What the others keep stays readable. Nothing for you to do.", next.Relays)
	l.Ordinal, l.Next = next.Ordinal, nil
	for _, p := range m.paths {
		switch in := next.Relays.has(p.index); {
		case in && p.standing == arriving:
			m.setStanding(p, inUse)
		case !in && p.standing == inUse:
			m.retire(p)
		}
	}
	m.countAnew()
	m.saveMeta()
	if m.isMember() {
		m.show(Event{Kind: EventRelay, Text: text})
		for _, st := range m.sortedSeats() {
			m.askedAll(st)
		}
	}
	m.retryHeld(wire.Seat{})
}

// listsDiffer tells whether other members may have another list in use: while one
// comes, and as long after as a retired relay is read.
func (m *Machine) listsDiffer() bool {
	return m.meta.Lists.Next != nil || slices.ContainsFunc(m.paths, func(p *path) bool { return p.standing == retired }) ||
		m.now.Before(m.meta.Lists.changed().Add(m.cfg.Limits.RetiredFor))
}

// retire ends the use of a path. What it keeps is read for a while, and what
// waits for it in the outbox is still sent.
func (m *Machine) retire(p *path) {
	m.meta.Relays[p.index].Until = m.now.Add(m.cfg.Limits.RetiredFor).Unix()
	m.setStanding(p, retired)
}

// closeRetired closes retired paths in time: when what they keep was read, or
// they do not answer.
func (m *Machine) closeRetired() {
	for _, p := range m.paths {
		if p.standing != retired || m.now.Before(m.closesAt(p)) || p.read.opened && !p.caughtUp {
			continue
		}
		for _, q := range slices.Clone(p.queue) {
			m.forgetPost(p, q)
		}
		for _, h := range m.sortedHeld() {
			if h.item.path == p {
				m.unhold(h)
			}
		}
		m.endReceipts(p, wire.Lineage{})
		for _, leaf := range p.tree.Leaves() {
			m.del(m.key(keyBoard, []byte{byte(p.index)}, leaf.Name[:]))
		}
		p.tree, p.listed, p.taken, p.caughtUp, p.stash = crossverify.Tree{}, false, false, false, stash{}
		m.dropHeads(p)
		m.savePath(p)
		m.setStanding(p, closed)
	}
}

func (m *Machine) closesAt(p *path) time.Time { return time.Unix(m.meta.Relays[p.index].Until, 0) }

// spreadAnnouncement sets when the own announcement follows the lists.
func (m *Machine) spreadAnnouncement() {
	j := m.draw32()
	spread := time.Duration(len(m.seats)) * announceSpread
	m.announceAt = m.now.Add(time.Duration(uint64(j[0])<<8|uint64(j[1])) * spread / (1 << 16))
}

// readsNext tells whether enough relays of the list that comes have been read to
// their end: of the one in use too few may be left.
func (m *Machine) readsNext() bool {
	next := m.meta.Lists.Next
	if next == nil {
		return false
	}
	var read relayMask
	for _, p := range m.paths {
		if p.read.opened && p.caughtUp && p.listed {
			read |= 1 << p.index
		}
	}
	return m.enoughOf(relayEra{Relays: next.Relays, Policy: *m.rules()}, read, 0)
}

// unannounced tells whether the own announcement lacks a mailbox on a relay that
// is read.
func (m *Machine) unannounced() bool {
	return slices.ContainsFunc(m.paths, func(p *path) bool { return p.listedRelay() && !m.announcedOn(p) })
}

func (m *Machine) announcedOn(p *path) bool {
	return slices.ContainsFunc(m.keyring.ann.Mailboxes, func(b Mailbox) bool { return b.Relay == p.ref.Key && b.ID == p.mailbox })
}

// missRelays notices relays that do not answer while another does, and tells of
// each once when it has been so for Limits.GoneAfter. One other is enough: a strict
// group cannot read at all meanwhile, and needs to know why.
func (m *Machine) missRelays() {
	if !m.isMember() || !slices.ContainsFunc(m.used(), func(p *path) bool { return p.read.opened && p.caughtUp }) {
		m.readingSince = time.Time{}
		return
	}
	if m.readingSince.IsZero() {
		m.readingSince = m.now
	}
	for _, p := range m.used() {
		rec := &m.meta.Relays[p.index]
		switch {
		case p.read.opened && rec.Missing != 0:
			if rec.Told {
				m.show(Event{Kind: EventRelay, Relay: p.label(), Text: fmt.Sprintf("Relay %s answers again.", p.name())})
			}
			rec.Missing, rec.Told, rec.Lively = 0, false, 0
			m.saveMeta()
		case p.read.opened || p.problem == "" && m.now.Before(m.missingFrom()):
		case rec.Missing == 0:
			rec.Missing = m.now.Unix()
			m.saveMeta()
		case !rec.Told && !m.now.Before(time.Unix(rec.Missing, 0).Add(m.cfg.Limits.GoneAfter)):
			rec.Told = true
			m.saveMeta()
			m.show(Event{Kind: EventRelay, Relay: p.label(), Text: fmt.Sprintf("Relay %s has been gone for %s, while others answered. %s %s",
				p.name(), days(m.now.Sub(time.Unix(rec.Missing, 0))), m.withoutIt(p), m.offer(p))})
		}
	}
}

// withoutIt says what a relay's absence means for messages.
func (m *Machine) withoutIt(gone *path) string {
	if m.enough(func(p *path) bool { return p != gone && p.read.opened }) {
		return "They carry the messages."
	}
	return "They are too few for this group: messages wait until it is back, or another has its place."
}

// missingFrom is from when on a relay without a link counts as missing: the
// others were read that long.
func (m *Machine) missingFrom() time.Time { return m.readingSince.Add(m.rules().Deadline) }

// days are as people say them.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/(24*time.Hour)), "day")
}

// relaysWake is when stepRelays has something to do by time; zero: never.
func (m *Machine) relaysWake() (t time.Time) {
	if m.ledger == nil {
		return t
	}
	soonest := func(u time.Time) {
		if u.After(m.now) && (t.IsZero() || u.Before(t)) {
			t = u
		}
	}
	soonest(m.changeUntil)
	soonest(m.sparesWake())
	if next := m.meta.Lists.Next; next != nil {
		soonest(m.listWait(next))
		soonest(m.listForced(next))
	}
	for _, p := range m.paths {
		rec := &m.meta.Relays[p.index]
		switch {
		case p.standing == retired && (p.caughtUp || !p.read.opened):
			soonest(m.closesAt(p))
		case p.standing == inUse && !p.read.opened && !m.readingSince.IsZero() && rec.Missing == 0:
			soonest(m.missingFrom())
		case p.standing == inUse && !p.read.opened && !m.readingSince.IsZero() && !rec.Told:
			soonest(time.Unix(rec.Missing, 0).Add(m.cfg.Limits.GoneAfter))
		}
	}
	return t
}
