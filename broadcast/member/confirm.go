package member

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// confirmedBy is the kind of code that a person compared; a byte of the store.
type confirmedBy uint8

const (
	byNone confirmedBy = iota
	byPair
	byGroup
)

func (b confirmedBy) String() string {
	switch b {
	case byPair:
		return string(CodePair)
	case byGroup:
		return string(CodeGroup)
	}
	return "none"
}

// confirmation is what a person compared of a seat. It stays with the key that
// it was for, and only that person takes it back: no relay, announcement or
// wrong code does.
type confirmation struct {
	by  confirmedBy        // byNone: not verified in person
	key keys.SigningPublic // that was compared
	at  time.Time          // whole seconds

	// The group code that was compared with this seat's device covered our
	// seat too: what it showed of us.
	witness wire.Seat          // on whose device; zero: on none
	same    keys.SigningPublic // the key there
	seen    time.Time
}

// append writes the record: by u8, key 32, at u64, witness 32, same 32, seen u64.
func (c *confirmation) append(b []byte) []byte {
	b = append(b, byte(c.by))
	b = append(b, c.key[:]...)
	b = wire.AppendU64(b, recordTime(c.at))
	b = append(b, c.witness[:]...)
	b = append(b, c.same[:]...)
	return wire.AppendU64(b, recordTime(c.seen))
}

// recordTime is Unix seconds, 0 for no time.
func recordTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

func parseConfirmation(b []byte) (c confirmation, err error) {
	read := func(r *wire.Reader) (t time.Time) {
		if s := r.U64(); s != 0 {
			t = time.Unix(int64(s), 0).UTC()
		}
		return t
	}
	r := wire.NewReader(b)
	c.by = confirmedBy(r.U8())
	r.Fixed(c.key[:])
	c.at = read(r)
	r.Fixed(c.witness[:])
	r.Fixed(c.same[:])
	c.seen = read(r)
	if err := r.Done(); err != nil {
		return confirmation{}, err
	}
	inPerson, shown := c.key != (keys.SigningPublic{}), c.same != (keys.SigningPublic{})
	if c.by > byGroup || (c.by != byNone) != inPerson || inPerson == c.at.IsZero() ||
		(c.witness != wire.Seat{}) != shown || shown == c.seen.IsZero() || !inPerson && !shown {
		return confirmation{}, wire.ErrFormat
	}
	return c, nil
}

func (m *Machine) loadConfirmation(key, value []byte) error {
	if len(key) != len(wire.Seat{}) {
		return wire.ErrFormat
	}
	c, err := parseConfirmation(value)
	if err == nil {
		m.seatOf(wire.Seat(key)).confirmed = c
	}
	return err
}

func (m *Machine) saveConfirmation(st *seatState) {
	if st.confirmed == (confirmation{}) {
		m.del(m.key(keyConfirmed, st.seat[:]))
		return
	}
	m.put(m.key(keyConfirmed, st.seat[:]), st.confirmed.append(nil))
}

// verified tells whether a person verified the key that the seat has now.
func (st *seatState) verified() bool {
	return st.ann != nil && st.confirmed.by != byNone && st.confirmed.key == st.ann.Signing
}

// showConfirmed fills what people see of it.
func (m *Machine) showConfirmed(ms *MemberStatus, st *seatState) {
	c := &st.confirmed
	if c.by != byNone {
		ms.Verified = &Verified{By: CodeKind(c.by.String()), Time: c.at, Key: c.key.String(), Earlier: !st.verified()}
	}
	if w := m.seats[c.witness]; w != nil && w.ann != nil && c.same == st.ann.Signing {
		ms.SameOn = m.display(w)
	}
}

// newKey tells a person whose verified member announces another signing key.
// What was verified stays, as for the earlier key.
func (m *Machine) newKey(st *seatState, next keys.SigningPublic) {
	if !st.verified() || st.ann.Signing == next {
		return
	}
	name := m.display(st)
	m.show(Event{Kind: EventNewKey, Seat: st.seat.String(), Member: name,
		Text: fmt.Sprintf("%s has another signing key, signed with the one that you verified in person. Compare codes again to verify this one too.", name)})
}

