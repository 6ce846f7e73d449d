package member

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/broadcast"
	"parallax/internal/store"
)

// jobPool runs jobs in two goroutines, as package node does on two cores.
type jobPool struct {
	jobs     chan broadcast.Job
	outcomes chan broadcast.Finished
	ended    sync.WaitGroup
}

func newJobPool() *jobPool {
	p := &jobPool{jobs: make(chan broadcast.Job, 4096), outcomes: make(chan broadcast.Finished, 4096)}
	for range 2 {
		p.ended.Go(func() {
			for j := range p.jobs {
				p.outcomes <- broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)}
			}
		})
	}
	return p
}

func (p *jobPool) close() {
	close(p.jobs)
	p.ended.Wait()
}

// newcomer makes m one that has just read the boards: nobody has a session yet.
func (m *Machine) newcomer() {
	for _, st := range m.seats {
		st.session = sessions{index: -1}
		st.initial, st.shown = !st.own, st.own
		st.attempts, st.kept = nil, nil
		m.review(st)
	}
	for _, p := range m.paths {
		p.queue = nil
	}
	m.chains = chainVector{}
	clear(m.bundles)
	clear(m.sets)
	m.current = nil
	for k := range m.messages {
		delete(m.messages, k)
		m.ledger.Forget(k.subject())
	}
	m.meta.Phase = phaseJoining
	m.Ready()
}

// begin goes on from joined until the bundle with all hellos is in a write; it
// tells how many bytes that has.
func (m *Machine) beginAll(b *testing.B, p *jobPool) (written int) {
	m.joined(len(m.seats) - 1)
	m.settle()
	progress := 0
	for {
		r := m.Ready()
		progress += len(r.Events)
		for _, j := range r.Jobs {
			p.jobs <- j
		}
		if r.Write != nil {
			written += sizeOf(r.Write)
		}
		if len(m.bundles) > 0 {
			break
		}
		if err := m.Step(m.now, <-p.outcomes); err != nil {
			b.Fatal(err)
		}
	}
	if progress < 2 && len(m.seats) > 2*startsPerJob {
		b.Fatal("no progress was shown")
	}
	return written
}

func sizeOf(w *store.Batch) (n int) {
	for _, o := range w.Ops {
		n += len(o.Key) + len(o.Value)
	}
	return n
}

// BenchmarkJoin is a joiner from the moment that the boards agreed to the write
// with the bundle that begins all sessions, jobs in two goroutines. x/floor
// compares processor time with that of the starts' primitives; wall/cpu tells
// whether both cores worked.
func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			m := laidDownSeats(b, n)
			p := newJobPool()
			defer p.close()
			floor := startFloor()
			var work, wall, least []time.Duration
			var written, upload int
			for b.Loop() {
				b.StopTimer()
				m.newcomer()
				b.StartTimer()
				began, used := time.Now(), cpu()
				written = m.beginAll(b, p)
				work, wall = append(work, max(cpu()-used, 1)), append(wall, time.Since(began))
				b.StopTimer()
				used = cpu()
				for range n - 1 {
					floor()
				}
				least = append(least, cpu()-used)
				path := m.paths[0]
				upload = len(m.post(path, path.queue[0], true).Frame().Body)
				b.StartTimer()
			}
			b.ReportMetric(float64(median(slices.Clone(wall))), "ns/op")
			w := median(slices.Clone(work))
			b.ReportMetric(float64(w)/float64(median(least)), "x/floor")
			// What disturbs only adds to the wall: the least disturbed turn counts.
			apart := make([]float64, len(wall))
			for i := range wall {
				apart[i] = float64(wall[i]) / float64(work[i])
			}
			b.ReportMetric(slices.Min(apart), "wall/cpu")
			b.ReportMetric(float64(upload)/float64(n), "B/member")
			b.ReportMetric(float64(written)/float64(n), "B/stored")
		})
	}
}

// startFloor is the primitives of one start over three relays: two key pairs,
// four DH, one encapsulation to a key read from bytes; HMAC and AEAD for each
// share.
func startFloor() func() {
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		panic(err)
	}
	raw := kem.EncapsulationKey().Bytes()
	pair := func() *ecdh.PrivateKey {
		k, err := ecdh.X25519().NewPrivateKey(raw[:32])
		if err != nil {
			panic(err)
		}
		return k
	}
	peer := pair().PublicKey().Bytes()
	return func() {
		a, b := pair(), pair()
		for _, k := range []*ecdh.PrivateKey{a, a, b, b} {
			p, _ := ecdh.X25519().NewPublicKey(peer)
			k.ECDH(p)
		}
		e, err := mlkem.NewEncapsulationKey768(raw)
		if err != nil {
			panic(err)
		}
		e.Encapsulate()
		for range 3 {
			key := [32]byte(floorData[:32])
			hmacFloor(&key, 1)
			s, _ := chacha20poly1305.New(key[:])
			s.Seal(floorSealed[:0], make([]byte, 12), floorData[:32], floorData[:32])
		}
	}
}
