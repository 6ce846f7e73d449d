package member

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// path is one relay as this member sees it.
type path struct {
	index    int // its place, for good
	ref      RelayRef
	standing standing
	number   int // of the label; 0: its place
	channel  wire.ChannelID
	box      keys.MailboxPrivate
	mailbox  wire.MailboxID

	read readLink
	post postLink

	pathRecord
	tree    crossverify.Tree // the board as this path shows it
	ownHead map[uint64]crossverify.Statement
	reached []reached                        // where links stood, the newest first
	heads   map[uint64]crossverify.Statement // newest ones, for views and evidence
	oldest  uint64                           // smallest number kept in heads
	past    map[uint64]crossverify.Statement // likewise of the lineage before
	ahead   crossverify.Statement            // of a newer lineage than this path's; zero: none is known
	aheadAt time.Time                        // when the relay is asked about it, on a link that stands
	asked   int                              // times that it was, in this opening

	receipts receipts // of own board writes

	queue   []*postItem // unanswered posts, in order
	retryAt time.Time

	missed    []span // numbers read of which nothing is here, ascending
	caughtUp  bool
	caughtAt  time.Time          // since when, if it is
	delays    crossverify.Delays // of messages, in this opening
	problem   string
	aside     bool
	shared    time.Time // when evidence about it was last sent or came, in this opening
	stash     stash
	taken     bool                   // all that tree has was taken in, even if the board is not known any more
	walkless  bool                   // its relay did not answer a walk, in this opening
	opened    map[wire.Digest]uint64 // versions of what opened by masked name, a while after the board was read
	openedAt  time.Time              // when that was
	orphans   int                    // admissions of its board that wait for their invite, announcements for a key
	unproven  int                    // announcements among them
	keys      pathKeys
	shut      int       // times in a row that a link for reading was ended here, or not opened there
	ended     bool      // the relay says that nothing more is for this mailbox
	beyond    bool      // the relay says that more was read of it than is known here
	posted    uint64    // greatest number of an own post in this lineage, in this opening
	livelyAt  time.Time // when it was last written that it goes on though it is missing here
	openAt    time.Time // not before
	taking    taking
	governing governing
	stranger  bool    // it shows a newcomer another group than the link's
	refused   error   // why it refused a newcomer or a founder
	posting   posting // made when first needed
}

// pathRecord is what a path keeps; fixed layout, rewritten with each position.
type pathRecord struct {
	registered bool
	listed     bool // the board was read whole once in this lineage
	listedAt   uint64
	lineage    wire.Lineage
	position   uint64
	head, root wire.Digest
	newest     crossverify.Statement // zero: none
	stats      [5]uint64             // by crossverify.Status
}

// label is how people see the path: R1.. as the group's lists first named it.
func (p *path) label() string { return fmt.Sprintf("R%d", p.labelNumber()) }

func (p *path) labelNumber() int {
	if p.number > 0 {
		return p.number
	}
	return p.index + 1
}

// name is label and operator.
func (p *path) name() string {
	if p.ref.OperatorName == "" {
		return p.label()
	}
	return fmt.Sprintf("%s (operator %s)", p.label(), p.ref.OperatorName)
}

func (m *Machine) savePath(p *path) {
	b := wire.AppendBool(make([]byte, 0, 384), p.registered)
	b = wire.AppendBool(b, p.listed && p.orphans == 0 && len(p.stash.entries) == 0) // what waits in memory is read again
	b = wire.AppendU64(b, p.listedAt)
	b = append(b, p.lineage[:]...)
	b = wire.AppendU64(b, p.position)
	b = append(b, p.head[:]...)
	b = append(b, p.root[:]...)
	for _, s := range p.stats {
		b = wire.AppendU64(b, s)
	}
	b = p.newest.Append(b)
	m.put(m.key(keyPath, []byte{byte(p.index)}), b)
}

func (m *Machine) loadPath(key, value []byte) error {
	p, err := m.pathAt(key)
	if err != nil {
		return err
	}
	r := wire.NewReader(value)
	p.registered, p.listed, p.listedAt = r.Bool(), r.Bool(), r.U64()
	p.taken = p.listed
	r.Fixed(p.lineage[:])
	p.position = r.U64()
	r.Fixed(p.head[:])
	r.Fixed(p.root[:])
	for i := range p.stats {
		p.stats[i] = r.U64()
	}
	raw := r.Raw(crossverify.StatementSize)
	if err := r.Done(); err != nil {
		return err
	}
	p.newest, err = crossverify.ParseStatement(raw)
	if err == nil && p.newest.N > p.position {
		p.ownHead = map[uint64]crossverify.Statement{p.newest.N: p.newest}
	} else if err == nil && p.newest.N > 0 {
		p.keepHead(p.newest, m.cfg.Limits.Heads)
	}
	return err
}

