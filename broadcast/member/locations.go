package member

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"parallax/crossverify"
	"parallax/internal/asn"
)

// GetLocations asks at which addresses the group's relays are, what is said of
// them, and which relays are in one network or country. No verdict hangs on any of
// it. Answer: LocationsInfo. Errors: ErrTable.
type GetLocations struct {
	Table *Table `json:"table,omitempty"`
}

// Wish implements Wish.
func (GetLocations) Wish() string { return "locations" }

// Table is what a table that a person brought says of addresses (internal/asn). It
// is given with each question and not kept.
type Table struct {
	Name string     `json:"name"` // for people: at most MaxTableName bytes
	Rows []TableRow `json:"rows"` // at most MaxTableRows
}

// TableRow is what a table says of one address.
type TableRow struct {
	Address netip.Addr `json:"address"`
	ASN     uint32     `json:"asn,omitempty"`     // 0: none
	Holder  string     `json:"holder,omitempty"`  // of the AS: at most asn.MaxLine bytes
	Country string     `json:"country,omitempty"` // two capital letters
}

// Limits of a Table.
const (
	MaxTableRows = 2048 // above MaxPaths * (MaxAddresses + maxReached)
	MaxTableName = 255  // bytes
)

// ErrTable: what was given as a table's word does not read.
var ErrTable = errors.New("what a table says of addresses does not read")

// LocationsInfo answers GetLocations.
type LocationsInfo struct {
	Table  string           `json:"table,omitempty"` // whose word AS numbers and countries are
	Relays []RelayLocations `json:"relays"`          // retired ones too
	Shared []SharedLocation `json:"shared"`          // of relays in use
}

// RelayLocations is where one relay is.
type RelayLocations struct {
	Label     string     `json:"label"`
	Locations []Location `json:"locations"`
	Named     bool       `json:"named"` // an address is a name, at which no link stood lately
}

// Location is one address of a relay, and what is said of it.
type Location struct {
	Address string    `json:"address"`
	Network string    `json:"network"`       // /16 of IPv4, /48 of IPv6
	From    string    `json:"from"`          // FromAddress or FromLink
	Seen    time.Time `json:"seen,omitzero"` // when a link stood there, at most a day too old
	ASN     uint32    `json:"asn,omitempty"` // this and the rest: the table's word
	Holder  string    `json:"holder,omitempty"`
	Country string    `json:"country,omitempty"`
}

// How a Location is known.
const (
	FromAddress = "address" // the relay's address says it
	FromLink    = "link"    // this device's links to the relay stood there
)

// Kinds of SharedLocation.
const (
	SharedNetwork = "network" // addresses with one prefix
	SharedAS      = "as"      // a table says that one network announces them
	SharedCountry = "country" // a table says that they are registered in one country
)

