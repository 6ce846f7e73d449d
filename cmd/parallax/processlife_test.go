package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/node"
)

const (
	whileAway = 400 // messages that a member misses
	catchKill = 5   // kills while it reads them

	removeKills = 3 // kills of who removes
)

// TestProcessesLife: the later days of a group, over real processes. Members
// join while nobody else is online, one is away for a long time, one loses its
// folder and comes back from a backup, one is removed and joins anew. Everybody
// has everything in the end, once.
func TestProcessesLife(t *testing.T) {
	t.Parallel()
	random := seed(t)
	w := newWorld(t, "Ann", "Bob", "Cat")
	for _, part := range []struct {
		name string
		do   func()
	}{{"joins offline", w.joinOffline}, {"long absence", func() { w.longAbsence(random) }}, {"restore", w.restore}, {"removal", func() { w.removal(random) }}} {
		start := time.Now()
		part.do()
		t.Logf("%s: %s, %.1f s", start.UTC().Format(time.TimeOnly), part.name, time.Since(start).Seconds())
	}
	for _, p := range w.people {
		if s := decode[member.Status](p, "security"); s.Evidence != 0 || s.Disputes != 0 {
			t.Errorf("%s: %d pieces of evidence and %d disputes among honest relays", p.name, s.Evidence, s.Disputes)
		}
		for _, e := range p.accusations() {
			if !strings.HasPrefix(e, string(member.EventSession)) {
				t.Errorf("%s is told of honest relays and members: %s", p.name, e)
			}
		}
	}
	w.end()
}

// joinOffline: each joins while no process of anybody else runs, and speaks at
// once; the last one while a relay is away as well. All meet later.
func (w *world) joinOffline() {
	w.t.Helper()
	link := w.found()
	bob, cat := w.people[1], w.people[2]
	first := map[*person]string{}
	bob.do("join", link, "--name", bob.name)
	first[bob] = strings.TrimSpace(bob.do("send", "--wait", "all", "I am Bob"))
	_ = w.relays[2].end(syscall.SIGKILL) // an error: that it was killed
	cat.do("join", link, "--name", cat.name)
	first[cat] = strings.TrimSpace(cat.do("send", "I am Cat"))
	if err := w.relays[2].start(); err != nil {
		w.t.Fatal(err)
	}
	// Its copy of what she published; until then the others are told, rightly,
	// that this relay does not show her.
	cat.do("send", "--wait", "all", "all relays know me now")
	// Newest first: nobody depends on one who was there before.
	for _, reader := range slices.Backward(w.people) {
		for speaker, id := range first {
			if slices.Index(w.people, reader) > slices.Index(w.people, speaker) {
				if n := reader.history()[id]; n != 0 {
					w.t.Errorf("%s has a message from before its time %d times", reader.name, n)
				}
			} else if err := eventually(quietDown, func() error { return reader.has(id) }); err != nil {
				w.t.Errorf("what %s said when all others were offline: %v", speaker.name, err)
			}
		}
	}
	w.everybodyReaches("all met")
}

// bot is a client of the process that has the person's folder open.
func (p *person) bot() (node.Client, *follower) {
	p.t.Helper()
	f, err := p.follow()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := eventually(quietDown, func() error { _, err := os.Stat(filepath.Join(p.data, "socket")); return err }); err != nil {
		p.t.Fatal(err)
	}
	c, err := node.Connect(p.t.Context(), p.data, node.Options{MemberConfig: node.MemberConfig{Open: member.Open(member.Config{})}})
	if err != nil {
		p.t.Fatal(err)
	}
	return c, f
}

// longAbsence: Cat is away while hundreds of messages come, a relay is killed
// among them; then she is killed again and again while she reads them.
func (w *world) longAbsence(random *rand.Rand) {
	w.t.Helper()
	cat := w.people[2]
	var mu sync.Mutex // sent
	var sent []string
	var senders sync.WaitGroup
	for _, p := range w.people[:2] {
		c, f := p.bot()
		senders.Go(func() {
			for i := range whileAway / 2 {
				v, err := c.Do(w.t.Context(), node.Request{Wish: member.SendText{Text: fmt.Sprintf("%s %d", p.name, i), Wait: member.WaitQuorum}})
				if err != nil {
					w.t.Errorf("%s: message %d: %v", p.name, i, err)
					return
				}
				mu.Lock()
				sent = append(sent, v.(member.SentInfo).ID)
				mu.Unlock()
			}
			if err := c.Close(); err != nil {
				w.t.Errorf("%s: %v", p.name, err)
			}
			if err := f.end(syscall.SIGTERM); err != nil {
				w.t.Errorf("%s: tail --follow, terminated: %v", p.name, err)
			}
		})
	}
	hurt := w.relays[random.IntN(len(w.relays))]
	time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
	_ = hurt.end(syscall.SIGKILL)
	if err := hurt.start(); err != nil {
		w.t.Error(err)
	}
	senders.Wait()
	for range catchKill {
		f, err := cat.follow()
		if err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		_ = f.end(syscall.SIGKILL)
	}
	for _, p := range w.people {
		if err := eventually(quietDown, func() error { return all(p.history(), sent) }); err != nil {
			w.t.Errorf("%s: %v", p.name, err)
		}
	}
	w.everybodyReaches("back again")
}

