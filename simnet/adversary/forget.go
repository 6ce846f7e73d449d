package adversary

import (
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// Forgetter is a relay that takes board writes and gives receipts for them, and
// from its next start on goes on, in the same lineage, as if the entries of one
// writer had never been: its roots, pages and proofs all lack them, so that
// nothing it shows is inconsistent. It does not touch its disk: the records are
// hidden from the machine that reads them. The zero value with Relay and Writer
// set is honest until Forget.
type Forgetter struct {
	Relay keys.RelayPublic
	// Writer names who a link belongs to.
	Writer func(Place) string

	written map[string][]wire.Digest // masked names, by writer
	hidden  map[wire.Digest]bool
}

// Forget hides what writer wrote so far, from the next start on.
func (f *Forgetter) Forget(writer string) {
	f.hidden = map[wire.Digest]bool{}
	for _, name := range f.written[writer] {
		f.hidden[name] = true
	}
}

// Wrap returns the dishonest way to open machines.
func (f *Forgetter) Wrap(open broadcast.Open) broadcast.Open {
	return func(u store.Unit, r store.Reader, e broadcast.Entropy) (broadcast.Machine, error) {
		m, err := open(u, forgetfulReader{r, f}, e)
		if err != nil {
			return nil, err
		}
		return &forgetful{Machine: m, f: f}, nil
	}
}

// visible are the records that the machine may see: those of an entry end with
// its masked name.
func (f *Forgetter) visible(kvs []store.KV) []store.KV {
	out := kvs[:0:0]
	for _, kv := range kvs {
		if !f.hides(kv.Key) {
			out = append(out, kv)
		}
	}
	return out
}

func (f *Forgetter) hides(key []byte) bool {
	const at = len(store.Unit{}) + 1
	return len(key) == at+len(wire.Digest{}) && f.hidden[wire.Digest(key[at:])]
}

type forgetfulReader struct {
	store.Reader
	f *Forgetter
}

func (r forgetfulReader) Get(key []byte) ([]byte, error) {
	if r.f.hides(key) {
		return nil, store.ErrNotFound
	}
	return r.Reader.Get(key)
}

func (r forgetfulReader) Scan(from, to []byte, limit int) ([]store.KV, bool, error) {
	kvs, more, err := r.Reader.Scan(from, to, limit)
	if seen := r.f.visible(kvs); len(seen) > 0 || !more {
		return seen, more, err
	}
	return r.Scan(append(append([]byte(nil), kvs[len(kvs)-1].Key...), 0), to, limit)
}

// forgetful is one life of a channel. It implements broadcast.Machine.
type forgetful struct {
	broadcast.Machine
	f *Forgetter
}

// Step implements broadcast.Machine.
func (m *forgetful) Step(now time.Time, in broadcast.Input) error {
	switch x := in.(type) {
	case broadcast.Loaded:
		x.KVs = m.f.visible(x.KVs)
		in = x
	case broadcast.Changed:
		x.Reader = forgetfulReader{x.Reader, m.f}
		in = x
	case broadcast.Received:
		if msg, err := proto.Parse(x.Frame); err == nil {
			m.heard(x.Link, msg)
		}
	}
	return m.Machine.Step(now, in)
}

// heard remembers who wrote which entry.
func (m *forgetful) heard(l broadcast.Link, msg proto.Message) {
	var name wire.Digest
	switch msg := msg.(type) {
	case proto.BoardPut:
		name = msg.Name
	case proto.Admit:
		name = msg.Name
	default:
		return
	}
	if m.f.written == nil {
		m.f.written = map[string][]wire.Digest{}
	}
	who := m.f.Writer(Place{Relay: m.f.Relay, Link: l})
	m.f.written[who] = append(m.f.written[who], name)
}

var _ broadcast.Machine = (*forgetful)(nil)
