package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// StoreFormat is the format of what a membership keeps. A newer one is refused.
const StoreFormat = 3

// Records of a membership, under unit and one byte (docs/architecture.md,
// "What a member keeps"). Cold records are JSON, hot ones fixed layouts.
const (
	keyMeta     = 'm' // metaRecord, JSON
	keyCounters = 'c' // counters
	keyPath     = 'r' // relay index u8: pathRecord
	keyBoard    = 'a' // relay index u8, masked name 32: version u64, value digest 32
	keySeat     = 'n' // seat 32: seatRecord
	keySessions = 's' // seat 32: sessions
	keyVector   = 'v' // send chains, 40 bytes each
	keySet      = 'f' // digest 32: recipientSet
	keyBundle   = 'b' // sequence u64: bundleRecord
	keyPost     = 'q' // relay index u8, order u64: postRecord
	keyMessage  = 'x' // seat 32, incarnation 8, sequence u64: messageRecord
	keyReceived = 'g' // seat 32, incarnation 8: sequences
	keyEvent    = 'e' // number u64: Event, JSON
	keyHeld     = 'p' // relay index u8, lineage 16, number u64: a Deliver not opened yet
	keyHello    = 'w' // transcript 32: helloSeen
	keyEvidence = 'k' // id 8: evidenceRecord, JSON
	keyPrekeys  = 'o' // version u64 of the own announcement: ownPrekeys
	keyKept     = 'h' // seat 32: keptHello
	keyReceipt  = 't' // relay index u8, masked name 32: receipt of an own board write
	// What a person compared; the letter is for "yes".
	keyConfirmed = 'y' // seat 32: confirmation
	keyLog       = 'l' // order u64: an operation of the roster (roster_log.go)
	keyDelivery  = 'd' // part u8, and what it names (delivered.go)
	keyText      = 'j' // order u64: a text as it can be sent again (texts.go)
	keyRequest   = 'A' // command id u64: answerRecord, JSON
	keyAcked     = 'B' // reader's name: event number u64
	keyLack      = 'u' // part u8, and what it names (gaps.go)
	keyCarried   = 'z' // part u8, and what it names (carriers.go, digests.go)
	keyAsked     = 'D' // seat 32: askedSeat
	keyRevoked   = 'E' // invite id 16: paths told of its end u64
	keyHead      = 'I' // relay index u8, and what it names (heads.go)
	keyNoted     = 'J' // part u8, and what it names (noted.go)
	keyReached   = 'K' // relay index u8: addresses at which links stood (reached.go)
	keyAnswer    = 'N' // number u64: dueAnswer (answers.go)
	keyUnread    = 'C' // relay index u8, lineage 16, number u64: a Deliver under an epoch whose key is not here
)

// EventKey is where an event of a membership is stored, as JSON of Event.
func EventKey(unit store.Unit, number uint64) []byte {
	return wire.AppendU64(append(unit[:len(unit):len(unit)], keyEvent), number)
}

func (m *Machine) key(kind byte, parts ...[]byte) []byte {
	k := append(append(make([]byte, 0, 64), m.unit[:]...), kind)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

// Phases of a membership.
const (
	phaseFounding = "founding"
	phaseJoining  = "joining"
	phaseMember   = "member"
	phaseLeft     = "left" // by its own will: nothing is read or sent any more
)

// metaRecord is what rarely changes. Secrets stand in it as bytes: the store
// is the member's own folder (0700).
type metaRecord struct {
	Format      int
	Phase       string
	Group, Name string
	Founding    *CreateGroup `json:",omitempty"`
	Link        string       `json:",omitempty"`
	Genesis     []byte
	Signing     []byte
	Identity    []byte
	Owner       []byte
	Door        []byte `json:",omitempty"` // of the link, while joining
	Invite      []byte // invite secret of the link, or of the founder's newest
	Channels    []byte
	Epochs      []epochRecord
	InUse       uint64   // number of the epoch in use
	Welcomed    uint64   `json:",omitempty"` // version of the own welcome
	WelcomeOf   uint64   `json:",omitempty"` // number of the epoch whose door it is under
	Governed    [][]byte `json:",omitempty"` // what each relay was told to obey (govern.go)
	Taught      int64    `json:",omitempty"` // Unix seconds when the keys of epochs were told to all last
	Incarnation []byte
	Relays      []relayRecord // every path there ever was, by its place
	Lists       listsRecord
	Change      *relayChange     `json:",omitempty"` // of the relays, under way here
	Spares      []spareRecord    `json:",omitempty"`
	SparesTried map[string]int64 `json:",omitempty"` // the group's, by key in hex: Unix seconds when this device tried one in vain
	Asking      *askingRecord    `json:",omitempty"` // to be let in, while joining
	Announced   []byte           // own announcement
	Admitted    []byte           // own admission; empty for the founder
	Joined      bool
	Restored    bool     `json:",omitempty"` // from a backup, not announced anew yet
	Asked       int      `json:",omitempty"` // Restored: times that epoch keys were asked for
	Superseded  bool     `json:",omitempty"` // another installation took the seat over
	PutBack     bool     `json:",omitempty"` // Restored: as the folder was found to be an older copy of itself
	Began       int64    `json:",omitempty"` // Unix seconds when it was restored last
	Again       []string `json:",omitempty"` // PutBack: texts to be sent again
}

// counters: sequence, event, bundle order, previous D.
type counters struct {
	sequence, event, order uint64
	previous               wire.Digest
	messages               uint64
	spoke                  uint64 // Unix seconds of the newest own envelope
	heard                  uint64 // messages of others since, acks aside
}

func (m *Machine) saveCounters() {
	b := wire.AppendU64(make([]byte, 0, 64), m.counters.sequence)
	b = wire.AppendU64(b, m.counters.event)
	b = wire.AppendU64(b, m.counters.order)
	b = wire.AppendU64(b, m.counters.messages)
	b = wire.AppendU64(wire.AppendU64(b, m.counters.spoke), m.counters.heard)
	m.put(m.key(keyCounters), append(b, m.counters.previous[:]...))
}

func parseCounters(b []byte) (c counters, err error) {
	r := wire.NewReader(b)
	c.sequence, c.event, c.order, c.messages = r.U64(), r.U64(), r.U64(), r.U64()
	c.spoke, c.heard = r.U64(), r.U64()
	r.Fixed(c.previous[:])
	return c, r.Done()
}

func (m *Machine) saveMeta() { m.put(m.key(keyMeta), mustJSON(m.meta)) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("member: JSON of own record: " + err.Error())
	}
	return b
}

