package member_test

import (
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// world drives members and relays in one goroutine, at once and in order: the
// smallest driver that keeps the order law. simnet is the one with time, loss
// and lies; this one is for what the membership itself must do.
type world struct {
	t      testing.TB
	now    time.Time
	rng    *rand.ChaCha8
	relays []*relayNode
	nodes  []*memberNode
	link   broadcast.Link
	verify keys.Verify
	single bool // one input a turn: no group commit
	hangs  bool // links that a member does not want any more are cut
}

type relayNode struct {
	w        *world
	key      keys.RelayPrivate
	open     broadcast.Open
	store    *memory.Store
	units    map[store.Unit]*actor
	down     bool
	filter   func(to *memberNode, f broadcast.Frame) []broadcast.Frame // a lie, or nil
	operator string
	at       string // where links to it stand, as the driver says; empty: it does not know
	by       keys.OperatorPrivate
	crash    *crash
}

type memberNode struct {
	*actor
	name     string
	events   []member.Event
	answers  map[uint64]broadcast.Answer
	want     []broadcast.WantLink
	up       map[linkKey]broadcast.Link
	after    map[linkKey]time.Time // dial again
	offline  bool
	controls []int // control slots of each post
	command  uint64
	owed     []broadcast.Command                   // that are given again, after a restart, until they are answered
	sent     func(r *relayNode, f broadcast.Frame) // what it sends, or nil
	got      func(r *relayNode, f broadcast.Frame) // what it gets, likewise
	drops    func(f broadcast.Frame) bool          // what it sends and nobody gets, or nil
}

type actor struct {
	w       *world
	unit    store.Unit
	open    broadcast.Open
	store   *memory.Store
	machine broadcast.Machine
	in      []broadcast.Input
	wake    time.Time
	ends    map[broadcast.Link]*end
	owner   *memberNode // nil: a relay
	crash   *crash      // nil: none is planned

	disk   store.Store // in place of store, nil: none
	atOnce int         // frames in one turn; 0: no limit
	most   int         // that there were
	writes int         // turns that wrote

	holdJobs bool // jobs are kept here
	jobs     []broadcast.Job
}

// crash is a process that ends at its at-th write: right after it, or, with
// lost, right before. What the turn would have sent and shown is gone.
type crash struct {
	at, writes int
	lost       bool
	every      int // not 0: again and again, and lost every other time
}

// due counts a write, and tells whether the process ends at it.
func (c *crash) due() bool {
	if c == nil {
		return false
	}
	c.writes++
	if c.every > 0 && c.writes%c.every == 0 {
		c.at, c.lost = c.at+1, !c.lost
		return true
	}
	return c.writes == c.at
}

// end is the other side of a link.
type end struct {
	actor *actor
	relay *relayNode
	use   broadcast.Use
}

type testEntropy struct{ *rand.ChaCha8 }

func (e testEntropy) Encapsulate(k *mlkem.EncapsulationKey768) ([]byte, []byte) {
	var seed [32]byte
	e.Read(seed[:])
	shared, ct, err := mlkemtest.Encapsulate768(k, seed[:])
	if err != nil {
		panic(err)
	}
	return shared, ct
}

func (testEntropy) Fork(seed [32]byte) broadcast.Entropy {
	return testEntropy{rand.NewChaCha8(seed)}
}

func newWorld(t testing.TB, relays int, members ...string) *world {
	return newWorldOf(t, relays, keys.Ed25519, members...)
}

func newWorldOf(t testing.TB, relays int, verify keys.Verify, members ...string) *world {
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), rng: rand.NewChaCha8([32]byte{1}), verify: verify}
	for i := range relays {
		var key keys.RelayPrivate
		var operator keys.OperatorPrivate
		if err := key.Draw(w.rng); err != nil {
			t.Fatal(err)
		}
		if err := operator.Draw(w.rng); err != nil {
			t.Fatal(err)
		}
		n := &relayNode{w: w, key: key, store: memory.New(), units: map[store.Unit]*actor{}, operator: fmt.Sprintf("Op%d", i+1)}
		n.runBy(operator)
		w.relays = append(w.relays, n)
	}
	for _, name := range members {
		w.add(name)
	}
	return w
}

