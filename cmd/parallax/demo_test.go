package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"parallax/crossverify"
	"parallax/internal/cli"
	"parallax/internal/keys"
)

var allScenes = flag.Bool("long", false, "play all scenes of the demo, not the first ones alone")

// playDemo runs the command as the shell would; the summary is of --json.
func playDemo(t *testing.T, args ...string) (code int, events []map[string]any, sum demoSummary) {
	t.Helper()
	var out, talk bytes.Buffer
	s := &cli.Streams{In: strings.NewReader(""), Out: &out, Err: &talk}
	code = cli.Run(newRoot(s), s, append([]string{"demo", "--json", "--keep", filepath.Join(t.TempDir(), "kept")}, args...))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q is not JSON: %v (%s)", line, err, talk.String())
		}
		events = append(events, e)
	}
	var last struct{ Summary *demoSummary }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Summary == nil {
		t.Fatalf("the last line has no summary: %s (%s)", lines[len(lines)-1], talk.String())
	}
	if code != cli.OK {
		t.Errorf("exit code %d: %v", code, last.Summary.Failures)
	}
	return code, events, *last.Summary
}

// counts are the parts of a summary that a scene decides.
type demoCounts struct {
	substitutions, detected, leaked, refused, evidence int
}

func checkDemo(t *testing.T, s demoSummary, want demoCounts) {
	t.Helper()
	got := demoCounts{s.Substitutions, s.Detected, s.Leaked, s.SameSeatRefused, 0}
	convicted := map[string]bool{}
	for _, f := range s.EvidenceFiles {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		e, err := crossverify.ParseEvidence(string(text))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if _, err := e.Check(keys.Ed25519); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		convicted[strings.Split(filepath.Base(f), "-")[0]] = true
	}
	got.evidence = len(convicted)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s.Sent == 0 || s.Expected == 0 || s.Delivered != s.Expected || s.FalseAlarms != 0 || s.ConvictedHonest != 0 || !s.OK || len(s.Failures) != 0 {
		t.Errorf("summary %+v", s)
	}
	for _, r := range s.Relays {
		if !r.Lied && (r.Dissented != 0 || r.Failed != 0) {
			t.Errorf("honest relay %s: %+v", r.Relay, r)
		}
		if r.Matched == 0 {
			t.Errorf("relay %s matched nothing", r.Relay)
		}
	}
}

// TestDemo plays the default scene: three relays, five members and a newcomer,
// one liar.
func TestDemo(t *testing.T) {
	_, events, sum := playDemo(t)
	checkDemo(t, sum, demoCounts{substitutions: 1, detected: 1, refused: 1, evidence: 1})
	if sum.Sent != 11 || sum.Expected != 48 {
		t.Errorf("%d messages, %d deliveries expected; want 11 and 48", sum.Sent, sum.Expected)
	}
	if r := sum.Relays[1]; !r.Lied || r.Dissented == 0 {
		t.Errorf("the liar: %+v", r)
	}
	alarm := slices.IndexFunc(events, func(e map[string]any) bool { return e["event"] == "alarm" })
	if alarm < 0 || events[alarm]["relay"] != "R2" || events[alarm]["member"] != demoNewcomer {
		t.Fatalf("no alarm at %s that names R2: %v", demoNewcomer, events)
	}
}

// TestDemoMajority: liars that are a majority can admit a seat by themselves.
// It is noticed, and what leaked meanwhile is counted.
func TestDemoMajority(t *testing.T) {
	_, _, sum := playDemo(t, "--relays", "3", "--lying", "2")
	leaked := sum.Leaked
	sum.Leaked = 0
	checkDemo(t, sum, demoCounts{substitutions: 1, detected: 1, refused: 2, evidence: 2})
	if leaked != 1 {
		t.Errorf("%d messages leaked; the false seat counts by the rule of 2 of 3, so 1 is expected", leaked)
	}
}

