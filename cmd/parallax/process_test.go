package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/internal/wire"
)

const (
	storms      = 20               // kills
	quietDown   = 15 * time.Second // for what must become true when nothing is killed any more
	seedVar     = "PARALLAX_SEED"
	shortEnough = "2s" // a relay may be silent: the test's group must not wait 30 s for a dead one
)

// seed is drawn, or given to repeat a run; it is printed in any case.
func seed(t *testing.T) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedVar); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVar, err)
		}
	}
	t.Logf("seed: %s=%d", seedVar, n)
	return rand.New(rand.NewPCG(n, 0))
}

// world is three relays and members of one group, every one of them processes
// and a folder.
type world struct {
	t      *testing.T
	relays []*relayProcess
	people []*person
}

// newWorld makes the relays and whom the names say; none is in a group yet.
func newWorld(t *testing.T, names ...string) *world {
	w := &world{t: t}
	dir := t.TempDir()
	for i := range 3 {
		r, err := newRelay(filepath.Join(dir, fmt.Sprintf("R%d", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.end(syscall.SIGKILL) })
		w.relays = append(w.relays, r)
	}
	for _, name := range names {
		w.people = append(w.people, &person{t: t, name: name, data: filepath.Join(dir, name)})
	}
	return w
}

// found starts the relays, and the first person founds the group there. The
// link is for all the others. No process of a member runs when it returns.
func (w *world) found() (link string) {
	w.t.Helper()
	var addrs []string
	for _, r := range w.relays {
		if err := r.start(); err != nil {
			w.t.Fatal(err)
		}
		addrs = append(addrs, r.address)
	}
	ann := w.people[0]
	ann.do("group", "create", "storm", "--name", ann.name, "--deadline", shortEnough, "--relays", strings.Join(addrs, ","))
	return strings.TrimSpace(ann.do("invite"))
}

// end ends the relays orderly and looks into what they kept.
func (w *world) end() {
	w.t.Helper()
	// At once: each waits a while for links whose members were killed.
	var ending sync.WaitGroup
	for _, r := range w.relays {
		ending.Go(func() {
			if err := r.end(syscall.SIGTERM); err != nil {
				w.t.Errorf("SIGTERM: %s: %v", filepath.Base(r.dir), err)
			}
		})
	}
	ending.Wait()
	for _, r := range w.relays {
		checkLog(w.t, filepath.Join(r.dir, "store"))
	}
}

// everybodyReaches sends from each member and waits until all have all of it.
func (w *world) everybodyReaches(what string) {
	w.t.Helper()
	var ids []string
	for _, p := range w.people {
		// Right after a join or a kill, first contacts may be under way.
		var sent result
		if err := eventually(quietDown, func() error {
			if sent = p.try("send", fmt.Sprintf("%s, says %s", what, p.name)); sent.code != 0 {
				return fmt.Errorf("%s cannot send to all: %s", p.name, sent)
			}
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, strings.TrimSpace(sent.out))
	}
	for _, p := range w.people {
		if err := eventually(quietDown, func() error { return all(p.history(), ids) }); err != nil {
			w.t.Fatalf("%s: %s: %v", what, p.name, err)
		}
	}
}

// history is how often each message id stands in the person's history.
func (p *person) history() map[string]int {
	p.t.Helper()
	n := map[string]int{}
	for line := range strings.Lines(p.do("history", "--limit", "0", "--json")) {
		var e member.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.t.Fatalf("%s: history: %v in %q", p.name, err, line)
		}
		n[e.ID]++
	}
	return n
}

// accusations are the events that say something bad of a relay or a member.
func (p *person) accusations() (list []string) {
	p.t.Helper()
	for line := range strings.Lines(p.do("tail", "--since", "0", "--json")) {
		var e member.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.t.Fatalf("%s: tail: %v in %q", p.name, err, line)
		}
		switch e.Kind {
		case member.EventMessage, member.EventJoined, member.EventRemoved, member.EventRole, member.EventLeft:
		default:
			list = append(list, fmt.Sprintf("%s at %s: %s", e.Kind, e.Time.Format(time.TimeOnly), e.Text))
		}
	}
	return list
}

func (p *person) has(id string) error {
	if n := p.history()[id]; n != 1 {
		return fmt.Errorf("message %q stands %d times in the history of %s", id, n, p.name)
	}
	return nil
}

// TestProcesses: the walk of a first day, over real processes: found, invite,
// join, send both ways, follow in one process while another sends, see who has
// it; then processes are killed at any moment, relays and members, and nothing
// that a command acknowledged is lost, doubled or numbered twice.
func TestProcesses(t *testing.T) {
	t.Parallel()
	random := seed(t)
	w := newWorld(t, "Ann", "Bob", "Cat")
	link := w.found()
	for _, p := range w.people[1:] {
		p.do("join", link, "--name", p.name)
	}
	w.everybodyReaches("before")

	// One process follows; others of the same folder go through its socket.
	bob := w.people[1]
	f, err := bob.follow()
	if err != nil {
		t.Fatal(err)
	}
	if err := eventually(quietDown, func() error { _, err := os.Stat(filepath.Join(bob.data, "socket")); return err }); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(bob.do("send", "through the socket"))
	if err := f.await(id, quietDown); err != nil {
		t.Fatal(err)
	}
	if err := w.people[0].has(id); err != nil {
		t.Error(err)
	}
	id = strings.TrimSpace(w.people[0].do("send", "to the follower"))
	if err := f.await(id, quietDown); err != nil {
		t.Fatal(err)
	}
	if err := eventually(quietDown, func() error { return threeOfThree(bob, id) }); err != nil {
		t.Error(err)
	}
	if err := f.end(syscall.SIGINT); err != nil {
		t.Errorf("tail --follow, interrupted: %v", err)
	}

	sent := w.storm(random)
	w.everybodyReaches("after")

	for _, p := range w.people {
		have := p.history()
		for id, n := range have {
			if n != 1 {
				t.Errorf("message %s stands %d times in the history of %s", id, n, p.name)
			}
		}
		for id, by := range sent {
			if have[id] != 1 {
				t.Errorf("message %s of %s was acknowledged and stands %d times in the history of %s", id, by, have[id], p.name)
			}
		}
		if s := decode[member.Status](p, "security"); s.Evidence != 0 || s.Disputes != 0 {
			t.Errorf("%s: %d pieces of evidence and %d disputes among honest relays", p.name, s.Evidence, s.Disputes)
		}
	}
	for _, p := range w.people {
		for _, e := range p.accusations() {
			t.Errorf("%s is told of honest relays and members: %s", p.name, e)
		}
	}
	w.end()
}