// runBy makes an operator the relay's.
func (r *relayNode) runBy(operator keys.OperatorPrivate) {
	pub := r.key.Public()
	r.by = operator
	r.open = relay.Open(relay.Config{Key: r.key, Operator: operator.Public(), OperatorName: r.operator,
		OperatorSignature: operator.Sign("parallax/1/operator", pub[:]), Verify: r.w.verify, Tokens: []string{"token"}})
}

func (w *world) add(name string) *memberNode {
	n := &memberNode{name: name, answers: map[uint64]broadcast.Answer{}, up: map[linkKey]broadcast.Link{}, after: map[linkKey]time.Time{}}
	n.actor = &actor{w: w, open: member.Open(member.Config{Verify: w.verify}), store: memory.New(), ends: map[broadcast.Link]*end{}, owner: n}
	w.rng.Read(n.unit[:])
	n.start()
	w.nodes = append(w.nodes, n)
	return n
}

func (a *actor) start() {
	m, err := a.open(a.unit, a.reader(), testEntropy{a.w.rng})
	if err != nil {
		a.w.t.Fatalf("open: %v", err)
	}
	a.machine, a.in, a.wake = m, nil, time.Time{}
	if a.owner != nil {
		for _, c := range a.owner.owed {
			if _, ok := a.owner.answers[c.ID]; !ok {
				a.in = append(a.in, c)
			}
		}
		if len(a.in) > 0 {
			a.step()
		}
	}
	a.drain()
}

// reader is the store in use.
func (a *actor) reader() store.Store {
	if a.disk != nil {
		return a.disk
	}
	return a.store
}

// drain takes one Ready after another until the machine wants nothing.
func (a *actor) drain() {
	for {
		r := a.machine.Ready()
		a.wake = r.Wake
		if r.Links != nil && a.owner != nil {
			a.owner.want = r.Links
			if a.w.hangs {
				a.owner.hangUp()
			}
		}
		for _, s := range r.Now {
			a.deliver(s)
		}
		if r.Write != nil && a.crash.due() {
			if !a.crash.lost {
				a.reader().Apply([]store.Batch{*r.Write})
			}
			a.restart()
			return
		}
		if r.Write != nil {
			a.writes++
			if err := a.reader().Apply([]store.Batch{*r.Write})[0]; err != nil {
				a.w.t.Fatalf("apply: %v", err)
			}
		}
		for _, s := range r.Sends {
			a.deliver(s)
		}
		if a.owner != nil {
			for _, e := range r.Events {
				a.owner.events = append(a.owner.events, e.Body.(member.Event))
			}
			for _, e := range r.Answers {
				a.owner.answers[e.ID] = e
			}
		}
		for _, q := range r.Reads {
			l := broadcast.Loaded{ID: q.ID}
			if q.To == nil {
				if v, err := a.reader().Get(q.From); err == nil {
					l.KVs = []store.KV{{Key: q.From, Value: v}}
				}
			} else {
				l.KVs, l.More, l.Err = a.reader().Scan(q.From, q.To, q.Limit)
			}
			a.in = append(a.in, l)
		}
		for _, j := range r.Jobs {
			if a.holdJobs {
				a.jobs = append(a.jobs, j)
				continue
			}
			a.in = append(a.in, broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)})
		}
		if r.Turn > 0 {
			a.in = append(a.in, broadcast.Applied{Turn: r.Turn})
		}
		if r.Turn == 0 && len(r.Reads) == 0 && len(r.Jobs) == 0 {
			return
		}
		if !a.step() {
			return
		}
	}
}

// step hands over everything that waits; false if nothing did.
func (a *actor) step() bool {
	in := a.in
	a.in = nil
	if a.w.single && len(in) > 1 {
		in, a.in = in[:1], in[1:]
	}
	if a.atOnce > 0 && len(in) > a.atOnce {
		in, a.in = in[:a.atOnce], in[a.atOnce:]
	}
	a.most = max(a.most, len(in))
	for _, i := range in {
		if err := a.machine.Step(a.w.now, i); err != nil {
			a.w.t.Logf("step %T: %v", i, err)
		}
	}
	return len(in) > 0
}

