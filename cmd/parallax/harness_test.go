package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var binDir string // where TestMain builds the two commands

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "parallax-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/", "parallax/cmd/parallax", "parallax/cmd/parallax-relay").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	// The parallel tests wait for processes more than they compute: four at a time,
	// unless -parallel says otherwise.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func bin(name string) string { return filepath.Join(binDir, name) }

// freePort is a port of 127.0.0.1 that is free for both transports, from below
// those that the system gives to dialers: a relay that was killed must find it
// free when it is started again, however much is dialed meanwhile.
func freePort() (int, error) {
	for range 100 {
		p := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
		_ = l.Close()
		if err == nil {
			return p, u.Close()
		}
	}
	return 0, errors.New("no free port")
}

// relayProcess is one `parallax-relay serve`.
type relayProcess struct {
	dir     string
	address string // for founders

	mu  sync.Mutex
	cmd *exec.Cmd
}

// newRelay makes a relay in dir; the caller sees to it that its process ends.
func newRelay(dir string) (*relayProcess, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	listen := fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1,/ip4/127.0.0.1/tcp/%d", port, port)
	out, err := exec.Command(bin("parallax-relay"), "init", "-q", "--dir", dir, "--operator", filepath.Base(dir), "--listen", listen).Output()
	if err != nil {
		return nil, fmt.Errorf("init %s: %w", dir, err)
	}
	return &relayProcess{dir: dir, address: strings.TrimSpace(string(out))}, nil
}

// start serves and waits until it listens, or was killed meanwhile. Its log is
// DIR.log. The port of a process that was just killed may be free a moment
// after its end only.
func (r *relayProcess) start() error {
	return eventually(5*time.Second, func() error {
		raw, _ := os.ReadFile(r.dir + ".log")
		err := r.serve()
		if err == nil {
			return nil
		}
		now, _ := os.ReadFile(r.dir + ".log")
		err = fmt.Errorf("serve %s: %w\n%s", r.dir, err, now[min(len(raw), len(now)):])
		if bytes.Contains(now[min(len(raw), len(now)):], []byte("already in use")) {
			return err
		}
		return giveUp{err}
	})
}

// serve is one attempt of start.
func (r *relayProcess) serve() error {
	log, err := os.OpenFile(r.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(bin("parallax-relay"), "serve", "--dir", r.dir)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.cmd = cmd
	r.mu.Unlock()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && strings.Contains(line, "/p2p/") {
		return nil
	}
	r.mu.Lock()
	killed := r.cmd != cmd
	if !killed {
		r.cmd = nil
	}
	r.mu.Unlock()
	if killed {
		return nil
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return fmt.Errorf("%q, %w", line, err)
}

// end signals the process and waits for it. Nil for one that does not run.
func (r *relayProcess) end(sig syscall.Signal) error {
	r.mu.Lock()
	cmd := r.cmd
	r.cmd = nil
	r.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(sig)
	force := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer force.Stop()
	return cmd.Wait()
}

// person is a member with a data folder of its own.
type person struct {
	t    *testing.T
	name string
	data string

	mu  sync.Mutex
	cmd *exec.Cmd // of the command under way
}

// result is how a command ended.
type result struct {
	out, talk string
	code      int // -1: killed
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.code, r.out, r.talk)
}

// try runs a command on the person's folder. It is killed when the test ends.
func (p *person) try(args ...string) result {
	ctx, cancel := context.WithTimeout(p.t.Context(), 90*time.Second)
	defer cancel()
	var out, talk bytes.Buffer
	cmd := exec.CommandContext(ctx, bin("parallax"), append([]string{"--data", p.data}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Start(); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
		return result{code: -1}
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	_ = cmd.Wait() // the exit code says it
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
	return result{out.String(), talk.String(), cmd.ProcessState.ExitCode()}
}

// kill ends the command under way without warning; false: there is none.
func (p *person) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && p.cmd.Process.Kill() == nil
}

// do is try for a command that must succeed. It returns what is on stdout.
func (p *person) do(args ...string) string {
	p.t.Helper()
	r := p.try(args...)
	if r.code != 0 {
		p.t.Fatalf("%s: parallax %s: %s", p.name, strings.Join(args, " "), r)
	}
	return r.out
}

// decode is do with --json for one value.
func decode[T any](p *person, args ...string) (v T) {
	p.t.Helper()
	out := p.do(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		p.t.Fatalf("%s: parallax %s: %v in %q", p.name, strings.Join(args, " "), err, out)
	}
	return v
}

// follower is a `tail --follow --json` that runs until it is ended, at the latest
// with the test.
type follower struct {
	cmd   *exec.Cmd
	lines chan string
}

func (p *person) follow() (*follower, error) {
	f := &follower{cmd: exec.Command(bin("parallax"), "--data", p.data, "tail", "--follow", "--json"), lines: make(chan string, 4096)}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	p.t.Cleanup(func() { _ = f.end(syscall.SIGKILL) })
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	return f, nil
}

// await waits until a line has this in it.
func (f *follower) await(what string, within time.Duration) error {
	late := time.After(within)
	for {
		select {
		case line, ok := <-f.lines:
			if !ok {
				return fmt.Errorf("tail --follow ended before %q", what)
			}
			if strings.Contains(line, what) {
				return nil
			}
		case <-late:
			return fmt.Errorf("tail --follow did not show %q within %v", what, within)
		}
	}
}

// end signals and waits; nil when it ended with exit code 0.
func (f *follower) end(sig syscall.Signal) error {
	_ = f.cmd.Process.Signal(sig)
	for range f.lines { // the rest, so that the pipe is read before Wait
	}
	return f.cmd.Wait()
}

// giveUp is an error that no time mends.
type giveUp struct{ error }

// eventually tries until f holds, or gives up.
func eventually(within time.Duration, f func() error) (err error) {
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err = f()
		if _, hopeless := errors.AsType[giveUp](err); err == nil || hopeless || time.Since(start) > within {
			return err
		}
	}
}
