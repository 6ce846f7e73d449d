// Package sealed keeps what a store holds unreadable at rest: a store.Store
// over any other one, whose values are sealed with XChaCha20-Poly1305
// (docs/protocol.md section 12, docs/architecture.md "Stores").
//
// A value is stored as
//
//	u16 key id      0: the folder key, else the number of a state key
//	[24] nonce      random
//	sealed value    AD Input("at-rest", whole key of the record)
//
// so that a value opens under its own key of record only. Records with live
// ratchet state are sealed with a state key that Rotate replaces daily: every
// engine keeps overwritten bytes for a while, and once yesterday's key is gone
// they are noise. All else is under the folder key, which stays.
//
// Not hidden: keys of records, sizes, and how often a record changes. Not
// noticed: that somebody put an older state of the whole store back.
//
// XChaCha20-Poly1305 and not AES-256-GCM: its nonces may be drawn at random for
// as long as a folder lives, and it is as fast on computers without AES. Where
// AES is in hardware a sealed 90 kB costs 55 µs instead of 27.
//
// A Store is safe for concurrent use if its entropy is. One Store at a time has
// a state key file; in a data folder the folder's lock sees to that.
package sealed

import (
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"parallax/internal/store"
	"parallax/internal/wire"
)

// Config is what a Store is made of. All fields are required.
type Config struct {
	Folder  *FolderKey
	File    string    // where the state key is kept, sealed with the folder key
	Kinds   []byte    // records with live ratchet state, by the byte after the unit; none ever leaves
	Entropy io.Reader // safe for concurrent use
	Now     time.Time // of opening, by the wall clock
	Path    string    // where the store is, for error texts
}

// Store implements store.Store. Closing it closes what it stands on.
type Store struct {
	inner store.Store
	cfg   Config
	write func(path string, content []byte) error // replaces the state key file

	rotating sync.Mutex // one Rotate at a time

	// writes is shared by every Apply; who holds it alone sees no batch under
	// way. It guards offsets: batches that Rotate applied to a unit since this
	// Store was opened, which its writers know nothing of.
	writes  sync.RWMutex
	offsets map[store.Unit]uint64

	// mu guards ring, which changes only while writes is held alone too. A read
	// keeps it shared until it has opened what it read.
	mu   sync.RWMutex
	ring ring
}

var _ store.Store = (*Store)(nil)

// Open seals inner. A missing state key is made if inner is empty. After an
// error inner is open and as it was. Errors: *store.CorruptError when the state
// key file is damaged, missing, or of another folder key; *store.FormatError;
// what inner or the operating system says.
func Open(inner store.Store, cfg Config) (*Store, error) {
	s := &Store{inner: inner, cfg: cfg, write: replace, offsets: map[store.Unit]uint64{}}
	s.ring.folder = newKey(0, cfg.Folder.key)
	if err := s.loadState(); err != nil {
		return nil, err
	}
	return s, nil
}

// Revision implements store.Reader. What Rotate wrote since opening is not
// counted, so a writer's next batch is not refused for it.
func (s *Store) Revision(u store.Unit) (uint64, error) {
	s.writes.RLock()
	defer s.writes.RUnlock()
	return s.revision(u)
}

func (s *Store) revision(u store.Unit) (uint64, error) {
	r, err := s.inner.Revision(u)
	return r - s.offsets[u], err
}

// Get implements store.Reader. A value that does not open is a
// *store.CorruptError that names the record.
func (s *Store) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.inner.Get(key)
	if err != nil {
		return nil, err
	}
	return s.open(key, v)
}

// Scan implements store.Reader; the limit counts values as they were given.
func (s *Store) Scan(from, to []byte, limit int) ([]store.KV, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	// The inner store counts sealed values. One call of it is one view, so what
	// a quarter more did not fill is read again: no record is four times its size.
	limit = min(limit, math.MaxInt/4)
	for _, most := range []int{limit + max(limit, 0)/4, 4 * limit} {
		sealed, left, err := s.inner.Scan(from, to, most)
		if err != nil {
			return nil, false, err
		}
		kvs, more, err := s.openUpTo(sealed, limit)
		if err != nil || more || !left {
			return kvs, more, err
		}
		if size(kvs) >= limit {
			return kvs, true, nil
		}
	}
	return nil, false, fmt.Errorf("store: scanning from %x: fewer than %d bytes in four times as many sealed ones", from, limit)
}

