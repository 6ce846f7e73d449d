package relay

import (
	"slices"
	"strconv"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// rotate replaces the keys of the channel. The ordinal has to be greater than
// the one in force, not the next: this relay may have been restored to an older
// one. The keys in force named again, under their ordinal, make another entry
// and change nothing: two admins may bring one rotation, and who waits for its
// receipt asks again in the next lineage.
func (m *machine) rotate(q *request, r proto.Rotate) {
	s := &m.st.meta
	if r.PostID == (wire.PostID{}) {
		m.denyf(q, proto.CodeMalformed, "a post id of zeros means none")
		return
	}
	if q.d == (wire.Digest{}) {
		q.d = r.Digest()
	}
	rank := proto.RankOf(s.admins, r.Signer)
	// The one in force, byte for byte, came from whom it may have left out.
	if !q.verify(func() bool { return r.Verify(m.cfg.Verify, m.self, s.channel) }) || rank == 0 && q.d != s.rotated {
		m.replaced(q, q.d, "no admin key of the channel signed this rotation")
		return
	}
	st, found, ready := m.known(q)
	switch {
	case !ready:
		return
	case found:
		m.receipt(q, st)
		return
	}
	same := r.Posting == s.posting && slices.Equal(r.Admins, s.admins)
	switch {
	case r.Rotation < s.rotation || r.Rotation == s.rotation && !same:
		// The limit says by what a later one is recognised.
		m.deny(q, &proto.Refusal{Code: proto.CodeConflict, Limit: strconv.FormatUint(s.rotation, 10), Err: errRotation})
		return
	case r.Rotation-s.rotation > proto.MaxRotationStep:
		m.denyLimit(q, proto.CodeTooLarge, "MaxRotationStep", 0)
		return
	case r.Rotation > s.rotation:
		if rank != proto.RankOwner && !slices.Equal(owners(r.Admins), owners(s.admins)) {
			m.replaced(q, q.d, "only an owner's key makes or ends owners")
			return
		}
		if r.Posting != s.posting {
			m.endGrants()
		}
		m.endMailboxes(r.Ended)
		s.posting, s.admins, s.rotation, s.rotated = r.Posting, r.Admins, r.Rotation, q.d
	}
	m.receipt(q, m.append(&entry{kind: kindGrant}, r.PostID, q.d))
}

// owners are the keys of a list that may do anything.
func owners(list []proto.Admin) []proto.Admin {
	return slices.DeleteFunc(slices.Clone(list), func(a proto.Admin) bool { return a.Rank != proto.RankOwner })
}

// endGrants: who leads others in beside the posting key does so no more when
// that is replaced. Nobody could name all grants that a removed admin made.
func (m *machine) endGrants() {
	clear(m.st.grants)
	m.opRange(key(m.unit, keyGrant), keyEnd(m.unit, keyGrant))
}

// endMailboxes makes these the mailboxes that get nothing after this rotation:
// whoever reads one gets what came before, and is told. One that is not among
// them any more goes on where it was.
func (m *machine) endMailboxes(ended []wire.MailboxID) {
	for _, id := range sortedBoxes(m.st.boxes) {
		box := m.st.boxes[id]
		_, ends := slices.BinarySearchFunc(ended, id, compareBoxes)
		if ends == (box.end != end{}) {
			continue
		}
		now := *box
		now.end = end{}
		if ends {
			now.end = end{m.st.meta.lineage(), m.st.meta.head.N + 1}
		}
		m.st.boxes[id] = &now
		m.op(key(m.unit, keyMailbox, id[:]), now.encode())
		m.st.meta.mailboxRev++
		for _, lk := range m.subs {
			if lk.sub.box == id {
				m.enqueue(lk)
			}
		}
	}
}

// replaced answers what no key in force signed. If a rotation replaced the key
// after d got its number under this post id, that is still the answer: whoever
// lost a receipt asks again byte for byte. All else is refused with text.
func (m *machine) replaced(q *request, d wire.Digest, text string) {
	if m.st.meta.rotation > 0 {
		st, found, ready := m.known(q)
		switch {
		case !ready:
			return
		case found && st.D == d:
			m.receipt(q, st)
			return
		}
	}
	m.denyf(q, proto.CodeNotAllowed, "%s", text)
}
