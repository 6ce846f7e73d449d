package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parallax/broadcast/member"
	"parallax/crossverify"
	"parallax/internal/keys"
)

// demoConvictions is how long evidence may take to reach everybody.
const demoConvictions = 15 * time.Second

// aftermath: the alarm, what leaked, the evidence, and that the group goes on.
func (d *demo) aftermath(ctx context.Context) error {
	d.tell.act("What came to light")
	if d.plot != nil {
		d.noticed(ctx)
		d.secondKey()
		d.leaked(ctx)
		d.convicted(ctx)
	}
	if !d.survives() {
		left := d.demoOptions.relays - d.lying
		d.tell.event("fewer", demoFields{"left": left}, "With %s set aside %d of %d operators %s left, fewer than the rule wants: all that are left must agree until the group replaces its relays.%s",
			demoList(d.liarLabels()), left, d.demoOptions.relays, map[bool]string{true: "is", false: "are"}[left == 1],
			map[bool]string{true: " Nothing is compared meanwhile.", false: ""}[left == 1])
	}
	all := d.honest()
	if err := d.greeted(ctx, all, all); err != nil {
		return err
	}
	d.tell.event("goes_on", nil, "The group goes on%s:", map[bool]string{true: " over the honest relays", false: ""}[d.lying > 0])
	d.tell.marksHead(d)
	for i, m := range []*demoMember{d.members[1], d.newcomer} {
		t, err := d.say(ctx, m, []string{"Nora, it is me, the true Bob.", "So I see. Hello Bob."}[i], all)
		if err != nil {
			return err
		}
		d.arrived(ctx, t)
	}
	return d.compareCodes(ctx, all)
}

// alarm is the first alarm at the newcomer that concerns the two seats.
func (d *demo) alarm() *member.Event {
	hidden, planted := d.plot.seats()
	for _, e := range d.newcomer.events() {
		if e.Kind == member.EventDispute && (e.Seat == planted || e.Seat == hidden) {
			return &e
		}
	}
	return nil
}

// noticed tells the alarm at the newcomer, in the words that the newcomer saw.
func (d *demo) noticed(ctx context.Context) {
	if !d.await(ctx, demoPatience, func() bool { return d.alarm() != nil }) {
		d.fail("%s did not notice that %s showed another %s", d.newcomer.name, d.liarNames(), demoNames[1])
		return
	}
	alarm := d.alarm()
	d.sum.Detected, d.sum.DetectedWhen = 1, "before the first message to that name"
	for _, e := range d.newcomer.events() {
		if e.Kind == member.EventMessage && e.Own && e.Number < alarm.Number {
			d.sum.DetectedWhen = "when the honest relays had answered"
		}
	}
	d.tell.alarm(d.newcomer.name, *alarm)
	if d.lying >= d.need() {
		d.tell.event("majority", demoFields{"quorum": d.need()},
			"The liars are a majority, so %s cannot know yet which side lies, and nobody is blamed. By the group's rule of %d of %d the %s of %s counts.",
			d.newcomer.name, d.need(), d.demoOptions.relays, demoNames[1], demoList(d.liarLabels()))
	}
	d.tell.event("noticed", demoFields{"member": d.newcomer.name, "when": d.sum.DetectedWhen}, "Noticed %s.", d.sum.DetectedWhen)
}

// secondKey counts where a second key for a true seat was refused. This is no
// work of the comparison: the key's signature does it.
func (d *demo) secondKey() {
	refused := map[string]bool{}
	for _, e := range d.newcomer.events() {
		if e.Kind == member.EventRelay && strings.Contains(e.Text, "an announcement whose signature does not hold") {
			refused[e.Relay] = true
		}
	}
	for _, r := range d.liars() {
		if refused[r.label] {
			d.sum.SameSeatRefused++
		} else {
			d.fail("the second key that %s showed for %s's own seat was not refused", r.label, demoNames[2])
		}
	}
	d.tell.event("same_seat", demoFields{"refused": d.sum.SameSeatRefused},
		"Counted apart: %s also showed a second key for %s's own seat. Its signature does not hold, so that one needs no comparison to be refused.",
		demoList(d.liarLabels()), demoNames[2])
}

// leaked measures at the false seat's own node what it could read.
func (d *demo) leaked(ctx context.Context) {
	seat := d.newcomer.info.Seat
	if d.lying < d.need() {
		_, _, readable := d.plot.counts()
		d.sum.Leaked = d.accomplice.read(seat)
		if d.sum.Leaked > 0 || readable > 0 {
			d.fail("the false %s could read %d messages of %s (%d had a slot for it)", demoNames[1], d.sum.Leaked, d.newcomer.name, readable)
		}
		d.tell.event("leaked", demoFields{"messages": d.sum.Leaked}, "The false %s has read 0 messages: nothing is encrypted to a seat that fewer than %d operators show.", demoNames[1], d.need())
		return
	}
	d.await(ctx, 3*time.Second, func() bool { return d.accomplice.read(seat) > 0 })
	d.sum.Leaked = d.accomplice.read(seat)
	d.tell.event("leaked", demoFields{"messages": d.sum.Leaked},
		"LEAKED: the false %s has read %d of %s's messages. %d of %d relays can admit a seat by themselves; that is the price of a majority rule. A group founded with --strict asks all relays and encrypts nothing to a seat that one of them does not show.",
		demoNames[1], d.sum.Leaked, d.newcomer.name, d.lying, d.demoOptions.relays)
}

