package relay_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// Whatever comes, the machine does not panic; and what is refused writes
// nothing.
func FuzzStep(f *testing.F) {
	for _, msg := range []proto.Message{
		proto.Info{}, createFrame(), grantFrame("g", "i", 1, 1, start, false), registerFrame("a", thePosting),
		proto.Open{Window: 3}, proto.Ack{UpTo: 3}, proto.Fetch{From: 1, To: 3}, postFrame("p", nil, 0, "a"), digestFrame("d"), putFrame("b", "x", 1, "v", "o"),
		admitFrame("c", "i", "x"), proto.BoardList{Limit: 3}, proto.BoardProve{}, proto.BoardWalk{Places: make([]crossverify.Prefix, 1)}, proto.StatementOf{N: 1}, proto.SlotBlock{N: 2}, proto.Ping{}, proto.Bye{},
		rotateFrame("r", 1, "1", "", ""),
	} {
		fr := proto.Encode(msg)
		f.Add(fr.Type, fr.Body, uint8(1))
	}
	open := relay.Open(config())
	f.Fuzz(func(t *testing.T, typ uint8, body []byte, cut uint8) {
		fr, err := newFront(open, memory.New(), 1)
		if err != nil {
			t.Fatal(err)
		}
		c := fr.dial()
		c.ask(createFrame(), registerFrame("a", thePosting), postFrame("1", nil, 0, "a"))
		c.ask(c.openFrame("a", crossverify.Position{}, 10, nil))
		// The frame, and the frame cut in two.
		at := int(cut) % (len(body) + 1)
		for _, b := range [][]byte{body, body[:at], body[at:]} {
			if c.down {
				c = fr.dial()
				fr.settle()
			}
			c.got = nil
			ops := fr.ops
			fr.step(broadcast.Received{Link: c.id, Frame: broadcast.Frame{Type: typ, Body: bytes.Clone(b)}})
			fr.settle()
			for _, got := range c.got {
				if _, no := got.(proto.Refused); no && fr.ops != ops {
					t.Errorf("refused with %d ops written", fr.ops-ops)
				}
			}
		}
		if fr.stepErr != nil {
			t.Errorf("Step: %v", fr.stepErr)
		}
		if err := fr.start(); err != nil {
			t.Errorf("does not open again: %v", err)
		}
	})
}

// flawed is a store that damages what it reads.
type flawed struct {
	store.Store
	letter byte
	on     bool
	fail   bool
}

var errDisk = errors.New("the disk is tired")

func (s *flawed) hit(key []byte) bool { return s.on && len(key) > 16 && key[16] == s.letter }

func (s *flawed) Get(key []byte) ([]byte, error) {
	v, err := s.Store.Get(key)
	if s.hit(key) && err == nil {
		if s.fail {
			return nil, errDisk
		}
		v = v[:len(v)-1]
	}
	return v, err
}

func (s *flawed) Scan(from, to []byte, limit int) ([]store.KV, bool, error) {
	kvs, more, err := s.Store.Scan(from, to, limit)
	if s.hit(from) && err == nil {
		if s.fail {
			return nil, false, errDisk
		}
		for i := range kvs {
			kvs[i].Value = kvs[i].Value[:len(kvs[i].Value)-1]
		}
	}
	return kvs, more, err
}

// A store that fails or lies makes requests busy and openings fail; it never
// makes the machine sign or panic.
func TestDamagedStore(t *testing.T) {
	for _, letter := range []byte("mlsibvfuxpg") {
		for _, fail := range []bool{false, true} {
			st := &flawed{Store: memory.New(), letter: letter, fail: fail}
			cfg := config()
			cfg.Limits.TailEntries, cfg.Limits.CachedFanouts, cfg.Limits.RecentPosts = 1, 1, 1
			cfg.Limits.Retention = time.Hour
			f, err := newFront(relay.Open(cfg), st, 1)
			if err != nil {
				t.Fatal(err)
			}
			c := f.dial()
			c.ask(createFrame(), registerFrame("a", thePosting), postFrame("1", nil, 0, "a"), postFrame("2", nil, 0, "b"),
				putFrame("3", "x", 1, "value", "o"), grantFrame("4", "i", 1, 1, start.AddDate(1, 0, 0), false))
			st.on = true
			p := postFrame("5", nil, 0, "a")
			p.Mailboxes = nil
			rd := f.dial()
			f.settle()
			known := crossverify.SignStatement(theRelay, theChannel, wire.Lineage{}, 1, wire.Digest{}, wire.Digest{}, wire.Digest{})
			rd.ask(rd.openFrame("a", crossverify.Position{}, 10, &known), proto.Fetch{From: 2, To: 3}, proto.SlotBlock{N: 2})
			c.ask(postFrame("1", nil, 0, "a"), p, proto.StatementOf{N: 2}, proto.BoardList{Limit: 9})
			f.sleep(2 * time.Hour)
			err = f.start()
			// Not read when opening; or, with u, trimmed by then.
			opens := letter == 'l' || letter == 's' || letter == 'i' || letter == 'v' || letter == 'f' || letter == 'u' && !fail
			if (err == nil) != opens {
				t.Errorf("%c, failing %v: opening gave %v", letter, fail, err)
			}
			if err != nil && !fail && !errors.Is(err, relay.ErrCorrupt) {
				t.Errorf("%c: opening gave %v", letter, err)
			}
		}
	}
}

func TestForeignUnit(t *testing.T) {
	r := newRig(t)
	cfg := config()
	cfg.Key = new(keys.RelayPrivate).FromSeed(seedOf("another relay"))
	id := cfg.Key.Public()
	cfg.OperatorSignature = theOperator.Sign("parallax/1/operator", id[:])
	if _, err := relay.Open(cfg)(relay.Unit(theChannel), r.st, newSeeded(1)); !errors.Is(err, relay.ErrForeign) {
		t.Errorf("opened with %v", err)
	}
}