// ErrStore: a record of this membership does not read. The store's engine
// checks its files, so this is a file changed by something else, or a defect.
var ErrStore = errors.New("member: a stored record does not read")

// load reads the bounded state of the membership.
func (m *Machine) load(r store.Reader) error {
	m.reset()
	var err error
	if m.revision, err = r.Revision(m.unit); err != nil {
		return err
	}
	raw, err := r.Get(m.key(keyMeta))
	if errors.Is(err, store.ErrNotFound) {
		return nil // a new membership
	}
	if err != nil {
		return err
	}
	meta := &metaRecord{}
	if err := json.Unmarshal(raw, meta); err != nil {
		return fmt.Errorf("%w: meta: %w", ErrStore, err)
	}
	if meta.Format != StoreFormat {
		return &store.FormatError{Path: "membership", Of: "membership", Found: uint64(meta.Format), Supported: StoreFormat}
	}
	m.meta, m.starting.unsure = meta, meta.Phase == phaseMember
	if err := m.setUp(); err != nil {
		return err
	}
	if raw, err := r.Get(m.key(keyCounters)); err == nil {
		if m.counters, err = parseCounters(raw); err != nil {
			return fmt.Errorf("%w: counters: %w", ErrStore, err)
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if raw, err := r.Get(m.key(keyVector)); err == nil {
		m.chains.bytes, m.chains.saved = raw, slices.Clone(raw)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, l := range []struct {
		kind byte
		read func(key, value []byte) error
	}{
		{keyPrekeys, m.loadPrekeys}, {keyPath, m.loadPath}, {keyLog, m.loadLogged}, {keyBoard, m.loadBoard},
		{keySeat, m.loadSeat}, {keySessions, m.loadSessions}, {keySet, m.loadSet},
		{keyBundle, m.loadBundle}, {keyCarried, m.loadCarried}, {keyPost, m.loadPost}, {keyReceived, m.loadReceived},
		{keyMessage, m.loadMessage}, {keyHeld, m.loadHeld}, {keyUnread, m.loadUnread}, {keyHello, m.loadHello},
		{keyEvidence, m.loadEvidence}, {keyKept, m.loadKept}, {keyConfirmed, m.loadConfirmation}, {keyReceipt, m.loadReceipt},
		{keyDelivery, m.loadDelivery}, {keyText, m.loadKeptText}, {keyAnswer, m.loadAnswer}, {keyLack, m.loadLack}, {keyRequest, m.loadRequest}, {keyAcked, m.loadAcked},
		{keyRevoked, m.loadRevoked}, {keyAsked, m.loadAsked}, {keyHead, m.loadHead}, {keyNoted, m.loadNoted}, {keyReached, m.loadReached},
	} {
		if err := m.each(r, l.kind, l.read); err != nil {
			return fmt.Errorf("record %q: %w", l.kind, err)
		}
	}
	if err := m.finishLog(); err != nil {
		return err
	}
	m.finishLoad()
	return nil
}

// each calls read with every record of a kind; key without unit and kind.
func (m *Machine) each(r store.Reader, kind byte, read func(key, value []byte) error) error {
	from, to := m.key(kind), m.key(kind+1)
	for {
		kvs, more, err := r.Scan(from, to, 1<<20)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			if err := read(kv.Key[17:], kv.Value); err != nil {
				return fmt.Errorf("%w: %w", ErrStore, err)
			}
			from = append(append(from[:0:0], kv.Key...), 0)
		}
		if !more {
			return nil
		}
	}
}

// keyring is the membership's keys, ready to use.
type keyring struct {
	signing  keys.SigningPrivate
	identity keys.IdentityPrivate
	prekeys  []*ownPrekeys // in the order of versions
	door     keys.DoorKey  // of the link, while joining
	invite   keys.InviteSecret
	channels keys.ChannelSecret
	owner    [32]byte
	epochs   []*heldEpoch // ascending by number
	inUse    uint64
	turns    int // how often the keys in epochs changed
	inc      wire.Incarnation
	ann      *Announcement
	adm      *Admission
}

// setUp builds keyring, genesis and paths from meta.
func (m *Machine) setUp() (err error) {
	meta := m.meta
	k := &keyring{}
	m.keyring = k
	for _, s := range []struct {
		dst interface{ Set([]byte) error }
		src []byte
	}{{&k.door, meta.Door}, {&k.invite, meta.Invite}, {&k.channels, meta.Channels}} {
		if len(s.src) == 0 && s.dst == &k.door {
			continue
		}
		if err := s.dst.Set(s.src); err != nil {
			return fmt.Errorf("%w: meta: %w", ErrStore, err)
		}
	}
	k.signing = keys.NewPrivate[keys.RoleMember](seed(meta.Signing))
	k.identity = keys.NewDHPrivate[keys.RoleIdentity](seed(meta.Identity))
	k.owner = seed(meta.Owner)
	copy(k.inc[:], meta.Incarnation)
	for _, e := range meta.Epochs {
		k.hold(Epoch{Number: e.Number, Key: keys.NewSecret[keys.RoleEpoch](seed(e.Key))}, e.Checked).until = e.Until
	}
	if k.inUse = meta.InUse; len(k.epochs) > 0 && (k.epoch() == nil || k.first() == nil) {
		return fmt.Errorf("%w: meta: the key of the epoch in use, or of the first, is missing: %w", ErrStore, wire.ErrFormat)
	}
	switch {
	case len(meta.Genesis) > 0:
		if m.genesis, err = ParseGenesis(meta.Genesis); err != nil {
			return fmt.Errorf("%w: genesis: %w", ErrStore, err)
		}
		m.gid = m.genesis.ID()
	case meta.Founding == nil:
		inv, err := ParseLink(meta.Link)
		if err != nil {
			return fmt.Errorf("%w: link: %w", ErrStore, err)
		}
		m.gid = inv.Group
	}
	if len(meta.Relays) > MaxPaths {
		return fmt.Errorf("%w: meta: %d relays", ErrStore, len(meta.Relays))
	}
	for i := range meta.Relays {
		m.paths = append(m.paths, m.makePath(i))
	}
	if m.genesis != nil {
		m.makeLedger()
		m.beginRoster()
	}
	if len(meta.Announced) > 0 {
		if k.ann, err = ParseAnnouncement(meta.Announced); err != nil {
			return fmt.Errorf("%w: announcement: %w", ErrStore, err)
		}
		m.self = k.ann.Seat
	}
	if len(meta.Admitted) > 0 {
		if k.adm, err = ParseAdmission(meta.Admitted); err != nil {
			return fmt.Errorf("%w: admission: %w", ErrStore, err)
		}
	}
	if m.self != (wire.Seat{}) {
		m.seatOf(m.self).own = true
	}
	return nil
}

// finishLoad rebuilds what follows from the records.
func (m *Machine) finishLoad() {
	for _, st := range slices.SortedFunc(maps.Values(m.seats), cameBefore) {
		m.review(st)
		m.setUnadopted(st, m.usable(st) && !st.own && !m.standing(st.seat).in)
	}
	m.voting = nil // the roster was read
	m.sortRecent()
	m.orderAnswers()
	for _, p := range m.paths {
		p.syncRoot()
	}
	for i := range m.evidence {
		m.setAside(m.evidence[i])
		m.forgetPosts(m.paths[m.evidence[i].Path])
	}
}

func seed(b []byte) (s [32]byte) { copy(s[:], b); return s }

// draw32 reads 32 random bytes; the driver's entropy does not fail.
func (m *Machine) draw32() (b [32]byte) { m.draw(b[:]); return b }

func (m *Machine) draw(b []byte) { draw(m.entropy, b) }

func draw(entropy broadcast.Entropy, b []byte) {
	if _, err := entropy.Read(b); err != nil {
		panic("member: entropy: " + err.Error())
	}
}

func (m *Machine) drawID() (id wire.PostID) { m.draw(id[:]); return id }

// newIdentity draws everything a membership needs of its own.
func (m *Machine) newIdentity(meta *metaRecord, relays []LinkRelay) {
	fresh := func() []byte { b := m.draw32(); return b[:] }
	meta.Format = StoreFormat
	meta.Signing, meta.Identity, meta.Owner = fresh(), fresh(), fresh()
	meta.Incarnation = make([]byte, len(wire.Incarnation{}))
	m.draw(meta.Incarnation)
	for _, r := range relays {
		meta.Relays = append(meta.Relays, relayRecord{RelayRef: RelayRef{Key: r.Key, Addrs: r.Addrs}, Mailbox: fresh()})
	}
}

var _ broadcast.Machine = (*Machine)(nil)

// unixTime cuts to whole seconds, as the wire has it.
func unixTime(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }
