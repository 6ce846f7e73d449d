package pebble

import (
	"errors"
	"fmt"

	engine "github.com/cockroachdb/pebble/v2"

	"parallax/internal/store"
)

// read runs f on the newest durable state. After a failed write nobody knows
// what that is, so reads are refused too.
func (s *Store) read(f func(engine.Reader) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	if err := s.fence.failure(); err != nil {
		return err
	}
	return s.damage(f(s.view))
}

// Revision implements store.Reader.
func (s *Store) Revision(u store.Unit) (n uint64, err error) {
	err = s.read(func(r engine.Reader) (err error) {
		n, err = readRevision(r, u)
		return err
	})
	return n, err
}

// Get implements store.Reader.
func (s *Store) Get(key []byte) (value []byte, err error) {
	err = s.read(func(r engine.Reader) error {
		v, closer, err := r.Get(dataKey(key))
		if errors.Is(err, engine.ErrNotFound) {
			return store.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("store: reading key %x: %w", key, err)
		}
		value = clone(v)
		return closer.Close()
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// Scan implements store.Reader.
func (s *Store) Scan(from, to []byte, limit int) (kvs []store.KV, more bool, err error) {
	err = s.read(func(r engine.Reader) error {
		if string(from) >= string(to) {
			return nil
		}
		it, err := r.NewIter(&engine.IterOptions{LowerBound: dataKey(from), UpperBound: dataKey(to)})
		if err != nil {
			return fmt.Errorf("store: scanning from %x: %w", from, err)
		}
		size := 0
		for it.First(); it.Valid(); it.Next() {
			if more = len(kvs) > 0 && size >= limit; more {
				break
			}
			v, err := it.ValueAndErr()
			if err != nil {
				break // Close repeats it
			}
			k := it.Key()[1:]
			kvs = append(kvs, store.KV{Key: clone(k), Value: clone(v)})
			size += len(k) + len(v)
		}
		if err := it.Close(); err != nil {
			return fmt.Errorf("store: scanning from %x: %w", from, err)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return kvs, more, nil
}

// clone keeps an empty value apart from none.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
