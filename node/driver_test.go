package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"parallax/broadcast"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/store/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape records what a driver hands outward, and checks on every Send that the
// ledger's number is durable.
type tape struct {
	t       errorer
	durable store.Reader
	mu      sync.Mutex
	sends   []broadcast.Send
	events  []broadcast.Event
	answers map[uint64]broadcast.Answer
	failed  error
	links   []broadcast.WantLink
	grew    chan struct{}
}

type errorer interface{ Errorf(string, ...any) }

func newTape(t errorer, durable store.Reader) *tape {
	return &tape{t: t, durable: durable, answers: map[uint64]broadcast.Answer{}, grew: make(chan struct{}, 1)}
}

func (h *tape) note(f func()) {
	h.mu.Lock()
	f()
	h.mu.Unlock()
	select {
	case h.grew <- struct{}{}:
	default:
	}
}

func (h *tape) Send(u store.Unit, s broadcast.Send) {
	if s.Frame.Type == 0x90 {
		if _, err := h.durable.Get(key(u, 'n', binary.BigEndian.Uint64(s.Frame.Body))); err != nil {
			h.t.Errorf("sent before it was durable: %v", err)
		}
	}
	h.note(func() { h.sends = append(h.sends, s) })
}

func (h *tape) Links(_ store.Unit, l []broadcast.WantLink) { h.note(func() { h.links = l }) }

func (h *tape) Event(_ store.Unit, e broadcast.Event) {
	h.note(func() { h.events = append(h.events, e) })
}

func (h *tape) Answer(_ store.Unit, a broadcast.Answer) {
	h.note(func() {
		if _, twice := h.answers[a.ID]; twice {
			h.t.Errorf("command %d was answered twice", a.ID)
		}
		h.answers[a.ID] = a
	})
}

func (h *tape) Failed(_ store.Unit, err error) { h.note(func() { h.failed = err }) }

// until waits for a condition under the tape's lock.
func (h *tape) until(what string, ok func() bool) bool {
	deadline := time.After(5 * time.Second)
	for {
		h.mu.Lock()
		done := ok()
		h.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-h.grew:
		case <-deadline:
			h.t.Errorf("waited too long for %s", what)
			return false
		}
	}
}

// slow delays every Apply, so that whatever leaves early is seen, and fails it
// when told to.
type slow struct {
	store.Store
	delay func()
	mu    sync.Mutex
	fail  error
	calls int
	most  int // batches of one call
}

func (s *slow) Apply(b []store.Batch) []error {
	s.delay()
	s.mu.Lock()
	s.calls++
	s.most = max(s.most, len(b))
	fail := s.fail
	s.mu.Unlock()
	seen := map[store.Unit]bool{}
	for _, x := range b {
		if seen[x.Unit] {
			panic("two batches of one unit in one Apply")
		}
		seen[x.Unit] = true
	}
	if fail != nil {
		errs := make([]error, len(b))
		for i := range errs {
			errs[i] = fail
		}
		return errs
	}
	return s.Store.Apply(b)
}

func jitter() { time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond) }

func unitOf(n byte) store.Unit { return store.Unit{1: n} }

func closeDriver(t errorer, d *Driver) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// checkLedger: numbers dense from 1, every id once.
func checkLedger(t errorer, r store.Reader, u store.Unit) (byID map[uint64]uint64) {
	byID = map[uint64]uint64{}
	kvs, _, err := r.Scan(key(u, 'n', 0), key(u, 'n', 1<<63), 1<<30)
	if err != nil {
		t.Errorf("scan: %v", err)
	}
	for i, kv := range kvs {
		n, id := binary.BigEndian.Uint64(kv.Key[17:]), binary.BigEndian.Uint64(kv.Value)
		if n != uint64(i+1) {
			t.Errorf("number %d at place %d", n, i+1)
		}
		if byID[id] != 0 {
			t.Errorf("id %d has numbers %d and %d", id, byID[id], n)
		}
		byID[id] = n
	}
	return byID
}

