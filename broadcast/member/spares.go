package member

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
)

// Spare relays (docs/protocol.md section 8.3): what an admin would put in the
// place of a relay that is gone or convicted. They stay on that admin's device
// until then: who knew which relay comes next could prepare for it.

const (
	// MaxSpares is how many one membership keeps. Default: 8.
	MaxSpares = 8
	// spareAgain is how long a spare relay that could not take a place is left
	// alone. Default: 6 h.
	spareAgain = 6 * time.Hour
)

// AddSpare keeps a relay in reserve, on this device; one of the same key takes the
// place of what was known of it. With Auto this device puts it in the place of a
// relay that has been gone for Limits.GoneAfter, or is convicted, without asking.
// Answer: SparesInfo. Errors: ErrNotAdmin, ErrRelayTwice, ErrTooMany.
type AddSpare struct {
	Relay FoundingSpot `json:"relay"`
	Auto  bool         `json:"auto,omitempty"`
}

// DropSpare forgets a spare relay, named by a unique beginning of its key in hex,
// of four digits at least. Answer: SparesInfo. Errors: ErrNoSuch, ErrAmbiguous.
type DropSpare struct {
	Relay string `json:"relay"`
}

func (AddSpare) Wish() string  { return "spare-add" }
func (DropSpare) Wish() string { return "spare-drop" }

// SparesInfo answers AddSpare and DropSpare.
type SparesInfo struct {
	Spares []SpareInfo `json:"spares"`
}

// SpareInfo is one spare relay.
type SpareInfo struct {
	Key   keys.RelayPublic `json:"key"`
	Addrs []string         `json:"addrs"`
	Auto  bool             `json:"auto"`
	Tried time.Time        `json:"tried,omitzero"` // when it was last tried in vain
}

// ErrNoSpare says that ReplaceRelay named no relay, and none is kept in reserve.
var ErrNoSpare = errors.New("no spare relay is kept on this device")

// spareRecord is one of them, in the meta record.
type spareRecord struct {
	FoundingSpot
	Auto  bool
	Tried int64 `json:",omitempty"` // Unix seconds when it was last tried in vain
}

func (m *Machine) addSpare(w AddSpare) (SparesInfo, error) {
	if err := m.mayChange(RoleAdmin); err != nil {
		return SparesInfo{}, err
	}
	if w.Relay.Key.IsZero() || len(w.Relay.Addrs) == 0 {
		return SparesInfo{}, fmt.Errorf("%w: a spare relay needs a key and an address", ErrUnreachable)
	}
	if err := checkAddresses(w.Relay.Addrs); err != nil {
		return SparesInfo{}, err
	}
	if p := m.pathOf(w.Relay.Key); p != nil && p.listedRelay() {
		return SparesInfo{}, fmt.Errorf("%w: it is %s", ErrRelayTwice, p.label())
	}
	rec := spareRecord{FoundingSpot: w.Relay, Auto: w.Auto}
	switch i := m.spareAt(w.Relay.Key); {
	case i >= 0:
		m.meta.Spares[i] = rec
	case len(m.meta.Spares) >= MaxSpares:
		return SparesInfo{}, fmt.Errorf("%w: %d spare relays are kept", ErrTooMany, MaxSpares)
	default:
		m.meta.Spares = append(m.meta.Spares, rec)
	}
	m.saveMeta()
	return SparesInfo{m.spares()}, nil
}

func (m *Machine) dropSpare(w DropSpare) (SparesInfo, error) {
	at := -1
	for i := range m.meta.Spares {
		if len(w.Relay) < 4 || !strings.HasPrefix(m.meta.Spares[i].Key.String(), strings.ToLower(w.Relay)) {
			continue
		}
		if at >= 0 {
			return SparesInfo{}, fmt.Errorf("%w: two spare relays begin with %s", ErrAmbiguous, w.Relay)
		}
		at = i
	}
	if at < 0 {
		return SparesInfo{}, fmt.Errorf("%w: no spare relay begins with %q", ErrNoSuch, w.Relay)
	}
	m.meta.Spares = slices.Delete(m.meta.Spares, at, at+1)
	m.saveMeta()
	return SparesInfo{m.spares()}, nil
}

func (m *Machine) spareAt(key keys.RelayPublic) int {
	return slices.IndexFunc(m.meta.Spares, func(s spareRecord) bool { return s.Key == key })
}

