package layout

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestLayout holds the tree against the rules.
func TestLayout(t *testing.T) {
	all, err := Read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 12 {
		t.Fatalf("only %d packages found: the walk is broken", len(all))
	}
	for _, b := range Check(all) {
		t.Error(b)
	}
}

// TestTopLevel: nothing stands at the top that the layout does not name.
func TestTopLevel(t *testing.T) {
	allowed := []string{"go.mod", "go.sum", "node", "broadcast", "crossverify", "ratchet", "cmd", "simnet", "docs", "internal",
		"README.md", "LICENSE", ".ci", ".git", ".gitignore", ".gitattributes"}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s stands at the top level: the layout of docs/architecture.md has no place for it", e.Name())
		}
	}
}

// TestRules breaks each rule once, in a tree of its own, and sees it told.
func TestRules(t *testing.T) {
	file := func(src string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(src)} }
	imports := func(pkg string, paths ...string) string {
		return "package " + pkg + "\nimport (\n\"" + strings.Join(paths, "\"\n\"") + "\"\n)\n"
	}
	for name, c := range map[string]struct {
		tree fstest.MapFS
		want string
	}{
		"relay imports ratchet": {fstest.MapFS{"broadcast/relay/a.go": file(imports("relay", "parallax/ratchet")), "ratchet/a.go": file("package ratchet")},
			"broadcast/relay reaches ratchet"},
		"relay reaches ratchet": {fstest.MapFS{"broadcast/relay/a.go": file(imports("relay", "parallax/broadcast/proto")),
			"broadcast/proto/a.go": file(imports("proto", "parallax/ratchet")), "ratchet/a.go": file("package ratchet")},
			"broadcast/relay -> broadcast/proto -> ratchet"},
		"leaf to leaf":         {fstest.MapFS{"crossverify/a.go": file(imports("crossverify", "parallax/broadcast"))}, "digests are opaque"},
		"slots opaque":         {fstest.MapFS{"broadcast/a.go": file(imports("broadcast", "parallax/ratchet"))}, "slots are opaque"},
		"session knows none":   {fstest.MapFS{"ratchet/a.go": file(imports("ratchet", "parallax/broadcast"))}, "a session knows no bundle"},
		"upwards":              {fstest.MapFS{"broadcast/proto/a.go": file(imports("proto", "parallax/broadcast/member"))}, "imports go down"},
		"keys upwards":         {fstest.MapFS{"internal/keys/a.go": file(imports("keys", "parallax/ratchet"))}, "imports go down"},
		"roles apart":          {fstest.MapFS{"broadcast/member/a.go": file(imports("member", "parallax/broadcast/relay"))}, "a member knows no relay's side"},
		"relay apart":          {fstest.MapFS{"broadcast/relay/a.go": file(imports("relay", "parallax/broadcast/member"))}, "a relay knows no member's side"},
		"simnet to node":       {fstest.MapFS{"simnet/a.go": file(imports("simnet", "parallax/node"))}, "simnet imports node"},
		"node to simnet":       {fstest.MapFS{"node/a.go": file(imports("node", "parallax/simnet"))}, "node imports simnet"},
		"liar to simulator":    {fstest.MapFS{"simnet/adversary/a.go": file(imports("adversary", "parallax/simnet"))}, "simnet/adversary imports simnet"},
		"os":                   {fstest.MapFS{"broadcast/relay/a.go": file(imports("relay", "os"))}, "imports os"},
		"net":                  {fstest.MapFS{"broadcast/member/a.go": file(imports("member", "net"))}, "imports net"},
		"sync":                 {fstest.MapFS{"broadcast/member/a.go": file(imports("member", "sync"))}, "imports sync"},
		"context":              {fstest.MapFS{"ratchet/a.go": file(imports("ratchet", "context"))}, "imports context"},
		"log":                  {fstest.MapFS{"ratchet/a.go": file(imports("ratchet", "log"))}, "imports log"},
		"slog":                 {fstest.MapFS{"broadcast/a.go": file(imports("broadcast", "log/slog"))}, "imports log/slog"},
		"zap":                  {fstest.MapFS{"crossverify/a.go": file(imports("crossverify", "go.uber.org/zap"))}, "imports go.uber.org/zap"},
		"zapcore":              {fstest.MapFS{"crossverify/a.go": file(imports("crossverify", "go.uber.org/zap/zapcore"))}, "imports go.uber.org/zap/zapcore"},
		"crypto/rand":          {fstest.MapFS{"internal/keys/a.go": file(imports("keys", "crypto/rand"))}, "randomness is injected"},
		"math/rand":            {fstest.MapFS{"broadcast/member/a.go": file(imports("member", "math/rand/v2"))}, "randomness is injected"},
		"runtime":              {fstest.MapFS{"broadcast/a.go": file(imports("broadcast", "runtime"))}, "imports runtime"},
		"unsafe":               {fstest.MapFS{"internal/wire/a.go": file(imports("wire", "unsafe"))}, "imports unsafe"},
		"clock":                {fstest.MapFS{"broadcast/relay/a.go": file("package relay\nimport t \"time\"\nvar x = t.Now()")}, "reads the clock"},
		"mlkemtest":            {fstest.MapFS{"node/a.go": file(imports("node", "crypto/mlkem/mlkemtest"))}, "only the simulator"},
		"no floor":             {fstest.MapFS{"extra/a.go": file("package extra")}, "has no floor"},
		"engine below drivers": {fstest.MapFS{"broadcast/relay/a.go": file(imports("relay", "parallax/internal/store/pebble"))}, "imports go down"},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := Read(c.tree)
			if err != nil {
				t.Fatal(err)
			}
			broken := Check(all)
			if !slices.ContainsFunc(broken, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("broken rule not told: want %q in %q", c.want, broken)
			}
		})
	}
	ok := fstest.MapFS{"broadcast/relay/a.go": file(imports("relay", "parallax/broadcast/proto", "net/netip", "time")),
		"node/a.go": file(imports("node", "os", "sync", "crypto/rand", "parallax/internal/store/pebble"))}
	all, err := Read(ok)
	if err != nil {
		t.Fatal(err)
	}
	if broken := Check(all); len(broken) > 0 {
		t.Errorf("rules told broken in a tree that keeps them: %q", broken)
	}
}
