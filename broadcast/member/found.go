package member

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// create begins a founding: identity first, then the relays' operator keys.
func (m *Machine) create(w CreateGroup) error {
	if m.meta != nil {
		return ErrTaken
	}
	if err := CheckName(w.Group); err != nil {
		return fmt.Errorf("group name: %w", err)
	}
	if err := CheckName(w.Name); err != nil {
		return fmt.Errorf("your name: %w", err)
	}
	if len(w.Relays) == 0 || len(w.Relays) > MaxRelays {
		return fmt.Errorf("a group has 1 to %d relays, not %d", MaxRelays, len(w.Relays))
	}
	seen := map[keys.RelayPublic]bool{}
	for _, r := range w.Relays {
		if seen[r.Key] {
			return fmt.Errorf("relay %s is named twice: every path must be another relay", r.Key)
		}
		seen[r.Key] = true
	}
	if int(w.Quorum) > len(w.Relays) {
		return fmt.Errorf("a quorum of %d operators over %s: %w", w.Quorum, plural(len(w.Relays), "relay"), ErrUnreachable)
	}
	set(&w.Deadline, DefaultDeadline)
	set(&w.Retention, DefaultRetention)
	set(&w.Mode, modeName(ModeOpen))
	if _, err := ModeNamed(w.Mode); err != nil {
		return err
	}
	policy := w.policy()
	if _, err := policy.check(); err != nil {
		return fmt.Errorf("the group's policy: %w", err)
	}
	meta := &metaRecord{Phase: phaseFounding, Group: w.Group, Name: w.Name, Founding: &w}
	var relays []LinkRelay
	for _, r := range w.Relays {
		relays = append(relays, LinkRelay{Key: r.Key, Addrs: r.Addrs})
	}
	m.newIdentity(meta, relays)
	fresh := func() []byte { b := m.draw32(); return b[:] }
	meta.Invite, meta.Channels = fresh(), fresh()
	meta.Epochs, meta.InUse = []epochRecord{{Number: FirstEpoch, Key: fresh(), Checked: true}}, FirstEpoch
	m.meta = meta
	if err := m.setUp(); err != nil {
		return err
	}
	for _, p := range m.paths {
		p.syncRoot()
	}
	m.saveMeta()
	m.deadline = m.now.Add(m.cfg.Limits.FoundWait)
	return nil
}

// policy is the one that the founder asked for; of a mode that create let through.
func (w *CreateGroup) policy() Policy {
	mode, _ := ModeNamed(w.Mode)
	return Policy{Quorum: w.Quorum, Strict: w.Strict, Mode: mode, Suite: Suite1, Deadline: w.Deadline, Retention: w.Retention, Carriers: w.Carriers, Text: w.Policy}
}

func (m *Machine) waitFounded(id uint64) {
	m.waiting = append(m.waiting, waiter{id: id, until: m.deadline,
		done: func() (any, error, bool) { return m.info(), nil, m.isMember() },
		late: func() (any, error) {
			var missing []string
			for _, p := range m.paths {
				if m.genesis == nil && p.post.operator == nil || m.genesis != nil && (!p.registered || len(p.queue) > 0) {
					why := p.problem
					if why == "" {
						why = "no answer"
					}
					missing = append(missing, fmt.Sprintf("relay %d (%s): %s", p.index+1, strings.Join(p.ref.Addrs, ", "), why))
				}
			}
			return nil, fmt.Errorf("%w: %s. A group is founded on all of its relays at once", ErrUnreached, strings.Join(missing, "; "))
		}})
}

// stepFounding goes on with a founding: genesis when every relay named its
// operator, member when every relay has everything.
func (m *Machine) stepFounding() {
	if m.meta == nil || m.meta.Phase != phaseFounding {
		return
	}
	if !m.deadline.IsZero() && !m.now.Before(m.deadline) {
		m.deadline = time.Time{} // whoever waited was told; the founding goes on
	}
	if m.genesis == nil {
		for _, p := range m.paths {
			if p.post.operator == nil {
				return
			}
		}
		if err := m.found(); err != nil {
			m.failWaiting(err)
		}
		return
	}
	for _, p := range m.paths {
		if len(p.queue) > 0 || !p.registered || !p.listed {
			return
		}
	}
	m.meta.Phase = phaseMember
	m.meta.Founding = nil
	m.meta.Joined = true
	m.deadline = time.Time{}
	m.saveMeta()
	m.show(Event{Kind: EventJoined, Own: true, Seat: m.self.String(), Member: m.meta.Name, Text: fmt.Sprintf("You founded %s on %s.", m.meta.Group, m.relayCount())})
}

func (m *Machine) relayCount() string {
	n := len(m.used())
	if n == 1 {
		return "1 relay: nothing is compared"
	}
	return fmt.Sprintf("%d relays", n)
}

