package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

const demoGroup = "Garden"

// demoText is a message of an honest member, and who has to get it.
type demoText struct {
	id, text string
	from     *demoMember
	to       []*demoMember
	seenBy   *demoMember // whose marks are told; nil: those of the first that got it
}

// missing are those that did not get it.
func (t *demoText) missing() (names []string) {
	for _, m := range t.to {
		if m.times(t.id) == 0 {
			names = append(names, m.name)
		}
	}
	return names
}

// open starts the relays.
func (d *demo) open(ctx context.Context) error {
	d.tell.begin(d)
	d.tell.act("%s of %s start", cli.Plural(d.demoOptions.relays, "relay"), cli.Plural(d.demoOptions.relays, "operator"))
	if d.lying > 0 {
		d.plot = newDemoPlot(demoNames[1], demoNames[2])
	}
	for i := range d.demoOptions.relays {
		var wrap func(keys.RelayPublic, broadcast.Open) broadcast.Open
		if i >= 1 && i <= d.lying {
			wrap = d.plot.wrap
		}
		r, err := newDemoRelay(d.dir, i, wrap)
		if err != nil {
			return err
		}
		d.relays = append(d.relays, r)
	}
	errs := make([]error, len(d.relays))
	var starting sync.WaitGroup
	for i, r := range d.relays {
		starting.Go(func() { errs[i] = r.start() })
	}
	starting.Wait()
	for i, r := range d.relays {
		if errs[i] != nil {
			return fmt.Errorf("relay %s: %w", r.label, errs[i])
		}
		d.tell.relay(r)
	}
	if len(d.relays) == 1 {
		d.tell.event("alone", nil, "With one relay nothing is compared: it could show anybody anything. So nobody lies here.")
	}
	return ctx.Err()
}

// found makes the group and lets the members join by link.
func (d *demo) found(ctx context.Context) error {
	d.tell.act("%s founds a group, the others join by her link", demoNames[0])
	for i := range d.demoOptions.members {
		m := newDemoMember(d.dir, demoNames[i])
		if err := m.start(); err != nil {
			return err
		}
		d.members = append(d.members, m)
		if err := d.enter(ctx, m); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		rule := fmt.Sprintf("a newcomer's key counts when %d of %d operators show it", d.need(), d.demoOptions.relays)
		if d.demoOptions.relays == 1 {
			rule = "the only relay is taken at its word"
		}
		d.tell.event("founded", demoFields{"member": m.name, "group": demoGroup, "short_id": m.info.ShortID, "quorum": d.need(), "strict": d.strict},
			"%s founded %q, short id %s: %s.", m.name, demoGroup, m.info.ShortID, rule)
	}
	var names []string
	for _, m := range d.members[1:] {
		names = append(names, m.name)
	}
	if err := d.greeted(ctx, d.members, d.members); err != nil {
		return err
	}
	d.tell.event("joined", demoFields{"members": names}, "%s joined. Each compared what all relays show before using a key.", demoList(names))
	return d.compareCodes(ctx, d.members)
}

// enter founds or joins.
func (d *demo) enter(ctx context.Context, m *demoMember) (err error) {
	if m == d.members[0] {
		w := member.CreateGroup{Group: demoGroup, Name: m.name, Strict: d.strict, Deadline: d.deadline()}
		for _, r := range d.relays {
			w.Relays = append(w.Relays, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{r.listen}, Token: demoToken})
		}
		if m.info, err = demoAsk[member.GroupInfo](ctx, m, w); err != nil {
			return err
		}
		invite, err := demoAsk[member.InviteInfo](ctx, m, member.MakeInvite{})
		if err != nil {
			return err
		}
		d.link = invite.Link
	} else if m.info, err = demoAsk[member.GroupInfo](ctx, m, member.JoinGroup{Link: d.link, Name: m.name}); err != nil {
		return err
	}
	m.listen()
	return nil
}