// threeOfThree: paths shows one message as matched on all relays.
func threeOfThree(p *person, id string) error {
	out := p.do("paths", "--no-color", "storm", id)
	if !strings.Contains(out, "3 of 3") {
		return fmt.Errorf("paths of %s for %s:\n%s", p.name, id, out)
	}
	return nil
}

// storm kills processes while everybody sends, and returns the ids of what was
// acknowledged, with the sender. Everything runs again when it returns.
func (w *world) storm(random *rand.Rand) map[string]string {
	var mu sync.Mutex // sent
	sent := map[string]string{}
	var over atomic.Bool
	var senders sync.WaitGroup
	for _, p := range w.people {
		senders.Go(func() {
			for i := 0; !over.Load(); i++ {
				r := p.try("send", fmt.Sprintf("%s %d", p.name, i))
				switch r.code {
				case 0:
					mu.Lock()
					sent[strings.TrimSpace(r.out)] = p.name
					mu.Unlock()
				case -1, 3, 6: // killed; no relay, or the process behind the socket is gone; not all of it
				default:
					w.t.Errorf("%s: send in the storm: %s", p.name, r)
				}
			}
		})
	}
	bob := w.people[1]
	f, err := bob.follow()
	if err != nil {
		w.t.Error(err)
	}
	var restarts sync.WaitGroup
	killed := map[string]int{}
	for n := 0; n < storms; {
		time.Sleep(time.Duration(30+random.IntN(300)) * time.Millisecond)
		wait := time.Duration(random.IntN(500)) * time.Millisecond
		switch target := random.IntN(7); target {
		case 0, 1, 2:
			r := w.relays[target]
			if r.end(syscall.SIGKILL) == nil {
				continue // it does not run: killed a moment ago
			}
			killed[filepath.Base(r.dir)]++
			restarts.Go(func() {
				time.Sleep(wait)
				if err := r.start(); err != nil {
					w.t.Error(err)
				}
			})
		case 3, 4, 5:
			p := w.people[target-3]
			if !p.kill() {
				continue
			}
			killed["send of "+p.name]++
		case 6:
			if f == nil {
				continue
			}
			_ = f.end(syscall.SIGKILL)
			killed["tail of "+bob.name]++
			if f, err = bob.follow(); err != nil {
				w.t.Error(err)
			}
		}
		n++
	}
	restarts.Wait()
	over.Store(true)
	senders.Wait()
	if f != nil {
		if err := f.end(syscall.SIGTERM); err != nil {
			w.t.Errorf("tail --follow, terminated: %v", err)
		}
	}
	w.t.Logf("%d messages acknowledged; killed %v", len(sent), killed)
	if len(sent) == 0 {
		w.t.Error("nothing was acknowledged in the storm: it showed nothing")
	}
	return sent
}

// checkLog looks into the store of a relay that has ended: one lineage, dense
// numbers, and no post id under two of them (the table of package relay).
func checkLog(t *testing.T, dir string) {
	t.Helper()
	s, err := pebble.Open(dir, pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const (
		spineLetter = 's'
		scanBytes   = 1 << 20
		keySize     = 16 + 1 + 16 + 8 // unit, letter, lineage, number
		valueSize   = 8 + 8 + 16 + 32 // time, bytes, post id, chain head
	)
	lineages := map[store.Unit]wire.Lineage{}
	last := map[store.Unit]uint64{}
	numbers := map[wire.PostID]uint64{}
	end := bytes.Repeat([]byte{0xff}, keySize)
	for from, more := []byte{0}, true; more; {
		var kvs []store.KV
		if kvs, more, err = s.Scan(from, end, scanBytes); err != nil {
			t.Fatal(err)
		}
		for _, kv := range kvs {
			from = append(kv.Key[:len(kv.Key):len(kv.Key)], 0)
			if len(kv.Key) != keySize || kv.Key[16] != spineLetter || len(kv.Value) != valueSize {
				continue
			}
			u, l := store.Unit(kv.Key[:16]), wire.Lineage(kv.Key[17:33])
			r := wire.NewReader(kv.Key[33:])
			n := r.U64()
			if known, ok := lineages[u]; ok && known != l {
				t.Errorf("%s: unit %x has lineages %s and %s though nothing was restored", dir, u, known, l)
			}
			lineages[u] = l
			if n != last[u]+1 {
				t.Errorf("%s: number %d follows %d", dir, n, last[u])
			}
			last[u] = n
			id := wire.PostID(kv.Value[16:32])
			if was, ok := numbers[id]; ok {
				t.Errorf("%s: post %x has numbers %d and %d", dir, id, was, n)
			}
			numbers[id] = n
		}
	}
	if len(numbers) < 10 {
		t.Errorf("%s: only %d posts in the log: the check read nothing", dir, len(numbers))
	}
}
