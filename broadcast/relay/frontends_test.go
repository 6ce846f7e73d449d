package relay_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

var seeds = flag.Int("seeds", 200, "schedules of TestFrontends")

// unfenced is a store that forgets what a batch was computed on.
type unfenced struct{ *memory.Store }

func (s unfenced) Apply(batches []store.Batch) []error {
	errs := make([]error, len(batches))
	for i, b := range batches {
		b.Base, _ = s.Revision(b.Unit)
		errs[i] = s.Store.Apply([]store.Batch{b})[0]
	}
	return errs
}

// shown is what members have seen signed, and what senders got.
type shown struct {
	verify   keys.Verify
	byNumber map[string]crossverify.Statement
	byPost   map[wire.PostID]crossverify.Statement
}

func (s *shown) statement(st crossverify.Statement) error {
	if !st.Verify(s.verify) {
		return fmt.Errorf("statement %d is not signed", st.N)
	}
	id := fmt.Sprintf("%x %d", st.Lineage, st.N)
	if was, ok := s.byNumber[id]; ok && was != st {
		return fmt.Errorf("number %d was signed twice", st.N)
	}
	s.byNumber[id] = st
	return nil
}

// sender posts until each of its posts has a receipt that was not lost.
type sender struct {
	todo []proto.Message
	got  map[wire.PostID]bool
	conn *conn
}

func idOf(msg proto.Message) wire.PostID {
	switch msg := msg.(type) {
	case proto.Post:
		return msg.PostID
	case proto.PostDigest:
		return msg.PostID
	case proto.BoardPut:
		return msg.PostID
	case proto.Admit:
		return msg.PostID
	case proto.Grant:
		return msg.PostID
	case proto.Rotate:
		return msg.PostID
	}
	return wire.PostID{}
}

// reader follows a mailbox over changing links.
type reader struct {
	*follower
	conn *conn
}

type schedule struct {
	r       *rand.Rand
	fronts  []*front
	shown   *shown
	senders []*sender
	readers []*reader
	want    map[wire.PostID]wire.Digest // d of every post
	trims   bool                        // entries go while all this happens
	renews  bool                        // a reader will show a future, once
	renewed bool                        // it did
	curious *conn
	listing bool              // it waits for a page
	paged   bool              // of more than one
	top     wire.Digest       // the root that it was told last
	walk    *crossverify.Walk // of the whole board, from nothing; nil: none
	walks   int
	err     error
}

func (s *schedule) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

// A front may have three turns on their way to the store.
const inFlight = 3

// newSchedule is k front-ends over one store with a channel, two readers and
// three senders.
func newSchedule(seed uint64, fenced bool, k int, bundles []proto.Message) *schedule {
	verify := keys.Verify(cached)
	s := &schedule{
		r:     rand.New(rand.NewPCG(seed, 1)),
		shown: &shown{verify: verify, byNumber: map[string]crossverify.Statement{}, byPost: map[wire.PostID]crossverify.Statement{}},
		want:  map[wire.PostID]wire.Digest{},
	}
	cfg := config()
	cfg.Verify, cfg.Shared = verify, true
	cfg.Limits.TailEntries = []int{1, 3, 256}[seed%3]
	cfg.Limits.RecentPosts = []int{1, 4096}[seed%2]
	cfg.Limits.CachedFanouts = []int{1, 64}[seed/2%2]
	cfg.Limits.ReadBytes = 3000
	cfg.Limits.MaxReads = []int{16, 1}[seed/3%2]
	cfg.Limits.PushBytes = []int{8 << 20, 700}[seed/4%2]
	cfg.Limits.PageBytes = []int{1000, 60}[seed/8%2]
	s.trims, s.renews = seed%5 == 4, seed%7 == 6
	if s.trims {
		cfg.Limits.MaxLogBytes, cfg.Limits.TrimBytes = 6000, 200
	}
	mem := memory.New()
	for i := range k {
		var st store.Store = mem.Front()
		if !fenced {
			st = unfenced{mem.Front()}
		}
		f, err := newFront(relay.Open(cfg), st, seed*10+uint64(i))
		if err != nil {
			s.fail("%w", err)
			return s
		}
		s.fronts = append(s.fronts, f)
	}
	f := s.fronts[0]
	c := f.dial()
	for _, msg := range []proto.Message{createFrame(), registerFrame("a", thePosting), registerFrame("b", thePosting),
		grantFrame("grant", "i", 100, 100, start.AddDate(1, 0, 0), false)} {
		for _, got := range c.ask(msg) {
			if reg, ok := got.(proto.Registered); ok {
				w := newFollower(map[wire.MailboxID]string{mailboxID("a"): "a", mailboxID("b"): "b"}[reg.Mailbox], reg.Statement)
				w.verify, w.told = verify, s.shown.statement
				s.readers = append(s.readers, &reader{follower: w})
			}
		}
	}
	c.hangUp()
	for i := range 3 {
		snd := &sender{got: map[wire.PostID]bool{}}
		for j := i; j < len(bundles); j += 3 {
			snd.todo = append(snd.todo, bundles[j])
		}
		s.senders = append(s.senders, snd)
	}
	for _, b := range bundles {
		switch b := b.(type) {
		case proto.Post:
			s.want[b.PostID] = b.Digest()
		case proto.PostDigest:
			s.want[b.PostID] = b.Digest()
		case proto.BoardPut:
			s.want[b.PostID] = b.Digest()
		case proto.Admit:
			s.want[b.PostID] = b.Digest()
		}
	}
	return s
}

