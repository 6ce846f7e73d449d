package adversary

import (
	"crypto/mlkem"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// chacha is entropy for tests that never encapsulate.
type chacha struct{ *rand.ChaCha8 }

func (chacha) Encapsulate(*mlkem.EncapsulationKey768) (shared, ciphertext []byte) {
	panic("a relay encapsulates nothing")
}

func (chacha) Fork([32]byte) broadcast.Entropy { panic("a relay has no jobs") }

// bench is one dishonest relay with a channel, driven at once, and readers
// that check what one reader alone can check.
type bench struct {
	t       *testing.T
	random  chacha
	key     keys.RelayPrivate
	channel wire.ChannelID
	posting keys.PostingPrivate
	drive   *inner
	now     time.Time
	links   broadcast.Link
	posts   int
	readers map[broadcast.Link]*reader
	got     map[broadcast.Link][]proto.Message
}

// reader follows its own chain of the relay.
type reader struct {
	name    string
	box     keys.MailboxPrivate
	link    broadcast.Link
	nonce   proto.Nonce
	lineage wire.Lineage
	n       uint64
	h       wire.Digest
	heads   map[uint64]crossverify.Statement
	bundles []wire.Digest // outer digests, as delivered
	bare    int
	slots   [][]byte
	broken  error
}

func newBench(t *testing.T, wrap func(keys.RelayPrivate, broadcast.Open) broadcast.Open) *bench {
	b := &bench{t: t, random: chacha{rand.NewChaCha8([32]byte{1})}, channel: wire.ChannelID{7},
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), readers: map[broadcast.Link]*reader{}, got: map[broadcast.Link][]proto.Message{}}
	var operator keys.OperatorPrivate
	var admin keys.AdminPrivate
	must(t, b.key.Draw(b.random))
	must(t, operator.Draw(b.random))
	must(t, admin.Draw(b.random))
	must(t, b.posting.Draw(b.random))
	var info proto.InfoIs
	info.Sign(operator, b.key.Public())
	open := relay.Open(relay.Config{Key: b.key, Operator: operator.Public(), OperatorSignature: info.Signature[:],
		Verify: keys.Ed25519, OpenCreation: true})
	var err error
	b.drive, err = openInner(wrap(b.key, open), relay.Unit(b.channel), memory.New(), b.random)
	must(t, err)
	c := proto.Create{PostID: wire.PostID{1}, Posting: b.posting.Public()}
	c.Sign(admin, b.key.Public(), b.channel)
	b.say(b.dial(), c)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) step(in broadcast.Input) {
	b.t.Helper()
	must(b.t, b.drive.step(b.now, in))
	out := b.drive.out
	b.drive.out = nil
	for _, s := range out {
		if s.Frame.Type != 0 {
			m, err := proto.Parse(s.Frame)
			must(b.t, err)
			b.got[s.Link] = append(b.got[s.Link], m)
			if r := b.readers[s.Link]; r != nil {
				b.read(r, m)
			}
		}
		if r := b.readers[s.Link]; s.Close && r != nil {
			delete(b.readers, s.Link)
			b.open(r)
		}
	}
}

func (b *bench) say(l broadcast.Link, m proto.Message) {
	b.t.Helper()
	b.step(broadcast.Received{Link: l, Frame: proto.Encode(m)})
}

func (b *bench) dial() broadcast.Link {
	b.links++
	l := b.links
	b.step(broadcast.Up{Link: l})
	b.say(l, proto.Hello{Min: 1, Max: 1, Channel: b.channel})
	return l
}

// reader registers a mailbox and reads it.
func (b *bench) reader(name string) *reader {
	r := &reader{name: name, heads: map[uint64]crossverify.Statement{}}
	must(b.t, r.box.Draw(b.random))
	b.open(r)
	return r
}