// The order law, many units, group commit, both engines, and opening again.
func TestDriverOrderLaw(t *testing.T) {
	dir := t.TempDir()
	engines := map[string]func() store.Store{
		"memory": func() func() store.Store {
			m := memory.New()
			return func() store.Store { return m.Front() }
		}(),
		"pebble": func() store.Store {
			s, err := pebble.Open(dir, pebble.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
	const units, rounds, each = 5, 2, 60
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			for round := range rounds {
				base := open()
				s := &slow{Store: base, delay: jitter}
				h := newTape(t, base)
				d := NewDriver(Config{Store: s, Open: openLedger, Hooks: h, Loops: 2})
				ctx := t.Context()
				for u := range units {
					if err := d.Input(ctx, unitOf(byte(u)), broadcast.Up{Link: broadcast.Link(u + 1)}); err != nil {
						t.Fatal(err)
					}
				}
				for i := range each {
					for u := range units {
						id := uint64(round*each + i)
						if err := d.Input(ctx, unitOf(byte(u)), broadcast.Command{ID: uint64(u*1000 + i), Wish: postWish{id}}); err != nil {
							t.Fatal(err)
						}
					}
				}
				h.until("answers", func() bool { return len(h.answers) == units*each })
				closeDriver(t, d)
				for u := range units {
					byID := checkLedger(t, base, unitOf(byte(u)))
					if len(byID) != (round+1)*each {
						t.Errorf("unit %d has %d numbers, want %d", u, len(byID), (round+1)*each)
					}
				}
				if len(h.sends) != units*each || s.calls >= units*each || s.most < 2 {
					t.Errorf("%d sends, %d applies of up to %d batches for %d posts", len(h.sends), s.calls, s.most, units*each)
				}
				for id, a := range h.answers {
					if a.Err != nil {
						t.Errorf("answer %d: %v", id, a.Err)
					}
				}
				if err := d.Input(ctx, unitOf(0), broadcast.Up{}); !errors.Is(err, ErrClosed) {
					t.Errorf("input after close: %v", err)
				}
				if err := base.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Several front-ends over one store: every id one number, no gap, and every
// answer is what the store says, whatever the schedule.
func TestDriverConflicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(2, 4).Draw(t, "drivers")
		n := rapid.IntRange(1, 25).Draw(t, "posts")
		ids := rapid.SliceOfN(rapid.Uint64Range(0, 15), k*n, k*n).Draw(t, "ids")
		hints := rapid.Bool().Draw(t, "hints")
		m := memory.New()
		var ds []*Driver
		var hs []*tape
		for range k {
			var s store.Store = &slow{Store: m.Front(), delay: jitter}
			if !hints {
				s = deaf{s}
			}
			h := newTape(t, m)
			hs = append(hs, h)
			ds = append(ds, NewDriver(Config{Store: s, Open: openLedger, Hooks: h, Loops: 1}))
		}
		ctx := context.Background()
		for i, id := range ids {
			d := ds[i%k]
			if i < k {
				_ = d.Input(ctx, unitOf(1), broadcast.Up{Link: 1})
			}
			if err := d.Input(ctx, unitOf(1), broadcast.Command{ID: uint64(i), Wish: postWish{id}}); err != nil {
				t.Fatal(err)
			}
		}
		for j, h := range hs {
			h.until("answers", func() bool { return len(h.answers) == n })
			closeDriver(t, ds[j])
		}
		byID := checkLedger(t, m, unitOf(1))
		for i, id := range ids {
			if a := hs[i%k].answers[uint64(i)]; a.Err != nil || a.Value != byID[id] {
				t.Fatalf("post %d of id %d was answered %v (%v), the store says %d", i, id, a.Value, a.Err, byID[id])
			}
		}
		sent := 0
		for _, h := range hs {
			sent += len(h.sends)
		}
		if sent != len(byID) {
			t.Fatalf("%d numbers were sent %d times", len(byID), sent)
		}
	})
}

// deaf is a store without hints.
type deaf struct{ store.Store }

func (deaf) Watch(func(store.Unit)) {}

// A hint alone makes a machine read again.
func TestDriverHint(t *testing.T) {
	m := memory.New()
	h := newTape(t, m)
	d := NewDriver(Config{Store: m.Front(), Open: openLedger, Hooks: h, Loops: 1})
	defer closeDriver(t, d)
	ctx, u := t.Context(), unitOf(3)
	_ = d.Input(ctx, u, broadcast.Command{ID: 1, Wish: postWish{7}})
	h.until("answer", func() bool { return len(h.answers) == 1 })
	other := m.Front()
	if err := other.Apply([]store.Batch{{Unit: u, Base: 1, Ops: []store.Op{{Key: key(u, 's', 0), Value: key(store.Unit{}, 0, 41)[17:]}}}})[0]; err != nil {
		t.Fatal(err)
	}
	_ = d.Input(ctx, u, broadcast.Command{ID: 2, Wish: postWish{8}})
	h.until("answer", func() bool { return len(h.answers) == 2 })
	if got := h.answers[2].Value; got != uint64(42) {
		t.Errorf("number %v after another front-end counted to 41", got)
	}
}

// A crash loses nothing that was answered, and what was sent is there.
func TestDriverCrash(t *testing.T) {
	for seed := range 20 {
		m := memory.New()
		s := &slow{Store: m, delay: jitter}
		h := newTape(t, m)
		d := NewDriver(Config{Store: s, Open: openLedger, Hooks: h, Loops: 1})
		for i := range 40 {
			_ = d.Input(t.Context(), unitOf(1), broadcast.Command{ID: uint64(i), Wish: postWish{uint64(i)}})
		}
		time.Sleep(time.Duration(seed*50) * time.Microsecond)
		h.mu.Lock()
		answered := map[uint64]any{}
		for id, a := range h.answers {
			answered[id] = a.Value
		}
		h.mu.Unlock()
		after := m.Snapshot()
		closeDriver(t, d)

		h2 := newTape(t, after)
		d2 := NewDriver(Config{Store: after, Open: openLedger, Hooks: h2, Loops: 1})
		for i := range 40 {
			_ = d2.Input(t.Context(), unitOf(1), broadcast.Command{ID: uint64(i), Wish: postWish{uint64(i)}})
		}
		h2.until("answers", func() bool { return len(h2.answers) == 40 })
		closeDriver(t, d2)
		checkLedger(t, after, unitOf(1))
		for id, n := range answered {
			if h2.answers[id].Value != n {
				t.Errorf("seed %d: id %d had number %v, after the crash %v", seed, id, n, h2.answers[id].Value)
			}
		}
	}
}

// A failed write closes the unit, tells where, and nothing leaves.
func TestDriverFails(t *testing.T) {
	m := memory.New()
	disk := errors.New("input/output error")
	gate := make(chan struct{})
	s := &slow{Store: m, delay: func() { <-gate }, fail: disk}
	h := newTape(t, m)
	d := NewDriver(Config{Store: s, Open: openLedger, Hooks: h, Path: "/srv/relay/store", Loops: 1, Inbound: 100})
	u := unitOf(9)
	_ = d.Input(t.Context(), u, broadcast.Up{Link: 5})
	for i := range uint64(10) { // more turns than may be in flight
		_ = d.Input(t.Context(), u, broadcast.Command{ID: 1000 + i, Wish: postWish{i}})
		time.Sleep(2 * time.Millisecond)
	}
	_ = d.Input(t.Context(), u, broadcast.Command{ID: 1, Wish: postWish{1}})
	_ = d.Reserve(t.Context(), 60)
	_ = d.Receive(t.Context(), u, broadcast.Received{}, 60, nil)
	time.Sleep(2 * time.Millisecond)
	close(gate)
	h.until("failure", func() bool { return h.failed != nil })
	var ue *UnitError
	if !errors.As(h.failed, &ue) || !errors.Is(h.failed, disk) || ue.Op != "write" || ue.Unit != u ||
		!bytes.Contains([]byte(h.failed.Error()), []byte("/srv/relay/store")) {
		t.Errorf("failure %v", h.failed)
	}
	_ = d.Input(t.Context(), u, broadcast.Command{ID: 2, Wish: postWish{2}})
	h.until("refusal", func() bool { return h.answers[2].Err != nil })
	if len(h.sends) != 0 || h.answers[1].Value != nil {
		t.Errorf("something left: %v %v", h.sends, h.answers)
	}
	// Another unit goes on, once the disk does; room held by the dead is free.
	s.mu.Lock()
	s.fail = nil
	s.mu.Unlock()
	for range 20 {
		if err := d.Reserve(withTimeout(t), 60); err != nil {
			t.Fatal("room that a failed unit held is not free")
		}
		_ = d.Receive(t.Context(), u, broadcast.Received{}, 60, nil)
	}
	_ = d.Input(t.Context(), unitOf(8), broadcast.Command{ID: 3, Wish: postWish{2}})
	h.until("the other unit", func() bool { return h.answers[3].Value == uint64(1) })
	closeDriver(t, d)
}

// A refused command is answered with the refusal; a store that cannot be read
// fails the opening.
func TestDriverRefusals(t *testing.T) {
	m := memory.New()
	h := newTape(t, m)
	d := NewDriver(Config{Store: m, Open: func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		if u == unitOf(2) {
			return nil, errToy
		}
		return openLedger(u, r, e)
	}, Hooks: h, Loops: 1})
	_ = d.Input(t.Context(), unitOf(1), broadcast.Command{ID: 1, Wish: "nonsense"})
	_ = d.Input(t.Context(), unitOf(2), broadcast.Command{ID: 2, Wish: postWish{}})
	h.until("answers", func() bool { return len(h.answers) == 2 })
	var ue *UnitError
	if !errors.Is(h.answers[1].Err, errToy) || errors.As(h.answers[1].Err, &ue) {
		t.Errorf("refused: %v", h.answers[1].Err)
	}
	if !errors.As(h.answers[2].Err, &ue) || ue.Op != "open" {
		t.Errorf("not opened: %v", h.answers[2].Err)
	}
	closeDriver(t, d)
}

// Received bytes are bounded until they are Stepped and durable; ticks come in
// time; a machine that nobody uses is closed and opened again.
func TestDriverRoomTicksIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory.New()
		h := newTape(t, m)
		opened := 0
		d := NewDriver(Config{Store: m, Hooks: h, Loops: 1, Inbound: 100, Idle: time.Minute,
			Open: func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
				opened++
				return openLedger(u, r, e)
			}})
		ctx := t.Context()
		_ = d.Input(ctx, unitOf(1), broadcast.Up{Link: 1})
		for range 10 {
			if err := d.Reserve(ctx, 1000); err != nil { // more than there is: taken alone
				t.Fatal(err)
			}
			if d.inbound.TryAcquire(1) {
				t.Fatal("room beyond the limit")
			}
			stepped := make(chan struct{})
			if err := d.Receive(ctx, unitOf(1), broadcast.Received{Link: 1, Frame: broadcast.Frame{Type: 0x10, Body: make([]byte, 8)}}, 1000, func() { close(stepped) }); err != nil {
				t.Fatal(err)
			}
			<-stepped
			synctest.Wait()
		}
		if len(h.sends) != 10 {
			t.Errorf("%d echoes", len(h.sends))
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if len(h.events) == 0 {
			t.Error("no tick")
		}
		time.Sleep(5 * time.Minute)
		if opened != 1 {
			t.Error("closed in spite of a link")
		}
		_ = d.Input(ctx, unitOf(1), broadcast.Down{Link: 1})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		_ = d.Input(ctx, unitOf(1), broadcast.Up{Link: 2})
		synctest.Wait()
		if opened != 2 {
			t.Errorf("opened %d times, want 2", opened)
		}
		closeDriver(t, d)
	})
}

func BenchmarkDriver(b *testing.B) {
	s, err := pebble.Open(b.TempDir(), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	h := newTape(b, s)
	d := NewDriver(Config{Store: s, Open: openLedger, Hooks: h})
	i := uint64(0)
	for b.Loop() {
		if i++; i%1000 == 0 { // what waits stays bounded
			h.until("answers", func() bool { return uint64(len(h.answers)) >= i-500 })
		}
		_ = d.Input(b.Context(), unitOf(byte(i%8)), broadcast.Command{ID: i, Wish: postWish{i}})
	}
	h.until("answers", func() bool { return uint64(len(h.answers)) == i })
	closeDriver(b, d)
	_ = s.Close()
}
