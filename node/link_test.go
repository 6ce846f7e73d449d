package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// pipe is a stream without a network, for tests of time.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error                            { return p.Close() }
func (p pipe) CloseRead() error                             { return nil }
func (p pipe) Reset() error                                 { return p.Close() }
func (p pipe) ResetWithError(network.StreamErrorCode) error { return p.Close() }

// aLink runs a link over a pipe; why comes when it ended.
func aLink(d *Driver, most int, pings bool) (l *link, other net.Conn, why chan error) {
	near, far := net.Pipe()
	t := newLinkTable(1 << 30)
	l = t.open(store.Unit{}, pipe{near}, most, pings)
	why = make(chan error, 1)
	go func() { why <- l.run(d) }()
	return l, far, why
}

func aDriver(t *testing.T, open broadcast.Open) *Driver {
	m := memory.New()
	return NewDriver(Config{Store: m, Open: open, Hooks: newTape(t, m), Loops: 1, Inbound: 1 << 20})
}

// A link on which nothing comes is closed after a minute, not earlier; Pings
// keep it up, and their Pongs do not reach the machine.
func TestLinkIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := aDriver(t, openLedger)
		_, far, why := aLink(d, 1<<20, false)
		began := time.Now()
		time.Sleep(idleTimeout - time.Second)
		ping := proto.AppendFrame(nil, proto.Encode(proto.Ping{Value: 1}))
		if _, err := far.Write(ping); err != nil {
			t.Error(err)
		}
		if err := <-why; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took != 2*idleTimeout-time.Second {
			t.Errorf("closed after %v", took)
		}

		m := memory.New()
		h := newTape(t, m)
		d2 := NewDriver(Config{Store: m, Open: openLedger, Hooks: h, Loops: 1})
		l, far, why := aLink(d2, 1<<20, true)
		for range 5 {
			f, err := proto.ReadFrame(far, proto.MaxBody)
			if err != nil {
				t.Fatal(err)
			}
			if f.Type != proto.TypePing || binary.BigEndian.Uint64(f.Body) != keepalive {
				t.Fatalf("frame %v", f)
			}
			f.Type = proto.TypePong
			if _, err := far.Write(proto.AppendFrame(nil, f)); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took < 5*pingEvery {
			t.Errorf("five pings in %v", took)
		}
		// Leaving tells how long to stay away.
		_, _ = far.Write(proto.AppendFrame(nil, proto.Encode(proto.Leaving{Retry: time.Hour})))
		synctest.Wait()
		if l.retry.Load() != int64(time.Hour) {
			t.Errorf("stays away %v", time.Duration(l.retry.Load()))
		}
		if len(h.sends) != 0 {
			t.Errorf("the machine saw a pong: %v", h.sends)
		}
		_ = far.Close()
		<-why
		closeDriver(t, d)
		closeDriver(t, d2)
	})
}

// One frame is read ahead of the machine, no more.
func TestLinkOneFrameAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := aDriver(t, func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
			<-gate
			return openLedger(u, r, e)
		})
		_, far, why := aLink(d, 1<<20, false)
		read := 0
		go func() {
			for range 200 {
				f := broadcast.Frame{Type: 0x90, Body: make([]byte, 10<<10)} // more than the read buffer
				if _, err := far.Write(proto.AppendFrame(nil, f)); err != nil {
					return
				}
				read++
			}
		}()
		synctest.Wait()
		if read > 3 {
			t.Errorf("%d frames were read while the machine saw none", read)
		}
		if d.inbound.TryAcquire(1<<20 - 20<<10 + 1) {
			t.Error("frames that wait hold no room")
		}
		close(gate)
		synctest.Wait()
		if read != 200 {
			t.Errorf("%d frames", read)
		}
		_ = far.Close()
		<-why
		closeDriver(t, d)
		if !d.inbound.TryAcquire(1 << 20) {
			t.Error("room was not given back")
		}
	})
}

// A frame that comes too slowly, a peer that does not read, one that sends
// more than its type may have.
func TestLinkLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := aDriver(t, openLedger)
		began := time.Now()
		_, trickle, why := aLink(d, 1<<20, false)
		go func() { // one byte a second of a long frame
			_, _ = trickle.Write(binary.BigEndian.AppendUint32(nil, 1<<10))
			for {
				if _, err := trickle.Write([]byte{proto.TypePost}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if err := <-why; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != frameTimeout {
			t.Errorf("trickle: %v after %v", err, time.Since(began))
		}
		if !d.inbound.TryAcquire(1 << 20) {
			t.Error("room was not given back")
		}
		d.inbound.Release(1 << 20)

		began = time.Now()
		l, _, why := aLink(d, 1<<20, false)
		l.send(broadcast.Frame{Type: 0x90}, false)
		if err := <-why; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != writeTimeout {
			t.Errorf("nobody reads: %v after %v", err, time.Since(began))
		}
		l, _, why = aLink(d, 100, false)
		for range 200 {
			l.send(broadcast.Frame{Type: 0x90, Body: make([]byte, 50)}, false)
		}
		if err := <-why; !errors.Is(err, errSlow) {
			t.Errorf("a full queue: %v", err)
		}
		if l.table.waiting.Load() != 0 {
			t.Errorf("%d bytes still count", l.table.waiting.Load())
		}

		_, far, why := aLink(d, 1<<20, false)
		_, _ = far.Write(append(binary.BigEndian.AppendUint32(nil, proto.MaxFrame+1), proto.TypePing))
		if err := <-why; !errors.Is(err, proto.ErrFrameTooLong) {
			t.Errorf("too long: %v", err)
		}
		closeDriver(t, d)
	})
}

// A last frame is written whole before the end, and nothing after it.
func TestLinkLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := aDriver(t, openLedger)
		l, far, why := aLink(d, 1<<20, false)
		body := bytes.Repeat([]byte("last"), 50<<10)
		l.send(broadcast.Frame{Type: 0x90, Body: body}, true)
		l.send(broadcast.Frame{Type: 0x91}, false)
		f, err := proto.ReadFrame(far, func(uint8) int { return len(body) })
		if err != nil || !bytes.Equal(f.Body, body) {
			t.Errorf("the last frame: %d bytes, %v", len(f.Body), err)
		}
		if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after it: %d bytes, %v", n, err)
		}
		<-why
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Input(ctx, store.Unit{}, broadcast.Up{}); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		closeDriver(t, d)
	})
}
