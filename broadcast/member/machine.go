package member

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// Config is what all memberships of a process share.
type Config struct {
	Verify keys.Verify // nil: keys.Ed25519
	Limits Limits
}

// Limits bound a membership. Zero means the default.
type Limits struct {
	Window         uint32        // entries a relay may push ahead of acks. Default: 256
	InFlight       int           // posts without an answer on one link. Default: 64
	Outbox         int           // bundles that not enough relays took. Default: 256
	Backlog        int           // bundles in the outbox, with those that enough relays took. Default: 4,096
	BacklogBytes   int           // of all of them. Default: 64 MiB
	Held           int           // undelivered items kept per membership. Default: 4,096
	OpenMessages   int           // messages whose paths may still answer. Default: 65,536
	Heads          int           // newest statements per path kept in memory. Default: 4,096
	HelloWait      time.Duration // for a newcomer's hello, before starting ourselves. Default: 10 s
	FoundWait      time.Duration // for the relays when founding. Default: 30 s
	ExchangeJitter time.Duration // before statements are exchanged. Default: 500 ms
	RetryPost      time.Duration // after a refusal that allows a retry. Default: 2 s
	PrekeyLife     time.Duration // how long prekeys are the newest. Default: 7 days
	AnswerWait     time.Duration // for the shares of an answer, before beginning again. Default: 10 min
	Skipped        int           // message keys kept for slots that have not come, over all sessions. Default: 65,536
	Reinforced     int           // members of the largest group whose sessions get encapsulations after the start; -1: none. Default: 100
	AdoptWait      time.Duration // before an admin adopts admissions, or acts on what others made; later ones wait longer. Default: 30 s
	AdoptLate      time.Duration // before an admission that some relay does not show is adopted all the same. Default: 24 h
	AckEvery       time.Duration // that a member says nothing before it sends a view, at least; 10 min a member. Default: 24 h
	Texts          int           // newest texts kept so that they can be sent again. Default: 1,024
	ReinforceEvery time.Duration // between encapsulations to one seat, at least. Default: 6 days
	GoneAfter      time.Duration // without an answer of a relay, while others answer, until people are told. Default: 3 days
	RetiredFor     time.Duration // for which a retired relay is still read. Default: 1 day
	Carriers       int           // relays that carry a text in full, the others its digest; negative: all carry it. Default: 3
	RepairTime     time.Duration // how long a bundle is kept that not all relays carry. Default: 1 h
	RepairBytes    int           // of such bundles that nothing waits for. Default: 4 MiB
	Digests        int           // digests kept under which nothing has opened. Default: 4,096
	AskJitter      time.Duration // before what carriers do not show is asked for. Default: 5 s
	AsksPerHour    int           // of such questions, at most. Default: 12
	Requests       int           // requests to be let in that are kept. Default: 256
	RequestLife    time.Duration // how long a request waits for an admin. Default: 7 days
}

