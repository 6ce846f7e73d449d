package sealed

import (
	"bytes"
	"testing"
	"time"

	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/store/pebble"
)

// sendBatch is what a send to 1,000 members writes: the vector, the bundle and
// a dozen of small records, 133 kB.
func sendBatch(base uint64) store.Batch {
	b := store.Batch{Unit: unit, Base: base}
	add := func(kind byte, n, size int) {
		for i := range n {
			b.Ops = append(b.Ops, store.Op{Key: record(unit, string([]byte{kind, byte(i)})), Value: bytes.Repeat([]byte{0xa5}, size)})
		}
	}
	add('v', 1, 40_000)
	add('b', 1, 91_000)
	add('q', 4, 120)
	add('e', 6, 250)
	return b
}

// BenchmarkApply measures a batch of 133 kB with fsync in a sealed Pebble beside
// the same in a bare one, in turns, so that both meet the same disk: "x/floor"
// is how often the floor fits into an Apply.
func BenchmarkApply(b *testing.B) {
	open := func() store.Store {
		s, err := pebble.Open(b.TempDir(), pebble.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s
	}
	s, floor := mustOpen(b, open(), config(b)), open()
	var ours, bare time.Duration
	n := uint64(0)
	for b.Loop() {
		batch := []store.Batch{sendBatch(n)}
		begin := time.Now()
		if err := s.Apply(batch)[0]; err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if err := floor.Apply(batch)[0]; err != nil {
			b.Fatal(err)
		}
		ours += between.Sub(begin)
		bare += time.Since(between)
		n++
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(n), "apply-ns")
	b.ReportMetric(float64(bare.Nanoseconds())/float64(n), "floor-ns")
	b.ReportMetric(ours.Seconds()/bare.Seconds(), "x/floor")
}

// BenchmarkSeal is the sealing of such a batch alone.
func BenchmarkSeal(b *testing.B) {
	s := mustOpen(b, memory.New(), config(b))
	ops := sendBatch(0).Ops
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.sealOps(ops); err != nil {
			b.Fatal(err)
		}
	}
}
