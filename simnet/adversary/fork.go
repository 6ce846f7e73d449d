package adversary

import (
	"fmt"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// Side is one of the two machines of a Fork.
type Side uint8

const (
	Undecided Side = iota // not known yet: shown the truth
	Truth                 // the machine over the relay's own store
	Forked                // the machine over a private one
)

// Fork is a relay that keeps two logs of one channel under one key, and under one
// lineage unless Life says otherwise. The links that Choose gives to Forked see the second one; everything
// written on either side is copied to the other, as far as Pass lets it. The
// zero value with Relay set is honest until Arm.
type Fork struct {
	Relay keys.RelayPublic
	// Choose tells which side a link belongs to, from a frame that came on it;
	// it is asked with every frame until it decides, from Arm on. Two links of
	// one member may be told apart only by who calls: a post link names no
	// mailbox.
	Choose func(Place, proto.Message) Side
	// Pass tells what the other side gets of what is written on one: the same
	// message, another one, or nil for nothing. Messages are proto.Post, proto.PostDigest,
	// proto.BoardPut, proto.Admit, proto.Grant and proto.Rotate. A nil Pass copies all.
	Pass func(to Side, from Place, m proto.Message) proto.Message
	// FromBirth forks the log right behind the channel's creation: what was
	// written until Arm is copied through Pass too, so that what stood on the
	// board for long can be hidden from who comes later. Otherwise the two
	// logs are the same up to Arm.
	FromBirth bool
	Life      Life

	armed bool
	units map[store.Unit]*forkedUnit
}

// forkedUnit is one channel, over all lives of the process.
type forkedUnit struct {
	birth   *memory.Store // nil: the channel does not exist yet
	private *memory.Store // nil: not forked yet
	history []contribution
	create  *contribution // nil: it was not seen
	lists   map[wire.Digest][]wire.MailboxID
	hello   broadcast.Frame // what greets for copies
	channel wire.ChannelID
}

// contribution is something that was written, and where.
type contribution struct {
	from Place
	m    proto.Message
}

// Arm begins the lie.
func (f *Fork) Arm() { f.armed = true }

// Written is what was written to a channel so far, oldest first: a coalition
// keeps it, armed or not.
func (f *Fork) Written(u store.Unit) []proto.Message {
	var out []proto.Message
	if unit := f.units[u]; unit != nil {
		for _, c := range unit.history {
			out = append(out, c.m)
		}
	}
	return out
}

// Wrap returns the dishonest way to open machines.
func (f *Fork) Wrap(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		if f.units == nil {
			f.units = map[store.Unit]*forkedUnit{}
		}
		if f.units[u] == nil {
			f.units[u] = &forkedUnit{lists: map[wire.Digest][]wire.MailboxID{}}
		}
		m := &forked{
			fork: f, forkedUnit: f.units[u], unit: u, open: open, reader: r,
			entropy: &source{Entropy: e}, links: map[broadcast.Link]*forkedLink{},
		}
		var err error
		if m.truth, err = open(u, r, m.entropy); err != nil {
			return nil, err
		}
		if m.private != nil {
			m.lie, err = openInner(open, u, m.private, e)
		}
		return m, err
	}
}

// ghost is the link on which copies of what others wrote are handed over. No
// driver counts that far.
const ghost broadcast.Link = 1 << 63

// forked is one life of a forked channel. It implements broadcast.Machine.
type forked struct {
	*forkedUnit
	fork    *Fork
	unit    store.Unit
	open    broadcast.Open
	reader  store.Reader
	entropy *source
	truth   broadcast.Machine
	lie     *inner // nil: not forked yet
	links   map[broadcast.Link]*forkedLink
	order   []broadcast.Link // of links, as they came
	out     []broadcast.Send
	greeted [Forked + 1]bool // the ghost's Hello was said
}

type forkedLink struct {
	side  Side
	place Place
	nonce proto.Nonce
	told  []proto.Message // who it may be: Hello, Open
	both  bool            // the private machine knows the link too
}

// Step implements broadcast.Machine.
func (m *forked) Step(now time.Time, in broadcast.Input) error {
	if err := m.arm(now); err != nil {
		return err
	}
	switch in := in.(type) {
	case broadcast.Up:
		l := &forkedLink{place: Place{Relay: m.fork.Relay, Link: in.Link}, both: m.lie != nil}
		draw(m.entropy, l.nonce[:])
		m.links[in.Link] = l
		m.order = append(m.order, in.Link)
		return m.greet(now, l, in)
	case broadcast.Down:
		l := m.links[in.Link]
		delete(m.links, in.Link)
		if l != nil && l.both {
			if err := m.step(now, in); err != nil {
				return err
			}
		}
		return m.truth.Step(now, in)
	case broadcast.Received:
		if l := m.links[in.Link]; l != nil {
			return m.received(now, l, in)
		}
	case broadcast.Applied:
		err := m.truth.Step(now, in)
		if m.birth == nil && err == nil {
			m.birth, err = copyUnit(m.unit, m.reader)
		}
		return err
	}
	return m.truth.Step(now, in)
}

// greet hands Up or Hello to both machines, which answer with one nonce.
func (m *forked) greet(now time.Time, l *forkedLink, in broadcast.Input) (err error) {
	m.entropy.with(l.nonce, func() { err = m.truth.Step(now, in) })
	if l.both && err == nil {
		m.lie.entropy.with(l.nonce, func() { err = m.lie.step(now, in) })
		m.collect()
	}
	return err
}

