package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/internal/store"
	"parallax/node"
)

// answers is a node that answers each kind of wish with what a test says.
type answers struct {
	groups []node.Membership
	status member.Status
	now    func() member.Status // in place of status, if there is one
	other  map[string]any       // by wish; an error is one
	asked  []member.Wish
}

func (a *answers) Do(_ context.Context, r node.Request) (node.Result, error) {
	a.asked = append(a.asked, r.Wish)
	switch r.Wish.(type) {
	case node.ListGroups:
		return a.groups, nil
	case member.GetStatus:
		if a.now != nil {
			return a.now(), nil
		}
		return a.status, nil
	}
	if err, ok := a.other[r.Wish.Wish()].(error); ok {
		return nil, err
	}
	return a.other[r.Wish.Wish()], nil
}

func (a *answers) Events(context.Context, string, uint64) iter.Seq2[member.Event, error] {
	return func(func(member.Event, error) bool) {}
}

func (a *answers) Close() error { return nil }

func group(name, unit, id string) node.Membership {
	return node.Membership{Name: name, Unit: unit, ID: id, Ready: true}
}

// threeRelays is the status of a group that caught up.
func threeRelays() member.Status {
	s := member.Status{Ready: true, Quorum: 2}
	for i := range 3 {
		s.Relays = append(s.Relays, member.RelayStatus{Label: fmt.Sprintf("R%d", i+1), Connected: true, CaughtUp: true})
	}
	return s
}

func newApp() (a *app, out, talk *strings.Builder) {
	out, talk = new(strings.Builder), new(strings.Builder)
	return &app{Streams: &cli.Streams{In: strings.NewReader(""), Out: out, Err: talk}}, out, talk
}

func TestPick(t *testing.T) {
	broken := node.Membership{Unit: "bb", Err: &store.CorruptError{Path: "bb/store/MANIFEST-000001", Err: errors.New("short")}}
	list := []node.Membership{group("climbers", "aa", "0123456789"), group("climb", "cc", "4444440000"), group("Alps", "dd", "0123abcdef"), broken}
	for _, c := range []struct {
		list []node.Membership
		name string
		unit string
		want error
		code int
	}{
		{list, "climbers", "aa", nil, 0},
		{list, "climb", "cc", nil, 0}, // the whole name of one, the beginning of another
		{list, "cl", "", member.ErrAmbiguous, cli.Usage},
		{list, "al", "dd", nil, 0}, // in any case
		{list, "dd", "dd", nil, 0},
		{list, "01234", "aa", nil, 0},
		{list, "0123", "", member.ErrAmbiguous, cli.Usage},
		{list, "012", "", errNotNamed, cli.Usage}, // too short for an id
		{list, "x", "", errNotNamed, cli.Usage},
		{list, "", "", nil, cli.Usage},
		{list[:1], "", "aa", nil, 0},
		{slices.Concat(list[:1], list[3:]), "", "aa", nil, 0}, // the broken one is in nobody's way
		{list[3:], "", "bb", broken.Err, cli.Data},
		{nil, "", "", node.ErrNoGroup, cli.Usage},
		{append(slices.Clone(list), group("climbers", "ee", "99999")), "climbers", "", member.ErrAmbiguous, cli.Usage},
	} {
		g, err := pick(c.list, c.name)
		if err == nil && g.Err != nil {
			err = g.Err
		}
		if g.Unit != c.unit || cli.ExitCode(err) != c.code || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%q: %q, %v (exit %d); want %q, %v, %d", c.name, g.Unit, err, cli.ExitCode(err), c.unit, c.want, c.code)
		}
	}
}

