package simnet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/wire"
	"parallax/simnet/adversary"
)

// Script runs the directives of a scenario file, one line at a time, and
// answers what belongs under each. The directives, with relays by number:
//
//	seed N                                  before anything else
//	net latency=D jitter=D stall=P break=P
//	relays N
//	members NAME...
//	create NAME [strict] [deadline=D]       founds the group, makes the invitation
//	join NAME...                            at once, by that invitation
//	send NAME "text" [wait=quorum|all|none]
//	run D
//	lie N substitute victim=NAME hide=NAME with=NAME
//	lie N split victim=NAME drop=NAME
//	lie N alter|spoil|replay|withhold|blank|renumber|omit victim=NAME [first=N] [count=N] [clumsy]
//	honest N                                ends a lie about deliveries
//	partition [members=A,B] [relays=1,2]    and heal
//	crash|stop|restart NAME|RN
//	copy N, restore N [marked]              of a relay's disk
//	skew NAME|RN D
//
// and the questions: members NAME?, paths, events (since asked last), status,
// evidence (each with a member's name), delivered.
type Script struct{ s *Scenario }

// NewScript makes a script with a world of its own, of seed 1; log is for
// human lines, or nil.
func NewScript(log func(string)) *Script {
	return &Script{NewScenario(Config{Seed: 1, Log: log})}
}

// ErrDirective: a line that is no directive.
var ErrDirective = errors.New("not a directive")

type words struct {
	args  []string
	named map[string]string
}

// split cuts a line into words; a quoted word may have spaces.
func split(line string) (w words, err error) {
	w.named = map[string]string{}
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		var word string
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return w, fmt.Errorf("%w: a quote that does not end: %s", ErrDirective, line)
			}
			line = line[len(quoted):]
			word, _ = strconv.Unquote(quoted)
			w.args = append(w.args, word)
			continue
		}
		word, line, _ = strings.Cut(line, " ")
		if k, v, ok := strings.Cut(word, "="); ok {
			w.named[k] = v
		} else {
			w.args = append(w.args, word)
		}
	}
	return w, nil
}

func (w words) has(word string) bool {
	for _, a := range w.args {
		if a == word {
			return true
		}
	}
	return false
}

// Do runs one line. What a member is refused is an answer; an error is a
// defect of the script or of the run.
func (x *Script) Do(line string) (answer string, err error) {
	w, err := split(line)
	if err != nil || len(w.args) == 0 {
		return "", err
	}
	name := w.args[0]
	w.args = w.args[1:]
	if name == "seed" && len(w.args) == 1 && len(x.s.Relays)+len(x.s.Members) == 0 {
		seed, err := strconv.ParseUint(w.args[0], 10, 64)
		x.s = NewScenario(Config{Seed: seed, Log: x.s.cfg.Log})
		return "", err
	}
	for _, d := range []map[string]func(words) (string, error){x.actions(), x.faults(), x.questions()} {
		if do := d[name]; do != nil {
			out, err := do(w)
			if err == nil && x.s.err != nil {
				err = x.s.err
			}
			if err := x.s.learn(); err != nil {
				return "", err
			}
			return x.s.plain(out), err
		}
	}
	return "", fmt.Errorf("%w: %q", ErrDirective, name)
}

func (x *Script) node(name string) (*Node, error) {
	if n := x.s.Node(name); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%w: there is no node %q", ErrDirective, name)
}

func (x *Script) first(w words) (*Node, error) {
	if len(w.args) == 0 {
		return nil, fmt.Errorf("%w: a name is missing", ErrDirective)
	}
	return x.node(w.args[0])
}

func (x *Script) relay(w words) (*Relay, error) {
	if len(w.args) > 0 {
		if i, err := strconv.Atoi(w.args[0]); err == nil && i >= 1 && i <= len(x.s.Relays) {
			return x.s.Relays[i-1], nil
		}
	}
	return nil, fmt.Errorf("%w: a relay's number is missing", ErrDirective)
}

