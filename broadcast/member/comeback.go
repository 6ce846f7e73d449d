package member

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Coming back without the epoch's key: a backup from before an epoch began opens
// neither what is written since nor a session, and no relay takes its posts. What
// it has is the seat's own key and mailboxes that stand. So it announces itself
// under the first epoch, whose key all have, by the capability of a mailbox, which
// writes later versions of own entries and nothing else; and members answer with
// the keys, sealed to that announcement (docs/protocol.md section 8.5). Whoever was
// removed gets none: its seat is not in the roster, its mailboxes are ended.

const (
	// maxAhead is how many versions a relay may show the own announcement ahead of
	// the newest that opens here: one a week is made. Default: 1,024.
	maxAhead = 1024
	// askBackAgain is how long the keys are waited for before they are asked for
	// again; each time twice as long, maxAskBack times. Default: 1 h.
	askBackAgain = time.Hour
	maxAskBack   = 5
)

// lacksEpoch tells whether an epoch is in force whose key is not here, or the
// boards show a version of the own announcement that no key opens.
func (m *Machine) lacksEpoch() bool {
	return m.lacksHead() || m.newestShown() > m.seats[m.self].ann.Version
}

func (m *Machine) lacksHead() bool {
	return slices.ContainsFunc(m.state.Epochs, func(h EpochHead) bool { return m.fits(&h) == nil })
}

// newestShown is the newest version of the own announcement that boards show.
func (m *Machine) newestShown() (version uint64) {
	for _, p := range m.paths {
		if v := m.shownVersion(p, "announcement/"+m.self.String()); v <= m.seats[m.self].ann.Version+maxAhead {
			version = max(version, v)
		}
	}
	return version
}

// waitsForKeys tells whether entries still wait for a key to come by itself.
func (m *Machine) waitsForKeys() bool {
	return slices.ContainsFunc(m.used(), func(p *path) bool { return len(p.stash.entries) > 0 })
}

// awaitsKeys tells whether keys of epochs are known to be missing here: what does
// not open meanwhile is nobody's fault.
func (m *Machine) awaitsKeys() bool {
	return m.meta.Restored || m.state != nil && m.lacksHead()
}

// unopened tells whether a board that was read shows what no key opens.
func (m *Machine) unopened() bool {
	return slices.ContainsFunc(m.used(), func(p *path) bool { return len(p.stash.entries) > 0 || p.stash.missed })
}

// askBack announces the seat, under the first epoch, so that members answer with
// the keys. The version leaves one out where the newest cannot be read: nobody
// takes what follows it at once without its digest.
func (m *Machine) askBack() {
	st, newest := m.seats[m.self], m.newestShown()
	if m.meta.Asked == 0 {
		m.newLife()
	}
	m.meta.Asked++
	m.askBackAt = m.now.Add(askBackAgain << min(m.meta.Asked-1, maxAskBack))
	version := st.ann.Version
	if newest > version {
		version = newest + 1
	}
	m.announce(version, st.digest)
	st.ann, st.digest = m.keyring.ann, m.keyring.ann.Digest()
	m.current = nil
	m.saveMeta()
	m.saveSeat(st)
	for _, p := range m.paths {
		if p.takesPosts() {
			m.putEntry(p, firstKey, "announcement/"+m.self.String(), st.ann.Version, m.meta.Announced, m.keyring.owner)
		}
	}
	if m.meta.Asked == 1 {
		m.show(Event{Kind: EventSession, Own: true, Seat: m.self.String(), Member: m.meta.Name,
			Text: fmt.Sprintf("This backup of %s is from before the group changed its keys. The others are asked for them: as soon as one of them is online, you are back. Nothing for you to do.", m.meta.Group)})
	}
}

// byMailbox is the key that writes own entries on a path while no epoch's key
// does: that of the mailbox.
func (m *Machine) byMailbox(p *path) (key keys.PostingPrivate, ok bool) {
	if !m.meta.Restored || m.meta.Asked == 0 {
		return key, false
	}
	return keys.NewPrivate[keys.RolePosting](p.box.Seed()), true
}

