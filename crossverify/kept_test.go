package crossverify

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// What Report keeps from the last Advance is what it would compute anew,
// whatever was said, set or waited for since.
func TestKeptReports(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Policy{Deadline: 30 * time.Second}
		for i := range 4 {
			policy.Operators = append(policy.Operators, keys.OperatorPublic{byte(i + 1)})
		}
		more := policy
		more.Operators = append(more.Operators[:4:4], keys.OperatorPublic{9})
		more.Strict = true
		l := NewLedger(policy)
		subjects := []Subject{{Kind: Signed, ID: wire.Digest{1}}, {Kind: Open, ID: wire.Digest{2}}, {Kind: Message, ID: wire.Digest{3}, N: 1}, {Kind: Open, ID: wire.Digest{4}}}
		now := time.Unix(1_000_000, 0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			s := rapid.SampledFrom(subjects).Draw(t, "subject")
			path := Path(rapid.IntRange(0, 4).Draw(t, "path"))
			d := wire.Digest{byte(rapid.IntRange(1, 2).Draw(t, "digest"))}
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				l.Opened(now, path, s, d)
			case 1, 2:
				l.Claim(now, path, s, d)
			case 3:
				l.Absent(now, path, s)
			case 4:
				l.Fail(now, path, s)
			case 5:
				l.SetAside(path, rapid.Bool().Draw(t, "aside"))
			case 6:
				l.SetDeadline(path, time.Duration(rapid.IntRange(1, 60).Draw(t, "deadline"))*time.Second)
			case 7:
				l.SetPolicy(more)
			case 8:
				r := l.Report(s)
				l.Restore(s, r.Digest, r.Status, l.Era())
			default:
				l.Advance(now)
			}
			for s, e := range l.entries {
				if kept, anew := l.Report(s), l.report(s, e); !kept.equal(&anew) {
					t.Fatalf("of %+v it keeps %+v, and it is %+v", s, kept, anew)
				}
			}
		}
	})
}
