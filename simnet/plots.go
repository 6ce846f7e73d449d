package simnet

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
	"parallax/simnet/adversary"
)

// secrets is what a coalition reads in the log of one of its relays with the
// invitation in hand.
type secrets struct {
	adversary.Insider
	link          *member.Invitation
	announcements map[string]*member.Announcement // newest, by display name
	next          map[wire.Seat]uint64            // sequence of a seat's next bundle
}

// readLog makes a coalition read what was written to one of its relays, with the keys
// that an insider handed over, or else with those in the welcome.
func (s *Scenario) readLog(r *Relay) (*secrets, error) {
	inv, err := member.ParseLink(s.Link)
	if err != nil {
		return nil, err
	}
	x := &secrets{link: inv, announcements: map[string]*member.Announcement{}, next: map[wire.Seat]uint64{}}
	x.Relay, x.Group, x.Door, x.Channels = r.Key.Public(), inv.Group, &inv.Door, &inv.Channels
	x.Epoch = s.handed()
	for _, m := range r.Fork.Written(relay.Unit(inv.Channel(x.Relay))) {
		x.entry(m)
		if h, ok := x.Header(m); ok {
			x.next[h.Seat] = max(x.next[h.Seat], h.Sequence+1)
		}
	}
	return x, nil
}

// entry opens a board write, and takes epoch keys and announcements as they
// pass.
func (x *secrets) entry(m proto.Message) (name string, value []byte, ok bool) {
	name, value, ok = x.Entry(m)
	switch kind, _, _ := strings.Cut(name, "/"); kind {
	case "welcome":
		if w, err := member.ParseWelcome(value); err == nil && len(x.Epoch) == 0 {
			for j := range w.Epochs {
				x.Epoch = append(x.Epoch, &w.Epochs[j].Key)
			}
		}
	case "announcement":
		if a, err := member.ParseAnnouncement(value); err == nil {
			x.announcements[a.Name] = a
		}
	}
	return name, value, ok
}

// shownTo chooses the fork for everything that one member dials, and that its
// witnesses do: insiders who see what it sees, and vouch for it in their views.
func (s *Scenario) shownTo(victim string) func(adversary.Place, proto.Message) adversary.Side {
	return func(at adversary.Place, _ proto.Message) adversary.Side {
		if c := s.Caller(at.Link); c == victim || s.Witnesses[c] {
			return adversary.Forked
		}
		return adversary.Truth
	}
}

// Board makes a relay show victim, from its registration on, a board on which
// entries are as change makes them: it gets an entry's name and value and
// answers with what the victim is shown, nil for nothing.
func (s *Scenario) Board(r *Relay, victim string, change func(x *secrets, name string, value []byte, version uint64) []byte) error {
	x, err := s.readLog(r)
	if err != nil {
		return err
	}
	s.lies(r)
	var owner keys.OwnerPrivate
	owner.FromSeed(s.Seed("coalition", "owner"))
	channel := x.link.Channel(x.Relay)
	again := func(put proto.BoardPut, name string, value []byte, capability keys.PostingPrivate) proto.BoardPut {
		key := x.Doors()
		if strings.HasPrefix(name, "a") { // announcement, admission
			key = x.Shelf(x.Epoch[0])
		}
		put = x.Replace(put, channel, key, name, value, owner)
		put.Sign(capability, x.Relay, channel)
		return put
	}
	r.Fork.FromBirth = true
	r.Fork.Choose = s.shownTo(victim)
	r.Fork.Pass = func(to adversary.Side, _ adversary.Place, m proto.Message) proto.Message {
		name, value, ok := x.entry(m)
		if to != adversary.Forked || !ok {
			return m
		}
		switch put := m.(type) {
		case proto.BoardPut:
			if shown := change(x, name, value, put.Version); shown == nil {
				return nil
			} else if !bytes.Equal(shown, value) {
				return again(put, name, shown, member.PostingKey(x.Epoch[0], x.Relay))
			}
		case proto.Admit:
			if shown := change(x, name, value, put.Version); shown == nil {
				return nil
			} else if !bytes.Equal(shown, value) {
				return proto.Admit{BoardPut: again(put.BoardPut, name, shown, x.link.InvitePosting(x.Relay))}
			}
		}
		return m
	}
	r.Fork.Arm()
	return nil
}

// Shorten makes a relay show victim a welcome whose genesis lists that relay
// alone.
func (s *Scenario) Shorten(r *Relay, victim string) error {
	return s.Board(r, victim, func(x *secrets, name string, value []byte, _ uint64) []byte {
		if !strings.HasPrefix(name, "welcome/") {
			return value
		}
		w, err := member.ParseWelcome(value)
		if err != nil {
			return value
		}
		g, err := member.ParseGenesis(w.Genesis)
		if err != nil {
			return value
		}
		for _, ref := range g.Relays {
			if ref.Key == x.Relay {
				g.Relays = []member.RelayRef{ref}
				w.Genesis = g.Append(nil)
				return w.Append(nil)
			}
		}
		return value
	})
}

// Conflict makes a relay show victim another admission of a member, as whoever
// holds the link can sign it: for an announcement that nobody made.
func (s *Scenario) Conflict(r *Relay, victim, about string) error {
	return s.Board(r, victim, func(x *secrets, name string, value []byte, _ uint64) []byte {
		a, err := member.ParseAdmission(value)
		of := x.announcements[about]
		if !strings.HasPrefix(name, "admission/") || err != nil || of == nil || a.Seat != of.Seat {
			return value
		}
		a.Announcement[0] ^= 1
		a.Sign(x.link.InviteKey())
		return a.Append(nil)
	})
}

