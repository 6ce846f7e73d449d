package crossverify

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/keys"
)

// ruleText puts lines under the title; A to T are operators with keys of one
// letter each.
func ruleText(names string, lines ...string) string {
	var t strings.Builder
	t.WriteString("parallax policy 1\n")
	for _, n := range names {
		fmt.Fprintf(&t, "operator %c %s\n", n, keys.OperatorPublic{byte(n)})
	}
	for _, l := range lines {
		t.WriteString(l + "\n")
	}
	return t.String()
}

func parsed(t testing.TB, text string) *Rule {
	r, err := ParseRule(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Which sets of operators are enough, as text: the minimal ones.
func minimal(p Policy, names string) string {
	var out []string
	for set := range 1 << len(names) {
		chosen := func(set int) (o []keys.OperatorPublic, word string) {
			for i, n := range []byte(names) {
				if set>>i&1 == 1 {
					o, word = append(o, keys.OperatorPublic{n}), word+string(n)
				}
			}
			return o, word
		}
		o, word := chosen(set)
		enough := p.Sufficient(o)
		for rest := set; rest != 0 && enough; rest &= rest - 1 {
			fewer, _ := chosen(set &^ (rest & -rest))
			enough = !p.Sufficient(fewer)
		}
		if enough {
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

func TestRule(t *testing.T) {
	family := func(same ...Family) []Family { return same }
	nested := []string{"group eu 2 A B C", "group us any D E", "group both all eu us", "quorum both"}
	for _, c := range []struct {
		names    string
		lines    []string
		families []Family
		strict   bool
		want     string
		needed   int
	}{
		{"A", []string{"quorum A"}, nil, false, "A", 1},
		{"ABC", []string{"group X 2 A B C", "quorum X"}, nil, false, "AB AC BC", 2},
		{"ABC", []string{"group X majority A B C", "quorum X"}, nil, true, "ABC", 3},
		{"ABCDE", nested, nil, false, "ABD ACD BCD ABE ACE BCE", 3},
		{"ABCDE", append([]string{" # comment", "", "\tgroup  z\t1 A # more"}, "group y all B C D E", "group x any z y", "quorum x"), nil, false, "A BCDE", 1},
		// An operator may stand in several groups.
		{"ABC", []string{"group x all A B", "group y all A C", "group z any x y", "quorum z"}, nil, false, "AB AC", 2},
		// A family speaks once, across groups: A and D are one, so {A, B, D}
		// are two voices, and B or C must be there with one more.
		{"ABCDE", nested, family(Family{1}, Family{}, Family{}, Family{1}), false, "BCD ABE ACE BCE", 3},
		{"ABC", []string{"group X 2 A B C", "quorum X"}, family(Family{1}, Family{1}), false, "AC BC", 2},
		// What families make unreachable needs everybody.
		{"ABC", []string{"group X all A B C", "quorum X"}, family(Family{1}, Family{1}), false, "AC BC", 2},
		{"AB", []string{"group X all A B", "quorum X"}, family(Family{1}, Family{1}), false, "A B", 1},
	} {
		r := parsed(t, ruleText(c.names, c.lines...))
		p := r.Policy()
		p.Families, p.Strict = c.families, c.strict
		if got := minimal(p, c.names); got != c.want {
			t.Errorf("%q, families %v: enough are %q, want %q", c.lines, c.families, got, c.want)
		}
		if got := p.Needed(); got != c.needed {
			t.Errorf("%q: needed %d, want %d", c.lines, got, c.needed)
		}
		if again := parsed(t, r.Text()); again.Text() != r.Text() || minimal(again.Policy(), c.names) != minimal(r.Policy(), c.names) {
			t.Errorf("%q is read back as\n%s", r.Text(), again.Text())
		}
	}
	want := ruleText("AB", "group x 2 A B", "quorum x")
	if got := parsed(t, strings.ReplaceAll(ruleText("AB", "# two", "group x all A B", "quorum x"), " ", "  ")).Text(); got != want {
		t.Errorf("the canonical text is\n%s, want\n%s", got, want)
	}
}

// A Ledger judges open facts by the rule, and by all that are left where those
// left are not enough for it.
func TestRuleInLedger(t *testing.T) {
	policy := parsed(t, ruleText("ABCD", "group x any A B", "group y any C D", "group z all x y", "quorum z")).Policy()
	policy.Operators = append(policy.Operators, keys.OperatorPublic{'Z'}) // nobody the rule names
	for _, c := range []struct{ script, want string }{
		{"0claim1 1claim1 4claim1", "unconfirmed 1 mmaam 3/3"},
		{"0claim1 3claim1", "agreed 1 maama 2/2 usable"},
		{"0claim1 1claim1 2absent 3absent 4absent +30", "contested 1 mmsss 2/5 settled"},
		{"2aside 3aside 0claim1", "unconfirmed 1 maaaa 1/1"},
		{"2aside 3aside 0claim1 1claim1", "agreed 1 mmaaa 2/2 usable"},
		{"2aside 3aside 2claim1 3claim1", "unconfirmed 1 aamma 0/0"},
		{"0claim1 1claim2 2claim1 3claim2", "contested 0 dddda 0/4 equivocated"},
	} {
		l := NewLedger(policy)
		s := Admission(digest(9))
		play(t, l, s, c.script)
		if got := brief(l.Report(s)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.script, got, c.want)
		}
	}
}

// Errors name the line and the cause.
func TestRuleErrors(t *testing.T) {
	many := func(n int, line string) string { return strings.Repeat(line+"\n", n) }
	var operators, groups strings.Builder
	for i := range MaxRuleOperators + 1 {
		fmt.Fprintf(&operators, "operator o%d %s\n", i, keys.OperatorPublic{1, byte(i)})
	}
	for i := range MaxRuleGroups + 1 {
		fmt.Fprintf(&groups, "group g%d any A\n", i)
	}
	for _, c := range []struct{ text, want string }{
		{"", "it is empty; the first line is \"parallax policy 1\""},
		{"# nothing\n\n", "it is empty"},
		{"policy 1\n", "line 1: not a policy text: want \"parallax policy 1\""},
		{"parallax policy 01\n", "line 1: not a policy text: want"},
		{"parallax policy 0\n", "line 1: not a policy text: want"},
		{"parallax policy x\n", "line 1: not a policy text: want"},
		{ruleText("AB"), "it ends without a quorum line"},
		{ruleText("A", "quorum A", "quorum A"), "line 4: not a policy text: \"quorum\" stands after the quorum line"},
		{ruleText("A", "member A"), "line 3: not a policy text: unknown word \"member\""},
		{ruleText("A", "operator B"), "line 3: not a policy text: want operator NAME KEY, got 2 words"},
		{ruleText("A", "operator B 00"), "the key of operator \"B\" is not 64 hex digits"},
		{ruleText("A", "operator B "+strings.Repeat("AB", 32)), "the key of operator \"B\" is not 64 hex digits in lower case"},
		{ruleText("A", "operator B "+keys.OperatorPublic{'A'}.String()), "line 3: not a policy text: operator \"B\" has the key of operator \"A\""},
		{ruleText("AA"), "has the key of operator \"A\""},
		{ruleText("A", "operator A "+keys.OperatorPublic{'B'}.String()), "line 3: not a policy text: \"A\" is defined twice"},
		{ruleText("A", "operator 1A "+keys.OperatorPublic{'B'}.String()), "the name \"1A\": want a letter"},
		{ruleText("A", "group "+strings.Repeat("n", 33)+" any A"), "at most 32 bytes"},
		{ruleText("A", "group X any"), "line 3: not a policy text: want group NAME NEEDS MEMBER..., got 3 words"},
		{ruleText("A", "group X any B"), "line 3: not a policy text: group \"X\" names \"B\", which no earlier line defines"},
		{ruleText("A", "group X any X"), "group \"X\" names \"X\", which no earlier line defines"},
		{ruleText("A", "group X any A A"), "group \"X\" names \"A\" twice"},
		{ruleText("AB", "group X some A B"), "group \"X\" needs \"some\": want a number, any, majority or all"},
		{ruleText("AB", "group X 0 A B"), "group \"X\" needs 0 of its 2 members: want 1 to 2"},
		{ruleText("AB", "group X 3 A B"), "group \"X\" needs 3 of its 2 members: want 1 to 2"},
		{ruleText("AB", "group X 02 A B"), "group \"X\" needs \"02\""},
		{ruleText("AB", "group X -1 A B"), "group \"X\" needs \"-1\""},
		{ruleText("A", "quorum"), "want quorum NAME, got 1 words"},
		{ruleText("A", "quorum B"), "line 3: not a policy text: the quorum is \"B\", which no earlier line defines"},
		{ruleText("AB", "quorum A"), "line 4: not a policy text: \"B\" counts nowhere towards the quorum"},
		{ruleText("AB", "group X all A B", "group Y any A", "quorum X"), "\"Y\" counts nowhere"},
		{ruleText("A", "quorum A\r"), "line 3: a character other than printable ASCII, space and tab at byte 9"},
		{ruleText("A", "quorum Ä"), "at byte 8"},
		{"parallax policy 1\n" + operators.String(), "line 22: not a policy text: more than 20 operators"},
		{ruleText("A") + groups.String(), "line 35: not a policy text: more than 32 groups"},
		{ruleText("A") + many(1000, "# bla bla"), "bytes, at most 8192"},
	} {
		_, err := ParseRule(c.text)
		if !errors.Is(err, ErrRule) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
	if _, err := ParseRule("parallax policy 2\nanything"); !errors.Is(err, ErrRuleFormat) || !strings.Contains(err.Error(), "line 1") {
		t.Error(err)
	}
}

// drawRule is the text of any rule over 1 to 6 operators.
func drawRule(t *rapid.T) (string, string) {
	names := "ABCDEF"[:rapid.IntRange(1, 6).Draw(t, "operators")]
	free := strings.Split(names, "")
	text := ruleText(names)
	for i := 0; len(free) > 1; i++ {
		n := rapid.IntRange(2, len(free)).Draw(t, "members")
		text += fmt.Sprintf("group g%d %d %s\n", i, rapid.IntRange(1, n).Draw(t, "needs"), strings.Join(free[:n], " "))
		free = append(free[n:], fmt.Sprintf("g%d", i))
	}
	return text + "quorum " + free[0] + "\n", names
}

// A rule is monotone, a family never makes more sets enough unless it makes the
// rule unreachable, all are always enough and nobody never, and its text says
// all of it.
func TestRuleLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, names := drawRule(t)
		r, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRule(r.Text())
		if err != nil || again.Text() != r.Text() {
			t.Fatalf("%v:\n%s\nfrom\n%s", err, again.Text(), r.Text())
		}
		p, q := r.Policy(), again.Policy()
		for range names {
			p.Families = append(p.Families, Family{byte(rapid.IntRange(0, 3).Draw(t, "family"))})
		}
		all := newVoters(p)
		set := uint32(rapid.IntRange(0, 1<<len(names)-1).Draw(t, "set"))
		chosen := func(set uint32) (o []keys.OperatorPublic) {
			for i := range names {
				if set>>i&1 == 1 {
					o = append(o, p.Operators[i])
				}
			}
			return o
		}
		if p.Sufficient(nil) || !p.Sufficient(p.Operators) {
			t.Fatal("nobody is enough, or all are not")
		}
		plain := p
		plain.Families = nil
		enough := p.Sufficient(chosen(set))
		if enough && all.leftCan && !plain.Sufficient(chosen(set)) {
			t.Fatal("a family made more sets enough")
		}
		if plain.Sufficient(chosen(set)) != q.Sufficient(chosen(set)) || plain.Sufficient(chosen(set)) != r.holds(set) {
			t.Fatal("the text says another rule")
		}
		for rest := ^set & (1<<len(names) - 1); enough && rest != 0; rest &= rest - 1 {
			if !p.Sufficient(chosen(set | rest&-rest)) {
				t.Fatal("more operators are less")
			}
		}
		if enough && bits.OnesCount32(set) < p.Needed() {
			t.Fatalf("%d operators are enough, needed are %d", bits.OnesCount32(set), p.Needed())
		}
	})
}

// A plain group with a threshold is the policy with that quorum, families and
// paths set aside included.
func TestRuleIsQuorum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := "ABCDE"[:rapid.IntRange(1, 5).Draw(t, "operators")]
		needs := rapid.IntRange(1, len(names)).Draw(t, "needs")
		r, err := ParseRule(ruleText(names, fmt.Sprintf("group x %d %s", needs, strings.Join(strings.Split(names, ""), " ")), "quorum x"))
		if err != nil {
			t.Fatal(err)
		}
		byRule := r.Policy()
		for range names {
			byRule.Families = append(byRule.Families, Family{byte(rapid.IntRange(0, 3).Draw(t, "family"))})
		}
		byNumber := byRule
		byNumber.Rule, byNumber.Quorum = nil, needs
		a, b := NewLedger(byRule), NewLedger(byNumber)
		s := Admission(digest(1))
		for range 8 {
			p, verb := Path(rapid.IntRange(0, len(names)-1).Draw(t, "path")), rapid.IntRange(0, 2).Draw(t, "verb")
			for _, l := range []*Ledger{a, b} {
				switch verb {
				case 0:
					l.Claim(t0, p, s, digest(1))
				case 1:
					l.Absent(t0, p, s)
				case 2:
					l.SetAside(p, true)
				}
			}
			x, y := a.Report(s), b.Report(s)
			if !x.equal(&y) {
				t.Fatalf("by rule %s, by number %s", brief(x), brief(y))
			}
		}
		set := rapid.SliceOfN(rapid.Bool(), len(names), len(names)).Draw(t, "set")
		in := func(p Path) bool { return set[p] }
		if a.Needed() != b.Needed() || a.Enough(in) != b.Enough(in) || a.Count(in) != b.Count(in) {
			t.Fatalf("by rule %d needed, %v enough, %d; by number %d, %v, %d", a.Needed(), a.Enough(in), a.Count(in), b.Needed(), b.Enough(in), b.Count(in))
		}
		if byNumber.Quorum = byNumber.Needed(); byRule.Reachable() && byRule.Shares(all(names)) != byNumber.Shares(all(names)) {
			t.Fatalf("%d shares by rule, %d by number", byRule.Shares(all(names)), byNumber.Shares(all(names)))
		}
		if byRule.Needed() != byNumber.Needed() {
			t.Fatalf("needed %d by rule, %d by number", byRule.Needed(), byNumber.Needed())
		}
	})
}

