package member_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"parallax/broadcast/member"
	"parallax/internal/wire"
)

// reference is docs/protocol.md section 8.1 written down once more, slowly: it
// knows sets of digests, walks the log for every question and keeps nothing
// but what the section says follows from an operation's past alone.
type reference struct {
	gid     wire.GroupID
	genesis *member.Genesis
	founder wire.Seat
	ops     map[wire.Digest]*member.Operation
	by      map[wire.Digest]wire.Seat
	known   map[wire.Digest]*refFacts
}

type refSet map[wire.Digest]bool

type refFacts struct {
	past    refSet
	allowed bool
	role    uint8
	depth   int
	path    wire.Digest // zero: the genesis
	strike  bool
	height  int
}

func newReference(g *member.Genesis, ops []*member.Operation) *reference {
	r := &reference{gid: g.ID(), genesis: g, ops: map[wire.Digest]*member.Operation{}, by: map[wire.Digest]wire.Seat{}, known: map[wire.Digest]*refFacts{}}
	r.founder = member.NewSeat(r.gid, g.Founder)
	for _, o := range ops {
		d := o.Digest()
		r.ops[d], r.by[d] = o, o.Seat()
	}
	return r
}

func parents(o *member.Operation) (list []wire.Digest) {
	if o.Previous != (wire.Digest{}) {
		list = append(list, o.Previous)
	}
	return append(list, o.Heads...)
}

// facts is what follows from an operation's past; nil: some of it is missing or
// was refused, so the operation is not accepted.
func (r *reference) facts(d wire.Digest) *refFacts {
	if f, ok := r.known[d]; ok {
		return f
	}
	r.known[d] = nil
	o := r.ops[d]
	if o == nil {
		return nil
	}
	f := &refFacts{past: refSet{}}
	for _, p := range parents(o) {
		pf := r.facts(p)
		if pf == nil || !pf.allowed {
			return nil
		}
		f.height = max(f.height, pf.height+1)
		f.past[p] = true
		maps.Copy(f.past, pf.past)
	}
	if p := r.ops[o.Previous]; p != nil && (p.Seat() != o.Seat() || p.Sequence+1 != o.Sequence) {
		return nil
	}
	r.judge(o, f)
	r.known[d] = f
	return f
}

func rank(role uint8) int {
	return slices.Index([]uint8{0, member.RoleReader, member.RoleMember, member.RoleAdmin, member.RoleOwner}, role)
}

// judge: was the author entitled, as the past shows?
func (r *reference) judge(o *member.Operation, f *refFacts) {
	w := r.resolve(f.past)
	author := w.seat(o.Seat())
	if !author.in {
		return
	}
	f.role, f.depth, f.path = author.role, author.depth, author.path
	if _, leave := o.Body.(member.OpLeave); leave {
		f.allowed = true
		return
	}
	if rank(author.role) < rank(member.RoleAdmin) || author.depth > member.MaxPath || w.suspended(o.Seat()) {
		return
	}
	switch b := o.Body.(type) {
	case member.OpAdd:
		f.allowed = !w.seat(b.Seat).in && rank(b.Role) <= rank(author.role)
	case member.OpAdopt:
		f.allowed = !slices.ContainsFunc(b.Seats, func(a member.Adopted) bool {
			return w.seat(a.Seat).in || a.Invite != [16]byte{} && w.policy().Mode != member.ModeOpen
		})
	case member.OpInvite:
		f.allowed = b.Record.Mode == w.policy().Mode
	case member.OpRemove:
		s := w.seat(b.Seat)
		f.strike = true
		f.allowed = !s.gone && (!s.in || rank(s.role) <= rank(author.role)) && r.tip(f.past, b.Seat, b.Cut.Operation)
	case member.OpRole:
		s := w.seat(b.Seat)
		old, now := rank(s.role), rank(b.Role)
		pardon := author.role == member.RoleOwner && w.suspended(b.Seat)
		f.strike = now < old
		f.allowed = s.in && (old != now || pardon) && max(old, now) <= rank(author.role) &&
			(b.Seat != o.Seat() || now < old) && r.tip(f.past, b.Seat, b.Cut.Operation)
	case member.OpRelays:
		_, ordinal := w.relays()
		f.allowed = b.Ordinal == ordinal+1
	case member.OpPolicy, member.OpSpares:
		f.allowed = author.role == member.RoleOwner
	case member.OpEpoch:
		f.allowed = slices.Equal(b.Merges, w.epochs())
	default:
		f.allowed = true
	}
}

