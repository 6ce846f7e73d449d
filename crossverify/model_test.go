package crossverify

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestModel verifies the Spin model of evidence, and that every switch that
// breaks the relay or the checker breaks a claim: a model that cannot fail
// says nothing.
func TestModel(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so the evidence model was not verified (Debian, Ubuntu: apt-get install spin gcc)", tool)
		}
	}
	source, err := os.ReadFile("testdata/evidence.pml")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("holds", func(t *testing.T) {
		t.Parallel()
		out := verify(t, string(source), "-O1")
		if !strings.Contains(out, "errors: 0") || strings.Contains(out, "max search depth") || strings.Contains(out, "not completed") {
			t.Errorf("the model does not hold:\n%s", out)
		}
	})
	switches := regexp.MustCompile(`(?m)^#define ([A-Z_]+) +0 `).FindAllStringSubmatchIndex(string(source), -1)
	if len(switches) != 12 {
		t.Errorf("found %d switches in the model, want 12", len(switches))
	}
	for _, at := range switches {
		name := string(source[at[2]:at[3]])
		mutated := string(source[:at[1]-2]) + "1" + string(source[at[1]-1:])
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out := verify(t, mutated, "-O0"); !strings.Contains(out, "assertion violated") {
				t.Errorf("the model holds although %s is set:\n%s", name, out)
			}
		})
	}
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
