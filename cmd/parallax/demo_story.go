package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/internal/keys"
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
