package member

import (
	"errors"
	"fmt"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Why a roster does not take an operation, beside ErrBadSignature and the
// errors of the format.
var (
	ErrWaiting      = errors.New("waits for operations that it builds on")
	ErrOtherGroup   = errors.New("belongs to another group")
	ErrNotEntitled  = errors.New("is more than its author's role allows")
	ErrNothingToDo  = errors.New("changes nothing")
	ErrBadCut       = errors.New("does not name the newest operation that its author knew")
	ErrOnRefused    = errors.New("builds on an operation that was refused")
	ErrRosterFull   = errors.New("does not fit: the roster has as many operations as it keeps")
	ErrLastOwner    = errors.New("would leave the group without an owner: make somebody else owner first")
	ErrUnknownHeads = errors.New("names operations that this roster does not have")
)

// Roster is the signed log of who is in the group, merged by the rules of
// docs/protocol.md section 8.1. What it says is a function of the set of
// operations that it accepted: neither their order nor repetitions matter.
//
// A roster reads no clock and is not safe for concurrent use.
type Roster struct {
	gid     wire.GroupID
	genesis *Genesis
	founder wire.Seat
	verify  keys.Verify

	ops   []*rosterNode
	index map[wire.Digest]int
	heads []int // operations that nobody names yet

	byAuthor map[wire.Seat][]int
	touching map[wire.Seat][]int // what admits, removes or changes a seat
	follows  map[succession][]int
	forks    map[wire.Seat][]*rosterFork
	strikes  []int // removals and operations that lower a role
	aimed    map[wire.Seat][]int
	fights   []int // strikes that hit something
	lists    [opSpares + 1][]int

	waiting map[wire.Digest]*waitingOperation
	wanted  map[wire.Digest][]wire.Digest // what is missing: who waits for it
	order   []wire.Digest                 // of waiting, oldest first
	refused map[wire.Digest]bool
	refusal []wire.Digest

	whole *rosterView // of everything; nil: to be settled again
	state *State      // of whole; nil: to be read again
}

// rosterNode is an accepted operation with what follows from its past, which
// never changes.
type rosterNode struct {
	op      *Operation
	digest  wire.Digest
	seat    wire.Seat
	kind    uint8
	prev    int // index of its author's operation before; -1: none
	height  int // longest way from the genesis
	past    ancestors
	path    int   // index of what gave its author the role; -1: the genesis
	depth   int   // length of the delegation path
	role    uint8 // its author's
	subject wire.Seat
	strike  bool
	hits    []int // what it makes void if it stands
	hitBy   []int
}

// succession is an author and its operation before.
type succession struct {
	author wire.Seat
	prev   wire.Digest
}

// rosterFork is several operations of one author after one predecessor.
type rosterFork struct {
	sequence uint64
	branches []int
}

type waitingOperation struct {
	op     *Operation
	digest wire.Digest
}

// NewRoster is the roster of a group in which nothing happened yet: the
// founder is its owner. It keeps genesis, which must not change.
func NewRoster(genesis *Genesis, verify keys.Verify) *Roster {
	r := &Roster{gid: genesis.ID(), genesis: genesis, verify: verify,
		index: map[wire.Digest]int{}, byAuthor: map[wire.Seat][]int{}, touching: map[wire.Seat][]int{},
		follows: map[succession][]int{}, forks: map[wire.Seat][]*rosterFork{}, aimed: map[wire.Seat][]int{},
		waiting: map[wire.Digest]*waitingOperation{}, wanted: map[wire.Digest][]wire.Digest{}, refused: map[wire.Digest]bool{},
	}
	r.founder = NewSeat(r.gid, genesis.Founder)
	return r
}

// Len is the number of accepted operations.
func (r *Roster) Len() int { return len(r.ops) }

// Add takes an operation, which must not change any more. The result is what
// was accepted by it: the operation itself, then those that waited for it; none
// for one that was known. ErrWaiting: it is kept, and counts when Missing is
// empty. Every other error refuses it, as every roster does that knows what it
// builds on; only ErrRosterFull depends on this one.
func (r *Roster) Add(op *Operation) ([]*Operation, error) {
	if err := op.Check(); err != nil {
		return nil, err
	}
	if op.Group != r.gid {
		return nil, fmt.Errorf("roster operation of group %s %w", ShortID(op.Group), ErrOtherGroup)
	}
	d := op.Digest()
	if _, known := r.index[d]; known {
		return nil, nil
	}
	if r.waiting[d] != nil {
		return nil, fmt.Errorf("roster operation %s %w", d.Short(), ErrWaiting)
	}
	if err := op.Verify(r.verify); err != nil {
		return nil, err
	}
	if missing := r.lacks(op); len(missing) > 0 {
		for _, m := range missing {
			if r.refused[m] {
				r.refuse(d)
				return nil, fmt.Errorf("roster operation %s %w: %s", d.Short(), ErrOnRefused, m.Short())
			}
		}
		r.wait(op, d, missing)
		return nil, fmt.Errorf("roster operation %s %w", d.Short(), ErrWaiting)
	}
	if err := r.accept(op, d); err != nil {
		return nil, err
	}
	accepted := []*Operation{op}
	for next := []wire.Digest{d}; len(next) > 0; next = next[1:] {
		for _, w := range r.released(next[0]) {
			if r.accept(w.op, w.digest) == nil {
				accepted = append(accepted, w.op)
				next = append(next, w.digest)
			}
		}
	}
	return accepted, nil
}

// lacks lists what an operation builds on and this roster does not have.
func (r *Roster) lacks(op *Operation) (missing []wire.Digest) {
	if op.Previous != (wire.Digest{}) {
		if _, ok := r.index[op.Previous]; !ok {
			missing = append(missing, op.Previous)
		}
	}
	for _, h := range op.Heads {
		if _, ok := r.index[h]; !ok {
			missing = append(missing, h)
		}
	}
	return missing
}

func (r *Roster) wait(op *Operation, d wire.Digest, missing []wire.Digest) {
	if len(r.order) == MaxWaiting {
		r.forget(r.order[0])
	}
	r.waiting[d] = &waitingOperation{op: op, digest: d}
	r.order = append(r.order, d)
	for _, m := range missing {
		r.wanted[m] = append(r.wanted[m], d)
	}
}

// forget drops an operation that waits.
func (r *Roster) forget(d wire.Digest) {
	w := r.waiting[d]
	delete(r.waiting, d)
	r.order = slices.DeleteFunc(r.order, func(o wire.Digest) bool { return o == d })
	for _, m := range append([]wire.Digest{w.op.Previous}, w.op.Heads...) {
		list := slices.DeleteFunc(r.wanted[m], func(o wire.Digest) bool { return o == d })
		if len(list) == 0 {
			delete(r.wanted, m)
		} else {
			r.wanted[m] = list
		}
	}
}

// released takes out what waited for d and lacks nothing any more.
func (r *Roster) released(d wire.Digest) (ready []*waitingOperation) {
	for _, at := range slices.Clone(r.wanted[d]) {
		if w := r.waiting[at]; w != nil && len(r.lacks(w.op)) == 0 {
			r.forget(at)
			ready = append(ready, w)
		}
	}
	return ready
}

// refuse remembers an operation that no roster takes, and lets go of those
// that wait for it.
func (r *Roster) refuse(d wire.Digest) {
	for next := []wire.Digest{d}; len(next) > 0; next = next[1:] {
		if r.refused[next[0]] {
			continue
		}
		if len(r.refusal) == MaxRefused {
			delete(r.refused, r.refusal[0])
			r.refusal = slices.Delete(r.refusal, 0, 1)
		}
		r.refused[next[0]] = true
		r.refusal = append(r.refusal, next[0])
		for _, w := range slices.Clone(r.wanted[next[0]]) {
			r.forget(w)
			next = append(next, w)
		}
	}
}

// accept takes an operation all of whose past is here, if its author was
// entitled to it as that past shows.
func (r *Roster) accept(op *Operation, d wire.Digest) error {
	if len(r.ops) == MaxOperations {
		return fmt.Errorf("roster operation %s %w (%d)", d.Short(), ErrRosterFull, MaxOperations)
	}
	n, err := r.place(op, d)
	if err == nil {
		err = r.entitle(n)
	}
	if err != nil {
		r.refuse(d)
		return fmt.Errorf("roster operation %s: %w", d.Short(), err)
	}
	r.insert(n)
	return nil
}

// place computes where an operation stands among those it builds on.
func (r *Roster) place(op *Operation, d wire.Digest) (*rosterNode, error) {
	n := &rosterNode{op: op, digest: d, seat: op.Seat(), kind: op.Body.kind(), prev: -1, path: -1}
	join := func(parent wire.Digest) int {
		i := r.index[parent]
		n.past.union(&r.ops[i].past)
		n.past.add(i)
		n.height = max(n.height, r.ops[i].height+1)
		return i
	}
	if op.Previous != (wire.Digest{}) {
		n.prev = join(op.Previous)
		if p := r.ops[n.prev]; p.seat != n.seat || p.op.Sequence+1 != op.Sequence {
			return nil, fmt.Errorf("number %d of seat %s %w", op.Sequence, n.seat.Short(), ErrSequence)
		}
	}
	for _, h := range op.Heads {
		join(h)
	}
	n.past.trim()
	switch b := op.Body.(type) {
	case OpAdd:
		n.subject = b.Seat
	case OpRemove:
		n.subject, n.strike = b.Seat, true
	case OpRole:
		n.subject = b.Seat
	case OpLeave:
		n.subject = n.seat
	}
	return n, nil
}

// insert adds an accepted operation to every list, and settles anew only where
// it meets something that it does not know.
func (r *Roster) insert(n *rosterNode) {
	i := len(r.ops)
	r.ops = append(r.ops, n)
	r.index[n.digest] = i
	r.heads = slices.DeleteFunc(r.heads, func(h int) bool { return n.past.has(h) })
	r.heads = append(r.heads, i)
	r.lists[n.kind] = append(r.lists[n.kind], i)
	r.state = nil

	meets := false
	hit := func(strike, target int) {
		s := r.ops[strike]
		if len(s.hits) == 0 {
			r.fights = append(r.fights, strike)
		}
		s.hits = append(s.hits, target)
		r.ops[target].hitBy = append(r.ops[target].hitBy, strike)
		meets = true
	}
	if n.kind != opLeave {
		for _, s := range r.aimed[n.seat] {
			if !n.past.has(s) {
				hit(s, i)
			}
		}
	}
	if n.strike {
		for _, t := range r.byAuthor[n.subject] {
			if !n.past.has(t) && r.ops[t].kind != opLeave {
				hit(i, t)
			}
		}
		r.strikes = append(r.strikes, i)
		r.aimed[n.subject] = append(r.aimed[n.subject], i)
		meets = meets || len(r.forks[n.subject]) > 0
	}
	r.byAuthor[n.seat] = append(r.byAuthor[n.seat], i)
	at := succession{n.seat, n.op.Previous}
	r.follows[at] = append(r.follows[at], i)
	switch list := r.follows[at]; len(list) {
	case 1:
	case 2:
		r.forks[n.seat] = append(r.forks[n.seat], &rosterFork{sequence: n.op.Sequence, branches: slices.Clone(list)})
	default:
		for _, f := range r.forks[n.seat] {
			if f.branches[0] == list[0] {
				f.branches = append(f.branches, i)
			}
		}
	}
	meets = meets || len(r.forks[n.seat]) > 0
	if b, ok := n.op.Body.(OpAdopt); ok {
		for k := range b.Seats {
			s := b.Seats[k].Seat
			r.touching[s] = append(r.touching[s], i)
		}
	} else if n.subject != (wire.Seat{}) {
		r.touching[n.subject] = append(r.touching[n.subject], i)
	}
	r.advance(n, i, meets)
}

// advance brings the view of everything up to an operation that was inserted.
func (r *Roster) advance(n *rosterNode, i int, meets bool) {
	v := r.whole
	switch {
	case v == nil:
		return
	case meets:
		r.whole = nil
		return
	}
	if v.why != nil {
		v.why = append(v.why, voidNot)
	}
	if n.kind == opPolicy { // it may shut out who was adopted beside it
		clear(v.seats)
		return
	}
	if b, ok := n.op.Body.(OpAdopt); ok {
		for k := range b.Seats {
			delete(v.seats, b.Seats[k].Seat)
		}
		return
	}
	delete(v.seats, n.subject)
}

// all is the view of everything.
func (r *Roster) all() *rosterView {
	if r.whole == nil {
		r.whole = r.view(nil)
	}
	return r.whole
}

// sees is the view of a past: that of everything, if it is everything.
func (r *Roster) sees(past *ancestors) *rosterView {
	for _, h := range r.heads {
		if !past.has(h) {
			return r.view(past)
		}
	}
	return r.all()
}

// Has tells whether an operation was accepted.
func (r *Roster) Has(d wire.Digest) bool {
	_, ok := r.index[d]
	return ok
}

// Operation is an accepted operation, or nil.
func (r *Roster) Operation(d wire.Digest) *Operation {
	if i, ok := r.index[d]; ok {
		return r.ops[i].op
	}
	return nil
}

// Heads lists the operations that no other names, ascending: the set in short,
// since each names what it builds on.
func (r *Roster) Heads() []wire.Digest {
	list := make([]wire.Digest, 0, len(r.heads))
	for _, h := range r.heads {
		list = append(list, r.ops[h].digest)
	}
	slices.SortFunc(list, compareDigests)
	return list
}

// Digest names the set of accepted operations: H("roster/set", gid, heads,
// ascending). Two rosters have the same operations iff their digests are equal.
func (r *Roster) Digest() wire.Digest {
	parts := [][]byte{r.gid[:]}
	for _, h := range r.Heads() {
		parts = append(parts, h[:])
	}
	return wire.Hash(tagRosterSet, parts...)
}

// Missing lists, ascending, what operations wait for that are not here either.
func (r *Roster) Missing() (list []wire.Digest) {
	for d := range r.wanted {
		if _, have := r.index[d]; !have && r.waiting[d] == nil {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, compareDigests)
	return list
}

// Waiting lists, oldest first, the operations that wait.
func (r *Roster) Waiting() (list []*Operation) {
	for _, d := range r.order {
		list = append(list, r.waiting[d].op)
	}
	return list
}

func compareDigests(a, b wire.Digest) int { return slices.Compare(a[:], b[:]) }
