package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/gologshim"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestRedact(t *testing.T) {
	id, err := relayPeer(relayKey(7).Public())
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"dial 192.0.2.7:4242: refused":                        "dial [ip]:4242: refused",
		"from 192.0.2.7.":                                     "from [ip].",
		"[2001:db8::7]:4242":                                  "[[ip]]:4242",
		"fe80::1%eth0 and ::1":                                "[ip] and [ip]",
		"/ip4/192.0.2.7/tcp/4242/p2p/" + id.String():          "/ip4/[ip]/tcp/4242/p2p/[peer]",
		"/ip6/2001:db8::7/udp/4242/quic-v1":                   "/ip6/[ip]/udp/4242/quic-v1",
		"/dns4/relay.example/tcp/1":                           "/dns4/[name]/tcp/1",
		"lookup relay.example: no such host":                  "lookup [name] no such host",
		"peer " + id.String() + " left":                       "peer [peer] left",
		"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N here": "[peer] here",
		"took 1.5s at 12:30:59, 3 of 10.":                     "took 1.5s at 12:30:59, 3 of 10.",
		"/data/groups/00ff/store: sync failed":                "/data/groups/00ff/store: sync failed",
		"version 1.2.3":                                       "version 1.2.3",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// Nothing that a logger is given escapes, in whatever kind of field.
func TestLogRedacts(t *testing.T) {
	core, seen := observer.New(zapcore.DebugLevel)
	log := NewLog(zap.New(core))
	const ip, port = "192.0.2.7", "4242"
	addr := ma.StringCast("/ip4/" + ip + "/tcp/" + port)
	log.With(zap.String("with", ip)).Info("from "+ip,
		zap.String("s", ip), zap.Error(fmt.Errorf("dial %s: %w", ip, errors.New("no"))), zap.Stringer("ma", addr),
		zap.Any("addrs", []ma.Multiaddr{addr}), zap.Any("ip", netip.MustParseAddr(ip)), zap.ByteString("b", []byte(ip)),
		zap.Strings("list", []string{ip}), zap.Int("n", 7))
	libraryLog(zap.New(core))
	lib := gologshim.Logger("swarm").With("peer", addr)
	lib.Warn("dial to "+ip+" failed", "addr", addr, "err", errors.New(ip), "many", []string{ip})
	lib.Info("not shown " + ip)
	lib.WithGroup("g").Error("worse", "ip", ip)
	if seen.Len() != 3 {
		t.Fatalf("%d entries", seen.Len())
	}
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m", NameKey: "l"})
	for _, e := range seen.All() {
		b, err := enc.EncodeEntry(e.Entry, e.Context)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), ip) || !strings.Contains(b.String(), redactedIP) {
			t.Errorf("logged %s", b)
		}
	}
	if e := seen.All()[1]; e.LoggerName != "libp2p" || e.Level != zapcore.WarnLevel || e.ContextMap()["logger"] != "swarm" {
		t.Errorf("libp2p's entry %+v", e)
	}
	library.Store(nil)
}
