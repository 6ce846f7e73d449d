package node

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"parallax/broadcast"
	"parallax/internal/store"
)

// input is what waits for a loop.
type input struct {
	unit    store.Unit
	in      broadcast.Input
	held    int64
	stepped func()
}

// refuse lets go of an input that no machine will see.
func (d *Driver) refuse(in input, err error) {
	if in.held > 0 {
		d.inbound.Release(in.held)
	}
	if in.stepped != nil {
		in.stepped()
	}
	if c, ok := in.in.(broadcast.Command); ok {
		d.cfg.Hooks.Answer(in.unit, broadcast.Answer{ID: c.ID, Err: err})
	}
}

// loop owns the machines of its units.
type loop struct {
	d  *Driver
	in chan input

	units  map[store.Unit]*unit
	failed map[store.Unit]error
	dirty  []*unit
	full   bool // a machine has as many frames as one turn may have
	wakes  wakes
	swept  time.Time

	kick  chan struct{}
	mu    sync.Mutex // done, hints
	done  []func()   // outcomes: bounded by the turns, reads and jobs under way
	hints map[store.Unit]bool
}

func newLoop(d *Driver) *loop {
	return &loop{
		d: d, in: make(chan input, d.cfg.Queue), kick: make(chan struct{}, 1), swept: d.cfg.Now(),
		units: map[store.Unit]*unit{}, failed: map[store.Unit]error{}, hints: map[store.Unit]bool{},
	}
}

// post runs f in the loop; it never blocks.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.done = append(l.done, f)
	l.mu.Unlock()
	l.nudge()
}

// hint notes that another process may have written the unit.
func (l *loop) hint(u store.Unit) {
	l.mu.Lock()
	l.hints[u] = true
	l.mu.Unlock()
	l.nudge()
}

func (l *loop) nudge() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *loop) run() {
	timer := time.NewTimer(maxIdleWait)
	defer timer.Stop()
	for {
		wait := l.wait()
		if len(l.dirty) > 0 {
			wait = 0
		}
		timer.Reset(wait)
		waiting := l.in
		if l.full {
			waiting = nil // what came waits for a turn under way
		}
		select {
		case <-l.d.stop:
			l.finish()
			return
		case in := <-waiting:
			l.take(in)
		case <-l.kick:
		case <-timer.C:
		}
		l.drain()
		l.flush(turnsInFlight)
		l.sweep()
	}
}

// finish Steps what waits, takes one last Ready of each machine, and waits for
// the turns under way.
func (l *loop) finish() {
	l.drain()
	for len(l.in) > 0 {
		l.full = false
		l.drain()
	}
	l.flush(turnsInFlight + 1)
	for {
		busy := false
		for _, u := range l.units {
			busy = busy || len(u.turns) > 0
		}
		if !busy {
			return
		}
		select {
		case <-l.kick:
			l.outcomes()
		case <-l.d.abort:
			return
		}
	}
}

func (l *loop) wait() time.Duration {
	w := time.Duration(maxIdleWait)
	if l.d.cfg.Idle > 0 {
		w = min(w, l.d.cfg.Idle/sweepShare)
	}
	if len(l.wakes) > 0 {
		w = min(w, l.wakes[0].wake.Sub(l.d.cfg.Now()))
	}
	return max(w, 0)
}

// drain Steps everything that waits: outcomes, inputs, ticks.
func (l *loop) drain() {
	l.outcomes()
	for range cap(l.in) { // a bound, so that a flood cannot keep Ready away
		if l.full {
			break
		}
		select {
		case in := <-l.in:
			l.take(in)
			continue
		default:
		}
		break
	}
	for len(l.wakes) > 0 {
		u, now := l.wakes[0], l.d.cfg.Now()
		if u.wake.After(now) {
			break
		}
		l.setWake(u, time.Time{})
		u.m.Tick(now)
		l.mark(u)
	}
}

func (l *loop) outcomes() {
	l.mu.Lock()
	done := l.done
	l.done = nil
	var hints map[store.Unit]bool
	if len(l.hints) > 0 {
		hints, l.hints = l.hints, map[store.Unit]bool{}
	}
	l.mu.Unlock()
	for _, f := range done {
		f()
	}
	for id := range hints {
		if u := l.units[id]; u != nil {
			u.hinted = true
			l.compare(u)
		}
	}
}

