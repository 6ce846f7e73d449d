package relay

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// ErrInput: an input that no driver of a relay sends.
var ErrInput = errors.New("relay: unexpected input")

// machine is one channel. Requests wait in live until the turn that answers
// them is durable; whatever becomes of turns, live is what is redone.
type machine struct {
	cfg     *Config
	self    keys.RelayPublic
	unit    store.Unit
	entropy broadcast.Entropy
	now     time.Time

	st      *state // ahead of the store by turns and cur
	durable meta   // what Applied confirmed; head.N 0: no channel

	links map[broadcast.Link]*link
	subs  []*link // links with an open mailbox, by age

	live    []*request // not answered durably, by arrival; done ones go in sweep
	queue   []*request // to be looked at by run
	bytes   int        // bodies of live requests
	waiting int        // live requests that are not done

	cur     turn
	turns   []*turn // handed over and not Applied
	number  uint64  // of the last turn
	outNow  []broadcast.Send
	outRead []broadcast.Read
	reads   map[uint64]read
	lastID  uint64
	reader  store.Reader // set while Changed is handled: reads are done at once

	tail      []*entry // newest entries, dense; pending ones included
	tailBytes int
	recent    map[wire.PostID]crossverify.Statement
	order     []wire.PostID // of recent, by number
	evicted   uint64        // the newest number whose post id left recent
	unapplied map[wire.Digest]pendingValue
	lists     listCache

	pumping  []*link // subscribers to be served
	starved  []*link // subscribers that wait for a catching-up read
	catching int     // reads of that kind under way
	budget   int     // bytes that may still be pushed before the next Ready

	trimming   bool      // a step is under way
	trimAfter  time.Time // not before
	hintDue    time.Time // zero: nothing to hint
	refreshDue time.Time // zero: not Shared, or nobody is here
}

// turn is what one Ready hands over.
type turn struct {
	number  uint64
	ops     []store.Op
	durable bool // ops hold more than hints
	changed bool // meta changed
	sends   []broadcast.Send
	reqs    []*request       // answered in this turn
	fences  []*request       // to be looked at again when the store confirmed
	gaps    []*link          // same
	born    []wire.MailboxID // registered in this turn
	after   meta
	trims   bool
}

// pendingValue is a board value that the store may not have yet.
type pendingValue struct {
	version uint64
	value   []byte
	turn    uint64
}

// read is what a Loaded is for: a request, a link, or (neither) trimming or a
// refresh.
type read struct {
	req     *request
	from    string // req only: first key
	link    *link
	list    wire.Digest // link only; zero: entries
	next    uint64      // link only: first entry asked for
	refresh bool
}

// Open returns what opens a relay's channels. It refuses a Config that
// Validate refuses, a unit of another relay key (ErrForeign), of a newer
// format (ErrFormat) and one with a damaged record (ErrCorrupt).
func Open(cfg Config) broadcast.Open {
	err := cfg.Validate()
	cfg.Limits.setDefaults()
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		if err != nil {
			return nil, err
		}
		m := &machine{
			cfg: &cfg, self: cfg.Key.Public(), unit: u, entropy: e,
			links: map[broadcast.Link]*link{}, reads: map[uint64]read{},
			recent: map[wire.PostID]crossverify.Statement{}, unapplied: map[wire.Digest]pendingValue{},
			lists: listCache{max: cfg.Limits.CachedFanouts}, budget: cfg.Limits.PushBytes,
		}
		var err error
		if m.st, err = load(r, u, m.self, nil); err != nil {
			return nil, err
		}
		m.durable = m.st.meta
		return m, nil
	}
}