// Stale makes a relay show victim the first version of every board entry.
func (s *Scenario) Stale(r *Relay, victim string) error {
	return s.Board(r, victim, func(_ *secrets, _ string, value []byte, version uint64) []byte {
		if version > 1 {
			return nil
		}
		return value
	})
}

// NoReceipt makes a relay keep the receipts for what a member posts.
func (s *Scenario) NoReceipt(r *Relay, victim string) {
	s.lies(r)
	r.Gate.Keep = func(at adversary.Place, m proto.Message) bool {
		_, receipt := m.(proto.Receipt)
		return receipt && s.Caller(at.Link) == victim
	}
}

// Forge posts, to every relay given, an envelope under the number that a
// member's next bundle will have, with slots that nobody can open. The
// coalition needs a relay to read and an epoch key, no more: it posts to honest
// relays as anybody in the group can.
func (s *Scenario) Forge(reader *Relay, to []*Relay, from, text string) error {
	return s.forge(reader, to, from, member.Content{Kind: member.KindText, Body: []byte(text)}, broadcast.Standing)
}

// Greet does the same with a hello: slots that would begin sessions.
func (s *Scenario) Greet(reader *Relay, to []*Relay, from string) error {
	return s.forge(reader, to, from, member.Content{Kind: member.KindHello}, broadcast.FirstContact)
}

func (s *Scenario) forge(reader *Relay, to []*Relay, from string, c member.Content, class broadcast.Class) error {
	x, err := s.readLog(reader)
	if err != nil {
		return err
	}
	victim := x.announcements[from]
	if victim == nil {
		return fmt.Errorf("%w: the coalition knows nobody called %q", ErrDirective, from)
	}
	s.lies(reader)
	s.forged++
	name := fmt.Sprintf("forger%d", s.forged)
	random := stream(s.cfg.Seed, name)
	var content keys.ContentKey
	if err := content.Draw(random); err != nil {
		return err
	}
	c.Sent = s.cfg.Start
	h := broadcast.Header{Epoch: member.FirstEpoch, Seat: victim.Seat, Incarnation: victim.Incarnation, Sequence: max(1, x.next[victim.Seat])}
	envelope, _, err := broadcast.SealEnvelope(x.Group, x.Epoch[0], h, &content, c.Append(nil))
	if err != nil {
		return err
	}
	var postings []adversary.Posting
	for _, r := range to {
		at := r.Key.Public()
		var boxes []wire.MailboxID
		for _, a := range x.announcements {
			for _, b := range a.Mailboxes {
				if b.Relay == at {
					boxes = append(boxes, b.ID)
				}
			}
		}
		broadcast.SortFanout(boxes)
		insider := x.Insider
		insider.Relay = at
		p := insider.Forge(envelope, boxes, class, random)
		p.Sign(member.PostingKey(x.Epoch[0], at), at, x.link.Channel(at), p.Digest())
		postings = append(postings, adversary.Posting{Relay: at, Channel: x.link.Channel(at), Post: p})
	}
	unit := s.Seed(name, "unit")
	s.World.AddMember(name, adversary.OpenPoster(postings), store.Unit(unit[:16]))
	return nil
}

// Announce posts, to every relay given, digests of envelopes that do not exist:
// the same ones to all. The coalition needs a relay to read and an epoch key.
func (s *Scenario) Announce(reader *Relay, to []*Relay, count int) error {
	x, err := s.readLog(reader)
	if err != nil {
		return err
	}
	s.lies(reader)
	for range count {
		s.forged++
		name := fmt.Sprintf("forger%d", s.forged)
		random := stream(s.cfg.Seed, name)
		var d wire.Digest
		random.Read(d[:])
		var postings []adversary.Posting
		for _, r := range to {
			insider := x.Insider
			insider.Relay = r.Key.Public()
			p := insider.Announce(d, random)
			p.Sign(member.PostingKey(x.Epoch[0], insider.Relay), insider.Relay, x.link.Channel(insider.Relay), p.Digest())
			postings = append(postings, adversary.Posting{Relay: insider.Relay, Channel: x.link.Channel(insider.Relay), Post: p})
		}
		unit := s.Seed(name, "unit")
		s.World.AddMember(name, adversary.OpenPoster(postings), store.Unit(unit[:16]))
	}
	return nil
}

// AddInsider adds the process of a dishonest member; one that accuses a relay
// says of it in every message what it never signed.
func (s *Scenario) AddInsider(name string, accused *Relay) *Node {
	s.Foes[name] = true
	if accused == nil {
		return s.AddMember(name)
	}
	w := &adversary.Misread{Relay: accused.Key.Public()}
	cfg := s.Member
	cfg.Verify = w.Verify(s.Verify)
	return s.addMember(name, w.Wrap(member.Open(cfg)))
}

// lies notes that a relay was told to lie, and when the first was.
func (s *Scenario) lies(r *Relay) {
	if len(s.liars) == 0 {
		s.begun = s.Elapsed()
	}
	s.liars[r.name] = true
}

// alarm is the first thing that a member was told of a lie.
type alarm struct {
	after time.Duration // the beginning of the lies
	kind  member.EventKind
}

// alarms are those of a member that was told anything but messages and who
// joined; by the date of its own clock.
func (s *Scenario) alarm(n *Node) (a alarm, found bool, err error) {
	events, err := s.History(n, 0)
	for _, e := range events {
		switch e.Kind {
		case member.EventDispute, member.EventRelay, member.EventEvidence, member.EventBlame:
			return alarm{e.Time.Sub(s.cfg.Start.Add(s.begun)), e.Kind}, true, err
		}
	}
	return a, false, err
}
