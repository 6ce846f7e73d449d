package relay

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// state is a channel as of one revision, without what is read on demand. The
// machine's runs ahead of the store by the turns that are not durable yet.
type state struct {
	rev    uint64
	exists bool
	meta   meta
	board  *shelf
	boxes  map[wire.MailboxID]*mailbox
	grants map[keys.PostingPublic]*grant
	fans   map[wire.Digest]fanUse

	restored bool // the marker was found
}

// shelf is the board: what the tree commits to, and who owns it.
type shelf struct {
	entries map[wire.Digest]*boardEntry
	names   []wire.Digest // ascending
	tree    crossverify.Tree
	bytes   uint64
}

func newShelf() *shelf { return &shelf{entries: map[wire.Digest]*boardEntry{}} }

func compareNames(a, b wire.Digest) int { return bytes.Compare(a[:], b[:]) }

func (s *shelf) put(name wire.Digest, e *boardEntry) {
	if old, ok := s.entries[name]; ok {
		s.bytes -= old.bytes
	} else {
		at, _ := slices.BinarySearchFunc(s.names, name, compareNames)
		s.names = slices.Insert(s.names, at, name)
	}
	s.bytes += e.bytes
	s.entries[name] = e
	s.tree.Put(crossverify.Leaf{Name: name, Version: e.version, Value: e.value})
}

const (
	loadTries = 64        // a unit that others write meanwhile is read again
	loadBytes = 256 << 10 // one Scan
)

// errMoved: others kept writing while the state was read.
var errMoved = errors.New("relay: the channel was written while it was read; open it again")

// load reads the state of one revision. Board and mailboxes of old are taken
// over if their counters say that nothing changed; old is nil, or was at one
// revision of the store itself, with nothing pending in what is taken over.
func load(r store.Reader, u store.Unit, self keys.RelayPublic, old *state) (*state, error) {
	for range loadTries {
		rev, err := r.Revision(u)
		if err != nil {
			return nil, err
		}
		s, err := loadOnce(r, u, self, old)
		again, revErr := r.Revision(u)
		switch {
		case revErr != nil:
			return nil, revErr
		case again != rev:
			continue
		case err != nil:
			return nil, fmt.Errorf("unit %x: %w", u, err)
		}
		s.rev = rev
		return s, nil
	}
	return nil, errMoved
}

func loadOnce(r store.Reader, u store.Unit, self keys.RelayPublic, old *state) (*state, error) {
	s := &state{board: newShelf(), boxes: map[wire.MailboxID]*mailbox{}, grants: map[keys.PostingPublic]*grant{}, fans: map[wire.Digest]fanUse{}}
	b, err := r.Get(key(u, keyMeta))
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.exists = true
	if s.meta, err = parseMeta(b); err != nil {
		return nil, err
	}
	if s.meta.relay != self {
		return nil, fmt.Errorf("%w %s, this one is %s", ErrForeign, s.meta.relay, self)
	}
	_, err = r.Get(key(u, keyRestored))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	s.restored = err == nil
	if old != nil && old.exists && old.meta.boardRev == s.meta.boardRev {
		s.board = old.board
	} else if err := s.loadBoard(r, u); err != nil {
		return nil, err
	}
	if old != nil && old.exists && old.meta.mailboxRev == s.meta.mailboxRev {
		s.boxes = old.boxes
	} else if err := s.loadBoxes(r, u, old); err != nil {
		return nil, err
	}
	err = scan(r, u, keyGrant, func(id, value []byte) error {
		g, err := parseGrant(value)
		if err != nil || len(id) != 32 {
			return errors.Join(err, idLength(id, 32))
		}
		s.grants[keys.PostingPublic(id)] = g
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, scan(r, u, keyFanUse, func(id, value []byte) error {
		f, err := parseFanUse(value)
		if err != nil || len(id) != 32 {
			return errors.Join(err, idLength(id, 32))
		}
		s.fans[wire.Digest(id)] = f
		return nil
	})
}

func (s *state) loadBoard(r store.Reader, u store.Unit) error {
	return scan(r, u, keyBoard, func(id, value []byte) error {
		e, err := parseBoardEntry(value)
		if err != nil || len(id) != 32 {
			return errors.Join(err, idLength(id, 32))
		}
		s.board.put(wire.Digest(id), e)
		return nil
	})
}

// loadBoxes keeps the links and hints that memory knows better than the store.
func (s *state) loadBoxes(r store.Reader, u store.Unit, old *state) error {
	err := scan(r, u, keyMailbox, func(id, value []byte) error {
		m, err := parseMailbox(value)
		if err != nil || len(id) != 16 {
			return errors.Join(err, idLength(id, 16))
		}
		s.boxes[wire.MailboxID(id)] = m
		return nil
	})
	if err != nil {
		return err
	}
	err = scan(r, u, keyHint, func(id, value []byte) error {
		if len(id) != 16 {
			return idLength(id, 16)
		}
		if m := s.boxes[wire.MailboxID(id)]; m != nil {
			return m.parseHint(value)
		}
		return nil
	})
	if err != nil || old == nil {
		return err
	}
	for id, was := range old.boxes {
		if m := s.boxes[id]; m != nil && m.key == was.key {
			m.seen, m.read, m.position = max(m.seen, was.seen), was.read, was.position
			m.hinted, m.links = was.hinted, was.links
		}
	}
	return nil
}

func idLength(id []byte, want int) error {
	if len(id) == want {
		return nil
	}
	return corrupt(fmt.Sprintf("key (%d bytes, want %d)", len(id), want), wire.ErrFormat)
}

// scan calls f for every record of a letter, with the rest of its key.
func scan(r store.Reader, u store.Unit, letter byte, f func(id, value []byte) error) error {
	from, to := key(u, letter), keyEnd(u, letter)
	for {
		kvs, more, err := r.Scan(from, to, loadBytes)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			if err := f(kv.Key[len(u)+1:], kv.Value); err != nil {
				return err
			}
		}
		if !more || len(kvs) == 0 {
			return nil
		}
		from = append(bytes.Clone(kvs[len(kvs)-1].Key), 0)
	}
}
