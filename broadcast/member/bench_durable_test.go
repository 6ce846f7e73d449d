package member

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/pebble"
	"parallax/internal/store/sealed"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// countingFS counts the bytes that a store gives to write(2).
type countingFS struct {
	vfs.FS
	written *atomic.Int64
}

type countingFile struct {
	vfs.File
	written *atomic.Int64
}

func (f countingFile) Write(p []byte) (int, error) {
	f.written.Add(int64(len(p)))
	return f.File.Write(p)
}

func (f countingFile) WriteAt(p []byte, at int64) (int, error) {
	f.written.Add(int64(len(p)))
	return f.File.WriteAt(p, at)
}

func (fs countingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return countingFile{f, fs.written}, err
}

func (fs countingFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, c)
	return countingFile{f, fs.written}, err
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkSendDurable is BenchmarkSend with what makes it last: sessions
// advanced, outbox and history in one batch, one fsync in a real Pebble store;
// the receipts that empty the outbox are part of it. x/send is its processor
// time beside the same send without the store. As members keep it the store is
// sealed; bare, it is what that costs.
func BenchmarkSendDurable(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		for _, how := range []string{"sealed", "bare"} {
			b.Run(fmt.Sprintf("members=%d/%s", n, how), func(b *testing.B) { benchmarkSendDurable(b, n, how == "sealed") })
		}
	}
}

func benchmarkSendDurable(b *testing.B, n int, seal bool) {
	m := laidDown(b, n)
	text := make([]byte, 32)
	var written atomic.Int64
	var db store.Store
	db, err := pebble.Open(b.TempDir(), pebble.Options{FS: countingFS{vfs.Default, &written}})
	if err == nil && seal {
		var key *sealed.FolderKey
		if key, err = sealed.NewFolderKey(benchEntropy{}); err == nil {
			db, err = sealed.Open(db, sealed.Config{Folder: key, File: b.TempDir() + "/statekey", Kinds: LiveKinds(), Entropy: benchEntropy{}, Now: m.now})
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	send := func(apply bool) {
		msg := m.sendBundle(KindText, text)
		m.saveMessage(msg)
		turn := func() {
			r := m.Ready()
			if !apply || r.Write == nil {
				return
			}
			base, err := db.Revision(m.unit)
			if err != nil {
				b.Fatal(err)
			}
			r.Write.Base = base
			if err := db.Apply([]store.Batch{*r.Write})[0]; err != nil {
				b.Fatal(err)
			}
		}
		turn()
		for _, p := range m.paths {
			q := p.queue[len(p.queue)-1]
			m.post(p, q, false)
			m.forgetPost(p, q)
		}
		turn()
		delete(m.messages, msg.key)
		m.ledger.Forget(msg.key.subject())
	}
	const chunk = 10 // sends between two readings of the processor time
	send(true)
	written.Store(0)
	var durable, plain []time.Duration
	b.ResetTimer()
	start, n := cpu(), 0
	for b.Loop() {
		send(true)
		if n++; n%chunk > 0 {
			continue
		}
		durable = append(durable, cpu()-start)
		b.StopTimer()
		start = cpu()
		for range chunk {
			send(false)
		}
		plain = append(plain, cpu()-start)
		b.StartTimer()
		start = cpu()
	}
	if len(plain) > 0 {
		b.ReportMetric(float64(median(durable))/float64(max(median(plain), 1)), "x/send")
	}
	b.ReportMetric(float64(written.Load())/float64(b.N), "B/written")
}

// pairOf is a session both ends of which are here.
func pairOf(tb testing.TB) (m *Machine, st *seatState, alice, bob *ratchet.Session, chainA, chainB ratchet.SendChain) {
	m = laidDown(tb, 1)
	draw := func() [32]byte { return m.draw32() }
	signing := keys.NewPrivate[keys.RoleMember](draw())
	identity := keys.NewDHPrivate[keys.RoleIdentity](draw())
	a := &Announcement{Suite: Suite1, Group: m.gid, Version: 1, Signing: signing.Public(), Identity: identity.Public(), PrekeyID: 1, KEMID: 1, Expires: m.now.Add(time.Hour), Name: "Bob"}
	a.Seat = NewSeat(m.gid, a.Signing)
	st = m.seatOf(a.Seat)
	st.ann, st.digest = a, a.Digest()
	own := m.seats[m.self]
	peer := &ratchet.Prekeys{ID: 1, Key: own.ann.Prekey, KEMID: 1, KEM: own.ann.KEM}
	c := &ratchet.Contact{Group: m.gid, Identity: identity, Paths: m.pathsPolicy(),
		Self: ratchet.Party{Seat: a.Seat, Announcement: st.digest, Identity: a.Identity},
		Peer: ratchet.Party{Seat: m.self, Announcement: own.digest, Identity: own.ann.Identity}}
	alice, chainA, part, err := ratchet.Initiate(m.entropy, m.entropy, c, peer)
	if err != nil {
		tb.Fatal(err)
	}
	bob, err = ratchet.Accept(m.contact(st), []ratchet.PrekeysPrivate{m.keyring.newest().PrekeysPrivate}, part[:])
	if err != nil {
		tb.Fatal(err)
	}
	var content keys.ContentKey
	if _, err := bob.Open(m.now, m.entropy, &chainB, alice.Seal(&chainA, &content, wire.Digest{1}, nil), wire.Digest{1}); err != nil {
		tb.Fatal(err)
	}
	return m, st, alice, bob, chainA, chainB
}
