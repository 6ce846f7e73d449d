package member_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

// approving founds a group in mode approve with the first member, and returns its
// link.
func (w *world) approving() string {
	var spots []member.FoundingSpot
	for _, r := range w.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
	}
	ann := w.nodes[0]
	ann.must(member.CreateGroup{Group: "Test", Name: ann.name, Relays: spots, Mode: "approve", Deadline: 3 * time.Second})
	v := ann.must(member.MakeInvite{}).(member.InviteInfo)
	if v.Mode != "approve" {
		w.t.Fatalf("invited: %+v", v)
	}
	return v.Link
}

// letIn makes somebody ask, and the first member approve.
func (w *world) letIn(link string, n *memberNode) {
	w.t.Helper()
	n.must(member.JoinGroup{Link: link, Name: n.name})
	w.run(5 * time.Second)
	w.nodes[0].must(member.ApproveMember{Member: n.name})
	w.run(30 * time.Second)
	if !n.status().Ready {
		w.t.Fatalf("%s is not in: %+v", n.name, n.status())
	}
}

func (n *memberNode) status() member.Status {
	n.w.t.Helper()
	return n.must(member.GetStatus{}).(member.Status)
}

func (n *memberNode) requests() []member.RequestInfo {
	n.w.t.Helper()
	return n.must(member.GetRequests{}).([]member.RequestInfo)
}

// TestApprove: a newcomer asks, waits in words, is let in by an admin, compares the
// boards, and speaks; members who are none see no more than that.
func TestApprove(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.approving()
	ann := w.nodes[0]
	bob := w.add("Bob")
	info := bob.must(member.JoinGroup{Link: link, Name: "Bob"}).(member.GroupInfo)
	if !info.Waiting || info.Group != "Test" {
		t.Fatalf("asking answers %+v", info)
	}
	s := bob.status()
	if s.Ready || s.Asking == nil || !s.Asking.Kept || s.Asking.Relays < 2 || !strings.Contains(s.Asking.Text, "An admin has to let you in: tell one that you are seat "+s.Asking.Seat[:8]+",") {
		t.Fatalf("Bob waits: %+v", s.Asking)
	}
	if _, err := bob.do(member.SendText{Text: "hello?"}); !errors.Is(err, member.ErrNotReady) || !strings.Contains(err.Error(), "An admin has to let you in") {
		t.Errorf("speaks before: %v", err)
	}
	w.run(5 * time.Second)
	list := ann.requests()
	if len(list) != 1 || list[0].Name != "Bob" || !list[0].Agreed || len(list[0].Shown) != 3 || len(list[0].Missing) != 0 || list[0].Needed != 2 || list[0].Role != member.AsMember || list[0].Seat != s.Asking.Seat {
		t.Fatalf("requests: %+v", list)
	}
	if got := ann.told(member.EventRequest); len(got) != 1 || !strings.HasPrefix(got[0], "Bob asks to be let into Test: ") {
		t.Errorf("Ann was told %q", got)
	}
	w.run(10 * time.Minute)
	if got := labelsOf(ann.roster().Members); !slices.Equal(got, []string{"Ann"}) || len(ann.roster().Asking) != 0 {
		t.Fatalf("in before approval: %v", got)
	}
	op := ann.must(member.ApproveMember{Member: "Bob"}).(member.OperationInfo)
	if op.Relays < 2 || !strings.Contains(op.What, "Bob is let in as member") {
		t.Errorf("approving answers %+v", op)
	}
	w.run(30 * time.Second)
	if s := bob.status(); !s.Ready || s.Asking != nil || s.Waiting {
		t.Fatalf("after approval: %+v", s)
	}
	bob.must(member.SendText{Text: "I am in"})
	w.run(10 * time.Second)
	ann.must(member.SendText{Text: "welcome"})
	w.run(10 * time.Second)
	if !slices.Contains(ann.texts(), "Bob: I am in") || !slices.Contains(bob.texts(), "Ann: welcome") {
		t.Errorf("Ann has %q, Bob has %q", ann.texts(), bob.texts())
	}
	if len(ann.requests()) != 0 {
		t.Errorf("still asked: %+v", ann.requests())
	}
	if _, err := bob.do(member.GetRequests{}); !errors.Is(err, member.ErrNotAdmin) {
		t.Errorf("requests for a member: %v", err)
	}
	cy := w.add("Cy")
	w.letIn(link, cy)
	w.run(time.Minute)
	w.agree(w.nodes...)
	for _, n := range w.nodes {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s was told %q", n.name, a)
		}
		n.restart()
	}
	w.run(time.Minute)
	for _, n := range w.nodes {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s was told %q", n.name, a)
		}
	}
}

