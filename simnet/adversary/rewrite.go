package adversary

import (
	"io"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// Lie is what becomes of one entry on its way to one victim: m is a
// proto.Deliver, proto.DeliverDigest, proto.Bare or proto.Entry, and so is
// everything in the answer. Numbers and signatures in the answer do not matter: they are set
// afterwards. An empty answer leaves the entry out.
type Lie func(m proto.Message, random io.Reader) []proto.Message

// Rewriter is a relay with one honest log that changes what its victims get
// of it. From the first change on a victim's chain is a fork of the log:
// numbers, heads and signatures are made again for everything the victim sees,
// its receipts included, so that nothing the victim alone can check is wrong.
// When such a victim comes again, it shows the relay a statement that the
// honest log cannot continue; so the wrapper answers its Open itself, and lets
// the machine inside believe that the old link still stands. A process that
// ends forgets that link: the machine inside then begins a new lineage. The
// zero value with Key set is honest.
type Rewriter struct {
	Key keys.RelayPrivate
	// Victim names the victim a link belongs to, from a frame that came on it;
	// empty: nobody's, or not known yet. It is asked until it says a name.
	Victim func(Place, proto.Message) string
	// Lie changes entries; nil: none.
	Lie Lie
	// Clumsy leaves the signatures as they were, so that the chain breaks at
	// once.
	Clumsy bool
	// Stubborn says the same when a number that was shown bare is asked for once
	// more; otherwise it gives in.
	Stubborn bool

	units map[store.Unit]*rewrittenUnit
}

// rewrittenUnit is one channel, over all lives of the process.
type rewrittenUnit struct {
	truth   map[uint64]crossverify.Statement // every one that left, by number
	lineage wire.Lineage                     // of truth
	victims map[string]*victim
}

// victim is the log as one victim knows it.
type victim struct {
	forked   bool
	n        uint64 // newest number shown, once forked
	h        wire.Digest
	done     uint64 // newest true number that was looked at
	own      map[uint64]shown
	bare     map[uint64]proto.Bare // what an honest chain shows without its bytes
	byDigest map[wire.Digest]crossverify.Statement
	posted   map[wire.Digest]bool // entries of its own: it would notice at once
	receipts []heldReceipt
	inside   broadcast.Link // the link that the machine inside still has; 0: as it is
	outside  broadcast.Link // where the victim reads now; 0: nowhere
}

type shown struct {
	m  proto.Message
	st crossverify.Statement
}

type heldReceipt struct {
	link broadcast.Link
	m    proto.Receipt
}

// Wrap returns the dishonest way to open machines.
func (w *Rewriter) Wrap(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		if w.units == nil {
			w.units = map[store.Unit]*rewrittenUnit{}
		}
		if w.units[u] == nil {
			w.units[u] = &rewrittenUnit{truth: map[uint64]crossverify.Statement{}, victims: map[string]*victim{}}
		}
		m, err := open(u, r, e)
		if err != nil {
			return nil, err
		}
		for _, v := range w.units[u].victims {
			v.inside, v.outside = 0, 0
		}
		return &rewriting{w: w, u: w.units[u], Machine: m, random: e, links: map[broadcast.Link]*rewrittenLink{}}, nil
	}
}

// rewriting is one life of a channel. It implements broadcast.Machine.
type rewriting struct {
	broadcast.Machine
	w      *Rewriter
	u      *rewrittenUnit
	random io.Reader
	links  map[broadcast.Link]*rewrittenLink
	out    []broadcast.Send // of the wrapper's own
}

type rewrittenLink struct {
	place  Place
	victim *victim
	nonce  proto.Nonce
	reads  bool            // it opened a mailbox
	told   []proto.Message // who it may be: Hello, Open
}

// Step implements broadcast.Machine.
func (m *rewriting) Step(now time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Up:
		m.links[in.Link] = &rewrittenLink{place: Place{Relay: m.w.Key.Public(), Link: in.Link}}
	case broadcast.Down:
		l := m.links[in.Link]
		if l != nil && l.victim != nil && l.victim.forked && l.reads {
			v := l.victim
			if v.outside == in.Link {
				v.outside = 0
			}
			if v.inside == 0 || v.inside == in.Link {
				v.inside = in.Link
				return nil // inside, the link still stands
			}
		}
		delete(m.links, in.Link)
	case broadcast.Received:
		l := m.links[in.Link]
		msg, err := proto.Parse(in.Frame)
		if l == nil || err != nil {
			break
		}
		m.heard(l, msg)
		if v := l.victim; v != nil && v.forked {
			switch msg := msg.(type) {
			case proto.Open:
				if v.inside == 0 {
					break
				}
				l.reads, v.outside = true, in.Link
				m.reopened(l, msg)
				return nil
			case proto.Ack, proto.Fetch:
				return nil // its numbers are not the log's
			}
		}
	}
	return m.Machine.Step(now, in)
}

