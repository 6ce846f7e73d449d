package relay

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// link is one stranger's connection.
type link struct {
	id       broadcast.Link
	greeted  bool // Hello was accepted
	closed   bool // refused for good; what still comes is not read
	channel  wire.ChannelID
	nonce    proto.Nonce
	opening  bool // an Open is under way or done
	sub      *sub // the open mailbox; nil: none
	posts    bucket
	requests bucket
}

// sub is the reading side of a link: live push and catching up are one
// position and one window.
type sub struct {
	box     wire.MailboxID
	shown   crossverify.Position
	lineage wire.Lineage
	pos     uint64 // last number sent
	acked   uint64
	window  uint64
	caught  bool // CaughtUp was sent

	next, to uint64 // Fetch: numbers still to be sent again; next 0: none

	reading  uint64 // read under way; 0: none
	queued   bool   // in machine.pumping
	starved  bool   // in machine.starved
	gaps     int    // met since something was sent or the state was read again
	listHash wire.Digest
	list     []wire.MailboxID // read last for this link: so that it always gets on
}

// bucket lets a minute's worth of requests through at once, then as many as
// flow in.
type bucket struct {
	last   time.Time
	credit time.Duration
}

// take answers zero, or how long to wait.
func (b *bucket) take(now time.Time, perMinute int) time.Duration {
	cost := max(time.Minute/time.Duration(perMinute), 1)
	if b.last.IsZero() {
		b.credit = time.Minute
	} else {
		b.credit = min(time.Minute, b.credit+now.Sub(b.last))
	}
	b.last = now
	if b.credit < cost {
		return cost - b.credit
	}
	b.credit -= cost
	return 0
}

// tell sends what depends on nothing that is not durable.
func (m *machine) tell(lk *link, msg proto.Message) {
	m.outNow = append(m.outNow, broadcast.Send{Link: lk.id, Frame: proto.Encode(msg)})
}

// refuse answers at once: for what no state of the channel would change.
func (m *machine) refuse(lk *link, of uint8, id wire.PostID, r *proto.Refusal, end bool) {
	m.outNow = append(m.outNow, broadcast.Send{Link: lk.id, Frame: proto.Encode(r.Frame(of, id)), Close: end})
	if end {
		m.leave(lk)
	}
}

var (
	errHelloFirst = errors.New("the first frame of a link is Hello, and it comes once")
	errDirection  = errors.New("this frame goes from relay to member")
	errOpenOnce   = errors.New("a link opens one mailbox, once")
	errNotOpen    = errors.New("open a mailbox on this link first")
	errWindow     = errors.New("a window of no entries")
)

// received takes one frame. The error is the machine's own trouble, not the
// member's.
func (m *machine) received(lk *link, f broadcast.Frame) error {
	msg, err := proto.Parse(f)
	switch {
	case errors.Is(err, proto.ErrSkippable):
		return nil
	case err != nil:
		m.refuse(lk, f.Type, wire.PostID{}, proto.RefusalOf(err), true)
		return nil
	}
	hello, isHello := msg.(proto.Hello)
	switch {
	case !proto.FromMember(f.Type):
		m.refuse(lk, f.Type, wire.PostID{}, &proto.Refusal{Code: proto.CodeMalformed, Err: errDirection}, true)
		return nil
	case isHello == lk.greeted:
		m.refuse(lk, f.Type, wire.PostID{}, &proto.Refusal{Code: proto.CodeMalformed, Err: errHelloFirst}, true)
		return nil
	case isHello:
		return m.hello(lk, hello)
	}
	switch msg := msg.(type) {
	case proto.Ping:
		m.tell(lk, proto.Pong(msg))
	case proto.Info:
		info := proto.InfoIs{Operator: m.cfg.Operator, Name: m.cfg.OperatorName, Families: m.cfg.Families}
		copy(info.Signature[:], m.cfg.OperatorSignature)
		m.tell(lk, info)
	case proto.Bye:
		m.outNow = append(m.outNow, broadcast.Send{Link: lk.id, Close: true})
		m.leave(lk)
	case proto.Ack:
		m.ack(lk, msg.UpTo)
	default:
		m.request(lk, msg, len(f.Body))
	}
	return nil
}

func (m *machine) hello(lk *link, h proto.Hello) error {
	no := func(code proto.Code, format string, args ...any) error {
		m.refuse(lk, proto.TypeHello, wire.PostID{}, &proto.Refusal{Code: code, Err: fmt.Errorf(format, args...)}, true)
		return nil
	}
	if h.Min > proto.Version || h.Max < proto.Version {
		return no(proto.CodeVersion, "this relay speaks version %d, asked for %d to %d", proto.Version, h.Min, h.Max)
	}
	if Unit(h.Channel) != m.unit {
		return no(proto.CodeNoChannel, "the link belongs to another channel")
	}
	if _, err := io.ReadFull(m.entropy, lk.nonce[:]); err != nil {
		return fmt.Errorf("relay: no randomness for a nonce: %w", err)
	}
	lk.greeted, lk.channel = true, h.Channel
	m.tell(lk, proto.Welcome{
		Version: proto.Version, MaxFrame: proto.MaxFrame,
		MaxWindow: m.cfg.Limits.MaxWindow, Retention: m.cfg.Limits.Retention, Nonce: lk.nonce,
	})
	return nil
}

// leave ends what a link gets. What it asked for and is not answered yet
// becomes durable, or not: the sender asks again.
func (m *machine) leave(lk *link) {
	lk.closed = true
	s := lk.sub
	if s == nil {
		return
	}
	m.subs = slices.DeleteFunc(m.subs, func(o *link) bool { return o == lk })
	if box := m.st.boxes[s.box]; box != nil {
		box.links--
	}
	if s.reading != 0 {
		delete(m.reads, s.reading)
		m.release(lk)
	}
	lk.sub = nil
}

func (m *machine) ack(lk *link, upTo uint64) {
	s := lk.sub
	if s == nil {
		m.refuse(lk, proto.TypeAck, wire.PostID{}, &proto.Refusal{Code: proto.CodeNotAllowed, Err: errNotOpen}, false)
		return
	}
	// An Ack of a lineage that ended meanwhile may be beyond the new one.
	upTo = min(upTo, s.pos)
	if upTo <= s.acked {
		return
	}
	s.acked = upTo
	m.hint(s.box, s.lineage, upTo)
	m.enqueue(lk)
}

// hint remembers how far a mailbox is read; it is written lazily, for the day
// when room is needed, and for a member whose store was put back to an older copy.
func (m *machine) hint(id wire.MailboxID, of wire.Lineage, position uint64) {
	box := m.st.boxes[id]
	if box == nil {
		return
	}
	box.seen, box.read, box.position, box.hinted = m.unix(), of, max(position, box.readIn(of)), true
	if m.hintDue.IsZero() {
		m.hintDue = m.now.Add(m.cfg.Limits.HintEvery)
	}
}

func (m *machine) writeHints() {
	for _, id := range sortedBoxes(m.st.boxes) {
		if box := m.st.boxes[id]; box.hinted {
			box.hinted = false
			m.cur.ops = append(m.cur.ops, store.Op{Key: key(m.unit, keyHint, id[:]), Value: box.encodeHint()})
		}
	}
}
