package crossverify

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// What R relays of which t collude can do to a Ledger that accepts at q: the
// same question that testdata/open.pml asks of a model, asked of the code.

// setting is one row of the table.
type setting struct{ r, t, q int }

// outcome is what holds in a setting whatever the liars do, in any order: the
// false admission is never accepted; the true one is, once every honest relay
// has shown it and the deadline has passed; the same when both are values of one
// subject.
type outcome struct{ safe, live, together bool }

type table map[setting]outcome

// closedForm is claim T3 for R to 5, every t and every q.
func closedForm() table {
	m := table{}
	for r := 1; r <= 5; r++ {
		for t := range r + 1 {
			for q := 1; q <= r; q++ {
				safe, live := t <= q-1, t <= r-q
				m[setting{r, t, q}] = outcome{safe, live, live && safe}
			}
		}
	}
	return m
}

// compareTables tells where a table is not T3, and prints it.
func compareTables(t *testing.T, whose string, got table) {
	t.Helper()
	word := map[bool]string{true: "yes", false: "-"}
	var lines strings.Builder
	for r := 1; r <= 5; r++ {
		for q := 1; q <= r; q++ {
			rule := ""
			if q == r/2+1 {
				rule = " majority"
			}
			if q == r {
				rule += " strict"
			}
			fmt.Fprintf(&lines, "\nR %d q %d:", r, q)
			for bad := range r + 1 {
				o := got[setting{r, bad, q}]
				fmt.Fprintf(&lines, "  t=%d %3s/%3s/%3s", bad, word[o.safe], word[o.live], word[o.together])
			}
			lines.WriteString(rule)
		}
	}
	t.Logf("%s (safe/live/live as one subject):%s", whose, lines.String())
	for _, wrong := range differences(got) {
		t.Errorf("%s: %s", whose, wrong)
	}
}

