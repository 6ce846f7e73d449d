package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
)

// Errors of listening and dialing.
var (
	// ErrPortInUse: another program, or another relay, listens there.
	ErrPortInUse = errors.New("the address is already in use")
	// ErrAddress: not a multiaddr that this program can listen on or dial.
	ErrAddress = errors.New("not an address of the form /ip4|ip6|dns/HOST/tcp/PORT or /ip4|ip6|dns/HOST/udp/PORT/quic-v1")
	// ErrOtherKey: somebody else than the expected relay answered.
	ErrOtherKey = errors.New("the relay has another key than the invitation names")
	// ErrNoAnswer: no address of a relay could be reached.
	ErrNoAnswer = errors.New("the relay could not be reached")
)

// host is a libp2p identity with its two transports, QUIC and TCP with Noise
// and yamux, and nothing else: no identify, no peerstore, no discovery. A
// relay has one for its life; a member one for each link, so that no two of
// its links share a key or a port.
type host struct {
	id   peer.ID
	rm   network.ResourceManager
	quic *quicreuse.ConnManager
	ways []transport.Transport
	most int // streams at a time on one connection

	mu    sync.Mutex // conns
	conns map[transport.CapableConn]bool
	wg    sync.WaitGroup
}

func newHost(key ed25519.PrivateKey, rm network.ResourceManager) (h *host, err error) {
	priv, err := ic.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, err
	}
	h = &host{rm: rm, conns: map[transport.CapableConn]bool{}}
	if h.id, err = peer.IDFromPrivateKey(priv); err != nil {
		return nil, err
	}
	window := *yamux.DefaultTransport.Config()
	window.MaxStreamWindowSize = yamuxWindow
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: (*yamux.Transport)(&window)}}
	secure, err := noise.New(noise.ID, priv, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, rm, nil, upgrader.WithAcceptTimeout(handshakeTimeout))
	if err != nil {
		return nil, err
	}
	// Without reuseport: two relays must not share a port, and a member's
	// links must not share one either.
	stream, err := tcp.NewTCPTransport(up, rm, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(dialTimeout))
	if err != nil {
		return nil, err
	}
	secret := key.Seed()
	defer clear(secret)
	h.quic, err = quicreuse.NewConnManager(
		quic.StatelessResetKey(keys.Derive(secret, "parallax/1/node/reset")),
		quic.TokenGeneratorKey(keys.Derive(secret, "parallax/1/node/token")),
	)
	if err != nil {
		return nil, err
	}
	datagram, err := libp2pquic.NewTransport(priv, h.quic, nil, nil, rm)
	if err != nil {
		return nil, errors.Join(err, h.quic.Close())
	}
	h.ways = []transport.Transport{datagram, stream}
	return h, nil
}

// way is the transport for an address; nil: there is none.
func (h *host) way(a ma.Multiaddr) transport.Transport {
	for _, t := range h.ways {
		if t.CanDial(a) {
			return t
		}
	}
	return nil
}

func (h *host) listen(addr string) (transport.Listener, error) {
	a, err := ma.NewMultiaddr(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w (%w)", addr, ErrAddress, err)
	}
	t := h.way(a)
	if t == nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, ErrAddress)
	}
	l, err := t.Listen(a)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: %w; stop the other program or choose another port", addr, ErrPortInUse)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// serve accepts until the listener is closed, and hands every stream of the
// protocol to handle, which owns it until it returns.
func (h *host) serve(l transport.Listener, handle func(network.MuxedStream)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !h.keep(c) {
			_ = c.CloseWithError(network.ConnShutdown)
			return
		}
		h.wg.Go(func() {
			h.streams(c, handle)
			h.drop(c)
		})
	}
}

func (h *host) keep(c transport.CapableConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil {
		return false
	}
	h.conns[c] = true
	return true
}

func (h *host) drop(c transport.CapableConn) {
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
	_ = c.Close()
}

// streams serves one connection. A connection is there for its streams: one
// that has had none for handshakeTimeout is closed.
func (h *host) streams(c transport.CapableConn, handle func(network.MuxedStream)) {
	var mu sync.Mutex // open, idle
	open := 0
	idle := time.AfterFunc(handshakeTimeout, func() { _ = c.CloseWithError(network.ConnGarbageCollected) })
	var streams sync.WaitGroup
	defer func() {
		idle.Stop()
		_ = c.Close()
		streams.Wait()
		idle.Stop()
	}()
	for {
		s, err := c.AcceptStream()
		if err != nil {
			return
		}
		mu.Lock()
		if open++; open == 1 {
			idle.Stop()
		}
		tooMany := open > h.most
		mu.Unlock()
		done := func() {
			mu.Lock()
			if open--; open == 0 {
				idle.Reset(handshakeTimeout)
			}
			mu.Unlock()
		}
		scope, err := h.rm.OpenStream(c.RemotePeer(), network.DirInbound)
		if err != nil || tooMany {
			_ = s.ResetWithError(network.StreamResourceLimitExceeded)
			if err == nil {
				scope.Done()
			}
			done()
			continue
		}
		streams.Go(func() {
			defer done()
			defer scope.Done()
			if err := accept(s); err != nil {
				_ = s.ResetWithError(network.StreamProtocolNegotiationFailed)
				return
			}
			handle(s)
		})
	}
}

// accept agrees on the protocol of a stream that the other side opened.
func accept(s network.MuxedStream) error {
	if err := s.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	mux := multistream.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(proto.Protocol, nil)
	if _, _, err := mux.Negotiate(s); err != nil {
		return err
	}
	return s.SetDeadline(time.Time{})
}

// close ends every connection at once.
func (h *host) close() error {
	h.mu.Lock()
	conns := h.conns
	h.conns = nil
	h.mu.Unlock()
	for c := range conns {
		_ = c.CloseWithError(network.ConnShutdown)
	}
	h.wg.Wait()
	return errors.Join(h.quic.Close(), h.rm.Close())
}

// shown is a listener's addresses, one for each interface where it listens on
// all of them.
func shown(listen []ma.Multiaddr) (addrs []string) {
	all, err := manet.InterfaceMultiaddrs()
	if err != nil {
		all = nil // an unspecified address is still shown as it is
	}
	resolved, err := manet.ResolveUnspecifiedAddresses(listen, all)
	if err != nil {
		resolved = listen
	}
	for _, a := range resolved {
		addrs = append(addrs, a.String())
	}
	return addrs
}

// relayPeer is the peer id of a relay.
func relayPeer(k keys.RelayPublic) (peer.ID, error) {
	pub, err := ic.UnmarshalEd25519PublicKey(k[:])
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(pub)
}

// dialStream opens a stream of the protocol on a connection.
func dialStream(ctx context.Context, c transport.CapableConn) (network.MuxedStream, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	err = s.SetDeadline(deadline)
	if err == nil {
		_, err = multistream.SelectOneOf([]protocol.ID{proto.Protocol}, s)
	}
	if err == nil {
		err = s.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("open a stream of %s: %w", proto.Protocol, err)
	}
	return s, nil
}
