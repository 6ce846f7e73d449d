package store

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked: another process, or this one, has the store open.
	ErrLocked = errors.New("store: in use by another process")
	// ErrBatch: an op has no form or leaves its unit; nothing was written.
	// It is a mistake of the caller, not of the engine.
	ErrBatch = errors.New("store: malformed batch")
)

// FormatError: the store is in a format that this version does not read.
// Nothing in its directory was changed.
type FormatError struct {
	Path      string // directory of the store
	Of        string // whose format number it is: "store", or the engine's name
	Found     uint64 // 0: keys, but no format number
	Supported uint64
}

func (e *FormatError) Error() string {
	advice := "open it with the version that wrote it"
	if e.Found > e.Supported {
		advice = "it was written by a newer version, upgrade to open it"
	}
	return fmt.Sprintf("store: %s is in %s format %d, this version reads format %d: %s",
		e.Path, e.Of, e.Found, e.Supported, advice)
}

// CorruptError: a file of the store is damaged or missing. When it comes from
// opening the store, nothing in its directory was changed.
type CorruptError struct {
	Path string // the damaged file; the directory, when the file is not known
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("store: %s is damaged, restore it from a backup: %v", e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }
