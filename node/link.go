package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/store"
)

// Why a link ended.
var (
	errSlow  = errors.New("the other side reads too slowly")
	errEnded = errors.New("the link was closed")
)

// keepalive marks the Pings that a link sends by itself: a machine never sees
// the Pongs that answer them.
const keepalive = 1 << 63

// linkTable numbers the links of a driver and finds them by number.
type linkTable struct {
	last    atomic.Uint64
	waiting atomic.Int64 // bytes queued on all links
	most    int64        // of waiting, before lagging links are closed

	mu    sync.Mutex // links
	links map[broadcast.Link]*link
}

func newLinkTable(most int64) *linkTable {
	return &linkTable{most: most, links: map[broadcast.Link]*link{}}
}

// send is Hooks.Send: it never blocks, and a link that is gone swallows it.
func (t *linkTable) send(s broadcast.Send) {
	t.mu.Lock()
	l := t.links[s.Link]
	t.mu.Unlock()
	if l != nil {
		l.send(s.Frame, s.Close)
	}
}

func (t *linkTable) all() (list []*link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.links {
		list = append(list, l)
	}
	return list
}

// endUnit ends the links of one unit.
func (t *linkTable) endUnit(u store.Unit, why error) {
	for _, l := range t.all() {
		if l.unit == u {
			l.end(why)
		}
	}
}

// link carries the frames of one held stream. Reading is one frame ahead of
// the machine; writing is a bounded queue, and who does not keep up is closed.
type link struct {
	id     broadcast.Link
	unit   store.Unit
	table  *linkTable
	stream network.MuxedStream
	in     *bufio.Reader
	most   int          // bytes in queue
	pings  bool         // a member's side: sends Pings, keeps their Pongs
	retry  atomic.Int64 // nanoseconds to stay away, as the relay's Leaving says

	kick chan struct{}
	gone chan struct{}

	mu     sync.Mutex // the rest
	queue  []byte
	finish bool // close when queue is written
	err    error
}

// open makes a link of a stream; run must follow.
func (t *linkTable) open(u store.Unit, s network.MuxedStream, most int, pings bool) *link {
	l := &link{
		id: broadcast.Link(t.last.Add(1)), unit: u, table: t, stream: s, in: bufio.NewReaderSize(s, readBuffer),
		most: most, pings: pings, kick: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	t.mu.Lock()
	t.links[l.id] = l
	t.mu.Unlock()
	return l
}

// send queues a frame (type 0: none), and with last closes the link after it.
func (l *link) send(f broadcast.Frame, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.finish {
		return
	}
	if f.Type != 0 {
		n := proto.FrameHead + len(f.Body)
		lag := len(l.queue) + n
		if len(l.queue) > 0 && lag > l.most || lag > lagging && l.table.waiting.Load() > l.table.most {
			l.endLocked(errSlow)
			return
		}
		l.queue = proto.AppendFrame(l.queue, f)
		l.table.waiting.Add(int64(n))
	}
	l.finish = last
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// end closes the link at once; the first reason stays.
func (l *link) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked(why)
}

func (l *link) endLocked(why error) {
	if l.err != nil {
		return
	}
	l.err = why
	l.table.waiting.Add(-int64(len(l.queue)))
	l.queue = nil
	close(l.gone)
}

// run carries frames until the link ends, and tells why it did. The stream is
// closed then, and no frame of it is on its way to the driver.
func (l *link) run(d *Driver) error {
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(l.write)
	both.Go(func() { l.end(l.read(ctx, d)) })
	<-l.gone
	cancel()
	if errors.Is(l.err, io.EOF) {
		_ = l.stream.Close()
	} else {
		_ = l.stream.Reset()
	}
	both.Wait()
	l.table.mu.Lock()
	delete(l.table.links, l.id)
	l.table.mu.Unlock()
	return l.err
}

func (l *link) write() {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-l.gone:
			return
		case <-ping.C:
			if l.pings {
				l.send(proto.Encode(proto.Ping{Value: keepalive}), false)
			}
			continue
		case <-l.kick:
		}
		l.mu.Lock()
		out, finish := l.queue, l.finish
		l.queue = nil
		l.mu.Unlock()
		err := l.flush(out)
		l.table.waiting.Add(-int64(len(out)))
		if err == nil && finish {
			// The other side closes when it has read the last frame: what
			// it sends until then is discarded.
			err = errors.Join(l.stream.CloseWrite(), l.stream.SetReadDeadline(time.Now().Add(closeTimeout)))
		}
		if err != nil {
			l.end(err)
			return
		}
	}
}

func (l *link) flush(out []byte) error {
	for len(out) > 0 {
		chunk := out[:min(len(out), writeChunk)]
		if err := l.stream.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		n, err := l.stream.Write(chunk)
		if err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

// deadline moves the time by which something must be read, unless the link is
// being closed.
func (l *link) deadline(in time.Duration) (closing bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finish {
		return true, nil
	}
	return false, l.stream.SetReadDeadline(time.Now().Add(in))
}

// read hands frames to the driver until the stream ends.
func (l *link) read(ctx context.Context, d *Driver) error {
	free := make(chan struct{}, 1) // the machine has seen the frame before
	free <- struct{}{}
	for {
		f, closing, err := l.frame(ctx, d)
		if err != nil {
			return err
		}
		if closing {
			return l.discard()
		}
		n := len(f.Body)
		if l.pings && l.own(f) {
			d.Release(n)
			continue
		}
		select {
		case <-free:
		case <-ctx.Done():
			d.Release(n)
			return errEnded
		}
		err = d.Receive(ctx, l.unit, broadcast.Received{Link: l.id, Frame: f}, n, func() { free <- struct{}{} })
		if errors.Is(err, ErrClosed) {
			return l.discard() // what was accepted is still answered
		}
		if err != nil {
			return errEnded
		}
	}
}

// own tells a frame that is the link's, not the machine's.
func (l *link) own(f broadcast.Frame) bool {
	if f.Type != proto.TypePong && f.Type != proto.TypeLeaving {
		return false
	}
	m, err := proto.Parse(f)
	if err != nil {
		return false // the machine says what it thinks of it
	}
	switch m := m.(type) {
	case proto.Pong:
		return m.Value == keepalive
	case proto.Leaving:
		l.retry.Store(int64(m.Retry))
	}
	return false
}

// frame reads one frame, for whose body room was reserved.
func (l *link) frame(ctx context.Context, d *Driver) (f broadcast.Frame, closing bool, err error) {
	if closing, err = l.deadline(idleTimeout); closing || err != nil {
		return f, closing, err
	}
	var head [proto.FrameHead]byte
	if _, err := io.ReadFull(l.in, head[:]); err != nil {
		return f, false, err
	}
	if closing, err = l.deadline(frameTimeout); closing || err != nil {
		return f, closing, err
	}
	body := 0
	whole := io.MultiReader(bytes.NewReader(head[:]), l.in)
	f, err = proto.ReadFrame(whole, func(t uint8) int {
		most := proto.MaxBody(t)
		if n := int(binary.BigEndian.Uint32(head[:4])) - 1; n <= most && body == 0 {
			if e := d.Reserve(ctx, n); e != nil {
				return -1
			}
			body = n
		}
		return most
	})
	if err != nil && body > 0 {
		d.Release(body)
	}
	return f, false, err
}

// discard reads until the other side closes too.
func (l *link) discard() error {
	if _, err := io.Copy(io.Discard, l.in); err != nil {
		return err
	}
	return io.EOF
}
