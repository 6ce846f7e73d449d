package member_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/store"
)

// copied is a world that goes on from what another one's stores have.
func (w *world) copied(t testing.TB) *world {
	c := &world{t: t, now: w.now, rng: w.rng, verify: w.verify, link: w.link}
	for _, r := range w.relays {
		c.relays = append(c.relays, &relayNode{w: c, key: r.key, open: r.open, store: r.store.Snapshot(), units: map[store.Unit]*actor{}, operator: r.operator})
	}
	for _, o := range w.nodes {
		n := &memberNode{name: o.name, answers: map[uint64]broadcast.Answer{}, up: map[linkKey]broadcast.Link{}, after: map[linkKey]time.Time{}, command: 1 << 20}
		n.actor = &actor{w: c, unit: o.unit, open: o.open, store: o.store.Snapshot(), ends: map[broadcast.Link]*end{}, owner: n}
		n.start()
		c.nodes = append(c.nodes, n)
	}
	return c
}

// rapidTB lets a world fail a rapid check.
type rapidTB struct {
	testing.TB
	r *rapid.T
}

func (t rapidTB) Helper()                   {}
func (t rapidTB) Fatal(args ...any)         { t.r.Fatal(args...) }
func (t rapidTB) Fatalf(f string, a ...any) { t.r.Fatalf(f, a...) }
func (t rapidTB) Error(args ...any)         { t.r.Error(args...) }
func (t rapidTB) Errorf(f string, a ...any) { t.r.Errorf(f, a...) }
func (t rapidTB) Logf(f string, a ...any)   { t.r.Logf(f, a...) }

