package simnet

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
)

// Config is a world before it begins. Zero values mean the defaults.
type Config struct {
	Seed  uint64
	Start time.Time         // virtual date of the beginning; default 2026-01-01 00:00 UTC
	Net   Net               // how links behave
	Log   func(line string) // human lines; nil: none
	Limit int               // events after which a run is taken for an endless loop; default 5,000,000
}

// Net is how links and disks behave. Durations are one way and virtual.
type Net struct {
	Latency time.Duration // mean; every pair of nodes has its own between half and double; default 20 ms
	Jitter  time.Duration // added to a frame, up to this; default 5 ms
	Stall   float64       // chance that a frame waits for a retransmission
	Break   float64       // chance that a frame breaks its link instead of arriving
	Disk    time.Duration // a durable write takes up to this, at least a quarter; default 4 ms
	Redial  time.Duration // longest wait before a relay is dialled again; default 8 s
}

func (c *Config) defaults() {
	if c.Start.IsZero() {
		c.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if c.Net.Latency == 0 {
		c.Net.Latency = 20 * time.Millisecond
	}
	if c.Net.Jitter == 0 {
		c.Net.Jitter = 5 * time.Millisecond
	}
	if c.Net.Disk == 0 {
		c.Net.Disk = 4 * time.Millisecond
	}
	if c.Net.Redial == 0 {
		c.Net.Redial = 8 * time.Second
	}
	if c.Limit == 0 {
		c.Limit = 5_000_000
	}
}

// Errors of a run.
var (
	// ErrInvariant: a hook of World.Invariant refused the state.
	ErrInvariant = errors.New("an invariant does not hold")
	// ErrEndless: more events than Config.Limit.
	ErrEndless = errors.New("the run does not come to an end")
	// ErrDriver: a machine broke the contract of broadcast.Machine.
	ErrDriver = errors.New("a machine broke the contract")
)

// World is a set of nodes in one virtual time.
type World struct {
	cfg    Config
	now    time.Duration
	queue  queue
	events int
	net    *rand.Rand
	trace  hash.Hash
	checks map[[32]byte]bool
	known  map[[32]byte]ed25519.PrivateKey

	nodes  map[string]*Node
	order  []*Node // as added
	relays map[keys.RelayPublic]*Node
	links  uint64
	caller map[broadcast.Link]string
	cut    map[[2]string]bool // pairs (member, relay) that cannot speak
	slow   map[[2]string]time.Duration

	traffic map[[2]string]*Traffic // by (member, relay)

	hooks []func() error
	err   error
}

// New makes an empty world.
func New(cfg Config) *World {
	cfg.defaults()
	return &World{
		cfg: cfg, net: rand.New(stream(cfg.Seed, "world")), trace: sha256.New(),
		checks: map[[32]byte]bool{}, known: map[[32]byte]ed25519.PrivateKey{}, nodes: map[string]*Node{},
		relays: map[keys.RelayPublic]*Node{}, cut: map[[2]string]bool{}, slow: map[[2]string]time.Duration{}, caller: map[broadcast.Link]string{}, traffic: map[[2]string]*Traffic{},
	}
}

// Elapsed is the virtual time since the beginning.
func (w *World) Elapsed() time.Duration { return w.now }

// Net is how links behave from now on; standing links follow at once.
func (w *World) Net() *Net { return &w.cfg.Net }

// Node is a node by name, or nil.
func (w *World) Node(name string) *Node { return w.nodes[name] }

// Caller is the member that dialled a link: what its address tells a relay.
func (w *World) Caller(l broadcast.Link) string { return w.caller[l] }

// Invariant adds a check that is made after every turn of every machine. The
// first error ends the run.
func (w *World) Invariant(hook func() error) { w.hooks = append(w.hooks, hook) }

// At runs do after a delay, as an event of the world.
func (w *World) At(after time.Duration, do func()) { w.after(after, do) }

// Trace is the hash over every frame that arrived anywhere so far: two runs
// are the same run if and only if their traces are the same.
func (w *World) Trace() string { return hex.EncodeToString(w.trace.Sum(nil)) }

// Run lets d of virtual time pass.
func (w *World) Run(d time.Duration) error {
	_, err := w.RunUntil(d, nil)
	return err
}

// RunUntil lets at most d pass, and stops as soon as done says so. It tells
// whether it did; a nil done never does.
func (w *World) RunUntil(d time.Duration, done func() bool) (bool, error) {
	end := w.now + d
	for w.err == nil {
		if done != nil && done() {
			return true, nil
		}
		e, ok := w.queue.next(end)
		if !ok {
			w.now = end
			return false, nil
		}
		if w.events++; w.events > w.cfg.Limit {
			w.fail(fmt.Errorf("%w: %d events by %v", ErrEndless, w.events, w.now))
			break
		}
		w.now = e.at
		e.run()
	}
	return false, w.err
}

func (w *World) fail(err error) {
	if w.err == nil {
		w.err = fmt.Errorf("seed %d at %v: %w", w.cfg.Seed, w.now, err)
	}
}

func (w *World) after(d time.Duration, run func()) { w.queue.add(w.now+max(d, 0), run) }

// Logf writes one human line, with the virtual time before it.
func (w *World) Logf(format string, args ...any) {
	if w.cfg.Log != nil {
		w.cfg.Log(fmt.Sprintf("%9.3fs ", w.now.Seconds()) + fmt.Sprintf(format, args...))
	}
}

// record adds a frame that arrives to the trace.
func (w *World) record(at *Node, link broadcast.Link, f broadcast.Frame) {
	var b [29]byte
	binary.BigEndian.PutUint64(b[0:], uint64(w.now))
	binary.BigEndian.PutUint64(b[8:], uint64(link))
	binary.BigEndian.PutUint32(b[16:], uint32(len(at.name)))
	binary.BigEndian.PutUint64(b[20:], uint64(len(f.Body)))
	b[28] = f.Type
	w.trace.Write(b[:])
	w.trace.Write([]byte(at.name))
	w.trace.Write(f.Body)
}

func (w *World) check() {
	for _, hook := range w.hooks {
		if err := hook(); err != nil {
			w.fail(fmt.Errorf("%w: %w", ErrInvariant, err))
			return
		}
	}
}
