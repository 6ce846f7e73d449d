package crossverify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

var t0 = time.Unix(1_000_000, 0)

// operators makes a policy's paths: "AAB" is three paths, two of them of A.
func operators(names string) (out []keys.OperatorPublic) {
	for _, n := range []byte(names) {
		out = append(out, keys.OperatorPublic{n})
	}
	return out
}

// play makes the calls of a script of words: path, verb, digest, such as
// "0claim1", "1opened2", "2absent", "0fail", "1aside"; "+30" lets 30 s pass.
func play(t *testing.T, l *Ledger, s Subject, script string) {
	t.Helper()
	now := t0
	for _, word := range strings.Fields(script) {
		if after, ok := strings.CutPrefix(word, "+"); ok {
			d, err := time.ParseDuration(after + "s")
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(d)
			l.Advance(now)
			continue
		}
		path, verb := Path(word[0]-'0'), word[1:]
		switch d := digest(word[len(word)-1] - '0'); strings.TrimRight(verb, "123456789") {
		case "claim":
			l.Claim(now, path, s, d)
		case "opened":
			l.Opened(now, path, s, d)
		case "absent":
			l.Absent(now, path, s)
		case "fail":
			l.Fail(now, path, s)
		case "aside":
			l.SetAside(path, true)
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
}

// brief is a report in words: verdict, digest, statuses, operators, flags.
func brief(r Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d ", r.Verdict, r.Digest[0])
	for _, s := range r.Status {
		b.WriteByte(s.String()[0])
	}
	fmt.Fprintf(&b, " %d/%d", r.Operators, r.Answered)
	for _, f := range []struct {
		on   bool
		word string
	}{{r.Settled, "settled"}, {r.Usable, "usable"}, {r.Equivocated, "equivocated"}} {
		if f.on {
			b.WriteString(" " + f.word)
		}
	}
	return b.String()
}

func TestLedgerRules(t *testing.T) {
	three := Policy{Operators: operators("ABC")}
	strict := Policy{Operators: operators("ABC"), Strict: true}
	alone := Policy{Operators: operators("A")}
	twins := Policy{Operators: operators("AAB")}
	for _, c := range []struct {
		what   string
		policy Policy
		kind   Kind
		script string
		want   string
	}{
		{"nothing known", three, Signed, "", "unconfirmed 0 aaa 0/0"},
		// Signed: one valid claim counts from whichever path; never by absence.
		{"one claim", three, Signed, "1claim1", "agreed 1 ama 1/1 usable"},
		{"absence is no argument", three, Signed, "0absent 1claim1 2absent +30", "agreed 1 sms 1/3 settled usable"},
		{"two digests: the signer", three, Signed, "0claim1 1claim2 2claim1", "contested 0 ddd 0/3 settled equivocated"},
		{"two digests on one path", three, Signed, "0claim1 0claim2", "contested 0 daa 0/1 equivocated"},
		{"two digests, one from a path set aside", three, Signed, "0aside 0claim1 1claim2", "contested 0 dda 0/1 equivocated"},
		{"a claim outweighs a failure of its path", three, Signed, "0fail 0claim1 1fail", "agreed 1 mfa 1/2 usable"},
		{"nothing but failures", three, Signed, "0fail 1fail 2fail", "unconfirmed 0 fff 0/3 settled"},
		{"Opened is Claim", three, Signed, "0opened1", "agreed 1 maa 1/1 usable"},
		{"strict does not vote on signed facts", strict, Signed, "0claim1", "agreed 1 maa 1/1 usable"},
		{"one operator", alone, Signed, "0claim1", "unconfirmed 1 m 1/1 settled usable"},

		// Open: a quorum of operators.
		{"one of three", three, Open, "0claim1", "unconfirmed 1 maa 1/1"},
		{"lag within the deadline", three, Open, "0claim1 1absent 2absent +29", "unconfirmed 1 maa 1/3"},
		{"silence after it", three, Open, "0claim1 1absent 2absent +30", "contested 1 mss 1/3 settled"},
		{"late but there", three, Open, "0claim1 1absent 2absent +30 2claim1", "agreed 1 msm 2/3 settled usable"},
		{"two of three", three, Open, "0claim1 2claim1", "agreed 1 mam 2/2 usable"},
		{"never asked is not absent", three, Open, "0claim1 1absent +90", "unconfirmed 1 msa 1/2"},
		{"failures settle it", three, Open, "0claim1 1fail 2fail", "contested 1 mff 1/3 settled"},
		{"three digests", three, Open, "0claim1 1claim2 2claim3", "contested 0 ddd 0/3 settled"},
		{"two digests, one missing", three, Open, "0claim1 1claim2", "unconfirmed 0 dda 0/2"},
		{"two digests, quorum for one", three, Open, "0claim1 1claim2 2claim1", "agreed 1 mdm 2/3 settled usable"},
		{"two quorums", Policy{Operators: operators("ABC"), Quorum: 1}, Open, "0claim1 1claim2", "contested 0 dda 0/2 equivocated"},
		{"strict needs all", strict, Open, "0claim1 1claim1", "unconfirmed 1 mma 2/2"},
		{"strict has all", strict, Open, "0claim1 1claim1 2claim1", "agreed 1 mmm 3/3 settled usable"},
		{"strict and one silent", strict, Open, "0claim1 1claim1 2absent +30", "contested 1 mms 2/3 settled"},
		{"one operator twice", twins, Open, "0claim1 1claim1", "unconfirmed 1 mma 1/1"},
		{"twins and another", twins, Open, "1claim1 2claim1", "agreed 1 amm 2/2 usable"},
		{"set aside is compared, not counted", three, Open, "0aside 0claim1 1claim1", "unconfirmed 1 mma 1/1"},
		{"set aside is not waited for", three, Open, "2aside 0claim1 1fail", "contested 1 mfa 1/2 settled"},
		{"all that are left are enough", three, Open, "1aside 2aside 0claim1", "agreed 1 maa 1/1 settled usable"},
		{"one operator, shown", alone, Open, "0claim1", "unconfirmed 1 m 1/1 settled usable"},
		{"one operator, absent", alone, Open, "0absent +30", "contested 0 s 0/1 settled"},
		{"a quorum nobody has", Policy{Operators: operators("AB"), Quorum: 9}, Open, "0claim1 1claim1", "agreed 1 mm 2/2 settled usable"},

		// Message: the opened slot fixes the digest.
		{"copies before a slot opens", three, Message, "0claim1 1claim2", "unconfirmed 0 aaa 0/2"},
		{"copies do not turn silent", three, Message, "0absent 0claim1 +30", "unconfirmed 0 aaa 0/1"},
		{"first slot opens", three, Message, "0opened1", "unconfirmed 1 maa 1/1 usable"},
		{"same digest on two", three, Message, "0opened1 2claim1", "agreed 1 mam 2/2 usable"},
		{"dissent of a majority", three, Message, "0claim2 1claim2 2opened1", "unconfirmed 1 ddm 1/3 settled usable"},
		{"spoiled slot", three, Message, "0opened1 1claim1 1fail 2absent +30", "unconfirmed 1 mfs 1/3 settled usable"},
		{"opened after a spoiled copy", three, Message, "0fail 0opened1", "unconfirmed 1 maa 1/1 usable"},
		{"nothing opens", three, Message, "0claim1 0fail 1fail 2fail", "unconfirmed 0 fff 0/3 settled"},
		{"two opened: the sender", three, Message, "0opened1 1opened2 2claim1", "contested 0 ddd 0/3 settled equivocated"},
		{"strict holds it", strict, Message, "0opened1 1claim1", "unconfirmed 1 mma 2/2"},
		{"strict has all", strict, Message, "0opened1 1claim1 2claim1", "agreed 1 mmm 3/3 settled usable"},
		{"one operator", alone, Message, "0opened1", "unconfirmed 1 m 1/1 settled usable"},
		{"a path that does not exist", three, Message, "7opened1 0claim1", "unconfirmed 0 aaa 0/1"},
	} {
		l := NewLedger(c.policy)
		s := Subject{Kind: c.kind, ID: digest(9), N: 4}
		play(t, l, s, c.script)
		if got := brief(l.Report(s)); got != c.want {
			t.Errorf("%s %s (%s):\n got %s\nwant %s", c.kind, c.what, c.script, got, c.want)
		}
	}
}

func TestNeeded(t *testing.T) {
	for _, c := range []struct {
		operators string
		quorum    int
		strict    bool
		want      int
	}{
		{"A", 0, false, 1}, {"AB", 0, false, 2}, {"ABC", 0, false, 2}, {"ABCD", 0, false, 3}, {"ABCDE", 0, false, 3},
		{"AAB", 0, false, 2}, {"AAA", 0, false, 1}, {"ABC", 1, false, 1}, {"ABC", 3, false, 3}, {"ABC", 7, false, 3},
		{"ABC", 1, true, 3}, {"AAB", 0, true, 2},
	} {
		p := Policy{Operators: operators(c.operators), Quorum: c.quorum, Strict: c.strict}
		if got := p.Needed(); got != c.want {
			t.Errorf("%+v: needed %d", c, got)
		}
	}
}

// event is one call with its time.
type event struct {
	at      time.Time
	verb    int
	path    Path
	subject Subject
	digest  wire.Digest
}

func (e event) do(l *Ledger) {
	switch e.verb {
	case 0:
		l.Claim(e.at, e.path, e.subject, e.digest)
	case 1:
		l.Opened(e.at, e.path, e.subject, e.digest)
	case 2:
		l.Absent(e.at, e.path, e.subject)
	case 3:
		l.Fail(e.at, e.path, e.subject)
	}
}

func drawEvents(t *rapid.T) []event {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
		return event{
			at:   t0.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "second")) * time.Second),
			verb: rapid.IntRange(0, 3).Draw(t, "verb"),
			path: Path(rapid.IntRange(0, 3).Draw(t, "path")),
			subject: Subject{
				Kind: Kind(rapid.IntRange(1, 3).Draw(t, "kind")),
				N:    rapid.Uint64Range(0, 1).Draw(t, "n"),
			},
			digest: digest(byte(rapid.IntRange(1, 7).Draw(t, "digest"))),
		}
	}), 0, 40).Draw(t, "events")
}

