package member

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"parallax/broadcast"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// What a membership remembers of its applications: how commands with an effect
// were answered, and how far each reader of events came.

// maxAnswered is how many first answers are kept for a command that is
// repeated, those of commands without an effect for as long as the membership is
// open.
const maxAnswered = 256

// AckEvents says that a reader has done what it does with events up to a number:
// opened again, it goes on after it. Nothing is deleted. With UpTo 0 it only asks.
// Answer: AckInfo.
type AckEvents struct {
	Reader string `json:"reader,omitempty"` // of several; at most 64 bytes. Empty: the application
	UpTo   uint64 `json:"up_to,omitempty"`
}

// Wish implements Wish.
func (AckEvents) Wish() string { return "ack" }

// AckInfo answers AckEvents.
type AckInfo struct {
	Reader string `json:"reader,omitempty"`
	UpTo   uint64 `json:"up_to"`
}

// maxEventReaders bounds the readers of a membership's events.
const maxEventReaders = 64

// AckedKey is where the number lies up to which the application has acknowledged
// a membership's events: u64, or nothing.
func AckedKey(unit store.Unit) []byte {
	return append(unit[:len(unit):len(unit)], keyAcked)
}

// ackEvents answers AckEvents. A reader never goes back.
func (m *Machine) ackEvents(w AckEvents) (AckInfo, error) {
	if w.Reader != "" {
		if err := CheckName(w.Reader); err != nil {
			return AckInfo{}, fmt.Errorf("reader %q: %w", w.Reader, err)
		}
	}
	up, known := m.acked[w.Reader]
	switch {
	case w.UpTo > m.counters.event:
		return AckInfo{}, fmt.Errorf("%w: event %d, the newest is %d", ErrNoSuch, w.UpTo, m.counters.event)
	case w.UpTo > up:
		if !known && len(m.acked) >= maxEventReaders {
			return AckInfo{}, fmt.Errorf("%w: %d readers of events are known", ErrTooMany, len(m.acked))
		}
		up = w.UpTo
		m.acked[w.Reader] = up
		m.put(m.key(keyAcked, []byte(w.Reader)), wire.AppendU64(nil, up))
	}
	return AckInfo{w.Reader, up}, nil
}

// answerRecord is how a command was answered; Begun is the text that it sent, if
// it was not answered yet.
type answerRecord struct {
	Order uint64
	Wish  string
	Begun []byte          `json:",omitempty"` // seat 32, incarnation 8, sequence u64
	Value json.RawMessage `json:",omitempty"`
	Error string          `json:",omitempty"`
	Cause []string        `json:",omitempty"` // sentences of the sentinels
}

// answerTo is a place for the answer to a command with an effect, nil for others:
// they are done again when they are repeated.
func answerTo(w any) any {
	switch w.(type) {
	case CreateGroup, JoinGroup:
		return &GroupInfo{}
	case MakeInvite:
		return &InviteInfo{}
	case SendText:
		return &SentInfo{}
	case ConfirmCode, UndoConfirm:
		return &ConfirmInfo{}
	case PassOn:
		return &PassedInfo{}
	case RemoveMember, ApproveMember, RefuseMember, SetRole, LeaveGroup, RevokeInvite, SetPolicy, AddGroupSpare, DropGroupSpare:
		return &OperationInfo{}
	case AddRelay, RetireRelay, ReplaceRelay:
		return &RelayChange{}
	case AddSpare, DropSpare:
		return &SparesInfo{}
	}
	return nil
}

// sentinels are the causes that an answer keeps over a restart: all of this
// package, which a test counts.
var sentinels = []error{
	ErrAmbiguous, ErrBadCut, ErrBadSeat, ErrBadSignature, ErrCodeDiffers, ErrCodeForm, ErrCodeKind, ErrContested, ErrDeclined, ErrExpired, ErrGenesis,
	ErrLastOwner, ErrLinkCut, ErrLinkMistyped, ErrLinkNot, ErrLinkVersion, ErrMode, ErrName, ErrNewerFormat, ErrNoSpare, ErrNoSuch, ErrNotAdmin, ErrNotEntitled,
	ErrNotOwner, ErrNotReady, ErrNothingToDo, ErrOnRefused, ErrOtherGroup, ErrOut, ErrOutboxFull, ErrPutBack, ErrReader, ErrRefused, ErrRelayBusy,
	ErrRelayLast, ErrRelayMany, ErrRelayTwice, ErrRestoring, ErrRosterFull, ErrSealedRequest, ErrSequence, ErrStore, ErrSuite, ErrSuperseded, ErrTable, ErrTaken,
	ErrTooFew, ErrTooLong, ErrTooMany, ErrUnknownHeads, ErrUnreachable, ErrUnreached, ErrWaiting,
}

// answeredError is an error of an earlier opening.
type answeredError struct {
	text   string
	causes []error
}

func (e *answeredError) Error() string   { return e.text }
func (e *answeredError) Unwrap() []error { return e.causes }

// answer ends a command, and remembers how.
func (m *Machine) answer(id uint64, v any, err error) {
	a := broadcast.Answer{ID: id, Value: v, Err: err}
	m.answers = append(m.answers, a)
	w := m.wishes[id]
	delete(m.wishes, id)
	if _, had := m.answered[id]; had {
		return
	}
	m.answered[id] = a
	if answerTo(w) != nil && m.meta != nil {
		rec := &answerRecord{Wish: w.Wish()}
		if err != nil {
			rec.Error = err.Error()
			for _, s := range sentinels {
				if errors.Is(err, s) {
					rec.Cause = append(rec.Cause, s.Error())
				}
			}
		}
		if v != nil {
			rec.Value = mustJSON(v)
		}
		m.keepAnswer(id, rec)
	}
	m.remember(id)
}

