package member

import (
	"fmt"
	"slices"
	"strings"

	"parallax/crossverify"
	"parallax/internal/keys"
)

// GetCoalition asks who would have to collude to do what to the group
// (docs/protocol.md section 9.1, "Smallest coalition"). Answer: CoalitionInfo.
// Errors: ErrTable.
type GetCoalition struct {
	Table *Table `json:"table,omitempty"`
}

// Wish implements Wish.
func (GetCoalition) Wish() string { return "coalition" }

// CoalitionInfo answers GetCoalition. It counts evidence of affiliation only:
// that operators are unaffiliated nobody can show.
type CoalitionInfo struct {
	Group     string          `json:"group"`
	ShortID   string          `json:"short_id"`
	Operators int             `json:"operators"` // of all relays, a declared family as one
	Quorum    int             `json:"quorum"`    // operators that are enough now
	Shares    int             `json:"shares"`    // paths that a first contact begun now takes; 0: it is not mixed
	Relays    []RelayOperator `json:"relays"`
	// Goals is for whom counts as this device does, without the relays that are
	// set aside: fool, read, block and link.
	Goals []GoalInfo `json:"goals"`
	// Unaware is the same for whom the evidence has not reached, as a newcomer;
	// nil: no relay is set aside.
	Unaware []GoalInfo `json:"unaware,omitempty"`
	// Shared is where relays of several operators are together. That might mean one
	// hand, and might not. IfOneHand is Goals if each network and each AS of these
	// were, IfOneCountry, which is weaker yet, if each country were.
	Shared       []SharedLocation `json:"shared"`
	IfOneHand    []GoalInfo       `json:"if_one_hand,omitempty"`
	IfOneCountry []GoalInfo       `json:"if_one_country,omitempty"`
	Table        string           `json:"table,omitempty"` // whose word ASes and countries are
}

// RelayOperator is one relay and what is known of who runs it.
type RelayOperator struct {
	RelayLocations
	Operator string `json:"operator"` // told apart where two operators carry one name
	SetAside bool   `json:"set_aside"`
}

// GoalInfo is how few can do one thing.
type GoalInfo struct {
	Goal    string           `json:"goal"`    // fool, read, block, link
	Parties int              `json:"parties"` // 0: not even all of them
	Of      int              `json:"of"`      // operators that count for it, a declared family as one
	Count   int              `json:"count"`   // in how many ways
	Sets    [][]ColludeParty `json:"sets"`    // those ways, as far as crossverify.MaxSmallest goes
}

// ColludeParty is one that acts as one: an operator, a declared family, or
// whoever has a network or commands a country.
type ColludeParty struct {
	Kind      string   `json:"kind,omitempty"` // of a SharedLocation
	Name      string   `json:"name,omitempty"` // and which
	Operators []string `json:"operators"`
	Relays    []string `json:"relays"`
}

// coalition answers GetCoalition.
func (m *Machine) coalition(w GetCoalition) (CoalitionInfo, error) {
	v := CoalitionInfo{Group: m.meta.Group, ShortID: ShortID(m.gid), Operators: m.policy().Distinct(), Quorum: m.needed(), Shared: []SharedLocation{}, Table: w.Table.name()}
	rows, err := w.Table.rows()
	if err != nil {
		return v, err
	}
	if !m.unmixed() {
		v.Shares = m.mixing().K
	}
	var all, left []crossverify.Path
	for _, p := range m.used() {
		at := crossverify.Path(p.index)
		all = append(all, at)
		if !p.aside {
			left = append(left, at)
		}
		v.Relays = append(v.Relays, RelayOperator{RelayLocations: m.locationsOf(p, rows), Operator: m.operatorName(p.ref.Operator), SetAside: p.aside})
	}
	if v.Goals, err = m.goals(left, nil); err != nil {
		return v, err
	}
	if len(left) < len(all) {
		if v.Unaware, err = m.goals(all, nil); err != nil {
			return v, err
		}
	}
	together := m.together(rows)
	for _, g := range together {
		v.Shared = append(v.Shared, g.SharedLocation)
	}
	if hands := collusions(together, SharedNetwork, SharedAS); len(hands) > 0 {
		if v.IfOneHand, err = m.goals(left, hands); err != nil {
			return v, err
		}
	}
	if countries := collusions(together, SharedCountry); len(countries) > 0 {
		v.IfOneCountry, err = m.goals(left, countries)
	}
	return v, err
}

