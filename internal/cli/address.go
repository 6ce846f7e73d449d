package cli

import (
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/node"
)

// tokenForm keeps tokens apart from what surrounds them in an address list.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// CheckToken tells whether a token can stand in a founding address.
func CheckToken(token string) error {
	if !tokenForm.MatchString(token) {
		return fmt.Errorf("a token is 1 to 64 of A-Z a-z 0-9 . _ - , not %q", token)
	}
	return nil
}

// PeerID is a relay's libp2p peer id: another writing of its key.
func PeerID(key keys.RelayPublic) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(key[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(pub)
}

// RelayAddress is a relay's address as people pass it on: every multiaddr
// followed by /p2p/ and the peer id, separated by commas, then # and the
// founding token if there is one. ParseRelays reads it.
func RelayAddress(key keys.RelayPublic, addrs []string, token string) (string, error) {
	id, err := PeerID(key)
	if err != nil {
		return "", err
	}
	parts := make([]string, len(addrs))
	for i, a := range addrs {
		parts[i] = a + "/p2p/" + id.String()
	}
	if text := strings.Join(parts, ","); token == "" {
		return text, nil
	} else {
		return text + "#" + token, nil
	}
}

// ParseRelays reads relay addresses, separated by commas or given one by one.
// Addresses of one peer id are one relay. Every error is of exit code Usage
// and names the address that is wrong, without its token.
func ParseRelays(lists ...string) ([]member.FoundingSpot, error) {
	var spots []member.FoundingSpot
	at := map[keys.RelayPublic]int{}
	for part := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		text, token, has := strings.Cut(part, "#")
		key, addr, err := parseRelay(text)
		if err == nil && has {
			err = CheckToken(token)
		}
		if err != nil {
			return nil, &Error{Usage, fmt.Errorf("relay address %q: %w", text, err)}
		}
		i, known := at[key]
		if !known {
			i = len(spots)
			at[key] = i
			spots = append(spots, member.FoundingSpot{Key: key})
		}
		s := &spots[i]
		s.Addrs = append(s.Addrs, addr)
		if has && s.Token != "" && s.Token != token {
			return nil, Errorf(Usage, "relay address %q: this relay was given another token before", text)
		}
		if has {
			s.Token = token
		}
	}
	if len(spots) == 0 {
		return nil, Errorf(Usage, "no relay address: the relay's operator gets it from `parallax-relay address`")
	}
	return spots, nil
}

func parseRelay(text string) (key keys.RelayPublic, addr string, err error) {
	whole, err := ma.NewMultiaddr(text)
	if err != nil {
		if strings.Contains(text, "/p2p/") {
			id := text[strings.LastIndex(text, "/p2p/")+len("/p2p/"):]
			if _, e := peer.Decode(id); e != nil {
				return key, "", fmt.Errorf("%q after /p2p/ is not a peer id: a part is missing or mistyped", id)
			}
		}
		return key, "", node.ErrAddress
	}
	way, id := peer.SplitAddr(whole)
	if id == "" {
		return key, "", fmt.Errorf("it does not say which relay is there: it must end with /p2p/ and the relay's peer id, as `parallax-relay address` prints it")
	}
	pub, err := id.ExtractPublicKey()
	if err != nil || pub.Type() != pb.KeyType_Ed25519 {
		return key, "", fmt.Errorf("peer id %s is not an Ed25519 key, so it is not that of a relay", id)
	}
	raw, err := pub.Raw()
	if err != nil || copy(key[:], raw) != len(raw) {
		return key, "", fmt.Errorf("peer id %s is not an Ed25519 key, so it is not that of a relay", id)
	}
	if err := CheckAddr(way); err != nil {
		return key, "", err
	}
	return key, way.String(), nil
}

// CheckAddr tells whether this version can listen on or dial an address.
func CheckAddr(a ma.Multiaddr) error {
	if len(a) != 2 && len(a) != 3 {
		return node.ErrAddress
	}
	host, port := a[0].Protocol().Code, a[1].Protocol().Code
	switch host {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
	default:
		return node.ErrAddress
	}
	stream := port == ma.P_TCP && len(a) == 2
	datagram := port == ma.P_UDP && len(a) == 3 && a[2].Protocol().Code == ma.P_QUIC_V1
	if !stream && !datagram {
		return node.ErrAddress
	}
	return nil
}

// Reachable turns addresses that a relay listens on into such that others may
// reach: an unspecified host becomes the address this computer would use
// towards the internet, or where it has none an address of an interface.
// Nothing is sent.
func Reachable(listen []string) []string {
	var addrs []string
	for _, text := range listen {
		a, err := ma.NewMultiaddr(text)
		if err != nil || len(a) == 0 || !manet.IsIPUnspecified(a) {
			addrs = append(addrs, text)
			continue
		}
		network, far := "udp4", "192.0.2.1:9" // RFC 5737: documentation, never routed
		if a[0].Protocol().Code == ma.P_IP6 {
			network, far = "udp6", "[2001:db8::1]:9"
		}
		if ip := outbound(network, far); ip != nil {
			if host, err := manet.FromIP(ip); err == nil {
				addrs = append(addrs, ma.Join(host, a[1:]).String())
			}
		}
	}
	return addrs
}

// outbound is the local address that a route to far would use; connecting a
// datagram socket sends nothing.
func outbound(network, far string) net.IP {
	if c, err := net.Dial(network, far); err == nil {
		defer c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			return a.IP
		}
	}
	wantV4 := network == "udp4"
	list, err := net.InterfaceAddrs()
	if err != nil {
		list = nil
	}
	var loopback net.IP
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok || (n.IP.To4() != nil) != wantV4 || n.IP.IsLinkLocalUnicast() {
			continue
		}
		if !n.IP.IsLoopback() {
			return n.IP
		}
		loopback = n.IP
	}
	return loopback
}
