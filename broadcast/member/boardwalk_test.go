package member

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// shownBoard is a relay that has a board and does what the test says.
type shownBoard struct {
	m       *Machine
	p       *path
	n       uint64
	entries map[wire.Digest]proto.BoardEntry
	tree    crossverify.Tree

	page      int                                       // entries of one page; 0: all
	mute      bool                                      // it answers nothing
	noWalk    bool                                      // it refuses walks
	lie       func(f proto.BoardNodes) proto.BoardNodes // nil: none
	before    func()                                    // happens before each answer to a walk
	pages     int                                       // bytes of them
	nodes     int                                       // bytes of answers to walks
	entrySent int                                       // in answers to walks
	asked     int                                       // walks' questions
	waiting   []proto.Message                           // questions kept while mute
}

func (b *shownBoard) add(e proto.BoardEntry) {
	b.entries[e.Name] = e
	b.tree.Put(crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)})
	b.n++
}

// put seals an entry for this relay, as everybody would.
func (b *shownBoard) put(name string, version uint64, value string) {
	masked, sealed := b.m.keysOf(b.p).epochs[0].board.Seal(name, version, []byte(value))
	b.add(proto.BoardEntry{Name: masked, Version: version, Value: sealed})
}

func (b *shownBoard) statement() crossverify.Statement {
	return crossverify.Statement{Relay: b.p.ref.Key, Channel: b.p.channel, Lineage: b.p.lineage, N: b.n, Root: b.tree.Root()}
}

func (b *shownBoard) answer(msg proto.Message) proto.Message {
	switch q := msg.(type) {
	case proto.BoardList:
		a := proto.BoardPage{Statement: b.statement()}
		for _, l := range b.tree.Leaves() {
			if bytes.Compare(l.Name[:], q.After[:]) <= 0 {
				continue
			}
			if a.More = b.page > 0 && len(a.Entries) == b.page; a.More {
				break
			}
			a.Entries = append(a.Entries, b.entries[l.Name])
		}
		b.pages += len(proto.Encode(a).Body)
		return a
	case proto.BoardWalk:
		if b.asked++; b.noWalk {
			return proto.Refused{Of: proto.TypeBoardWalk, Code: proto.CodeUnknownType}
		}
		if b.before != nil {
			b.before()
		}
		a := proto.BoardNodes{Statement: b.statement()}
		if q.Root == b.tree.Root() {
			for _, p := range q.Places {
				if l, only := b.tree.Only(p); only {
					e := b.entries[l.Name]
					a.Places = append(a.Places, proto.Subtree{Entry: &e})
					b.entrySent++
				} else {
					a.Places = append(a.Places, proto.Subtree{Nodes: b.tree.Nodes(p)})
				}
			}
		}
		if b.lie != nil {
			a = b.lie(a)
		}
		b.nodes += len(proto.Encode(a).Body)
		return a
	}
	return nil
}

// boards are the relays of a member whose paths are all to be read.
func boards(t testing.TB, entries int) (*Machine, []*shownBoard) {
	m := laidDown(t, 1)
	m.cfg.Verify = anyKey
	var list []*shownBoard
	for i, p := range m.paths {
		p.syncRoot()
		p.listed, p.taken, p.tree = false, false, crossverify.Tree{}
		b := &shownBoard{m: m, p: p, n: p.position, entries: map[wire.Digest]proto.BoardEntry{}}
		for i := range entries {
			b.put(fmt.Sprintf("note/%d", i), 1, fmt.Sprintf("%0500d", i))
		}
		list = append(list, b)
		p.read = readLink{link: broadcast.Link(100 + i)}
		m.byLink[p.read.link] = p
	}
	return m, list
}

func (b *shownBoard) open() { b.m.opened(b.p, proto.Opened{Statement: b.statement()}) }

func openAll(list []*shownBoard) {
	for _, b := range list {
		b.open()
	}
	exchangeBoards(list)
}