// checks runs a rapid check as often as n, unless the flag says otherwise.
func checks(t *testing.T, n int, f func(*rapid.T)) {
	t.Helper()
	often := flag.Lookup("rapid.checks")
	if often.Value.String() == often.DefValue {
		if err := flag.Set("rapid.checks", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
		defer flag.Set("rapid.checks", often.DefValue)
	}
	rapid.Check(t, f)
}

// TestRosterHistories: an owner, two admins, two members and a reader act at
// once, some of them cut off, crashing at any write, with relays that come and go.
// When all are back, everybody who is in has the same roster, sends to exactly
// those whom it lists, and nobody is out whom nobody put out.
func TestRosterHistories(t *testing.T) {
	names := []string{"Ann", "Bob", "Cy", "Dee", "Eve", "Fay"}
	base := newWorld(t, 3, names...)
	base.group(false)
	for who, role := range map[string]member.Role{"Bob": member.AsAdmin, "Cy": member.AsAdmin, "Fay": member.AsReader} {
		base.nodes[0].must(member.SetRole{Member: who, Role: role})
	}
	base.run(3 * time.Minute)
	base.agree(base.nodes...)
	checks(t, 12, func(r *rapid.T) {
		w := base.copied(rapidTB{t, r})
		w.run(time.Second)
		put := map[string]bool{} // whom somebody tried to put out, or who left
		who := func(label string) *memberNode { return rapid.SampledFrom(w.nodes).Draw(r, label) }
		for range rapid.IntRange(3, 14).Draw(r, "steps") {
			n := who("who")
			other := rapid.SampledFrom(names).Draw(r, "whom")
			switch rapid.SampledFrom([]string{"remove", "remove", "role", "role", "approve", "leave", "invite", "revoke", "away", "away", "back", "crash", "relay", "text", "wait"}).Draw(r, "what") {
			case "remove":
				put[other] = true
				n.wish(member.RemoveMember{Member: other})
			case "role":
				n.wish(member.SetRole{Member: other, Role: rapid.SampledFrom([]member.Role{member.AsAdmin, member.AsAdmin, member.AsMember, member.AsReader, member.AsOwner}).Draw(r, "role")})
			case "approve":
				if put[other] {
					continue // over several epochs it depends on who teaches it the keys: TestRoles has the plain case
				}
				n.wish(member.ApproveMember{Member: other, Role: rapid.SampledFrom([]member.Role{member.AsAdmin, member.AsMember}).Draw(r, "role")})
			case "leave":
				if n.name != "Ann" {
					put[n.name] = true
					n.wish(member.LeaveGroup{})
				}
			case "invite":
				n.wish(member.MakeInvite{})
			case "revoke":
				n.wish(member.RevokeInvite{ID: rapid.StringMatching("[0-9a-f]").Draw(r, "invite")})
			case "away":
				n.leave()
			case "back":
				n.offline = false
			case "crash":
				n.crash = &crash{at: rapid.IntRange(1, 6).Draw(r, "write"), lost: rapid.Bool().Draw(r, "lost")}
			case "relay":
				if relay := rapid.SampledFrom(w.relays).Draw(r, "relay"); relay.down {
					relay.down = false
				} else {
					relay.stop()
				}
			case "text":
				n.wish(member.SendText{Text: "hello", Wait: member.WaitNone})
			case "wait":
				w.run(time.Duration(rapid.IntRange(1, 120).Draw(r, "seconds")) * time.Second)
			}
		}
		for _, relay := range w.relays {
			relay.down = false
		}
		for _, n := range w.nodes {
			n.offline, n.crash = false, nil
		}
		w.run(10 * time.Minute)
		for _, n := range w.nodes { // views show who lacks what only others can read from the boards
			n.wish(member.SendText{Text: "all here", Wait: member.WaitNone})
		}
		w.run(10 * time.Minute)
		w.consistent(put)
	})
}

// wish hands a wish over and lets it work, without waiting for the world.
func (n *memberNode) wish(w member.Wish) {
	n.in = append(n.in, command(n, w))
	n.step()
	n.drain()
	if !n.offline {
		n.w.run(200 * time.Millisecond)
	}
}

// consistent fails unless all who are in agree on who is, and reach each other.
func (w *world) consistent(put map[string]bool) {
	w.t.Helper()
	first := slices.IndexFunc(w.nodes, func(n *memberNode) bool {
		v := n.must(member.GetStatus{}).(member.Status)
		return v.Ready && slices.Contains(labelsOf(n.roster().Members), n.name)
	})
	if first < 0 {
		return // all are out, or were told so while they were alone
	}
	known := w.nodes[first].roster()
	in := labelsOf(known.Members)
	var nodes []*memberNode
	for _, n := range w.nodes {
		if v := n.must(member.GetStatus{}).(member.Status); !v.Ready {
			continue // it left, whether or not the others could be told
		}
		if slices.Contains(in, n.name) {
			nodes = append(nodes, n)
		} else if !put[n.name] {
			w.t.Fatalf("%s is out, and nobody put it out:\n%s", n.name, known.Drawing)
		}
	}
	r := w.agree(nodes...)
	for _, n := range nodes {
		info := n.roster()
		for _, x := range info.Members {
			if !x.Usable {
				w.t.Errorf("%s has no keys for %s, who is in", n.name, x.Name)
			}
		}
		for _, x := range append(info.Removed, info.Pending...) {
			if x.Usable {
				w.t.Errorf("%s encrypts to %s, who is out:\n%s", n.name, x.Name, r.Drawing)
			}
		}
		if !info.Headless && info.Epochs != 1 {
			w.t.Errorf("%s sees %d epochs in force", n.name, info.Epochs)
		}
	}
	speaks := slices.IndexFunc(nodes, func(n *memberNode) bool { return n.roster().Role != member.AsReader })
	if speaks < 0 {
		return
	}
	nodes[speaks].must(member.SendText{Text: "at the end"})
	w.run(2 * time.Minute)
	for _, n := range w.nodes {
		got := slices.ContainsFunc(n.texts(), func(s string) bool { return strings.HasSuffix(s, "at the end") })
		if want := slices.Contains(nodes, n); got != want {
			w.t.Errorf("%s got what was said at the end: %v, want %v\n%s", n.name, got, want, r.Drawing)
		}
	}
}
