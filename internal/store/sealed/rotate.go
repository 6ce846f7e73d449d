package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"parallax/internal/store"
	"parallax/internal/wire"
)

// The file of a state key, sealed with the folder key:
//
//	u8 format   1
//	[24] nonce
//	sealed      u32 count, then newest first: u16 id, u64 made (Unix seconds),
//	            [32] key; AD Input("state-key")
//
// Two keys stand in it while records go over from the older to the newer one.
const (
	stateFormat  = 1
	stateEntry   = idSize + 8 + keySize
	maxStateFile = 256 // bytes
)

const (
	// RotateAfter is how long a state key seals.
	RotateAfter = 24 * time.Hour
	// resealBytes is about how much Rotate seals anew in one batch: writers
	// wait that long.
	resealBytes = 256 << 10
	// maxConflicts is how often in a row another process may write between
	// reading a batch and sealing it anew.
	maxConflicts = 16
)

var stateAD = wire.Input("parallax/1/state-key")

// loadState reads the state key, or makes the first one.
func (s *Store) loadState() error {
	if err := discard(s.cfg.File); err != nil {
		return err
	}
	f, err := os.Open(s.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return s.firstState()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return err
	}
	s.ring.state, s.ring.previous, err = s.parseState(raw)
	return err
}

// firstState begins a store. One that has records already was sealed with a key
// that is missing, or not sealed at all.
func (s *Store) firstState() error {
	kvs, _, err := s.inner.Scan(nil, lastKey, 1)
	if err != nil {
		return err
	}
	if len(kvs) > 0 {
		return &store.CorruptError{Path: s.cfg.File, Err: errors.New("it is missing, and nothing of the live state in " + s.cfg.Path + " opens without it")}
	}
	k, err := s.drawState(1, s.cfg.Now)
	if err != nil {
		return err
	}
	s.ring.state = k
	return s.saveState(k)
}

// lastKey is beyond every key.
var lastKey = bytes.Repeat([]byte{0xff}, 64)

func (s *Store) drawState(id uint16, now time.Time) (*key, error) {
	var b [keySize]byte
	defer clear(b[:])
	if _, err := io.ReadFull(s.cfg.Entropy, b[:]); err != nil {
		return nil, fmt.Errorf("store: drawing a state key: %w", err)
	}
	k := newKey(id, b)
	k.made = time.Unix(now.Unix(), 0)
	return k, nil
}

// saveState writes the file with these keys, newest first.
func (s *Store) saveState(keys ...*key) error {
	plain := make([]byte, 0, maxStateFile)
	defer func() { clear(plain[:cap(plain)]) }()
	plain = wire.AppendU32(plain, uint32(len(keys)))
	for _, k := range keys {
		plain = wire.AppendU16(plain, k.id)
		plain = wire.AppendU64(plain, uint64(k.made.Unix()))
		plain = append(plain, k.bytes[:]...)
	}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(s.cfg.Entropy, nonce); err != nil {
		return fmt.Errorf("store: drawing a nonce: %w", err)
	}
	b := append([]byte{stateFormat}, nonce...)
	return s.write(s.cfg.File, s.ring.folder.aead.Seal(b, nonce, plain, stateAD))
}

func (s *Store) parseState(raw []byte) (current, previous *key, err error) {
	damaged := &store.CorruptError{Path: s.cfg.File, Err: errOpen}
	if len(raw) == 0 || len(raw) > maxStateFile {
		return nil, nil, damaged
	}
	if raw[0] > stateFormat {
		return nil, nil, &store.FormatError{Path: s.cfg.File, Of: "state key file", Found: uint64(raw[0]), Supported: stateFormat}
	}
	if raw[0] != stateFormat || len(raw) < 1+nonceSize {
		return nil, nil, damaged
	}
	plain, err := s.ring.folder.aead.Open(nil, raw[1:1+nonceSize], raw[1+nonceSize:], stateAD)
	if err != nil {
		return nil, nil, damaged
	}
	defer clear(plain)
	r := wire.NewReader(plain)
	var keys []*key
	for range r.Count(2, stateEntry) {
		id, made := r.U16(), r.U64()
		var b [keySize]byte
		r.Fixed(b[:])
		k := newKey(id, b)
		clear(b[:])
		k.made = time.Unix(int64(min(made, math.MaxInt64)), 0)
		keys = append(keys, k)
	}
	if err := r.Done(); err != nil || len(keys) == 0 || slices.ContainsFunc(keys, func(k *key) bool { return k.id == 0 }) ||
		len(keys) == 2 && keys[0].id == keys[1].id {
		return nil, nil, damaged
	}
	if len(keys) == 2 {
		previous = keys[1]
	}
	return keys[0], previous, nil
}

