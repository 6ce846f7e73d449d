package crossverify

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Limits of Coalition.
const (
	// MaxCoalitionPaths is for how many paths it computes exactly.
	MaxCoalitionPaths = 20
	// MaxCollusions is how many collusions it takes.
	MaxCollusions = 64
	// MaxSmallest is how many of the smallest coalitions it names; it counts
	// all.
	MaxSmallest = 64
)

// ErrCoalition: a question that Coalition does not answer; the error says why.
var ErrCoalition = errors.New("the smallest coalition cannot be computed")

// Goal is what a coalition may be after.
type Goal uint8

const (
	// Fool: make one joiner who holds the true link accept an open fact that
	// nobody else has. It takes operators that are enough for the policy.
	Fool Goal = iota + 1
	// Read: have the k shares of a first contact, without which nobody reads or
	// speaks in it, whatever keys were shown. With k = 0 there are no shares,
	// and it is Fool.
	Read
	// Block: keep somebody from joining, by silence, as the operators that are
	// left are not enough for the policy or their paths fewer than k.
	Block
	// Link: know of two of the group's channels. Equal sizes and times can then
	// tell that they are one group; whoever holds the link or an epoch key
	// needs no second one.
	Link
)

func (g Goal) String() string {
	switch g {
	case Fool:
		return "fool a joiner"
	case Read:
		return "read a first contact"
	case Block:
		return "block a join"
	case Link:
		return "link the group"
	}
	return "unknown"
}

// Collusion is paths that may fall together for a reason other than their
// operator or its family: a network, a country, an owner.
type Collusion struct {
	Name  string
	Paths []Path
}

// Smallest is the answer for one goal.
type Smallest struct {
	Goal Goal
	// Parties is how many have to collude: an operator, a declared family or a
	// collusion is one party. 0: not even all of them can do it.
	Parties int
	// Count is how many sets of paths that many parties can do it with.
	Count int
	// Sets are those sets in ascending order, as far as MaxSmallest goes.
	Sets []ColludingSet
}

// ColludingSet is one coalition: what it has, and one way to get there.
type ColludingSet struct {
	Paths []Path
	By    []Party
}

// Party is one that acts as one. Why is a collusion's name, or empty for an
// operator or family.
type Party struct {
	Why   string
	Paths []Path
}

// Coalition computes for each goal the smallest coalitions that could reach it
// in a group of this policy whose first contacts have k shares: exactly, over
// every set of paths that parties can have together. It knows evidence of
// affiliation only; that operators are unaffiliated nobody can show. The error
// is ErrCoalition.
func Coalition(policy Policy, k int, collusions []Collusion, goals []Goal) ([]Smallest, error) {
	n := len(policy.Operators)
	switch {
	case n == 0 || n > MaxCoalitionPaths:
		return nil, fmt.Errorf("%w: %d paths, want 1 to %d", ErrCoalition, n, MaxCoalitionPaths)
	case slices.Contains(policy.Outside, true):
		return nil, fmt.Errorf("%w: a path that does not count: leave it out", ErrCoalition)
	case k < 0 || k > n:
		return nil, fmt.Errorf("%w: k = %d of %d paths", ErrCoalition, k, n)
	case len(collusions) > MaxCollusions:
		return nil, fmt.Errorf("%w: %d collusions, at most %d", ErrCoalition, len(collusions), MaxCollusions)
	}
	parties, err := partiesOf(policy, collusions)
	if err != nil {
		return nil, err
	}
	all := uint32(1)<<n - 1
	enough := newVoters(policy).sets()
	if !enough(all) {
		return nil, fmt.Errorf("%w: the rule names no operator of the policy", ErrCoalition)
	}
	reaches := map[Goal]func(set uint32) bool{
		Fool:  enough,
		Read:  func(set uint32) bool { return bits.OnesCount32(set) >= k },
		Block: func(set uint32) bool { return bits.OnesCount32(all&^set) < k || !enough(all&^set) },
		Link:  func(set uint32) bool { return bits.OnesCount32(set) >= 2 },
	}
	if k == 0 {
		reaches[Read] = enough
	}
	out := make([]Smallest, len(goals))
	open := 0
	for i, g := range goals {
		if reaches[g] == nil {
			return nil, fmt.Errorf("%w: goal %d is none", ErrCoalition, g)
		}
		out[i].Goal = g
		if reaches[g](all) {
			open++ // some coalition reaches it
		}
	}
	// Sets of paths by the number of parties it takes to have them.
	last := make([]int8, 1<<n)     // the party that came last, from 1; 0: not reached yet
	before := make([]uint32, 1<<n) // what was had without it
	level := []uint32{0}
	for size := 1; open > 0; size++ {
		var next []uint32
		for _, set := range level {
			for i, p := range parties {
				if with := set | p.set; with != set && last[with] == 0 {
					last[with], before[with] = int8(i+1), set
					next = append(next, with)
				}
			}
		}
		slices.Sort(next)
		for i := range out {
			s := &out[i]
			if s.Parties > 0 {
				continue
			}
			for _, set := range next {
				if reaches[s.Goal](set) {
					s.Parties = size
					if s.Count++; len(s.Sets) < MaxSmallest {
						c := ColludingSet{Paths: pathsOf(set)}
						for at := set; at != 0; at = before[at] {
							p := parties[last[at]-1]
							c.By = append(c.By, Party{p.why, pathsOf(p.set)})
						}
						slices.Reverse(c.By)
						s.Sets = append(s.Sets, c)
					}
				}
			}
			if s.Parties > 0 {
				open--
			}
		}
		level = next
	}
	return out, nil
}

