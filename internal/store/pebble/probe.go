package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"parallax/internal/store"
)

// Names of Pebble's two marker files: which manifest counts, and the format of
// the files.
const (
	manifestMarker = "manifest"
	formatMarker   = "format-version"
)

// finding is what probe finds in a directory that can be opened.
type finding struct {
	format   bool     // the format number is there; if not, nothing is
	remnants []string // files in the way, of a store that was never made in full
}

// probe looks a store over without writing: Pebble would take a directory
// whose manifest is gone for an empty one, a manifest that is garbage for one
// that has just begun, and would then delete the tables as leftovers. Pebble's
// own reading, logs included, costs about what it costs to open.
func (s *Store) probe(opt Options) (finding, error) {
	files, err := s.fence.List(s.dir)
	if err != nil {
		return finding{}, fmt.Errorf("store: listing %s: %w", s.dir, err)
	}
	manifest, err := atomicfs.ReadMarker(s.fence, s.dir, manifestMarker)
	if err != nil {
		return finding{}, s.refuse(err)
	}
	if manifest == "" || !slices.Contains(files, manifest) {
		return s.unmade(files, manifest)
	}
	if err := s.engineFormat(); err != nil {
		return finding{}, err
	}
	if err := checkManifest(s.fence, s.path(manifest)); err != nil {
		return finding{}, s.refuse(err)
	}
	if name, number := newestLog(files); name != "" {
		if err := checkLog(s.fence, s.path(name), number); err != nil {
			return finding{}, s.refuse(err)
		}
	}
	db, err := s.readOnly(opt)
	if err != nil {
		return finding{}, s.refuse(err)
	}
	hasFormat, err := s.format(db)
	if e := db.Close(); err == nil && e != nil {
		err = s.refuse(e)
	}
	return finding{format: hasFormat}, err
}

// unmade tells a store that was never made in full from one that lost its
// manifest, or the marker that names it. A crash amid making it leaves no more
// than these two, either of them: logs, tables and options come when both are
// durable.
func (s *Store) unmade(files []string, manifest string) (finding, error) {
	var f finding
	for _, name := range files {
		if leftover.MatchString(name) {
			missing := manifest
			if missing == "" {
				missing = "marker." + manifestMarker
			}
			return f, &store.CorruptError{Path: s.path(missing), Err: fmt.Errorf("missing, though %s is there", name)}
		}
		if strings.HasPrefix(name, "marker."+manifestMarker) {
			f.remnants = append(f.remnants, name)
		}
	}
	return f, nil
}

// leftover matches files that only a store with a manifest marker has.
var leftover = regexp.MustCompile(`^(\d+.*\.(sst|log|blob)|OPTIONS-\d+|marker\.format-version\..*)$`)

// newestLog is the log that a crash may have cut off. Pebble is strict with
// older ones that it still needs. Logs carry the low half of their number.
func newestLog(files []string) (name string, number uint32) {
	newest := uint64(0)
	for _, f := range files {
		digits, isLog := strings.CutSuffix(f, ".log")
		if n, err := strconv.ParseUint(digits, 10, 64); isLog && err == nil && n >= newest {
			name, newest = f, n
		}
	}
	return name, uint32(newest)
}

// readOnly opens the store for reading. Pebble panics on some garbage.
func (s *Store) readOnly(opt Options) (db *engine.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("%w: %v", engine.ErrCorruption, r)
		}
	}()
	return engine.Open(s.dir, s.options(opt, true))
}

// engineFormat refuses a newer Pebble format before Pebble does, with a type.
func (s *Store) engineFormat() error {
	v, err := atomicfs.ReadMarker(s.fence, s.dir, formatMarker)
	if err != nil || v == "" {
		return s.refuse(err)
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return &store.CorruptError{Path: s.path("marker." + formatMarker), Err: err}
	}
	if n > uint64(engineFormat) {
		return &store.FormatError{Path: s.dir, Of: "Pebble", Found: n, Supported: uint64(engineFormat)}
	}
	return nil
}

// format reads the format number.
func (s *Store) format(db *engine.DB) (has bool, err error) {
	v, closer, err := db.Get(formatKey)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		// The number is the first thing written, so nothing else may be there.
		it, err := db.NewIter(nil)
		if err != nil {
			return false, s.refuse(err)
		}
		empty := !it.First()
		if err := it.Close(); err != nil {
			return false, s.refuse(err)
		}
		if !empty {
			return false, &store.FormatError{Path: s.dir, Of: "store", Found: 0, Supported: Format}
		}
		return false, nil
	case err != nil:
		return false, s.refuse(err)
	}
	defer closer.Close()
	if len(v) != 4 {
		return false, s.refuse(fmt.Errorf("%w: the format number has %d bytes", engine.ErrCorruption, len(v)))
	}
	if n := binary.BigEndian.Uint32(v); n != Format {
		return false, &store.FormatError{Path: s.dir, Of: "store", Found: uint64(n), Supported: Format}
	}
	return true, nil
}

// refuse makes an error of looking the store over into what Open answers: what
// the operating system refused stays that, all else is damage.
func (s *Store) refuse(err error) error {
	var errno syscall.Errno
	if err == nil {
		return nil
	}
	if errors.As(err, &errno) && errno != syscall.ENOENT {
		return fmt.Errorf("store: opening %s: %w", s.dir, err)
	}
	return damaged(s.fence, s.dir, err)
}

func (s *Store) path(name string) string { return s.fence.PathJoin(s.dir, name) }

// Pebble says in several ways which file it means.
var (
	fileName  = regexp.MustCompile(`\d{6,}\.(sst|log|blob)|(MANIFEST|OPTIONS)-\d{6,}|marker\.[a-z-]+\.[\w.-]*\w`)
	tableName = regexp.MustCompile(`L\d: (\d{6,})`)
	logName   = regexp.MustCompile(`replaying wal (\d{6,})`)
)

// damaged finds the file that err is about.
func damaged(fs vfs.FS, dir string, err error) *store.CorruptError {
	text := fmt.Sprintf("%+v", err) // with details, which Error leaves out
	e := &store.CorruptError{Path: dir, Err: err}
	if info := engine.ExtractDataCorruptionInfo(err); info != nil {
		e.Path = info.Path
	} else if m := logName.FindStringSubmatch(text); m != nil {
		e.Path = fs.PathJoin(dir, m[1]+".log")
	} else if m := tableName.FindStringSubmatch(text); m != nil {
		e.Path = fs.PathJoin(dir, m[1]+".sst")
	} else if m := fileName.FindString(text); m != "" {
		e.Path = fs.PathJoin(dir, m)
	}
	return e
}

// makeDir makes dir for its owner alone and makes its name durable in every
// directory that was made on the way.
func makeDir(f *fence, dir string) error {
	var parents []string
	for d := dir; ; d = f.PathDir(d) {
		if _, err := f.Stat(d); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parents = append(parents, f.PathDir(d))
		if f.PathDir(d) == d {
			break
		}
	}
	if len(parents) == 0 {
		return nil
	}
	if err := f.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, p := range parents {
		d, err := f.FS.OpenDir(p)
		if err != nil {
			return err
		}
		err = d.Sync()
		if e := d.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lockError tells a lock that is held from a lock file that cannot be made.
func lockError(dir string, err error) error {
	var path *fs.PathError
	held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) && !errors.As(err, &path) ||
		strings.Contains(err.Error(), "lock held by current process")
	if held {
		return fmt.Errorf("%w: %s", store.ErrLocked, dir)
	}
	return fmt.Errorf("store: locking %s: %w", dir, err)
}
