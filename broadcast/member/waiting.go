package member

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// Who asks (docs/protocol.md section 8.4): it puts one request on the boards, and
// waits, over restarts, for an admin's operation and the epoch keys. Only then does
// it read and compare the boards, as every newcomer does.

// askingRecord is the own request, in the meta record.
type askingRecord struct {
	Invite    []byte // id
	Made      int64  `json:",omitempty"` // Unix seconds; 0: not made yet
	Kept      bool   `json:",omitempty"` // enough relays took it
	Announced bool   `json:",omitempty"` // let in: the own announcement is on its way to the boards
	Withdrawn bool   `json:",omitempty"`
	Refused   string `json:",omitempty"` // what people were told of a refusal
	Expired   bool   `json:",omitempty"` // people were told that nobody answered
}

// ErrDeclined: an admin refused the request to be let in.
var ErrDeclined = errors.New("an admin refused to let you in")

// AskingInfo is what a member that is not let in yet waits for.
type AskingInfo struct {
	Since   time.Time `json:"since,omitzero"` // when it asked
	Seat    string    `json:"seat,omitempty"`
	Relays  int       `json:"relays"` // operators that have the request
	Needed  int       `json:"needed"`
	Kept    bool      `json:"kept"`              // enough have it
	Read    bool      `json:"read"`              // enough relays were read for an answer, in this opening
	Let     bool      `json:"let,omitempty"`     // an admin let it in; the boards are compared
	Refused string    `json:"refused,omitempty"` // what an admin said; an approval counts all the same
	Expired bool      `json:"expired,omitempty"` // nobody answered in time
	Text    string    `json:"text"`              // in words: what it waits for, and what to do
}

// waitsForAdmin tells whether this membership asked, or is to ask, to be let in.
func (m *Machine) waitsForAdmin() bool {
	return m.meta != nil && m.meta.Phase == phaseJoining && m.meta.Asking != nil
}

// makeRequest makes the own request when the group is known, once, and puts it on
// every board.
func (m *Machine) makeRequest() {
	a := m.meta.Asking
	if m.genesis == nil || a.Made != 0 {
		return
	}
	k := m.keyring
	m.announce(0, wire.Digest{})
	st := m.seatOf(m.self)
	st.own, st.shown, st.ann, st.digest = true, true, k.ann, k.ann.Digest()
	a.Made = m.now.Unix()
	m.deadline = m.now.Add(m.joinWait())
	m.saveMeta()
	m.saveSeat(st)
	m.putRequest(1)
}

// putRequest posts the own request, or its end, wherever the invite's posting key
// is taken.
func (m *Machine) putRequest(version uint64) {
	inv, err := ParseLink(m.meta.Link)
	if err != nil {
		m.failWaiting(err)
		return
	}
	a, k := m.meta.Asking, m.keyring
	q := &Request{Group: m.gid, Made: unixSeconds(a.Made), Withdrawn: a.Withdrawn, Announcement: k.ann}
	q.Sign(inv.InviteKey(), k.signing)
	sealed, err := q.Seal(m.entropy, inv.Requests)
	if err != nil {
		m.failWaiting(fmt.Errorf("%w: %w", ErrGenesis, err))
		return
	}
	for _, p := range m.paths {
		room := m.roomOf(p, [16]byte(a.Invite))
		if !p.takesPosts() || room == nil {
			continue
		}
		posting := inv.InvitePosting(p.ref.Key)
		put := proto.Admit{BoardPut: m.sealedPut(p, room, requestName(m.self), version, sealed, k.owner)}
		put.Capability = posting.Public()
		put.Sign(posting, p.ref.Key, p.channel)
		m.enqueue(p, &postItem{kind: postAdmit, id: put.PostID, d: put.Digest(), frame: proto.Encode(put)})
	}
}

// took tells of a path whether its relay has the own request.
func (m *Machine) took(p *path) bool {
	return m.meta.Asking.Made != 0 && p.standing == inUse && !slices.ContainsFunc(p.queue, func(q *postItem) bool { return q.kind == postAdmit })
}