// exchangeBoards carries questions and answers until nobody has any.
func exchangeBoards(list []*shownBoard) {
	m := list[0].m
	m.settle()
	for busy := true; busy; {
		busy = false
		sends := m.sends
		m.sends = nil
		for _, b := range list {
			b.waiting = append(b.waiting, b.questions(sends)...)
			if b.mute {
				continue
			}
			for _, q := range b.waiting {
				busy = true
				if a := b.answer(q); a != nil && b.p.read.link != 0 {
					m.onRead(b.p, a)
					m.settle()
				}
			}
			b.waiting = nil
		}
	}
}

func (b *shownBoard) questions(sends []broadcast.Send) (list []proto.Message) {
	for _, s := range sends {
		if msg, err := proto.Parse(s.Frame); err == nil && s.Link == b.p.read.link {
			list = append(list, msg)
		}
	}
	return list
}

// later lets time pass.
func later(list []*shownBoard, d time.Duration) {
	list[0].m.advance(list[0].m.now.Add(d))
	exchangeBoards(list)
}

// read fails unless the path's board is taken for what its relay has, and exactly
// what opens of it was read.
func (b *shownBoard) read(t *testing.T) {
	t.Helper()
	if !b.p.listed || b.p.tree.Root() != b.tree.Root() || !slices.Equal(b.p.tree.Leaves(), b.tree.Leaves()) {
		t.Errorf("the board of %s is not taken: read %v, %d entries of %d", b.p.label(), b.p.listed, b.p.tree.Len(), b.tree.Len())
		return
	}
	open := map[wire.Digest]uint64{}
	for _, e := range b.entries {
		for _, k := range b.m.boardKeys(b.p) {
			if _, _, err := k.Open(e.Name, e.Version, e.Value); err == nil {
				open[e.Name] = e.Version
			}
		}
		k := b.m.key(keyBoard, []byte{byte(b.p.index)}, e.Name[:])
		if i, ok := b.m.opAt[string(k)]; !ok || b.m.ops[i].Value == nil {
			t.Errorf("an entry of %s is not stored", b.p.label())
		}
	}
	for name, version := range b.p.opened {
		if open[name] != version {
			t.Errorf("%s counts as showing %s in version %d, it has %d", b.p.label(), name.Short(), version, open[name])
		}
	}
	if len(b.p.opened) != len(open) {
		t.Errorf("of %s %d entries were read, %d open", b.p.label(), len(b.p.opened), len(open))
	}
}

// Bounds of what a further relay costs, beside the one that is listed.
const (
	agreeingBytes  = 0    // its root is in a statement that comes anyway
	differingBytes = 4500 // one entry of 500 bytes among 300
)

// TestBoardsByRoot: one board is listed; relays that have the same cost nothing
// more, and show all of it.
func TestBoardsByRoot(t *testing.T) {
	m, list := boards(t, 1000)
	openAll(list)
	for i, b := range list {
		b.read(t)
		if i == 0 && b.pages < 500*1000 || i > 0 && b.pages+b.nodes > agreeingBytes {
			t.Errorf("%s: %d bytes of pages, %d of nodes", b.p.label(), b.pages, b.nodes)
		}
	}
	if m.reference != nil {
		t.Error("the reference stays in memory when all is read")
	}
	if n := m.told(EventRelay, ""); n > 0 {
		t.Errorf("%d events", n)
	}
}

