package simnet

import (
	"fmt"
	"math/rand/v2"
	"time"

	"parallax/broadcast"
	"parallax/internal/store"
)

// How long a driver's own work takes, in virtual time.
const (
	turnLeast = 20 * time.Microsecond
	turnMost  = 200 * time.Microsecond
	readMost  = 3 * time.Millisecond
	jobMost   = 6 * time.Millisecond
)

// maxSpins is how often in a row a machine may ask for a Tick at once, with no
// other input: a driver that obeys would burn a core.
const maxSpins = 200

// actor drives one machine by the contract of broadcast.Ready. It lives as
// long as its process: after a crash it is dead, and a new one is opened.
type actor struct {
	node    *Node
	unit    store.Unit
	machine broadcast.Machine
	rand    *rand.Rand
	dead    bool
	inbox   []broadcast.Input
	turning bool // a turn is scheduled
	turn    uint64
	pending []*turn // in order, the first is being written
	writing bool
	wake    time.Duration // scheduled Tick; negative: none
	wakes   uint64        // only the newest one counts
	ticking bool
	spins   int // Ticks in a row that asked for another one at once
}

// turn is a Ready whose Sends, Events and Answers wait for its write.
type turn struct{ ready broadcast.Ready }

func (n *Node) openActor(u store.Unit) (*actor, error) {
	life := fmt.Sprint(n.life)
	a := &actor{
		node: n, unit: u, wake: -1,
		rand: rand.New(stream(n.w.cfg.Seed, "driver", n.name, string(u[:]), life, fmt.Sprint(n.opened))),
	}
	own := entropy{stream(n.w.cfg.Seed, "entropy", n.name, string(u[:]), life, fmt.Sprint(n.opened))}
	n.opened++
	m, err := n.open(u, n.disk, own)
	if err != nil {
		return nil, err
	}
	a.machine = m
	n.actors[u] = a
	a.schedule() // an opened machine may want links, or redo what was under way
	return a, nil
}

// input queues an input; everything queued by the next turn is stepped together.
func (a *actor) input(in broadcast.Input) {
	if a.dead {
		return
	}
	a.inbox = append(a.inbox, in)
	a.schedule()
}

func (a *actor) schedule() {
	if !a.turning {
		a.turning = true
		a.node.w.after(between(a.rand, turnLeast, turnMost), a.run)
	}
}

// run is one turn: step what waits, take one Ready.
func (a *actor) run() {
	if a.dead {
		return
	}
	a.turning = false
	now := a.node.Now()
	if a.ticking {
		a.ticking = false
		a.machine.Tick(now)
	}
	inbox := a.inbox
	a.inbox = nil
	for _, in := range inbox {
		if err := a.machine.Step(now, in); err != nil {
			a.node.refused(in, err)
		}
	}
	r := a.machine.Ready()
	if len(inbox) > 0 || r.Wake.IsZero() || r.Wake.After(now) {
		a.spins = 0
	} else if a.spins++; a.spins > maxSpins {
		a.node.w.fail(fmt.Errorf("%w: %s wants to be woken at %v, which is past, again and again", ErrDriver, a.node.name, r.Wake))
		return
	}
	a.obey(r)
	a.node.w.check()
}

func (a *actor) obey(r broadcast.Ready) {
	n, w := a.node, a.node.w
	if r.Turn == 0 && (r.Write != nil || len(r.Sends)+len(r.Events)+len(r.Answers) > 0) {
		w.fail(fmt.Errorf("%w: %s: a Ready with a write, sends, events or answers has no turn", ErrDriver, n.name))
		return
	}
	if r.Turn != 0 {
		if r.Turn != a.turn+1 {
			w.fail(fmt.Errorf("%w: %s: turn %d after %d", ErrDriver, n.name, r.Turn, a.turn))
			return
		}
		a.turn = r.Turn
	}
	n.send(a, r.Now)
	for _, read := range r.Reads {
		a.read(read)
	}
	for _, job := range r.Jobs {
		result := job.Run(job.Seed)
		w.after(between(a.rand, jobMost/4, jobMost), func() {
			a.input(broadcast.Finished{ID: job.ID, Result: result})
		})
	}
	if r.Links != nil {
		n.want(r.Links)
	}
	if r.Turn != 0 {
		a.pending = append(a.pending, &turn{r})
		a.write()
	}
	a.sleep(r.Wake)
}

