package member

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// command takes a user's wish.
func (m *Machine) command(c broadcast.Command) {
	if m.repeated(c.ID, c.Wish) || m.waitsForRelays(c) {
		return
	}
	if w, ok := c.Wish.(Wish); ok {
		m.wishes[c.ID] = w
	}
	answer := func(v any, err error) { m.answer(c.ID, v, err) }
	switch w := c.Wish.(type) {
	case CreateGroup:
		if err := m.create(w); err != nil {
			answer(nil, err)
			return
		}
		m.waitFounded(c.ID)
		return
	case JoinGroup:
		if err := m.join(w); err != nil {
			answer(nil, err)
			return
		}
		m.waitJoined(c.ID, w.Await)
		return
	}
	if _, ok := c.Wish.(LeaveGroup); ok && m.waitsForAdmin() {
		m.withdraw(c.ID)
		return
	}
	if m.meta == nil || !m.isMember() {
		if _, ok := c.Wish.(GetStatus); ok && m.meta != nil {
			answer(m.status(), nil)
			return
		}
		if m.waitsForAdmin() {
			answer(nil, fmt.Errorf("%w: %s", ErrNotReady, m.askingText()))
			return
		}
		if m.meta == nil || !m.gone() {
			answer(nil, ErrNotReady)
			return
		}
		switch c.Wish.(type) { // what there is stays readable
		case GetPaths, GetDelivery, GetEvidence, GetRoster, GetCoalition, GetLocations:
		case LeaveGroup:
			answer(OperationInfo{What: fmt.Sprintf("You left %s before.", m.meta.Group), Seat: m.self.String(), Member: m.meta.Name}, nil)
			return
		default:
			answer(nil, fmt.Errorf("%w: you left it", ErrOut))
			return
		}
	}
	if w, ok := c.Wish.(Wish); ok && m.rosterWish(c.ID, w) {
		return
	}
	switch w := c.Wish.(type) {
	case MakeInvite:
		m.makeInvite(c.ID, w)
	case SendText:
		m.sendText(c.ID, w)
	case AddRelay:
		m.changeRelays(c.ID, &w.Relay, "")
	case RetireRelay:
		m.changeRelays(c.ID, nil, w.Relay)
	case ReplaceRelay:
		m.changeRelays(c.ID, &w.By, w.Relay)
	case AddSpare:
		v, err := m.addSpare(w)
		answer(v, err)
	case DropSpare:
		v, err := m.dropSpare(w)
		answer(v, err)
	case PassOn:
		m.passOn(c.ID, w)
	case AckEvents:
		v, err := m.ackEvents(w)
		answer(v, err)
	case GetStatus:
		answer(m.status(), nil)
	case GetPaths:
		v, err := m.pathsOf(w)
		answer(v, err)
	case GetSecurity:
		v, err := m.security()
		answer(v, err)
	case GetCoalition:
		v, err := m.coalition(w)
		answer(v, err)
	case GetLocations:
		v, err := m.locations(w)
		answer(v, err)
	case GetDelivery:
		v, err := m.deliveryOf(w)
		answer(v, err)
	case GetCode:
		v, err := m.code(w)
		answer(v, err)
	case ConfirmCode:
		v, err := m.confirm(w)
		answer(v, err)
	case UndoConfirm:
		v, err := m.undo(w)
		answer(v, err)
	case GetEvidence:
		v, err := m.evidenceOf(w)
		answer(v, err)
	case GetRoster:
		answer(m.rosterInfo(w), nil)
	case GetRequests:
		v, err := m.requestsOf()
		answer(v, err)
	default:
		answer(nil, fmt.Errorf("member: wish of type %T", c.Wish))
	}
}

func (m *Machine) info() GroupInfo {
	g := GroupInfo{Group: m.meta.Group, Name: m.meta.Name, ID: m.gid.String(), ShortID: ShortID(m.gid)}
	if m.self != (wire.Seat{}) {
		g.Seat = m.self.String()
	}
	g.Waiting = m.waitsForAdmin()
	return g
}

func (m *Machine) failWaiting(err error) {
	for _, w := range m.waiting {
		m.answer(w.id, nil, err)
	}
	m.waiting = nil
}

