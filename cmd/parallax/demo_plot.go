package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
	"parallax/simnet/adversary"
)

// demoPlot is the plan that all lying relays share. They hold what every
// holder of the link has: the door opens the welcome on the board, the welcome
// has the epoch key, and that unmasks boards and headers of bundles. Content
// stays closed to them.
type demoPlot struct {
	hide  string // name of the member that they hide
	forge string // name of the member for whose seat they show a second key
	begun atomic.Bool

	mu       sync.Mutex // the rest
	link     *member.Invitation
	epochs   []member.Epoch
	known    map[wire.Seat]bool          // seats that were there before
	hidden   wire.Seat                   // the true seat
	planted  wire.Seat                   // theirs
	victim   wire.Seat                   // the newcomer's
	planting *member.Announcement        // of planted
	admitted map[keys.RelayPublic]bool   // relays that admitted planted
	old      map[keys.MailboxPublic]bool // registered before the lie
	boxes    map[wire.MailboxID]bool     // registered since: they see the fork
	lists    map[wire.Digest][]wire.MailboxID
	alter    wire.Seat           // whose messages are altered for the victim; zero: nobody's
	altered  int                 // how many were
	readable map[uint64]bool     // the victim's bundles that have a slot for planted
	second   keys.SigningPrivate // the second key for one seat
	forged   int
}

func newDemoPlot(hide, forge string) *demoPlot {
	p := &demoPlot{hide: hide, forge: forge, known: map[wire.Seat]bool{}, admitted: map[keys.RelayPublic]bool{},
		old: map[keys.MailboxPublic]bool{}, boxes: map[wire.MailboxID]bool{}, lists: map[wire.Digest][]wire.MailboxID{}, readable: map[uint64]bool{}}
	if err := p.second.Draw(rand.Reader); err != nil {
		panic("demo: entropy: " + err.Error())
	}
	return p
}

// begin starts the lie; the relays hold the link by now, as anybody may.
func (p *demoPlot) begin(link string) error {
	inv, err := member.ParseLink(link)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.link = inv
	p.mu.Unlock()
	p.begun.Store(true)
	return nil
}

// wrap makes a relay follow the plan.
func (p *demoPlot) wrap(relay keys.RelayPublic, open broadcast.Open) broadcast.Open {
	fork := &adversary.Fork{Relay: relay, Choose: p.choose, Pass: p.pass, FromBirth: true}
	forked := fork.Wrap(open)
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := forked(u, r, e)
		if err != nil {
			return nil, err
		}
		return &demoCue{m, p, fork, false}, nil
	}
}

// demoCue gives a fork its cue in the loop that owns the machine.
type demoCue struct {
	broadcast.Machine
	plot  *demoPlot
	fork  *adversary.Fork
	armed bool
}

// Step implements broadcast.Machine.
func (c *demoCue) Step(now time.Time, in broadcast.Input) error {
	if !c.armed {
		if c.plot.begun.Load() {
			c.armed = true
			c.fork.Arm()
		} else if r, ok := in.(broadcast.Received); ok && r.Frame.Type == proto.TypeRegister {
			if msg, err := proto.Parse(r.Frame); err == nil {
				c.plot.mu.Lock()
				c.plot.old[msg.(proto.Register).Mailbox] = true
				c.plot.mu.Unlock()
			}
		}
	}
	return c.Machine.Step(now, in)
}

// choose shows the fork to whoever came after the lie began: the newcomer and
// the false seat.
func (p *demoPlot) choose(at adversary.Place, msg proto.Message) adversary.Side {
	p.mu.Lock()
	defer p.mu.Unlock()
	side := func(forked bool) adversary.Side {
		if forked {
			return adversary.Forked
		}
		return adversary.Truth
	}
	switch m := msg.(type) {
	case proto.Register:
		id := proto.MailboxOf(at.Relay, at.Channel, m.Mailbox)
		p.boxes[id] = !p.old[m.Mailbox]
		return side(p.boxes[id])
	case proto.Open:
		return side(p.boxes[m.Mailbox])
	case proto.BoardPut:
		if _, seat, _ := p.read(at.Relay, m); seat != (wire.Seat{}) {
			return side(!p.known[seat])
		}
	case proto.Admit:
		if _, seat, _ := p.read(at.Relay, m.BoardPut); seat != (wire.Seat{}) {
			return side(!p.known[seat])
		}
	case proto.Post:
		if h, ok := p.header(at.Relay, m); ok {
			return side(h.Seat == p.planted || h.Seat == p.victim)
		}
	}
	return adversary.Undecided
}

// pass copies what is written on one side to the other: without the hidden
// member's entries to the fork, without anything of the false seat to the
// truth.
func (p *demoPlot) pass(to adversary.Side, at adversary.Place, msg proto.Message) proto.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m := msg.(type) {
	case proto.BoardPut:
		return p.passEntry(to, at, m, msg)
	case proto.Admit:
		return p.passEntry(to, at, m.BoardPut, msg)
	case proto.Post:
		return p.passPost(to, at, m)
	}
	return msg
}

