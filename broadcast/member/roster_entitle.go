package member

import (
	"fmt"
	"slices"

	"parallax/internal/wire"
)

// entitle tells whether an operation's author had the role for it, as the
// operation's own past shows, and notes the role and its delegation path. It
// is a function of that past alone, so every roster answers alike, whatever
// else it knows.
func (r *Roster) entitle(n *rosterNode) error {
	v := r.sees(&n.past)
	author := v.seat(n.seat)
	if !author.in {
		return fmt.Errorf("%T by seat %s, which is not a member, %w", n.op.Body, n.seat.Short(), ErrNotEntitled)
	}
	n.role, n.depth, n.path = author.role, author.depth, author.path
	if n.kind == opLeave {
		return nil
	}
	switch {
	case privilege(author.role) < privilege(RoleAdmin):
		return fmt.Errorf("%T by seat %s, which is no admin, %w", n.op.Body, n.seat.Short(), ErrNotEntitled)
	case author.depth > MaxPath:
		return fmt.Errorf("%T by seat %s, whose delegation path is longer than %d, %w", n.op.Body, n.seat.Short(), MaxPath, ErrNotEntitled)
	case v.suspended(n.seat):
		return fmt.Errorf("%T by seat %s, which signed two operations after one, %w until an owner acts", n.op.Body, n.seat.Short(), ErrNotEntitled)
	}
	switch b := n.op.Body.(type) {
	case OpInvite:
		if p, _ := v.policy(); b.Record.Mode != p.Mode {
			return fmt.Errorf("an invite by %s: %w", modeName(b.Record.Mode), modeError(p.Mode))
		}
	case OpAdd:
		return r.entitleAdd(v, n, b)
	case OpAdopt:
		p, _ := v.policy()
		for i := range b.Seats {
			if p.Mode != ModeOpen && b.Seats[i].Invite != ([16]byte{}) {
				return fmt.Errorf("adopting seat %s, which let itself in: %w", b.Seats[i].Seat.Short(), modeError(p.Mode))
			}
			if v.seat(b.Seats[i].Seat).in {
				return fmt.Errorf("adopting seat %s, a member already, %w", b.Seats[i].Seat.Short(), ErrNothingToDo)
			}
		}
	case OpRemove:
		return r.entitleRemove(v, n, b)
	case OpRole:
		return r.entitleRole(v, n, b)
	case OpRelays:
		if _, ordinal, _ := v.relays(); b.Ordinal != ordinal+1 {
			return fmt.Errorf("relay list %d after %d %w", b.Ordinal, ordinal, wire.ErrFormat)
		}
	case OpPolicy, OpSpares:
		if author.role != RoleOwner {
			return fmt.Errorf("%T by seat %s, which is no owner, %w", b, n.seat.Short(), ErrNotEntitled)
		}
	case OpEpoch:
		heads := v.epochs()
		heads = heads[:min(len(heads), MaxMerged)]
		if !slices.EqualFunc(b.Merges, heads, func(d wire.Digest, h EpochHead) bool { return d == h.Operation }) {
			return fmt.Errorf("an epoch that does not merge the epochs its author knew: %w", wire.ErrFormat)
		}
		if b.Number != NewEpochNumber(b.Commitment, heads...) {
			return fmt.Errorf("an epoch numbered %d: %w", b.Number, wire.ErrFormat)
		}
	}
	return nil
}

func (r *Roster) entitleAdd(v *rosterView, n *rosterNode, b OpAdd) error {
	switch {
	case v.seat(b.Seat).in:
		return fmt.Errorf("adding seat %s, a member already, %w", b.Seat.Short(), ErrNothingToDo)
	case privilege(b.Role) > privilege(n.role):
		return fmt.Errorf("an owner by seat %s, which is none, %w", n.seat.Short(), ErrNotEntitled)
	}
	return nil
}

func (r *Roster) entitleRemove(v *rosterView, n *rosterNode, b OpRemove) error {
	subject := v.seat(b.Seat)
	switch {
	case subject.in && privilege(subject.role) > privilege(n.role):
		return fmt.Errorf("removing owner %s %w", b.Seat.Short(), ErrNotEntitled)
	case subject.gone:
		return fmt.Errorf("removing seat %s, which is out already, %w", b.Seat.Short(), ErrNothingToDo)
	}
	return r.checkCut(v, b.Seat, b.Cut.Operation)
}

func (r *Roster) entitleRole(v *rosterView, n *rosterNode, b OpRole) error {
	subject := v.seat(b.Seat)
	old, now := privilege(subject.role), privilege(b.Role)
	pardon := n.role == RoleOwner && v.suspended(b.Seat)
	switch {
	case !subject.in:
		return fmt.Errorf("a role for seat %s, which is not a member, %w", b.Seat.Short(), ErrNothingToDo)
	case old == now && !pardon:
		return fmt.Errorf("a role that seat %s has %w", b.Seat.Short(), ErrNothingToDo)
	case max(old, now) > privilege(n.role) || b.Seat == n.seat && now >= old:
		return fmt.Errorf("a role for seat %s %w", b.Seat.Short(), ErrNotEntitled)
	}
	n.strike = now < old
	return r.checkCut(v, b.Seat, b.Cut.Operation)
}

// checkCut: the operation that a strike names is the newest of its subject in
// the strike's own past; of a fork, that of any branch.
func (r *Roster) checkCut(v *rosterView, subject wire.Seat, last wire.Digest) error {
	known := map[int]bool{} // whether another of the subject's follows
	for _, i := range r.byAuthor[subject] {
		if v.has(i) {
			if _, ok := known[i]; !ok {
				known[i] = false
			}
			if p := r.ops[i].prev; p >= 0 {
				known[p] = true
			}
		}
	}
	if last == (wire.Digest{}) && len(known) == 0 {
		return nil
	}
	if i, ok := r.index[last]; ok {
		if followed, ok := known[i]; ok && !followed {
			return nil
		}
	}
	return fmt.Errorf("what is taken from seat %s %w", subject.Short(), ErrBadCut)
}