func (a *actor) deliver(s broadcast.Send) {
	e := a.ends[s.Link]
	if e == nil {
		return
	}
	if e.actor == nil {
		if s.Frame.Type == 0 {
			return
		}
		a.owner.route(s.Link, s.Frame)
	}
	if a.owner != nil && s.Frame.Type == proto.TypePost {
		if msg, err := proto.Parse(s.Frame); err == nil {
			n := 0
			for _, x := range msg.(proto.Post).Exceptions {
				if x.Class == broadcast.Control {
					n++
				}
			}
			a.owner.controls = append(a.owner.controls, n)
		}
	}
	if s.Frame.Type != 0 && !(a.owner != nil && a.owner.drops != nil && a.owner.drops(s.Frame)) {
		frames := []broadcast.Frame{s.Frame}
		if a.owner == nil && e.actor.owner != nil && a.ends[s.Link].relay != nil && a.ends[s.Link].relay.filter != nil {
			frames = a.ends[s.Link].relay.filter(e.actor.owner, s.Frame)
		}
		for _, f := range frames {
			if a.owner != nil && a.owner.sent != nil {
				a.owner.sent(e.relay, f)
			}
			if n := e.actor.owner; n != nil && n.got != nil {
				n.got(a.ends[s.Link].relay, f)
			}
			e.actor.in = append(e.actor.in, broadcast.Received{Link: s.Link, Frame: f})
		}
	}
	if s.Close {
		a.w.cut(a, s.Link)
	}
}

// cut ends a link on both sides.
func (w *world) cut(a *actor, l broadcast.Link) {
	e := a.ends[l]
	if e == nil {
		return
	}
	delete(a.ends, l)
	sides := []*actor{a}
	if e.actor != nil { // else nothing was said on it yet
		delete(e.actor.ends, l)
		sides = append(sides, e.actor)
	}
	for _, side := range sides {
		d := broadcast.Down{Link: l}
		if n := side.owner; n != nil {
			for k, v := range n.up {
				if v == l {
					d.Relay, d.Use = k.Relay, k.Use
					delete(n.up, k)
					n.after[k] = w.now.Add(100 * time.Millisecond)
				}
			}
		}
		side.in = append(side.in, d)
	}
}

// hangUp cuts the links that the member does not want any more.
func (n *memberNode) hangUp() {
	for k, l := range n.up {
		if !slices.ContainsFunc(n.want, func(want broadcast.WantLink) bool { return want.Relay == k.Relay && want.Use == k.Use }) {
			n.w.cut(n.actor, l)
		}
	}
}

// dial sets up the links that members want and have not.
func (w *world) dial() (any bool) {
	for _, n := range w.nodes {
		if n.offline {
			continue
		}
		for _, want := range n.want {
			k := linkKey{Relay: want.Relay, Use: want.Use}
			if n.up[k] != 0 || w.now.Before(n.after[k]) {
				continue
			}
			for _, r := range w.relays {
				if r.key.Public() != want.Relay || r.down {
					continue
				}
				w.link++
				l := w.link
				n.up[k] = l
				n.ends[l] = &end{actor: nil, relay: r, use: want.Use}
				n.in = append(n.in, broadcast.Up{Link: l, Relay: want.Relay, Use: want.Use, Addr: r.at})
				any = true
			}
		}
	}
	return any
}

// route finds the relay's machine by the Hello of a fresh link.
func (n *memberNode) route(l broadcast.Link, f broadcast.Frame) *actor {
	e := n.ends[l]
	msg, err := proto.Parse(f)
	hello, ok := msg.(proto.Hello)
	if err != nil || !ok {
		n.w.t.Fatalf("a link begins with %T, %v", msg, err)
	}
	unit := relay.Unit(hello.Channel)
	a := e.relay.units[unit]
	if a == nil {
		a = &actor{w: n.w, unit: unit, open: e.relay.open, store: e.relay.store, ends: map[broadcast.Link]*end{}, crash: e.relay.crash}
		a.start()
		e.relay.units[unit] = a
	}
	e.actor = a
	a.ends[l] = &end{actor: n.actor, relay: e.relay, use: e.use}
	a.in = append(a.in, broadcast.Up{Link: l})
	return a
}

// turn lets everybody take one step.
func (w *world) turn() (busy bool) {
	busy = w.dial()
	for _, a := range w.actors() {
		if a.step() {
			busy = true
			a.drain()
		}
	}
	return busy
}

