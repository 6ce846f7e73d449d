package member

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// Answers to refetches, given and taken (docs/protocol.md section 6.1).

// dueAnswer is an answer that waits for its jitter.
type dueAnswer struct {
	number  uint64 // of its record
	at      time.Time
	asked   time.Time
	texts   []*keptText
	own     bool // this member is the sender
	nothing []Span
}

// Bounds of answering.
const (
	maxAnswers    = 64   // that wait
	maxAgained    = 1024 // answers of others that are remembered
	answersADay   = 1024 // own texts sent again to one member in a day of this opening
	othersADay    = 256  // texts of others likewise
	answerBytes   = 30_000
	sentSoonAgain = 10 * time.Second // an own text is not sent again to another member within it
)

// spent is what one member was sent again today.
type spent struct {
	day         int64
	own, others int
}

// sawRefetch takes another member's question. It gets nothing from before it was
// in the group, as far as this member knows: history is passed on by command.
func (m *Machine) sawRefetch(st *seatState, body []byte) {
	q, err := ParseRefetch(body)
	if err != nil {
		return
	}
	m.askedOperations(st, q.Operations)
	m.askedForCopies(st, q.Copies)
	m.othersAsk(st.seat, q.Messages)
	if !m.speaks() || len(m.answersDue)+2 > maxAnswers {
		return
	}
	s := &st.spent
	if day := m.now.Unix() / 86400; s.day != day {
		*s = spent{day: day}
	}
	own := &dueAnswer{at: m.now.Add(m.jitter(m.cfg.Limits.ExchangeJitter)), asked: m.now, own: true}
	deadline := m.rules().Deadline
	others := &dueAnswer{at: m.now.Add(deadline + m.jitter(max(2*deadline, time.Duration(len(m.seats))*time.Second))), asked: m.now}
	room := maxNumbers
	for _, span := range q.Messages {
		var has []*keptText
		for _, t := range m.texts.list {
			if k := t.key; k.seat == span.Seat && k.incarnation == span.Incarnation && span.From <= k.sequence && k.sequence <= span.To && t.order >= st.came && st.came > 0 {
				has = append(has, t)
			}
		}
		slices.SortFunc(has, func(a, b *keptText) int { return cmp.Compare(a.key.sequence, b.key.sequence) })
		has = has[:min(len(has), room)]
		room -= len(has)
		if span.Seat == m.self {
			has = has[:min(len(has), answersADay-s.own)]
			s.own += len(has)
			own.texts = append(own.texts, has...)
			own.nothing = append(own.nothing, without(span, has)...)
		} else if span.Seat != st.seat {
			has = has[:min(len(has), othersADay-s.others)]
			s.others += len(has)
			others.texts = append(others.texts, has...)
		}
	}
	mine, theirs := m.askedTexts(st, q.Copies)
	mine, theirs = mine[:min(len(mine), max(0, answersADay-s.own))], theirs[:min(len(theirs), max(0, othersADay-s.others))]
	s.own, s.others = s.own+len(mine), s.others+len(theirs)
	own.texts, others.texts = append(own.texts, mine...), append(others.texts, theirs...)
	own.nothing = own.nothing[:min(len(own.nothing), MaxRefetchSpans)]
	for _, a := range []*dueAnswer{own, others} {
		if len(a.texts)+len(a.nothing) > 0 {
			m.addAnswer(a)
		}
	}
}

// without is what of a span the texts leave.
func without(s Span, has []*keptText) (rest []Span) {
	from := s.From
	for _, t := range has {
		if t.key.sequence > from {
			rest = append(rest, Span{s.Seat, s.Incarnation, from, t.key.sequence - 1})
		}
		from = t.key.sequence + 1
	}
	if from <= s.To && from > 0 {
		rest = append(rest, Span{s.Seat, s.Incarnation, from, s.To})
	}
	return rest
}

// againID is one answer to one message.
type againID struct {
	key messageKey
	d   wire.Digest
}