func (m *forked) received(now time.Time, l *forkedLink, in broadcast.Received) error {
	msg, err := proto.Parse(in.Frame)
	if err != nil {
		return m.truth.Step(now, in)
	}
	switch x := msg.(type) {
	case proto.Hello:
		l.place.Channel, m.channel, m.hello = x.Channel, x.Channel, in.Frame
		l.told = append(l.told, msg)
		m.choose(l, msg)
		return m.greet(now, l, in)
	case proto.Open:
		l.told = append(l.told, msg)
	case proto.Post:
		if len(x.Mailboxes) > 0 {
			m.lists[x.Fanout] = x.Mailboxes
		}
	}
	m.choose(l, msg)
	m.created(l.place, msg)
	if written(msg) {
		c := contribution{l.place, msg}
		m.history = append(m.history, c)
		if err := m.copyOver(now, l.side, c); err != nil {
			return err
		}
	}
	switch {
	case l.side != Forked:
		return m.truth.Step(now, in)
	case !l.both: // it spoke to the truth before: it has to come again
		return m.hangUp(now, in.Link)
	}
	return m.step(now, in)
}

// written tells whether m adds to the log of who gets it.
func written(m proto.Message) bool {
	switch m.(type) {
	case proto.Post, proto.PostDigest, proto.BoardPut, proto.Admit, proto.Grant, proto.Rotate:
		return true
	}
	return false
}

func (m *forked) choose(l *forkedLink, msg proto.Message) {
	if m.lie != nil && l.side == Undecided && m.fork.Choose != nil {
		l.side = m.fork.Choose(l.place, msg)
	}
}

// copyOver gives the other side what was written on one.
func (m *forked) copyOver(now time.Time, side Side, c contribution) error {
	if m.lie == nil {
		return nil
	}
	to := Forked
	if side == Forked {
		to = Truth
	}
	return m.hand(now, to, c)
}

func (m *forked) hand(now time.Time, to Side, c contribution) error {
	msg := c.m
	if m.fork.Pass != nil {
		if msg = m.fork.Pass(to, c.from, msg); msg == nil {
			return nil
		}
	}
	if p, ok := msg.(proto.Post); ok && len(p.Mailboxes) == 0 {
		p.Mailboxes = m.lists[p.Fanout]
		msg = p
	}
	step := m.step
	if to == Truth {
		step = m.truth.Step
	}
	if !m.greeted[to] {
		m.greeted[to] = true
		if err := step(now, broadcast.Up{Link: ghost}); err != nil {
			return err
		}
		if err := step(now, broadcast.Received{Link: ghost, Frame: m.hello}); err != nil {
			return err
		}
	}
	return step(now, broadcast.Received{Link: ghost, Frame: proto.Encode(msg)})
}

// step hands an input to the private machine.
func (m *forked) step(now time.Time, in broadcast.Input) error {
	err := m.lie.step(now, in)
	m.collect()
	return err
}

// collect takes what the private machine sends to those who see it.
func (m *forked) collect() {
	for _, s := range m.lie.out {
		if l := m.links[s.Link]; l != nil && l.side == Forked {
			m.out = append(m.out, s)
		}
	}
	m.lie.out = nil
}

// arm forks the log as soon as it is wanted and there is one.
func (m *forked) arm(now time.Time) (err error) {
	if !m.fork.armed || m.lie != nil || m.birth == nil {
		return nil
	}
	if m.fork.FromBirth {
		m.private = m.birth.Snapshot()
	} else if m.private, err = copyUnit(m.unit, m.reader); err != nil {
		return err
	}
	if err := m.revive(); err != nil {
		return fmt.Errorf("adversary: the fork begins no life: %w", err)
	}
	if m.lie, err = openInner(m.open, m.unit, m.private, m.entropy.Entropy); err != nil {
		return fmt.Errorf("adversary: the fork does not open: %w", err)
	}
	if err := m.born(now); err != nil {
		return err
	}
	if m.fork.FromBirth || m.fork.Life == TwinLife {
		for _, c := range m.history {
			if err := m.hand(now, Forked, c); err != nil {
				return err
			}
		}
	}
	for _, id := range m.order {
		l := m.links[id]
		if l == nil {
			continue
		}
		for _, msg := range l.told {
			m.choose(l, msg)
		}
		if l.side == Forked {
			if err := m.hangUp(now, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// hangUp ends a link, so that its owner comes again and meets the fork.
func (m *forked) hangUp(now time.Time, id broadcast.Link) error {
	delete(m.links, id)
	m.out = append(m.out, broadcast.Send{Link: id, Close: true})
	return m.truth.Step(now, broadcast.Down{Link: id})
}

// Tick implements broadcast.Machine.
func (m *forked) Tick(now time.Time) {
	m.truth.Tick(now)
	if m.lie != nil {
		if err := m.lie.tick(now); err != nil {
			panic(err) // the private store is memory: a defect of this package
		}
		m.collect()
	}
}

// Ready implements broadcast.Machine: the truth's, without what is not for
// eyes that see the fork, and what the fork sends.
func (m *forked) Ready() broadcast.Ready {
	r := m.truth.Ready()
	r.Sends = m.visible(r.Sends)
	r.Now = append(m.visible(r.Now), m.out...)
	m.out = nil
	if m.lie != nil && !m.lie.wake.IsZero() && (r.Wake.IsZero() || m.lie.wake.Before(r.Wake)) {
		r.Wake = m.lie.wake
	}
	return r
}

func (m *forked) visible(sends []broadcast.Send) []broadcast.Send {
	out := sends[:0:0]
	for _, s := range sends {
		if l := m.links[s.Link]; s.Link != ghost && (l == nil || l.side != Forked) {
			out = append(out, s)
		}
	}
	return out
}

var _ broadcast.Machine = (*forked)(nil)