func (l Limits) withDefaults() Limits {
	set(&l.Window, 256)
	set(&l.InFlight, 64)
	set(&l.Outbox, 256)
	set(&l.Backlog, 4096)
	set(&l.BacklogBytes, 64<<20)
	set(&l.Held, 4096)
	set(&l.OpenMessages, 65536)
	set(&l.Heads, 4096)
	set(&l.HelloWait, 10*time.Second)
	set(&l.FoundWait, 30*time.Second)
	set(&l.ExchangeJitter, 500*time.Millisecond)
	set(&l.RetryPost, 2*time.Second)
	set(&l.PrekeyLife, 7*24*time.Hour)
	set(&l.AnswerWait, 10*time.Minute)
	set(&l.Skipped, 65536)
	set(&l.Reinforced, 100)
	set(&l.AckEvery, 24*time.Hour)
	set(&l.Texts, 1024)
	set(&l.ReinforceEvery, 6*24*time.Hour)
	set(&l.GoneAfter, 3*24*time.Hour)
	set(&l.RetiredFor, 24*time.Hour)
	set(&l.Carriers, 3)
	set(&l.RepairTime, time.Hour)
	set(&l.RepairBytes, 4<<20)
	set(&l.Digests, 4096)
	set(&l.AskJitter, 5*time.Second)
	set(&l.AsksPerHour, 12)
	set(&l.Requests, 256)
	set(&l.RequestLife, 7*24*time.Hour)
	set(&l.AdoptWait, 30*time.Second)
	set(&l.AdoptLate, 24*time.Hour)
	return l
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Defaults of a group's policy and of an invitation.
const (
	DefaultDeadline  = 30 * time.Second
	DefaultRetention = 21 * 24 * time.Hour
	DefaultUses      = 50
	DefaultPerHour   = 20
	DefaultValid     = 7 * 24 * time.Hour
)

// Machine is one membership. It implements broadcast.Machine.
type Machine struct {
	cfg     Config
	unit    store.Unit
	entropy broadcast.Entropy
	now     time.Time

	// What the next Ready hands over.
	revision uint64
	ops      []store.Op
	opAt     map[string]int // key to its place in ops: the last write of a turn counts
	turn     uint64
	sends    []broadcast.Send
	events   []broadcast.Event
	answers  []broadcast.Answer
	jobs     []broadcast.Job
	links    []broadcast.WantLink // as last handed over
	wanted   []broadcast.WantLink // of this turn; its memory is used again
	linksSet bool

	meta        *metaRecord
	gid         wire.GroupID
	genesis     *Genesis
	self        wire.Seat
	keyring     *keyring
	paths       []*path
	byLink      map[broadcast.Link]*path
	ledger      *crossverify.Ledger
	voting      *crossverify.Policy // of the list in use, made when first needed
	shares      map[sharesKey]int   // k of first contacts
	seats       map[wire.Seat]*seatState
	prefixes    map[[8]byte][]wire.Seat // seats by the first bytes that views have of them
	invites     map[[16]byte]*InviteRecord
	admissions  map[wire.Digest]wire.Seat // those that paths show
	orphans     map[wire.Seat][]orphan    // admissions whose invite is not known yet
	unproven    map[wire.Seat][]unproven  // announcements whose signer is not known yet
	chains      chainVector
	received    map[source]*sequences
	messages    map[messageKey]*message
	recent      []*message // newest last: for views and paths
	held        map[heldKey]*heldItem
	bundles     map[uint64]*bundleRecord
	sets        map[wire.Digest]*recipientSet
	current     *recipientSet             // whom a bundle goes to now; nil: gather anew
	roster      *Roster                   // nil: the genesis is not known yet
	state       *State                    // of roster, as it was last followed up
	log         map[wire.Digest]*logged   // what roster has and what waits in it
	pages       [][]*logged               // what the own roster pages carry
	live        map[[16]byte]bool         // invites that count and are not revoked
	unadopted   map[wire.Seat]*seatState  // in by a complete admission alone: an admin adopts them
	unadoptedBy map[[16]byte]int          // how many of them, by invite
	duty        duty                      // of an admin
	resealAt    time.Time                 // when an admin looks for what newcomers cannot read much longer
	noted       notes                     // what was told (noted.go)
	seen        map[wire.Digest]helloSeen // transcripts of hellos
	lacking     map[wire.Seat]*seatState  // that a hello may be for
	evidence    []*evidenceRecord
	exchange    []exchangeDue
	reference   *reference           // nil: no board is read now, or none was yet
	shared      map[wire.Digest]bool // statements sent in an exchange already
	counters    counters
	waiting     []waiter
	answered    map[uint64]broadcast.Answer // first answers of this opening, by command id
	durable     map[uint64]*answerRecord    // of commands with an effect, also of earlier openings
	wishes      map[uint64]Wish             // not answered yet
	commands    []uint64                    // ids of what was answered, oldest first
	acked       map[string]uint64           // event number by reader
	deadline    time.Time                   // founding or joining ends
	views       map[viewKey][]claimedHead
	claims      map[claimant][]uint64 // numbers in views, by who claimed them
	reshared    map[claimant]int      // how often evidence was shared again for a seat, in this opening
	accused     map[wire.Seat]note    // what a seat said that had no proof
	strayed     map[claimant]stray    // in another lineage
	declined    map[wire.PostID]bool  // posts refused while a command waits for them
	alarms      map[alarmKey]*gathered
	spareDue    time.Time // when a spare relay takes a place by itself
	skipped     int       // keys kept for slots that have not come, over all sessions
	sweepAt     time.Time // when they are looked through; zero: there are none
	retrying    bool      // within retryHeld
	kept        int       // messages left by the last trimMessages
	progress    int
	governed    bool                     // all relays were looked at since anything changed (govern.go)
	sealed      map[int]uint64           // generations under which own pages were posted in this opening
	requests    map[wire.Seat]*askedSeat // who asks to be let in
	rooms       int                      // invites of mode approve that the roster has
	hiddenOps   hiddenOperations
	askedLook   bool                  // anything of them changed
	revoking    revoking              // of an admin: invites that ended, at the relays
	teaching    teaching              // of an admin: epoch keys told to members
	unread      []*unreadItem         // oldest first
	unreadTurns int                   // turns of the keyring that they were tried with
	author      bool                  // this member changed the roster in this opening
	helps       map[wire.Seat]helping // members that lack epoch keys and asked, in this opening
	helped      bool                  // epoch keys came by a way back, in this opening
	askBackAt   time.Time             // when they are asked for again

	texts      keptTexts // that can be sent again
	lacks      map[source]*lack
	seeking    map[source]*lack // those of them that have something due
	askedAt    time.Time
	answersDue []*dueAnswer
	agained    map[againID]time.Time // what was sent again, by whomever
	passed     map[wire.Digest]*passedOn
	settling   bool      // within settlePassed
	ackAt      time.Time // when an envelope of nothing but a view is due, after its jitter
	forced     bool      // within unstall: what was skipped may be lost

	reads    []broadcast.Read // that the next Ready hands over
	readers  map[uint64]func([]store.KV)
	lastRead uint64 // never used again in a machine's life

	starting starting // sessions that this end begins
	delivery ownTexts // of own texts
	awake    bool     // deadlines run
	extended bool     // the joining's deadline was moved once

	repairs map[uint64]*repair // bundles that not all relays carry, by order
	digests digestsSeen

	fresh       []*logged // of log, that came in this opening and that too few boards show
	exchanged   exchangeOfOperations
	adopted     map[[16]byte]int  // by invite: seats that came by it, as the roster has them
	stale       map[[16]byte]bool // Roster.staleInvites
	endsUnknown bool              // no epoch in force was begun by who knew of somebody's end
	leaveAt     time.Time         // when a member that left ends, at the latest

	founder   wire.Seat // by founderOf
	founderOf *Genesis

	changeUntil  time.Time // when whoever waits for a change of the relays is told
	announceAt   time.Time // when the own announcement follows the lists of relays
	readingSince time.Time // since when some relay is read, in this opening
	bundleBytes  int       // of the bundles in the outbox
	backlogAt    time.Time // when the oldest of them gets too old; zero: there is none
	ledgerEra    []int     // number in the ledger of each era in meta.Lists

	looking looking // whether the folder is an older copy (putback.go)

	lives map[claimant]wire.Lineage // that seats' newest views named, where they are not the paths'
}

// waiter is a command that is answered when done says so.
type waiter struct {
	id    uint64
	until time.Time // zero: no deadline
	done  func() (any, error, bool)
	late  func() (any, error)
}

// Open returns the function that opens memberships.
func Open(cfg Config) broadcast.Open {
	if cfg.Verify == nil {
		cfg.Verify = keys.Ed25519
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return func(unit store.Unit, r store.Reader, entropy broadcast.Entropy) (broadcast.Machine, error) {
		m := &Machine{cfg: cfg, unit: unit, entropy: entropy}
		if err := m.load(r); err != nil {
			return nil, fmt.Errorf("membership %x: %w", unit[:4], err)
		}
		return m, nil
	}
}

// reset empties all state but configuration.
func (m *Machine) reset() {
	*m = Machine{
		cfg: m.cfg, unit: m.unit, entropy: m.entropy, now: m.now, turn: m.turn,
		opAt:       map[string]int{},
		byLink:     map[broadcast.Link]*path{},
		seats:      map[wire.Seat]*seatState{},
		invites:    map[[16]byte]*InviteRecord{},
		orphans:    map[wire.Seat][]orphan{},
		admissions: map[wire.Digest]wire.Seat{},
		unproven:   map[wire.Seat][]unproven{},
		received:   map[source]*sequences{},
		messages:   map[messageKey]*message{},
		held:       map[heldKey]*heldItem{},
		bundles:    map[uint64]*bundleRecord{},
		repairs:    map[uint64]*repair{},
		digests:    digestsSeen{of: map[wire.Digest]messageKey{}, open: map[wire.Digest]*seenDigest{}},
		sets:       map[wire.Digest]*recipientSet{},
		seen:       map[wire.Digest]helloSeen{},
		lacking:    map[wire.Seat]*seatState{},
		shared:     map[wire.Digest]bool{},
		views:      map[viewKey][]claimedHead{},
		claims:     map[claimant][]uint64{},
		reshared:   map[claimant]int{},
		accused:    map[wire.Seat]note{},
		lives:      map[claimant]wire.Lineage{},
		strayed:    map[claimant]stray{},
		declined:   map[wire.PostID]bool{},
		answered:   map[uint64]broadcast.Answer{},
		durable:    map[uint64]*answerRecord{},
		wishes:     map[uint64]Wish{},
		acked:      map[string]uint64{},
		log:        map[wire.Digest]*logged{},
		noted:      notes{map[noteKey]note{}, map[byte]int{}},
		exchanged: exchangeOfOperations{due: map[wire.Digest]*logged{}, differ: map[wire.Seat]time.Time{},
			had: map[wire.Digest]bool{}, spent: map[wire.Seat]int{}},
		unadopted: map[wire.Seat]*seatState{}, unadoptedBy: map[[16]byte]int{},
		requests: map[wire.Seat]*askedSeat{}, askedLook: true,
		revoking: revoking{told: map[[16]byte]relayMask{}, look: true},
		lacks:    map[source]*lack{},
		seeking:  map[source]*lack{},
		agained:  map[againID]time.Time{},
		prefixes: map[[8]byte][]wire.Seat{},
		passed:   map[wire.Digest]*passedOn{},
		readers:  map[uint64]func([]store.KV){},
		lastRead: m.lastRead,
		starting: starting{last: m.starting.last, texts: m.starting.texts}, // a text that waits was not begun
	}
}

// Step implements broadcast.Machine.
func (m *Machine) Step(now time.Time, in broadcast.Input) error {
	m.advance(now)
	m.wakeUp()
	var err error
	if m.gone() {
		switch in.(type) {
		case broadcast.Up, broadcast.Received, broadcast.Finished:
			return nil
		}
	}
	switch in := in.(type) {
	case broadcast.Up:
		m.up(in)
	case broadcast.Down:
		m.down(in)
	case broadcast.Received:
		m.receive(in)
	case broadcast.Command:
		m.command(in)
	case broadcast.Finished:
		m.finished(in)
	case broadcast.Loaded:
		err = m.loaded(in)
	case broadcast.Applied:
	case broadcast.Changed:
		err = m.changed(in.Reader)
	default:
		return fmt.Errorf("member: input of type %T", in)
	}
	m.settle()
	return err
}

// Tick implements broadcast.Machine.
func (m *Machine) Tick(now time.Time) {
	m.advance(now)
	m.wakeUp()
	m.settle()
}

func (m *Machine) advance(now time.Time) {
	if now.After(m.now) {
		m.now = now
	}
}

// wakeUp starts, at the first input after opening, the deadlines of what was
// under way: what is durable has no clock.
func (m *Machine) wakeUp() {
	if m.awake || m.meta == nil {
		return
	}
	m.awake = true
	m.looking.until = m.now.Add(lookWait)
	m.wakeNotes()
	m.resume()
	if m.ledger == nil {
		return
	}
	if next := m.meta.Lists.Next; next != nil {
		next.since = m.now
	}
	if m.meta.Change != nil {
		m.changeUntil = m.now.Add(m.cfg.Limits.FoundWait)
	}
	m.claimLog()
	for _, st := range m.sortedSeats() {
		m.askedAll(st)
		if m.usable(st) {
			st.since, st.waited = m.now, true
			m.review(st)
		}
	}
	for _, msg := range m.messages {
		m.awaitCopies(msg)
	}
	m.resumeDigests()
	m.lookForLacks()
}

// changed starts again from what is durable. A membership has one process, so
// this follows a refused write only.
func (m *Machine) changed(r store.Reader) error {
	for _, w := range m.waiting {
		m.answers = append(m.answers, broadcast.Answer{ID: w.id, Err: ErrUnreached})
	}
	answers, links := m.answers, slices.Sorted(maps.Keys(m.byLink))
	if err := m.load(r); err != nil {
		return err
	}
	m.answers = answers
	m.wakeUp()                // what waits for sessions must see which are due
	for _, l := range links { // what was said on them is not known any more
		m.sends = append(m.sends, broadcast.Send{Link: l, Close: true})
	}
	return nil
}

// settle follows up on whatever the input changed: deadlines, joining, hellos,
// exchanges, answers to commands.
func (m *Machine) settle() {
	if m.gone() {
		m.answerWaiting()
		return
	}
	m.stepRelays()
	if m.ledger != nil {
		for _, s := range m.ledger.Advance(m.now) {
			m.subjectChanged(s)
		}
	}
	m.stepBoards()
	m.unstash()
	m.readUnread()
	m.tellHidden()
	m.tellHiddenOperations()
	m.stepLineages()
	m.tellGathered()
	m.noReceipts()
	m.stepFounding()
	m.stepJoining()
	m.lookBack()
	m.revive()
	m.helpBack()
	m.rotate()
	m.trimBacklog()
	m.eraseEpochs()
	m.sweep()
	m.refuseTexts()
	m.doDuty()
	m.reseal()
	m.greet()
	m.sayAgain()
	m.ask()
	m.teach()
	m.runNews()
	m.runExchanges()
	m.stepLeaving()
	m.unstall()
	m.runLacks()
	m.runAnswers()
	m.askMissing()
	m.mend()
	m.runAcks()
	m.stepAsked()
	m.stepRevoking()
	m.govern()
	m.trimMessages()
	m.pumpPosts()
	m.ackOwn()
	m.answerWaiting()
}

func (m *Machine) answerWaiting() {
	rest := m.waiting[:0]
	for _, w := range m.waiting {
		if v, err, ok := w.done(); ok {
			m.answer(w.id, v, err)
		} else if !w.until.IsZero() && !m.now.Before(w.until) {
			v, err := w.late()
			m.answer(w.id, v, err)
		} else {
			rest = append(rest, w)
		}
	}
	m.waiting = rest
	if len(rest) == 0 {
		clear(m.declined)
	}
}

// Ready implements broadcast.Machine.
func (m *Machine) Ready() broadcast.Ready {
	r := broadcast.Ready{Sends: m.sends, Events: m.events, Answers: m.answers, Reads: m.reads, Jobs: m.jobs, Wake: m.wake()}
	if len(m.ops) > 0 {
		r.Write = &store.Batch{Unit: m.unit, Base: m.revision, Ops: m.ops}
		m.revision++
	}
	if r.Write != nil || len(r.Sends)+len(r.Events)+len(r.Answers) > 0 {
		m.turn++
		r.Turn = m.turn
	}
	m.wanted = m.wantLinks(m.wanted[:0])
	if !m.linksSet || !sameLinks(m.wanted, m.links) {
		m.links, m.linksSet = append([]broadcast.WantLink{}, m.wanted...), true
		r.Links = m.links
	}
	m.ops, m.sends, m.events, m.answers, m.reads, m.jobs = nil, nil, nil, nil, nil, nil
	clear(m.opAt)
	return r
}

func (m *Machine) wake() (t time.Time) {
	soonest := func(u time.Time) {
		if !u.IsZero() && (t.IsZero() || u.Before(t)) {
			t = u
		}
	}
	if m.gone() {
		return t
	}
	if m.ledger != nil {
		soonest(m.ledger.Next())
	}
	soonest(m.deadline)
	soonest(m.leaveAt)
	for _, w := range m.waiting {
		soonest(w.until)
	}
	if m.isMember() && !m.starting.underWay() && !m.silent() { // until then nothing is sent
		for _, e := range m.exchange {
			soonest(e.at)
		}
	}
	for _, p := range m.paths {
		soonest(p.retryAt)
		if m.now.Before(p.openAt) {
			soonest(p.openAt)
		}
		if !p.read.told {
			soonest(p.read.tell)
		}
	}
	soonest(m.nextOverdue())
	soonest(m.nextGreeting())
	soonest(m.rotateAt())
	soonest(m.relaysWake())
	soonest(m.unstashAt())
	soonest(m.boardsWake())
	if m.resealDue() {
		soonest(m.resealAt)
	}
	soonest(m.unreadAt())
	soonest(m.helpBackAt())
	soonest(m.alarmsAt())
	soonest(m.hiddenOperationsAt())
	soonest(m.lineagesAt())
	soonest(m.governAt())
	soonest(m.teachAt())
	soonest(m.nextEpochErase())
	soonest(m.backlogAt)
	soonest(m.nextErase())
	soonest(m.sweepAt)
	soonest(m.mendAt())
	soonest(m.askAt())
	if !m.starting.underWay() {
		soonest(m.duty.at)
		soonest(m.revoking.at)
		if m.roster != nil && m.admin() {
			soonest(m.nextUncarried())
			soonest(m.nextAdoptLate())
		}
		if m.isMember() && m.mayTell() {
			if m.drained() {
				soonest(m.exchanged.askAt)
			}
			if len(m.exchanged.due) > 0 {
				soonest(m.exchanged.dueAt)
			}
		}
	}
	soonest(m.askingAt())
	soonest(m.nextStall())
	soonest(m.nextLack())
	soonest(m.nextAnswer())
	soonest(m.nextAck())
	if len(m.starting.texts) > 0 && m.meta.Restored {
		soonest(m.starting.texts[0].until)
	}
	if m.starting.unsure && m.now.Before(m.looking.until) {
		soonest(m.looking.until)
	}
	return t
}

// put writes one key in this turn.
func (m *Machine) put(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	m.op(store.Op{Key: key, Value: value})
}

func (m *Machine) del(key []byte) { m.op(store.Op{Key: key}) }

func (m *Machine) op(o store.Op) {
	if i, ok := m.opAt[string(o.Key)]; ok {
		m.ops[i] = o
		return
	}
	m.opAt[string(o.Key)] = len(m.ops)
	m.ops = append(m.ops, o)
}

// send queues a frame for after everything of this turn is durable.
func (m *Machine) send(l broadcast.Link, msg proto.Message) {
	m.sends = append(m.sends, broadcast.Send{Link: l, Frame: proto.Encode(msg)})
}

// show numbers an event, stores it and shows it.
func (m *Machine) show(e Event) uint64 {
	m.counters.event++
	e.Number = m.counters.event
	e.Time = m.now.UTC()
	m.put(m.key(keyEvent, wire.U64(e.Number)), mustJSON(e))
	m.saveCounters()
	m.events = append(m.events, broadcast.Event{Number: e.Number, Body: e})
	return e.Number
}

// hint shows an event that is not stored.
func (m *Machine) hint(e Event) {
	e.Time = m.now.UTC()
	m.events = append(m.events, broadcast.Event{Body: e})
}

// gone tells whether this membership ended.
func (m *Machine) gone() bool { return m.meta != nil && m.meta.Phase == phaseLeft }

func (m *Machine) isMember() bool { return m.meta != nil && m.meta.Phase == phaseMember }
