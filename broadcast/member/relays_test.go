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

// spot is a relay of the world as an admin names it.
func (w *world) spot(i int) member.FoundingSpot {
	r := w.relays[i]
	return member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"}
}

// foundOn founds a group on the first relays of the world.
func (w *world) foundOn(relays int, strict bool) (link string) {
	w.hangs = true
	var spots []member.FoundingSpot
	for i := range relays {
		spots = append(spots, w.spot(i))
	}
	w.nodes[0].must(member.CreateGroup{Group: "Test", Name: w.nodes[0].name, Relays: spots, Strict: strict, Deadline: 3 * time.Second})
	link = w.nodes[0].must(member.MakeInvite{}).(member.InviteInfo).Link
	for _, n := range w.nodes[1:] {
		n.must(member.JoinGroup{Link: link, Name: n.name})
	}
	w.run(time.Second)
	return link
}

// relays is a member's list of relays as words: label and standing.
func (n *memberNode) relays() (list []string) {
	s := n.must(member.GetStatus{}).(member.Status)
	for _, r := range slices.Concat(s.Relays, s.Former) {
		list = append(list, r.Label+" "+string(r.Standing))
	}
	return list
}

func (w *world) wantRelays(want ...string) {
	w.t.Helper()
	for _, n := range w.nodes {
		if got := n.relays(); !n.offline && !slices.Equal(got, want) {
			w.t.Errorf("%s has the relays %v, want %v", n.name, got, want)
		}
	}
}

// talk lets everybody say something that all others get, on every relay of the
// list in use.
func (w *world) talk(what string, relays int) {
	w.t.Helper()
	for _, n := range w.nodes {
		text := what + " by " + n.name
		v, err := n.do(member.SendText{Text: text, Wait: member.WaitAll})
		if err != nil {
			w.t.Fatalf("%s: %v: %+v", n.name, err, n.must(member.GetStatus{}).(member.Status).Relays)
		}
		info := v.(member.SentInfo)
		if info.Receipts != relays || info.Relays != relays || info.Waiting != 0 || info.Members != len(w.nodes)-1 {
			w.t.Errorf("%s: %q went to %d members (%d wait) and %d of %d relays", n.name, text, info.Members, info.Waiting, info.Receipts, info.Relays)
		}
		w.run(time.Second)
		for _, o := range w.nodes {
			if !slices.Contains(o.texts(), n.name+": "+text) {
				w.t.Errorf("%s did not get %q", o.name, text)
			}
		}
		for _, r := range w.nodes[0].must(member.GetPaths{Limit: 1}).(member.Paths).Messages {
			for label, mark := range r.Marks {
				if mark != "matched" {
					w.t.Errorf("%q is %s on %s", text, mark, label)
				}
			}
			if len(r.Marks) != relays {
				w.t.Errorf("%q has marks %v, want %d", text, r.Marks, relays)
			}
		}
	}
}

func (w *world) undisturbed() {
	w.t.Helper()
	for _, n := range w.nodes {
		for _, a := range n.alarms() {
			if !strings.Contains(a, "relays change:") && !strings.Contains(a, "other relays now") {
				w.t.Errorf("%s: %s", n.name, a)
			}
		}
	}
}

// TestAddRelay: a fourth relay comes; everybody uses it, and who joins after.
func TestAddRelay(t *testing.T) {
	w := newWorld(t, 4, "Ann", "Bob", "Cem")
	w.foundOn(3, false)
	w.talk("before", 3)
	v := w.nodes[0].must(member.AddRelay{Relay: w.spot(3)}).(member.RelayChange)
	if !v.InUse || v.Added != "R4" || v.Retired != "" || v.Ordinal != 1 {
		t.Errorf("answer %+v", v)
	}
	w.run(10 * time.Second)
	w.wantRelays("R1 in use", "R2 in use", "R3 in use", "R4 in use")
	w.talk("after", 4)
	dan := w.add("Dan")
	link := w.nodes[0].must(member.MakeInvite{}).(member.InviteInfo).Link
	dan.must(member.JoinGroup{Link: link, Name: "Dan"})
	w.run(15 * time.Second)
	w.talk("with Dan", 4)
	w.undisturbed()
}

// TestReplaceRelay: a relay that is gone is replaced, then the next, and the last
// of the founder's.
func TestReplaceRelay(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, 6, "Ann", "Bob", "Cem")
		w.foundOn(3, strict)
		w.talk("before", 3)
		for i := range 3 {
			w.relays[i].stop()
			w.run(time.Second)
			for _, n := range w.nodes { // held in a strict group until the relay has a successor
				n.must(member.SendText{Text: fmt.Sprintf("meanwhile %d", i), Wait: member.WaitNone})
			}
			w.run(time.Second)
			for _, n := range w.nodes {
				if had := len(n.history()); strict == (had == 6*i+6) {
					t.Errorf("strict %v: %s has %d messages while R%d is gone", strict, n.name, had, i+1)
				}
			}
			v := w.nodes[0].must(member.ReplaceRelay{Relay: w.nodes[0].must(member.GetStatus{}).(member.Status).Relays[0].Label, By: w.spot(3 + i)}).(member.RelayChange)
			if v.Ordinal != uint32(i+1) {
				t.Errorf("strict %v: list %d: %+v", strict, i+1, v)
			}
			w.run(30 * time.Second)
			w.talk("another", 3)
		}
		w.wantRelays("R4 in use", "R5 in use", "R6 in use", "R1 retired", "R2 retired", "R3 retired")
		w.run(25 * time.Hour)
		w.wantRelays("R4 in use", "R5 in use", "R6 in use", "R1 closed", "R2 closed", "R3 closed")
		for _, n := range w.nodes {
			if len(n.history()) != 21 {
				t.Errorf("%s has %d messages of history: %q", n.name, len(n.history()), n.history())
			}
			for _, want := range n.want {
				if want.Relay == w.relays[0].key.Public() {
					t.Errorf("%s still wants a link to R1", n.name)
				}
			}
		}
	}
}

