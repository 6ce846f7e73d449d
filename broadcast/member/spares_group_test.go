package member_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
)

// spareWorld founds a group over three relays, of Ann, who owns it, the admins Bob and
// Cem, and Dan; the fourth relay and those after it are in no list.
func spareWorld(t *testing.T, relays int) *world {
	w := newWorld(t, relays, "Ann", "Bob", "Cem", "Dan")
	w.foundOn(3, false)
	ann := w.nodes[0]
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	ann.must(member.SetRole{Member: "Cem", Role: member.AsAdmin})
	w.run(time.Minute)
	w.talk("before", 3)
	return w
}

// byRank are the nodes that may act for the group, those with the smallest seat first:
// that is the order in which their devices do.
func (w *world) byRank() []*memberNode {
	seat := func(n *memberNode) string { return n.status().Seat }
	list := slices.Clone(w.nodes[:3])
	slices.SortFunc(list, func(a, b *memberNode) int { return strings.Compare(seat(a), seat(b)) })
	return list
}

// TestGroupSpare: the policy's spare relay takes the place of one that is gone with no
// person acting, though the admin whose turn it is first is away, and once only.
func TestGroupSpare(t *testing.T) {
	w := spareWorld(t, 5)
	ann, bob := w.nodes[0], w.nodes[1]
	if _, err := bob.do(member.AddGroupSpare{Relay: w.spot(3), Auto: true}); !errors.Is(err, member.ErrNotOwner) {
		t.Errorf("an admin says what the group keeps in reserve: %v", err)
	}
	ann.must(member.AddGroupSpare{Relay: w.spot(3), Auto: true})
	w.run(10 * time.Second)
	for _, n := range w.nodes {
		if v := n.status().Spares; len(v) != 1 || !v[0].Group || !v[0].Auto || v[0].Key != w.relays[3].key.Public() {
			t.Errorf("%s knows the spare relays %+v", n.name, v)
		}
		if got := n.told(member.EventRoster); !slices.ContainsFunc(got, func(s string) bool {
			return strings.Contains(s, "The group keeps 1 relay in reserve for one that is gone or convicted: "+w.relays[3].key.Public().String()[:8]+" without asking.")
		}) {
			t.Errorf("%s was told %q", n.name, got)
		}
	}
	first := w.byRank()[0]
	first.leave()
	w.relays[1].stop()
	others := slices.DeleteFunc(slices.Clone(w.nodes), func(n *memberNode) bool { return n == first })
	want := func(want ...string) {
		t.Helper()
		for _, n := range others {
			if got := n.relays(); !slices.Equal(got, want) {
				t.Errorf("%s has the relays %v, want %v", n.name, got, want)
			}
		}
	}
	w.run(2 * day)
	want("R1 in use", "R2 in use", "R3 in use")
	w.run(30 * time.Hour)
	want("R1 in use", "R3 in use", "R4 in use", "R2 retired")
	first.offline = false
	first.restart()
	w.run(time.Minute)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 retired")
	w.talk("after", 3)
	for _, n := range w.nodes {
		if v := n.status(); v.Ordinal != 1 || len(v.Spares) != 0 || len(n.told(member.EventDispute)) != 0 {
			t.Errorf("%s: list %d, in reserve %+v, %q", n.name, v.Ordinal, v.Spares, n.told(member.EventDispute))
		}
	}
	// Nothing is left in reserve when the next one goes.
	w.relays[2].stop()
	w.run(4 * day)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 closed")
}