// tip: last is an operation of the seat in the set that none of its own there
// follows; zero, if it made none.
func (r *reference) tip(set refSet, seat wire.Seat, last wire.Digest) bool {
	none := true
	for d := range set {
		if r.by[d] == seat {
			none = false
			if r.ops[d].Previous == last && last != (wire.Digest{}) {
				return false
			}
		}
	}
	if last == (wire.Digest{}) {
		return none
	}
	return set[last] && r.by[last] == seat
}

func subjectOf(o *member.Operation) wire.Seat {
	switch b := o.Body.(type) {
	case member.OpAdd:
		return b.Seat
	case member.OpRemove:
		return b.Seat
	case member.OpRole:
		return b.Seat
	case member.OpLeave:
		return o.Seat()
	}
	return wire.Seat{}
}

func isLeave(o *member.Operation) bool { _, ok := o.Body.(member.OpLeave); return ok }

// world is what one set says.
type refWorld struct {
	r     *reference
	set   refSet
	void  refSet // by itself
	drawn refSet
}

func (w *refWorld) chain(d wire.Digest) (list []wire.Digest) {
	for d = w.r.facts(d).path; d != (wire.Digest{}); d = w.r.facts(d).path {
		list = append(list, d)
	}
	return list
}

func (w *refWorld) isVoid(d wire.Digest) bool {
	if w.void[d] {
		return true
	}
	return !isLeave(w.r.ops[d]) && slices.ContainsFunc(w.chain(d), func(p wire.Digest) bool { return w.void[p] })
}

func (w *refWorld) hits(s, d wire.Digest) bool {
	o := w.r.ops[d]
	return s != d && w.r.facts(s).strike && w.r.by[d] == subjectOf(w.r.ops[s]) && !isLeave(o) &&
		!w.r.facts(s).past[d] && !w.r.facts(d).past[s]
}

// attacks: a strike hits another one, or what that one rests on.
func (w *refWorld) attacks(a, b wire.Digest) bool { return w.hits(a, b) || w.undermines(a, b) }

func (w *refWorld) undermines(a, b wire.Digest) bool {
	return slices.ContainsFunc(w.chain(b), func(p wire.Digest) bool { return w.hits(a, p) })
}

func sortedSet(s refSet) []wire.Digest {
	return slices.SortedFunc(maps.Keys(s), func(a, b wire.Digest) int { return slices.Compare(a[:], b[:]) })
}

func (r *reference) resolve(set refSet) *refWorld {
	w := &refWorld{r: r, set: set, void: refSet{}, drawn: refSet{}}
	for d := range set {
		if w.forkVoid(d) {
			w.void[d] = true
		}
	}
	var strikes []wire.Digest
	deepest := 0
	for _, d := range sortedSet(set) {
		if r.facts(d).strike {
			strikes = append(strikes, d)
			deepest = max(deepest, r.facts(d).depth)
		}
	}
	for depth := 0; depth <= deepest; depth++ {
		w.level(depth, strikes)
	}
	return w
}

