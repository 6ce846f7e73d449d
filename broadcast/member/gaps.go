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

// lack is what is missing of one source, and what was asked about it.
type lack struct {
	source
	due       time.Time // when something is done about it; zero: nothing is
	gaveUp    uint64    // numbers up to it are not asked for any more
	named     map[uint64]named
	questions []question // ascending by their last number
	seen      []question // about numbers by other members' word, ascending
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

// missing are numbers of a source that did not open here, by its own word: holes
// between those that did, and texts that are held and do not open although there is
// a session.
func (m *Machine) missing(l *lack) (list []span) {
	got := m.received[l.source]
	list = got.holes(l.gaveUp)
	for _, n := range slices.Sorted(maps.Keys(l.named)) {
		if n > l.gaveUp && m.heldText(l, n) && !slices.ContainsFunc(list, func(s span) bool { return s.first <= n && n <= s.last }) {
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

// nextLack is when something is missing for long enough, once the mailboxes are
// drained: what waits in them is not missing.
func (m *Machine) nextLack() (t time.Time) {
	if len(m.seeking) == 0 || !m.mayAsk() || !m.reading() || !m.drained() {
		return t
	}
	for _, l := range m.seeking {
		if t.IsZero() || l.due.Before(t) {
			t = l.due
		}
	}
	return t
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
		if got == nil || r.Sequence <= got.greatest() {
			continue
		}
		m.mayLackSeen(s, r.Sequence)
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
	if !l.due.IsZero() {
		m.endAnswered(l)
	}
}

// saveLack writes: gave up u64 | u8 count of (sequence u64, D 32, text bool) |
// questions | questions about what others named.
func (m *Machine) saveLack(l *lack) {
	key := m.key(keyLack, []byte{partLack}, l.seat[:], l.incarnation[:])
	if l.gaveUp == 0 && len(l.named)+len(l.questions)+len(l.seen) == 0 {
		delete(m.lacks, l.source)
		m.del(key)
		return
	}
	b := wire.AppendU64(nil, l.gaveUp)
	b = append(b, byte(len(l.named)))
	for _, n := range slices.Sorted(maps.Keys(l.named)) {
		is := l.named[n]
		b = wire.AppendBool(append(wire.AppendU64(b, n), is.d[:]...), is.text)
	}
	m.put(key, appendQuestions(appendQuestions(b, l.questions), l.seen))
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
		l.gaveUp = r.U64()
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
		l.questions, l.seen = readQuestions(r, maxQuestions), readQuestions(r, maxSeen)
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