func (m *rewriting) heard(l *rewrittenLink, msg proto.Message) {
	var digest wire.Digest
	switch msg := msg.(type) {
	case proto.Hello:
		l.place.Channel = msg.Channel
	case proto.Open:
		l.reads = true
	case proto.Post:
		digest = msg.Digest()
	case proto.PostDigest:
		digest = msg.Digest()
	case proto.BoardPut:
		digest = msg.Digest()
	case proto.Admit:
		digest = msg.Digest()
	}
	switch msg.(type) {
	case proto.Hello, proto.Open:
		l.told = append(l.told, msg)
	}
	m.identify(l, msg)
	if l.victim != nil && digest != (wire.Digest{}) {
		l.victim.posted[digest] = true
	}
}

// identify asks whose link it is, until that is known.
func (m *rewriting) identify(l *rewrittenLink, msg proto.Message) {
	if l.victim != nil || m.w.Victim == nil {
		return
	}
	name := m.w.Victim(l.place, msg)
	if name == "" {
		return
	}
	if m.u.victims[name] == nil {
		m.u.victims[name] = &victim{own: map[uint64]shown{}, bare: map[uint64]proto.Bare{}, byDigest: map[wire.Digest]crossverify.Statement{}, posted: map[wire.Digest]bool{}}
	}
	l.victim = m.u.victims[name]
}

// Ready implements broadcast.Machine.
func (m *rewriting) Ready() broadcast.Ready {
	r := m.Machine.Ready()
	m.learn(r.Now)
	m.learn(r.Sends)
	r.Now, r.Sends = append(m.out, m.rewrite(r.Now)...), m.rewrite(r.Sends)
	m.out = nil
	return r
}

// learn remembers every true statement that leaves.
func (m *rewriting) learn(sends []broadcast.Send) {
	for _, s := range sends {
		msg, err := proto.Parse(s.Frame)
		if err != nil {
			continue
		}
		switch msg := msg.(type) {
		case proto.Receipt:
			m.u.know(msg.Statement)
		case proto.Registered:
			m.u.know(msg.Statement)
		case proto.Opened:
			m.u.know(msg.Statement)
		case proto.BoardPage:
			m.u.know(msg.Statement)
		case proto.BoardNodes:
			m.u.know(msg.Statement)
		}
	}
}

func (u *rewrittenUnit) know(s crossverify.Statement) {
	if s.Lineage != u.lineage { // the relay lost data: forks of the old life are over
		u.lineage = s.Lineage
		clear(u.truth)
		for _, v := range u.victims {
			*v = victim{own: map[uint64]shown{}, bare: map[uint64]proto.Bare{}, byDigest: map[wire.Digest]crossverify.Statement{}, posted: v.posted}
		}
	}
	u.truth[s.N] = s
}

func (m *rewriting) rewrite(sends []broadcast.Send) []broadcast.Send {
	var out []broadcast.Send
	for _, s := range sends {
		l := m.links[s.Link]
		msg, err := proto.Parse(s.Frame)
		if w, ok := msg.(proto.Welcome); ok && l != nil {
			l.nonce = w.Nonce
		}
		if l != nil && l.victim == nil { // a victim may be named while its link stands
			for _, told := range l.told {
				m.identify(l, told)
			}
		}
		if err != nil || l == nil || l.victim == nil {
			out = append(out, s)
			continue
		}
		to := s.Link
		if to == l.victim.inside {
			to = l.victim.outside
		}
		answers := m.answer(l, msg)
		for i, a := range answers {
			if to != 0 {
				out = append(out, broadcast.Send{Link: to, Frame: proto.Encode(a), Close: s.Close && i == len(answers)-1})
			}
		}
		out = append(out, m.release(l.victim)...)
	}
	return out
}

// answer is what a victim gets instead of msg.
func (m *rewriting) answer(l *rewrittenLink, msg proto.Message) []proto.Message {
	v := l.victim
	swap := func(s *crossverify.Statement) {
		if o, ok := v.own[s.N]; v.forked && ok {
			*s = o.st
		}
	}
	switch msg := msg.(type) {
	case proto.Deliver, proto.DeliverDigest, proto.Bare, proto.Entry:
		return m.entry(l, msg)
	case proto.CaughtUp:
		if v.forked {
			msg.N = v.n
		}
		return []proto.Message{msg}
	case proto.StatementIs:
		swap(&msg.Statement)
		return []proto.Message{msg}
	case proto.BoardPage:
		swap(&msg.Statement)
		return []proto.Message{msg}
	case proto.BoardNodes:
		swap(&msg.Statement)
		return []proto.Message{msg}
	case proto.Receipt:
		if !v.forked {
			return []proto.Message{msg}
		}
		v.receipts = append(v.receipts, heldReceipt{l.place.Link, msg})
		return nil
	}
	return []proto.Message{msg}
}

