package simnet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
	"parallax/ratchet"
	"parallax/simnet/adversary"
)

// Kinds of records in a member's folder (docs/architecture.md, "What a member
// keeps"), as whoever runs its client can read and write them.
const (
	keptMeta     = 'm'
	keptCounters = 'c'
	keptSessions = 's' // seat 32
	keptVector   = 'v'
)

// folder is what an insider's own client keeps: its keys, and those of the group.
type folder struct {
	Signing, Owner, Incarnation, Announced []byte
	Epochs                                 []struct {
		Number uint64
		Key    []byte
	}
}

// folderOf reads a member's own folder.
func folderOf(n *Node) (*folder, error) {
	f := &folder{}
	raw, err := n.disk.Get(append(n.unit[:len(n.unit):len(n.unit)], keptMeta))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, err
	}
	if len(f.Signing) != keys.SeedSize || len(f.Owner) != keys.SeedSize || len(f.Epochs) == 0 || len(f.Epochs[0].Key) != keys.SeedSize {
		return nil, fmt.Errorf("%w: %s is no member", ErrDirective, n.name)
	}
	return f, nil
}

// handed are the epoch keys that an insider who is in the group hands to the
// coalition's relays, the first one first: with them they read headers and boards,
// and choose by seats what to show.
func (s *Scenario) handed() (list []*keys.EpochKey) {
	for _, n := range s.Members {
		if !s.Foes[n.name] || s.Planted[n.name] {
			continue
		}
		f, err := folderOf(n)
		if err != nil {
			continue // it is not in the group yet
		}
		for _, e := range f.Epochs {
			k := keys.NewSecret[keys.RoleEpoch]([32]byte(e.Key))
			list = append(list, &k)
		}
		s.deeds["keys"] = true
		return list
	}
	return nil
}

// said is an envelope of an insider that its client would not have sent.
type said struct {
	by          string
	seat        wire.Seat
	incarnation wire.Incarnation
	sequence    uint64
}

// Say makes an insider's client say anything, under its own number and with slots of
// its own sessions, to these relays alone: what it sends is its word, and no honest
// client would send it. Its process is stopped meanwhile, and goes on after that
// number. Who has no session with it that was answered gets a slot that does not open.
func (s *Scenario) Say(n *Node, to []*Relay, c *member.Content) error {
	x, err := s.readLog(to[0])
	if err != nil {
		return err
	}
	n.Stop()
	defer n.Start()
	f, err := folderOf(n)
	if err != nil {
		return err
	}
	own, err := member.ParseAnnouncement(f.Announced)
	if err != nil {
		return err
	}
	key := func(kind byte, rest ...byte) []byte {
		return append(append(n.unit[:len(n.unit):len(n.unit)], kind), rest...)
	}
	counters, err := n.disk.Get(key(keptCounters))
	if err != nil {
		return err
	}
	vector, err := n.disk.Get(key(keptVector))
	if err != nil {
		return err
	}
	counters, vector = bytes.Clone(counters), bytes.Clone(vector)
	previous := counters[len(counters)-32:]
	sequence := wire.NewReader(counters).U64() + 1
	s.forged++
	name := fmt.Sprintf("forger%d", s.forged)
	random := stream(s.cfg.Seed, name)
	var content keys.ContentKey
	if err := content.Draw(random); err != nil {
		return err
	}
	epoch := x.Epoch[len(x.Epoch)-1]
	c.Previous, c.Sent = wire.Digest(previous), s.cfg.Start.Add(s.Elapsed())
	h := broadcast.Header{Epoch: f.Epochs[len(f.Epochs)-1].Number, Seat: own.Seat, Incarnation: wire.Incarnation(f.Incarnation), Sequence: sequence}
	envelope, d, err := broadcast.SealEnvelope(x.Group, epoch, h, &content, c.Append(nil))
	if err != nil {
		return err
	}
	slots := map[wire.Seat][]byte{}
	for _, a := range x.announcements {
		slots[a.Seat] = make([]byte, broadcast.StandingSize)
		random.Read(slots[a.Seat])
		raw, err := n.disk.Get(key(keptSessions, a.Seat[:]...))
		if err != nil {
			continue
		}
		if session, at := sending(raw, vector, a.Incarnation); session != nil {
			chain, err := ratchet.ParseSendChain(vector[at : at+chainSize])
			if err != nil {
				return err
			}
			slots[a.Seat] = session.Seal(&chain, &content, d, nil)
			chain.Append(vector[: at : at+chainSize])
		}
	}
	var postings []adversary.Posting
	for _, r := range to {
		at := r.Key.Public()
		type place struct {
			box  wire.MailboxID
			slot []byte
		}
		var places []place
		for _, a := range x.announcements {
			for _, b := range a.Mailboxes {
				if b.Relay == at {
					places = append(places, place{b.ID, slots[a.Seat]})
				}
			}
		}
		slices.SortFunc(places, func(a, b place) int { return bytes.Compare(a.box[:], b.box[:]) })
		var boxes []wire.MailboxID
		var block []byte
		for _, p := range places {
			boxes, block = append(boxes, p.box), append(block, p.slot...)
		}
		insider := x.Insider
		insider.Relay = at
		p := insider.Post(envelope, block, boxes, random)
		p.Sign(member.PostingKey(x.Epoch[0], at), at, x.link.Channel(at), p.Digest())
		postings = append(postings, adversary.Posting{Relay: at, Channel: x.link.Channel(at), Post: p})
	}
	copy(counters, wire.U64(sequence))
	copy(previous, d[:])
	base, err := n.disk.Revision(n.unit)
	if err != nil {
		return err
	}
	ops := []store.Op{{Key: key(keptCounters), Value: counters}, {Key: key(keptVector), Value: vector}}
	if err := n.disk.Apply([]store.Batch{{Unit: n.unit, Base: base, Ops: ops}})[0]; err != nil {
		return err
	}
	s.spoken = append(s.spoken, said{n.name, own.Seat, h.Incarnation, sequence})
	unit := s.Seed(name, "unit")
	s.World.AddMember(name, adversary.OpenPoster(postings), store.Unit(unit[:16]))
	return nil
}