// take Steps one input, opening its machine when needed.
func (l *loop) take(in input) {
	if err := l.failed[in.unit]; err != nil {
		l.d.refuse(in, err)
		return
	}
	u := l.units[in.unit]
	if u == nil {
		var err error
		if u, err = l.open(in.unit); err != nil {
			l.fail(&unit{id: in.unit, index: -1, lane: &lane{}}, "open", err)
			l.d.refuse(in, l.failed[in.unit])
			return
		}
	}
	switch v := in.in.(type) {
	case broadcast.Up:
		u.links++
	case broadcast.Down:
		if v.Link != 0 {
			u.links--
		}
	}
	u.used = l.d.cfg.Now()
	u.held += in.held
	if _, received := in.in.(broadcast.Received); received {
		u.frames++
		l.full = l.full || l.d.cfg.Frames > 0 && u.frames >= l.d.cfg.Frames || l.d.cfg.Bytes > 0 && u.held >= l.d.cfg.Bytes
	}
	l.step(u, in.in)
	if in.stepped != nil {
		in.stepped()
	}
}

func (l *loop) open(id store.Unit) (*unit, error) {
	// The revision first: if another front-end writes meanwhile, the worst is
	// a Changed too many.
	rev, err := l.d.cfg.Store.Revision(id)
	if err != nil {
		return nil, err
	}
	m, err := l.d.cfg.Open(id, l.d.cfg.Store, l.d.cfg.Entropy)
	if err != nil {
		return nil, err
	}
	u := &unit{id: id, m: m, revision: rev, index: -1, used: l.d.cfg.Now()}
	u.lane = l.lane(u)
	l.units[id] = u
	l.mark(u) // it may want links or a wake at once
	return u, nil
}

func (l *loop) lane(u *unit) *lane {
	n := &lane{}
	n.settle = func(t *turn, err error) {
		l.post(func() { l.settled(u, n, t, err) })
	}
	return n
}

func (l *loop) mark(u *unit) {
	if !u.dirty && !u.closed {
		u.dirty = true
		l.dirty = append(l.dirty, u)
	}
}

func (l *loop) step(u *unit, in broadcast.Input) {
	err := u.m.Step(l.d.cfg.Now(), in)
	l.mark(u)
	if err == nil {
		return
	}
	switch in := in.(type) {
	case broadcast.Command:
		l.d.cfg.Hooks.Answer(u.id, broadcast.Answer{ID: in.ID, Err: err})
	case broadcast.Changed:
		l.fail(u, "reload", err)
	case broadcast.Loaded, broadcast.Applied, broadcast.Finished: // nobody's fault but this machine's
		l.d.cfg.Log.Warn("a machine could not use a result", zap.Stringer("unit", hexUnit(u.id)), zap.String("path", l.d.cfg.Path), zap.Error(err))
	default:
		l.d.cfg.Log.Debug("a machine refused an input", zap.Stringer("unit", hexUnit(u.id)), zap.Error(err))
	}
}

// flush takes one Ready of every machine that changed.
func (l *loop) flush(limit int) {
	dirty := l.dirty
	l.dirty = nil
	for _, u := range dirty {
		u.dirty = false
		if u.closed {
			continue
		}
		if len(u.turns) >= limit {
			u.full = true
			continue
		}
		u.full, u.frames, l.full = false, 0, false
		l.ready(u)
	}
}

func (l *loop) ready(u *unit) {
	r := u.m.Ready()
	hooks := l.d.cfg.Hooks
	l.setWake(u, r.Wake)
	for _, s := range r.Now {
		hooks.Send(u.id, s)
	}
	for _, rd := range r.Reads {
		p := &pendingRead{}
		u.reads = append(u.reads, p)
		l.d.reads.run(func() {
			in := l.d.read(rd)
			l.post(func() {
				p.answer = &in
				l.loaded(u)
			})
		})
	}
	for _, j := range r.Jobs {
		u.jobs++
		l.d.jobs.run(func() {
			in := broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)}
			l.post(func() { l.finished(u, in) })
		})
	}
	if r.Links != nil {
		hooks.Links(u.id, r.Links)
	}
	if r.Turn == 0 && r.Write == nil && len(r.Sends)+len(r.Events)+len(r.Answers) == 0 {
		l.letGo(&u.held)
		return
	}
	t := &turn{number: r.Turn, write: r.Write, sends: r.Sends, events: r.Events, answers: r.Answers, held: u.held}
	u.held = 0
	u.turns = append(u.turns, t)
	if t.write != nil {
		l.d.commit.submit(u.lane, t)
		return
	}
	t.durable = true
	l.release(u)
}

