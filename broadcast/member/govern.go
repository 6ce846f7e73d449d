package member

import (
	"slices"
	"strconv"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Governing: an admin's machine makes the relays obey what the roster says, by
// one Rotate each: the posting key of the epoch in use, the admin keys of all
// admins, an end of the mailboxes of who is out. Who made the epoch does it once
// the operations and the key have their receipts; other admins do it when it
// stays undone.

// governing is what an admin's machine knows of one relay.
type governing struct {
	at      time.Time // when it is rotated; zero: it need not be
	want    wire.Digest
	inForce uint64 // ordinal that the relay said is in force
}

const tagGoverned = "parallax/1/governed"

// rotation is what a relay is to obey now; nil: this member cannot say, or has
// no admin key.
func (m *Machine) rotation(p *path) *proto.Rotate {
	own := ChannelAdmin(m.keyring.owner, p.ref.Key)
	r := &proto.Rotate{Signer: own.Public(), Posting: p.postingAt(&m.keyring.epoch().Key).Public(), Ended: m.ended(p)}
	rank := map[keys.AdminPublic]proto.Rank{}
	for _, level := range []uint8{RoleOwner, RoleAdmin} { // owners first, should there be too many
		for i := range m.state.Members {
			x := &m.state.Members[i]
			if x.Role != level || x.Suspended || len(rank) == proto.MaxAdmins {
				continue
			}
			key := m.adminKey(x.Seat, p.ref.Key)
			if key != (keys.AdminPublic{}) && rank[key] == 0 {
				rank[key] = proto.RankAdmin
				if level == RoleOwner {
					rank[key] = proto.RankOwner
				}
			}
		}
	}
	owners := false
	for key, is := range rank {
		r.Admins = append(r.Admins, proto.Admin{Key: key, Rank: is})
		owners = owners || is == proto.RankOwner
	}
	if !owners || rank[own.Public()] == 0 {
		return nil
	}
	proto.SortAdmins(r.Admins)
	return r
}

// adminKey is a seat's admin key on a relay, as it announces it; zero: not known.
func (m *Machine) adminKey(seat wire.Seat, relay keys.RelayPublic) keys.AdminPublic {
	st := m.seats[seat]
	if st == nil || st.ann == nil {
		return keys.AdminPublic{}
	}
	for _, b := range st.ann.Mailboxes {
		if b.Relay == relay {
			return b.Admin
		}
	}
	return keys.AdminPublic{}
}

// ended are the mailboxes on a relay of who is out, as they are announced, but
// those that somebody who stays names too.
func (m *Machine) ended(p *path) (list []wire.MailboxID) {
	stay, gone := map[wire.MailboxID]bool{}, map[wire.MailboxID]bool{}
	for _, st := range m.seats {
		if st.ann == nil {
			continue
		}
		for _, b := range st.ann.Mailboxes {
			switch {
			case b.Relay != p.ref.Key:
			case m.out(st.seat):
				gone[b.ID] = true
			default:
				stay[b.ID] = true
			}
		}
	}
	for id := range gone {
		if !stay[id] {
			list = append(list, id)
		}
	}
	slices.SortFunc(list, func(a, b wire.MailboxID) int { return slices.Compare(a[:], b[:]) })
	return list[:min(len(list), proto.MaxEnded)]
}

// govern rotates what is due.
func (m *Machine) govern() {
	waits := slices.ContainsFunc(m.paths, func(p *path) bool { return !p.governing.at.IsZero() })
	if m.governed && !waits || m.roster == nil || m.state == nil || m.starting.underWay() {
		return
	}
	if !m.admin() { // any more: nothing of it is due
		for _, p := range m.paths {
			p.governing.at = time.Time{}
		}
		return
	}
	m.governed = true
	changed := false
	for _, p := range m.paths {
		r := m.rotation(p)
		if !p.takesPosts() || r == nil {
			p.governing.at = time.Time{}
			continue
		}
		want := governedBy(r)
		g := &p.governing
		if want == m.obeyed(p) || m.rotating(p) {
			g.at = time.Time{}
			continue
		}
		changed = true
		first := m.beganEpoch() || m.grants(p)
		if g.at.IsZero() || g.want != want {
			g.want, g.at = want, m.now
			if !first {
				g.at = m.now.Add(2 * m.dutyWait())
			}
		}
		switch {
		case first && !m.toldEpoch() && m.now.Before(g.at.Add(m.state.Policy.Deadline)):
		case !first && m.now.Before(g.at):
		case !first && p.taking.works == m.keyring.inUse && m.adminsBefore() >= maxGovern:
			m.setGoverned(p, want) // who made the epoch told the relay, and it is theirs to say who are admins
			g.at = time.Time{}
		default:
			m.sendRotate(p, r)
		}
	}
	m.author = m.author && changed
	if m.meta.WelcomeOf != m.keyring.inUse {
		m.putWelcome()
	}
}

// maxGovern is how many admins tell a relay who its admins are, beside the one who
// changed them: should that one be gone. Default: 2.
const maxGovern = 2

// adminsBefore is how many admins come before this one.
func (m *Machine) adminsBefore() (n int) {
	for i := range m.state.Members {
		if x := &m.state.Members[i]; privilege(x.Role) >= privilege(RoleAdmin) && compareSeats(x.Seat, m.self) < 0 {
			n++
		}
	}
	return n
}

// grants tells whether a grant waits for a rotation.
func (m *Machine) grants(p *path) bool {
	return slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postGrant })
}

