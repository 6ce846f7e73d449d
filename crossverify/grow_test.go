package crossverify

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

// Paths that came and paths that are outside, as tables.
func TestGrow(t *testing.T) {
	before := Policy{Operators: operators("ABC"), Deadline: 30 * time.Second}
	replaced := Policy{Operators: operators("ABCD"), Outside: []bool{false, true}, Deadline: 30 * time.Second}
	fact, message := Subject{Kind: Open}, Subject{Kind: Message}
	for _, c := range []struct {
		what          string
		s             Subject
		first         string
		policy        Policy
		then          string
		want, settled string
	}{
		{"a path that is outside counts no more", fact, "0claim1 1claim1", replaced, "", "unconfirmed 1 mmaa 1/1", ""},
		{"a path that came counts", fact, "0claim1 1claim1", replaced, "3claim1", "agreed 1 mmam 2/2 usable", ""},
		{"and is waited for", fact, "0claim1 2claim1", replaced, "1absent +30", "agreed 1 msma 2/2 usable", ""},
		{"a quorum on paths that are outside is none", fact, "1claim2", replaced, "0claim1 3claim1", "agreed 1 mdam 2/2 usable", ""},
		{"strict: all of the new list", fact, "0claim1 1claim1", Policy{Operators: operators("ABCD"), Outside: []bool{false, true}, Strict: true}, "2claim1 3claim1", "agreed 1 mmmm 3/3 settled usable", ""},
		{"a shorter list leaves paths outside", fact, "0claim1 2claim1", Policy{Operators: operators("AB")}, "1claim1", "agreed 1 mmm 2/2 settled usable", ""},
		{"only one operator is left inside", fact, "0claim1", Policy{Operators: operators("ABC"), Outside: []bool{false, true, true}}, "", "unconfirmed 1 maa 1/1 settled usable", ""},
		{"twins, one of them outside", fact, "0claim1", Policy{Operators: operators("ABCA"), Outside: []bool{true}}, "3claim1 2claim1", "agreed 1 mamm 2/2 usable", ""},
		{"a message stays with its list", message, "0opened1 1claim1", replaced, "", "agreed 1 mmaa 2/2 usable", ""},
		{"and does not wait for a path that came", message, "0opened1 1claim1", replaced, "2claim1 3absent +30", "agreed 1 mmms 3/3 settled usable", ""},
		{"a later message counts by the new list", message, "", replaced, "0opened1 1claim1", "unconfirmed 1 mmaa 1/1 usable", ""},
		{"a signed fact counts from wherever it comes", Subject{Kind: Signed}, "", replaced, "1claim1", "agreed 1 amaa 0/0 usable", ""},
	} {
		l := NewLedger(before)
		play(t, l, c.s, c.first)
		l.SetPolicy(c.policy)
		play(t, l, c.s, c.then)
		if got := brief(l.Report(c.s)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// What is known before a policy comes is listed by the next Advance, and an equal
// policy is no new one.
func TestGrowListed(t *testing.T) {
	l := NewLedger(Policy{Operators: operators("ABC")})
	s := Subject{Kind: Open}
	play(t, l, s, "0claim1 1claim1")
	l.Advance(t0)
	next := Policy{Operators: operators("ABCD"), Outside: []bool{false, true}, Deadline: 5 * time.Second}
	l.SetPolicy(next)
	if got := l.Advance(t0); !slices.Equal(got, []Subject{s}) {
		t.Errorf("after another policy %v changed", got)
	}
	l.Absent(t0, 3, s)
	if at := l.Next(); !at.Equal(t0.Add(5 * time.Second)) {
		t.Errorf("the new policy's deadline is not in force: next is %v", at.Sub(t0))
	}
	l.SetDeadline(3, 9*time.Second)
	next.Outside = []bool{false, true, false, false}
	l.SetPolicy(next)
	if l.Era() != 1 {
		t.Errorf("an equal policy began era %d", l.Era())
	}
	next.Operators = operators("ABCDE")
	next.Outside = []bool{false, true, false, false, true}
	l.SetPolicy(next)
	if l.Era() != 1 || len(l.Report(s).Status) != 5 {
		t.Errorf("a path that does not count began era %d, statuses %v", l.Era(), l.Report(s).Status)
	}
	next.Deadline = 7 * time.Second
	l.SetPolicy(next)
	if l.deadline[3] != 9*time.Second || l.deadline[0] != 7*time.Second {
		t.Errorf("deadlines %v: a path's own stays, the others are the policy's", l.deadline)
	}
}

// Of many policies the oldest are forgotten; their messages count by the oldest
// that is kept.
func TestGrowEras(t *testing.T) {
	policy := Policy{Operators: operators("ABC")}
	l := NewLedger(policy)
	old := Subject{Kind: Message}
	play(t, l, old, "0opened1 1claim1")
	for i := range 2 * MaxPolicies {
		policy.Outside = []bool{false, i%2 == 0, i%2 == 1}
		l.SetPolicy(policy)
	}
	if len(l.former) != MaxPolicies-1 || l.Era() != 2*MaxPolicies {
		t.Fatalf("%d policies kept besides the newest, era %d", len(l.former), l.Era())
	}
	if got, want := brief(l.Report(old)), "unconfirmed 1 mma 1/1 usable"; !l.former[0].outside[1] || got != want {
		t.Errorf("oldest is %v, the message %s, want %s", l.former[0].outside, got, want)
	}
	late := Subject{Kind: Message, N: 1}
	l.Restore(late, digest(1), []Status{Matched, Silent, Matched}, 2*MaxPolicies-1)
	if got := brief(l.Report(late)); got != "agreed 1 msm 2/2 settled usable" {
		t.Errorf("restored into its era: %s", got)
	}
	l.Restore(late, digest(1), []Status{Matched, Silent, Matched}, 1<<30)
	if got := brief(l.Report(late)); got != "unconfirmed 1 msm 1/2 settled usable" {
		t.Errorf("restored into the newest era: %s", got)
	}
}

func drawGrown(t *rapid.T) (small, large Policy) {
	small = drawPolicy(t)
	large = small
	large.Operators = slices.Concat(small.Operators, operators(rapid.SampledFrom([]string{"", "A", "D", "EF", "DA"}).Draw(t, "more operators")))
	large.Outside = rapid.SliceOfN(rapid.Bool(), 0, len(large.Operators)).Draw(t, "outside")
	large.Quorum, large.Strict = rapid.IntRange(0, 4).Draw(t, "later quorum"), rapid.Bool().Draw(t, "later strict")
	return small, large
}

// frees tells whether a message of a strict time is held no more: the later policy
// holds nothing, or every operator of the path that still counts has it, and one
// does.
func frees(small, large Policy, l *Ledger, r Report) bool {
	if !small.Strict || r.Digest == (wire.Digest{}) {
		return false
	}
	if !large.Strict {
		return true
	}
	matched, counts := map[int]bool{}, map[int]bool{}
	for i, class := range small.classes() {
		if small.outside(i) || l.aside[i] {
			continue
		}
		matched[class] = matched[class] || r.Status[i] == Matched
		counts[class] = counts[class] || !large.outside(i)
	}
	one := false
	for class, is := range counts {
		if is && !matched[class] {
			return false
		}
		one = one || is
	}
	return one
}

// It does not matter when a ledger grew, before or after what its old paths said,
// in whatever order: all facts count by the newest policy, and a message by the
// one in force when it was first known.
func TestGrowOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small, large := drawGrown(t)
		var before, after []event
		for _, e := range drawEvents(t) {
			if int(e.path) < len(small.Operators) && rapid.Bool().Draw(t, "before") {
				before = append(before, e)
			} else {
				e.path = Path(rapid.IntRange(0, len(large.Operators)).Draw(t, "any path"))
				after = append(after, e)
			}
		}
		end := t0.Add(2 * time.Minute)
		run := func(at int, calls []event) *Ledger {
			l := NewLedger(small)
			for i, e := range calls {
				if i == at {
					l.SetPolicy(large)
				}
				e.do(l)
			}
			if at >= len(calls) {
				l.SetPolicy(large)
			}
			l.Advance(end)
			return l
		}
		late := run(len(before), slices.Concat(rapid.Permutation(before).Draw(t, "order before"), rapid.Permutation(after).Draw(t, "order after")))
		early := run(0, rapid.Permutation(slices.Concat(before, after)).Draw(t, "one order"))
		known := map[Subject]bool{}
		for _, e := range before {
			known[e.subject] = true
		}
		only := NewLedger(small) // never grew
		for _, e := range slices.Concat(before, after) {
			if int(e.path) < len(small.Operators) {
				e.do(only)
			}
		}
		only.Advance(end)
		for _, s := range subjects {
			a, b := late.Report(s), early.Report(s)
			if s.Kind == Message && known[s] {
				if !slices.Equal(a.Status, b.Status) || a.Digest != b.Digest {
					t.Fatalf("%v: statuses %s, %s", s, brief(a), brief(b))
				}
				// Who is not of its time says nothing about it, unless it opened there.
				if o := only.Report(s); a.Digest == o.Digest && a.Equivocated == o.Equivocated &&
					(a.Verdict != o.Verdict || a.Operators != o.Operators || a.Settled != o.Settled || a.Usable != (o.Usable || frees(small, large, late, a))) {
					t.Fatalf("%v grew into %s, was %s", s, brief(a), brief(o))
				}
				continue
			}
			if !a.equal(&b) {
				t.Fatalf("%v: grown late %s, early %s", s, brief(a), brief(b))
			}
		}
	})
}

