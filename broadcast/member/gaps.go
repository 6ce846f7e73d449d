package member

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/internal/wire"
)

// What is missing of a sender, and what is done about it (docs/protocol.md
// section 6.1). A sender's numbers are dense, and so is the ratchet's counter: a
// hole shows with the next message that opens. Each envelope names the digest of
// the one before and of its sender's last texts, so a copy that is held, since it
// has no slot that opens here, is known to be a text of its sender. First every
// relay is asked for what this member passed over, then all members, once for
// all that is missing: the sender answers at once, others if nobody did.

// lack is what is missing of one source.
type lack struct {
	source
	due     time.Time // when something is done about it; zero: nothing is
	upTo    uint64    // greatest number that members were asked for, in this opening
	waited  bool      // the jitter passed
	fetched bool      // the relays were asked, in this opening
	asked   uint8     // times that members were asked
	gaveUp  uint64    // numbers up to it are not asked for any more
	named   map[uint64]named
	seen    map[uint64]bool // by other members' word, in this opening
}

// named is a digest by the sender's own word.
type named struct {
	d    wire.Digest
	text bool // it is a text's; else that of anything
}

// Bounds of asking.
const (
	maxAsks    = 6   // times for one hole
	maxNumbers = 256 // of all spans in one refetch
	maxSeen    = 16  // numbers that others name beyond the newest that opened, of one source
	maxDigests = 32  // digests named and not opened, of one source: the newest
	maxLacks   = 4096
	askEvery   = time.Minute
)

// askAgain is how long an answer is waited for after the n-th time.
var askAgain = [maxAsks]time.Duration{2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 24 * time.Hour}

// Parts of the records under keyLack; u8 after it.
const (
	partLack   = 0 // seat 32, incarnation 8: lack
	partCame   = 1 // seat 32: order of the first message that may be sent again to it u64
	partPassed = 2 // D 32: passedOn
	partMissed = 3 // relay index u8: spans of numbers passed over
)

func (m *Machine) lackOf(s source) *lack {
	l := m.lacks[s]
	if l == nil && len(m.lacks) < maxLacks {
		l = &lack{source: s}
		m.lacks[s] = l
	}
	return l
}

// mayLack notes that something of a source may be missing, up to a number: it is
// looked at when slower paths had their time.
func (m *Machine) mayLack(s source, upTo uint64) {
	l := m.lackOf(s)
	if l == nil || s.seat == m.self || m.genesis == nil || !l.due.IsZero() && (l.asked == 0 || upTo <= l.upTo) {
		return
	}
	l.asked, l.waited, l.fetched = 0, false, false
	m.seek(l, m.now.Add(m.rules().Deadline))
}

// seek sets when something is done about a source; zero: nothing is.
func (m *Machine) seek(l *lack, at time.Time) {
	if l.due = at; at.IsZero() {
		delete(m.seeking, l.source)
	} else {
		m.seeking[l.source] = l
	}
}

// mayLackOf is mayLack for a copy that is held: anybody in the group can make
// one, so only what its sender named counts.
func (m *Machine) mayLackOf(it *item) {
	k := it.key()
	if l := m.lacks[k.source]; l != nil && l.named[k.sequence] == (named{it.d, true}) {
		m.mayLack(k.source, k.sequence)
	}
}

// jitter is a random part of d.
func (m *Machine) jitter(d time.Duration) time.Duration {
	var b [4]byte
	m.draw(b[:])
	return time.Duration(float64(d) * float64(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3])) / (1 << 32))
}

