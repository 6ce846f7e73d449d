package sealed

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// tempSuffix is of a file that is about to take the place of another one.
const tempSuffix = ".new"

// replace writes a file for its owner alone, whole or not at all, durably. What
// stood there before is overwritten once it has no name any more: with the
// records of an engine that keeps old bytes it could still be of use. File
// systems and drives that write elsewhere keep it for a while all the same.
func replace(path string, content []byte) error {
	old, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := place(path, content); err != nil {
		if old != nil {
			err = errors.Join(err, old.Close())
		}
		return err
	}
	if old == nil {
		return nil
	}
	return blank(old)
}

func place(path string, content []byte) error {
	f, err := os.OpenFile(path+tempSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+tempSuffix, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// blank overwrites a file with zeros and closes it.
func blank(f *os.File) error {
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// discard removes what a replace that did not end left.
func discard(path string) error {
	f, err := os.OpenFile(path+tempSuffix, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(blank(f), os.Remove(path+tempSuffix))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