// read answers from the store as it is now or as it is when the answer
// comes: a machine may rely on neither.
func (a *actor) read(r broadcast.Read) {
	answer := func() broadcast.Input {
		in := broadcast.Loaded{ID: r.ID}
		if r.To == nil {
			v, err := a.node.disk.Get(r.From)
			switch {
			case err == nil:
				in.KVs = []store.KV{{Key: r.From, Value: v}}
			case err != store.ErrNotFound:
				in.Err = err
			}
		} else {
			in.KVs, in.More, in.Err = a.node.disk.Scan(r.From, r.To, r.Limit)
		}
		return in
	}
	var early broadcast.Input
	if a.rand.IntN(2) == 0 {
		early = answer()
	}
	a.node.w.after(between(a.rand, readMost/8, readMost), func() {
		switch {
		case a.dead:
		case early != nil:
			a.input(early)
		default:
			a.input(answer())
		}
	})
}

// write begins the first pending turn's write if none is under way.
func (a *actor) write() {
	if a.writing || len(a.pending) == 0 {
		return
	}
	a.writing = true
	var took time.Duration
	if b := a.pending[0].ready.Write; b != nil {
		most := a.node.w.cfg.Net.Disk
		took = between(a.rand, most/4, most)
		if b.Lazy {
			took /= 10
		}
	}
	a.node.w.after(took, a.durable)
}

// durable ends the first pending turn: apply, send, show, tell.
func (a *actor) durable() {
	if a.dead {
		return
	}
	a.writing = false
	r := a.pending[0].ready
	a.pending = a.pending[1:]
	if err := a.apply(r.Write); err != nil {
		a.node.w.fail(fmt.Errorf("%w: %s: write of turn %d: %w", ErrDriver, a.node.name, r.Turn, err))
		return
	}
	a.node.send(a, r.Sends)
	a.node.show(r.Events, r.Answers)
	a.input(broadcast.Applied{Turn: r.Turn})
	a.write()
}

func (a *actor) apply(b *store.Batch) error {
	if b == nil {
		return nil
	}
	if b.Unit != a.unit {
		return fmt.Errorf("its unit is %x, the machine's is %x", b.Unit, a.unit)
	}
	return a.node.disk.Apply([]store.Batch{*b})[0]
}

// die ends the actor. In a crash a seeded number of the writes that were under
// way still reached the disk, in order, and nobody learned of it.
func (a *actor) die(crash bool) {
	if crash && len(a.pending) > 0 {
		for _, t := range a.pending[:a.rand.IntN(len(a.pending)+1)] {
			if err := a.apply(t.ready.Write); err != nil {
				a.node.w.fail(fmt.Errorf("%w: %s: write at a crash: %w", ErrDriver, a.node.name, err))
			}
		}
	}
	a.dead = true
	delete(a.node.actors, a.unit)
}

// idle tells a machine that nothing waits for.
func (a *actor) idle() bool {
	return len(a.inbox) == 0 && len(a.pending) == 0 && !a.turning
}

// sleep schedules Tick at the node's date wake.
func (a *actor) sleep(wake time.Time) {
	if wake.IsZero() {
		a.wake = -1
		a.wakes++
		return
	}
	at := a.node.w.now + max(0, a.node.lasts(wake.Sub(a.node.Now())))
	if at == a.wake {
		return
	}
	a.wake = at
	a.wakes++
	mine := a.wakes
	a.node.w.queue.add(at, func() {
		if a.dead || a.wakes != mine {
			return
		}
		a.wake = -1
		a.ticking = true
		a.schedule()
	})
}
