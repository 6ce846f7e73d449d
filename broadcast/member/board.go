package member

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// boardPage collects a board listing; when it is whole, it becomes the path's
// tree and its root must be the one that the relay signed.
func (m *Machine) boardPage(p *path, f proto.BoardPage) {
	if p.listed || !p.read.opened {
		return
	}
	if !m.ours(p, f.Statement) || f.Statement.Lineage != p.lineage {
		m.pathFailed(p, "board", fmt.Sprintf("relay %s showed a board under a statement that is not its own", p.label()))
		return
	}
	if len(p.read.board) == 0 {
		p.read.root = f.Statement.Root
	}
	p.read.reading.page = m.now
	p.read.board = append(p.read.board, f.Entries...)
	for _, e := range f.Entries {
		p.read.bytes += len(e.Value)
	}
	if len(p.read.board) > maxBoardEntries || p.read.bytes > maxBoardBytes || (f.More && len(f.Entries) == 0) {
		m.tooLarge(p)
		return
	}
	if f.Statement.Root != p.read.root || f.Statement.N < p.position && f.Statement.Root != p.root {
		// The board changed between pages: read it again.
		if p.read.tries++; p.read.tries < maxListings {
			m.listBoard(p)
			return
		}
		m.closeLink(p, p.read.link, fmt.Sprintf("the board of relay %s changes faster than it can be read", p.label()))
		return
	}
	if f.More {
		last := f.Entries[len(f.Entries)-1].Name
		m.send(p.read.link, proto.BoardList{After: last, Limit: proto.MaxBoardPage})
		return
	}
	var tree crossverify.Tree
	for _, e := range p.read.board {
		tree.Put(crossverify.Leaf{Name: e.Name, Version: e.Version, Value: crossverify.ValueDigest(e.Value)})
	}
	if tree.Root() != f.Statement.Root {
		m.wrongRoot(p)
		return
	}
	m.checkHead(p, f.Statement)
	m.keepStatement(p, f.Statement)
	board, bytes := p.read.board, p.read.bytes
	p.read.board = nil
	m.boardRead(p, tree, board, f.Statement)
	m.refer(p, board, bytes)
}

// boardRead takes the board that a relay has under the root of a statement:
// tree, and of its entries those that this path has not shown before.
func (m *Machine) boardRead(p *path, tree crossverify.Tree, board []proto.BoardEntry, s crossverify.Statement) {
	for _, l := range p.tree.Leaves() { // what a relay lost that lost data
		if _, ok := tree.Get(l.Name); !ok {
			m.del(m.key(keyBoard, []byte{byte(p.index)}, l.Name[:]))
		}
	}
	p.tree = tree
	p.listed, p.listedAt = true, s.N
	p.read.reading.listing, p.read.reading.walk, p.read.reading.expect, p.read.reading.pushed = false, nil, nil, nil
	for _, e := range board {
		m.saveBoardEntry(p, e.Name, e.Version, crossverify.ValueDigest(e.Value))
	}
	m.savePath(p)
	p.opened, p.openedAt = map[wire.Digest]uint64{}, m.now
	m.readBoard(p, board)
	m.absences(p)
	m.readToEnd(p)
	m.compareReceipts(p, s)
	m.putMissing(p)
}

func (m *Machine) saveBoardEntry(p *path, name wire.Digest, version uint64, value wire.Digest) {
	m.put(m.key(keyBoard, []byte{byte(p.index)}, name[:]), append(wire.AppendU64(nil, version), value[:]...))
}

func (m *Machine) loadBoard(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil || len(key) != 33 {
		return wire.ErrFormat
	}
	l := crossverify.Leaf{Name: wire.Digest(key[1:])}
	r := wire.NewReader(value)
	l.Version = r.U64()
	r.Fixed(l.Value[:])
	p.tree.Put(l)
	return r.Done()
}

// entry is a board write that the relay pushes.
func (m *Machine) entry(p *path, f proto.Entry) {
	value := crossverify.ValueDigest(f.Value)
	if p.once(f.N) {
		m.again(p, f.N, crossverify.BoardDigest(f.Name, f.Version, value), f.Root, f.Signature)
		return
	}
	if !m.next(p, f.N, crossverify.BoardDigest(f.Name, f.Version, value), f.Root, f.Signature) {
		return
	}
	old, had := p.tree.Get(f.Name)
	if !had && p.tree.Len() >= maxBoardEntries {
		m.relayEvent(p, "full", "", fmt.Sprintf("Relay %s has a board of more than %d entries. What comes beyond is not read.", p.name(), maxBoardEntries))
		return
	}
	if !had || old.Version < f.Version {
		p.tree.Put(crossverify.Leaf{Name: f.Name, Version: f.Version, Value: value})
		m.saveBoardEntry(p, f.Name, f.Version, value)
		m.refersTo(p, f.BoardEntry)
		if r := &p.read.reading; r.wanted && !p.listed && len(r.pushed) < maxPushed {
			r.pushed = append(r.pushed, crossverify.Leaf{Name: f.Name, Version: f.Version, Value: value})
		}
	}
	m.checkRoot(p, f.N, f.Root)
	m.readBoard(p, []proto.BoardEntry{{Name: f.Name, Version: f.Version, Value: f.Value}})
}

