// Package layout keeps the floors of docs/architecture.md: who may import whom,
// and what may not be reached below the drivers. It parses the files itself,
// so a result never goes stale in the test cache for want of a listed input.
package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is this module's path.
const Module = "parallax"

// Package is what the rules look at: the imports of a package's files without
// its tests, and where it reads the clock.
type Package struct {
	Path    string              // below the module: "broadcast/relay"
	Imports map[string][]string // import path: files
	Clock   []string            // files that call time.Now, time.Since, time.Sleep and the like
}

// floors is the layout; the longest matching prefix counts.
var floors = map[string]int{
	"internal/wire": 1, "internal/keys": 1, "internal/store": 1, "internal/layout": 1, "internal/asn": 1,
	"ratchet": 2, "crossverify": 2, "broadcast": 2,
	"broadcast/proto":  3,
	"broadcast/member": 4, "broadcast/relay": 4,
	"node": 5, "simnet": 5, "internal/store/memory": 5, "internal/store/pebble": 5, "internal/store/guarded": 5, "internal/store/sealed": 5, "internal/store/storetest": 5, "internal/needs": 5,
	"internal/cli": 6, "cmd": 6,
}

// apart lists packages of one floor that must not know each other, and edges
// that no floor may have, with the reason.
var apart = []struct{ from, to, why string }{
	{"ratchet", "crossverify", "digests are opaque to crossverify and sessions to it"},
	{"ratchet", "broadcast", "a session knows no bundle"},
	{"crossverify", "ratchet", "the comparison opens nothing"},
	{"crossverify", "broadcast", "digests are opaque to crossverify"},
	{"broadcast", "ratchet", "slots are opaque to broadcast"},
	{"broadcast", "crossverify", "the vocabulary judges nothing"},
	{"broadcast/relay", "broadcast/member", "a relay knows no member's side"},
	{"broadcast/member", "broadcast/relay", "a member knows no relay's side"},
	{"simnet", "node", "the simulator needs no network"},
	{"node", "simnet", "the network needs no simulator"},
	{"simnet/adversary", "simnet", "a liar runs under either driver"},
}

// outside lists what floors 1 to 4 may not import, sub-packages included, with
// the reason.
var outside = map[string]string{
	"os": "I/O belongs to the driver", "net": "I/O belongs to the driver (net/netip may)", "syscall": "I/O belongs to the driver",
	"sync": "one loop owns a machine", "context": "a machine does not wait",
	"log": "machines return events", "go.uber.org/zap": "machines return events",
	"crypto/rand": "randomness is injected", "math/rand": "randomness is injected",
	"runtime": "machines do not see the runtime", "unsafe": "no package here needs it",
}

// clocks are the functions of package time that read or wait for the clock.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// Floor is the floor of a package; 0: it has none.
func Floor(pkg string) int {
	for p := pkg; p != "." && p != "/"; p = path.Dir(p) {
		if f, ok := floors[p]; ok {
			return f
		}
	}
	return 0
}

// Read parses every package of the tree at root, tests left out.
func Read(tree fs.FS) ([]Package, error) {
	found := map[string]*Package{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && name != "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		p := found[dir]
		if p == nil {
			p = &Package{Path: dir, Imports: map[string][]string{}}
			found[dir] = p
		}
		p.add(name, file)
		return nil
	})
	var all []Package
	for _, p := range found {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b Package) int { return strings.Compare(a.Path, b.Path) })
	return all, err
}

func (p *Package) add(name string, file *ast.File) {
	timeName := ""
	for _, i := range file.Imports {
		target := strings.Trim(i.Path.Value, `"`)
		p.Imports[target] = append(p.Imports[target], name)
		if target == "time" {
			timeName = "time"
			if i.Name != nil {
				timeName = i.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && timeName != "" {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == timeName && slices.Contains(clocks, s.Sel.Name) {
				p.Clock = append(p.Clock, name)
			}
		}
		return true
	})
}

// Check tells every broken rule, one sentence each.
func Check(all []Package) (broken []string) {
	tell := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	byPath := map[string]Package{}
	for _, p := range all {
		byPath[p.Path] = p
	}
	for _, p := range all {
		floor := Floor(p.Path)
		if floor == 0 {
			tell("%s has no floor: give it one in internal/layout, with a line in docs/decisions.md", p.Path)
			continue
		}
		for target, files := range p.Imports {
			own, ours := strings.CutPrefix(target, Module+"/")
			if !ours {
				why, banned := forbidden(target)
				if floor < 5 && banned {
					tell("%s imports %s (%s): %s", p.Path, target, files[0], why)
				}
				if target == "crypto/mlkem/mlkemtest" && p.Path != "simnet" {
					tell("%s imports %s (%s): only the simulator makes ML-KEM reproducible", p.Path, target, files[0])
				}
				continue
			}
			if up := Floor(own); up > floor || up == floor && floor < 5 && !within(p.Path, own) {
				tell("%s (floor %d) imports %s (floor %d) in %s: imports go down", p.Path, floor, own, up, files[0])
			}
		}
		if floor < 5 && len(p.Clock) > 0 {
			tell("%s reads the clock (%s): time is a parameter", p.Path, p.Clock[0])
		}
		for _, rule := range apart {
			if p.Path == rule.from && p.Imports[Module+"/"+rule.to] != nil {
				tell("%s imports %s: %s", rule.from, rule.to, rule.why)
			}
		}
	}
	if via := reach(byPath, "broadcast/relay", "ratchet"); via != nil {
		tell("broadcast/relay reaches ratchet (%s): a relay cannot open a slot", strings.Join(via, " -> "))
	}
	slices.Sort(broken)
	return broken
}

// forbidden tells whether floors 1 to 4 may not import target, or what it is
// part of, and why.
func forbidden(target string) (why string, banned bool) {
	if target == "net/netip" {
		return "", false
	}
	for p := target; p != "." && p != "/"; p = path.Dir(p) {
		if why, banned = outside[p]; banned {
			return why, true
		}
	}
	return "", false
}

// within allows the interface and its sub-packages on one floor.
func within(from, to string) bool {
	return Floor(from) == 1 && (from == "internal/keys" && to == "internal/wire")
}

// reach is a chain of imports from one package to another, nil if there is none.
func reach(all map[string]Package, from, to string) []string {
	type step struct {
		at  string
		via []string
	}
	seen := map[string]bool{}
	queue := []step{{from, []string{from}}}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if s.at == to {
			return s.via
		}
		if seen[s.at] {
			continue
		}
		seen[s.at] = true
		for target := range all[s.at].Imports {
			if own, ok := strings.CutPrefix(target, Module+"/"); ok {
				queue = append(queue, step{own, append(slices.Clone(s.via), own)})
			}
		}
	}
	return nil
}