func number(w words, name string, def int) (int, error) {
	if v, ok := w.named[name]; ok {
		return strconv.Atoi(v)
	}
	return def, nil
}

func duration(w words, name string, d *time.Duration) error {
	v, ok := w.named[name]
	if !ok {
		return nil
	}
	var err error
	*d, err = time.ParseDuration(v)
	return err
}

func (x *Script) actions() map[string]func(words) (string, error) {
	s := x.s
	return map[string]func(words) (string, error){
		"net": func(w words) (string, error) {
			n := s.Net()
			for name, p := range map[string]*float64{"stall": &n.Stall, "break": &n.Break} {
				if v, ok := w.named[name]; ok {
					f, err := strconv.ParseFloat(v, 64)
					if err != nil {
						return "", err
					}
					*p = f
				}
			}
			return "", errors.Join(duration(w, "latency", &n.Latency), duration(w, "jitter", &n.Jitter))
		},
		"relays": func(w words) (string, error) {
			n, err := strconv.Atoi(strings.Join(w.args, ""))
			s.AddRelays(n)
			return "", err
		},
		"members": func(w words) (string, error) {
			if len(w.args) == 1 && s.Node(w.args[0]) != nil {
				return x.members(w)
			}
			for _, a := range w.args {
				s.AddMember(a)
			}
			return "", nil
		},
		"create": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil {
				return "", err
			}
			var deadline time.Duration
			if err := duration(w, "deadline", &deadline); err != nil {
				return "", err
			}
			return refusal(s.Create(n, w.has("strict"), deadline))
		},
		"join": func(w words) (string, error) {
			var nodes []*Node
			for _, a := range w.args {
				n, err := x.node(a)
				if err != nil {
					return "", err
				}
				nodes = append(nodes, n)
			}
			return refusal(s.Join(nodes...))
		},
		"send": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil || len(w.args) < 2 {
				return "", errors.Join(err, fmt.Errorf("%w: send NAME \"text\"", ErrDirective))
			}
			v, err := s.Do(n, member.SendText{Text: w.args[1], Wait: member.Wait(w.named["wait"])})
			if err != nil {
				return refusal(err)
			}
			i := v.(member.SentInfo)
			out := fmt.Sprintf("to %d members, receipts of %d of %d relays", i.Members, i.Receipts, i.Relays)
			if i.Waiting > 0 {
				out += fmt.Sprintf(", %d cannot read it yet", i.Waiting)
			}
			if i.Held > 0 {
				out += fmt.Sprintf(", %d held", i.Held)
			}
			return out, nil
		},
		"run": func(w words) (string, error) {
			d, err := time.ParseDuration(strings.Join(w.args, ""))
			if err != nil {
				return "", err
			}
			return "", s.Run(d)
		},
		"lie": x.lie,
		"honest": func(w words) (string, error) {
			r, err := x.relay(w)
			if err == nil {
				r.Rewriter.Lie = nil
			}
			return "", err
		},
	}
}

// refusal makes an answer of what a member was refused.
func refusal(err error) (string, error) {
	if err == nil || errors.Is(err, ErrInvariant) || errors.Is(err, ErrDriver) || errors.Is(err, ErrEndless) {
		return "", err
	}
	return "refused: " + err.Error(), nil
}

func (x *Script) lie(w words) (string, error) {
	r, err := x.relay(w)
	if err != nil || len(w.args) < 2 {
		return "", errors.Join(err, fmt.Errorf("%w: lie N KIND victim=NAME", ErrDirective))
	}
	victim := w.named["victim"]
	if _, err := x.node(victim); err != nil {
		return "", err
	}
	lies := map[string]func() adversary.Lie{
		"alter": adversary.Alter, "spoil": adversary.Spoil, "replay": adversary.Replay, "withhold": adversary.Withhold,
		"blank": adversary.Blank, "renumber": adversary.Renumber, "omit": adversary.Omit,
	}
	switch kind := w.args[1]; kind {
	case "substitute":
		return "", x.s.Substitute(r, victim, w.named["hide"], w.named["with"])
	case "split":
		x.s.Split(r, victim, w.named["drop"])
		return "", nil
	default:
		make := lies[kind]
		if make == nil {
			return "", fmt.Errorf("%w: no lie is called %q", ErrDirective, kind)
		}
		first, err := number(w, "first", 1)
		if err != nil {
			return "", err
		}
		count, err := number(w, "count", 0)
		if err != nil {
			return "", err
		}
		x.s.Rewrite(r, victim, adversary.Bundles(first, count, make()), w.has("clumsy"))
		return "", nil
	}
}