// TestRetireRelay: a list gets shorter, down to one relay and back to two, which
// takes first contacts from mixed to unmixed and back.
func TestRetireRelay(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.foundOn(3, false)
	w.talk("three", 3)
	w.nodes[0].must(member.RetireRelay{Relay: "R3"})
	w.run(10 * time.Second)
	w.talk("two", 2)
	w.nodes[0].must(member.RetireRelay{Relay: w.relays[0].key.Public().String()[:8]})
	w.run(10 * time.Second)
	w.talk("one", 1)
	w.wantRelays("R2 in use", "R1 retired", "R3 retired")
	dan := w.add("Dan")
	dan.must(member.JoinGroup{Link: w.nodes[0].must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Dan"})
	w.run(15 * time.Second)
	w.talk("one, with Dan", 1)
	w.nodes[0].must(member.AddRelay{Relay: w.spot(2)}) // it comes back
	w.run(15 * time.Second)
	w.talk("two again", 2)
	eve := w.add("Eve")
	eve.must(member.JoinGroup{Link: w.nodes[0].must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Eve"})
	w.run(15 * time.Second)
	w.talk("two, with Eve", 2)
	w.undisturbed()
}

// TestRelayWishesRefused: who may not, and what cannot be.
func TestRelayWishesRefused(t *testing.T) {
	w := newWorld(t, 4, "Ann", "Bob")
	w.foundOn(1, false)
	wrong := w.spot(3)
	wrong.Token = "wrong"
	for _, c := range []struct {
		who  int
		wish member.Wish
		want error
	}{
		{1, member.AddRelay{Relay: w.spot(3)}, member.ErrNotAdmin},
		{1, member.RetireRelay{Relay: "R1"}, member.ErrNotAdmin},
		{0, member.RetireRelay{Relay: "R1"}, member.ErrRelayLast},
		{0, member.RetireRelay{Relay: "R2"}, member.ErrNoSuch},
		{0, member.ReplaceRelay{Relay: "nobody", By: w.spot(3)}, member.ErrNoSuch},
		{0, member.AddRelay{Relay: w.spot(0)}, member.ErrRelayTwice},
		{0, member.AddRelay{Relay: wrong}, member.ErrRefused},
	} {
		if v, err := w.nodes[c.who].do(c.wish); !errors.Is(err, c.want) {
			t.Errorf("%s %+v: %v, %v, want %v", c.wish.Wish(), c.wish, v, err, c.want)
		}
	}
	w.relays[3].down = true
	if v, err := w.nodes[0].do(member.AddRelay{Relay: w.spot(3)}); !errors.Is(err, member.ErrUnreached) {
		t.Errorf("a relay that does not answer: %+v, %v", v, err)
	}
	w.wantRelays("R1 in use")
	w.relays[3].down = false
	if v := w.nodes[0].must(member.AddRelay{Relay: w.spot(3)}).(member.RelayChange); v.Added != "R2" || !v.InUse {
		t.Errorf("added after all: %+v", v)
	}
	w.run(10 * time.Second)
	w.talk("two", 2)
}

// TestReplacedWhileAway: relays are replaced one after the other, while a member
// is away that wrote before it left; when it is back it reads what was said, all
// know each other, and a newcomer too.
func TestReplacedWhileAway(t *testing.T) {
	for _, replaced := range []int{1, 2} {
		w := newWorld(t, 5, "Ann", "Bob", "Cem")
		w.foundOn(3, false)
		w.talk("before", 3)
		cem := w.nodes[2]
		cem.leave()
		for i := range replaced {
			w.relays[1+i].stop()
			w.nodes[0].must(member.ReplaceRelay{Relay: []string{"R2", "R3"}[i], By: w.spot(3 + i)})
			w.run(30 * time.Second)
		}
		w.nodes[0].must(member.SendText{Text: "Cem is away"})
		w.run(2 * time.Hour)
		dan := w.add("Dan")
		dan.must(member.JoinGroup{Link: w.nodes[0].must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Dan"})
		w.run(time.Minute)
		dan.must(member.SendText{Text: "here is Dan"})
		w.run(5 * 24 * time.Hour)
		cem.offline = false
		w.run(2 * time.Minute)
		if !slices.Contains(cem.texts(), "Ann: Cem is away") {
			t.Errorf("%d replaced: Cem did not get what was said: %v", replaced, cem.texts())
		}
		w.talk("together again", 3)
		if s := cem.must(member.GetStatus{}).(member.Status); s.Ordinal != uint32(replaced) {
			t.Errorf("Cem uses list %d", s.Ordinal)
		}
	}
}