// join begins to join by link, or goes on with a joining that was cut off.
func (m *Machine) join(w JoinGroup) error {
	if m.meta != nil {
		if m.meta.Phase == phaseJoining && m.meta.Link == w.Link {
			if m.meta.Asking != nil && m.meta.Asking.Withdrawn {
				return fmt.Errorf("%w: you took your request back", ErrOut)
			}
			m.deadline = m.now.Add(m.joinWait())
			return nil
		}
		return ErrTaken
	}
	inv, err := ParseLink(w.Link)
	if err != nil {
		return err
	}
	if err := CheckName(w.Name); err != nil {
		return fmt.Errorf("your name: %w", err)
	}
	if m.now.After(inv.Expires) {
		return fmt.Errorf("%w: it was good until %s", ErrExpired, inv.Expires.UTC().Format(time.RFC1123))
	}
	meta := &metaRecord{Phase: phaseJoining, Name: w.Name, Link: w.Link,
		Door: slices.Clone(inv.Door.Expose()), Invite: slices.Clone(inv.Secret.Expose()), Channels: slices.Clone(inv.Channels.Expose())}
	if inv.Mode == ModeApprove {
		id := InviteID(inv.InviteKey().Public())
		meta.Asking = &askingRecord{Invite: id[:]}
	}
	m.newIdentity(meta, inv.Relays)
	m.meta = meta
	if err := m.setUp(); err != nil {
		return err
	}
	for _, p := range m.paths {
		p.syncRoot()
	}
	m.saveMeta()
	m.deadline = m.now.Add(m.joinWait())
	return nil
}

func (m *Machine) joinWait() time.Duration {
	if m.genesis != nil {
		return m.rules().Deadline
	}
	return DefaultDeadline
}

// resume goes on with a founding or joining that a restart cut off.
func (m *Machine) resume() {
	if m.meta.Phase == phaseMember || m.meta.Phase == phaseLeft || !m.deadline.IsZero() {
		return
	}
	m.deadline = m.now.Add(m.joinWait())
	for _, p := range m.paths {
		p.listed, p.taken = false, false // what was read of the board before is read again
		p.post.founded = m.genesis != nil && !slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postCreate })
	}
}

func (m *Machine) waitJoined(id uint64, await bool) {
	m.waiting = append(m.waiting, waiter{id: id,
		done: func() (any, error, bool) { // with the hello in the same turn: whoever asked may end its process
			if m.waitsForAdmin() && m.askedAndWaits() {
				if why := m.meta.Asking.Refused; await && why != "" {
					return nil, fmt.Errorf("%w: %s", ErrDeclined, why), true
				}
				return m.info(), nil, !await
			}
			return m.info(), nil, m.isMember() && !m.starting.underWay()
		}})
}

// sawGenesis takes the genesis if it is the one that the link names.
func (m *Machine) sawGenesis(p *path, value []byte) {
	if m.genesis != nil || m.meta.Phase != phaseJoining {
		return
	}
	g, err := ParseGenesis(value)
	if err != nil || g.ID() != m.gid {
		m.anotherGroup(p)
		return
	}
	m.genesis = g
	m.keyring.turns++
	m.meta.Genesis = slices.Clone(value)
	m.meta.Group = g.Name
	m.nameOperators(g.Relays)
	m.makeLedger()
	m.beginRoster()
	m.saveMeta()
}

// anotherGroup: what a path shows at the door is not the group that the link names.
func (m *Machine) anotherGroup(p *path) {
	p.stats[crossverify.Failed]++
	p.stranger = true
	m.relayEvent(p, "genesis", "", fmt.Sprintf("Relay %s shows another group than the one that your link names. It is ignored.", p.name()))
}

