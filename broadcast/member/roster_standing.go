package member

import (
	"bytes"
	"cmp"
	"slices"

	"parallax/internal/wire"
)

// seatStanding is what a set of operations says of one seat. It is shared and
// never changed.
type seatStanding struct {
	in      bool
	gone    bool // removed or left, and not admitted again
	role    uint8
	path    int   // what gave the role; -1: the genesis
	depth   int   // length of the delegation path of what the seat does
	source  int   // the admission that counts, of several the earliest; -1: the genesis
	ends    []int // removals and leavings that count
	pending int   // the earliest of the void admissions that wait for another admin; -1: none
}

// seat is what the set says of one seat.
func (v *rosterView) seat(s wire.Seat) *seatStanding {
	if st, ok := v.seats[s]; ok {
		return st
	}
	st := v.readSeat(s)
	v.seats[s] = st
	return st
}

// genesisAdmits stands for the genesis among the indexes of operations.
const genesisAdmits = -1

func (v *rosterView) readSeat(s wire.Seat) *seatStanding {
	st := &seatStanding{path: genesisAdmits, source: genesisAdmits, pending: -1}
	var came, void, changed []int
	if s == v.r.founder {
		came = append(came, genesisAdmits)
	}
	for _, i := range v.r.touching[s] {
		if !v.has(i) {
			continue
		}
		counts := v.cause(i) == voidNot
		switch kind := v.r.ops[i].kind; {
		case kind == opLeave, kind == opRemove && counts && !v.drawn[i]:
			st.ends = append(st.ends, i)
		case kind == opRemove && counts, kind == opRole && counts:
			changed = append(changed, i)
		case kind == opAdd || kind == opAdopt:
			if counts && !v.shutOut(i, s) {
				came = append(came, i)
			} else {
				void = append(void, i)
			}
		}
	}
	stale := func(i int) bool { // it did not know of every end
		return slices.ContainsFunc(st.ends, func(e int) bool { return i == genesisAdmits || !v.r.ops[i].past.has(e) })
	}
	came = slices.DeleteFunc(came, stale)
	st.in = len(came) > 0
	if !st.in {
		void = slices.DeleteFunc(void, stale)
		if len(void) > 0 {
			st.pending = v.earliest(void)
		}
		st.gone = len(st.ends) > 0 && len(void) == 0
		return st
	}
	st.source = v.earliest(came)
	st.role, st.path, st.depth = v.roleOf(s, v.r.newestOf(append(came, changed...)))
	return st
}

// shutOut tells of an adoption whether the seat came by an invite while somebody
// who did not know of it let nobody in by themselves any more: by a policy
// operation that counts, of another mode than open, that neither knows the
// adoption nor is known to it.
func (v *rosterView) shutOut(i int, s wire.Seat) bool {
	n := v.r.ops[i]
	if _, invite := n.admits(s); invite == ([16]byte{}) {
		return false
	}
	return slices.ContainsFunc(v.r.lists[opPolicy], func(p int) bool {
		o := v.r.ops[p]
		return o.op.Body.(OpPolicy).Policy.Mode != ModeOpen && !n.past.has(p) && !o.past.has(i) && v.counts(p)
	})
}

// ended tells whether a change of the mode ended an invite: a policy operation
// that counts, of another mode, that the invite's author did not know.
func (v *rosterView) ended(i int) bool {
	n := v.r.ops[i]
	mode := n.op.Body.(OpInvite).Record.Mode
	return slices.ContainsFunc(v.r.lists[opPolicy], func(p int) bool {
		return v.r.ops[p].op.Body.(OpPolicy).Policy.Mode != mode && !n.past.has(p) && v.counts(p)
	})
}

// roleAt is the role that a seat had when it sent a message: of what gave it one
// all but that whose cut has the message before it. It may be out by now. 0: none.
func (v *rosterView) roleAt(s wire.Seat, before func(Cut) bool) uint8 {
	var given []int
	if s == v.r.founder {
		given = append(given, genesisAdmits)
	}
	for _, i := range v.r.touching[s] {
		if !v.has(i) || v.cause(i) != voidNot {
			continue
		}
		switch b := v.r.ops[i].op.Body.(type) {
		case OpAdd:
			given = append(given, i)
		case OpAdopt:
			if !v.shutOut(i, s) {
				given = append(given, i)
			}
		case OpRole:
			if !before(b.Cut) {
				given = append(given, i)
			}
		case OpRemove:
			if v.drawn[i] && !before(b.Cut) {
				given = append(given, i)
			}
		}
	}
	role, _, _ := v.roleOf(s, v.r.newestOf(given))
	return role
}

