package member_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// limited opens every member with these limits.
func (w *world) limited(l member.Limits) {
	for _, n := range w.nodes {
		n.open = member.Open(member.Config{Verify: w.verify, Limits: l})
		n.restart()
	}
}

// outbox is how many posts wait at a member, by relay.
func outbox(n *memberNode) (waiting []int) {
	for _, r := range n.must(member.GetStatus{}).(member.Status).Relays {
		waiting = append(waiting, r.Outbox)
	}
	return waiting
}

// TestDeadRelayStopsNobody: a relay that is gone for long keeps nobody from
// speaking. What waits for it is bounded, by number and by the retention time, and
// the newest of it goes out when it is back; all that is dropped for it the others
// have.
func TestDeadRelayStopsNobody(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.limited(member.Limits{Outbox: 20, Backlog: 50})
	w.group(false)
	w.run(time.Minute)
	ann, bob := w.nodes[0], w.nodes[1]
	w.relays[2].stop()
	w.run(time.Minute)
	const texts = 120
	for i := range texts {
		if _, err := ann.do(member.SendText{Text: fmt.Sprint("text ", i)}); err != nil {
			t.Fatalf("text %d: %v", i, err)
		}
		w.run(time.Second)
	}
	ann.must(member.SendText{Text: "the last"})
	w.run(time.Minute)
	if got := len(bob.texts()); got != texts+1 {
		t.Errorf("Bob was shown %d texts", got)
	}
	if got := outbox(ann); got[0] != 0 || got[1] != 0 || got[2] < 45 || got[2] > 55 {
		t.Errorf("%v posts wait", got)
	}
	dropped := 0
	for _, e := range ann.events {
		if strings.Contains(e.Text, "Relay R3 (operator Op3) has taken no messages for long") {
			dropped++
		}
	}
	if dropped != 1 {
		t.Errorf("Ann was told %d times that something is dropped: %+v", dropped, ann.events)
	}
	ann.restart()
	w.run(time.Minute)
	w.relays[2].again()
	w.run(10 * time.Minute)
	if got := outbox(ann); !slices.Equal(got, []int{0, 0, 0}) {
		t.Errorf("%v posts wait when all relays are there", got)
	}
	if got := len(bob.texts()); got != texts+1 {
		t.Errorf("Bob was shown %d texts in the end", got)
	}

	// And by time.
	w.relays[2].stop()
	w.run(time.Minute)
	ann.must(member.SendText{Text: "old"})
	w.run(time.Minute)
	if got := outbox(ann); got[2] == 0 {
		t.Fatal("nothing waits for a relay that is gone")
	}
	v := ann.must(member.GetDelivery{}).(member.DeliveryInfo)
	w.run(29 * 24 * time.Hour)
	for _, r := range ann.must(member.GetDelivery{Message: v.ID}).(member.DeliveryInfo).Relays {
		if want := map[string]member.RelayState{"R1": member.RelayReceipt, "R2": member.RelayReceipt, "R3": member.RelayNothing}[r.Label]; r.State != want {
			t.Errorf("%s: %q, want %q: %s", r.Label, r.State, want, r.Why)
		}
	}
}

// TestOutboxIsFull: what not enough relays took is never dropped; when it is too
// much, sending is refused with an error that says so, and all of it arrives later.
func TestOutboxIsFull(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.limited(member.Limits{Outbox: 20, Backlog: 5})
	w.group(false)
	w.run(time.Minute)
	ann, bob := w.nodes[0], w.nodes[1]
	w.relays[1].stop()
	w.relays[2].stop()
	w.run(time.Minute)
	sent := 0
	for ; sent < 100; sent++ {
		if _, err := ann.do(member.SendText{Text: fmt.Sprint("text ", sent), Wait: member.WaitNone}); errors.Is(err, member.ErrOutboxFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if sent < 18 || sent > 20 {
		t.Errorf("refused after %d texts", sent)
	}
	w.run(30 * 24 * time.Hour)
	w.relays[1].again()
	w.relays[2].again()
	w.run(10 * time.Minute)
	if got := len(bob.texts()); got != sent {
		t.Errorf("Bob was shown %d texts of %d", got, sent)
	}
}

// TestGoneInAStrictGroup: where one relay is gone, a strict group can read nothing
// that is sent since; people are told why, and what helps.
func TestGoneInAStrictGroup(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(true)
	w.run(time.Minute)
	w.relays[1].stop()
	w.run(4 * 24 * time.Hour)
	for i, want := range []string{"`parallax relay replace R2 ADDRESS`", "An admin can put another in its place."} {
		n := 0
		for _, e := range w.nodes[i].events {
			if strings.Contains(e.Text, "Relay R2 (operator Op2) has been gone for 3 days, while others answered. They are too few for this group: messages wait") && strings.Contains(e.Text, want) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s was told %d times", w.nodes[i].name, n)
		}
	}
}