// pathAt finds the path of a record whose key begins with its index.
func (m *Machine) pathAt(key []byte) (*path, error) {
	if len(key) == 0 || int(key[0]) >= len(m.paths) {
		return nil, wire.ErrFormat
	}
	return m.paths[key[0]], nil
}

// syncRoot prepares a path after loading.
func (p *path) syncRoot() {
	if p.ownHead == nil {
		p.ownHead = map[uint64]crossverify.Statement{}
	}
}

// startLineage begins to read a log from its first number.
func (m *Machine) startLineage(p *path, l wire.Lineage) {
	m.endHeads(p)
	p.lineage, p.position, p.read.acked, p.posted = l, 0, 0, 0
	p.head = crossverify.ChainStart(p.ref.Key, p.channel, l)
	p.root = wire.Digest{}
	p.newest = crossverify.Statement{}
	p.heads, p.ownHead = nil, map[uint64]crossverify.Statement{}
	m.unlist(p)
	p.listedAt = 0
	p.missed = nil
	m.saveMissed(p)
	m.forgetClaims(p)
	m.endReceipts(p, l)
	m.savePath(p)
}

// shutWait is how long a relay that twice did not open the mailbox is left
// alone, at first; at most 64 times as long. Once is forgiven: a mailbox may
// have to be registered anew.
const shutWait = time.Minute

// shut notes that a link for reading ended before the mailbox was open, or
// because of what the relay said on it.
func (m *Machine) shut(p *path) {
	if p.shut++; p.shut > 1 {
		p.openAt = m.now.Add(shutWait << min(p.shut-2, 6))
	}
}

// mailboxEnded: all that is for this mailbox was read. Who is out is let in
// again, if at all, by people, and that is not soon.
func (m *Machine) mailboxEnded(p *path) {
	p.ended, p.shut = true, max(p.shut, 1)
	if m.isMember() && !m.standing(m.self).gone {
		m.relayEvent(p, "ended", "", fmt.Sprintf("Relay %s says that an admin ended your mailbox there, as is done to who was removed. No removal that an admin signed is known here. If other relays say so too, ask an admin; if not, this relay may be at fault.", p.name()))
	}
}

// wantLinks is which links the membership wants now.
func (m *Machine) wantLinks(want []broadcast.WantLink) []broadcast.WantLink {
	if m.gone() {
		return want
	}
	for _, p := range m.paths {
		want = m.appendLinks(want, p)
	}
	return want
}

func sameLinks(a, b []broadcast.WantLink) bool {
	return slices.EqualFunc(a, b, func(x, y broadcast.WantLink) bool {
		return x.Relay == y.Relay && x.Use == y.Use
	})
}

// readLink is the state of the link that receives.
type readLink struct {
	link   broadcast.Link
	nonce  [32]byte
	opened bool

	reading boardReading
	board   []proto.BoardEntry // pages so far
	bytes   int                // of their values
	root    wire.Digest        // that the first page was signed under
	tries   int                // listings that the board changed under
	tell    time.Time          // when what it does not show is told; zero: it was not read to its end
	told    bool
	acked   uint64
	shown   crossverify.Position // what Open showed
	shownS  crossverify.Statement

	compared  comparedRoot
	fetch     *fetching // nil: nothing is read once more
	stalls    map[wire.Seat]stalled
	questions int    // of walks without an answer; they come in the order asked
	from      uint64 // position when the mailbox was opened
	target    uint64 // and the relay's newest number then
}

// postLink is the state of the link that posts.
type postLink struct {
	link     broadcast.Link
	welcome  bool
	founded  bool // founding: the channel exists
	operator *proto.InfoIs
	lists    map[wire.Digest]bool // fan-out lists sent on this link

	pinged     time.Time // when this link was asked whether it lives; zero: never
	pinging    bool      // it has not answered
	unanswered bool      // a post had no receipt in time, on this link
}

