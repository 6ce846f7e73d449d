package member

import (
	"cmp"
	"maps"
	"slices"

	"parallax/internal/wire"
)

// Cause is why an operation is void.
type Cause uint8

const (
	voidNot Cause = iota
	// VoidStruck: a removal, or a lowering, of its author that stands did not
	// know it.
	VoidStruck
	// VoidForked: its author signed two operations after one, and it is one of
	// them or came after.
	VoidForked
	// VoidOverruled: it would undo a strike of a shorter delegation path, or
	// what such a one rests on.
	VoidOverruled
	// VoidPath: what gave its author the role is void.
	VoidPath
)

func (c Cause) String() string {
	return [...]string{"counts", "struck", "forked", "overruled", "path"}[c]
}

// rosterView is what a set of operations says: everything, or one's past.
type rosterView struct {
	r     *Roster
	in    *ancestors   // nil: everything
	why   []Cause      // why an operation itself is void, by index; nil: none is
	drawn map[int]bool // strikes that stand as a draw
	seats map[wire.Seat]*seatStanding
}

func (v *rosterView) has(i int) bool { return v.in == nil || v.in.has(i) }

// cause is why an operation of the set is void.
func (v *rosterView) cause(i int) Cause {
	if v.why == nil {
		return voidNot
	}
	n := v.r.ops[i]
	if v.why[i] != voidNot || n.kind == opLeave {
		return v.why[i]
	}
	for p := n.path; p >= 0; p = v.r.ops[p].path {
		if v.why[p] != voidNot {
			return VoidPath
		}
	}
	return voidNot
}

// counts tells whether an operation is in the set and not void.
func (v *rosterView) counts(i int) bool { return v.has(i) && v.cause(i) == voidNot }