func (m *Machine) keepAnswer(id uint64, rec *answerRecord) {
	m.counters.order++
	m.saveCounters()
	rec.Order = m.counters.order
	m.put(m.key(keyRequest, wire.U64(id)), mustJSON(rec))
	m.durable[id] = rec
}

// remember drops the oldest answers beyond maxAnswered.
func (m *Machine) remember(id uint64) {
	if !slices.Contains(m.commands, id) {
		m.commands = append(m.commands, id)
	}
	for len(m.commands) > maxAnswered {
		old := m.commands[0]
		m.commands = m.commands[1:]
		delete(m.answered, old)
		if m.durable[old] != nil {
			delete(m.durable, old)
			m.del(m.key(keyRequest, wire.U64(old)))
		}
	}
}

// begunText notes, in the turn that puts a text into the outbox, whose command it
// is: repeated after a crash it waits on, and sends nothing.
func (m *Machine) begunText(id uint64, k messageKey) {
	m.keepAnswer(id, &answerRecord{Wish: SendText{}.Wish(), Begun: k.bytes()})
	m.remember(id)
}

// repeated answers a command that came before as it was answered then.
func (m *Machine) repeated(id uint64, w any) bool {
	if a, ok := m.answered[id]; ok {
		m.answers = append(m.answers, a)
		return true
	}
	if m.starting.queues(id) || slices.ContainsFunc(m.waiting, func(w waiter) bool { return w.id == id }) {
		return true
	}
	rec := m.durable[id]
	if rec == nil {
		return false
	}
	a := broadcast.Answer{ID: id}
	text, sends := w.(SendText)
	to := answerTo(w)
	switch {
	case rec.Begun != nil && sends:
		return m.goOn(id, text, rec.Begun)
	case to == nil || rec.Begun != nil || rec.Wish != w.(Wish).Wish():
		a.Err = fmt.Errorf("%w: command %d was another one", ErrTaken, id)
		m.answers = append(m.answers, a)
		return true
	case rec.Value != nil:
		if err := json.Unmarshal(rec.Value, to); err != nil {
			a.Err = fmt.Errorf("%w: its answer does not read: %w", ErrStore, err)
			break
		}
		a.Value = reflect.ValueOf(to).Elem().Interface()
	}
	if rec.Error != "" {
		e := &answeredError{text: rec.Error}
		for _, s := range sentinels {
			if slices.Contains(rec.Cause, s.Error()) {
				e.causes = append(e.causes, s)
			}
		}
		a.Err = e
	}
	m.answered[id] = a
	m.answers = append(m.answers, a)
	return true
}

// goOn waits on for the receipts of a text that an earlier opening sent.
func (m *Machine) goOn(id uint64, w SendText, begun []byte) bool {
	var k messageKey
	r := wire.NewReader(begun)
	r.Fixed(k.seat[:])
	r.Fixed(k.incarnation[:])
	k.sequence = r.U64()
	m.wishes[id] = w
	msg, dl := m.messages[k], m.delivery.byKey[k]
	if r.Done() != nil || msg == nil && dl == nil {
		m.answer(id, nil, fmt.Errorf("%w: the text was sent, its receipts are not known any more", ErrNoSuch))
		return true
	}
	var d wire.Digest
	if dl != nil {
		d = dl.d
	} else {
		d = msg.d
	}
	s := sentText{info: SentInfo{ID: d.Short(), Relays: len(m.used())}, posts: map[int]wire.PostID{}, took: map[int]bool{}, repair: m.repairOf(d)}
	for _, p := range m.paths {
		for _, q := range p.queue {
			if b := m.bundles[q.bundle]; (q.kind == postBundle || q.kind == postDigest) && b != nil && b.key == k {
				s.posts[p.index] = q.id
			}
		}
		if dl != nil && dl.relays[p.index].phase == relayReceipt {
			s.took[p.index] = true
		}
	}
	if s.repair != nil {
		s.info.Carriers = s.repair.want
	}
	if dl != nil {
		for _, state := range dl.set.states {
			switch state {
			case slotSent, slotUnanswered:
				s.info.Members++
			case slotNone:
				s.info.Waiting++
			default:
				s.info.Held++
			}
		}
	}
	m.waitSent(id, w.Wait, s)
	m.answerWaiting()
	return true
}

// loadRequest and loadAcked read back what of this was stored.
func (m *Machine) loadRequest(key, value []byte) error {
	kr := wire.NewReader(key)
	id, rec := kr.U64(), &answerRecord{}
	if err := kr.Done(); err != nil {
		return err
	}
	if err := json.Unmarshal(value, rec); err != nil {
		return err
	}
	m.durable[id] = rec
	return nil
}

func (m *Machine) loadAcked(key, value []byte) error {
	r := wire.NewReader(value)
	m.acked[string(key)] = r.U64()
	return r.Done()
}

// orderAnswers puts the commands of earlier openings in order.
func (m *Machine) orderAnswers() {
	m.commands = slices.SortedFunc(maps.Keys(m.durable), func(a, b uint64) int {
		return cmp.Compare(m.durable[a].Order, m.durable[b].Order)
	})
}