func (m *Machine) nextAnswer() (t time.Time) {
	if !m.mayAsk() {
		return t
	}
	read := m.reading() && m.drained()
	for _, a := range m.answersDue {
		if (a.own || read) && (t.IsZero() || a.at.Before(t)) {
			t = a.at
		}
	}
	return t
}

// runAnswers gives the answers that are due and that nobody has given meanwhile.
func (m *Machine) runAnswers() {
	if next := m.nextAnswer(); next.IsZero() || m.now.Before(next) {
		return
	}
	due, read := m.answersDue, m.reading() && m.drained()
	m.answersDue = nil
	for _, a := range due {
		if m.now.Before(a.at) || !a.own && !read { // what others answered may wait in a mailbox
			m.answersDue = append(m.answersDue, a)
			continue
		}
		m.del(m.key(keyAnswer, wire.U64(a.number)))
		a.texts = slices.DeleteFunc(a.texts, func(t *keptText) bool {
			at, did := m.agained[againID{t.key, t.d}]
			return did && (!at.Before(a.asked) || a.own && m.now.Sub(at) < sentSoonAgain)
		})
		switch {
		case len(a.texts) > 0:
			m.readTexts(a.texts, func(list []*Again) { m.sendAgain(list, a.nothing) })
		case len(a.nothing) > 0:
			m.sendAgain(nil, a.nothing)
		}
	}
}

// sendAgain sends messages once more, in as many envelopes as it takes; what does
// not go into the outbox is asked for again.
func (m *Machine) sendAgain(list []*Again, nothing []Span) (envelopes int) {
	for len(list)+len(nothing) > 0 && m.mayAsk() && !m.outboxFull(0) {
		a, size := &Answer{Nothing: nothing}, 0
		for len(list) > 0 && len(a.Messages) < MaxAgain && (size == 0 || size+list[0].size() <= answerBytes) {
			size += list[0].size()
			a.Messages, list = append(a.Messages, list[0]), list[1:]
		}
		nothing = nil
		m.sendBundle(KindAgain, AppendAnswer(nil, a))
		envelopes++
		for _, x := range a.Messages {
			if d, err := x.Digest(m.gid); err == nil {
				m.noteAgain(againID{x.key(), d})
			}
			x.Key.Zero()
		}
	}
	return envelopes
}

// noteAgain remembers that a message was just sent again, by whomever.
func (m *Machine) noteAgain(id againID) {
	if len(m.agained) >= maxAgained {
		clear(m.agained)
	}
	m.agained[id] = m.now
}

// sawAnswer takes messages that a member sent again: own ones are its word as any
// text is; those of others are theirs only where their own envelopes name D.
func (m *Machine) sawAnswer(st *seatState, body []byte) {
	answer, err := ParseAnswer(body)
	if err != nil {
		return
	}
	for _, a := range answer.Messages {
		d, err := a.Digest(m.gid)
		if err != nil {
			continue
		}
		k := a.key()
		m.noteAgain(againID{k, d})
		switch {
		case k.seat == m.self:
		case m.received[k.source].has(k.sequence):
			if k.seat == st.seat {
				m.name(k, d, true)
			} else if msg := m.messages[k]; msg != nil && msg.d != d {
				m.otherPassed(st, m.known(k.seat), msg.d)
			}
		case k.seat == st.seat || m.namedAs(k) == d:
			m.takeAgain(a, d, st)
		default:
			m.passedOn(st, a, d)
		}
		a.Key.Zero()
	}
	for _, s := range answer.Nothing {
		if s.Seat == st.seat {
			m.hasNothing(s)
		}
	}
	m.settlePassed(st.seat)
}