// sawDecision takes what an admin says to the own request. That keys come proves
// nothing but that a member has them: whether this seat is in, the boards say.
func (m *Machine) sawDecision(p *path, value []byte) {
	a, k := m.meta.Asking, m.keyring
	d, err := ParseDecision(value)
	if err != nil || d.Group != m.gid || [16]byte(a.Invite) != d.Invite || d.Announcement != k.ann.Digest() || d.Verify(m.cfg.Verify) != nil {
		m.invalid(p, "a decision on your request")
		return
	}
	if !d.Admitted {
		m.toldNo(d)
		return
	}
	epochs, err := d.openEpochs(k.held)
	if err != nil || FirstCommitment(&epochs[0].Key) != m.genesis.Epoch {
		m.invalid(p, "a decision on your request")
		return
	}
	room := RoomKey(&epochs[0].Key, m.gid, d.Invite)
	defer room.Zero()
	if !room.Equal(&k.door) {
		m.invalid(p, "a decision on your request")
		return
	}
	was := k.turns
	for i := range epochs {
		if len(k.epochs) < maxUnchecked {
			k.hold(epochs[i], false)
		}
		epochs[i].Key.Zero()
	}
	k.first().checked = true
	if k.inUse == 0 {
		k.inUse = FirstEpoch
	}
	if k.turns != was {
		m.saveEpochs()
		m.turnEpoch(m.state.Epochs)
	}
}

// toldNo tells people of a refusal, once for one text. An approval counts all
// the same: who signs a refusal cannot be shown to be an admin before the boards
// can be read.
func (m *Machine) toldNo(d *Decision) {
	by := "seat " + NewSeat(m.gid, d.Author).Short()
	if d.Author == m.genesis.Founder {
		by = "the founder"
	}
	text := fmt.Sprintf("Your request was refused (signed by %s)", by)
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	if text += "."; m.meta.Asking.Refused == text {
		return
	}
	m.meta.Asking.Refused = text
	m.saveMeta()
	m.show(Event{Kind: EventRequest, Own: true, Seat: m.self.String(), Member: m.meta.Name, Text: text})
}

// stepAsking goes on with a request: it tells whether an admin let this member in
// and its announcement is on its way, so that the joining goes on.
func (m *Machine) stepAsking(late bool) bool {
	a := m.meta.Asking
	if m.genesis == nil || a.Made == 0 {
		if late {
			m.failJoin()
		}
		return false
	}
	st, s := m.seats[m.self], m.standing(m.self)
	switch {
	case a.Withdrawn:
		m.stepWithdrawing()
		return false
	case s.in && m.admittedAs(st, s) && m.epochKnown():
		if !a.Announced {
			a.Announced = true
			m.deadline = m.now.Add(m.joinWait())
			m.saveMeta()
			m.hint(Event{Kind: EventProgress, Text: "An admin let you in. The boards are read and compared."})
			for _, p := range m.paths {
				if p.takesPosts() {
					m.putEntry(p, epochKey, "announcement/"+m.self.String(), m.keyring.ann.Version, m.meta.Announced, m.keyring.owner)
				}
			}
		}
		return true
	case s.gone && a.Refused == "":
		a.Refused = "An admin let you in and removed you again before you came."
		m.saveMeta()
		m.show(Event{Kind: EventRequest, Own: true, Seat: m.self.String(), Member: m.meta.Name, Text: a.Refused})
	}
	if !a.Kept && m.enough(m.took) {
		a.Kept = true
		m.saveMeta()
		m.show(Event{Kind: EventRequest, Own: true, Seat: m.self.String(), Member: m.meta.Name, Text: m.askingText()})
	}
	if !a.Expired && m.now.Unix() >= a.Made+int64(m.cfg.Limits.RequestLife/time.Second) {
		a.Expired = true
		m.saveMeta()
		m.show(Event{Kind: EventRequest, Own: true, Seat: m.self.String(), Member: m.meta.Name, Text: m.askingText()})
	}
	if late {
		if !a.Kept && len(m.waiting) > 0 {
			m.failJoin()
		}
		m.deadline = time.Time{} // what goes on does so by what comes
	}
	return false
}