// TestBoardsThatDiffer: one entry costs a walk; it counts for the relay that has
// it, and for no other.
func TestBoardsThatDiffer(t *testing.T) {
	for what, change := range map[string]func(b *shownBoard){
		"newer": func(b *shownBoard) { b.put("note/7", 2, "newer") },
		"more":  func(b *shownBoard) { b.put("note/more", 1, "more") },
		"garbage": func(b *shownBoard) {
			b.add(proto.BoardEntry{Name: wire.Digest{7}, Version: 1, Value: make([]byte, 99)})
		},
		"in place": func(b *shownBoard) {
			masked, _ := b.m.keysOf(b.p).epochs[0].board.Seal("note/7", 1, nil)
			b.add(proto.BoardEntry{Name: masked, Version: 1, Value: make([]byte, 99)})
		},
		"hidden": func(b *shownBoard) {
			hidden, _ := b.m.keysOf(b.p).epochs[0].board.Seal("note/7", 1, nil)
			delete(b.entries, hidden)
			b.tree = crossverify.Tree{}
			for _, e := range b.entries {
				b.add(e)
			}
		},
	} {
		for at := range 2 { // the reference is the one that has it, or not
			_, list := boards(t, 300)
			change(list[at])
			openAll(list)
			for i, b := range list {
				b.read(t)
				if i == 0 {
					continue
				}
				differs := i == at || at == 0 && what != "garbage" // which is expected of nobody else
				if (b.nodes > 0) != differs || b.nodes > differingBytes || b.pages > 0 {
					t.Errorf("%s at %d: %s cost %d bytes of nodes in %d answers, %d of pages", what, at, b.p.label(), b.nodes, b.asked, b.pages)
				}
			}
		}
	}
}

// TestBoardsAtRandom: whatever the reference has, each relay's board is taken for
// what it is.
func TestBoardsAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		_, list := boards(t, r.IntN(40))
		for _, b := range list {
			b.page = r.IntN(20)
			for range r.IntN(30) {
				if r.IntN(5) == 0 {
					b.add(proto.BoardEntry{Name: wire.Hash("x", wire.U64(r.Uint64N(9))), Version: r.Uint64N(9), Value: make([]byte, r.IntN(99))})
				} else {
					b.put(fmt.Sprintf("note/%d", r.IntN(60)), 1+r.Uint64N(3), fmt.Sprint(r.IntN(2)))
				}
			}
		}
		openAll(list)
		for _, b := range list {
			b.read(t)
		}
	}
}

// TestNodesThatLie: a relay whose nodes do not lead to the root that it signed
// failed, as one whose listing does not; nothing of it counts.
func TestNodesThatLie(t *testing.T) {
	other := func(f *proto.BoardNodes) *crossverify.Nodes {
		for i := range f.Places {
			if len(f.Places[i].Nodes) > 1 {
				f.Places[i].Nodes = slices.Clone(f.Places[i].Nodes)
				return &f.Places[i].Nodes
			}
		}
		return nil
	}
	for what, lie := range map[string]func(f proto.BoardNodes) proto.BoardNodes{
		"a hash": func(f proto.BoardNodes) proto.BoardNodes {
			if n := other(&f); n != nil {
				(*n)[len(*n)-1] = crossverify.Node{Kind: crossverify.NodeLeaf, Hash: wire.Digest{1}}
			}
			return f
		},
		"an entry": func(f proto.BoardNodes) proto.BoardNodes {
			for i := range f.Places {
				if e := f.Places[i].Entry; e != nil {
					f.Places[i].Entry = &proto.BoardEntry{Name: e.Name, Version: e.Version + 1, Value: e.Value}
				}
			}
			return f
		},
		"nothing":      func(f proto.BoardNodes) proto.BoardNodes { f.Places = nil; return f },
		"always later": func(f proto.BoardNodes) proto.BoardNodes { f.Places = make([]proto.Subtree, len(f.Places)); return f },
	} {
		m, list := boards(t, 100)
		list[1].put("note/7", 2, "newer")
		list[1].lie = lie
		openAll(list)
		if b := list[1]; b.p.listed || len(b.p.opened) > 0 || b.p.stats[crossverify.Failed] == 0 || m.told(EventRelay, "not the root of what it shows") != 1 {
			t.Errorf("%s: read %v, %d entries", what, b.p.listed, len(b.p.opened))
		}
		list[0].read(t)
		list[2].read(t)
	}
}

