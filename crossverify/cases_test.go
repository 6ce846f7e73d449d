package crossverify

import (
	"fmt"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// What testdata/evidence.pml proves of a model, small cases show of the code:
// every short run of an honest relay, and every pair of short logs of a liar.

var entryName = digest(0x50)

func write(version uint64) Leaf { return Leaf{entryName, version, digest(byte(0x50 + version))} }

// life is a relay's log in one lineage, with everything it signed.
type life struct {
	lineage wire.Lineage
	n       uint64
	h       wire.Digest
	board   *Tree
}

// signed is a statement with what a member who has it can compute.
type signed struct {
	Statement
	leaf  Leaf // zero: no board write
	board *Tree
}

func begin(key keys.RelayPrivate, l wire.Lineage, board *Tree) life {
	return life{l, 0, ChainStart(key.Public(), testChannel, l), board.Clone()}
}

// accept appends entry d: a bundle, or a write of leaf.
func (l *life) accept(key keys.RelayPrivate, d wire.Digest, leaf Leaf) signed {
	l.board = l.board.Clone()
	if leaf != (Leaf{}) {
		d = BoardDigest(leaf.Name, leaf.Version, leaf.Value)
		l.board.Put(leaf)
	}
	l.n++
	l.h = ChainNext(l.h, l.n, d, l.board.Root())
	return signed{SignStatement(key, testChannel, l.lineage, l.n, d, l.h, l.board.Root()), leaf, l.board}
}

// conflict looks for evidence of any form between two statements.
func conflict(a, b signed) (Evidence, bool) {
	if e, found := FindFork(a.Statement, b.Statement); found {
		return e, true
	}
	if e, found := FindForgotten(a.Statement, a.leaf, b.Statement, b.board.Prove(a.leaf.Name)); found {
		return e, true
	}
	return FindForgotten(b.Statement, b.leaf, a.Statement, a.board.Prove(b.leaf.Name))
}

// honestRun is one run of an honest relay: what it is, and what members have.
type honestRun struct {
	now, backup life
	drawn       byte
	out         []signed
	answers     []Opened
}

// TestHonestNeverConvicted walks every run of up to 5 steps of an honest
// relay: bundle, board write, backup, restore, and Open with each statement
// shown that it ever signed. No two of its signatures contradict.
func TestHonestNeverConvicted(t *testing.T) {
	key := relayKey(1)
	first := begin(key, lineage(1, 1), new(Tree))
	runs, pairs := 0, 0
	var walk func(r honestRun, left int, trace string)
	add := func(r honestRun, s signed, trace string) honestRun {
		for _, old := range r.out {
			pairs++
			if e, found := conflict(old, s); found {
				t.Fatalf("%s: an honest relay convicted:\n%s", trace, e.Text())
			}
		}
		r.out = append(r.out[:len(r.out):len(r.out)], s)
		for _, o := range r.answers {
			if _, found := FindAnswer(s.Statement, o); found {
				t.Fatalf("%s: convicted by an answer to something else", trace)
			}
		}
		return r
	}
	walk = func(r honestRun, left int, trace string) {
		runs++
		if left == 0 {
			return
		}
		b := r
		b.backup = r.now
		walk(b, left-1, trace+" backup")

		m := r
		m = add(m, m.now.accept(key, digest(byte(left)), Leaf{}), trace+" bundle")
		walk(m, left-1, trace+" bundle")

		w := r
		newest, _ := w.now.board.Get(entryName)
		w = add(w, w.now.accept(key, wire.Digest{}, write(newest.Version+1)), trace+" write")
		walk(w, left-1, trace+" write")

		back := r
		back.drawn++
		back.now = begin(key, lineage(r.backup.lineage.Ordinal()+1, back.drawn), r.backup.board)
		walk(back, left-1, trace+" restore")

		for i := -1; i < len(r.out); i++ {
			o := r
			var shown Statement
			var at Position
			if i >= 0 {
				shown = r.out[i].Statement
				at = shown.Position()
			}
			// What it cannot continue ends its life before it signs again.
			is := &o.now
			if was := at.Lineage.Ordinal(); was > is.lineage.Ordinal() ||
				was == is.lineage.Ordinal() && at.Lineage != is.lineage ||
				at.Lineage == is.lineage && at.N > is.n {
				o.drawn++
				o.now = begin(key, lineage(was+1, o.drawn), is.board)
			}
			answer := SignOpened(key, testChannel, [32]byte{byte(left)}, at, is.lineage, is.n, is.h)
			for _, s := range o.out {
				if e, found := FindAnswer(s.Statement, answer); found {
					t.Fatalf("%s open %d: an honest relay convicted:\n%s", trace, i, e.Text())
				}
			}
			o.answers = append(o.answers[:len(o.answers):len(o.answers)], answer)
			walk(o, left-1, fmt.Sprintf("%s open %d", trace, i))
		}
	}
	walk(honestRun{now: first, backup: first, drawn: 1}, 5, "")
	if runs < 7000 || pairs < 3500 {
		t.Errorf("only %d runs and %d pairs: the walk is not exhaustive any more", runs, pairs)
	}
}

// TestLiarConvicted takes every pair of logs of up to 3 entries that a relay
// can show to two members in one lineage: from the first number that differs
// on, any two statements of one number convict it, and a member who has a
// receipt convicts it by any later root that lacks the entry.
func TestLiarConvicted(t *testing.T) {
	key := relayKey(1)
	var logs [][]signed
	var extend func(l life, log []signed)
	extend = func(l life, log []signed) {
		logs = append(logs, log)
		if len(log) == 3 {
			return
		}
		for kind := range 4 {
			next := l
			var s signed
			switch kind {
			case 0, 1: // two bundles
				s = next.accept(key, digest(byte(1+kind)), Leaf{})
			case 2: // a board write
				s = next.accept(key, wire.Digest{}, write(uint64(len(log)+1)))
			case 3: // a board write that the board does not show
				lost := write(uint64(len(log) + 1))
				s = next.accept(key, BoardDigest(lost.Name, lost.Version, lost.Value), Leaf{})
				s.leaf = lost
			}
			extend(next, append(log[:len(log):len(log)], s))
		}
	}
	extend(begin(key, lineage(1, 1), new(Tree)), nil)
	convicted := 0
	convicts := func(e Evidence, found bool, what string, a, b signed) {
		if !found {
			t.Fatalf("%s at %d and %d does not convict", what, a.N, b.N)
		}
		if _, err := e.Check(remembered); err != nil {
			t.Fatalf("%s at %d and %d: %v", what, a.N, b.N, err)
		}
		convicted++
	}
	for _, a := range logs {
		for _, b := range logs {
			differ := false
			for i := range min(len(a), len(b)) {
				differ = differ || a[i].D != b[i].D || a[i].Root != b[i].Root
				e, found := FindFork(a[i].Statement, b[i].Statement)
				if differ {
					convicts(e, found, "a fork", a[i], b[i])
				} else if found {
					t.Fatal("two members who saw the same convict")
				}
			}
			for i, receipt := range a {
				if receipt.leaf == (Leaf{}) {
					continue
				}
				for _, later := range b[min(i, len(b)):] {
					has, _ := later.board.Get(entryName)
					if has.Version < receipt.leaf.Version {
						e, found := FindForgotten(receipt.Statement, receipt.leaf, later.Statement, later.board.Prove(entryName))
						convicts(e, found, "a forgotten entry", receipt, later)
					}
				}
			}
		}
	}
	if convicted < 1000 {
		t.Errorf("only %d convictions: the cases are not exhaustive any more", convicted)
	}
}

// TestLiarAnswers: for every statement shown and every place a relay can name,
// a member is moved on, told of a newer lineage, or has evidence.
func TestLiarAnswers(t *testing.T) {
	key := relayKey(1)
	lives := []wire.Lineage{lineage(1, 1), lineage(1, 2), lineage(2, 1), lineage(2, 2), lineage(3, 1)}
	for _, from := range lives {
		for _, to := range lives {
			for was := range uint64(3) {
				for is := range uint64(3) {
					shown := SignStatement(key, testChannel, from, was+1, digest(1), digest(2), digest(3))
					e, found := FindAnswer(shown, SignOpened(key, testChannel, [32]byte{}, shown.Position(), to, is+1, digest(4)))
					honest := to.Ordinal() > from.Ordinal() || to == from && is >= was
					if found == honest {
						t.Errorf("shown %v/%d, answered %v/%d: evidence %v", from, was+1, to, is+1, found)
					}
					if found {
						if _, err := e.Check(remembered); err != nil {
							t.Error(err)
						}
					}
				}
			}
		}
	}
}

// TestT3 is the table of claim T3: of R operators t collude, q are needed.
// Forged iff t >= q; accepted iff t <= R-q, whatever colluders do instead.
func TestT3(t *testing.T) {
	truth, lie := digest(1), digest(2)
	subject := Subject{Kind: Open, ID: digest(3)}
	start := time.Unix(1000, 0)
	for r := 1; r <= 5; r++ {
		for q := 1; q <= r; q++ {
			for colluders := range 1 << r {
				bad := 0
				for i := range r {
					bad += colluders >> i & 1
				}
				policy := Policy{Quorum: q, Strict: false}
				for i := range r {
					policy.Operators = append(policy.Operators, keys.OperatorPublic{byte(i)})
				}
				run := func(what string, say func(l *Ledger, p Path, bad bool)) Report {
					l := NewLedger(policy)
					for i := range r {
						say(l, Path(i), colluders>>i&1 == 1)
					}
					l.Advance(start.Add(DefaultDeadline))
					rep := l.Report(subject)
					if !rep.Settled {
						t.Fatalf("R=%d q=%d t=%d %s: not settled", r, q, bad, what)
					}
					if want := rep.Usable && r > 1; (rep.Verdict == Agreed) != want {
						t.Fatalf("R=%d q=%d t=%d %s: %v, usable %v", r, q, bad, what, rep.Verdict, rep.Usable)
					}
					return rep
				}
				forged := run("forge", func(l *Ledger, p Path, bad bool) {
					if bad {
						l.Claim(start, p, subject, lie)
					} else {
						l.Absent(start, p, subject)
					}
				})
				if forged.Usable != (bad >= q) {
					t.Errorf("R=%d q=%d t=%d: forged %v", r, q, bad, forged.Usable)
				}
				if !forged.Usable && r > 1 && forged.Verdict != Contested {
					t.Errorf("R=%d q=%d t=%d: a forgery that failed is %v", r, q, bad, forged.Verdict)
				}
				for what, lying := range map[string]func(l *Ledger, p Path){
					"absent":  func(l *Ledger, p Path) { l.Absent(start, p, subject) },
					"spoiled": func(l *Ledger, p Path) { l.Fail(start, p, subject) },
					"another": func(l *Ledger, p Path) { l.Claim(start, p, subject, lie) },
					"both":    func(l *Ledger, p Path) { l.Claim(start, p, subject, lie); l.Claim(start, p, subject, truth) },
				} {
					rep := run(what, func(l *Ledger, p Path, bad bool) {
						if bad {
							lying(l, p)
						} else {
							l.Claim(start, p, subject, truth)
						}
					})
					want := bad <= r-q
					switch {
					case what == "both" && bad < q:
						want = true // they help: with q honest or not, truth has all R
					case (what == "another" || what == "both") && bad >= q:
						// They have a quorum of their own: never the truth alone.
						if rep.Usable && rep.Digest == truth {
							t.Errorf("R=%d q=%d t=%d %s: truth accepted beside a forged quorum", r, q, bad, what)
						}
						continue
					}
					if rep.Usable != want || rep.Usable && rep.Digest != truth {
						t.Errorf("R=%d q=%d t=%d %s: accepted %v", r, q, bad, what, rep.Usable)
					}
				}
			}
		}
	}
}
