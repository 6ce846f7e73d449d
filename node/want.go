package node

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
)

// Dialing tells how a member's links are dialed. Zero means the default.
type Dialing struct {
	First     time.Duration // wait after a failure, doubled for each further one. Default: 100 ms
	Most      time.Duration // longest wait. Default: 30 s
	Stood     time.Duration // a link that stood so long counts as a success. Default: 5 s
	Spread    time.Duration // links of one membership are begun within it. Default: 50 ms
	LinkBytes int           // waiting to be sent on one link. Default: 32 MiB
	SendBytes int64         // waiting to be sent on all links. Default: 256 MiB
}

func (d *Dialing) setDefaults() {
	orDefault(&d.First, 100*time.Millisecond)
	orDefault(&d.Most, 30*time.Second)
	orDefault(&d.Stood, 5*time.Second)
	orDefault(&d.Spread, 50*time.Millisecond)
	orDefault(&d.LinkBytes, 32<<20)
	orDefault(&d.SendBytes, 256<<20)
}

type wantKey struct {
	relay keys.RelayPublic
	use   broadcast.Use
}

// want is one link that a machine wants, kept up by a goroutine of its own.
type want struct {
	cancel context.CancelFunc
	addrs  []string // guarded by wants.mu
}

// wants keeps up the links of one membership.
type wants struct {
	cfg    Dialing
	unit   store.Unit
	driver *Driver
	links  *linkTable
	ctx    context.Context // ends with the membership
	end    context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex // list and the addrs in it
	list map[wantKey]*want
}

func newWants(cfg Dialing, u store.Unit, links *linkTable) *wants {
	w := &wants{cfg: cfg, unit: u, links: links, list: map[wantKey]*want{}}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

// set is Hooks.Links: what is missing is dialed, what is not wanted closed.
func (w *wants) set(links []broadcast.WantLink) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keep := map[wantKey]bool{}
	for _, l := range links {
		k := wantKey{l.Relay, l.Use}
		keep[k] = true
		if old := w.list[k]; old != nil {
			old.addrs = l.Addrs
			continue
		}
		if w.ctx.Err() != nil {
			continue
		}
		ctx, cancel := context.WithCancel(w.ctx)
		n := &want{cancel: cancel, addrs: l.Addrs}
		w.list[k] = n
		w.wg.Go(func() {
			defer cancel()
			w.keep(ctx, k, n)
		})
	}
	for k, old := range w.list {
		if !keep[k] {
			old.cancel()
			delete(w.list, k)
		}
	}
}

// keep dials until the link stands, and again when it fell.
func (w *wants) keep(ctx context.Context, k wantKey, n *want) {
	if !sleep(ctx, rand.N(w.cfg.Spread+1)) {
		return
	}
	wait := w.cfg.First
	for {
		began := time.Now()
		away := w.once(ctx, k, n)
		if time.Since(began) >= w.cfg.Stood {
			wait = w.cfg.First
		}
		if !sleep(ctx, max(wait/2+rand.N(wait/2+1), min(away, w.cfg.Most))) {
			return
		}
		wait = min(2*wait, w.cfg.Most)
	}
}

// once dials and serves one link, and tells how long to stay away.
func (w *wants) once(ctx context.Context, k wantKey, n *want) time.Duration {
	w.mu.Lock()
	addrs := n.addrs
	w.mu.Unlock()
	d, err := dial(ctx, k.relay, addrs)
	if err != nil {
		if ctx.Err() == nil {
			w.tell(broadcast.Down{Relay: k.relay, Use: k.use, Why: err.Error()})
		}
		return w.cfg.First // an attempt that ran into its timeout is no success
	}
	defer d.close()
	l := w.links.open(w.unit, d.stream, w.cfg.LinkBytes, true)
	w.tell(broadcast.Up{Link: l.id, Relay: k.relay, Use: k.use, Addr: d.conn.RemoteMultiaddr().String()})
	stop := context.AfterFunc(ctx, func() { l.send(proto.Encode(proto.Bye{}), true) })
	why := l.run(w.driver)
	stop()
	w.tell(broadcast.Down{Link: l.id, Relay: k.relay, Use: k.use, Why: people(why)})
	return time.Duration(l.retry.Load())
}

// tell is for what a machine must hear whatever its loop is busy with; a
// closed driver does not care.
func (w *wants) tell(in broadcast.Input) { _ = w.driver.Input(context.Background(), w.unit, in) }

// close says Bye on every link and waits until they ended.
func (w *wants) close() {
	w.mu.Lock() // so that set has added what it adds
	w.end()
	w.mu.Unlock()
	w.wg.Wait()
}

// people says why a link ended in words for people.
func people(why error) string {
	switch {
	case why == nil || errors.Is(why, errEnded):
		return "closed"
	case isEOF(why):
		return "the relay closed the link"
	}
	return why.Error()
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