// TestRootOfNoBoard: a root may be signed over a tree that no board has: a node
// above one leaf. Its nodes hash to it; the board does not.
func TestRootOfNoBoard(t *testing.T) {
	m, list := boards(t, 0)
	list[0].put("note/1", 1, "x")
	p := list[1].p
	leaf := wire.Digest{5}
	n := crossverify.Nodes{{Kind: crossverify.NodeFork}, {Kind: crossverify.NodeFork}, {Kind: crossverify.NodeFork}, {Kind: crossverify.NodeFork}, {Kind: crossverify.NodeInner, Hash: leaf}, {}, {}, {}, {}}
	e := proto.BoardEntry{Name: wire.Digest{5}, Version: 1, Value: []byte("x")}
	hash := new(crossverify.Tree)
	hash.Put(crossverify.Leaf{Name: e.Name, Version: 1, Value: crossverify.ValueDigest(e.Value)})
	n[4].Hash = hash.Root()
	root := n[4].Hash
	for range 4 {
		root = wire.Hash("parallax/1/board/node", root[:], make([]byte, 32))
	}
	st := crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: p.position + 5, Root: root}
	list[0].open()
	exchangeBoards(list)
	m.opened(p, proto.Opened{Statement: st})
	m.sends = nil
	m.boardNodes(p, proto.BoardNodes{Statement: st, Places: []proto.Subtree{{Nodes: n}}})
	m.boardNodes(p, proto.BoardNodes{Statement: st, Places: []proto.Subtree{{Entry: &e}}})
	if p.listed || m.told(EventRelay, "not the root of what it shows") != 1 {
		t.Error("a tree that no board has is taken")
	}
}

// TestBoardsWait: one that is listed first and says nothing, or little by little,
// costs the others a named time; one that does not answer walks is listed.
func TestBoardsWait(t *testing.T) {
	m, list := boards(t, 50)
	list[0].mute = true
	openAll(list)
	if w := m.boardsWake(); !w.Equal(m.now.Add(boardWait)) {
		t.Errorf("the others wait until %v, now %v", w, m.now)
	}
	later(list, boardWait-1)
	if list[1].pages > 0 {
		t.Error("the others do not wait")
	}
	later(list, 1)
	list[1].read(t)
	list[2].read(t)
	if list[0].p.listed || !m.boardsWake().IsZero() {
		t.Error("who says nothing is read, or waited for")
	}

	// A page at a time, just in time.
	m, list = boards(t, 50)
	list[0].mute, list[0].page = true, 1
	openAll(list)
	begun := m.now
	for list[1].pages == 0 && m.now.Before(begun.Add(time.Minute)) {
		list[0].mute = false
		m.advance(m.now.Add(boardWait - 1))
		m.settle()
		for _, q := range append(list[0].waiting, list[0].questions(m.sends)...) {
			m.onRead(list[0].p, list[0].answer(q))
		}
		list[0].waiting, list[0].mute = nil, true
		exchangeBoards(list)
	}
	if d := m.now.Sub(begun); d < boardWait || d > m.joinWait()/boardWaitPart+boardWait {
		t.Errorf("the others waited %v", d)
	}

	for what, make := range map[string]func(b *shownBoard){
		"refuses": func(b *shownBoard) { b.noWalk = true },
		"mute":    func(b *shownBoard) { b.mute = true },
	} {
		m, list = boards(t, 50)
		list[1].put("note/7", 2, "newer")
		list[0].open()
		exchangeBoards(list)
		make(list[1])
		list[1].open()
		exchangeBoards(list)
		if list[1].mute {
			if w := m.boardsWake(); !w.Equal(m.now.Add(boardWait)) {
				t.Errorf("an answer is waited for until %v", w)
			}
			m.advance(m.now.Add(boardWait))
			m.settle()
			list[1].mute = false
			exchangeBoards(list)
		}
		if list[1].read(t); list[1].pages == 0 {
			t.Errorf("%s: it is not listed", what)
		}
	}
}

