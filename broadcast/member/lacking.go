package member

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/internal/wire"
)

// LackState is what is being done about messages that are missing.
type LackState string

const (
	LackWaits   LackState = "waits"    // slower relays have their time
	LackRelays  LackState = "relays"   // every relay was asked, the members are next
	LackMembers LackState = "members"  // the members were asked
	LackEnded   LackState = "given up" // nobody is asked any more
)

// LackInfo is what is missing of one member (docs/protocol.md section 6.1), and what
// is done about it.
type LackInfo struct {
	Seat     string    `json:"seat"`
	Member   string    `json:"member"` // label
	Messages int       `json:"messages"`
	State    LackState `json:"state"`
	Asked    int       `json:"asked,omitempty"` // times that the members were
	Next     time.Time `json:"next,omitzero"`   // when something is done again
	Text     string    `json:"text"`            // a sentence or two
}

// lackInfos is what is missing of each member: what is looked for first, then what was
// given up.
func (m *Machine) lackInfos() []LackInfo {
	sources := map[source]bool{}
	for s := range m.received {
		sources[s] = true
	}
	for s := range m.lacks {
		sources[s] = true
	}
	sought, ended := map[wire.Seat]*LackInfo{}, map[wire.Seat]*LackInfo{}
	for _, s := range slices.SortedFunc(maps.Keys(sources), source.compare) {
		l := m.lacks[s]
		if l == nil {
			l = &lack{source: s}
		}
		if s.seat == m.self {
			continue
		}
		if n := spanned(m.missing(l)); n > 0 {
			state, asked := m.lackState(l)
			into(sought, s.seat, n, state, asked, l.due)
		}
		if n := m.holes(s) - spanned(m.received[s].holes(l.gaveUp)); n > 0 {
			into(ended, s.seat, n, LackEnded, 0, time.Time{})
		}
	}
	list := []LackInfo{}
	for _, of := range []map[wire.Seat]*LackInfo{sought, ended} {
		for seat, v := range of {
			v.Seat, v.Member = seat.String(), m.display(m.seatOf(seat))
			v.Text = lackText(v)
			list = append(list, *v)
		}
	}
	slices.SortFunc(list, func(a, b LackInfo) int {
		last := func(v LackInfo) int {
			if v.State == LackEnded {
				return 1
			}
			return 0
		}
		return cmp.Or(last(a)-last(b), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Seat, b.Seat))
	})
	return list
}

// spanned is how many numbers there are in spans.
func spanned(list []span) (n uint64) {
	for _, s := range list {
		n += s.last - s.first + 1
	}
	return n
}

// into adds what is missing of one source to what is known of its seat: the source
// that is looked after next says what is done.
func into(of map[wire.Seat]*LackInfo, seat wire.Seat, n uint64, state LackState, asked int, due time.Time) {
	v := of[seat]
	if v == nil {
		v = &LackInfo{}
		of[seat] = v
	}
	v.Messages += int(min(n, 1<<31-1))
	if v.State == "" || !due.IsZero() && (v.Next.IsZero() || due.Before(v.Next)) {
		v.State, v.Asked, v.Next = state, asked, due
	}
}

// lackState is what was done about a source of which something is missing, by the
// question that came furthest.
func (m *Machine) lackState(l *lack) (state LackState, asked int) {
	state = LackWaits
	for i := range l.questions {
		q := &l.questions[i]
		if q.did(stepFetched) && state == LackWaits {
			state = LackRelays
		}
		if q.asked > 0 {
			state, asked = LackMembers, max(asked, int(q.asked))
		}
	}
	return state, asked
}

// lackText says it calmly.
func lackText(v *LackInfo) string {
	messages, are, them := plural(v.Messages, "message"), "are", "them"
	if v.Messages == 1 {
		are, them = "is", "it"
	}
	missing := fmt.Sprintf("%s of %s %s missing here.", messages, v.Member, are)
	switch v.State {
	case LackRelays:
		return missing + fmt.Sprintf(" Every relay was asked again; if none shows %s, the members are asked. Nothing for you to do.", them)
	case LackMembers:
		return missing + fmt.Sprintf(" The members were asked %s. Nothing for you to do.", times(v.Asked))
	case LackEnded:
		return fmt.Sprintf("%s of %s did not arrive here: no relay shows %s, and no member sent %s again. Ask %s what was said.", messages, v.Member, them, them, v.Member)
	}
	return missing + " Every relay is asked again, then the members. Nothing for you to do."
}

// times is "once", "twice", "3 times".
func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
