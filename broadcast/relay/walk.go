package relay

import (
	"parallax/broadcast/proto"
	"parallax/crossverify"
)

// boardWalk answers what stands at some places of the board as the newest
// statement has it, if that is the root asked under: nodes, and entries where
// there is only one, as many as fit a page.
func (m *machine) boardWalk(q *request, w proto.BoardWalk) {
	b := m.st.board
	a := proto.BoardNodes{Statement: m.st.meta.head}
	if b.tree.Root() != w.Root {
		m.reply(q, a)
		return
	}
	type entryAt struct {
		place int
		leaf  crossverify.Leaf
	}
	var entries []entryAt
	room := max(1, min(m.cfg.Limits.PageBytes, proto.MaxBoardPage/4))
	a.Places = make([]proto.Subtree, len(w.Places))
	for i, p := range w.Places {
		if l, only := b.tree.Only(p); !only {
			a.Places[i].Nodes = b.tree.Nodes(p)
		} else if room > 0 { // else later
			room -= 44 + int(b.entries[l.Name].bytes)
			entries = append(entries, entryAt{i, l})
		}
	}
	waits := false // all are read at once
	for _, e := range entries {
		if _, ready := m.get(q, key(m.unit, keyValue, e.leaf.Name[:])); q.done {
			return
		} else if !ready {
			waits = true
		}
	}
	if waits {
		return
	}
	for _, e := range entries {
		record, _ := m.get(q, key(m.unit, keyValue, e.leaf.Name[:]))
		value, again, ok := m.valueOf(q, e.leaf.Name, b.entries[e.leaf.Name], record)
		if !ok {
			return
		}
		if again {
			q.got = nil
			m.boardWalk(q, w)
			return
		}
		a.Places[e.place].Entry = &proto.BoardEntry{Name: e.leaf.Name, Version: e.leaf.Version, Value: value}
	}
	m.reply(q, a)
}
