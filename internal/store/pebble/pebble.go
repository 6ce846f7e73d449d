// Package pebble is the embedded store engine of relays and members: the
// contract of package store (docs/protocol.md section 12) over Pebble, in one
// directory that one process has open at a time.
//
// Durability: an answer of nil to a batch that is not Lazy means that the
// batch is in Pebble's log and the log was fsynced. Calls of Apply that wait
// for each other share one fsync. Reads see what is durable or lazily
// written, never a batch whose fsync is under way.
//
// Failure: after the first write that the operating system refuses (a full
// disk, a failing one) nothing in the directory is changed any more, and every
// call answers that error; only Close is left. The batches of the failing call
// are unknown: opening the store again tells. See fence.
//
// Damage: a store that cannot be read in full is refused with
// store.CorruptError before anything in it is written. Blocks of tables are
// read, and their checksums compared, when they are needed.
//
// A Store is safe for concurrent use.
package pebble

import (
	"fmt"
	"path/filepath"
	"sync"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/store"
)

// Format is the number under which this version stores, and the only one that
// it reads.
const Format = 1

// Defaults of Options: small, for a process may have several stores open.
const (
	DefaultCacheBytes    = 8 << 20
	DefaultMemTableBytes = 4 << 20
)

// maxOpenFiles bounds the file descriptors of one store.
const maxOpenFiles = 256

// engineFormat is pinned: a newer Pebble shall not make stores that an older
// version of this program cannot open, unless Format tells.
const engineFormat = engine.FormatValueSeparation

// Options tune one store; zero means default.
type Options struct {
	FS            vfs.FS // the operating system's
	CacheBytes    int64  // blocks of tables kept in memory: DefaultCacheBytes
	MemTableBytes uint64 // of batches between two tables: DefaultMemTableBytes
	// Log takes what the engine has to complain about; nil: nobody. It is
	// called from any goroutine and must not call the store.
	Log func(format string, args ...any)
}

// Store implements store.Store.
type Store struct {
	dir   string
	fence *fence
	lock  *engine.Lock

	// write is held by whoever commits; queue, under its own lock, is what the
	// next holder commits in one go.
	write   sync.Mutex
	lazy    bool // the last commit was not fsynced; guarded by write
	queueMu sync.Mutex
	queue   []*call

	// mu guards view and closed; readers share it, so db stays open and view
	// unchanged while they read.
	mu     sync.RWMutex
	db     *engine.DB
	view   *engine.Snapshot // after the last commit that is durable or lazy
	closed bool
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, or makes one if there is none. Errors:
// store.ErrLocked, *store.CorruptError, *store.FormatError (with these, the
// directory's contents are as before), or what the operating system refused.
func Open(dir string, opt Options) (*Store, error) {
	fs := opt.FS
	if fs == nil {
		fs = vfs.Default
		abs, err := filepath.Abs(dir) // the lock goes by name within a process
		if err != nil {
			return nil, fmt.Errorf("store: opening %s: %w", dir, err)
		}
		dir = abs
	}
	log := opt.Log
	if log == nil {
		log = func(string, ...any) {}
	}
	s := &Store{dir: dir, fence: &fence{FS: fs, dir: dir, log: log}}
	if err := makeDir(s.fence, dir); err != nil {
		return nil, fmt.Errorf("store: making the directory %s: %w", dir, err)
	}
	lock, err := engine.LockDirectory(dir, s.fence)
	if err != nil {
		return nil, lockError(dir, err)
	}
	s.lock = lock
	if err := s.open(opt); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(opt Options) error {
	found, err := s.probe(opt)
	if err != nil {
		return err
	}
	for _, name := range found.remnants {
		if err := s.fence.Remove(s.path(name)); err != nil {
			return fmt.Errorf("store: opening %s: %w", s.dir, err)
		}
	}
	db, err := engine.Open(s.dir, s.options(opt, false))
	if err == nil && !found.format {
		err = db.Set(formatKey, formatValue(Format), engine.Sync)
	}
	if failed := s.fence.failure(); failed != nil {
		err = failed
	}
	if err != nil {
		if db != nil {
			db.Close()
		}
		return fmt.Errorf("store: opening %s: %w", s.dir, err)
	}
	s.db, s.view = db, db.NewSnapshot()
	return nil
}

// options are new for every opening, as Pebble keeps what it is given.
func (s *Store) options(opt Options, readOnly bool) *engine.Options {
	o := &engine.Options{
		FS:                 s.fence,
		Lock:               s.lock,
		Logger:             s.fence,
		FormatMajorVersion: engineFormat,
		CacheSize:          DefaultCacheBytes,
		MemTableSize:       DefaultMemTableBytes,
		MaxOpenFiles:       maxOpenFiles,
		ReadOnly:           readOnly,
		ErrorIfNotExists:   readOnly,
		EventListener: &engine.EventListener{
			BackgroundError: s.fence.backgroundError,
			// Whoever reads gets the error; Pebble's default ends the process.
			DataCorruption: func(i engine.DataCorruptionInfo) { s.fence.Errorf("%v", i) },
		},
	}
	if opt.CacheBytes != 0 {
		o.CacheSize = opt.CacheBytes
	}
	if opt.MemTableBytes != 0 {
		o.MemTableSize = opt.MemTableBytes
	}
	return o
}

// Watch implements store.Store. One process has the directory open, so there
// is never anything to hint.
func (s *Store) Watch(func(store.Unit)) {}

// Close implements store.Store; closing again does nothing. After a failed
// write it answers that failure.
func (s *Store) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.view.Close()
	if e := s.db.Close(); err == nil {
		err = e
	}
	if e := s.lock.Close(); err == nil {
		err = e
	}
	if failed := s.fence.failure(); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("store: closing %s: %w", s.dir, err)
	}
	return nil
}
