package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store/memory"
)

var ways = map[string]string{"quic": "/ip4/127.0.0.1/udp/0/quic-v1", "tcp": "/ip4/127.0.0.1/tcp/0"}

func relayKey(n byte) keys.RelayPrivate { return new(keys.RelayPrivate).FromSeed([32]byte{n}) }

func startRelay(t *testing.T, cfg RelayConfig) *Relay {
	t.Helper()
	if cfg.Key.IsZero() {
		cfg.Key = relayKey(1)
	}
	if cfg.Store == nil {
		cfg.Store = memory.New()
	}
	if cfg.Open == nil {
		cfg.Open = openLedger
	}
	if cfg.Listen == nil {
		cfg.Listen = []string{ways["quic"], ways["tcp"]}
	}
	r, err := StartRelay(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeRelay(t, r) })
	return r
}

// quietPort is where a relay can listen, end and listen again: a port that is
// free for both transports and below those that the system gives to dialers,
// who would take it meanwhile.
func quietPort(t *testing.T) []string {
	t.Helper()
	for range 100 {
		p := 10_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", p))
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return []string{fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", p), fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", p)}
		}
	}
	t.Fatal("no free port")
	return nil
}

func closeRelay(t *testing.T, r *Relay) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// caller is a member's side by hand.
type caller struct {
	*duct
	t *testing.T
}

func call(t *testing.T, k keys.RelayPublic, addrs ...string) *caller {
	t.Helper()
	d, err := dial(t.Context(), k, addrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	_ = d.stream.SetDeadline(time.Now().Add(5 * time.Second))
	return &caller{d, t}
}

func (c *caller) say(ms ...proto.Message) {
	c.t.Helper()
	var b []byte
	for _, m := range ms {
		b = proto.AppendFrame(b, proto.Encode(m))
	}
	if _, err := c.stream.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) hear() proto.Message {
	c.t.Helper()
	f, err := proto.ReadFrame(c.stream, proto.MaxBody)
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := proto.Parse(f)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func TestRelayLinks(t *testing.T) {
	for name, addr := range ways {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t, RelayConfig{Listen: []string{addr}})
			addrs := r.Addrs()
			if len(addrs) != 1 || strings.Contains(addrs[0], "/0") || !strings.HasPrefix(addrs[0], "/ip4/127.0.0.1/") {
				t.Fatalf("addresses %q", addrs)
			}
			// The first address does not answer; the peer id in the second is its own.
			id, err := relayPeer(relayKey(1).Public())
			if err != nil {
				t.Fatal(err)
			}
			named := strings.Replace(addrs[0], "/ip4/127.0.0.1", "/dns4/localhost", 1) + "/p2p/" + id.String()
			c := call(t, relayKey(1).Public(), "/ip4/127.0.0.1/tcp/1", named)
			c.say(proto.Hello{Min: 1, Max: 1, Channel: [32]byte{7}})
			for i := range uint64(200) {
				c.say(proto.Ping{Value: i})
			}
			for i := range uint64(200) {
				if m := c.hear(); m != (proto.Pong{Value: i}) {
					t.Fatalf("heard %#v, want pong %d", m, i)
				}
			}
			// It leaves in order: the last frame arrives, then the end.
			go closeRelay(t, r)
			if m, ok := c.hear().(proto.Leaving); !ok || m.Code != proto.CodeShuttingDown || m.Retry != DefaultRetry {
				t.Errorf("heard %#v", m)
			}
			if _, err := c.stream.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("after leaving: %v", err)
			}
		})
	}
}

// A hello to the wrong relay, over each transport, and an address that names
// another key.
func TestRelayOtherKey(t *testing.T) {
	r := startRelay(t, RelayConfig{})
	for _, addr := range r.Addrs() {
		if _, err := dial(t.Context(), relayKey(2).Public(), []string{addr}); !errors.Is(err, ErrOtherKey) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	id, _ := relayPeer(relayKey(2).Public())
	if _, err := dial(t.Context(), relayKey(1).Public(), []string{r.Addrs()[0] + "/p2p/" + id.String()}); !errors.Is(err, ErrOtherKey) {
		t.Errorf("named key: %v", err)
	}
	for _, addrs := range [][]string{nil, {"nonsense"}, {"/ip4/127.0.0.1/tcp/1"}, {"/ip4/127.0.0.1/udp/1"}} {
		if _, err := dial(t.Context(), relayKey(1).Public(), addrs); !errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrOtherKey) {
			t.Errorf("%q: %v", addrs, err)
		}
	}
}