// Step implements broadcast.Machine. What a member does wrong is answered on
// its link and is no error.
func (m *machine) Step(now time.Time, in broadcast.Input) error {
	m.clock(now)
	switch in := in.(type) {
	case broadcast.Up:
		if m.links[in.Link] != nil {
			return fmt.Errorf("%w: link %d is up twice", ErrInput, in.Link)
		}
		m.links[in.Link] = &link{id: in.Link}
		if m.cfg.Shared && m.refreshDue.IsZero() {
			m.refreshDue = m.now.Add(m.cfg.Limits.Refresh)
		}
	case broadcast.Down:
		if lk := m.links[in.Link]; lk != nil {
			delete(m.links, in.Link)
			m.leave(lk)
		}
	case broadcast.Received:
		// A frame may cross the end of its link.
		if lk := m.links[in.Link]; lk != nil && !lk.closed {
			return m.received(lk, in.Frame)
		}
	case broadcast.Loaded:
		return m.loaded(in)
	case broadcast.Applied:
		return m.applied(in.Turn)
	case broadcast.Changed:
		return m.reload(in.Reader)
	default:
		return fmt.Errorf("%w: %T", ErrInput, in)
	}
	return nil
}

func (m *machine) clock(now time.Time) {
	if now.After(m.now) {
		m.now = now
	}
}

// unix is now in seconds; 0 before 1970.
func (m *machine) unix() uint64 { return uint64(max(m.now.Unix(), 0)) }

// Tick implements broadcast.Machine: trimming, lazy hints, and looking up
// whether another front-end wrote.
func (m *machine) Tick(now time.Time) {
	m.clock(now)
	m.trim()
	if !m.hintDue.IsZero() && !m.now.Before(m.hintDue) {
		m.hintDue = time.Time{}
		m.writeHints()
	}
	if !m.refreshDue.IsZero() && !m.now.Before(m.refreshDue) {
		m.refreshDue = time.Time{}
		if len(m.links) > 0 {
			m.refreshDue = m.now.Add(m.cfg.Limits.Refresh)
			m.issue(read{refresh: true}, key(m.unit, keyMeta), nil, 0)
		}
	}
}

// Ready implements broadcast.Machine.
func (m *machine) Ready() broadcast.Ready {
	m.run()
	m.pump()
	r := broadcast.Ready{Sends: m.cur.sends, Now: m.outNow, Reads: m.outRead}
	if t := &m.cur; len(t.ops) > 0 || len(t.fences) > 0 || len(t.gaps) > 0 {
		if t.changed {
			t.ops = append(t.ops, store.Op{Key: key(m.unit, keyMeta), Value: m.st.meta.encode()})
		}
		r.Write = &store.Batch{Unit: m.unit, Base: m.st.rev, Ops: t.ops, Lazy: !t.durable}
		m.st.rev++
	}
	if r.Write != nil || len(r.Sends) > 0 {
		t := m.cur
		m.number++
		t.number, t.after, r.Turn = m.number, m.st.meta, m.number
		t.ops, t.sends = nil, nil
		m.turns = append(m.turns, &t)
	}
	m.cur = turn{}
	m.outNow, m.outRead, m.budget = nil, nil, m.cfg.Limits.PushBytes
	r.Wake = m.wake()
	return r
}

func (m *machine) wake() time.Time {
	if len(m.pumping) > 0 {
		return m.now
	}
	var w time.Time
	for _, t := range []time.Time{m.hintDue, m.refreshDue, m.trimDue()} {
		if !t.IsZero() && (w.IsZero() || t.Before(w)) {
			w = t
		}
	}
	return w
}

// op adds to the write of this turn. Ops apply in order: a later one on the
// same key wins.
func (m *machine) op(key, value []byte) {
	m.cur.ops = append(m.cur.ops, store.Op{Key: key, Value: value})
	m.cur.durable = true
}

func (m *machine) opRange(from, to []byte) {
	m.cur.ops = append(m.cur.ops, store.Op{Key: from, To: to})
	m.cur.durable = true
}

// issue asks for a read; loaded gets it back.
func (m *machine) issue(rd read, from, to []byte, limit int) uint64 {
	m.lastID++
	m.reads[m.lastID] = rd
	m.outRead = append(m.outRead, broadcast.Read{ID: m.lastID, From: from, To: to, Limit: limit})
	return m.lastID
}

