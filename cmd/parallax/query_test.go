package main

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// told is a node that answers, and has told these events.
type told struct {
	answers
	events []member.Event
}

func (n *told) Events(context.Context, string, uint64) iter.Seq2[member.Event, error] {
	return func(yield func(member.Event, error) bool) {
		for _, e := range n.events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// TestContestedShown: each reason why a key waits, in words, with its time; the
// exit code stays 0.
func TestContestedShown(t *testing.T) {
	marks := func(words string) map[string]member.Mark {
		m := map[string]member.Mark{}
		for i, w := range strings.Fields(words) {
			m["R"+string(rune('1'+i))] = member.Mark(w)
		}
		return m
	}
	at := time.Date(2026, 11, 1, 9, 0, 0, 0, time.Local)
	for name, c := range map[string]struct {
		members []member.MemberStatus
		want    []string
		never   string
	}{
		"nobody": {[]member.MemberStatus{{Name: "Ann", Own: true, Usable: true, Verdict: "agreed"}, {Name: "Bob", Usable: true, Verdict: "agreed"}}, []string{"Nothing is contested."}, "Bob"},
		"shown by one, under a name": {[]member.MemberStatus{{Name: "Bob", Usable: true, Verdict: "agreed", Label: "Bob [aa]"}, {Seat: "bb", Name: "Bob", Label: "Bob [bb]", Verdict: "contested", Marks: marks("silent matched silent")}},
			[]string{"Bob [bb]  contested since 2026-11-01 09:00:00\n", "Only R2 shows it, R1 and R3 do not; another member carries the same name. They are two members.", "Nothing is sent to it", `parallax code "Bob [bb]"`, "ask how each came into the group"}, "Bob [aa]"},
		"shown by one": {[]member.MemberStatus{{Seat: "bb", Name: "Eve\x1b[2J", Label: "Eve\x1b[2J", Verdict: "contested", Marks: marks("matched silent failed")}},
			[]string{"Only R1 shows it, R2 and R3 do not.", "it is used as soon as enough relays show it"}, "same name"},
		"not yet": {[]member.MemberStatus{{Seat: "cc", Name: "Cy", Label: "Cy", Verdict: "unconfirmed", Marks: marks("matched awaiting awaiting")}},
			[]string{"Cy  held\n", "Only R1 shows it, 2 relays are still asked."}, "contested since"},
		"another than was admitted": {[]member.MemberStatus{{Seat: "bb", Name: "Di", Label: "Di", Verdict: "agreed", Marks: marks("matched matched matched")}},
			[]string{"Di  contested since", "agree that Di was admitted, but the keys that they show are not those", "No relay is blamed", "second installation"}, "Nothing needs"},
		"two successors": {[]member.MemberStatus{{Seat: "bb", Name: "Di", Label: "Di", Verdict: "contested", Two: true, Marks: marks("dissented dissented awaiting")}},
			[]string{"Di  contested since", "Di's own key signed two successors: R1 and R2 show one of them each. No relay is blamed.", "which has 33333 44444 ... or 55555 66666 ...", `parallax code "Di"`, "second installation"}, "Nothing needs"},
		"one's own": {[]member.MemberStatus{{Seat: "bb", Name: "Ann", Label: "Ann", Own: true, Usable: true, Verdict: "contested", Marks: marks("matched dissented matched")}},
			[]string{"your own keys", "R2 does not", "somebody may have your keys"}, "parallax code"},
	} {
		s := threeRelays()
		s.Members, s.Events = c.members, 3
		n := &told{events: []member.Event{
			{Kind: member.EventDispute, Seat: "bb", Number: 1, Time: at.Add(-time.Hour)},
			{Kind: member.EventDispute, Seat: "bb", Number: 2, Time: at},
			{Kind: member.EventMessage, Seat: "bb", Number: 3, Time: at.Add(time.Hour)},
			{Kind: member.EventDispute, Seat: "bb", Number: 4, Time: at.Add(2 * time.Hour)},
		}}
		n.other = map[string]any{member.GetCode{}.Wish(): member.CodeInfo{Code: "11111 22222 33333 44444", Also: []string{"11111 22222 55555 66666"}}}
		a, out, talk := newApp()
		err := a.contested(t.Context(), n, node.Membership{}, s)
		got := out.String() + talk.String()
		if err != nil || strings.Contains(got, "\x1b") || strings.Contains(got, c.never) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q is not in\n%s", name, w, got)
			}
		}
	}
	s := threeRelays()
	s.Relays[1].SetAside = true
	if e := contestedOf(member.MemberStatus{Seat: "bb", Name: "Eve", Label: "Eve", Verdict: "contested", Marks: marks("silent matched silent")}, s); !strings.HasSuffix(e.What, " do not. R2 is set aside and does not count.") {
		t.Errorf("what a relay shows that is set aside: %s", e.What)
	}
	a, out, _ := newApp()
	a.JSON = true
	s = threeRelays()
	s.Members = []member.MemberStatus{{Seat: "bb", Name: "Bob", Label: "Bob", Verdict: "contested", Marks: marks("silent matched silent")}}
	if err := a.contested(t.Context(), &told{}, node.Membership{}, s); err != nil || !strings.HasPrefix(out.String(), `[{"seat":"bb","member":"Bob","state":"contested","shown":["R2"],"missing":["R1","R3"],"what":`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestGoalLines: every form of a line.
func TestGoalLines(t *testing.T) {
	op := func(names ...string) member.ColludeParty { return member.ColludeParty{Operators: names} }
	net := member.ColludeParty{Kind: member.SharedNetwork, Name: "203.0.0.0/16", Operators: []string{"Anchor", "Beacon"}}
	land := member.ColludeParty{Kind: member.SharedCountry, Name: "DE", Operators: []string{"Anchor", "Beacon"}}
	three := make([]member.RelayOperator, 3)
	a, b, c := op("Anchor"), op("Beacon"), op("Cedar\x1b")
	type sets = [][]member.ColludeParty
	for want, g := range map[string]member.GoalInfo{
		"2 of 3 operators together could keep somebody from joining: any two of Anchor, Beacon, Cedar\ufffd.": {Parties: 2, Of: 3, Count: 3, Sets: sets{{a, b}, {a, c}, {b, c}}},
		"All 3 operators together could keep somebody from joining: Anchor, Beacon and Cedar\ufffd.":          {Parties: 3, Of: 3, Count: 1, Sets: sets{{a, b, c}}},
		"Both operators together could keep somebody from joining: Anchor and Beacon.":                        {Parties: 2, Of: 2, Count: 1, Sets: sets{{a, b}}},
		"Anchor alone could keep somebody from joining.":                                                      {Parties: 1, Of: 3, Count: 1, Sets: sets{{a}}},
		"One alone could keep somebody from joining: Anchor or Beacon.":                                       {Parties: 1, Of: 3, Count: 2, Sets: sets{{a}, {b}}},
		"The family of Anchor and Beacon alone could keep somebody from joining.":                             {Parties: 1, Of: 2, Count: 1, Sets: sets{{op("Anchor", "Beacon")}}},
		"Whoever has 203.0.0.0/16 (Anchor, Beacon) alone could keep somebody from joining.":                   {Parties: 1, Of: 3, Count: 1, Sets: sets{{net}}},
		"Whoever commands DE (Anchor, Beacon) alone could keep somebody from joining.":                        {Parties: 1, Of: 3, Count: 1, Sets: sets{{land}}},
		"2 hands together could keep somebody from joining: Beacon with whoever has 203.0.0.0/16 (Anchor, Beacon); Anchor with Beacon; and in 2 other ways.": {
			Parties: 2, Of: 4, Count: 4, Sets: sets{{b, net}, {a, b}}},
		"2 of 4 operators together could keep somebody from joining: Anchor with Beacon; Anchor with Cedar\ufffd.": {Parties: 2, Of: 4, Count: 2, Sets: sets{{a, b}, {a, c}}},
		"No relay counts any more: none could keep somebody from joining.":                                         {},
	} {
		g.Goal = "block"
		if got := goalLine(g, three); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := goalLine(member.GoalInfo{Goal: "link"}, three[:1]); !strings.Contains(got, "one channel") {
		t.Error(got)
	}
}

// TestCoalitionShown: relays set aside, networks, providers, countries, names, and
// whose word each is; what would change nothing is not repeated.
func TestCoalitionShown(t *testing.T) {
	seen := time.Date(2026, 11, 3, 12, 0, 0, 0, time.Local)
	goals := []member.GoalInfo{{Goal: "fool", Parties: 1, Of: 2, Count: 1, Sets: [][]member.ColludeParty{{{Operators: []string{"Anchor"}}}}}}
	unaware := []member.GoalInfo{{Goal: "fool", Parties: 2, Of: 3, Count: 1, Sets: [][]member.ColludeParty{{{Operators: []string{"Anchor"}}, {Operators: []string{"Beacon"}}}}}}
	relay := func(label, operator string, at ...member.Location) member.RelayOperator {
		return member.RelayOperator{RelayLocations: member.RelayLocations{Label: label, Locations: at}, Operator: operator}
	}
	v := member.CoalitionInfo{Group: "g", Operators: 3, Goals: goals, Unaware: unaware, IfOneHand: goals,
		Shared: []member.SharedLocation{{Kind: member.SharedNetwork, Name: "203.0.0.0/16", Relays: []string{"R1", "R3"}, ByLink: []string{"R3"}}},
		Relays: []member.RelayOperator{relay("R1", "Anchor", member.Location{Address: "203.0.113.1", Network: "203.0.0.0/16", From: member.FromAddress, ASN: 64496, Holder: "Host\x1b", Country: "DE"}),
			relay("R2", "Beacon"), relay("R3", "Cedar (R3)", member.Location{Address: "203.0.113.3", Network: "203.0.0.0/16", From: member.FromLink, Seen: seen}), relay("R4", "Anchor")}}
	v.Relays[1].SetAside, v.Relays[2].Named = true, true
	show := func() string {
		a, out, _ := newApp()
		if err := a.sayCoalition(v); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	want := func(texts ...string) {
		t.Helper()
		out := show()
		for _, want := range texts {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	}
	want("3 operators: Anchor (R1, R4), Beacon (R2), Cedar (R3)\n", "Relay R2 is set aside by evidence and not counted above", "R1 and R3 have addresses in one network, 203.0.0.0/16 (of R3, links stood there).\n",
		"The network of R3 is not known", "only might mean one hand", "Nothing of this would take fewer.\n", "newcomer, counts all:\n2 of 3 operators together",
		"R1     203.0.113.1  its address           203.0.0.0/16\n", "R3     203.0.113.3  a link on 3 November  203.0.0.0/16\n")
	if out := show(); strings.Contains(out, "64496") || strings.Contains(out, "weaker") || strings.Contains(out, "nobody checked") {
		t.Errorf("of a table that was not given:\n%s", out)
	}
	v.Table = "t.tsv\x1b"
	v.Shared = append(v.Shared, member.SharedLocation{Kind: member.SharedAS, Name: "AS64496", Holder: "Host\x1b", Relays: []string{"R1", "R2"}}, member.SharedLocation{Kind: member.SharedCountry, Name: "DE", Relays: []string{"R1", "R4"}})
	v.Goals, v.IfOneCountry = unaware, goals
	want("R1     203.0.113.1  its address           203.0.0.0/16  DE       AS64496 Host\ufffd\n", "Countries and providers are what t.tsv\ufffd says; nobody checked it.\n",
		"R1 and R2 have one provider, AS64496 (Host\ufffd), says t.tsv\ufffd.\nThis only might", "R1 and R4 have addresses of one country, DE, says t.tsv\ufffd.\nThat is weaker yet", "one hand:\nAnchor alone could make")
}

// TestInPassing: elsewhere networks are a line, an AS that says the same none, and
// countries, or the computer itself, none either.
func TestInPassing(t *testing.T) {
	list := []member.SharedLocation{{Kind: member.SharedNetwork, Name: "127.0.0.0/16", Relays: []string{"R1", "R2"}, Local: true}, {Kind: member.SharedNetwork, Name: "203.0.0.0/16", Relays: []string{"R1", "R3"}},
		{Kind: member.SharedAS, Name: "AS1", Relays: []string{"R1", "R3"}}, {Kind: member.SharedAS, Name: "AS2", Holder: "Two", Relays: []string{"R1", "R2"}}, {Kind: member.SharedCountry, Name: "DE", Relays: []string{"R1", "R2", "R3"}}}
	want := []string{"R1 and R3 have addresses in one network, 203.0.0.0/16: perhaps one hand, perhaps not (parallax coalition).", "R1 and R2 have one provider, AS2 (Two), says t: perhaps one hand, perhaps not (parallax coalition)."}
	if got := inPassing(list, "t"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	a, out, talk := newApp()
	if err := a.paths(member.Paths{Relays: []string{"R1", "R2"}}, member.LocationsInfo{Shared: list, Table: "t"}, true); err != nil || strings.Count(talk.String(), "perhaps one hand") != 2 {
		t.Errorf("%v\n%s", err, talk)
	}
	a.JSON = true
	out.Reset()
	if err := a.paths(member.Paths{Relays: []string{"R1", "R2"}, Times: []member.PathTime{}}, member.LocationsInfo{Shared: list[4:], Table: "t"}, true); err != nil ||
		out.String() != `{"relays":["R1","R2"],"messages":[],"times":[],"shared":[{"kind":"country","name":"DE","relays":["R1","R2","R3"],"local":false}],"table":"t"}`+"\n" {
		t.Errorf("%v\n%s", err, out)
	}
	var w strings.Builder
	a.overview(&w, member.Security{}, member.LocationsInfo{Shared: list, Table: "t"})
	for _, line := range []string{"R1 and R3 have addresses in one network, 203.0.0.0/16.\n", "R1 and R2 have one provider, AS2 (Two), says t.\n", "R1, R2 and R3 have addresses of one country, DE, says t.\n"} {
		if !strings.Contains(w.String(), line) {
			t.Errorf("%q is not in\n%s", line, w.String())
		}
	}
	if strings.Contains(w.String(), "127.0") {
		t.Error("the computer itself is shown")
	}
	for want, l := range map[string][]member.Location{
		"":                              nil,
		"this computer":                 {{Address: "127.0.0.1", Network: "127.0.0.0/16"}},
		"203.0.0.0/16, 2001:db8::/48":   {{Address: "203.0.113.1", Network: "203.0.0.0/16"}, {Address: "203.0.113.2", Network: "203.0.0.0/16"}, {Address: "2001:db8::1", Network: "2001:db8::/48"}},
		"AS7 DE, AS8, 198.51.0.0/16 CH": {{Address: "203.0.113.1", ASN: 7, Country: "DE"}, {Address: "203.0.113.2", ASN: 8}, {Address: "198.51.100.1", Network: "198.51.0.0/16", Country: "CH"}},
	} {
		if got := whereabouts(l); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDeliveryShown: reasons, marks and times of a delivery, in either order of
// the arguments.
func TestDeliveryShown(t *testing.T) {
	at := time.Date(2026, 11, 1, 9, 0, 0, 0, time.Local)
	v := member.DeliveryInfo{ID: "1f", Text: "hi\x1b[2J", Sent: at,
		Relays: []member.RelayDelivery{{Label: "R1", Operator: "Anchor", State: member.RelayReceipt, Number: 7, Time: at, Why: "It lost data."}, {Label: "R2", Operator: "Beacon", State: member.RelayRefused, Why: "It refused it: full."}},
		Members: []member.MemberDelivery{{Member: "Bob", State: member.MemberRead, Message: "2f", Time: at.Add(25 * time.Hour), Read: []string{"R1"}, Unchecked: []string{"R2"}, Why: "Bob read it."},
			{Member: "Cy", State: member.MemberNoKey, Why: "Cy cannot read it."}}}
	two := []node.Membership{group("climbers", "aa", "0123"), group("alps", "bb", "4567")}
	for _, args := range [][]string{{"1f", "climbers"}, {"climbers", "1f"}, {"1f"}, {}} {
		n := &answers{groups: two, status: threeRelays(), other: map[string]any{"delivery": v}}
		if len(args) < 2 {
			n.groups = two[:1]
		}
		a, out, talk := newApp()
		if err := a.delivery(t.Context(), n, args); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		want := member.GetDelivery{Message: "1f"}
		if len(args) == 0 {
			want.Message = ""
		}
		if w := n.asked[len(n.asked)-1]; w != want {
			t.Errorf("%q asked %+v", args, w)
		}
		for _, want := range []string{
			"1 of 2 relays have it; 1 read a relay past it; 1 cannot read it\n", "✓  It has it: its receipt of 09:00:00, number 7. It lost data.\n", "✗  It refused it: full.\n",
			"Bob     read    ✓   ?   Bob read it. (2f, 2026-11-02 10:00:00)\n", "Cy      no key  ·   ·   Cy cannot read it.\n",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		if strings.Contains(out.String(), "\x1b") || !strings.Contains(talk.String(), "not compared") {
			t.Errorf("%s%s", out, talk)
		}
	}
	a, _, _ := newApp()
	if err := a.delivery(t.Context(), &answers{groups: two, status: threeRelays()}, []string{"1f", "none"}); cli.ExitCode(err) != cli.Usage {
		t.Errorf("no such group: %v", err)
	}
}
