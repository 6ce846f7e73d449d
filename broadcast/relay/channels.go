package relay

import (
	"bytes"
	"errors"
	"fmt"

	"parallax/internal/store"
)

// eachChannel calls f for every channel of a store, with its meta record. It
// reads a few keys of each.
func eachChannel(r store.Reader, f func(u store.Unit, meta []byte) error) error {
	last := bytes.Repeat([]byte{0xff}, len(store.Unit{})+1)
	for from := []byte(nil); ; {
		kvs, _, err := r.Scan(from, last, 1) // the first key of the next unit
		if err != nil || len(kvs) == 0 {
			return err
		}
		u := store.Unit(kvs[0].Key)
		b, err := r.Get(key(u, keyMeta))
		if err == nil {
			err = f(u, b)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("unit %x: %w", u, err)
		}
		if from = u.End(); from == nil {
			return nil
		}
	}
}

// CheckFormat looks whether this version reads the channels of a store. The error
// is a *store.FormatError without a path, for the first one that it does not read.
func CheckFormat(r store.Reader) error {
	err := eachChannel(r, func(_ store.Unit, meta []byte) error {
		if len(meta) == 0 || meta[0] == formatVersion {
			return nil // what else is wrong is told when it is opened
		}
		return &store.FormatError{Of: "channel", Found: uint64(meta[0]), Supported: formatVersion}
	})
	if e, ok := errors.AsType[*store.FormatError](err); ok {
		return e // it is the whole store's, whichever channel showed it
	}
	return err
}

// MarkRestored marks every channel of a store that was put back to an older copy:
// each starts a new lineage before it signs again. It tells how many they are.
// Nothing else may write meanwhile; repeated, it does no harm.
func MarkRestored(s store.Store) (channels int, err error) {
	err = eachChannel(s, func(u store.Unit, _ []byte) error {
		base, err := s.Revision(u)
		if err == nil {
			err = s.Apply([]store.Batch{Restored(u, base)})[0]
		}
		if err == nil {
			channels++
		}
		return err
	})
	return channels, err
}
