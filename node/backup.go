package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/sealed"
)

// restoringDir is a folder of groups that a restore has not finished.
const restoringDir = "restoring"

// restoreBytes is about how much a restore writes in one batch.
const restoreBytes = 1 << 20

// ErrNotEmpty: there are groups in the folder already.
var ErrNotEmpty = errors.New("the data folder holds groups already: restore into another one, named with --data")

// CreateBackup puts every membership of the folder into one file, sealed with a
// passphrase, without live ratchet state. Answer: BackupInfo.
type CreateBackup struct {
	File       string // absolute; must not exist
	Passphrase string
}

// Wish implements member.Wish.
func (CreateBackup) Wish() string { return "backup" }

// BackupInfo says what a backup holds.
type BackupInfo struct {
	File    string              `json:"file"`
	Bytes   int64               `json:"bytes,omitempty"` // of one just made
	Made    time.Time           `json:"made"`
	Groups  []member.BackupInfo `json:"groups"`
	LeftOut []LeftOut           `json:"left_out,omitempty"` // of one just made
}

// LeftOut is a membership that is not in a backup.
type LeftOut struct {
	Unit string `json:"unit"`
	Why  string `json:"why"`
}

// backup obeys CreateBackup. Each membership is read at one of its turns;
// writes of it wait meanwhile.
func (m *Member) backup(w CreateBackup) (BackupInfo, error) {
	if !filepath.IsAbs(w.File) {
		return BackupInfo{}, fmt.Errorf("backup: the path %q is not absolute", w.File)
	}
	if n := len(w.Passphrase); n == 0 || n > sealed.MaxPassphrase {
		return BackupInfo{}, fmt.Errorf("backup: %w", sealed.ErrPassphraseLength)
	}
	b := &backup{made: m.cfg.Wall()}
	info := BackupInfo{File: w.File, Made: time.Unix(b.made.Unix(), 0).UTC(), Groups: []member.BackupInfo{}}
	leave := func(u store.Unit, err error) {
		info.LeftOut = append(info.LeftOut, LeftOut{hex.EncodeToString(u[:]), err.Error()})
	}
	m.mu.Lock()
	for u, err := range m.broken {
		leave(u, err)
	}
	m.mu.Unlock()
	for _, ms := range m.open() {
		g := backupGroup{unit: ms.unit}
		err := ms.store.Frozen(func(r store.Reader) (err error) {
			g.kvs, err = member.Backup(ms.unit, r)
			return err
		})
		var one member.BackupInfo
		if err == nil {
			one, err = member.CheckBackup(ms.unit, g.kvs)
		}
		if err != nil {
			leave(ms.unit, err)
			continue
		}
		b.groups, info.Groups = append(b.groups, g), append(info.Groups, one)
	}
	if len(b.groups) == 0 {
		why := ErrNoGroup
		if len(info.LeftOut) > 0 {
			why = fmt.Errorf("%w that a backup could hold: %s", ErrNoGroup, info.LeftOut[0].Why)
		}
		return info, fmt.Errorf("backup: %w", why)
	}
	var err error
	info.Bytes, err = b.write(w.File, w.Passphrase, m.cfg.backupWork)
	return info, err
}

// describe checks every membership of a backup.
func (b *backup) describe(file string) (BackupInfo, error) {
	info := BackupInfo{File: file, Made: b.made.UTC(), Groups: []member.BackupInfo{}}
	for _, g := range b.groups {
		one, err := member.CheckBackup(g.unit, g.kvs)
		if err != nil {
			return info, fmt.Errorf("%s: %w", file, err)
		}
		info.Groups = append(info.Groups, one)
	}
	return info, nil
}

// VerifyBackup reads a backup to its end and tells what it holds. Errors:
// ErrBackup, sealed.ErrPassphrase, *store.FormatError, member.ErrStore, what
// the operating system says.
func VerifyBackup(file, passphrase string) (BackupInfo, error) {
	b, err := readBackup(file, passphrase)
	if err != nil {
		return BackupInfo{}, err
	}
	return b.describe(file)
}

// Restore puts the memberships of a backup into a folder that holds none, all
// or none of them. Errors: those of VerifyBackup, ErrNotEmpty, ErrLocked, those
// of the folder's keys.
func Restore(cfg MemberConfig, file, passphrase string) (BackupInfo, error) {
	b, err := readBackup(file, passphrase)
	if err != nil {
		return BackupInfo{}, err
	}
	info, err := b.describe(file)
	if err != nil {
		return info, err
	}
	cfg.setDefaults()
	if err := makeFolder(cfg.Dir); err != nil {
		return info, err
	}
	lock, err := lockFolder(cfg.Dir)
	if err != nil {
		return info, err
	}
	return info, errors.Join(b.restore(&cfg), lock.Unlock())
}

// restore fills a folder that is locked: beside the place of the groups, which
// they take in one step.
func (b *backup) restore(cfg *MemberConfig) error {
	groups, beside := filepath.Join(cfg.Dir, groupsDir), filepath.Join(cfg.Dir, restoringDir)
	if units, err := unitsIn(groups); err != nil {
		return err
	} else if len(units) > 0 {
		return fmt.Errorf("%s: %w", cfg.Dir, ErrNotEmpty)
	}
	key, err := folderKey(cfg)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(beside); err != nil {
		return err
	}
	err = os.Mkdir(beside, 0o700)
	for i := 0; err == nil && i < len(b.groups); i++ {
		err = b.groups[i].restore(cfg, key, filepath.Join(beside, hex.EncodeToString(b.groups[i].unit[:])))
	}
	if err == nil {
		err = syncDir(beside)
	}
	if err == nil {
		err = os.Rename(beside, groups) // also over an empty folder
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(beside))
	}
	return syncDir(cfg.Dir)
}

// restore makes the store of a membership.
func (g *backupGroup) restore(cfg *MemberConfig, key *sealed.FolderKey, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	s, err := openSealed(cfg, key, dir)
	if err != nil {
		return err
	}
	b, size := store.Batch{Unit: g.unit}, 0
	for i, kv := range g.kvs {
		b.Ops = append(b.Ops, store.Op{Key: kv.Key, Value: kv.Value})
		if size += len(kv.Key) + len(kv.Value); size < restoreBytes && i < len(g.kvs)-1 {
			continue
		}
		if err := s.Apply([]store.Batch{b})[0]; err != nil {
			return errors.Join(err, s.Close())
		}
		b, size = store.Batch{Unit: g.unit, Base: b.Base + 1}, 0
	}
	return errors.Join(s.Close(), syncDir(dir))
}