// chainSize is what a chain takes in the vector.
const chainSize = 40

// sending reads which session of a record sends to an installation, and where in the
// vector its chain begins; nil: none does.
func sending(record, vector []byte, to wire.Incarnation) (best *ratchet.Session, at int) {
	var least wire.Digest // transcript of best
	r := wire.NewReader(record)
	for range int(r.U8()) {
		index, retired := int(r.U32()), r.Bool()
		var inc wire.Incarnation
		r.Fixed(inc[:])
		r.U32()
		r.U64()
		r.U8()
		s, err := ratchet.ParseSession(r.Bytes(1 << 20))
		if err != nil || retired || inc != to || (index+1)*chainSize > len(vector) {
			continue
		}
		chain, err := ratchet.ParseSendChain(vector[index*chainSize : (index+1)*chainSize])
		if err != nil || !s.CanSend(chain) {
			continue
		}
		if t := s.Transcript(); best == nil || s.Confirmed() && !best.Confirmed() || s.Confirmed() == best.Confirmed() && bytes.Compare(t[:], least[:]) < 0 {
			best, at, least = s, index*chainSize, t
		}
	}
	return best, at
}

// newest lists the newest texts of a member that another keeps, newest first.
func (s *Scenario) newest(n *Node, of string) (list []*member.Again, ds []wire.Digest) {
	from, to := member.KeptTexts(n.unit)
	kvs, _, err := n.disk.Scan(from, to, 1<<30)
	if err != nil {
		return nil, nil
	}
	for _, kv := range slices.Backward(kvs) {
		if a, d, err := member.ParseKeptText(kv.Value); err == nil && s.seats[a.Header.Seat.String()[:8]] == of {
			list, ds = append(list, a), append(ds, d)
		}
	}
	return list, ds
}

// Misname makes an insider's view name other digests than those of a member's
// texts, and texts that do not exist.
func (s *Scenario) Misname(n *Node, to []*Relay, of string) error {
	list, ds := s.newest(n, of)
	if len(list) == 0 {
		return fmt.Errorf("%w: %s keeps no text of %q", ErrDirective, n.name, of)
	}
	var v member.View
	for i, a := range list[:min(len(list), 4)] {
		ds[i][0] ^= 1
		v.Recents = append(v.Recents, member.Recent{Seat: [8]byte(a.Header.Seat[:8]), Incarnation: a.Header.Incarnation, Sequence: a.Header.Sequence, D: ds[i]})
	}
	h := list[0].Header
	for i := range uint64(member.MaxRecents - len(v.Recents)) {
		v.Recents = append(v.Recents, member.Recent{Seat: [8]byte(h.Seat[:8]), Incarnation: h.Incarnation, Sequence: h.Sequence + 1 + i*i*i*i, D: wire.Digest{1}})
	}
	slices.SortFunc(v.Recents, func(a, b member.Recent) int { return cmp.Compare(b.Sequence, a.Sequence) })
	return s.Say(n, to, &member.Content{Kind: member.KindAck, View: v})
}