func drawPolicy(t *rapid.T) Policy {
	p := Policy{
		Operators: operators(rapid.SampledFrom([]string{"A", "AB", "ABC", "AAB", "ABCD", "AABB"}).Draw(t, "operators")),
		Quorum:    rapid.IntRange(0, 4).Draw(t, "quorum"),
		Strict:    rapid.Bool().Draw(t, "strict"),
		Families:  make([]Family, rapid.IntRange(0, 2).Draw(t, "families")),
		Rule:      rapid.SampledFrom([]*Rule{nil, nil, testRule}).Draw(t, "rule"),
	}
	for i := range p.Families {
		p.Families[i] = Family{byte(rapid.IntRange(0, 1).Draw(t, "family"))}
	}
	return p
}

var subjects = func() (out []Subject) {
	for k := Signed; k <= Message; k++ {
		out = append(out, Subject{Kind: k}, Subject{Kind: k, N: 1})
	}
	return out
}()

// Any order and repetition of the same calls gives the same reports: claims of
// every kind of subject, deadlines let pass in between, paths set aside, and
// deadlines given to paths.
func TestLedgerOrder(t *testing.T) {
	key := relayKey(1)
	statement := SignStatement(key, testChannel, lineage(1, 1), 3, digest(1), digest(2), digest(3))
	head, _ := statement.Claim()
	subjects := []Subject{
		Envelope(wire.Seat{1}, wire.Incarnation{1}, 1), Envelope(wire.Seat{1}, wire.Incarnation{2}, 1),
		Admission(digest(5)), Announcement(wire.Seat{1}, 1), Announcement(wire.Seat{1}, 2),
		Operation(wire.Seat{1}, 1), head,
	}
	type call struct {
		event
		aside, advance bool
	}
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		own := make([]time.Duration, len(policy.Operators))
		for i := range own {
			own[i] = time.Duration(rapid.IntRange(0, 60).Draw(t, "own deadline")) * time.Second
		}
		end := t0.Add(time.Duration(rapid.IntRange(60, 120).Draw(t, "end")) * time.Second)
		first, n := rapid.IntRange(0, len(subjects)-1).Draw(t, "first subject"), rapid.IntRange(0, 40).Draw(t, "number of calls")
		about := subjects[first:rapid.IntRange(first+1, len(subjects)).Draw(t, "end of subjects")] // few: many calls for each
		paths := rapid.IntRange(0, 3).Draw(t, "paths")
		calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) call {
			return call{
				event: event{
					at:      t0.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "second")) * time.Second),
					verb:    rapid.IntRange(0, 3).Draw(t, "verb"),
					path:    Path(rapid.IntRange(0, paths).Draw(t, "path")),
					subject: rapid.SampledFrom(about).Draw(t, "subject"),
					digest:  digest(byte(rapid.IntRange(1, 7).Draw(t, "digest"))),
				},
				aside:   rapid.IntRange(0, 19).Draw(t, "aside") == 0,
				advance: rapid.IntRange(0, 9).Draw(t, "advance") == 0,
			}
		}), n, n).Draw(t, "calls")
		run := func(calls []call, early bool) *Ledger {
			l := NewLedger(policy)
			give := func() {
				for i, d := range own {
					if d > 0 {
						l.SetDeadline(Path(i), d)
					}
				}
			}
			if early {
				give()
			}
			for _, c := range calls {
				switch {
				case c.aside:
					l.SetAside(c.path, true)
				case c.advance:
					l.Advance(c.at)
				default:
					c.do(l)
				}
			}
			give()
			l.Advance(end)
			return l
		}
		same := func(what string, one, two *Ledger) {
			for _, s := range subjects {
				a, b := one.Report(s), two.Report(s)
				if !a.equal(&b) {
					t.Fatalf("%s: %v:\n%s\nbefore\n%s", what, s, brief(b), brief(a))
				}
			}
		}
		one := run(calls, false)
		other := slices.Clone(calls)
		for range rapid.IntRange(0, 5).Draw(t, "again") {
			if len(calls) > 0 {
				other = append(other, rapid.SampledFrom(calls).Draw(t, "repeated"))
			}
		}
		other = rapid.Permutation(other).Draw(t, "order")
		same("another order", one, run(other, true))
		same("all of it twice", one, run(slices.Concat(other, calls), false))
		before := one.Report(subjects[0])
		for _, c := range calls {
			if !c.aside && !c.advance {
				c.do(one)
			}
		}
		after := one.Report(subjects[0])
		if changed := one.Advance(end); changed != nil || !after.equal(&before) {
			t.Fatalf("%v changed by what was known", changed)
		}
	})
}