// TestApproveQuorum: a request that fewer operators show than are enough is not
// granted, and it is said which relays lack it; when they show it, it is.
func TestApproveQuorum(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.approving()
	ann := w.nodes[0]
	bob := w.add("Bob")
	hides := func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
		if to == ann && f.Type == proto.TypeEntry {
			if msg, _ := proto.Parse(f); len(msg.(proto.Entry).Value) > 1000 {
				return nil
			}
		}
		return []broadcast.Frame{f}
	}
	w.relays[0].filter, w.relays[1].filter = hides, hides
	bob.must(member.JoinGroup{Link: link, Name: "Bob"})
	w.run(10 * time.Second)
	list := ann.requests()
	if len(list) != 1 || list[0].Agreed || len(list[0].Shown) != 1 {
		t.Fatalf("requests: %+v", list)
	}
	if got := ann.told(member.EventRequest); len(got) != 0 {
		t.Errorf("Ann was told %q", got)
	}
	_, err := ann.do(member.ApproveMember{Member: "Bob"})
	if !errors.Is(err, member.ErrTooFew) || !strings.Contains(err.Error(), "1 of 3 relays show the same request") {
		t.Fatalf("approved on one relay's word: %v", err)
	}
	if ann.roster().Operations != 1 {
		t.Error("an operation was made")
	}
	w.relays[0].filter, w.relays[1].filter = nil, nil
	ann.restart()
	w.run(time.Minute)
	ann.must(member.ApproveMember{Member: "Bob"})
	w.run(time.Minute)
	if !bob.status().Ready {
		t.Errorf("Bob is not in: %+v", bob.status().Asking)
	}
}

// TestApproveDurable: a newcomer that ends at any of its writes, again and again,
// asks once and comes in.
func TestApproveDurable(t *testing.T) {
	for every := 2; every <= 5; every++ {
		t.Run(fmt.Sprint(every), func(t *testing.T) {
			w := newWorld(t, 3, "Ann")
			link := w.approving()
			ann, bob := w.nodes[0], w.add("Bob")
			bob.crash = &crash{every: every}
			bob.in = append(bob.in, broadcast.Command{ID: 7, Wish: member.JoinGroup{Link: link, Name: "Bob"}})
			for range 20 {
				if w.run(5 * time.Second); len(ann.requests()) > 0 && ann.requests()[0].Agreed {
					break
				}
				if bob.status().Seat == "" {
					bob.in = append(bob.in, broadcast.Command{ID: 7, Wish: member.JoinGroup{Link: link, Name: "Bob"}})
				}
			}
			if list := ann.requests(); len(list) != 1 || !list[0].Agreed {
				t.Fatalf("requests: %+v", list)
			}
			bob.leave()
			ann.must(member.ApproveMember{Member: "Bob"})
			w.run(time.Minute)
			bob.offline = false
			bob.restart()
			for range 10 {
				if w.run(time.Minute); bob.status().Ready {
					break
				}
			}
			bob.crash = nil
			w.run(time.Minute)
			if s := bob.status(); !s.Ready {
				t.Fatalf("Bob is not in: %+v", s.Asking)
			}
			ann.must(member.SendText{Text: "welcome"})
			w.run(10 * time.Second)
			if !slices.Contains(bob.history(), "Ann: welcome") {
				t.Errorf("Bob has %q", bob.history())
			}
		})
	}
}

