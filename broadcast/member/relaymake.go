package member

import (
	"fmt"
	"slices"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// How an admin changes the list of relays. A relay that comes is made ready
// first: its channel, what newcomers read, the whole roster, everybody's
// announcement. Then one operation names the new list. All of it is durable, so
// that a process that ends goes on where it was.

// relayChange is a change under way, in the meta record.
type relayChange struct {
	Add     int    // place of the path that comes; -1: none
	Retire  int    // that goes; -1: none
	Filled  bool   // what the new relay needs is in the outbox
	Auto    bool   `json:",omitempty"` // a spare relay takes a place by itself
	asked   bool   // a command waits for it
	failure error  // why it cannot be
	ordinal uint32 // of the list that it made
}

// changeRelays begins to add, retire or replace a relay.
func (m *Machine) changeRelays(id uint64, add *FoundingSpot, retire string) {
	if add != nil && add.Key.IsZero() && len(add.Addrs) == 0 && retire != "" {
		s := m.pickSpare(func(*spareRecord) bool { return true })
		if s == nil {
			m.answer(id, nil, ErrNoSpare)
			return
		}
		add = &s.FoundingSpot
	}
	c, err := m.beginChange(add, retire)
	if err != nil {
		m.answer(id, nil, err)
		return
	}
	m.meta.Change, m.changeUntil = c, m.now.Add(m.cfg.Limits.FoundWait)
	m.saveMeta()
	m.waitChanged(id, c)
}

func (m *Machine) beginChange(add *FoundingSpot, retire string) (*relayChange, error) {
	c := &relayChange{Add: -1, Retire: -1}
	if err := m.mayChange(RoleAdmin); err != nil {
		return nil, err
	}
	if m.meta.Change != nil || m.meta.Lists.Next != nil {
		return nil, ErrRelayBusy
	}
	if retire != "" {
		p, err := m.findRelay(retire)
		if err != nil {
			return nil, err
		}
		c.Retire = p.index
	}
	n := len(m.used())
	if add == nil {
		if n == 1 {
			return nil, ErrRelayLast
		}
		return c, nil
	}
	switch p := m.pathOf(add.Key); {
	case add.Key.IsZero():
		return nil, fmt.Errorf("a relay without a key: %w", wire.ErrFormat)
	case p != nil && p.listedRelay():
		return nil, fmt.Errorf("%w: it is %s", ErrRelayTwice, p.label())
	case n >= MaxRelays && c.Retire < 0:
		return nil, fmt.Errorf("%w: %d", ErrRelayMany, MaxRelays)
	}
	if err := checkAddresses(add.Addrs); err != nil {
		return nil, err
	}
	p := m.appendPath(RelayRef{Key: add.Key, Addrs: add.Addrs}, making)
	if p == nil {
		return nil, fmt.Errorf("%w: %d in its whole life", ErrRelayMany, MaxPaths)
	}
	m.meta.Relays[p.index].Token = add.Token
	p.post.operator, p.refused = nil, nil
	if p.post.welcome { // a link of before stands
		m.send(p.post.link, proto.Info{})
	}
	c.Add = p.index
	return c, nil
}

// waitChanged answers when the new list is in use here, or a deadline after the
// operation was made.
func (m *Machine) waitChanged(id uint64, c *relayChange) {
	var made time.Time
	c.asked = true
	m.waiting = append(m.waiting, waiter{id: id, done: func() (any, error, bool) {
		switch {
		case c.failure != nil:
			return nil, c.failure, true
		case m.meta.Change == c:
			return nil, nil, false
		case made.IsZero():
			made = m.now
			m.changeUntil = made.Add(m.rules().Deadline) // wakes the machine
		}
		v := m.changeInfo(c)
		done := v.InUse || !m.now.Before(made.Add(m.rules().Deadline))
		if done {
			m.changeUntil = time.Time{}
		}
		return v, nil, done
	}})
}

// changeInfo is how far a change came.
func (m *Machine) changeInfo(c *relayChange) RelayChange {
	next := m.meta.Lists.Next
	v := RelayChange{Ordinal: c.ordinal, InUse: next == nil}
	if c.Add >= 0 {
		v.Added = m.paths[c.Add].label()
	}
	if c.Retire >= 0 {
		v.Retired = m.paths[c.Retire].label()
	}
	for _, p := range m.paths {
		if next != nil && p.takesPosts() && !m.shownOn(next).has(p.index) {
			v.Waiting = append(v.Waiting, p.label())
		}
	}
	return v
}

// stepMaking goes on with a change: the channel when the relay has named its
// operator, then all that belongs there, then the operation.
func (m *Machine) stepMaking() {
	c := m.meta.Change
	if c == nil || m.starting.unsure {
		return
	}
	if err := m.mayChange(RoleAdmin); err != nil {
		m.failChange(err)
		return
	}
	if c.Add >= 0 {
		p := m.paths[c.Add]
		switch {
		case p.refused != nil:
			m.failChange(p.refused)
			return
		case !c.Filled && p.post.operator != nil:
			m.fill(c, p)
			return
		case !c.Filled || len(p.queue) > 0:
			if !m.changeUntil.IsZero() && !m.now.Before(m.changeUntil) {
				why := p.problem
				if why == "" {
					why = "no answer"
				}
				m.failChange(fmt.Errorf("%w: the new relay: %s. Nothing was changed", ErrUnreached, why))
			}
			return
		}
	}
	m.nameList(c)
}

// fill puts into the outbox what a new relay needs.
func (m *Machine) fill(c *relayChange, p *path) {
	o := p.post.operator
	p.ref.Operator, p.ref.OperatorName, p.ref.Families = o.Operator, o.Name, o.Families
	m.setStanding(p, making)
	if q := m.relatives(p, c.Retire); q != nil {
		text := fmt.Sprintf("Relay %s has the operator of %s, or one of its family: together they count once.", p.label(), q.label())
		if c.Auto {
			m.failChange(fmt.Errorf("%w: the spare relay. %s", ErrRefused, text))
			return
		}
		m.hint(Event{Kind: EventRelay, Relay: p.label(), Text: text})
	}
	m.createChannel(p, m.meta.Relays[p.index].Token)
	// This seat carries the whole roster from now on.
	m.carry(slices.DeleteFunc(m.sortedLog(), func(l *logged) bool { return !m.roster.Has(l.digest) })...)
	if m.meta.Welcomed == 0 {
		m.putWelcome()
	}
	m.putMissing(p)
	for _, st := range m.sortedSeats() {
		if !st.own && m.usable(st) {
			m.putCarried(p, st)
		}
	}
	c.Filled = true
	m.saveMeta()
}

// createChannel asks a relay to make the group's channel. One that was there
// before by the same keys is answered with the receipt of then.
func (m *Machine) createChannel(p *path, token string) {
	admin := ChannelAdmin(m.keyring.owner, p.ref.Key)
	c := proto.Create{PostID: m.drawID(), Token: []byte(token), Admin: admin.Public(), Posting: PostingKey(&m.keyring.epoch().Key, p.ref.Key).Public()}
	c.Sign(admin, p.ref.Key, p.channel)
	q := &postItem{kind: postCreate, id: c.PostID, d: c.Digest(), frame: proto.Encode(c)}
	if p.standing == making {
		q.d = wire.Digest{}
	}
	m.enqueue(p, q)
}

// refusedMaking takes a refusal of what a relay that is being prepared was sent.
// Something else in its place is no failure: a channel that is there already is
// an earlier attempt, or the relay comes back, and whether it takes our posts the
// next ones show; an entry is somebody else's.
func (m *Machine) refusedMaking(p *path, q *postItem, f proto.Refused) {
	if f.Code != proto.CodeConflict {
		p.refused = fmt.Errorf("%w: the new relay: %s. Nothing was changed", ErrRefused, f.Text)
	}
	m.forgetPost(p, q)
}

// nameList makes the operation with the new list, after everybody whose admission
// is complete became a member by signature: a new relay does not show admissions
// of who is away.
func (m *Machine) nameList(c *relayChange) {
	var ops []*logged
	for {
		adopted := m.adopt(func(st *seatState) bool { return m.usable(st) && !m.standing(st.seat).in })
		if adopted == nil {
			break
		}
		ops = append(ops, adopted...)
	}
	var refs []RelayRef
	for i := range m.state.Relays {
		if p := m.pathOf(m.state.Relays[i].Key); p == nil || p.index != c.Retire {
			refs = append(refs, m.state.Relays[i])
		}
	}
	if c.Add >= 0 {
		refs = append(refs, m.paths[c.Add].ref)
	}
	c.ordinal = m.roster.State().Ordinal + 1
	l, err := m.makeOperation(OpRelays{Ordinal: c.ordinal, Relays: refs})
	if err != nil {
		m.publish(ops...)
		m.failChange(err)
		return
	}
	m.meta.Change = nil
	if c.Add >= 0 {
		if i := m.spareAt(m.paths[c.Add].ref.Key); i >= 0 {
			m.meta.Spares = slices.Delete(m.meta.Spares, i, i+1)
		}
	}
	m.publish(append(ops, l)...)
	m.saveMeta()
}

// failChange gives a change up: nothing of it is in the group's list.
func (m *Machine) failChange(err error) {
	c := m.meta.Change
	c.failure = err
	m.meta.Change, m.changeUntil = nil, time.Time{}
	if c.Add >= 0 {
		p := m.paths[c.Add]
		for _, q := range slices.Clone(p.queue) {
			m.forgetPost(p, q)
		}
		m.triedSpare(p.ref.Key)
		p.refused = nil
		m.setStanding(p, vacant)
	}
	m.saveMeta()
	if !c.asked { // whoever waited for it is not here any more
		m.show(Event{Kind: EventRelay, Text: fmt.Sprintf("The group's relays stay as they are: %v.", err)})
	}
}