// all tells how many of these are not there, or not just once.
func all(have map[string]int, ids []string) error {
	missing := 0
	for _, id := range ids {
		if have[id] != 1 {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d messages are not there, or not just once", missing, len(ids))
	}
	return nil
}

// restore: Bob's folder is lost; a backup brings him back, with his history,
// and he and the others agree on new sessions by themselves.
func (w *world) restore() {
	w.t.Helper()
	ann, bob := w.people[0], w.people[1]
	dir := filepath.Dir(bob.data)
	pass, backup := filepath.Join(dir, "passphrase"), filepath.Join(dir, "backup")
	if err := os.WriteFile(pass, []byte("correct horse\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	bob.do("backup", "create", backup, "--backup-passphrase-file", pass)
	before := slices.Collect(maps.Keys(bob.history()))
	// What he says from here on he does not know later, but the others do.
	lost := strings.TrimSpace(bob.do("send", "said after the backup"))
	if err := os.RemoveAll(bob.data); err != nil {
		w.t.Fatal(err)
	}
	bob.data = filepath.Join(dir, "Bob2")
	bob.do("backup", "restore", backup, "--backup-passphrase-file", pass)
	if err := all(bob.history(), before); err != nil {
		w.t.Errorf("restored history: %v", err)
	}
	// With his word the others have his new keys.
	if err := eventually(quietDown, func() error {
		if r := bob.try("send", "--wait", "all", "back, on a new device"); r.code != 0 {
			return fmt.Errorf("restored Bob cannot send to all: %s", r)
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	w.everybodyReaches("restored")
	if err := eventually(quietDown, func() error { return ann.has(lost) }); err != nil {
		w.t.Error(err)
	}
}

// removal: Ann removes Cat, who is away, and is killed while she does. Nothing
// that is said afterwards reaches Cat; with the new link she comes back, as a
// seat of its own.
func (w *world) removal(random *rand.Rand) {
	w.t.Helper()
	ann, bob, cat := w.people[0], w.people[1], w.people[2]
	for range removeKills {
		late := time.AfterFunc(time.Duration(random.IntN(400))*time.Millisecond, func() { ann.kill() })
		ann.try("member", "remove", "Cat", "--yes")
		late.Stop()
	}
	// Another time is harmless: it says that there is nothing to do.
	r := ann.try("member", "remove", "Cat", "--yes")
	if r.code != 0 && (r.code != 1 || !strings.Contains(r.talk, "changes nothing")) {
		w.t.Fatalf("removal after %d kills: %s", removeKills, r)
	}
	without := strings.TrimSpace(ann.do("send", "without Cat"))
	if err := eventually(quietDown, func() error { return bob.has(without) }); err != nil {
		w.t.Error(err)
	}
	if err := eventually(quietDown, func() error {
		if r := cat.try("send", "am I in?"); r.code != 1 || !strings.Contains(r.talk, "not in this group any more") {
			return fmt.Errorf("who was removed sends: %s", r)
		}
		return nil
	}); err != nil {
		w.t.Error(err)
	}
	if cat.history()[without] > 0 {
		w.t.Error("who was removed has what was sent after it")
	}
	again := &person{t: w.t, name: "Cat", data: cat.data + "2"}
	again.do("join", strings.TrimSpace(ann.do("invite")), "--name", again.name)
	w.people[2] = again
	w.everybodyReaches("after the removal")
	for _, p := range w.people {
		if v := decode[member.RosterInfo](p, "group", "members"); len(v.Removed) != 1 || v.Removed[0].Left {
			w.t.Errorf("%s: the roster has %+v as removed", p.name, v.Removed)
		}
	}
}
