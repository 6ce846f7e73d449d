package member

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// State is what a roster says. Every list is sorted, by seat, id or digest,
// so equal sets of operations give equal states.
type State struct {
	Members  []Member
	Removed  []Removed // seats that were removed or left
	Pending  []Pending // seats whose admission is void: another admin may adopt them
	Invites  []Invite
	Policy   Policy
	Relays   []RelayRef  // in force, in the order of the list
	Ordinal  uint32      // of the list; 0: the genesis'
	Spares   []Spare     // relays in reserve that are left, in the order in which they are taken
	Reserve  wire.Digest // the operation that names them; zero: none does
	Epochs   []EpochHead
	Void     []VoidOperation
	Disputes []Dispute
	Headless bool // neither owner nor admin is left: nothing but leaving is possible any more
}

// Member is a seat of the group.
type Member struct {
	Seat         wire.Seat
	Role         uint8
	Path         int         // length of the delegation path of what it does; the founder's is 0
	Admitted     wire.Digest // the operation that admitted it; zero: the genesis did
	By           wire.Seat   // whose operation that was; for the founder its own
	Announcement wire.Digest // that was admitted; zero for the founder
	Invite       [16]byte    // that it came by; zero: by none
	Since        time.Time   // for people
	Suspended    bool        // it signed two operations after one: an owner has to act
}

// Removed is a seat that is out.
type Removed struct {
	Seat wire.Seat
	Left bool  // by itself
	Cuts []Cut // of every removal that counts, ascending by operation, incarnation, sequence
}

// Counts tells whether a message of that seat counts, as far as the cuts are of
// its incarnation: each removal draws its own line, and the lowest holds.
func (r *Removed) Counts(incarnation wire.Incarnation, sequence uint64) bool {
	return !slices.ContainsFunc(r.Cuts, func(c Cut) bool { return c.Incarnation == incarnation && sequence > c.Sequence })
}

// Pending is a seat that was admitted by an operation that is void.
type Pending struct {
	Seat         wire.Seat
	Admitted     wire.Digest // the void operation
	By           wire.Seat
	Announcement wire.Digest
	Role         uint8
}

// Invite is an invite that an operation which counts issued. Its expiry is for
// whoever has a clock.
type Invite struct {
	ID        [16]byte
	Record    InviteRecord
	Operation wire.Digest
	By        wire.Seat
	Revoked   bool // or ended by a change of the group's mode
	Postings  []Posting
}

// EpochHead is an epoch that no other merged.
type EpochHead struct {
	Operation  wire.Digest // for the group's first epoch the group id
	Number     uint64
	Commitment wire.Digest // zero for the first epoch
	Postings   []Posting
}

// VoidOperation is an operation that is kept and has no effect.
type VoidOperation struct {
	Operation wire.Digest
	Author    wire.Seat
	Cause     Cause
}

// DisputeKind is what a dispute is about.
type DisputeKind uint8

const (
	// DisputeFork: a seat signed several operations after one. The operations
	// are the evidence.
	DisputeFork DisputeKind = 1 + iota
	// DisputeDraw: admins of equal path struck at each other; the seats lost
	// their role.
	DisputeDraw
	// DisputeLists: several relay lists, policies, or lists of spare relays that
	// differ were made at once; one of them is in force.
	DisputeLists
)

// Dispute is something that people have to look at.
type Dispute struct {
	Kind       DisputeKind
	Seats      []wire.Seat
	Operations []wire.Digest
	Settled    bool // a fork: an owner acted
}

// Voting is Genesis.Voting for the policy and the relays in force: where the
// relays' operators cannot meet the policy, all of them that it names are needed,
// and all there are where it names none of them.
func (s *State) Voting(verify keys.Verify) crossverify.Policy {
	return voting(&s.Policy, s.Relays, nil, verify)
}

// Member finds a seat among the members.
func (s *State) Member(seat wire.Seat) (*Member, bool) {
	i, ok := slices.BinarySearchFunc(s.Members, seat, func(m Member, seat wire.Seat) int { return bytes.Compare(m.Seat[:], seat[:]) })
	if !ok {
		return nil, false
	}
	return &s.Members[i], true
}

// State is what the accepted operations say together. It is shared: the caller
// does not change it, and the next accepted operation makes a new one.
func (r *Roster) State() *State {
	if r.state == nil {
		r.state = r.all().state()
	}
	return r.state
}

// Member tells what State would of one seat, without making the others' part;
// nil: it is no member.
func (r *Roster) Member(seat wire.Seat) *Member {
	v := r.all()
	if st := v.seat(seat); st.in {
		m := v.member(seat, st)
		return &m
	}
	return nil
}

func (v *rosterView) state() *State {
	s := &State{Epochs: v.epochs(), Headless: true}
	seats := slices.Collect(maps.Keys(v.r.touching))
	if _, ok := v.r.touching[v.r.founder]; !ok {
		seats = append(seats, v.r.founder)
	}
	slices.SortFunc(seats, compareSeats)
	s.Members = make([]Member, 0, len(seats))
	for _, seat := range seats {
		switch st := v.seat(seat); {
		case st.in:
			m := v.member(seat, st)
			s.Headless = s.Headless && privilege(m.Role) < privilege(RoleAdmin)
			s.Members = append(s.Members, m)
		case st.gone:
			s.Removed = append(s.Removed, v.removed(seat, st))
		case st.pending >= 0:
			s.Pending = append(s.Pending, v.pending(seat, st.pending))
		}
	}
	s.Invites = v.invites()
	s.readLists(v)
	s.readVoid(v)
	slices.SortFunc(s.Disputes, func(a, b Dispute) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), slices.CompareFunc(a.Operations, b.Operations, compareDigests))
	})
	return s
}