func (w *refWorld) level(depth int, strikes []wire.Digest) {
	stands := func(s wire.Digest, spare refSet) {
		for d := range w.set {
			if w.hits(s, d) && !spare[d] {
				w.void[d] = true
			}
		}
	}
	open := refSet{}
	var overruled []wire.Digest
	for _, s := range strikes {
		if w.r.facts(s).depth != depth || w.isVoid(s) {
			continue
		}
		open[s] = true
		for _, senior := range strikes {
			if w.r.facts(senior).depth < depth && !w.isVoid(senior) && w.attacks(s, senior) {
				overruled = append(overruled, s)
			}
		}
	}
	for _, s := range overruled {
		w.void[s] = true
	}
	for len(open) > 0 {
		moved := false
		for _, s := range sortedSet(open) {
			if w.isVoid(s) {
				delete(open, s)
				moved = true
			} else if !slices.ContainsFunc(sortedSet(open), func(a wire.Digest) bool { return w.attacks(a, s) }) {
				delete(open, s)
				stands(s, nil)
				moved = true
			}
		}
		if moved {
			continue
		}
		// Only rings are left: reach says who attacks whom, by whatever way.
		reach := map[wire.Digest]refSet{}
		for a := range open {
			reach[a] = refSet{}
			for b := range open {
				reach[a][b] = w.attacks(a, b)
			}
		}
		for k := range open {
			for a := range open {
				for b := range open {
					reach[a][b] = reach[a][b] || reach[a][k] && reach[k][b]
				}
			}
		}
		var knots []refSet
		for _, a := range sortedSet(open) {
			knot, free := refSet{}, true
			for b := range open {
				if reach[a][b] && reach[b][a] {
					knot[b] = true
				} else if reach[b][a] {
					free = false
				}
			}
			if free && len(knot) > 0 {
				knots = append(knots, knot)
			}
		}
		for _, knot := range knots {
			fallen := refSet{}
			for a := range knot {
				for b := range knot {
					if w.undermines(a, b) {
						fallen[a] = true
					}
				}
			}
			if len(fallen) > 0 {
				for a := range fallen {
					w.void[a] = true
				}
				continue
			}
			for a := range knot {
				w.drawn[a] = true
				delete(open, a)
				stands(a, knot)
			}
		}
	}
}

// branches of the fork at an operation's place within a set.
func (r *reference) branches(set refSet, author wire.Seat, prev wire.Digest) (list []wire.Digest) {
	for d := range set {
		if r.by[d] == author && r.ops[d].Previous == prev {
			list = append(list, d)
		}
	}
	return list
}

// forkPoints lists the predecessors after which an author signed twice.
func (r *reference) forkPoints(set refSet, author wire.Seat) (list []wire.Digest) {
	for d := range set {
		if o := r.ops[d]; r.by[d] == author && len(r.branches(set, author, o.Previous)) > 1 && !slices.Contains(list, o.Previous) {
			list = append(list, o.Previous)
		}
	}
	return list
}

func (r *reference) knowsFork(set refSet, author wire.Seat, prev wire.Digest) bool {
	return len(r.branches(set, author, prev)) > 1
}

func (r *reference) pardonIn(set refSet, author wire.Seat, prev wire.Digest) bool {
	for d := range set {
		b, ok := r.ops[d].Body.(member.OpRole)
		if ok && b.Seat == author && r.by[d] != author && r.facts(d).role == member.RoleOwner && r.knowsFork(r.facts(d).past, author, prev) {
			return true
		}
	}
	return false
}

func (w *refWorld) forkVoid(d wire.Digest) bool {
	o := w.r.ops[d]
	if isLeave(o) {
		return false
	}
	for _, prev := range w.r.forkPoints(w.set, o.Seat()) {
		from := uint64(1)
		if p := w.r.ops[prev]; p != nil {
			from = p.Sequence + 1
		}
		if o.Sequence >= from && !w.r.pardonIn(w.r.facts(d).past, o.Seat(), prev) && !w.sealed(d, prev) {
			return true
		}
	}
	return false
}

func (w *refWorld) sealed(d, prev wire.Digest) bool {
	author := w.r.ops[d].Seat()
	for s := range w.set {
		f := w.r.facts(s)
		if !f.strike || subjectOf(w.r.ops[s]) != author || w.r.by[s] == author || f.role != member.RoleOwner && w.r.knowsFork(f.past, author, prev) {
			continue
		}
		var last wire.Digest
		switch b := w.r.ops[s].Body.(type) {
		case member.OpRemove:
			last = b.Cut.Operation
		case member.OpRole:
			last = b.Cut.Operation
		}
		for o := w.r.ops[last]; o != nil; o = w.r.ops[o.Previous] {
			if last == d {
				return true
			}
			last = o.Previous
		}
	}
	return false
}

