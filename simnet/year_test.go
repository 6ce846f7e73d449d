package simnet

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

var yearSteps = flag.Int("steps", 60, "how many things happen in a year of TestYear")

const day = 24 * time.Hour

// TestYear is a year in the life of a group, in virtual time: people join, are
// away for weeks, lose their devices and come back from a backup; relays fail,
// are restored from older copies and come back, die and are replaced; several act at
// once; prekeys rotate week by week.
// After each step, once it is quiet, the invariants of agree must hold.
func TestYear(t *testing.T) {
	const workers = 2
	var mu sync.Mutex
	did := map[string]int{}
	t.Cleanup(func() {
		for _, name := range yearHas {
			if did[name] == 0 && !t.Failed() && *yearSteps >= 60 && *firstSeed == 1 {
				t.Errorf("in no year there was %s", name)
			}
		}
	})
	for worker := range uint64(workers) {
		t.Run(fmt.Sprintf("worker %d", worker), func(t *testing.T) {
			t.Parallel()
			count := seedsOr(workers)
			for seed := *firstSeed + worker; seed < *firstSeed+count && !t.Failed(); seed += workers {
				begun := time.Now()
				y := newYear(t, seed)
				if err := y.live(); err != nil {
					t.Errorf("seed %d, day %d, after %s: %v\n(run it alone with -first %d -seeds 1)", seed, y.s.Elapsed()/day, y.doing, err, seed)
				}
				mu.Lock()
				for name, n := range y.did {
					did[name] += n
				}
				mu.Unlock()
				t.Logf("seed %d: %.1f s, %d events, %d people, %d texts; %s", seed, time.Since(begun).Seconds(), y.s.events, len(y.people), len(y.texts), y.counts())
			}
		})
	}
}

// yearHas is what has to happen at least once in the years that are run.
var yearHas = []string{"a join", "two joins at once", "an absence", "a removal", "a leaving", "two admins at once", "a relay's outage", "a relay's death",
	"a relay's successor", "a relay restored from a copy", "a device lost"}

// year is a group's life so far.
type year struct {
	t      *testing.T
	s      *Scenario
	r      *rand.Rand
	people []*person
	former []*person // who was removed, or left
	all    int       // people there ever were
	texts  []*yearText
	doing  string         // the step under way, for people
	did    map[string]int // steps, by name
	used   []*Relay       // in the group's list
	listed time.Duration  // when the list changed last
}

// person is a member over all of its installations.
type person struct {
	*Node
	since   time.Duration // when it had joined and it was quiet
	began   time.Duration // when it had joined, or went on from a backup
	away    time.Duration // until when it is; 0: it is here
	left    time.Duration // when it went away last
	back    time.Duration // when it came back last
	backup  []store.KV
	backed  time.Duration // when the backup was made
	knows   []*Relay      // the list of then
	out     time.Duration // when it was removed or left; 0: it is in
	admin   bool
	missing []stretch // texts sent then cannot be read any more
}

// stretch is a part of the year, and whose texts of it are meant; nil: all.
type stretch struct {
	from, to time.Duration
	by       *person
}

// yearText is a text with those who have to get it.
type yearText struct {
	text string
	at   time.Duration
	by   *person
	not  map[string]bool // whom its sender had no session with
}

// retained is how long relays keep a text for who is away, with a margin.
const retained = 20 * day

func newYear(t *testing.T, seed uint64) *year {
	cfg := Config{Seed: seed, Limit: 1 << 40}
	if testing.Verbose() && seedsOr(0) == 1 {
		cfg.Log = func(line string) { t.Log(line) }
	}
	y := &year{t: t, s: NewScenario(cfg), did: map[string]int{}}
	y.r = y.s.Rand("year")
	y.s.Net().Redial = 5 * time.Minute // days of dialling cost more than all else
	y.s.Honest = true
	y.s.Invariant(func() error {
		return y.s.quiet("does not keep messages before", "has been gone for", "answers again", "The group's relays change", "The group uses other relays now", "lost data and started again", "the digest of a message that no relay shows here")
	})
	return y
}

// yearStep is something that may happen: how often beside the others, and when
// it can at all.
type yearStep struct {
	name   string
	weight int
	can    func() bool
	do     func() error
}

