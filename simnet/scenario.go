package simnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
	"parallax/simnet/adversary"
)

// Operators are the names of the operators of R1, R2 and so on.
var Operators = []string{"north", "east", "south", "west", "hill", "lake", "wood", "dune"}

// patience is how long a wish is waited for, in virtual time.
const patience = 3 * time.Minute

// Scenario is a world with the roles that ship: relays R1, R2 and so on, each
// of an operator of its own, and members of one group.
type Scenario struct {
	*World
	Relays  []*Relay
	Members []*Node // accomplices too
	Honest  bool    // relays are not wrapped: faster, and nobody can lie
	Link    string  // the newest invitation
	Relay   relay.Config
	Member  member.Config
	Kin     []int  // relays, from 1, whose operators declare that they are one family
	Policy  string // of the group that Create founds: a policy text; empty: a majority

	commands uint64
	seats    map[string]string // of nodes, by short seat
	texts    map[string]string // of messages, by message id
	read     map[string]uint64 // events read so far
	history  map[string]*history
	liars    map[string]bool // relays that were told to lie
	begun    time.Duration   // when the first was
	forged   int             // posts under other members' names

	// Foes are the members in the coalition; Planted are those that only lying
	// relays show: what they read has leaked.
	Foes, Planted map[string]bool
	// Witnesses are insiders to whom relays that fork show what they show the victim.
	Witnesses map[string]bool
	deeds     map[string]bool // what insiders did
	spoken    []said
}

// Relay is one relay, with the lies it may tell.
type Relay struct {
	*Node
	Key      keys.RelayPrivate
	Fork     *adversary.Fork
	Rewriter *adversary.Rewriter
	Gate     *adversary.Gate
	Rollback *adversary.Rollback

	Forgetter *adversary.Forgetter
}

// NewScenario makes a scenario in a new world.
func NewScenario(cfg Config) *Scenario {
	s := &Scenario{World: New(cfg), seats: map[string]string{}, texts: map[string]string{}, read: map[string]uint64{}, history: map[string]*history{}, liars: map[string]bool{},
		Foes: map[string]bool{}, Planted: map[string]bool{}, Witnesses: map[string]bool{}, deeds: map[string]bool{}}
	s.Relay = relay.Config{OpenCreation: true, Verify: s.Verify}
	s.Member = member.Config{Verify: s.Verify}
	return s
}

// AddRelays adds n relays.
func (s *Scenario) AddRelays(n int) {
	for range n {
		i := len(s.Relays)
		name := fmt.Sprintf("R%d", i+1)
		r := &Relay{}
		r.Key.FromSeed(s.Seed(name, "relay"))
		s.Knows(r.Key.Raw())
		operator := s.operator(i)
		cfg := s.Relay
		if slices.Contains(s.Kin, i+1) {
			cfg.Families = s.families()
		}
		cfg.Key, cfg.Operator, cfg.OperatorName = r.Key, operator.Public(), Operators[i%len(Operators)]
		var info proto.InfoIs
		info.Sign(operator, r.Key.Public())
		cfg.OperatorSignature = info.Signature[:]
		if s.Honest {
			r.Node = s.World.AddRelay(name, r.Key.Public(), relay.Open(cfg), route)
			s.Relays = append(s.Relays, r)
			continue
		}
		r.Fork = &adversary.Fork{Relay: r.Key.Public()}
		r.Rewriter = &adversary.Rewriter{Key: r.Key}
		r.Gate = &adversary.Gate{Relay: r.Key.Public()}
		r.Rollback = &adversary.Rollback{Key: r.Key}
		cfg.Verify = r.Rollback.Verify(s.Verify)
		r.Forgetter = &adversary.Forgetter{Relay: r.Key.Public(), Writer: func(at adversary.Place) string { return s.Caller(at.Link) }}
		open := r.Gate.Wrap(r.Rewriter.Wrap(r.Rollback.Wrap(r.Fork.Wrap(r.Forgetter.Wrap(relay.Open(cfg))))))
		r.Node = s.World.AddRelay(name, r.Key.Public(), open, route)
		s.Relays = append(s.Relays, r)
	}
}

// operator is that of the relay of this index.
func (s *Scenario) operator(i int) (key keys.OperatorPrivate) {
	key.FromSeed(s.Seed(fmt.Sprintf("R%d", i+1), "operator"))
	return key
}

