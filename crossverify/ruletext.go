package crossverify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"parallax/internal/keys"
)

const (
	ruleFormat = 1
	ruleTitle  = "parallax policy "
)

// Errors of ParseRule.
var (
	// ErrRule: the text is not a rule; the error names line and cause.
	ErrRule = errors.New("not a policy text")
	// ErrRuleFormat: the text has a newer format than this one.
	ErrRuleFormat = errors.New("a policy text of a newer format")
)

// Text is the rule in the form of section 9.1, thresholds as numbers, operators
// before groups. ParseRule reads it back.
func (r *Rule) Text() string {
	var t strings.Builder
	fmt.Fprintf(&t, "%s%d\n", ruleTitle, ruleFormat)
	for _, o := range r.operators {
		fmt.Fprintf(&t, "operator %s %s\n", o.name, o.key)
	}
	for _, g := range r.groups {
		fmt.Fprintf(&t, "group %s %d", g.name, g.needs)
		for _, m := range g.members {
			t.WriteString(" " + r.name(m))
		}
		t.WriteByte('\n')
	}
	fmt.Fprintf(&t, "quorum %s\n", r.name(r.quorum))
	return t.String()
}

// equal tells whether two rules, or nil for none, say the same in the same words.
func (r *Rule) equal(o *Rule) bool {
	return r == o || r != nil && o != nil && r.Text() == o.Text()
}

func (r *Rule) name(member int) string {
	if member < len(r.operators) {
		return r.operators[member].name
	}
	return r.groups[member-len(r.operators)].name
}

// ParseRule reads the form of section 9.1: a title with the format number, then
// lines of words; blank lines and what follows a # are skipped.
//
//	parallax policy 1
//	operator NAME KEY             # 64 hex digits, lower case
//	group NAME NEEDS MEMBER...    # NEEDS: a number, any, majority or all
//	quorum NAME                   # the last line
//
// A name stands for one operator or group, is defined before it is used, and
// every one must count towards the quorum. The error is ErrRule or
// ErrRuleFormat and names the line.
func ParseRule(text string) (*Rule, error) {
	if len(text) > MaxRuleText {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrRule, len(text), MaxRuleText)
	}
	p := ruleParser{names: map[string]int{}}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if bad := strings.IndexFunc(line, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') }); bad >= 0 {
			return nil, fmt.Errorf("%w: line %d: a character other than printable ASCII, space and tab at byte %d", ErrRule, i+1, bad+1)
		}
		if words := strings.Fields(line); len(words) > 0 {
			if err := p.line(words); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	switch {
	case !p.titled:
		return nil, fmt.Errorf("%w: it is empty; the first line is %q", ErrRule, ruleTitle+strconv.Itoa(ruleFormat))
	case !p.done:
		return nil, fmt.Errorf("%w: it ends without a quorum line", ErrRule)
	}
	return p.rule(), nil
}

// ruleParser numbers names in the order of their lines; rule renumbers.
type ruleParser struct {
	titled, done bool
	names        map[string]int // of a definition in defs
	defs         []ruleDef
	groups       int
	quorum       int
}

type ruleDef struct {
	ruleGroup // of an operator: its name alone
	key       keys.OperatorPublic
	group     bool
}

