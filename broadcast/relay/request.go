package relay

import (
	"errors"
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// request is a frame that asks for something that depends on the channel's
// state. It lives until the turn with its answer is durable, and is looked at
// from the beginning as often as that turn is void.
type request struct {
	link *link
	msg  proto.Message
	of   uint8
	post wire.PostID // zero: none
	size int

	done      bool
	turn      uint64   // that answers it; 0: none yet
	confirmed bool     // the store confirmed our state after it came
	verified  bool     // its signatures are good
	signer    [32]byte // the channel's key that they are good under; zero: keys of its own
	tries     int      // how often the store and our state did not fit each other
	d, slots  wire.Digest
	head      uint64            // durable when got was asked for
	got       map[string]answer // what was read for it, by first key
	reads     int               // under way for it
	onApplied func()
}

// maxTries is how often a request is looked at again because the store and our
// state do not fit each other, before it is told to come later. Default: 16.
const maxTries = 16

type answer struct {
	kvs  []store.KV
	more bool
}

// rank puts openings first.
func (q *request) rank() int {
	if q.of == proto.TypeOpen {
		return 0
	}
	return 1
}

// request admits a frame to the queue, or refuses it for its rate.
func (m *machine) request(lk *link, msg proto.Message, size int) {
	q := &request{link: lk, msg: msg, of: msg.Type(), size: size}
	l := &m.cfg.Limits
	b, rate, name := &lk.posts, l.PostsPerMinute, "PostsPerMinute"
	switch msg := msg.(type) {
	case proto.Create:
		q.post = msg.PostID
	case proto.Grant:
		q.post = msg.PostID
	case proto.Rotate:
		q.post = msg.PostID
	case proto.Post:
		q.post = msg.PostID
	case proto.PostDigest:
		q.post = msg.PostID
	case proto.BoardPut:
		q.post = msg.PostID
	case proto.Admit:
		q.post = msg.PostID
	case proto.Register:
	case proto.Open:
		if lk.opening {
			m.refuse(lk, q.of, q.post, &proto.Refusal{Code: proto.CodeMalformed, Err: errOpenOnce}, false)
			return
		}
		lk.opening = true
	default:
		b, rate, name = &lk.requests, l.RequestsPerMinute, "RequestsPerMinute"
	}
	if wait := b.take(m.now, rate); wait > 0 {
		m.refuse(lk, q.of, q.post, &proto.Refusal{Code: proto.CodeRate, Limit: name, Retry: wait}, false)
		if q.of == proto.TypeOpen {
			lk.opening = false
		}
		return
	}
	if m.waiting >= l.MaxPending || m.bytes+size > l.MaxPendingBytes && m.waiting > 0 {
		m.refuse(lk, q.of, q.post, &proto.Refusal{Code: proto.CodeBusy, Limit: "MaxPending", Retry: time.Second}, false)
		if q.of == proto.TypeOpen {
			lk.opening = false
		}
		return
	}
	m.live = append(m.live, q)
	m.queue = append(m.queue, q)
	m.waiting++
	m.bytes += size
}

// settle ends a request whose answer is out.
func (m *machine) settle(q *request) {
	m.finish(q)
	if q.onApplied != nil && !q.link.closed {
		q.onApplied()
	}
}

func (m *machine) finish(q *request) {
	q.done, q.got = true, nil
	m.waiting--
	m.bytes -= q.size
	if len(m.live) > 2*m.waiting+64 {
		m.sweep()
	}
}

// sweep drops requests that are done, and those whose asker is gone.
func (m *machine) sweep() {
	keep := m.live[:0]
	for _, q := range m.live {
		if !q.done && q.link.closed && q.turn == 0 {
			q.done = true
			m.waiting--
			m.bytes -= q.size
		}
		if !q.done {
			keep = append(keep, q)
		}
	}
	clear(m.live[len(keep):])
	m.live = keep
}

// reply answers in this turn: the frame leaves when the state that it depends
// on is durable.
func (m *machine) reply(q *request, msg proto.Message) {
	q.turn = m.number + 1
	m.cur.reqs = append(m.cur.reqs, q)
	m.cur.sends = append(m.cur.sends, broadcast.Send{Link: q.link.id, Frame: proto.Encode(msg)})
}

// deny refuses. If other front-ends may know better, the store is asked first.
func (m *machine) deny(q *request, r *proto.Refusal) {
	if m.cfg.Shared && !q.confirmed {
		m.fence(q)
		return
	}
	if q.of == proto.TypeOpen {
		q.link.opening = false
	}
	m.reply(q, r.Frame(q.of, q.post))
}

func (m *machine) denyf(q *request, code proto.Code, format string, args ...any) {
	m.deny(q, &proto.Refusal{Code: code, Err: fmt.Errorf(format, args...)})
}

func (m *machine) denyLimit(q *request, code proto.Code, limit string, retry time.Duration) {
	m.deny(q, &proto.Refusal{Code: code, Limit: limit, Retry: retry})
}

// fence writes this turn at its base whether there is something to write or
// not: Applied says that the state was the newest, Changed that it was not.
// The request is looked at again after either.
func (m *machine) fence(q *request) {
	if q.tries++; q.tries > maxTries {
		m.unreadable(q, errMoved)
		return
	}
	m.cur.fences = append(m.cur.fences, q)
}

// scan reads [from, to) for a request (to nil: one key). ready is false while
// the answer is under way: the request is looked at again when it came.
func (m *machine) scan(q *request, from, to []byte, limit int) (a answer, ready bool) {
	if a, ok := q.got[string(from)]; ok {
		return a, true
	}
	if m.reader == nil {
		if q.head = 0; m.durable.lineage() == m.st.meta.lineage() {
			q.head = m.durable.head.N
		}
		m.issue(read{req: q, from: string(from)}, from, to, limit)
		q.reads++
		return answer{}, false
	}
	var err error
	if to == nil {
		var v []byte
		if v, err = m.reader.Get(from); err == nil {
			a.kvs = []store.KV{{Key: from, Value: v}}
		} else if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
	} else {
		a.kvs, a.more, err = m.reader.Scan(from, to, limit)
	}
	if err != nil {
		m.unreadable(q, err)
		return answer{}, false
	}
	return a, true
}

// get reads one key for a request; value is nil if there is none.
func (m *machine) get(q *request, key []byte) (value []byte, ready bool) {
	a, ready := m.scan(q, key, nil, 0)
	if len(a.kvs) > 0 {
		value = a.kvs[0].Value
	}
	return value, ready
}

func (m *machine) loadedRequest(q *request, from string, in broadcast.Loaded) {
	if q.reads--; q.done {
		return
	}
	if in.Err != nil {
		m.unreadable(q, in.Err)
		return
	}
	if q.got == nil {
		q.got = map[string]answer{}
	}
	q.got[from] = answer{in.KVs, in.More}
	if q.reads == 0 {
		m.queue = append(m.queue, q)
	}
}

// unreadable gives a request up: the store could not be read.
func (m *machine) unreadable(q *request, err error) {
	if q.of == proto.TypeOpen {
		q.link.opening = false
	}
	m.finish(q)
	m.refuse(q.link, q.of, q.post, &proto.Refusal{Code: proto.CodeBusy, Retry: time.Second, Err: err}, false)
}

// exec looks at a request with the state as it is now.
func (m *machine) exec(q *request) {
	if create, ok := q.msg.(proto.Create); ok {
		m.create(q, create)
		return
	}
	if !m.st.exists || m.st.meta.channel != q.link.channel {
		// Looked up, not confirmed by a write: the store would remember every
		// channel that anybody asks for.
		if m.cfg.Shared && !m.st.exists {
			v, ready := m.get(q, key(m.unit, keyMeta))
			if !ready {
				return
			}
			if v != nil {
				m.fence(q)
				return
			}
		}
		q.confirmed = true
		m.denyf(q, proto.CodeNoChannel, "create the channel with a token first")
		return
	}
	switch msg := q.msg.(type) {
	case proto.Grant:
		m.grant(q, msg)
	case proto.Rotate:
		m.rotate(q, msg)
	case proto.Register:
		m.register(q, msg)
	case proto.Open:
		m.open(q, msg)
	case proto.Fetch:
		m.fetch(q, msg)
	case proto.Post:
		m.post(q, msg)
	case proto.PostDigest:
		m.postDigest(q, msg)
	case proto.BoardPut:
		m.boardPut(q, msg, false)
	case proto.Admit:
		m.boardPut(q, msg.BoardPut, true)
	case proto.BoardList:
		m.boardList(q, msg)
	case proto.BoardProve:
		m.reply(q, proto.BoardProof{Name: msg.Name, Proof: m.st.board.tree.Prove(msg.Name), Statement: m.st.meta.head})
	case proto.BoardWalk:
		m.boardWalk(q, msg)
	case proto.StatementOf:
		m.statementOf(q, msg.N)
	case proto.SlotBlock:
		m.slotBlock(q, msg.N)
	}
}

// verify checks signatures once: they are by keys that the frame names, or that
// no state changes.
func (q *request) verify(check func() bool) bool {
	q.verified = q.verified || check()
	return q.verified
}

// verifyUnder checks a signature by a key of the channel once for each key: a
// rotation, this machine's or another front-end's, may come between two looks.
func (q *request) verifyUnder(key [32]byte, check func() bool) bool {
	if q.signer != key {
		q.signer, q.verified = key, false
	}
	return q.verify(check)
}
