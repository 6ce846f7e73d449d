package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"parallax/internal/keys"
)

// A key file is two lines: "parallax <role> key 1" and 64 hex digits, the seed.
const keyFileTitle = "parallax %s key 1"

// ErrKeyFile: a key file that was not written by WriteKey for this role.
var ErrKeyFile = errors.New("not a key file of this kind")

// ErrKeyMode: others than the owner may read a key file.
var ErrKeyMode = errors.New("others may read this key")

// WriteKey writes a new key file for its owner alone; an existing one stays.
func WriteKey(path, role string, seed [keys.SeedSize]byte) error {
	return WriteNew(path, fmt.Appendf(nil, keyFileTitle+"\n%x\n", role, seed), 0o600)
}

// WriteNew writes a file that must not exist yet, durably.
func WriteNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncDir(filepath.Dir(path))
}

// WriteOver replaces a file whole or not at all. It is not made durable: it is
// for what may be lost.
func WriteOver(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadKey reads a key file. Errors: ErrKeyFile, ErrKeyMode, or what the
// operating system says.
func ReadKey(path, role string) (seed [keys.SeedSize]byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return seed, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return seed, Errorf(Usage, "%s: %w (mode %04o): chmod 600 it", path, ErrKeyMode, mode)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return seed, err
	}
	title, rest, _ := strings.Cut(string(raw), "\n")
	n, err := hex.Decode(seed[:], []byte(strings.TrimSpace(rest))[:min(len(strings.TrimSpace(rest)), 2*len(seed))])
	if title != fmt.Sprintf(keyFileTitle, role) || err != nil || n != len(seed) || len(strings.TrimSpace(rest)) != 2*len(seed) {
		clear(seed[:])
		return seed, Errorf(Data, "%s: %w: want the line %q and 64 hex digits; restore it from a backup", path, ErrKeyFile, fmt.Sprintf(keyFileTitle, role))
	}
	return seed, nil
}