func (m *machine) loaded(in broadcast.Loaded) error {
	rd, ok := m.reads[in.ID]
	if !ok {
		return nil // forgotten by Changed, or its link is gone
	}
	delete(m.reads, in.ID)
	switch {
	case rd.req != nil:
		m.loadedRequest(rd.req, rd.from, in)
		return nil
	case rd.link != nil:
		return m.loadedLink(rd, in)
	case rd.refresh:
		// Compare with what is durable; a turn under way settles it as well.
		if in.Err == nil && len(m.turns) == 0 && m.moved(in.KVs) {
			m.cur.gaps = append(m.cur.gaps, nil)
		}
		return nil
	}
	return m.loadedSpine(in)
}

func (m *machine) moved(kvs []store.KV) bool {
	if len(kvs) == 0 {
		return m.durable.head.N != 0
	}
	return !bytes.Equal(kvs[0].Value, m.durable.encode())
}

// applied: everything up to this turn is durable.
func (m *machine) applied(number uint64) error {
	if len(m.turns) == 0 || number < m.turns[0].number {
		return nil // its turn was voided by Changed
	}
	t := m.turns[0]
	if number != t.number {
		return fmt.Errorf("%w: Applied{%d}, turn %d comes first", ErrInput, number, t.number)
	}
	m.turns = m.turns[1:]
	moved := m.durable.head != t.after.head || m.durable.first != t.after.first
	m.durable = t.after
	if t.trims {
		m.trimming = false
	}
	for name, v := range m.unapplied {
		if v.turn <= number {
			delete(m.unapplied, name)
		}
	}
	for _, q := range t.reqs {
		if !q.done && q.turn == number {
			m.settle(q)
		}
	}
	for _, q := range t.fences {
		if !q.done {
			q.confirmed, q.got = true, nil
			m.queue = append(m.queue, q)
		}
	}
	for _, lk := range t.gaps {
		if lk != nil {
			m.enqueue(lk)
		}
	}
	if moved {
		m.forgetPosts()
		m.enqueueAll()
	}
	return nil
}

// reload is Changed: everything that was not Applied is void.
func (m *machine) reload(r store.Reader) error {
	old := m.st
	// A store that moved to the counter that is only pending here holds
	// something else under it.
	if old.meta.boardRev != m.durable.boardRev {
		old.meta.boardRev = ^uint64(0)
	}
	if old.meta.mailboxRev != m.durable.mailboxRev {
		old.meta.mailboxRev = ^uint64(0)
	}
	st, err := load(r, m.unit, m.self, old)
	if err != nil {
		return err
	}
	m.cutTail(st.meta.head)
	m.st, m.durable = st, st.meta
	m.turns, m.cur, m.trimming = nil, turn{}, false
	clear(m.reads)
	clear(m.recent)
	clear(m.unapplied)
	m.order, m.evicted, m.outRead, m.starved, m.catching = nil, 0, nil, nil, 0
	for _, lk := range m.subs {
		lk.sub.reading, lk.sub.starved, lk.sub.gaps = 0, false, 0
	}
	m.sweep()
	m.queue = m.queue[:0]
	for _, q := range m.live {
		q.got, q.reads, q.turn, q.confirmed = nil, 0, 0, true
		m.queue = append(m.queue, q)
	}
	m.reader = r
	m.run()
	m.reader = nil
	m.enqueueAll()
	return nil
}

// run looks at what came: openings first, so that a relay that was shown its
// future signs nothing of its past.
func (m *machine) run() {
	if m.st.restored {
		if err := m.renew(0); err == nil {
			m.st.restored = false
			m.op(key(m.unit, keyRestored), nil)
		}
	}
	for len(m.queue) > 0 {
		q := m.queue
		m.queue = nil
		slices.SortStableFunc(q, func(a, b *request) int { return a.rank() - b.rank() })
		for _, r := range q {
			if !r.done && r.turn == 0 {
				m.exec(r)
			}
		}
	}
}

// recall takes back what this turn answered, to be looked at again.
func (m *machine) recall() {
	for _, id := range m.cur.born {
		delete(m.st.boxes, id)
	}
	for _, q := range m.cur.reqs {
		q.turn, q.got = 0, nil
	}
	m.queue = append(m.queue, m.cur.reqs...)
	m.cur.reqs, m.cur.sends, m.cur.born = nil, nil, nil
}
