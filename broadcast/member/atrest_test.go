package member

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every kind of record that the package knows has its place in the table, once.
func TestKindsComplete(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	want := map[byte]string{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Names) != 1 || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "key") {
				return true
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.CHAR {
				r, _, _, err := strconv.UnquoteChar(strings.Trim(lit.Value, "'"), '\'')
				if err != nil {
					t.Fatal(err)
				}
				want[byte(r)] = v.Names[0].Name
			}
			return true
		})
	}
	if len(want) < 17 {
		t.Fatalf("only %d kinds found: the search is broken", len(want))
	}
	for _, k := range kinds {
		if want[k.kind] == "" {
			t.Errorf("kind %q stands in the table twice, or is no record", k.kind)
		}
		delete(want, k.kind)
	}
	for kind, name := range want {
		t.Errorf("%s (%q) has no line in the table of atrest.go: is it live ratchet state, does a backup hold it?", name, kind)
	}
}

func TestLiveKinds(t *testing.T) {
	for kind, want := range map[byte]bool{keySessions: true, keyVector: true, keyMeta: true, keyPrekeys: true, keyEvent: false, keyCounters: false, keyBundle: false, keyKept: false} {
		if slices.Contains(LiveKinds(), kind) != want {
			t.Errorf("kind %q is live: %v, want %v", kind, !want, want)
		}
	}
}