// Open facts are judged as if the paths outside were not there.
func TestOutside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, policy := drawGrown(t)
		inside := policy
		inside.Operators, inside.Families, inside.Outside = nil, nil, nil
		place := map[Path]Path{}
		for i, o := range policy.Operators {
			if !policy.outside(i) {
				place[Path(i)] = Path(len(inside.Operators))
				inside.Operators = append(inside.Operators, o)
				var f Family
				if i < len(policy.Families) {
					f = policy.Families[i]
				}
				inside.Families = append(inside.Families, f)
			}
		}
		// A path outside may join two that are inside into one class: its operator
		// is of a family. Declarations are the operators' own word, so it stays.
		policy.Families = policy.Families[:min(len(policy.Families), len(policy.Operators))]
		if !slices.Equal(classSizes(policy), classSizes(inside)) {
			t.Skip("families over a path outside")
		}
		a, b := NewLedger(policy), NewLedger(inside)
		for _, e := range drawEvents(t) {
			e.subject.Kind = Open
			e.do(a)
			if at, ok := place[e.path]; ok {
				e.path = at
				e.do(b)
			}
		}
		for _, l := range []*Ledger{a, b} {
			l.SetAside(0, false)
			l.Advance(t0.Add(2 * time.Minute))
		}
		if policy.Distinct() != inside.Distinct() || policy.Needed() != inside.Needed() {
			t.Fatalf("needs %d of %d, without those outside %d of %d", policy.Needed(), policy.Distinct(), inside.Needed(), inside.Distinct())
		}
		for _, s := range subjects {
			if s.Kind != Open {
				continue
			}
			x, y := a.Report(s), b.Report(s)
			if len(a.entries) == len(b.entries) && (x.Verdict != y.Verdict || x.Operators != y.Operators || x.Answered != y.Answered ||
				x.Settled != y.Settled || x.Usable != y.Usable || x.Equivocated != y.Equivocated) {
				t.Fatalf("%v: %s, without those outside %s", s, brief(x), brief(y))
			}
		}
	})
}