// TestRefuse: who is refused is told, other admins' lists lose it, it may be let in
// all the same; who takes its request back is not listed any more.
func TestRefuse(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.approving()
	ann, bob := w.nodes[0], w.add("Bob")
	w.letIn(link, bob)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(time.Minute)
	cy, dee := w.add("Cy"), w.add("Dee")
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	dee.must(member.JoinGroup{Link: link, Name: "Dee"})
	w.run(5 * time.Second)
	if len(ann.requests()) != 2 || len(bob.requests()) != 2 {
		t.Fatalf("requests: %+v %+v", ann.requests(), bob.requests())
	}
	if _, err := ann.do(member.RefuseMember{Member: "Cy", Reason: "two\nlines"}); err == nil {
		t.Error("a reason of two lines")
	}
	if _, err := ann.do(member.RefuseMember{Member: "Zoe"}); !errors.Is(err, member.ErrNoSuch) {
		t.Errorf("refused nobody: %v", err)
	}
	ann.must(member.RefuseMember{Member: "Cy", Reason: "wrong group"})
	dee.must(member.LeaveGroup{})
	w.run(10 * time.Second)
	if len(ann.requests()) != 0 || len(bob.requests()) != 0 {
		t.Fatalf("requests: %+v %+v", ann.requests(), bob.requests())
	}
	if s := dee.status(); !s.Left {
		t.Errorf("Dee: %+v", s)
	}
	s := cy.status()
	if s.Asking == nil || !strings.Contains(s.Asking.Text, "refused (signed by the founder): wrong group") {
		t.Fatalf("Cy: %+v", s.Asking)
	}
	if _, err := cy.do(member.JoinGroup{Link: link, Name: "Cy", Await: true}); !errors.Is(err, member.ErrDeclined) {
		t.Errorf("waiting on: %v", err)
	}
	if got := bob.told(member.EventRequest); !slices.Contains(got, "Ann refused Cy, who asked to be let in.") {
		t.Errorf("Bob was told %q", got)
	}
	bob.must(member.ApproveMember{Member: s.Asking.Seat})
	w.run(time.Minute)
	if s := cy.status(); !s.Ready {
		t.Errorf("Cy is not in: %+v", s.Asking)
	}
}

// TestApproveTwice: two admins approve at once, and nothing is lost; the one who
// asked was away for long and an epoch began meanwhile.
func TestApproveTwice(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.approving()
	ann, bob, cy := w.nodes[0], w.add("Bob"), w.add("Cy")
	w.letIn(link, bob)
	w.letIn(link, cy)
	ann.must(member.SetRole{Member: "Bob", Role: member.AsAdmin})
	w.run(time.Minute)
	dee := w.add("Dee")
	dee.must(member.JoinGroup{Link: link, Name: "Dee"})
	w.run(5 * time.Second)
	dee.leave()
	ann.in = append(ann.in, broadcast.Command{ID: 901, Wish: member.ApproveMember{Member: "Dee"}})
	bob.in = append(bob.in, broadcast.Command{ID: 902, Wish: member.ApproveMember{Member: "Dee"}})
	w.run(time.Minute)
	if ann.answers[901].Err != nil || bob.answers[902].Err != nil {
		t.Fatalf("approving: %v, %v", ann.answers[901].Err, bob.answers[902].Err)
	}
	cy.must(member.LeaveGroup{})
	w.run(5 * time.Minute)
	if r := w.agree(ann, bob); r.Epochs != 1 || len(r.Members) != 3 {
		t.Fatalf("%+v", r)
	}
	dee.offline = false
	w.run(2 * time.Minute)
	if s := dee.status(); !s.Ready {
		t.Fatalf("Dee is not in: %+v", s)
	}
	dee.must(member.SendText{Text: "here I am"})
	w.run(10 * time.Second)
	if !slices.Contains(ann.texts(), "Dee: here I am") || !slices.Contains(bob.texts(), "Dee: here I am") {
		t.Errorf("Ann has %q, Bob has %q", ann.texts(), bob.texts())
	}
}

// TestRequestsBounded: one invitation brings as many requests as it has uses, and
// an admin's device keeps as many as its limit; expired ones go.
func TestRequestsBounded(t *testing.T) {
	w := newWorld(t, 3)
	ann := w.add("Ann")
	ann.open = member.Open(member.Config{Verify: w.verify, Limits: member.Limits{Requests: 3}})
	ann.start()
	w.approving()
	link := ann.must(member.MakeInvite{Uses: 5}).(member.InviteInfo).Link
	for i := range 6 {
		n := w.add(fmt.Sprintf("N%d", i))
		_, err := n.do(member.JoinGroup{Link: link, Name: n.name})
		if (i < 5) != (err == nil) || i == 5 && !errors.Is(err, member.ErrExpired) {
			t.Errorf("request %d: %v", i, err)
		}
		if i == 5 {
			n.leave()
		}
	}
	w.run(10 * time.Second)
	if n := len(ann.requests()); n != 3 {
		t.Errorf("%d requests are kept", n)
	}
	if got := ann.told(member.EventRequest); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "More than 3 requests") }) {
		t.Errorf("Ann was told %q", got)
	}
	ann.must(member.RefuseMember{Invite: ann.requests()[0].Invite, Reason: "too many"})
	if n := len(ann.requests()); n != 0 {
		t.Errorf("%d requests are left", n)
	}
	w.run(8 * 24 * time.Hour)
	if s := w.nodes[1].status(); s.Asking == nil || !s.Asking.Expired || !strings.Contains(s.Asking.Text, "Ask an admin for a new invitation") {
		t.Errorf("after a week: %+v", s.Asking)
	}
}

