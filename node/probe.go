package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// probeTimeout is for one address: somebody waits at a terminal.
const probeTimeout = 5 * time.Second

// ErrNoRelay: who answers is not a relay of this protocol, or one that nobody
// vouches for.
var ErrNoRelay = errors.New("what answers there is not a relay of Parallax")

// Probe is what one address of a relay answered.
type Probe struct {
	Addr     string
	Took     time.Duration // until the relay, under its own key, had named its operator
	Operator keys.OperatorPublic
	Name     string // of the operator
	Err      error  // it did not: ErrNoAnswer, ErrOtherKey, ErrAddress, ErrNoRelay
}

// ProbeRelay tries each address of a relay by itself and asks who operates it.
// Nothing is made or changed there. It takes a few seconds at most.
func ProbeRelay(ctx context.Context, relay keys.RelayPublic, addrs []string) []Probe {
	list := make([]Probe, len(addrs))
	done := make(chan struct{}, len(addrs))
	for i, a := range addrs {
		go func() {
			list[i] = probe(ctx, relay, a)
			done <- struct{}{}
		}()
	}
	for range addrs {
		<-done
	}
	return list
}

func probe(ctx context.Context, relay keys.RelayPublic, addr string) Probe {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := Probe{Addr: addr}
	start := time.Now()
	d, err := dial(ctx, relay, []string{addr})
	if err != nil {
		p.Err = err
		return p
	}
	defer d.close()
	var is proto.InfoIs
	if is, p.Err = askInfo(ctx, d); p.Err != nil {
		return p
	}
	if !is.Verify(keys.Ed25519, relay) {
		p.Err = fmt.Errorf("%w: the operator it names does not vouch for it", ErrNoRelay)
		return p
	}
	p.Took, p.Operator, p.Name = time.Since(start), is.Operator, is.Name
	return p
}

// askInfo asks on a channel that nobody has.
func askInfo(ctx context.Context, d *duct) (is proto.InfoIs, err error) {
	if until, ok := ctx.Deadline(); ok {
		if err := d.stream.SetDeadline(until); err != nil {
			return is, err
		}
	}
	hello := proto.Hello{Min: proto.Version, Max: proto.Version}
	var channel wire.ChannelID
	if _, err := rand.Read(channel[:]); err != nil {
		return is, err
	}
	hello.Channel = channel
	out := proto.AppendFrame(proto.AppendFrame(nil, proto.Encode(hello)), proto.Encode(proto.Info{}))
	if _, err := d.stream.Write(out); err != nil {
		return is, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	for {
		f, err := proto.ReadFrame(d.stream, proto.MaxBody)
		if err != nil {
			return is, fmt.Errorf("%w: %w", ErrNoAnswer, err)
		}
		m, err := proto.Parse(f)
		if err != nil {
			return is, fmt.Errorf("%w: %w", ErrNoRelay, err)
		}
		switch m := m.(type) {
		case proto.InfoIs:
			return m, nil
		case proto.Refused:
			return is, &proto.Refusal{Code: m.Code, Limit: m.Limit, Retry: m.Retry}
		case proto.Leaving:
			return is, fmt.Errorf("%w: it is shutting down", ErrNoAnswer)
		}
	}
}
