package member_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
)

// delivery is what a member knows of a text of its own.
func (n *memberNode) delivery(id string) member.DeliveryInfo {
	n.w.t.Helper()
	return n.must(member.GetDelivery{Message: id}).(member.DeliveryInfo)
}

// later sends while nobody may hear it.
func (n *memberNode) later(text string) {
	n.command++
	c := broadcast.Command{ID: n.command, Wish: member.SendText{Text: text, Wait: member.WaitNone}}
	n.in, n.owed = append(n.in, c), append(n.owed, c)
	n.step()
	n.drain()
}

func (n *memberNode) send(text string) string {
	n.w.t.Helper()
	return n.must(member.SendText{Text: text}).(member.SentInfo).ID
}

func of(t *testing.T, v member.DeliveryInfo, name string) member.MemberDelivery {
	t.Helper()
	i := slices.IndexFunc(v.Members, func(m member.MemberDelivery) bool { return m.Member == name })
	if i < 0 {
		t.Fatalf("%s is not in %+v", name, v.Members)
	}
	return v.Members[i]
}

// TestDelivery follows one text: over two of three relays, to who answers at
// once, who wrote before it came, who reads it much later, who is silent, and
// who was not there.
func TestDelivery(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy", "Di", "Eve")
	link := w.group(false)
	ann, bob, cy, di, eve := w.nodes[0], w.nodes[1], w.nodes[2], w.nodes[3], w.nodes[4]
	if _, err := ann.do(member.GetDelivery{}); !errors.Is(err, member.ErrNoSuch) {
		t.Errorf("before any text: %v", err)
	}
	for _, n := range slices.Backward(w.nodes) {
		n.send("so that every first contact has its answer")
	}
	w.run(5 * time.Second)
	cy.leave()
	di.leave()
	eve.leave()
	w.relays[2].stop()
	id := ann.send("who has it?")
	w.run(5 * time.Second)

	check := func(when string, relays string, want map[string]string) member.DeliveryInfo {
		t.Helper()
		v := ann.delivery(id)
		var got []string
		for _, r := range v.Relays {
			got = append(got, string(r.State))
			if (r.State == member.RelayReceipt) != (r.Number > 0 && !r.Time.IsZero()) || (r.State == member.RelayReceipt) != (r.Why == "") {
				t.Errorf("%s: relay %+v", when, r)
			}
		}
		if strings.Join(got, " ") != relays {
			t.Errorf("%s: relays %v, want %s", when, got, relays)
		}
		if len(v.Members) != len(want) {
			t.Errorf("%s: %d members", when, len(v.Members))
		}
		for name, state := range want {
			m := of(t, v, name)
			if s := strings.TrimSpace(string(m.State) + " " + strings.Join(m.Read, "")); s != state {
				t.Errorf("%s: %s is %q, want %q: %+v", when, name, s, state, m)
			}
			if (m.Message != "") != (m.State == member.MemberOpened || m.State == member.MemberRead || m.State == member.MemberBehind) {
				t.Errorf("%s: %s: its message is %q", when, name, m.Message)
			}
		}
		return v
	}
	check("nobody wrote", "receipt receipt waiting", map[string]string{"Bob": "unheard", "Cy": "unheard", "Di": "unheard", "Eve": "unheard"})

	answer := bob.send("I have")
	w.run(5 * time.Second)
	v := check("Bob answered", "receipt receipt waiting", map[string]string{"Bob": "opened R1R2", "Cy": "unheard", "Di": "unheard", "Eve": "unheard"})
	if b := of(t, v, "Bob"); b.Message != answer || b.Time.IsZero() {
		t.Errorf("Bob: %+v, his message was %s", b, answer)
	}

	// Cy wrote before it came there: that says that it had not come.
	cy.later("written on the way")
	cy.offline = false
	w.run(5 * time.Second)
	check("Cy wrote before", "receipt receipt waiting", map[string]string{"Bob": "opened R1R2", "Cy": "behind", "Di": "unheard", "Eve": "unheard"})

	// The relay is back: it has it too. Di reads everything, and writes when
	// Ann has written more than her view names.
	w.relays[2].down = false
	w.run(30 * time.Second)
	for range member.MaxRecents {
		ann.send("more")
	}
	bob.send("more")
	w.run(time.Second)
	di.offline = false
	w.run(30 * time.Second)
	di.send("back again")
	w.run(5 * time.Second)
	want := map[string]string{"Bob": "opened R1R2R3", "Cy": "behind", "Di": "read R1R2R3", "Eve": "unheard"}
	before := check("R3 is back", "receipt receipt receipt", want)

	// A newcomer, and a restart of the sender: nothing is forgotten.
	fay := w.add("Fay")
	fay.must(member.JoinGroup{Link: link, Name: "Fay"})
	w.run(5 * time.Second)
	want["Fay"] = "later"
	check("Fay joined", "receipt receipt receipt", want)
	ann.restart()
	w.run(time.Second)
	after := check("Ann restarted", "receipt receipt receipt", want)
	after.Members = slices.DeleteFunc(after.Members, func(m member.MemberDelivery) bool { return m.Member == "Fay" })
	if !reflect.DeepEqual(after, before) {
		t.Errorf("after a restart\n%+v\nbefore\n%+v", after, before)
	}

	// By id, by its beginning, and not that of others.
	if v := ann.delivery(strings.ToUpper(id[:6])); v.ID != id || v.Text != "who has it?" {
		t.Errorf("%+v", v)
	}
	if _, err := ann.do(member.GetDelivery{Message: answer}); !errors.Is(err, member.ErrNoSuch) || !strings.Contains(err.Error(), "not yours") {
		t.Errorf("Bob's message: %v", err)
	}
	if _, err := ann.do(member.GetDelivery{Message: "ffffffffffffffff"}); !errors.Is(err, member.ErrNoSuch) {
		t.Errorf("no message: %v", err)
	}
	if newest := ann.send("newest"); ann.delivery("").ID != newest {
		t.Error("without an id it is not the newest")
	}
}

// TestDeliveryCrashes: whatever ends the sender's process, what it told is
// still there, and what came since is added.
func TestDeliveryCrashes(t *testing.T) {
	told := 0
	for at := 1; at <= 12; at++ {
		w := newWorld(t, 3, "Ann", "Bob")
		w.group(false)
		ann, bob := w.nodes[0], w.nodes[1]
		bob.send("hello")
		w.run(5 * time.Second)
		ann.crash = &crash{at: at, lost: at%2 == 0}
		ann.later("durable")
		bob.send("back")
		w.run(10 * time.Second)
		ann.crash = nil
		bob.send("and again")
		w.run(5 * time.Second)
		if !slices.Contains(ann.history(), "Ann: durable") {
			continue // lost before it was durable
		}
		told++
		v := ann.delivery("")
		for _, r := range v.Relays {
			if r.State != member.RelayReceipt {
				t.Errorf("crash at %d: %+v", at, r)
			}
		}
		if b := of(t, v, "Bob"); b.State != member.MemberOpened || len(b.Read) != 3 {
			t.Errorf("crash at %d: %+v", at, b)
		}
	}
	if told < 10 {
		t.Errorf("only %d texts survived", told)
	}
}