func (p *demoPlot) passEntry(to adversary.Side, at adversary.Place, put proto.BoardPut, msg proto.Message) proto.Message {
	kind, seat, value := p.read(at.Relay, put)
	if seat == (wire.Seat{}) {
		return msg
	}
	var ann *member.Announcement
	if kind == "announcement" {
		ann, _ = member.ParseAnnouncement(value)
	}
	if to == adversary.Forked {
		p.known[seat] = true
		switch {
		case ann != nil && ann.Name == p.hide:
			p.hidden = seat
		case ann != nil && ann.Name == p.forge:
			return p.secondKey(at, put, *ann)
		}
		if seat == p.hidden {
			return nil
		}
		return msg
	}
	switch {
	case ann != nil && ann.Name == p.hide:
		p.planted, p.planting = seat, ann
	case ann != nil:
		p.victim = seat
	}
	if seat != p.planted {
		return msg
	}
	if kind == "admission" {
		p.admitted[at.Relay] = true
	}
	return nil
}

// secondKey is what a forger without the seat's own key can do: another
// announcement for the same seat, under the same name on the board, signed by
// a key of its own.
func (p *demoPlot) secondKey(at adversary.Place, put proto.BoardPut, a member.Announcement) proto.Message {
	a.Signing = p.second.Public()
	a.Sign(p.second)
	e := &p.epochs[len(p.epochs)-1]
	put.Name, put.Value = broadcast.NewBoardKeys(e.Key.Expose(), at.Relay).Seal("announcement/"+a.Seat.String(), put.Version, a.Append(nil))
	put.SignOwner(new(keys.OwnerPrivate).FromSeed(p.second.Seed()), at.Relay, at.Channel)
	put.Sign(member.PostingKey(&e.Key, at.Relay), at.Relay, at.Channel)
	p.forged++
	return put
}

func (p *demoPlot) passPost(to adversary.Side, at adversary.Place, m proto.Post) proto.Message {
	if len(m.Mailboxes) > 0 {
		p.lists[m.Fanout] = m.Mailboxes
	}
	h, ok := p.header(at.Relay, m)
	switch {
	case !ok:
		return m
	case to == adversary.Truth && h.Seat == p.planted:
		return nil
	case to == adversary.Truth && h.Seat == p.victim && p.planting != nil:
		for _, b := range p.planting.Mailboxes {
			if b.Relay == at.Relay && slices.Contains(p.lists[m.Fanout], b.ID) {
				p.readable[h.Sequence] = true
			}
		}
	case to == adversary.Forked && h.Seat == p.alter && p.alter != wire.Seat{}:
		const ciphertext = broadcast.SealedHeaderSize + broadcast.CommitmentSize
		m.Envelope = bytes.Clone(m.Envelope)
		for i := range m.Envelope[ciphertext:] {
			m.Envelope[ciphertext+i] ^= 0x20
		}
		m.Sign(member.PostingKey(&p.epochs[len(p.epochs)-1].Key, at.Relay), at.Relay, at.Channel, m.Digest())
		p.altered++
	}
	return m
}

// read opens a board entry: its kind, the seat it is about and its value. The
// seat is zero for entries about none.
func (p *demoPlot) read(relay keys.RelayPublic, put proto.BoardPut) (kind string, seat wire.Seat, value []byte) {
	if p.epochs == nil {
		door := broadcast.NewBoardKeys(p.link.Door.Expose(), relay).Named(broadcast.NewBoardKeys(p.link.Channels.Expose(), relay))
		_, value, err := door.Open(put.Name, put.Version, put.Value)
		if w, e := member.ParseWelcome(value); err == nil && e == nil {
			p.epochs = w.Epochs
		}
	}
	for i := range p.epochs {
		name, value, err := broadcast.NewBoardKeys(p.epochs[i].Key.Expose(), relay).Open(put.Name, put.Version, put.Value)
		if err != nil {
			continue
		}
		kind, id, _ := strings.Cut(name, "/")
		if n, err := hex.Decode(seat[:], []byte(id)); err != nil || n != len(seat) {
			return "", wire.Seat{}, nil
		}
		return kind, seat, value
	}
	return "", wire.Seat{}, nil
}

// header reads who sent a bundle.
func (p *demoPlot) header(relay keys.RelayPublic, m proto.Post) (broadcast.Header, bool) {
	for i := range p.epochs {
		envelope := bytes.Clone(m.Envelope)
		broadcast.Mask(envelope, &p.epochs[i].Key, relay, m.Nonce, 0)
		if h, _, err := broadcast.ReadHeader(p.link.Group, &p.epochs[i].Key, envelope); err == nil {
			return h, true
		}
	}
	return broadcast.Header{}, false
}

// alterFrom alters what a seat sends from now on for the victim; zero: no more.
func (p *demoPlot) alterFrom(seat wire.Seat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alter = seat
}

// counts are how many relays admitted the false seat, how many messages were
// altered, and how many bundles of the newcomer have a slot for the false seat.
func (p *demoPlot) counts() (admitted, altered, readable int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.admitted), p.altered, len(p.readable)
}

// seats are the hidden seat and the false one, hex.
func (p *demoPlot) seats() (hidden, planted string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hidden.String(), p.planted.String()
}
