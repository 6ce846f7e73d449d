package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/internal/store/sealed"
)

// What lies in a data folder.
const (
	lockFile   = "lock"   // held while a process has the folder open
	socketFile = "socket" // where that process may be spoken to
	groupsDir  = "groups" // one folder per membership, named by its unit
	storeDir   = "store"
)

// Limits of a member.
const (
	closeWait  = 10 * time.Second // for links and turns when a member closes
	statusWait = 30 * time.Second // for a membership's own state when it opens
	minPrefix  = 4                // digits of a group id that name a group
)

// Errors of a data folder.
var (
	// ErrLocked: another process has the folder, or the membership's store, open.
	ErrLocked = errors.New("the data folder is in use by another process")
	// ErrNoGroup: there is no membership in the folder.
	ErrNoGroup = errors.New("there is no group in this data folder: create or join one first")
)

// MemberConfig is what a Member is made of. Dir and Open are required.
type MemberConfig struct {
	Dir     string
	Open    broadcast.Open
	Store   func(dir string) (store.Store, error) // nil: Pebble
	Dialing Dialing
	Log     *zap.Logger // nil: no log

	// Passphrase is asked for what the folder's keys are sealed with, or with
	// first, for what those of a new folder shall be sealed with: nil leaves
	// them to the mode of their file. A nil function answers nil.
	Passphrase func(first bool) ([]byte, error)
	Cost       sealed.Cost      // of trying a passphrase
	Wall       func() time.Time // nil: time.Now; tells when a state key is a day old

	backupWork int // of a backup's passphrase; zero: age's default. Tests are in a hurry
}

