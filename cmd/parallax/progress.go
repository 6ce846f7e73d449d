package main

import (
	"fmt"
	"strconv"
	"time"

	"parallax/broadcast/member"
)

// When a command tells how far it is with catching up: not at all if that takes no
// longer than people wait anyway, and then rarely.
const (
	progressAfter = 2 * time.Second
	progressEvery = 2 * time.Second
	progressLeast = 100 // entries of a relay's log: of fewer nothing is told
)

// watch follows a group that catches up, over one status after the other.
type watch struct {
	start    time.Time
	moved    time.Time // when a relay last brought something
	first    time.Time // when one had been read to its end; zero: none has
	told     time.Time
	last     string            // what was told
	position map[string]uint64 // by relay
}

// readToEnd tells whether nothing more is waited for from a relay.
func readToEnd(r member.RelayStatus) bool { return r.Connected && r.CaughtUp || r.Ended }

// look takes a status and counts the relays that were read to their end.
func (w *watch) look(now time.Time, s member.Status) (done int) {
	if w.position == nil {
		w.position = map[string]uint64{}
	}
	for _, r := range s.Relays {
		if readToEnd(r) {
			done++
		} else if at, known := w.position[r.Label]; known && r.Position > at {
			w.moved = now
		}
		w.position[r.Label] = r.Position
	}
	if done > 0 && w.first.IsZero() {
		w.first = now
	}
	return done
}

// late tells whether what is still missing is waited for no longer: nothing came for
// a while, or it takes so long that the next command goes on with it.
func (w *watch) late(now time.Time) bool {
	since, rest, most := w.start, catchUpMost, catchUpLong
	if !w.first.IsZero() {
		since, rest, most = w.first, catchUpRest, catchUpLast
	}
	if now.Sub(since) > most {
		return true
	}
	if w.moved.After(since) {
		since = w.moved
	}
	return now.Sub(since) > rest
}

// progress is how far the group is, when that is worth a line; else empty. Of several
// relays the one that is furthest counts: any of them brings the messages.
func (w *watch) progress(now time.Time, s member.Status) string {
	if now.Sub(w.start) < progressAfter || now.Sub(w.told) < progressEvery {
		return ""
	}
	var best member.RelayStatus
	for _, r := range s.Relays {
		if r.Total >= progressLeast && (best.Total == 0 || float64(r.Done)*float64(best.Total) > float64(best.Done)*float64(r.Total)) {
			best = r
		}
	}
	if best.Total == 0 {
		return ""
	}
	text := fmt.Sprintf("Catching up with what came meanwhile: %s of %s.", thousands(best.Done), thousands(best.Total))
	if text == w.last {
		return ""
	}
	w.told, w.last = now, text
	return text
}

// soFar is how far a relay that answers has been read, as the end of a clause.
func soFar(r member.RelayStatus) string {
	if r.Total == 0 {
		return ""
	}
	return fmt.Sprintf(": %s of %s", thousands(r.Done), thousands(r.Total))
}

// thousands writes a number with a comma between groups of three digits.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