// greeted waits until each of a has a session with each of b.
func (d *demo) greeted(ctx context.Context, a, b []*demoMember) error {
	var left []string
	ok := d.await(ctx, demoPatience, func() bool {
		left = nil
		for _, m := range a {
			var have []string
			for _, s := range m.status(ctx).Members {
				if s.Usable && s.Session {
					have = append(have, s.Seat)
				}
			}
			for _, o := range b {
				if o != m && !slices.Contains(have, o.info.Seat) {
					left = append(left, m.name+" with "+o.name)
				}
			}
		}
		return len(left) == 0
	})
	if !ok {
		return fmt.Errorf("no session came about: %s", demoList(left))
	}
	return ctx.Err()
}

// compareCodes asks all for the group's security code.
func (d *demo) compareCodes(ctx context.Context, who []*demoMember) error {
	var codes []string
	for _, m := range who {
		c, err := demoAsk[member.CodeInfo](ctx, m, member.GetCode{})
		if err != nil {
			return err
		}
		codes = append(codes, c.Code)
	}
	if same := slices.Compact(slices.Clone(codes)); len(same) != 1 {
		d.fail("the members show %d different security codes", len(same))
		return nil
	}
	d.tell.code(codes[0], len(who))
	return nil
}

// say lets a member send a text; to are those who have to get it.
func (d *demo) say(ctx context.Context, from *demoMember, text string, to []*demoMember) (*demoText, error) {
	info, err := demoAsk[member.SentInfo](ctx, from, member.SendText{Text: text, Wait: member.WaitNone})
	if err != nil {
		return nil, err
	}
	t := &demoText{id: info.ID, text: text, from: from}
	for _, m := range to {
		if m != from {
			t.to = append(t.to, m)
		}
	}
	d.texts = append(d.texts, t)
	return t, nil
}

// arrived waits until those who are online got the texts, and tells it.
func (d *demo) arrived(ctx context.Context, texts ...*demoText) {
	for _, t := range texts {
		reached := func() bool {
			return !slices.ContainsFunc(t.to, func(m *demoMember) bool { return m.online() && m.times(t.id) == 0 })
		}
		if !d.await(ctx, demoPatience, reached) && ctx.Err() == nil {
			d.fail("%q of %s did not reach %s within %v", t.text, t.from.name, demoList(t.missing()), demoPatience)
		}
		d.tell.text(d, t, d.marks(ctx, t))
	}
}

// marks are how the paths stood for a text. It waits a moment for relays that
// run and are not set aside.
func (d *demo) marks(ctx context.Context, t *demoText) (marks map[string]member.Mark) {
	viewer := t.seenBy
	if i := slices.IndexFunc(t.to, func(m *demoMember) bool { return m.online() && m.times(t.id) > 0 }); viewer == nil && i >= 0 {
		viewer = t.to[i]
	}
	if viewer == nil {
		return nil
	}
	aside := d.holds(viewer)
	d.await(ctx, time.Second, func() bool {
		p, err := demoAsk[member.Paths](ctx, viewer, member.GetPaths{Message: t.id})
		if err != nil || len(p.Messages) != 1 {
			return false
		}
		marks = p.Messages[0].Marks
		return !slices.ContainsFunc(d.relays, func(r *demoRelay) bool {
			return r.node != nil && !slices.Contains(aside, r.label) && marks[r.label] == "awaiting"
		})
	})
	return marks
}

// talk is a first round of messages.
func (d *demo) talk(ctx context.Context) error {
	d.tell.act("They talk")
	d.tell.marksHead(d)
	lines := []string{"Welcome to the garden.", "Thank you for the link.", "I bring tomatoes.", "I bring a spade."}
	var texts []*demoText
	for i, line := range lines {
		t, err := d.say(ctx, d.members[i], line, d.members)
		if err != nil {
			return err
		}
		texts = append(texts, t)
	}
	d.arrived(ctx, texts...)
	return ctx.Err()
}

