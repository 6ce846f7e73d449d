package relay_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// benchMembers is the group that the benchmarks post to.
const benchMembers = 100

func benchFront(b *testing.B) (*front, proto.Post) {
	cfg := config()
	cfg.Verify = keys.Ed25519
	cfg.Limits.PostsPerMinute, cfg.Limits.MaxLogBytes = 1<<40, 64<<20
	cfg.Limits.MaxWindow = 1 << 31
	f, err := newFront(relay.Open(cfg), memory.New(), 1)
	if err != nil {
		b.Fatal(err)
	}
	c := f.dial()
	c.ask(createFrame())
	names := make([]string, benchMembers)
	for i := range names {
		names[i] = fmt.Sprint(i)
		c.ask(registerFrame(names[i], thePosting))
	}
	p := postFrame("first", nil, 1000, names...)
	c.ask(p)
	p.Mailboxes = nil
	return f, p
}

// nth is a post like p with another post id.
func nth(p proto.Post, d wire.Digest, n int) proto.Post {
	binary.BigEndian.PutUint64(p.PostID[:], uint64(n)+1)
	p.Sign(thePosting, relayID, theChannel, d)
	return p
}

const benchBatch = 16

// BenchmarkPost is a bundle for 100 members from frame to receipt, 16 to a
// turn; floor: one signature checked, one made, every byte hashed once.
func BenchmarkPost(b *testing.B) {
	b.Run("relay", func(b *testing.B) {
		f, p := benchFront(b)
		c := f.dial()
		f.settle()
		receipts, n := 0, 0
		c.hear = func(msg proto.Message) {
			if _, ok := msg.(proto.Receipt); ok {
				receipts++
			}
		}
		d := p.Digest()
		for b.Loop() {
			if n%benchBatch == 0 {
				b.StopTimer()
				f.settle()
				posts := make([]proto.Post, benchBatch)
				for i := range posts {
					posts[i] = nth(p, d, n+i)
				}
				b.StartTimer()
				for _, q := range posts {
					c.send(q)
				}
				f.settle()
			}
			n++
		}
		if receipts < n {
			b.Fatalf("%d receipts for %d posts", receipts, n)
		}
	})
	b.Run("floor", func(b *testing.B) {
		_, p := benchFront(b)
		d := p.Digest()
		p = nth(p, d, 1)
		for b.Loop() {
			d := p.Digest()
			if !p.Verify(keys.Ed25519, thePosting.Public(), relayID, theChannel, d) {
				b.Fatal("not signed")
			}
			crossverify.SignStatement(theRelay, theChannel, wire.Lineage{}, 1, d, d, d)
		}
	})
}

// BenchmarkPush is one delivery to one of 100 mailboxes; floor: the copy of
// the envelope into its frame.
func BenchmarkPush(b *testing.B) {
	b.Run("relay", func(b *testing.B) {
		f, p := benchFront(b)
		got := 0
		for i := range benchMembers {
			c := f.dial()
			f.settle()
			c.send(c.openFrame(fmt.Sprint(i), crossverify.Position{}, 1<<31, nil))
			f.settle()
		}
		sender := f.dial()
		f.settle()
		d, n := p.Digest(), 0
		count := func() int { return f.sent }
		for b.Loop() {
			if n%benchMembers == 0 {
				b.StopTimer()
				sender.send(nth(p, d, n))
				f.ready()
				for len(f.reads) > 0 {
					f.read(0)
				}
				f.ready()
				f.deaf = true
				f.apply()
				b.StartTimer()
				before := count()
				f.ready()
				got += count() - before
				b.StopTimer()
				f.deaf = false
				f.settle()
				b.StartTimer()
			}
			n++
		}
		if got < n {
			b.Fatalf("%d pushes, want %d", got, n)
		}
	})
	b.Run("floor", func(b *testing.B) {
		_, p := benchFront(b)
		m := proto.Deliver{Envelope: p.Envelope, Slot: p.Slots[:88]}
		for b.Loop() {
			proto.Encode(m)
		}
	})
}
