package crossverify

import (
	"fmt"
	"slices"

	"parallax/internal/wire"
)

// Walk finds, from the root down, where a board under a signed root is not the
// one that is expected, asking only for what differs (section 7). Whatever it is
// answered, it takes nothing that does not lead to the root. It belongs to one
// goroutine.
type Walk struct {
	expected Tree
	root     wire.Digest
	todo     []Spot               // that differ, and were not asked for
	asked    []Spot               // ascending, without an answer
	gone     map[wire.Digest]bool // expected entries that the board does not have, or not so
	found    []Leaf               // entries of the board that were not expected, or not so
	spots    int
}

// Subtree is what a relay has at one place that it was asked for: nodes, or one
// entry, or neither: later.
type Subtree struct {
	Nodes Nodes
	Entry *Leaf
}

// NewWalk begins at a root. expected may change afterwards.
func NewWalk(expected *Tree, root wire.Digest) *Walk {
	w := &Walk{expected: *expected.Clone(), root: root, gone: map[wire.Digest]bool{}}
	w.look(Spot{Hash: root})
	return w
}

// look compares what stands at a place with what is expected there.
func (w *Walk) look(s Spot) {
	switch {
	case w.expected.Sum(s.Prefix) == s.Hash:
	case s.Hash == (wire.Digest{}):
		w.drop(s.Prefix)
	default:
		w.todo = append(w.todo, s)
	}
}

func (w *Walk) drop(p Prefix) {
	for _, l := range w.expected.Below(p) {
		w.gone[l.Name] = true
	}
}

// Root is the root that the walk is under.
func (w *Walk) Root() wire.Digest { return w.root }

// Done tells whether nothing is left to ask for.
func (w *Walk) Done() bool { return len(w.todo)+len(w.asked) == 0 }

// Spots is how many places the walk was answered or is waiting for.
func (w *Walk) Spots() int { return w.spots }

// Ask is what to ask for next, at most most places, ascending; each is answered
// by its place in this list.
func (w *Walk) Ask(most int) (list []Prefix) {
	n := min(most, len(w.todo))
	w.asked, w.todo = slices.Clone(w.todo[:n]), w.todo[n:]
	slices.SortFunc(w.asked, func(a, b Spot) int { return a.Compare(b.Prefix) })
	w.spots += n
	for _, s := range w.asked {
		list = append(list, s.Prefix)
	}
	return list
}

// Take takes the answers to what was asked for last, all of them in its order.
// After an error the walk is of no use. Error: ErrNodes.
func (w *Walk) Take(answers []Subtree) error {
	if len(answers) != len(w.asked) {
		return fmt.Errorf("%w: %d answers to %d questions", ErrNodes, len(answers), len(w.asked))
	}
	late := 0
	for i, a := range answers {
		at := w.asked[i]
		switch {
		case a.Entry != nil:
			if a.Entry.hash() != at.Hash || !at.Holds(a.Entry.Name) {
				return fmt.Errorf("%w: the entry %s is not what stands there", ErrNodes, a.Entry.Name.Short())
			}
			w.drop(at.Prefix)
			w.found = append(w.found, *a.Entry)
		case a.Nodes == nil:
			w.todo = append(w.todo, at)
			w.spots--
			late++
		case at.Leaf || len(a.Nodes) == 1: // one entry is shown itself
			return fmt.Errorf("%w: no entry where one stands", ErrNodes)
		default:
			spots, err := a.Nodes.Check(at)
			if err != nil {
				return err
			}
			for _, s := range spots {
				w.look(s)
			}
		}
	}
	if late == len(answers) && late > 0 {
		return fmt.Errorf("%w: none of the answers says anything", ErrNodes)
	}
	w.asked = nil
	return nil
}

// Result is what differs, as far as it was walked: the names of entries that are
// expected and not on the board, or there as something else, and the entries that
// are on the board in their place and besides. When the walk is Done, what is
// expected without the first and with the second has the root.
func (w *Walk) Result() (gone map[wire.Digest]bool, found []Leaf) { return w.gone, w.found }
