package crossverify

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/internal/keys"
)

var allGoals = []Goal{Fool, Read, Block, Link}

func manyOperators(n int) (out []keys.OperatorPublic) {
	for i := range n {
		out = append(out, keys.OperatorPublic{byte('A' + i)})
	}
	return out
}

func choose(n, k int) int {
	c := 1
	for i := range k {
		c = c * (n - i) / (i + 1)
	}
	return c
}

// For plain thresholds among unrelated operators the answers are known: q to
// fool, k to read, R-q+1 or R-k+1 to block, two to link; and any so many.
func TestCoalitionPlain(t *testing.T) {
	for r := 1; r <= 9; r++ {
		for q := 1; q <= r; q++ {
			for k := range r + 1 {
				got, err := Coalition(Policy{Operators: manyOperators(r), Quorum: q}, k, nil, allGoals)
				if err != nil {
					t.Fatal(err)
				}
				want := map[Goal]int{Fool: q, Read: k, Block: r - max(q, k) + 1, Link: 2}
				if k == 0 {
					want[Read] = q
				}
				for _, s := range got {
					parties, count := want[s.Goal], choose(r, want[s.Goal])
					if parties > r {
						parties, count = 0, 0
					}
					if s.Parties != parties || s.Count != count || len(s.Sets) != min(count, MaxSmallest) {
						t.Errorf("R %d q %d k %d, %v: %d parties in %d ways, %d named; want %d in %d", r, q, k, s.Goal, s.Parties, s.Count, len(s.Sets), parties, count)
					}
				}
			}
		}
	}
}

// Families, operators with two relays, and countries, by hand.
func TestCoalitionNamed(t *testing.T) {
	say := func(s Smallest) string {
		var b strings.Builder
		fmt.Fprintf(&b, "%d in %d:", s.Parties, s.Count)
		for _, set := range s.Sets {
			b.WriteByte(' ')
			for i, p := range set.By {
				if i > 0 {
					b.WriteByte('+')
				}
				if b.WriteString(p.Why); p.Why == "" {
					for _, path := range p.Paths {
						b.WriteByte('a' + byte(path))
					}
				}
			}
		}
		return b.String()
	}
	nested := parsed(t, ruleText("ABCDE", "group eu 2 A B C", "group us any D E", "group both all eu us", "quorum both")).Policy()
	for _, c := range []struct {
		what       string
		policy     Policy
		k          int
		collusions []Collusion
		want       [4]string // in the order of allGoals
	}{
		{"one country has two", Policy{Operators: operators("ABC")}, 3, []Collusion{{"DE", []Path{0, 2}}},
			[4]string{"1 in 1: DE", "2 in 1: b+DE", "1 in 4: a b c DE", "1 in 1: DE"}},
		{"a family", Policy{Operators: operators("ABC"), Families: []Family{{1}, {1}}}, 2, nil,
			[4]string{"2 in 1: ab+c", "1 in 1: ab", "1 in 2: ab c", "1 in 1: ab"}},
		{"one operator, two relays", Policy{Operators: operators("AABC")}, 3, nil,
			[4]string{"2 in 3: ab+c ab+d c+d", "2 in 2: ab+c ab+d", "1 in 1: ab", "1 in 1: ab"}},
		{"alone", Policy{Operators: operators("A")}, 1, nil,
			[4]string{"1 in 1: a", "1 in 1: a", "1 in 1: a", "0 in 0:"}},
		{"a nested rule", nested, 2, nil,
			[4]string{"3 in 6: a+b+d a+c+d b+c+d a+b+e a+c+e b+c+e", "2 in 10: a+b a+c b+c a+d b+d c+d a+e b+e c+e d+e", "2 in 4: a+b a+c b+c d+e", "2 in 10: a+b a+c b+c a+d b+d c+d a+e b+e c+e d+e"}},
		{"a network across the rule", nested, 5, []Collusion{{"net", []Path{1, 2, 3}}, {"none", nil}},
			[4]string{"1 in 1: net", "3 in 1: a+net+e", "1 in 6: a b c d net e", "1 in 1: net"}},
	} {
		got, err := Coalition(c.policy, c.k, c.collusions, allGoals)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range got {
			if say(s) != c.want[i] {
				t.Errorf("%s, %v: %s, want %s", c.what, s.Goal, say(s), c.want[i])
			}
		}
	}
}

