package crossverify

import (
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// TestStrictAside: under Strict all that count must match, so a relay that its
// own signatures convicted is not waited for; any other quorum stays, since a
// coalition could lower it by convicting itself.
func TestStrictAside(t *testing.T) {
	operators := []keys.OperatorPublic{{1}, {2}, {3}}
	now := time.Unix(1000, 0)
	s := Subject{Kind: Open, ID: wire.Digest{7}}
	for _, c := range []struct {
		name   string
		policy Policy
		aside  []Path
		claim  []Path
		usable bool
	}{
		{"strict waits for all", Policy{Operators: operators, Strict: true}, nil, []Path{0, 1}, false},
		{"strict without the convicted", Policy{Operators: operators, Strict: true}, []Path{2}, []Path{0, 1}, true},
		{"strict, one of the rest is missing", Policy{Operators: operators, Strict: true}, []Path{2}, []Path{0}, false},
		{"the convicted one's word does not count", Policy{Operators: operators, Strict: true}, []Path{2}, []Path{0, 2}, false},
		{"majority stays two", Policy{Operators: operators}, []Path{2}, []Path{0}, false},
		{"majority of the rest", Policy{Operators: operators}, []Path{2}, []Path{0, 1}, true},
	} {
		l := NewLedger(c.policy)
		for _, p := range c.aside {
			l.SetAside(p, true)
		}
		for _, p := range c.claim {
			l.Claim(now, p, s, wire.Digest{9})
		}
		if got := l.Report(s).Usable; got != c.usable {
			t.Errorf("%s: usable %v, want %v", c.name, got, c.usable)
		}
	}
}