func (w *refWorld) suspended(seat wire.Seat) bool {
	return slices.ContainsFunc(w.r.forkPoints(w.set, seat), func(prev wire.Digest) bool { return !w.r.pardonIn(w.set, seat, prev) })
}

type refSeat struct {
	in, gone, pending bool
	role              uint8
	depth             int
	path              wire.Digest
	source            wire.Digest
	ends              []wire.Digest
}

func (w *refWorld) seat(seat wire.Seat) (st refSeat) {
	type given struct {
		op   wire.Digest // zero: the genesis
		role uint8
	}
	var came, void, changed []given
	if seat == w.r.founder {
		came = append(came, given{role: member.RoleOwner})
	}
	for _, d := range sortedSet(w.set) {
		o := w.r.ops[d]
		switch b := o.Body.(type) {
		case member.OpAdd:
			if b.Seat == seat {
				if w.isVoid(d) {
					void = append(void, given{d, b.Role})
				} else {
					came = append(came, given{d, b.Role})
				}
			}
		case member.OpAdopt:
			for _, a := range b.Seats {
				if a.Seat == seat {
					if w.isVoid(d) || a.Invite != [16]byte{} && w.stricter(d, member.ModeOpen, true) {
						void = append(void, given{d, a.Role})
					} else {
						came = append(came, given{d, a.Role})
					}
				}
			}
		case member.OpRemove:
			if b.Seat == seat && !w.isVoid(d) {
				if w.drawn[d] {
					changed = append(changed, given{d, member.RoleMember})
				} else {
					st.ends = append(st.ends, d)
				}
			}
		case member.OpRole:
			if b.Seat == seat && !w.isVoid(d) {
				if w.drawn[d] {
					b.Role = member.RoleMember
				}
				changed = append(changed, given{d, b.Role})
			}
		case member.OpLeave:
			if o.Seat() == seat {
				st.ends = append(st.ends, d)
			}
		}
	}
	knows := func(g given, d wire.Digest) bool {
		if d == (wire.Digest{}) {
			return g.op != d
		}
		return g.op != (wire.Digest{}) && w.r.facts(g.op).past[d]
	}
	stale := func(g given) bool {
		return slices.ContainsFunc(st.ends, func(e wire.Digest) bool { return !knows(g, e) })
	}
	came = slices.DeleteFunc(came, stale)
	void = slices.DeleteFunc(void, stale)
	if len(came) == 0 {
		st.pending = len(void) > 0
		st.gone = len(st.ends) > 0 && !st.pending
		return st
	}
	st.in = true
	first := func(a, b given) int {
		ha, hb := -1, -1
		if a.op != (wire.Digest{}) {
			ha = w.r.facts(a.op).height
		}
		if b.op != (wire.Digest{}) {
			hb = w.r.facts(b.op).height
		}
		return cmp.Or(cmp.Compare(ha, hb), bytes.Compare(a.op[:], b.op[:]))
	}
	st.source = slices.MinFunc(came, first).op
	all := append(came, changed...)
	newest := slices.DeleteFunc(slices.Clone(all), func(g given) bool {
		return slices.ContainsFunc(all, func(h given) bool { return knows(h, g.op) })
	})
	depth := func(g given) int {
		if g.op == (wire.Digest{}) {
			return 0
		}
		return w.r.facts(g.op).depth + 1
	}
	best := slices.MinFunc(newest, func(a, b given) int {
		return cmp.Or(rank(a.role)-rank(b.role), depth(a)-depth(b), bytes.Compare(a.op[:], b.op[:]))
	})
	st.role, st.depth, st.path = best.role, depth(best), best.op
	return st
}

