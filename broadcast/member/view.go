package member

import (
	"cmp"
	"slices"

	"parallax/broadcast"
)

// What an envelope says of the others (docs/protocol.md section 6, View): chain
// heads of the relays, and texts that opened here. Who is shown none of these by any
// relay learns of them so.

// Texts that a view names. Those of others are at least minRecents; where the
// padding of the envelope has room, or nothing but the view is sent, more.
const (
	minRecents = 4
	// maxOwnRecents is how many own texts a view names, so that each names those
	// before it: who got one by another's hand learns from the next that it is ours.
	maxOwnRecents = 2
	// recentsFrom is how many of the newest texts are looked through.
	recentsFrom = 256
)

// view is what this member saw, for others to compare, beside a body of so many
// bytes.
func (m *Machine) view(kind Kind, body int) View {
	v := View{Roster: m.roster.Digest()}
	for _, p := range m.paths {
		if p.position > 0 && p.listedRelay() {
			v.Relays = append(v.Relays, RelayView{Relay: p.ref.Key, Lineage: p.lineage, N: p.position, Head: p.head, Convicted: p.aside})
		}
	}
	most := MaxRecents - maxOwnRecents
	if kind != KindAck {
		least := contentFixed + len(v.Relays)*relayViewSize + (minRecents+maxOwnRecents)*recentSize + body
		most = min(most, minRecents+broadcast.Room(least)/recentSize)
	}
	for _, msg := range append(m.recentOfOthers(most), m.recentOwn(maxOwnRecents)...) {
		v.Recents = append(v.Recents, Recent{Seat: [8]byte(msg.key.seat[:8]), Incarnation: msg.key.incarnation, Sequence: msg.key.sequence, D: msg.d})
	}
	return v
}

// recentOfOthers are texts of others that opened here, the newest of each source
// first, so that whoever says much crowds out nobody: from one text of a source the
// ones before it follow. Beyond minRecents those come first that the fewest envelopes
// of others have named: what one passes over the next one names. The first places
// do not go by that, else whoever names a text often could keep it out of views.
func (m *Machine) recentOfOthers(most int) []*message {
	var list, rest []*message
	seen := map[source]bool{}
	for i := len(m.recent) - 1; i >= max(0, len(m.recent)-recentsFrom); i-- {
		switch msg := m.recent[i]; {
		case msg.own || !msg.opened:
		case seen[msg.key.source]:
			rest = append(rest, msg)
		default:
			seen[msg.key.source] = true
			list = append(list, msg)
		}
	}
	for _, l := range [][]*message{list[min(len(list), minRecents):], rest} {
		slices.SortStableFunc(l, func(a, b *message) int { return cmp.Compare(a.named, b.named) })
	}
	list = append(list, rest...)
	list = list[:min(len(list), most)]
	slices.SortFunc(list, func(a, b *message) int { return cmp.Compare(b.order, a.order) })
	return list
}

func (m *Machine) recentOwn(most int) (list []*message) {
	for i := len(m.recent) - 1; i >= 0 && len(list) < most; i-- {
		if msg := m.recent[i]; msg.own {
			list = append(list, msg)
		}
	}
	return list
}