func all(names string) (paths []Path) {
	for i := range names {
		paths = append(paths, Path(i))
	}
	return paths
}

// Operators who are not enough never have the k shares of a first contact, and
// with k - 1 some such operators are met.
func TestShares(t *testing.T) {
	rule := parsed(t, ruleText("ABCD", "group x any A B", "group y 2 x C D", "quorum y"))
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		if p.Strict = false; rapid.Bool().Draw(t, "rule") {
			p = rule.Policy()
			p.Operators = append(p.Operators, p.Operators[rapid.IntRange(0, 3).Draw(t, "again")])
			p.Families = []Family{{byte(rapid.IntRange(0, 2).Draw(t, "family"))}, {}, {1}}
		}
		var over []Path
		for i := range p.Operators {
			if rapid.IntRange(0, 3).Draw(t, "in") > 0 {
				over = append(over, Path(i))
			}
		}
		k := p.Shares(over)
		if !p.Reachable() {
			if k != len(over) {
				t.Fatalf("%d of %d where not even all are enough", k, len(over))
			}
			return
		}
		met := k <= 1
		for set := range 1 << len(p.Operators) {
			var who []keys.OperatorPublic
			for i, o := range p.Operators {
				if set>>i&1 == 1 {
					who = append(who, o)
				}
			}
			has := 0
			for _, at := range over {
				if slices.Contains(who, p.Operators[at]) {
					has++
				}
			}
			if short := !p.Sufficient(who); short && has >= k && k < len(over) {
				t.Fatalf("%d paths of operators who are not enough, k is %d of %d", has, k, len(over))
			} else if short && has == k-1 || has == len(over) {
				met = true
			}
		}
		if !met && len(over) > 0 {
			t.Fatalf("k is %d of %d: more than it takes", k, len(over))
		}
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add(ruleText("ABCDE", "group eu 2 A B C", "group us any D E", "group both all eu us", "quorum both"))
	f.Add(ruleText("A", "quorum A # alone"))
	f.Add("parallax policy 2")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			if !errors.Is(err, ErrRule) && !errors.Is(err, ErrRuleFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseRule(r.Text())
		if err != nil || again.Text() != r.Text() {
			t.Fatalf("%v:\n%s", err, r.Text())
		}
		if n := uint32(1)<<len(r.operators) - 1; !r.holds(n) || r.holds(0) {
			t.Fatal("all are not enough, or nobody is")
		}
	})
}