// epochKnown tells whether the keys of all epoch heads are here: without them the
// relays take nothing.
func (m *Machine) epochKnown() bool {
	return !slices.ContainsFunc(m.state.Epochs, func(h EpochHead) bool { return m.fits(&h) == nil })
}

// askingAt is when something is due of what this member waits for; zero: nothing
// is.
func (m *Machine) askingAt() time.Time {
	if !m.waitsForAdmin() || m.meta.Asking.Made == 0 || m.meta.Asking.Expired {
		return time.Time{}
	}
	return unixSeconds(m.meta.Asking.Made).Add(m.cfg.Limits.RequestLife)
}

// askedAndWaits tells a command whether it can be answered by "asked, and not decided yet":
// enough relays have the request, and enough were read for a decision.
func (m *Machine) askedAndWaits() bool {
	a := m.meta.Asking
	if a == nil || !a.Kept || a.Announced {
		return false
	}
	return m.deadline.IsZero() || m.readForDecision()
}

// readForDecision tells whether enough boards were read, in this opening, to know
// what is decided on the own request. With the first keys they are read anew.
func (m *Machine) readForDecision() bool {
	return m.ledger != nil && m.enough(func(p *path) bool { return p.listed && p.caughtUp })
}

// askingInfo describes what this member waits for; nil: it is in, or joins by itself.
func (m *Machine) askingInfo() *AskingInfo {
	a := m.meta.Asking
	if a == nil || m.gone() {
		return nil
	}
	v := &AskingInfo{Kept: a.Kept, Read: m.readForDecision(), Let: a.Announced, Refused: a.Refused, Expired: a.Expired, Text: m.askingText()}
	if a.Made != 0 {
		v.Since, v.Seat = unixSeconds(a.Made), m.self.String()
		v.Relays, v.Needed = m.operators(m.took), m.needed()
	}
	return v
}

// askingText says what this member waits for and what to do.
func (m *Machine) askingText() string {
	a := m.meta.Asking
	switch {
	case a.Made == 0:
		return "The relays of this invitation are asked who the group is."
	case a.Announced:
		return "An admin let you in. The boards are read and compared."
	case a.Withdrawn:
		return "You took your request back."
	case a.Expired:
		return fmt.Sprintf("Nobody answered your request to be let into %s for %s. Ask an admin for a new invitation; `parallax group leave` ends this one.", m.meta.Group, inWords(m.cfg.Limits.RequestLife))
	case a.Refused != "":
		return a.Refused + " An admin can still let you in; `parallax group leave` ends it."
	case !a.Kept:
		return fmt.Sprintf("Your request to be let into %s is on its way: fewer relays have it than are needed.", m.meta.Group)
	}
	return fmt.Sprintf("You asked to be let into %s. An admin has to let you in: tell one that you are seat %s, where no relay is in between. You may end parallax; it goes on when you run it again.", m.meta.Group, m.self.Short())
}

// withdraw takes the own request back, and ends the membership when the relays have
// that, or after a while.
func (m *Machine) withdraw(id uint64) {
	a := m.meta.Asking
	info := OperationInfo{What: "You took your request back.", Member: m.meta.Name}
	if a.Made == 0 {
		m.left()
		m.answer(id, info, nil)
		return
	}
	info.Seat = m.self.String()
	if !a.Withdrawn {
		a.Withdrawn = true
		m.saveMeta()
		for _, p := range m.paths {
			for _, q := range slices.Clone(p.queue) {
				if q.kind == postAdmit && !q.inFlight {
					m.forgetPost(p, q)
				}
			}
		}
		m.putRequest(2)
	}
	m.failWaiting(fmt.Errorf("%w: you took your request back", ErrOut))
	m.leaveAt = m.now.Add(leaveWait)
	m.waiting = append(m.waiting, waiter{id: id, done: func() (any, error, bool) { return info, nil, m.gone() }})
}

func (m *Machine) stepWithdrawing() {
	if m.leaveAt.IsZero() {
		m.leaveAt = m.now.Add(leaveWait)
	}
	if m.enough(m.took) || !m.now.Before(m.leaveAt) {
		m.left()
	}
}
