package member

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/asn"
	"parallax/internal/wire"
)

func TestAddressOf(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/203.0.113.7/tcp/4801":                 "203.0.0.0/16",
		"/ip6/2001:db8:1:2::7/udp/1/quic-v1":        "2001:db8:1::/48",
		"/ip6/::ffff:203.0.113.7/tcp/1":             "203.0.0.0/16",
		"/ip6/64:ff9b::203.0.113.7/tcp/1":           "203.0.0.0/16",
		"/ip4/203.0.113.7":                          "203.0.0.0/16",
		"/dns4/relay.example.org/tcp/4801":          "",
		"/ip4/203.0.113.7.example/tcp/1":            "",
		"/ip6/fe80::1%eth0/tcp/1":                   "",
		"/memory/1":                                 "",
		"ip4/203.0.113.7/tcp/1":                     "",
		"":                                          "",
		"/p2p-circuit/ip4/203.0.113.7/tcp/4801":     "",
		"/ip4/203.0.113.7/tcp/1/p2p/Qm/p2p-circuit": "",
	} {
		got, ok := addressOf(addr)
		if ok != (want != "") || ok && networkOf(got).String() != want {
			t.Errorf("%s is in %v, %v; want %q", addr, got, ok, want)
		}
	}
}

// up is a link to a path's relay that stands at an address.
func up(m *Machine, path int, at string) {
	m.up(broadcast.Up{Link: broadcast.Link(1000 + path), Relay: m.paths[path].ref.Key, Use: broadcast.PostLink, Addr: at})
}

func row(addr string, as uint32, country string) TableRow {
	return TableRow{Address: netip.MustParseAddr(addr), ASN: as, Holder: strings.Repeat("Host", min(1, int(as))), Country: country}
}

