package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"

	"go.uber.org/zap"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/store"
	"parallax/internal/store/sealed"
)

// Limits of one turn of a membership, so that catching up after a long absence
// takes bounded memory: what is received waits for the turns under way.
const (
	turnFrames = 256
	turnBytes  = 4 << 20
)

// membership is one membership with its store, driver and links.
type membership struct {
	unit   store.Unit
	dir    string
	log    *zap.Logger
	store  *sealed.Store
	driver *Driver
	links  *linkTable
	wants  *wants
	hub    hub
	closed chan struct{}

	mu      sync.Mutex // the rest
	pending map[uint64]*asked
	last    uint64
	name    string
	id      string
	ready   bool
	left    bool
	err     error // why closed is closed
}

// openMembership opens the store and the machine, which then wants its links.
func openMembership(cfg *MemberConfig, key *sealed.FolderKey, u store.Unit, dir string) (*membership, error) {
	s, err := openSealed(cfg, key, dir)
	if err != nil {
		return nil, err
	}
	m := &membership{
		unit: u, dir: dir, log: cfg.Log, store: s, links: newLinkTable(cfg.Dialing.SendBytes),
		hub:    hub{readers: map[*eventReader]bool{}},
		closed: make(chan struct{}), pending: map[uint64]*asked{},
	}
	if m.last, err = firstCommand(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	m.rotate(cfg.Wall())
	m.wants = newWants(cfg.Dialing, u, m.links)
	// No machine is open, and no hook called, before the first command below.
	m.driver = NewDriver(Config{Store: s, Path: filepath.Join(dir, storeDir), Open: cfg.Open, Hooks: memberHooks{m}, Loops: 1, Frames: turnFrames, Bytes: turnBytes, Log: cfg.Log})
	m.wants.driver = m.driver
	if err := m.refresh(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// firstCommand is where the ids of commands begin in this process: answers are
// remembered over restarts, so no two processes may use the same ones.
func firstCommand() (uint64, error) {
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) >> 1, err
}

// refresh asks the machine for the group's name and id.
func (m *membership) refresh() error {
	ctx, cancel := context.WithTimeout(context.Background(), statusWait)
	defer cancel()
	v, err := m.do(ctx, 0, member.GetStatus{})
	if errors.Is(err, member.ErrNotReady) {
		return nil
	}
	if err != nil {
		return err
	}
	s, ok := v.(member.Status)
	if !ok {
		return fmt.Errorf("node: status of type %T", v)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.name, m.id, m.ready, m.left = s.Group, s.ID, s.Ready, s.Left
	return nil
}

func (m *membership) describe() Membership {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Membership{Unit: hex.EncodeToString(m.unit[:]), Name: m.name, ID: m.id, Ready: m.ready, Left: m.left, Err: m.err}
}

// asked is a command under way, for all who wait for its answer.
type asked struct {
	wish   member.Wish
	waits  int           // who wait
	done   chan struct{} // closed with the answer
	answer broadcast.Answer
}

// do gives a command to the machine and waits for its answer. id 0 is a new one.
// Whoever repeats one that is under way waits with the others: an application may
// ask again before it is noticed that it gave up.
func (m *membership) do(ctx context.Context, id uint64, w member.Wish) (any, error) {
	m.mu.Lock()
	if err := m.err; err != nil {
		m.mu.Unlock()
		return nil, err
	}
	if id == 0 {
		m.last++
		id = m.last
	}
	c := m.pending[id]
	switch {
	case c == nil:
		c = &asked{wish: w, done: make(chan struct{})}
		m.pending[id] = c
	case !reflect.DeepEqual(c.wish, w):
		m.mu.Unlock()
		return nil, fmt.Errorf("%w: command %d is under way and another one", member.ErrTaken, id)
	}
	c.waits++
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if c.waits--; c.waits == 0 && m.pending[id] == c {
			delete(m.pending, id)
		}
	}()
	if err := m.driver.Input(ctx, m.unit, broadcast.Command{ID: id, Wish: w}); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.answer.Value, c.answer.Err
	case <-m.closed:
		select { // an answer that came with the closing counts
		case <-c.done:
			return c.answer.Value, c.answer.Err
		default:
			return nil, m.failure()
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// failure is why the membership does not go on.
func (m *membership) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// end marks the membership as closed; the first reason stays.
func (m *membership) end(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = why
		close(m.closed)
	}
}

// close says Bye, finishes the turns under way and closes the store.
func (m *membership) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	m.wants.close()
	err := m.driver.Close(ctx)
	m.end(ErrClosed)
	return errors.Join(err, m.store.Close())
}

// memberHooks is the outward side of a membership's driver.
type memberHooks struct{ *membership }

func (m memberHooks) Send(_ store.Unit, s broadcast.Send) { m.links.send(s) }

func (m memberHooks) Links(_ store.Unit, l []broadcast.WantLink) { m.wants.set(l) }

func (m memberHooks) Event(_ store.Unit, e broadcast.Event) { m.hub.event(e) }

func (m memberHooks) Answer(_ store.Unit, a broadcast.Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.pending[a.ID]; c != nil {
		delete(m.pending, a.ID)
		c.answer = a
		close(c.done)
	}
}

// Failed: nobody is left who could answer, or who could be talked to.
func (m memberHooks) Failed(u store.Unit, err error) {
	m.end(err)
	m.links.endUnit(u, err)
	m.wants.set(nil)
}