// governAt is when the next relay is rotated; zero: none is.
func (m *Machine) governAt() (t time.Time) {
	if m.roster == nil || !m.admin() || m.starting.underWay() { // govern does nothing then
		return t
	}
	for _, p := range m.paths {
		at := p.governing.at
		if !at.IsZero() && !m.now.Before(at) {
			at = at.Add(m.state.Policy.Deadline)
		}
		if !at.IsZero() && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}

// beganEpoch tells whether an epoch in force is this member's, or it changed the
// roster in this opening: then it is the first to tell the relays.
func (m *Machine) beganEpoch() bool {
	return m.author || slices.ContainsFunc(m.state.Epochs, func(h EpochHead) bool {
		l := m.log[h.Operation]
		return l != nil && l.op.Seat() == m.self
	})
}

// toldEpoch tells whether what this member wrote is at enough operators: with
// nothing waiting for a receipt there, the operations and the key are.
func (m *Machine) toldEpoch() bool {
	return m.enough(func(p *path) bool {
		return !slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postBoard || q.ofBundle() })
	})
}

// sendRotate tells a relay what to obey from now on.
func (m *Machine) sendRotate(p *path, r *proto.Rotate) {
	g := &p.governing
	r.PostID = m.drawID()
	r.Rotation = max(uint64(m.roster.Len()), g.inForce+1, 1)
	r.Sign(ChannelAdmin(m.keyring.owner, p.ref.Key), p.ref.Key, p.channel)
	m.enqueue(p, &postItem{kind: postRotate, id: r.PostID, d: r.Digest(), frame: proto.Encode(*r)})
	g.at = time.Time{}
}

// rotating tells whether a Rotate waits for its answer.
func (m *Machine) rotating(p *path) bool {
	return slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postRotate })
}

// awaitsRotation tells whether a post waits for a Rotate: requests of one link
// may be looked at in another order than they came, and a grant ends with the
// posting key that is in force beside it.
func (m *Machine) awaitsRotation(p *path, q *postItem) bool {
	return q.kind == postGrant && (m.rotating(p) || !p.governing.at.IsZero())
}

// rotated: the relay obeys a Rotate of this member from now on.
func (m *Machine) rotated(p *path, q *postItem) {
	msg, err := proto.Parse(q.frame)
	if err != nil {
		return
	}
	r, ok := msg.(proto.Rotate)
	if !ok {
		return
	}
	p.governing.inForce = max(p.governing.inForce, r.Rotation)
	m.governed = false
	m.setGoverned(p, governedBy(&r))
	if e := m.keyring.epoch(); r.Posting == p.postingAt(&e.Key).Public() {
		p.taking.number, p.taking.works = e.Number, e.Number
		p.retryPosts()
	}
}

// rotateRefused: somebody who knows more rotated, or who is no admin any more, or
// this member is none there. It is looked at again when there was time to learn.
func (m *Machine) rotateRefused(p *path, f proto.Refused) {
	g := &p.governing
	wait := 2 * m.dutyWait()
	if n, err := strconv.ParseUint(f.Limit, 10, 64); err == nil && f.Code == proto.CodeConflict && n < 1<<63 {
		if g.inForce = max(g.inForce, n); n > uint64(m.roster.Len()) {
			wait = m.cfg.Limits.AnswerWait
		}
	} else {
		wait = m.cfg.Limits.AnswerWait
	}
	g.at = m.now.Add(wait)
	m.governed = false
}

// governedBy names what a Rotate makes a relay obey.
func governedBy(r *proto.Rotate) wire.Digest {
	parts := [][]byte{r.Posting[:], proto.AppendAdmins(nil, r.Admins)}
	for i := range r.Ended {
		parts = append(parts, r.Ended[i][:])
	}
	return wire.Hash(tagGoverned, parts...)
}

// obeyed is what a relay was told last, by this member or as far as it can
// tell by another.
func (m *Machine) obeyed(p *path) (d wire.Digest) {
	if p.index < len(m.meta.Governed) {
		copy(d[:], m.meta.Governed[p.index])
	}
	return d
}

func (m *Machine) setGoverned(p *path, d wire.Digest) {
	for len(m.meta.Governed) <= p.index {
		m.meta.Governed = append(m.meta.Governed, nil)
	}
	m.meta.Governed[p.index] = slices.Clone(d[:])
	m.saveMeta()
}
