package member

import (
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// Entries are the same for all relays, and sealed without chance: who has read
// one relay's board knows what every other's must be, bytes and root (design.md
// section 6, docs/protocol.md section 7). The board that was listed is the
// reference for the others. It is never a reason to believe anything: what is
// computed from it counts as shown by a relay only under a root that the relay
// signed.

const (
	// referenceKept is how long a reference waits for paths that were not read,
	// such as those of relays that are down. Default: 10 min.
	referenceKept = 10 * time.Minute
	// maxReference is how many bytes of values a reference has. Default: 16 MiB,
	// as much as a relay keeps.
	maxReference = 16 << 20
)

// reference is a board that was listed, kept as long as other boards are read.
type reference struct {
	path    *path
	until   time.Time
	entries []proto.BoardEntry // as its relay has them; later ones replace earlier ones of their name
	bytes   int                // of their values
	turns   int                // of the keyring that plain is by
	plain   []plainEntry       // of entries, as far as they were looked at
}

// plainEntry is an entry as every relay's board has it.
type plainEntry struct {
	key     int // among shelfKeys; -1: none opens it
	name    string
	version uint64
	value   []byte
}

// shelfKeys are all keys that entries of a path's board are sealed under: the
// same ones, in the same order, on each path.
func (m *Machine) shelfKeys(p *path) []broadcast.BoardKeys {
	k := m.keysOf(p)
	list := slices.Concat(k.doors, m.boardKeys(p))
	for _, r := range k.rooms {
		list = append(list, r.board)
	}
	return list
}

// refer makes a board that was just listed the reference, if anybody needs one.
func (m *Machine) refer(p *path, board []proto.BoardEntry, bytes int) {
	if p.aside || bytes > maxReference || !m.boardsMissing() {
		return
	}
	m.reference = &reference{path: p, entries: board, bytes: bytes, until: m.now.Add(referenceKept)}
}

// boardsMissing tells whether a relay's board has not been read.
func (m *Machine) boardsMissing() bool {
	return slices.ContainsFunc(m.paths, func(p *path) bool { return p.listedRelay() && !p.listed })
}

// refersTo keeps the reference as its relay's board is.
func (m *Machine) refersTo(p *path, e proto.BoardEntry) {
	f := m.reference
	if f == nil || f.path != p {
		return
	}
	if f.bytes += len(e.Value); f.bytes > maxReference {
		m.reference = nil
		return
	}
	f.entries = append(f.entries, e)
}

// dropReference forgets it when nobody needs it any more.
func (m *Machine) dropReference() {
	if m.reference != nil && (!m.now.Before(m.reference.until) || !m.boardsMissing()) {
		m.reference = nil
	}
}

// readReference is what the reference has, as far as the keys at hand open it;
// nil: there is none, or no key.
func (m *Machine) readReference() []plainEntry {
	f := m.reference
	if f == nil || m.ledger == nil || len(m.keyring.epochs) == 0 {
		return nil
	}
	if f.turns != m.keyring.turns {
		f.turns, f.plain = m.keyring.turns, nil
	}
	if len(f.plain) == len(f.entries) {
		return f.plain
	}
	shelf, last := m.shelfKeys(f.path), 0
	for _, e := range f.entries[len(f.plain):] {
		x := plainEntry{key: -1, version: e.Version}
		for i := range shelf { // most are under the key of the one before
			at := (last + i) % len(shelf)
			if name, value, err := shelf[at].Open(e.Name, e.Version, e.Value); err == nil {
				x.key, x.name, x.value, last = at, name, value, at
				break
			}
		}
		f.plain = append(f.plain, x)
	}
	return f.plain
}

// expectation is what one relay's board must be.
type expectation struct {
	of     *reference // nil: the path's own board, as it was read before
	turns  int        // of the keyring
	tree   crossverify.Tree
	values map[wire.Digest][]byte // sealed, by digest: of what this path has not shown yet
	had    int                    // entries of the reference that are in
	pushed int                    // writes of the path that are in
}

// expect is what a path's board must be by now; nil: nobody knows. What was
// written on the path since its link stands is known from there.
func (m *Machine) expect(p *path) *expectation {
	r := &p.read.reading
	e := r.expect
	switch {
	case e != nil && (e.of == nil || r.walk != nil):
	case p.taken:
		e = &expectation{tree: *p.tree.Clone(), pushed: len(r.pushed)}
	case m.reference == nil || m.reference == r.spent || m.reference.path == p || m.readReference() == nil:
		e = nil
	case e == nil || e.of != m.reference || e.turns != m.keyring.turns:
		e = &expectation{of: m.reference, turns: m.keyring.turns, values: map[wire.Digest][]byte{}}
	}
	if r.expect = e; e == nil {
		return nil
	}
	if e.of != nil && e.of == m.reference && e.turns == m.keyring.turns && e.had < len(e.of.entries) {
		shelf, list := m.shelfKeys(p), m.readReference()
		for _, x := range list[e.had:] {
			if x.key < 0 || x.key >= len(shelf) {
				continue
			}
			name, sealed := shelf[x.key].Seal(x.name, x.version, x.value)
			l := crossverify.Leaf{Name: name, Version: x.version, Value: crossverify.ValueDigest(sealed)}
			if e.put(l) {
				e.values[l.Value] = sealed
			}
		}
		e.had = len(list)
	}
	for ; e.pushed < len(r.pushed); e.pushed++ {
		e.put(r.pushed[e.pushed])
	}
	return e
}

// put takes an entry unless a newer one is in, and tells whether it did.
func (e *expectation) put(l crossverify.Leaf) bool {
	old, had := e.tree.Get(l.Name)
	if had && old.Version >= l.Version {
		return false
	}
	e.tree.Put(l)
	return true
}

// learn takes what a walk found that came to no end.
func (e *expectation) learn(w *boardWalk) {
	e.tree = w.board(e.tree.Leaves())
	if e.values == nil {
		e.values = map[wire.Digest][]byte{}
	}
	for _, x := range w.entries {
		e.values[crossverify.ValueDigest(x.Value)] = x.Value
	}
}

// unread are the entries of a board whose values this path has not shown yet.
func (e *expectation) unread(board *crossverify.Tree) (list []proto.BoardEntry) {
	for _, l := range board.Leaves() {
		if v, ok := e.values[l.Value]; ok {
			list = append(list, proto.BoardEntry{Name: l.Name, Version: l.Version, Value: v})
		}
	}
	return list
}