// dense: one lineage, of which nothing goes, so that everything can be counted.
func (s *schedule) dense() bool { return !s.trims && !s.renewed }

// end is the newest number that anybody was shown, of the newest lineage.
func (s *schedule) end() crossverify.Position {
	var end crossverify.Statement
	for _, st := range s.shown.byNumber {
		if o, e := st.Lineage.Ordinal(), end.Lineage.Ordinal(); o > e || o == e && st.N > end.N {
			end = st
		}
	}
	return end.Position()
}

func (s *schedule) front() *front { return s.fronts[s.r.IntN(len(s.fronts))] }

// send lets a sender post, again maybe, through any front.
func (s *schedule) send(snd *sender, loss float64) {
	if snd.conn == nil || snd.conn.down || s.r.IntN(6) == 0 {
		if snd.conn != nil {
			snd.conn.hangUp()
		}
		snd.conn = s.front().dial()
		snd.conn.hear = func(msg proto.Message) {
			switch msg := msg.(type) {
			case proto.Welcome:
			case proto.Receipt:
				if s.r.Float64() < loss {
					return
				}
				if err := s.shown.statement(msg.Statement); err != nil {
					s.fail("receipt: %w", err)
				}
				if d := s.want[msg.PostID]; msg.Statement.D != d {
					s.fail("receipt for another entry")
				}
				if was, ok := s.shown.byPost[msg.PostID]; ok && was != msg.Statement && s.dense() {
					s.fail("a post has numbers %d and %d", was.N, msg.Statement.N)
				}
				s.shown.byPost[msg.PostID] = msg.Statement
				snd.got[msg.PostID] = true
			case proto.NeedFanout:
				for _, todo := range snd.todo {
					if p, ok := todo.(proto.Post); ok && p.PostID == msg.PostID {
						snd.conn.send(p)
					}
				}
			case proto.Refused:
				if msg.Code != proto.CodeBusy {
					s.fail("refused: %+v", msg)
				}
			default:
				s.fail("a sender got %T", msg)
			}
		}
	}
	msg := snd.todo[s.r.IntN(len(snd.todo))]
	if snd.got[idOf(msg)] && s.r.IntN(4) > 0 {
		return
	}
	if p, ok := msg.(proto.Post); ok && s.r.IntN(2) == 0 {
		p.Mailboxes = nil
		msg = p
	}
	snd.conn.send(msg)
}

func (s *schedule) attend(rd *reader) {
	if rd.conn == nil || rd.conn.down || s.r.IntN(10) == 0 {
		if rd.conn != nil {
			rd.conn.hangUp()
		}
		rd.conn = s.front().dial()
		if s.front(); rd.conn.nonce == (proto.Nonce{}) {
			rd.conn.f.ready() // the Welcome
		}
		known := rd.newest
		if s.renews && s.r.IntN(8) == 0 {
			s.renews = false
			s.renewed = true
			st := crossverify.SignStatement(theRelay, theChannel, rd.at.Lineage, rd.at.N+1000, wire.Digest{}, wire.Digest{}, wire.Digest{})
			rd.listen(rd.conn, 8, &st)
			return
		}
		if s.r.IntN(2) == 0 {
			known = nil
		}
		rd.listen(rd.conn, uint32(1+s.r.IntN(8)), known)
		return
	}
	rd.conn.send(proto.Ack{UpTo: rd.at.N})
}

// board is what receipts put on the board, by name.
func (s *schedule) board() (receipts []crossverify.Statement, leaves []crossverify.Leaf) {
	for _, snd := range s.senders {
		for _, msg := range snd.todo {
			if a, ok := msg.(proto.Admit); ok {
				msg = a.BoardPut
			}
			if p, ok := msg.(proto.BoardPut); ok {
				if st, ok := s.shown.byPost[p.PostID]; ok {
					receipts = append(receipts, st)
					leaves = append(leaves, crossverify.Leaf{Name: p.Name, Version: p.Version, Value: p.ValueDigest()})
				}
			}
		}
	}
	return receipts, leaves
}

