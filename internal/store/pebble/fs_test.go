package pebble_test

import (
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tapFS calls before ahead of every change to the file system that Pebble
// asks for, named by kind and file; an error stands for the change. Half of
// what a refused write had to write is written, as on a full disk.
type tapFS struct {
	vfs.FS
	before func(kind, name string) error
	// reuse is held while a file is reused: a MemFS locks itself twice for
	// that, so a clone that is asked for in between would stand still with it.
	reuse sync.Mutex
}

func (t *tapFS) wrap(f vfs.File, err error, name string) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &tapFile{f, t, name}, nil
}

func (t *tapFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := t.before("create", name); err != nil {
		return nil, err
	}
	f, err := t.FS.Create(name, c)
	return t.wrap(f, err, name)
}

func (t *tapFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if err := t.before("create", name); err != nil {
		return nil, err
	}
	f, err := t.FS.OpenReadWrite(name, c, o...)
	return t.wrap(f, err, name)
}

func (t *tapFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := t.before("reuse", to); err != nil {
		return nil, err
	}
	t.reuse.Lock()
	f, err := t.FS.ReuseForWrite(from, to, c)
	t.reuse.Unlock()
	return t.wrap(f, err, to)
}

func (t *tapFS) OpenDir(name string) (vfs.File, error) {
	f, err := t.FS.OpenDir(name)
	return t.wrap(f, err, name+"/")
}

func (t *tapFS) Link(from, to string) error {
	if err := t.before("link", to); err != nil {
		return err
	}
	return t.FS.Link(from, to)
}

func (t *tapFS) Rename(from, to string) error {
	if err := t.before("rename", to); err != nil {
		return err
	}
	return t.FS.Rename(from, to)
}

func (t *tapFS) Remove(name string) error {
	if err := t.before("remove", name); err != nil {
		return err
	}
	return t.FS.Remove(name)
}

func (t *tapFS) MkdirAll(dir string, perm fs.FileMode) error {
	if err := t.before("mkdir", dir); err != nil {
		return err
	}
	return t.FS.MkdirAll(dir, perm)
}

func (t *tapFS) Unwrap() vfs.FS { return t.FS }

type tapFile struct {
	vfs.File
	tap  *tapFS
	name string
}

func (f *tapFile) Write(p []byte) (int, error) {
	if err := f.tap.before("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *tapFile) sync(do func() error) error {
	if err := f.tap.before("sync", f.name); err != nil {
		return err
	}
	return do()
}

func (f *tapFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *tapFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *tapFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

// contents maps every file of dir to its bytes. The lock file is left out, as
// closing it would give up the lock, and it is empty.
func contents(fsys vfs.FS, dir string) map[string]string {
	names, err := fsys.List(dir)
	if err != nil {
		panic(err)
	}
	out := map[string]string{}
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		out[name] = readFile(fsys, fsys.PathJoin(dir, name))
	}
	return out
}

func readFile(fsys vfs.FS, path string) string {
	f, err := fsys.Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	var b strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		b.Write(buf[:n])
		if err != nil || n == 0 {
			return b.String()
		}
	}
}

// writeFiles makes dir hold these files.
func writeFiles(fsys vfs.FS, dir string, files map[string]string) {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	for name, data := range files {
		f, err := fsys.Create(fsys.PathJoin(dir, name), "test")
		if err == nil {
			_, err = f.Write([]byte(data))
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			panic(err)
		}
		f.Close()
	}
	d, err := fsys.OpenDir(dir)
	if err != nil {
		panic(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		panic(err)
	}
}

// logBook gathers what a store logs.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) log(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, format)
}

func (l *logBook) read() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}