// openUpTo opens entries until limit bytes are reached, at least one; more
// tells that some are left.
func (s *Store) openUpTo(sealed []store.KV, limit int) (kvs []store.KV, more bool, err error) {
	n := 0
	for _, kv := range sealed {
		if len(kvs) > 0 && n >= limit {
			return kvs, true, nil
		}
		if kv.Value, err = s.open(kv.Key, kv.Value); err != nil {
			return nil, false, err
		}
		kvs = append(kvs, kv)
		n += len(kv.Key) + len(kv.Value)
	}
	return kvs, false, nil
}

func size(kvs []store.KV) (n int) {
	for _, kv := range kvs {
		n += len(kv.Key) + len(kv.Value)
	}
	return n
}

// open opens a value; mu is held. The error says which record is damaged.
func (s *Store) open(key, value []byte) ([]byte, error) {
	plain, err := s.ring.open(key, value)
	if err != nil {
		return nil, &store.CorruptError{Path: fmt.Sprintf("record %s in %s", recordName(key), s.cfg.Path), Err: err}
	}
	return plain, nil
}

// recordName is a record's key for people: unit, kind, the rest.
func recordName(key []byte) string {
	n := len(store.Unit{})
	if len(key) <= n {
		return hex.EncodeToString(key)
	}
	return fmt.Sprintf("%x/%q/%x", key[:n], key[n], key[n+1:])
}

// Apply implements store.Store.
func (s *Store) Apply(batches []store.Batch) []error {
	s.writes.RLock()
	defer s.writes.RUnlock()
	out := make([]store.Batch, len(batches))
	for i, b := range batches {
		var err error
		if b.Ops, err = s.sealOps(b.Ops); err != nil {
			errs := make([]error, len(batches))
			for i := range errs {
				errs[i] = err
			}
			return errs
		}
		b.Base += s.offsets[b.Unit]
		out[i] = b
	}
	return s.inner.Apply(out)
}

// sealOps seals every value, all into one buffer. writes is held.
func (s *Store) sealOps(ops []store.Op) ([]store.Op, error) {
	total, count := 0, 0
	for _, op := range ops {
		if op.Value != nil {
			total += overhead + len(op.Value)
			count++
		}
	}
	nonces := make([]byte, count*nonceSize)
	if _, err := io.ReadFull(s.cfg.Entropy, nonces); err != nil {
		return nil, fmt.Errorf("store: drawing nonces: %w", err)
	}
	buf, out := make([]byte, 0, total), make([]store.Op, len(ops))
	for i, op := range ops {
		if op.Value != nil {
			from := len(buf)
			buf = s.ring.of(op.Key, s.cfg.Kinds).seal(buf, nonces[:nonceSize], op.Key, op.Value)
			nonces = nonces[nonceSize:]
			op.Value = buf[from:len(buf):len(buf)]
		}
		out[i] = op
	}
	return out, nil
}

// Frozen calls f with a reader of one state of the whole store: batches wait
// until f returns. f must not call s.
func (s *Store) Frozen(f func(store.Reader) error) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	return f(frozen{s})
}

// frozen reads while writes is held alone.
type frozen struct{ *Store }

func (f frozen) Revision(u store.Unit) (uint64, error) { return f.revision(u) }

// Watch implements store.Store.
func (s *Store) Watch(f func(store.Unit)) { s.inner.Watch(f) }

// Close implements store.Store.
func (s *Store) Close() error { return s.inner.Close() }

// recordAD is what a value is bound to.
func recordAD(key []byte) []byte { return wire.Input("parallax/1/at-rest", key) }