// testRule asks for A, and one of B and C.
var testRule = func() *Rule {
	text := "parallax policy 1\n"
	for _, name := range "ABC" {
		text += fmt.Sprintf("operator %c %s\n", name, keys.OperatorPublic{byte(name)})
	}
	r, err := ParseRule(text + "group other any B C\ngroup both all A other\nquorum both\n")
	if err != nil {
		panic(err)
	}
	return r
}()

// Advance lists exactly the subjects whose report changed, in order; Next is
// when one changes by itself.
func TestLedgerAdvance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLedger(drawPolicy(t))
		events := drawEvents(t)
		slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
		seen := map[Subject]Report{}
		look := func(now time.Time) {
			listed := l.Advance(now)
			if !slices.IsSortedFunc(listed, Subject.compare) {
				t.Fatal("Advance is not in order")
			}
			for _, s := range subjects {
				r := l.Report(s)
				old, known := seen[s]
				changed := l.entries[s] != nil && (!known || !r.equal(&old))
				if slices.Contains(listed, s) != changed {
					t.Fatalf("%v listed: %v, changed: %v: %s, was %s", s, !changed, changed, brief(r), brief(old))
				}
				if l.entries[s] != nil {
					seen[s] = r
				}
			}
		}
		for _, e := range events {
			for next := l.Next(); !next.IsZero() && !next.After(e.at); next = l.Next() {
				look(next.Add(-1))
				before := len(seen)
				look(next)
				if len(seen) != before {
					t.Fatal("a deadline made a subject")
				}
			}
			e.do(l)
			if rapid.Bool().Draw(t, "look") {
				look(e.at)
			}
		}
		look(t0.Add(time.Hour))
		if next := l.Next(); !next.IsZero() {
			t.Fatalf("a deadline is left after all have passed: %v", next)
		}
		if again := l.Advance(t0.Add(2 * time.Hour)); again != nil {
			t.Fatalf("%v changed though nothing happened", again)
		}
	})
}