// hasNothing: the sender itself has nothing for this member under these numbers.
// Holes are closed; copies under them were made by somebody else, or are of no use.
func (m *Machine) hasNothing(s Span) {
	src := source{s.Seat, s.Incarnation}
	l := m.lacks[src]
	if l == nil {
		return
	}
	list := m.missing(l)
	for _, q := range l.seen {
		list = append(list, span{q.last, q.last})
	}
	for _, hole := range list {
		first, last := max(hole.first, s.From), min(hole.last, s.To)
		if first > last {
			continue
		}
		for _, h := range m.sortedHeld() {
			if k := h.item.key(); k.source == src && first <= k.sequence && k.sequence <= last {
				m.unhold(h)
			}
		}
		if got := m.received[src]; got != nil && last < got.spans[len(got.spans)-1].last {
			m.addReceivedSpan(src, span{first, last})
		}
	}
	l.seen = slices.DeleteFunc(l.seen, func(q question) bool { return s.From <= q.last && q.last <= s.To })
	if !m.endAnswered(l) {
		m.questionsChanged(l)
	}
}

// takeAgain takes a message that did not open here, by its sender's word: sent
// again by itself, or by another while its own envelopes name D.
func (m *Machine) takeAgain(a *Again, d wire.Digest, by *seatState) {
	k := a.key()
	c, err := ParseContent(a.Content)
	st := m.known(k.seat)
	if err != nil || c.Kind != KindText {
		return // an honest member sends texts only
	}
	m.counters.messages++
	msg := &message{key: k, d: d, opened: true, late: true, kind: KindText, sent: c.Sent.Unix(), order: m.counters.messages, era: m.meta.Lists.era(),
		text: strings.ToValidUTF8(string(c.Body), "\uFFFD")}
	if by.seat != k.seat {
		msg.passed = m.display(by)
	}
	msg.carriers = m.carriersIn(a)
	m.messages[k] = msg
	m.digests.of[d] = k
	m.ledger.Restore(k.subject(), d, make([]crossverify.Status, len(m.paths)), m.ledger.Era())
	m.awaitCopies(msg)
	m.addReceived(k)
	m.arrived(k)
	if m.heard(st, msg, c) {
		m.keepText(a, d, msg.order)
		m.showMessage(msg)
		m.recent = append(m.recent, msg)
	}
	m.noteNamed(k, c)
	m.compareView(st, c.View)
	if holes := m.received[k.source].holes(0); len(holes) > 0 { // before it, maybe
		m.mayLack(k.source, holes[len(holes)-1].last)
	}
	m.copies(k, msg)
	m.matchDigests(msg)
	m.marksChanged(msg)
	m.saveCounters()
}

// carriersIn are the carriers of a message that was sent again, as its sealed
// header names them.
func (m *Machine) carriersIn(a *Again) uint16 {
	e := m.keyring.epochAt(a.Header.Epoch)
	if e == nil {
		return 0
	}
	h, _ := broadcast.OpenSealed(m.gid, &e.Key, &a.Key, a.Sealed[:])
	return h.Carriers
}

// PassOn passes on the newest texts that this member has to everybody, such as
// those who joined later. Answer: PassedInfo.
type PassOn struct {
	Last int `json:"last"` // texts, at most MaxPassOn
}

// MaxPassOn is how many texts one command passes on.
const MaxPassOn = 256

// Wish implements Wish.
func (PassOn) Wish() string { return "passon" }

// PassedInfo answers PassOn.
type PassedInfo struct {
	Messages  int `json:"messages"`
	Envelopes int `json:"envelopes"`
}

// passOn answers PassOn.
func (m *Machine) passOn(id uint64, w PassOn) {
	list := m.texts.list
	switch {
	case w.Last < 1 || w.Last > MaxPassOn:
		m.answer(id, nil, fmt.Errorf("%w: 1 to %d texts are passed on at a time", ErrTooLong, MaxPassOn))
		return
	case m.meta.Superseded:
		m.answer(id, nil, ErrSuperseded)
		return
	case !m.mayAsk():
		m.answer(id, nil, fmt.Errorf("%w: sessions are begun", ErrNotReady))
		return
	case len(list) == 0:
		m.answer(id, nil, fmt.Errorf("%w: this device keeps no text", ErrNoSuch))
		return
	}
	m.readTexts(list[max(0, len(list)-w.Last):], func(texts []*Again) {
		n := len(texts)
		m.answer(id, PassedInfo{Messages: n, Envelopes: m.sendAgain(texts, nil)}, nil)
	})
}
