package broadcast

import (
	"crypto/mlkem"
	"io"
	"time"

	"parallax/internal/keys"
	"parallax/internal/store"
)

// Machine is one unit of order, without I/O, goroutines, clock or randomness
// of its own: a membership at a member, a channel at a relay. It is not safe
// for concurrent use: one driver loop owns it (docs/architecture.md).
//
// The driver Steps every waiting input, then takes one Ready, which is the
// group commit, and may take further Readies while earlier ones become
// durable. It opens a machine with what Open reads, and never touches the
// store on a machine's behalf but through Ready.
type Machine interface {
	// Step takes one input. An error means: refused, state as before. now
	// never goes back.
	Step(now time.Time, in Input) error
	// Tick lets deadlines pass. The driver calls it at Ready.Wake or later.
	Tick(now time.Time)
	// Ready hands over what the machine wants done, and forgets it.
	Ready() Ready
}

// Open builds the machine of a unit from what is durable. An adversary wraps
// this function: everything an honest machine would send leaves through it.
type Open func(store.Unit, store.Reader, Entropy) (Machine, error)

// Entropy is the only source of randomness of a machine. Production reads
// crypto/rand and crypto/mlkem; the simulator derives both from its seed.
type Entropy interface {
	io.Reader
	Encapsulate(*mlkem.EncapsulationKey768) (shared, ciphertext []byte)
	// Fork is a source for a Job, from the Job's seed. It neither reads nor
	// changes the receiver, so a Job may call it in any goroutine; what it
	// returns belongs to one. Its bytes follow from the seed alone; what its
	// Encapsulate draws does in the simulator, in production it is the system's.
	Fork(seed [32]byte) Entropy
}

// Link is one connection as its driver numbers it: unique in a machine's life.
type Link uint64

// Use is what a member's link is for. The two use different libp2p identities,
// so that a relay cannot join them by key.
type Use uint8

const (
	// ReadLink opens one mailbox and receives.
	ReadLink Use = 1
	// PostLink posts and writes to the board; it never opens a mailbox.
	PostLink Use = 2
)

// Frame is one message on a link, type and body, as broadcast/proto lays it out.
type Frame struct {
	Type uint8
	Body []byte
}

// Input is what a driver hands to Step: one of the types below.
type Input interface{ input() }

// Up: a link stands. At a member Relay and Use tell which of its WantLinks it
// answers; at a relay both are zero, since a stranger called. Addr is the
// multiaddr at which the relay was reached, names looked up; empty: the driver
// does not know.
type Up struct {
	Link  Link
	Relay keys.RelayPublic
	Use   Use
	Addr  string
}

// Down: a link is gone, or (Link 0, at a member) a dial failed; Why is for people.
type Down struct {
	Link  Link
	Relay keys.RelayPublic
	Use   Use
	Why   string
}

// Received: a frame came on a link. The machine may keep the body.
type Received struct {
	Link  Link
	Frame Frame
}

// Command: a user's wish, as data. ID makes it idempotent; the answer comes
// as Ready.Answers with the same ID.
type Command struct {
	ID   uint64
	Wish any
}

// Loaded answers a Read.
type Loaded struct {
	ID   uint64
	KVs  []store.KV
	More bool
	Err  error // store.ErrNotFound is not used: a missing key is an empty KVs
}

// Finished answers a Job.
type Finished struct {
	ID     uint64
	Result any
}

// Applied: the write of this turn, and of all before it, is durable.
type Applied struct{ Turn uint64 }

// Changed: a write was refused, or a hint says another front-end wrote. The
// machine forgets reads under way, reads its state again and redoes what was
// not applied. Sends and Events of turns not yet Applied were dropped.
type Changed struct{ Reader store.Reader }

func (Up) input()       {}
func (Down) input()     {}
func (Received) input() {}
func (Command) input()  {}
func (Loaded) input()   {}
func (Finished) input() {}
func (Applied) input()  {}
func (Changed) input()  {}

// Ready is what a machine wants done. The order is the law:
//
//  1. make Write durable,
//  2. then send Sends,
//  3. then show Events and Answers;
//
// while Now, Reads, Jobs and Links wait for nothing.
type Ready struct {
	// Turn numbers Readies that carry Write, Sends, Events or Answers, from 1.
	Turn uint64
	// Write, when not nil, is applied in one store.Apply, alone or with the
	// batches of other machines. The driver answers with Applied{Turn}, also
	// for a turn without Write, in the order of turns; or with Changed.
	Write *store.Batch
	// Sends leave when this and all earlier turns are durable; they are
	// dropped if one of those is refused.
	Sends []Send
	// Events are shown after Sends; numbered, so that a reader can resume.
	Events []Event
	// Answers to Commands, shown with Events.
	Answers []Answer
	// Now depends only on what is durable already: it leaves at once, and also
	// when a write is refused.
	Now []Send
	// Reads run in parallel and are answered by Loaded.
	Reads []Read
	// Jobs run anywhere, in any order, and are answered by Finished.
	Jobs []Job
	// Links, when not nil, is the whole set of links the machine wants from
	// now on; the driver dials, with jitter, what is missing and closes the
	// rest. Only members want links.
	Links []WantLink
	// Wake is when Tick is due at the latest; zero: never.
	Wake time.Time
}

// Send is one frame to one link. A link that is down swallows it. Close ends
// the link after the frame (Frame.Type 0: without one).
type Send struct {
	Link  Link
	Frame Frame
	Close bool
}

// Event is shown to the application.
type Event struct {
	Number uint64 // dense from 1 within the unit; 0: a passing hint (progress), not stored
	Body   any
}

// Answer ends a Command.
type Answer struct {
	ID    uint64
	Value any
	Err   error
}

// Read asks for [From, To) up to Limit bytes, or for one key when To is nil.
type Read struct {
	ID       uint64
	From, To []byte
	Limit    int
}

// Job is work of more than a millisecond: a pure function of the seed. Run
// gives the same result wherever and whenever it runs.
type Job struct {
	ID   uint64
	Seed [32]byte
	Run  func(seed [32]byte) any
}

// WantLink is a link a member's machine wants. Addrs are multiaddrs as text.
type WantLink struct {
	Relay keys.RelayPublic
	Use   Use
	Addrs []string
}