// sawWelcome takes what a path's board has for newcomers: the genesis, and the
// epoch keys. The link's door key is made of the key that was in use when the
// link was made, so nobody else can pass one off for it.
func (m *Machine) sawWelcome(p *path, author wire.Seat, value []byte) {
	w, err := ParseWelcome(value)
	if err == nil && m.genesis == nil {
		if g, err := ParseGenesis(w.Genesis); err != nil || g.ID() != m.gid { // whoever signed it
			m.anotherGroup(p)
			return
		}
	}
	if err != nil || w.Verify(m.cfg.Verify) != nil || author != NewSeat(m.gid, w.Author) {
		m.invalid(p, "a welcome")
		return
	}
	m.sawGenesis(p, w.Genesis)
	if m.genesis == nil {
		return
	}
	if !bytes.Equal(w.Genesis, m.meta.Genesis) || FirstCommitment(&w.Epochs[0].Key) != m.genesis.Epoch {
		m.invalid(p, "a welcome")
		return
	}
	k := m.keyring
	if m.meta.Phase != phaseJoining {
		return
	}
	if len(k.epochs) > 0 {
		m.learnEpochs(w.Epochs)
		return
	}
	for i := range w.Epochs {
		if door := DoorKey(&w.Epochs[i].Key, m.gid); door.Equal(&k.door) {
			k.inUse = w.Epochs[i].Number
		}
	}
	if k.inUse == 0 {
		p.stats[crossverify.Failed]++
		m.relayEvent(p, "welcome", "", fmt.Sprintf("Relay %s shows a welcome without the key that your link is made of. It is ignored.", p.name()))
		return
	}
	m.learnEpochs(w.Epochs)
	k.epochAt(FirstEpoch).checked, k.epochAt(k.inUse).checked = true, true
	m.meta.Door = nil
	m.saveEpochs()
	m.announce(0, wire.Digest{})
	inv := Invitation{Secret: k.invite}
	invite := inv.InviteKey()
	k.adm = &Admission{Group: m.gid, Invite: InviteID(invite.Public()), Seat: m.self, Announcement: k.ann.Digest()}
	k.adm.Sign(invite)
	m.meta.Admitted = k.adm.Append(nil)
	st := m.seatOf(m.self)
	st.own, st.shown, st.ann, st.digest = true, true, k.ann, k.ann.Digest()
	st.adms[k.adm.Digest()] = k.adm
	m.deadline = m.now.Add(m.joinWait())
	m.saveMeta()
	m.saveSeat(st)
	for _, q := range m.paths {
		if !q.takesPosts() {
			continue
		}
		m.putEntry(q, epochKey, "announcement/"+m.self.String(), 1, m.meta.Announced, k.owner)
		posting := inv.InvitePosting(q.ref.Key)
		name := "admission/" + m.self.String()
		a := proto.Admit{BoardPut: m.boardPut(q, epochKey, name, 1, m.meta.Admitted, k.owner)}
		a.Capability = posting.Public()
		a.Sign(posting, q.ref.Key, q.channel)
		m.enqueue(q, &postItem{kind: postAdmit, id: a.PostID, d: a.Digest(), frame: proto.Encode(a)})
	}
}

// maxUnchecked is how many epoch keys are taken from welcomes before the roster
// says which of them are the group's.
const maxUnchecked = 4 * MaxEpochs

// learnEpochs keeps a welcome's keys, to open what they open.
func (m *Machine) learnEpochs(list []Epoch) {
	k := m.keyring
	was := k.turns
	for _, e := range list {
		if len(k.epochs) < maxUnchecked {
			k.hold(e, false)
		}
	}
	if k.turns != was {
		m.saveEpochs()
	}
}

// stepJoining ends a joining: admission complete at q operators, every relay
// asked and read, every seat on the boards compared; or the deadline passed
// and q operators answered.
func (m *Machine) stepJoining() {
	if m.meta == nil || m.meta.Phase != phaseJoining {
		return
	}
	late := !m.deadline.IsZero() && !m.now.Before(m.deadline)
	posted := postAdmit // what lets this member in, or, if an admin did, tells that it came
	if m.meta.Asking != nil {
		if !m.stepAsking(late) {
			return
		}
		posted = postBoard
	} else if m.genesis == nil || m.keyring.adm == nil {
		if late {
			m.failJoin()
		}
		return
	}
	admitted, answered, settled := m.enough(func(p *path) bool {
		return !slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == posted })
	}), m.enough(func(p *path) bool { return p.listed }), true
	seats, agreed := 0, 0
	for _, st := range m.sortedSeats() {
		if st.own || st.ann == nil || m.out(st.seat) {
			continue
		}
		seats++
		if m.usable(st) {
			agreed++
		}
		if !m.report(st).Settled {
			settled = false
		}
	}
	if agreed != m.progress {
		m.progress = agreed
		m.hint(Event{Kind: EventProgress, Done: agreed, Total: seats, Text: fmt.Sprintf("keys of %d/%d members agreed, %d/%d relays answered", agreed, seats, m.listed(), len(m.used()))})
	}
	all := !slices.ContainsFunc(m.used(), func(p *path) bool { return !p.listed })
	if len(m.unnamed()) > 0 { // whose word counts for whom is not known yet
		if late {
			m.failJoin()
		}
		return
	}
	if late && all && !settled && !m.extended {
		// The boards were read late: what they do not agree on is decided
		// before the newcomer begins to speak.
		m.extended, m.deadline = true, m.now.Add(m.joinWait())
		return
	}
	if admitted && answered && (all && settled || late) {
		m.joined(agreed)
	} else if late {
		m.failJoin()
	}
}

// needed is how many operators are enough, at least: those of the policy in
// force, or all that are left when some were set aside.
func (m *Machine) needed() int { return m.ledger.Needed() }

