package relay_test

import (
	"crypto/mlkem"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// seeded is randomness from a seed.
type seeded struct{ *rand.ChaCha8 }

func newSeeded(seed uint64) seeded {
	var s [32]byte
	copy(s[:], wire.U64(seed))
	return seeded{rand.NewChaCha8(s)}
}

func (seeded) Encapsulate(*mlkem.EncapsulationKey768) (shared, ct []byte) {
	panic("a relay encapsulates nothing")
}

func (seeded) Fork([32]byte) broadcast.Entropy { panic("a relay has no jobs") }

func seedOf(name string) [32]byte { return wire.Hash("test", []byte(name)) }

var (
	theRelay    = new(keys.RelayPrivate).FromSeed(seedOf("relay"))
	theOperator = new(keys.OperatorPrivate).FromSeed(seedOf("operator"))
	theAdmin    = new(keys.AdminPrivate).FromSeed(seedOf("admin"))
	thePosting  = new(keys.PostingPrivate).FromSeed(seedOf("posting"))
	relayID     = theRelay.Public()
	theChannel  = wire.ChannelID(seedOf("channel"))
	start       = time.Unix(1_800_000_000, 0)
)

// remembered checks each signature once.
func remembered() keys.Verify {
	good := map[wire.Digest]bool{}
	return func(pub [32]byte, message, sig []byte) bool {
		id := wire.Hash("remembered", pub[:], message, sig)
		ok, known := good[id]
		if !known {
			ok = keys.Ed25519(pub, message, sig)
			good[id] = ok
		}
		return ok
	}
}

func config() relay.Config {
	return relay.Config{
		Key: theRelay, Operator: theOperator.Public(), OperatorName: "Somebody",
		OperatorSignature: theOperator.Sign("parallax/1/operator", relayID[:]),
		Verify:            remembered(), Tokens: []string{"open sesame"},
		Limits: relay.Limits{PostsPerMinute: 1 << 20, RequestsPerMinute: 1 << 20},
	}
}

// front is a driver of one machine over one handle of a store.
type front struct {
	open      broadcast.Open
	st        store.Store
	m         broadcast.Machine
	entropy   seeded
	now       time.Time
	turns     []broadcast.Ready // with a Turn, not applied yet
	reads     []broadcast.Read
	wake      time.Time
	conns     map[broadcast.Link]*conn
	last      broadcast.Link
	hinted    bool
	deaf      bool // nobody looks at what is sent
	sent      int
	writes    int
	ops       int
	stepErr   error
	conflicts int
}

func newFront(open broadcast.Open, st store.Store, seed uint64) (*front, error) {
	f := &front{open: open, st: st, entropy: newSeeded(seed), now: start}
	st.Watch(func(store.Unit) { f.hinted = true })
	return f, f.start()
}

// start opens the machine from what is durable: all else is lost.
func (f *front) start() (err error) {
	for _, c := range f.conns {
		c.down = true
	}
	f.turns, f.reads, f.conns = nil, nil, map[broadcast.Link]*conn{}
	f.m, err = f.open(relay.Unit(theChannel), f.st, f.entropy)
	return err
}

func (f *front) step(in broadcast.Input) {
	if err := f.m.Step(f.now, in); err != nil && f.stepErr == nil {
		f.stepErr = err
	}
}

func (f *front) send(sends []broadcast.Send) {
	f.sent += len(sends)
	if f.deaf {
		return
	}
	for _, s := range sends {
		c := f.conns[s.Link]
		if c == nil {
			continue
		}
		if s.Frame.Type != 0 {
			c.receive(s.Frame)
		}
		if s.Close {
			c.hangUp()
		}
	}
}

func (f *front) ready() bool {
	r := f.m.Ready()
	f.wake = r.Wake
	f.send(r.Now)
	f.reads = append(f.reads, r.Reads...)
	if r.Turn != 0 {
		f.turns = append(f.turns, r)
	}
	return r.Turn != 0 || len(r.Now) > 0 || len(r.Reads) > 0
}

func (f *front) changed() {
	f.turns, f.reads, f.hinted = nil, nil, false
	f.step(broadcast.Changed{Reader: f.st})
}

// write makes the oldest turn durable; nil error: it is.
func (f *front) write() error {
	r := f.turns[0]
	if r.Write == nil {
		return nil
	}
	f.writes++
	f.ops += len(r.Write.Ops)
	return f.st.Apply([]store.Batch{*r.Write})[0]
}

func (f *front) apply() {
	if err := f.write(); err != nil {
		f.conflicts++
		f.changed()
		return
	}
	r := f.turns[0]
	f.turns = f.turns[1:]
	f.send(r.Sends)
	f.step(broadcast.Applied{Turn: r.Turn})
}

func (f *front) read(i int) {
	r := f.reads[i]
	f.reads = append(f.reads[:i:i], f.reads[i+1:]...)
	in := broadcast.Loaded{ID: r.ID}
	if r.To == nil {
		v, err := f.st.Get(r.From)
		if err == nil {
			in.KVs = []store.KV{{Key: r.From, Value: v}}
		} else if !errors.Is(err, store.ErrNotFound) {
			in.Err = err
		}
	} else {
		in.KVs, in.More, in.Err = f.st.Scan(r.From, r.To, r.Limit)
	}
	f.step(in)
}

// settle runs the machine until it rests.
func (f *front) settle() {
	for range 10_000 {
		busy := f.ready()
		for len(f.turns) > 0 {
			f.apply()
			busy = true
		}
		for len(f.reads) > 0 {
			f.read(0)
			busy = true
		}
		if f.hinted {
			f.changed()
			busy = true
		}
		if !f.wake.IsZero() && !f.wake.After(f.now) {
			f.m.Tick(f.now)
			busy = true
		}
		if !busy {
			return
		}
	}
	f.stepErr = errors.New("the machine does not come to rest")
}

func (f *front) sleep(d time.Duration) {
	f.now = f.now.Add(d)
	f.m.Tick(f.now)
	f.settle()
}

// conn is the member's end of a link.
type conn struct {
	f     *front
	id    broadcast.Link
	nonce proto.Nonce
	got   []proto.Message
	down  bool
	hear  func(proto.Message) // instead of got
}

func (f *front) dial() *conn {
	f.last++
	c := &conn{f: f, id: f.last}
	f.conns[c.id] = c
	f.step(broadcast.Up{Link: c.id})
	c.send(proto.Hello{Min: 1, Max: 1, Channel: theChannel})
	return c
}

func (c *conn) receive(fr broadcast.Frame) {
	msg, err := proto.Parse(fr)
	if err != nil {
		panic(fmt.Sprintf("the relay sent what nobody can parse: %v", err))
	}
	if w, ok := msg.(proto.Welcome); ok {
		c.nonce = w.Nonce
	}
	if c.hear != nil {
		c.hear(msg)
		return
	}
	c.got = append(c.got, msg)
}

func (c *conn) send(msg proto.Message) {
	if !c.down {
		c.f.step(broadcast.Received{Link: c.id, Frame: proto.Encode(msg)})
	}
}

func (c *conn) hangUp() {
	if !c.down {
		c.down = true
		delete(c.f.conns, c.id)
		c.f.step(broadcast.Down{Link: c.id})
	}
}

// ask sends, settles, and returns what came.
func (c *conn) ask(msgs ...proto.Message) []proto.Message {
	c.f.settle()
	c.got = nil
	for _, m := range msgs {
		c.send(m)
	}
	c.f.settle()
	got := c.got
	c.got = nil
	return got
}

// one asks and wants one answer of type T.
func one[T proto.Message](t *testing.T, c *conn, msg proto.Message) T {
	t.Helper()
	got := c.ask(msg)
	if len(got) != 1 {
		t.Fatalf("%T: got %d answers %v, want one", msg, len(got), got)
	}
	v, ok := got[0].(T)
	if !ok {
		t.Fatalf("%T: got %T %+v, want %T", msg, got[0], got[0], v)
	}
	return v
}

func refused(t *testing.T, c *conn, msg proto.Message, code proto.Code) proto.Refused {
	t.Helper()
	r := one[proto.Refused](t, c, msg)
	if r.Code != code || r.Of != msg.Type() {
		t.Fatalf("%T: refused %v of type %d (%s, limit %q), want %v", msg, r.Code, r.Of, r.Text, r.Limit, code)
	}
	return r
}

// Frames of members.

func postID(name string) wire.PostID {
	d := wire.Hash("post", []byte(name))
	return wire.PostID(d[:16])
}

func createFrame() proto.Create {
	c := proto.Create{PostID: postID("create"), Token: []byte("open sesame"), Posting: thePosting.Public()}
	c.Sign(theAdmin, relayID, theChannel)
	return c
}

func mailboxKey(name string) keys.MailboxPrivate {
	return new(keys.MailboxPrivate).FromSeed(seedOf("mailbox " + name))
}

func mailboxID(name string) wire.MailboxID {
	return proto.MailboxOf(relayID, theChannel, mailboxKey(name).Public())
}

func registerFrame(name string, by keys.PostingPrivate) proto.Register {
	r := proto.Register{Mailbox: mailboxKey(name).Public()}
	r.Sign(by, relayID, theChannel)
	return r
}

func (c *conn) openFrame(name string, at crossverify.Position, window uint32, known *crossverify.Statement) proto.Open {
	o := proto.Open{Lineage: at.Lineage, After: at.N, Window: window, Known: known}
	o.Sign(mailboxKey(name), relayID, theChannel, c.nonce)
	return o
}

func postFrame(name string, exceptions broadcast.Exceptions, size int, to ...string) proto.Post {
	list := make([]wire.MailboxID, len(to))
	for i := range to {
		list[i] = mailboxID(to[i])
	}
	broadcast.SortFanout(list)
	r := newSeeded(uint64(len(name)))
	p := proto.Post{PostID: postID(name), Fanout: broadcast.FanoutHash(list), Mailboxes: list, Exceptions: exceptions}
	d := wire.Hash("hint", []byte(name))
	copy(p.Hint[:], d[:])
	copy(p.Nonce[:], d[8:])
	block, err := broadcast.BlockSize(exceptions, len(list))
	if err != nil {
		panic(err)
	}
	p.Envelope, p.Slots = make([]byte, max(size, broadcast.MinEnvelope)), make([]byte, block)
	r.Read(p.Envelope)
	r.Read(p.Slots)
	p.Sign(thePosting, relayID, theChannel, p.Digest())
	return p
}

func digestFrame(name string) proto.PostDigest {
	p := proto.PostDigest{PostID: postID(name)}
	d := wire.Hash("digest", []byte(name))
	copy(p.Hint[:], d[:])
	copy(p.Nonce[:], d[8:])
	copy(p.Sealed[:], d[:])
	p.Sign(thePosting, relayID, theChannel, p.Digest())
	return p
}

func putFrame(post, name string, version uint64, value string, owner string) proto.BoardPut {
	p := proto.BoardPut{PostID: postID(post), Name: wire.Hash("name", []byte(name)), Version: version, Value: []byte(value)}
	p.SignOwner(new(keys.OwnerPrivate).FromSeed(seedOf("owner "+owner)), relayID, theChannel)
	p.Sign(thePosting, relayID, theChannel)
	return p
}

func inviteKey(name string) keys.PostingPrivate {
	return new(keys.PostingPrivate).FromSeed(seedOf("invite " + name))
}

func grantFrame(post, invite string, uses, perHour uint32, expires time.Time, revoke bool) proto.Grant {
	g := proto.Grant{PostID: postID(post), Posting: inviteKey(invite).Public(), Uses: uses, PerHour: perHour, Expires: uint64(expires.Unix()), Revoke: revoke}
	g.Sign(theAdmin, relayID, theChannel)
	return g
}

func admitFrame(post, invite, name string) proto.Admit {
	a := proto.Admit{BoardPut: putFrame(post, name, 1, "admission of "+name, name)}
	a.Sign(inviteKey(invite), relayID, theChannel)
	return a
}

// follower reads a mailbox and checks all that a member checks of the log.
type follower struct {
	name   string
	verify keys.Verify
	at     crossverify.Position
	newest *crossverify.Statement // of this lineage
	seen   []uint64               // numbers delivered, by arrival, in the lineage
	posts  map[wire.Digest]int    // how often a d came
	told   func(crossverify.Statement) error
	err    error
	caught uint64
	opened []proto.Opened
	trims  []proto.Trimmed
	slots  map[uint64][]byte
}

func newFollower(name string, birth crossverify.Statement) *follower {
	return &follower{
		name: name, verify: keys.Ed25519, at: birth.Position(), newest: &birth, posts: map[wire.Digest]int{},
		slots: map[uint64][]byte{}, told: func(crossverify.Statement) error { return nil },
	}
}

func (w *follower) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("mailbox %s at %d: %w", w.name, w.at.N, fmt.Errorf(format, args...))
	}
}

