package member

import (
	"testing"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// TestOvertakenWrite: a relay that looks at two posts of one link in another order
// refuses the earlier version of an entry. That is nobody's fault; any other
// conflict is told.
func TestOvertakenWrite(t *testing.T) {
	for name, c := range map[string]struct {
		later func(m *Machine, p *path, put proto.BoardPut)
		told  int
	}{
		"nothing follows": {func(*Machine, *path, proto.BoardPut) {}, 1},
		"a later version is on its way": {func(m *Machine, p *path, _ proto.BoardPut) {
			m.putEntry(p, doorKey, welcomeName(m.self), 8, []byte("later"), m.keyring.owner)
		}, 0},
		"a later version is there": {func(m *Machine, p *path, put proto.BoardPut) {
			p.receipts.by = map[wire.Digest]*receipt{put.Name: {leaf: crossverify.Leaf{Name: put.Name, Version: 8}}}
		}, 0},
		"another entry follows": {func(m *Machine, p *path, _ proto.BoardPut) {
			m.putEntry(p, doorKey, "other", 9, []byte("other"), m.keyring.owner)
		}, 1},
	} {
		m := laidDown(t, 1)
		p := m.paths[1]
		m.putEntry(p, doorKey, welcomeName(m.self), 7, []byte("earlier"), m.keyring.owner)
		q := p.lastPost()
		put, _ := boardWrite(q)
		q.inFlight = true
		c.later(m, p, put)
		m.refusedPost(p, proto.Refused{Of: proto.TypeBoardPut, PostID: q.id, Code: proto.CodeConflict, Text: "another value"})
		if n := m.told(EventRelay, "refused"); n != c.told {
			t.Errorf("%s: told %d times, want %d", name, n, c.told)
		}
		if m.queued(p, q.id) {
			t.Errorf("%s: it is still sent", name)
		}
	}
}

// TestWelcomeFollowsTheBoards: who was restored makes its next welcome follow what
// boards show, however old the backup is, within bounds.
func TestWelcomeFollowsTheBoards(t *testing.T) {
	for name, c := range map[string]struct{ here, shown, want uint64 }{
		"a backup": {3, 9, 9}, "known": {3, 2, 3}, "none": {0, 0, 0}, "too far": {3, 3 + maxAhead + 1, 3}, "as far as may be": {3, 3 + maxAhead, 3 + maxAhead},
	} {
		m := laidDown(t, 1)
		m.meta.Welcomed = c.here
		for _, p := range m.paths[1:] {
			if at := m.maskedName(p, boardName{welcomeName(m.self), doorKey}); c.shown > 0 {
				p.tree.Put(crossverify.Leaf{Name: at, Version: c.shown})
			}
		}
		if got := m.welcomedShown(); got != c.want {
			t.Errorf("%s: version %d, want %d", name, got, c.want)
		}
	}
}
