package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binDir+string(filepath.ListSeparator)+os.Getenv("PATH"))
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "share"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "relays": scriptRelays, "halt": scriptHalt, "serve": scriptServe, "evidence": scriptEvidence, "capture": scriptCapture, "cut": scriptCut,
			"operator": scriptOperator, "declare": scriptDeclare, "policy": scriptPolicy,
		},
	})
}

// exits CODE CMD ARG...: the command ends with this exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE CMD ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// relays NAME...: makes and starts relays until the script ends; the variable
// of each name is its address for founders.
func scriptRelays(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		r, err := newRelay(ts.MkAbs(name))
		ts.Check(err)
		ts.Defer(func() { _ = r.end(syscall.SIGKILL) })
		ts.Check(r.start())
		ts.Setenv(name, r.address)
		scriptRelay.Store(r.dir, r)
	}
}

// scriptRelay finds a relay of a script by its folder.
var scriptRelay sync.Map

func relaysOf(ts *testscript.TestScript, names []string) (list []*relayProcess) {
	for _, name := range names {
		r, ok := scriptRelay.Load(ts.MkAbs(name))
		if !ok {
			ts.Fatalf("there is no relay %s", name)
		}
		list = append(list, r.(*relayProcess))
	}
	return list
}

// halt NAME...: relays end, orderly.
func scriptHalt(ts *testscript.TestScript, _ bool, args []string) {
	for _, r := range relaysOf(ts, args) {
		ts.Check(r.end(syscall.SIGTERM))
	}
}

// serve NAME...: relays serve again.
func scriptServe(ts *testscript.TestScript, _ bool, args []string) {
	for _, r := range relaysOf(ts, args) {
		ts.Check(r.start())
	}
}

// capture NAME FILE: a variable from a file, or from stdout.
func scriptCapture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// cut NAME VAR N: the variable without its last N characters.
func scriptCut(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	v := ts.Getenv(args[1])
	ts.Setenv(args[0], v[:len(v)-n])
}

// operator NAME RELAY: a variable from the operator key of a relay.
func scriptOperator(ts *testscript.TestScript, _ bool, args []string) {
	out, err := exec.Command(bin("parallax-relay"), "address", "--json", "--dir", ts.MkAbs(args[1])).Output()
	ts.Check(err)
	var info struct {
		Operator string `json:"operator"`
	}
	ts.Check(json.Unmarshal(out, &info))
	ts.Setenv(args[0], info.Operator)
}

// declare RELAY DECLARATION: puts a family declaration into a relay.toml.
func scriptDeclare(ts *testscript.TestScript, _ bool, args []string) {
	path := filepath.Join(ts.MkAbs(args[0]), "relay.toml")
	raw, err := os.ReadFile(path)
	ts.Check(err)
	lines := strings.Split(string(raw), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimPrefix(l, "#"), "families = ") })
	if at < 0 {
		ts.Fatalf("%s has no families", path)
	}
	lines[at] = "families = [" + strconv.Quote(args[1]) + "]"
	ts.Check(os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
}

// policy FILE LINE...: writes a policy text.
func scriptPolicy(ts *testscript.TestScript, _ bool, args []string) {
	text := "parallax policy 1\n" + strings.Join(args[1:], "\n") + "\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// evidence KIND FILE: the text of evidence: a fork that convicts, two honest
// statements, or a fork that somebody else than the relay signed.
func scriptEvidence(ts *testscript.TestScript, _ bool, args []string) {
	key := keys.NewPrivate[keys.RoleRelay]([32]byte{1})
	lineage := wire.NewLineage(1, [8]byte{2})
	first := crossverify.SignStatement(key, wire.ChannelID{3}, lineage, 7, wire.Digest{4}, wire.Digest{5}, wire.Digest{6})
	second := first
	switch args[0] {
	case "good", "forged":
		second = crossverify.SignStatement(key, wire.ChannelID{3}, lineage, 7, wire.Digest{4}, wire.Digest{55}, wire.Digest{6})
	case "honest":
	default:
		ts.Fatalf("no evidence of kind %s", args[0])
	}
	if args[0] == "forged" {
		second.Signature[0] ^= 1
	}
	e := crossverify.Evidence{Form: crossverify.Fork, First: first, Second: second}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(e.Text()), 0o600))
}
