package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/internal/keys"
	"parallax/internal/store"
)

// Defaults of RelayConfig.
const (
	DefaultIdle  = 5 * time.Minute
	DefaultRetry = time.Second
)

// DefaultListen is where a relay listens when it is not told.
var DefaultListen = []string{"/ip4/0.0.0.0/udp/4242/quic-v1", "/ip4/0.0.0.0/tcp/4242", "/ip6/::/udp/4242/quic-v1", "/ip6/::/tcp/4242"}

// RelayConfig is what a Relay is made of. Key, Store and Open are required.
type RelayConfig struct {
	Key      keys.RelayPrivate
	Listen   []string // multiaddrs; empty: DefaultListen
	Announce []string // multiaddrs that Addrs tells instead of those listened on
	Store    store.Store
	Path     string // where Store is, for error texts
	Open     broadcast.Open
	Limits   ConnLimits
	Idle     time.Duration // a channel without links is closed after it; zero: DefaultIdle
	Retry    time.Duration // told to members when the relay leaves; zero: DefaultRetry
	Inbound  int64         // see Config
	Loops    int           // see Config
	Log      *zap.Logger   // nil: no log
}

func (c *RelayConfig) validate() error {
	switch {
	case c.Key.IsZero():
		return errors.New("node: a relay needs its key")
	case c.Store == nil || c.Open == nil:
		return errors.New("node: a relay needs a store and what opens its channels")
	}
	if len(c.Listen) == 0 {
		c.Listen = DefaultListen
	}
	for _, a := range c.Announce {
		if _, err := ma.NewMultiaddr(a); err != nil {
			return fmt.Errorf("announce %q: %w (%w)", a, ErrAddress, err)
		}
	}
	orDefault(&c.Idle, DefaultIdle)
	orDefault(&c.Retry, DefaultRetry)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	c.Limits.setDefaults()
	return nil
}

// Relay serves channels to whoever connects. The store stays the caller's.
type Relay struct {
	cfg       RelayConfig
	host      *host
	driver    *Driver
	links     *linkTable
	listeners []transport.Listener
	accepting sync.WaitGroup
	closing   sync.Once
	closed    error
}

// StartRelay listens and serves. Errors: ErrPortInUse, ErrAddress, or what the
// network says, each with the address.
func StartRelay(cfg RelayConfig) (*Relay, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	libraryLog(cfg.Log)
	rm, err := cfg.Limits.resources()
	if err != nil {
		return nil, err
	}
	h, err := newHost(cfg.Key.Raw(), rm)
	if err != nil {
		return nil, errors.Join(err, rm.Close())
	}
	h.most = cfg.Limits.Streams
	r := &Relay{cfg: cfg, host: h, links: newLinkTable(cfg.Limits.SendBytes)}
	for _, a := range cfg.Listen {
		l, err := h.listen(a)
		if err != nil {
			for _, l := range r.listeners {
				_ = l.Close()
			}
			return nil, errors.Join(err, h.close())
		}
		r.listeners = append(r.listeners, l)
	}
	r.driver = NewDriver(Config{
		Store: cfg.Store, Path: cfg.Path, Open: cfg.Open, Hooks: relayHooks{r},
		Loops: cfg.Loops, Inbound: cfg.Inbound, Idle: cfg.Idle, Log: cfg.Log,
	})
	for _, l := range r.listeners {
		r.accepting.Go(func() { h.serve(l, r.handle) })
	}
	return r, nil
}

// Addrs is where members find the relay: Announce, or what it listens on with
// the ports it really has. The relay key is not part of them.
func (r *Relay) Addrs() []string {
	if len(r.cfg.Announce) > 0 {
		return append([]string(nil), r.cfg.Announce...)
	}
	var list []ma.Multiaddr
	for _, l := range r.listeners {
		list = append(list, l.Multiaddr())
	}
	return shown(list)
}

// handle serves one stream.
func (r *Relay) handle(s network.MuxedStream) {
	hello, channel, err := readHello(s)
	if err != nil {
		refuseStream(s, hello.Type, err)
		return
	}
	unit := relay.Unit(channel)
	l := r.links.open(unit, s, r.cfg.Limits.LinkBytes, false)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := r.driver.Input(ctx, unit, broadcast.Up{Link: l.id}); err != nil {
		l.send(r.leaving(), true)
		_ = l.run(r.driver)
		return
	}
	if err := r.driver.Input(ctx, unit, broadcast.Received{Link: l.id, Frame: hello}); err != nil {
		l.send(r.leaving(), true)
	}
	why := l.run(r.driver)
	// The machine must hear of it however long its loop is busy: only a closed
	// driver does not care.
	_ = r.driver.Input(context.Background(), unit, broadcast.Down{Link: l.id, Why: why.Error()})
}

func (r *Relay) leaving() broadcast.Frame {
	return proto.Encode(proto.Leaving{Code: proto.CodeShuttingDown, Retry: r.cfg.Retry})
}

// readHello reads the first frame of a stream, which must be Hello.
func readHello(s network.MuxedStream) (f broadcast.Frame, c [32]byte, err error) {
	if err := s.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return f, c, err
	}
	f, err = proto.ReadFrame(s, func(t uint8) int {
		if t != proto.TypeHello {
			return -1
		}
		return proto.MaxBody(t)
	})
	if err != nil {
		return f, c, err
	}
	m, err := proto.Parse(f)
	if err != nil {
		return f, c, err
	}
	return f, m.(proto.Hello).Channel, nil
}

// refuseStream answers a first frame that is no Hello.
func refuseStream(s network.MuxedStream, of uint8, err error) {
	refusal := &proto.Refusal{Code: proto.CodeMalformed, Err: errors.New("the first frame must be Hello")}
	f := proto.Encode(refusal.Frame(of, [16]byte{}))
	_ = s.SetDeadline(time.Now().Add(closeTimeout))
	if of == 0 || errors.Is(err, io.EOF) {
		_ = s.Reset()
		return
	}
	if _, err := s.Write(proto.AppendFrame(nil, f)); err == nil && s.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(s, proto.MaxFrame))
	}
	_ = s.Reset()
}

// Close stops listening, finishes what was accepted, tells every member that
// the relay leaves, and ends. When ctx ends first, the rest is cut off.
func (r *Relay) Close(ctx context.Context) error {
	r.closing.Do(func() {
		for _, l := range r.listeners {
			_ = l.Close()
		}
		r.accepting.Wait()
		r.closed = r.driver.Close(ctx)
		links := r.links.all()
		for _, l := range links {
			l.send(r.leaving(), true)
		}
		for _, l := range links {
			select {
			case <-l.gone:
			case <-ctx.Done():
			}
		}
		r.closed = errors.Join(r.closed, r.host.close())
	})
	return r.closed
}

// relayHooks is the outward side of a relay's driver.
type relayHooks struct{ *Relay }

func (r relayHooks) Send(_ store.Unit, s broadcast.Send) { r.links.send(s) }

func (r relayHooks) Failed(u store.Unit, err error) { r.links.endUnit(u, err) }

// A relay wants no links, and nobody commands or listens to its machines.
func (relayHooks) Links(store.Unit, []broadcast.WantLink) {}
func (relayHooks) Event(store.Unit, broadcast.Event)      {}
func (relayHooks) Answer(store.Unit, broadcast.Answer)    {}