// found makes the genesis and everything that the boards must have.
func (m *Machine) found() error {
	meta, k := m.meta, m.keyring
	g := &Genesis{Name: meta.Group, Founder: k.signing.Public(), Created: unixTime(m.now), Random: m.draw32(),
		Policy: meta.Founding.policy(), Epoch: FirstCommitment(&k.first().Key)}
	for _, p := range m.paths {
		p.ref.Operator, p.ref.OperatorName, p.ref.Families = p.post.operator.Operator, p.post.operator.Name, p.post.operator.Families
		meta.Relays[p.index].RelayRef = p.ref
		g.Relays = append(g.Relays, p.ref)
	}
	if q, n := int(g.Policy.Quorum), g.operators(); q > n {
		return fmt.Errorf("%w: %d of them must agree, and there are %d", ErrUnreachable, q, n)
	}
	if err := g.Check(); errors.Is(err, ErrUnreachable) {
		var keys []string
		for _, r := range g.Relays {
			keys = append(keys, fmt.Sprintf("%s (%s)", r.Operator, r.OperatorName))
		}
		return fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(keys, ", "))
	} else if err != nil {
		return err
	}
	if !g.Voting(m.cfg.Verify).Reachable() {
		return fmt.Errorf("%w: some of them declared that they are one family, which counts once", ErrUnreachable)
	}
	m.genesis, m.gid = g, g.ID()
	k.turns++ // doors are the group's
	meta.Genesis = g.Append(nil)
	m.makeLedger()
	m.beginRoster()
	m.announce(0, wire.Digest{})
	st := m.seatOf(m.self)
	st.own, st.shown, st.ann, st.digest = true, true, k.ann, k.ann.Digest()
	m.saveMeta()
	m.saveSeat(st)

	for _, p := range m.paths {
		token := ""
		for _, s := range meta.Founding.Relays {
			if s.Key == p.ref.Key {
				token = s.Token
			}
		}
		m.createChannel(p, token)
	}
	m.putWelcome()
	for _, p := range m.paths {
		m.setGoverned(p, governedBy(&proto.Rotate{Posting: p.postingAt(&k.epoch().Key).Public(),
			Admins: []proto.Admin{{Key: ChannelAdmin(k.owner, p.ref.Key).Public(), Rank: proto.RankOwner}}}))
		m.putEntry(p, epochKey, "announcement/"+m.self.String(), 1, meta.Announced, k.owner)
	}
	return nil
}

type boardKey uint8

const (
	doorKey  boardKey = iota // of the epoch in use
	epochKey                 // of the epoch in use
	firstKey                 // of the first epoch
)

// sealing is what entries of a path are sealed with now.
func (m *Machine) sealing(p *path, under boardKey) broadcast.BoardKeys {
	k := m.keysOf(p)
	i := slices.IndexFunc(k.epochs, func(e pathEpoch) bool { return e.Number == m.keyring.inUse })
	switch under {
	case doorKey:
		return k.doors[i]
	case firstKey:
		return k.epochs[len(k.epochs)-1].board
	}
	return k.epochs[i].board
}

// welcomeName is the name of the entry that a seat welcomes newcomers with.
func welcomeName(seat wire.Seat) string { return "welcome/" + seat.String() }

// putWelcome puts the own welcome on every board, under the door of now.
func (m *Machine) putWelcome() {
	m.meta.Welcomed = m.welcomedShown() + 1
	m.meta.WelcomeOf = m.keyring.inUse
	m.saveMeta()
	value := m.welcome().Append(nil)
	for _, p := range m.paths {
		if p.keepsBoard() {
			m.putEntry(p, doorKey, welcomeName(m.self), m.meta.Welcomed, value, m.keyring.owner)
		}
	}
}

// welcome is the own one as of now.
func (m *Machine) welcome() *Welcome {
	w := &Welcome{Genesis: m.meta.Genesis, Epochs: m.keyring.list()}
	w.Sign(m.keyring.signing)
	return w
}

// putEntry queues a board write at one relay.
// welcomedShown is the newest version of the own welcome that is known here or that
// boards show: a backup is behind what the lost installation wrote. A relay's word
// counts for maxAhead versions.
func (m *Machine) welcomedShown() (version uint64) {
	version = m.meta.Welcomed
	for _, p := range m.paths {
		l, ok := p.tree.Get(m.maskedName(p, boardName{welcomeName(m.self), doorKey}))
		if ok && l.Version <= m.meta.Welcomed+maxAhead {
			version = max(version, l.Version)
		}
	}
	return version
}

func (m *Machine) putEntry(p *path, under boardKey, name string, version uint64, value []byte, owner [32]byte) {
	put := m.boardPut(p, under, name, version, value, owner)
	m.signPut(p, &put)
	m.enqueue(p, &postItem{kind: postBoard, id: put.PostID, d: put.Digest(), frame: proto.Encode(put)})
}

func (m *Machine) boardPut(p *path, under boardKey, name string, version uint64, value []byte, owner [32]byte) proto.BoardPut {
	keys := m.sealing(p, under)
	return m.sealedPut(p, &keys, name, version, value, owner)
}

// sealedPut is an entry under these keys, signed by its owner.
func (m *Machine) sealedPut(p *path, under *broadcast.BoardKeys, name string, version uint64, value []byte, owner [32]byte) proto.BoardPut {
	masked, sealed := under.Seal(name, version, value)
	put := proto.BoardPut{PostID: m.drawID(), Name: masked, Version: version, Value: sealed}
	put.SignOwner(OwnerKey(owner, p.ref.Key, name), p.ref.Key, p.channel)
	return put
}
