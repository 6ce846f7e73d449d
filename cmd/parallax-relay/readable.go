package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/store/pebble"
)

// readable opens a store on a file system that refuses every change. The engine
// reads a store in full, logs included, before it writes to it, so the first
// refusal says that all before was found good. Errors are those of pebble.Open.
func readable(path string) error {
	s, err := pebble.Open(path, pebble.Options{FS: sealed{vfs.Default}})
	if err == nil {
		return s.Close()
	}
	if errors.Is(err, errSealed) {
		return nil
	}
	return err
}

var errSealed = errors.New("nothing is changed here")

// sealed is a file system that can only be read.
type sealed struct{ vfs.FS }

func (sealed) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errSealed }

func (sealed) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errSealed
}

func (sealed) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errSealed
}

func (sealed) Link(string, string) error          { return errSealed }
func (sealed) Rename(string, string) error        { return errSealed }
func (sealed) Remove(string) error                { return errSealed }
func (sealed) RemoveAll(string) error             { return errSealed }
func (sealed) MkdirAll(string, fs.FileMode) error { return errSealed }
func (s sealed) Unwrap() vfs.FS                   { return s.FS }

// Lock asks whether somebody holds the lock, and neither makes the file nor
// takes it.
func (sealed) Lock(name string) (io.Closer, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	ask := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	err = syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &ask)
	if err == nil && ask.Type != syscall.F_UNLCK {
		err = syscall.EAGAIN
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
