package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"parallax/internal/store"
	"parallax/internal/store/pebble"
)

var binDir string // where TestMain builds the command

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "parallax-relay-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/", "parallax/cmd/parallax-relay").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binDir+string(filepath.ListSeparator)+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "port": port, "serve": serve, "snapshot": snapshot, "channel": channel,
		},
	})
}

// exits CODE CMD ARG...: the command ends with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
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

// port NAME: a port of 127.0.0.1 that is free for both transports, from below
// those that the system gives to dialers, who would take it meanwhile.
func port(ts *testscript.TestScript, _ bool, args []string) {
	for range 100 {
		p := 10_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			ts.Setenv(args[0], strconv.Itoa(p))
			return
		}
	}
	ts.Fatalf("no free port")
}

// serve DIR: starts the relay, waits until it prints its address, and at the
// end of the script checks that SIGTERM ends it with exit code 0. Its log is
// DIR.log.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	log, err := os.Create(dir + ".log")
	ts.Check(err)
	cmd := exec.Command(filepath.Join(binDir, "parallax-relay"), "serve", "--dir", dir)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		force := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		force.Stop()
		_ = log.Close()
		if err != nil {
			ts.Logf("serve %s: %v", args[0], err)
			panic("a relay did not end well after SIGTERM")
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, "/p2p/") {
		raw, _ := os.ReadFile(dir + ".log")
		ts.Fatalf("serve %s: %q, %v\n%s", args[0], line, err, raw)
	}
}

// channel DIR FORMAT: puts the meta record of a channel in that format into the
// store of a relay that does not run.
func channel(ts *testscript.TestScript, _ bool, args []string) {
	format, err := strconv.Atoi(args[1])
	ts.Check(err)
	s, err := pebble.Open(filepath.Join(ts.MkAbs(args[0]), storeDir), pebble.Options{})
	ts.Check(err)
	u := store.Unit{7}
	rev, err := s.Revision(u)
	ts.Check(err)
	ts.Check(s.Apply([]store.Batch{{Unit: u, Base: rev, Ops: []store.Op{{Key: append(u[:], 'm'), Value: []byte{byte(format)}}}}})[0])
	ts.Check(s.Close())
}

// snapshot DIR FILE: names, sizes, modes and times of everything below DIR.
func snapshot(ts *testscript.TestScript, _ bool, args []string) {
	var b strings.Builder
	root := ts.MkAbs(args[0])
	ts.Check(filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		fmt.Fprintln(&b, rel, info.Size(), info.Mode(), info.ModTime().UnixNano())
		return err
	}))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o600))
}