func (m *Machine) pathOf(key keys.RelayPublic) *path {
	for _, p := range m.paths {
		if p.ref.Key == key && p.standing != vacant {
			return p
		}
	}
	return nil
}

func (m *Machine) up(in broadcast.Up) {
	p := m.pathOf(in.Relay)
	if p == nil {
		return
	}
	m.byLink[in.Link] = p
	m.noteReached(p, in.Addr)
	if in.Use == broadcast.ReadLink {
		p.read, p.caughtUp = readLink{link: in.Link}, false
	} else {
		p.post.link, p.post.welcome, p.post.unanswered, p.post.pinged, p.post.pinging = in.Link, false, false, time.Time{}, false
		p.post.lists = map[wire.Digest]bool{}
		for _, q := range p.queue {
			q.inFlight, q.listed = false, false
		}
	}
	p.problem = ""
	m.send(in.Link, proto.Hello{Min: proto.Version, Max: proto.Version, Channel: p.channel})
}

func (m *Machine) down(in broadcast.Down) {
	p := m.pathOf(in.Relay)
	if p == nil {
		return
	}
	p.problem = in.Why
	m.drop(p, in.Link, in.Use)
}

// drop forgets a link.
func (m *Machine) drop(p *path, l broadcast.Link, use broadcast.Use) {
	if l == 0 {
		return
	}
	delete(m.byLink, l)
	switch {
	case use == broadcast.ReadLink && p.read.link == l:
		p.read = readLink{}
		p.caughtUp = false
		m.hint(Event{Kind: EventLink, Relay: p.label(), Text: fmt.Sprintf("The link to relay %s is down.", p.name())})
	case use == broadcast.PostLink && p.post.link == l:
		p.post.link, p.post.welcome, p.retryAt = 0, false, time.Time{}
		if p.aside {
			m.forgetPosts(p) // of evidence, which nobody dials it for
		}
		for _, q := range p.queue {
			q.inFlight, q.listed = false, false
		}
	}
}

// closeLink ends a link on which the relay broke the protocol; the driver
// dials again, with backoff.
func (m *Machine) closeLink(p *path, l broadcast.Link, why string) {
	p.problem = why
	m.sends = append(m.sends, broadcast.Send{Link: l, Close: true})
	if p.read.link == l {
		m.shut(p)
		m.drop(p, l, broadcast.ReadLink)
	} else {
		m.drop(p, l, broadcast.PostLink)
	}
}

// receive takes one frame.
func (m *Machine) receive(in broadcast.Received) {
	p := m.byLink[in.Link]
	if p == nil {
		return
	}
	msg, err := proto.Parse(in.Frame)
	if err != nil {
		if errors.Is(err, proto.ErrSkippable) {
			return
		}
		m.closeLink(p, in.Link, fmt.Sprintf("relay %s sent a frame that does not read: %v", p.label(), err))
		return
	}
	if in.Link == p.read.link {
		m.onRead(p, msg)
	} else {
		m.onPost(p, msg)
	}
}

// onRead handles what comes on the link that receives.
func (m *Machine) onRead(p *path, msg proto.Message) {
	switch f := msg.(type) {
	case proto.Welcome:
		p.read.nonce = f.Nonce
		if !p.registered {
			m.register(p)
		} else {
			m.openMailbox(p)
		}
	case proto.Registered:
		m.registered(p, f)
	case proto.Opened:
		m.opened(p, f)
	case proto.Deliver:
		m.deliver(p, f)
	case proto.Bare:
		m.bare(p, f)
	case proto.DeliverDigest:
		m.deliverDigest(p, f)
	case proto.Entry:
		m.entry(p, f)
	case proto.Trimmed:
		m.trimmed(p, f)
	case proto.CaughtUp:
		if !p.caughtUp && f.N <= p.position {
			p.caughtUp, p.caughtAt, p.shut = true, m.now, 0
			m.readToEnd(p)
			m.compareNewest(p)
			m.retryHeld(wire.Seat{})
		}
	case proto.BoardPage:
		m.boardPage(p, f)
	case proto.BoardNodes:
		m.boardNodes(p, f)
	case proto.BoardProof:
		m.boardProof(p, f)
	case proto.StatementIs:
		m.statementIs(p, f.Statement)
	case proto.Refused:
		if f.Of == proto.TypeFetch || f.Of == proto.TypeStatementOf {
			m.fetchRefused(p, f)
			return
		}
		if f.Of == proto.TypeBoardWalk {
			m.walkRefused(p)
			return
		}
		p.problem = fmt.Sprintf("relay %s refused: %s", p.label(), f.Text)
		if !m.isMember() {
			m.noteRefusal(p, f)
		}
		if f.Of == proto.TypeRegister && f.Code == proto.CodeNotAllowed && m.isMember() {
			if m.nextCapability(p, m.capability(p).Number); p.taking.refused < len(m.capabilities()) {
				p.shut = 0 // the next one is tried at once
			}
		}
		switch {
		case f.Code == proto.CodeEnded && (f.Of == proto.TypeOpen || f.Of == proto.TypeRegister):
			m.mailboxEnded(p)
		case f.Code.Row().Retry:
			p.shut = 0 // the driver's waits are enough
		case f.Of == proto.TypeOpen && f.Code == proto.CodeNotAllowed:
			p.registered = false // it does not know the mailbox: it lost data, or forgot who was long away
			m.savePath(p)
		}
		m.closeLink(p, p.read.link, p.problem)
	case proto.Leaving:
		m.closeLink(p, p.read.link, fmt.Sprintf("relay %s is shutting down", p.label()))
	}
}

