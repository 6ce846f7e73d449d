package member_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// spares is how many spare relays a member keeps.
func (n *memberNode) spares() int { return len(n.must(member.GetStatus{}).(member.Status).Spares) }

// TestSpare: an admin keeps a relay in reserve; when another is gone for days it is
// offered, and one word puts it there.
func TestSpare(t *testing.T) {
	w := newWorld(t, 5, "Ann", "Bob", "Cem")
	w.foundOn(3, false)
	w.talk("before", 3)
	ann, bob := w.nodes[0], w.nodes[1]
	for _, x := range []struct {
		n    *memberNode
		wish member.Wish
		want error
	}{
		{bob, member.AddSpare{Relay: w.spot(3)}, member.ErrNotAdmin},
		{ann, member.AddSpare{Relay: w.spot(1)}, member.ErrRelayTwice},
		{ann, member.AddSpare{}, member.ErrUnreachable},
		{ann, member.ReplaceRelay{Relay: "R2"}, member.ErrNoSpare},
		{ann, member.DropSpare{Relay: "abcd"}, member.ErrNoSuch},
	} {
		if _, err := x.n.do(x.wish); !errors.Is(err, x.want) {
			t.Errorf("%+v: %v, want %v", x.wish, err, x.want)
		}
	}
	ann.must(member.AddSpare{Relay: w.spot(4)})
	ann.must(member.AddSpare{Relay: w.spot(3)})
	ann.must(member.AddSpare{Relay: w.spot(3)})
	if _, err := ann.do(member.DropSpare{Relay: w.relays[4].key.Public().String()[:8]}); err != nil || ann.spares() != 1 {
		t.Fatalf("%d spare relays are kept: %v", ann.spares(), err)
	}
	w.relays[1].stop()
	w.run(4 * day)
	ann.restart()
	w.run(time.Minute)
	offered := 0
	for _, e := range ann.told(member.EventRelay) {
		if strings.Contains(e, "Relay R2 (operator Op2) has been gone for 3 days") && strings.Contains(e, "`parallax relay replace R2` puts your spare relay "+w.relays[3].key.Public().String()[:8]) {
			offered++
		}
	}
	if offered != 1 {
		t.Errorf("Ann was told %q", ann.told(member.EventRelay))
	}
	for _, e := range bob.told(member.EventRelay) {
		if strings.Contains(e, "spare") {
			t.Errorf("Bob is told of it: %s", e)
		}
	}
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	ann.must(member.ReplaceRelay{Relay: "R2"})
	w.run(30 * time.Second)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 retired")
	w.talk("after", 3)
	if ann.spares() != 0 {
		t.Error("what was used is still in reserve")
	}
}

// TestSpareByItself: where the admin wished so, the spare relay takes the place
// without being asked; one of an operator that is there already does not.
func TestSpareByItself(t *testing.T) {
	w := newWorld(t, 5, "Ann", "Bob", "Cem")
	w.relays[3].runBy(w.relays[0].by)
	w.foundOn(3, false)
	w.talk("before", 3)
	ann := w.nodes[0]
	ann.must(member.AddSpare{Relay: w.spot(3), Auto: true})
	w.relays[1].stop()
	w.run(2 * day)
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	w.run(2 * day)
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	if v := ann.must(member.GetStatus{}).(member.Status).Spares; len(v) != 1 || v[0].Tried.IsZero() {
		t.Errorf("the relay of an operator that is there already: %+v", v)
	}
	ann.must(member.AddSpare{Relay: w.spot(4), Auto: true})
	w.run(time.Hour)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 retired")
	w.talk("after", 3)
	if got := ann.spares(); got != 1 {
		t.Errorf("%d spare relays are kept", got)
	}
}