// Rotate replaces a state key that is RotateAfter old, or made in the future:
// it stores a new one beside it, seals every record of live state anew, and
// then stores the new one alone. What a crash or an error cut off, the next
// call goes on with, whatever the time. now is by the wall clock.
//
// Other calls go on meanwhile: a write waits for one batch of about 256 KiB at
// most, reads for nothing. The revision of a unit stays what its writers know.
func (s *Store) Rotate(now time.Time) error {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	if s.ring.previous != nil {
		if err := s.finish(); err != nil {
			return err
		}
	}
	if age := now.Sub(s.ring.state.made); age >= 0 && age < RotateAfter {
		return nil
	}
	next, err := s.drawState(s.ring.state.id%math.MaxUint16+1, now)
	if err != nil {
		return err
	}
	if err := s.saveState(next, s.ring.state); err != nil {
		return err
	}
	s.turn(func(r *ring) { r.state, r.previous = next, r.state })
	return s.finish()
}

// finish seals anew what is under the previous key, which then goes.
func (s *Store) finish() error {
	if err := s.reseal(); err != nil {
		return err
	}
	if err := s.saveState(s.ring.state); err != nil {
		return err
	}
	s.turn(func(r *ring) {
		r.previous.forget()
		r.previous = nil
	})
	return nil
}

// turn changes the ring while nobody uses it.
func (s *Store) turn(change func(*ring)) {
	s.writes.Lock()
	defer s.writes.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.ring)
}

// reseal walks through the live state of every unit.
func (s *Store) reseal() error {
	for from := []byte(nil); ; {
		kvs, _, err := s.inner.Scan(from, lastKey, 1)
		if err != nil || len(kvs) == 0 {
			return err
		}
		u := store.Unit(kvs[0].Key)
		for _, kind := range s.cfg.Kinds {
			if err := s.resealKind(u, kind); err != nil {
				return err
			}
		}
		if from = u.End(); from == nil {
			return nil
		}
	}
}

func (s *Store) resealKind(u store.Unit, kind byte) error {
	from, to := append(u[:], kind), append(u[:], kind+1)
	if kind == math.MaxUint8 {
		to = u.End()
	}
	conflicts := 0
	for more := true; more; {
		var err error
		from, more, err = s.resealBatch(u, from, to)
		if !errors.Is(err, store.ErrConflict) {
			conflicts = 0
		} else if conflicts++; conflicts < maxConflicts {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resealBatch seals the first records of a range anew, and returns where the
// rest begins.
func (s *Store) resealBatch(u store.Unit, from, to []byte) (rest []byte, more bool, err error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	base, err := s.inner.Revision(u)
	if err != nil {
		return from, true, err
	}
	kvs, more, err := s.inner.Scan(from, to, resealBytes)
	if err != nil {
		return from, true, err
	}
	var ops []store.Op
	for _, kv := range kvs {
		rest = append(append(rest[:0], kv.Key...), 0)
		if len(kv.Value) >= idSize && wire.NewReader(kv.Value).U16() == s.ring.state.id {
			continue
		}
		plain, err := s.open(kv.Key, kv.Value)
		if err != nil {
			return from, true, err
		}
		ops = append(ops, store.Op{Key: kv.Key, Value: plain})
	}
	if len(ops) == 0 {
		return rest, more, nil
	}
	sealed, err := s.sealOps(ops)
	for _, op := range ops {
		clear(op.Value)
	}
	if err != nil {
		return from, true, err
	}
	if err := s.inner.Apply([]store.Batch{{Unit: u, Base: base, Ops: sealed}})[0]; err != nil {
		return from, true, err
	}
	s.offsets[u]++
	return rest, more, nil
}