// TestTogether: prefixes, ASes and countries, of addresses and of where links stood,
// each in its own scenario.
func TestTogether(t *testing.T) {
	const unmoved = "fool 2/3 in 3  read 2/3 in 3  block 2/3 in 3  link 2/3 in 3"
	const alone = "fool 1/3 in 1  read 1/3 in 1  block 1/3 in 1  link 1/3 in 1"
	apart := []string{"/ip4/203.0.1.1/tcp/1", "/dns4/b.example/tcp/1", "/ip4/192.0.2.1/tcp/1"}
	for name, c := range map[string]struct {
		letters string
		links   []string // where links to each stood
		rows    []TableRow
		shared  string
		hand    string
		country string
	}{
		"apart":                             {},
		"a name that was not reached":       {rows: []TableRow{row("203.0.1.1", 1, "DE"), row("192.0.2.1", 2, "CH"), row("203.0.9.9", 1, "DE")}},
		"a name in another's network":       {links: []string{"", "/ip4/203.0.9.9/tcp/1"}, shared: "network 203.0.0.0/16 R1,R2 by link R2", hand: alone},
		"a link through somebody else":      {links: []string{"", "/ip4/203.0.9.9/tcp/1/p2p/Q/p2p-circuit"}},
		"one AS":                            {rows: []TableRow{row("203.0.1.1", 64496, "DE"), row("192.0.2.1", 64496, "CH")}, shared: "as AS64496 R1,R3", hand: alone},
		"one country":                       {rows: []TableRow{row("203.0.1.1", 64496, "DE"), row("192.0.2.1", 64497, "DE")}, shared: "country DE R1,R3", country: alone},
		"a country of a name":               {links: []string{"", "/ip4/198.51.100.1/tcp/1"}, rows: []TableRow{row("198.51.100.1", 7, "DE"), row("192.0.2.1", 64497, "DE")}, shared: "country DE R2,R3 by link R2", country: alone},
		"unknown is nowhere":                {rows: []TableRow{row("203.0.1.1", 0, ""), row("192.0.2.1", 0, "")}},
		"rows of other addresses":           {rows: []TableRow{row("203.0.1.2", 1, "DE"), row("192.0.2.2", 1, "DE")}},
		"one operator's own are not shared": {letters: "ABA", rows: []TableRow{row("203.0.1.1", 1, "DE"), row("192.0.2.1", 1, "DE")}},
		"all at once": {links: []string{"", "/ip6/2001:db8::1/tcp/1", "/ip6/2001:db8::2/tcp/1"}, rows: []TableRow{row("203.0.1.1", 5, "DE"), row("2001:db8::1", 5, "CH"), row("192.0.2.1", 6, "CH")},
			shared: "network 2001:db8::/48 R2,R3 by link R2,R3; as AS5 R1,R2 by link R2; country CH R2,R3 by link R2", hand: "fool 1/3 in 2  read 1/3 in 2  block 1/3 in 2  link 1/3 in 2", country: alone},
	} {
		m := among(t, cmp.Or(c.letters, "ABC"), false, apart...)
		goals := unmoved
		if c.letters == "ABA" {
			goals = ""
		}
		for i, at := range c.links {
			up(m, i, at)
		}
		v, err := m.coalition(GetCoalition{Table: &Table{Name: "t", Rows: c.rows}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var shared []string
		for _, s := range v.Shared {
			text := s.Kind + " " + s.Name + " " + strings.Join(s.Relays, ",")
			if len(s.ByLink) > 0 {
				text += " by link " + strings.Join(s.ByLink, ",")
			}
			shared = append(shared, text)
			if s.Kind == SharedAS && s.Holder != "Host" || s.Local {
				t.Errorf("%s: %+v", name, s)
			}
		}
		if got := strings.Join(shared, "; "); got != c.shared || said(v.IfOneHand) != c.hand || said(v.IfOneCountry) != c.country || goals != "" && said(v.Goals) != goals || v.Table != "t" {
			t.Errorf("%s: %s\none hand %s\none country %s\ngoals %s", name, got, said(v.IfOneHand), said(v.IfOneCountry), said(v.Goals))
		}
		l, err := m.locations(GetLocations{Table: &Table{Name: "t", Rows: c.rows}})
		if err != nil || !reflect.DeepEqual(l.Shared, v.Shared) || len(l.Relays) != 3 || l.Table != "t" {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
		if named := len(c.links) < 2 || strings.Contains(c.links[1], "circuit"); l.Relays[1].Named != named || l.Relays[0].Named {
			t.Errorf("%s: named %+v", name, l.Relays)
		}
	}
}

// TestManyNeighbours: a relay with more networks in common than a coalition is
// computed for does not keep it from being computed.
func TestManyNeighbours(t *testing.T) {
	var addrs []string
	letters := "ABCDEFGHIJKLMNOP"
	for i := range letters {
		var list []string
		for j := range MaxAddresses {
			list = append(list, fmt.Sprintf("/ip4/10.%d.%d.1/tcp/1", i/2*MaxAddresses+j, i))
		}
		addrs = append(addrs, strings.Join(list, " "))
	}
	m := among(t, letters, false, addrs...)
	var table Table
	for i := range letters {
		at := fmt.Sprintf("172.16.%d.1", i)
		up(m, i, "/ip4/"+at+"/tcp/1")
		table.Rows = append(table.Rows, row(at, 64496, "DE"))
	}
	v, err := m.coalition(GetCoalition{Table: &table})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Shared) <= crossverify.MaxCollusions || v.IfOneHand[0].Parties != 1 || v.IfOneCountry[0].Parties != 1 {
		t.Errorf("%d shared, %s, %s", len(v.Shared), said(v.IfOneHand), said(v.IfOneCountry))
	}
	if by := v.IfOneHand[0].Sets[0][0]; by.Kind != SharedNetwork || by.Name != "172.16.0.0/16" || len(by.Relays) != 16 {
		t.Errorf("%+v", by)
	}
	if by := v.IfOneCountry[0].Sets[0][0]; by.Kind != SharedCountry || by.Name != "DE" {
		t.Errorf("%+v", by)
	}
}

// TestTableRefused: what is no table's word.
func TestTableRefused(t *testing.T) {
	m := among(t, "ABC", false)
	good := row("192.0.2.1", 1, "DE")
	for name, change := range map[string]func(*Table){
		"zone":         func(w *Table) { w.Rows[0].Address = netip.MustParseAddr("fe80::1%eth0") },
		"no address":   func(w *Table) { w.Rows[0].Address = netip.Addr{} },
		"country":      func(w *Table) { w.Rows[0].Country = "de" },
		"holder":       func(w *Table) { w.Rows[0].Holder = strings.Repeat("x", asn.MaxLine+1) },
		"not UTF-8":    func(w *Table) { w.Rows[0].Holder = "\xff" },
		"name":         func(w *Table) { w.Name = strings.Repeat("x", MaxTableName+1) },
		"name in what": func(w *Table) { w.Name = "\xff" },
		"rows":         func(w *Table) { w.Rows = slices.Repeat(w.Rows, MaxTableRows+1) },
	} {
		w := &Table{Name: "t", Rows: []TableRow{good}}
		if _, err := m.coalition(GetCoalition{Table: w}); err != nil {
			t.Fatal(err)
		}
		change(w)
		if _, err := m.coalition(GetCoalition{Table: w}); !errors.Is(err, ErrTable) {
			t.Errorf("%s: coalition: %v", name, err)
		}
		if _, err := m.locations(GetLocations{Table: w}); !errors.Is(err, ErrTable) {
			t.Errorf("%s: locations: %v", name, err)
		}
	}
}

// TestReached: the newest addresses are kept, over restarts, for a while, and are
// written rarely.
func TestReached(t *testing.T) {
	m := among(t, "ABC", false)
	kept := func(m *Machine) (list []string) {
		v, err := m.locations(GetLocations{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range v.Relays[0].Locations {
			if l.From != FromLink || l.Seen.IsZero() {
				t.Errorf("%+v", l)
			}
			list = append(list, l.Address)
		}
		return list
	}
	writes := func() bool {
		_, ok := m.opAt[string(m.key(keyReached, []byte{0}))]
		m.ops = nil
		clear(m.opAt)
		return ok
	}
	for i := range 6 {
		up(m, 0, fmt.Sprintf("/ip4/10.0.0.%d/tcp/1", i))
	}
	if got := strings.Join(kept(m), " "); got != "10.0.0.5 10.0.0.4 10.0.0.3 10.0.0.2" {
		t.Error(got)
	}
	if !writes() {
		t.Error("nothing is written")
	}
	up(m, 0, "/ip4/10.0.0.3/tcp/1")
	up(m, 0, "")
	up(m, 0, "/dns4/a.example/tcp/1")
	if writes() {
		t.Error("what is known is written at each link")
	}
	m.now = m.now.Add(reachedEvery)
	up(m, 0, "/ip6/2001:db8::1/tcp/1")
	up(m, 0, "/ip4/10.0.0.3/tcp/1")
	if got := strings.Join(kept(m), " "); got != "10.0.0.3 2001:db8::1 10.0.0.5 10.0.0.4" {
		t.Error(got)
	}
	if !writes() {
		t.Error("that links stand there still is not written")
	}
	m.noteReached(m.paths[0], "/ip4/10.0.0.9/tcp/1")
	rec := m.ops[m.opAt[string(m.key(keyReached, []byte{0}))]]
	if want := "04" + "00000000000000000000ffff0a000009"; fmt.Sprintf("%x", rec.Value[:17]) != want || len(rec.Value) != 1+4*24 {
		t.Errorf("%x", rec.Value)
	}
	again := laidDown(t, 1)
	if err := again.loadReached([]byte{0}, rec.Value); err != nil {
		t.Fatal(err)
	}
	again.now = m.now
	before := kept(m)
	if got := kept(again); !slices.Equal(got, before) || len(got) != 4 {
		t.Errorf("%v read back as %v", before, got)
	}
	again.now = m.now.Add(reachedFor - time.Hour)
	if got := strings.Join(kept(again), " "); got != "10.0.0.9 10.0.0.3 2001:db8::1" {
		t.Errorf("after a month: %v", got)
	}
	again.now = m.now.Add(reachedFor + 2*reachedEvery)
	if got := kept(again); len(got) != 0 {
		t.Errorf("after more: %v", got)
	}
	for name, c := range map[string]struct{ key, value []byte }{
		"many": {[]byte{0}, append([]byte{5}, make([]byte, 5*24)...)}, "cut": {[]byte{0}, rec.Value[:20]}, "more": {[]byte{0}, append(slices.Clone(rec.Value), 0)},
		"no path": {[]byte{200}, rec.Value}, "no key": {nil, rec.Value},
	} {
		if err := again.loadReached(c.key, c.value); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// TestReachedIsDurable: through the store, and not for the next relay that gets the
// place.
func TestReachedIsDurable(t *testing.T) {
	m := laidDown(t, 1)
	for _, o := range m.keyring.prekeys {
		m.savePrekeys(o)
	}
	up(m, 1, "/ip4/198.51.100.4/tcp/1")
	r := reopened(t, m)
	if v := r.locationsOf(r.paths[1], nil); len(v.Locations) != 1 || v.Locations[0].Address != "198.51.100.4" || len(r.paths[0].reached) != 0 {
		t.Errorf("%+v", v)
	}
	r.setStanding(r.paths[1], vacant)
	ref := m.paths[1].ref
	ref.Key = benchRelay(77).Public()
	p := r.appendPath(ref, arriving)
	if p.index != 1 || len(p.reached) != 0 {
		t.Fatalf("place %d, %v", p.index, p.reached)
	}
	i, ok := r.opAt[string(r.key(keyReached, []byte{1}))]
	if !ok || r.ops[i].Value != nil {
		t.Error("the other relay's addresses stay")
	}
}

// judged is everything that decides anything, as text: what counts, who is enough, who
// is set aside, and what is said of every subject and member.
func judged(m *Machine) string {
	v := struct {
		Policy  crossverify.Policy
		Needed  int
		Mixing  any
		Aside   []bool
		Status  Status
		Paths   Paths
		Reports []string
	}{Policy: m.policy(), Needed: m.needed(), Mixing: fmt.Sprintf("%+v", m.mixing()), Status: m.status()}
	v.Paths, _ = m.pathsOf(GetPaths{})
	v.Status.GroupInfo = GroupInfo{} // drawn
	for i := range v.Status.Members {
		v.Status.Members[i].Seat = ""
	}
	for _, p := range m.paths {
		v.Aside = append(v.Aside, p.aside)
		v.Reports = append(v.Reports, fmt.Sprintf("%v %v", p.takesPosts(), p.counts()))
	}
	for i := range byte(4) {
		v.Reports = append(v.Reports, fmt.Sprintf("%+v", m.ledger.Report(crossverify.Admission(wire.Digest{i}))))
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestNoVerdictByLocation: whatever addresses, links and tables say, and whoever asks
// for it in between, everything that decides anything stays as it would be without.
func TestNoVerdictByLocation(t *testing.T) {
	countries := []string{"", "DE", "CH"}
	rapid.Check(t, func(rt *rapid.T) {
		letters := rapid.StringMatching(`[A-C]{2,6}`).Draw(rt, "operators")
		strict := rapid.Bool().Draw(rt, "strict")
		plain, told := among(t, letters, strict), among(t, letters, strict)
		ip := rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("10.%d.0.%d", rapid.IntRange(0, 2).Draw(t, "network"), rapid.IntRange(1, 4).Draw(t, "host"))
		})
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			at := rapid.IntRange(0, len(letters)-1).Draw(rt, "path")
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				up(plain, at, "")
				up(told, at, "/ip4/"+ip.Draw(rt, "address")+"/tcp/1")
			case 1:
				n := byte(rapid.IntRange(0, 3).Draw(rt, "subject"))
				for _, m := range []*Machine{plain, told} {
					m.ledger.Claim(m.now, crossverify.Path(at), crossverify.Admission(wire.Digest{n}), wire.Digest{n})
				}
			case 2:
				if rapid.IntRange(0, 4).Draw(rt, "evidence") == 0 {
					plain.setAside(&evidenceRecord{Path: at})
					told.setAside(&evidenceRecord{Path: at})
				}
			case 3:
				table := &Table{Name: "t"}
				for range rapid.IntRange(0, 12).Draw(rt, "rows") {
					table.Rows = append(table.Rows, row(ip.Draw(rt, "row"), uint32(rapid.IntRange(0, 2).Draw(rt, "as")), rapid.SampledFrom(countries).Draw(rt, "country")))
				}
				if _, err := told.coalition(GetCoalition{Table: table}); err != nil {
					rt.Fatal(err)
				}
				if _, err := told.locations(GetLocations{Table: table}); err != nil {
					rt.Fatal(err)
				}
			}
			if a, b := judged(plain), judged(told); a != b {
				rt.Fatalf("without:\n%s\nwith:\n%s", a, b)
			}
		}
	})
}