// roleOf is the lowest role that these give, which know nothing of each other,
// and of those that give it the one with the shortest path.
func (v *rosterView) roleOf(s wire.Seat, given []int) (role uint8, path, depth int) {
	path, depth = genesisAdmits, -1
	for _, i := range given {
		r, d := RoleOwner, 0
		if i != genesisAdmits {
			r, d = v.r.ops[i].gives(s, v.drawn[i]), v.r.ops[i].depth+1
		}
		c := cmp.Or(privilege(r)-privilege(role), d-depth)
		if depth < 0 || c < 0 || c == 0 && compareDigests(v.r.ops[i].digest, v.r.ops[path].digest) < 0 {
			role, path, depth = r, i, d
		}
	}
	return role, path, depth
}

// gives is the role that an operation gives a seat.
func (n *rosterNode) gives(s wire.Seat, drawn bool) uint8 {
	switch b := n.op.Body.(type) {
	case OpAdd:
		return b.Role
	case OpAdopt:
		i, _ := slices.BinarySearchFunc(b.Seats, s, func(a Adopted, s wire.Seat) int { return bytes.Compare(a.Seat[:], s[:]) })
		return b.Seats[i].Role
	case OpRole:
		if !drawn {
			return b.Role
		}
	}
	return RoleMember
}

// newestOf leaves of these operations those that none of the others knew.
func (r *Roster) newestOf(list []int) (newest []int) {
	slices.Sort(list)
	for _, i := range slices.Backward(list) {
		known := slices.ContainsFunc(newest, func(j int) bool { return i == genesisAdmits || r.ops[j].past.has(i) })
		if !known {
			newest = append(newest, i)
		}
	}
	return newest
}

// earliest is the operation nearest to the genesis, of several that with the
// smallest digest.
func (v *rosterView) earliest(list []int) int {
	return slices.MinFunc(list, func(a, b int) int {
		if a == genesisAdmits || b == genesisAdmits {
			return cmp.Compare(a, b)
		}
		return cmp.Or(cmp.Compare(v.r.ops[a].height, v.r.ops[b].height), compareDigests(v.r.ops[a].digest, v.r.ops[b].digest))
	})
}

// inForce is the operation of a kind that replaces all others of it: of those
// that count and that none of the others knew, the one with the shortest path,
// then that with the greatest ordinal, then that with the smallest digest. -1:
// there is none. rivals are all of them, if there are several.
func (v *rosterView) inForce(kind uint8, ordinal func(i int) uint32) (best int, rivals []int) {
	var list []int
	for _, i := range v.r.lists[kind] {
		if v.counts(i) {
			list = append(list, i)
		}
	}
	if list = v.r.newestOf(list); len(list) == 0 {
		return -1, nil
	}
	best = slices.MinFunc(list, func(a, b int) int {
		x, y := v.r.ops[a], v.r.ops[b]
		return cmp.Or(cmp.Compare(x.depth, y.depth), cmp.Compare(ordinal(b), ordinal(a)), compareDigests(x.digest, y.digest))
	})
	if len(list) > 1 {
		rivals = list
	}
	return best, rivals
}

// relays is the list in force, its ordinal, and the operations that rival for
// it.
func (v *rosterView) relays() (list []RelayRef, ordinal uint32, rivals []int) {
	at, rivals := v.inForce(opRelays, func(i int) uint32 { return v.r.ops[i].op.Body.(OpRelays).Ordinal })
	if at < 0 {
		return v.r.genesis.Relays, 0, nil
	}
	b := v.r.ops[at].op.Body.(OpRelays)
	return b.Relays, b.Ordinal, rivals
}

// policy is that in force; of several at once the strictest mode holds.
func (v *rosterView) policy() (p Policy, rivals []int) {
	at, rivals := v.inForce(opPolicy, func(int) uint32 { return 0 })
	if at < 0 {
		return v.r.genesis.Policy, nil
	}
	p = v.r.ops[at].op.Body.(OpPolicy).Policy
	for _, i := range rivals {
		p.Mode = max(p.Mode, v.r.ops[i].op.Body.(OpPolicy).Policy.Mode)
	}
	return p, rivals
}

// epochs lists the epoch heads, ascending by digest: what counts and was not
// merged by one that counts.
func (v *rosterView) epochs() []EpochHead {
	merged := map[wire.Digest]bool{}
	var list []int
	for _, i := range v.r.lists[opEpoch] {
		if v.counts(i) {
			list = append(list, i)
			for _, d := range v.r.ops[i].op.Body.(OpEpoch).Merges {
				merged[d] = true
			}
		}
	}
	var heads []EpochHead
	if first := wire.Digest(v.r.gid); !merged[first] {
		heads = append(heads, EpochHead{Operation: first, Number: FirstEpoch})
	}
	for _, i := range list {
		if n := v.r.ops[i]; !merged[n.digest] {
			b := n.op.Body.(OpEpoch)
			heads = append(heads, EpochHead{Operation: n.digest, Number: b.Number, Commitment: b.Commitment, Postings: b.Postings})
		}
	}
	slices.SortFunc(heads, func(a, b EpochHead) int { return compareDigests(a.Operation, b.Operation) })
	return heads
}
