package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"parallax/broadcast/member"
	"parallax/internal/store/pebble"
)

// TestProcessesOlderStore: an operator puts an old copy of the store back and says
// so to nobody. The relay notices, begins a new lineage before it signs, and no
// member finds its signatures contradicting each other. Without the guard's file,
// as in a new folder that got a copy, it is the same; a kill is no restore.
func TestProcessesOlderStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "Ann", "Bob")
	link := w.found()
	w.people[1].do("join", link, "--name", "Bob")
	w.everybodyReaches("in the first life")
	r := w.relays[0]
	storeDir, guard := filepath.Join(r.dir, "store"), filepath.Join(r.dir, "store.guard")
	copied := filepath.Join(t.TempDir(), "store")
	warned := func() int {
		t.Helper()
		log, err := os.ReadFile(r.dir + ".log")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(log), "the store is older than what this relay signed")
	}
	stopped := func(sig syscall.Signal, do func()) {
		t.Helper()
		if err := r.end(sig); err != nil && sig == syscall.SIGTERM {
			t.Fatal(err)
		}
		do()
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
	}
	putBack := func() {
		t.Helper()
		if err := os.RemoveAll(storeDir); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(storeDir, os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
	}
	// marks are the channels that begin a new lineage before they sign.
	marks := func() (n int) {
		t.Helper()
		s, err := pebble.Open(storeDir, pebble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		kvs, more, err := s.Scan([]byte{0}, bytes.Repeat([]byte{0xff}, 17), 64<<20)
		if err != nil || more {
			t.Fatal(err, more)
		}
		for _, kv := range kvs {
			if len(kv.Key) == 17 && kv.Key[16] == 'r' {
				n++
			}
		}
		return n
	}
	stopped(syscall.SIGTERM, func() {
		if err := os.CopyFS(copied, os.DirFS(storeDir)); err != nil {
			t.Fatal(err)
		}
	})
	w.everybodyReaches("after the copy")
	stopped(syscall.SIGKILL, func() {})
	if n := warned(); n != 0 {
		t.Fatalf("a kill looks like a restore: %d warnings", n)
	}
	w.everybodyReaches("after a kill")
	stopped(syscall.SIGTERM, putBack)
	if n := warned(); n != 1 {
		t.Fatalf("an older copy: %d warnings", n)
	}
	stopped(syscall.SIGTERM, func() { // nobody was there meanwhile
		if n := marks(); n != 1 {
			t.Errorf("%d channels are marked", n)
		}
	})
	if n := warned(); n != 1 {
		t.Errorf("one older copy: %d warnings", n)
	}
	w.everybodyReaches("over the older copy")
	stopped(syscall.SIGTERM, func() {
		putBack()
		if err := os.Remove(guard); err != nil {
			t.Fatal(err)
		}
	})
	if n := warned(); n != 2 {
		t.Fatalf("a copy without the guard's file: %d warnings", n)
	}
	w.everybodyReaches("over the older copy, once more")
	for _, p := range w.people {
		if s := decode[member.Status](p, "security"); s.Evidence != 0 || s.Disputes != 0 {
			t.Errorf("%s: %d pieces of evidence and %d disputes among honest relays", p.name, s.Evidence, s.Disputes)
		}
		if id := strings.TrimSpace(p.do("send", "--wait", "all", "to all three")); id == "" {
			t.Error("no message")
		}
	}
}