func TestCoalitionRefuses(t *testing.T) {
	ok := Policy{Operators: operators("ABC")}
	foreign := ok
	foreign.Rule = parsed(t, ruleText("X", "quorum X"))
	for name, c := range map[string]struct {
		policy     Policy
		k          int
		collusions []Collusion
		goals      []Goal
	}{
		"nobody":              {Policy{}, 0, nil, nil},
		"too many paths":      {Policy{Operators: manyOperators(21)}, 1, nil, nil},
		"k above R":           {ok, 4, nil, nil},
		"k below 0":           {ok, -1, nil, nil},
		"a goal that is none": {ok, 1, nil, []Goal{9}},
		"a path that is none": {ok, 1, []Collusion{{"x", []Path{3}}}, nil},
		"too many collusions": {ok, 1, make([]Collusion, MaxCollusions+1), nil},
		"a rule about others": {foreign, 1, nil, []Goal{Fool}},
	} {
		if _, err := Coalition(c.policy, c.k, c.collusions, c.goals); !errors.Is(err, ErrCoalition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Against trying every set of parties, for groups of up to 8 paths.
func TestCoalitionBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var policy Policy
		if rapid.Bool().Draw(t, "by rule") {
			text, _ := drawRule(t)
			rule, err := ParseRule(text)
			if err != nil {
				t.Fatal(err)
			}
			policy = rule.Policy()
		} else {
			names := "ABCDEFG"[:rapid.IntRange(1, 7).Draw(t, "operators")]
			policy = Policy{Operators: operators(names), Quorum: rapid.IntRange(0, 8).Draw(t, "quorum"), Strict: rapid.IntRange(0, 3).Draw(t, "strict") == 0}
		}
		if rapid.Bool().Draw(t, "second relay") {
			policy.Operators = append(policy.Operators, policy.Operators[0])
		}
		n := len(policy.Operators)
		for range policy.Operators {
			policy.Families = append(policy.Families, Family{byte(rapid.IntRange(0, 5).Draw(t, "family") / 2)})
		}
		k := rapid.IntRange(0, n).Draw(t, "k")
		var collusions []Collusion
		for range rapid.IntRange(0, 4).Draw(t, "collusions") {
			collusions = append(collusions, Collusion{"c", pathsOf(uint32(rapid.IntRange(0, 1<<n-1).Draw(t, "colluding")))})
		}
		got, err := Coalition(policy, k, collusions, allGoals)
		if err != nil {
			t.Fatal(err)
		}

		// The reference: every set of parties, the Ledger's own counting.
		var parties []uint32
		for _, c := range policy.classes() {
			set := uint32(0)
			for i, o := range policy.classes() {
				if o == c {
					set |= 1 << i
				}
			}
			parties = append(parties, set)
		}
		for _, c := range collusions {
			parties = append(parties, setOf(c.Paths))
		}
		v := newVoters(policy)
		enough := func(set uint32) bool {
			told := v.none()
			for _, p := range pathsOf(set) {
				v.add(&told, int(p))
			}
			return v.enough(told)
		}
		all := uint32(1)<<n - 1
		for _, s := range got {
			reaches := func(set uint32) bool {
				switch {
				case s.Goal == Fool, s.Goal == Read && k == 0:
					return enough(set)
				case s.Goal == Read:
					return bits.OnesCount32(set) >= k
				case s.Goal == Block:
					return bits.OnesCount32(all&^set) < k || !enough(all&^set)
				}
				return bits.OnesCount32(set) >= 2
			}
			least, sets := 0, map[uint32]bool{}
			for chosen := range uint32(1) << len(parties) {
				size, set := bits.OnesCount32(chosen), uint32(0)
				for i, p := range parties {
					if chosen>>i&1 == 1 {
						set |= p
					}
				}
				if size == 0 || !reaches(set) || least > 0 && size > least {
					continue
				}
				if size < least || least == 0 {
					least = size
					clear(sets)
				}
				sets[set] = true
			}
			if s.Parties != least || s.Count != len(sets) {
				t.Fatalf("%v: %d parties in %d ways, want %d in %d", s.Goal, s.Parties, s.Count, least, len(sets))
			}
			for _, c := range s.Sets {
				var had []Path
				for _, p := range c.By {
					had = append(had, p.Paths...)
				}
				if !sets[setOf(c.Paths)] || setOf(had) != setOf(c.Paths) || len(c.By) != least || !slices.IsSorted(c.Paths) {
					t.Fatalf("%v: %+v", s.Goal, c)
				}
			}
		}
	})
}

// The largest group it answers for: nested, with families and collusions.
func TestCoalitionLargest(t *testing.T) {
	names := "ABCDEFGHIJKLMNOPQRST"
	letters := strings.Split(names, "")
	policy := parsed(t, ruleText(names,
		"group x majority "+strings.Join(letters[:10], " "),
		"group y 7 "+strings.Join(letters[10:], " "),
		"group z all x y", "quorum z")).Policy()
	for i := range names {
		policy.Families = append(policy.Families, Family{byte(i / 3 % 7)})
	}
	var collusions []Collusion
	for i := range 40 {
		collusions = append(collusions, Collusion{fmt.Sprint(i), []Path{Path(i % 20), Path(i * 7 % 20)}})
	}
	start := time.Now()
	if _, err := Coalition(policy, 10, collusions, allGoals); err != nil {
		t.Fatal(err)
	}
	got, err := Coalition(Policy{Operators: manyOperators(20), Strict: true}, 20, nil, allGoals)
	if err != nil || got[0].Parties != 20 || got[0].Count != 1 || got[2].Parties != 1 || got[3].Count != choose(20, 2) {
		t.Errorf("%v, %+v", err, got)
	}
	t.Logf("two groups of 20 in %v", time.Since(start))
}