// unknown leaves out of a list of operations those that another knew.
func (w *refWorld) unknown(list []wire.Digest) []wire.Digest {
	return slices.DeleteFunc(slices.Clone(list), func(d wire.Digest) bool {
		return slices.ContainsFunc(list, func(e wire.Digest) bool { return w.r.facts(e).past[d] })
	})
}

func (w *refWorld) counting(kind func(member.OperationBody) bool) (list []wire.Digest) {
	for _, d := range sortedSet(w.set) {
		if !w.isVoid(d) && kind(w.r.ops[d].Body) {
			list = append(list, d)
		}
	}
	return list
}

func (w *refWorld) relays() ([]member.RelayRef, uint32) {
	list := w.unknown(w.counting(func(b member.OperationBody) bool { _, ok := b.(member.OpRelays); return ok }))
	if len(list) == 0 {
		return w.r.genesis.Relays, 0
	}
	body := func(d wire.Digest) member.OpRelays { return w.r.ops[d].Body.(member.OpRelays) }
	b := body(slices.MinFunc(list, func(x, y wire.Digest) int {
		return cmp.Or(w.r.facts(x).depth-w.r.facts(y).depth, int(body(y).Ordinal)-int(body(x).Ordinal), bytes.Compare(x[:], y[:]))
	}))
	return b.Relays, b.Ordinal
}

func isPolicy(b member.OperationBody) bool { _, ok := b.(member.OpPolicy); return ok }

func (w *refWorld) policy() member.Policy {
	list := w.unknown(w.counting(isPolicy))
	if len(list) == 0 {
		return w.r.genesis.Policy
	}
	p := w.r.ops[slices.MinFunc(list, func(x, y wire.Digest) int {
		return cmp.Or(w.r.facts(x).depth-w.r.facts(y).depth, bytes.Compare(x[:], y[:]))
	})].Body.(member.OpPolicy).Policy
	for _, d := range list {
		p.Mode = max(p.Mode, w.r.ops[d].Body.(member.OpPolicy).Policy.Mode)
	}
	return p
}

// spares: the keys of those in force, without what a list named that they did not
// know; and the operation.
func (w *refWorld) spares() (keys []string, by wire.Digest) {
	list := w.unknown(w.counting(func(b member.OperationBody) bool { _, ok := b.(member.OpSpares); return ok }))
	if len(list) == 0 {
		return nil, by
	}
	by = slices.MinFunc(list, func(x, y wire.Digest) int {
		return cmp.Or(w.r.facts(x).depth-w.r.facts(y).depth, bytes.Compare(x[:], y[:]))
	})
	later := w.counting(func(b member.OperationBody) bool { _, ok := b.(member.OpRelays); return ok })
	for _, s := range w.r.ops[by].Body.(member.OpSpares).Spares {
		if !slices.ContainsFunc(later, func(d wire.Digest) bool {
			return !w.r.facts(by).past[d] && slices.ContainsFunc(w.r.ops[d].Body.(member.OpRelays).Relays, func(r member.RelayRef) bool { return r.Key == s.Key })
		}) {
			keys = append(keys, fmt.Sprint(s.Key, s.Auto))
		}
	}
	return keys, by
}

// stricter: a policy of another mode counts that the operation did not know;
// beside: and that did not know the operation either.
func (w *refWorld) stricter(d wire.Digest, mode uint8, beside bool) bool {
	return slices.ContainsFunc(w.counting(isPolicy), func(p wire.Digest) bool {
		return w.r.ops[p].Body.(member.OpPolicy).Policy.Mode != mode && !w.r.facts(d).past[p] && !(beside && w.r.facts(p).past[d])
	})
}

func (w *refWorld) epochs() []wire.Digest {
	counting := w.counting(func(b member.OperationBody) bool { _, ok := b.(member.OpEpoch); return ok })
	heads := append([]wire.Digest{wire.Digest(w.r.gid)}, counting...)
	heads = slices.DeleteFunc(heads, func(d wire.Digest) bool {
		return slices.ContainsFunc(counting, func(e wire.Digest) bool {
			return slices.Contains(w.r.ops[e].Body.(member.OpEpoch).Merges, d)
		})
	})
	slices.SortFunc(heads, func(a, b wire.Digest) int { return bytes.Compare(a[:], b[:]) })
	return heads
}