// families join the operators of Kin, one after the other.
func (s *Scenario) families() (list []crossverify.Declaration) {
	for i := 1; i < len(s.Kin); i++ {
		a, b := s.operator(s.Kin[i-1]-1), s.operator(s.Kin[i]-1)
		d := crossverify.Declare(a.Public(), b.Public())
		if err := errors.Join(d.Sign(a), d.Sign(b)); err != nil {
			panic("simnet: " + err.Error())
		}
		list = append(list, d)
	}
	return list
}

// PolicyText is a policy text of these lines, whose operators are called as
// Operators has it.
func (s *Scenario) PolicyText(lines ...string) string {
	text := "parallax policy 1\n"
	words := strings.Fields(strings.Join(lines, " "))
	for i := range s.Relays {
		if name := Operators[i%len(Operators)]; slices.Contains(words, name) {
			text += fmt.Sprintf("operator %s %s\n", name, s.operator(i).Public())
		}
	}
	return text + strings.Join(lines, "\n") + "\n"
}

func route(f broadcast.Frame) (store.Unit, error) {
	m, err := proto.Parse(f)
	if err != nil {
		return store.Unit{}, err
	}
	h, ok := m.(proto.Hello)
	if !ok {
		return store.Unit{}, fmt.Errorf("a %s", proto.Name(f.Type))
	}
	return relay.Unit(h.Channel), nil
}

// AddMember adds a process without a membership yet.
func (s *Scenario) AddMember(name string) *Node { return s.addMember(name, member.Open(s.Member)) }

func (s *Scenario) addMember(name string, open broadcast.Open) *Node {
	id := s.Seed(name, "unit")
	u := store.Unit(id[:16])
	n := s.World.AddMember(name, open, u)
	s.Members = append(s.Members, n)
	return n
}

// Wish hands a wish to a member and returns its id.
func (s *Scenario) Wish(n *Node, w member.Wish) uint64 {
	s.commands++
	n.Command(s.commands, w)
	return s.commands
}

// ErrNoAnswer: a wish was not answered in time.
var ErrNoAnswer = errors.New("no answer")

// Do hands over a wish and runs the world until it is answered.
func (s *Scenario) Do(n *Node, w member.Wish) (any, error) {
	id := s.Wish(n, w)
	if _, err := s.RunUntil(patience, func() bool { _, ok := n.Answers[id]; return ok }); err != nil {
		return nil, err
	}
	a, ok := n.Answers[id]
	if !ok {
		return nil, fmt.Errorf("%w to %q of %s after %v", ErrNoAnswer, w.Wish(), n.Name(), patience)
	}
	return a.Value, a.Err
}

// Create lets a member found the group on all relays and make an invitation.
func (s *Scenario) Create(n *Node, strict bool, deadline time.Duration) error {
	return s.Found(n, member.CreateGroup{Strict: strict, Deadline: deadline, Policy: s.Policy})
}

// Found is Create with more to choose; group, name and relays are the scenario's.
func (s *Scenario) Found(n *Node, w member.CreateGroup) error {
	w.Group, w.Name = "garden", n.Name()
	for _, r := range s.Relays {
		w.Relays = append(w.Relays, member.FoundingSpot{Key: r.Key.Public(), Addrs: []string{"/sim/" + r.Name()}})
	}
	v, err := s.Do(n, w)
	if err != nil {
		return err
	}
	s.joined(n, v)
	return s.Invite(n)
}

// Invite makes a new invitation; Link is its link.
func (s *Scenario) Invite(n *Node) error {
	v, err := s.Do(n, member.MakeInvite{})
	if err != nil {
		return err
	}
	s.Link = v.(member.InviteInfo).Link
	return nil
}

// Join lets members join by the newest link, all at once, under their names.
func (s *Scenario) Join(nodes ...*Node) error {
	ids := make([]uint64, len(nodes))
	for i, n := range nodes {
		ids[i] = s.Wish(n, member.JoinGroup{Link: s.Link, Name: n.Name()})
	}
	all := func() bool {
		for i, n := range nodes {
			if _, ok := n.Answers[ids[i]]; !ok {
				return false
			}
		}
		return true
	}
	if _, err := s.RunUntil(patience, all); err != nil {
		return err
	}
	for i, n := range nodes {
		a, ok := n.Answers[ids[i]]
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", n.Name(), ErrNoAnswer)
		case a.Err != nil:
			return fmt.Errorf("%s: %w", n.Name(), a.Err)
		}
		s.joined(n, a.Value)
	}
	return nil
}

