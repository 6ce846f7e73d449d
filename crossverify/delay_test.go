package crossverify

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLearnDeadline(t *testing.T) {
	const s = time.Second
	rest := func(n int, d time.Duration, more ...time.Duration) []time.Duration {
		return append(slices.Repeat([]time.Duration{d}, n), more...)
	}
	for _, c := range []struct {
		what   string
		delays []time.Duration
		want   time.Duration
	}{
		{"nothing known", nil, 30 * s},
		{"too few", rest(MinDelays-1, s), 30 * s},
		{"just enough", rest(MinDelays, s), 4 * s},
		{"fast", rest(64, 10*time.Millisecond), MinDeadline},
		{"slow", rest(64, 50*s), MaxDeadline},
		{"endless", rest(64, 1<<62), MaxDeadline},
		{"the slowest of few counts", rest(18, s, 9*s), 36 * s},
		{"one in twenty does not", rest(19, s, 9*s), 4 * s},
		{"three outliers in a full window", rest(61, s, 1<<62, 1<<62, 1<<62), 4 * s},
		{"four are no outliers", rest(60, s, 9*s, 9*s, 9*s, 9*s), 36 * s},
	} {
		if got := LearnDeadline(c.delays, 30*s); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// TestUsual: half of what is remembered is not above it.
func TestUsual(t *testing.T) {
	var d Delays
	if d.Usual() != 0 || d.Count() != 0 {
		t.Errorf("of nothing: %v of %d", d.Usual(), d.Count())
	}
	for i, want := range []time.Duration{5, 2, 5, 3, 5} { // seconds
		d.Observe([]time.Duration{5, 2, 9, 3, 7}[i] * time.Second)
		if got := d.Usual(); got != want*time.Second || d.Count() != i+1 {
			t.Errorf("after %d: %v, want %ds", d.Count(), got, want)
		}
	}
	for range DelayWindow {
		d.Observe(time.Millisecond)
	}
	if d.Usual() != time.Millisecond || d.Count() != DelayWindow {
		t.Errorf("in a full window: %v of %d", d.Usual(), d.Count())
	}
}

// The deadline follows from the newest delays alone, in any order, never leaves
// its bounds, and never falls when a delay grows.
func TestDelays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Map(rapid.Int64Range(-1, int64(200*time.Second)), func(n int64) time.Duration { return time.Duration(n) }), 0, 200).Draw(t, "delays")
		var d Delays
		for _, delay := range all {
			d.Observe(delay)
		}
		last := slices.Clone(all[max(0, len(all)-DelayWindow):])
		got := d.Deadline(7 * time.Second)
		if len(last) < MinDelays {
			if got != 7*time.Second {
				t.Fatalf("untaught: %v", got)
			}
			return
		}
		if got < MinDeadline || got > MaxDeadline {
			t.Fatalf("%v is out of bounds", got)
		}
		if shuffled := rapid.Permutation(last).Draw(t, "order"); LearnDeadline(shuffled, 0) != got {
			t.Fatal("the order of delays matters, or older ones do")
		}
		last[rapid.IntRange(0, len(last)-1).Draw(t, "at")] += time.Second
		if LearnDeadline(last, 0) < got {
			t.Fatal("a slower path got a shorter deadline")
		}
	})
}
