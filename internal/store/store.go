// Package store is what every durable machine stands on: an ordered map of
// bytes, cut into units that each move from revision to revision by whole
// batches (docs/protocol.md section 12, docs/architecture.md "Stores").
//
// Durability: when Apply answers nil for a batch that is not Lazy, the batch
// survives a crash of the process and of the machine. Concurrency: a Store is
// safe for concurrent use; two batches of one unit and one base never both
// succeed, in this process or in another that shares the engine. Trust: the
// engine is trusted for integrity, not for secrecy; what must not be read at
// rest is sealed by the caller.
package store

import "errors"

// Unit is one unit of order: a membership, a channel, a desk. Every key of a
// unit begins with it.
type Unit [16]byte

// Op changes one key, or deletes a range.
type Op struct {
	Key   []byte
	Value []byte // nil: delete Key
	To    []byte // set: delete [Key, To), Value is nil
}

// Batch is applied whole or not at all.
type Batch struct {
	Unit Unit
	Base uint64 // the revision it was computed on; afterwards the unit is at Base+1
	Ops  []Op
	Lazy bool // no fsync: hints that may be lost
}

// KV is one entry of a Scan.
type KV struct{ Key, Value []byte }

// Reader reads what is durable (or lazily written). The results belong to the caller.
type Reader interface {
	// Revision is the number of batches applied to the unit.
	Revision(Unit) (uint64, error)
	// Get returns ErrNotFound for a key that has no value.
	Get(key []byte) ([]byte, error)
	// Scan returns the entries of [from, to) in key order until limit bytes of
	// keys and values are reached, at least one if there is one; more tells
	// that entries are left.
	Scan(from, to []byte, limit int) (kvs []KV, more bool, err error)
}

// Store is a Reader that takes batches.
type Store interface {
	Reader
	// Apply answers per batch: nil (durable), ErrConflict (the unit has moved
	// on; nothing was written), or another error (unknown: reopen the unit).
	// Several batches of one unit in one call apply in order, each on the
	// revision that the one before left.
	Apply([]Batch) []error
	// Watch asks for hints that another process wrote a unit. Hints may be
	// lost or repeated; they are never data.
	Watch(func(Unit))
	// Close waits for calls under way and releases the engine.
	Close() error
}

var (
	// ErrNotFound: the key has no value.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict: the unit is not at the batch's base revision any more.
	ErrConflict = errors.New("store: the unit has moved on")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store: closed")
)