func TestRelayListenErrors(t *testing.T) {
	r := startRelay(t, RelayConfig{})
	for _, addr := range r.Addrs() {
		_, err := StartRelay(RelayConfig{Key: relayKey(2), Listen: []string{addr}, Store: memory.New(), Open: openLedger})
		if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"4242", "/dns4/localhost/tcp/4242", "/ip4/127.0.0.1/udp/4242", "/ip4/127.0.0.1"} {
		if _, err := StartRelay(RelayConfig{Key: relayKey(2), Listen: []string{addr}, Store: memory.New(), Open: openLedger}); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if a := startRelay(t, RelayConfig{Announce: []string{"/dns4/relay.example/tcp/4242"}}).Addrs(); len(a) != 1 || a[0] != "/dns4/relay.example/tcp/4242" {
		t.Errorf("announced %q", a)
	}
}

// A stream must begin with Hello; what cannot be read as a frame is closed.
func TestRelayFirstFrame(t *testing.T) {
	r := startRelay(t, RelayConfig{})
	for _, addr := range r.Addrs() {
		c := call(t, relayKey(1).Public(), addr)
		c.say(proto.Ping{})
		if m, ok := c.hear().(proto.Refused); !ok || m.Of != proto.TypePing || m.Code != proto.CodeMalformed {
			t.Errorf("%s: heard %#v", addr, m)
		}
		for _, junk := range [][]byte{{0, 0, 0, 0}, bytes.Repeat([]byte{0xff}, 64), {0, 0, 0, 2, proto.TypeHello, 0}} {
			c := call(t, relayKey(1).Public(), addr)
			_, _ = c.stream.Write(junk)
			_, _ = io.Copy(io.Discard, c.stream) // a refusal, or nothing; it ends
			_ = c.stream.SetReadDeadline(time.Now().Add(time.Millisecond))
			var timeout net.Error
			if _, err := c.stream.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%s: %x keeps the stream open: %v", addr, junk, err)
			}
		}
	}
}

// Who does not read is closed, with a bounded queue; others go on.
func TestRelaySlowReader(t *testing.T) {
	flood := func(l broadcast.Link) broadcast.Send {
		return broadcast.Send{Link: l, Frame: broadcast.Frame{Type: 0x90, Body: make([]byte, 60<<10)}}
	}
	r := startRelay(t, RelayConfig{Limits: ConnLimits{LinkBytes: 1 << 20}})
	slow, quick := call(t, relayKey(1).Public(), r.Addrs()...), call(t, relayKey(1).Public(), r.Addrs()...)
	for _, c := range []*caller{slow, quick} {
		c.say(proto.Hello{Min: 1, Max: 1}, proto.Ping{Value: 1})
		c.hear()
	}
	var id broadcast.Link
	for _, l := range r.links.all() {
		id = max(id, l.id)
	}
	slowID := id - 1 // it said Hello first
	most := int64(0)
	for range 1000 {
		r.links.send(flood(slowID))
		most = max(most, r.links.waiting.Load())
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(r.links.all()) != 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := len(r.links.all()); n != 1 || most > 3<<20 {
		t.Errorf("%d links are left, up to %d bytes waited", n, most)
	}
	quick.say(proto.Ping{Value: 2})
	if m := quick.hear(); m != (proto.Pong{Value: 2}) {
		t.Errorf("heard %#v", m)
	}
	if w := r.links.waiting.Load(); w != 0 {
		t.Errorf("%d bytes still count as waiting", w)
	}
}

// Limits per connection and in all are kept.
func TestRelayConnections(t *testing.T) {
	r := startRelay(t, RelayConfig{Limits: ConnLimits{Connections: 16, Streams: 2}})
	var calls []*caller
	for range 2 {
		calls = append(calls, call(t, relayKey(1).Public(), r.Addrs()...))
	}
	second, err := dialStream(withTimeout(t), calls[0].conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialStream(withTimeout(t), calls[0].conn); err == nil {
		t.Error("a third stream on one connection")
	}
	_ = second.Reset()
	refused := 0
	for range 20 {
		d, err := dial(withTimeout(t), relayKey(1).Public(), r.Addrs()[1:])
		if err != nil {
			refused++
			continue
		}
		t.Cleanup(d.close)
	}
	if refused < 5 {
		t.Errorf("%d of 20 connections were refused beyond 16", refused)
	}
}

// Strangers are counted by address and by network, and their haste as well;
// loopback is not.
func TestConnLimits(t *testing.T) {
	admitted := func(l ConnLimits, addr func(i int) string) (n int) {
		l.setDefaults()
		rm, err := l.resources()
		if err != nil {
			t.Fatal(err)
		}
		defer rm.Close()
		for i := range 200 {
			if _, err := rm.OpenConnection(network.DirInbound, false, ma.StringCast(addr(i))); err == nil {
				n++
			}
		}
		return n
	}
	same := func(a string) func(int) string { return func(int) string { return a } }
	counts := ConnLimits{PerAddress: 10, PerNetwork: 30, Rate: 1e6, Burst: 1e6}
	for _, c := range []struct {
		limits ConnLimits
		addr   func(int) string
		want   int
	}{
		{counts, same("/ip4/192.0.2.1/tcp/1"), 10},
		{counts, same("/ip4/127.0.0.1/tcp/1"), 200},
		{counts, func(i int) string { return fmt.Sprintf("/ip4/192.0.2.%d/udp/1/quic-v1", i) }, 30},
		{counts, func(i int) string { return fmt.Sprintf("/ip6/2001:db8::%x/tcp/1", i) }, 10},
		{counts, func(i int) string { return fmt.Sprintf("/ip6/2001:db8:0:%x::1/tcp/1", i) }, 30},
		{counts, func(i int) string { return fmt.Sprintf("/ip6/2001:db8:%x::1/tcp/1", i) }, 200},
		{ConnLimits{Connections: 50}, same("/ip4/127.0.0.1/udp/1/quic-v1"), 50 / transientOf},
		{ConnLimits{Rate: 0.001, Burst: 20}, same("/ip4/192.0.2.1/tcp/1"), 20},
	} {
		if got := admitted(c.limits, c.addr); got != c.want {
			t.Errorf("%s: %d connections, want %d", c.addr(1), got, c.want)
		}
	}
}

func withTimeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	t.Cleanup(cancel)
	return ctx
}
