package member

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// newcomer makes a seat that the given paths show, and returns it with its
// signing key.
func newcomer(t *testing.T, m *Machine, name string, paths ...*path) (*seatState, keys.SigningPrivate) {
	t.Helper()
	signing := keys.NewPrivate[keys.RoleMember]([32]byte(m.entropyBytes(32)))
	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 99, PerHour: 99, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	a := *seatByName(t, m, "M0").ann
	a.Signing, a.Name = signing.Public(), name
	a.Seat = NewSeat(m.gid, a.Signing)
	a.Sign(signing)
	adm := &Admission{Group: m.gid, Seat: a.Seat, Announcement: a.Digest()}
	adm.Sign(inv.InviteKey())
	for _, p := range paths {
		p.syncRoot()
		m.sawAnnouncement(p, a.Seat, a.Append(nil))
		m.takeAdmission(p, adm)
	}
	return m.seats[a.Seat], signing
}

// announceNext shows on every path the seat's next version, with this signing
// key, signed with the one before.
func announceNext(m *Machine, st *seatState, before keys.SigningPrivate, next keys.SigningPublic) {
	a := *st.ann
	a.Version, a.Previous, a.Signing = a.Version+1, st.digest, next
	a.Sign(before)
	for _, p := range m.paths {
		m.sawAnnouncement(p, a.Seat, a.Append(nil))
	}
}

func statusOf(t *testing.T, m *Machine, st *seatState) MemberStatus {
	t.Helper()
	for _, ms := range m.status().Members {
		if ms.Seat == st.seat.String() {
			return ms
		}
	}
	t.Fatalf("%s is not in the status", st.seat)
	return MemberStatus{}
}

func digits(c ratchet.NumericCode) string { return string(c[:]) }

