package member

import (
	"fmt"
	"slices"
	"testing"

	"parallax/internal/wire"
)

// inRoles is a membership with a member Bob, whose roles the test changes by
// operations that cut after a number.
func inRoles(t *testing.T) (m *Machine, bob *peer, make func(OperationBody)) {
	m = laidDown(t, 1)
	bob = newPeer(t, m, "Bob")
	m.adopt(func(*seatState) bool { return true })
	m.follow()
	return m, bob, func(body OperationBody) {
		t.Helper()
		if _, err := m.makeOperation(body); err != nil {
			t.Fatal(err)
		}
		m.follow()
	}
}

func (x *peer) cut(sequence uint64) Cut {
	return Cut{Incarnation: x.st.ann.Incarnation, Sequence: sequence}
}

// TestRoleForAMessage: each text counts by the role that Bob had when it sent it, by
// the cuts of the operations, in whatever order texts and operations come, and
// whichever way they come: with a slot, sent again by Bob, or by another.
func TestRoleForAMessage(t *testing.T) {
	roles := map[string]func(m *Machine, bob *peer) []OperationBody{
		"reader after 2": func(m *Machine, bob *peer) []OperationBody {
			return []OperationBody{OpRole{Seat: bob.st.seat, Role: RoleReader, Cut: bob.cut(2)}}
		},
		"reader after 2, member after 4": func(m *Machine, bob *peer) []OperationBody {
			return []OperationBody{OpRole{Seat: bob.st.seat, Role: RoleReader, Cut: bob.cut(2)},
				OpRole{Seat: bob.st.seat, Role: RoleMember, Cut: bob.cut(4)}}
		},
		"reader after 2, removed after 4": func(m *Machine, bob *peer) []OperationBody {
			return []OperationBody{OpRole{Seat: bob.st.seat, Role: RoleReader, Cut: bob.cut(2)},
				OpRemove{Seat: bob.st.seat, Cut: bob.cut(4)}}
		},
		"admin after 2": func(m *Machine, bob *peer) []OperationBody {
			return []OperationBody{OpRole{Seat: bob.st.seat, Role: RoleAdmin, Cut: bob.cut(2)}}
		},
		"reader after nothing": func(m *Machine, bob *peer) []OperationBody {
			return []OperationBody{OpRole{Seat: bob.st.seat, Role: RoleReader}}
		},
		"reader, of an unknown installation": func(m *Machine, bob *peer) []OperationBody {
			return []OperationBody{OpRole{Seat: bob.st.seat, Role: RoleReader, Cut: Cut{Incarnation: wire.Incarnation{9}, Sequence: 9}}}
		},
	}
	want := map[string][]uint64{
		"reader after 2": {1, 2}, "reader after 2, member after 4": {1, 2, 5, 6}, "reader after 2, removed after 4": {1, 2},
		"admin after 2": {1, 2, 3, 4, 5, 6}, "reader after nothing": nil, "reader, of an unknown installation": nil,
	}
	for name, ops := range roles {
		for _, order := range [][]uint64{{1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1}, {3, 1, 5, 2, 6, 4}} {
			for _, way := range []string{"slot", "again", "passed on"} {
				m, bob, make := inRoles(t)
				mal := newPeer(t, m, "Mal")
				var items []*item
				var again []*Again
				inc := bob.st.ann.Incarnation
				for n := range uint64(6) {
					items = append(items, bob.text(t, fmt.Sprint(n+1)))
					a, d := m.envelope(t, bob.st.seat, inc, n+1, Content{Kind: KindText, Body: fmt.Append(nil, n+1)})
					again = append(again, a)
					if way == "passed on" {
						m.name(messageKey{source{bob.st.seat, inc}, n + 1}, d, true)
					}
				}
				for _, body := range ops(m, bob) {
					make(body)
				}
				for _, n := range order {
					switch way {
					case "slot":
						bob.everywhere(items[n-1])
					case "again": // not by an envelope of its own: Bob may be out
						m.sawAnswer(bob.st, AppendAnswer(nil, &Answer{Messages: []*Again{again[n-1]}}))
					case "passed on":
						m.sawAnswer(mal.st, AppendAnswer(nil, &Answer{Messages: []*Again{again[n-1]}}))
					}
				}
				var shown []string
				for _, n := range order {
					if slices.Contains(want[name], n) {
						shown = append(shown, fmt.Sprintf("Bob: %d", n))
					}
				}
				slices.Sort(shown) // the first one brings the session
				if got := m.shownTexts(); !slices.Equal(slices.Sorted(slices.Values(got)), shown) {
					t.Errorf("%s, %v, %s: shown %q, want %q", name, order, way, got, shown)
				}
			}
		}
	}
}

// TestEarlierInstallationInItsRole: what an earlier installation sent counts as before
// a cut of a later one, and what a later one sends does not.
func TestEarlierInstallationInItsRole(t *testing.T) {
	m, bob, make := inRoles(t)
	now := wire.Incarnation{3}
	bob.st.ann.Incarnation = now
	for _, c := range []struct {
		former []wire.Incarnation
		cut    wire.Incarnation
		of     wire.Incarnation
		want   uint8
	}{
		{[]wire.Incarnation{{1}}, now, wire.Incarnation{1}, RoleMember},
		{[]wire.Incarnation{{1}}, wire.Incarnation{1}, now, RoleReader},
		{[]wire.Incarnation{{1}, {2}}, wire.Incarnation{2}, wire.Incarnation{1}, RoleMember},
		{[]wire.Incarnation{{1}, {2}}, wire.Incarnation{1}, wire.Incarnation{2}, RoleReader},
		{nil, now, wire.Incarnation{7}, RoleReader}, // unknown
	} {
		bob.st.former = nil
		for _, inc := range c.former {
			bob.st.former = append(bob.st.former, formerAnnouncement{incarnation: inc})
		}
		make(OpRole{Seat: bob.st.seat, Role: RoleReader, Cut: Cut{Incarnation: c.cut, Sequence: 5}})
		if got := m.roleFor(bob.st, messageKey{source{bob.st.seat, c.of}, 9}); got != c.want {
			t.Errorf("cut of %x, message of %x: role %d", c.cut, c.of, got)
		}
		make(OpRole{Seat: bob.st.seat, Role: RoleMember})
	}
}
