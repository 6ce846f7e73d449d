package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"parallax/broadcast/member"
	"parallax/internal/wire"
)

// substitute lets the newcomer join while the liars lie to it.
func (d *demo) substitute(ctx context.Context) error {
	hidden := demoNames[1]
	if d.plot == nil {
		d.tell.act("%s joins", demoNewcomer)
	} else {
		d.tell.act("%s joins, and %s to her", demoNewcomer, d.they("begins to lie", "begin to lie"))
		if err := d.plot.begin(d.link); err != nil {
			return err
		}
		var err error
		if d.accomplice, err = startAccomplice(d.dir, hidden, d.link, d.liars()); err != nil {
			return err
		}
		admitted := func() bool { n, _, _ := d.plot.counts(); return n == d.lying }
		if !d.await(ctx, demoPatience, admitted) {
			return fmt.Errorf("the lying relays could not plant their seat")
		}
		d.sum.Substitutions = 1
		d.tell.event("substitution", demoFields{"relays": d.liarLabels(), "hidden": hidden, "victim": demoNewcomer},
			"%s %s from %s and %s another %q, a seat of its own, with a valid admission: everybody who holds the link can make one.",
			demoTitle(d.liarNames()), d.verb("hides "+hidden, "hide "+hidden), demoNewcomer, d.verb("shows", "show"), hidden)
	}
	n := newDemoMember(d.dir, demoNewcomer)
	if err := n.start(); err != nil {
		return err
	}
	d.newcomer = n
	if err := d.enter(ctx, n); err != nil {
		return err
	}
	d.tell.event("joined", demoFields{"members": []string{n.name}}, "%s joined.", n.name)
	first, altered, err := d.firstContact(ctx)
	if err != nil {
		return err
	}
	d.tell.marksHead(d)
	d.arrived(ctx, first)
	switch {
	case altered != nil:
		d.arrived(ctx, altered)
		end := "The true copy came over the others."
		if d.strict {
			end = "This group is strict: what not all relays agree on is not shown to her."
		}
		d.tell.event("altered", demoFields{"relays": d.liarLabels(), "message": altered.id, "victim": n.name},
			"%s altered that one on its way to %s, where these are the marks. %s", demoTitle(d.liarNames()), n.name, end)
	case d.plot != nil:
		d.tell.event("not_altered", demoFields{"relays": d.liarLabels()}, "%s wanted to alter a message as well, and %s set aside before there was one.",
			demoTitle(d.liarNames()), d.verb("was", "were"))
	}
	return ctx.Err()
}

// firstContact are the first messages between the newcomer and the others. Where
// the honest relays do not make the quorum the newcomer writes at once: that is
// when a majority of liars could read.
func (d *demo) firstContact(ctx context.Context) (first, altered *demoText, err error) {
	hello := func() (err error) {
		first, err = d.say(ctx, d.newcomer, "Hello all. Bob, the key is under the blue pot.", d.friends())
		return err
	}
	if !d.survives() {
		if err := hello(); err != nil {
			return nil, nil, err
		}
	}
	if d.plot != nil {
		if altered, err = d.alterOne(ctx); err != nil {
			return nil, nil, err
		}
	}
	if d.survives() {
		if d.plot != nil { // who writes has a screen
			d.await(ctx, demoGlance, func() bool { return d.alarm() != nil })
		}
		err = hello()
	}
	return first, altered, err
}

// tooLate tells whether a text was sent after its sender had set a liar aside:
// the liar did not get it any more.
func (d *demo) tooLate(ctx context.Context, t *demoText) bool {
	if d.plot == nil {
		return false
	}
	own, late := false, false
	d.await(ctx, demoPatience, func() bool {
		for _, e := range t.from.events() {
			late = late || e.Kind == member.EventEvidence && !own
			own = own || e.Own && e.ID == t.id
		}
		return own
	})
	return late
}

// friends are the members that the newcomer can speak with: all, unless the
// honest relays are too few to make the hidden one's key count.
func (d *demo) friends() []*demoMember {
	if d.survives() {
		return d.members
	}
	return slices.DeleteFunc(slices.Clone(d.members), func(m *demoMember) bool { return m.name == demoNames[1] })
}

// alterOne lets the founder write to the newcomer, and the liars alter it on
// its way there; nil if they were set aside before.
func (d *demo) alterOne(ctx context.Context) (*demoText, error) {
	founder := d.members[0]
	if !d.await(ctx, demoPatience, func() bool { return founder.knows(ctx, d.newcomer) || len(d.holds(founder)) > 0 }) {
		return nil, fmt.Errorf("no session came about between %s and %s", founder.name, d.newcomer.name)
	}
	if len(d.holds(founder)) > 0 {
		return nil, nil
	}
	d.plot.alterFrom(demoSeat(founder))
	defer d.plot.alterFrom(wire.Seat{})
	to := append(slices.Clone(d.members), d.newcomer)
	if d.strict {
		to = d.members // an altered copy is no agreement of all: the newcomer is not shown the text
	}
	t, err := d.say(ctx, founder, "Nora, the gate code is 4711.", to)
	if err != nil {
		return nil, err
	}
	if d.tooLate(ctx, t) {
		d.arrivedQuietly(ctx, t)
		return nil, nil
	}
	t.seenBy = d.newcomer
	noticed := func() bool {
		p, err := demoAsk[member.Paths](ctx, d.newcomer, member.GetPaths{Message: t.id})
		return err == nil && len(p.Messages) == 1 &&
			!slices.ContainsFunc(d.liars(), func(r *demoRelay) bool { return p.Messages[0].Marks[r.label] != "dissented" })
	}
	if !d.await(ctx, demoPatience, noticed) && ctx.Err() == nil {
		_, n, _ := d.plot.counts()
		d.fail("%s altered %q %d times for %s, who did not notice it everywhere", demoTitle(d.liarNames()), t.text, n, d.newcomer.name)
	}
	return t, nil
}

// demoSeat is the member's seat as it stands in bundles.
func demoSeat(m *demoMember) (seat wire.Seat) {
	if n, err := hex.Decode(seat[:], []byte(m.info.Seat)); err != nil || n != len(seat) {
		return wire.Seat{}
	}
	return seat
}
