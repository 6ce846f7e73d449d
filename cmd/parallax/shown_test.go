package main

import (
	"context"
	"errors"
	"fmt"
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
	other  map[string]any // by wish; an error is one
	asked  []member.Wish
}

func (a *answers) Do(_ context.Context, r node.Request) (node.Result, error) {
	a.asked = append(a.asked, r.Wish)
	switch r.Wish.(type) {
	case node.ListGroups:
		return a.groups, nil
	case member.GetStatus:
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
	want := "2026-11-01 09:00:00 Bob: one\n    2026-11-01 09:00:00 Ann: forged\ufffd[A  ✓✓✗ 1f\n" +
		"2026-11-01 09:00:00 you (late): late  ·✓· 2f\n" +
		"2026-11-01 09:00:00 + Cat is in the group: agreed on 3 of 3 relays.\n" +
		"2026-11-01 09:00:00 ! Relay R2 is convicted. (parallax evidence ab12)\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

// TestWords: comparing is not verifying, in any text of the commands.
func TestWords(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || strings.HasPrefix(f, "demo") {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(src)) {
			if code, _, _ := strings.Cut(line, "//"); strings.Contains(strings.ToLower(code), "verified") {
				t.Errorf("%s says %q", f, strings.TrimSpace(line))
			}
		}
	}
}