// Ask makes an insider ask for all that a member ever sent.
func (s *Scenario) Ask(n *Node, to []*Relay, of string) error {
	list, _ := s.newest(n, of)
	if len(list) == 0 {
		return fmt.Errorf("%w: %s keeps no text of %q", ErrDirective, n.name, of)
	}
	h := list[0].Header
	q := &member.Refetch{Messages: []member.Span{{Seat: h.Seat, Incarnation: h.Incarnation, From: 1, To: h.Sequence + 9}}}
	return s.Say(n, to, &member.Content{Kind: member.KindRefetch, Body: member.AppendRefetch(nil, q)})
}

// Resend makes an insider answer, asked or not, with other texts under the numbers
// of a member's newest one and the next.
func (s *Scenario) Resend(n *Node, to []*Relay, of, text string) error {
	list, _ := s.newest(n, of)
	if len(list) == 0 {
		return fmt.Errorf("%w: %s keeps no text of %q", ErrDirective, n.name, of)
	}
	x, err := s.readLog(to[0])
	if err != nil {
		return err
	}
	random := stream(s.cfg.Seed, "resend")
	answer := &member.Answer{}
	for i := range uint64(2) {
		a := &member.Again{Header: list[0].Header, Content: (&member.Content{Kind: member.KindText, Sent: s.cfg.Start, Body: []byte(text)}).Append(nil)}
		a.Header.Sequence += i
		if err := a.Key.Draw(random); err != nil {
			return err
		}
		envelope, _, err := broadcast.SealEnvelope(x.Group, x.Epoch[len(x.Epoch)-1], a.Header, &a.Key, a.Content)
		if err != nil {
			return err
		}
		a.Sealed = [broadcast.SealedHeaderSize]byte(envelope)
		answer.Messages = append(answer.Messages, a)
	}
	return s.Say(n, to, &member.Content{Kind: member.KindAgain, Body: member.AppendAnswer(nil, answer)})
}

// Operate makes an insider hand on operations that do not count: its own, of which
// it is not entitled, and one in a member's name that this one did not sign.
func (s *Scenario) Operate(n *Node, to []*Relay, of string) error {
	f, err := folderOf(n)
	if err != nil {
		return err
	}
	x, err := s.readLog(to[0])
	if err != nil {
		return err
	}
	victim := x.announcements[of]
	if victim == nil {
		return fmt.Errorf("%w: the coalition knows nobody called %q", ErrDirective, of)
	}
	signing := keys.NewPrivate[keys.RoleMember]([32]byte(f.Signing))
	self := member.NewSeat(x.Group, signing.Public())
	op := func(by keys.SigningPublic, body member.OperationBody) *member.Operation {
		o := &member.Operation{Group: x.Group, Author: by, Sequence: 1, Time: s.cfg.Start, Body: body}
		o.Sign(signing)
		o.Author = by
		return o
	}
	list := []*member.Operation{op(signing.Public(), member.OpRemove{Seat: victim.Seat}),
		op(victim.Signing, member.OpRole{Seat: self, Role: member.RoleOwner})}
	return s.Say(n, to, &member.Content{Kind: member.KindRoster, Body: member.AppendNews(nil, list, nil)})
}

// Accuse makes an insider say, as evidence, that a relay signed what it did not.
func (s *Scenario) Accuse(n *Node, to []*Relay) error {
	e := &member.Exchange{Evidence: []string{"this relay lies", "so does that one"}}
	return s.Say(n, to, &member.Content{Kind: member.KindStatements, Body: e.Append(nil)})
}

// LetIn makes an insider let a false seat in, as whoever has the link can: on every
// relay and in front of everybody, under the name of a member. What it reads has
// leaked.
func (s *Scenario) LetIn(n *Node, as string) error {
	s.Foes[n.name], s.Planted[n.name] = true, true
	v, err := s.Do(n, member.JoinGroup{Link: s.Link, Name: as})
	if err != nil {
		return err
	}
	s.joined(n, v)
	return nil
}