// TestConfirmationRecord pins what is stored: 113 bytes.
func TestConfirmationRecord(t *testing.T) {
	c := confirmation{by: byGroup, key: keys.SigningPublic{1, 2}, at: time.Unix(1_800_000_000, 0).UTC(),
		witness: wire.Seat{3}, same: keys.SigningPublic{4}, seen: time.Unix(1_800_000_001, 0).UTC()}
	b := c.append(nil)
	zeros := func(n int) string { return strings.Repeat("00", n) }
	if want := "02" + "0102" + zeros(30) + "000000006b49d200" + "03" + zeros(31) + "04" + zeros(31) + "000000006b49d201"; hex.EncodeToString(b) != want {
		t.Errorf("written %x\n   want %s", b, want)
	}
	for name, c := range map[string]confirmation{
		"both": c, "in person": {by: byPair, key: c.key, at: c.at}, "on a device": {witness: c.witness, same: c.same, seen: c.seen},
	} {
		if got, err := parseConfirmation(c.append(nil)); err != nil || got != c {
			t.Errorf("%s: read back as %+v, %v", name, got, err)
		}
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "short": b[:112], "long": append(b[:113:113], 0), "of another kind": append([]byte{3}, b[1:]...),
		"nothing in it": (&confirmation{}).append(nil), "no key": (&confirmation{by: byPair, at: c.at}).append(nil),
		"no time":   (&confirmation{by: byPair, key: c.key}).append(nil),
		"no kind":   (&confirmation{key: c.key, at: c.at}).append(nil),
		"no device": (&confirmation{same: c.same, seen: c.seen}).append(nil),
		"not seen":  (&confirmation{witness: c.witness, same: c.same}).append(nil),
	} {
		if got, err := parseConfirmation(bad); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func FuzzParseConfirmation(f *testing.F) {
	c := confirmation{by: byPair, key: keys.SigningPublic{1}, at: time.Unix(9, 0)}
	f.Add(c.append(nil))
	c.witness, c.same, c.seen = wire.Seat{2}, keys.SigningPublic{3}, time.Unix(8, 0)
	f.Add(c.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfirmation(b)
		if err == nil && string(c.append(nil)) != string(b) {
			t.Fatalf("%x is read as %+v", b, c)
		}
	})
}

// TestConfirmKeyChange: a mark stays with the key that it was for. It is told
// once when that key changes, and announcements with the same key leave it.
func TestConfirmKeyChange(t *testing.T) {
	m := laidDown(t, 3)
	st, first := newcomer(t, m, "Bob", m.paths...)
	if _, err := m.confirm(ConfirmCode{Member: "Bob", Code: digits(m.pairCode(st))}); err != nil {
		t.Fatal(err)
	}
	announceNext(m, st, first, first.Public())
	if ms := statusOf(t, m, st); st.ann.Version != 2 || ms.Verified == nil || ms.Verified.Earlier || m.status().Verified != 1 || m.told(EventNewKey, "") != 0 {
		t.Fatalf("announced again with the same key: version %d, %+v", st.ann.Version, ms.Verified)
	}
	second := keys.NewPrivate[keys.RoleMember]([32]byte{77})
	announceNext(m, st, first, second.Public())
	ms := statusOf(t, m, st)
	if st.ann.Version != 3 || ms.Verified == nil || !ms.Verified.Earlier || ms.Verified.Key != first.Public().String() || m.status().Verified != 0 {
		t.Fatalf("with another key: version %d, %+v", st.ann.Version, ms.Verified)
	}
	if n := m.told(EventNewKey, "Bob has another signing key"); n != 1 {
		t.Errorf("the new key is told %d times", n)
	}
	third := keys.NewPrivate[keys.RoleMember]([32]byte{78})
	announceNext(m, st, second, third.Public())
	if n := m.told(EventNewKey, ""); n != 1 {
		t.Errorf("a key that nobody verified is told: %d", n)
	}
	// What is stored says the same after a restart.
	again, err := parseConfirmation(st.confirmed.append(nil))
	if err != nil || !reflect.DeepEqual(again, st.confirmed) || again.key != first.Public() {
		t.Errorf("stored %+v, %v", again, err)
	}
	// The code for the earlier key is wrong now and takes nothing back; the new one counts.
	old := ratchet.PairCode(holder(m.seats[m.self]), ratchet.CodeHolder{Seat: st.seat, Key: first.Public()})
	if _, err := m.confirm(ConfirmCode{Member: "Bob", Code: digits(old)}); !errors.Is(err, ErrCodeDiffers) || !strings.Contains(err.Error(), "stays marked") || st.confirmed.key != first.Public() {
		t.Errorf("the code for the earlier key: %v", err)
	}
	v, err := m.confirm(ConfirmCode{Member: "Bob", Code: digits(m.pairCode(st))})
	if err != nil || !v.Verified || st.confirmed.key != third.Public() || m.status().Verified != 1 {
		t.Errorf("the code for the new key: %+v, %v", v, err)
	}
}

// TestConfirmContested: a person can settle whose a key is, but no code makes a
// key usable that the relays do not agree on.
func TestConfirmContested(t *testing.T) {
	m := laidDown(t, 3)
	st, _ := newcomer(t, m, "Bob", m.paths[0])
	m.Tick(m.now.Add(m.genesis.Policy.Deadline + time.Second))
	if m.usable(st) || statusOf(t, m, st).Verdict != "contested" {
		t.Fatalf("the seat is %s", statusOf(t, m, st).Verdict)
	}
	// The code of the group leaves it out, so it says nothing of Bob.
	all, _ := m.groupCode()
	if _, err := m.confirm(ConfirmCode{Member: "Bob", Code: digits(all), Group: true}); !errors.Is(err, ErrContested) || st.confirmed.by != byNone {
		t.Errorf("by the code of the group: %v", err)
	}
	v, err := m.confirm(ConfirmCode{Member: "Bob", Code: digits(m.pairCode(st))})
	if err != nil || !v.Verified || v.Usable || v.Verdict != "contested" {
		t.Fatalf("%+v, %v", v, err)
	}
	if m.usable(st) || m.status().Disputes != 1 || m.status().Verified != 1 {
		t.Error("a code made a contested key usable")
	}
	for _, s := range m.recipients().seats {
		if s == st.seat {
			t.Error("a bundle goes to it")
		}
	}
}

// TestConfirmNamesakes: a code is for a seat; a name that two carry is refused.
func TestConfirmNamesakes(t *testing.T) {
	m := laidDown(t, 2)
	st, _ := newcomer(t, m, "Bob", m.paths...)
	other, _ := newcomer(t, m, "Bob", m.paths...)
	code := digits(m.pairCode(st))
	if _, err := m.confirm(ConfirmCode{Member: "Bob", Code: code}); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("of two: %v", err)
	}
	if _, err := m.confirm(ConfirmCode{Member: other.seat.String(), Code: code}); !errors.Is(err, ErrCodeDiffers) {
		t.Errorf("of the other one: %v", err)
	}
	if _, err := m.confirm(ConfirmCode{Member: st.seat.Short(), Code: code}); err != nil || !st.verified() || other.confirmed.by != byNone {
		t.Errorf("by seat: %v", err)
	}
}

