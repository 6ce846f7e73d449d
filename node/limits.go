package node

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// ConnLimits bound what strangers may cost a relay. Zero means the default.
// Addresses on loopback are not counted: whoever connects from there is on the
// machine, or behind a proxy that has to count itself.
type ConnLimits struct {
	Connections int     // at a time. Default: 8,192
	PerAddress  int     // at a time from one IPv4 address or IPv6 /64. Default: 128
	PerNetwork  int     // at a time from one IPv4 /24 or IPv6 /48. Default: 512
	Rate        float64 // new connections a second from one address. Default: 4
	Burst       int     // new connections at once from one address. Default: 128
	Streams     int     // at a time on one connection. Default: 4
	LinkBytes   int     // waiting to be sent on one link; beyond it the link is closed. Default: 16 MiB
	SendBytes   int64   // waiting to be sent on all links; beyond it links that lag are closed. Default: 512 MiB
	Memory      int64   // that the transports may take for windows and handshakes. Default: 1 GiB
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (l *ConnLimits) setDefaults() {
	orDefault(&l.Connections, 8192)
	orDefault(&l.PerAddress, 128)
	orDefault(&l.PerNetwork, 512)
	orDefault(&l.Rate, 4)
	orDefault(&l.Burst, 128)
	orDefault(&l.Streams, 4)
	orDefault(&l.LinkBytes, 16<<20)
	orDefault(&l.SendBytes, 512<<20)
	orDefault(&l.Memory, 1<<30)
}

// Limits of a stream's life.
const (
	dialTimeout      = 15 * time.Second // for one address
	handshakeTimeout = 15 * time.Second // from a connection to its first Hello
	idleTimeout      = 60 * time.Second // without a frame a link is closed
	pingEvery        = 30 * time.Second // a member's sign of life
	frameTimeout     = 60 * time.Second // for one frame, from its first byte
	writeTimeout     = 30 * time.Second // for one chunk
	closeTimeout     = 1 * time.Second  // for the other side to take the last frame
	writeChunk       = 64 << 10
	readBuffer       = 4 << 10
	lagging          = 1 << 20 // bytes waiting on one link that count as lag when SendBytes is reached

	// One connection's share of the memory of the transports: windows of a
	// stream and the connection, which QUIC grows as it is allowed.
	connMemory   = 8 << 20
	yamuxWindow  = 1 << 20
	transientOf  = 8 // connections not yet authenticated: one in transientOf
	rateGrace    = time.Minute
	addressBits4 = 32
	networkBits4 = 24
	addressBits6 = 64
	networkBits6 = 48
)

// resources builds the relay's resource manager: fixed limits, no metrics.
func (l ConnLimits) resources() (network.ResourceManager, error) {
	conns, streams := rcmgr.LimitVal(l.Connections), rcmgr.LimitVal(l.Connections*l.Streams)
	all := func(conns, streams rcmgr.LimitVal, memory int64) rcmgr.ResourceLimits {
		return rcmgr.ResourceLimits{
			Streams: streams, StreamsInbound: streams, StreamsOutbound: rcmgr.BlockAllLimit,
			Conns: conns, ConnsInbound: conns, ConnsOutbound: rcmgr.BlockAllLimit,
			FD: conns, Memory: rcmgr.LimitVal64(memory),
		}
	}
	limits := rcmgr.PartialLimitConfig{
		System:      all(conns, streams, l.Memory),
		Transient:   all(max(conns/transientOf, 1), max(streams/transientOf, 1), l.Memory/transientOf),
		PeerDefault: all(rcmgr.LimitVal(l.PerAddress), rcmgr.LimitVal(l.PerAddress*l.Streams), l.Memory),
		Conn:        all(1, rcmgr.LimitVal(l.Streams), connMemory),
		Stream:      all(0, 1, connMemory),
	}
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	subnets := func(address, net int) []rate.SubnetLimit {
		share := float64(l.PerNetwork) / float64(l.PerAddress)
		return []rate.SubnetLimit{
			{PrefixLength: address, Limit: rate.Limit{RPS: l.Rate, Burst: l.Burst}},
			{PrefixLength: net, Limit: rate.Limit{RPS: l.Rate * share, Burst: int(float64(l.Burst) * share)}},
		}
	}
	count := func(address, net int) []rcmgr.ConnLimitPerSubnet {
		return []rcmgr.ConnLimitPerSubnet{{PrefixLength: address, ConnCount: l.PerAddress}, {PrefixLength: net, ConnCount: l.PerNetwork}}
	}
	return rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(count(addressBits4, networkBits4), count(addressBits6, networkBits6)),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: loopback4}, {Prefix: loopback6}},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: subnets(addressBits4, networkBits4),
				IPv6SubnetLimits: subnets(addressBits6, networkBits6),
				GracePeriod:      rateGrace,
			},
		}),
	)
}