// TestBoardsTooDifferent: a board that differs in too many places, or too deep, is
// listed, and the next one compared with either.
func TestBoardsTooDifferent(t *testing.T) {
	_, list := boards(t, 0)
	for i := range 400 {
		list[0].put(fmt.Sprintf("false/%d", i), 1, "x")
		list[1].put(fmt.Sprintf("note/%d", i), 1, "x")
		list[2].put(fmt.Sprintf("note/%d", i), 1, "x")
	}
	openAll(list)
	for _, b := range list {
		b.read(t)
	}
	// Which of the two walks is given up first is by chance: names are masked.
	if one, other := list[1], list[2]; (one.pages == 0) == (other.pages == 0) {
		t.Errorf("%d and %d bytes of pages", one.pages, other.pages)
	}
	for i, b := range list {
		if i > 0 && b.nodes > 600*(400/walkPart+2*proto.MaxWalk) {
			t.Errorf("%s: %d bytes of nodes", b.p.label(), b.nodes)
		}
	}

	_, list = boards(t, 20)
	for i := range 3 {
		list[1].add(proto.BoardEntry{Name: wire.Digest{31: byte(i + 1)}, Version: 1, Value: []byte("deep")})
	}
	openAll(list)
	if list[1].read(t); list[1].asked != maxWalkTurns || list[1].pages == 0 {
		t.Errorf("a deep board: %d questions, %d bytes of pages", list[1].asked, list[1].pages)
	}
}

// TestBoardChangesUnderWalk: a walk goes on with what it found, or ends when what
// is written explains the difference; one that never comes to an end is left.
func TestBoardChangesUnderWalk(t *testing.T) {
	_, list := boards(t, 300)
	b, more := list[1], 0
	b.put("note/7", 2, "newer")
	b.before = func() { // and it does not tell
		if more++; more < 4 {
			b.put(fmt.Sprintf("more/%d", more), 1, "x")
		}
	}
	openAll(list)
	if b.read(t); b.pages > 0 {
		t.Error("a board that changed three times is listed")
	}

	_, list = boards(t, 300)
	b, more = list[1], 0
	b.put("note/7", 2, "newer")
	b.before = func() {
		more++
		b.put(fmt.Sprintf("more/%d", more), 1, "x")
	}
	openAll(list)
	if b.read(t); b.pages == 0 || b.asked != maxWalks {
		t.Errorf("a board that changes always: %d bytes of pages, %d questions", b.pages, b.asked)
	}

	// What was found before it changed is not asked for again.
	_, list = boards(t, 600)
	b, more = list[1], 0
	for i := range 90 {
		b.put(fmt.Sprintf("note/%d", i), 2, "newer")
	}
	b.before = func() {
		if b.entrySent > 30 && more == 0 {
			more = b.entrySent
			b.put("more", 1, "x")
		}
	}
	openAll(list)
	if b.read(t); more == 0 || b.entrySent > 91+more/2 || b.pages > 0 {
		t.Errorf("%d entries were sent for 91, %d before the board changed; %d bytes of pages", b.entrySent, more, b.pages)
	}

	// What the reference lacked is written there while the walk is under way.
	_, list = boards(t, 300)
	b = list[1]
	m := b.m
	b.put("note/7", 2, "newer")
	b.mute = true
	openAll(list)
	list[0].put("note/7", 2, "newer")
	masked, sealed := m.keysOf(list[0].p).epochs[0].board.Seal("note/7", 2, []byte("newer"))
	m.entry(list[0].p, proto.Entry{N: list[0].p.position + 1, Root: list[0].tree.Root(), BoardEntry: proto.BoardEntry{Name: masked, Version: 2, Value: sealed}})
	m.settle()
	b.read(t)
}

