package crossverify

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"parallax/internal/needs"
)

// TestModel verifies the Spin models of evidence and of open facts, and that
// every switch that weakens a rule breaks a claim: a model that cannot fail
// says nothing. The table that the model of open facts prints is what the Ledger
// does (TestModelLedger), and what T3 says.
func TestModel(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		needs.Tool(t, tool, "the models were not verified (Debian, Ubuntu: apt-get install spin gcc)")
	}
	for name, switches := range map[string]int{"evidence.pml": 12, "open.pml": 8} {
		source, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := verify(t, string(source), "-O1")
			if !strings.Contains(out, "errors: 0") || strings.Contains(out, "max search depth") || strings.Contains(out, "not completed") {
				t.Errorf("the model does not hold:\n%s", out)
			}
			if name == "open.pml" {
				compareTables(t, "the model", modelTable(t, out))
			}
		})
		found := regexp.MustCompile(`(?m)^#define ([A-Z_]+) +0 `).FindAllStringSubmatchIndex(string(source), -1)
		if len(found) != switches {
			t.Errorf("found %d switches in %s, want %d", len(found), name, switches)
		}
		for _, at := range found {
			weak := string(source[at[2]:at[3]])
			mutated := string(source[:at[1]-2]) + "1" + string(source[at[1]-1:])
			t.Run(name+"/"+weak, func(t *testing.T) {
				t.Parallel()
				if out := verify(t, mutated, "-O0"); !strings.Contains(out, "assertion violated") {
					t.Errorf("the model holds although %s is set:\n%s", weak, out)
				}
			})
		}
	}
}

// modelTable reads what open.pml prints: the first time it reached an outcome.
func modelTable(t *testing.T, out string) table {
	m := closedForm()
	for c := range m {
		m[c] = outcome{true, true, true}
	}
	for _, line := range regexp.MustCompile(`(?m)^table (\w+) (\d) (\d) (\d)$`).FindAllStringSubmatch(out, -1) {
		c := setting{int(line[2][0] - '0'), int(line[3][0] - '0'), int(line[4][0] - '0')}
		o, known := m[c]
		if !known {
			t.Errorf("a setting that is not one: %s", line[0])
		}
		switch line[1] {
		case "forged":
			o.safe = false
		case "stuck":
			o.live = false
		case "together":
			o.together = false
		}
		m[c] = o
	}
	return m
}

// verify runs one model to its end or first error and returns the report.
func verify(t *testing.T, model, optimise string) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "evidence.pml"), []byte(model), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("spin", "-a", "evidence.pml")
	run("gcc", optimise, "-w", "-DSAFETY", "-DNOREDUCE", "-o", "pan", "pan.c")
	// -E: a run that reaches the model's bounds simply ends.
	return run("./pan", "-E", "-m1000000", "-w20")
}