// party is a Party as a set of paths.
type party struct {
	why string
	set uint32
}

// partiesOf are the classes of the policy, then the collusions.
func partiesOf(policy Policy, collusions []Collusion) ([]party, error) {
	var parties []party
	classes := policy.classes()
	for i, c := range classes {
		if i == c {
			var set uint32
			for j, o := range classes {
				if o == c {
					set |= 1 << j
				}
			}
			parties = append(parties, party{set: set})
		}
	}
	for _, c := range collusions {
		for _, p := range c.Paths {
			if int(p) >= len(classes) {
				return nil, fmt.Errorf("%w: collusion %q names path %d of %d", ErrCoalition, c.Name, p, len(classes))
			}
		}
		parties = append(parties, party{c.Name, setOf(c.Paths)})
	}
	return parties, nil
}

func setOf(paths []Path) (set uint32) {
	for _, p := range paths {
		set |= 1 << p
	}
	return set
}

func pathsOf(set uint32) (paths []Path) {
	for ; set != 0; set &= set - 1 {
		paths = append(paths, Path(bits.TrailingZeros32(set)))
	}
	return paths
}

// sets is enough as a function of a set of paths, while nobody is set aside:
// quick enough to be asked for every set.
func (v *voters) sets() func(paths uint32) bool {
	classes := make([]uint32, len(v.class)) // by first path
	for i, c := range v.class {
		classes[c] |= 1 << i
	}
	if v.rule == nil {
		return func(paths uint32) bool {
			n := 0
			for _, c := range classes {
				if paths&c != 0 {
					n++
				}
			}
			return n >= v.needed
		}
	}
	named := func(paths uint32) (mask uint32) { // by operator of the rule
		for ; paths != 0; paths &= paths - 1 {
			mask |= v.bit[bits.TrailingZeros32(paths)]
		}
		return mask
	}
	switch {
	case !v.leftCan:
		return func(paths uint32) bool {
			t := v.none()
			t.mask = named(paths)
			return v.enough(t)
		}
	case len(v.families) == 0:
		return func(paths uint32) bool { return v.rule.holds(named(paths)) }
	}
	// Every family speaks once: a set is enough if one of its parts without
	// relatives is. That is computed for all sets at once.
	n := len(v.rule.operators)
	holds := make([]bool, 1<<n)
	for set := range holds {
		relatives := slices.ContainsFunc(v.families, func(f uint32) bool { return bits.OnesCount32(f&uint32(set)) > 1 })
		holds[set] = !relatives && v.rule.holds(uint32(set))
	}
	for i := range n {
		for set := range holds {
			holds[set] = holds[set] || set>>i&1 == 1 && holds[set&^(1<<i)]
		}
	}
	return func(paths uint32) bool { return holds[named(paths)] }
}