// loaded Steps the answers to the oldest reads, as far as they are there. A
// read that Changed made the machine forget is not among them any more.
func (l *loop) loaded(u *unit) {
	for !u.closed && len(u.reads) > 0 && u.reads[0].answer != nil {
		in := *u.reads[0].answer
		u.reads = u.reads[1:]
		l.step(u, in)
	}
}

// finished Steps the outcome of a job; after Changed too, since jobs depend on
// nothing but their seed.
func (l *loop) finished(u *unit, in broadcast.Finished) {
	u.jobs--
	if !u.closed {
		l.step(u, in)
	}
}

// settled takes the outcome of a write.
func (l *loop) settled(u *unit, n *lane, t *turn, err error) {
	switch {
	case u.closed || u.lane != n:
	case err == nil:
		t.durable = true
		u.revision = t.write.Base + 1
		l.release(u)
	case errors.Is(err, store.ErrConflict):
		l.changed(u)
	default:
		l.fail(u, "write", err)
	}
}

// release lets out, in the order of turns, what is durable now.
func (l *loop) release(u *unit) {
	hooks := l.d.cfg.Hooks
	for len(u.turns) > 0 && u.turns[0].durable {
		t := u.turns[0]
		u.turns = u.turns[1:]
		for _, s := range t.sends {
			hooks.Send(u.id, s)
		}
		for _, e := range t.events {
			hooks.Event(u.id, e)
		}
		for _, a := range t.answers {
			hooks.Answer(u.id, a)
		}
		l.letGo(&t.held)
		l.step(u, broadcast.Applied{Turn: t.number})
		if u.closed {
			return
		}
	}
	if u.full {
		l.mark(u)
	}
	l.compare(u)
}

// compare answers a hint: when no turn is under way, a revision that is not
// the machine's own means that another front-end wrote.
func (l *loop) compare(u *unit) {
	if !u.hinted || len(u.turns) > 0 || u.closed {
		return
	}
	u.hinted = false
	rev, err := l.d.cfg.Store.Revision(u.id)
	switch {
	case err != nil:
		l.fail(u, "reload", err)
	case rev != u.revision:
		l.changed(u)
	}
}

// changed drops the turns under way and lets the machine read its state again.
func (l *loop) changed(u *unit) {
	for _, t := range u.turns {
		l.letGo(&t.held)
	}
	u.turns, u.reads, u.lane, u.hinted = nil, nil, l.lane(u), false
	rev, err := l.d.cfg.Store.Revision(u.id)
	if err != nil {
		l.fail(u, "reload", err)
		return
	}
	u.revision = rev
	l.step(u, broadcast.Changed{Reader: l.d.cfg.Store})
}

// fail closes a unit for good.
func (l *loop) fail(u *unit, op string, err error) {
	err = &UnitError{Unit: u.id, Op: op, Path: l.d.cfg.Path, Err: err}
	l.d.cfg.Log.Error("a unit failed", zap.Error(err))
	l.failed[u.id] = err
	l.close(u)
	l.d.cfg.Hooks.Failed(u.id, err)
}

func (l *loop) close(u *unit) {
	u.closed, l.full = true, false
	delete(l.units, u.id)
	l.setWake(u, time.Time{})
	for _, t := range u.turns {
		l.letGo(&t.held)
	}
	u.turns = nil
	l.letGo(&u.held)
}

func (l *loop) letGo(held *int64) {
	if *held > 0 {
		l.d.inbound.Release(*held)
		*held = 0
	}
}

// sweep closes machines that nobody used for a while.
func (l *loop) sweep() {
	now := l.d.cfg.Now()
	if l.d.cfg.Idle == 0 || now.Sub(l.swept) < l.d.cfg.Idle/sweepShare {
		return
	}
	l.swept = now
	for _, u := range l.units {
		if u.links == 0 && u.jobs == 0 && len(u.reads)+len(u.turns) == 0 && !u.dirty && now.Sub(u.used) >= l.d.cfg.Idle {
			l.close(u)
		}
	}
}
