package member

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Sets of indexes over several words, against maps: pasts are closed, so each
// is built from earlier ones. Most go on after all others, as in a roster; some
// after a few old ones.
func TestAncestors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 300
		var sets []*ancestors
		var want []map[int]bool
		for i := range size {
			a, m := &ancestors{}, map[int]bool{}
			parents := []int{0}
			if rapid.IntRange(0, 40).Draw(t, "gap") == 0 {
				parents = rapid.SliceOfN(rapid.IntRange(0, i), 0, 3).Draw(t, "back")
			} else if rapid.IntRange(0, 3).Draw(t, "all") > 0 {
				parents = rapid.SliceOfN(rapid.IntRange(0, min(i, 130)), 0, 3).Draw(t, "near")
				slices.Sort(parents) // the newest last, so that a longer prefix is joined to a shorter
				slices.Reverse(parents)
				parents = append(parents, 0)
			}
			for _, p := range parents {
				if p = i - 1 - p; p >= 0 {
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
