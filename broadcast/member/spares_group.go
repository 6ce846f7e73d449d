package member

import (
	"fmt"
	"slices"
	"strings"
)

// Spare relays of the group: an owner's wishes about them, and what members are
// told.

// AddGroupSpare names a relay in the roster as one in reserve, after those that are;
// one of the same key takes the place of what was said of it. With Auto admins'
// devices put it in the place of a relay that is gone or convicted without asking,
// if nobody of its operator's stays. For owners. Its token, if it has one, is known
// to all members then. Answer: OperationInfo. Errors: ErrNotOwner, ErrRelayTwice,
// ErrTooMany, ErrNothingToDo.
type AddGroupSpare struct {
	Relay FoundingSpot `json:"relay"`
	Auto  bool         `json:"auto,omitempty"`
}

// DropGroupSpare takes a relay out of the group's reserve, named as in DropSpare. For
// owners. Answer: OperationInfo. Errors: ErrNotOwner, ErrNoSuch, ErrAmbiguous.
type DropGroupSpare struct {
	Relay string `json:"relay"`
}

func (AddGroupSpare) Wish() string  { return "group-spare-add" }
func (DropGroupSpare) Wish() string { return "group-spare-drop" }

func (m *Machine) addGroupSpare(id uint64, w AddGroupSpare) error {
	if err := m.mayChange(RoleOwner); err != nil {
		return err
	}
	if p := m.pathOf(w.Relay.Key); p != nil && p.listedRelay() {
		return fmt.Errorf("%w: it is %s", ErrRelayTwice, p.label())
	}
	s := Spare{Key: w.Relay.Key, Addrs: w.Relay.Addrs, Token: w.Relay.Token, Auto: w.Auto}
	list := slices.Clone(m.state.Spares)
	switch i := spareAmong(list, s.Key); {
	case i >= 0 && list[i].Auto == s.Auto && list[i].Token == s.Token && slices.Equal(list[i].Addrs, s.Addrs):
		return fmt.Errorf("relay %s is in the group's reserve already, so this %w", s.Key.String()[:8], ErrNothingToDo)
	case i >= 0:
		list[i] = s
	case len(list) >= MaxSpares:
		return fmt.Errorf("%w: the group keeps %d spare relays; drop one first", ErrTooMany, MaxSpares)
	default:
		list = append(list, s)
	}
	return m.setGroupSpares(id, list)
}

func (m *Machine) dropGroupSpare(id uint64, w DropGroupSpare) error {
	if err := m.mayChange(RoleOwner); err != nil {
		return err
	}
	at := -1
	for i := range m.state.Spares {
		if len(w.Relay) < 4 || !strings.HasPrefix(m.state.Spares[i].Key.String(), strings.ToLower(w.Relay)) {
			continue
		}
		if at >= 0 {
			return fmt.Errorf("%w: two spare relays of the group begin with %s", ErrAmbiguous, w.Relay)
		}
		at = i
	}
	if at < 0 {
		return fmt.Errorf("%w: no spare relay of the group begins with %q", ErrNoSuch, w.Relay)
	}
	return m.setGroupSpares(id, slices.Delete(slices.Clone(m.state.Spares), at, at+1))
}

// setGroupSpares makes the operation.
func (m *Machine) setGroupSpares(id uint64, list []Spare) error {
	c := &change{m: m}
	l := c.make(OpSpares{Spares: list})
	if c.err != nil {
		return c.err
	}
	return c.done(id, OperationInfo{Operation: l.digest.Short(), What: describeSpares(list)})
}

// describeSpares says what the group keeps in reserve.
func describeSpares(list []Spare) string {
	if len(list) == 0 {
		return "The group keeps no relay in reserve."
	}
	var auto, asked []string
	for _, s := range list {
		if s.Auto {
			auto = append(auto, s.Key.String()[:8])
		} else {
			asked = append(asked, s.Key.String()[:8])
		}
	}
	var how []string
	if len(auto) > 0 {
		how = append(how, strings.Join(auto, ", ")+" without asking")
	}
	if len(asked) > 0 {
		how = append(how, strings.Join(asked, ", ")+" when an admin says so")
	}
	return fmt.Sprintf("The group keeps %s in reserve for one that is gone or convicted: %s.", plural(len(list), "relay"), strings.Join(how, "; "))
}

// forgetTried forgets that those were tried which are spare relays of the group no
// more.
func (m *Machine) forgetTried(now *State) {
	for key := range m.meta.SparesTried {
		if !slices.ContainsFunc(now.Spares, func(s Spare) bool { return s.Key.String() == key }) {
			delete(m.meta.SparesTried, key)
			m.saveMeta()
		}
	}
}
