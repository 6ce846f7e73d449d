package member

import (
	"crypto/mlkem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func kemFromSeed(seed []byte) (*mlkem.DecapsulationKey768, error) {
	return mlkem.NewDecapsulationKey768(seed)
}

// prekeyLife is how long an announcement's prekeys are offered. Rotation comes
// with the complete core; until then one announcement serves a membership.
const prekeyLife = 365 * 24 * time.Hour

// command takes a user's wish.
func (m *Machine) command(c broadcast.Command) {
	if m.repeated(c.ID) {
		return
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
		m.waitJoined(c.ID)
		return
	}
	if m.meta == nil || !m.isMember() {
		if _, ok := c.Wish.(GetStatus); ok && m.meta != nil {
			answer(m.status(), nil)
			return
		}
		answer(nil, ErrNotReady)
		return
	}
	switch w := c.Wish.(type) {
	case MakeInvite:
		m.makeInvite(c.ID, w)
	case SendText:
		m.sendText(c.ID, w)
	case GetStatus:
		answer(m.status(), nil)
	case GetPaths:
		v, err := m.pathsOf(w)
		answer(v, err)
	case GetCode:
		v, err := m.code(w)
		answer(v, err)
	case GetEvidence:
		v, err := m.evidenceOf(w)
		answer(v, err)
	default:
		answer(nil, fmt.Errorf("member: wish of type %T", c.Wish))
	}
}

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
	if w.Deadline == 0 {
		w.Deadline = DefaultDeadline
	}
	meta := &metaRecord{Phase: phaseFounding, Group: w.Group, Name: w.Name, Founding: &w}
	m.newIdentity(meta, len(w.Relays))
	fresh := func() []byte { b := m.draw32(); return b[:] }
	meta.Admin, meta.Door, meta.Invite, meta.Channels = fresh(), fresh(), fresh(), fresh()
	meta.Epochs = []epochRecord{{Number: 1, Key: fresh()}}
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

