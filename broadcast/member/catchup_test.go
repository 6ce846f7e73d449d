package member

import (
	"testing"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
	"parallax/ratchet"
)

// behind lays down a group in which R1 has lost the beginning of what x sent: it
// is ahead of the others by more than a session may skip. The others have opened
// the first message.
func behind(t *testing.T, ahead, more int) (m *Machine, x *peer, list []*item) {
	m = laidDown(t, 1)
	x = newPeer(t, m, "Bob")
	for range 1 + ahead + more {
		list = append(list, x.text(t, "text"))
	}
	x.everywhere(list[0])
	for _, p := range m.paths {
		p.caughtUp = false
	}
	return m, x, list[1:]
}

// TestStall: a path that is too far ahead is stopped at the first slot, its copies
// wait without being tried, and nothing is acknowledged there; as the others come
// on, everything opens once and no key is lost.
func TestStall(t *testing.T) {
	const ahead, more = ratchet.MaxSkipped + 300, 200
	m, x, list := behind(t, ahead, more)
	p := m.paths[0]
	for _, it := range list[ahead:] {
		x.on(p, it)
		m.settle()
	}
	if !p.stops(x.st.seat) || len(m.held) != more || m.skipped != 0 {
		t.Fatalf("stopped %v, %d held, %d keys skipped", p.stops(x.st.seat), len(m.held), m.skipped)
	}
	other := newPeer(t, m, "Cy")
	for _, p := range m.paths {
		p.caughtUp = false
	}
	other.everywhere(other.text(t, "of another"))
	if msg := m.messages[messageKey{source{other.st.seat, other.st.ann.Incarnation}, 1}]; msg == nil || !msg.opened {
		t.Error("another's message waits too")
	}
	p.read.acked, p.position, m.sends = 0, 1000, nil
	m.settle()
	for _, s := range m.sends {
		if s.Frame.Type == proto.TypeAck {
			t.Error("a stopped mailbox is acknowledged")
		}
	}
	for i, it := range list {
		x.on(m.paths[1], it)
		m.settle()
		if i == 600 && p.stops(x.st.seat) {
			t.Error("it is stopped though there is room")
		}
	}
	if got := m.received[source{x.st.seat, x.st.ann.Incarnation}]; len(got.spans) != 1 || got.spans[0].last != uint64(1+len(list)) {
		t.Errorf("received %v", got.spans)
	}
	if len(m.held) != 0 || m.skipped != 0 || len(p.read.stalls) != 0 {
		t.Errorf("%d held, %d keys skipped, stopped for %d", len(m.held), m.skipped, len(p.read.stalls))
	}
	acked := false
	for _, s := range m.sends {
		acked = acked || s.Frame.Type == proto.TypeAck
	}
	if !acked {
		t.Error("its mailbox is not acknowledged")
	}
}

// TestStallEnds: it ends when the others have nothing waiting, and after the
// deadline when they bring nothing: then the oldest keys go.
func TestStallEnds(t *testing.T) {
	for _, drained := range []bool{true, false} {
		const ahead, more = ratchet.MaxSkipped + 300, 20
		m, x, list := behind(t, ahead, more)
		for _, it := range list[ahead:] {
			x.on(m.paths[0], it)
		}
		m.settle()
		if drained {
			m.paths[1].caughtUp, m.paths[2].caughtUp = true, true
		} else {
			if at := m.nextStall(); !at.Equal(m.now.Add(m.genesis.Policy.Deadline)) {
				t.Errorf("it ends at %v", at)
			}
			m.now = m.now.Add(m.genesis.Policy.Deadline)
		}
		m.settle()
		if m.paths[0].stops(x.st.seat) || len(m.held) != 0 || m.skipped != ratchet.MaxSkipped {
			t.Errorf("drained %v: stopped %v, %d held, %d keys kept", drained, m.paths[0].stops(x.st.seat), len(m.held), m.skipped)
		}
		if l := m.lacks[source{x.st.seat, x.st.ann.Incarnation}]; l == nil || l.due.IsZero() {
			t.Error("the hole is not looked after")
		}
	}
}

