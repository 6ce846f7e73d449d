package member_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

func mode(word string) member.SetPolicy { return member.SetPolicy{Mode: &word} }

// revocations counts the grants that a member sends to end an invite, by relay.
func (n *memberNode) revocations(of map[string]int) func(*relayNode, broadcast.Frame) {
	return func(r *relayNode, f broadcast.Frame) {
		if msg, err := proto.Parse(f); err == nil {
			if g, ok := msg.(proto.Grant); ok && g.Revoke {
				of[r.operator]++
			}
		}
	}
}

// TestRevokedAtRelays: an invitation that ended ends at the relays too, by whoever
// ended it, and at one that was away when it is back.
func TestRevokedAtRelays(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(time.Minute)
	w.relays[2].stop()
	sent := map[string]int{}
	bob.sent = bob.revocations(sent)
	if got := bob.must(member.RevokeInvite{ID: ann.roster().Invites[0].ID}).(member.OperationInfo); got.Relays != 2 {
		t.Errorf("answered %+v", got)
	}
	bob.restart()
	w.relays[2].down = false
	w.run(10 * time.Minute)
	if sent["Op1"] != 1 || sent["Op2"] != 1 || sent["Op3"] != 1 {
		t.Errorf("revocations at the relays: %v", sent)
	}
	cy := w.add("Cy")
	if _, err := cy.do(member.JoinGroup{Link: link, Name: "Cy"}); !errors.Is(err, member.ErrExpired) {
		t.Errorf("joined by it: %v", err)
	}
}

// TestRevokedByAnother: who ended the invitation told no relay, and is gone;
// another admin does it, once.
func TestRevokedByAnother(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(time.Minute)
	ann.drops = func(f broadcast.Frame) bool { return f.Type == proto.TypeGrant }
	id := ann.roster().Invites[0].ID
	ann.in = append(ann.in, broadcast.Command{ID: 77, Wish: member.RevokeInvite{ID: id}})
	w.run(2 * time.Second)
	if !bob.roster().Invites[0].Revoked {
		t.Fatal("Bob does not know")
	}
	ann.leave()
	sent := map[string]int{}
	bob.sent = bob.revocations(sent)
	w.run(10 * time.Minute)
	bob.restart()
	w.run(10 * time.Minute)
	if sent["Op1"] != 1 || sent["Op2"] != 1 || sent["Op3"] != 1 {
		t.Errorf("revocations at the relays: %v", sent)
	}
}

// TestClosed: nobody invites, nobody lets itself in, who came stays; opened again,
// old links stay dead.
func TestClosed(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	if _, err := ann.do(mode("shut")); !errors.Is(err, member.ErrNoSuch) {
		t.Errorf("an unknown mode: %v", err)
	}
	info := ann.must(mode("closed")).(member.OperationInfo)
	if !strings.Contains(info.What, "closed") || !strings.Contains(info.What, "1 invitation ended") {
		t.Errorf("closing answers %+v", info)
	}
	_, err := ann.do(member.MakeInvite{})
	if !errors.Is(err, member.ErrMode) || !strings.Contains(err.Error(), "closed") || !strings.Contains(err.Error(), "parallax group set --mode") {
		t.Errorf("inviting: %v", err)
	}
	r := w.agree(ann, bob)
	if got := labelsOf(r.Members); !slices.Equal(got, []string{"Ann", "Bob"}) || r.Policy.Mode != "closed" || !r.Invites[0].Revoked || r.Invites[0].Live {
		t.Fatalf("after closing: members %v, %+v %+v", got, r.Policy, r.Invites)
	}
	cy := w.add("Cy")
	if _, err := cy.do(member.JoinGroup{Link: link, Name: "Cy"}); !errors.Is(err, member.ErrExpired) {
		t.Errorf("joined a closed group: %v", err)
	}
	if _, err := bob.do(mode("open")); !errors.Is(err, member.ErrNotOwner) {
		t.Errorf("opened by a member: %v", err)
	}
	if info := ann.must(member.RemoveMember{Member: "Bob"}).(member.OperationInfo); info.Link != "" {
		t.Errorf("a closed group made a link: %+v", info)
	}
	ann.must(mode("open"))
	if r := ann.roster(); r.Invites[0].Live {
		t.Error("an old invitation lives again")
	}
	dee := w.add("Dee")
	dee.must(member.JoinGroup{Link: ann.must(member.MakeInvite{}).(member.InviteInfo).Link, Name: "Dee"})
}

// TestClosedBeside: who let itself in while the group was closed elsewhere waits
// for an admin, though relays took its admission and an admin's device adopted it.
func TestClosedBeside(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob")
	link := w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(2 * time.Minute)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(time.Minute)
	ann.leave()
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(3 * time.Minute)
	if got := labelsOf(bob.roster().Members); !slices.Equal(got, []string{"Ann", "Bob", "Cy"}) {
		t.Fatalf("Bob adopted: %v", got)
	}
	ann.in = append(ann.in, broadcast.Command{ID: 77, Wish: mode("closed")})
	ann.step()
	ann.drain()
	ann.offline = false
	w.run(3 * time.Minute)
	r := w.agree(ann, bob)
	if got := labelsOf(r.Pending); !slices.Equal(got, []string{"Cy"}) {
		t.Fatalf("pending %v, members %v\n%s", got, labelsOf(r.Members), r.Drawing)
	}
	if got := bob.told(member.EventRoster); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "Cy came in while the group was shut") }) {
		t.Errorf("Bob was told %q", got)
	}
	if _, err := cy.do(member.SendText{Text: "hello?"}); !errors.Is(err, member.ErrOut) {
		t.Errorf("Cy speaks: %v", err)
	}
	bob.must(member.ApproveMember{Member: "Cy"})
	w.run(time.Minute)
	if got := labelsOf(w.agree(ann, bob, cy).Members); !slices.Equal(got, []string{"Ann", "Bob", "Cy"}) {
		t.Fatalf("after approval %v", got)
	}
}