// enough tells whether the operators of the paths that hold are enough.
func (m *Machine) enough(hold func(*path) bool) bool {
	return m.ledger.Enough(func(at crossverify.Path) bool { return hold(m.paths[at]) })
}

// operators counts the distinct operators of the paths that count and hold.
func (m *Machine) operators(hold func(*path) bool) int {
	return m.ledger.Count(func(at crossverify.Path) bool { return hold(m.paths[at]) })
}

func (m *Machine) joined(members int) {
	m.meta.Phase = phaseMember
	m.meta.Joined = true
	m.meta.Asking, m.meta.Door = nil, nil
	m.deadline = time.Time{}
	m.numberRelays()
	m.saveMeta()
	for _, st := range m.sortedSeats() {
		m.askedAll(st)
		if m.usable(st) {
			st.shown = true
			m.saveSeat(st)
		}
	}
	m.show(Event{Kind: EventJoined, Own: true, Seat: m.self.String(), Member: m.meta.Name,
		Text: fmt.Sprintf("You joined %s: %s, %d of %d relays answered.", m.meta.Group, plural(members, "other member"), m.listed(), len(m.used()))})
}

// listed is how many of the relays in use had their boards read.
func (m *Machine) listed() (n int) {
	for _, p := range m.used() {
		if p.listed {
			n++
		}
	}
	return n
}

// plural is a number with its word.
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// failJoin answers whoever waits; the joining itself goes on.
func (m *Machine) failJoin() {
	if len(m.waiting) == 0 {
		m.deadline = m.now.Add(m.joinWait())
		return
	}
	cause := error(ErrUnreached)
	var why []string
	for _, p := range m.used() {
		if !p.listed || slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postAdmit }) {
			problem := p.problem
			if problem == "" {
				problem = "no answer"
			}
			why = append(why, fmt.Sprintf("relay %d (%s): %s", p.index+1, strings.Join(p.ref.Addrs, ", "), problem))
		}
		if errors.Is(p.refused, ErrExpired) {
			cause = p.refused
		} else if p.refused != nil && !errors.Is(cause, ErrExpired) {
			cause = p.refused
		}
	}
	strange := slices.DeleteFunc(m.used(), func(p *path) bool { return !p.stranger || m.genesis != nil })
	other := fmt.Sprintf("%s %s another group than the one that the link names", names(strange, "relay"), verb(strange, "shows", "show"))
	switch answered := len(why) == 0; {
	case answered && len(strange) == len(m.used()) && cause == ErrUnreached:
		cause = ErrGenesis
		why = append(why, other+", and nothing of it was taken. Either the link was changed on its way to you, or they lie: ask for a new one, on another way")
	case answered && m.keyring.adm == nil && m.meta.Asking == nil:
		why = append(why, "all of them answered, and none shows a welcome that this link opens; ask for a new link")
	}
	if len(strange) > 0 && cause != ErrGenesis {
		why = append(why, other)
	}
	if list := m.unnamed(); m.genesis != nil && len(why) == 0 && len(list) > 0 {
		cause = ErrGenesis
		why = append(why, fmt.Sprintf("the group's roster, as far as it is shown, does not have %s of the link; ask for a new link", names(list, "relay")))
	}
	m.deadline = m.now.Add(m.joinWait())
	m.failWaiting(fmt.Errorf("%w: %s", cause, strings.Join(why, "; ")))
}

// noteRefusal remembers why a relay refused a newcomer or a founder.
func (m *Machine) noteRefusal(p *path, f proto.Refused) {
	switch f.Code {
	case proto.CodeExpired, proto.CodeUsedUp:
		p.refused = fmt.Errorf("%w (relay %s: %s)", ErrExpired, p.label(), f.Text)
	case proto.CodeNotAllowed:
		if m.meta.Phase == phaseJoining && f.Of == proto.TypeRegister {
			p.refused = fmt.Errorf("%w, or it was ended (relay %s does not take it)", ErrExpired, p.label())
			break
		}
		fallthrough
	default:
		p.refused = fmt.Errorf("%w: relay %s: %s", ErrRefused, p.label(), f.Text)
	}
	willing := func(q *path) bool { return q.refused == nil }
	if m.meta.Phase == phaseFounding || m.ledger != nil && !m.enough(willing) || !slices.ContainsFunc(m.paths, willing) {
		m.failWaiting(p.refused)
	}
}

func (m *Machine) queued(p *path, id wire.PostID) bool {
	return slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.id == id })
}
