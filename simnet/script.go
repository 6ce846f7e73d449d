package simnet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"parallax/broadcast/member"
)

// Script runs the directives of a scenario file, one line at a time, and
// answers what belongs under each. The directives, with relays by number:
//
//	seed N                                  before anything else
//	net latency=D jitter=D stall=P break=P
//	relays N [family=N,N]                   operators who declare that they are one
//	members NAME...
//	create NAME [strict] [deadline=D] [mode=M] ["LINE"...]
//	                                        founds the group, makes the invitation;
//	                                        lines of a policy text, operators by name
//	mode NAME M                             open, approve or closed
//	invite NAME                             a new invitation
//	join NAME...                            at once, by the newest invitation
//	ask NAME [as=NAME]                      likewise, where an admin lets in
//	approve|refuse NAME WHO                 by an admin, WHO by name, or @NODE: by its seat
//	send NAME "text" [wait=quorum|all|none]
//	passon NAME N                           passes on its N newest texts
//	falsify NAME of=NAME "text"             what NAME keeps of another's texts says something else
//	run D
//	insider NAME [accuses=N]                a member in the coalition; it says that
//	                                        relay N signed what it never signed
//	witness NAME                            relays that fork show this insider what they
//	                                        show the victim
//	say NAME N,N KIND [of=NAME] [count=N] ["text"]
//	                                        an insider says, on these relays, what no honest
//	                                        client does: misnames (other digests of NAME's
//	                                        texts), asks (for all of them), resends (another
//	                                        text as theirs), operates (what does not count),
//	                                        evidences (what is none)
//	letin NAME as=NAME                      a false seat joins openly, under a member's name
//	greet N,N from=NAME                     what N reads gets a hello posted in a member's name
//	lie N,N substitute victim=NAME hide=NAME with=NAME [alone]
//	                                        alone: nothing crosses between the views
//	lie N,N split victim=NAME drop=NAME [life=new|twin [leaps]]
//	                                        life: the second log has another lineage; leaps:
//	                                        asked about it, the relay begins one more
//	lie N,N unask victim=NAME drop=NAME     another log, in which a newcomer did not ask
//	lie N,N forget victim=NAME              its board entries are gone
//	lie N,N alter|spoil|replay|withhold|blank|renumber|omit victim=NAME [from=NAME] [first=N] [count=N] [clumsy]
//	lie N,N noreceipt victim=NAME
//	lie N,N genesis|stale victim=NAME       another genesis, old versions: a later joiner's board
//	lie N,N conflict victim=NAME about=NAME another admission of a member, likewise
//	lie N,N mute|bend|misdigest|starve victim=NAME [clumsy]
//	                                        digests: bare, with a flipped bit, of nothing;
//	                                        starve: bundles and digests bare
//	lie N,N onlydigest victim=NAME [from=NAME] [first=N] [count=N]
//	                                        the digest in the place of the bundle
//	announce N,N [count=N]                  what N reads lets it post digests of nothing to all
//	forge N,N from=NAME "text"              what N reads gets posted to all of them, in a member's name
//	twice NAME N,N [another]                NAME signs two announcements: one for these
//	                                        relays, one for the others, with another key
//	honest N,N                              ends a lie about deliveries and receipts
//	partition [members=A,B] [relays=1,2]    and heal
//	slow by=D [members=A,B] [relays=1,2]    frames take longer by D; by=0s ends it
//	crash|stop|restart NAME|RN
//	copy N|NAME                             of a disk
//	restore N|NAME [marked|rollback]        a relay that rolls back goes on in the old lineage
//	skew NAME|RN D, drift NAME|RN PPM
//
// and the questions: members NAME?, requests NAME (who asks to be let in), asking
// NAME (what it waits for), paths (counts: of relays by what they do), events (since asked last), status,
// (each with a member's name), evidence (of everybody), delivered, noticed (who
// was told what first, after the first lie), code NAME NAME (do they match).
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
	if err := x.s.learn(); err != nil {
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

// relays are those of a list of numbers.
func (x *Script) relays(list string) (out []*Relay, err error) {
	for _, v := range strings.Split(list, ",") {
		i, err := strconv.Atoi(v)
		if err != nil || i < 1 || i > len(x.s.Relays) {
			return nil, fmt.Errorf("%w: %q is no relay's number", ErrDirective, v)
		}
		out = append(out, x.s.Relays[i-1])
	}
	return out, nil
}

// liars are the relays named first.
func (x *Script) liars(w words) ([]*Relay, error) {
	if len(w.args) == 0 {
		return nil, fmt.Errorf("%w: a relay's number is missing", ErrDirective)
	}
	return x.relays(w.args[0])
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
			for i := range strings.FieldsFuncSeq(w.named["family"], func(c rune) bool { return c == ',' }) {
				at, bad := strconv.Atoi(i)
				s.Kin, err = append(s.Kin, at), errors.Join(err, bad)
			}
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
			var policy []string
			for _, a := range w.args[1:] {
				if strings.Contains(a, " ") {
					policy = append(policy, a)
				}
			}
			if policy != nil {
				s.Policy = s.PolicyText(policy...)
			}
			return refusal(s.Found(n, member.CreateGroup{Strict: w.has("strict"), Deadline: deadline, Mode: w.named["mode"], Policy: s.Policy}))
		},
		"invite": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil {
				return "", err
			}
			return refusal(s.Invite(n))
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
		"ask":      x.askIn,
		"mode":     x.decision(func(what string) member.Wish { return member.SetPolicy{Mode: &what} }),
		"approve":  x.decision(func(who string) member.Wish { return member.ApproveMember{Member: x.seatOf(who)} }),
		"refuse":   x.decision(func(who string) member.Wish { return member.RefuseMember{Member: x.seatOf(who)} }),
		"passon":   x.passOn,
		"falsify":  x.falsify,
		"insider":  x.insider,
		"witness":  x.witness,
		"say":      x.say,
		"letin":    x.letIn,
		"greet":    x.greet,
		"twice":    x.twice,
		"lie":      x.lie,
		"forge":    x.forge,
		"announce": x.announce,
		"honest": func(w words) (string, error) {
			list, err := x.liars(w)
			for _, r := range list {
				r.Rewriter.Lie, r.Gate.Keep = nil, nil
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
	list := func(w words, name, prefix string) (out []string) {
		for _, v := range strings.FieldsFunc(w.named[name], func(r rune) bool { return r == ',' }) {
			out = append(out, prefix+v)
		}
		return out
	}
	return map[string]func(words) (string, error){
		"crash":   on((*Node).Crash),
		"stop":    on((*Node).Stop),
		"restart": on((*Node).Start),
		"partition": func(w words) (string, error) {
			s.Partition(list(w, "members", ""), list(w, "relays", "R"))
			return "", nil
		},
		"heal": func(words) (string, error) { s.Heal(); return "", nil },
		"slow": func(w words) (string, error) {
			var by time.Duration
			err := duration(w, "by", &by)
			s.Slow(list(w, "members", ""), list(w, "relays", "R"), by)
			return "", err
		},
		"copy": func(w words) (string, error) {
			n, err := x.owner(w)
			if err == nil {
				if s.Foes[n.name] {
					s.deeds["seals twice"] = true
				}
				n.Copy("copy")
			}
			return "", err
		},
		"restore": x.restore,
		"skew": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil || len(w.args) < 2 {
				return "", errors.Join(err, fmt.Errorf("%w: skew NAME D", ErrDirective))
			}
			d, err := time.ParseDuration(w.args[1])
			n.Skew(d)
			return "", err
		},
		"drift": func(w words) (string, error) {
			n, err := x.first(w)
			if err != nil || len(w.args) < 2 {
				return "", errors.Join(err, fmt.Errorf("%w: drift NAME PPM", ErrDirective))
			}
			ppm, err := strconv.ParseInt(w.args[1], 10, 32)
			n.Drift(ppm)
			return "", err
		},
	}
}

// owner is whose disk is meant: a relay's by its number, a member's by name.
func (x *Script) owner(w words) (*Node, error) {
	if list, err := x.liars(w); err == nil && len(list) == 1 {
		return list[0].Node, nil
	}
	return x.first(w)
}

func (x *Script) restore(w words) (string, error) {
	n, err := x.owner(w)
	if err != nil {
		return "", err
	}
	n.Stop()
	if err := n.Replace("copy"); err != nil {
		return "", err
	}
	for _, r := range x.s.Relays {
		if r.Node != n {
			continue
		}
		if w.has("rollback") {
			x.s.lies(r)
			r.Rollback.Armed = true
		}
		if w.has("marked") {
			inv, err := member.ParseLink(x.s.Link)
			if err != nil {
				return "", err
			}
			if err := r.MarkRestored(inv.Channel(r.Key.Public())); err != nil {
				return "", err
			}
		}
	}
	n.Start()
	return "", nil
}