// register asks for a mailbox: by the posting key, or by the invite's while
// the epoch key is not known yet.
func (m *Machine) register(p *path) {
	var capability keys.PostingPrivate
	if len(m.keyring.epochs) > 0 {
		capability = p.postingAt(&m.capability(p).Key)
	} else {
		inv := Invitation{Secret: m.keyring.invite}
		capability = inv.InvitePosting(p.ref.Key)
	}
	r := proto.Register{Mailbox: p.box.Public(), Capability: capability.Public()}
	r.Sign(capability, p.ref.Key, p.channel)
	m.send(p.read.link, r)
}

func (m *Machine) registered(p *path, f proto.Registered) {
	s := f.Statement
	if p.registered || !m.ours(p, s) || f.Mailbox != p.mailbox {
		m.closeLink(p, p.read.link, fmt.Sprintf("relay %s answered a registration with a statement that is not its own", p.label()))
		return
	}
	switch again := p.lineage != (wire.Lineage{}); {
	case again && s.Lineage == p.lineage && s.N <= p.position:
		m.checkHead(p, s) // the first answer, once more
	case again && s.Lineage == p.lineage:
		m.checkHead(p, s)
		m.relayEvent(p, "mailbox", "", fmt.Sprintf("Relay %s had forgotten your mailbox. What it took in between is read from the other relays. Nothing for you to do.", p.name()))
		m.unlist(p) // board writes in between were not seen
		p.position, p.head, p.root = s.N, s.H, s.Root
	case again && s.Lineage.Ordinal() <= p.lineage.Ordinal():
		// It lost data once more, and has not heard of the lineage that this
		// member reads: Open shows it.
		p.registered = true
		m.savePath(p)
		m.openMailbox(p)
		return
	default:
		m.beginLineage(p, s.Lineage)
		p.position, p.head, p.root = s.N, s.H, s.Root
	}
	p.registered = true
	m.keepRead(p, s)
	m.savePath(p)
	m.openMailbox(p)
}

// ours tells whether s is a statement of this path's relay and channel.
func (m *Machine) ours(p *path, s crossverify.Statement) bool {
	return s.Relay == p.ref.Key && s.Channel == p.channel && s.Verify(m.cfg.Verify)
}

func (m *Machine) openMailbox(p *path) {
	o := proto.Open{Mailbox: p.mailbox, Lineage: p.lineage, After: p.position, Window: m.cfg.Limits.Window}
	p.read.shown, p.read.shownS = crossverify.Position{}, crossverify.Statement{}
	known := p.newest
	if p.ahead.N > 0 {
		known = p.ahead
	}
	if known.N > 0 {
		o.Known = &known
		p.read.shown, p.read.shownS = known.Position(), known
	}
	p.read.acked = p.position
	o.Sign(p.box, p.ref.Key, p.channel, p.read.nonce)
	m.send(p.read.link, o)
}