func TestNext(t *testing.T) {
	l := NewLedger(Policy{Operators: operators("AB"), Deadline: 3 * time.Second})
	s := Subject{Kind: Open}
	l.Claim(t0, 0, s, digest(1))
	if !l.Next().IsZero() {
		t.Error("a deadline though nobody lacks anything")
	}
	l.Absent(t0.Add(time.Second), 1, s)
	if got := l.Next(); !got.Equal(t0.Add(3 * time.Second)) {
		t.Errorf("Next is %v after the subject was first known, want 3 s", got.Sub(t0))
	}
	l.Advance(t0.Add(2 * time.Second))
	if got := l.Advance(l.Next()); !slices.Equal(got, []Subject{s}) || l.Report(s).Status[1] != Silent {
		t.Errorf("after the deadline: %v, %s", got, brief(l.Report(s)))
	}
	l.Forget(s)
	if l.Len() != 0 || !l.Next().IsZero() || brief(l.Report(s)) != "unconfirmed 0 aa 0/0" {
		t.Error("a forgotten subject is still there")
	}
}

// A path may have a deadline of its own, and a past deadline is not lost when
// another call moved the time.
func TestSetDeadline(t *testing.T) {
	l := NewLedger(Policy{Operators: operators("ABC")})
	s := Envelope(wire.Seat{1}, wire.Incarnation{}, 1)
	fact := Admission(digest(3))
	l.Claim(t0, 0, fact, digest(3))
	l.Absent(t0, 1, fact)
	l.SetDeadline(1, 5*time.Second)
	l.SetDeadline(9, time.Second)
	l.Opened(t0, 0, s, digest(1))
	l.Absent(t0, 1, s)
	l.Absent(t0, 2, s)
	l.Advance(t0)
	steps := []struct {
		second     int
		want, fact string // a fact has the policy's deadline at least
	}{{5, "unconfirmed 1 msa 1/3 usable", "unconfirmed 3 maa 1/2"}, {30, "unconfirmed 1 mss 1/3 settled usable", "unconfirmed 3 msa 1/2"}}
	for _, step := range steps {
		at := t0.Add(time.Duration(step.second) * time.Second)
		if next := l.Next(); !next.Equal(at) {
			t.Errorf("next is %v, want %d s", next.Sub(t0), step.second)
		}
		l.Claim(at.Add(time.Millisecond), 0, Admission(digest(2)), digest(2)) // the time moves, nobody looked
		if next := l.Next(); !next.Equal(at) {
			t.Errorf("a deadline that passed unseen was lost: %v", next)
		}
		if changed := l.Advance(at.Add(time.Millisecond)); !slices.Contains(changed, s) || brief(l.Report(s)) != step.want || brief(l.Report(fact)) != step.fact {
			t.Errorf("after %d s: %v, %s, fact %s", step.second, changed, brief(l.Report(s)), brief(l.Report(fact)))
		}
	}
	l.SetDeadline(2, time.Minute) // what was silent is waited for again
	if got := brief(l.Report(s)); got != steps[0].want || !l.Next().Equal(t0.Add(time.Minute)) {
		t.Errorf("after a longer deadline: %s, next %v", got, l.Next())
	}
}