// TestGroupSpareAsked: what an owner keeps for the group to be asked for is offered to
// every admin, and one of an operator that is there already takes no place by itself;
// the next one of the list does.
func TestGroupSpareAsked(t *testing.T) {
	w := spareWorld(t, 6)
	ann, bob := w.nodes[0], w.nodes[1]
	w.relays[4].runBy(w.relays[0].by)
	for _, x := range []struct {
		wish member.Wish
		want error
	}{
		{member.AddGroupSpare{Relay: w.spot(1)}, member.ErrRelayTwice},
		{member.DropGroupSpare{Relay: "abcd"}, member.ErrNoSuch},
		{member.DropGroupSpare{Relay: w.relays[3].key.Public().String()[:3]}, member.ErrNoSuch},
	} {
		if _, err := ann.do(x.wish); !errors.Is(err, x.want) {
			t.Errorf("%+v: %v, want %v", x.wish, err, x.want)
		}
	}
	if _, err := ann.do(member.AddGroupSpare{}); err == nil {
		t.Error("a spare relay without key and address is taken")
	}
	ann.must(member.AddGroupSpare{Relay: w.spot(3)})
	if _, err := ann.do(member.AddGroupSpare{Relay: w.spot(3)}); !errors.Is(err, member.ErrNothingToDo) {
		t.Errorf("twice the same: %v", err)
	}
	w.run(10 * time.Second)
	w.relays[1].stop()
	w.run(4 * day)
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	short := w.relays[3].key.Public().String()[:8]
	for n, want := range map[*memberNode]string{bob: "`parallax relay replace R2` puts the group's spare relay " + short + " in its place", w.nodes[3]: "An admin can put the group's spare relay " + short + " in its place"} {
		if got := n.told(member.EventRelay); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%s was told %q", n.name, got)
		}
		if got := n.must(member.GetSecurity{}).(member.Security).Advice; !slices.ContainsFunc(got, func(s string) bool {
			return strings.Contains(s, "Relay R2 has been gone for 4 days. ") && strings.Contains(s, want)
		}) {
			t.Errorf("%s is advised %q", n.name, got)
		}
	}
	ann.must(member.AddGroupSpare{Relay: w.spot(4), Auto: true})
	w.run(time.Hour)
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	if v := w.byRank()[0].status().Spares; len(v) != 2 || v[1].Tried.IsZero() {
		t.Errorf("the relay of an operator that is there already: %+v", v)
	}
	ann.must(member.AddGroupSpare{Relay: w.spot(5), Auto: true})
	w.run(time.Hour)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 retired")
	if v := bob.status(); v.Relays[2].Key != w.relays[5].key.Public() || len(v.Spares) != 2 {
		t.Errorf("%+v, %+v", v.Relays[2], v.Spares)
	}
	ann.must(member.DropGroupSpare{Relay: w.relays[4].key.Public().String()[:8]})
	w.run(10 * time.Second)
	if v := bob.status().Spares; len(v) != 1 || v[0].Auto || v[0].Key != w.relays[3].key.Public() {
		t.Errorf("in reserve %+v", v)
	}
	bob.must(member.ReplaceRelay{Relay: "R3"})
	w.run(30 * time.Second)
	w.wantRelays("R1 in use", "R4 in use", "R5 in use", "R2 retired", "R3 retired")
	w.talk("after", 3)
}

// TestGroupSpareCutOff: an admin whose network cuts it off from a relay does not have
// the group go over to a spare one while the others' messages show that it goes on.
func TestGroupSpareCutOff(t *testing.T) {
	w := spareWorld(t, 4)
	ann, bob := w.nodes[0], w.nodes[1]
	ann.must(member.AddGroupSpare{Relay: w.spot(3), Auto: true})
	w.run(10 * time.Second)
	first := w.byRank()[0]
	speaker := bob
	if first == bob {
		speaker = ann
	}
	first.cutFrom(w.relays[1])
	for _, use := range []broadcast.Use{broadcast.ReadLink, broadcast.PostLink} {
		first.after[linkKey{Relay: w.relays[1].key.Public(), Use: use}] = w.now.Add(100 * day)
	}
	for range 8 {
		w.run(12 * time.Hour)
		speaker.send("R2 goes on")
		first.restart()
		w.run(time.Minute)
	}
	if got := first.told(member.EventRelay); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "Relay R2 (operator Op2) has been gone for 3 days") }) {
		t.Errorf("%s was told %q", first.name, got)
	}
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	w.relays[1].stop() // now it is gone for all
	w.run(2 * day)
	speaker.send("R2 is gone")
	w.run(12 * time.Hour)
	w.wantRelays("R1 in use", "R2 in use", "R3 in use")
	w.run(day)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 retired")
}

// TestGroupSpareTwice: two admins' devices that act at once make the same relay ready
// and name the same list; nobody has to look at that, and everybody goes over once.
func TestGroupSpareTwice(t *testing.T) {
	w := spareWorld(t, 4)
	list := w.byRank()
	for _, n := range list[:2] { // as if both had their turn
		n.ask(member.ReplaceRelay{Relay: "R2", By: w.spot(3)})
	}
	w.run(30 * time.Second)
	w.wantRelays("R1 in use", "R3 in use", "R4 in use", "R2 retired")
	w.talk("after", 3)
	for _, n := range w.nodes {
		v := n.roster()
		if got := n.told(member.EventDispute); len(got) != 0 || v.Ordinal != 1 || len(v.Disputes) != 0 {
			t.Errorf("%s: list %d, %+v, told %q", n.name, v.Ordinal, v.Disputes, got)
		}
	}
	if made := strings.Count(list[0].roster().Drawing, "relay list 1"); made != 2 {
		t.Errorf("%d lists were made, want 2: the test shows nothing", made)
	}
}
