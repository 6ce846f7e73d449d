package member

import (
	"cmp"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// source is whose numbers a sequence counts in.
type source struct {
	seat        wire.Seat
	incarnation wire.Incarnation
}

func (s source) compare(o source) int {
	return cmp.Or(slices.Compare(s.seat[:], o.seat[:]), slices.Compare(s.incarnation[:], o.incarnation[:]))
}

type messageKey struct {
	source
	sequence uint64
}

func (k messageKey) bytes() []byte {
	b := append(slices.Clone(k.seat[:]), k.incarnation[:]...)
	return wire.AppendU64(b, k.sequence)
}

func (k messageKey) subject() crossverify.Subject {
	return crossverify.Envelope(k.seat, k.incarnation, k.sequence)
}

// message is an envelope whose slot opened, or an own one.
type message struct {
	key      messageKey
	d        wire.Digest
	slot     wire.Digest // of this member's slot, share space aside
	event    uint64      // 0: nothing was shown (yet)
	kind     Kind
	sent     int64
	own      bool
	opened   bool
	mismatch bool
	text     string // what is shown; of a shown message its beginning
	late     bool   // it was sent again; slot is zeros then
	passed   string // by whom, where not by its sender
	status   []crossverify.Status
	order    uint64    // of opening
	carriers uint16    // of its header
	digests  uint64    // paths, by index, that match it by its digest alone
	known    time.Time // first, in this opening
	era      int       // who counted when it came
	beyond   bool      // it is told that its sender was out by then, in this opening
	named    int       // times that views of others named it, in this opening
}

// showMessage hands a message to the application, once.
func (m *Machine) showMessage(msg *message) {
	st := m.seatOf(msg.key.seat)
	e := Event{Kind: EventMessage, ID: msg.d.Short(), Seat: msg.key.seat.String(), Member: m.display(st), Text: msg.text, Own: msg.own, Late: msg.late, Passed: msg.passed,
		Marks: m.messageMarks(msg)}
	if msg.sent > 0 {
		e.Sent = unixSeconds(msg.sent)
	}
	msg.event = m.show(e)
	msg.text = preview(msg.text)
}

// preview is what lists show of a text.
func preview(s string) string {
	const most = 60
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}

// marksChanged stores how the paths stand for a message, and shows what waited
// for agreement.
func (m *Machine) marksChanged(msg *message) {
	r := m.ledger.Report(msg.key.subject())
	if msg.opened && !msg.own && msg.kind == KindText && msg.event == 0 && r.Usable {
		m.showMessage(msg)
	}
	if msg.opened && !msg.own && msg.kind == KindAgain && msg.text != "" && r.Usable {
		body := msg.text
		msg.text = ""
		m.sawAnswer(m.seatOf(msg.key.seat), []byte(body))
	}
	for i, s := range r.Status {
		var was crossverify.Status
		if i < len(msg.status) {
			was = msg.status[i]
		}
		if s == was {
			continue
		}
		p := m.paths[i]
		if was != crossverify.Awaiting && p.stats[was] > 0 {
			p.stats[was]--
		}
		if s != crossverify.Awaiting {
			p.stats[s]++
		}
		m.savePath(p)
	}
	msg.status = slices.Clone(r.Status)
	m.saveMessage(msg)
	if msg.event > 0 {
		m.hint(Event{Kind: EventMarks, ID: msg.d.Short(), Seat: msg.key.seat.String(), Marks: m.messageMarks(msg), Own: msg.own})
	}
}

// messageMarks are the statuses of the paths that counted when a message came,
// and of others that have something to say.
func (m *Machine) messageMarks(msg *message) map[string]Mark {
	return m.marksOf(m.ledger.Report(msg.key.subject()).Status, m.meta.Lists.counted(msg.era))
}

func (m *Machine) saveMessage(msg *message) {
	b := append(slices.Clone(msg.d[:]), msg.slot[:]...)
	b = wire.AppendU64(b, msg.event)
	b = append(b, byte(msg.kind))
	b = wire.AppendU64(b, uint64(msg.sent))
	b = wire.AppendBool(b, msg.own)
	b = wire.AppendBool(b, msg.opened)
	b = wire.AppendU64(b, msg.order)
	b = wire.AppendU32(b, uint32(msg.era))
	b = wire.AppendU64(wire.AppendU16(b, msg.carriers), msg.digests)
	b = append(b, byte(len(msg.status)))
	for _, s := range msg.status {
		b = append(b, byte(s))
	}
	b = wire.AppendBytes(b, []byte(msg.text))
	m.put(m.key(keyMessage, msg.key.bytes()), b)
}

func (m *Machine) loadMessage(key, value []byte) error {
	kr := wire.NewReader(key)
	msg := &message{}
	kr.Fixed(msg.key.seat[:])
	kr.Fixed(msg.key.incarnation[:])
	msg.key.sequence = kr.U64()
	if err := kr.Done(); err != nil {
		return err
	}
	r := wire.NewReader(value)
	r.Fixed(msg.d[:])
	r.Fixed(msg.slot[:])
	msg.event, msg.kind, msg.sent = r.U64(), Kind(r.U8()), int64(r.U64())
	msg.own, msg.opened, msg.order = r.Bool(), r.Bool(), r.U64()
	msg.era = int(r.U32())
	msg.carriers, msg.digests = r.U16(), r.U64()
	for _, s := range r.Raw(int(r.U8())) {
		msg.status = append(msg.status, crossverify.Status(s))
	}
	msg.text = string(r.Bytes(MaxContent))
	if err := r.Done(); err != nil {
		return err
	}
	m.messages[msg.key] = msg
	m.digests.of[msg.d] = msg.key
	m.ledger.Restore(msg.key.subject(), msg.d, msg.status, m.eraIn(msg.era))
	if msg.kind == KindText {
		m.recent = append(m.recent, msg)
	}
	return nil
}

func (m *Machine) sortRecent() {
	slices.SortFunc(m.recent, func(a, b *message) int { return int(int64(a.order) - int64(b.order)) })
}

// trimMessages forgets messages on which every path agreed, beyond the newest,
// and the oldest beyond the limit. Their marks stay in their event.
func (m *Machine) trimMessages() {
	const keep = 512
	if len(m.messages) <= max(keep, m.kept)+keep/4 {
		return
	}
	defer func() { m.kept = len(m.messages) }()
	all := make([]*message, 0, len(m.messages))
	for _, msg := range m.messages {
		all = append(all, msg)
	}
	slices.SortFunc(all, func(a, b *message) int { return int(int64(a.order) - int64(b.order)) })
	left := len(all)
	for _, msg := range all[:len(all)-keep] {
		settled := m.ledger.Report(msg.key.subject()).Settled && !slices.Contains(msg.status, crossverify.Silent)
		if !settled && left <= m.cfg.Limits.OpenMessages {
			continue
		}
		left--
		m.forgetMessage(msg)
	}
}

func (m *Machine) forgetMessage(msg *message) {
	delete(m.messages, msg.key)
	delete(m.digests.of, msg.d)
	m.ledger.Forget(msg.key.subject())
	m.del(m.key(keyMessage, msg.key.bytes()))
	m.recent = slices.DeleteFunc(m.recent, func(o *message) bool { return o == msg })
}