// classSizes are how many inside paths each class has, in order.
func classSizes(p Policy) (sizes []int) {
	by := map[int]int{}
	for i, c := range p.classes() {
		if !p.outside(i) {
			by[c]++
		}
	}
	for _, n := range by {
		sizes = append(sizes, n)
	}
	slices.Sort(sizes)
	return sizes
}

// What a ledger reports is restored into the era of each message.
func TestRestoreGrown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small, large := drawGrown(t)
		l, back := NewLedger(small), NewLedger(small)
		era := map[Subject]int{}
		events := drawEvents(t)
		at := rapid.IntRange(0, len(events)).Draw(t, "grown at")
		for i, e := range events {
			if i == at {
				l.SetPolicy(large)
			}
			if _, known := era[e.subject]; !known && int(e.path) < len(l.aside) {
				era[e.subject] = l.Era()
			}
			e.do(l)
		}
		l.SetPolicy(large)
		back.SetPolicy(large)
		l.Advance(t0.Add(2 * time.Minute))
		for _, s := range subjects {
			r := l.Report(s)
			if s.Kind == Open && r.Equivocated || l.entries[s] == nil {
				continue
			}
			back.Restore(s, r.Digest, r.Status, era[s])
			got := back.Report(s)
			got.Answered = r.Answered
			if !got.equal(&r) {
				t.Fatalf("%v:\n%s\nrestored as\n%s", s, brief(r), brief(got))
			}
		}
	})
}

// A policy with a path that does not count has no coalitions of its own.
func TestCoalitionOutside(t *testing.T) {
	p := Policy{Operators: operators("ABC"), Outside: []bool{false, true}}
	if _, err := Coalition(p, 2, nil, []Goal{Fool}); err == nil {
		t.Error("computed with a path that does not count")
	}
}

// BenchmarkSetPolicy is a relay replaced while the ledger is full.
func BenchmarkSetPolicy(b *testing.B) {
	l := NewLedger(Policy{Operators: operators("ABC")})
	for i := range MaxSubjects {
		l.Opened(t0, Path(i%3), Envelope(wire.Seat{byte(i)}, wire.Incarnation{}, uint64(i)), digest(1))
	}
	policy := Policy{Operators: operators("ABCD"), Outside: []bool{false, true}}
	for b.Loop() {
		policy.Outside[1] = !policy.Outside[1]
		l.SetPolicy(policy)
	}
}