func (y *year) steps() []yearStep {
	always := func() bool { return true }
	return []yearStep{
		{"talk", 8, always, func() error { return y.talk(1 + y.r.IntN(4)) }},
		{"a join", 5, func() bool { return len(y.people) < 12 && y.relaysUp() == len(y.used) && len(y.admins()) > 0 }, y.join},
		{"two joins at once", 2, func() bool { return len(y.people) < 11 && y.relaysUp() == len(y.used) && len(y.admins()) > 0 }, y.joinBoth},
		{"an absence", 4, func() bool { return len(y.here()) > 2 }, y.goAway},
		{"a relay's outage", 2, func() bool { return y.relaysUp() == len(y.used) }, y.outage},
		{"a relay's death", 3, y.mayChangeRelays, y.death},
		{"a relay's successor", 2, y.mayChangeRelays, y.successor},
		{"another relay", 1, func() bool { return y.mayChangeRelays() && len(y.used) < 4 }, y.moreRelays},
		{"a relay less", 1, func() bool { return y.mayChangeRelays() && len(y.used) > 3 }, y.fewerRelays},
		{"another policy", 1, func() bool { return y.people[0].away == 0 }, y.policy},
		{"a relay's crash", 2, always, y.crashRelay},
		{"a relay restored from a copy", 1, func() bool { return y.relaysUp() == len(y.used) }, y.restoreRelay},
		{"a member's crash", 3, always, y.crashMember},
		{"a backup", 2, always, y.makeBackup},
		{"a device lost", 2, func() bool { return len(y.backups()) > 0 && len(y.here()) > 2 }, y.loseDevice},
		{"a cut between a member and a relay", 2, always, y.cut},
		{"a role", 3, func() bool { return len(y.admins()) > 0 }, y.role},
		{"a removal", 2, func() bool { return len(y.people) > 4 && len(y.admins()) > 0 }, y.removal},
		{"a leaving", 1, func() bool { return len(y.people) > 4 && len(y.here()) > 3 }, y.leaving},
		{"two admins at once", 2, func() bool { return len(y.people) > 5 && len(y.admins()) > 1 }, y.atOnce},
	}
}

// live is the year.
func (y *year) live() error {
	s := y.s
	y.doing = "the founding"
	s.AddRelays(3)
	y.used = slices.Clone(s.Relays)
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		y.people = append(y.people, &person{Node: s.AddMember(name)})
	}
	y.all, y.people[0].admin = len(y.people), true
	if err := s.Create(y.people[0].Node, false, 0); err != nil {
		return err
	}
	if err := s.Join(s.Members[1:]...); err != nil {
		return err
	}
	if err := y.agree(); err != nil {
		return err
	}
	gap := 365 * day / time.Duration(*yearSteps)
	for range *yearSteps {
		if err := s.Run(between(y.r, gap/2, gap*3/2)); err != nil {
			return err
		}
		y.doing = "time that went by"
		if err := y.comeBack(); err != nil {
			return err
		}
		if err := y.step(); err != nil {
			return err
		}
		if err := y.talk(1); err != nil {
			return err
		}
		if err := y.agree(); err != nil {
			return err
		}
	}
	y.doing = "the end"
	for _, p := range y.people {
		p.away = min(p.away, 1)
	}
	if err := y.comeBack(); err != nil {
		return err
	}
	for _, r := range y.used {
		r.Start()
	}
	if err := y.talk(2); err != nil {
		return err
	}
	return y.agree()
}

func (y *year) step() error {
	var list []yearStep
	all := 0
	for _, x := range y.steps() {
		if x.can() {
			list, all = append(list, x), all+x.weight
		}
	}
	n := y.r.IntN(all)
	for _, x := range list {
		if n -= x.weight; n < 0 {
			y.doing = x.name
			y.did[x.name]++
			y.s.Logf("== day %d: %s", y.s.Elapsed()/day, x.name)
			return x.do()
		}
	}
	return nil
}

func (y *year) counts() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(y.did)) {
		out = append(out, fmt.Sprintf("%s %d", name, y.did[name]))
	}
	return strings.Join(out, ", ")
}

// here are those who are not away.
func (y *year) here() (out []*person) {
	for _, p := range y.people {
		if p.away == 0 {
			out = append(out, p)
		}
	}
	return out
}

func (y *year) someone() *person { return y.here()[y.r.IntN(len(y.here()))] }

func (y *year) relaysUp() (n int) {
	for _, r := range y.used {
		if r.up {
			n++
		}
	}
	return n
}

// talk lets people who are here send texts.
func (y *year) talk(n int) error {
	for range n {
		p := y.someone()
		text := fmt.Sprintf("text %d, by %s", len(y.texts)+1, p.name)
		v, err := y.s.Do(p.Node, member.GetStatus{})
		if err != nil {
			return err
		}
		x := &yearText{text: text, by: p, not: map[string]bool{}}
		for _, m := range v.(member.Status).Members {
			x.not[m.Name] = !m.Session && !m.Own
		}
		if _, err := y.s.Do(p.Node, member.SendText{Text: text, Wait: member.WaitNone}); err != nil {
			return fmt.Errorf("%s sends: %w", p.name, err)
		}
		x.at = y.s.Elapsed()
		y.texts = append(y.texts, x)
		y.s.Logf("== %s; not to %v", text, x.not)
		if err := y.s.Run(between(y.r, 0, time.Minute)); err != nil {
			return err
		}
	}
	return nil
}

