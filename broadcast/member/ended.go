package member

import (
	"fmt"
	"strings"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Entries of epochs that ended: what nobody needs any more stays on the boards
// under keys that all have erased, such as the admission of who was adopted long
// ago. A newcomer cannot open it, and no relay is to blame for that; what a relay
// makes up is told apart by its name, and by what other relays show under it
// (docs/protocol.md section 7).

// ofEndedEpoch tells of an entry that no key opens whether it may be of an epoch whose
// key is not here: its name is one that the group has a use for, the roster has
// such an epoch, and no other relay shows what opens under that name, in this
// version or an older one. An admission has one version on all relays, whatever
// epoch it was put there in; of pages, and what is carried, the version names the
// generation, and it is asked for that one's key instead.
func (m *Machine) ofEndedEpoch(p *path, e proto.BoardEntry, names map[wire.Digest]boardName) bool {
	if newest, ok := p.tree.Get(e.Name); ok && newest.Version > e.Version {
		return true // it was replaced meanwhile
	}
	name, known := names[e.Name]
	kind, _, _ := strings.Cut(name.plain, "/")
	switch {
	case !known || !m.lacksEpochs(func(uint64) bool { return true }):
		return false
	case kind == "admission":
		return true
	case kind == "roster" || kind == "carried" || kind == "evidence": // the version says it
		return m.lacksEpochs(func(number uint64) bool { return generation(number) == generation(e.Version) })
	}
	for _, q := range m.paths {
		if q == p {
			continue
		}
		if version, opened := q.opened[m.maskedName(q, name)]; opened && version <= e.Version {
			return false
		}
	}
	return true
}

// lacksEpochs tells whether the roster has an epoch, of those numbers, whose key is
// not here.
func (m *Machine) lacksEpochs(of func(number uint64) bool) bool {
	for _, i := range m.roster.lists[opEpoch] {
		if l := m.log[m.roster.ops[i].digest]; l != nil && of(l.op.Body.(OpEpoch).Number) {
			if _, here := m.epochSecret(l); !here {
				return true
			}
		}
	}
	return false
}

// boardName is the name of an entry, and what masks it.
type boardName struct {
	plain string
	under boardKey
}

func (m *Machine) maskedName(p *path, n boardName) wire.Digest {
	if n.under == doorKey {
		return m.keysOf(p).doors[0].Name(n.plain)
	}
	return m.entryName(p, n.plain)
}

// namesOn are the masked names on a path of all entries that the group has a use
// for, as far as its seats are known.
func (m *Machine) namesOn(p *path) map[wire.Digest]boardName {
	seats := map[wire.Seat]bool{}
	for seat := range m.seats {
		seats[seat] = true
	}
	founder := NewSeat(m.gid, m.genesis.Founder)
	seats[founder] = true
	authors := map[wire.Seat]bool{founder: true} // who may have welcomed or carried
	for _, l := range m.log {
		seat := l.op.Seat()
		seats[seat], authors[seat] = true, true
		switch b := l.op.Body.(type) {
		case OpAdd:
			seats[b.Seat], authors[b.Seat] = true, true
		case OpRole:
			seats[b.Seat], authors[b.Seat] = true, true
		case OpAdopt:
			for i := range b.Seats {
				seats[b.Seats[i].Seat] = true
			}
		}
	}
	relays := map[keys.RelayPublic]bool{}
	for _, q := range m.paths {
		relays[q.ref.Key] = true
	}
	names := map[wire.Digest]boardName{}
	add := func(under boardKey, format string, parts ...any) {
		n := boardName{fmt.Sprintf(format, parts...), under}
		names[m.maskedName(p, n)] = n
	}
	for seat := range seats {
		add(epochKey, "announcement/%s", seat)
		add(epochKey, "admission/%s", seat)
		for relay := range relays {
			add(epochKey, "evidence/%s/%x", seat, relay[:8])
		}
		if !authors[seat] {
			continue
		}
		add(doorKey, "welcome/%s", seat)
		for other := range seats {
			add(epochKey, "carried/%s/%x", seat, other[:8])
		}
		for page := range min(len(m.log)+1, maxPages) { // each has an operation at least
			add(epochKey, "roster/%s/%d", seat, page)
		}
	}
	return names
}