// restart opens a machine again from its store: links are cut, what was not
// written is gone.
func (a *actor) restart() {
	for _, l := range slices.Sorted(maps.Keys(a.ends)) {
		a.w.cut(a, l)
	}
	if a.owner != nil {
		clear(a.owner.up)
		clear(a.ends)
		a.owner.want = nil
	}
	a.start()
}

// stop takes a relay down: its links are cut, its store stays.
func (r *relayNode) stop() {
	r.down = true
	for _, u := range r.units {
		for l := range u.ends {
			r.w.cut(u, l)
		}
	}
}

// leave takes a member off the net.
func (n *memberNode) leave() {
	for l := range n.ends {
		n.w.cut(n.actor, l)
	}
	n.drain()
	n.offline = true
}

// history is what the store has of messages.
func (n *memberNode) history() (all []string) {
	for i := uint64(1); ; i++ {
		raw, err := n.reader().Get(member.EventKey(n.unit, i))
		if err != nil {
			return all
		}
		var e member.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			n.w.t.Fatal(err)
		}
		if e.Kind == member.EventMessage {
			all = append(all, e.Member+": "+e.Text)
		}
	}
}

// run goes on until nothing moves, letting time pass up to d.
func (w *world) run(d time.Duration) {
	until := w.now.Add(d)
	for turns := 0; ; turns++ {
		if turns > 200_000 {
			w.t.Fatal("the world does not come to rest")
		}
		if w.turn() {
			continue
		}
		var next time.Time
		for _, a := range w.actors() {
			if !a.wake.IsZero() && (next.IsZero() || a.wake.Before(next)) {
				next = a.wake
			}
		}
		for _, n := range w.nodes {
			for _, want := range n.want {
				k := linkKey{want.Relay, want.Use}
				if t := n.after[k]; n.up[k] == 0 && t.After(w.now) && !n.offline && (next.IsZero() || t.Before(next)) {
					next = t
				}
			}
		}
		if next.IsZero() || next.After(until) {
			w.now = until
			return
		}
		if next.After(w.now) {
			w.now = next
		}
		for _, a := range w.actors() {
			if !a.wake.IsZero() && !a.wake.After(w.now) {
				a.machine.Tick(w.now)
				a.drain()
			}
		}
	}
}

func (w *world) actors() (all []*actor) {
	for _, n := range w.nodes {
		if !n.offline {
			all = append(all, n.actor)
		}
	}
	for _, r := range w.relays {
		for _, u := range r.units {
			all = append(all, u)
		}
	}
	return all
}

// do runs a wish to its answer.
func (n *memberNode) do(w member.Wish) (any, error) {
	n.command++
	id := n.command
	n.in = append(n.in, broadcast.Command{ID: id, Wish: w})
	for range 400 {
		n.w.run(100 * time.Millisecond)
		if a, ok := n.answers[id]; ok {
			return a.Value, a.Err
		}
	}
	return nil, fmt.Errorf("no answer to %s", w.Wish())
}

func (n *memberNode) must(w member.Wish) any {
	n.w.t.Helper()
	v, err := n.do(w)
	if err != nil {
		n.w.t.Fatalf("%s: %s: %v", n.name, w.Wish(), err)
	}
	return v
}

// texts are the messages shown so far.
func (n *memberNode) texts() (all []string) {
	for _, e := range n.events {
		if e.Kind == member.EventMessage {
			all = append(all, e.Member+": "+e.Text)
		}
	}
	return all
}

func (n *memberNode) alarms() (all []string) {
	for _, e := range n.events {
		switch e.Kind {
		case member.EventDispute, member.EventRelay, member.EventEvidence, member.EventBlame:
			all = append(all, string(e.Kind)+": "+e.Text)
		}
	}
	return all
}

// group founds a group of the world's members, all joined by one link.
func (w *world) group(strict bool) string {
	var spots []member.FoundingSpot
	for _, r := range w.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/" + r.operator}, Token: "token"})
	}
	w.nodes[0].must(member.CreateGroup{Group: "Test", Name: w.nodes[0].name, Relays: spots, Strict: strict, Deadline: 3 * time.Second})
	link := w.nodes[0].must(member.MakeInvite{}).(member.InviteInfo).Link
	for _, n := range w.nodes[1:] {
		n.must(member.JoinGroup{Link: link, Name: n.name})
	}
	w.run(time.Second)
	return link
}

type linkKey struct {
	Relay keys.RelayPublic
	Use   broadcast.Use
}
