package simnet

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the answers into the files of testdata")

// TestScripts runs the files of testdata that are no attack of the catalogue:
// blocks of directives, then "----", then what they answer, which must be the
// same on every run.
func TestScripts(t *testing.T) {
	for name, file := range scripts(t) {
		if attack, _, _ := strings.Cut(name, "-"); catalogue[attack] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden(t, file)
		})
	}
}

// scripts are the files of testdata by their names.
func scripts(t *testing.T) map[string]string {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	out := map[string]string{}
	for _, file := range files {
		out[strings.TrimSuffix(filepath.Base(file), ".txt")] = file
	}
	return out
}

// golden runs one file and compares its answers with those in it.
func golden(t *testing.T, file string) *Script {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	x, got := runScript(t, string(want))
	if got != string(want) && *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(want) {
		t.Errorf("%s answers otherwise (go test ./simnet -run 'TestScripts|TestAttacks' -rewrite takes it over):\n%s", file, difference(string(want), got))
	}
	return x
}

// runScript returns the file with the answers of this run.
func runScript(t *testing.T, text string) (*Script, string) {
	x := NewScript(nil)
	if testing.Verbose() {
		x = NewScript(func(line string) { t.Log(line) })
	}
	var out []string
	for _, block := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		commands, _, _ := strings.Cut(block+"\n", "\n----\n")
		commands = strings.TrimRight(commands, "\n")
		var answers []string
		asked := false
		for _, line := range strings.Split(commands, "\n") {
			if strings.HasPrefix(line, "#") || line == "" {
				continue
			}
			asked = true
			a, err := x.Do(line)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if a = strings.Trim(a, "\n"); a != "" {
				answers = append(answers, a)
			}
		}
		switch {
		case !asked:
			out = append(out, commands)
		case len(answers) == 0:
			out = append(out, commands+"\n----\nok")
		default:
			out = append(out, commands+"\n----\n"+strings.Join(answers, "\n"))
		}
	}
	return x, strings.Join(out, "\n\n") + "\n"
}

// difference shows the lines that differ, with the line before them.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	shown := 0
	for i := range max(len(w), len(g)) {
		at := func(l []string) string {
			if i < len(l) {
				return l[i]
			}
			return ""
		}
		if at(w) == at(g) {
			continue
		}
		b.WriteString("- " + at(w) + "\n+ " + at(g) + "\n")
		if shown++; shown == 30 {
			b.WriteString("...\n")
			break
		}
	}
	return b.String()
}

func TestSplit(t *testing.T) {
	w, err := split(`send alice "two words" wait=all strict`)
	if err != nil || strings.Join(w.args, "|") != "send|alice|two words|strict" || w.named["wait"] != "all" {
		t.Errorf("%v %v %v", w.args, w.named, err)
	}
	if _, err := split(`send "no end`); err == nil {
		t.Error("a quote without an end was taken")
	}
}

func TestUnknownDirective(t *testing.T) {
	for _, line := range []string{"dance", "crash nobody", "lie 1 alter victim=nobody", "lie 9 alter", "run soon"} {
		if _, err := NewScript(nil).Do(line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}
