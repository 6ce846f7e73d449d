package simnet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"parallax/broadcast/member"
	"parallax/crossverify"
)

// questions are the directives that only look.
func (x *Script) questions() map[string]func(words) (string, error) {
	s := x.s
	return map[string]func(words) (string, error){
		"paths": func(w words) (string, error) {
			v, err := x.ask(w, member.GetPaths{Limit: 100})
			if err != nil {
				return refusal(err)
			}
			p := v.(member.Paths)
			return s.table(func(line func(...string)) {
				if w.has("counts") {
					for _, m := range p.Messages {
						line(fmt.Sprintf("%s %q", m.Member, m.Text), m.Verdict, counts(p.Relays, m))
					}
					return
				}
				line(append([]string{"message", "verdict"}, p.Relays...)...)
				for _, m := range p.Messages {
					row := []string{fmt.Sprintf("%s %q", m.Member, m.Text), m.Verdict}
					for _, r := range p.Relays {
						if slices.Contains(m.Digests, r) {
							row = append(row, "digest") // it matches by its digest
							continue
						}
						row = append(row, string(m.Marks[r]))
					}
					line(row...)
				}
			}), nil
		},
		"status": func(w words) (string, error) {
			v, err := x.ask(w, member.GetStatus{})
			if err != nil {
				return refusal(err)
			}
			st := v.(member.Status)
			out := s.table(func(line func(...string)) {
				line("relay", "matched", "dissented", "silent", "failed", "outbox", "")
				for _, r := range st.Relays {
					var notes []string
					if !r.Connected {
						notes = append(notes, "not connected")
					} else if !r.CaughtUp {
						notes = append(notes, "catching up")
					}
					if r.SetAside {
						notes = append(notes, "set aside")
					}
					line(r.Label, fmt.Sprint(r.Matched), fmt.Sprint(r.Dissented), fmt.Sprint(r.Silent), fmt.Sprint(r.Failed), fmt.Sprint(r.Outbox), strings.Join(notes, ", "))
				}
			})
			return out + fmt.Sprintf("%d disputes, %d pieces of evidence", st.Disputes, st.Evidence), nil
		},
		"events": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil {
				return "", err
			}
			events, err := s.History(n, s.read[n.name])
			if err != nil {
				return "", err
			}
			s.read[n.name] += uint64(len(events))
			var b strings.Builder
			for _, e := range events {
				switch {
				case e.Kind == member.EventPassed:
					fmt.Fprintf(&b, "%s passes on, as of %s: %q\n", e.Member, e.Of, e.Text)
				case e.Kind == member.EventMessage && e.Passed != "":
					fmt.Fprintf(&b, "message from %s, passed on by %s: %q\n", e.Member, e.Passed, e.Text)
				case e.Kind == member.EventMessage && e.Late:
					fmt.Fprintf(&b, "message from %s, sent again: %q\n", e.Member, e.Text)
				case e.Kind != member.EventMessage:
					fmt.Fprintf(&b, "%s: %s\n", e.Kind, e.Text)
				case e.Own:
					fmt.Fprintf(&b, "message: %q\n", e.Text)
				default:
					fmt.Fprintf(&b, "message from %s: %q\n", e.Member, e.Text)
				}
			}
			if b.Len() == 0 {
				return "none", nil
			}
			return b.String(), s.learn()
		},
		"requests": x.requests,
		"asking":   x.asking,
		"noticed":  func(words) (string, error) { return x.noticed() },
		"code": func(w words) (string, error) {
			if len(w.args) != 2 {
				return "", fmt.Errorf("%w: code NAME NAME", ErrDirective)
			}
			var codes [2]string
			for i, name := range w.args {
				v, err := x.ask(words{args: []string{name}}, member.GetCode{})
				if err != nil {
					return refusal(err)
				}
				codes[i] = v.(member.CodeInfo).Code
			}
			if codes[0] == codes[1] {
				return "the same group code", nil
			}
			return "other group codes", nil
		},
		"evidence":  func(w words) (string, error) { return x.evidence() },
		"delivered": func(w words) (string, error) { return x.delivered() },
	}
}

// noticed tells which honest member was told of the lies, of what kind first, and how long after
// the first lie began, by each member's own clock.
func (x *Script) noticed() (string, error) {
	s := x.s
	var err error
	out := s.table(func(line func(...string)) {
		for _, n := range s.Members {
			if s.Foes[n.name] {
				continue
			}
			a, found, failed := s.alarm(n)
			err = errors.Join(err, failed)
			if found {
				line(n.name, string(a.kind), fmt.Sprintf("%+.1fs", a.after.Seconds()))
			} else {
				line(n.name, "nothing")
			}
		}
	})
	return out, err
}