// BenchmarkStopped is a copy that a stopped path delivers; without the stop each
// costs a walk of the chain.
func BenchmarkStopped(b *testing.B) {
	for _, stop := range []bool{true, false} {
		name := map[bool]string{true: "stopped", false: "walking"}[stop]
		b.Run(name, func(b *testing.B) {
			t := &testing.T{}
			m, x, list := behind(t, 5000, 1)
			it := *list[len(list)-1]
			it.path = m.paths[0]
			x.on(m.paths[0], &it)
			for b.Loop() {
				if !stop {
					clear(m.paths[0].read.stalls)
				}
				m.process(&it, func() {})
			}
		})
	}
}

// TestProgressIsTold: hints while much waits, none while little does.
func TestProgressIsTold(t *testing.T) {
	m := laidDown(t, 0)
	p := m.paths[0]
	p.read.opened, p.read.from, p.read.target = true, 100, 100+3*catchUpFrom+10
	var told []Event
	for p.position = 101; p.position <= p.read.target+500; p.position++ {
		m.tellProgress(p)
	}
	for _, e := range m.events {
		if body := e.Body.(Event); body.Kind == EventProgress && body.Number == 0 {
			told = append(told, body)
		}
	}
	if len(told) != 4 || told[0].Done != catchUpFrom || told[3].Done != 3*catchUpFrom+10 || told[3].Total != told[3].Done {
		t.Errorf("told %+v", told)
	}
	m.events = nil
	p.position, p.read.from, p.read.target = 100, 100, 110
	for p.position < 200 {
		p.position++
		m.tellProgress(p)
	}
	if len(m.events) != 0 {
		t.Errorf("told %v", m.events)
	}
}

// TestFarCaughtUp: how far a relay is caught up with, until it is read to its end.
func TestFarCaughtUp(t *testing.T) {
	for name, c := range map[string]struct {
		p           path
		done, total uint64
	}{
		"no link":        {path{read: readLink{from: 10, target: 30}, pathRecord: pathRecord{position: 20}}, 0, 0},
		"at its begin":   {path{read: readLink{opened: true, from: 10, target: 30}, pathRecord: pathRecord{position: 10}}, 0, 20},
		"on its way":     {path{read: readLink{opened: true, from: 10, target: 30}, pathRecord: pathRecord{position: 15}}, 5, 20},
		"past it":        {path{read: readLink{opened: true, from: 10, target: 30}, pathRecord: pathRecord{position: 40}}, 20, 20},
		"at its end":     {path{read: readLink{opened: true, from: 10, target: 30}, pathRecord: pathRecord{position: 30}, caughtUp: true}, 0, 0},
		"nothing waited": {path{read: readLink{opened: true, from: 10, target: 10}, pathRecord: pathRecord{position: 10}}, 0, 0},
		"an older log":   {path{read: readLink{opened: true, from: 10, target: 30}, pathRecord: pathRecord{position: 3}}, 0, 0},
	} {
		if done, total := c.p.waited(); done != c.done || total != c.total {
			t.Errorf("%s: %d of %d, want %d of %d", name, done, total, c.done, c.total)
		}
	}
}

// TestNewLineageIsAcknowledged: a relay that begins a log anew on a link that
// stands counts from 1, and so do the acknowledgements: without them it would
// stop at the window.
func TestNewLineageIsAcknowledged(t *testing.T) {
	m := laidDown(t, 1)
	p := m.paths[0]
	p.read.opened, p.read.link, p.position, p.read.acked = true, 7, 1000, 1000
	m.startLineage(p, wire.Lineage{1})
	p.syncRoot()
	m.sends = nil
	p.position = uint64(m.cfg.Limits.Window)
	m.ack(p)
	if len(m.sends) != 1 || m.sends[0].Frame.Type != proto.TypeAck {
		t.Errorf("sent %v", m.sends)
	}
}
