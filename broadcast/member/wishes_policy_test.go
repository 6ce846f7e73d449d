package member_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// spots are all relays of the world as a founder names them.
func (w *world) spots() (list []member.FoundingSpot) {
	for i := range w.relays {
		list = append(list, w.spot(i))
	}
	return list
}

// TestFoundingPolicy: a founder says how many are enough and for how long things are
// kept; what its relays can never meet is refused before anything is founded, or when
// they named their operators.
func TestFoundingPolicy(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cem")
	w.relays[2].runBy(w.relays[0].by)
	for i, x := range []member.CreateGroup{
		{Quorum: 4}, // more than relays
		{Quorum: 3}, // more than operators, as it turns out
		{Quorum: 2, Strict: false, Policy: "parallax policy 1\n"}, // no text at all
	} {
		x.Group, x.Name, x.Relays = "Test", "Cem", w.spots()
		_, err := w.nodes[2].do(x)
		if i < 2 && !errors.Is(err, member.ErrUnreachable) || err == nil {
			t.Errorf("%+v: %v", x, err)
		}
	}
	ann := w.nodes[0]
	ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: w.spots(), Quorum: 2, Retention: 30 * 24 * time.Hour, Carriers: member.MaxRelays, Deadline: 3 * time.Second})
	p := ann.roster().Policy
	if p.Quorum != 2 || p.Retention != 30*24*time.Hour || p.Carriers != member.MaxRelays || p.Deadline != 3*time.Second {
		t.Errorf("the policy is %+v", p)
	}
	link := ann.must(member.MakeInvite{}).(member.InviteInfo).Link
	w.nodes[1].must(member.JoinGroup{Link: link, Name: "Bob"})
	if v := w.nodes[1].must(member.GetSecurity{}).(member.Security); v.Policy.Retention != 30*24*3600 || v.Quorum != 2 {
		t.Errorf("Bob sees %+v", v.Policy)
	}
}

// TestCarriersChanged: an owner changes how many carry; it counts at once, since the
// relays are the same, and for everybody.
func TestCarriersChanged(t *testing.T) {
	w := newWorld(t, 4, "Ann", "Bob")
	ann, bob := w.nodes[0], w.nodes[1]
	ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: w.spots(), Deadline: 3 * time.Second})
	bob.must(member.JoinGroup{Link: ann.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Bob"})
	w.run(time.Second)
	for range 4 { // the shares of first contacts go everywhere
		ann.send("to and")
		bob.send("fro")
	}
	w.run(time.Minute)
	set := func(n uint8) {
		ann.must(member.SetPolicy{Carriers: &n})
		w.run(time.Second)
	}
	for _, x := range []struct {
		set          uint8
		full, digest int
	}{{1, 1, 3}, {2, 2, 2}, {member.MaxRelays, 4, 0}, {0, 3, 1}, {7, 4, 0}} {
		set(x.set)
		if got := bob.posts(func() { bob.send("text") }); count(got, "full") != x.full || count(got, "digest") != x.digest {
			t.Errorf("with %d carriers Bob posted %v", x.set, got)
		}
		if got := ann.roster().Policy.Carriers; got != int(x.set) {
			t.Errorf("the roster says %d, want %d", got, x.set)
		}
	}
	w.run(time.Minute)
	w.quiet()
	if got := ann.texts(); count(map[string][]string{"": got}, "Bob: text") != 5 {
		t.Errorf("Ann got %q", got)
	}
	over := uint8(17)
	if _, err := ann.do(member.SetPolicy{Carriers: &over}); err == nil {
		t.Error("17 carriers are taken")
	}
}

// TestReaderInvited: who comes by an invitation for readers is one, before and after
// an admin's device made it a signed fact.
func TestReaderInvited(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	ann, bob := w.nodes[0], w.nodes[1]
	ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: w.spots(), Deadline: 3 * time.Second})
	for role, want := range map[member.Role]error{"admin": member.ErrNoSuch, "owner": member.ErrNoSuch, "guest": member.ErrNoSuch} {
		if _, err := ann.do(member.MakeInvite{Role: role}); !errors.Is(err, want) {
			t.Errorf("as %s: %v", role, err)
		}
	}
	inv := ann.must(member.MakeInvite{Role: member.AsReader}).(member.InviteInfo)
	if inv.Role != member.AsReader {
		t.Errorf("the invitation is for a %s", inv.Role)
	}
	bob.must(member.JoinGroup{Link: inv.Link, Name: "Bob"})
	w.run(time.Second)
	check := func(adopted bool) {
		t.Helper()
		if _, err := bob.do(member.SendText{Text: "may I?"}); !errors.Is(err, member.ErrReader) {
			t.Errorf("Bob speaks: %v", err)
		}
		v := ann.roster()
		if got := slices.ContainsFunc(v.Members, func(m member.RosterMember) bool { return m.Name == "Bob" && m.Role == member.AsReader }); got != adopted {
			t.Errorf("the roster has Bob: %v, want %v", got, adopted)
		}
		if got := ann.member("Bob").Role; got != member.AsReader {
			t.Errorf("Ann sees Bob as %s", got)
		}
	}
	check(false)
	ann.send("read this")
	w.run(5 * time.Minute)
	check(true)
	if got := bob.texts(); !slices.Contains(got, "Ann: read this") {
		t.Errorf("Bob reads %q", got)
	}
}
