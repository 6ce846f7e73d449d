package simnet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast/member"
)

// What happens to a group's relays in a year: one dies, is noticed and replaced;
// others are added, retired, or handed on while they still run.

// listRest is how long a year leaves the list of relays alone: whoever was away
// longer than that could meet nobody of the list it knows.
const listRest = 45 * day

// mayChangeRelays: everybody's list is long settled, all relays in use are up, and an
// admin is here.
func (y *year) mayChangeRelays() bool {
	return y.s.Elapsed() > y.listed+listRest && y.relaysUp() == len(y.used) && len(y.admins()) > 0
}

// newRelay starts a relay of another operator, and says it as an admin does.
func (y *year) newRelay() (*Relay, member.FoundingSpot) {
	y.s.AddRelays(1)
	r := y.s.Relays[len(y.s.Relays)-1]
	return r, member.FoundingSpot{Key: r.Key.Public(), Addrs: []string{"/sim/" + r.Name()}}
}

// change lets an admin change the list of relays; goes and comes may be nil.
func (y *year) change(goes, comes *Relay, w member.Wish) error {
	by := y.admins()[y.r.IntN(len(y.admins()))]
	v, err := y.s.Do(by.Node, w)
	if err != nil {
		return fmt.Errorf("%s changes the relays: %w", by.name, err)
	}
	if c := v.(member.RelayChange); c.Retired == "" != (goes == nil) || c.Added == "" != (comes == nil) {
		return fmt.Errorf("%s changed the relays: %+v", by.name, c)
	}
	if goes != nil {
		y.used = slices.DeleteFunc(y.used, func(r *Relay) bool { return r == goes })
	}
	if comes != nil {
		y.used = append(y.used, comes)
	}
	y.listed = y.s.Elapsed()
	for _, p := range append(slices.Clone(y.people), y.former...) { // a backup that knows too few of them has no way back
		if p.backup != nil && len(slices.DeleteFunc(slices.Clone(p.knows), func(r *Relay) bool { return !slices.Contains(y.used, r) })) <= len(p.knows)/2 {
			p.backup = nil
		}
	}
	// The link of before may name relays that are gone: the next newcomer gets another.
	return errors.Join(y.s.Run(2*time.Minute), y.s.Invite(by.Node))
}

// key is how commands name a relay whatever its label.
func (r *Relay) key() string { return r.Key.Public().String()[:16] }

// death: a relay's machine is lost for good. Days later an admin is told, and puts
// another in its place.
func (y *year) death() error {
	r := y.someRelay()
	r.Stop()
	y.s.Logf("== %s is dead", r.name)
	if err := errors.Join(y.talk(2), y.s.Run(4*day), y.talk(1)); err != nil {
		return err
	}
	told := false
	for _, p := range y.admins() {
		events, err := y.s.History(p.Node, 0)
		if err != nil {
			return err
		}
		for _, e := range events {
			told = told || e.Kind == member.EventRelay && e.Time.After(y.s.cfg.Start.Add(y.s.Elapsed()-5*day)) && strings.Contains(e.Text, "has been gone for") && strings.Contains(e.Text, "parallax relay replace")
		}
	}
	if !told && y.stayed(4*day) {
		return fmt.Errorf("%s is dead for days, and no admin is told", r.name)
	}
	comes, spot := y.newRelay()
	return y.change(r, comes, member.ReplaceRelay{Relay: r.key(), By: spot})
}

// stayed tells whether an admin was here all that time.
func (y *year) stayed(d time.Duration) bool {
	return slices.ContainsFunc(y.admins(), func(p *person) bool { return p.began+d < y.s.Elapsed() && p.back+d < y.s.Elapsed() })
}

// successor: an operator gives up a relay and says so before; it runs on for days.
func (y *year) successor() error {
	r := y.someRelay()
	comes, spot := y.newRelay()
	if err := y.change(r, comes, member.ReplaceRelay{Relay: r.key(), By: spot}); err != nil {
		return err
	}
	y.s.At(between(y.r, 0, 6*day), r.Stop)
	return y.talk(2)
}

// moreRelays: one comes beside those there are.
func (y *year) moreRelays() error {
	comes, spot := y.newRelay()
	return y.change(nil, comes, member.AddRelay{Relay: spot})
}

// fewerRelays: one is retired.
func (y *year) fewerRelays() error {
	r := y.someRelay()
	if err := y.change(r, nil, member.RetireRelay{Relay: r.key()}); err != nil {
		return err
	}
	y.s.At(between(y.r, 2*day, 6*day), r.Stop)
	return nil
}