// What Report said before a restart is what it says after Restore. Answered
// is not kept for paths that lag, and an Open fact with two quorums waits for
// its claims again.
func TestRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		l := NewLedger(policy)
		for _, e := range drawEvents(t) {
			e.do(l)
		}
		l.Advance(t0.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "end")) * time.Second))
		back := NewLedger(policy)
		for _, s := range subjects {
			r := l.Report(s)
			back.Restore(s, r.Digest, r.Status, 0)
			got := back.Report(s)
			got.Answered = r.Answered
			if s.Kind == Open && r.Equivocated {
				if got.Usable || !slices.Equal(got.Status, r.Status) {
					t.Fatalf("%v:\n%s\nrestored as\n%s", s, brief(r), brief(got))
				}
				continue
			}
			if !got.equal(&r) {
				t.Fatalf("%v:\n%s\nrestored as\n%s", s, brief(r), brief(got))
			}
		}
		if changed := back.Advance(t0); changed != nil {
			t.Fatalf("%v changed by being restored", changed)
		}
	})
}

// The oldest settled messages leave first; then, of what too few show, the
// flooding operator's own; then other messages and facts, the oldest first.
func TestLedgerFull(t *testing.T) {
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Millisecond) }
	full := func(names string) *Ledger {
		l := NewLedger(Policy{Operators: operators(names)})
		l.max = 64
		return l
	}
	known := func(l *Ledger, s Subject) bool { _, ok := l.entries[s]; return ok }

	l := full("AB")
	for i := range 16 {
		l.Claim(at(i), 0, Announcement(wire.Seat{}, uint64(i)), digest(1))
	}
	for i := range 1000 {
		s := Envelope(wire.Seat{}, wire.Incarnation{}, uint64(i))
		l.Opened(at(100+i), 0, s, digest(1))
		if i != 7 { // never settled
			l.Claim(at(100+i), 1, s, digest(1))
		}
		l.Advance(at(100 + i))
		if l.Len() > 64 || !known(l, s) {
			t.Fatalf("%d subjects, at most 64; the newest is among them: %v", l.Len(), known(l, s))
		}
	}
	var facts, messages []uint64
	for s := range l.entries {
		if s.Kind == Signed {
			facts = append(facts, s.N)
		} else {
			messages = append(messages, s.N)
		}
	}
	slices.SortFunc(messages, cmp.Compare[uint64])
	if len(facts) != 16 || messages[0] != 7 || messages[1] < 900 {
		t.Errorf("%d of 16 facts are left; the oldest messages are %v", len(facts), messages[:2])
	}

	// Two of five relays flood with what both show; three is the quorum. One
	// more relay, honest, alone shows the newest admission so far, and the
	// liars, who saw it, show it too.
	l = full("ABCDE")
	agreed, lone, copied, message := Admission(digest(1)), Admission(digest(2)), Admission(digest(3)), Envelope(wire.Seat{}, wire.Incarnation{}, 1)
	for p := range Path(3) {
		l.Claim(at(0), p, agreed, digest(1))
	}
	l.Claim(at(1), 0, lone, digest(2))
	l.Claim(at(2), 0, copied, digest(3))
	l.Opened(at(2), 0, message, digest(3))
	for i := range 10_000 {
		junk := Admission(wire.Digest{0xff, byte(i >> 8), byte(i)})
		l.Claim(at(3+i), 3, junk, junk.ID)
		l.Claim(at(3+i), 4, junk, junk.ID)
		l.Claim(at(3+i), 3, copied, digest(3))
		l.Opened(at(3+i), 4, message, digest(3))
		l.Fail(at(3+i), 3, Envelope(wire.Seat{9}, wire.Incarnation{}, uint64(i)))
		l.Absent(at(3+i), 4, Admission(wire.Digest{0xfe, byte(i >> 8), byte(i)}))
	}
	for name, s := range map[string]Subject{"agreed": agreed, "shown by one": lone, "copied by a liar": copied, "a message": message} {
		if !known(l, s) {
			t.Errorf("a flood pushed out what was %s", name)
		}
	}
	if l.Len() > 64 {
		t.Errorf("%d subjects, at most 64", l.Len())
	}

	// Nothing but facts that enough show: the oldest leave.
	l = full("A")
	for i := range 100 {
		l.Claim(at(i), 0, Announcement(wire.Seat{}, uint64(i)), digest(1))
	}
	if l.Len() > 64 || !known(l, Announcement(wire.Seat{}, 99)) || known(l, Announcement(wire.Seat{}, 0)) {
		t.Error("among facts the oldest do not leave first")
	}
}