func (v *rosterView) member(seat wire.Seat, st *seatStanding) Member {
	m := Member{Seat: seat, Role: st.role, Path: st.depth, Suspended: v.suspended(seat), By: seat, Since: v.r.genesis.Created}
	if st.source == genesisAdmits {
		return m
	}
	n := v.r.ops[st.source]
	m.Admitted, m.By, m.Since = n.digest, n.seat, n.op.Time
	m.Announcement, m.Invite = n.admits(seat)
	return m
}

// admits is the announcement that an operation admits a seat with, and the
// invite that the seat came by.
func (n *rosterNode) admits(seat wire.Seat) (announcement wire.Digest, invite [16]byte) {
	switch b := n.op.Body.(type) {
	case OpAdd:
		announcement = b.Announcement
	case OpAdopt:
		for i := range b.Seats {
			if b.Seats[i].Seat == seat {
				announcement, invite = b.Seats[i].Announcement, b.Seats[i].Invite
			}
		}
	}
	return announcement, invite
}

func (v *rosterView) removed(seat wire.Seat, st *seatStanding) Removed {
	out := Removed{Seat: seat}
	for _, i := range v.r.newestOf(slices.Clone(st.ends)) {
		if b, ok := v.r.ops[i].op.Body.(OpRemove); ok {
			out.Cuts = append(out.Cuts, b.Cut)
		} else {
			out.Left = true
		}
	}
	slices.SortFunc(out.Cuts, func(a, b Cut) int {
		return cmp.Or(compareDigests(a.Operation, b.Operation), bytes.Compare(a.Incarnation[:], b.Incarnation[:]), cmp.Compare(a.Sequence, b.Sequence))
	})
	return out
}

func (v *rosterView) pending(seat wire.Seat, at int) Pending {
	n := v.r.ops[at]
	ann, _ := n.admits(seat)
	return Pending{Seat: seat, Admitted: n.digest, By: n.seat, Announcement: ann, Role: n.gives(seat, false)}
}

func (v *rosterView) invites() (list []Invite) {
	revoked := map[[16]byte]bool{}
	for _, i := range v.r.lists[opRevoke] {
		if v.counts(i) {
			revoked[v.r.ops[i].op.Body.(OpRevoke).Invite] = true
		}
	}
	for _, i := range v.r.lists[opInvite] {
		if n := v.r.ops[i]; v.counts(i) {
			b := n.op.Body.(OpInvite)
			rec := b.Record
			id := InviteID(rec.Key)
			list = append(list, Invite{ID: id, Record: rec, Postings: b.Postings, Operation: n.digest, By: n.seat, Revoked: revoked[id] || v.ended(i)})
		}
	}
	slices.SortFunc(list, func(a, b Invite) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), compareDigests(a.Operation, b.Operation))
	})
	return list
}

func (s *State) readLists(v *rosterView) {
	var relays, policies, spares []int
	s.Relays, s.Ordinal, relays = v.relays()
	s.Policy, policies = v.policy()
	s.Spares, s.Reserve, spares = v.spares()
	for _, rivals := range [][]int{relays, policies, spares} {
		if v.differ(rivals) {
			d := Dispute{Kind: DisputeLists}
			for _, i := range rivals {
				d.add(v.r.ops[i].seat, v.r.ops[i].digest)
			}
			s.Disputes = append(s.Disputes, d)
		}
	}
}

// differ tells whether operations say different things: two admins' devices that put
// one spare relay in one place say the same.
func (v *rosterView) differ(rivals []int) bool {
	for _, i := range rivals {
		if !bytes.Equal(v.r.ops[i].op.Body.append(nil), v.r.ops[rivals[0]].op.Body.append(nil)) {
			return true
		}
	}
	return false
}

func (s *State) readVoid(v *rosterView) {
	for seat, forks := range v.r.forks {
		for _, f := range forks {
			d := Dispute{Kind: DisputeFork, Settled: v.pardoned(seat, f, nil) || !v.seat(seat).in}
			for _, b := range f.branches {
				d.add(seat, v.r.ops[b].digest)
			}
			s.Disputes = append(s.Disputes, d)
		}
	}
	for i := range v.drawn {
		d := Dispute{Kind: DisputeDraw}
		d.add(v.r.ops[i].seat, v.r.ops[i].digest)
		d.add(v.r.ops[i].subject, v.r.ops[i].digest)
		s.Disputes = append(s.Disputes, d)
	}
	if v.why == nil {
		return
	}
	for i, n := range v.r.ops {
		if c := v.cause(i); c != voidNot {
			s.Void = append(s.Void, VoidOperation{Operation: n.digest, Author: n.seat, Cause: c})
		}
	}
	slices.SortFunc(s.Void, func(a, b VoidOperation) int { return compareDigests(a.Operation, b.Operation) })
}

// add puts a seat and an operation in, each once and sorted.
func (d *Dispute) add(seat wire.Seat, op wire.Digest) {
	if i, ok := slices.BinarySearchFunc(d.Seats, seat, compareSeats); !ok {
		d.Seats = slices.Insert(d.Seats, i, seat)
	}
	if i, ok := slices.BinarySearchFunc(d.Operations, op, compareDigests); !ok {
		d.Operations = slices.Insert(d.Operations, i, op)
	}
}

func compareSeats(a, b wire.Seat) int { return bytes.Compare(a[:], b[:]) }
