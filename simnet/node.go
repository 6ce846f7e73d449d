package simnet

import (
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// idleAfter is how long a relay keeps a machine open that no link uses.
const idleAfter = 2 * time.Minute

// Node is a process: a relay with a machine for every channel that a link
// asks for, or a member with one.
type Node struct {
	w    *World
	name string
	open broadcast.Open
	disk *memory.Store
	skew time.Duration
	next time.Duration // skew after the next start
	rate int64         // by how many parts per million the clock runs fast
	from time.Duration // since when it does
	up   bool
	life int

	relay bool
	key   keys.RelayPublic
	route func(first broadcast.Frame) (store.Unit, error)

	unit  store.Unit // member
	dials []*dial

	actors map[store.Unit]*actor
	opened int
	links  []*conn // that stand, from this node's point of view

	// Events and Answers are what was shown, over all lives.
	Events  []broadcast.Event
	Answers map[uint64]broadcast.Answer
	// Refusals are the inputs that machines refused.
	Refusals []error

	copies map[string]*memory.Store
}

func (w *World) add(n *Node) *Node {
	if w.nodes[n.name] != nil {
		panic("simnet: two nodes are called " + n.name)
	}
	n.w, n.disk = w, memory.New()
	n.actors, n.Answers = map[store.Unit]*actor{}, map[uint64]broadcast.Answer{}
	n.copies = map[string]*memory.Store{}
	w.nodes[n.name] = n
	w.order = append(w.order, n)
	n.Start()
	return n
}

// AddRelay adds a running relay. route tells from a link's first frame which
// unit it belongs to; an error ends the link.
func (w *World) AddRelay(name string, key keys.RelayPublic, open broadcast.Open, route func(broadcast.Frame) (store.Unit, error)) *Node {
	n := &Node{name: name, relay: true, key: key, open: open, route: route}
	w.relays[key] = n
	return w.add(n)
}

// AddMember adds a running member.
func (w *World) AddMember(name string, open broadcast.Open, unit store.Unit) *Node {
	return w.add(&Node{name: name, open: open, unit: unit})
}

// Name is the node's name in the world.
func (n *Node) Name() string { return n.name }

// Up tells whether the process runs.
func (n *Node) Up() bool { return n.up }

// Disk is what is durable.
func (n *Node) Disk() *memory.Store { return n.disk }

// Now is the node's own clock: it disagrees with others by its skew and its
// drift and never goes back while the process runs.
func (n *Node) Now() time.Time { return n.w.cfg.Start.Add(n.w.now + n.ahead()) }

// ahead is how far the clock is ahead of the true date.
func (n *Node) ahead() time.Duration {
	const million = 1_000_000
	d := int64(n.w.now - n.from)
	return n.skew + time.Duration(d/million*n.rate+d%million*n.rate/million)
}

// lasts is the true time in which the clock goes on by d, rounded up.
func (n *Node) lasts(d time.Duration) time.Duration {
	if n.rate == 0 || d <= 0 {
		return d
	}
	const million = 1_000_000
	by := million + n.rate
	return d/time.Duration(by)*million + (d%time.Duration(by)*million+time.Duration(by)-1)/time.Duration(by)
}

// Skew sets the clock ahead (or behind) of the true date. Forward it jumps at
// once, as after a suspend; backward only at the next start, since a process
// never sees its clock go back.
func (n *Node) Skew(d time.Duration) {
	n.next = d
	if d > n.ahead() || !n.up {
		n.skew, n.from = d, n.w.now
		n.look()
	}
}

// Drift lets the clock run fast (or slow) from now on, in parts per million of
// the true time; below a million.
func (n *Node) Drift(ppm int64) {
	n.skew, n.from, n.rate = n.ahead(), n.w.now, ppm
	n.look()
}

// look wakes the machines, whose alarms were set by the clock before.
func (n *Node) look() {
	for _, a := range n.sorted() {
		a.wake = -1
		a.ticking = true
		a.schedule()
	}
}

// Command hands a wish to a member's machine. The answer appears in Answers;
// repeating an id repeats the wish.
func (n *Node) Command(id uint64, wish any) {
	if a := n.actors[n.unit]; a != nil {
		a.input(broadcast.Command{ID: id, Wish: wish})
	}
}

// Start starts the process on its disk.
func (n *Node) Start() {
	if n.up {
		return
	}
	n.up = true
	n.skew, n.from = n.next, n.w.now
	n.life++
	if n.relay {
		return
	}
	if _, err := n.openActor(n.unit); err != nil {
		n.w.fail(fmt.Errorf("%s does not open: %w", n.name, err))
	}
}

// Crash ends the process at once. Writes under way may or may not have become
// durable; peers notice after a while.
func (n *Node) Crash() { n.stop("the process crashed", true) }

// Stop ends the process between turns: what was being written is lost, and
// peers notice after a while. For a relay this is an outage.
func (n *Node) Stop() { n.stop("the process ended", false) }

func (n *Node) stop(why string, crash bool) {
	if !n.up {
		return
	}
	n.w.Logf("%s: %s", n.name, why)
	n.up = false
	for _, a := range n.sorted() {
		a.die(crash)
	}
	for _, l := range slices.Clone(n.links) {
		l.breakOff(why)
	}
	n.links, n.dials = nil, nil
}

// Copy keeps a copy of the disk under a name.
func (n *Node) Copy(name string) { n.copies[name] = n.disk.Snapshot() }

// Restore puts a copy back, as a backup is restored: the process is stopped,
// its disk replaced, and started again.
func (n *Node) Restore(name string) error {
	n.stop("its disk is replaced by an older copy", false)
	if err := n.Replace(name); err != nil {
		return err
	}
	n.Start()
	return nil
}

// Replace puts a copy in the place of the disk of a process that does not run.
func (n *Node) Replace(name string) error {
	c := n.copies[name]
	if c == nil || n.up {
		return fmt.Errorf("simnet: %s has no copy called %q, or it runs", n.name, name)
	}
	n.disk = c.Snapshot()
	return nil
}

// sorted are the actors in a fixed order.
func (n *Node) sorted() []*actor {
	out := make([]*actor, 0, len(n.actors))
	for _, a := range n.actors {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *actor) int { return slices.Compare(a.unit[:], b.unit[:]) })
	return out
}

func (n *Node) show(events []broadcast.Event, answers []broadcast.Answer) {
	n.Events = append(n.Events, events...)
	for _, a := range answers {
		n.Answers[a.ID] = a
	}
}

func (n *Node) refused(in broadcast.Input, err error) {
	n.Refusals = append(n.Refusals, err)
	n.w.Logf("%s: refused %T: %v", n.name, in, err)
}

// settle closes a relay's machine that no link uses any more.
func (n *Node) settle(u store.Unit) {
	a := n.actors[u]
	if a == nil {
		return
	}
	n.w.after(idleAfter, func() {
		if !a.dead && a.idle() && !slices.ContainsFunc(n.links, func(c *conn) bool { return c.to == a }) {
			a.die(false)
		}
	})
}