// TestSendExit: what a send ends with, by what became of the message.
func TestSendExit(t *testing.T) {
	one := []node.Membership{group("g", "aa", "0123")}
	two := append(slices.Clone(one), group("h", "bb", "4567"))
	for name, c := range map[string]struct {
		groups []node.Membership
		args   []string
		answer any
		code   int
		out    string
	}{
		"sent":         {one, []string{"hi"}, member.SentInfo{ID: "1f", Members: 2}, cli.OK, "1f\n"},
		"no session":   {one, []string{"hi"}, member.SentInfo{ID: "1f", Members: 1, Waiting: 1}, cli.Partial, "1f\n"},
		"held":         {one, []string{"hi"}, member.SentInfo{ID: "1f", Members: 1, Held: 1}, cli.Partial, "1f\n"},
		"no quorum":    {one, []string{"hi"}, fmt.Errorf("%w: 1 of 3", member.ErrUnreached), cli.Partial, ""},
		"outbox full":  {one, []string{"hi"}, member.ErrOutboxFull, cli.Quota, ""},
		"empty":        {one, []string{" "}, nil, cli.Usage, ""},
		"which group":  {two, []string{"hi"}, nil, cli.Usage, ""},
		"its name":     {two, []string{"h", "hi"}, member.SentInfo{ID: "2f"}, cli.OK, "2f\n"},
		"nothing read": {one, []string{"g"}, nil, cli.Usage, ""}, // the name alone: the text is on stdin, which is empty
	} {
		a, out, _ := newApp()
		err := a.send(t.Context(), &answers{groups: c.groups, status: threeRelays(), other: map[string]any{"send": c.answer}}, c.args, member.WaitQuorum)
		if cli.ExitCode(err) != c.code || out.String() != c.out {
			t.Errorf("%s: exit %d (%v), stdout %q; want %d, %q", name, cli.ExitCode(err), err, out, c.code, c.out)
		}
	}
}

func TestContestedCode(t *testing.T) {
	a, out, _ := newApp()
	code := strings.TrimSpace(strings.Repeat("01234 ", 12))
	c := &answers{groups: []node.Membership{group("g", "aa", "0123")}, status: threeRelays(),
		other: map[string]any{"code": member.CodeInfo{Code: code, Of: "Bob", Seats: 2}}}
	err := a.code(t.Context(), c, []string{"Bob"}, false)
	if cli.ExitCode(err) != cli.Contested || out.String() != strings.Repeat("01234 01234 01234 01234\n", 3) {
		t.Errorf("exit %d (%v)\n%s", cli.ExitCode(err), err, out)
	}
	if w := c.asked[len(c.asked)-1]; w != (member.GetCode{Member: "Bob"}) {
		t.Errorf("with one group a single argument is the member: asked %+v", w)
	}
}

func TestEvidenceShown(t *testing.T) {
	list := []member.EvidenceInfo{{ID: "ab12", Relay: "R2", Operator: "Op\x1b[2J", Sentence: "It signed two.", Text: "parallax evidence 1\n..."}}
	c := &answers{groups: []node.Membership{group("g", "aa", "0123")}, other: map[string]any{"evidence": list}}
	a, out, _ := newApp()
	if err := a.evidence(t.Context(), c, nil, ""); err != nil || !strings.Contains(out.String(), "ab12") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%v, %q", err, out)
	}
	file := filepath.Join(t.TempDir(), "e")
	if err := a.evidence(t.Context(), c, nil, file); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != list[0].Text {
		t.Errorf("saved %q, %v", raw, err)
	}
	if err := a.evidence(t.Context(), c, []string{"ab12"}, file); !errors.Is(err, os.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	c.other["evidence"] = []member.EvidenceInfo{}
	if err := a.evidence(t.Context(), c, nil, filepath.Join(t.TempDir(), "e")); cli.ExitCode(err) != cli.Usage {
		t.Errorf("saved what is not there: %v", err)
	}
}

