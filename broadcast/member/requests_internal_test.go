package member

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every sentinel of the package keeps its identity in an answer that is repeated
// after a restart.
func TestSentinelsComplete(t *testing.T) {
	var known []string
	for _, err := range sentinels {
		if slices.Contains(known, err.Error()) {
			t.Errorf("two sentinels say %q", err)
		}
		known = append(known, err.Error())
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Err") {
				return true
			}
			if c, ok := v.Values[0].(*ast.CallExpr); ok && len(c.Args) == 1 {
				found++
				if text, err := strconv.Unquote(c.Args[0].(*ast.BasicLit).Value); err != nil || !slices.Contains(known, text) {
					t.Errorf("%s: %s loses its identity in a repeated answer", f, v.Names[0].Name)
				}
			}
			return true
		})
	}
	if found != len(sentinels) {
		t.Errorf("%d sentinels are listed, the package has %d", len(sentinels), found)
	}
}