// view settles which operations of a set are void.
func (r *Roster) view(in *ancestors) *rosterView {
	v := &rosterView{r: r, in: in, seats: map[wire.Seat]*seatStanding{}}
	if len(r.fights) == 0 && len(r.forks) == 0 {
		return v
	}
	v.why = make([]Cause, len(r.ops))
	v.drawn = map[int]bool{}
	v.dropForks()
	levels := map[int][]int{}
	for _, s := range r.fights {
		if v.has(s) && slices.ContainsFunc(r.ops[s].hits, v.has) {
			d := r.ops[s].depth
			levels[d] = append(levels[d], s)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(levels)) {
		v.settle(d, levels[d])
	}
	return v
}

// dropForks makes void what a forked author did from the fork on, unless an
// owner pardoned it or a strike sealed the branch.
func (v *rosterView) dropForks() {
	for author, forks := range v.r.forks {
		for _, f := range forks {
			if !v.forked(f, v.in) {
				continue
			}
			sealed := v.sealed(author, f)
			for _, i := range v.r.byAuthor[author] {
				n := v.r.ops[i]
				if n.op.Sequence >= f.sequence && n.kind != opLeave && !sealed[i] && v.has(i) && !v.pardoned(author, f, &n.past) {
					v.why[i] = VoidForked
				}
			}
		}
	}
}

// forked tells whether a set shows two branches of a fork; nil: everything.
func (v *rosterView) forked(f *rosterFork, in *ancestors) bool {
	n := 0
	for _, b := range f.branches {
		if in == nil || in.has(b) {
			n++
		}
	}
	return n > 1
}

// pardoned tells whether a past holds a role that an owner, knowing the fork,
// gave to the author.
func (v *rosterView) pardoned(author wire.Seat, f *rosterFork, past *ancestors) bool {
	for _, i := range v.r.touching[author] {
		n := v.r.ops[i]
		if n.kind == opRole && n.seat != author && n.role == RoleOwner && (past == nil || past.has(i)) && v.forked(f, &n.past) {
			return true
		}
	}
	return false
}

// sealed lists what strikes in the set name as counting: of strikes that did
// not know the fork, and of owners'.
func (v *rosterView) sealed(author wire.Seat, f *rosterFork) map[int]bool {
	list := map[int]bool{}
	for _, s := range v.r.aimed[author] {
		n := v.r.ops[s]
		if !v.has(s) || n.seat == author || n.role != RoleOwner && v.forked(f, &n.past) {
			continue
		}
		if last, ok := v.r.index[cutOf(n.op.Body)]; ok {
			for i := last; i >= 0; i = v.r.ops[i].prev {
				list[i] = true
			}
		}
	}
	return list
}

// cutOf is the operation that a strike names as its subject's newest.
func cutOf(b OperationBody) wire.Digest {
	switch b := b.(type) {
	case OpRemove:
		return b.Cut.Operation
	case OpRole:
		return b.Cut.Operation
	}
	return wire.Digest{}
}

// suspended tells whether a seat forked and no owner pardoned it.
func (v *rosterView) suspended(s wire.Seat) bool {
	for _, f := range v.r.forks[s] {
		if v.forked(f, v.in) && !v.pardoned(s, f, v.in) {
			return true
		}
	}
	return false
}

// settle decides the strikes of one path length; all shorter ones are decided.
func (v *rosterView) settle(depth int, strikes []int) {
	strikes = v.withoutOverruled(depth, strikes)
	open := make(map[int]bool, len(strikes))
	for _, s := range strikes {
		open[s] = true
	}
	for len(open) > 0 {
		before := len(open)
		for _, s := range strikes {
			switch {
			case !open[s]:
			case v.cause(s) != voidNot:
				delete(open, s)
			case !v.attacked(s, open):
				delete(open, s)
				v.strike(s, nil)
			}
		}
		if len(open) == before {
			v.cutKnot(open)
		}
	}
}

// strike makes void what a strike hits, except its opponents in a draw.
func (v *rosterView) strike(s int, opponents map[int]bool) {
	for _, h := range v.r.ops[s].hits {
		if v.has(h) && !opponents[h] && v.why[h] == voidNot {
			v.why[h] = VoidStruck
		}
	}
}

// withoutOverruled leaves out the strikes that would undo a strike of a
// shorter path that stands, or what one rests on.
func (v *rosterView) withoutOverruled(depth int, strikes []int) []int {
	upward := func(s int) bool {
		return slices.ContainsFunc(v.r.ops[s].hits, func(h int) bool { return v.has(h) && v.r.ops[h].depth < depth })
	}
	if !slices.ContainsFunc(strikes, upward) {
		return strikes
	}
	kept := make([]bool, len(v.r.ops))
	for _, s := range v.r.strikes {
		if v.r.ops[s].depth < depth && v.counts(s) {
			for i := s; i >= 0; i = v.r.ops[i].path {
				kept[i] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(strikes), func(s int) bool {
		if v.cause(s) != voidNot || !slices.ContainsFunc(v.r.ops[s].hits, func(h int) bool { return v.has(h) && kept[h] }) {
			return false
		}
		v.why[s] = VoidOverruled
		return true
	})
}

// attackers lists the open strikes that hit a strike, or what it rests on.
func (v *rosterView) attackers(s int, open map[int]bool) (list []int) {
	for i := s; i >= 0; i = v.r.ops[i].path {
		for _, a := range v.r.ops[i].hitBy {
			if open[a] {
				list = append(list, a)
			}
		}
	}
	return list
}

func (v *rosterView) attacked(s int, open map[int]bool) bool {
	for i := s; i >= 0; i = v.r.ops[i].path {
		if slices.ContainsFunc(v.r.ops[i].hitBy, func(a int) bool { return open[a] }) {
			return true
		}
	}
	return false
}

// cutKnot decides strikes of one path length that attack each other in a ring:
// each open strike is attacked by another. It takes a knot that nothing
// outside attacks. Those that reach another of it only through what that one
// rests on strike at somebody senior to themselves, and fall; if there is
// none, the knot is a draw and all of it stands.
func (v *rosterView) cutKnot(open map[int]bool) {
	knot := v.knot(open)
	fallen := map[int]bool{}
	for s := range knot {
		for p := v.r.ops[s].path; p >= 0; p = v.r.ops[p].path {
			for _, a := range v.r.ops[p].hitBy {
				if knot[a] {
					fallen[a] = true
				}
			}
		}
	}
	if len(fallen) > 0 {
		for s := range fallen {
			v.why[s] = VoidOverruled
			delete(open, s)
		}
		return
	}
	for s := range knot {
		v.drawn[s] = true
		delete(open, s)
	}
	for s := range knot {
		v.strike(s, knot)
	}
}

// knot is a smallest set of open strikes that has all its attackers in itself.
func (v *rosterView) knot(open map[int]bool) map[int]bool {
	var smallest map[int]bool
	for _, s := range slices.SortedFunc(maps.Keys(open), func(a, b int) int { return cmp.Compare(a, b) }) {
		if smallest[s] {
			continue
		}
		set := map[int]bool{}
		for next := v.attackers(s, open); len(next) > 0; next = next[1:] {
			if !set[next[0]] {
				set[next[0]] = true
				next = append(next, v.attackers(next[0], open)...)
			}
		}
		if smallest == nil || len(set) < len(smallest) {
			smallest = set
		}
	}
	return smallest
}