func (s *Scenario) joined(n *Node, v any) {
	if info, ok := v.(member.GroupInfo); ok && len(info.Seat) >= 8 {
		s.seats[info.Seat[:8]] = n.Name()
	}
}

// History is what a member's application can read: the numbered events after
// a number, from the store. What was read of a disk is kept, since an event does
// not change.
func (s *Scenario) History(n *Node, after uint64) ([]member.Event, error) {
	h := s.history[n.name]
	if h == nil || h.disk != n.Disk() {
		h = &history{disk: n.Disk()}
		s.history[n.name] = h
	}
	for {
		next := uint64(len(h.events)) + 1
		b, err := h.disk.Get(member.EventKey(n.unit, next))
		if errors.Is(err, store.ErrNotFound) {
			return slices.Clone(h.events[min(after, next-1):]), nil
		}
		var e member.Event
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: event %d: %w", n.Name(), next, err)
		}
		h.events = append(h.events, e)
	}
}

// history is what was read of a disk.
type history struct {
	disk   *memory.Store
	events []member.Event
}

// plain puts names in the place of seats and relay keys, and texts in the place
// of message ids, so that a golden shows who is meant.
func (s *Scenario) plain(text string) string {
	var pairs []string
	for _, short := range sortedKeys(s.seats) {
		pairs = append(pairs, "["+short+"]", "["+s.seats[short]+"]")
	}
	for _, id := range sortedKeys(s.texts) {
		pairs = append(pairs, id, fmt.Sprintf("%q", s.texts[id]))
	}
	for _, r := range s.Relays {
		pairs = append(pairs, r.Key.Public().String(), r.Name())
	}
	return otherMessage.ReplaceAllString(strings.NewReplacer(pairs...).Replace(text), "message (no text)")
}

// otherMessage is the id of a message that has no text: it follows from keys that no
// seed decides.
var otherMessage = regexp.MustCompile(`\bmessage [0-9a-f]{16}\b`)

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// learn remembers whose seats and which messages there are, from the members'
// own records.
func (s *Scenario) learn() error {
	for _, n := range s.Members {
		events, err := s.History(n, 0)
		if err != nil {
			return err
		}
		for _, e := range events {
			switch {
			case e.Kind == member.EventMessage:
				s.texts[e.ID] = e.Text
			case e.Kind == member.EventJoined && e.Own && len(e.Seat) >= 8:
				s.seats[e.Seat[:8]] = n.Name()
			}
		}
	}
	return nil
}

// Substitute makes relays show victim, from its registration on, a board on
// which the member called hide is missing and an accomplice stands under the
// same name. Nobody else sees the accomplice, who speaks to these relays only.
// A relay tells links apart by who calls, and what to hide with the keys in the
// invitation. Alone, nothing that is written from now on crosses between what
// the two see and what the others see.
func (s *Scenario) Substitute(relays []*Relay, victim, hide, accomplice string, alone bool) error {
	var others []string
	for _, r := range s.Relays {
		if !slices.Contains(relays, r) {
			others = append(others, r.Name())
			continue
		}
		if err := s.substituteAt(r, victim, hide, accomplice, alone); err != nil {
			return err
		}
	}
	n := s.AddMember(accomplice)
	s.Foes[accomplice], s.Planted[accomplice] = true, true
	if len(others) > 0 {
		s.Partition([]string{accomplice}, others)
	}
	s.Wish(n, member.JoinGroup{Link: s.Link, Name: hide})
	if err := s.Run(5 * time.Second); err != nil {
		return err
	}
	v, err := s.Do(n, member.GetStatus{})
	if err != nil {
		return fmt.Errorf("the accomplice did not get in: %w", err)
	}
	if st := v.(member.Status); len(st.Seat) >= 8 {
		s.seats[st.Seat[:8]] = n.Name()
	}
	return nil
}