// accepted is the set that a roster with all operations has.
func (r *reference) accepted() refSet {
	set := refSet{}
	for d := range r.ops {
		if f := r.facts(d); f != nil && f.allowed {
			set[d] = true
		}
	}
	return set
}

// report is what both the reference and a State say, as text.
func (r *reference) report(set refSet) string {
	w := r.resolve(set)
	seats := map[wire.Seat]bool{r.founder: true}
	for d := range set {
		if s := subjectOf(r.ops[d]); s != (wire.Seat{}) {
			seats[s] = true
		}
		if b, ok := r.ops[d].Body.(member.OpAdopt); ok {
			for _, a := range b.Seats {
				seats[a.Seat] = true
			}
		}
	}
	var lines []string
	for s := range seats {
		switch st := w.seat(s); {
		case st.in:
			lines = append(lines, fmt.Sprintf("member %s role %d path %d by %s suspended %v", s.Short(), st.role, st.depth, st.source.Short(), w.suspended(s)))
		case st.gone:
			lines = append(lines, fmt.Sprintf("removed %s", s.Short()))
		case st.pending:
			lines = append(lines, fmt.Sprintf("pending %s", s.Short()))
		}
	}
	for d := range set {
		if w.isVoid(d) {
			lines = append(lines, "void "+d.Short())
		}
		if w.drawn[d] {
			lines = append(lines, "draw "+d.Short())
		}
		if b, ok := r.ops[d].Body.(member.OpInvite); ok && !w.isVoid(d) {
			id := member.InviteID(b.Record.Key)
			revoked := len(w.counting(func(b member.OperationBody) bool { rv, ok := b.(member.OpRevoke); return ok && rv.Invite == id })) > 0 ||
				w.stricter(d, b.Record.Mode, false)
			lines = append(lines, fmt.Sprintf("invite %x revoked %v", id, revoked))
		}
	}
	relays, ordinal := w.relays()
	lines = append(lines, fmt.Sprintf("relays %d %s", ordinal, relays[0].Key), fmt.Sprintf("policy %v", w.policy()))
	spares, reserve := w.spares()
	lines = append(lines, fmt.Sprintf("spares %v by %s", spares, reserve.Short()))
	for _, e := range w.epochs() {
		lines = append(lines, "epoch "+e.Short())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func reportState(s *member.State) string {
	var lines []string
	for _, m := range s.Members {
		lines = append(lines, fmt.Sprintf("member %s role %d path %d by %s suspended %v", m.Seat.Short(), m.Role, m.Path, m.Admitted.Short(), m.Suspended))
	}
	for _, m := range s.Removed {
		lines = append(lines, fmt.Sprintf("removed %s", m.Seat.Short()))
	}
	for _, m := range s.Pending {
		lines = append(lines, fmt.Sprintf("pending %s", m.Seat.Short()))
	}
	for _, v := range s.Void {
		lines = append(lines, "void "+v.Operation.Short())
	}
	drawn := refSet{}
	for _, d := range s.Disputes {
		if d.Kind == member.DisputeDraw {
			drawn[d.Operations[0]] = true
		}
	}
	for d := range drawn {
		lines = append(lines, "draw "+d.Short())
	}
	for _, i := range s.Invites {
		lines = append(lines, fmt.Sprintf("invite %x revoked %v", i.ID, i.Revoked))
	}
	lines = append(lines, fmt.Sprintf("relays %d %s", s.Ordinal, s.Relays[0].Key), fmt.Sprintf("policy %v", s.Policy))
	var spares []string
	for _, x := range s.Spares {
		spares = append(spares, fmt.Sprint(x.Key, x.Auto))
	}
	lines = append(lines, fmt.Sprintf("spares %v by %s", spares, s.Reserve.Short()))
	for _, e := range s.Epochs {
		lines = append(lines, "epoch "+e.Operation.Short())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
