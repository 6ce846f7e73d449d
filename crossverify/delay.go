package crossverify

import (
	"slices"
	"time"
)

// How a path's deadline is learned from its own delays.
const (
	// DelayWindow is how many delays of a path are remembered: the newest.
	DelayWindow = 64
	// MinDelays is how many it takes before they say anything.
	MinDelays = 8
	// DeadlineFactor is how many times a slow delay a path may take.
	DeadlineFactor = 4
	// MinDeadline is the shortest deadline learned, however fast a path was.
	MinDeadline = 2 * time.Second
	// MaxDeadline is the longest one, however slow a path makes itself: a liar
	// gains this much waiting and no more.
	MaxDeadline = 2 * time.Minute

	slowShare = 20 // one delay in so many may be slower than what counts as slow
)

// Delays are one path's recent delays: how long after a subject was first known
// the path showed it. What never came has no delay, so withholding teaches
// nothing. Paths never share one, so a liar moves no deadline but its own. The
// zero value is ready.
type Delays struct {
	recent [DelayWindow]time.Duration
	next   int
	full   bool
}

// Observe remembers one delay; a negative one counts as none.
func (d *Delays) Observe(delay time.Duration) {
	d.recent[d.next] = max(0, delay)
	d.next++
	if d.next == DelayWindow {
		d.next, d.full = 0, true
	}
}

// Deadline is LearnDeadline of what is remembered.
func (d *Delays) Deadline(untaught time.Duration) time.Duration {
	return LearnDeadline(d.remembered(), untaught)
}

// Count is how many delays are remembered, at most DelayWindow.
func (d *Delays) Count() int { return len(d.remembered()) }

// Usual is the delay that half of the remembered ones are not above; 0 of none.
// For people: nothing follows from it.
func (d *Delays) Usual() time.Duration {
	sorted := slices.Sorted(slices.Values(d.remembered()))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)/2]
}

func (d *Delays) remembered() []time.Duration {
	if d.full {
		return d.recent[:]
	}
	return d.recent[:d.next]
}

// LearnDeadline is DeadlineFactor times the smallest delay that at most one in
// twenty is above, within MinDeadline and MaxDeadline; of fewer than MinDelays
// delays it is untaught as it is. The order of delays does not matter, and in
// a full window three outliers do not either.
func LearnDeadline(delays []time.Duration, untaught time.Duration) time.Duration {
	if len(delays) < MinDelays {
		return untaught
	}
	sorted := slices.Sorted(slices.Values(delays))
	slow := sorted[len(sorted)-1-len(sorted)/slowShare]
	return min(max(min(slow, MaxDeadline)*DeadlineFactor, MinDeadline), MaxDeadline)
}
