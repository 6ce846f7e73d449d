package member

import (
	"strings"
	"testing"
	"time"

	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// TestWhatNoKeyOpens: what may be of an epoch whose key is gone is nobody's fault;
// what a relay made up is.
func TestWhatNoKeyOpens(t *testing.T) {
	name := func(m *Machine, plain string) wire.Digest { return m.entryName(m.paths[0], plain) }
	for _, x := range []struct {
		what   string
		name   func(m *Machine, seat string) wire.Digest
		held   bool   // every epoch's key is here
		opened uint64 // version that another relay showed, which opened; 0: none did
		failed uint64
		first  bool // its version names the first generation
	}{
		{what: "an announcement", name: func(m *Machine, s string) wire.Digest { return name(m, "announcement/"+s) }},
		{what: "an admission", name: func(m *Machine, s string) wire.Digest { return name(m, "admission/"+s) }},
		{what: "a page of a generation whose key is here", name: func(m *Machine, _ string) wire.Digest { return name(m, pageName(m.self, 1)) }, failed: 1, first: true},
		{what: "a page", name: func(m *Machine, _ string) wire.Digest { return name(m, pageName(m.self, 1)) }},
		{what: "a welcome", name: func(m *Machine, _ string) wire.Digest {
			return m.maskedName(m.paths[0], boardName{welcomeName(m.self), doorKey})
		}},
		{what: "a welcome of who is no admin", name: func(m *Machine, s string) wire.Digest {
			return m.maskedName(m.paths[0], boardName{"welcome/" + s, doorKey})
		}, failed: 1},
		{what: "another name", name: func(m *Machine, s string) wire.Digest { return name(m, "anything/"+s) }, failed: 1},
		{what: "another seat", name: func(m *Machine, _ string) wire.Digest { return name(m, "admission/"+wire.Seat{1}.String()) }, failed: 1},
		{what: "an announcement, with all keys", name: func(m *Machine, s string) wire.Digest { return name(m, "announcement/"+s) }, held: true, failed: 1},
		{what: "the version that another shows", name: func(m *Machine, s string) wire.Digest { return name(m, "announcement/"+s) }, opened: 7, failed: 1},
		{what: "a later version than another shows", name: func(m *Machine, s string) wire.Digest { return name(m, "announcement/"+s) }, opened: 6, failed: 1},
		{what: "an older version than another shows", name: func(m *Machine, s string) wire.Digest { return name(m, "announcement/"+s) }, opened: 8},
	} {
		m := laidDown(t, 4)
		if _, err := m.newEpoch(); err != nil {
			t.Fatal(err)
		}
		if !x.held {
			m.keyring.epochs = m.keyring.epochs[:1]
			m.keyring.turns++
		}
		of := m.roster.ops[m.roster.lists[opEpoch][0]].op.Body.(OpEpoch).Number
		m.keyring.inUse = FirstEpoch
		var seat string
		for _, st := range m.sortedSeats() {
			if !st.own {
				seat = st.seat.String()
			}
		}
		p, q := m.paths[0], m.paths[1]
		p.listed, q.listed = true, true
		if x.opened > 0 {
			q.opened, q.openedAt = map[wire.Digest]uint64{m.entryName(q, "announcement/"+seat): x.opened}, m.now
		}
		before := p.stats[crossverify.Failed]
		version := uint64(7)
		if strings.HasPrefix(x.what, "a page") && !x.first {
			version |= generation(of) << 32
		}
		m.putAside(p, []proto.BoardEntry{{Name: x.name(m, seat), Version: version, Value: make([]byte, 200)}}, m.keyring.turns)
		m.now = m.now.Add(m.joinWait() - time.Second)
		m.unstash()
		if len(p.stash.entries) != 1 {
			t.Fatalf("%s is given up before a key had time to come", x.what)
		}
		m.now = m.now.Add(time.Second)
		m.unstash()
		if n := p.stats[crossverify.Failed] - before; n != x.failed || len(p.stash.entries) != 0 {
			t.Errorf("%s: %d failures, want %d; %d wait", x.what, n, x.failed, len(p.stash.entries))
		}
	}
}

// TestStashKeepsWhatWasTriedLess: what came before a key did is tried with it, though
// more is put aside that was tried with it already.
func TestStashKeepsWhatWasTriedLess(t *testing.T) {
	m := laidDown(t, 1)
	p := m.paths[0]
	entry := proto.BoardEntry{Version: 1, Value: make([]byte, 64)}
	m.putAside(p, []proto.BoardEntry{entry}, 3)
	m.putAside(p, []proto.BoardEntry{entry}, 5)
	if p.stash.turns != 3 || len(p.stash.entries) != 2 {
		t.Errorf("%d entries of turn %d", len(p.stash.entries), p.stash.turns)
	}
}
