package crossverify

import (
	"slices"

	"parallax/internal/wire"
)

// report computes everything anew from what was said, so that no order of
// events can leave a trace in it.
func (l *Ledger) report(s Subject, e *entry) Report {
	in := l.in(s, e)
	named, against := l.settle(s, e)
	r := Report{Status: make([]Status, len(l.aside)), Settled: true}
	if named != nil {
		r.Digest = *named
	}
	matched, answered := in.none(), in.none()
	for i := range l.aside {
		p := e.of(i)
		r.Status[i] = l.status(s, e, i, named, against)
		if l.aside[i] || i >= len(in.class) || in.outside[i] {
			continue
		}
		r.Settled = r.Settled && r.Status[i] != Awaiting
		if r.Status[i] == Matched {
			in.add(&matched, i)
		}
		if len(p.shown) > 0 || p.other || p.absent || p.silent || p.failed {
			in.add(&answered, i)
		}
	}
	r.Operators, r.Answered = count(matched.by), count(answered.by)

	switch {
	case s.Kind != Open && against, s.Kind == Open && len(l.quorate(e)) > 1:
		r.Verdict, r.Equivocated = Contested, true
	case s.Kind == Signed && named != nil,
		s.Kind != Signed && named != nil && in.enough(matched):
		r.Verdict = Agreed
	case s.Kind == Open && r.Settled:
		r.Verdict = Contested
	}
	r.Usable = r.Verdict == Agreed || s.Kind == Message && named != nil && (!in.strict || in != l.voters && l.freed(in, matched))
	if in.alone && r.Verdict == Agreed {
		r.Verdict = Unconfirmed
	}
	return r
}

// freed tells whether a message that its own time's policy would hold for ever is
// held no more: the policy in force holds nothing, or of the paths that counted then
// all that count still have it, and one does. A relay that is replaced, or a policy
// that changes, is a signed act of the group's admins.
func (l *Ledger) freed(in *voters, matched tally) bool {
	if !l.voters.strict {
		return true
	}
	one := false
	for i, class := range in.class {
		if l.aside[i] || in.outside[i] || l.voters.outside[i] {
			continue
		}
		if !matched.by[class] {
			return false
		}
		one = true
	}
	return one
}

// nothing is what a path said that was not there when e was last written.
var nothing said

func (e *entry) of(path int) *said {
	if path < len(e.paths) {
		return &e.paths[path]
	}
	return &nothing
}

// settle finds the digest that statuses are measured by, or nil; against says
// that two digests stand against each other. A majority settles nothing.
func (l *Ledger) settle(s Subject, e *entry) (named *wire.Digest, against bool) {
	candidates := e.truth
	if s.Kind != Message {
		candidates = e.shown(nil)
	}
	if s.Kind == Open {
		if inside := e.shown(l.voters.outside); len(inside) > 0 {
			candidates = inside
		}
		if q := l.quorate(e); len(q) > 0 {
			candidates = q
		} else if e.split {
			return nil, true
		}
	} else if e.split {
		return nil, true
	}
	switch len(candidates) {
	case 0:
		return nil, false
	case 1:
		return &candidates[0], false
	}
	return nil, true
}

// quorate are the digests that enough operators show.
func (l *Ledger) quorate(e *entry) (out []wire.Digest) {
	for _, d := range e.shown(l.voters.outside) {
		by := l.voters.none()
		for i := range e.paths {
			if !l.aside[i] && slices.Contains(e.paths[i].shown, d) {
				l.voters.add(&by, i)
			}
		}
		if l.voters.enough(by) {
			out = append(out, d)
		}
	}
	return out
}

// shown are all digests of all paths but these, ascending, each once.
func (e *entry) shown(without []bool) (all []wire.Digest) {
	for i := range e.paths {
		if i < len(without) && without[i] {
			continue
		}
		for _, d := range e.paths[i].shown {
			all = insert(all, d, len(e.paths)*MaxShown)
		}
	}
	return all
}

func (l *Ledger) status(s Subject, e *entry, path int, named *wire.Digest, against bool) Status {
	p := e.of(path)
	has := named != nil && slices.Contains(p.shown, *named)
	shows := len(p.shown) > 0 || p.other
	if s.Kind == Message {
		// A copy counts by its digest, unless this path's slot is known not
		// to open; where nothing has opened yet, a copy says nothing.
		has = named != nil && p.opened || has && !p.failed
		shows = shows && (named != nil || against)
		if p.failed && !p.opened {
			return Failed
		}
	}
	switch {
	case has:
		return Matched
	case shows:
		return Dissented
	case p.failed:
		return Failed
	case len(p.shown) == 0 && (p.silent || p.absent && !l.now.Before(e.since.Add(l.deadlineOf(s.Kind, path)))):
		return Silent
	}
	return Awaiting
}

func (r *Report) equal(o *Report) bool {
	return r.Verdict == o.Verdict && r.Digest == o.Digest && slices.Equal(r.Status, o.Status) &&
		r.Operators == o.Operators && r.Answered == o.Answered && r.Settled == o.Settled &&
		r.Usable == o.Usable && r.Equivocated == o.Equivocated
}

func count(set []bool) (n int) {
	for _, in := range set {
		if in {
			n++
		}
	}
	return n
}