// TestEventLines: what others wrote cannot pass for what this program says.
func TestEventLines(t *testing.T) {
	at := time.Date(2026, 11, 1, 9, 0, 0, 0, time.Local)
	a, out, _ := newApp()
	p := printer{app: a, relays: []string{"R1", "R2", "R3"}, until: 1, now: map[string]map[string]member.Mark{"1f": {"R1": "matched", "R2": "matched", "R3": "failed"}}}
	for _, e := range []member.Event{
		{Kind: member.EventMessage, Number: 1, Time: at, ID: "1f", Member: "Bob", Text: "one\n2026-11-01 09:00:00 Ann: forged\x1b[A"},
		{Kind: member.EventMessage, Number: 2, Time: at, ID: "2f", Own: true, Member: "Ann", Text: "late", Late: true, Marks: map[string]member.Mark{"R2": "matched", "R3": "silent"}},
		{Kind: member.EventJoined, Number: 3, Time: at, Text: "Cat is in the group: agreed on 3 of 3 relays."},
		{Kind: member.EventEvidence, Number: 4, Time: at, Text: "Relay R2 is convicted.", Evidence: "ab12"},
	} {
		if err := p.event(e); err != nil {
			t.Fatal(err)
		}
	}
	want := "2026-11-01 09:00:00 Bob: one\n    2026-11-01 09:00:00 Ann: forged\ufffd[A  ✓✓! 1f\n" +
		"2026-11-01 09:00:00 you (late): late  ·✓– 2f\n" +
		"2026-11-01 09:00:00 + Cat is in the group: agreed on 3 of 3 relays.\n" +
		"2026-11-01 09:00:00 ! Relay R2 is convicted. (parallax evidence ab12)\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// TestPathsShown: each status has a sign of its own, the verdict stands beside, and
// operators are counted, those of relays that are set aside left out.
func TestPathsShown(t *testing.T) {
	a, out, talk := newApp()
	err := a.paths(member.Paths{Relays: []string{"R1", "R2", "R3", "R4"}, Aside: []string{"R4"}, Messages: []member.PathsRow{
		{ID: "1f", Member: "Bob", Text: "one", Verdict: "agreed", Operators: 2, Of: 2, Digests: []string{"R3"},
			Marks: map[string]member.Mark{"R1": "matched", "R2": "silent", "R3": "matched", "R4": "matched"}},
		{ID: "2f", Member: "Cy", Text: "two", Verdict: "unconfirmed", Operators: 1, Of: 2,
			Marks: map[string]member.Mark{"R1": "matched", "R2": "dissented", "R3": "awaiting", "R4": "failed"}},
	}}, member.LocationsInfo{}, true)
	want := "message  from  R1  R2  R3  R4  verdict      operators  text\n" +
		"1f       Bob   ✓   –   =   ✓   agreed       2 of 2     one\n" +
		"2f       Cy    ✓   ✗   ·   !   unconfirmed  1 of 2     two\n"
	if err != nil || out.String() != want {
		t.Errorf("%v\n%swant\n%s", err, out, want)
	}
	for _, sign := range []string{"✓ the same", "✗ another", "! it did not open", "– nothing when", "· nothing yet", "= its digest", "R4 is set aside"} {
		if !strings.Contains(talk.String(), sign) {
			t.Errorf("%q is not explained in\n%s", sign, talk)
		}
	}
}

// TestTimesShown: how long each relay takes stands under its messages once it is
// known of one; before, and for one message, it does not.
func TestTimesShown(t *testing.T) {
	v := member.Paths{Relays: []string{"R1", "R2", "R3"}, Times: []member.PathTime{
		{Relay: "R1", Delays: 12, Usual: 40, Deadline: 2, Learned: true},
		{Relay: "R2", Delays: 64, Usual: 1350, Deadline: 90, Learned: true},
		{Relay: "R3", Deadline: 30},
	}}
	a, out, _ := newApp()
	if err := a.paths(v, member.LocationsInfo{}, false); err != nil || strings.Contains(out.String(), "usually") {
		t.Errorf("%v\n%s", err, out)
	}
	a, out, talk := newApp()
	want := "relay  usually after  silent after\n" +
		"R1     40 ms          2s            learned from 12 messages\n" +
		"R2     1.4 s          1m30s         learned from 64 messages\n" +
		"R3     ·              30s           the group's deadline; too few messages to learn from\n"
	if err := a.paths(v, member.LocationsInfo{}, true); err != nil || !strings.HasSuffix(out.String(), "\n\n"+want) || strings.Contains(talk.String(), "is learned while") {
		t.Errorf("%v\n%s\n%s", err, out, talk)
	}
	a, out, talk = newApp()
	v.Times = v.Times[2:]
	v.Times = append(v.Times, v.Times[0])
	if err := a.paths(v, member.LocationsInfo{}, true); err != nil || strings.Contains(out.String(), "usually") || !strings.Contains(talk.String(), "does not show 30s after another did") {
		t.Errorf("%v\n%s\n%s", err, out, talk)
	}
}

// TestLackingShown: what did not arrive is said calmly, and when it is asked for again.
func TestLackingShown(t *testing.T) {
	next := time.Date(2026, 11, 3, 9, 5, 0, 0, time.Local)
	v := member.Security{Lacks: []member.LackInfo{
		{State: member.LackMembers, Text: "2 messages of Bob\x1b are missing here.", Next: next},
		{State: member.LackWaits, Text: "1 message of Cy is missing here.", Next: next},
	}}
	v.Missing = 1
	want := []string{"2 messages of Bob\ufffd are missing here. They are asked again after 3 November 09:05, while parallax runs.",
		"1 message of Cy is missing here.", "1 message is known here by its digest alone, and was asked for. If it comes, it is shown. Nothing for you to do."}
	if got := lacking(v); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := lacking(member.Security{}); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}

// TestWords: comparing is not verifying, in any text of the commands: the word
// is for what a person compared.
func TestWords(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	texts := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || strings.HasPrefix(f, "demo") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				texts++
				rest := strings.NewReplacer(verifiedNow, "", verifiedBefore, "").Replace(strings.ToLower(lit.Value))
				if strings.Contains(rest, "verified") {
					t.Errorf("%s says %s", f, lit.Value)
				}
			}
			return true
		})
	}
	if texts < 100 {
		t.Errorf("%d texts were looked at", texts)
	}
}

