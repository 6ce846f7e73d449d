package member

import (
	"bytes"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// seededEntropy is the simulator's kind: everything follows from the seed.
type seededEntropy struct{ *mathrand.ChaCha8 }

func seededBy(b byte) seededEntropy { return seededEntropy{mathrand.NewChaCha8([32]byte{b})} }

func (e seededEntropy) Encapsulate(k *mlkem.EncapsulationKey768) ([]byte, []byte) {
	var seed [32]byte
	e.Read(seed[:])
	shared, ct, err := mlkemtest.Encapsulate768(k, seed[:])
	if err != nil {
		panic(err)
	}
	return shared, ct
}

func (seededEntropy) Fork(seed [32]byte) broadcast.Entropy {
	return seededEntropy{mathrand.NewChaCha8(seed)}
}

// joins lets m join anew, up to the jobs that it hands out.
func joins(t *testing.T, m *Machine) []broadcast.Job {
	t.Helper()
	m.newcomer()
	m.starting = starting{last: m.starting.last}
	m.joined(len(m.seats) - 1)
	m.settle()
	r := m.Ready()
	if len(r.Jobs) == 0 || len(m.bundles) > 0 {
		t.Fatalf("%d jobs and %d bundles after joining", len(r.Jobs), len(m.bundles))
	}
	return r.Jobs
}

func outcome(j broadcast.Job) broadcast.Finished {
	return broadcast.Finished{ID: j.ID, Result: j.Run(j.Seed)}
}

// finish hands the outcomes of jobs over, and of those that come of them.
func finish(t *testing.T, m *Machine, jobs []broadcast.Job) {
	t.Helper()
	for n := 0; len(jobs) > 0; n++ {
		if n > 100 {
			t.Fatal("there is always another job")
		}
		if err := m.Step(m.now, outcome(jobs[0])); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs[1:], m.Ready().Jobs...)
	}
}

// written is what a store would have after these writes, as one digest.
func written(all map[string][]byte) wire.Digest {
	h := sha256.New()
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range all {
			if !yield(k) {
				return
			}
		}
	}) {
		h.Write([]byte(k))
		h.Write(all[k])
	}
	return wire.Digest(h.Sum(nil))
}

// TestStartsInAnyOrder: whichever job ends first, and in whatever goroutine they
// ran, the same bytes are written.
func TestStartsInAnyOrder(t *testing.T) {
	m := laidDownSeats(t, 4*startsPerJob)
	counters, now := m.counters, m.now
	run := func(order func([]broadcast.Job) []broadcast.Finished) wire.Digest {
		m.counters, m.now, m.entropy = counters, now, seededBy(7)
		m.starting, m.duty = starting{}, duty{}
		jobs := joins(t, m)
		if len(jobs) < 4 {
			t.Fatalf("%d jobs", len(jobs))
		}
		all := map[string][]byte{}
		for i, f := range order(jobs) {
			if len(m.bundles) > 0 {
				t.Fatalf("a bundle after %d of %d jobs", i, len(jobs))
			}
			if err := m.Step(m.now, f); err != nil {
				t.Fatal(err)
			}
			r := m.Ready()
			if i < len(jobs)-1 && r.Write != nil {
				t.Error("something is written of sessions that no bundle carries")
			}
			if r.Write != nil {
				for _, o := range r.Write.Ops {
					all[string(o.Key)] = o.Value
				}
			}
		}
		if len(m.bundles) != 1 || len(m.starting.begun) != 0 {
			t.Fatalf("%d bundles, %d starts left", len(m.bundles), len(m.starting.begun))
		}
		for _, b := range m.bundles {
			firsts := 0
			for _, c := range b.classes {
				if c == broadcast.FirstContact {
					firsts++
				}
			}
			if firsts != len(m.seats)-1 {
				t.Fatalf("one bundle begins %d sessions of %d", firsts, len(m.seats)-1)
			}
		}
		return written(all)
	}
	inOrder := func(jobs []broadcast.Job) (all []broadcast.Finished) {
		for _, j := range jobs {
			all = append(all, outcome(j))
		}
		return all
	}
	want := run(inOrder)
	r := mathrand.New(mathrand.NewPCG(1, 2))
	for range 4 {
		if run(func(jobs []broadcast.Job) []broadcast.Finished {
			all := inOrder(jobs)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all
		}) != want {
			t.Error("another order of jobs, other bytes")
		}
	}
	if run(func(jobs []broadcast.Job) []broadcast.Finished {
		all := make([]broadcast.Finished, len(jobs))
		var wg sync.WaitGroup
		for i, j := range slices.Backward(jobs) {
			wg.Go(func() { all[i] = outcome(j) })
		}
		wg.Wait()
		return all
	}) != want {
		t.Error("jobs in goroutines, other bytes")
	}
}

// newVersion is the next announcement of a seat, with other prekeys, as every
// path shows it.
func (m *Machine) newVersion(t *testing.T, st *seatState) {
	t.Helper()
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	a := *st.ann
	a.Version, a.Previous, a.PrekeyID, a.KEMID = a.Version+1, st.digest, a.PrekeyID+1, a.KEMID+1
	a.Prekey = keys.NewDHPrivate[keys.RolePrekey](m.draw32()).Public()
	copy(a.KEM[:], kem.EncapsulationKey().Bytes())
	st.ann, st.digest = &a, a.Digest()
	for i := range m.paths {
		m.ledger.Claim(m.now, crossverify.Path(i), crossverify.Announcement(st.seat, a.Version), st.digest)
	}
	m.seatChanged(st)
}

