package crossverify

import (
	"testing"

	"parallax/internal/wire"
)

// Every part of what a value depends on makes another subject, and no two kinds
// of subject meet.
func TestSubjects(t *testing.T) {
	seat, other := wire.Seat(digest(1)), wire.Seat(digest(2))
	relay := relayKey(1).Public()
	seen := map[Subject]string{}
	for name, s := range map[string]Subject{
		"envelope":                Envelope(seat, wire.Incarnation{1}, 1),
		"envelope, sequence":      Envelope(seat, wire.Incarnation{1}, 2),
		"envelope, incarnation":   Envelope(seat, wire.Incarnation{2}, 1),
		"envelope, seat":          Envelope(other, wire.Incarnation{1}, 1),
		"admission":               Admission(wire.Digest(seat)),
		"admission, another":      Admission(wire.Digest(other)),
		"announcement":            Announcement(seat, 1),
		"announcement, version":   Announcement(seat, 2),
		"announcement, seat":      Announcement(other, 1),
		"operation":               Operation(seat, 1),
		"operation, sequence":     Operation(seat, 2),
		"operation, author":       Operation(other, 1),
		"head":                    Head(relay, testChannel, lineage(1, 1), 1),
		"head, number":            Head(relay, testChannel, lineage(1, 1), 2),
		"head, lineage's ordinal": Head(relay, testChannel, lineage(2, 1), 1),
		"head, lineage's random":  Head(relay, testChannel, lineage(1, 2), 1),
		"head, channel":           Head(relay, wire.ChannelID(seat), lineage(1, 1), 1),
		"head, relay":             Head(relayKey(2).Public(), testChannel, lineage(1, 1), 1),
	} {
		if had, ok := seen[s]; ok {
			t.Errorf("%s and %s are one subject", name, had)
		}
		seen[s] = name
	}
	// Pinned: members of one group must name them alike.
	operation, head := Operation(seat, 1), Head(relay, testChannel, lineage(1, 1), 1)
	golden(t, "operation", operation.ID[:], "976253085da138f1c2a989d3bccec9a9544f93e6250b82b3982707d730704355")
	golden(t, "head", head.ID[:], "2641a50377725b6df76e165ce5d5c4a0853fa4124637ec65870f7e34c17412e3")
}

// Two statements claim the same of one subject exactly where they are no fork.
func TestStatementClaim(t *testing.T) {
	sign := func(n uint64, d, h, root byte) Statement {
		return SignStatement(relayKey(1), testChannel, lineage(1, 1), n, digest(d), digest(h), digest(root))
	}
	one := sign(3, 1, 2, 3)
	subject, value := one.Claim()
	for _, other := range []Statement{one, sign(3, 9, 2, 3), sign(3, 1, 9, 3), sign(3, 1, 2, 9), sign(4, 1, 2, 3), sign(3, 2, 1, 3)} {
		s, v := other.Claim()
		_, fork := FindFork(one, other)
		if (s == subject && v != value) != fork {
			t.Errorf("%+v: subject %v, value %v, fork %v", other, s == subject, v == value, fork)
		}
	}
	l := NewLedger(Policy{Operators: operators("AB")})
	l.Claim(t0, 0, subject, value)
	if r := l.Report(subject); r.Verdict != Agreed || r.Digest != value {
		t.Errorf("one statement: %s", brief(r))
	}
	golden(t, "value", value[:], "b3fa9d9f3509fab8753c750add422cb365747164e0cb46dac0241d939d6f2f3f")
	_, forked := sign(3, 9, 2, 3).Claim()
	l.Claim(t0, 1, subject, forked)
	if r := l.Report(subject); r.Verdict != Contested || !r.Equivocated || r.Usable {
		t.Errorf("a forked head: %s", brief(r))
	}
}
