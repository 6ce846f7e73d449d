package member

import (
	"fmt"
	"slices"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Next prepares an author's next operation: its number, its predecessor and
// what it knows, and, where body takes something from a seat and names no
// operation of it, that seat's newest. The author signs it, and Checks it
// first. Of an author that forked the longest branch is taken.
func (r *Roster) Next(author keys.SigningPublic, at time.Time, body OperationBody) *Operation {
	op := &Operation{Group: r.gid, Author: author, Sequence: 1, Time: at, Body: body}
	self := NewSeat(r.gid, author)
	var first []int // heads that have to be named
	prev := r.newest(self)
	if prev >= 0 {
		op.Sequence, op.Previous = r.ops[prev].op.Sequence+1, r.ops[prev].digest
	}
	last := func(s wire.Seat) (d wire.Digest) {
		if i := r.newest(s); i >= 0 {
			d = r.ops[i].digest
			for _, h := range r.heads {
				if h == i || r.ops[h].past.has(i) {
					first = append(first, h)
					break
				}
			}
		}
		return d
	}
	switch b := body.(type) {
	case OpRemove:
		if newest := last(b.Seat); b.Cut.Operation == (wire.Digest{}) {
			b.Cut.Operation = newest
		}
		op.Body = b
	case OpRole:
		if newest := last(b.Seat); b.Cut.Operation == (wire.Digest{}) {
			b.Cut.Operation = newest
		}
		op.Body = b
	}
	for _, h := range append(first, r.heads...) {
		d := r.ops[h].digest
		known := h == prev || prev >= 0 && r.ops[prev].past.has(h)
		if len(op.Heads) < MaxHeads && !known && !slices.Contains(op.Heads, d) {
			op.Heads = append(op.Heads, d)
		}
	}
	slices.SortFunc(op.Heads, compareDigests)
	return op
}

// newest is the index of a seat's operation with the greatest number, of
// several that with the smallest digest; -1: it made none.
func (r *Roster) newest(s wire.Seat) int {
	best := -1
	for _, i := range r.byAuthor[s] {
		if best < 0 || r.ops[i].op.Sequence > r.ops[best].op.Sequence ||
			r.ops[i].op.Sequence == r.ops[best].op.Sequence && compareDigests(r.ops[i].digest, r.ops[best].digest) < 0 {
			best = i
		}
	}
	return best
}

// Check tells whether an operation that was made here, by what this roster
// knows, would be accepted, and refuses one that leaves the group without an
// owner. The signature is not looked at.
func (r *Roster) Check(op *Operation) error {
	if err := op.Check(); err != nil {
		return err
	}
	if op.Group != r.gid {
		return fmt.Errorf("roster operation of group %s %w", ShortID(op.Group), ErrOtherGroup)
	}
	if len(r.lacks(op)) > 0 {
		return fmt.Errorf("roster operation %w", ErrUnknownHeads)
	}
	n, err := r.place(op, op.Digest())
	if err == nil {
		err = r.entitle(n)
	}
	if err != nil {
		return err
	}
	takes := n.kind == opLeave || n.strike
	if takes && r.all().seat(n.subject).role == RoleOwner {
		for _, m := range r.State().Members {
			if m.Role == RoleOwner && m.Seat != n.subject {
				return nil
			}
		}
		return fmt.Errorf("this %w", ErrLastOwner)
	}
	return nil
}
