package node

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
)

// twoClients runs a test with Ann's node in the process, and with it in another
// one behind the socket. again ends the node and opens the folder anew.
func twoClients(t *testing.T, test func(t *testing.T, n *stations, ann, ben *person, again func())) {
	for _, socket := range []bool{false, true} {
		t.Run(map[bool]string{false: "in process", true: "socket"}[socket], func(t *testing.T) {
			n := newStations(t, 3)
			ann, ben := n.group()
			var long Client
			again := func() {
				ann.leave()
				if long != nil {
					if err := long.Close(); err != nil {
						t.Error(err)
					}
				}
				if socket {
					opt := n.options()
					opt.Serve = true
					long = connect(t, filepath.Join(n.dir, ann.name), opt)
				}
				ann.Client = n.person(ann.name).Client
				if _, ok := ann.Client.(*remote); ok != socket {
					t.Fatalf("a %T", ann.Client)
				}
			}
			again()
			test(t, n, ann, ben, again)
		})
	}
}

// A request repeated with its id, at once and after restarts, gives its first
// answer, and its text is sent once; also when the process ended before it was
// answered, or whoever asked gave up.
func TestRequestOnce(t *testing.T) {
	twoClients(t, func(t *testing.T, n *stations, ann, ben *person, again func()) {
		ask := func(id uint64, w member.Wish, within time.Duration) (any, error) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return ann.Do(ctx, Request{ID: id, Wish: w})
		}
		const long, short = 20 * time.Second, 200 * time.Millisecond
		once := member.SendText{Text: "once", Wait: member.WaitAll}
		first, err := ask(7, once, long)
		if info, ok := first.(member.SentInfo); err != nil || !ok || info.Receipts != 3 {
			t.Fatalf("%#v, %v", first, err)
		}
		invite, err := ask(8, member.MakeInvite{Uses: 3}, long)
		if err != nil {
			t.Fatal(err)
		}
		_, refused := ask(9, member.SendText{Text: " "}, long)
		if refused == nil {
			t.Fatal("an empty text is sent")
		}
		_, absent := ask(10, member.RetireRelay{Relay: "R9"}, long)
		if !errors.Is(absent, member.ErrNoSuch) {
			t.Fatalf("retired what is not there: %v", absent)
		}
		for range 2 {
			for id, c := range map[uint64]struct {
				w    member.Wish
				want any
				err  error
			}{7: {once, first, nil}, 8: {member.MakeInvite{Uses: 3}, invite, nil}, 9: {once, nil, refused}, 10: {member.RetireRelay{Relay: "R9"}, nil, absent}} {
				v, err := ask(id, c.w, long)
				if (err == nil) != (c.err == nil) || err != nil && err.Error() != c.err.Error() || err == nil && v != c.want {
					t.Errorf("request %d: %#v, %v; the first time %#v, %v", id, v, err, c.want, c.err)
				}
			}
			again()
		}
		if _, err := ask(7, member.MakeInvite{}, long); !errors.Is(err, member.ErrTaken) {
			t.Errorf("another wish of that id: %v", err)
		}
		if v, err := ask(0, member.SendText{Text: "no id"}, long); err != nil {
			t.Errorf("%#v, %v", v, err)
		}

		// Two of three relays are away: no quorum, so no answer. Whoever asked gives
		// up and asks again; then the process ends as well.
		n.list[0].stop()
		n.list[1].stop()
		late := member.SendText{Text: "late", Wait: member.WaitAll}
		for range 2 {
			for range 2 {
				if v, err := ask(11, late, short); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%#v, %v", v, err)
				}
			}
			again()
		}
		n.list[0].start()
		n.list[1].start()
		v, err := ask(11, late, long)
		if info, ok := v.(member.SentInfo); err != nil || !ok || info.Receipts != 3 {
			t.Errorf("%#v, %v", v, err)
		}
		if w, err := ask(11, late, long); err != nil || w != v {
			t.Errorf("%#v, then %#v, %v", v, w, err)
		}
		ann.do(member.SendText{Text: "last"})
		ben.hears("once", "no id", "late", "last")
		for _, p := range []*person{ann, ben} {
			for text, times := range p.texts() {
				if times != 1 {
					t.Errorf("%s has %q %d times", p.name, text, times)
				}
			}
		}
	})
}