// SharedLocation is where relays of several operators are. It may mean one hand, and
// mostly does not: strangers rent at one provider.
type SharedLocation struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`             // "203.0.0.0/16", "AS64496", "DE"
	Holder string   `json:"holder,omitempty"` // of an AS
	Relays []string `json:"relays"`
	// ByLink are those of Relays that are known to be there by links only.
	ByLink []string `json:"by_link,omitempty"`
	Local  bool     `json:"local"` // it is the computer itself
}

// tableRows is a checked Table by address; nil is none.
type tableRows map[netip.Addr]TableRow

func (t *Table) rows() (tableRows, error) {
	if t == nil {
		return nil, nil
	}
	if len(t.Rows) > MaxTableRows || len(t.Name) > MaxTableName || !utf8.ValidString(t.Name) {
		return nil, fmt.Errorf("%w: at most %d rows and a name of %d bytes", ErrTable, MaxTableRows, MaxTableName)
	}
	rows := tableRows{}
	for _, r := range t.Rows {
		if !r.Address.IsValid() || r.Address.Zone() != "" || r.Country != "" && !asn.IsCountry(r.Country) || len(r.Holder) > asn.MaxLine || !utf8.ValidString(r.Holder) {
			return nil, fmt.Errorf("%w: the row of %s", ErrTable, r.Address)
		}
		rows[r.Address] = r
	}
	return rows, nil
}

func (t *Table) name() string {
	if t == nil {
		return ""
	}
	return t.Name
}

// locations answers GetLocations.
func (m *Machine) locations(w GetLocations) (LocationsInfo, error) {
	v := LocationsInfo{Table: w.Table.name(), Relays: []RelayLocations{}, Shared: []SharedLocation{}}
	rows, err := w.Table.rows()
	if err != nil {
		return v, err
	}
	for _, p := range m.paths {
		if p.standing != vacant {
			v.Relays = append(v.Relays, m.locationsOf(p, rows))
		}
	}
	for _, g := range m.together(rows) {
		v.Shared = append(v.Shared, g.SharedLocation)
	}
	return v, nil
}

// locationsOf is where a relay is, by its addresses first.
func (m *Machine) locationsOf(p *path, rows tableRows) RelayLocations {
	v := RelayLocations{Label: p.label(), Locations: []Location{}}
	add := func(ip netip.Addr, from string, seen time.Time) {
		at := slices.IndexFunc(v.Locations, func(l Location) bool { return l.Address == ip.String() })
		if at < 0 {
			r := rows[ip]
			v.Locations = append(v.Locations, Location{Address: ip.String(), Network: networkOf(ip).String(), From: from, ASN: r.ASN, Holder: r.Holder, Country: r.Country})
			at = len(v.Locations) - 1
		}
		if !seen.IsZero() {
			v.Locations[at].Seen = seen
		}
	}
	for _, a := range p.ref.Addrs {
		if ip, ok := addressOf(a); ok {
			add(ip, FromAddress, time.Time{})
		} else {
			v.Named = true
		}
	}
	for _, r := range p.reached {
		if !m.outdated(r) {
			add(r.addr, FromLink, unixSeconds(r.last))
		}
	}
	v.Named = v.Named && !slices.ContainsFunc(v.Locations, func(l Location) bool { return l.From == FromLink })
	return v
}

// neighbours are relays that are together somewhere.
type neighbours struct {
	SharedLocation
	order int // of kinds
	paths []crossverify.Path
}

// together are the locations with relays in use of several operators: networks, then
// ASes, then countries.
func (m *Machine) together(rows tableRows) (list []*neighbours) {
	for _, p := range m.used() {
		for _, l := range m.locationsOf(p, rows).Locations {
			at := netip.MustParseAddr(l.Address)
			list = addTogether(list, 0, SharedLocation{Kind: SharedNetwork, Name: l.Network, Local: at.IsLoopback()}, p, l.From)
			if l.ASN != 0 {
				list = addTogether(list, 1, SharedLocation{Kind: SharedAS, Name: fmt.Sprintf("AS%d", l.ASN), Holder: l.Holder}, p, l.From)
			}
			if l.Country != "" {
				list = addTogether(list, 2, SharedLocation{Kind: SharedCountry, Name: l.Country}, p, l.From)
			}
		}
	}
	policy := m.policy()
	list = slices.DeleteFunc(list, func(g *neighbours) bool {
		_, one := sub(policy, g.paths)
		return one.Distinct() < 2
	})
	slices.SortFunc(list, func(a, b *neighbours) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.Name, b.Name))
	})
	return list
}

func addTogether(list []*neighbours, order int, at SharedLocation, p *path, from string) []*neighbours {
	i := slices.IndexFunc(list, func(g *neighbours) bool { return g.order == order && g.Name == at.Name })
	if i < 0 {
		list = append(list, &neighbours{SharedLocation: at, order: order})
		i = len(list) - 1
	}
	g := list[i]
	if n := len(g.Relays); n > 0 && g.Relays[n-1] == p.label() {
		return list // a relay's locations come together, those of its addresses first
	}
	g.Relays, g.paths = append(g.Relays, p.label()), append(g.paths, crossverify.Path(p.index))
	if from == FromLink {
		g.ByLink = append(g.ByLink, p.label())
	}
	return list
}

// collusions are neighbours of some kinds as Coalition takes them: of more than it takes,
// those with the most relays. A relay has as many addresses as it likes, and must not
// keep the answer from being computed.
func collusions(list []*neighbours, kinds ...string) (out []crossverify.Collusion) {
	for _, g := range list {
		if slices.Contains(kinds, g.Kind) {
			out = append(out, crossverify.Collusion{Name: g.Kind + " " + g.Name, Paths: g.paths})
		}
	}
	if len(out) > crossverify.MaxCollusions {
		slices.SortStableFunc(out, func(a, b crossverify.Collusion) int { return cmp.Compare(len(b.Paths), len(a.Paths)) })
		out = out[:crossverify.MaxCollusions]
	}
	return out
}