func (y *year) join() error {
	return y.joins(1)
}

// joinBoth: two come at once, and all admins who are here act on it.
func (y *year) joinBoth() error { return y.joins(2) }

func (y *year) joins(count int) error {
	by := y.admins()[y.r.IntN(len(y.admins()))]
	if err := y.s.Invite(by.Node); err != nil {
		return fmt.Errorf("an invitation by %s: %w", by.name, err)
	}
	var come []*Node
	for range count {
		n := y.s.AddMember(fmt.Sprintf("p%02d", y.all))
		y.all++
		come = append(come, n)
	}
	if err := y.s.Join(come...); err != nil {
		return err
	}
	if err := y.s.Run(time.Minute); err != nil {
		return err
	}
	for _, n := range come {
		y.people = append(y.people, &person{Node: n, since: y.s.Elapsed(), began: y.s.Elapsed()})
	}
	return nil
}

// policy: the owner changes how long a relay may stay silent.
func (y *year) policy() error {
	deadline := between(y.r, 20*time.Second, 50*time.Second).Truncate(time.Second)
	_, err := y.s.Do(y.people[0].Node, member.SetPolicy{Deadline: &deadline})
	if errors.Is(err, member.ErrNothingToDo) {
		return nil
	}
	return err
}

// goAway: some admin stays, mostly.
func (y *year) goAway() error {
	p := y.someone()
	if p.admin && len(y.admins()) == 1 && y.r.IntN(4) > 0 {
		return nil
	}
	p.left = y.s.Elapsed()
	p.away = p.left + between(y.r, day, 35*day)
	y.s.Logf("== %s is away until day %d", p.name, p.away/day)
	p.Stop()
	return nil
}