func (b *bench) open(r *reader) {
	b.links++
	r.link = b.links
	b.readers[r.link] = r
	b.step(broadcast.Up{Link: r.link})
	b.say(r.link, proto.Hello{Min: 1, Max: 1, Channel: b.channel})
	if b.readers[r.link] != r {
		return
	}
	if r.lineage == (wire.Lineage{}) {
		m := proto.Register{Mailbox: r.box.Public()}
		m.Sign(b.posting, b.key.Public(), b.channel)
		b.say(r.link, m)
	}
	o := proto.Open{Lineage: r.lineage, After: r.n, Window: 100}
	if st, ok := r.heads[r.n]; ok {
		o.Known = &st
	}
	o.Sign(r.box, b.key.Public(), b.channel, r.nonce)
	b.say(r.link, o)
}

// reopen is what a reader does whose link broke.
func (b *bench) reopen(r *reader) {
	delete(b.readers, r.link)
	b.step(broadcast.Down{Link: r.link})
	b.open(r)
}

func (b *bench) read(r *reader, m proto.Message) {
	fail := func(format string, args ...any) {
		if r.broken == nil {
			r.broken = fmt.Errorf(format, args...)
		}
	}
	next := func(n uint64, d, root wire.Digest, sig [64]byte) {
		st := crossverify.Statement{Relay: b.key.Public(), Channel: b.channel, Lineage: r.lineage, N: n, D: d,
			H: crossverify.ChainNext(r.h, n, d, root), Root: root, Signature: sig}
		if n != r.n+1 || !st.Verify(keys.Ed25519) {
			fail("number %d after %d does not continue the chain", n, r.n)
			return
		}
		r.n, r.h, r.heads[n] = n, st.H, st
	}
	switch m := m.(type) {
	case proto.Welcome:
		r.nonce = m.Nonce
	case proto.Registered:
		s := m.Statement
		r.lineage, r.n, r.h, r.heads[s.N] = s.Lineage, s.N, s.H, s
	case proto.Opened:
		if !m.Statement.Verify(keys.Ed25519) || !m.Signed(r.nonce).Verify(keys.Ed25519) {
			fail("the mailbox was opened under a bad signature")
		}
		if st, ok := r.heads[m.Statement.N]; ok && st.H != m.Statement.H {
			fail("the mailbox was opened with another head for %d", st.N)
		}
		if m.Shown != nil && m.Statement.N < m.Shown.N {
			fail("the mailbox was opened at %d, shown %d", m.Statement.N, m.Shown.N)
		}
	case proto.Deliver:
		next(m.N, m.Digest(), m.Root, m.Signature)
		r.bundles = append(r.bundles, crossverify.OuterDigest(m.Hint, m.Nonce, m.Envelope))
		r.slots = append(r.slots, m.Slot)
	case proto.Bare:
		next(m.N, m.D, m.Root, m.Signature)
		r.bare++
	case proto.Entry:
		next(m.N, m.Digest(), m.Root, m.Signature)
	case proto.Refused:
		fail("refused: %s", m.Text)
	}
}

// post posts a bundle for the readers over a link and returns its outer digest
// and what the link was told.
func (b *bench) post(l broadcast.Link, to ...*reader) (wire.Digest, []proto.Message) {
	b.posts++
	p := proto.Post{PostID: wire.PostID{2, byte(b.posts)}, Envelope: make([]byte, 74+32+256+16), Slots: make([]byte, 88*len(to))}
	draw(b.random, p.Envelope)
	draw(b.random, p.Slots)
	for _, r := range to {
		p.Mailboxes = append(p.Mailboxes, proto.MailboxOf(b.key.Public(), b.channel, r.box.Public()))
	}
	broadcast.SortFanout(p.Mailboxes)
	p.Fanout = broadcast.FanoutHash(p.Mailboxes)
	p.Sign(b.posting, b.key.Public(), b.channel, p.Digest())
	b.got[l] = nil
	b.say(l, p)
	return crossverify.OuterDigest(p.Hint, p.Nonce, p.Envelope), b.got[l]
}

// convicted tells whether two readers hold statements that convict the relay.
func convicted(a, b *reader) bool {
	for n, x := range a.heads {
		if y, ok := b.heads[n]; ok && x.Lineage == y.Lineage && (x.H != y.H || x.D != y.D || x.Root != y.Root) {
			return true
		}
	}
	return false
}