func holder(st *seatState) ratchet.CodeHolder {
	return ratchet.CodeHolder{Seat: st.seat, Key: st.ann.Signing}
}

func (m *Machine) pairCode(st *seatState) ratchet.NumericCode {
	return ratchet.PairCode(holder(m.seats[m.self]), holder(st))
}

// groupCode is the code of the seats in use, and these.
func (m *Machine) groupCode() (ratchet.NumericCode, []*seatState) {
	var covered []*seatState
	var holders []ratchet.CodeHolder
	for _, st := range m.sortedSeats() {
		if m.usable(st) {
			covered = append(covered, st)
			holders = append(holders, holder(st))
		}
	}
	return ratchet.GroupCode(m.gid, holders), covered
}

// deviceOf is the beginning of a seat that a group code carries.
func deviceOf(s wire.Seat) string { return hex.EncodeToString(s[:])[:codeDevice] }

// code answers GetCode.
func (m *Machine) code(w GetCode) (CodeInfo, error) {
	self := m.seats[m.self]
	v := CodeInfo{Kind: CodePair, Seats: 2, Own: self.ann.Name, Device: deviceOf(m.self)}
	var code ratchet.NumericCode
	if w.Member != "" {
		st, err := m.other(w.Member)
		if err != nil {
			return CodeInfo{}, err
		}
		code, v.Of, v.Usable = m.pairCode(st), m.display(st), m.usable(st)
		if m.twoSuccessors(st) {
			v.Also = slices.DeleteFunc(m.successorCodes(st), func(c string) bool { return c == code.String() })
		}
	} else {
		var covered []*seatState
		code, covered = m.groupCode()
		v.Kind, v.Of, v.Seats, v.Usable = CodeGroup, m.meta.Group, len(covered), true
		for _, st := range m.sortedSeats() {
			if st.ann != nil && !m.out(st.seat) && !m.usable(st) {
				v.Without = append(v.Without, m.display(st))
			}
		}
	}
	v.Code = code.String()
	v.Text = Code{Kind: v.Kind, Digits: string(code[:]), Device: v.Device}.String()
	return v, nil
}

// other finds a member who is somebody else.
func (m *Machine) other(name string) (*seatState, error) {
	st, err := m.findMember(name)
	if err == nil && st.own {
		return nil, fmt.Errorf("%w: a code compares you with another member", ErrNoSuch)
	}
	return st, err
}

// confirm answers ConfirmCode. A code that matches says whose the key is; it
// does not make relays agree, so a seat that is held stays held.
func (m *Machine) confirm(w ConfirmCode) (ConfirmInfo, error) {
	c, err := ParseCode(w.Code)
	if err != nil {
		return ConfirmInfo{}, err
	}
	want := CodePair
	if w.Group {
		want = CodeGroup
	}
	if c.Kind != "" && c.Kind != want {
		return ConfirmInfo{}, otherKind(want)
	}
	var st *seatState
	if w.Member != "" || c.Device == "" {
		if st, err = m.other(w.Member); err != nil {
			return ConfirmInfo{}, err
		}
	}
	if w.Group {
		return m.confirmGroup(st, c)
	}
	if code := m.pairCode(st); !code.Matches(c.Digits) {
		if all, _ := m.groupCode(); all.Matches(c.Digits) {
			return ConfirmInfo{}, otherKind(want)
		}
		name := m.display(st)
		return ConfirmInfo{}, fmt.Errorf("%w: this device has other digits for you and %s. Either they were mistyped, or they are of another group or member, or somebody sits between you and %s. "+
			"Compare both screens once more. If they stay different, send nothing that only %s may read, and settle it where no relay is in between%s", ErrCodeDiffers, name, name, name, stays(st))
	}
	m.mark(st, byPair)
	return m.confirmed(st, CodePair, 0), nil
}

