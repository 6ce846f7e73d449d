package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/store"
)

// fence stands between Pebble and the file system. Pebble answers to a failed
// write of its log or manifest by ending the process, and to a failed flush by
// trying again without end; going on after a failed fsync may lose what was
// acknowledged. So the fence keeps the first failure, lets no later change
// through, and tells Pebble that all went well: the engine runs on into the
// void until it is closed, and the store, which asks the fence after every
// commit, acknowledges nothing.
//
// It is Pebble's logger too, since that is where Pebble reports what it
// considers fatal.
type fence struct {
	vfs.FS
	dir    string
	log    func(format string, args ...any)
	failed atomic.Pointer[error]
}

// fail keeps err if it is the first failure.
func (f *fence) fail(err error) {
	err = fmt.Errorf("store: writing to %s failed, nothing is written any more until it is opened again: %w", f.dir, err)
	if f.failed.CompareAndSwap(nil, &err) {
		f.log("%v", err)
	}
}

// failure is what the first failed write answered, or nil.
func (f *fence) failure() error {
	if err := f.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// swallow keeps err, the outcome of a change, from Pebble.
func (f *fence) swallow(err error) error {
	if err != nil {
		f.fail(err)
	}
	return nil
}

// do makes a change, or not, and tells Pebble that it was made.
func (f *fence) do(change func() error) error {
	if f.failure() != nil {
		return nil
	}
	return f.swallow(change())
}

// file opens a file for writing.
func (f *fence) file(open func() (vfs.File, error)) (vfs.File, error) {
	if f.failure() == nil {
		file, err := open()
		if err == nil {
			return &fencedFile{file, f}, nil
		}
		f.fail(err)
	}
	return void{vfs.NewMemFile(nil)}, nil
}

func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f *fence) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

// OpenDir opens a directory for syncing; that it cannot be opened is told.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fencedFile{file, f}, nil
}

func (f *fence) Link(from, to string) error {
	return f.do(func() error { return f.FS.Link(from, to) })
}

func (f *fence) Rename(from, to string) error {
	return f.do(func() error { return f.FS.Rename(from, to) })
}

func (f *fence) MkdirAll(dir string, perm fs.FileMode) error {
	return f.do(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Remove that fails costs room, not data: Pebble may know.
func (f *fence) Remove(name string) error {
	if f.failure() != nil {
		return nil
	}
	return f.FS.Remove(name)
}

func (f *fence) RemoveAll(name string) error {
	if f.failure() != nil {
		return nil
	}
	return f.FS.RemoveAll(name)
}

func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file or directory that was opened before the failure.
type fencedFile struct {
	vfs.File
	fence *fence
}

func (w *fencedFile) Write(p []byte) (int, error) {
	return len(p), w.fence.do(func() error { _, err := w.File.Write(p); return err })
}

func (w *fencedFile) WriteAt(p []byte, at int64) (int, error) {
	return len(p), w.fence.do(func() error { _, err := w.File.WriteAt(p, at); return err })
}

func (w *fencedFile) Preallocate(at, n int64) error {
	if w.fence.failure() != nil {
		return nil
	}
	return w.File.Preallocate(at, n) // a hint, Pebble goes on without it
}

func (w *fencedFile) Sync() error     { return w.fence.do(w.File.Sync) }
func (w *fencedFile) SyncData() error { return w.fence.do(w.File.SyncData) }

func (w *fencedFile) SyncTo(n int64) (full bool, err error) {
	err = w.fence.do(func() (err error) { full, err = w.File.SyncTo(n); return err })
	return full, err
}

func (w *fencedFile) Close() error { return w.fence.swallow(w.File.Close()) }

// void is a file of after the failure: it takes everything and keeps nothing.
type void struct{ vfs.File }

func (void) Write(p []byte) (int, error)            { return len(p), nil }
func (void) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (void) Close() error                           { return nil }

// Infof drops what Pebble tells in good health.
func (f *fence) Infof(string, ...any) {}

// Errorf reports what Pebble can live with.
func (f *fence) Errorf(format string, args ...any) {
	if f.failure() == nil { // else it speaks of the void
		f.log("store: "+f.dir+": "+format, args...)
	}
}

// Fatalf is where Pebble expects the process to end. It goes on instead, with
// the fence down.
func (f *fence) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if e, ok := a.(error); ok && isDamage(e) {
			err = damaged(f.FS, f.dir, e)
		}
	}
	f.fail(err)
}

// backgroundError takes failed flushes and compactions. Damage in a table that
// was to be compacted harms those who read it, and they are told.
func (f *fence) backgroundError(err error) {
	if isDamage(err) {
		f.Errorf("%v", damaged(f.FS, f.dir, err))
		return
	}
	f.fail(err)
}

// isDamage tells errors about the contents of files, and missing files, from
// those of the operating system.
func isDamage(err error) bool {
	return engine.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist)
}

// damage makes errors of reads into store.CorruptError where they are.
func (s *Store) damage(err error) error {
	var known *store.CorruptError
	if err == nil || errors.As(err, &known) || !isDamage(err) {
		return err
	}
	return damaged(s.fence.FS, s.dir, err)
}