// wonder asks a front about board and log; no answer may convict, whatever
// receipts there are.
func (s *schedule) wonder() {
	if s.curious == nil || s.curious.down || s.r.IntN(5) == 0 {
		if s.curious != nil {
			s.curious.hangUp()
		}
		c := s.front().dial()
		s.curious = c
		c.hear = func(msg proto.Message) {
			st := crossverify.Statement{}
			switch msg := msg.(type) {
			case proto.BoardProof:
				st = msg.Statement
				if _, _, err := msg.Proof.Check(msg.Name, st.Root); err != nil {
					s.fail("%w", err)
				}
				receipts, leaves := s.board()
				for i := range receipts {
					if _, guilty := crossverify.FindForgotten(receipts[i], leaves[i], st, msg.Proof); guilty {
						s.fail("the board at %d convicts: it lacks what %d put there", st.N, receipts[i].N)
					}
				}
			case proto.BoardPage:
				st = msg.Statement
				var tree crossverify.Tree
				for _, e := range msg.Entries {
					tree.Put(crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)})
				}
				if msg.More {
					s.paged = true
					c.send(proto.BoardList{After: msg.Entries[len(msg.Entries)-1].Name, Limit: 1 << 20})
				} else if s.listing = false; !s.paged && tree.Root() != st.Root {
					s.fail("a page does not make the root at %d", st.N)
				}
			case proto.BoardNodes:
				st = msg.Statement
				s.walked(c, msg)
			case proto.StatementIs:
				st = msg.Statement
			default:
				return
			}
			s.top = st.Root
			if err := s.shown.statement(st); err != nil {
				s.fail("%T: %w", msg, err)
			}
		}
		s.listing, s.walk = false, nil
	}
	receipts, leaves := s.board()
	switch s.r.IntN(4) {
	case 3:
		if s.walk == nil && s.top != (wire.Digest{}) {
			s.walk = crossverify.NewWalk(new(crossverify.Tree), s.top)
			s.curious.send(proto.BoardWalk{Root: s.top, Places: s.walk.Ask(3)})
		}
	case 0:
		if len(leaves) > 0 {
			s.curious.send(proto.BoardProve{Name: leaves[s.r.IntN(len(receipts))].Name})
		}
	case 1:
		s.curious.send(proto.StatementOf{N: uint64(s.r.IntN(20))})
	case 2:
		if !s.listing {
			s.listing, s.paged = true, false
			s.curious.send(proto.BoardList{Limit: 1 << 20})
		}
	}
}

// walked goes on with a walk: what it finds must lead to the root.
func (s *schedule) walked(c *conn, msg proto.BoardNodes) {
	w := s.walk
	switch {
	case w == nil:
	case len(msg.Places) == 0:
		if msg.Statement.Root == w.Root() {
			s.fail("nothing is said of the root that is signed")
		}
		s.walk = nil
	case msg.Statement.Root != w.Root():
		s.fail("an answer under another root")
	default:
		var answers []crossverify.Subtree
		for _, p := range msg.Places {
			a := crossverify.Subtree{Nodes: p.Nodes}
			if e := p.Entry; e != nil {
				a.Entry = &crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)}
			}
			answers = append(answers, a)
		}
		if err := w.Take(answers); err != nil {
			s.fail("%w", err)
		}
		if s.walks++; w.Done() {
			s.walk = nil
			return
		}
		c.send(proto.BoardWalk{Root: w.Root(), Places: w.Ask(3)})
	}
}

// act does one thing that can happen.
func (s *schedule) act(loss float64) {
	f := s.front()
	switch s.r.IntN(13) {
	case 12:
		s.wonder()
	case 0, 1:
		s.send(s.senders[s.r.IntN(len(s.senders))], loss)
	case 2:
		s.attend(s.readers[s.r.IntN(len(s.readers))])
	case 3, 4, 5:
		if len(f.turns) < inFlight {
			f.ready()
		}
	case 6, 7:
		if len(f.turns) > 0 {
			f.apply()
		}
	case 8, 9:
		if len(f.reads) > 0 {
			f.read(s.r.IntN(len(f.reads)))
		}
	case 10:
		if f.hinted && s.r.IntN(2) == 0 { // a hint; or it is lost
			f.changed()
		}
		f.hinted = false
		f.now = f.now.Add(time.Second)
		f.m.Tick(f.now)
	case 11:
		switch s.r.IntN(6) {
		case 0: // written, but nobody knows
			if len(f.turns) > 0 {
				if err := f.write(); err != nil && !errors.Is(err, store.ErrConflict) {
					s.fail("%w", err)
				}
				f.changed()
			}
		case 1: // crash, with a turn written or not
			if s.r.IntN(4) == 0 {
				if len(f.turns) > 0 && s.r.IntN(2) == 0 {
					f.write()
				}
				if err := f.start(); err != nil {
					s.fail("open: %w", err)
				}
			}
		}
	}
}