func (w *follower) number(n uint64, d, root wire.Digest, sig proto.Signature) {
	if n != w.at.N+1 {
		w.fail("number %d came", n)
		return
	}
	h := crossverify.ChainNext(w.at.H, n, d, root)
	st := crossverify.Statement{Relay: relayID, Channel: theChannel, Lineage: w.at.Lineage, N: n, D: d, H: h, Root: root, Signature: sig}
	if !st.Verify(w.verify) {
		w.fail("the statement for %d is not signed over what came", n)
		return
	}
	if err := w.told(st); err != nil {
		w.fail("%w", err)
	}
	w.at, w.newest = st.Position(), &st
	w.seen = append(w.seen, n)
	w.posts[d]++
}

func (w *follower) hear(nonce proto.Nonce, msg proto.Message) {
	switch msg := msg.(type) {
	case proto.Opened:
		if !msg.Signed(nonce).Verify(w.verify) || !msg.Statement.Verify(w.verify) {
			w.fail("Opened is not signed")
		}
		if err := w.told(msg.Statement); err != nil {
			w.fail("%w", err)
		}
		if w.newest != nil {
			if _, guilty := crossverify.FindAnswer(*w.newest, msg.Signed(nonce)); guilty {
				w.fail("the answer to Open convicts")
			}
		}
		w.opened = append(w.opened, msg)
		if l := msg.Statement.Lineage; l != w.at.Lineage {
			if l.Ordinal() <= w.at.Lineage.Ordinal() && w.at.Lineage != (wire.Lineage{}) {
				w.fail("lineage went from %d to %d", w.at.Lineage.Ordinal(), l.Ordinal())
			}
			w.at = crossverify.Position{Lineage: l, H: crossverify.ChainStart(relayID, theChannel, l)}
			w.seen, w.newest = nil, nil
		}
	case proto.Deliver:
		w.slots[msg.N] = msg.Slot
		w.number(msg.N, msg.Digest(), msg.Root, msg.Signature)
	case proto.Entry:
		w.number(msg.N, msg.Digest(), msg.Root, msg.Signature)
	case proto.DeliverDigest:
		w.number(msg.N, msg.Digest(), msg.Root, msg.Signature)
	case proto.Bare:
		w.number(msg.N, msg.D, msg.Root, msg.Signature)
	case proto.Trimmed:
		if !msg.Signed(relayID, theChannel).Verify(w.verify) || msg.Lineage != w.at.Lineage || msg.First <= w.at.N+1 {
			w.fail("Trimmed to %d is wrong", msg.First)
		}
		w.trims = append(w.trims, msg)
		w.at.N, w.at.H = msg.First-1, msg.H
	case proto.CaughtUp:
		w.caught = msg.N
		if msg.N != w.at.N {
			w.fail("CaughtUp{%d}", msg.N)
		}
	case proto.Welcome, proto.Refused:
	default:
		w.fail("%T came", msg)
	}
}

