package member

import (
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// A relay is told of only if the link of the posts lives: that another one speaks
// says nothing, since it may lead to the same relay after a crash.
func TestNoReceiptAsksFirst(t *testing.T) {
	a := newAccused(t)
	a.p.post.link, a.p.post.welcome = 5, true
	a.byLink[4], a.byLink[5] = a.p, a.p
	a.putEntry(a.p, epochKey, "announcement/"+a.self.String(), 7, []byte{7}, a.keyring.owner)
	q := a.p.queue[len(a.p.queue)-1]
	q.inFlight, q.sentAt = true, a.now
	pings := func() (n int) {
		for _, s := range a.sends {
			if s.Link == 5 && s.Frame.Type == proto.TypePing {
				n++
			}
		}
		a.sends = nil
		return n
	}
	told := func() bool {
		return slices.ContainsFunc(a.events, func(e broadcast.Event) bool { return e.Body.(Event).Kind == EventRelay })
	}
	after := func(d time.Duration) {
		a.now = a.now.Add(d)
		a.noReceipts()
	}
	after(a.deadlineNow() - time.Second)
	if pings() != 0 || told() || !a.nextOverdue().Equal(a.now.Add(time.Second)) {
		t.Fatal("asked or told before the deadline, or not to be woken then")
	}
	after(time.Second)
	if pings() != 1 || told() {
		t.Fatal("the link was not asked, or the relay told of before it answered")
	}
	// The other link speaks, this one does not: nothing is told, nothing asked twice.
	a.receive(broadcast.Received{Link: 4, Frame: proto.Encode(proto.Pong{Value: receiptPing})})
	after(pingMost - time.Second)
	if pings() != 0 || told() {
		t.Fatal("a relay is told of that nobody heard on this link")
	}
	a.receive(broadcast.Received{Link: 5, Frame: proto.Encode(proto.Pong{Value: receiptPing + 1})})
	if after(0); told() {
		t.Fatal("another Pong counts")
	}
	// A later post is waited for by itself: the link may have been busy until now.
	late := &postItem{kind: postBoard, id: wire.PostID{9}, inFlight: true, sentAt: a.now}
	a.p.queue = append(a.p.queue, late)
	a.receive(broadcast.Received{Link: 5, Frame: proto.Encode(proto.Pong{Value: receiptPing})})
	after(0)
	if !told() || !a.p.post.unanswered || !q.overdue || late.overdue {
		t.Fatalf("told %v; overdue %v, the later post %v", told(), q.overdue, late.overdue)
	}
	if after(a.deadlineNow()); pings() != 1 || late.overdue {
		t.Error("the later post was not asked for")
	}
	a.receive(broadcast.Received{Link: 5, Frame: proto.Encode(proto.Pong{Value: receiptPing})})
	if after(0); !late.overdue {
		t.Error("the later post is not overdue")
	}
	// One that answers the driver alone is told of in the end.
	later := &postItem{kind: postBoard, id: wire.PostID{10}, inFlight: true, sentAt: a.now}
	a.p.queue = append(a.p.queue, later)
	if after(a.deadlineNow()); pings() != 1 || !a.nextOverdue().Equal(a.now.Add(pingMost)) {
		t.Error("it is not asked, or not waited for")
	}
	if after(pingMost); !later.overdue {
		t.Error("a link that stands without an answer is no failure")
	}
	// A new link begins anew.
	a.up(broadcast.Up{Link: 6, Relay: a.p.ref.Key, Use: broadcast.PostLink})
	if !a.p.post.pinged.IsZero() || a.p.post.pinging || q.inFlight {
		t.Error("a new link knows of the old one's questions")
	}
}
