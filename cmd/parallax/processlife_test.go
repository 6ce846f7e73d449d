package main

import (
	"errors"
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
	changeKills = 3 // kills of who changes the relays
)

// TestProcessesLife: the later days of a group, over real processes. Members
// join while nobody else is online, one is away for a long time, one loses its
// folder and comes back from a backup, one is removed and joins anew, a relay is
// gone and another one takes its place. Everybody has everything in the end, once.
func TestProcessesLife(t *testing.T) {
	t.Parallel()
	random := seed(t)
	w := newWorld(t, "Ann", "Bob", "Cat")
	for _, part := range []struct {
		name string
		do   func()
	}{{"joins offline", w.joinOffline}, {"long absence", func() { w.longAbsence(random) }}, {"restore", w.restore}, {"removal", func() { w.removal(random) }},
		{"replacement of a relay", func() { w.replacement(random) }}} {
		start := time.Now()
		part.do()
		t.Logf("%s: %s, %.1f s", start.UTC().Format(time.TimeOnly), part.name, time.Since(start).Seconds())
	}
	for _, p := range w.people {
		if s := decode[member.Status](p, "security"); s.Evidence != 0 || s.Disputes != 0 {
			t.Errorf("%s: %d pieces of evidence and %d disputes among honest relays", p.name, s.Evidence, s.Disputes)
		}
		for _, e := range p.accusations() {
			// New sessions after the restore, and that the relays changed, are no accusations.
			if !strings.HasPrefix(e, string(member.EventSession)) && !strings.Contains(e, ": The group") {
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
	backup := w.backUp(bob)
	// What he says from here on he does not know later, but the others do.
	lost := strings.TrimSpace(bob.do("send", "said after the backup"))
	w.comesBack(bob, backup)
	w.everybodyReaches("restored")
	if err := eventually(quietDown, func() error { return ann.has(lost) }); err != nil {
		w.t.Error(err)
	}
}

// copied is a backup, and whose messages it has.
type copied struct {
	file, pass string
	ids        []string
}

func (w *world) backUp(p *person) copied {
	w.t.Helper()
	b := copied{file: p.data + ".backup", pass: p.data + ".passphrase", ids: slices.Collect(maps.Keys(p.history()))}
	if err := os.WriteFile(b.pass, []byte("correct horse\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	p.do("backup", "create", b.file, "--backup-passphrase-file", b.pass)
	return b
}

// comesBack: the person's folder is lost, and the backup brings them back as far
// as a word that reaches all: with it the others have the new keys.
func (w *world) comesBack(p *person, b copied) {
	w.t.Helper()
	if err := os.RemoveAll(p.data); err != nil {
		w.t.Fatal(err)
	}
	p.data += "2"
	p.do("backup", "restore", b.file, "--backup-passphrase-file", b.pass)
	if err := all(p.history(), b.ids); err != nil {
		w.t.Errorf("restored history of %s: %v", p.name, err)
	}
	if err := eventually(quietDown, func() error {
		if r := p.try("send", "--wait", "all", "back, on a new device"); r.code != 0 {
			return fmt.Errorf("restored %s cannot send to all: %s", p.name, r)
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
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

// replacement: a relay is gone for good; Ann puts another one in its place, and
// she and the new relay are killed while she does. Bob follows by himself. Cat is
// away for all of it and learns of it over the relays that were there before; so
// does Bob's device that a backup from before brings back.
func (w *world) replacement(random *rand.Rand) {
	w.t.Helper()
	const gone = 1
	ann, bob, cat := w.people[0], w.people[1], w.people[2]
	backup := w.backUp(bob)
	_ = w.relays[gone].end(syscall.SIGKILL) // an error: that it was killed
	r, err := newRelay(filepath.Join(filepath.Dir(ann.data), "R4"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = r.end(syscall.SIGKILL) })
	if err := r.start(); err != nil {
		w.t.Fatal(err)
	}
	for range changeKills {
		late := time.AfterFunc(time.Duration(random.IntN(1000))*time.Millisecond, func() { _ = r.end(syscall.SIGKILL) })
		last := time.AfterFunc(time.Duration(500+random.IntN(1000))*time.Millisecond, func() { ann.kill() })
		ann.try("relay", "replace", "R2", r.address, "--yes")
		late.Stop()
		last.Stop()
		_ = r.end(syscall.SIGKILL) // an error, or nil if it was not killed before
		if err := r.start(); err != nil {
			w.t.Fatal(err)
		}
	}
	// What a killed one began goes on by itself: then another one is refused.
	if err := eventually(quietDown, func() error {
		ann.try("relay", "replace", "R2", r.address, "--yes")
		return errors.Join(ann.usesRelays(), bob.usesRelays())
	}); err != nil {
		w.t.Fatal(err)
	}
	w.relays[gone] = r
	meanwhile := []string{strings.TrimSpace(ann.do("send", "over another relay")), strings.TrimSpace(bob.do("send", "over another relay"))}
	if err := eventually(quietDown, func() error { return errors.Join(all(cat.history(), meanwhile), cat.usesRelays()) }); err != nil {
		w.t.Fatalf("who was away while the relays changed: %v", err)
	}
	w.comesBack(bob, backup)
	if err := eventually(quietDown, bob.usesRelays); err != nil {
		w.t.Fatal(err)
	}
	w.everybodyReaches("over other relays")
	for _, p := range w.people {
		id := strings.TrimSpace(p.do("send", "--wait", "all", "to all three"))
		if err := eventually(quietDown, func() error { return threeOfThree(p, id) }); err != nil {
			w.t.Error(err)
		}
	}
}

// usesRelays: the person's list is that of after the replacement.
func (p *person) usesRelays() error {
	p.t.Helper()
	var list []string
	for _, s := range decode[[]member.RelayStatus](p, "relay", "list") {
		list = append(list, s.Operator+" "+string(s.Standing))
	}
	if want := []string{"R1 in use", "R3 in use", "R4 in use"}; !slices.Equal(list, want) {
		return fmt.Errorf("%s has the relays %q, want %q", p.name, list, want)
	}
	return nil
}
