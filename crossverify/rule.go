package crossverify

import (
	"math/bits"

	"parallax/internal/keys"
)

// Limits of a Rule.
const (
	// MaxRuleText is the greatest length of a rule's text in bytes.
	MaxRuleText = 8 << 10
	// MaxRuleOperators is how many operators a rule names: as many as Coalition
	// computes exactly.
	MaxRuleOperators = 20
	// MaxRuleGroups is how many groups a rule has.
	MaxRuleGroups = 32
	// MaxRuleName is the greatest length of a name in bytes.
	MaxRuleName = 32
)

// Rule says which operators are enough, as thresholds over operators and over
// other thresholds. More operators are never less. ParseRule makes one; it
// never changes.
type Rule struct {
	operators []ruleOperator
	groups    []ruleGroup
	quorum    int // a member, as in ruleGroup
}

type ruleOperator struct {
	name string
	key  keys.OperatorPublic
}

// ruleGroup holds when needs of its members do. A member below
// len(Rule.operators) is an operator, all others are earlier groups.
type ruleGroup struct {
	name    string
	needs   int
	members []int
}

// Operators are the keys that the rule names, in its order.
func (r *Rule) Operators() (out []keys.OperatorPublic) {
	for _, o := range r.operators {
		out = append(out, o.key)
	}
	return out
}

// Policy is a policy with one path for each operator of the rule, in its
// order.
func (r *Rule) Policy() Policy { return Policy{Operators: r.Operators(), Rule: r} }

// holds evaluates the rule; bit i of set is operator i. Every group is looked
// at once.
func (r *Rule) holds(set uint32) bool {
	true64 := uint64(set) // bit i: member i holds
	for i, g := range r.groups {
		n := 0
		for _, m := range g.members {
			n += int(true64 >> m & 1)
		}
		if n >= g.needs {
			true64 |= 1 << (len(r.operators) + i)
		}
	}
	return true64>>r.quorum&1 == 1
}

// holdsOnce evaluates the rule with every family speaking once: one of its
// operators in set, whichever helps most. families are disjoint sets.
func (r *Rule) holdsOnce(set uint32, families []uint32) bool {
	if !r.holds(set) {
		return false // more operators are never less
	}
	for i, f := range families {
		f &= set
		if bits.OnesCount32(f) < 2 {
			continue
		}
		for rest := f; rest != 0; rest &= rest - 1 {
			one := rest & -rest
			if r.holdsOnce(set&^f|one, families[i+1:]) {
				return true
			}
		}
		return false
	}
	return true
}
