package main

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"parallax/broadcast/member"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/cli"
	"parallax/internal/keys"
	"parallax/node"
)

// What lies in a relay's folder.
const (
	configFile      = "relay.toml"
	relayKeyFile    = "relay.key"
	operatorKeyFile = "operator.key"
	storeDir        = "store"
	guardFile       = "store.guard" // outside of the store: see package guarded
)

const (
	roleRelay    = "relay"
	roleOperator = "operator"
	tagOperator  = "parallax/1/operator" // docs/protocol.md section 4
)

// defaultListen is where a relay listens when it is not told.
var defaultListen = []string{"/ip4/0.0.0.0/udp/4801/quic-v1", "/ip4/0.0.0.0/tcp/4801"}

// config is relay.toml; template.go documents every key. Zero means default.
type config struct {
	Listen      []string    `toml:"listen"`
	Public      []string    `toml:"public"`
	Operator    operator    `toml:"operator"`
	Access      access      `toml:"access"`
	Log         logging     `toml:"log"`
	Limits      limits      `toml:"limits"`
	Connections connections `toml:"connections"`
}

type operator struct {
	Name     string   `toml:"name"`
	Families []string `toml:"families"`
}

type access struct {
	Tokens []string `toml:"tokens"`
	Open   bool     `toml:"open"`
}

type logging struct {
	Format string `toml:"format"`
	Level  string `toml:"level"`
}

// limits are relay.Limits: what one channel may cost.
type limits struct {
	MaxLogBytes       cli.Size     `toml:"max_log_bytes"`
	Retention         cli.Duration `toml:"retention"`
	MaxPostBytes      cli.Size     `toml:"max_post_bytes"`
	MaxBoardEntries   int          `toml:"max_board_entries"`
	MaxBoardBytes     cli.Size     `toml:"max_board_bytes"`
	MaxMailboxes      int          `toml:"max_mailboxes"`
	MaxFanouts        int          `toml:"max_fanouts"`
	CachedFanouts     int          `toml:"cached_fanouts"`
	MaxGrants         int          `toml:"max_grants"`
	PostsPerMinute    int          `toml:"posts_per_minute"`
	RequestsPerMinute int          `toml:"requests_per_minute"`
	MaxPending        int          `toml:"max_pending"`
	MaxPendingBytes   cli.Size     `toml:"max_pending_bytes"`
	MaxWindow         uint32       `toml:"max_window"`
	TailEntries       int          `toml:"tail_entries"`
	TailBytes         cli.Size     `toml:"tail_bytes"`
	RecentPosts       int          `toml:"recent_posts"`
	MaxReads          int          `toml:"max_reads"`
	ReadBytes         cli.Size     `toml:"read_bytes"`
	PushBytes         cli.Size     `toml:"push_bytes"`
	PageBytes         cli.Size     `toml:"page_bytes"`
	TrimBytes         cli.Size     `toml:"trim_bytes"`
	HintEvery         cli.Duration `toml:"hint_every"`
}

func (l *limits) relay() relay.Limits {
	return relay.Limits{
		MaxLogBytes: uint64(l.MaxLogBytes), Retention: time.Duration(l.Retention), MaxPostBytes: int(l.MaxPostBytes),
		MaxBoardEntries: l.MaxBoardEntries, MaxBoardBytes: uint64(l.MaxBoardBytes), MaxMailboxes: l.MaxMailboxes,
		MaxFanouts: l.MaxFanouts, CachedFanouts: l.CachedFanouts, MaxGrants: l.MaxGrants,
		PostsPerMinute: l.PostsPerMinute, RequestsPerMinute: l.RequestsPerMinute,
		MaxPending: l.MaxPending, MaxPendingBytes: int(l.MaxPendingBytes),
		MaxWindow: l.MaxWindow, TailEntries: l.TailEntries, TailBytes: int(l.TailBytes), RecentPosts: l.RecentPosts,
		MaxReads: l.MaxReads, ReadBytes: int(l.ReadBytes), PushBytes: int(l.PushBytes), PageBytes: int(l.PageBytes),
		TrimBytes: int(l.TrimBytes), HintEvery: time.Duration(l.HintEvery),
	}
}

// connections are node.ConnLimits: what strangers may cost the whole relay.
type connections struct {
	Connections int      `toml:"connections"`
	PerAddress  int      `toml:"per_address"`
	PerNetwork  int      `toml:"per_network"`
	Rate        float64  `toml:"rate"`
	Burst       int      `toml:"burst"`
	Streams     int      `toml:"streams"`
	LinkBytes   cli.Size `toml:"link_bytes"`
	SendBytes   cli.Size `toml:"send_bytes"`
	Memory      cli.Size `toml:"memory"`
}