// TestConfirmGroupDevice: the digits of the group are the same on every device,
// so a scanned code counts for the device that showed it alone.
func TestConfirmGroupDevice(t *testing.T) {
	m := laidDown(t, 3)
	bob, _ := newcomer(t, m, "Bob", m.paths...)
	eve, eves := newcomer(t, m, "Eve", m.paths...)
	all, _ := m.groupCode()
	text := func(s wire.Seat) string {
		return Code{Kind: CodeGroup, Digits: digits(all), Device: deviceOf(s)}.String()
	}
	if _, err := m.confirm(ConfirmCode{Member: "Eve", Code: text(bob.seat), Group: true}); !errors.Is(err, ErrCodeDiffers) || !strings.Contains(err.Error(), "Bob's device") || eve.confirmed.by != byNone {
		t.Errorf("Bob's screen for Eve: %v", err)
	}
	if _, err := m.confirm(ConfirmCode{Code: text(m.self), Group: true}); !errors.Is(err, ErrNoSuch) {
		t.Errorf("the own screen: %v", err)
	}
	if _, err := m.confirm(ConfirmCode{Code: text(wire.Seat{1}), Group: true}); !errors.Is(err, ErrCodeDiffers) {
		t.Errorf("the screen of a stranger: %v", err)
	}
	if _, err := m.confirm(ConfirmCode{Code: text(bob.seat)}); !errors.Is(err, ErrCodeKind) {
		t.Errorf("for the code of two: %v", err)
	}
	v, err := m.confirm(ConfirmCode{Code: text(bob.seat), Group: true})
	if err != nil || v.Member != "Bob" || v.Kind != CodeGroup || v.Same != 3 || !bob.verified() {
		t.Fatalf("%+v, %v", v, err)
	}
	if ms := statusOf(t, m, eve); ms.Verified != nil || ms.SameOn != "Bob" || m.status().Verified != 1 {
		t.Errorf("Eve is %+v, same on %q", ms.Verified, ms.SameOn)
	}
	announceNext(m, eve, eves, keys.NewPrivate[keys.RoleMember]([32]byte{79}).Public())
	if ms := statusOf(t, m, eve); ms.SameOn != "" || !bob.verified() {
		t.Errorf("a new key is the same on %q", ms.SameOn)
	}
	// With Eve's own code beside it, undoing Bob takes what rests on Bob's device alone.
	if _, err := m.confirm(ConfirmCode{Member: "Eve", Code: digits(m.pairCode(eve))}); err != nil {
		t.Fatal(err)
	}
	if v, err := m.undo(UndoConfirm{Member: "Bob"}); err != nil || v.Verified || v.Same != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	if ms := statusOf(t, m, eve); ms.Verified == nil || eve.confirmed.witness != (wire.Seat{}) || bob.confirmed != (confirmation{}) {
		t.Errorf("after undoing Bob, Eve is %+v, %+v", ms.Verified, eve.confirmed)
	}
	if _, err := m.undo(UndoConfirm{Member: "Bob"}); !errors.Is(err, ErrNoSuch) {
		t.Errorf("undone twice: %v", err)
	}
}