// outage: a member goes offline, a relay is stopped, both come back.
func (d *demo) outage(ctx context.Context) error {
	away, speaker, last := d.members[2], d.members[3], d.members[0]
	d.tell.act("%s goes offline, and %s", away.name, map[bool]string{true: "a relay is stopped", false: "misses something"}[len(d.relays) > 1])
	if err := away.stop(); err != nil {
		return err
	}
	d.tell.event("offline", demoFields{"member": away.name}, "%s closed her laptop.", away.name)
	var stopped *demoRelay
	if len(d.relays) > 1 {
		stopped = d.relays[len(d.relays)-1]
		if d.lying == len(d.relays)-1 {
			stopped = d.relays[0]
		}
		if err := stopped.stop(); err != nil {
			return err
		}
		d.tell.event("stopped", demoFields{"relay": stopped.label, "operator": stopped.operator}, "%s (operator %s) was stopped.", stopped.label, stopped.operator)
	}
	t, err := d.say(ctx, speaker, "Does this still arrive?", d.members)
	if err != nil {
		return err
	}
	wait := d.strict && stopped != nil
	if !wait {
		d.arrived(ctx, t)
	}
	u, err := d.say(ctx, last, "It does.", d.members)
	if err != nil {
		return err
	}
	if !wait {
		d.arrived(ctx, u)
	} else {
		d.tell.event("held", demoFields{"message": t.id}, "This group is strict: %s's message is shown only when all %d relays agree, so it waits for %s.", speaker.name, len(d.relays), stopped.label)
	}
	if stopped != nil {
		if err := stopped.start(); err != nil {
			return err
		}
		d.tell.event("restarted", demoFields{"relay": stopped.label}, "%s runs again on its old folder; what it missed is sent to it from the members' outboxes.", stopped.label)
	}
	if err := away.start(); err != nil {
		return err
	}
	away.listen()
	d.arrivedQuietly(ctx, t, u)
	if wait {
		d.tell.text(d, t, d.marks(ctx, t))
		d.tell.text(d, u, d.marks(ctx, u))
	}
	d.tell.event("caught_up", demoFields{"member": away.name, "messages": 2}, "%s is back and caught up: 2 messages, nothing lost.", away.name)
	if !d.await(ctx, demoPatience, func() bool { return d.calm(ctx) }) && ctx.Err() == nil {
		return fmt.Errorf("after %v not every member is caught up on every relay again", demoPatience)
	}
	back, err := d.say(ctx, away, "I am back.", d.members)
	if err != nil {
		return err
	}
	d.arrived(ctx, back)
	return ctx.Err()
}

func (d *demo) arrivedQuietly(ctx context.Context, texts ...*demoText) {
	for _, t := range texts {
		if !d.await(ctx, demoPatience, func() bool { return len(t.missing()) == 0 }) && ctx.Err() == nil {
			d.fail("%q of %s did not reach %s within %v", t.text, t.from.name, demoList(t.missing()), demoPatience)
		}
	}
}

// calm: every member reads every relay and has nothing left to post.
func (d *demo) calm(ctx context.Context) bool {
	for _, m := range d.members {
		s := m.status(ctx)
		if s.Outbox > 0 || len(s.Relays) != len(d.relays) {
			return false
		}
		for _, r := range s.Relays {
			if !r.Connected || !r.CaughtUp {
				return false
			}
		}
	}
	return true
}

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
// the honest relays do not make the quorum these have to be quick: as soon as
// the liars are set aside, nothing new is agreed on.
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
	if err == nil {
		d.tooLate(ctx, first)
	}
	return first, altered, err
}

// tooLate tells whether a text was sent after its sender had set a liar aside.
// Where the honest relays do not make the quorum nobody has to get it then.
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
	if late && !d.survives() {
		t.to = nil
		d.tell.event("late", demoFields{"message": t.id}, "%s wrote %q after the lie was proven; by this group's rule it has to wait.", t.from.name, t.text)
	}
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

func (d *demo) they(one, many string) string { return d.liarNames() + " " + d.verb(one, many) }

func (d *demo) verb(one, many string) string {
	if d.lying == 1 {
		return one
	}
	return many
}

func (d *demo) liarLabels() (labels []string) {
	for _, r := range d.liars() {
		labels = append(labels, r.label)
	}
	return labels
}

func (d *demo) liarNames() string {
	if d.lying == 1 {
		return "relay " + d.liars()[0].label
	}
	return "relays " + demoList(d.liarLabels())
}

func demoTitle(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func demoList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