// A reader that goes on after what it acknowledged gets each event until it
// acknowledged it, over restarts, and none after that.
func TestEventsAfterAcked(t *testing.T) {
	twoClients(t, func(t *testing.T, n *stations, ann, ben *person, again func()) {
		// reads is what is there, and the number of the last of it.
		reads := func(last string) (texts []string, number uint64) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for e, err := range ann.Events(ctx, "", AfterAcked) {
				if err != nil {
					t.Fatalf("after %v: %v", texts, err)
				}
				if e.Kind != member.EventMessage {
					continue
				}
				if texts, number = append(texts, e.Text), e.Number; e.Text == last {
					return texts, number
				}
			}
			t.Fatal("events ended")
			return
		}
		expect := func(want ...string) (number uint64) {
			t.Helper()
			got, number := reads(want[len(want)-1])
			if !slices.Equal(got, want) {
				t.Errorf("read %q, want %q", got, want)
			}
			return number
		}
		ben.do(member.SendText{Text: "one", Wait: member.WaitAll})
		ben.do(member.SendText{Text: "two", Wait: member.WaitAll})
		first := expect("one", "two") // nothing is acknowledged: from the beginning
		again()
		if expect("one", "two") != first {
			t.Error("events changed their numbers")
		}
		if a := ann.do(member.AckEvents{UpTo: first - 1}).(member.AckInfo); a.UpTo != first-1 {
			t.Errorf("acknowledged %+v", a)
		}
		expect("two")
		again()
		ben.do(member.SendText{Text: "three", Wait: member.WaitAll})
		second := expect("two", "three")
		ann.do(member.AckEvents{UpTo: second})
		ann.do(member.AckEvents{UpTo: first}) // nobody goes back
		ann.do(member.AckEvents{Reader: "another", UpTo: 1})
		again()
		if a := ann.do(member.AckEvents{}).(member.AckInfo); a.UpTo != second {
			t.Errorf("after a restart %+v is acknowledged, want %d", a, second)
		}
		ben.do(member.SendText{Text: "four", Wait: member.WaitAll})
		expect("four")
		if _, err := ann.Do(t.Context(), Request{Wish: member.AckEvents{UpTo: 1 << 40}}); !errors.Is(err, member.ErrNoSuch) {
			t.Errorf("acknowledged what is not there: %v", err)
		}
	})
}

// One relay is gone and another takes its place while Ben is away. He comes back
// over the relays that are left of the list that he knows, learns the new one, and
// reads and posts there.
func TestRelayReplacedWhileAway(t *testing.T) {
	n := newStations(t, 3)
	ann, ben := n.group()
	ben.leave()
	ann.do(member.SendText{Text: "before", Wait: member.WaitAll})
	gone := n.list[1]
	gone.stop()
	fresh := n.add()
	v := ann.do(member.ReplaceRelay{Relay: "R2", By: fresh.spot()}).(member.RelayChange)
	if !v.InUse || v.Added != "R4" || v.Retired != "R2" {
		t.Fatalf("changed %+v", v)
	}
	ann.do(member.SendText{Text: "after", Wait: member.WaitAll})

	ben = n.person(ben.name)
	ben.hears("before", "after")
	follows := func(p *person) {
		t.Helper()
		p.until("the new list is in use", func(s member.Status) bool {
			var labels []string
			for _, r := range s.Relays {
				if r.Standing == member.StandingInUse && r.Connected && r.CaughtUp {
					labels = append(labels, r.Label)
				}
			}
			return len(s.Relays) == 3 && slices.Equal(labels, []string{"R1", "R3", "R4"})
		})
	}
	follows(ann)
	follows(ben)

	// Only the new relay and one of the old ones are left: what goes now goes over
	// it, both ways.
	n.list[0].stop()
	for _, p := range []*person{ann, ben} {
		p.do(member.SendText{Text: p.name + " over the new relay"})
	}
	ben.hears("before", "after", "Ann over the new relay")
	ann.hears("Ben over the new relay")
	n.list[2].stop()
	ann.do(member.SendText{Text: "over no other one", Wait: member.WaitNone})
	ben.hears("before", "after", "Ann over the new relay", "over no other one")
	ben.until("no evidence among honest relays", func(s member.Status) bool { return s.Evidence == 0 && s.Disputes == 0 })
}
