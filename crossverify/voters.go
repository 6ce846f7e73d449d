package crossverify

import (
	"maps"
	"math/bits"
	"slices"
)

// voters is a Policy made ready to count: who of the paths speaks as one, who
// is left of them, and whether what was said is enough.
type voters struct {
	class    []int    // of each path: the first path of the same operator or family
	outside  []bool   // of each path: it never counts
	asked    int      // plain threshold, not lowered to what there is
	rule     *Rule    // nil: the plain threshold
	bit      []uint32 // of each path: its operator in the rule, 0 if it has none
	families []uint32 // operators of the rule that count once together
	left     tally    // all that are not set aside
	leftCan  bool     // the rule holds for all that are left
	needed   int      // plain threshold: how many classes of those left
	least    int      // fewest by the rule; 0: not computed yet
	strict   bool
	alone    bool // one operator in the whole policy
}

// tally is a set of paths, as what counts of them.
type tally struct {
	by   []bool // by class
	mask uint32 // by operator of the rule
}

func newVoters(p Policy) *voters {
	v := &voters{class: p.classes(), outside: make([]bool, len(p.Operators)), asked: p.Quorum, bit: make([]uint32, len(p.Operators))}
	copy(v.outside, p.Outside)
	distinct := p.Distinct()
	v.strict, v.alone = p.Strict, distinct == 1
	switch {
	case p.Strict:
		v.asked = distinct
	case p.Rule != nil:
		v.rule = p.Rule
	case p.Quorum <= 0:
		v.asked = distinct/2 + 1
	}
	if v.rule != nil {
		for i, o := range p.Operators {
			if v.outside[i] {
				continue
			}
			if at := slices.IndexFunc(v.rule.operators, func(r ruleOperator) bool { return r.key == o }); at >= 0 {
				v.bit[i] = 1 << at
			}
		}
		for c := range v.class {
			if f := v.ofClass(c); bits.OnesCount32(f) > 1 {
				v.families = append(v.families, f)
			}
		}
	}
	v.leave(nil)
	return v
}

// ofClass is what the rule names of class c.
func (v *voters) ofClass(c int) (mask uint32) {
	for i, class := range v.class {
		if class == c {
			mask |= v.bit[i]
		}
	}
	return mask
}

// leave counts anew with the paths that are set aside; nil: none.
func (v *voters) leave(aside []bool) {
	v.left, v.least = v.none(), 0
	for i := range v.class {
		if aside == nil || !aside[i] {
			v.add(&v.left, i)
		}
	}
	v.needed = max(1, min(v.asked, count(v.left.by)))
	v.leftCan = v.rule != nil && v.rule.holdsOnce(v.left.mask, v.families)
}

func (v *voters) none() tally { return tally{by: make([]bool, len(v.class))} }

// add makes path i one of t, if it counts.
func (v *voters) add(t *tally, i int) {
	if v.outside[i] {
		return
	}
	t.by[v.class[i]] = true
	t.mask |= v.bit[i]
}

// enough tells whether the paths of t, none of them set aside, are enough: the
// threshold or the rule; where all that are left do not reach it, all of them.
func (v *voters) enough(t tally) bool {
	switch {
	case v.rule == nil:
		return count(t.by) >= v.needed
	case v.leftCan:
		return v.rule.holdsOnce(t.mask, v.families)
	}
	for i, c := range v.class { // every class that the rule names and that is left
		if v.left.mask&v.bit[i] != 0 && t.mask&v.ofClass(c) == 0 {
			return false
		}
	}
	return t.mask != 0
}

// classes are for each path the first one of the same operator or family.
func (p Policy) classes() []int {
	family := func(i int) Family {
		if i < len(p.Families) {
			return p.Families[i]
		}
		return Family{}
	}
	class := make([]int, len(p.Operators))
	for i := range class {
		class[i] = i
		for j := range i {
			if a, b := class[i], class[j]; a != b && (p.Operators[i] == p.Operators[j] || family(i) != (Family{}) && family(i) == family(j)) {
				for k := range i + 1 {
					if class[k] == max(a, b) {
						class[k] = min(a, b)
					}
				}
			}
		}
	}
	return class
}

// fewest is the least number of operators, families counted once, that can be
// enough now.
func (v *voters) fewest() int {
	if v.rule == nil {
		return v.needed
	}
	if v.least > 0 {
		return v.least
	}
	var heads []int
	for _, c := range v.class {
		if v.left.by[c] && !slices.Contains(heads, c) {
			heads = append(heads, c)
		}
	}
	var try func(t tally, from, more int) bool
	try = func(t tally, from, more int) bool {
		if more == 0 {
			return v.enough(t)
		}
		for i := from; i+more <= len(heads); i++ {
			with := tally{slices.Clone(t.by), t.mask | v.ofClass(heads[i])}
			with.by[heads[i]] = true
			if try(with, i+1, more-1) {
				return true
			}
		}
		return false
	}
	v.least = max(1, len(heads))
	for n := 1; n < v.least; n++ {
		if try(v.none(), 0, n) {
			v.least = n
		}
	}
	return v.least
}

// mostShort is the greatest number of these paths that operators have who are
// not enough together.
func (v *voters) mostShort(over []Path) (most int) {
	if v.rule == nil {
		has := map[int]int{} // by class
		for _, p := range over {
			has[v.class[p]]++
		}
		counts := slices.Sorted(maps.Values(has))
		for _, n := range counts[max(0, len(counts)-max(0, v.asked-1)):] {
			most += n
		}
		return most
	}
	if !v.leftCan {
		return len(over) // not even all are
	}
	has := map[uint32]int{} // by operator of the rule; 0: those it does not name
	for _, p := range over {
		has[v.bit[p]]++
	}
	unnamed := has[0]
	delete(has, 0)
	operators := slices.Sorted(maps.Keys(has))
	var try func(mask uint32, from, have, rest int)
	try = func(mask uint32, from, have, rest int) { // more operators are never less
		if have+rest <= most && most > 0 || v.rule.holdsOnce(mask, v.families) {
			return
		}
		most = max(most, have)
		for i := from; i < len(operators); i++ {
			n := has[operators[i]]
			try(mask|operators[i], i+1, have+n, rest-n)
			rest -= n
		}
	}
	try(0, 0, unnamed, len(over)-unnamed)
	return most
}