// evidence lists what members hold. Each piece must convince a stranger: its
// letter alone is checked, and that its relay was told to lie. What an insider
// has made up convinces nobody.
func (x *Script) evidence() (string, error) {
	s := x.s
	var order []string
	holders := map[string][]string{}
	for _, n := range s.Members {
		if !n.Up() {
			continue
		}
		v, err := s.Do(n, member.GetEvidence{})
		if err != nil {
			continue // not a member: it holds nothing
		}
		for _, e := range v.([]member.EvidenceInfo) {
			v, err := s.Do(n, member.GetEvidence{ID: e.ID})
			if err != nil {
				return "", err
			}
			letter, err := crossverify.ParseEvidence(v.([]member.EvidenceInfo)[0].Text)
			if err != nil {
				return "", fmt.Errorf("%s's evidence does not read: %w", n.name, err)
			}
			found, err := letter.Check(s.Verify)
			if err != nil && s.Foes[n.name] {
				made := fmt.Sprintf("%s against %s: no stranger believes it", n.name, e.Relay)
				if holders[made] == nil {
					order, holders[made] = append(order, made), []string{n.name}
				}
				continue
			}
			if err != nil {
				return "", fmt.Errorf("%s's evidence does not hold: %w", n.name, err)
			}
			r := s.relays[found.Relay]
			if r == nil || r.name != e.Relay || !s.liars[r.name] {
				return "", fmt.Errorf("%w: %s holds evidence against %s, which is honest: %s", ErrInvariant, n.name, e.Relay, found.Sentence)
			}
			line := fmt.Sprintf("%s (%s), %s: %s", e.Relay, e.Operator, found.Form, found.Sentence)
			if holders[line] == nil {
				order = append(order, line)
			}
			holders[line] = append(holders[line], n.name)
		}
	}
	if len(order) == 0 {
		return "none", nil
	}
	var b strings.Builder
	for _, line := range order {
		fmt.Fprintf(&b, "%s\nheld by %s\n", line, strings.Join(holders[line], ", "))
	}
	return b.String(), nil
}

// ask does a wish of the member named first.
func (x *Script) ask(w words, wish member.Wish) (any, error) {
	n, err := x.first(w)
	if err != nil {
		return nil, err
	}
	return x.s.Do(n, wish)
}

func (x *Script) members(w words) (string, error) {
	v, err := x.ask(w, member.GetStatus{})
	if err != nil {
		return refusal(err)
	}
	st := v.(member.Status)
	return x.s.table(func(line func(...string)) {
		for _, m := range st.Members {
			var notes []string
			for _, f := range []struct {
				on   bool
				text string
			}{{m.Own, "own"}, {m.Founder, "founder"}, {!m.Usable, "not used"}, {!m.Session && !m.Own, "no session"}} {
				if f.on {
					notes = append(notes, f.text)
				}
			}
			row := []string{m.Label, m.Verdict}
			for _, r := range st.Relays {
				row = append(row, r.Label+" "+string(m.Marks[r.Label]))
			}
			line(append(row, strings.Join(notes, ", "))...)
		}
	}), nil
}

// delivered tells, for every text sent, who has it and how often.
func (x *Script) delivered() (string, error) {
	s := x.s
	var order []string
	has := map[string]map[string]int{}
	for _, n := range s.Members {
		events, err := s.History(n, 0)
		if err != nil {
			return "", err
		}
		for _, e := range events {
			if e.Kind != member.EventMessage {
				continue
			}
			if has[e.Text] == nil {
				has[e.Text] = map[string]int{}
				order = append(order, e.Text)
			}
			has[e.Text][n.name]++
		}
	}
	return s.table(func(line func(...string)) {
		for _, text := range order {
			var who []string
			for _, n := range s.Members {
				switch has[text][n.name] {
				case 0:
				case 1:
					who = append(who, n.name)
				default:
					who = append(who, fmt.Sprintf("%s (%d times)", n.name, has[text][n.name]))
				}
			}
			line(fmt.Sprintf("%q", text), strings.Join(who, ", "))
		}
	}), nil
}

// table lines columns up.
func (s *Scenario) table(fill func(line func(...string))) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(func(cells ...string) { fmt.Fprintln(t, s.plain(strings.Join(cells, "\t"))) })
	t.Flush()
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// counts is how many relays carry a message in which way, whichever they are.
func counts(relays []string, m member.PathsRow) string {
	n := map[string]int{}
	for _, r := range relays {
		mark := string(m.Marks[r])
		if slices.Contains(m.Digests, r) {
			mark = "digest"
		}
		n[mark]++
	}
	var out []string
	for _, mark := range sortedKeys(n) {
		out = append(out, fmt.Sprintf("%d %s", n[mark], mark))
	}
	return strings.Join(out, ", ")
}
