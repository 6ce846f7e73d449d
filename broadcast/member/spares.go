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
// place of a relay that is gone or convicted. An admin's own stay on its device
// until then: who knew which relay comes next could prepare for it. Those that an
// owner names in the roster are known to all, and need no one admin's device.

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
	Tried time.Time        `json:"tried,omitzero"`  // when it was last tried in vain, by this device
	Group bool             `json:"group,omitempty"` // it stands in the roster (AddGroupSpare)
}

// ErrNoSpare says that ReplaceRelay named no relay, and none is kept in reserve.
var ErrNoSpare = errors.New("no spare relay is kept, neither on this device nor by the group")

// spareRecord is one of them, in the meta record.
type spareRecord struct {
	FoundingSpot
	Auto  bool
	Tried int64 `json:",omitempty"` // Unix seconds when it was last tried in vain
	group bool  // by the roster; never in the record
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
	if at < 0 && len(w.Relay) >= 4 && slices.ContainsFunc(m.reserve(), func(s spareRecord) bool { return strings.HasPrefix(s.Key.String(), strings.ToLower(w.Relay)) }) {
		return SparesInfo{}, fmt.Errorf("%w: spare relay %s is the group's, not this device's: an owner drops it by `parallax relay spare drop --group %s`", ErrNoSuch, w.Relay, w.Relay)
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

// reserve are all spare relays that this device knows: its own, then the group's.
func (m *Machine) reserve() []spareRecord {
	list := slices.Clone(m.meta.Spares)
	if m.state == nil {
		return list
	}
	for _, s := range m.state.Spares {
		if m.spareAt(s.Key) < 0 {
			list = append(list, spareRecord{FoundingSpot: FoundingSpot{Key: s.Key, Addrs: s.Addrs, Token: s.Token}, Auto: s.Auto,
				Tried: m.meta.SparesTried[s.Key.String()], group: true})
		}
	}
	return list
}

// triedSpare notes that a spare relay could not take a place.
func (m *Machine) triedSpare(key keys.RelayPublic) {
	if i := m.spareAt(key); i >= 0 {
		m.meta.Spares[i].Tried = m.now.Unix()
	} else if m.state != nil && spareAmong(m.state.Spares, key) >= 0 {
		if m.meta.SparesTried == nil {
			m.meta.SparesTried = map[string]int64{}
		}
		m.meta.SparesTried[key.String()] = m.now.Unix()
	}
}

func (m *Machine) spares() []SpareInfo {
	list := []SpareInfo{}
	for _, s := range m.reserve() {
		info := SpareInfo{Key: s.Key, Addrs: s.Addrs, Auto: s.Auto, Group: s.group}
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
	list := m.reserve()
	for i := range list {
		s := &list[i]
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
	s := m.pickSpare(func(s *spareRecord) bool { return s.Auto })
	if s == nil {
		s = m.pickSpare(func(*spareRecord) bool { return true })
	}
	admin := m.mayChange(RoleAdmin) == nil
	switch {
	case s != nil && s.group && s.Auto:
		return fmt.Sprintf("The group's spare relay %s takes its place, by an admin's device.", s.Key.String()[:8])
	case !admin && s != nil && s.group:
		return fmt.Sprintf("An admin can put the group's spare relay %s in its place.", s.Key.String()[:8])
	case !admin:
		return "An admin can put another in its place."
	case s == nil:
		return fmt.Sprintf("You are an admin: `parallax relay replace %s ADDRESS` puts another in its place.", p.label())
	case s.Auto:
		return fmt.Sprintf("Your spare relay %s takes its place by itself.", s.Key.String()[:8])
	case s.group:
		return fmt.Sprintf("You are an admin: `parallax relay replace %s` puts the group's spare relay %s in its place.", p.label(), s.Key.String()[:8])
	}
	return fmt.Sprintf("You are an admin: `parallax relay replace %s` puts your spare relay %s in its place.", p.label(), s.Key.String()[:8])
}

// lost tells whether a spare relay may take a relay's place, as this device sees it.
func (m *Machine) lost(p *path) bool {
	rec := &m.meta.Relays[p.index]
	return p.aside || rec.Told && rec.Missing != 0
}

// lostToAll is from when on a relay that is lost here counts as lost for the group:
// one device may be cut off from it while others go on reading there, as their views
// show. The zero time: at once.
func (m *Machine) lostToAll(p *path) time.Time {
	if p.aside {
		return time.Time{}
	}
	rec := &m.meta.Relays[p.index]
	return time.Unix(max(rec.Missing, rec.Lively), 0).Add(m.cfg.Limits.GoneAfter)
}

// livelyEvery is how often it is written at most that others read a relay which is
// missing here.
const livelyEvery = 10 * time.Minute

// noteLively takes of a member's view that a relay which is missing here goes on: it
// names more of its log than any view before, or a newer log. What is named again
// says nothing: everybody's view names the last of a relay that is gone.
func (m *Machine) noteLively(p *path, v RelayView) {
	rec := &m.meta.Relays[p.index]
	if p.read.opened || p.standing != inUse || rec.Missing == 0 {
		return
	}
	later := func(log, n uint64) bool {
		return v.Lineage.Ordinal() > log || v.Lineage.Ordinal() == log && v.N > n
	}
	if !later(p.lineage.Ordinal(), p.position) || !later(rec.LivelyLog, rec.LivelyN) {
		return
	}
	rec.Lively, rec.LivelyLog, rec.LivelyN = m.now.Unix(), v.Lineage.Ordinal(), v.N
	if !m.now.Before(p.livelyAt.Add(livelyEvery)) {
		p.livelyAt = m.now
		m.saveMeta()
	}
}

// replacement is a lost relay and the spare one to take its place without being
// asked, now; nil: there is none.
func (m *Machine) replacement() (*path, *spareRecord) {
	for _, p := range m.used() {
		if !m.lost(p) {
			continue
		}
		forAll := !m.now.Before(m.lostToAll(p))
		if s := m.pickSpare(func(s *spareRecord) bool { return m.ripe(s) && (!s.group || forAll) }); s != nil {
			return p, s
		}
	}
	return nil, nil
}

// groupTurns is how many times as long as elsewhere an admin's device leaves a spare
// relay of the group to those before it: making one ready takes a while.
const groupTurns = 10

// stepSpares puts spare relays in the place of lost ones where that is wanted, one
// after the other, and in an admin's turn, so that two admins do not at once.
func (m *Machine) stepSpares() {
	var p *path
	var s *spareRecord
	if m.sparesWanted() {
		p, s = m.replacement()
	}
	switch {
	case p == nil:
		m.spareDue = time.Time{}
		return
	case m.spareDue.IsZero():
		wait := m.dutyWait()
		if s.group {
			wait *= groupTurns
		}
		m.spareDue = m.now.Add(wait)
		return
	case m.now.Before(m.spareDue):
		return
	}
	m.spareDue = time.Time{}
	c, err := m.beginChange(&s.FoundingSpot, p.label())
	if err != nil {
		m.triedSpare(s.Key)
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
	if !m.isMember() || m.roster == nil || len(m.meta.Spares)+len(m.state.Spares) == 0 {
		return t
	}
	lost := slices.DeleteFunc(m.used(), func(p *path) bool { return !m.lost(p) })
	if len(lost) == 0 || m.mayChange(RoleAdmin) != nil {
		return t
	}
	if !m.spareDue.IsZero() {
		return m.spareDue
	}
	soonest := func(at time.Time) {
		if at.After(m.now) && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	for _, s := range m.reserve() {
		if s.Auto {
			soonest(time.Unix(s.Tried, 0).Add(spareAgain))
			for _, p := range lost {
				soonest(m.lostToAll(p))
			}
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