// newest statement and position, as a member opens.
func (w *follower) listen(c *conn, window uint32, known *crossverify.Statement) {
	c.hear = func(msg proto.Message) { w.hear(c.nonce, msg) }
	c.send(c.openFrame(w.name, w.at, window, known))
}

// rig is one relay with a channel.
type rig struct {
	*front
	t     *testing.T
	st    *memory.Store
	c     *conn // posts
	birth crossverify.Statement
}

func newRig(t *testing.T, change ...func(*relay.Config)) *rig {
	t.Helper()
	cfg := config()
	for _, f := range change {
		f(&cfg)
	}
	st := memory.New()
	f, err := newFront(relay.Open(cfg), st, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{front: f, t: t, st: st}
	r.c = f.dial()
	r.birth = one[proto.Receipt](t, r.c, createFrame()).Statement
	t.Cleanup(func() {
		if r.stepErr != nil {
			t.Errorf("Step: %v", r.stepErr)
		}
	})
	return r
}

func (r *rig) register(name string) crossverify.Statement {
	r.t.Helper()
	return one[proto.Registered](r.t, r.c, registerFrame(name, thePosting)).Statement
}

func (r *rig) follow(name string, window uint32) (*follower, *conn) {
	r.t.Helper()
	w := newFollower(name, r.register(name))
	c := r.dial()
	r.settle()
	w.listen(c, window, w.newest)
	r.settle()
	r.good(w)
	return w, c
}

func (r *rig) good(w *follower) {
	r.t.Helper()
	if w.err != nil {
		r.t.Fatal(w.err)
	}
}

func (r *rig) post(name string, to ...string) crossverify.Statement {
	r.t.Helper()
	return one[proto.Receipt](r.t, r.c, postFrame(name, nil, 0, to...)).Statement
}
