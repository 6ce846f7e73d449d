package member

import (
	"fmt"
	"slices"
	"strings"

	"parallax/crossverify"
	"parallax/internal/keys"
)

// GetSecurity asks what protects the group, and what does not. Answer: Security.
type GetSecurity struct{}

// Wish implements Wish.
func (GetSecurity) Wish() string { return "security" }

// Security answers GetSecurity: the status, and what follows from it.
type Security struct {
	Status
	Code        string         `json:"code"`     // of the group, for people to compare
	Compared    bool           `json:"compared"` // there are two relays or more
	Agreed      int            `json:"agreed"`   // members that enough operators show
	Unconfirmed int            `json:"unconfirmed"`
	Contested   int            `json:"contested"`
	Fewest      int            `json:"fewest"` // operators that show an agreed member, at least
	Most        int            `json:"most"`   // and at most
	Policy      PolicyInfo     `json:"policy"`
	Shares      int            `json:"shares"` // k: relays whose shares a first contact begun now takes; 0: it is not mixed
	ShareRelays int            `json:"share_relays"`
	Carriers    int            `json:"carriers"` // relays that carry a text in full; the others get its digest
	Sessions    int            `json:"sessions"` // all began with ML-KEM-768
	Reinforced  int            `json:"reinforced"`
	Reinforces  bool           `json:"reinforces"` // this device mixes ML-KEM in again as time goes by
	Goals       []GoalInfo     `json:"goals"`      // how few could do what, as GetCoalition has it
	Held        []EvidenceInfo `json:"held"`       // evidence, without texts
	Lacks       []LackInfo     `json:"lacks"`      // messages that did not arrive, and what is done about them
	// Advice is what the person can do, most urgent first; commands as
	// cmd/parallax has them.
	Advice []string `json:"advice"`
}

// PolicyInfo is who is enough, in the words of people.
type PolicyInfo struct {
	Words     string     `json:"words"`
	Text      string     `json:"text,omitempty"` // the policy text, if there is one
	Operators int        `json:"operators"`      // that count, a declared family as one
	Families  [][]string `json:"families"`       // names of operators that declared to be one
	Deadline  int        `json:"deadline"`       // seconds
	Retention int        `json:"retention"`      // seconds
}

// security answers GetSecurity.
func (m *Machine) security() (Security, error) {
	code, err := m.code(GetCode{})
	if err != nil {
		return Security{}, err
	}
	v := Security{Status: m.status(), Code: code.Code, Compared: len(m.used()) > 1, Policy: m.policyInfo(), Lacks: m.lackInfos(), Advice: []string{}}
	for _, s := range v.Members {
		switch s.Verdict {
		case "agreed":
			if v.Agreed++; v.Fewest == 0 || s.Operators < v.Fewest {
				v.Fewest = s.Operators
			}
			v.Most = max(v.Most, s.Operators)
		case "contested":
			v.Contested++
		default:
			v.Unconfirmed++
		}
	}
	if !m.unmixed() {
		paths := m.mixing()
		v.Shares, v.ShareRelays = paths.K, len(paths.Relays)
	}
	v.Carriers = len(m.inUse())
	if want := m.carriersWanted(); want >= 0 {
		v.Carriers = min(v.Carriers, want)
	}
	for _, st := range m.sortedSeats() {
		if s := m.sender(st); s != nil && !st.own {
			v.Sessions++
			if pending, _ := s.Reinforcing(); s.reinforced > 0 && !pending {
				v.Reinforced++
			}
		}
	}
	v.Reinforces = m.reinforces(v.Sessions + 1)
	c, err := m.coalition(GetCoalition{})
	if err != nil {
		return v, err
	}
	v.Goals = c.Goals
	if v.Held, err = m.evidenceOf(GetEvidence{}); err != nil {
		return v, err
	}
	m.advise(&v)
	return v, nil
}

func (m *Machine) policyInfo() PolicyInfo {
	rules, p := m.rules(), m.policy()
	v := PolicyInfo{Text: rules.Text, Operators: p.Distinct(), Families: m.families(&p),
		Deadline: int(rules.Deadline.Seconds()), Retention: int(rules.Retention.Seconds())}
	switch {
	case len(m.used()) == 1:
		v.Words = "One relay: nothing is compared, so it can show wrong keys unnoticed."
	case p.Strict:
		v.Words = fmt.Sprintf("All %d operators must agree before a key is used or a message shown.", v.Operators)
	case p.Rule != nil:
		v.Words = fmt.Sprintf("The group's policy text says which of the %d operators must agree before a key is used: at least %d.", v.Operators, m.needed())
	default:
		v.Words = fmt.Sprintf("%d of %d operators must agree before a key is used.", m.needed(), v.Operators)
	}
	return v
}

// families are the names of operators that count as one, each family once.
func (m *Machine) families(p *crossverify.Policy) [][]string {
	list := [][]string{}
	var seen []crossverify.Family
	for _, f := range p.Families {
		if f == (crossverify.Family{}) || slices.Contains(seen, f) {
			continue
		}
		seen = append(seen, f)
		var names []string
		var had []keys.OperatorPublic
		for j, o := range p.Operators {
			if p.Families[j] == f && !slices.Contains(had, o) {
				had = append(had, o)
				names = append(names, m.operatorName(o))
			}
		}
		if len(names) > 1 {
			list = append(list, names)
		}
	}
	return list
}

// advise says what the person can do.
func (m *Machine) advise(v *Security) {
	say := func(format string, args ...any) { v.Advice = append(v.Advice, fmt.Sprintf(format, args...)) }
	var convicted []string
	for _, p := range m.used() {
		if p.aside {
			convicted = append(convicted, p.label())
		}
	}
	if len(convicted) > 0 {
		list := strings.Join(convicted, ", ")
		if m.mayChange(RoleAdmin) == nil {
			say("Put another relay in the place of %s: parallax relay replace %s", list, convicted[0])
		} else {
			say("Ask an admin to put another relay in the place of %s.", list)
		}
	}
	for _, p := range m.used() {
		if !p.aside && m.lost(p) {
			say("Relay %s has been gone for %s. %s", p.label(), days(m.now.Sub(unixSeconds(m.meta.Relays[p.index].Missing))), m.offer(p))
		}
	}
	if v.Contested > 0 {
		say("See who is contested, and why: parallax contested")
	}
	if others := len(v.Members) - 1; others > 0 && v.Verified == 0 {
		say("Compare codes with somebody, side by side or by telephone: parallax code, then parallax confirm")
	}
	switch {
	case len(m.used()) == 1:
		say("Found groups on relays of several operators: what they show is compared.")
	case v.Policy.Operators == 1:
		say("All relays count as one operator: add one of somebody else.")
	}
	if v.Shares > 1 && v.Shares == v.ShareRelays && !v.Strict {
		say("First contacts take shares of all %d relays: one that is gone holds up who joins. One more relay that is not necessary would help.", v.Shares)
	}
}
