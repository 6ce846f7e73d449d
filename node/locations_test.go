package node

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"parallax/broadcast/member"
)

// TestLinksTellWhereRelaysAre: a relay that is known by a name is where the driver's
// links stood, over TCP as over QUIC, also when it is gone and this is another process,
// and over the socket.
func TestLinksTellWhereRelaysAre(t *testing.T) {
	n := newStations(t, 2)
	spots := n.spots()
	ways := map[string]bool{}
	for i, s := range spots {
		for j, a := range s.Addrs {
			ways[strings.Split(a, "/")[3]] = true
			spots[i].Addrs[j] = strings.Replace(a, "/ip4/127.0.0.1/", "/dns4/localhost/", 1)
		}
	}
	if !ways["tcp"] || !ways["udp"] {
		t.Fatalf("these relays listen over %v", ways)
	}
	ann := n.person("Ann")
	ann.do(member.CreateGroup{Group: "bees", Name: "Ann", Relays: spots})
	dir := filepath.Join(n.dir, "Ann")
	where := func(c Client, table *member.Table) member.LocationsInfo {
		t.Helper()
		v, err := c.Do(t.Context(), Request{Wish: member.GetLocations{Table: table}})
		if err != nil {
			t.Fatal(err)
		}
		return v.(member.LocationsInfo)
	}
	check := func(v member.LocationsInfo) {
		t.Helper()
		if len(v.Relays) != 2 {
			t.Fatalf("%+v", v)
		}
		for _, r := range v.Relays {
			if r.Named || len(r.Locations) != 1 || r.Locations[0].Address != "127.0.0.1" || r.Locations[0].From != member.FromLink || r.Locations[0].Seen.IsZero() {
				t.Errorf("%+v", r)
			}
		}
	}
	table := &member.Table{Name: "t", Rows: []member.TableRow{{Address: netip.MustParseAddr("127.0.0.1"), ASN: 64496, Holder: "Host", Country: "DE"}}}
	check(where(ann, nil))
	ann.leave()
	for _, s := range n.list {
		s.stop()
	}
	opt := n.options()
	opt.Serve = true
	connect(t, dir, opt)
	over := connect(t, dir, n.options())
	check(where(over, nil))
	if v := where(over, table); v.Relays[1].Locations[0].ASN != 64496 || v.Relays[0].Locations[0].Country != "DE" || v.Table != "t" {
		t.Errorf("%+v", v)
	}
	table.Rows[0].Country = "Germany"
	if _, err := over.Do(t.Context(), Request{Wish: member.GetCoalition{Table: table}}); !errors.Is(err, member.ErrTable) {
		t.Errorf("over the socket: %v", err)
	}
}
