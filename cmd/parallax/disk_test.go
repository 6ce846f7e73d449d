package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"parallax/internal/needs"
)

// TestFullDisk: a member's disk fills up. Sends fail with an error that says
// so; what was acknowledged before is there when there is room again, and the
// same folder goes on.
//
// The disk is a small tmpfs, and mounting one needs root.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		needs.Missing(t, fmt.Sprintf("a full disk. Mounting a small tmpfs needs root: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	w := newWorld(t, "Ann", "Bob", "Cat")
	link := w.found()
	for _, p := range w.people[1:] {
		p.do("join", link, "--name", p.name)
	}
	ann, dan := w.people[0], &person{t: t, name: "Dan", data: filepath.Join(dir, "Dan")}
	dan.do("join", strings.TrimSpace(ann.do("invite")), "--name", dan.name)
	w.people = append(w.people, dan)
	w.everybodyReaches("room")

	var acknowledged []string
	filler := filepath.Join(dir, "filler")
	for round := range 2 {
		if err := fill(filler); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for range 200 {
			r := dan.try("send", "into a full disk")
			if r.code == 0 {
				acknowledged = append(acknowledged, strings.TrimSpace(r.out))
				continue // what was allocated before takes some more
			}
			if failed++; r.code != 3 || !strings.Contains(r.talk, "no space left on device") || strings.Count(r.talk, "parallax: ") != 1 {
				t.Errorf("round %d: send with a full disk: %s", round, r)
			}
			if failed == 3 {
				break
			}
		}
		if failed == 0 {
			t.Fatal("the disk is full and every send succeeds: the test shows nothing")
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, strings.TrimSpace(dan.do("send", "room again")))
	}
	for _, p := range w.people {
		have := p.history()
		for _, id := range acknowledged {
			if have[id] != 1 {
				t.Errorf("message %s was acknowledged and stands %d times in the history of %s", id, have[id], p.name)
			}
		}
	}
	w.everybodyReaches("after")
}

// fill writes until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err = f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk, err = chunk[:len(chunk)/2], nil // to the last byte
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}