// differences are the settings in which a table is not T3.
func differences(got table) (wrong []string) {
	for c, want := range closedForm() {
		if o, known := got[c]; known && o != want {
			wrong = append(wrong, fmt.Sprintf("R %d, t %d, q %d: %+v, T3 says %+v", c.r, c.t, c.q, o, want))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// The subjects: the true and the false admission apart, and as two values.
var (
	trueValue, falseValue     = digest(1), digest(2)
	trueSubject, falseSubject = Admission(trueValue), Admission(falseValue)
	togetherSubject           = Admission(digest(3))
	openSubjects              = []Subject{trueSubject, falseSubject, togetherSubject}
)

// act is one thing that one relay does.
type act byte

const (
	showTrue act = iota
	showFalse
	lack
	spoil
	signBothWays // evidence against itself reaches the member
)

func (a act) do(l *Ledger, p Path, late bool) {
	now := t0
	if late {
		now = t0.Add(DefaultDeadline)
	}
	switch a {
	case showTrue:
		l.Claim(now, p, trueSubject, trueValue)
		l.Absent(now, p, falseSubject)
		l.Claim(now, p, togetherSubject, trueValue)
	case showFalse:
		l.Claim(now, p, falseSubject, falseValue)
		l.Absent(now, p, trueSubject)
		l.Claim(now, p, togetherSubject, falseValue)
	case lack, spoil:
		for _, s := range openSubjects {
			if a == lack {
				l.Absent(now, p, s)
			} else {
				l.Fail(now, p, s)
			}
		}
	case signBothWays:
		l.SetAside(p, true)
	}
}

// next is what a relay that has done some acts, as a set of bits, may do further.
// A liar may also stop anywhere; an honest relay shows the true admission in the
// end, at once or after having lacked it.
func next(done byte, liar bool) (out []act) {
	did := func(a act) bool { return done>>a&1 == 1 }
	may := func(a act, when bool) {
		if when && !did(a) {
			out = append(out, a)
		}
	}
	may(lack, done == 0)
	may(showTrue, !did(spoil) && !did(signBothWays))
	if liar {
		may(showFalse, !did(spoil) && !did(signBothWays))
		may(spoil, done == 0)
		may(signBothWays, done == 1<<showFalse)
	}
	return out
}

// judge is how a member reads a Ledger: the value it accepts for a subject, if
// any, and whom it holds to be convicted. late: the deadline has passed.
type judge func(l *Ledger, s Subject, late bool) (accepted bool, value byte, convicted []bool)

func ledgerJudge(l *Ledger, s Subject, _ bool) (bool, byte, []bool) {
	r := l.Report(s)
	return r.Usable, r.Digest[0], nil
}

// explore walks everything that the liars and the honest can do, in every order,
// for one R and t, up to relays that did the same. Where two orders meet, the
// states of the Ledger are compared in full, so that one of them stands for all.
// q only decides how a state is read, so all values are read off each. It
// returns the table's rows and how many states there are.
func explore(t *testing.T, r, bad int, judge judge) (table, int) {
	var readers []*Ledger // by q, from 1
	policy := Policy{}
	for i := range r {
		policy.Operators = append(policy.Operators, keys.OperatorPublic{byte(i)})
	}
	rows := table{}
	for q := 1; q <= r; q++ {
		policy.Quorum = q
		readers = append(readers, NewLedger(policy))
		rows[setting{r, bad, q}] = outcome{true, true, true}
	}
	// state is what each relay did, sorted among liars and among honest ones,
	// and whether the deadline has passed.
	type state struct {
		done [5]byte
		late bool
	}
	seen := map[state]*Ledger{}
	var walk func(s state, l *Ledger)
	walk = func(s state, l *Ledger) {
		if old := seen[s]; old != nil {
			if !sameHeard(old, l) {
				t.Fatalf("R %d, t %d, %v: the order left a trace", r, bad, s)
			}
			return
		}
		seen[s] = l
		complete := s.late
		for _, done := range s.done[bad:r] {
			complete = complete && done>>showTrue&1 == 1
		}
		for i, reader := range readers {
			reader.entries, reader.now = l.entries, l.now
			copy(reader.aside, l.aside)
			reader.voters.leave(reader.aside)
			c := setting{r, bad, i + 1}
			o := rows[c]
			see := func(subject Subject) (bool, byte) {
				accepted, value, convicted := judge(reader, subject, s.late)
				for i, guilty := range convicted {
					if guilty && i >= bad {
						o = outcome{} // an honest relay convicted: nothing holds
					}
				}
				return accepted, value
			}
			forged, _ := see(falseSubject)
			accepted, _ := see(trueSubject)
			one, value := see(togetherSubject)
			o.safe = o.safe && !forged && !(one && value == falseValue[0])
			o.live = o.live && (!complete || accepted)
			o.together = o.together && (!complete || one && value == trueValue[0])
			rows[c] = o
		}
		for i := range r {
			if i > 0 && i != bad && s.done[i] == s.done[i-1] {
				continue // as the relay before it
			}
			for _, a := range next(s.done[i], i < bad) {
				n, k := s, copyOf(l)
				n.done[i] |= 1 << a
				a.do(k, Path(i), s.late)
				for j := i; j > 0 && j != bad && n.done[j] > n.done[j-1]; j-- {
					swap(k, j)
					n.done[j], n.done[j-1] = n.done[j-1], n.done[j]
				}
				walk(n, k)
			}
		}
		if !s.late {
			k := copyOf(l)
			k.Advance(t0.Add(DefaultDeadline))
			walk(state{s.done, true}, k)
		}
	}
	l := NewLedger(policy)
	for _, s := range openSubjects {
		l.touch(t0, 0, s) // known from the start, so that deadlines are the same in all runs
	}
	walk(state{}, l)
	return rows, len(seen)
}

// swap makes path j of a Ledger path j-1, and the reverse.
func swap(l *Ledger, j int) {
	l.aside[j], l.aside[j-1] = l.aside[j-1], l.aside[j]
	for _, e := range l.entries {
		e.paths[j], e.paths[j-1] = e.paths[j-1], e.paths[j]
	}
}

// sameHeard compares all that reports are made of.
func sameHeard(a, b *Ledger) bool {
	same := a.now.Equal(b.now) && slices.Equal(a.aside, b.aside) && len(a.entries) == len(b.entries)
	for s, e := range a.entries {
		o := b.entries[s]
		same = same && o != nil && e.known == o.known && e.since.Equal(o.since) && e.split == o.split && slices.Equal(e.truth, o.truth) &&
			slices.EqualFunc(e.paths, o.paths, func(p, q said) bool {
				return slices.Equal(p.shown, q.shown) && p.opened == q.opened && p.absent == q.absent &&
					p.failed == q.failed && p.silent == q.silent && p.other == q.other
			})
	}
	return same
}

// copyOf is a Ledger that heard the same.
func copyOf(l *Ledger) *Ledger {
	k := *l
	v := *l.voters
	k.voters = &v
	k.aside = slices.Clone(l.aside)
	k.due, k.dirty = nil, map[Subject]struct{}{}
	k.entries = make(map[Subject]*entry, len(l.entries))
	for s, e := range l.entries {
		c := *e
		c.queued = time.Time{}
		c.paths = slices.Clone(e.paths)
		for i := range c.paths {
			c.paths[i].shown = slices.Clone(c.paths[i].shown)
		}
		k.entries[s] = &c
	}
	return &k
}

// TestModelLedger is T3 of the Ledger itself, exhaustively for R to 5.
func TestModelLedger(t *testing.T) {
	got, states := table{}, 0
	for r := 1; r <= 5; r++ {
		for bad := range r + 1 {
			rows, n := explore(t, r, bad, ledgerJudge)
			states += n
			for c, o := range rows {
				got[c] = o
			}
		}
	}
	compareTables(t, fmt.Sprintf("the Ledger, %d states", states), got)
	if len(got) != len(closedForm()) || states < 20_000 {
		t.Errorf("only %d settings and %d states: the walk is not exhaustive any more", len(got), states)
	}
}

// TestModelLedgerWeakened weakens one rule each, in a member around the Ledger,
// and sees the table change.
func TestModelLedgerWeakened(t *testing.T) {
	// reading makes another Ledger of the same state, with another quorum and
	// with others set aside.
	reading := func(l *Ledger, q int, aside []bool) *Ledger {
		p := l.policy
		p.Quorum = q
		k := NewLedger(p)
		k.entries, k.now, k.aside = l.entries, l.now, aside
		k.voters.leave(aside)
		return k
	}
	answered := func(l *Ledger, s Subject) (who []bool, n int) {
		who = make([]bool, len(l.aside))
		for i, p := range l.entries[s].paths {
			if who[i] = len(p.shown) > 0 || p.absent || p.failed; who[i] {
				n++
			}
		}
		return who, n
	}
	for name, weak := range map[string]judge{
		"accept at q-1": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			return ledgerJudge(reading(l, max(1, l.policy.Quorum-1), l.aside), s, late)
		},
		"accept at q+1": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			r := l.Report(s)
			return r.Usable && r.Operators > l.policy.Quorum, r.Digest[0], nil
		},
		"a majority sets a minority aside": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			who, n := answered(l, s)
			aside := slices.Clone(l.aside)
			for _, d := range l.entries[s].shown(nil) {
				var lacks []int
				for i, p := range l.entries[s].paths {
					if who[i] && !slices.Contains(p.shown, d) {
						lacks = append(lacks, i)
					}
				}
				if 2*(n-len(lacks)) > n {
					for _, i := range lacks {
						aside[i] = true
					}
				}
			}
			return ledgerJudge(reading(l, l.policy.Quorum, aside), s, late)
		},
		"a dissent convicts": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			r := l.Report(s)
			convicted := make([]bool, len(r.Status))
			for i, status := range r.Status {
				convicted[i] = status == Dissented
			}
			return r.Usable, r.Digest[0], convicted
		},
		"a timeout lowers q": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			q := l.policy.Quorum
			if _, n := answered(l, s); late {
				q = max(1, min(q, n))
			}
			return ledgerJudge(reading(l, q, l.aside), s, late)
		},
		"what comes late does not count": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			r := l.Report(s)
			return r.Usable && !late, r.Digest[0], nil
		},
		"first come, first accepted": func(l *Ledger, s Subject, late bool) (bool, byte, []bool) {
			if all := l.entries[s].shown(nil); len(all) > 0 {
				first := slices.MinFunc(all, func(a, b wire.Digest) int { return bytes.Compare(a[:], b[:]) })
				return true, first[0], nil
			}
			return false, 0, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			broken := 0
			for r := 1; r <= 3; r++ {
				for bad := range r + 1 {
					rows, _ := explore(t, r, bad, weak)
					broken += len(differences(rows))
				}
			}
			if broken == 0 {
				t.Errorf("the table is T3 although %s", name)
			}
			t.Logf("%d settings are not T3", broken)
		})
	}
}