func (x *Script) faults() map[string]func(words) (string, error) {
	s := x.s
	on := func(do func(*Node)) func(words) (string, error) {
		return func(w words) (string, error) {
			n, err := x.first(w)
			if err == nil {
				do(n)
			}
			return "", err
		}
	}
	return map[string]func(words) (string, error){
		"crash":   on((*Node).Crash),
		"stop":    on((*Node).Stop),
		"restart": on((*Node).Start),
		"partition": func(w words) (string, error) {
			list := func(name, prefix string) (out []string) {
				for _, v := range strings.FieldsFunc(w.named[name], func(r rune) bool { return r == ',' }) {
					out = append(out, prefix+v)
				}
				return out
			}
			s.Partition(list("members", ""), list("relays", "R"))
			return "", nil
		},
		"heal": func(words) (string, error) { s.Heal(); return "", nil },
		"copy": func(w words) (string, error) {
			r, err := x.relay(w)
			if err == nil {
				r.Copy("copy")
			}
			return "", err
		},
		"restore": func(w words) (string, error) {
			r, err := x.relay(w)
			if err != nil {
				return "", err
			}
			r.Stop()
			if err := r.Replace("copy"); err != nil {
				return "", err
			}
			if w.has("marked") {
				inv, err := member.ParseLink(s.Link)
				if err != nil {
					return "", err
				}
				channel := member.ChannelID(&inv.Channels, r.Key.Public())
				if err := r.MarkRestored(wire.ChannelID(channel)); err != nil {
					return "", err
				}
			}
			r.Start()
			return "", nil
		},
		"skew": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil || len(w.args) < 2 {
				return "", errors.Join(err, fmt.Errorf("%w: skew NAME D", ErrDirective))
			}
			d, err := time.ParseDuration(w.args[1])
			n.Skew(d)
			return "", err
		},
	}
}

func (x *Script) questions() map[string]func(words) (string, error) {
	s := x.s
	return map[string]func(words) (string, error){
		"paths": func(w words) (string, error) {
			v, err := x.ask(w, member.GetPaths{Limit: 100})
			if err != nil {
				return refusal(err)
			}
			p := v.(member.Paths)
			return table(func(line func(...string)) {
				line(append([]string{"message", "verdict"}, p.Relays...)...)
				for _, m := range p.Messages {
					row := []string{fmt.Sprintf("%s %q", m.Member, m.Text), m.Verdict}
					for _, r := range p.Relays {
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
			out := table(func(line func(...string)) {
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
		"evidence": func(w words) (string, error) {
			var b strings.Builder
			for _, n := range s.Members {
				if len(w.args) > 0 && !w.has(n.name) || !n.Up() {
					continue
				}
				v, err := s.Do(n, member.GetEvidence{})
				if err != nil {
					continue // not a member: it holds nothing
				}
				for _, e := range v.([]member.EvidenceInfo) {
					fmt.Fprintf(&b, "%s holds: %s (%s): %s\n", n.name, e.Relay, e.Operator, e.Sentence)
				}
			}
			if b.Len() == 0 {
				return "none", nil
			}
			return b.String(), nil
		},
		"delivered": func(w words) (string, error) { return x.delivered() },
	}
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
	return table(func(line func(...string)) {
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
	return table(func(line func(...string)) {
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
func table(fill func(line func(...string))) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) })
	t.Flush()
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
