package member

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// TestUsableBesideOtherAdmissions: for every number of relays, every quorum and as
// many colluders as leave a quorum of honest relays, a seat that nobody adopted yet
// is usable for a newcomer once the honest relays show its admission, whatever other
// admissions of it the colluders show, in any order (docs/threat-model.md: t <= R-q),
// and after a restart.
func TestUsableBesideOtherAdmissions(t *testing.T) {
	for relays := 2; relays <= 5; relays++ {
		for q := 1; q <= relays; q++ {
			for colluders := 0; colluders <= relays-q; colluders++ {
				t.Run(fmt.Sprintf("R=%d q=%d t=%d", relays, q, colluders), func(t *testing.T) {
					usableBeside(t, relays, q, colluders)
				})
			}
		}
	}
}

func usableBeside(t *testing.T, relays, q, colluders int) {
	m := laidDownSeatsOver(t, 2, relays)
	m.genesis.Policy.Quorum = uint8(q)
	invite := func(secret byte) (*Invitation, *InviteRecord) {
		inv := &Invitation{Secret: keys.NewSecret[keys.RoleInviting]([32]byte{secret})}
		rec := &InviteRecord{Group: m.gid, Key: inv.InviteKey().Public(), Uses: 9, PerHour: 9, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
		rec.Sign(m.keyring.signing)
		return inv, rec
	}
	inv, rec := invite(5)
	m.invite(rec)
	m.state.Policy.Quorum, m.voting = uint8(q), nil
	m.ledger = crossverify.NewLedger(m.policy())
	if got := m.needed(); got != q {
		t.Fatalf("%d operators are enough, not %d", got, q)
	}
	ended, old := invite(6)
	m.addInvite(old) // known, of no operation that counts
	signing := keys.NewPrivate[keys.RoleMember]([32]byte{7})
	a := *seatByName(t, m, "M0").ann
	a.Signing, a.Name = signing.Public(), "Cy"
	a.Seat = NewSeat(m.gid, a.Signing)
	a.Sign(signing)
	admits := func(by *Invitation, d wire.Digest) *Admission {
		x := &Admission{Group: m.gid, Seat: a.Seat, Announcement: d}
		x.Sign(by.InviteKey())
		return x
	}
	truth := admits(inv, a.Digest())
	others := []*Admission{admits(inv, wire.Digest{1}), admits(inv, wire.Digest{2}), admits(ended, a.Digest())}
	draw := rand.New(rand.NewPCG(uint64(relays), uint64(q<<8|colluders)))
	var steps []func()
	for i, p := range m.paths {
		p.syncRoot()
		if i < colluders {
			for range 1 + draw.IntN(3) {
				x := others[draw.IntN(len(others))]
				steps = append(steps, func() { m.sawAdmission(p, a.Seat, x.Append(nil)) })
			}
			continue
		}
		steps = append(steps, func() { m.sawAnnouncement(p, a.Seat, a.Append(nil)) }, func() { m.sawAdmission(p, a.Seat, truth.Append(nil)) })
	}
	for _, i := range draw.Perm(len(steps)) {
		steps[i]()
	}
	m.settle()
	st := m.seats[a.Seat]
	if adm, r := m.admission(st); !m.usable(st) || adm.Digest() != truth.Digest() || r.Operators != relays-colluders {
		t.Fatalf("usable %v, by %d operators, %v", m.usable(st), r.Operators, r.Status)
	}
	for i, s := range m.report(st).Status[:colluders] {
		if s != crossverify.Dissented {
			t.Errorf("R%d, which shows another admission, %v", i+1, s)
		}
	}
	if len(m.admissions) > relays+1 { // with M0's, which was not shown
		t.Errorf("%d admissions are kept", len(m.admissions))
	}
	again := reopened(t, m)
	again.ledger.SetPolicy(m.policy())
	if st := again.seats[a.Seat]; !again.usable(st) {
		t.Errorf("not usable after a restart: %v", again.report(st))
	}
}
