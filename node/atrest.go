package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/sealed"
)

// Keys that seal what lies in a data folder.
const (
	keysFile     = "keys"     // the folder key, for its owner alone or sealed with a passphrase
	stateKeyFile = "statekey" // of one membership, sealed with the folder key

	// rotateCheck is how often a running node looks for state keys that are a
	// day old.
	rotateCheck = 10 * time.Minute
)

// folderKey reads the folder's key. A folder without memberships gets one.
// Errors: those of sealed.LoadFolderKey; *store.CorruptError when the key of a
// folder that holds memberships is missing.
func folderKey(cfg *MemberConfig) (*sealed.FolderKey, error) {
	path := filepath.Join(cfg.Dir, keysFile)
	ask := func(first bool) ([]byte, error) {
		if cfg.Passphrase == nil {
			return nil, nil
		}
		return cfg.Passphrase(first)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		k, _, err := sealed.LoadFolderKey(path, func() ([]byte, error) { return ask(false) })
		return k, err
	}
	units, err := unitsIn(filepath.Join(cfg.Dir, groupsDir))
	if err != nil {
		return nil, err
	}
	if len(units) > 0 {
		return nil, &store.CorruptError{Path: path, Err: errors.New("it is missing, and nothing of the groups in this folder opens without it; a folder that was made before there were keys cannot be read any more")}
	}
	k, err := sealed.NewFolderKey(Entropy())
	if err != nil {
		return nil, err
	}
	passphrase, err := ask(true)
	if err != nil {
		return nil, err
	}
	return k, k.Write(path, passphrase, cfg.Cost, Entropy())
}

// unitsIn lists the memberships of a folder of groups; none if there is no
// such folder.
func unitsIn(dir string) (units []store.Unit, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		var u store.Unit
		if len(e.Name()) != hex.EncodedLen(len(u)) {
			continue
		}
		if _, err := hex.Decode(u[:], []byte(e.Name())); err == nil {
			units = append(units, u)
		}
	}
	return units, err
}

// openSealed opens the store of a membership and seals it.
func openSealed(cfg *MemberConfig, key *sealed.FolderKey, dir string) (*sealed.Store, error) {
	path := filepath.Join(dir, storeDir)
	inner, err := cfg.Store(path)
	if errors.Is(err, store.ErrLocked) {
		return nil, fmt.Errorf("%s: %w (%w)", path, ErrLocked, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s, err := sealed.Open(inner, sealed.Config{
		Folder: key, File: filepath.Join(dir, stateKeyFile), Kinds: member.LiveKinds(), Entropy: Entropy(), Now: cfg.Wall(), Path: path,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), inner.Close())
	}
	return s, nil
}

// rotate replaces the membership's state key if it is a day old. What keeps it
// from that is told and tried again: a full disk must not keep history away.
func (m *membership) rotate(now time.Time) {
	if err := m.store.Rotate(now); err != nil && !errors.Is(err, store.ErrClosed) {
		m.log.Warn("the state key was not replaced", zap.Stringer("unit", hexUnit(m.unit)), zap.Error(err))
	}
}

// rotateAll looks after state keys until Close.
func (m *Member) rotateAll(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-ticker.C:
		}
		for _, ms := range m.open() {
			ms.rotate(m.cfg.Wall())
		}
	}
}

// lockFolder takes the folder's lock. Errors: ErrLocked, or what the file
// system says.
func lockFolder(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	case !ok:
		return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
	}
	return lock, nil
}

// makeFolder makes a data folder and sees to it that it is its owner's alone:
// keys lie in it.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// InitFolder makes a data folder and its key, sealed with what
// cfg.Passphrase(true) answers, and tells whether it made the key. One that is
// there stays as it is. Dir is required.
func InitFolder(cfg MemberConfig) (made bool, err error) {
	if err := makeFolder(cfg.Dir); err != nil {
		return false, err
	}
	lock, err := lockFolder(cfg.Dir)
	if err != nil {
		return false, err
	}
	if _, err = os.Stat(filepath.Join(cfg.Dir, keysFile)); errors.Is(err, fs.ErrNotExist) {
		made = true
		_, err = folderKey(&cfg)
	}
	return made, errors.Join(err, lock.Unlock())
}

// SetPassphrase seals the folder's key with a passphrase, or with nil leaves it
// to the file's mode. The key itself stays; cfg.Passphrase(false) is asked for
// the passphrase that it is sealed with now. A crash leaves the old file or the
// new one. Errors: ErrLocked, those of sealed.LoadFolderKey, fs.ErrNotExist.
func SetPassphrase(cfg MemberConfig, passphrase []byte) error {
	lock, err := lockFolder(cfg.Dir)
	if err != nil {
		return err
	}
	path := filepath.Join(cfg.Dir, keysFile)
	k, _, err := sealed.LoadFolderKey(path, func() ([]byte, error) { return cfg.Passphrase(false) })
	if err == nil {
		err = k.Write(path, passphrase, cfg.Cost, Entropy())
	}
	return errors.Join(err, lock.Unlock())
}
