package layout

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	namedTest  = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)[`/]")
	namedFile  = regexp.MustCompile("`((?:simnet|crossverify|broadcast|ratchet|node|cmd|internal)/[A-Za-z0-9_./{},-]+\\.[a-z]+)`")
	testsFound = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Za-z0-9]+)\(`)
)

// TestDocs: every test and file that a document names is there.
func TestDocs(t *testing.T) {
	root := os.DirFS("../..")
	tests := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		src, err := fs.ReadFile(root, name)
		for _, m := range testsFound.FindAllSubmatch(src, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := fs.Glob(root, "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, name := range append(docs, "README.md") {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range namedTest.FindAllSubmatch(text, -1) {
			if named++; !tests[string(m[1])] {
				t.Errorf("%s names the test %s, which is not there", name, m[1])
			}
		}
		for _, m := range namedFile.FindAllSubmatch(text, -1) {
			for _, file := range expand(string(m[1])) {
				named++
				if found, err := fs.Glob(root, file); err != nil || len(found) == 0 {
					t.Errorf("%s names the file %s, which is not there", name, file)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d names were found: the search is broken", named)
	}
}

// expand writes out what braces list, as a shell does.
func expand(name string) []string {
	before, rest, ok := strings.Cut(name, "{")
	list, after, closed := strings.Cut(rest, "}")
	if !ok || !closed {
		return []string{filepath.ToSlash(name)}
	}
	var all []string
	for one := range strings.SplitSeq(list, ",") {
		all = append(all, expand(before+one+after)...)
	}
	return slices.Clip(all)
}
