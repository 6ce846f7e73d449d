package crossverify

import (
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// TestAside: as many operators as the quorum asks for must match, or all that
// are left. No coalition gains by convicting itself: what is left includes every
// honest relay.
func TestAside(t *testing.T) {
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
		{"only one is left", Policy{Operators: operators}, []Path{1, 2}, []Path{0}, true},
		{"only one is left, the convicted show it", Policy{Operators: operators}, []Path{1, 2}, []Path{1, 2}, false},
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
