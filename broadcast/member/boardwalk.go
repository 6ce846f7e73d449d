package member

import (
	"fmt"
	"time"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// How a board is read: by its root alone if that is the one expected, by a walk
// to where it differs, or from its beginning to its end.

const (
	// boardWait is how long a path waits for a page of the board that is listed
	// first, and for an answer to a walk. Default: 3 s.
	boardWait = 3 * time.Second
	// boardWaitPart is which part of the time of a joining a path waits for
	// another's board, at most. Default: a quarter.
	boardWaitPart = 4
	// maxWalks is how often a walk is begun while the board changes under it;
	// then it is listed. Default: 8.
	maxWalks = 8
	// maxWalkTurns is how many questions one walk has: boards whose names share
	// long beginnings are listed. Default: 32.
	maxWalkTurns = 32
	// maxWalkPlaces is how many places one walk looks at, beside those that are
	// entries: as much as 544 KiB of nodes. Boards that differ by more are
	// listed. Default: 1,024.
	maxWalkPlaces = 1024
	// walkPart is for how many expected entries a walk may look at one place.
	// Default: 4: then the nodes are an eighth of what a listing has.
	walkPart = 4
	// minWalkPlaces is how many places a walk may look at on the smallest board.
	// Default: 64.
	minWalkPlaces = 64
	// maxPushed is how many writes are kept of a path whose board is being read.
	// Default: 8,192.
	maxPushed = 8192
)

// boardReading is how far the reading of a path's board is, on one link.
type boardReading struct {
	wanted  bool
	since   time.Time          // when it was wanted
	listing bool               // it is listed from its beginning
	page    time.Time          // when the listing last went on
	pushed  []crossverify.Leaf // written since then
	expect  *expectation
	spent   *reference // that this board is too different from
	walk    *boardWalk
	walks   int
	bytes   int // of the values that they found
}

// boardWalk is a walk under way.
type boardWalk struct {
	*crossverify.Walk
	expected crossverify.Tree
	entries  []proto.BoardEntry // that it found
	most     int                // places
	turns    int
	until    time.Time // when the relay has not answered
}

// board is what a board is, of which these entries were expected.
func (w *boardWalk) board(expected []crossverify.Leaf) (tree crossverify.Tree) {
	gone, found := w.Result()
	for _, l := range expected {
		if !gone[l.Name] {
			tree.Put(l)
		}
	}
	for _, l := range found {
		if newer, had := tree.Get(l.Name); !had || newer.Version <= l.Version {
			tree.Put(l)
		}
	}
	return tree
}

// unlist notes that the board of a path may have changed unseen. What it showed
// before, if all of it was taken in, is expected of it.
func (m *Machine) unlist(p *path) {
	if p.listed {
		p.taken = p.orphans == 0 && len(p.stash.entries) == 0 && !p.stash.missed
	}
	p.listed = false
}

// wantBoard begins to read a path's board.
func (m *Machine) wantBoard(p *path) {
	p.read.reading = boardReading{wanted: true, since: m.now}
	m.nextBoard(p)
}

// listBoard asks for the board from its beginning.
func (m *Machine) listBoard(p *path) {
	r := &p.read.reading
	p.read.board, p.read.bytes, p.read.root = nil, 0, wire.Digest{}
	r.listing, r.page, r.walk, r.expect = true, m.now, nil, nil
	m.send(p.read.link, proto.BoardList{Limit: proto.MaxBoardPage})
}

// stepBoards goes on with what was waited for: a board that was read is the
// reference of others, and may have brought the keys to it.
func (m *Machine) stepBoards() {
	if m.meta == nil || m.keyring == nil {
		return
	}
	for range m.paths {
		read := false
		for _, p := range m.paths {
			m.nextBoard(p)
			read = read || p.read.reading.wanted && p.listed
			p.read.reading.wanted = p.read.reading.wanted && !p.listed
		}
		if !read {
			break
		}
	}
	m.dropReference()
}

// nextBoard does what comes next in reading a path's board.
func (m *Machine) nextBoard(p *path) {
	r := &p.read.reading
	if !r.wanted || r.listing || p.listed || !p.read.opened {
		return
	}
	if r.walk != nil && !m.now.Before(r.walk.until) {
		p.walkless = true // until it is opened anew
	}
	if p.walkless || m.meta.Phase == phaseFounding {
		m.listBoard(p)
		return
	}
	e := m.expect(p)
	switch {
	case e == nil:
		if at := m.boardWaits(p); at.IsZero() || !m.now.Before(at) {
			m.listBoard(p)
		}
	case m.signedRoot(p, &e.tree):
	case r.walk == nil:
		m.walkBoard(p, e)
	}
}

// boardWaits is until when a path waits for the board that another one lists;
// zero: none does, or what is on it would open nothing.
func (m *Machine) boardWaits(p *path) (t time.Time) {
	if m.meta.Asking != nil && len(m.keyring.epochs) == 0 {
		return t
	}
	r := &p.read.reading
	for _, q := range m.paths {
		o := &q.read.reading
		if q == p || q.aside || q.listed || !o.listing {
			continue
		}
		at := o.page
		if r.since.After(at) {
			at = r.since
		}
		at = at.Add(boardWait)
		if most := r.since.Add(m.joinWait() / boardWaitPart); at.After(most) {
			at = most
		}
		if at.After(t) {
			t = at
		}
	}
	return t
}

// boardsWake is when a path stops waiting for another's board, or for an answer;
// zero: none waits.
func (m *Machine) boardsWake() (t time.Time) {
	for _, p := range m.paths {
		r := &p.read.reading
		if !r.wanted || r.listing || p.listed || !p.read.opened {
			continue
		}
		at := m.boardWaits(p)
		if r.walk != nil {
			at = r.walk.until
		}
		if !at.IsZero() && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// signedRoot takes the board that is expected of a path as shown by it, if its
// relay signed that root: at its newest number, or where the path is by now, but
// not before what it said was the newest when the mailbox was opened.
func (m *Machine) signedRoot(p *path, board *crossverify.Tree) bool {
	for _, s := range []crossverify.Statement{p.newest, p.heads[p.position]} {
		if s.N > 0 && board.Len() <= maxBoardEntries && s.N >= p.read.target && s.Lineage == p.lineage && s.Root == board.Root() {
			m.boardRead(p, *board.Clone(), p.read.reading.expect.unread(board), s)
			return true
		}
	}
	return false
}

// walkBoard begins a walk from the newest root that the relay signed.
func (m *Machine) walkBoard(p *path, e *expectation) {
	r := &p.read.reading
	if r.walks++; r.walks > maxWalks || p.newest.N < max(1, p.read.target) || p.newest.Lineage != p.lineage {
		m.listBoard(p)
		return
	}
	r.walk = &boardWalk{Walk: crossverify.NewWalk(&e.tree, p.newest.Root), expected: *e.tree.Clone(), most: min(max(minWalkPlaces, e.tree.Len()/walkPart), maxWalkPlaces)}
	m.walkOn(p, p.newest)
}

// walkOn asks the next question, or takes the board that was found under s.
func (m *Machine) walkOn(p *path, s crossverify.Statement) {
	r := &p.read.reading
	w := r.walk
	if !w.Done() {
		w.turns++
		w.until = m.now.Add(boardWait)
		p.read.questions++
		m.send(p.read.link, proto.BoardWalk{Root: w.Root(), Places: w.Ask(proto.MaxWalk)})
		return
	}
	board := w.board(w.expected.Leaves())
	if board.Len() > maxBoardEntries {
		m.tooLarge(p)
		return
	}
	if board.Root() != s.Root { // of a tree that no board has, such as a node above one leaf
		m.wrongRoot(p)
		return
	}
	r.expect.learn(w)
	m.boardRead(p, board, r.expect.unread(&board), s)
}

// boardNodes takes the answer to a walk.
func (m *Machine) boardNodes(p *path, f proto.BoardNodes) {
	r := &p.read.reading
	w := r.walk
	if p.read.questions = max(0, p.read.questions-1); p.read.questions != 0 || p.listed || !p.read.opened || w == nil {
		return // what was asked in a walk that was given up, as for a new lineage
	}
	if !m.ours(p, f.Statement) || f.Statement.Lineage != p.lineage {
		m.pathFailed(p, "board", fmt.Sprintf("relay %s showed a board under a statement that is not its own", p.label()))
		return
	}
	m.checkHead(p, f.Statement)
	m.keepStatement(p, f.Statement)
	if f.Statement.Root != w.Root() || f.Statement.N < p.position && f.Statement.Root != p.root {
		r.expect.learn(w) // the board changed under it: what it found is still of use
		r.walk = nil
		m.nextBoard(p)
		return
	}
	answers := make([]crossverify.Subtree, len(f.Places))
	for i, s := range f.Places {
		answers[i].Nodes = s.Nodes
		if s.Entry != nil {
			answers[i].Entry = &crossverify.Leaf{Name: s.Entry.Name, Version: s.Entry.Version, Value: crossverify.ValueDigest(s.Entry.Value)}
			w.entries = append(w.entries, *s.Entry)
			r.bytes += len(s.Entry.Value)
		}
	}
	if err := w.Take(answers); err != nil {
		m.wrongRoot(p)
		return
	}
	if r.bytes > maxBoardBytes || len(w.entries) > maxBoardEntries {
		m.tooLarge(p)
		return
	}
	if !w.Done() && (w.Spots()-len(w.entries) > w.most || w.turns >= maxWalkTurns) {
		if r.expect.of == nil {
			p.taken = false
		}
		r.spent, r.walk, r.expect = r.expect.of, nil, nil
		m.nextBoard(p)
		return
	}
	m.walkOn(p, f.Statement)
}

// tooLarge: nobody reads such a board.
func (m *Machine) tooLarge(p *path) {
	m.pathFailed(p, "board", fmt.Sprintf("relay %s shows a board of more than %d entries or %d bytes", p.label(), maxBoardEntries, maxBoardBytes))
}

func (m *Machine) wrongRoot(p *path) {
	m.pathFailed(p, "board root", fmt.Sprintf("relay %s signed a board root that is not the root of what it shows", p.label()))
}

// walkRefused: the relay does not let its board be walked now, or never does.
func (m *Machine) walkRefused(p *path) {
	if p.read.questions = max(0, p.read.questions-1); p.read.questions == 0 && p.read.reading.walk != nil {
		p.walkless = true
		m.nextBoard(p)
	}
}
