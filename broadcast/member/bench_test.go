package member

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store/memory"
	"parallax/ratchet"
)

type benchEntropy struct{}

func (benchEntropy) Read(b []byte) (int, error) { return rand.Read(b) }
func (benchEntropy) Encapsulate(k *mlkem.EncapsulationKey768) ([]byte, []byte) {
	return k.Encapsulate()
}
func (benchEntropy) Fork(seed [32]byte) broadcast.Entropy {
	return forkedEntropy{benchEntropy{}, mathrand.NewChaCha8(seed)}
}

type forkedEntropy struct {
	benchEntropy
	stream *mathrand.ChaCha8
}

func (e forkedEntropy) Read(b []byte) (int, error) { return e.stream.Read(b) }

// laidDown is a founder's membership with standing sessions to n-1 members,
// over three relays, without the joins.
func laidDown(tb testing.TB, n int) *Machine { return laidDownOver(tb, n, 3) }

func laidDownOver(tb testing.TB, n, relays int) *Machine {
	m := laidDownSeatsOver(tb, n, relays)
	for _, st := range m.sortedSeats() {
		if st.own {
			continue
		}
		if _, _, _, err := m.initiate(st); err != nil {
			tb.Fatal(err)
		}
		m.saveSessions(st)
	}
	m.Ready()
	return m
}

// laidDownSeats is the same membership before any session.
func laidDownSeats(tb testing.TB, n int) *Machine { return laidDownSeatsOver(tb, n, 3) }

func laidDownSeatsOver(tb testing.TB, n, relays int) *Machine {
	machine, err := Open(Config{})([16]byte{1}, memory.New(), benchEntropy{})
	if err != nil {
		tb.Fatal(err)
	}
	m := machine.(*Machine)
	m.now = time.Now()
	draw := func() (s [32]byte) { rand.Read(s[:]); return s }
	var spots []FoundingSpot
	for i := range relays {
		spots = append(spots, FoundingSpot{Key: benchRelay(i).Public(), Addrs: []string{"/memory/1"}})
	}
	if err := m.create(CreateGroup{Group: "Bench", Name: "Ann", Relays: spots}); err != nil {
		tb.Fatal(err)
	}
	for _, p := range m.paths {
		p.post.operator = &proto.InfoIs{Operator: keys.NewPrivate[keys.RoleOperator](draw()).Public(), Name: "Op"}
	}
	if err := m.found(); err != nil {
		tb.Fatal(err)
	}
	for _, p := range m.paths {
		p.queue, p.registered, p.listed = nil, true, true
	}
	m.meta.Phase = phaseMember
	inv := &InviteRecord{Group: m.gid, Key: keys.NewPrivate[keys.RoleInvite](draw()).Public(), Uses: 2048, PerHour: 2048, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	inv.Sign(m.keyring.signing)
	m.invite(inv)
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n - 1 {
		signing := keys.NewPrivate[keys.RoleMember](draw())
		a := &Announcement{Suite: Suite1, Group: m.gid, Version: 1, Signing: signing.Public(), Identity: keys.NewDHPrivate[keys.RoleIdentity](draw()).Public(),
			PrekeyID: 1, Prekey: keys.NewDHPrivate[keys.RolePrekey](draw()).Public(), KEMID: 1, Expires: m.now.Add(time.Hour), Name: fmt.Sprintf("M%d", i)}
		a.Seat = NewSeat(m.gid, a.Signing)
		copy(a.KEM[:], kem.EncapsulationKey().Bytes())
		for _, p := range m.paths {
			a.Mailboxes = append(a.Mailboxes, Mailbox{Relay: p.ref.Key, ID: [16]byte(m.entropyBytes(16))})
		}
		st := m.seatOf(a.Seat)
		st.ann, st.digest, st.since, st.shown = a, a.Digest(), m.now, true
		adm := &Admission{Group: m.gid, Invite: InviteID(inv.Key), Seat: a.Seat, Announcement: st.digest}
		d := adm.Digest()
		st.adms[d] = adm
		for i := range m.paths {
			m.ledger.Claim(m.now, crossverify.Path(i), crossverify.Admission(d), d)
			m.ledger.Claim(m.now, crossverify.Path(i), crossverify.Announcement(a.Seat, 1), st.digest)
		}
		if !m.usable(st) {
			tb.Fatal("a seat laid down is not usable")
		}
	}
	m.Ready()
	return m
}

// invite makes the founder's operation that issues an invite, unless it did, and
// puts it on no board.
func (m *Machine) invite(rec *InviteRecord) {
	if m.live[InviteID(rec.Key)] {
		return
	}
	if _, err := m.makeOperation(OpInvite{Record: *rec}); err != nil {
		panic(err)
	}
	m.follow()
}

// benchRelay is the key of a relay of what is laid down, by its path's index.
func benchRelay(i int) keys.RelayPrivate {
	return keys.NewPrivate[keys.RoleRelay]([32]byte{'r', byte(i)})
}

func (m *Machine) entropyBytes(n int) []byte {
	b := make([]byte, n)
	m.draw(b)
	return b
}

// beside measures work and its floor in turns, so that both see the same
// machine, and compares the medians.
type beside struct{ work, floor []time.Duration }

// once adds one turn; only the work counts for the benchmark's own figures.
func (r *beside) once(b *testing.B, work, floor func()) {
	start := time.Now()
	work()
	r.work = append(r.work, time.Since(start))
	b.StopTimer()
	start = time.Now()
	floor()
	r.floor = append(r.floor, time.Since(start))
	b.StartTimer()
}

func (r *beside) report(b *testing.B) {
	b.ReportMetric(float64(median(r.work)), "ns/op")
	b.ReportMetric(float64(median(r.work))/float64(median(r.floor)), "x/floor")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkSend is one text of 32 bytes, sealed, slotted for every member and
// masked for three relays, beside the floor: the primitives alone.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			m := laidDown(b, n)
			text := make([]byte, 32)
			var slots, upload int
			var msg *message
			var r beside
			var posting []time.Duration
			floor, proofs := sendFloor(n, n*ratchet.SlotSize+1024), postingFloor(n*ratchet.SlotSize+1024)
			b.ReportAllocs()
			for b.Loop() {
				r.once(b, func() {
					msg = m.sendBundle(KindText, text)
					upload = 0
					for _, p := range m.paths {
						q := p.queue[len(p.queue)-1]
						post := m.post(p, q, false)
						upload += len(post.Frame().Body)
						slots = len(post.Slots)
						m.forgetPost(p, q)
					}
					m.Ready()
				}, floor)
				b.StopTimer()
				start := time.Now()
				proofs()
				posting = append(posting, time.Since(start))
				b.StartTimer()
				delete(m.messages, msg.key)
				m.ledger.Forget(msg.key.subject())
			}
			b.ReportMetric(float64(slots)/float64(n), "B/member")
			b.ReportMetric(float64(upload), "B/upload")
			r.report(b)
			b.ReportMetric(float64(median(r.work))/float64(median(r.floor)+median(posting)), "x/floor+proofs")
		})
	}
}

