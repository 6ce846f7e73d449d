package member_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

// TestOneAddressForAll: a group whose relays are all at one address, and of one
// provider and country by a table, goes exactly as one whose relays are apart: who
// joins, what is agreed, who is silent, what is shown. Only what is asked for tells.
func TestOneAddressForAll(t *testing.T) {
	goes := func(at string) (state []byte, c member.CoalitionInfo) {
		w := newWorld(t, 3, "Ann", "Bob", "Cy")
		for _, r := range w.relays {
			r.at = at
		}
		w.relays[2].filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
			if to.name == "Bob" && f.Type == proto.TypeDeliver {
				return nil // and so its log has a hole there
			}
			return []broadcast.Frame{f}
		}
		table := &member.Table{Name: "t", Rows: []member.TableRow{{Address: netip.MustParseAddr("203.0.113.9"), ASN: 64496, Country: "DE"}}}
		w.group(false)
		for _, n := range w.nodes {
			n.must(member.SendText{Text: "from " + n.name})
			c = n.must(member.GetCoalition{Table: table}).(member.CoalitionInfo)
			n.must(member.GetLocations{Table: table})
			w.run(5 * time.Second)
		}
		w.nodes[0].restart()
		w.run(5 * time.Second)
		var all []any
		for _, n := range w.nodes {
			all = append(all, n.must(member.GetStatus{}), n.must(member.GetPaths{}), n.must(member.GetSecurity{}), n.history())
		}
		state, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return state, c
	}
	apart, c := goes("")
	if len(c.Shared) != 0 || c.IfOneHand != nil || c.IfOneCountry != nil {
		t.Errorf("nowhere: %+v", c)
	}
	one, c := goes("/ip4/203.0.113.9/tcp/4801")
	if len(c.Shared) != 3 || c.IfOneHand[0].Parties != 1 || c.IfOneCountry[0].Parties != 1 || c.Goals[0].Parties != 2 {
		t.Errorf("in one place: %+v", c)
	}
	if !strings.Contains(string(apart), `"R3":"silent"`) {
		t.Error("the third relay is never silent: this run compares nothing")
	}
	if string(apart) != string(one) {
		t.Errorf("apart:\n%s\nin one place:\n%s", apart, one)
	}
}