// confirmGroup compares the code of the group, from the device of st; nil: the
// code names it.
func (m *Machine) confirmGroup(st *seatState, c Code) (ConfirmInfo, error) {
	code, covered := m.groupCode()
	if !code.Matches(c.Digits) {
		if st == nil {
			return ConfirmInfo{}, fmt.Errorf("%w: %s", ErrCodeDiffers, groupDiffers)
		}
		if pair := m.pairCode(st); pair.Matches(c.Digits) {
			return ConfirmInfo{}, otherKind(CodeGroup)
		}
		return ConfirmInfo{}, fmt.Errorf("%w: %s%s", ErrCodeDiffers, groupDiffers, stays(st))
	}
	if c.Device != "" {
		at := slices.IndexFunc(covered, func(o *seatState) bool { return deviceOf(o.seat) == c.Device })
		switch {
		case at < 0:
			return ConfirmInfo{}, fmt.Errorf("%w: the digits are those of the group, but the device that shows them says that it is seat %.8s, which is no member here", ErrCodeDiffers, c.Device)
		case covered[at].own:
			return ConfirmInfo{}, fmt.Errorf("%w: this is the code of your own device; take it from the other one", ErrNoSuch)
		case st != nil && st != covered[at]:
			return ConfirmInfo{}, fmt.Errorf("%w: the digits are those of the group, but it was %s's device that showed them, not %s's", ErrCodeDiffers, m.display(covered[at]), m.display(st))
		}
		st = covered[at]
	}
	if !slices.Contains(covered, st) {
		return ConfirmInfo{}, fmt.Errorf("%w: %s's seat is not in the code of the group; compare the code of you two", ErrContested, m.display(st))
	}
	m.mark(st, byGroup)
	same := 0
	for _, o := range covered {
		if o == st || o.own {
			continue
		}
		same++
		o.confirmed.witness, o.confirmed.same, o.confirmed.seen = st.seat, o.ann.Signing, unixTime(m.now)
		m.saveConfirmation(o)
	}
	return m.confirmed(st, CodeGroup, same), nil
}

const groupDiffers = "this device has other digits for the group. Either they were mistyped, or they are of another group, or one of you does not know a newcomer yet, or somebody sits between you. " +
	"Let both devices read all their relays and compare once more. If they stay different, compare the code of you two and your lists of members"

// stays says that a wrong code takes nothing back.
func stays(st *seatState) string {
	if st.confirmed.by == byNone {
		return ""
	}
	return ". What you verified in person before stays marked until you take it back"
}

func otherKind(wanted CodeKind) error {
	if wanted == CodeGroup {
		return fmt.Errorf("%w: it is the code of you two, not of the group. Confirm it as that, or take the group's from that device", ErrCodeKind)
	}
	return fmt.Errorf("%w: it is the code of the group, not of you two. Confirm it as the group's, or take that of you two from that device", ErrCodeKind)
}

func (m *Machine) mark(st *seatState, by confirmedBy) {
	st.confirmed.by, st.confirmed.key, st.confirmed.at = by, st.ann.Signing, unixTime(m.now)
	m.saveConfirmation(st)
}

func (m *Machine) confirmed(st *seatState, kind CodeKind, same int) ConfirmInfo {
	return ConfirmInfo{Member: m.display(st), Seat: st.seat.String(), Kind: kind, Verified: st.verified(),
		Verdict: strings.ToLower(m.report(st).Verdict.String()), Usable: m.usable(st), Same: same}
}

// undo answers UndoConfirm: also what rests on that member's device goes.
func (m *Machine) undo(w UndoConfirm) (ConfirmInfo, error) {
	st, err := m.other(w.Member)
	if err != nil {
		return ConfirmInfo{}, err
	}
	c := &st.confirmed
	if c.by == byNone {
		return ConfirmInfo{}, fmt.Errorf("%w: %s is not verified in person", ErrNoSuch, m.display(st))
	}
	kind := CodeKind(c.by.String())
	c.by, c.key, c.at = byNone, keys.SigningPublic{}, time.Time{}
	m.saveConfirmation(st)
	same := 0
	for _, o := range m.sortedSeats() {
		if o.confirmed.witness == st.seat {
			o.confirmed.witness, o.confirmed.same, o.confirmed.seen = wire.Seat{}, keys.SigningPublic{}, time.Time{}
			m.saveConfirmation(o)
			same++
		}
	}
	return m.confirmed(st, kind, same), nil
}
