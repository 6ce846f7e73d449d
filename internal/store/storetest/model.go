package storetest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"parallax/internal/store"

	"pgregory.net/rapid"
)

// model is the contract in the plainest words: a map, and a count per unit.
type model struct {
	entries   map[string]string
	revisions map[store.Unit]uint64
}

func (m *model) apply(b store.Batch) error {
	if m.revisions[b.Unit] != b.Base {
		return store.ErrConflict
	}
	for _, op := range b.Ops {
		switch {
		case op.To != nil:
			maps.DeleteFunc(m.entries, func(k, _ string) bool { return k >= string(op.Key) && k < string(op.To) })
		case op.Value == nil:
			delete(m.entries, string(op.Key))
		default:
			m.entries[string(op.Key)] = string(op.Value)
		}
	}
	m.revisions[b.Unit]++
	return nil
}

func (m *model) scan(from, to []byte, limit int) (kvs []store.KV, more bool) {
	size := 0
	for _, k := range slices.Sorted(maps.Keys(m.entries)) {
		if k < string(from) || k >= string(to) {
			continue
		}
		if len(kvs) > 0 && size >= limit {
			return kvs, true
		}
		kvs = append(kvs, store.KV{Key: []byte(k), Value: []byte(m.entries[k])})
		size += len(k) + len(m.entries[k])
	}
	return kvs, false
}

// testModel walks the store and the model side by side.
func testModel(t *testing.T, open func(t *testing.T) store.Store, reopen func(t *testing.T, s store.Store) store.Store) {
	units := []store.Unit{one, two, far}
	rapid.Check(t, func(rt *rapid.T) {
		s := open(t)
		defer func() { s.Close() }()
		m := &model{entries: map[string]string{}, revisions: map[store.Unit]uint64{}}
		// A small alphabet, so that keys meet and prefixes of each other occur.
		name := func(label string) string {
			return string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 0, 3).Draw(rt, label))
		}
		anyKey := func(label string) []byte {
			return key(rapid.SampledFrom(units).Draw(rt, label+" unit"), name(label))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"apply": func(rt *rapid.T) {
				var batches []store.Batch
				ahead := maps.Clone(m.revisions)
				for range rapid.IntRange(1, 4).Draw(rt, "batches") {
					u := rapid.SampledFrom(units).Draw(rt, "unit")
					b := store.Batch{Unit: u, Base: ahead[u], Lazy: rapid.Bool().Draw(rt, "lazy")}
					if rapid.IntRange(0, 4).Draw(rt, "stale") == 0 {
						b.Base += uint64(rapid.IntRange(-1, 1).Draw(rt, "by"))
					}
					if b.Base == ahead[u] {
						ahead[u]++
					}
					for range rapid.IntRange(0, 5).Draw(rt, "ops") {
						op := store.Op{Key: key(u, name("key"))}
						switch rapid.IntRange(0, 3).Draw(rt, "kind") {
						case 0: // delete
						case 1:
							op.To = key(u, name("to"))
							if bytes.Compare(op.To, op.Key) < 0 {
								op.Key, op.To = op.To, op.Key
							}
						default:
							op.Value = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "value")
							op.Value = append([]byte{}, op.Value...)
						}
						b.Ops = append(b.Ops, op)
					}
					batches = append(batches, b)
				}
				for i, err := range s.Apply(batches) {
					if want := m.apply(batches[i]); !errors.Is(err, want) {
						rt.Fatalf("batch %d: %v, want %v", i, err, want)
					}
				}
			},
			"get": func(rt *rapid.T) {
				k := anyKey("key")
				v, err := s.Get(k)
				want, has := m.entries[string(k)]
				if has && (err != nil || string(v) != want) || !has && !errors.Is(err, store.ErrNotFound) {
					rt.Fatalf("Get %q: %q, %v, want %q, %v", k, v, err, want, has)
				}
			},
			"scan": func(rt *rapid.T) {
				from, to := anyKey("from"), anyKey("to")
				limit := rapid.IntRange(0, 200).Draw(rt, "limit")
				kvs, more, err := s.Scan(from, to, limit)
				want, wantMore := m.scan(from, to, limit)
				if err != nil || more != wantMore || !slices.EqualFunc(kvs, want, same) {
					rt.Fatalf("Scan [%q, %q) limit %d: %q more %v, %v; want %q more %v", from, to, limit, kvs, more, err, want, wantMore)
				}
			},
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "rarely") == 0 { // costly in some engines
					s = reopen(t, s)
				}
			},
			"": func(rt *rapid.T) {
				for _, u := range units {
					if r, err := s.Revision(u); err != nil || r != m.revisions[u] {
						rt.Fatalf("revision %d, %v, want %d", r, err, m.revisions[u])
					}
				}
			},
		})
		kvs, more, err := s.Scan(nil, far.End(), 1<<30)
		if want, _ := m.scan(nil, far.End(), 1<<30); err != nil || more || !slices.EqualFunc(kvs, want, same) {
			rt.Fatalf("in the end the store holds %q, %v, want %q", kvs, err, want)
		}
	})
}

func same(a, b store.KV) bool { return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) }
