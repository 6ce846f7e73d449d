package simnet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/store"
)

// A toy pair of roles, small enough to see what the driver does to them: the
// relay keeps a list of words under dense numbers, each word once; the member
// gives it words until each has been read back.

const (
	toyHello = 1 + iota // channel u8, words known u64
	toyWord             // u64
	toyEntry            // number u64, word u64
	toyTake             // a wish
)

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func toyUnit(channel byte) store.Unit { return store.Unit{'t', channel} }

func toyRoute(f broadcast.Frame) (store.Unit, error) {
	if f.Type != toyHello || len(f.Body) != 9 {
		return store.Unit{}, fmt.Errorf("type %d", f.Type)
	}
	return toyUnit(f.Body[0]), nil
}

// toyMachine is what both have in common: a log of words in the store.
type toyMachine struct {
	unit  store.Unit
	base  uint64
	words []uint64 // number i+1
	has   map[uint64]bool
	fresh []uint64 // of this turn
	turn  uint64
	sends []broadcast.Send
	out   broadcast.Ready
}

func openToy(u store.Unit, r store.Reader) (m toyMachine, err error) {
	m = toyMachine{unit: u, has: map[uint64]bool{}}
	if m.base, err = r.Revision(u); err != nil {
		return m, err
	}
	kvs, _, err := r.Scan(append(u[:], 'w'), append(u[:], 'x'), 1<<20)
	for _, kv := range kvs {
		w := binary.BigEndian.Uint64(kv.Value)
		m.words, m.has[w] = append(m.words, w), true
	}
	return m, err
}

func (m *toyMachine) add(word uint64) bool {
	if m.has[word] {
		return false
	}
	m.has[word] = true
	m.words = append(m.words, word)
	m.fresh = append(m.fresh, word)
	return true
}

func (m *toyMachine) ready() broadcast.Ready {
	r := m.out
	r.Sends = m.sends
	if len(m.fresh) > 0 {
		r.Write = &store.Batch{Unit: m.unit, Base: m.base}
		m.base++
		for i, w := range m.fresh {
			n := uint64(len(m.words) - len(m.fresh) + i + 1)
			r.Write.Ops = append(r.Write.Ops, store.Op{Key: append(append(m.unit[:], 'w'), u64(n)...), Value: u64(w)})
		}
	}
	if r.Write != nil || len(r.Sends)+len(r.Events)+len(r.Answers) > 0 {
		m.turn++
		r.Turn = m.turn
	}
	m.fresh, m.sends, m.out = nil, nil, broadcast.Ready{}
	return r
}

type toyRelay struct {
	toyMachine
	links []broadcast.Link
}

func openToyRelay(u store.Unit, r store.Reader, _ broadcast.Entropy) (broadcast.Machine, error) {
	m, err := openToy(u, r)
	return &toyRelay{toyMachine: m}, err
}

func (m *toyRelay) push(l broadcast.Link, n int) {
	body := append(u64(uint64(n)), u64(m.words[n-1])...)
	m.sends = append(m.sends, broadcast.Send{Link: l, Frame: broadcast.Frame{Type: toyEntry, Body: body}})
}

func (m *toyRelay) Step(_ time.Time, in broadcast.Input) error {
	switch in := in.(type) {
	case broadcast.Down:
		for i, l := range m.links {
			if l == in.Link {
				m.links = append(m.links[:i:i], m.links[i+1:]...)
				break
			}
		}
	case broadcast.Received:
		switch in.Frame.Type {
		case toyHello:
			m.links = append(m.links, in.Link)
			for n := int(binary.BigEndian.Uint64(in.Frame.Body[1:])) + 1; n <= len(m.words); n++ {
				m.push(in.Link, n)
			}
		case toyWord:
			if m.add(binary.BigEndian.Uint64(in.Frame.Body)) {
				for _, l := range m.links {
					m.push(l, len(m.words))
				}
			}
		}
	}
	return nil
}
func (m *toyRelay) Tick(time.Time)         {}
func (m *toyRelay) Ready() broadcast.Ready { return m.ready() }

// toyMember reads channel 7 and says the words of its wishes.
type toyMember struct {
	toyMachine
	relay keys.RelayPublic
	link  broadcast.Link
	say   []uint64
	asked bool
	now   time.Time
	back  bool // now went back
}

func openToyMember(relay keys.RelayPublic) broadcast.Open {
	return func(u store.Unit, r store.Reader, _ broadcast.Entropy) (broadcast.Machine, error) {
		m, err := openToy(u, r)
		return &toyMember{toyMachine: m, relay: relay}, err
	}
}

func (m *toyMember) Step(now time.Time, in broadcast.Input) error {
	m.back = m.back || now.Before(m.now)
	m.now = now
	send := func(t uint8, b []byte) {
		m.sends = append(m.sends, broadcast.Send{Link: m.link, Frame: broadcast.Frame{Type: t, Body: b}})
	}
	switch in := in.(type) {
	case broadcast.Up:
		m.link = in.Link
		send(toyHello, append([]byte{7}, u64(uint64(len(m.words)))...))
		for _, w := range m.say {
			send(toyWord, u64(w))
		}
	case broadcast.Down:
		m.link = 0
	case broadcast.Command:
		w := in.Wish.(uint64)
		if !m.has[w] && !slices.Contains(m.say, w) {
			m.say = append(m.say, w)
			send(toyWord, u64(w))
		}
	case broadcast.Received:
		n, w := binary.BigEndian.Uint64(in.Frame.Body), binary.BigEndian.Uint64(in.Frame.Body[8:])
		if n != uint64(len(m.words))+1 {
			return nil // a link that began before this one's Hello was answered
		}
		m.add(w)
		m.out.Events = append(m.out.Events, broadcast.Event{Number: n, Body: w})
	}
	return nil
}
func (m *toyMember) Tick(now time.Time) {}
func (m *toyMember) Ready() broadcast.Ready {
	if !m.asked {
		m.asked = true
		m.out.Links = []broadcast.WantLink{{Relay: m.relay, Use: broadcast.ReadLink}}
	}
	return m.ready()
}