// TestTally: what relays agree on and what people compared are counted apart.
func TestTally(t *testing.T) {
	of := func(n int, v member.Security) member.Security {
		v.Members = make([]member.MemberStatus, n)
		return v
	}
	for want, s := range map[string]member.Security{
		"2 members: 2 agreed by 3 operators, 1 verified in person, 0 contested":                     of(2, member.Security{Status: member.Status{Verified: 1}, Agreed: 2, Fewest: 3, Most: 3}),
		"3 members: 2 agreed by 2 to 3 operators, 1 unconfirmed, 0 verified in person, 0 contested": of(3, member.Security{Agreed: 2, Fewest: 2, Most: 3, Unconfirmed: 1}),
		"1 member: 0 agreed, 0 verified in person, 1 contested":                                     of(1, member.Security{Contested: 1}),
	} {
		if got := tally(s); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for want, m := range map[string]member.MemberStatus{
		"verified in person":                {Verified: &member.Verified{By: member.CodePair}, SameOn: "Cy"},
		"was verified under an earlier key": {Verified: &member.Verified{By: member.CodePair, Earlier: true}},
		"same on Cy\ufffd's device":         {SameOn: "Cy\a"},
		"":                                  {Verdict: "agreed"},
	} {
		if got := codesCell(m).Text; got != want {
			t.Errorf("cell %q, want %q", got, want)
		}
	}
}

// TestSplitCode: where the names end and the code begins.
func TestSplitCode(t *testing.T) {
	groups := strings.Fields(strings.Repeat("01234 ", 12))
	whole := strings.Join(groups, " ")
	for name, c := range map[string]struct {
		args  []string
		in    string
		names string
		code  string
	}{
		"one argument":        {[]string{"Bob", whole}, "", "Bob", whole},
		"twelve":              {append([]string{"Bob"}, groups...), "", "Bob", whole},
		"with the group":      {append([]string{"climbers", "Bob"}, groups...), "", "climbers Bob", whole},
		"too few":             {append([]string{"Bob"}, groups[:3]...), "", "Bob", "01234 01234 01234"},
		"a name with a digit": {[]string{"climbers", "4you", whole}, "", "climbers 4you", whole},
		"from stdin":          {[]string{"climbers", "4you", "-"}, whole + "\n", "climbers 4you", whole + "\n"},
		"code alone":          {[]string{"x"}, "", "", "x"},
	} {
		a, _, _ := newApp()
		a.In = strings.NewReader(c.in)
		names, code, err := a.splitCode(c.args)
		if err != nil || strings.Join(names, " ") != c.names || code != c.code {
			t.Errorf("%s: %q, %q, %v", name, names, code, err)
		}
	}
	a, _, _ := newApp()
	if _, _, err := a.splitCode([]string{"a", "b", "c", whole}); cli.ExitCode(err) != cli.Usage {
		t.Errorf("three names: %v", err)
	}
	a.In = strings.NewReader(strings.Repeat("1", 1<<20))
	if _, code, err := a.splitCode([]string{"Bob", "-"}); err != nil || len(code) != member.MaxCodeText+1 {
		t.Errorf("without end: %d, %v", len(code), err)
	}
}

// TestConfirmShown: what a person reads after a code that is the same, also for
// a seat that the relays do not agree on.
func TestConfirmShown(t *testing.T) {
	code := strings.TrimSpace(strings.Repeat("01234 ", 12))
	seat := strings.Repeat("ab", 32)
	one := []node.Membership{group("g", "aa", "0123")}
	for name, c := range map[string]struct {
		code  string
		group bool
		info  any
		want  []string
		exit  int
	}{
		"pair":         {code, false, member.ConfirmInfo{Member: "Bob\x1b[2J", Seat: seat, Usable: true, Verified: true}, []string{"no relay stands between you and Bob"}, cli.OK},
		"contested":    {code, false, member.ConfirmInfo{Member: "Bob", Seat: seat, Verdict: "contested", Verified: true}, []string{"do not agree on this seat (contested)", "nothing is sent to Bob"}, cli.OK},
		"group, typed": {code, true, member.ConfirmInfo{Member: "Bob", Seat: seat, Usable: true, Same: 2}, []string{"2 other members", "seat abab abab abab abab abab abab"}, cli.OK},
		"differs":      {code, false, member.ErrCodeDiffers, nil, cli.Contested},
		"not a code":   {"1234", false, nil, nil, cli.Usage},
	} {
		a, out, talk := newApp()
		n := &answers{groups: one, status: threeRelays(), other: map[string]any{"confirm": c.info}}
		err := a.confirm(t.Context(), n, []string{"Bob"}, c.code, c.group)
		if cli.ExitCode(err) != c.exit || (err == nil) != strings.HasPrefix(out.String(), "Bob") || strings.Contains(out.String()+talk.String(), "\x1b") {
			t.Errorf("%s: exit %d, %v\n%s%s", name, cli.ExitCode(err), err, out, talk)
		}
		for _, want := range c.want {
			if !strings.Contains(talk.String(), want) {
				t.Errorf("%s: %q is not in\n%s", name, want, talk)
			}
		}
		if c.exit == cli.OK && n.asked[len(n.asked)-1] != (member.ConfirmCode{Member: "Bob", Code: c.code, Group: c.group}) {
			t.Errorf("%s: asked %+v", name, n.asked)
		}
	}
	a, _, _ := newApp()
	if err := a.confirm(t.Context(), &answers{groups: one}, nil, code, true); cli.ExitCode(err) != cli.Usage {
		t.Errorf("of nobody: %v", err)
	}
}