// TestBoardComesBack: who had read a board, and did not see what was written since
// or is shown another lineage, compares it with what it had.
func TestBoardComesBack(t *testing.T) {
	for what, lose := range map[string]func(m *Machine, b *shownBoard){
		"lineage": func(m *Machine, b *shownBoard) { m.startLineage(b.p, wire.Lineage{7: 9}); b.n = 3 },
		"trimmed": func(m *Machine, b *shownBoard) {
			b.n += 50
			b.p.read.opened = false
			b.open()
			m.trimmed(b.p, proto.Trimmed{Lineage: b.p.lineage, First: b.p.position + 40})
		},
	} {
		for _, waits := range []bool{false, true} {
			m, list := boards(t, 300)
			openAll(list)
			b := list[0]
			b.read(t)
			b.pages, b.p.opened = 0, map[wire.Digest]uint64{}
			if waits {
				b.p.orphans = 1 // something of it was not taken in
			}
			b.put("note/new", 1, "new")
			hidden, _ := m.keysOf(b.p).epochs[0].board.Seal("note/7", 1, nil)
			delete(b.entries, hidden)
			b.tree = crossverify.Tree{}
			for _, e := range b.entries {
				b.add(e)
			}
			m.sends = nil
			b.p.read = readLink{link: b.p.read.link, opened: true}
			lose(m, b)
			if b.p.listed {
				t.Fatalf("%s: the board counts as read", what)
			}
			if what == "lineage" {
				b.open()
			}
			exchangeBoards(list[:1])
			if !b.p.listed || b.p.tree.Root() != b.tree.Root() || b.p.opened[hidden] != 0 {
				t.Errorf("%s: the board is not read", what)
			}
			if waits {
				if len(b.p.opened) != len(b.entries) || b.pages == 0 {
					t.Errorf("%s: %d entries of %d were read anew", what, len(b.p.opened), len(b.entries))
				}
			} else if n := len(b.p.opened); n < 1 || n > 2 || b.pages > 0 || b.nodes > 2*differingBytes {
				t.Errorf("%s: %d entries were read anew, %d bytes of pages, %d of nodes", what, len(b.p.opened), b.pages, b.nodes)
			}
			k := m.key(keyBoard, []byte{0}, hidden[:])
			if i, ok := m.opAt[string(k)]; !ok || m.ops[i].Value != nil {
				t.Errorf("%s: the lost entry stays in the store", what)
			}
		}
	}
}

// TestOldRootIsNoBoard: a root that the relay signed before it opened the mailbox
// says nothing of the board that there is now.
func TestOldRootIsNoBoard(t *testing.T) {
	m, list := boards(t, 20)
	list[0].open()
	exchangeBoards(list)
	b := list[1]
	old := b.statement()
	m.keepRead(b.p, old)
	b.p.position = old.N
	b.put("note/7", 2, "newer")
	b.mute = true
	b.open()
	exchangeBoards(list)
	if b.p.listed {
		t.Error("the board of an older number is taken for the one of now")
	}
}

// TestAnswerToAWalkBefore: reading a board begins again on a link that stands, as for a
// new lineage, with a question under way. Its answer is not one to the new walk's, and
// the relay is not to blame.
func TestAnswerToAWalkBefore(t *testing.T) {
	m, list := boards(t, 300)
	b := list[1]
	for i := range 5 {
		b.put(fmt.Sprintf("other/%d", i), 1, "only here")
	}
	b.before = func() { b.mute = b.asked == 1 } // the next question waits
	openAll(list)
	if len(b.waiting) != 1 || b.p.listed {
		t.Fatalf("%d questions wait, listed %v", len(b.waiting), b.p.listed)
	}
	if q := b.waiting[0].(proto.BoardWalk); len(q.Places) < 2 {
		t.Fatalf("it asks for %d places", len(q.Places))
	}
	m.wantBoard(b.p)
	exchangeBoards(list)
	if len(b.waiting) != 2 {
		t.Fatalf("%d questions wait", len(b.waiting))
	}
	b.mute, b.before = false, nil
	exchangeBoards(list)
	if b.p.stats[crossverify.Failed] != 0 || b.pages != 0 {
		t.Errorf("%d failures, %d bytes of pages", b.p.stats[crossverify.Failed], b.pages)
	}
	b.read(t)
}
