package simnet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast/member"
)

// What must hold in a year after each step, once it is quiet.

// agree waits until it is quiet and holds everybody against everybody.
func (y *year) agree() error {
	var err error
	for range 10 {
		if err := y.s.Run(time.Minute); err != nil {
			return err
		}
		if err = y.agreed(); err == nil {
			return nil
		}
	}
	return err
}

func (y *year) agreed() error {
	s := y.s
	for _, n := range s.order {
		if len(n.Refusals) > 0 {
			return fmt.Errorf("%s refused an input: %w", n.name, n.Refusals[0])
		}
	}
	var first, firstCode, firstRoster string
	positions := map[string]uint64{}
	for i, p := range y.here() {
		v, err := s.Do(p.Node, member.GetStatus{})
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		st := v.(member.Status)
		if err := y.calm(p, &st, positions); err != nil {
			return err
		}
		var usable []string
		for _, m := range st.Members {
			if m.Usable {
				usable = append(usable, m.Name)
			}
			if m.Usable && !m.Own && !m.Session && !y.gone(m.Name) {
				return fmt.Errorf("%s has no session with %s", p.name, m.Name)
			}
		}
		slices.Sort(usable)
		v, err = s.Do(p.Node, member.GetCode{})
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		set, code := strings.Join(usable, " "), v.(member.CodeInfo).Code
		if i == 0 {
			first, firstCode = set, code
		}
		if set != first || len(usable) != len(y.people) {
			return fmt.Errorf("%s uses %s; %s uses %s; there are %d people", p.name, set, y.here()[0].name, first, len(y.people))
		}
		v, err = s.Do(p.Node, member.GetRoster{})
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		roster := v.(member.RosterInfo)
		if i == 0 {
			firstRoster = roster.Digest
		}
		if err := y.rules(p, &roster); err != nil {
			return err
		}
		if roster.Digest != firstRoster {
			return fmt.Errorf("%s and %s have other rosters", p.name, y.here()[0].name)
		}
		if code != firstCode {
			return fmt.Errorf("%s and %s have other group codes", p.name, y.here()[0].name)
		}
		if err := y.received(p); err != nil {
			return err
		}
		if err := y.bounded(p); err != nil {
			return err
		}
	}
	for _, p := range y.former {
		if err := y.received(p); err != nil {
			return err
		}
	}
	return nil
}

// rules: the roster has everybody once, nothing waits and nothing is disputed.
func (y *year) rules(p *person, r *member.RosterInfo) error {
	if r.Waiting > 0 || r.Epochs > 1 || r.Headless || len(r.Disputes)+len(r.Pending) > 0 {
		return fmt.Errorf("%s's roster: %+v", p.name, r)
	}
	roles := map[string]member.Role{}
	for _, m := range append(r.Members, r.Asking...) {
		roles[m.Name] = m.Role
	}
	for _, o := range y.people {
		if role := roles[o.name]; o.name == "alice" && role != member.AsOwner || o.name != "alice" && (role == member.AsAdmin) != o.admin {
			return fmt.Errorf("%s has %s as %q", p.name, o.name, role)
		}
	}
	return nil
}

// gone: somebody is away for so long that nobody begins a session with the
// prekeys it has announced.
func (y *year) gone(name string) bool {
	i := slices.IndexFunc(y.people, func(p *person) bool { return p.name == name })
	return i >= 0 && y.people[i].away > 0 && y.s.Elapsed()-y.people[i].left > retained
}