func (c *connections) node() node.ConnLimits {
	return node.ConnLimits{Connections: c.Connections, PerAddress: c.PerAddress, PerNetwork: c.PerNetwork, Rate: c.Rate, Burst: c.Burst,
		Streams: c.Streams, LinkBytes: int(c.LinkBytes), SendBytes: int64(c.SendBytes), Memory: int64(c.Memory)}
}

// readConfig reads DIR/relay.toml, strictly.
func readConfig(dir string) (*config, error) {
	path := filepath.Join(dir, configFile)
	c := new(config)
	err := cli.ReadTOML(path, c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Errorf(cli.Usage, "there is no relay in this folder (%s is missing): make one with `parallax-relay init --dir %s`, or name its folder with --dir", path, dir)
	}
	if err != nil {
		return nil, err
	}
	if len(c.Listen) == 0 {
		c.Listen = defaultListen
	}
	if err := c.check(); err != nil {
		return nil, cli.Errorf(cli.Usage, "%s: %w", path, err)
	}
	return c, nil
}

func (c *config) check() error {
	for _, list := range []struct {
		key   string
		addrs []string
	}{{"listen", c.Listen}, {"public", c.Public}} {
		for _, text := range list.addrs {
			a, err := ma.NewMultiaddr(text)
			if err == nil {
				err = cli.CheckAddr(a)
			}
			if err != nil {
				return fmt.Errorf("%s: %q is %w", list.key, text, node.ErrAddress)
			}
		}
	}
	for i, t := range c.Access.Tokens {
		if err := cli.CheckToken(t); err != nil {
			return fmt.Errorf("access.tokens, number %d: %w", i+1, err)
		}
	}
	if c.Operator.Name != "" {
		if err := member.CheckName(c.Operator.Name); err != nil {
			return fmt.Errorf("operator.name: %w", err)
		}
	}
	if f := c.Log.Format; !slices.Contains([]string{"", "text", "json"}, f) {
		return fmt.Errorf(`log.format is %q, want "text" or "json"`, f)
	}
	if l := c.Log.Level; !slices.Contains([]string{"", "debug", "info", "warn", "error"}, l) {
		return fmt.Errorf(`log.level is %q, want "debug", "info", "warn" or "error"`, l)
	}
	n := c.Connections
	if n.Connections < 0 || n.PerAddress < 0 || n.PerNetwork < 0 || n.Rate < 0 || n.Burst < 0 || n.Streams < 0 {
		return errors.New("connections: a limit is negative")
	}
	return nil
}

// identity is a relay's two keys.
type identity struct {
	relay    keys.RelayPrivate
	operator keys.OperatorPrivate
}

func readIdentity(dir string) (id identity, err error) {
	seed, err := readKey(filepath.Join(dir, relayKeyFile), roleRelay)
	if err != nil {
		return id, err
	}
	id.relay.FromSeed(seed)
	if seed, err = readKey(filepath.Join(dir, operatorKeyFile), roleOperator); err != nil {
		return id, err
	}
	id.operator.FromSeed(seed)
	clear(seed[:])
	return id, nil
}

func readKey(path, role string) ([keys.SeedSize]byte, error) {
	seed, err := cli.ReadKey(path, role)
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.Errorf(cli.Data, "%s is missing: the relay's name is this key, so restore it from a backup; a new key is another relay", path)
	}
	return seed, err
}

// relayConfig is what the relay's machines need, checked.
func (c *config) relayConfig(id identity) (relay.Config, error) {
	pub := id.relay.Public()
	r := relay.Config{
		Key: id.relay, Operator: id.operator.Public(), OperatorName: c.Operator.Name,
		OperatorSignature: id.operator.Sign(tagOperator, pub[:]), Verify: keys.Ed25519,
		Tokens: c.Access.Tokens, OpenCreation: c.Access.Open, Limits: c.Limits.relay(),
	}
	for i, text := range c.Operator.Families {
		raw, err := hex.DecodeString(text)
		var d crossverify.Declaration
		if err == nil {
			d, err = crossverify.ParseDeclaration(raw)
		}
		if err != nil {
			return r, cli.Errorf(cli.Usage, "operator.families, number %d: %w", i+1, err)
		}
		r.Families = append(r.Families, d)
	}
	if err := r.Validate(); err != nil {
		return r, &cli.Error{Code: cli.Usage, Err: err}
	}
	return r, nil
}

// shown is where others find the relay.
func (c *config) shown() []string {
	if len(c.Public) > 0 {
		return c.Public
	}
	return cli.Reachable(c.Listen)
}

// foundingToken is the token that goes with the address; empty when none is
// needed.
func (c *config) foundingToken() string {
	if c.Access.Open || len(c.Access.Tokens) == 0 {
		return ""
	}
	return c.Access.Tokens[0]
}

// newToken draws a token of 80 bits.
func newToken() (string, error) {
	var b [10]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])), nil
}
