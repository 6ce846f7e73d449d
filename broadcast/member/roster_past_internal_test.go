package member

import (
	"testing"

	"pgregory.net/rapid"
)

// Sets of indexes over several words, against maps: pasts are closed, so each
// is built from earlier ones.
func TestAncestors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 300
		var sets []*ancestors
		var want []map[int]bool
		for i := range size {
			a, m := &ancestors{}, map[int]bool{}
			for _, p := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 3).Draw(t, "parents") {
				if p = i - 1 - p*p; p >= 0 {
					a.union(sets[p])
					a.add(p)
					m[p] = true
					for k := range want[p] {
						m[k] = true
					}
				}
			}
			a.trim()
			sets, want = append(sets, a), append(want, m)
			for k := range size + 70 {
				if a.has(k) != m[k] {
					t.Fatalf("set %d, index %d: %v", i, k, a.has(k))
				}
			}
		}
	})
}