// convicted waits until everybody honest holds the evidence, and writes it to
// files.
func (d *demo) convicted(ctx context.Context) {
	everybody := func() bool {
		for _, m := range d.honest() {
			if len(d.holds(m)) < d.lying {
				return false
			}
		}
		return true
	}
	if !d.await(ctx, demoConvictions, everybody) {
		for _, m := range d.honest() {
			if n := len(d.holds(m)); n < d.lying {
				d.fail("%s holds evidence against %d of %d lying relays", m.name, n, d.lying)
			}
		}
	}
	if err := d.saveEvidence(ctx); err != nil {
		d.fail("evidence: %v", err)
	}
	for _, r := range d.liars() {
		holders := 0
		for _, m := range d.honest() {
			if slices.Contains(d.holds(m), r.label) {
				holders++
			}
		}
		d.tell.event("convicted", demoFields{"relay": r.label, "operator": r.operator, "holders": holders},
			"Relay %s (operator %s) is convicted by its own signatures: it signed two histories. %s the evidence and set it aside.",
			r.label, r.operator, map[bool]string{true: "1 member holds", false: fmt.Sprintf("%d members hold", holders)}[holders == 1])
	}
	if len(d.sum.EvidenceFiles) > 0 {
		d.tell.evidence(d.sum.EvidenceFiles)
	}
}

// holds are the relays against which a member was shown evidence.
func (d *demo) holds(m *demoMember) (labels []string) {
	for _, e := range m.events() {
		if e.Kind == member.EventEvidence && !slices.Contains(labels, e.Relay) {
			labels = append(labels, e.Relay)
		}
	}
	return labels
}

// saveEvidence writes every different piece once, and checks each as a
// stranger would: from the text alone.
func (d *demo) saveEvidence(ctx context.Context) error {
	seen := map[string]bool{}
	for _, m := range d.honest() {
		held, err := demoAsk[[]member.EvidenceInfo](ctx, m, member.GetEvidence{})
		if err != nil {
			return err
		}
		for _, e := range held {
			if seen[e.ID] {
				continue
			}
			seen[e.ID] = true
			full, err := demoAsk[[]member.EvidenceInfo](ctx, m, member.GetEvidence{ID: e.ID})
			if err != nil {
				return err
			}
			if len(full) != 1 {
				return fmt.Errorf("%s holds %d pieces of the id %s", m.name, len(full), e.ID)
			}
			if err := d.checkEvidence(m, full[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) checkEvidence(m *demoMember, info member.EvidenceInfo) error {
	dir := filepath.Join(d.dir, demoEvidenceDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, fmt.Sprintf("%s-%s.txt", info.Relay, info.ID))
	if err := os.WriteFile(file, []byte(info.Text), 0o600); err != nil {
		return err
	}
	d.sum.EvidenceFiles = append(d.sum.EvidenceFiles, file)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	e, err := crossverify.ParseEvidence(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	finding, err := e.Check(keys.Ed25519)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !slices.ContainsFunc(d.liars(), func(r *demoRelay) bool { return r.key.Public() == finding.Relay }) {
		d.sum.ConvictedHonest++
		d.fail("%s holds evidence against relay %s, which is honest: %s", m.name, info.Relay, file)
	}
	return nil
}

// judge counts: deliveries, alarms, marks.
func (d *demo) judge(ctx context.Context) {
	s := &d.sum
	for _, t := range d.texts {
		s.Sent++
		s.Expected += len(t.to)
		s.Delivered += len(t.to) - len(t.missing())
		for _, m := range d.honest() {
			if n := m.times(t.id); n > 1 {
				d.fail("%s was shown %q %d times", m.name, t.text, n)
			}
		}
	}
	if s.Delivered < s.Expected {
		d.fail("%d of %d deliveries are missing", s.Expected-s.Delivered, s.Expected)
	}
	if s.Detected < s.Substitutions {
		d.fail("%d of %d substitutions were not noticed", s.Substitutions-s.Detected, s.Substitutions)
	}
	for _, m := range d.honest() {
		for _, e := range m.events() {
			d.weigh(m, e)
		}
	}
	for i, r := range d.relays {
		row := demoMarks{Relay: r.label, Operator: r.operator, Lied: slices.Contains(d.liars(), r)}
		for _, m := range d.honest() {
			if st := m.status(ctx); m.online() && i < len(st.Relays) {
				row.Matched += st.Relays[i].Matched
				row.Dissented += st.Relays[i].Dissented
				row.Silent += st.Relays[i].Silent
				row.Failed += st.Relays[i].Failed
			}
		}
		s.Relays = append(s.Relays, row)
	}
	s.Wall = demoSeconds(time.Since(d.tell.began))
}

// weigh looks whether an alarm at an honest member concerns somebody honest.
func (d *demo) weigh(m *demoMember, e member.Event) {
	just := false
	switch e.Kind {
	case member.EventDispute:
		if d.plot != nil && m == d.newcomer {
			hidden, planted := d.plot.seats()
			just = e.Seat == hidden || e.Seat == planted
		}
	case member.EventEvidence:
		just = slices.Contains(d.liarLabels(), e.Relay)
	case member.EventBlame:
		d.sum.ConvictedHonest++
	default:
		return
	}
	if !just {
		d.sum.FalseAlarms++
		d.fail("false alarm at %s: %s", m.name, e.Text)
	}
}
