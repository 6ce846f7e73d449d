package member

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"parallax/internal/wire"
)

// Where links to relays stood (docs/protocol.md section 9.1, "Smallest coalition").
// A relay may be known by a name, and who looks it up is the driver; so the driver
// says at which address a link stands. It is durable: `coalition` is asked of relays
// that do not answer just now too, mostly by a process that has just begun. Nothing
// but what people are shown follows from it.
const (
	// maxReached is how many addresses of one relay are kept, the newest. Default: 4.
	maxReached = 4
	// reachedFor is for how long one is shown at which no link stood. Default: 30
	// days.
	reachedFor = 30 * 24 * time.Hour
	// reachedEvery is how often it is written that links stand there still. Default:
	// 1 day.
	reachedEvery = 24 * time.Hour
)

// reached is an address at which a link to a relay stood. Whoever forwards to the
// relay is there, if that is not the relay itself.
type reached struct {
	addr netip.Addr
	last int64 // Unix seconds
}

// Prefixes that count as one network.
const (
	networkBits4 = 16
	networkBits6 = 48
)

// translated is the prefix under which networks without IPv4 write its addresses
// (RFC 6052, section 2.1): the last four bytes are the relay's own.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// addressOf is the address of a multiaddr that begins with one; false if it begins
// with anything else, or is that of a circuit, which begins with somebody else's.
func addressOf(multiaddr string) (netip.Addr, bool) {
	parts := strings.SplitN(multiaddr, "/", 4)
	if len(parts) < 3 || parts[0] != "" || parts[1] != "ip4" && parts[1] != "ip6" || strings.Contains(multiaddr, "/p2p-circuit") {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(parts[2])
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, false
	}
	if ip = ip.Unmap(); translated.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip, true
}

// networkOf is the network of an address.
func networkOf(ip netip.Addr) netip.Prefix {
	bits := networkBits6
	if ip.Is4() {
		bits = networkBits4
	}
	p, _ := ip.Prefix(bits) // fits every address
	return p
}

// noteReached notes that a link to a relay stands at a multiaddr, or anywhere if
// the driver does not know.
func (m *Machine) noteReached(p *path, at string) {
	addr, ok := addressOf(at)
	if !ok {
		return
	}
	now := m.now.Unix()
	i := slices.IndexFunc(p.reached, func(r reached) bool { return r.addr == addr })
	if i >= 0 && now-p.reached[i].last < int64(reachedEvery/time.Second) {
		return
	}
	list := []reached{{addr, now}}
	for j, r := range p.reached {
		if j != i && len(list) < maxReached && !m.outdated(r) {
			list = append(list, r)
		}
	}
	p.reached = list
	b := []byte{byte(len(list))}
	for _, r := range list {
		ip := r.addr.As16()
		b = wire.AppendU64(append(b, ip[:]...), uint64(r.last))
	}
	m.put(m.key(keyReached, []byte{byte(p.index)}), b)
}

// outdated tells whether no link stood there for long.
func (m *Machine) outdated(r reached) bool {
	return m.now.Unix()-r.last > int64(reachedFor/time.Second)
}

func (m *Machine) loadReached(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil {
		return err
	}
	r := wire.NewReader(value)
	n := int(r.U8())
	if n > maxReached {
		return wire.ErrFormat
	}
	list := make([]reached, n)
	for i := range list {
		var ip [16]byte
		r.Fixed(ip[:])
		list[i] = reached{netip.AddrFrom16(ip).Unmap(), int64(r.U64())}
	}
	if err := r.Done(); err != nil {
		return err
	}
	p.reached = list
	return nil
}

// forgetReached forgets where a path was reached whose place another relay gets.
func (m *Machine) forgetReached(p *path) { m.del(m.key(keyReached, []byte{byte(p.index)})) }