// TestInsiderDecides: a member that is no admin cannot let anybody in, nor refuse
// for the group: what it writes into the room gives the newcomer keys at most, and
// the newcomer says nothing before an admin's operation is there.
func TestInsiderDecides(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.approving()
	ann, mal := w.nodes[0], w.add("Mal")
	w.letIn(link, mal)
	cy := w.add("Cy")
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(5 * time.Second)
	if _, err := mal.do(member.ApproveMember{Member: "Cy"}); !errors.Is(err, member.ErrNotAdmin) {
		t.Fatalf("a member approves: %v", err)
	}
	if _, err := mal.do(member.RefuseMember{Member: "Cy"}); !errors.Is(err, member.ErrNotAdmin) {
		t.Fatalf("a member refuses: %v", err)
	}
	seat, puts := cy.status().Asking.Seat, 0
	cy.sent = func(_ *relayNode, f broadcast.Frame) {
		if f.Type == proto.TypeBoardPut || f.Type == proto.TypePost {
			puts++
		}
	}
	insider := mal.machine.(*member.Machine)
	insider.Decide(seat, false, "go away")
	mal.drain()
	w.run(5 * time.Second)
	insider.Decide(seat, true, "")
	mal.drain()
	w.run(time.Minute)
	if s := cy.status(); s.Ready || s.Asking.Let || puts > 0 || !strings.Contains(s.Asking.Refused, "signed by seat") {
		t.Fatalf("Cy after %d posts: %+v", puts, s.Asking)
	}
	if list := ann.requests(); len(list) != 1 || !list[0].Agreed {
		t.Fatalf("Ann's list: %+v", list)
	}
	if r := w.agree(ann, mal); r.Operations != 2 || len(r.Members) != 2 {
		t.Fatalf("the roster: %+v", r)
	}
	ann.must(member.ApproveMember{Member: "Cy"})
	w.run(time.Minute)
	if s := cy.status(); !s.Ready {
		t.Errorf("Cy is not in: %+v", s.Asking)
	}
	w.agree(w.nodes...)
}

// TestRequestOfRemoved: who was let in and removed before it came is told, and
// stays out; the mode may change meanwhile, and invitations end, without anybody
// who waits being lost.
func TestRequestOfRemoved(t *testing.T) {
	w := newWorld(t, 3, "Ann")
	link := w.approving()
	ann, bob, cy := w.nodes[0], w.add("Bob"), w.add("Cy")
	bob.must(member.JoinGroup{Link: link, Name: "Bob"})
	cy.must(member.JoinGroup{Link: link, Name: "Cy"})
	w.run(5 * time.Second)
	seat := bob.status().Asking.Seat
	bob.leave()
	ann.must(mode("closed"))
	if list := ann.requests(); len(list) != 2 || !list[0].Ended || !list[0].Agreed {
		t.Fatalf("requests in a closed group: %+v", list)
	}
	dee := w.add("Dee")
	if _, err := dee.do(member.JoinGroup{Link: link, Name: "Dee"}); !errors.Is(err, member.ErrExpired) {
		t.Errorf("asking in a closed group: %v", err)
	}
	dee.leave()
	ann.must(member.ApproveMember{Member: "Cy"})
	w.run(time.Minute)
	if s := cy.status(); !s.Ready {
		t.Fatalf("Cy is not in: %+v", s.Asking)
	}
	ann.must(member.ApproveMember{Member: "Bob"})
	w.run(5 * time.Second)
	ann.must(member.RemoveMember{Member: seat})
	w.run(5 * time.Second)
	bob.offline = false
	w.run(time.Minute)
	if s := bob.status(); s.Ready || !strings.Contains(s.Asking.Text, "removed you again") {
		t.Errorf("Bob: %+v", s.Asking)
	}
}