// madeFrom tells whether the session that a bundle begins with a seat has the
// transcript that the seat will compute from its present announcement.
func (m *Machine) madeFrom(t *testing.T, b *bundleRecord, st *seatState) bool {
	t.Helper()
	at := 0
	for i, seat := range m.sets[b.set].seats {
		size := b.classes[i].Size()
		if seat == st.seat && b.classes[i] == broadcast.FirstContact {
			c := *m.contact(st)
			c.Self, c.Peer = c.Peer, c.Self
			got, err := ratchet.HandshakeTranscript(&c, b.slots[at:at+ratchet.HandshakeSize])
			if err != nil {
				t.Fatal(err)
			}
			return len(st.session.list) == 1 && got == st.session.list[0].Transcript()
		}
		at += size
	}
	return false
}

// TestStaleStarts: what was computed from an announcement or a policy that has
// changed since is begun again; what is not due any more is dropped.
func TestStaleStarts(t *testing.T) {
	const seats = 8
	others := func(m *Machine) (all []*seatState) {
		return slices.DeleteFunc(m.sortedSeats(), func(st *seatState) bool { return st.own })
	}
	for name, change := range map[string]func(m *Machine, list []*seatState) (fresh, none []*seatState){
		"one announcement": func(m *Machine, list []*seatState) (_, _ []*seatState) {
			m.newVersion(t, list[2])
			return list, nil
		},
		"many announcements": func(m *Machine, list []*seatState) (_, _ []*seatState) {
			for _, st := range list[:5] {
				m.newVersion(t, st)
			}
			return list, nil
		},
		"the own announcement": func(m *Machine, list []*seatState) (_, _ []*seatState) {
			m.newVersion(t, m.seats[m.self])
			return list, nil
		},
		"the policy": func(m *Machine, list []*seatState) (_, _ []*seatState) {
			m.paths[1].aside = true
			return list, nil
		},
		"a hello from there": func(m *Machine, list []*seatState) (_, _ []*seatState) {
			if _, _, _, err := m.initiate(list[3]); err != nil {
				t.Fatal(err)
			}
			return slices.Delete(slices.Clone(list), 3, 4), list[3:4]
		},
		"a contested key": func(m *Machine, list []*seatState) (_, _ []*seatState) {
			m.ledger.Claim(m.now, 0, crossverify.Announcement(list[4].seat, 1), wire.Digest{1})
			m.seatChanged(list[4])
			if m.usable(list[4]) {
				t.Fatal("two announcements of one version, and the key is usable")
			}
			return slices.Delete(slices.Clone(list), 4, 5), list[4:5]
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := laidDownSeats(t, seats)
			jobs := joins(t, m)
			early := outcome(jobs[0])
			fresh, none := change(m, others(m))
			if err := m.Step(m.now, early); err != nil {
				t.Fatal(err)
			}
			finish(t, m, append(m.Ready().Jobs, jobs[1:]...))
			if len(m.bundles) != 1 || len(m.starting.begun) != 0 || m.starting.underWay() {
				t.Fatalf("%d bundles, %d starts left", len(m.bundles), len(m.starting.begun))
			}
			for _, b := range m.bundles {
				for _, st := range fresh {
					if !m.madeFrom(t, b, st) {
						t.Errorf("seat %s: no hello made from what holds now", st.seat.Short())
					}
				}
				for _, st := range none {
					if m.madeFrom(t, b, st) || len(st.session.list) > 1 {
						t.Errorf("seat %s: a hello although none is due", st.seat.Short())
					}
				}
			}
		})
	}
}

// TestBadPrekeysInAJob: a seat whose prekeys nobody can use keeps nobody else
// from being greeted, and is not tried again.
func TestBadPrekeysInAJob(t *testing.T) {
	m := laidDownSeats(t, 8)
	bad := []*seatState{seatByName(t, m, "M0"), seatByName(t, m, "M2"), seatByName(t, m, "M3"), seatByName(t, m, "M5")}
	for _, st := range bad {
		st.ann.KEM = [KEMKeySize]byte(bytes.Repeat([]byte{0xff}, KEMKeySize))
	}
	finish(t, m, joins(t, m))
	for _, st := range bad {
		if len(m.bundles) != 1 || st.session.index != badPrekeys || len(st.session.list) > 0 {
			t.Fatalf("%d bundles, index %d", len(m.bundles), st.session.index)
		}
	}
	m.settle()
	if r := m.Ready(); len(r.Jobs) > 0 || m.starting.underWay() {
		t.Error("the seat is tried again")
	}
	if st := seatByName(t, m, "M1"); len(st.session.list) != 1 {
		t.Error("another seat has no session")
	}
}

// TestForeignOutcome: an outcome that no job under way has changes nothing.
func TestForeignOutcome(t *testing.T) {
	m := laidDownSeats(t, 8)
	jobs := joins(t, m)
	done := outcome(jobs[0])
	for _, f := range []broadcast.Finished{{ID: 1 << 40, Result: done.Result}, {ID: jobs[0].ID, Result: "nonsense"}, {ID: jobs[0].ID}} {
		if err := m.Step(m.now, f); err != nil {
			t.Fatal(err)
		}
		if len(m.starting.begun) > 0 || len(m.starting.jobs) != len(jobs) {
			t.Errorf("outcome of job %d was taken", f.ID)
		}
	}
	finish(t, m, jobs)
	if err := m.Step(m.now, done); err != nil || len(m.starting.begun) > 0 || len(m.bundles) != 1 {
		t.Errorf("an outcome was taken twice: %v", err)
	}
}
