package node

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/store"
)

// ledger is a toy role: posts get dense numbers, each id one number, whoever
// posts it through whichever front-end. A post is hashed by a job, looked up
// by a read, then numbered in a write; its send, event and answer follow.
type ledger struct {
	unit   store.Unit
	count  uint64
	base   uint64
	turn   uint64
	nextID uint64

	posts   map[uint64]*post // by id: not answered yet
	jobs    map[uint64]uint64
	reads   map[uint64]uint64
	applied uint64
	links   map[broadcast.Link]bool
	out     broadcast.Ready
	wake    time.Time
	ticks   int
}

type post struct {
	id    uint64
	cmds  map[uint64]uint64 // of Commands that wait, the turn of their answer; 0: none yet
	n     uint64            // 0: not numbered or not looked up yet
	known bool              // its hash is known
}

// postWish asks for a number.
type postWish struct{ ID uint64 }

var errToy = errors.New("the toy refuses")

func key(u store.Unit, kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(u[:len(u):len(u)], kind), n)
}

func openLedger(u store.Unit, r store.Reader, _ broadcast.Entropy) (broadcast.Machine, error) {
	m := &ledger{
		unit: u, posts: map[uint64]*post{}, jobs: map[uint64]uint64{}, reads: map[uint64]uint64{},
		links: map[broadcast.Link]bool{},
	}
	return m, m.load(r)
}

func (m *ledger) load(r store.Reader) (err error) {
	if m.base, err = r.Revision(m.unit); err != nil {
		return err
	}
	m.count = 0
	v, err := r.Get(key(m.unit, 's', 0))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil {
		m.count = binary.BigEndian.Uint64(v)
	}
	return err
}

func (m *ledger) Step(now time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Up:
		m.links[in.Link] = true
	case broadcast.Down:
		delete(m.links, in.Link)
	case broadcast.Received:
		if len(in.Frame.Body) != 8 {
			return errToy
		}
		if in.Frame.Type == proto.TypePing {
			in.Frame.Type = proto.TypePong
		}
		m.out.Now = append(m.out.Now, broadcast.Send{Link: in.Link, Frame: in.Frame})
		m.wake = now.Add(time.Millisecond)
	case broadcast.Command:
		w, ok := in.Wish.(postWish)
		if !ok {
			return errToy
		}
		p := m.posts[w.ID]
		if p == nil {
			p = &post{id: w.ID, cmds: map[uint64]uint64{}}
			m.posts[w.ID] = p
			m.nextID++
			m.jobs[m.nextID] = w.ID
			m.out.Jobs = append(m.out.Jobs, broadcast.Job{ID: m.nextID, Seed: [32]byte{byte(w.ID)}, Run: func(seed [32]byte) any {
				return sha256.Sum256(seed[:])
			}})
		}
		p.cmds[in.ID] = 0
		m.answer(p)
	case broadcast.Finished:
		id := m.jobs[in.ID]
		delete(m.jobs, in.ID)
		if in.Result.([32]byte) != sha256.Sum256(append([]byte{byte(id)}, make([]byte, 31)...)) {
			return fmt.Errorf("job %d: wrong result", in.ID)
		}
		m.posts[id].known = true
		m.look(id)
	case broadcast.Loaded:
		p := m.posts[m.reads[in.ID]]
		delete(m.reads, in.ID)
		if in.Err != nil || p == nil || p.n != 0 {
			return in.Err
		}
		if len(in.KVs) == 1 {
			p.n = binary.BigEndian.Uint64(in.KVs[0].Value)
			m.answer(p)
			return nil
		}
		m.count++
		p.n = m.count
		if m.out.Write == nil {
			m.out.Write = &store.Batch{Unit: m.unit, Base: m.base}
		}
		m.out.Write.Ops = append(m.out.Write.Ops,
			store.Op{Key: key(m.unit, 'p', p.id), Value: key(store.Unit{}, 0, p.n)[17:]},
			store.Op{Key: key(m.unit, 'n', p.n), Value: key(store.Unit{}, 0, p.id)[17:]})
		for l := range m.links {
			m.out.Sends = append(m.out.Sends, broadcast.Send{Link: l, Frame: broadcast.Frame{Type: 0x90, Body: key(store.Unit{}, 0, p.n)[17:]}})
		}
		m.out.Events = append(m.out.Events, broadcast.Event{Number: p.n, Body: p.id})
		m.answer(p)
	case broadcast.Applied:
		if in.Turn != m.applied+1 {
			panic(fmt.Sprintf("Applied %d after %d", in.Turn, m.applied))
		}
		m.applied = in.Turn
		for id, p := range m.posts {
			maps.DeleteFunc(p.cmds, func(_, turn uint64) bool { return turn != 0 && turn <= in.Turn })
			if len(p.cmds) == 0 {
				delete(m.posts, id)
			}
		}
	case broadcast.Changed:
		if err := m.load(in.Reader); err != nil {
			return err
		}
		m.applied = m.turn // what was under way is forgotten
		m.out.Write, m.out.Sends, m.out.Events, m.out.Answers, m.out.Reads = nil, nil, nil, nil, nil
		clear(m.reads)
		for id, p := range m.posts {
			p.n = 0
			for c := range p.cmds {
				p.cmds[c] = 0
			}
			if p.known {
				m.look(id)
			}
		}
	}
	return nil
}

func (m *ledger) look(id uint64) {
	m.nextID++
	m.reads[m.nextID] = id
	m.out.Reads = append(m.out.Reads, broadcast.Read{ID: m.nextID, From: key(m.unit, 'p', id)})
}

func (m *ledger) answer(p *post) {
	for c, turn := range p.cmds {
		if p.n != 0 && turn == 0 {
			p.cmds[c] = m.turn + 1
			m.out.Answers = append(m.out.Answers, broadcast.Answer{ID: c, Value: p.n})
		}
	}
}

func (m *ledger) Tick(now time.Time) {
	if !m.wake.IsZero() && !now.Before(m.wake) {
		m.wake = time.Time{}
		m.ticks++
		m.out.Events = append(m.out.Events, broadcast.Event{Body: m.ticks})
	}
}

func (m *ledger) Ready() broadcast.Ready {
	r := m.out
	m.out = broadcast.Ready{}
	r.Wake = m.wake
	if r.Write != nil {
		r.Write.Ops = append(r.Write.Ops, store.Op{Key: key(m.unit, 's', 0), Value: key(store.Unit{}, 0, m.count)[17:]})
		m.base++
	}
	if r.Write != nil || len(r.Sends)+len(r.Events)+len(r.Answers) > 0 {
		m.turn++
		r.Turn = m.turn
	}
	return r
}
