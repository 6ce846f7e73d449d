package member

import (
	"fmt"
	"slices"
	"strings"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// Announcements of one seat follow each other, each signed by the key of the one
// before. Two valid ones of a version are the doing of whoever has the seat's
// key: no relay is blamed, whichever shows which, and nothing is encrypted to the
// seat until a later version is there (docs/protocol.md section 9.1). So each is
// checked against what it follows, not against what happened to come first.

// unproven is an announcement that a path shows and whose signer is not known: a
// newcomer may read the second successor before anything that has the first key.
type unproven struct {
	path int
	ann  *Announcement
}

// maxUnproven is how many of them one path may make a member keep, of all seats;
// maxOrphans of one.
const maxUnproven = 256

// vouched tells whether an announcement is its seat's, as far as can be known:
//   - it carries the key that makes its seat, and is signed by it, as everybody who
//     knows nothing else of the seat takes it; or
//   - it is signed by the key of the version before it, if that is known; or
//   - that is not known, and it is signed by a key that an earlier version carries,
//     or by the one that makes the seat.
//
// known is false while a key may turn up that signed it.
func (m *Machine) vouched(st *seatState, a *Announcement) (ok, known bool) {
	if a.Version == 1 || m.makes(a.Seat, a.Signing) {
		if a.Verify(m.cfg.Verify, keys.SigningPublic{}) == nil {
			return true, true
		}
		if a.Version == 1 {
			return false, true
		}
	}
	before := st.former
	if st.ann != nil {
		before = append(before[:len(before):len(before)], formerAnnouncement{version: st.ann.Version, digest: st.digest, signing: st.ann.Signing})
	}
	for _, f := range before {
		if f.version+1 == a.Version && f.digest == a.Previous {
			return a.Verify(m.cfg.Verify, f.signing) == nil, true
		}
	}
	for _, f := range before {
		first := m.makes(a.Seat, f.signing)
		if (first || f.version < a.Version) && a.Verify(m.cfg.Verify, f.signing) == nil {
			return true, true
		}
		known = known || first && a.Version == 2 // which no other key signs
	}
	return false, known
}

// makes tells whether a key makes a seat.
func (m *Machine) makes(seat wire.Seat, key keys.SigningPublic) bool {
	return NewSeat(m.gid, key) == seat
}

func (m *Machine) sawAnnouncement(p *path, seat wire.Seat, value []byte) {
	a, err := ParseAnnouncement(value)
	if err != nil || a.Group != m.gid || a.Seat != seat {
		m.invalid(p, "an announcement")
		return
	}
	m.takeAnnouncement(p, a)
}

// takeAnnouncement takes one that a path shows. Which of two successors came first
// makes no difference to what the paths are said to show.
func (m *Machine) takeAnnouncement(p *path, a *Announcement) {
	st, d := m.seatOf(a.Seat), a.Digest()
	if st.ann == nil || d != st.digest {
		switch ok, known := m.vouched(st, a); {
		case ok:
		case !known:
			m.waitForKey(p, st, a, d)
			return
		case st.ann == nil || a.Version >= st.ann.Version:
			m.invalid(p, "an announcement")
			return
		default:
			return
		}
	}
	if st.own && d != st.digest && a.Version >= st.ann.Version && !m.meta.Restored {
		m.laterOwn(p, a)
		return
	}
	switch {
	case st.ann == nil || a.Version > st.ann.Version:
		m.succeed(st, a, d)
	case d != st.digest:
		m.formerly(st, a, d)
	}
	if a.Version < st.ann.Version {
		m.retryUnproven(st)
		return
	}
	m.ledger.Claim(m.now, crossverify.Path(p.index), crossverify.Announcement(a.Seat, a.Version), d)
	m.retryUnproven(st)
	m.askedAll(st)
	m.seatChanged(st)
	if m.usable(st) && m.holds(a.Seat) {
		m.retryHeld(a.Seat) // shares of this path count from now on
	}
}

// succeed puts a later version in the place of the newest.
func (m *Machine) succeed(st *seatState, a *Announcement, d wire.Digest) {
	m.supersede(st)
	m.newInstallation(st, a)
	m.newKey(st, a.Signing)
	if st.ann != nil {
		st.annAt = m.now
	}
	st.ann, st.digest = a, d
	if st.session.index == badPrekeys {
		st.session.index = -1
	}
	if m.meta.Phase == phaseJoining {
		st.initial = true
	} else if st.order == 0 && !st.initial && !st.own {
		m.counters.order++
		st.order = m.counters.order
		m.saveCounters()
	}
}

// waitForKey keeps an announcement until its signer is known. Until then it is
// nothing that verifies of the seat.
func (m *Machine) waitForKey(p *path, st *seatState, a *Announcement, d wire.Digest) {
	list := m.unproven[a.Seat]
	of := 0
	for _, u := range list {
		if u.path != p.index {
			continue
		}
		if of++; u.ann.Signature == a.Signature && u.ann.Digest() == d {
			return // the board was read again
		}
	}
	if of >= maxOrphans || p.unproven >= maxUnproven {
		m.invalid(p, "an announcement")
		return
	}
	m.unproven[a.Seat] = append(list, unproven{p.index, a})
	p.unproven++
	p.orphans++
	m.savePath(p)
	if st.ann != nil && m.ledger != nil {
		m.ledger.Fail(m.now, crossverify.Path(p.index), crossverify.Announcement(st.seat, st.ann.Version))
		m.seatChanged(st)
	}
}

// retryUnproven looks again at what waits of a seat of which more is known now.
func (m *Machine) retryUnproven(st *seatState) {
	waiting := m.unproven[st.seat]
	delete(m.unproven, st.seat)
	for _, u := range waiting {
		p := m.paths[u.path]
		p.unproven--
		p.orphans--
		m.takeAnnouncement(p, u.ann)
		m.savePath(p)
	}
}

// twoSuccessors tells whether a seat's own key signed two announcements of its
// newest version.
func (m *Machine) twoSuccessors(st *seatState) bool {
	return m.ledger != nil && st.ann != nil && m.ledger.Report(crossverify.Announcement(st.seat, st.ann.Version)).Equivocated
}

// successorCodes are the codes of this seat and another, one for each signing key
// that the announcements of its newest version carry, ascending by digest.
func (m *Machine) successorCodes(st *seatState) (codes []string) {
	list := append([]formerAnnouncement{{version: st.ann.Version, digest: st.digest, signing: st.ann.Signing}}, st.former...)
	list = slices.DeleteFunc(list, func(f formerAnnouncement) bool { return f.version != st.ann.Version })
	slices.SortFunc(list, func(a, b formerAnnouncement) int { return compareDigests(a.digest, b.digest) })
	own := ratchet.CodeHolder{Seat: m.self, Key: m.keyring.signing.Public()}
	for _, f := range list {
		if code := ratchet.PairCode(own, ratchet.CodeHolder{Seat: st.seat, Key: f.signing}).String(); !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// CodeParts is of each code, twelve groups of five digits, the beginning of what the
// others do not have: half of a code is the own device's. Of a single one it is the
// beginning.
func CodeParts(codes []string) []string {
	parts := make([]string, len(codes))
	for i, c := range codes {
		groups := slices.DeleteFunc(strings.Fields(c), func(g string) bool {
			return slices.ContainsFunc(codes, func(o string) bool { return o != c && strings.Contains(o, g) })
		})
		parts[i] = strings.Join(groups[:min(2, len(groups))], " ") + " ..."
	}
	return parts
}

// successorsText is what a person is told of two successors.
func (m *Machine) successorsText(st *seatState) string {
	name, what := m.display(st), "successors"
	if st.ann.Version == 1 {
		what = "first announcements"
	}
	others := 0
	for _, o := range m.seats {
		if o != st && !o.own && m.usable(o) {
			others++
		}
	}
	rest := ""
	switch others {
	case 0:
	case 1:
		rest = "; the other member gets your messages"
	default:
		rest = fmt.Sprintf("; the other %d get your messages", others)
	}
	codes := m.successorCodes(st)
	compare := fmt.Sprintf("Compare code %s with %s", CodeParts(codes)[0], name)
	if len(codes) > 1 {
		compare = fmt.Sprintf("They carry different keys: compare code with %s, which has %s for the other", name, strings.Join(CodeParts(codes), " for one and "))
	}
	return fmt.Sprintf("%s's own key signed two %s. Sending to %s waits%s. No relay is blamed. %s, and ask whether there is a second installation or a restored backup.",
		name, what, name, rest, compare)
}
