package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// What relays do not agree on about one seat is told at once. A relay that lies
// about many is one cause: after the first few it is told in one line, of all
// that came to light meanwhile.

// alarmCause is what relays do with seats.
type alarmCause uint8

const (
	hidesSeats   alarmCause = iota // they do not show what others show
	exchanges                      // they hide one and list another of its name
	listsAnother                   // they list another of a member's name
	alone                          // they alone show it
	twoOfOne                       // none: the member's own key signed two announcements
)

const (
	// aloneAlarms is how many seats are told of one by one, for one cause and
	// the same relays, until there is nothing to tell of it for notedFor. Default: 3.
	aloneAlarms = 3
	// alarmRest is how long no further one may come until the rest is told.
	// Default: 5 s, doubled with each telling, up to 43 min: a liar can invent
	// seats without end.
	alarmRest    = 5 * time.Second
	maxAlarmRest = alarmRest << 9
	// alarmMost is how many such rests it waits at most. Default: 12.
	alarmMost = 12
)

// alarmKey is one cause for people: relays that do one thing.
type alarmKey struct {
	cause  alarmCause
	relays relayMask
}

// gathered is what came of one cause.
type gathered struct {
	told        int64 // Unix seconds
	alone       int   // told one by one
	rest        time.Duration
	seats       []wire.Seat
	since, last time.Time // when the first and the newest of seats came
}

func maskOf(ps []*path) (mask relayMask) {
	for _, p := range ps {
		mask |= 1 << p.index
	}
	return mask
}

// causeOf is what the paths do that a contested seat comes of.
func (m *Machine) causeOf(st *seatState) (k alarmKey) {
	if m.twoSuccessors(st) {
		return alarmKey{cause: twoOfOne}
	}
	shown, _ := m.showing(m.report(st).Status)
	k.relays, k.cause = maskOf(shown), alone
	if hidden := m.hiddenBy(st, shown); hidden != nil && m.usable(hidden) {
		k.cause = exchanges
	} else if len(shown) > 0 && m.acceptedNamesake(st) != nil {
		k.cause = listsAnother
	}
	return k
}

// alarm tells of one seat, now or with others.
func (m *Machine) alarm(k alarmKey, st *seatState) {
	g := m.alarmOf(k)
	if g.told != 0 && m.over(g.told) {
		g.alone, g.rest = 0, alarmRest
	}
	if g.alone < aloneAlarms && len(g.seats) == 0 {
		g.alone++
		g.told = m.now.Unix()
		m.saveAlarm(k, g)
		m.tellOne(k, st)
		return
	}
	if len(g.seats) == 0 {
		g.since = m.now
	}
	if !slices.Contains(g.seats, st.seat) {
		g.seats, g.last = append(g.seats, st.seat), m.now
		m.put(m.waitsKey(k, st.seat), nil)
	}
}

// alarmOf is what came of a cause so far.
func (m *Machine) alarmOf(k alarmKey) *gathered {
	g := m.alarms[k]
	if g == nil {
		if m.alarms == nil {
			m.alarms = map[alarmKey]*gathered{}
		}
		g = &gathered{rest: alarmRest}
		m.alarms[k] = g
	}
	return g
}

func (g *gathered) due() time.Time {
	at, most := g.last.Add(g.rest), g.since.Add(alarmMost*g.rest)
	if most.Before(at) {
		return most
	}
	return at
}

// tellGathered tells what waited long enough and still holds.
func (m *Machine) tellGathered() {
	for _, k := range m.alarmKeys() {
		g := m.alarms[k]
		if len(g.seats) == 0 || m.now.Before(g.due()) {
			continue
		}
		seats := g.seats
		g.seats, g.rest, g.told = nil, min(2*g.rest, maxAlarmRest), m.now.Unix()
		m.saveAlarm(k, g)
		seats = slices.DeleteFunc(seats, func(s wire.Seat) bool {
			m.del(m.waitsKey(k, s))
			so := m.stillSo(k, m.seats[s])
			if !so && k.cause == hidesSeats { // told when it is so again
				m.setHidden(m.seats[s], m.seats[s].hidden&^k.relays)
			}
			return !so
		})
		switch {
		case len(seats) == 0:
		case len(seats) == 1:
			m.tellOne(k, m.seats[seats[0]])
		default:
			m.tellMany(k, seats)
		}
	}
}

