package relay

import (
	"errors"
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
)

// Config is what every channel of one relay shares.
type Config struct {
	Key               keys.RelayPrivate
	Operator          keys.OperatorPublic
	OperatorName      string // at most 64 bytes
	OperatorSignature []byte // 64 bytes: Sign(operator, "operator", relay key)
	// Families is whom the operator belongs together with, handed to whoever
	// asks: at most proto.MaxFamilies, each signed by both of its sides.
	Families []crossverify.Declaration
	Verify   keys.Verify

	// Tokens let their holder create a channel. Empty: nobody may, unless
	// OpenCreation. A token may be used for several channels.
	Tokens       []string // each 1 to 64 bytes
	OpenCreation bool     // anybody may create a channel, token or not

	// Shared: several front-ends run over one store. A refusal that depends
	// on state is then confirmed by the store first, and while links are open
	// the head is looked up every Limits.Refresh, since hints may be lost.
	Shared bool

	Limits Limits
}

// Limits bound what one channel may cost. Zero means the default.
type Limits struct {
	MaxLogBytes     uint64        // kept entries; beyond it the oldest go. Default: 1 GiB
	Retention       time.Duration // age at which an entry goes. Default: 21 days
	MaxPostBytes    int           // envelope, slots, exceptions and list of one post. Default: 6 MiB
	MaxBoardEntries int           // default: 8,192
	MaxBoardBytes   uint64        // newest values together. Default: 16 MiB
	MaxMailboxes    int           // idle ones make room after Retention. Default: 4,096
	MaxFanouts      int           // fan-out lists that kept entries use. Default: 1,024
	CachedFanouts   int           // lists in memory. Default: 64
	MaxGrants       int           // dead ones make room. Default: 64

	PostsPerMinute    int // per link, what changes the channel. Default: 600
	RequestsPerMinute int // per link, what only reads. Default: 1,200
	MaxPending        int // requests not answered yet. Default: 4,096
	MaxPendingBytes   int // their bodies together. Default: 64 MiB

	MaxWindow   uint32 // entries beyond a member's Ack, and per Fetch. Default: 1,024
	TailEntries int    // newest entries in memory. Default: 256
	TailBytes   int    // their bytes. Default: 4 MiB
	RecentPosts int    // post ids in memory. Default: 4,096
	MaxReads    int    // catching-up reads at one time. Default: 16
	ReadBytes   int    // one of them. Default: 1 MiB
	PushBytes   int    // handed over in one Ready, then it goes on at once. Default: 8 MiB
	PageBytes   int    // one board page. Default: 256 KiB
	TrimBytes   int    // spine read by one step of trimming. Default: 64 KiB

	HintEvery time.Duration // positions written lazily. Default: 1 minute
	Refresh   time.Duration // see Config.Shared. Default: 10 s
}

// ErrConfig is the cause of every refusal of Validate.
var ErrConfig = errors.New("relay: configuration")

const (
	tagOperator   = "parallax/1/operator"
	maxTextLength = 64
)

// Validate tells what is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	if c.Key.IsZero() || c.Verify == nil {
		return fmt.Errorf("%w: the relay key and Verify must be set", ErrConfig)
	}
	relay := c.Key.Public()
	if len(c.OperatorName) > maxTextLength {
		return fmt.Errorf("%w: the operator's name has %d bytes, at most %d", ErrConfig, len(c.OperatorName), maxTextLength)
	}
	if !c.Operator.Verify(c.Verify, c.OperatorSignature, tagOperator, relay[:]) {
		return fmt.Errorf("%w: operator %s did not sign for relay %s; sign it again with the operator key", ErrConfig, c.Operator, relay)
	}
	if len(c.Families) > proto.MaxFamilies {
		return fmt.Errorf("%w: %d family declarations, at most %d", ErrConfig, len(c.Families), proto.MaxFamilies)
	}
	for i, d := range c.Families {
		if err := d.Check(c.Verify); err != nil {
			return fmt.Errorf("%w: family declaration %d: %w", ErrConfig, i+1, err)
		}
	}
	for i, t := range c.Tokens {
		if len(t) == 0 || len(t) > maxTextLength {
			return fmt.Errorf("%w: token %d has %d bytes, want 1 to %d", ErrConfig, i+1, len(t), maxTextLength)
		}
	}
	return c.Limits.validate()
}

func (l *Limits) validate() error {
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"Retention", int64(l.Retention)}, {"MaxPostBytes", int64(l.MaxPostBytes)},
		{"MaxBoardEntries", int64(l.MaxBoardEntries)},
		{"MaxMailboxes", int64(l.MaxMailboxes)}, {"MaxFanouts", int64(l.MaxFanouts)},
		{"CachedFanouts", int64(l.CachedFanouts)}, {"MaxGrants", int64(l.MaxGrants)},
		{"PostsPerMinute", int64(l.PostsPerMinute)}, {"RequestsPerMinute", int64(l.RequestsPerMinute)},
		{"MaxPending", int64(l.MaxPending)}, {"MaxPendingBytes", int64(l.MaxPendingBytes)},
		{"TailEntries", int64(l.TailEntries)}, {"TailBytes", int64(l.TailBytes)},
		{"RecentPosts", int64(l.RecentPosts)}, {"MaxReads", int64(l.MaxReads)},
		{"ReadBytes", int64(l.ReadBytes)}, {"PushBytes", int64(l.PushBytes)},
		{"PageBytes", int64(l.PageBytes)}, {"TrimBytes", int64(l.TrimBytes)},
		{"HintEvery", int64(l.HintEvery)}, {"Refresh", int64(l.Refresh)},
	} {
		if v.value < 0 {
			return fmt.Errorf("%w: limit %s is negative", ErrConfig, v.name)
		}
	}
	if l.MaxMailboxes > broadcast.MaxMailboxes {
		return fmt.Errorf("%w: limit MaxMailboxes is %d, a fan-out list names at most %d", ErrConfig, l.MaxMailboxes, broadcast.MaxMailboxes)
	}
	if l.Retention != 0 && l.Retention < time.Second {
		return fmt.Errorf("%w: limit Retention is %v, it counts in seconds", ErrConfig, l.Retention)
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (l *Limits) setDefaults() {
	orDefault(&l.MaxLogBytes, 1<<30)
	orDefault(&l.Retention, 21*24*time.Hour)
	orDefault(&l.MaxPostBytes, 6<<20)
	orDefault(&l.MaxBoardEntries, 8192)
	orDefault(&l.MaxBoardBytes, 16<<20)
	orDefault(&l.MaxMailboxes, broadcast.MaxMailboxes)
	orDefault(&l.MaxFanouts, 1024)
	orDefault(&l.CachedFanouts, 64)
	orDefault(&l.MaxGrants, 64)
	orDefault(&l.PostsPerMinute, 600)
	orDefault(&l.RequestsPerMinute, 1200)
	orDefault(&l.MaxPending, 4096)
	orDefault(&l.MaxPendingBytes, 64<<20)
	orDefault(&l.MaxWindow, 1024)
	orDefault(&l.TailEntries, 256)
	orDefault(&l.TailBytes, 4<<20)
	orDefault(&l.RecentPosts, 4096)
	orDefault(&l.MaxReads, 16)
	orDefault(&l.ReadBytes, 1<<20)
	orDefault(&l.PushBytes, 8<<20)
	orDefault(&l.PageBytes, 256<<10)
	orDefault(&l.TrimBytes, 64<<10)
	orDefault(&l.HintEvery, time.Minute)
	orDefault(&l.Refresh, 10*time.Second)
}