func (s *schedule) trouble() error {
	for _, rd := range s.readers {
		if rd.err != nil {
			s.fail("%w", rd.err)
		}
	}
	for i, f := range s.fronts {
		if f.stepErr != nil {
			s.fail("front %d: %w", i, f.stepErr)
		}
	}
	return s.err
}

func (s *schedule) run(steps int) error {
	for range steps {
		s.act(0.3)
		if err := s.trouble(); err != nil {
			return err
		}
	}
	// Then everything works, and all must come to an end.
	for round := 0; ; round++ {
		done := true
		for _, snd := range s.senders {
			for _, msg := range snd.todo {
				if !snd.got[idOf(msg)] {
					done = false
					s.send(snd, 0)
				}
			}
		}
		for _, f := range s.fronts {
			f.settle()
			f.sleep(11 * time.Second) // the refresh, should hints have been lost
		}
		for _, rd := range s.readers {
			s.attend(rd)
			rd.conn.f.settle()
			done = done && (s.dense() && rd.at.N == uint64(len(s.want)+2) || !s.dense() && rd.at == s.end())
		}
		if err := s.trouble(); err != nil {
			return err
		}
		if done {
			break
		}
		if round > 300 {
			return fmt.Errorf("no end: mailboxes at %d and %d of %d", s.readers[0].at.N, s.readers[1].at.N, len(s.want)+2)
		}
	}
	return s.verdict()
}

// verdict checks what the whole must add up to.
func (s *schedule) verdict() error {
	if !s.dense() {
		return nil
	}
	if len(s.shown.byPost) != len(s.want) {
		return fmt.Errorf("%d posts have numbers, want %d", len(s.shown.byPost), len(s.want))
	}
	for _, rd := range s.readers {
		for id, d := range s.want {
			if rd.posts[d] != 1 {
				return fmt.Errorf("mailbox %s got post %x %d times", rd.name, id[:4], rd.posts[d])
			}
		}
	}
	kvs, _, err := s.fronts[0].st.Scan(unitKey('l'), unitKey('l'+1), 1<<30)
	if err != nil || len(kvs) != len(s.want)+2 {
		return fmt.Errorf("the log has %d entries, want %d: %v", len(kvs), len(s.want)+2, err)
	}
	return nil
}

var verified = map[wire.Digest]bool{}

// cached remembers signatures over all schedules.
func cached(pub [32]byte, message, sig []byte) bool {
	id := wire.Hash("cached", pub[:], message, sig)
	ok, known := verified[id]
	if !known {
		ok = keys.Ed25519(pub, message, sig)
		verified[id] = ok
	}
	return ok
}

// frontendPosts are what the senders post.
func frontendPosts() []proto.Message {
	lists := [][]string{{"a", "b"}, {"a"}, {"b"}}
	var all []proto.Message
	for i := range 9 {
		all = append(all, postFrame(fmt.Sprint("bundle ", i), nil, 0, lists[i%3]...))
	}
	for i := range 3 {
		all = append(all, digestFrame(fmt.Sprint("digest ", i)))
		all = append(all, putFrame(fmt.Sprint("put ", i), fmt.Sprint("name", i), 1, "value", "owner"))
		all = append(all, admitFrame(fmt.Sprint("admit ", i), "i", fmt.Sprint("seat", i)))
	}
	return all
}

// Three front-ends over one store, each with up to three turns in flight, any
// schedule: no number is signed twice, none is missing, every post has one,
// every mailbox gets each in order.
func TestFrontends(t *testing.T) {
	bundles := frontendPosts()
	conflicts, walks := 0, 0
	for seed := range uint64(*seeds) {
		s := newSchedule(seed, true, 3, bundles)
		if err := s.run(500); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, f := range s.fronts {
			conflicts += f.conflicts
		}
		walks += s.walks
	}
	t.Logf("%d schedules, %d conflicts, %d answers to walks", *seeds, conflicts, walks)
	if *seeds > 0 && walks == 0 {
		t.Error("no schedule had a walk")
	}
	if *seeds > 0 && conflicts == 0 {
		t.Error("no schedule had a conflict")
	}
	t.Run("without the fence it fails", func(t *testing.T) {
		for seed := range uint64(20) {
			if err := newSchedule(seed, false, 3, bundles).run(500); err != nil {
				t.Logf("seed %d: %v", seed, err)
				return
			}
		}
		t.Error("20 schedules passed on a store that ignores Base")
	})
}
