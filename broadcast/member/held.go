package member

import (
	"cmp"
	"slices"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// Held items: copies that cannot be opened yet, or did not open.
type heldKey struct {
	path    int
	lineage wire.Lineage
	n       uint64
}

type heldItem struct {
	item *item
	key  []byte
}

// maxPending bounds the hellos of one seat that are held on one path: differing
// ones are attempts of their own, and anybody in the group can write them.
const maxPending = 16

func (m *Machine) hold(it *item, f proto.Deliver) {
	m.boundPending(it)
	if len(m.held) >= m.cfg.Limits.Held {
		m.evictHeld()
	}
	k := m.key(keyHeld, []byte{byte(it.path.index)}, it.lineage[:], wire.U64(it.n))
	m.held[heldKey{it.path.index, it.lineage, it.n}] = &heldItem{it, k}
	m.put(k, f.Append(nil))
	if st := m.seats[it.header.Seat]; st != nil && !st.own && (m.crossed(st) || m.broken(st, it)) {
		m.getStuck(st)
	}
}

// boundPending drops the oldest hello of a seat on a path when one more comes
// than may be held.
func (m *Machine) boundPending(it *item) {
	if len(it.slot) != ratchet.HelloSlotSize {
		return
	}
	n := 0
	var oldest *heldItem
	for _, h := range m.held {
		if h.item.path == it.path && h.item.header.Seat == it.header.Seat && len(h.item.slot) == len(it.slot) {
			if n++; oldest == nil || h.item.compare(oldest.item) < 0 {
				oldest = h
			}
		}
	}
	if n >= maxPending {
		m.unhold(oldest)
	}
}

// evictHeld drops the oldest of those that are most: of one seat on one path,
// or on one path of all seats that are not known, which cost nothing to invent.
func (m *Machine) evictHeld() {
	type group struct {
		path int
		seat wire.Seat
	}
	of := func(h *heldItem) group {
		g := group{h.item.path.index, h.item.header.Seat}
		if st := m.seats[g.seat]; st == nil || st.ann == nil {
			g.seat = wire.Seat{}
		}
		return g
	}
	count := map[group]int{}
	for _, h := range m.held {
		count[of(h)]++
	}
	var out *heldItem
	for _, h := range m.held {
		if out == nil || cmp.Or(count[of(out)]-count[of(h)], slices.Compare(h.key, out.key)) < 0 {
			out = h
		}
	}
	if out != nil {
		if p := out.item.path; out.item.lineage == p.lineage {
			m.passOver(p, out.item.n)
		}
		m.unhold(out)
	}
}

func (m *Machine) unhold(h *heldItem) {
	delete(m.held, heldKey{h.item.path.index, h.item.lineage, h.item.n})
	m.del(h.key)
}

// sortedHeld is by path and number, so that each path's copies keep their order.
func (m *Machine) sortedHeld() []*heldItem {
	all := make([]*heldItem, 0, len(m.held))
	for _, h := range m.held {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *heldItem) int { return slices.Compare(a.key, b.key) })
	return all
}

func (m *Machine) loadHeld(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) != 1+16+8 {
		return wire.ErrFormat
	}
	msg, err := proto.Parse(broadcast.Frame{Type: proto.TypeDeliver, Body: value})
	if err != nil {
		return err
	}
	it := m.unmask(p, msg.(proto.Deliver), wire.Lineage(key[1:17]))
	if it == nil {
		m.del(m.key(keyHeld, key)) // of an epoch whose key was erased since
		return nil
	}
	k := m.key(keyHeld, key)
	m.held[heldKey{p.index, it.lineage, it.n}] = &heldItem{it, k}
	return nil
}

// holds tells whether anything of a seat is held.
func (m *Machine) holds(seat wire.Seat) bool {
	for _, h := range m.held {
		if h.item.header.Seat == seat {
			return true
		}
	}
	return false
}

// retryHeld tries what was held, of one seat or (zero) of all: a session or an
// admission came, or the mailboxes are drained.
func (m *Machine) retryHeld(seat wire.Seat) {
	defer func(was bool) { m.retrying = was }(m.retrying)
	m.retrying = true
	for again := true; again; {
		again = false
		for _, h := range m.sortedHeld() {
			k := h.item.key()
			if seat != (wire.Seat{}) && k.seat != seat || m.held[heldKey{h.item.path.index, h.item.lineage, h.item.n}] == nil {
				continue
			}
			// It is taken out first: it is no copy of itself.
			at, kept := heldKey{h.item.path.index, h.item.lineage, h.item.n}, false
			delete(m.held, at)
			m.process(h.item, func() { kept = true })
			if kept {
				m.held[at] = h
			} else {
				m.del(h.key)
				again = true
			}
		}
	}
}

// copies compares what other paths delivered of a message before it opened.
func (m *Machine) copies(k messageKey, msg *message) {
	for _, h := range m.sortedHeld() {
		if h.item.key() == k {
			m.unhold(h)
			m.duplicate(h.item, msg)
		}
	}
}
