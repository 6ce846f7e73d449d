package relay

import (
	"parallax/broadcast/proto"
	"parallax/internal/keys"
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
	// The one in force, byte for byte, was verified when it came; the admin key
	// that signed it may be the one that it replaced.
	if q.d != s.rotated && !q.verifyUnder(s.admin, func() bool { return r.Verify(m.cfg.Verify, s.admin, m.self, s.channel) }) {
		m.replaced(q, q.d, "the channel's admin key did not sign this rotation")
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
	admin := r.Admin
	if admin == (keys.AdminPublic{}) {
		admin = s.admin
	}
	switch {
	case r.Rotation < s.rotation:
		m.denyf(q, proto.CodeConflict, "rotation %d is in force, this is %d", s.rotation, r.Rotation)
		return
	case r.Rotation == s.rotation && (r.Posting != s.posting || admin != s.admin):
		m.denyf(q, proto.CodeConflict, "rotation %d is in force with other keys", s.rotation)
		return
	case r.Rotation-s.rotation > proto.MaxRotationStep:
		m.denyLimit(q, proto.CodeTooLarge, "MaxRotationStep", 0)
		return
	case r.Rotation > s.rotation:
		s.posting, s.admin, s.rotation, s.rotated = r.Posting, admin, r.Rotation, q.d
	}
	m.receipt(q, m.append(&entry{kind: kindGrant}, r.PostID, q.d))
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
