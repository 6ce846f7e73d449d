package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/node"
)

// What lies in the demo's folder.
const (
	demoRelaysDir   = "relays"
	demoMembersDir  = "members"
	demoEvidenceDir = "evidence"
)

const demoToken = "demo"

var (
	demoOperators = []string{"Anchor", "Beacon", "Cedar", "Delta", "Ember", "Fjord", "Grove", "Harbor",
		"Island", "Juniper", "Kestrel", "Lagoon", "Meadow", "Nimbus", "Orchard", "Prairie"}
	demoNames = []string{"Alice", "Bob", "Carol", "Dave", "Erin", "Frank", "Grace", "Heidi",
		"Ivan", "Judy", "Karl", "Laura", "Mike", "Olga", "Peter", "Rosa"}
)

const demoNewcomer = "Nora"

// Waits of the demo's nodes: everything is near, so nobody stays away for long.
const (
	demoRetry  = 200 * time.Millisecond
	demoRedial = 500 * time.Millisecond
	demoJitter = 4 * time.Second // before members exchange statements: so that there is time to alter a message
	demoEnd    = 5 * time.Second
)

// demoRelay is one relay in a folder of its own.
type demoRelay struct {
	index    int
	label    string
	operator string
	dir      string
	key      keys.RelayPrivate
	open     broadcast.Open
	listen   string
	store    store.Store
	node     *node.Relay
}

// newDemoRelay draws keys and makes the way to open channels; wrap, if not
// nil, makes it dishonest.
func newDemoRelay(dir string, index int, wrap func(keys.RelayPublic, broadcast.Open) broadcast.Open) (*demoRelay, error) {
	r := &demoRelay{index: index, label: fmt.Sprintf("R%d", index+1), operator: demoOperators[index], listen: "/ip4/127.0.0.1/udp/0/quic-v1"}
	r.dir = filepath.Join(dir, demoRelaysDir, r.label)
	var operator keys.OperatorPrivate
	if err := r.key.Draw(rand.Reader); err != nil {
		return nil, err
	}
	if err := operator.Draw(rand.Reader); err != nil {
		return nil, err
	}
	var vouch proto.InfoIs
	vouch.Sign(operator, r.key.Public())
	r.open = relay.Open(relay.Config{Key: r.key, Operator: operator.Public(), OperatorName: r.operator,
		OperatorSignature: vouch.Signature[:], Verify: keys.Ed25519, Tokens: []string{demoToken}})
	if wrap != nil {
		r.open = wrap(r.key.Public(), r.open)
	}
	return r, os.MkdirAll(r.dir, 0o700)
}

// start opens the store and serves; after a stop on the same port.
func (r *demoRelay) start() (err error) {
	path := filepath.Join(r.dir, "store")
	if r.store, err = pebble.Open(path, pebble.Options{}); err != nil {
		return err
	}
	r.node, err = node.StartRelay(node.RelayConfig{Key: r.key, Listen: []string{r.listen}, Store: r.store, Path: path, Open: r.open, Retry: demoRetry})
	if err != nil {
		_ = r.store.Close()
		r.store = nil
		return err
	}
	r.listen = r.node.Addrs()[0]
	return nil
}

// stop ends the relay; nothing happens if it is not running.
func (r *demoRelay) stop() error {
	if r.node == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), demoEnd)
	defer cancel()
	n, s := r.node, r.store
	r.node, r.store = nil, nil
	if err := n.Close(ctx); err != nil {
		_ = s.Close()
		return err
	}
	return s.Close()
}

// demoMember is one member: a node with a data folder of its own, and what it
// showed.
type demoMember struct {
	name string
	dir  string
	open broadcast.Open
	node *node.Member
	info member.GroupInfo

	hush func() // ends the reading of events
	wg   sync.WaitGroup
	mu   sync.Mutex // the rest
	seen []member.Event
	last uint64
	got  map[string]int // messages of others, by id
}

func newDemoMember(dir, name string) *demoMember {
	return &demoMember{name: name, dir: filepath.Join(dir, demoMembersDir, name), open: member.Open(member.Config{Limits: member.Limits{ExchangeJitter: demoJitter}}), got: map[string]int{}}
}

func (m *demoMember) start() (err error) {
	m.node, err = node.OpenMember(node.MemberConfig{Dir: m.dir, Open: m.open, Dialing: node.Dialing{Most: demoRedial}})
	return err
}

// listen reads the events after the last one read: the node has one group.
func (m *demoMember) listen() {
	ctx, cancel := context.WithCancel(context.Background())
	m.hush = cancel
	n := m.node
	m.mu.Lock()
	after := m.last
	m.mu.Unlock()
	m.wg.Go(func() {
		for e, err := range n.Events(ctx, "", after) {
			if err != nil {
				return
			}
			if e.Number == 0 {
				continue
			}
			m.mu.Lock()
			m.seen, m.last = append(m.seen, e), e.Number
			if e.Kind == member.EventMessage && !e.Own {
				m.got[e.ID]++
			}
			m.mu.Unlock()
		}
	})
}

// stop ends the node; nothing happens if it is not running.
func (m *demoMember) stop() error {
	if m.node == nil {
		return nil
	}
	if m.hush != nil {
		m.hush()
		m.wg.Wait()
		m.hush = nil
	}
	n := m.node
	m.node = nil
	return n.Close()
}

func (m *demoMember) online() bool { return m.node != nil }

// events are all numbered events so far.
func (m *demoMember) events() []member.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]member.Event(nil), m.seen...)
}

// times is how often a message of somebody else was shown.
func (m *demoMember) times(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[id]
}

// demoAsk asks a member's node and waits for the answer.
func demoAsk[T any](ctx context.Context, m *demoMember, w member.Wish) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	v, err := m.node.Do(ctx, node.Request{Wish: w})
	answer, _ = v.(T)
	if err != nil {
		err = fmt.Errorf("%s, %s: %w", m.name, w.Wish(), err)
	}
	return answer, err
}

// status is the member's state; zero if it cannot be had.
func (m *demoMember) status(ctx context.Context) member.Status {
	s, err := demoAsk[member.Status](ctx, m, member.GetStatus{})
	if err != nil {
		return member.Status{}
	}
	return s
}

// knows tells whether m has a session with the seat of o.
func (m *demoMember) knows(ctx context.Context, o *demoMember) bool {
	for _, s := range m.status(ctx).Members {
		if s.Seat == o.info.Seat {
			return s.Usable && s.Session
		}
	}
	return false
}