// alarmsAt is when something is told next; zero: nothing is.
func (m *Machine) alarmsAt() (t time.Time) {
	for _, g := range m.alarms {
		if at := g.due(); len(g.seats) > 0 && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// alarmKeys are all causes, in an order that does not depend on chance.
func (m *Machine) alarmKeys() []alarmKey {
	list := make([]alarmKey, 0, len(m.alarms))
	for k := range m.alarms {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b alarmKey) int {
		if a.cause != b.cause {
			return int(a.cause) - int(b.cause)
		}
		if a.relays < b.relays {
			return -1
		}
		return 1
	})
	return list
}

// stillSo tells whether a seat is still what a cause says.
func (m *Machine) stillSo(k alarmKey, st *seatState) bool {
	r := m.report(st)
	if k.cause != hidesSeats {
		return r.Verdict == crossverify.Contested && !m.out(st.seat)
	}
	_, missing := m.showing(r.Status)
	return m.usable(st) && maskOf(missing)&k.relays != 0
}

// of are the paths of a mask.
func (m *Machine) of(mask relayMask) (list []*path) {
	for _, p := range m.paths {
		if mask.has(p.index) {
			list = append(list, p)
		}
	}
	return list
}

// tellOne tells of one seat. Nobody is blamed: only a relay's own signatures can
// do that.
func (m *Machine) tellOne(k alarmKey, st *seatState) {
	r := m.report(st)
	shown, missing := m.showing(r.Status)
	name := m.display(st)
	if k.cause == hidesSeats {
		p := m.of(k.relays)[0]
		m.show(Event{Kind: EventRelay, Relay: p.label(), Member: name,
			Text: fmt.Sprintf("Relay %s does not show %s, whom %s %s. Messages reach %s over the others. Nothing for you to do.",
				p.name(), name, labels(shown), verb(shown, "shows", "show"), name)})
		return
	}
	e := Event{Kind: EventDispute, Seat: st.seat.String(), Member: name, Marks: m.marks(r.Status)}
	switch m.causeOf(st).cause { // as it is by now
	case exchanges:
		hidden := m.hiddenBy(st, shown)
		e.Relay = shown[0].label()
		// What enough relays show is not more true for it: they may be the liars.
		e.Text = fmt.Sprintf("%s %s not show %s and %s another %q [%s] that %s %s not know. They are two members: nothing you send to one reaches the other. You write to %s, which enough relays show, and nothing is sent to the second until more relays know it. Who of them is false shows a code, compared in person.",
			names(shown, "Relay"), verb(shown, "does", "do"), m.display(hidden), verb(shown, "lists", "list"), st.ann.Name, st.seat.Short(),
			labels(missing), verb(missing, "does", "do"), m.display(hidden))
	case listsAnother: // added, with nobody hidden
		e.Relay = shown[0].label()
		e.Text = fmt.Sprintf("%s %s another %q [%s] that %s %s not know. They are two members: nothing you send to one reaches the other, and nothing is sent to this second one until more relays know it. Nothing for you to do.",
			names(shown, "Relay"), verb(shown, "lists", "list"), st.ann.Name, st.seat.Short(), labels(missing), verb(missing, "does", "do"))
	case twoOfOne:
		e.Text = m.successorsText(st)
	default:
		if len(m.namesakes(st)) == 0 {
			e.Kind = EventRelay
		}
		e.Text = fmt.Sprintf("%s is known to %s only%s. Nothing is sent to this member until more relays know it. Nothing for you to do.", name, labels(shown), asideOf(shown))
	}
	m.show(e)
}

// asideOf says of relays that show something which of them do not count.
func asideOf(shown []*path) string {
	aside := slices.DeleteFunc(slices.Clone(shown), func(p *path) bool { return !p.aside })
	if len(aside) == 0 {
		return ""
	}
	return fmt.Sprintf(", and %s %s set aside", labels(aside), verb(aside, "is", "are"))
}

// tellMany tells of many seats in one line.
func (m *Machine) tellMany(k alarmKey, seats []wire.Seat) {
	var first []string
	for _, s := range seats[:min(maxNames, len(seats))] {
		first = append(first, m.display(m.seats[s]))
	}
	who := strings.Join(first, ", ")
	if n := len(seats) - len(first); n > 0 {
		who = fmt.Sprintf("%s and %d more", who, n)
	}
	e := Event{Kind: EventDispute, Total: len(seats)}
	by := m.of(k.relays)
	if len(by) > 0 {
		e.Relay = by[0].label()
	}
	switch k.cause {
	case hidesSeats:
		e.Kind = EventRelay
		e.Text = fmt.Sprintf("%s %s not show %s either, whom other relays show. Messages reach them over the others. Nothing for you to do.", names(by, "Relay"), verb(by, "does", "do"), who)
	case exchanges:
		e.Text = fmt.Sprintf("%s %s members and %s %d more whom other relays do not know: %s. Nothing is sent to these until more relays know them. Who is false shows a code, compared in person.", names(by, "Relay"), verb(by, "hides", "hide"), verb(by, "lists", "list"), len(seats), who)
	case listsAnother:
		e.Text = fmt.Sprintf("%s %s %d more who carry names of members: %s. Nothing is sent to these until more relays know them. Nothing for you to do.", names(by, "Relay"), verb(by, "lists", "list"), len(seats), who)
	case twoOfOne:
		e.Text = fmt.Sprintf("Of %d more members the own key signed two successors each: %s. Sending to them waits; the others get your messages. No relay is blamed. Compare codes with them, and ask whether there are second installations or restored backups.", len(seats), who)
	default:
		e.Kind = EventRelay
		e.Text = fmt.Sprintf("%d more members are known to %s only: %s. Nothing is sent to these until more relays know them. Nothing for you to do.", len(seats), labels(by), who)
	}
	m.show(e)
}