func (m *Machine) spares() []SpareInfo {
	list := make([]SpareInfo, 0, len(m.meta.Spares))
	for _, s := range m.meta.Spares {
		info := SpareInfo{Key: s.Key, Addrs: s.Addrs, Auto: s.Auto}
		if s.Tried != 0 {
			info.Tried = unixSeconds(s.Tried)
		}
		list = append(list, info)
	}
	return list
}

// pickSpare is the spare relay to try next, of those for which ok holds; nil:
// there is none.
func (m *Machine) pickSpare(ok func(*spareRecord) bool) (best *spareRecord) {
	for i := range m.meta.Spares {
		s := &m.meta.Spares[i]
		if p := m.pathOf(s.Key); p != nil && p.listedRelay() || !ok(s) {
			continue
		}
		if best == nil || s.Tried < best.Tried {
			best = s
		}
	}
	return best
}

// offer is what an admin can do about a relay, as a sentence.
func (m *Machine) offer(p *path) string {
	s := m.pickSpare(func(*spareRecord) bool { return true })
	switch {
	case m.mayChange(RoleAdmin) != nil:
		return "An admin can put another in its place."
	case s == nil:
		return fmt.Sprintf("You are an admin: `parallax relay replace %s ADDRESS` puts another in its place.", p.label())
	case s.Auto:
		return fmt.Sprintf("Your spare relay %s takes its place by itself.", s.Key.String()[:8])
	}
	return fmt.Sprintf("You are an admin: `parallax relay replace %s` puts your spare relay %s in its place.", p.label(), s.Key.String()[:8])
}

// lost is a relay in use whose place a spare one may take; nil: there is none.
func (m *Machine) lost() *path {
	for _, p := range m.used() {
		if rec := &m.meta.Relays[p.index]; p.aside || rec.Told && rec.Missing != 0 {
			return p
		}
	}
	return nil
}

// stepSpares puts spare relays in the place of lost ones where that is wanted, one
// after the other, and in an admin's turn, so that two admins do not at once.
func (m *Machine) stepSpares() {
	var p *path
	if m.sparesWanted() {
		p = m.lost()
	}
	switch {
	case p == nil:
		m.spareDue = time.Time{}
		return
	case m.spareDue.IsZero():
		m.spareDue = m.now.Add(m.dutyWait())
		return
	case m.now.Before(m.spareDue):
		return
	}
	m.spareDue = time.Time{}
	s := m.pickSpare(m.ripe)
	c, err := m.beginChange(&s.FoundingSpot, p.label())
	if err != nil {
		s.Tried = m.now.Unix()
		m.saveMeta()
		return
	}
	c.Auto = true
	m.meta.Change, m.changeUntil = c, m.now.Add(m.cfg.Limits.FoundWait)
	m.saveMeta()
}

// ripe tells whether a spare relay may be used without asking, now.
func (m *Machine) ripe(s *spareRecord) bool {
	return s.Auto && !m.now.Before(time.Unix(s.Tried, 0).Add(spareAgain))
}

func (m *Machine) sparesWanted() bool {
	return m.isMember() && m.roster != nil && m.meta.Change == nil && m.meta.Lists.Next == nil && m.mayChange(RoleAdmin) == nil && m.pickSpare(m.ripe) != nil
}

// sparesWake is when stepSpares has something to do by time; zero: never.
func (m *Machine) sparesWake() (t time.Time) {
	if !m.isMember() || len(m.meta.Spares) == 0 || m.lost() == nil {
		return t
	}
	if !m.spareDue.IsZero() {
		return m.spareDue
	}
	for i := range m.meta.Spares {
		s := &m.meta.Spares[i]
		if at := time.Unix(s.Tried, 0).Add(spareAgain); s.Auto && at.After(m.now) && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// relatives tells whether a relay's operator speaks for nobody new: another relay
// that stays has the same operator, or one of its family.
func (m *Machine) relatives(p *path, goes int) *path {
	for _, q := range m.used() {
		if q.index == goes || q == p {
			continue
		}
		operators := []keys.OperatorPublic{p.ref.Operator, q.ref.Operator}
		declared := append(slices.Clone(p.ref.Families), q.ref.Families...)
		if (crossverify.Policy{Operators: operators, Families: crossverify.Families(operators, declared, m.cfg.Verify)}).Distinct() == 1 {
			return q
		}
	}
	return nil
}
