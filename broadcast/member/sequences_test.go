package member

import (
	"testing"

	"pgregory.net/rapid"
)

// TestSequences: spans answer as a set does, whatever the order.
func TestSequences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sequences
		model := map[uint64]bool{}
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(1, 60), 0, 80).Draw(t, "numbers") {
			s.add(n)
			model[n] = true
			for i := range uint64(62) {
				if s.has(i) != model[i] {
					t.Fatalf("after %d: has(%d) is %v", n, i, s.has(i))
				}
			}
		}
		for i := 1; i < len(s.spans); i++ {
			if s.spans[i-1].last+1 >= s.spans[i].first {
				t.Fatalf("spans touch: %v", s.spans)
			}
		}
	})
}