// calm: nobody is convicted or set aside, nothing waits for a relay that is up,
// and whoever reads a relay has read as far as the others.
func (y *year) calm(p *person, st *member.Status, positions map[string]uint64) error {
	if !st.Ready || st.Evidence > 0 || st.Disputes > 0 {
		return fmt.Errorf("%s: ready %v, %d pieces of evidence, %d disputes", p.name, st.Ready, st.Evidence, st.Disputes)
	}
	if len(st.Relays) != len(y.used) {
		return fmt.Errorf("%s uses %d relays of %d: %+v", p.name, len(st.Relays), len(y.used), st.Relays)
	}
	for _, at := range st.Relays {
		if at.Dissented > 0 || at.SetAside || at.Failed > 0 {
			told := ""
			for _, e := range p.Events {
				if m, ok := e.Body.(member.Event); ok && m.Kind == member.EventRelay && m.Relay == at.Label {
					told = m.Text
				}
			}
			return fmt.Errorf("%s, honest %s: %+v; told last: %s", p.name, at.Label, at, told)
		}
		i := slices.IndexFunc(y.used, func(r *Relay) bool { return r.Key.Public() == at.Key })
		if i < 0 {
			return fmt.Errorf("%s uses %s, which is in the list no more: list %d %+v; former %+v", p.name, at.Label, st.Ordinal, st.Relays, st.Former)
		}
		if r := y.used[i]; !r.up {
			continue
		}
		if !at.Connected || !at.CaughtUp || at.Outbox > 0 {
			return fmt.Errorf("%s is not done with %s: %+v", p.name, at.Label, at)
		}
		if n, known := positions[at.Label]; known && n != at.Position {
			return fmt.Errorf("%s has read %s up to %d, another up to %d", p.name, at.Label, at.Position, n)
		}
		positions[at.Label] = at.Position
	}
	return nil
}

// received: every text that p has to have it was shown once, no text twice.
func (y *year) received(p *person) error {
	events, err := y.s.History(p.Node, 0)
	if err != nil {
		return err
	}
	got := map[string]int{}
	for _, e := range events {
		if e.Kind == member.EventMessage {
			got[e.Text]++
		}
	}
	for _, x := range y.texts {
		n := got[x.text]
		delete(got, x.text)
		excused := x.at < p.since || x.not[p.name] || slices.ContainsFunc(p.missing, func(s stretch) bool {
			return s.from <= x.at && x.at <= s.to && (s.by == nil || s.by == x.by && !y.spoke(s.by, s.to))
		})
		if p.out > 0 { // what was under way when it went, it may have or not
			excused = excused || x.at > p.out-time.Minute || p.away > 0
			if x.at > p.out && n > 0 {
				return fmt.Errorf("%s was shown %q, sent after it went", p.name, x.text)
			}
		}
		if n > 1 || n == 0 && !excused {
			return fmt.Errorf("%s was shown %q of day %.2f %d times", p.name, x.text, x.at.Hours()/24, n)
		}
	}
	if len(got) > 0 {
		return fmt.Errorf("%s was shown what nobody sent: %v", p.name, got)
	}
	return nil
}

// spoke tells whether somebody sent a text after a time.
func (y *year) spoke(p *person, after time.Duration) bool {
	return slices.ContainsFunc(y.texts, func(x *yearText) bool { return x.by == p && x.at > after })
}

// bounded: what is kept does not grow with the year, history apart; and what was
// received of a sender has no gap.
func (y *year) bounded(p *person) error {
	kvs, _, err := p.disk.Scan(p.unit[:], append(append([]byte{}, p.unit[:]...), 0xff), 1<<30)
	if err != nil {
		return err
	}
	count := map[byte]int{}
	for _, kv := range kvs {
		count[kv.Key[16]]++
	}
	n, relays := y.all, len(y.used)+1 // and one that is retired
	for kind, most := range map[byte]int{
		'b': 64, 'q': 64, 'p': 256, 'f': 8, 'o': 8, 'w': 8 * n, 'h': n, 's': n, 'n': n, 'a': relays * (24 + 8*n), 't': relays * (16 + 2*n),
	} {
		if count[kind] > most {
			return fmt.Errorf("%s keeps %d records of kind %c, with %d people", p.name, count[kind], kind, n)
		}
	}
	return nil
}
