package member_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast/member"
)

// TestModeHistories: two owners and an admin change the mode, invite, approve and
// refuse at once, some of them cut off, crashing at any write, while newcomers come
// by whatever link there is. When all are back, who is in agrees who is; nobody is
// used who let itself in while a mode that counts forbids it; no invitation of
// another mode lives; and nobody who was in before is out.
func TestModeHistories(t *testing.T) {
	base := newWorld(t, 3, "Ann", "Bob", "Cy")
	link := base.group(false)
	base.run(2 * time.Minute)
	for who, role := range map[string]member.Role{"Bob": member.AsOwner, "Cy": member.AsAdmin} {
		base.nodes[0].must(member.SetRole{Member: who, Role: role})
	}
	base.run(2 * time.Minute)
	base.agree(base.nodes...)
	fresh := []string{"N0", "N1", "N2", "N3"}
	checks(t, 8, func(r *rapid.T) {
		w := base.copied(rapidTB{t, r})
		for _, name := range fresh {
			w.add(name)
		}
		w.run(time.Second)
		links := []string{link}
		refused := func() { // a node removes a membership whose link is dead: it asks nobody any more
			for _, n := range w.nodes[3:] {
				for _, a := range n.answers {
					if errors.Is(a.Err, member.ErrExpired) && !n.offline {
						n.leave()
					}
				}
			}
		}
		put := map[string]bool{}
		for _, name := range fresh {
			put[name] = true // may wait for approval for ever
		}
		modes := []string{"open", "approve", "closed"}
		for range rapid.IntRange(4, 16).Draw(r, "steps") {
			n := rapid.SampledFrom(w.nodes[:3]).Draw(r, "who")
			newcomer := rapid.SampledFrom(w.nodes[3:]).Draw(r, "newcomer")
			switch rapid.SampledFrom([]string{"mode", "mode", "mode", "invite", "invite", "join", "join", "join", "approve", "approve", "refuse", "withdraw", "revoke", "away", "back", "crash", "relay", "wait", "wait"}).Draw(r, "what") {
			case "mode":
				n.wish(mode(rapid.SampledFrom(modes).Draw(r, "mode")))
			case "invite":
				n.wish(member.MakeInvite{})
				w.run(time.Second)
				if v, ok := n.answers[n.command].Value.(member.InviteInfo); ok {
					links = append(links, v.Link)
				}
			case "join":
				newcomer.wish(member.JoinGroup{Link: rapid.SampledFrom(links[max(0, len(links)-2):]).Draw(r, "link"), Name: newcomer.name})
				refused()
			case "approve":
				n.wish(member.ApproveMember{Member: newcomer.name})
			case "refuse":
				n.wish(member.RefuseMember{Member: newcomer.name})
			case "withdraw":
				if newcomer.offline {
					continue
				}
				if v, ok := newcomer.machineStatus(); ok && v.Asking != nil {
					newcomer.wish(member.LeaveGroup{})
				}
			case "revoke":
				n.wish(member.RevokeInvite{ID: rapid.StringMatching("[0-9a-f]").Draw(r, "invite")})
			case "away":
				n.leave()
			case "back":
				n.offline = false
			case "crash":
				rapid.SampledFrom([]*memberNode{n, newcomer}).Draw(r, "crashes").crash = &crash{at: rapid.IntRange(1, 6).Draw(r, "write"), lost: rapid.Bool().Draw(r, "lost")}
			case "relay":
				if relay := rapid.SampledFrom(w.relays).Draw(r, "relay"); relay.down {
					relay.down = false
				} else {
					relay.stop()
				}
			case "wait":
				w.run(time.Duration(rapid.IntRange(1, 120).Draw(r, "seconds")) * time.Second)
				refused()
			}
		}
		for _, relay := range w.relays {
			relay.down = false
		}
		for _, n := range w.nodes {
			n.offline, n.crash = false, nil
		}
		refused()
		w.run(10 * time.Second)
		refused()
		w.run(10 * time.Minute)
		for _, n := range w.nodes[:3] {
			n.wish(member.SendText{Text: "all here", Wait: member.WaitNone})
		}
		w.run(10 * time.Minute)
		know := w.nodes[0].roster()
		for _, x := range know.Invites {
			if x.Live && x.Mode != know.Policy.Mode {
				t.Fatalf("mode %s, and an invitation of mode %s lives:\n%s", know.Policy.Mode, x.Mode, know.Drawing)
			}
		}
		for _, x := range append(know.Asking, know.Pending...) {
			if x.Usable && know.Policy.Mode != "open" {
				t.Fatalf("mode %s, and %s, who let itself in, is used:\n%s", know.Policy.Mode, x.Name, know.Drawing)
			}
		}
		for _, n := range w.nodes[:3] {
			if !slices.Contains(labelsOf(know.Members), n.name) {
				t.Fatalf("%s is out:\n%s", n.name, know.Drawing)
			}
		}
		for _, n := range w.nodes[3:] { // who is in by an admin's word has come
			if n.offline {
				continue
			}
			if v, ok := n.machineStatus(); ok && v.Asking != nil && slices.ContainsFunc(know.Members, func(x member.RosterMember) bool { return x.Seat == v.Seat }) {
				t.Fatalf("%s is in and does not know: %+v\n%s", n.name, v.Asking, know.Drawing)
			}
		}
		w.nodes = slices.DeleteFunc(w.nodes, func(n *memberNode) bool { return n.offline })
		w.nodes = slices.DeleteFunc(w.nodes, func(n *memberNode) bool { _, ok := n.machineStatus(); return !ok })
		w.consistent(put)
	})
}

// machineStatus is a status, if there is a membership at all.
func (n *memberNode) machineStatus() (member.Status, bool) {
	v, err := n.do(member.GetStatus{})
	s, ok := v.(member.Status)
	return s, ok && err == nil
}
