package member

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// family is what a seat's owner may sign: a first announcement, two that follow
// it, and one after each of these.
type family struct {
	v1, v2, other, v3, afterOther *Announcement
	keys                          [2]keys.SigningPrivate // that the two carry
	adm                           *Admission
}

// newFamily makes it; the other successor carries another key, or the same.
func newFamily(tb testing.TB, m *Machine, anotherKey bool) *family {
	f := &family{}
	f.keys[0] = keys.NewPrivate[keys.RoleMember]([32]byte{41})
	f.keys[1] = f.keys[0]
	if anotherKey {
		f.keys[1] = keys.NewPrivate[keys.RoleMember]([32]byte{42})
	}
	next := func(before *Announcement, by, carries keys.SigningPrivate, inc byte) *Announcement {
		a := *before
		a.Version, a.Previous, a.Signing, a.Incarnation = before.Version+1, before.Digest(), carries.Public(), wire.Incarnation{inc}
		a.Sign(by)
		return &a
	}
	var first Announcement
	for _, st := range m.sortedSeats() {
		if st.ann != nil && st.ann.Name == "M0" {
			first = *st.ann
		}
	}
	first.Name, first.Signing, first.Version, first.Previous = "Bob", f.keys[0].Public(), 1, wire.Digest{}
	first.Seat = NewSeat(m.gid, first.Signing)
	first.Sign(f.keys[0])
	f.v1 = &first
	f.v2, f.other = next(f.v1, f.keys[0], f.keys[0], 1), next(f.v1, f.keys[0], f.keys[1], 2)
	f.v3, f.afterOther = next(f.v2, f.keys[0], f.keys[0], 3), next(f.other, f.keys[1], f.keys[1], 4)

	inv := Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{5})}
	rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 9, PerHour: 9, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	rec.Sign(m.keyring.signing)
	m.invite(rec)
	f.adm = &Admission{Group: m.gid, Seat: first.Seat, Announcement: first.Digest()}
	f.adm.Sign(inv.InviteKey())
	for _, p := range m.paths {
		p.syncRoot()
		m.takeAdmission(p, f.adm)
	}
	return f
}

// showing is one announcement on one path.
type showing struct {
	path int
	ann  *Announcement
}

// outcome is what a member makes of it.
func (f *family) outcome(tb testing.TB, m *Machine, list []showing) string {
	for _, s := range list {
		m.sawAnnouncement(m.paths[s.path], f.v1.Seat, s.ann.Append(nil))
	}
	m.settle()
	for _, p := range m.paths {
		if p.stats[crossverify.Failed] > 0 {
			tb.Fatalf("%s counts as failed", p.label())
		}
	}
	for _, e := range m.events {
		if e, ok := e.Body.(Event); ok && strings.Contains(e.Text, "does not hold") {
			tb.Fatalf("told: %s", e.Text)
		}
	}
	st := m.seats[f.v1.Seat]
	if st == nil || st.ann == nil {
		return "nobody"
	}
	r := m.ledger.Report(crossverify.Announcement(st.seat, st.ann.Version))
	former := map[wire.Digest]bool{st.digest: true}
	for _, x := range st.former {
		former[x.digest] = true
	}
	return fmt.Sprintf("version %d %v %v usable %v, two %v, known %x", st.ann.Version, r.Verdict, r.Status, m.usable(st), m.twoSuccessors(st), sortedDigests(former))
}

// TestSuccessorsInAnyOrder: whatever a seat's owner signs and whoever shows it, in
// every order members say the same; no relay is blamed, and where two of the newest
// version are known nothing is encrypted to the seat.
func TestSuccessorsInAnyOrder(t *testing.T) {
	m := laidDown(t, 2)
	f := newFamily(t, m, true)
	rapid.Check(t, func(rt *rapid.T) {
		all := []*Announcement{f.v1, f.v2, f.other, f.v3, f.afterOther}
		var list []showing
		shown := map[*Announcement]bool{}
		for range rapid.IntRange(1, 7).Draw(rt, "shown") {
			s := showing{rapid.IntRange(0, 2).Draw(rt, "path"), all[rapid.IntRange(0, 4).Draw(rt, "which")]}
			list, shown[s.ann] = append(list, s), true
		}
		run := func(list []showing) string {
			m.Ready()
			delete(m.seats, f.v1.Seat)
			clear(m.unproven)
			for _, p := range m.paths {
				p.unproven, p.orphans, p.stats = 0, 0, [5]uint64{}
			}
			m.ledger = crossverify.NewLedger(m.policy())
			for _, p := range m.paths {
				m.takeAdmission(p, f.adm)
			}
			return f.outcome(t, m, list)
		}
		want := run(list)
		if got := run(rapid.Permutation(list).Draw(rt, "order")); got != want {
			rt.Fatalf("in one order %s\nin another  %s", want, got)
		}
		// The key that makes the seat is known with any announcement that carries it.
		known := shown[f.v1] || shown[f.v2] || shown[f.v3]
		other := known && shown[f.other]
		version, digests := 0, 0
		for _, x := range []struct {
			version int
			there   bool
		}{{3, shown[f.v3]}, {3, other && shown[f.afterOther]}, {2, shown[f.v2]}, {2, other}, {1, shown[f.v1]}} {
			if x.there && x.version >= version {
				version, digests = x.version, digests+1
			}
		}
		if prefix := fmt.Sprintf("version %d ", version); version > 0 && !strings.HasPrefix(want, prefix) ||
			version == 0 && want != "nobody" || strings.Contains(want, "two true") != (digests == 2) || digests > 0 && strings.Contains(want, "usable true") != (digests == 1) {
			rt.Fatalf("%d announcements of version %d stand: %s", digests, version, want)
		}
	})
}

