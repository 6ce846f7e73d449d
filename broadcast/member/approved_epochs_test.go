package member_test

import (
	"testing"
	"time"

	"parallax/broadcast/member"
)

// TestApprovedAfterEpochs: whoever was removed and is let in again after several
// epochs reads what was written in each, and is a member for all.
func TestApprovedAfterEpochs(t *testing.T) {
	for name, x := range map[string]struct {
		out  time.Duration
		away bool // meanwhile
	}{"at once": {}, "weeks later": {out: 15 * day}, "away for weeks": {out: 15 * day, away: true}, "after the retention time": {out: 30 * day}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3, "Ann", "Bob", "Cy", "Dee", "Eve")
			w.group(false)
			ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
			w.run(2 * time.Minute)
			ann.must(member.SetRole{Member: "Cy", Role: member.AsAdmin})
			w.run(time.Minute)
			ann.must(member.RemoveMember{Member: "Bob"})
			w.run(time.Minute)
			if x.away {
				bob.leave()
			}
			cy.must(member.RemoveMember{Member: "Dee"})
			w.run(time.Minute)
			ann.must(member.RemoveMember{Member: "Eve"})
			w.run(time.Minute + x.out)
			ann.must(member.ApproveMember{Member: "Bob", Role: member.AsMember})
			w.run(time.Minute)
			if x.away {
				bob.offline = false
				bob.restart()
			}
			w.run(2 * time.Hour)
			w.agree(ann, cy, bob)
			w.reaches(bob, "again", ann, cy)
			w.reaches(cy, "good", ann, bob)
			w.untroubled(bob)
		})
	}
}