// Each lie of a Rewriter leaves the victim's own chain whole, also over a
// broken link, and the others' untouched; whether two views convict is as the
// threat model says.
func TestLies(t *testing.T) {
	for _, c := range []struct {
		name            string
		lie             func() Lie
		convicts        bool
		delivered, bare int // of 4 bundles, to the victim
	}{
		{"alter", Alter, true, 4, 0},
		{"spoil", Spoil, false, 4, 0},
		{"replay", Replay, true, 5, 0},
		{"withhold", Withhold, false, 2, 2},
		{"blank", Blank, true, 2, 2},
		{"renumber", Renumber, true, 4, 0},
		{"omit", Omit, true, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			rw := &Rewriter{}
			b := newBench(t, func(key keys.RelayPrivate, open broadcast.Open) broadcast.Open {
				rw.Key = key
				return rw.Wrap(open)
			})
			rw.Lie = Bundles(1, 2, c.lie())
			poster := b.dial()
			victimLink := b.links + 1
			rw.Victim = func(at Place, _ proto.Message) string {
				if at.Link == victimLink || at.Link > 50 {
					return "victim"
				}
				return ""
			}
			victim, other := b.reader("victim"), b.reader("other")
			var sent []wire.Digest
			for range 2 {
				d, _ := b.post(poster, victim, other)
				sent = append(sent, d)
			}
			b.links = 100
			b.reopen(victim)
			for range 2 {
				d, _ := b.post(poster, victim, other)
				sent = append(sent, d)
			}
			for _, r := range []*reader{victim, other} {
				if r.broken != nil {
					t.Errorf("%s: %v", r.name, r.broken)
				}
			}
			if fmt.Sprint(other.bundles) != fmt.Sprint(sent) {
				t.Errorf("the other got %v, sent was %v", other.bundles, sent)
			}
			if len(victim.bundles) != c.delivered || victim.bare != c.bare {
				t.Errorf("the victim got %d bundles and %d bare numbers, want %d and %d", len(victim.bundles), victim.bare, c.delivered, c.bare)
			}
			if got := convicted(victim, other); got != c.convicts {
				t.Errorf("two views convict: %v, want %v", got, c.convicts)
			}
			if c.name == "spoil" && fmt.Sprint(victim.slots[0]) == fmt.Sprint(other.slots[0]) {
				t.Error("the slot is as it was")
			}
			// The victim's own post: its receipt must fit the chain it was shown.
			mine := b.dial()
			_, told := b.post(mine, victim, other)
			if len(told) != 1 {
				t.Fatalf("the victim's post was answered by %v", told)
			}
			st := told[0].(proto.Receipt).Statement
			if own, ok := victim.heads[st.N]; !ok || own.H != st.H || !st.Verify(keys.Ed25519) {
				t.Errorf("the receipt for number %d is of another log than the victim's", st.N)
			}
		})
	}
}

func TestClumsy(t *testing.T) {
	rw := &Rewriter{Clumsy: true, Lie: Bundles(2, 1, Alter())}
	b := newBench(t, func(key keys.RelayPrivate, open broadcast.Open) broadcast.Open {
		rw.Key = key
		return rw.Wrap(open)
	})
	poster := b.dial()
	rw.Victim = func(at Place, _ proto.Message) string {
		if at.Link == poster {
			return ""
		}
		return "victim"
	}
	r := b.reader("victim")
	b.post(poster, r)
	if r.broken != nil {
		t.Fatal(r.broken)
	}
	b.post(poster, r)
	if r.broken == nil {
		t.Error("an altered envelope under the old signature was not noticed")
	}
}