func (s *Scenario) substituteAt(r *Relay, victim, hide, accomplice string, alone bool) error {
	s.lies(r)
	inv, err := member.ParseLink(s.Link)
	if err != nil {
		return err
	}
	insider := &adversary.Insider{Relay: r.Key.Public(), Group: inv.Group, Door: &inv.Door, Channels: &inv.Channels, Epoch: s.handed()}
	hidden := map[wire.Seat]bool{}
	r.Fork.FromBirth = true
	r.Fork.Choose = func(at adversary.Place, _ proto.Message) adversary.Side {
		if c := s.Caller(at.Link); c == victim || c == accomplice || s.Witnesses[c] {
			return adversary.Forked
		}
		return adversary.Truth
	}
	old := len(r.Fork.Written(relay.Unit(inv.Channel(r.Key.Public()))))
	r.Fork.Pass = func(to adversary.Side, from adversary.Place, m proto.Message) proto.Message {
		if to == adversary.Forked {
			old--
		}
		if s.Caller(from.Link) == accomplice || alone && (to == adversary.Truth || old < 0) {
			return nil
		}
		if to == adversary.Forked && hides(insider, hidden, hide, m) {
			return nil
		}
		return m
	}
	r.Fork.Arm()
	return nil
}

// hides tells whether m is about a member of that name, or written by it; it
// learns the epoch keys and the seats as they pass.
func hides(i *adversary.Insider, hidden map[wire.Seat]bool, name string, m proto.Message) bool {
	if seat, ok := i.Sender(m); ok {
		return hidden[seat]
	}
	entry, value, ok := i.Entry(m)
	if !ok {
		return false
	}
	kind, id, _ := strings.Cut(entry, "/")
	switch kind {
	case "welcome":
		if w, err := member.ParseWelcome(value); err == nil {
			for j := range w.Epochs {
				i.Epoch = append(i.Epoch, &w.Epochs[j].Key)
			}
		}
	case "announcement":
		if a, err := member.ParseAnnouncement(value); err == nil && a.Name == name {
			hidden[a.Seat] = true
		}
	}
	for seat := range hidden {
		if id == seat.String() {
			return true
		}
	}
	return false
}

// Split makes a relay show victim, from now on, a log without what drop posts, of
// another life if that is not the same one. Shown a statement of one life, the
// relay goes on with the other all the same, unless it leaps: then it begins one
// more each time.
func (s *Scenario) Split(r *Relay, victim, drop string, life adversary.Life, leaps bool) {
	s.lies(r)
	r.Fork.Life, r.Rollback.Armed = life, life != adversary.SameLife && !leaps
	r.Fork.Choose = s.shownTo(victim)
	r.Fork.Pass = func(to adversary.Side, from adversary.Place, m proto.Message) proto.Message {
		switch m.(type) {
		case proto.Post, proto.PostDigest:
			if to == adversary.Forked && s.Caller(from.Link) == drop {
				return nil
			}
		}
		return m
	}
	r.Fork.Arm()
}

// Unask makes a relay show a victim another log, in which a newcomer did not ask to
// be let in.
func (s *Scenario) Unask(r *Relay, victim, drop string) {
	s.lies(r)
	r.Fork.Choose = s.shownTo(victim)
	r.Fork.Pass = func(to adversary.Side, from adversary.Place, m proto.Message) proto.Message {
		if _, admit := m.(proto.Admit); admit && to == adversary.Forked && s.Caller(from.Link) == drop {
			return nil
		}
		return m
	}
	r.Fork.Arm()
}

// Rewrite makes a relay lie to victim about what it delivers; nil ends it.
func (s *Scenario) Rewrite(r *Relay, victim string, lie adversary.Lie, clumsy bool) {
	s.lies(r)
	r.Rewriter.Victim = func(at adversary.Place, _ proto.Message) string {
		if c := s.Caller(at.Link); c == victim {
			return c
		}
		return ""
	}
	r.Rewriter.Lie, r.Rewriter.Clumsy = lie, clumsy
}

// Forget stops a relay and starts it without what a member wrote on its board.
// It goes on in the same lineage.
func (s *Scenario) Forget(r *Relay, writer string) {
	s.liars[r.name] = true
	r.Forgetter.Forget(writer)
	r.Stop()
	r.Start()
}

// MarkRestored does what the operator's restore command does: every channel of
// the relay will begin a new lineage.
func (r *Relay) MarkRestored(channels ...wire.ChannelID) error {
	for _, c := range channels {
		u := relay.Unit(c)
		base, err := r.disk.Revision(u)
		if err != nil {
			return err
		}
		if err := r.disk.Apply([]store.Batch{relay.Restored(u, base)})[0]; err != nil {
			return err
		}
	}
	return nil
}
