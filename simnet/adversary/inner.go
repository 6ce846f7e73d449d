package adversary

import (
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/internal/store"
	"parallax/internal/store/memory"
)

// maxRounds bounds how often a machine may go on by itself after one input.
const maxRounds = 10_000

// inner drives a machine over a private store, at once: a write is durable,
// a read answered and a job finished before anything else happens.
type inner struct {
	machine broadcast.Machine
	entropy *source
	disk    *memory.Store
	out     []broadcast.Send
	wake    time.Time
}

func openInner(open broadcast.Open, u store.Unit, disk *memory.Store, e broadcast.Entropy) (*inner, error) {
	i := &inner{entropy: &source{Entropy: e}, disk: disk}
	var err error
	i.machine, err = open(u, disk, i.entropy)
	return i, err
}

// step hands over one input and whatever follows from it. A refused input is
// what an honest machine's driver would only log.
func (i *inner) step(now time.Time, in broadcast.Input) error {
	_ = i.machine.Step(now, in)
	return i.settle(now)
}

func (i *inner) tick(now time.Time) error {
	if i.wake.IsZero() || now.Before(i.wake) {
		return nil
	}
	i.machine.Tick(now)
	return i.settle(now)
}

func (i *inner) settle(now time.Time) error {
	for range maxRounds {
		r := i.machine.Ready()
		i.wake = r.Wake
		i.out = append(i.out, r.Now...)
		if r.Write != nil {
			if err := i.disk.Apply([]store.Batch{*r.Write})[0]; err != nil {
				return fmt.Errorf("adversary: the private store: %w", err)
			}
		}
		i.out = append(i.out, r.Sends...)
		var next []broadcast.Input
		if r.Turn != 0 {
			next = append(next, broadcast.Applied{Turn: r.Turn})
		}
		for _, read := range r.Reads {
			next = append(next, i.load(read))
		}
		for _, job := range r.Jobs {
			next = append(next, broadcast.Finished{ID: job.ID, Result: job.Run(job.Seed)})
		}
		if len(next) == 0 {
			return nil
		}
		for _, in := range next {
			if err := i.machine.Step(now, in); err != nil {
				return fmt.Errorf("adversary: the private machine: %w", err)
			}
		}
	}
	return fmt.Errorf("adversary: the private machine goes on by itself for ever")
}

func (i *inner) load(r broadcast.Read) broadcast.Loaded {
	in := broadcast.Loaded{ID: r.ID}
	if r.To != nil {
		in.KVs, in.More, in.Err = i.disk.Scan(r.From, r.To, r.Limit)
		return in
	}
	v, err := i.disk.Get(r.From)
	switch {
	case err == nil:
		in.KVs = []store.KV{{Key: r.From, Value: v}}
	case err != store.ErrNotFound:
		in.Err = err
	}
	return in
}