// Both sides of a Fork are whole in themselves, carry what Pass lets through,
// and convict the relay together.
func TestFork(t *testing.T) {
	for _, birth := range []bool{false, true} {
		t.Run(fmt.Sprintf("birth %v", birth), func(t *testing.T) {
			f := &Fork{FromBirth: birth}
			b := newBench(t, func(key keys.RelayPrivate, open broadcast.Open) broadcast.Open {
				f.Relay = key.Public()
				return f.Wrap(open)
			})
			poster, hidden := b.dial(), b.dial()
			other := b.reader("other")
			first, _ := b.post(poster, other)
			lost, _ := b.post(hidden, other)
			f.Choose = Newcomers(1)
			f.Pass = func(to Side, from Place, m proto.Message) proto.Message {
				if to == Forked && from.Link == hidden {
					return nil
				}
				return m
			}
			f.Arm()
			victim := b.reader("victim")
			second, _ := b.post(poster, victim, other)
			b.post(hidden, victim, other)
			b.reopen(victim)
			third, told := b.post(poster, victim, other)
			for _, r := range []*reader{victim, other} {
				if r.broken != nil {
					t.Errorf("%s: %v", r.name, r.broken)
				}
			}
			if len(other.bundles) != 5 || other.bundles[0] != first || other.bundles[1] != lost {
				t.Errorf("the other got %d bundles of 5", len(other.bundles))
			}
			if fmt.Sprint(victim.bundles) != fmt.Sprint([]wire.Digest{second, third}) {
				t.Errorf("the victim got %v, want %v and %v", victim.bundles, second, third)
			}
			if !convicted(victim, other) {
				t.Error("two views do not convict")
			}
			if len(told) != 1 || told[0].(proto.Receipt).Statement != other.heads[other.n] {
				t.Errorf("the poster was told %v, which is not the truth", told)
			}
			if victim.lineage != other.lineage {
				t.Error("the two logs have two lineages")
			}
		})
	}
}

func TestUnarmedForkIsHonest(t *testing.T) {
	f := &Fork{Choose: Newcomers(1)}
	b := newBench(t, func(key keys.RelayPrivate, open broadcast.Open) broadcast.Open {
		f.Relay = key.Public()
		return f.Wrap(open)
	})
	poster := b.dial()
	x, y := b.reader("x"), b.reader("y")
	b.post(poster, x, y)
	if x.broken != nil || y.broken != nil || convicted(x, y) || len(x.bundles) != 1 {
		t.Errorf("%v, %v", x, y)
	}
}

// An insider reads names and senders with the group's keys, and nothing
// without them.
func TestInsider(t *testing.T) {
	random := chacha{rand.NewChaCha8([32]byte{2})}
	var door keys.DoorKey
	var epoch, other keys.EpochKey
	var content keys.ContentKey
	must(t, door.Draw(random))
	must(t, epoch.Draw(random))
	must(t, other.Draw(random))
	must(t, content.Draw(random))
	relay, gid, seat := keys.RelayPublic{1}, wire.GroupID{2}, wire.Seat{3}
	envelope, _, err := broadcast.SealEnvelope(gid, &epoch, broadcast.Header{Epoch: 1, Seat: seat, Sequence: 1}, &content, []byte("text"))
	must(t, err)
	post := proto.Post{Envelope: envelope}
	broadcast.Mask(post.Envelope, &epoch, relay, post.Nonce, 0)
	first := broadcast.NewBoardKeys(other.Expose(), relay)
	masked, sealed := broadcast.NewBoardKeys(epoch.Expose(), relay).Named(first).Seal("announcement/x", 1, []byte("value"))
	put := proto.BoardPut{Name: masked, Version: 1, Value: sealed}

	in := Insider{Relay: relay, Group: gid, Door: &door, Channels: new(keys.ChannelSecret), Epoch: []*keys.EpochKey{&other, &epoch}}
	if got, ok := in.Sender(post); !ok || got != seat {
		t.Errorf("the sender is %v, %v", got, ok)
	}
	if name, value, ok := in.Entry(proto.Admit{BoardPut: put}); !ok || name != "announcement/x" || string(value) != "value" {
		t.Errorf("the entry is %q, %q, %v", name, value, ok)
	}
	in.Epoch = in.Epoch[:1]
	if _, ok := in.Sender(post); ok {
		t.Error("a sender was read without the epoch key")
	}
	if _, _, ok := in.Entry(put); ok {
		t.Error("an entry was read without the epoch key")
	}
}
