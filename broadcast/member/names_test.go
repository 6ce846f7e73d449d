package member

import "testing"

// TestPlainName: names that people read as one are one, so that their seats are told
// apart wherever they are shown.
func TestPlainName(t *testing.T) {
	plain := func(name string) string {
		st := &seatState{ann: &Announcement{Name: name}}
		return st.plainName()
	}
	for _, same := range [][]string{
		{"José", "Jose\u0301", "jose", "JOSÉ", "Jos\u200bé"},
		{"Zoë", "Zoe\u0308", "zoe"},
		{"Office", "O\ufb03ce", "\uff2f\uff46\uff46\uff49\uff43\uff45"},
		{"Ann Lee", "Ann\u00a0Lee", "Ann\u2003Lee"},
	} {
		for _, name := range same[1:] {
			if plain(name) != plain(same[0]) {
				t.Errorf("%q is %q, %q is %q", same[0], plain(same[0]), name, plain(name))
			}
		}
	}
	if plain("Ann") == plain("Anne") {
		t.Error("two names are one")
	}
}
