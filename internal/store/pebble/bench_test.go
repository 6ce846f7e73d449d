package pebble_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parallax/internal/store"
	"parallax/internal/store/pebble"
)

// BenchmarkApply measures one batch with fsync beside a bare Pebble commit of
// as many bytes, in turns, so that both meet the same disk: "x/floor" is how
// often the floor fits into an Apply.
func BenchmarkApply(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), pebble.Options{})
			defer s.Close()
			db, err := engine.Open(b.TempDir(), &engine.Options{
				Logger: quiet{}, FormatMajorVersion: engine.FormatNewest, MemTableSize: pebble.DefaultMemTableBytes,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			value := bytes.Repeat([]byte{0xa5}, size)
			var ours, floor time.Duration
			n := uint64(0)
			for b.Loop() {
				k := binary.BigEndian.AppendUint64(unit[:], n)
				start := time.Now()
				if err := s.Apply([]store.Batch{{Unit: unit, Base: n, Ops: []store.Op{{Key: k, Value: value}}}})[0]; err != nil {
					b.Fatal(err)
				}
				between := time.Now()
				batch := db.NewBatch()
				if err := batch.Set(k, value, nil); err != nil {
					b.Fatal(err)
				}
				if err := batch.Commit(engine.Sync); err != nil {
					b.Fatal(err)
				}
				batch.Close()
				ours += between.Sub(start)
				floor += time.Since(between)
				n++
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(n), "apply-ns")
			b.ReportMetric(float64(floor.Nanoseconds())/float64(n), "floor-ns")
			b.ReportMetric(ours.Seconds()/floor.Seconds(), "x/floor")
		})
	}
}

// BenchmarkOpen measures opening a store whose log is as long as it gets
// beside bare Pebble on the same bytes: the price of looking before writing.
func BenchmarkOpen(b *testing.B) {
	fs := vfs.NewMem()
	s := mustOpen(b, "store", pebble.Options{FS: fs})
	value := bytes.Repeat([]byte{0xa5}, 1<<10)
	for i := range uint64(3500) {
		batch := store.Batch{Unit: unit, Base: i, Lazy: true, Ops: []store.Op{{Key: binary.BigEndian.AppendUint64(unit[:], i), Value: value}}}
		apply(b, s, batch)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	files := contents(fs, "store")
	var ours, floor time.Duration
	n := 0
	for b.Loop() {
		fs := vfs.NewMem()
		writeFiles(fs, "store", files)
		writeFiles(fs, "bare", files)
		start := time.Now()
		s := mustOpen(b, "store", pebble.Options{FS: fs})
		between := time.Now()
		db, err := engine.Open("bare", &engine.Options{
			FS: fs, Logger: quiet{}, FormatMajorVersion: engine.FormatNewest, MemTableSize: pebble.DefaultMemTableBytes,
		})
		if err != nil {
			b.Fatal(err)
		}
		ours += between.Sub(start)
		floor += time.Since(between)
		n++
		s.Close()
		db.Close()
	}
	b.ReportMetric(float64(ours.Nanoseconds())/float64(n), "open-ns")
	b.ReportMetric(ours.Seconds()/floor.Seconds(), "x/floor")
}
