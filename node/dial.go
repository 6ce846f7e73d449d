package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"

	"parallax/internal/keys"
)

// Limits of one dial.
const (
	maxAddresses = 16                     // tried, after names were resolved
	headStart    = 250 * time.Millisecond // of one address before the next is tried as well
)

// duct is a stream to a relay with the identity that it alone uses.
type duct struct {
	stream network.MuxedStream
	conn   transport.CapableConn
	host   *host
}

// close ends stream, connection and identity.
func (d *duct) close() {
	_ = d.stream.Reset()
	_ = d.conn.Close()
	_ = d.host.close()
}

// dial reaches a relay under a fresh identity. Addresses are tried in their
// order, each with a head start; the first that answers with the relay's key
// wins.
func dial(ctx context.Context, relay keys.RelayPublic, addrs []string) (*duct, error) {
	id, err := relayPeer(relay)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", relay, err)
	}
	_, own, err := ed25519.GenerateKey(rand.Reader) // lives as long as the link
	if err != nil {
		return nil, err
	}
	h, err := newHost(own, &network.NullResourceManager{})
	if err != nil {
		return nil, err
	}
	d, err := h.dial(ctx, id, addrs)
	if err != nil {
		_ = h.close()
		return nil, err
	}
	return d, nil
}

func (h *host) dial(ctx context.Context, id peer.ID, addrs []string) (*duct, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	list, err := resolve(ctx, id, addrs)
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	type answer struct {
		d   *duct
		err error
	}
	answers := make(chan answer, len(list)) // room for all: nobody waits for the losers
	next := time.NewTimer(0)
	defer next.Stop()
	fails := []error{err}
	for tried, failed := 0, 0; failed < len(list); {
		select {
		case <-next.C:
			if tried < len(list) {
				a := list[tried]
				h.wg.Go(func() {
					d, err := h.dialOne(ctx, id, a)
					answers <- answer{d, err}
				})
				tried++
				next.Reset(headStart)
			}
		case a := <-answers:
			if a.err == nil {
				cancel()
				go func(n int) { // close what came too late
					for range n {
						if late := <-answers; late.d != nil {
							_ = late.d.conn.Close()
						}
					}
				}(tried - failed - 1)
				return a.d, nil
			}
			fails = append(fails, a.err)
			failed++
			next.Reset(0)
		}
	}
	if all := errors.Join(fails...); errors.Is(all, ErrOtherKey) {
		return nil, all
	}
	return nil, noAnswer(fails)
}

// unreached is why no address of a relay answered, in a line for people; the
// causes stay to be found.
type unreached struct {
	text   string
	causes []error
}

func (e *unreached) Error() string   { return e.text }
func (e *unreached) Unwrap() []error { return append([]error{ErrNoAnswer}, e.causes...) }

func noAnswer(fails []error) error {
	e := &unreached{}
	var parts []string
	for _, err := range fails {
		if err != nil {
			e.causes = append(e.causes, err)
			parts = append(parts, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	e.text = fmt.Sprintf("%v: %s", ErrNoAnswer, strings.Join(parts, "; "))
	return e
}

// dialing is the failure of one address.
type dialing struct {
	addr ma.Multiaddr
	err  error
}

func (e *dialing) Unwrap() error { return e.err }
func (e *dialing) Error() string {
	var dns *net.DNSError
	var timeout net.Error
	what := e.err.Error()
	switch {
	case errors.Is(e.err, syscall.ECONNREFUSED) || strings.Contains(what, "CONNECTION_REFUSED"):
		what = "nobody listens there"
	case errors.Is(e.err, syscall.ENETUNREACH), errors.Is(e.err, syscall.EHOSTUNREACH):
		what = "there is no way there from this computer"
	case errors.As(e.err, &dns):
		what = "the name is not known"
	case errors.Is(e.err, context.DeadlineExceeded), errors.As(e.err, &timeout) && timeout.Timeout():
		what = "no answer"
	}
	return fmt.Sprintf("%s: %s", e.addr, what)
}

func (h *host) dialOne(ctx context.Context, id peer.ID, a ma.Multiaddr) (*duct, error) {
	t := h.way(a)
	if t == nil {
		return nil, fmt.Errorf("%s: %w", a, ErrAddress)
	}
	c, err := t.Dial(ctx, a, id)
	if err != nil {
		return nil, &dialing{a, otherKey(err)}
	}
	s, err := dialStream(ctx, c)
	if err != nil {
		_ = c.Close()
		return nil, &dialing{a, err}
	}
	return &duct{stream: s, conn: c, host: h}, nil
}

// otherKey names the error of an answer under another key. TLS inside QUIC
// passes it on as text only.
func otherKey(err error) error {
	if _, ok := errors.AsType[sec.ErrPeerIDMismatch](err); ok || strings.Contains(err.Error(), "peer id mismatch") {
		return ErrOtherKey
	}
	return err
}

// resolve parses addresses and looks names up. The error tells what was left
// out; it is nil when nothing was.
func resolve(ctx context.Context, id peer.ID, addrs []string) (list []ma.Multiaddr, err error) {
	if len(addrs) == 0 {
		return nil, errors.New("the relay has no address")
	}
	for _, s := range addrs {
		a, e := ma.NewMultiaddr(s)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%q: %w", s, ErrAddress))
			continue
		}
		if way, named := peer.SplitAddr(a); named != "" {
			if named != id || way == nil {
				err = errors.Join(err, fmt.Errorf("%q: %w", s, ErrOtherKey))
				continue
			}
			a = way
		}
		found, e := madns.DefaultResolver.Resolve(ctx, a)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", a, e))
			continue
		}
		list = append(list, found...)
	}
	return list[:min(len(list), maxAddresses)], err
}