// sendFloor is the primitives that a send cannot do without: per member two
// HMAC on stack buffers, one AEAD, one SHA-256 of 168 bytes and one ChaCha20
// block; per relay AES-CTR over the bundle.
func sendFloor(members, bundle int) func() {
	whole := make([]byte, bundle)
	return func() {
		for range members {
			slotFloor(true)
		}
		for range 3 {
			block, _ := aes.NewCipher(whole[:32])
			cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(whole, whole)
		}
	}
}

// postingFloor is what a relay asks of a post besides, per relay: SHA-256 over
// the bundle, which the receipt is compared with, and one Ed25519 signature.
func postingFloor(bundle int) func() {
	whole := make([]byte, bundle)
	key := ed25519.NewKeyFromSeed(whole[:32])
	return func() {
		for range 3 {
			d := sha256.Sum256(whole)
			ed25519.Sign(key, d[:])
		}
	}
}

// slotFloor is the primitives of one slot.
func slotFloor(sealing bool) {
	var ck [32]byte
	var nonce [12]byte
	for _, c := range []byte{1, 2} {
		hmacFloor(&ck, c)
	}
	a, _ := chacha20poly1305.New(ck[:])
	d := sha256.Sum256(floorData[:])
	if sealing {
		a.Seal(floorSealed[:0], nonce[:], floorData[:32], d[:])
	} else {
		a.Open(floorOpened[:0], nonce[:], floorSealed[:], d[:])
	}
	s, _ := chacha20.NewUnauthenticatedCipher(ck[:], nonce[:])
	s.XORKeyStream(floorHeader[:], floorHeader[:])
}

var (
	floorData   [168]byte
	floorSealed [48]byte
	floorOpened [48]byte
	floorHeader [40]byte
)

// hmacFloor is HMAC-SHA-256 of one byte on stack buffers.
func hmacFloor(key *[32]byte, c byte) {
	var in [65]byte
	var out [96]byte
	for i := range 64 {
		in[i], out[i] = 0x36, 0x5c
	}
	for i := range key {
		in[i] ^= key[i]
		out[i] ^= key[i]
	}
	in[64] = c
	inner := sha256.Sum256(in[:])
	copy(out[64:], inner[:])
	*key = sha256.Sum256(out[:])
}

// TestSlotSize: a standing session's slot is 88 bytes, whatever it has been
// through.
func TestSlotSize(t *testing.T) {
	m := laidDown(t, 3)
	for range 3 {
		m.sendBundle(KindText, []byte("x"))
		p := m.paths[0]
		post := m.post(p, p.queue[len(p.queue)-1], true)
		if got := len(post.Slots); got != 3*ratchet.SlotSize {
			t.Fatalf("slots of three members take %d bytes, want %d", got, 3*ratchet.SlotSize)
		}
	}
}
