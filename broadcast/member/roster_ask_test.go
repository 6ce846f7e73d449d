package member

import (
	"slices"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// kindsSent are the kinds of own bundles, oldest first.
func (m *Machine) kindsSent() (kinds []Kind) {
	var list []*message
	for _, msg := range m.messages {
		if msg.own {
			list = append(list, msg)
		}
	}
	slices.SortFunc(list, func(a, b *message) int { return int(a.order) - int(b.order) })
	for _, msg := range list {
		kinds = append(kinds, msg.kind)
	}
	return kinds
}

// passes lets time pass in small steps.
func (m *Machine) passes(d time.Duration) {
	for until := m.now.Add(d); m.now.Before(until); {
		m.Tick(m.now.Add(500 * time.Millisecond))
	}
}

// quietly keeps the laid-down sessions from being begun, so that only what the
// roster sends is counted.
func quietly(t *testing.T) *Machine {
	m := laidDown(t, 2)
	m.settle()
	for _, st := range m.seats {
		st.since = time.Time{}
		m.review(st)
	}
	clear(m.messages)
	return m
}

// TestAskForOperations: what operations wait for is asked for, ever more rarely,
// and no more when it came; nobody is blamed.
func TestAskForOperations(t *testing.T) {
	m := quietly(t)
	key := keys.NewPrivate[keys.RoleMember]([32]byte{9})
	r := NewRoster(m.genesis, keys.Ed25519)
	first := r.Next(m.keyring.signing.Public(), m.now, OpAdd{Seat: NewSeat(m.gid, key.Public()), Announcement: wire.Digest{1}, Role: RoleAdmin})
	first.Sequence, first.Previous = m.log[m.roster.Heads()[0]].op.Sequence+1, m.roster.Heads()[0]
	first.Sign(m.keyring.signing)
	second := &Operation{Group: m.gid, Author: key.Public(), Sequence: 1, Heads: []wire.Digest{first.Digest()}, Body: OpRevoke{Invite: [16]byte{1}}}
	second.Sign(key)
	m.sawNews(AppendNews(nil, []*Operation{second}, nil))
	if got := m.roster.Missing(); len(got) != 1 || got[0] != first.Digest() {
		t.Fatalf("missing %v", got)
	}
	deadline := m.genesis.Policy.Deadline
	m.passes(2 * deadline)
	if got := m.kindsSent(); len(got) != 0 {
		t.Fatalf("sent %v before two deadlines passed", got)
	}
	m.passes(2*deadline + time.Second)
	if got := m.kindsSent(); !slices.Equal(got, []Kind{KindRefetch}) {
		t.Fatalf("sent %v", got)
	}
	m.passes(40 * deadline)
	if got := len(m.kindsSent()); got < 3 || got > 5 {
		t.Errorf("asked %d times in 44 deadlines", got)
	}
	m.sawNews(AppendNews(nil, []*Operation{first}, nil))
	asked := len(m.kindsSent())
	m.passes(200 * deadline)
	if !m.roster.Has(second.Digest()) || len(m.kindsSent()) != asked {
		t.Errorf("accepted: %v, asked %d times more after all came", m.roster.Has(second.Digest()), len(m.kindsSent())-asked)
	}
}

// TestAnswerOperations: who has what is asked for answers once, unless somebody
// else did.
func TestAnswerOperations(t *testing.T) {
	m := quietly(t)
	st := seatByName(t, m, "M0")
	head := m.roster.Heads()[0]
	for _, asks := range []struct {
		list  []wire.Digest
		other bool
		want  int
	}{
		{[]wire.Digest{head}, false, 1},
		{[]wire.Digest{{}}, false, 1},
		{[]wire.Digest{{7}}, false, 0},
		{[]wire.Digest{head}, true, 0},
	} {
		clear(m.messages)
		m.askedOperations(st, asks.list)
		if asks.other {
			m.sawNews(AppendNews(nil, []*Operation{m.log[head].op}, nil))
		}
		m.passes(10 * time.Second)
		if got := m.kindsSent(); len(got) != asks.want || asks.want > 0 && got[0] != KindRoster {
			t.Errorf("asked for %v, by another answered %v: sent %v", asks.list, asks.other, got)
		}
	}
	for range 2 * maxRosterAnswers {
		clear(m.messages)
		m.askedOperations(st, []wire.Digest{head})
		m.passes(5 * time.Second)
	}
	if len(m.kindsSent()) != 0 {
		t.Error("one seat makes others answer without end")
	}
}

// TestUnknownRosterIsAskedFor: a view with another roster digest leads to a
// question, one that was the own before to nothing.
func TestUnknownRosterIsAskedFor(t *testing.T) {
	m := quietly(t)
	st := seatByName(t, m, "M0")
	before := m.roster.Digest()
	m.noteDigest()
	inv := &InviteRecord{Group: m.gid, Key: keys.NewPrivate[keys.RoleInvite]([32]byte{7}).Public(), Uses: 2048, PerHour: 2048, Expires: m.now.AddDate(1, 0, 0), Role: RoleMember, Mode: ModeOpen}
	inv.Sign(m.keyring.signing)
	m.invite(inv)
	m.compareRosters(st, before)
	m.passes(time.Hour)
	if got := m.kindsSent(); len(got) != 0 {
		t.Fatalf("of one that lags: sent %v", got)
	}
	m.compareRosters(st, wire.Digest{5})
	m.passes(5 * m.genesis.Policy.Deadline)
	if got := m.kindsSent(); !slices.Equal(got, []Kind{KindRefetch}) {
		t.Errorf("of one that is ahead: sent %v", got)
	}
	for _, e := range m.events {
		if e, ok := e.Body.(Event); ok && (e.Kind == EventBlame || e.Kind == EventDispute) {
			t.Errorf("told %q", e.Text)
		}
	}
}