// TestTwoSuccessors: a person is told at once, with what to compare, of a member
// that the roster has and of one that it does not have yet; a restart forgets
// neither the contest nor that it was told; a later version ends it.
func TestTwoSuccessors(t *testing.T) {
	for name, anotherKey := range map[string]bool{"the same signing key": false, "another signing key": true} {
		for where, adopted := range map[string]bool{"adopted": true, "not adopted": false} {
			t.Run(name+", "+where, func(t *testing.T) {
				m := laidDown(t, 3)
				f := newFamily(t, m, anotherKey)
				for _, p := range m.paths {
					m.sawAnnouncement(p, f.v1.Seat, f.v1.Append(nil))
				}
				st := m.seats[f.v1.Seat]
				if adopted {
					m.adopt(func(o *seatState) bool { return o == st })
					m.follow()
				}
				if !m.usable(st) || m.standing(st.seat).in != adopted {
					t.Fatalf("usable %v, in the roster %v", m.usable(st), m.standing(st.seat).in)
				}
				for i, p := range m.paths {
					m.sawAnnouncement(p, st.seat, []*Announcement{f.v2, f.other, f.v2}[i].Append(nil))
				}
				m.settle()
				check := func(m *Machine) {
					t.Helper()
					st := m.seats[f.v1.Seat]
					if ms := statusOf(t, m, st); ms.Usable || ms.Verdict != "contested" || !ms.Two {
						t.Errorf("%+v", ms)
					}
					if slices.Contains(m.recipients().seats, st.seat) {
						t.Error("it is sent to")
					}
				}
				check(m)
				codes := m.successorCodes(st)
				if len(codes) != map[bool]int{false: 1, true: 2}[anotherKey] {
					t.Errorf("%d codes to compare", len(codes))
				}
				if parts := CodeParts(codes); len(parts) == 2 && (parts[0] == parts[1] || strings.Contains(codes[0], strings.TrimSuffix(parts[1], " ..."))) {
					t.Errorf("%q are to tell %q apart", parts, codes)
				}
				text := ""
				for _, e := range m.events {
					if e, ok := e.Body.(Event); ok && e.Kind == EventDispute {
						if text != "" || e.Relay != "" {
							t.Errorf("told of %q: %s", e.Relay, e.Text)
						}
						text = e.Text
					}
				}
				for _, want := range []string{"Bob's own key signed two successors", "Sending to Bob waits; the other 2 get your messages", "No relay is blamed", CodeParts(codes)[0], CodeParts(codes)[len(codes)-1]} {
					if !strings.Contains(text, want) {
						t.Errorf("told %q, without %q", text, want)
					}
				}
				if v, err := m.code(GetCode{Member: "Bob"}); err != nil || len(v.Also) != len(codes)-1 {
					t.Errorf("codes %v, %v", v.Also, err)
				}
				if v, err := m.code(GetCode{}); err != nil || !slices.Equal(v.Without, []string{"Bob"}) {
					t.Errorf("the group's code is without %v, %v", v.Without, err)
				}

				for _, o := range m.sortedSeats() {
					m.saveSeat(o)
				}
				again := reopened(t, m)
				again.Tick(m.now.Add(time.Minute))
				check(again)
				if n := again.told(EventDispute, "two successors"); n != 0 {
					t.Errorf("told again after a restart: %d", n)
				}
				for _, p := range again.paths {
					again.sawAnnouncement(p, st.seat, f.v3.Append(nil))
				}
				if again.settle(); !again.usable(again.seats[st.seat]) {
					t.Error("a later version, on every relay, does not end the contest")
				}
			})
		}
	}
}

// TestEarlierKeyDoesNotContinue: where the version before is known, only its key signs
// the next one: neither the first key, for another, nor any earlier one.
func TestEarlierKeyDoesNotContinue(t *testing.T) {
	m := laidDown(t, 2)
	f := newFamily(t, m, true)
	p := m.paths[0]
	m.sawAnnouncement(p, f.v1.Seat, f.v1.Append(nil))
	m.sawAnnouncement(p, f.v1.Seat, f.other.Append(nil)) // carries another key
	forged := *f.afterOther
	forged.Sign(f.keys[0])
	m.sawAnnouncement(p, f.v1.Seat, forged.Append(nil))
	st := m.seats[f.v1.Seat]
	if st.ann.Version != 2 || p.stats[crossverify.Failed] != 1 || len(m.unproven) != 0 {
		t.Errorf("version %d, %d failures", st.ann.Version, p.stats[crossverify.Failed])
	}
	m.sawAnnouncement(p, f.v1.Seat, f.afterOther.Append(nil))
	if st.ann.Version != 3 || p.stats[crossverify.Failed] != 1 {
		t.Errorf("the true one: version %d, %d failures", st.ann.Version, p.stats[crossverify.Failed])
	}
}