// Memory is bounded per subject and for deadlines of subjects that left.
func TestLedgerFlood(t *testing.T) {
	l := NewLedger(Policy{Operators: operators("AB")})
	l.max = 64
	s := Subject{Kind: Open}
	for i := range 100 {
		l.Claim(t0, 0, s, digest(byte(i)))
	}
	back := NewLedger(l.policy)
	for i := range 100 {
		back.Claim(t0, 0, s, digest(byte(99-i)))
	}
	if !sameHeard(l, back) {
		t.Error("which digests of a flood are kept depends on their order")
	}
	if n := len(l.entries[s].paths[0].shown); n != MaxShown {
		t.Errorf("%d digests of one path are kept, want %d", n, MaxShown)
	}
	for i := range 10_000 {
		l.Absent(t0.Add(time.Duration(i)), 0, Subject{Kind: Message, N: uint64(i)})
	}
	if len(l.due) > 2*l.max || l.Len() > l.max {
		t.Errorf("%d deadlines and %d subjects, at most %d and %d", len(l.due), l.Len(), 2*l.max, l.max)
	}
	if next := l.Next(); next.IsZero() {
		t.Error("deadlines of subjects that stayed were lost")
	}
}

func BenchmarkLedger(b *testing.B) {
	l := NewLedger(Policy{Operators: operators("ABC")})
	for i := uint64(0); b.Loop(); i++ {
		s := Subject{Kind: Message, N: i}
		now := t0.Add(time.Duration(i))
		l.Opened(now, 0, s, digest(1))
		l.Claim(now, 1, s, digest(1))
		l.Claim(now, 2, s, digest(1))
		l.Advance(now)
	}
}
