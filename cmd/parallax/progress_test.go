package main

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parallax/broadcast/member"
	"parallax/node"
)

// reading is a relay that is read at a speed, entries a second, of so many that
// waited, from a time on.
type reading struct {
	total, speed uint64
	from, stops  time.Duration // zero stops: never
}

func (r reading) at(label string, t time.Duration) member.RelayStatus {
	v := member.RelayStatus{Label: label, Operator: "Op" + label[1:]}
	if t < r.from {
		return v
	}
	v.Connected = true
	if r.stops != 0 {
		t = min(t, r.stops)
	}
	done := min(r.total, r.speed*uint64((t-r.from)/time.Millisecond)/1000)
	v.Position = 7 + done
	if v.CaughtUp = done == r.total && r.speed > 0; !v.CaughtUp {
		v.Done, v.Total = done, r.total
	}
	return v
}

// TestCatchingUp: a command waits for what comes, tells how far it is when that takes
// long, and is not held up by a relay that brings nothing, or that little by little.
func TestCatchingUp(t *testing.T) {
	const never = time.Hour
	quick := reading{total: 900, speed: 1000}
	for name, c := range map[string]struct {
		relays [3]reading
		ready  bool
		took   time.Duration // within a tenth of a second
		said   []string
	}{
		"nothing waits": {[3]reading{{speed: 1}, {speed: 1}, {speed: 1}}, true, 0, nil},
		"soon":          {[3]reading{quick, quick, quick}, true, 900 * time.Millisecond, nil},
		"little, slow":  {[3]reading{{total: 60, speed: 10}, {total: 60, speed: 10}, {total: 60, speed: 10}}, true, 6 * time.Second, nil},
		"long": {[3]reading{{total: 10_000, speed: 1040}, {total: 10_000, speed: 1040}, {total: 10_000, speed: 1000}}, true, 10 * time.Second, []string{
			"Catching up with what came meanwhile: 2,080 of 10,000.", "Catching up with what came meanwhile: 4,160 of 10,000.",
			"Catching up with what came meanwhile: 6,240 of 10,000.", "Catching up with what came meanwhile: 8,320 of 10,000."}},
		"it stops": {[3]reading{{total: 10_000, speed: 1040, stops: 3 * time.Second}, {from: never}, {from: never}}, true, 9 * time.Second, []string{
			"Catching up with what came meanwhile: 2,080 of 10,000.", "Catching up with what came meanwhile: 3,120 of 10,000.",
			"Relay R1 (Op1) is not read to its end yet: 3,120 of 10,000. What only it has is not shown yet; reading goes on while parallax runs.",
			"Relay R2 (Op2) is missing: it has not answered. What only it has is not shown yet.",
			"Relay R3 (Op3) is missing: it has not answered. What only it has is not shown yet."}},
		"one is there, one brings nothing, one is gone": {[3]reading{{speed: 1}, {from: 0}, {from: never}}, true, 1500 * time.Millisecond, []string{
			"Relay R2 (Op2) is not read to its end yet. What only it has is not shown yet; reading goes on while parallax runs.",
			"Relay R3 (Op3) is missing: it has not answered. What only it has is not shown yet."}},
		"one is there, one takes its time": {[3]reading{{speed: 1}, {speed: 1}, {total: 90, speed: 1}}, true, 10 * time.Second, []string{
			"Relay R3 (Op3) is not read to its end yet: 10 of 90. What only it has is not shown yet; reading goes on while parallax runs."}},
		"all take their time": {[3]reading{{total: 90_000, speed: 1}, {total: 90, speed: 0}, {total: 90, speed: 0}}, true, 2 * time.Minute, []string{"..."}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				n := &answers{groups: []node.Membership{group("g", "aa", "0123")}, now: func() member.Status {
					s := member.Status{Ready: c.ready}
					for i, r := range c.relays {
						s.Relays = append(s.Relays, r.at("R"+string('1'+rune(i)), time.Since(start)))
					}
					return s
				}}
				a, _, talk := newApp()
				if _, err := a.catchUp(t.Context(), n, "aa"); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < c.took || took > c.took+100*time.Millisecond {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				said := slices.Collect(strings.Lines(talk.String()))
				for i := range said {
					said[i] = strings.TrimSuffix(said[i], "\n")
				}
				if !slices.Equal(said, c.said) && !slices.Equal(c.said, []string{"..."}) {
					t.Errorf("said\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(c.said, "\n"))
				}
			})
		})
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 3120: "3,120", 10_000: "10,000", 123_456: "123,456", 1 << 62: "4,611,686,018,427,387,904"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