func (c *MemberConfig) setDefaults() {
	c.Dialing.setDefaults()
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Store == nil {
		c.Store = func(dir string) (store.Store, error) { return pebble.Open(dir, pebble.Options{}) }
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
}

// Membership describes one membership of a folder.
type Membership struct {
	Unit  string // hex: the name of its folder
	Name  string // of the group; empty: not known yet
	ID    string // group id, hex; empty: not known yet
	Ready bool
	Left  bool  // for good: what it has can be read
	Err   error // why it could not be opened, or failed
}

// Member is a data folder with everything in it running. The folder's lock is
// held until Close, so that nothing is ever encrypted or signed by two
// processes at once.
type Member struct {
	cfg  MemberConfig
	key  *sealed.FolderKey
	lock *flock.Flock
	stop chan struct{}  // closed by Close
	wg   sync.WaitGroup // what ends with stop

	mu     sync.Mutex // the rest
	list   map[store.Unit]*membership
	broken map[store.Unit]error // memberships that did not open
	socket *socket
	closed bool
}

// OpenMember locks the folder, making it if there is none, and opens every
// membership in it; one that does not open leaves the others alone. Errors:
// ErrLocked, sealed.ErrPassphrase, sealed.ErrNoPassphrase, *store.CorruptError
// and *store.FormatError of the folder's keys, or what the file system says.
func OpenMember(cfg MemberConfig) (*Member, error) {
	if cfg.Dir == "" || cfg.Open == nil {
		return nil, errors.New("node: a member needs its folder and what opens its memberships")
	}
	cfg.setDefaults()
	libraryLog(cfg.Log)
	if err := makeFolder(cfg.Dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	m := &Member{
		cfg: cfg, lock: lock, stop: make(chan struct{}),
		list: map[store.Unit]*membership{}, broken: map[store.Unit]error{},
	}
	if m.key, err = folderKey(&m.cfg); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	err = os.RemoveAll(filepath.Join(cfg.Dir, restoringDir)) // of one that was cut off
	if err == nil {
		err = os.MkdirAll(filepath.Join(cfg.Dir, groupsDir), 0o700)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	units, err := unitsIn(filepath.Join(cfg.Dir, groupsDir))
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	var opening sync.WaitGroup
	for _, u := range units {
		opening.Go(func() { m.openMembership(u) })
	}
	opening.Wait()
	m.wg.Go(func() { m.rotateAll(rotateCheck) })
	return m, nil
}

func (m *Member) dir(u store.Unit) string {
	return filepath.Join(m.cfg.Dir, groupsDir, hex.EncodeToString(u[:]))
}

// openMembership opens one and notes how it went.
func (m *Member) openMembership(u store.Unit) {
	ms, err := openMembership(&m.cfg, m.key, u, m.dir(u))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.cfg.Log.Error("a membership did not open", zap.Error(err))
		m.broken[u] = err
		return
	}
	m.list[u] = ms
}

// Add makes a new, empty membership: its unit is 16 random bytes.
func (m *Member) Add() (store.Unit, error) {
	var u store.Unit
	if _, err := rand.Read(u[:]); err != nil {
		return u, err
	}
	if m.isClosed() {
		return u, ErrClosed
	}
	if err := os.Mkdir(m.dir(u), 0o700); err != nil {
		return u, err
	}
	ms, err := openMembership(&m.cfg, m.key, u, m.dir(u))
	if err == nil {
		err = syncDir(filepath.Dir(m.dir(u)))
	}
	if err != nil {
		if ms != nil {
			ms.close()
		}
		return u, errors.Join(err, os.RemoveAll(m.dir(u)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		ms.close()
		return u, ErrClosed
	}
	m.list[u] = ms
	return u, nil
}

// syncDir makes a new entry of a folder survive a crash.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Remove deletes a membership with everything in it: for one that could not be
// created or joined.
func (m *Member) Remove(u store.Unit) error {
	m.mu.Lock()
	ms := m.list[u]
	delete(m.list, u)
	delete(m.broken, u)
	m.mu.Unlock()
	if ms != nil {
		ms.close()
	}
	return os.RemoveAll(m.dir(u))
}

// open are the memberships that are open.
func (m *Member) open() []*membership {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.list))
}

// Groups lists the memberships, by name and unit.
func (m *Member) Groups() (list []Membership) {
	m.mu.Lock()
	for u, err := range m.broken {
		list = append(list, Membership{Unit: hex.EncodeToString(u[:]), Err: err})
	}
	m.mu.Unlock()
	for _, ms := range m.open() {
		g := ms.describe()
		if !g.Ready && g.Err == nil && ms.refresh() == nil {
			g = ms.describe() // it may have joined meanwhile
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Membership) int {
		return strings.Compare(a.Name+"\x00"+a.Unit, b.Name+"\x00"+b.Unit)
	})
	return list
}

// find returns the membership that a name, unit or beginning of a group id
// means; empty: the only one. Errors: member.ErrNoSuch, member.ErrAmbiguous,
// ErrNoGroup, or why the membership did not open.
func (m *Member) find(name string) (*membership, error) {
	list := m.Groups()
	if len(list) == 0 {
		return nil, ErrNoGroup
	}
	var found []Membership
	for _, g := range list {
		byID := len(name) >= minPrefix && strings.HasPrefix(g.ID, strings.ToLower(name))
		if name == "" || name == g.Unit || g.Name != "" && name == g.Name || byID {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("group %q: %w", name, member.ErrNoSuch)
	case 1:
	default:
		var hints []string
		for _, g := range found {
			hints = append(hints, fmt.Sprintf("%q is %s", g.Name, g.Unit))
		}
		return nil, fmt.Errorf("group %q: %w: %s", name, member.ErrAmbiguous, strings.Join(hints, ", "))
	}
	var u store.Unit
	if _, err := hex.Decode(u[:], []byte(found[0].Unit)); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ms := m.list[u]; {
	case ms != nil:
		return ms, nil
	case m.broken[u] != nil:
		return nil, m.broken[u]
	}
	return nil, fmt.Errorf("group %q: %w", name, member.ErrNoSuch)
}

// Do obeys a wish. CreateGroup and JoinGroup make a membership, and remove it
// again when they fail; ListGroups and CreateBackup concern the folder; every other wish goes
// to the group that the request names.
func (m *Member) Do(ctx context.Context, r Request) (Result, error) {
	if m.isClosed() {
		return nil, ErrClosed
	}
	switch w := r.Wish.(type) {
	case nil:
		return nil, errors.New("node: a request without a wish")
	case ListGroups:
		return m.Groups(), nil
	case CreateBackup:
		return m.backup(w)
	case member.JoinGroup:
		if ms, v, err := m.resume(ctx, w); ms != nil {
			return v, m.settled(ms, err)
		}
		return m.begin(ctx, w)
	case member.CreateGroup:
		return m.begin(ctx, w)
	}
	ms, err := m.find(r.Group)
	if err != nil {
		return nil, err
	}
	v, err := ms.do(ctx, r.ID, r.Wish)
	if _, leaves := r.Wish.(member.LeaveGroup); leaves && err == nil {
		err = ms.refresh()
	}
	return v, err
}

// begin makes a membership for a founding or a joining.
func (m *Member) begin(ctx context.Context, w member.Wish) (Result, error) {
	u, err := m.Add()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	ms := m.list[u]
	m.mu.Unlock()
	if ms == nil {
		return nil, ErrClosed
	}
	v, err := ms.do(ctx, 0, w)
	return v, m.settled(ms, err)
}

// resume goes on with a joining by the same link that did not come to its end;
// ms is nil when there is none.
func (m *Member) resume(ctx context.Context, w member.Wish) (ms *membership, v Result, err error) {
	for _, ms := range m.open() {
		if ms.describe().Ready {
			continue
		}
		if v, err := ms.do(ctx, 0, w); !errors.Is(err, member.ErrTaken) {
			return ms, v, err
		}
	}
	return nil, nil, nil
}

// settled decides what becomes of a membership whose founding or joining was
// answered. A seat that stands on boards already is kept, and a repeated join
// goes on with it; everything else that failed is removed.
func (m *Member) settled(ms *membership, err error) error {
	if err == nil {
		if e := ms.refresh(); e != nil { // it is founded or joined all the same
			m.cfg.Log.Warn("a new membership does not tell its name", zap.Error(e))
		}
		return nil
	}
	final := errors.Is(err, member.ErrExpired) || errors.Is(err, member.ErrRefused) || errors.Is(err, member.ErrGenesis)
	if !final && m.seated(ms) {
		return fmt.Errorf("%w; the same join again goes on where it stopped", err)
	}
	return errors.Join(err, m.Remove(ms.unit))
}

// seated tells whether a joining has made its seat.
func (m *Member) seated(ms *membership) bool {
	ctx, cancel := context.WithTimeout(context.Background(), statusWait)
	defer cancel()
	v, err := ms.do(ctx, 0, member.GetStatus{})
	s, ok := v.(member.Status)
	return err == nil && ok && s.Seat != "" && s.Joining
}

// Events reads a group's events: those after the given number, then live ones,
// each numbered event once and in order, with passing hints (Number 0) between
// them. It ends with an error: ctx's, ErrClosed, or why it could not go on.
func (m *Member) Events(ctx context.Context, group string, after uint64) iter.Seq2[member.Event, error] {
	ms, err := m.find(group)
	if err != nil {
		return func(yield func(member.Event, error) bool) { yield(member.Event{}, err) }
	}
	return ms.events(ctx, after)
}

func (m *Member) isClosed() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

// Close ends the socket, says Bye on every link, finishes the turns under way
// and frees the folder.
func (m *Member) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	close(m.stop)
	list, s := m.list, m.socket
	m.list, m.socket = map[store.Unit]*membership{}, nil
	m.mu.Unlock()
	m.wg.Wait()
	var err error
	if s != nil {
		err = s.close()
	}
	var closing sync.WaitGroup
	errs := make(chan error, len(list))
	for _, ms := range list {
		closing.Go(func() { errs <- ms.close() })
	}
	closing.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return errors.Join(err, m.lock.Unlock())
}