// checkRoot compares the root that the relay signed with the root of what it
// showed. They differ when it hides an entry from this mailbox.
func (m *Machine) checkRoot(p *path, n uint64, root wire.Digest) {
	m.compareNewest(p)
	if !p.listed || n <= p.listedAt || p.tree.Len() >= maxBoardEntries || p.tree.Root() == root {
		return
	}
	p.stats[crossverify.Failed]++
	m.relayEvent(p, "root", "", fmt.Sprintf("Relay %s signed a board that is not the one it shows: it hides or invents entries. Other relays are compared as before. Nothing for you to do.", p.name()))
}

// readBoard opens entries and takes what is in them, in an order in which each
// can be checked: door entries, operations, announcements, admissions.
func (m *Machine) readBoard(p *path, items []proto.BoardEntry) {
	type opened struct {
		name    string
		version uint64
		value   []byte
		first   bool // it is under the first epoch
	}
	var entries []opened
	open := func(items []proto.BoardEntry, shelf []broadcast.BoardKeys) (rest []proto.BoardEntry) {
		rest = items
		for i, k := range shelf {
			first := i == len(shelf)-1
			left := rest[:0:0]
			for _, e := range rest {
				if name, value, err := k.Open(e.Name, e.Version, e.Value); err == nil {
					if p.opened != nil {
						p.opened[e.Name] = e.Version
					}
					entries = append(entries, opened{name, e.Version, value, first})
				} else {
					left = append(left, e)
				}
			}
			rest = left
		}
		return rest
	}
	rest := open(items, m.keysOf(p).doors)
	rank := func(o opened) int {
		return slices.IndexFunc([]string{"evidence/", "welcome/", "roster/", "announcement/", "carried/", "admission/"}, func(s string) bool { return strings.HasPrefix(o.name, s) })
	}
	byRank := func(a, b opened) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return cmp.Or(cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name)) // pages by number
	}
	for turns := -1; turns != m.keyring.turns; { // a welcome opens the doors of other epochs
		turns = m.keyring.turns
		slices.SortFunc(entries, byRank)
		for _, e := range entries {
			m.doorEntry(p, e.name, e.value)
		}
		entries = entries[:0]
		if m.keyring.turns != turns {
			rest = open(rest, m.keysOf(p).doors)
		}
	}
	if m.meta.Asking != nil && len(m.keyring.epochs) == 0 {
		m.readRooms(p, rest)
		p.stash.missed = true // the rest is read when somebody gave the keys, however long that takes
		return
	}
	if m.ledger == nil || len(m.keyring.epochs) == 0 {
		m.putAside(p, rest, m.keyring.turns)
		return
	}
	entries = entries[:0]
	rest = open(rest, m.boardKeys(p))
	turns := m.keyring.turns
	slices.SortFunc(entries, byRank)
	for _, e := range entries {
		kind, id, _ := strings.Cut(e.name, "/")
		if kind == "evidence" {
			m.boardEvidence(e.value)
			continue
		}
		if kind == "back" {
			m.sawWayBack(id, e.value)
			continue
		}
		if kind == "carried" { // what is signed counts whoever put it there
			m.follow()
			m.sawCarried(p, e.value)
			continue
		}
		page := 0
		if kind == "roster" {
			var ok bool
			if id, page, ok = parsePageName(id); !ok {
				continue
			}
		}
		raw, err := hex.DecodeString(id)
		if err != nil || len(raw) != 32 {
			continue
		}
		if kind == "roster" {
			m.sawPage(p, wire.Seat(raw), page, e.version, e.value)
			continue
		}
		m.follow()
		switch kind {
		case "announcement":
			seat := wire.Seat(raw)
			was := m.announcedVersion(seat)
			m.sawAnnouncement(p, seat, e.value)
			if e.first && was > 0 && m.announcedVersion(seat) > was {
				m.asksBack(m.seats[seat])
			}
		case "admission":
			m.sawAdmission(p, wire.Seat(raw), e.value)
		}
	}
	m.follow()
	if rest = m.readRooms(p, rest); len(rest) > 0 {
		m.putAside(p, rest, turns)
	}
}

// announcedVersion is the version of a seat's newest announcement; 0: none is known.
func (m *Machine) announcedVersion(seat wire.Seat) uint64 {
	if st := m.seats[seat]; st != nil && st.ann != nil {
		return st.ann.Version
	}
	return 0
}

// shows tells whether a path's board has an entry of that name.
func (m *Machine) shows(p *path, name string) bool { return m.shownVersion(p, name) > 0 }

// shownVersion is the version of the entry of that name on a path's board; 0:
// it has none.
func (m *Machine) shownVersion(p *path, name string) (version uint64) {
	if l, ok := p.tree.Get(m.entryName(p, name)); ok {
		version = l.Version
	}
	return version
}

// doorEntry takes what a joiner reads first.
func (m *Machine) doorEntry(p *path, name string, value []byte) {
	switch {
	case strings.HasPrefix(name, "welcome/"):
		var seat wire.Seat
		if n, err := hex.Decode(seat[:], []byte(name[len("welcome/"):])); err != nil || n != len(seat) {
			m.invalid(p, "a welcome")
			return
		}
		m.sawWelcome(p, seat, value)
	}
}

func (m *Machine) invalid(p *path, what string) {
	p.stats[crossverify.Failed]++
	m.relayEvent(p, "invalid "+what, "", fmt.Sprintf("Relay %s shows %s whose signature does not hold. It is ignored.", p.name(), what))
}
