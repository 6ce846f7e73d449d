package member

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"parallax/crossverify"
	"parallax/internal/keys"
)

// among lays down a group whose relays have these operators (one letter each)
// and addresses.
func among(t *testing.T, letters string, strict bool, addrs ...string) *Machine {
	m := laidDown(t, 1)
	m.state.Policy.Strict, m.genesis.Policy.Strict = strict, strict
	m.voting, m.genesis.Relays = nil, nil
	first := m.paths[0]
	m.paths, m.meta.Relays = nil, nil
	for i, l := range letters {
		ref := RelayRef{Key: benchRelay(i).Public(), Operator: keys.OperatorPublic{byte(l)}, OperatorName: "Op" + string(l), Addrs: []string{"/dns4/r.example/tcp/1"}}
		if i < len(addrs) {
			ref.Addrs = strings.Fields(addrs[i])
		}
		m.genesis.Relays = append(m.genesis.Relays, ref)
		m.meta.Relays = append(m.meta.Relays, relayRecord{RelayRef: ref})
		p := &path{index: i, ref: ref, box: first.box}
		p.syncRoot()
		m.paths = append(m.paths, p)
	}
	m.ledger = crossverify.NewLedger(m.policy())
	return m
}

// said is a list of goals in few words: parties in ways.
func said(goals []GoalInfo) string {
	var b strings.Builder
	for _, g := range goals {
		fmt.Fprintf(&b, "%s %d/%d in %d  ", g.Goal, g.Parties, g.Of, g.Count)
	}
	return strings.TrimSpace(b.String())
}

func TestCoalition(t *testing.T) {
	for name, c := range map[string]struct {
		m         *Machine
		aside     []int
		goals     string
		unaware   string
		ifOneHand string
	}{
		"majority of three": {m: among(t, "ABC", false), goals: "fool 2/3 in 3  read 2/3 in 3  block 2/3 in 3  link 2/3 in 3"},
		"strict":            {m: among(t, "ABC", true), goals: "fool 3/3 in 1  read 3/3 in 1  block 1/3 in 3  link 2/3 in 3"},
		"one operator":      {m: among(t, "AA", false), goals: "fool 1/1 in 1  read 1/1 in 1  block 1/1 in 1  link 1/1 in 1"},
		"one relay":         {m: among(t, "A", false), goals: "fool 1/1 in 1  read 1/1 in 1  block 1/1 in 1  link 0/1 in 0"},
		// All that are left are needed; a newcomer counts the convicted one too.
		"one set aside": {m: among(t, "ABC", false), aside: []int{1},
			goals:   "fool 2/2 in 1  read 2/2 in 1  block 1/2 in 2  link 2/3 in 3",
			unaware: "fool 2/3 in 3  read 2/3 in 3  block 2/3 in 3  link 2/3 in 3"},
		"all set aside": {m: among(t, "AB", false), aside: []int{0, 1},
			goals:   "fool 0/0 in 0  read 0/0 in 0  block 0/0 in 0  link 2/2 in 1",
			unaware: "fool 2/2 in 1  read 2/2 in 1  block 1/2 in 2  link 2/2 in 1"},
		"one network has two": {m: among(t, "ABC", false, "/ip4/203.0.1.1/tcp/1 /ip4/198.51.1.1/tcp/1", "/ip4/203.0.255.9/udp/1/quic-v1", "/ip4/203.1.1.1/tcp/1"),
			goals:     "fool 2/3 in 3  read 2/3 in 3  block 2/3 in 3  link 2/3 in 3",
			ifOneHand: "fool 1/3 in 1  read 1/3 in 1  block 1/3 in 1  link 1/3 in 1"},
		"its other relay is no other hand": {m: among(t, "AAB", false, "/ip4/203.0.1.1/tcp/1", "/ip4/203.0.2.2/tcp/1", "/ip4/198.51.1.1/tcp/1"),
			goals: "fool 2/2 in 1  read 2/2 in 1  block 1/2 in 2  link 1/2 in 1"},
	} {
		for _, i := range c.aside {
			c.m.setAside(&evidenceRecord{Path: i})
		}
		v, err := c.m.coalition(GetCoalition{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if said(v.Goals) != c.goals || said(v.Unaware) != c.unaware || said(v.IfOneHand) != c.ifOneHand || (len(v.Shared) > 0) != (c.ifOneHand != "") {
			t.Errorf("%s:\n%s\nunaware %s\none hand %s\nwant\n%s\nunaware %s\none hand %s", name, said(v.Goals), said(v.Unaware), said(v.IfOneHand), c.goals, c.unaware, c.ifOneHand)
		}
	}
}

// TestCoalitionNames: every party is named by what it has, across what is set
// aside, and two operators of one name are told apart.
func TestCoalitionNames(t *testing.T) {
	m := among(t, "ABBC", false, "/ip4/203.0.1.1/tcp/1", "/dns4/x/tcp/1", "/dns4/x/tcp/1", "/ip4/203.0.9.9/tcp/1")
	m.paths[3].ref.OperatorName = "OpA"
	m.setAside(&evidenceRecord{Path: 0})
	v, err := m.coalition(GetCoalition{})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]ColludeParty{{{Operators: []string{"OpB"}, Relays: []string{"R2", "R3"}}, {Operators: []string{"OpA (R4)"}, Relays: []string{"R4"}}}}
	if fool := v.Goals[0]; !reflect.DeepEqual(fool.Sets, want) {
		t.Errorf("%+v", fool)
	}
	if want := []SharedLocation{{Kind: SharedNetwork, Name: "203.0.0.0/16", Relays: []string{"R1", "R4"}}}; !reflect.DeepEqual(v.Shared, want) {
		t.Errorf("%+v", v.Shared)
	}
	if r := v.Relays[0]; !r.SetAside || r.Operator != "OpA (R1)" || r.Named || !v.Relays[1].Named {
		t.Errorf("%+v", v.Relays)
	}
	if v.Operators != 3 || v.Quorum != 2 || v.Shares != 3 {
		t.Errorf("%d operators, quorum %d, %d shares", v.Operators, v.Quorum, v.Shares)
	}
}

func BenchmarkCoalition(b *testing.B) {
	t := &testing.T{}
	m := among(t, "ABCDEFGHIJKLMNOP", false, slices.Repeat([]string{"/ip4/203.0.1.1/tcp/1"}, 8)...)
	for b.Loop() {
		if _, err := m.coalition(GetCoalition{}); err != nil {
			b.Fatal(err)
		}
	}
}