func (y *year) comeBack() error {
	for _, p := range y.people {
		if p.away == 0 || y.s.Elapsed() < p.away {
			continue
		}
		p.away, p.back = 0, y.s.Elapsed()
		y.s.Logf("== %s is back", p.name)
		// What was sent longer ago than the relays keep is gone.
		if until := y.s.Elapsed() - retained; until > p.left {
			p.missing = append(p.missing, stretch{p.left - time.Hour, until, nil})
			// The hellos of who began meanwhile were trimmed. What was sent in
			// those sessions is asked for when its sender is next heard of.
			for _, o := range y.people {
				if o.began > p.left {
					p.missing = append(p.missing, stretch{p.left, y.s.Elapsed(), o})
				}
			}
		}
		p.Start()
		if err := y.s.Run(5 * time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// admins are those who are here.
func (y *year) admins() (out []*person) {
	for _, p := range y.here() {
		if p.admin {
			out = append(out, p)
		}
	}
	return out
}

// role makes somebody an admin, or an admin a member again; the founder stays.
func (y *year) role() error {
	by := y.admins()[y.r.IntN(len(y.admins()))]
	p := y.people[y.r.IntN(len(y.people))]
	if p.name == "alice" || p == by {
		return nil
	}
	role := member.AsAdmin
	if p.admin {
		role = member.AsMember
	}
	if _, err := y.s.Do(by.Node, member.SetRole{Member: p.name, Role: role}); err != nil {
		return fmt.Errorf("%s makes %s a %s: %w", by.name, p.name, role, err)
	}
	p.admin = role == member.AsAdmin
	return nil
}

// removal: what was sent a while before counts.
func (y *year) removal() error {
	by := y.admins()[y.r.IntN(len(y.admins()))]
	p := y.people[y.r.IntN(len(y.people))]
	if p.name == "alice" || p == by {
		return nil
	}
	v, err := y.s.Do(by.Node, member.RemoveMember{Member: p.name})
	if err != nil {
		return fmt.Errorf("%s removes %s: %w", by.name, p.name, err)
	}
	if link := v.(member.OperationInfo).Link; link != "" {
		y.s.Link = link
	}
	y.goes(p)
	return y.talk(1)
}

// goes: somebody is not in the group any more.
func (y *year) goes(p *person) {
	y.s.Logf("== %s is out", p.name)
	p.out = y.s.Elapsed()
	y.people = slices.DeleteFunc(y.people, func(o *person) bool { return o == p })
	y.former = append(y.former, p)
	y.s.At(between(y.r, day, 40*day), p.Stop)
}

func (y *year) leaving() error {
	p := y.someone()
	if p.name == "alice" {
		return nil
	}
	if _, err := y.s.Do(p.Node, member.LeaveGroup{}); err != nil {
		return fmt.Errorf("%s leaves: %w", p.name, err)
	}
	y.goes(p)
	return nil
}

// atOnce: two admins act without knowing of each other.
func (y *year) atOnce() error {
	a := y.admins()
	one, two := a[0], a[1+y.r.IntN(len(a)-1)]
	p := y.people[y.r.IntN(len(y.people))]
	if p.name == "alice" || p == one || p == two {
		return nil
	}
	y.s.Wish(one.Node, member.RemoveMember{Member: p.name})
	switch y.r.IntN(3) {
	case 0:
		y.s.Wish(two.Node, member.RemoveMember{Member: p.name})
	case 1:
		y.s.Wish(two.Node, member.SetRole{Member: p.name, Role: member.AsReader})
	default:
		y.s.Wish(two.Node, member.MakeInvite{})
	}
	if err := y.s.Run(2 * time.Minute); err != nil {
		return err
	}
	y.goes(p)
	return nil
}

func (y *year) someRelay() *Relay { return y.used[y.r.IntN(len(y.used))] }

// outage: a relay does not answer for days.
func (y *year) outage() error {
	r := y.someRelay()
	r.Stop()
	y.s.At(between(y.r, time.Hour, 6*day), r.Start)
	return nil
}

func (y *year) crashRelay() error {
	r := y.someRelay()
	if !r.up {
		return nil
	}
	y.s.At(between(y.r, 0, time.Second), r.Crash)
	y.s.At(between(y.r, time.Second, time.Minute), r.Start)
	return y.talk(2)
}

// restoreRelay puts a relay back to what it had hours ago, as its operator does
// after a disk failed.
func (y *year) restoreRelay() error {
	r := y.someRelay()
	r.Copy("copy")
	if err := errors.Join(y.talk(2), y.s.Run(between(y.r, time.Minute, 20*time.Hour))); err != nil {
		return err
	}
	r.Stop()
	if err := r.Replace("copy"); err != nil {
		return err
	}
	inv, err := member.ParseLink(y.s.Link)
	if err != nil {
		return err
	}
	if err := r.MarkRestored(inv.Channel(r.Key.Public())); err != nil {
		return err
	}
	r.Start()
	return y.s.Run(time.Minute)
}

func (y *year) crashMember() error {
	p := y.someone()
	y.s.At(between(y.r, 0, time.Second), p.Crash)
	if err := errors.Join(y.talkWithout(p), y.s.Run(between(y.r, time.Second, time.Minute))); err != nil {
		return err
	}
	p.Start()
	return nil
}

func (y *year) talkWithout(p *person) error {
	p.away = 1
	defer func() { p.away = 0 }()
	return y.talk(1)
}

func (y *year) makeBackup() error {
	p := y.someone()
	kvs, err := member.Backup(p.unit, p.disk)
	if err != nil {
		return fmt.Errorf("%s makes a backup: %w", p.name, err)
	}
	if _, err := member.CheckBackup(p.unit, kvs); err != nil {
		return fmt.Errorf("%s's backup: %w", p.name, err)
	}
	p.backup, p.backed, p.knows = kvs, y.s.Elapsed(), slices.Clone(y.used)
	return nil
}

func (y *year) backups() (out []*person) {
	for _, p := range y.here() {
		if p.backup != nil {
			out = append(out, p)
		}
	}
	return out
}

// loseDevice: somebody goes on from a backup, on a new device.
func (y *year) loseDevice() error {
	p := y.backups()[y.r.IntN(len(y.backups()))]
	p.Stop()
	p.away = 1
	err := errors.Join(y.talk(1), y.s.Run(between(y.r, time.Minute, 2*day)))
	p.away = 0
	if err != nil {
		return err
	}
	d := memory.New()
	b := store.Batch{Unit: p.unit}
	for _, kv := range p.backup {
		b.Ops = append(b.Ops, store.Op{Key: kv.Key, Value: kv.Value})
	}
	if err := d.Apply([]store.Batch{b})[0]; err != nil {
		return err
	}
	p.disk = d
	p.Start()
	if err := y.s.Run(30 * time.Minute); err != nil { // a way back takes that long
		return err
	}
	until := y.s.Elapsed()
	if !slices.Equal(p.knows, y.used) {
		// Who began a first contact before it had announced mailboxes on the relays
		// that came since begins again, when that had no answer for long.
		until += day
	}
	p.missing = append(p.missing, stretch{p.backed - time.Hour, until, nil})
	p.began = y.s.Elapsed()
	p.backup = nil // of an installation that is no more
	return nil
}

func (y *year) cut() error {
	p, r := y.someone(), y.someRelay()
	y.s.Partition([]string{p.name}, []string{r.name})
	err := errors.Join(y.talk(2), y.s.Run(between(y.r, time.Minute, 12*time.Hour)))
	y.s.Heal()
	return err
}