// reopened answers a forked victim's Open for its own chain, and shows again
// what followed the place the victim read up to.
func (m *rewriting) reopened(l *rewrittenLink, msg proto.Open) {
	v := l.victim
	st := v.own[v.n].st
	var was crossverify.Position
	if msg.Known != nil {
		was = msg.Known.Position()
	}
	say := func(a proto.Message) {
		m.out = append(m.out, broadcast.Send{Link: l.place.Link, Frame: proto.Encode(a)})
	}
	say(proto.OpenedFrame(st, crossverify.SignOpened(m.w.Key, st.Channel, l.nonce, was, st.Lineage, st.N, st.H), 0))
	for n := msg.After + 1; n <= v.n; n++ {
		if s := v.own[n]; s.m != nil {
			say(s.m)
		}
	}
	say(proto.CaughtUp{N: v.n})
}

// release gives the receipts whose entry stands in the victim's chain by now.
func (m *rewriting) release(v *victim) (out []broadcast.Send) {
	rest := v.receipts[:0]
	for _, r := range v.receipts {
		st, ok := v.byDigest[r.m.Statement.D]
		if !ok {
			rest = append(rest, r)
			continue
		}
		out = append(out, broadcast.Send{Link: r.link, Frame: proto.Encode(proto.Receipt{PostID: r.m.PostID, Statement: st})})
	}
	v.receipts = rest
	return out
}

// entry lies about one number, and continues the victim's chain.
func (m *rewriting) entry(l *rewrittenLink, msg proto.Message) []proto.Message {
	v := l.victim
	n, d := numberOf(msg), digestOf(msg)
	switch {
	case v.forked && n <= v.done:
		return nil // shown already, under whatever number
	case !v.forked && n <= v.done && !m.w.Clumsy:
		if as, lied := v.bare[n]; lied && m.w.Stubborn && m.w.Lie != nil { // asked once more, it says the same
			return []proto.Message{as}
		}
		return []proto.Message{msg}
	}
	answers := []proto.Message{msg}
	if m.w.Lie != nil && !v.posted[d] {
		answers = m.w.Lie(msg, m.random)
	}
	if m.w.Clumsy {
		return answers
	}
	v.done = n
	if !v.forked {
		if len(answers) == 1 && digestOf(answers[0]) == d && rootOf(answers[0]) == rootOf(msg) {
			answers[0] = numbered(answers[0], n, signatureOf(msg)) // it still holds
			if as, bare := answers[0].(proto.Bare); bare {
				v.bare[n] = as
			}
			return answers
		}
		before, known := m.u.truth[n-1]
		if !known {
			return []proto.Message{msg} // a chain that is not known cannot be continued
		}
		v.forked, v.n, v.h = true, n-1, before.H
		v.own[v.n] = shown{st: before}
	}
	for i, a := range answers {
		v.n++
		a, st := m.sign(l.place.Channel, v.n, v.h, a)
		answers[i] = a
		v.h = st.H
		v.own[v.n] = shown{a, st}
		v.byDigest[st.D] = st
	}
	return answers
}

// sign gives an entry its number and the statement that goes with it.
func (m *rewriting) sign(channel wire.ChannelID, n uint64, before wire.Digest, msg proto.Message) (proto.Message, crossverify.Statement) {
	d, root := digestOf(msg), rootOf(msg)
	st := crossverify.SignStatement(m.w.Key, channel, m.u.lineage, n, d, crossverify.ChainNext(before, n, d, root), root)
	return numbered(msg, n, st.Signature), st
}

// numbered is the entry under a number and its statement's signature.
func numbered(m proto.Message, n uint64, sig proto.Signature) proto.Message {
	switch m := m.(type) {
	case proto.Deliver:
		m.N, m.Signature = n, sig
		return m
	case proto.DeliverDigest:
		m.N, m.Signature = n, sig
		return m
	case proto.Bare:
		m.N, m.Signature = n, sig
		return m
	case proto.Entry:
		m.N, m.Signature = n, sig
		return m
	}
	return m
}

func signatureOf(m proto.Message) proto.Signature {
	switch m := m.(type) {
	case proto.Deliver:
		return m.Signature
	case proto.DeliverDigest:
		return m.Signature
	case proto.Bare:
		return m.Signature
	case proto.Entry:
		return m.Signature
	}
	return proto.Signature{}
}

func numberOf(m proto.Message) uint64 {
	switch m := m.(type) {
	case proto.Deliver:
		return m.N
	case proto.DeliverDigest:
		return m.N
	case proto.Bare:
		return m.N
	case proto.Entry:
		return m.N
	}
	return 0
}

func digestOf(m proto.Message) wire.Digest {
	switch m := m.(type) {
	case proto.Deliver:
		return m.Digest()
	case proto.DeliverDigest:
		return m.Digest()
	case proto.Bare:
		return m.D
	case proto.Entry:
		return m.Digest()
	}
	return wire.Digest{}
}

func rootOf(m proto.Message) wire.Digest {
	switch m := m.(type) {
	case proto.Deliver:
		return m.Root
	case proto.DeliverDigest:
		return m.Root
	case proto.Bare:
		return m.Root
	case proto.Entry:
		return m.Root
	}
	return wire.Digest{}
}
