package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"parallax/internal/store"
	"parallax/internal/store/sealed"
	"parallax/internal/wire"
)

// A backup file:
//
//	"parallax backup\n", u16 format 1
//	an age file (age-encryption.org/v1) for a passphrase; in it
//	  u64 made (Unix seconds), u32 groups, for each
//	    [16] unit, u32 records, for each: bytes key without unit, bytes value
const (
	backupMagic  = "parallax backup\n"
	backupFormat = 1

	maxBackupGroups  = 4096
	maxBackupRecords = 1 << 26 // of one group
	maxBackupKey     = 1 << 10 // bytes
	maxBackupValue   = 64 << 20
	maxBackupTime    = 1 << 37 // Unix seconds: in a year of four digits
)

// ErrBackup: the file is not a backup, or not the whole of one.
var ErrBackup = errors.New("it is not a whole backup; take another copy of it")

// backup is what a file holds.
type backup struct {
	made   time.Time
	groups []backupGroup
}

type backupGroup struct {
	unit store.Unit
	kvs  []store.KV
}

// write makes the file, which must not exist, durably, and returns its size.
// work is the binary logarithm of scrypt's cost; zero: age's own default, 18.
func (b *backup) write(path, passphrase string, work int) (size int64, err error) {
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	if work != 0 {
		to.SetWorkFactor(work)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(f, 64<<10)
	_, err = out.Write(wire.AppendU16([]byte(backupMagic), backupFormat))
	if err == nil {
		err = b.seal(out, to)
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(path))
	}
	return size, nil
}

func (b *backup) seal(out io.Writer, to age.Recipient) error {
	sealing, err := age.Encrypt(out, to)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := b.encode(sealing); err != nil {
		return err
	}
	return sealing.Close()
}

// encode writes what is sealed.
func (b *backup) encode(out io.Writer) error {
	buf := bufio.NewWriterSize(out, 64<<10)
	head := wire.AppendU64(nil, uint64(b.made.Unix()))
	buf.Write(wire.AppendU32(head, uint32(len(b.groups)))) // Flush has the error
	for _, g := range b.groups {
		buf.Write(wire.AppendU32(g.unit[:len(g.unit):len(g.unit)], uint32(len(g.kvs))))
		for _, kv := range g.kvs {
			buf.Write(wire.AppendBytes(nil, kv.Key[len(g.unit):]))
			buf.Write(wire.AppendU32(nil, uint32(len(kv.Value))))
			buf.Write(kv.Value)
		}
	}
	return buf.Flush()
}

// readBackup reads a file whole. Errors: ErrBackup, sealed.ErrPassphrase,
// *store.FormatError, what the operating system says.
func readBackup(path, passphrase string) (*backup, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	head := make([]byte, len(backupMagic)+2)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(backupMagic)]) != backupMagic {
		return nil, fmt.Errorf("%s: %w", path, ErrBackup)
	}
	if n := wire.NewReader(head[len(backupMagic):]).U16(); n != backupFormat {
		return nil, &store.FormatError{Path: path, Of: "backup", Found: uint64(n), Supported: backupFormat}
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, sealed.ErrPassphrase)
	}
	opening, err := age.Decrypt(in, identity)
	if wrong := (*age.NoIdentityMatchError)(nil); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %w", path, sealed.ErrPassphrase)
	}
	var plain []byte
	if err == nil {
		plain, err = io.ReadAll(opening) // to its end, which is authenticated
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%w)", path, ErrBackup, err)
	}
	b, err := parseBackup(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (%w)", path, ErrBackup, err)
	}
	return b, nil
}

func parseBackup(plain []byte) (*backup, error) {
	r := wire.NewReader(plain)
	made := r.U64()
	if made > maxBackupTime {
		r.Fail(wire.ErrFormat)
	}
	b := &backup{made: time.Unix(int64(min(made, maxBackupTime)), 0)}
	seen := map[store.Unit]bool{}
	for range r.Count(maxBackupGroups, len(store.Unit{})+4) {
		g := backupGroup{}
		r.Fixed(g.unit[:])
		if seen[g.unit] {
			r.Fail(wire.ErrFormat)
		}
		seen[g.unit] = true
		last := ""
		for i := range r.Count(maxBackupRecords, 8) {
			k := r.Bytes(maxBackupKey)
			v := r.Bytes(maxBackupValue)
			if i > 0 && string(k) == last {
				r.Fail(wire.ErrFormat)
			}
			if r.Err() != nil {
				break
			}
			last = string(k)
			g.kvs = append(g.kvs, store.KV{Key: append(g.unit[:len(g.unit):len(g.unit)], k...), Value: v})
		}
		b.groups = append(b.groups, g)
	}
	return b, r.Done()
}