// operatorName is an operator's name, told apart where two carry one.
func (m *Machine) operatorName(key keys.OperatorPublic) (name string) {
	var paths []crossverify.Path
	for _, p := range m.paths {
		if p.ref.Operator == key {
			name = p.ref.OperatorName
			paths = append(paths, crossverify.Path(p.index))
		}
	}
	for _, p := range m.paths {
		if p.ref.Operator != key && p.ref.OperatorName == name {
			return fmt.Sprintf("%s (%s)", name, strings.Join(m.labelsOf(paths), ", "))
		}
	}
	return name
}

func (m *Machine) labelsOf(paths []crossverify.Path) (list []string) {
	for _, at := range paths {
		list = append(list, m.paths[at].label())
	}
	return list
}

// sub is a policy for some of its paths, and where in it each path stands.
func sub(policy crossverify.Policy, paths []crossverify.Path) (place map[crossverify.Path]crossverify.Path, _ crossverify.Policy) {
	out := policy
	out.Operators, out.Families, out.Outside = nil, nil, nil
	place = map[crossverify.Path]crossverify.Path{}
	for i, at := range paths {
		place[at] = crossverify.Path(i)
		out.Operators = append(out.Operators, policy.Operators[at])
		var family crossverify.Family
		if int(at) < len(policy.Families) {
			family = policy.Families[at]
		}
		out.Families = append(out.Families, family)
	}
	return place, out
}

// goals computes every goal where these paths count. Whoever is set aside does
// not count, but knows of its channel like the others: link is over all.
func (m *Machine) goals(counting []crossverify.Path, collusions []crossverify.Collusion) ([]GoalInfo, error) {
	var all []crossverify.Path
	for _, p := range m.used() {
		all = append(all, crossverify.Path(p.index))
	}
	if len(counting) == len(all) {
		return m.smallest(all, collusions, crossverify.Fool, crossverify.Read, crossverify.Block, crossverify.Link)
	}
	list, err := m.smallest(counting, collusions, crossverify.Fool, crossverify.Read, crossverify.Block)
	if err != nil {
		return nil, err
	}
	link, err := m.smallest(all, collusions, crossverify.Link)
	return append(list, link...), err
}

var goalNames = map[crossverify.Goal]string{crossverify.Fool: "fool", crossverify.Read: "read", crossverify.Block: "block", crossverify.Link: "link"}

// smallest computes goals among some paths.
func (m *Machine) smallest(paths []crossverify.Path, collusions []crossverify.Collusion, goals ...crossverify.Goal) (list []GoalInfo, err error) {
	place, policy := sub(m.policy(), paths)
	k := 0
	if !m.unmixed() {
		among := m.eraNow()
		among.Relays = 0
		for _, at := range paths {
			among.Relays |= 1 << at
		}
		k = max(1, m.mixingOf(among, true).K)
	}
	var among []crossverify.Collusion
	for _, c := range collusions {
		var in []crossverify.Path
		for _, at := range c.Paths {
			if i, ok := place[at]; ok {
				in = append(in, i)
			}
		}
		among = append(among, crossverify.Collusion{Name: c.Name, Paths: in})
	}
	found := make([]crossverify.Smallest, len(goals)) // nobody, if nobody is left
	if len(paths) > 0 {
		if found, err = crossverify.Coalition(policy, k, among, goals); err != nil {
			return nil, err
		}
	}
	for i, goal := range goals {
		info := GoalInfo{Goal: goalNames[goal], Parties: found[i].Parties, Of: policy.Distinct(), Count: found[i].Count, Sets: [][]ColludeParty{}}
		for _, set := range found[i].Sets {
			var parties []ColludeParty
			for _, by := range set.By {
				parties = append(parties, m.party(by, paths))
			}
			info.Sets = append(info.Sets, parties)
		}
		list = append(list, info)
	}
	return list, nil
}

// party names one that acts as one; by is among these paths.
func (m *Machine) party(by crossverify.Party, paths []crossverify.Path) (p ColludeParty) {
	p.Kind, p.Name, _ = strings.Cut(by.Why, " ")
	for _, i := range by.Paths {
		at := paths[i]
		p.Relays = append(p.Relays, m.paths[at].label())
		if name := m.operatorName(m.paths[at].ref.Operator); !slices.Contains(p.Operators, name) {
			p.Operators = append(p.Operators, name)
		}
	}
	return p
}