// missing are numbers of a source that did not open here: holes between those
// that did, and texts that are held and do not open although there is a session.
func (m *Machine) missing(l *lack) (list []span) {
	got := m.received[l.source]
	list = got.holes(l.gaveUp)
	for _, n := range slices.Sorted(maps.Keys(l.named)) {
		if n > l.gaveUp && m.heldText(l, n) && !slices.ContainsFunc(list, func(s span) bool { return s.first <= n && n <= s.last }) {
			list = append(list, span{n, n})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(l.seen)) {
		if n > l.gaveUp && !got.has(n) && !slices.ContainsFunc(list, func(s span) bool { return s.first <= n && n <= s.last }) {
			list = append(list, span{n, n})
		}
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return list
}

// heldText tells whether a copy of a text that its sender named is held.
func (m *Machine) heldText(l *lack, n uint64) bool {
	if !l.named[n].text {
		return false
	}
	for _, h := range m.held {
		if h.item.key() == (messageKey{l.source, n}) && h.item.d == l.named[n].d {
			return true
		}
	}
	return false
}

// holes is how many messages of a source are missing between those that opened.
func (m *Machine) holes(s source) (n uint64) {
	for _, h := range m.received[s].holes(0) {
		n += h.last - h.first + 1
	}
	return n
}

// speaks: this installation is one that sends.
func (m *Machine) speaks() bool {
	return m.isMember() && !m.meta.Restored && !m.meta.Superseded && !m.silent()
}

// mayAsk: it sends now, and knows what there is to know from the relays.
func (m *Machine) mayAsk() bool { return m.speaks() && !m.starting.underWay() }

// nextLack is when something is missing for long enough.
func (m *Machine) nextLack() (t time.Time) {
	if !m.mayAsk() {
		return t
	}
	for _, l := range m.seeking {
		if t.IsZero() || l.due.Before(t) {
			t = l.due
		}
	}
	return t
}

// runLacks does what is due about what is missing.
func (m *Machine) runLacks() {
	if next := m.nextLack(); next.IsZero() || m.now.Before(next) {
		return
	}
	var due []*lack
	for _, l := range m.seeking {
		if !m.now.Before(l.due) {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, func(a, b *lack) int { return a.source.compare(b.source) })
	later := m.now.Add(m.rules().Deadline)
	ready, fetching := m.reading() && m.drained(), false
	var ask []Span
	var room uint64 = maxNumbers
	for _, l := range due {
		spans := m.missing(l)
		switch {
		case len(spans) == 0:
			m.noLack(l)
			continue
		case !l.waited: // another moment for every member
			l.waited = true
			m.seek(l, m.now.Add(m.jitter(max(m.rules().Deadline/2, time.Duration(len(m.seats))*100*time.Millisecond))))
			continue
		case !ready || m.carried(l, spans):
			m.seek(l, later)
			continue
		case !l.fetched:
			l.fetched = true
			if fetching = m.fetchMissed() || fetching; fetching {
				m.seek(l, later)
				continue
			}
		}
		if l.asked >= maxAsks {
			m.giveUp(l, spans)
			continue
		}
		if room == 0 || len(ask) == MaxRefetchSpans || m.now.Before(m.askedAt.Add(askEvery)) {
			m.seek(l, later)
			continue
		}
		for _, s := range spans {
			if room == 0 || len(ask) == MaxRefetchSpans {
				break
			}
			last := min(s.last, s.first+room-1)
			room -= last - s.first + 1
			ask = append(ask, Span{l.seat, l.incarnation, s.first, last})
			l.upTo = max(l.upTo, last)
		}
		m.seek(l, m.now.Add(askAgain[l.asked]))
		l.asked++
		m.saveLack(l)
	}
	if len(ask) > 0 {
		m.askedAt = m.now
		m.sendBundle(KindRefetch, AppendRefetch(nil, &Refetch{Messages: ask}))
	}
}

// noLack ends what was under way about a source.
func (m *Machine) noLack(l *lack) {
	m.seek(l, time.Time{})
	l.waited, l.fetched, l.seen = false, false, nil
	if l.asked > 0 {
		l.asked = 0
		m.saveLack(l)
	}
	if len(l.named) == 0 && l.gaveUp == 0 {
		delete(m.lacks, l.source)
	}
}

// giveUp ends asking for what nobody has.
func (m *Machine) giveUp(l *lack, spans []span) {
	holes := m.holes(l.source)
	m.seek(l, time.Time{})
	l.gaveUp, l.asked, l.waited, l.fetched, l.seen = spans[len(spans)-1].last, 0, false, false, nil
	m.saveLack(l)
	if holes == 0 {
		holes = uint64(len(spans)) // texts that are held, or that others named
	}
	st := m.seatOf(l.seat)
	m.show(Event{Kind: EventGap, Seat: l.seat.String(), Member: m.display(st), Total: int(min(holes, 1<<31)),
		Text: fmt.Sprintf("%s of %s did not arrive here: no relay shows them, and no member sent them again. Ask %s what was said.", plural(int(min(holes, 1<<31)), "message"), m.display(st), m.display(st))})
}

// othersAsk puts off an own question that another member has just asked.
func (m *Machine) othersAsk(spans []Span) {
	for _, s := range spans {
		l := m.lacks[source{s.Seat, s.Incarnation}]
		if l == nil || l.due.IsZero() || l.asked > 0 {
			continue
		}
		if at := m.now.Add(2 * m.rules().Deadline); l.due.Before(at) {
			m.seek(l, at)
		}
	}
}

// noteNamed takes which digests an envelope of a sender's own names: the one
// before it, and its newest texts.
func (m *Machine) noteNamed(k messageKey, c *Content) {
	if c.Previous != (wire.Digest{}) && k.sequence > 1 {
		m.name(messageKey{k.source, k.sequence - 1}, c.Previous, false)
	}
	for _, r := range c.View.Recents {
		if r.Seat == [8]byte(k.seat[:8]) && r.Sequence > 0 && r.D != (wire.Digest{}) {
			m.name(messageKey{source{k.seat, r.Incarnation}, r.Sequence}, r.D, true)
		}
	}
	m.settlePassed(k.seat)
}

// noteSeen takes which texts of others a member's envelope names, after the newest
// that opened here: where every relay hides a sender from one member, the others'
// words are all it has. They are believed so far that it asks.
func (m *Machine) noteSeen(by wire.Seat, v View) {
	for _, r := range v.Recents {
		if r.Seat == [8]byte(by[:8]) || r.Seat == [8]byte(m.self[:8]) || len(m.prefixes[r.Seat]) != 1 {
			continue
		}
		s := source{m.prefixes[r.Seat][0], r.Incarnation}
		got := m.received[s]
		if got == nil || r.Sequence <= got.spans[len(got.spans)-1].last {
			continue
		}
		l := m.lackOf(s)
		if l == nil || l.seen[r.Sequence] || len(l.seen) >= maxSeen {
			continue
		}
		if l.seen == nil {
			l.seen = map[uint64]bool{}
		}
		l.seen[r.Sequence] = true
		m.mayLack(s, r.Sequence)
	}
}

// name keeps D of a message that did not open here, by its sender's own word.
func (m *Machine) name(k messageKey, d wire.Digest, text bool) {
	if m.received[k.source].has(k.sequence) {
		if msg := m.messages[k]; msg != nil && msg.opened && msg.d != d && !msg.mismatch {
			msg.mismatch = true
			st := m.seatOf(k.seat)
			m.show(Event{Kind: EventBlame, ID: msg.d.Short(), Seat: k.seat.String(), Member: m.display(st),
				Text: fmt.Sprintf("%s names another text under the number of message %s than the one that opened here: it sent two. The one that came first is shown. No relay is blamed.", m.display(st), msg.d.Short())})
		}
		return
	}
	l := m.lackOf(k.source)
	is := named{d, text || l != nil && l.named[k.sequence].text}
	if l == nil || l.named[k.sequence] == is {
		return
	}
	if l.named == nil {
		l.named = map[uint64]named{}
	}
	l.named[k.sequence] = is
	if len(l.named) > maxDigests {
		delete(l.named, slices.Min(slices.Collect(maps.Keys(l.named))))
	}
	m.saveLack(l)
	if m.heldText(l, k.sequence) {
		m.mayLack(k.source, k.sequence)
	}
}

// namedAs is D of a message by its sender's own word; zero: it said nothing.
func (m *Machine) namedAs(k messageKey) wire.Digest {
	if l := m.lacks[k.source]; l != nil {
		return l.named[k.sequence].d
	}
	return wire.Digest{}
}

// arrived ends what was known of a message before it opened.
func (m *Machine) arrived(k messageKey) {
	l := m.lacks[k.source]
	if l == nil {
		return
	}
	if _, ok := l.named[k.sequence]; ok {
		delete(l.named, k.sequence)
		m.saveLack(l)
	}
	if !l.due.IsZero() && len(m.missing(l)) == 0 {
		m.noLack(l)
	}
}

// saveLack writes: asked u8 | gave up u64 | u8 count of (sequence u64, D 32, text
// bool).
func (m *Machine) saveLack(l *lack) {
	key := m.key(keyLack, []byte{partLack}, l.seat[:], l.incarnation[:])
	if l.asked == 0 && l.gaveUp == 0 && len(l.named) == 0 {
		m.del(key)
		return
	}
	b := wire.AppendU64([]byte{l.asked}, l.gaveUp)
	b = append(b, byte(len(l.named)))
	for _, n := range slices.Sorted(maps.Keys(l.named)) {
		is := l.named[n]
		b = wire.AppendBool(append(wire.AppendU64(b, n), is.d[:]...), is.text)
	}
	m.put(key, b)
}

func (m *Machine) loadLack(key, value []byte) error {
	if len(key) == 0 {
		return wire.ErrFormat
	}
	kr, r := wire.NewReader(key[1:]), wire.NewReader(value)
	switch key[0] {
	case partLack:
		l := &lack{}
		kr.Fixed(l.seat[:])
		kr.Fixed(l.incarnation[:])
		l.asked, l.gaveUp = r.U8(), r.U64()
		for range readCount8(r, maxDigests) {
			if l.named == nil {
				l.named = map[uint64]named{}
			}
			var is named
			n := r.U64()
			r.Fixed(is.d[:])
			is.text = r.Bool()
			l.named[n] = is
		}
		m.lacks[l.source] = l
	case partCame:
		var seat wire.Seat
		kr.Fixed(seat[:])
		if err := kr.Done(); err != nil {
			return err
		}
		m.seatOf(seat).came = r.U64()
	case partPassed:
		var d wire.Digest
		kr.Fixed(d[:])
		if err := m.loadPassed(d, r); err != nil {
			return err
		}
	case partMissed:
		p, err := m.pathAt(key[1:])
		if err != nil || len(key) != 2 {
			return wire.ErrFormat
		}
		kr.U8()
		if p.missed, err = readMissed(r); err != nil {
			return err
		}
	default:
		return wire.ErrFormat
	}
	if err := kr.Done(); err != nil {
		return err
	}
	return r.Done()
}

// lookForLacks notes, when a membership was opened, what may be missing.
func (m *Machine) lookForLacks() {
	for _, s := range slices.SortedFunc(maps.Keys(m.received), source.compare) {
		if m.holes(s) > 0 {
			m.mayLack(s, 0)
		}
	}
	for _, h := range m.sortedHeld() {
		m.mayLackOf(h.item)
	}
}