func (m *Machine) opened(p *path, f proto.Opened) {
	s := f.Statement
	o := crossverify.Opened{Relay: p.ref.Key, Channel: p.channel, Nonce: p.read.nonce, Shown: p.read.shown,
		Lineage: s.Lineage, N: s.N, H: s.H, Signature: f.Signature}
	if !m.ours(p, s) || !o.Verify(m.cfg.Verify) {
		m.closeLink(p, p.read.link, fmt.Sprintf("relay %s opened the mailbox with a signature that is not its own", p.label()))
		return
	}
	if p.read.shown.N > 0 {
		if e, ok := crossverify.FindAnswer(p.read.shownS, o); ok {
			m.convict(p, e)
		}
	}
	p.read.opened, p.ended = true, false
	m.saysRead(p, f)
	switch {
	case s.Lineage != p.lineage:
		m.beginLineage(p, s.Lineage)
	case p.read.shownS == p.ahead: // it convicted itself: nothing is left to ask
		m.setAhead(p, crossverify.Statement{})
	}
	p.read.from, p.read.target = p.position, s.N
	m.checkHead(p, s)
	m.keepStatement(p, s)
	m.hint(Event{Kind: EventLink, Relay: p.label(), Text: fmt.Sprintf("Relay %s is connected.", p.name())})
	if !p.listed {
		m.wantBoard(p)
	}
}

// trimmed: numbers before f.First are gone at the relay, by its own policy.
func (m *Machine) trimmed(p *path, f proto.Trimmed) {
	t := crossverify.Trimmed{Relay: p.ref.Key, Channel: p.channel, Lineage: f.Lineage, First: f.First, H: f.H, Signature: f.Signature}
	if f.Lineage != p.lineage || !t.Verify(m.cfg.Verify) || f.First == 0 || f.First-1 < p.position {
		m.closeLink(p, p.read.link, fmt.Sprintf("relay %s sent a trim that does not fit its log", p.label()))
		return
	}
	p.position, p.head = f.First-1, f.H
	m.unlist(p) // board writes in between were not seen
	m.savePath(p)
	m.relayEvent(p, "trimmed", "", fmt.Sprintf("Relay %s does not keep messages before number %d any more.", p.name(), f.First))
	m.wantBoard(p)
}

// next checks that number n with digest d and root continues the path's chain
// and is signed, and moves the position. It closes the link otherwise.
func (m *Machine) next(p *path, n uint64, d, root wire.Digest, sig [64]byte) bool {
	if !p.read.opened || n != p.position+1 {
		m.pathFailed(p, "number", fmt.Sprintf("relay %s sent number %d where %d follows", p.label(), n, p.position+1))
		return false
	}
	s := crossverify.Statement{Relay: p.ref.Key, Channel: p.channel, Lineage: p.lineage, N: n, D: d,
		H: crossverify.ChainNext(p.head, n, d, root), Root: root, Signature: sig}
	if !s.Verify(m.cfg.Verify) {
		m.pathFailed(p, "statement", fmt.Sprintf("relay %s sent number %d with a statement that does not continue its log", p.label(), n))
		return false
	}
	p.position, p.head, p.root = n, s.H, root
	m.checkHead(p, s)
	m.keepRead(p, s)
	m.savePath(p)
	if n-p.read.acked >= uint64(m.cfg.Limits.Window/4) && len(p.read.stalls) == 0 {
		m.ack(p)
	}
	m.tellProgress(p)
	return true
}

// ack opens the window of a path again.
func (m *Machine) ack(p *path) {
	if p.read.opened && p.read.acked < p.position {
		p.read.acked = p.position
		m.send(p.read.link, proto.Ack{UpTo: p.position})
	}
}

// pathFailed notes what the relay broke and ends the link: status only.
func (m *Machine) pathFailed(p *path, cause, why string) {
	p.stats[crossverify.Failed]++
	m.savePath(p)
	m.relayEvent(p, cause, "", fmt.Sprintf("Path %s failed: %s. Other paths carry the messages. Nothing for you to do.", p.name(), why))
	m.closeLink(p, p.read.link, why)
}

// relayEvent shows an event about a path once for one cause.
func (m *Machine) relayEvent(p *path, cause, member, text string) {
	if m.newCause(p, cause) {
		m.show(Event{Kind: EventRelay, Relay: p.label(), Member: member, Text: text})
	}
}

func (m *Machine) bare(p *path, f proto.Bare) {
	if p.once(f.N) {
		m.again(p, f.N, f.D, f.Root, f.Signature)
		return
	}
	if m.next(p, f.N, f.D, f.Root, f.Signature) {
		m.checkRoot(p, f.N, f.Root)
		m.passOver(p, f.N)
	}
}
