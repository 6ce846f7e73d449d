package node

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"parallax/broadcast"
	"parallax/internal/store"
)

// Defaults of Config.
const (
	DefaultQueue   = 1024             // inputs waiting per loop
	DefaultInbound = 64 << 20         // bytes of received frames that are not durable yet
	DefaultReaders = 8                // reads at a time
	turnsInFlight  = 3                // turns of one machine on their way to durability
	sweepShare     = 4                // idle machines are looked for every Idle / sweepShare
	maxIdleWait    = 10 * time.Minute // a loop looks around at least this often
)

// Hooks is what a Driver hands outward. Calls for one unit come from one loop,
// in the order of turns, and must not block: a loop serves many units.
type Hooks interface {
	// Send writes a frame to a link. The order law is kept: it is called when
	// everything the frame depends on is durable.
	Send(store.Unit, broadcast.Send)
	// Links is the whole set of links that a machine wants from now on.
	Links(store.Unit, []broadcast.WantLink)
	Event(store.Unit, broadcast.Event)
	Answer(store.Unit, broadcast.Answer)
	// Failed: the unit was closed and stays closed; the error is a *UnitError.
	Failed(store.Unit, error)
}

// Config is what a Driver is made of. Store, Open and Hooks are required.
type Config struct {
	Store   store.Store
	Open    broadcast.Open
	Hooks   Hooks
	Path    string            // where the store is, for error texts
	Entropy broadcast.Entropy // nil: Entropy()
	Now     func() time.Time  // nil: Clock(); never goes back
	Loops   int               // zero: one per core; a unit stays on one loop
	Queue   int               // zero: DefaultQueue
	Inbound int64             // zero: DefaultInbound
	Frames  int               // received frames in one turn of a machine; zero: no limit
	Bytes   int64             // of those frames, as far as one more still fits; zero: no limit
	Readers int               // zero: DefaultReaders
	Workers int               // jobs at a time; zero: GOMAXPROCS
	Idle    time.Duration     // a machine without links or work is closed after it; zero: never
	Log     *zap.Logger       // nil: no log
}

func (c *Config) setDefaults() {
	if c.Entropy == nil {
		c.Entropy = Entropy()
	}
	if c.Now == nil {
		c.Now = Clock()
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	cores := runtime.GOMAXPROCS(0)
	for _, d := range []struct {
		v   *int
		def int
	}{{&c.Loops, cores}, {&c.Queue, DefaultQueue}, {&c.Readers, DefaultReaders}, {&c.Workers, cores}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Inbound == 0 {
		c.Inbound = DefaultInbound
	}
}

// ErrClosed: the driver, the member or the relay is closing or closed.
var ErrClosed = errors.New("node: closed")

// UnitError says that one unit failed: its machine was closed, nothing that
// was not durable left, and it stays closed until the process starts again.
type UnitError struct {
	Unit store.Unit
	Op   string // open, write, reload
	Path string // of the store
	Err  error
}

func (e *UnitError) Error() string {
	where := e.Path
	if where == "" {
		where = "the store"
	}
	return fmt.Sprintf("unit %x was closed because its %s in %s failed: %v; it stays closed until a restart", e.Unit[:], e.Op, where, e.Err)
}

func (e *UnitError) Unwrap() error { return e.Err }

// Driver runs the machines of many units over one store. Each unit is pinned
// to one loop, which Steps all waiting inputs before it takes one Ready; the
// write of a turn is applied while the loop goes on.
type Driver struct {
	cfg     Config
	loops   []*loop
	commit  *committer
	reads   *pool
	jobs    *pool
	inbound *semaphore.Weighted
	seed    maphash.Seed

	stopping sync.Once
	stop     chan struct{} // no more inputs; finish turns
	aborting sync.Once
	abort    chan struct{} // end now
	ended    chan struct{} // loops and committer have ended
}

// NewDriver starts the loops. Close ends them; the store stays open.
func NewDriver(cfg Config) *Driver {
	cfg.setDefaults()
	d := &Driver{
		cfg: cfg, commit: newCommitter(cfg.Store),
		reads: newPool(cfg.Readers), jobs: newPool(cfg.Workers),
		inbound: semaphore.NewWeighted(cfg.Inbound), seed: maphash.MakeSeed(),
		stop: make(chan struct{}), abort: make(chan struct{}), ended: make(chan struct{}),
	}
	var loops, committing sync.WaitGroup
	for range cfg.Loops {
		l := newLoop(d)
		d.loops = append(d.loops, l)
		loops.Go(l.run)
	}
	committing.Go(d.commit.run)
	cfg.Store.Watch(func(u store.Unit) { d.loop(u).hint(u) })
	go func() {
		loops.Wait()
		close(d.commit.stop)
		committing.Wait()
		d.reads.close()
		d.jobs.close()
		close(d.ended)
	}()
	return d
}

func (d *Driver) loop(u store.Unit) *loop {
	return d.loops[maphash.Bytes(d.seed, u[:])%uint64(len(d.loops))]
}

// Input hands an input to the unit's machine, which is opened if it is not.
// It waits while the queue of the unit's loop is full.
func (d *Driver) Input(ctx context.Context, u store.Unit, in broadcast.Input) error {
	return d.put(ctx, input{unit: u, in: in})
}

// Reserve waits for room for a received frame of n bytes. Receive passes the
// room on; without a Receive it is given back by Release.
func (d *Driver) Reserve(ctx context.Context, n int) error {
	return d.inbound.Acquire(ctx, d.weight(n))
}

// Release gives back what Reserve took.
func (d *Driver) Release(n int) { d.inbound.Release(d.weight(n)) }

func (d *Driver) weight(n int) int64 { return min(int64(n), d.cfg.Inbound) }

// Receive is Input for a frame, whose size was reserved: the room is given
// back when the turn that took the frame is durable, so that a slow disk slows
// the peers. stepped is called when the machine has seen it.
func (d *Driver) Receive(ctx context.Context, u store.Unit, in broadcast.Received, size int, stepped func()) error {
	err := d.put(ctx, input{unit: u, in: in, held: d.weight(size), stepped: stepped})
	if err != nil {
		d.Release(size)
	}
	return err
}

func (d *Driver) put(ctx context.Context, in input) error {
	select {
	case <-d.stop: // a closed driver refuses even while its queue has room
		return ErrClosed
	default:
	}
	select {
	case d.loop(in.unit).in <- in:
		return nil
	case <-d.stop:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close takes no more inputs, Steps those that wait, finishes the turns under
// way (their Sends leave), and ends. When ctx ends first, it ends at once:
// what was not durable then is as after a crash.
func (d *Driver) Close(ctx context.Context) error {
	d.stopping.Do(func() { close(d.stop) })
	select {
	case <-d.ended:
		return nil
	case <-ctx.Done():
		d.aborting.Do(func() { close(d.abort) })
		return ctx.Err()
	}
}

func (d *Driver) read(r broadcast.Read) (out broadcast.Loaded) {
	out.ID = r.ID
	if r.To != nil {
		out.KVs, out.More, out.Err = d.cfg.Store.Scan(r.From, r.To, r.Limit)
		return out
	}
	v, err := d.cfg.Store.Get(r.From)
	switch {
	case err == nil:
		out.KVs = []store.KV{{Key: r.From, Value: v}}
	case !errors.Is(err, store.ErrNotFound):
		out.Err = err
	}
	return out
}