// TestDemoAlone plays for people: one relay, nothing compared, plain text.
func TestDemoAlone(t *testing.T) {
	var out, talk bytes.Buffer
	s := &cli.Streams{In: strings.NewReader(""), Out: &out, Err: &talk}
	if code := cli.Run(newRoot(s), s, []string{"demo", "--relays", "1"}); code != cli.OK {
		t.Fatalf("exit code %d: %s\n%s", code, talk.String(), out.String())
	}
	for _, want := range []string{"With one relay nothing is compared", "Security code of the group", "Summary", "Every message arrived"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		if strings.Contains(line, "\x1b") {
			t.Errorf("colour without a terminal: %q", line)
		}
	}
	folder := strings.Split(strings.Split(out.String(), "Folder: ")[1], ";")[0]
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder %s was not deleted: %v", folder, err)
	}
}

// TestDemoScenes plays the other scenes.
func TestDemoScenes(t *testing.T) {
	scenes := []struct {
		args string
		want demoCounts
	}{
		{"--relays 5 --members 12 --lying 2", demoCounts{1, 1, 0, 2, 2}},
		{"--relays 3 --lying 2 --strict", demoCounts{1, 1, 0, 2, 2}},
		{"--strict", demoCounts{1, 1, 0, 1, 1}},
		{"--relays 2", demoCounts{1, 1, 0, 1, 1}},
		{"--relays 4 --lying 2", demoCounts{1, 1, 0, 2, 2}},
		{"--lying 0", demoCounts{}},
		{"--lying 0 --strict", demoCounts{}},
	}
	if !*allScenes {
		scenes = scenes[:2]
	}
	for _, c := range scenes {
		t.Run(c.args, func(t *testing.T) {
			_, _, sum := playDemo(t, strings.Fields(c.args)...)
			checkDemo(t, sum, c.want)
		})
	}
}

// TestDemoRefuses: scenes that cannot be played are refused before anything
// starts.
func TestDemoRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--lying", "3"}, "nothing is left to compare"},
		{[]string{"--lying", "-1"}, "0 or more"},
		{[]string{"--relays", "0"}, "1 to 16 relays"},
		{[]string{"--relays", "17"}, "1 to 16 relays"},
		{[]string{"--members", "3"}, "4 to 16 members"},
		{[]string{"--keep", full}, "not empty"},
		{[]string{"more"}, "takes no arguments"},
	} {
		var out, talk bytes.Buffer
		s := &cli.Streams{In: strings.NewReader(""), Out: &out, Err: &talk}
		code := cli.Run(newRoot(s), s, append([]string{"demo"}, c.args...))
		if code != cli.Usage || !strings.Contains(talk.String(), c.want) || out.Len() > 0 {
			t.Errorf("demo %v: exit code %d, %q, %q; want %q", c.args, code, out.String(), talk.String(), c.want)
		}
	}
}

// TestDemoQuorum: the rule of the scene is that of the group.
func TestDemoQuorum(t *testing.T) {
	for _, c := range []struct {
		o        demoOptions
		need     int
		survives bool
	}{
		{demoOptions{relays: 3, lying: 1}, 2, true},
		{demoOptions{relays: 3, lying: 2}, 2, false},
		{demoOptions{relays: 3, lying: 1, strict: true}, 3, false},
		{demoOptions{relays: 2, lying: 1}, 2, false},
		{demoOptions{relays: 5, lying: 2}, 3, true},
		{demoOptions{relays: 1}, 1, true},
	} {
		if c.o.need() != c.need || c.o.survives() != c.survives {
			t.Errorf("%+v: need %d, survives %v; want %d, %v", c.o, c.o.need(), c.o.survives(), c.need, c.survives)
		}
	}
}

func TestDemoWrap(t *testing.T) {
	for line := range strings.SplitSeq(demoWrap(strings.Repeat("word ", 60), "   | "), "\n") {
		if !strings.HasPrefix(line, "   | word") || len(line) > demoWidth {
			t.Errorf("line %q", line)
		}
	}
}