func (p *ruleParser) line(words []string) error {
	bad := func(what string, args ...any) error { return fmt.Errorf("%w: %s", ErrRule, fmt.Sprintf(what, args...)) }
	if !p.titled {
		number, ok := strings.CutPrefix(strings.Join(words, " "), ruleTitle)
		format, err := strconv.ParseUint(number, 10, 32)
		switch {
		case !ok || err != nil || format == 0 || number != strconv.FormatUint(format, 10):
			return bad("want %q, the title with the format number", ruleTitle+strconv.Itoa(ruleFormat))
		case format > ruleFormat:
			return fmt.Errorf("%w: format %d, this version reads %d", ErrRuleFormat, format, ruleFormat)
		}
		p.titled = true
		return nil
	}
	if p.done {
		return bad("%q stands after the quorum line, which is the last one", words[0])
	}
	switch words[0] {
	case "operator":
		if len(words) != 3 {
			return bad("want operator NAME KEY, got %d words", len(words))
		}
		if len(p.defs)-p.groups == MaxRuleOperators {
			return bad("more than %d operators", MaxRuleOperators)
		}
		d := ruleDef{ruleGroup: ruleGroup{name: words[1]}}
		key, err := hex.DecodeString(words[2])
		if err != nil || len(key) != len(d.key) || words[2] != strings.ToLower(words[2]) {
			return bad("the key of operator %q is not %d hex digits in lower case", words[1], 2*len(d.key))
		}
		d.key = keys.OperatorPublic(key)
		for _, o := range p.defs {
			if !o.group && o.key == d.key {
				return bad("operator %q has the key of operator %q", d.name, o.name)
			}
		}
		return p.define(d)
	case "group":
		if len(words) < 4 {
			return bad("want group NAME NEEDS MEMBER..., got %d words", len(words))
		}
		if p.groups == MaxRuleGroups {
			return bad("more than %d groups", MaxRuleGroups)
		}
		d := ruleDef{ruleGroup: ruleGroup{name: words[1]}, group: true}
		for _, name := range words[3:] {
			m, ok := p.names[name]
			if !ok {
				return bad("group %q names %q, which no earlier line defines", d.name, name)
			}
			if slices.Contains(d.members, m) {
				return bad("group %q names %q twice", d.name, name)
			}
			d.members = append(d.members, m)
		}
		all := len(d.members)
		switch words[2] {
		case "any":
			d.needs = 1
		case "majority":
			d.needs = all/2 + 1
		case "all":
			d.needs = all
		default:
			n, err := strconv.ParseUint(words[2], 10, 16)
			if err != nil || words[2] != strconv.FormatUint(n, 10) {
				return bad("group %q needs %q: want a number, any, majority or all", d.name, words[2])
			}
			if n < 1 || int(n) > all {
				return bad("group %q needs %d of its %d members: want 1 to %d", d.name, n, all, all)
			}
			d.needs = int(n)
		}
		p.groups++
		return p.define(d)
	case "quorum":
		if len(words) != 2 {
			return bad("want quorum NAME, got %d words", len(words))
		}
		m, ok := p.names[words[1]]
		if !ok {
			return bad("the quorum is %q, which no earlier line defines", words[1])
		}
		counts := make([]bool, len(p.defs)) // towards the quorum
		counts[m] = true
		for i := len(p.defs) - 1; i >= 0; i-- { // members stand before their groups
			if !counts[i] {
				return bad("%q counts nowhere towards the quorum: name it in a group or take it out", p.defs[i].name)
			}
			for _, m := range p.defs[i].members {
				counts[m] = true
			}
		}
		p.quorum, p.done = m, true
		return nil
	}
	return bad("unknown word %q: want operator, group or quorum", words[0])
}

func (p *ruleParser) define(d ruleDef) error {
	ok := len(d.name) > 0 && len(d.name) <= MaxRuleName
	for i, c := range []byte(d.name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		ok = ok && (letter || i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'))
	}
	if !ok {
		return fmt.Errorf("%w: the name %q: want a letter, then letters, digits, - _ or ., at most %d bytes", ErrRule, d.name, MaxRuleName)
	}
	if _, had := p.names[d.name]; had {
		return fmt.Errorf("%w: %q is defined twice", ErrRule, d.name)
	}
	p.names[d.name] = len(p.defs)
	p.defs = append(p.defs, d)
	return nil
}

// rule numbers the operators before the groups, each in the order of lines.
func (p *ruleParser) rule() *Rule {
	r := new(Rule)
	number := make([]int, len(p.defs))
	for i, d := range p.defs {
		if !d.group {
			number[i] = len(r.operators)
			r.operators = append(r.operators, ruleOperator{d.name, d.key})
		}
	}
	for i, d := range p.defs {
		if d.group {
			number[i] = len(r.operators) + len(r.groups)
			for j, m := range d.members {
				d.members[j] = number[m]
			}
			r.groups = append(r.groups, d.ruleGroup)
		}
	}
	r.quorum = number[p.quorum]
	return r
}