func (m *Machine) waitFounded(id uint64) {
	m.waiting = append(m.waiting, waiter{id: id, until: m.deadline,
		done: func() (any, error, bool) { return m.info(), nil, m.isMember() },
		late: func() (any, error) {
			var missing []string
			for _, p := range m.paths {
				if !p.registered || len(p.queue) > 0 {
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

func (m *Machine) info() GroupInfo {
	g := GroupInfo{Group: m.meta.Group, Name: m.meta.Name, ID: m.gid.String(), ShortID: ShortID(m.gid)}
	if m.self != (wire.Seat{}) {
		g.Seat = m.self.String()
	}
	return g
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
	if len(m.paths) == 1 {
		return "1 relay: nothing is compared"
	}
	return fmt.Sprintf("%d relays", len(m.paths))
}

func (m *Machine) failWaiting(err error) {
	for _, w := range m.waiting {
		m.answer(w.id, nil, err)
	}
	m.waiting = nil
}

// found makes the genesis and everything that the boards must have.
func (m *Machine) found() error {
	meta, k := m.meta, m.keyring
	g := &Genesis{Name: meta.Group, Founder: k.signing.Public(), Created: unixTime(m.now), Random: m.draw32(),
		Policy: Policy{Strict: meta.Founding.Strict, Mode: ModeOpen, Suite: Suite1, Deadline: meta.Founding.Deadline, Retention: DefaultRetention}}
	for _, p := range m.paths {
		p.ref.Operator, p.ref.OperatorName = p.post.operator.Operator, p.post.operator.Name
		g.Relays = append(g.Relays, p.ref)
	}
	if err := g.Check(); err != nil {
		return err
	}
	m.genesis, m.gid = g, g.ID()
	meta.Genesis = g.Append(nil)
	m.ledger = crossverify.NewLedger(m.policy())
	m.announce()
	st := m.seatOf(m.self)
	st.own, st.shown, st.ann, st.digest = true, true, k.ann, k.ann.Digest()
	m.saveMeta()
	m.saveSeat(st)

	welcome := &Welcome{Group: m.gid, Epochs: k.epochs}
	welcome.Sign(k.signing)
	for _, p := range m.paths {
		token := ""
		for _, s := range meta.Founding.Relays {
			if s.Key == p.ref.Key {
				token = s.Token
			}
		}
		admin := ChannelAdmin(k.admin, p.ref.Key)
		c := proto.Create{PostID: m.drawID(), Token: []byte(token), Admin: admin.Public(), Posting: PostingKey(&k.epoch().Key, p.ref.Key).Public()}
		c.Sign(admin, p.ref.Key, p.channel)
		m.enqueue(p, &postItem{kind: postCreate, id: c.PostID, d: c.Digest(), frame: proto.Encode(c)})
		m.putEntry(p, doorKey, "genesis", 1, meta.Genesis, k.admin)
		m.putEntry(p, doorKey, "welcome", 1, welcome.Append(nil), k.admin)
		m.putEntry(p, epochKey, "announcement/"+m.self.String(), 1, meta.Announced, k.owner)
	}
	return nil
}

type boardKey uint8

const (
	doorKey boardKey = iota
	epochKey
)

// putEntry queues a board write at one relay.
func (m *Machine) putEntry(p *path, under boardKey, name string, version uint64, value []byte, owner [32]byte) {
	put := m.boardPut(p, under, name, version, value, owner)
	capability := PostingKey(&m.keyring.epoch().Key, p.ref.Key)
	put.Capability = capability.Public()
	put.Sign(capability, p.ref.Key, p.channel)
	m.enqueue(p, &postItem{kind: postBoard, id: put.PostID, d: put.Digest(), frame: proto.Encode(put)})
}

func (m *Machine) boardPut(p *path, under boardKey, name string, version uint64, value []byte, owner [32]byte) proto.BoardPut {
	key := m.keyring.door.Expose()
	if under == epochKey {
		key = m.keyring.epoch().Key.Expose()
	}
	masked, sealed := broadcast.NewBoardKeys(key, p.ref.Key).Seal(name, version, value)
	put := proto.BoardPut{PostID: m.drawID(), Name: masked, Version: version, Value: sealed}
	put.SignOwner(OwnerKey(owner, p.ref.Key, name), p.ref.Key, p.channel)
	return put
}

// join begins to join by link, or goes on with a joining that was cut off.
func (m *Machine) join(w JoinGroup) error {
	if m.meta != nil {
		if m.meta.Phase == phaseJoining && m.meta.Link == w.Link {
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
	m.newIdentity(meta, len(inv.Relays))
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
		return m.genesis.Policy.Deadline
	}
	return DefaultDeadline
}

// resume goes on with a founding or joining that a restart cut off.
func (m *Machine) resume() {
	if m.meta.Phase == phaseMember || !m.deadline.IsZero() {
		return
	}
	m.deadline = m.now.Add(m.joinWait())
	for _, p := range m.paths {
		p.listed = false // what was read of the board before is read again
		p.post.founded = m.genesis != nil && !slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postCreate })
	}
}

func (m *Machine) waitJoined(id uint64) {
	m.waiting = append(m.waiting, waiter{id: id,
		done: func() (any, error, bool) { return m.info(), nil, m.isMember() }})
}

// sawGenesis takes the genesis if it is the one that the link names.
func (m *Machine) sawGenesis(p *path, value []byte) {
	if m.genesis != nil || m.meta.Phase != phaseJoining {
		return
	}
	g, err := ParseGenesis(value)
	if err != nil || g.ID() != m.gid {
		m.invalid(p, "a genesis that is not the one of your link")
		return
	}
	if !slices.EqualFunc(g.Relays, m.paths, func(r RelayRef, p *path) bool { return r.Key == p.ref.Key }) {
		m.failWaiting(fmt.Errorf("%w: the link names other relays than the group's own list; ask for a new link", ErrGenesis))
		return
	}
	m.genesis = g
	m.meta.Genesis = slices.Clone(value)
	m.meta.Group = g.Name
	for i, p := range m.paths {
		p.ref.Operator, p.ref.OperatorName = g.Relays[i].Operator, g.Relays[i].OperatorName
	}
	m.ledger = crossverify.NewLedger(m.policy())
	m.saveMeta()
}

// sawWelcome takes the epoch keys and makes the newcomer's own seat.
func (m *Machine) sawWelcome(p *path, value []byte) {
	k := m.keyring
	if len(k.epochs) > 0 {
		return
	}
	w, err := ParseWelcome(value)
	if err != nil || w.Group != m.gid || w.Verify(m.cfg.Verify, m.genesis.Founder) != nil || len(w.Epochs) == 0 {
		m.invalid(p, "a welcome")
		return
	}
	k.epochs = w.Epochs
	for i := range w.Epochs {
		m.meta.Epochs = append(m.meta.Epochs, epochRecord{w.Epochs[i].Number, slices.Clone(w.Epochs[i].Key.Expose())})
	}
	m.announce()
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
		if q.aside {
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

// unstash reads what came before the epoch key did.
func (m *Machine) unstash() {
	if m.ledger == nil || len(m.keyring.epochs) == 0 {
		return
	}
	for _, p := range m.paths {
		if items := p.stash; items != nil {
			p.stash = nil
			m.readBoard(p, items)
			m.absences(p)
		}
	}
}

// stepJoining ends a joining: admission complete at q operators, every relay
// asked and read, every seat on the boards compared; or the deadline passed
// and q operators answered.
func (m *Machine) stepJoining() {
	if m.meta == nil || m.meta.Phase != phaseJoining {
		return
	}
	m.unstash()
	late := !m.deadline.IsZero() && !m.now.Before(m.deadline)
	if m.genesis == nil || m.keyring.adm == nil {
		if late {
			m.failJoin()
		}
		return
	}
	admitted, answered, settled := m.operators(func(p *path) bool {
		return !slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postAdmit })
	}), m.operators(func(p *path) bool { return p.listed }), true
	seats, agreed := 0, 0
	for _, st := range m.sortedSeats() {
		if st.own || st.ann == nil {
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
		m.hint(Event{Kind: EventProgress, Done: agreed, Total: seats, Text: fmt.Sprintf("keys of %d/%d members agreed, %d/%d relays answered", agreed, seats, answered, len(m.paths))})
	}
	all := !slices.ContainsFunc(m.paths, func(p *path) bool { return !p.listed })
	need := m.needed()
	if late && all && !settled && !m.extended {
		// The boards were read late: what they do not agree on is decided
		// before the newcomer begins to speak.
		m.extended, m.deadline = true, m.now.Add(m.joinWait())
		return
	}
	if admitted >= need && answered >= need && (all && settled || late) {
		m.joined(agreed)
	} else if late {
		m.failJoin()
	}
}

// needed is q, or all operators that are left when some were set aside.
func (m *Machine) needed() int {
	return max(1, min(m.genesis.Needed(), m.operators(func(p *path) bool { return !p.aside })))
}

// operators counts the distinct operators of the paths that hold.
func (m *Machine) operators(hold func(*path) bool) int {
	seen := map[keys.OperatorPublic]bool{}
	for _, p := range m.paths {
		if !p.aside && hold(p) {
			seen[p.ref.Operator] = true
		}
	}
	return len(seen)
}

func (m *Machine) joined(members int) {
	m.meta.Phase = phaseMember
	m.meta.Joined = true
	m.deadline = time.Time{}
	m.saveMeta()
	for _, st := range m.sortedSeats() {
		m.askedAll(st)
		if m.usable(st) {
			st.shown = true
			m.saveSeat(st)
		}
	}
	m.show(Event{Kind: EventJoined, Own: true, Seat: m.self.String(), Member: m.meta.Name,
		Text: fmt.Sprintf("You joined %s: %s, %d of %d relays answered.", m.meta.Group, plural(members, "other member"), m.operators(func(p *path) bool { return p.listed }), len(m.paths))})
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
	for _, p := range m.paths {
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
	m.deadline = m.now.Add(m.joinWait())
	m.failWaiting(fmt.Errorf("%w: %s", cause, strings.Join(why, "; ")))
}

// noteRefusal remembers why a relay refused a newcomer or a founder.
func (m *Machine) noteRefusal(p *path, f proto.Refused) {
	switch f.Code {
	case proto.CodeExpired, proto.CodeUsedUp:
		p.refused = fmt.Errorf("%w (relay %s: %s)", ErrExpired, p.label(), f.Text)
	default:
		p.refused = fmt.Errorf("%w: relay %s: %s", ErrRefused, p.label(), f.Text)
	}
	if m.meta.Phase == phaseFounding || m.operators(func(q *path) bool { return q.refused == nil }) < m.neededOr1() {
		m.failWaiting(p.refused)
	}
}

func (m *Machine) neededOr1() int {
	if m.genesis == nil {
		return 1
	}
	return m.needed()
}

// makeInvite makes an invitation: a grant at each relay and its record on the
// boards. The answer waits for q operators.
func (m *Machine) makeInvite(id uint64, w MakeInvite) {
	if len(m.meta.Admin) == 0 {
		m.answer(id, nil, ErrNotAdmin)
		return
	}
	set(&w.Uses, DefaultUses)
	set(&w.Valid, DefaultValid)
	k := m.keyring
	inv := &Invitation{Group: m.gid, Door: k.door, Secret: keys.NewSecret[keys.RoleInviting](m.draw32()), Channels: k.channels,
		Expires: unixTime(m.now.Add(w.Valid)), Role: RoleMember}
	for _, p := range m.paths {
		inv.Relays = append(inv.Relays, LinkRelay{Key: p.ref.Key, Addrs: p.ref.Addrs})
	}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: w.Uses, PerHour: min(w.Uses, DefaultPerHour), Expires: inv.Expires, Role: RoleMember}
	rec.Sign(k.signing)
	m.addInvite(rec)
	inviteID := InviteID(rec.Key)
	name := fmt.Sprintf("invite/%x", inviteID)
	wanted := map[wire.PostID]*path{}
	for _, p := range m.paths {
		if p.aside {
			continue
		}
		admin := ChannelAdmin(k.admin, p.ref.Key)
		g := proto.Grant{PostID: m.drawID(), Posting: inv.InvitePosting(p.ref.Key).Public(), Uses: rec.Uses, PerHour: rec.PerHour, Expires: uint64(rec.Expires.Unix())}
		g.Sign(admin, p.ref.Key, p.channel)
		m.enqueue(p, &postItem{kind: postGrant, id: g.PostID, d: g.Digest(), frame: proto.Encode(g)})
		m.putEntry(p, doorKey, name, 1, rec.Append(nil), k.admin)
		for _, q := range p.queue[len(p.queue)-2:] {
			wanted[q.id] = p
		}
	}
	kept := func() int {
		return m.operators(func(p *path) bool {
			mine := slices.DeleteFunc(sortedPosts(wanted), func(id wire.PostID) bool { return wanted[id] != p })
			return len(mine) > 0 && !slices.ContainsFunc(mine, func(id wire.PostID) bool { return m.queued(p, id) || m.declined[id] })
		})
	}
	pending := func() bool {
		return slices.ContainsFunc(sortedPosts(wanted), func(id wire.PostID) bool { return !wanted[id].aside && m.queued(wanted[id], id) })
	}
	result := func() InviteInfo {
		return InviteInfo{Link: inv.Link(), Uses: rec.Uses, Expires: rec.Expires, Relays: kept()}
	}
	m.waiting = append(m.waiting, waiter{id: id, until: m.now.Add(m.genesis.Policy.Deadline),
		done: func() (any, error, bool) { return result(), nil, !pending() && kept() >= m.needed() },
		late: func() (any, error) {
			if kept() >= m.needed() {
				return result(), nil
			}
			return nil, fmt.Errorf("%w: %d of %d needed relays keep the invitation so far; it is sent to the others when they are back", ErrUnreached, kept(), m.needed())
		}})
}

func sortedPosts(ids map[wire.PostID]*path) []wire.PostID {
	var s []wire.PostID
	for id := range ids {
		s = append(s, id)
	}
	slices.SortFunc(s, func(a, b wire.PostID) int { return slices.Compare(a[:], b[:]) })
	return s
}

func (m *Machine) queued(p *path, id wire.PostID) bool {
	return slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.id == id })
}
