package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/internal/wire"
)

func operator(n byte) keys.OperatorPrivate {
	return new(keys.OperatorPrivate).FromSeed([32]byte{n, 'o'})
}

// channels opens honest channels.
func channels(n byte) broadcast.Open {
	k := relayKey(n).Public()
	return relay.Open(relay.Config{
		Key: relayKey(n), Operator: operator(n).Public(), OperatorName: fmt.Sprintf("Operator %d", n),
		OperatorSignature: operator(n).Sign("parallax/1/operator", k[:]), Verify: keys.Ed25519, Tokens: []string{"sesame"},
	})
}

func openPebble(t *testing.T, dir string) store.Store {
	t.Helper()
	s, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reader opens the mailbox again and again and collects what it is told.
type mailboxReader struct {
	channel wire.ChannelID
	key     keys.MailboxPrivate
	known   *crossverify.Statement
}

func (m *mailboxReader) open(t *testing.T, addrs []string) *caller {
	t.Helper()
	self := relayKey(1).Public()
	c := call(t, self, addrs...)
	c.say(proto.Hello{Min: 1, Max: 1, Channel: m.channel})
	welcome, ok := c.hear().(proto.Welcome)
	if !ok {
		t.Fatal("no welcome")
	}
	o := proto.Open{Mailbox: proto.MailboxOf(self, m.channel, m.key.Public()), Window: 100, Known: m.known}
	if m.known != nil {
		o.Lineage, o.After = m.known.Lineage, m.known.N
	}
	o.Sign(m.key, self, m.channel, welcome.Nonce)
	c.say(o)
	if m, ok := c.hear().(proto.Opened); !ok {
		t.Fatalf("heard %#v", m)
	}
	return c
}

// A member's conversation with a real relay over each transport; the relay is
// killed between and opened again over its store.
func TestConversation(t *testing.T) {
	for n, name := range []string{"quic", "tcp"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			self, channel := relayKey(1).Public(), wire.ChannelID{9}
			admin := new(keys.AdminPrivate).FromSeed([32]byte{1})
			posting := new(keys.PostingPrivate).FromSeed([32]byte{2})
			reader := &mailboxReader{channel: channel, key: new(keys.MailboxPrivate).FromSeed([32]byte{3})}
			listen := quietPort(t)[n : n+1] // the same in each life
			var list []wire.MailboxID
			var posts []proto.Post
			for life := range 3 {
				s := openPebble(t, filepath.Join(dir, "store"))
				r := startRelay(t, RelayConfig{Listen: listen, Store: s, Open: channels(1)})
				c := call(t, self, listen...)
				c.say(proto.Hello{Min: 1, Max: 1, Channel: channel})
				if m, ok := c.hear().(proto.Welcome); !ok {
					t.Fatalf("heard %#v", m)
				}
				if life == 0 {
					create := proto.Create{PostID: wire.PostID{1}, Token: []byte("sesame"), Posting: posting.Public()}
					create.Sign(admin, self, channel)
					register := proto.Register{Mailbox: reader.key.Public()}
					register.Sign(posting, self, channel)
					c.say(create, register)
					if m, ok := c.hear().(proto.Receipt); !ok || m.Statement.N != 1 {
						t.Fatalf("heard %#v", m)
					}
					m, ok := c.hear().(proto.Registered)
					if !ok {
						t.Fatalf("heard %#v", m)
					}
					list = []wire.MailboxID{m.Mailbox}
				}
				// Posts of every life; the first of the last one is repeated.
				for i := range 20 {
					p := proto.Post{PostID: wire.PostID{byte(life), byte(i), 1}, Fanout: broadcast.FanoutHash(list), Mailboxes: list,
						Envelope: make([]byte, broadcast.MinEnvelope), Slots: make([]byte, 88)}
					p.Envelope[0], p.Slots[0] = byte(life), byte(i)
					p.Sign(posting, self, channel, p.Digest())
					posts = append(posts, p)
					c.say(p)
				}
				read := reader.open(t, listen)
				for i := range 20 {
					receipt, ok := c.hear().(proto.Receipt)
					if want := posts[life*20+i]; !ok || receipt.PostID != want.PostID || receipt.Statement.D != want.Digest() || receipt.Statement.N != uint64(life*20+i+2) {
						t.Fatalf("life %d, post %d: heard post %x, number %d", life, i, receipt.PostID, receipt.Statement.N)
					}
					for told := uint64(0); told < receipt.Statement.N; {
						switch m := read.hear().(type) {
						case proto.Deliver:
							if told = m.N; told == receipt.Statement.N && (m.Digest() != receipt.Statement.D || m.Envelope[0] != byte(life)) {
								t.Fatalf("delivered %#v", m)
							}
							read.say(proto.Ack{UpTo: m.N})
						case proto.Bare:
							told = m.N
						case proto.CaughtUp:
						default:
							t.Fatalf("heard %#v", m)
						}
					}
					reader.known = &receipt.Statement
				}
				c.say(posts[0]) // idempotent in every life
				if m, ok := c.hear().(proto.Receipt); !ok || m.Statement.N != 2 {
					t.Errorf("repeated: %#v", m)
				}
				_ = c.conn.Close()
				_ = read.conn.Close()
				closeRelay(t, r)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A person is a client of one data folder.
type person struct {
	t *testing.T
	Client
	name string
}

func (p *person) do(w member.Wish) any {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	v, err := p.Do(ctx, Request{Wish: w})
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, w.Wish(), err)
	}
	return v
}

// hears reads events from number one until it has seen all texts, each once.
func (p *person) hears(texts ...string) {
	p.t.Helper()
	want := map[string]bool{}
	for _, s := range texts {
		want[s] = true
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	seen := map[string]bool{}
	for e, err := range p.Events(ctx, "", 0) {
		if err != nil {
			p.t.Fatalf("%s waits for %v: %v", p.name, want, err)
		}
		if e.Kind != member.EventMessage {
			continue
		}
		if seen[e.Text] {
			p.t.Errorf("%s saw %q twice", p.name, e.Text)
		}
		seen[e.Text] = true
		if delete(want, e.Text); len(want) == 0 {
			return
		}
	}
}

// Three relays, two people, one of them over the socket; a relay goes and
// comes back, both people restart: every message arrives once.
func TestGroupOverNetwork(t *testing.T) {
	n := newStations(t, 3)
	start := func(i int) { n.list[i].start() }
	stop := func(i int) { n.list[i].stop() }
	dir, opt := n.dir, n.options()
	opt.Serve = true
	ann := &person{t, connect(t, filepath.Join(dir, "ann"), opt), "Ann"}
	ann.do(member.CreateGroup{Group: "bees", Name: "Ann", Relays: n.spots(), Deadline: 2 * time.Second})
	invite := ann.do(member.MakeInvite{}).(member.InviteInfo)
	long := connect(t, filepath.Join(dir, "ben"), opt)
	ben := &person{t, connect(t, filepath.Join(dir, "ben"), opt), "Ben"} // over the socket
	if _, ok := ben.Client.(*remote); !ok {
		t.Fatalf("a %T, not the socket", ben.Client)
	}
	_, err := ben.Do(t.Context(), Request{Wish: member.JoinGroup{Link: invite.Link[:len(invite.Link)-9], Name: "Ben"}})
	if !errors.Is(err, member.ErrLinkCut) {
		t.Errorf("a cut link: %v", err)
	}
	ben.do(member.JoinGroup{Link: invite.Link, Name: "Ben"})
	allSessions(t, ann)
	allSessions(t, ben)
	ann.do(member.SendText{Text: "one", Wait: member.WaitAll})
	ben.do(member.SendText{Text: "two"})
	ann.hears("two")
	ben.hears("one")

	stop(0)
	ben.do(member.SendText{Text: "three"})
	ann.hears("two", "three")
	start(0)
	if err := ann.Close(); err != nil {
		t.Error(err)
	}
	ben.do(member.SendText{Text: "four", Wait: member.WaitAll})
	ann = &person{t, connect(t, filepath.Join(dir, "ann"), opt), "Ann"}
	ann.hears("two", "three", "four")
	if err := long.Close(); err != nil {
		t.Error(err)
	}
	ben = &person{t, connect(t, filepath.Join(dir, "ben"), opt), "Ben"}
	ann.do(member.SendText{Text: "five"})
	ben.hears("one", "five")
	for _, p := range []*person{ann, ben} {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// allSessions waits until everybody has a session with everybody.
func allSessions(t *testing.T, p *person) {
	t.Helper()
	var s member.Status
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s = p.do(member.GetStatus{}).(member.Status)
		all := len(s.Members) == 2
		for _, m := range s.Members {
			all = all && (m.Own || m.Session)
		}
		if all {
			return
		}
	}
	t.Fatalf("%s has no session: %+v", p.name, s)
}