// wayBackName is the name of the entry by which a seat helps another back.
func wayBackName(to, by wire.Seat) string { return fmt.Sprintf("back/%s/%x", to, by[:8]) }

// sawWayBack takes keys that another member sealed for this one.
func (m *Machine) sawWayBack(id string, value []byte) {
	seat, _, _ := strings.Cut(id, "/")
	w, err := ParseWayBack(value)
	if err != nil {
		return
	}
	if seat != m.self.String() {
		m.noteWayBack(seat, w)
		return
	}
	i := slices.IndexFunc(m.keyring.prekeys, func(o *ownPrekeys) bool { return o.digest == w.Announcement })
	if i < 0 {
		return
	}
	list, err := w.open(m.keyring.prekeys[i], m.keyring.identity, m.gid, m.self)
	if err != nil || FirstCommitment(&list[0].Key) != m.genesis.Epoch {
		return
	}
	m.learnEpochs(list)
	m.helped = true
	for i := range list {
		list[i].Key.Zero()
	}
	m.turnEpoch(m.state.Epochs)
}

// helping is a member that asked, and when it is helped.
type helping struct {
	announcement wire.Digest
	at           time.Time
}

// asksBack notes that a member lacks keys: what it announced is new, and sealed
// under the first epoch while another is in use; or it was out when they came, and
// was let in again. Admins answer first.
func (m *Machine) asksBack(st *seatState) {
	if st == nil || st.ann == nil || st.own || !m.isMember() || m.keyring.inUse == FirstEpoch {
		return
	}
	wait := m.dutyWait()
	if !m.able(m.self, RoleAdmin) {
		wait += m.cfg.Limits.AdoptWait*(maxRank+2) + m.jitter(m.cfg.Limits.AdoptWait*time.Duration(len(m.seats)))
	}
	if m.helps == nil {
		m.helps = map[wire.Seat]helping{}
	}
	m.helps[st.seat] = helping{st.digest, m.now.Add(wait)}
}

// noteWayBack: another member helped.
func (m *Machine) noteWayBack(seat string, w *WayBack) {
	for of, h := range m.helps {
		if of.String() == seat && h.announcement == w.Announcement {
			delete(m.helps, of)
		}
	}
}

// helpBack seals the keys for members who asked and whom nobody helped. Only who is
// in by the roster is helped; what is in use here was begun knowing of everybody's
// end that this roster has.
func (m *Machine) helpBack() {
	if len(m.helps) == 0 || !m.mayTell() {
		return
	}
	for _, st := range m.sortedSeats() {
		h, asked := m.helps[st.seat]
		if !asked || m.now.Before(h.at) {
			continue
		}
		delete(m.helps, st.seat)
		if h.announcement != st.digest || !m.usable(st) || !m.standing(st.seat).in || m.lacksHead() {
			continue
		}
		w, err := SealWayBack(m.entropy, st.ann, m.keyring.list())
		if err != nil {
			continue
		}
		for _, p := range m.paths {
			if p.keepsBoard() {
				m.putEntry(p, firstKey, wayBackName(st.seat, m.self), st.ann.Version, w.Append(nil), m.keyring.owner)
			}
		}
	}
}

// helpBackAt is when the next member is helped, or this one asks again; zero: never.
func (m *Machine) helpBackAt() (t time.Time) {
	if m.meta != nil && m.meta.Restored && m.meta.Asked > 0 {
		return m.askBackAt
	}
	if m.isMember() && m.mayTell() {
		for _, h := range m.helps {
			if t.IsZero() || h.at.Before(t) {
				t = h.at
			}
		}
	}
	return t
}

// signPut signs a board write by what the relay takes now.
func (m *Machine) signPut(p *path, put *proto.BoardPut) (epoch uint64) {
	key, ok := m.byMailbox(p)
	if !ok {
		e := m.capability(p)
		key, epoch = p.postingAt(&e.Key), e.Number
	}
	if put.Capability != key.Public() {
		put.Sign(key, p.ref.Key, p.channel)
	}
	return epoch
}
