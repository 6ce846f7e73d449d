package member

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Operations also come from member to member, as bundles of kind 3: what somebody
// is to know at once, with the keys of epochs that are for members alone, and what
// somebody asked for.

// Limits of one bundle of operations.
const (
	MaxNews     = 64 // operations
	MaxNewsKeys = 16 // epoch keys
)

// EpochSecret is the key of the epoch that an operation begins.
type EpochSecret struct {
	Operation wire.Digest
	Key       keys.EpochKey
}

// AppendNews appends the body of a bundle of operations: u8 count of operations
// as bytes, u8 count of: digest 32 | epoch key 32.
func AppendNews(b []byte, list []*Operation, secrets []EpochSecret) []byte {
	b = AppendOperations(b, list)
	b = append(b, uint8(len(secrets)))
	for i := range secrets {
		b = append(append(b, secrets[i].Operation[:]...), secrets[i].Key.Expose()...)
	}
	return b
}

// ParseNews reads what AppendNews wrote and nothing else. The operations are not
// looked at: one that does not read does not hide the others.
func ParseNews(b []byte) (operations [][]byte, secrets []EpochSecret, err error) {
	r := wire.NewReader(b)
	operations = readOperations(r, MaxNews)
	for range readCount8(r, MaxNewsKeys) {
		var s EpochSecret
		r.Fixed(s.Operation[:])
		r.Fixed(s.Key.Expose())
		if n := len(secrets); n > 0 && !ascending(secrets[n-1].Operation[:], s.Operation[:]) {
			r.Fail(wire.ErrFormat)
		}
		secrets = append(secrets, s)
	}
	if len(operations)+len(secrets) == 0 {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return nil, nil, fmt.Errorf("news of the roster: %w", err)
	}
	return operations, secrets, nil
}

// exchangeOfOperations is what is to be told, asked and answered.
type exchangeOfOperations struct {
	news   []*logged // to be told in the next bundle
	due    map[wire.Digest]*logged
	dueAt  time.Time               // when due is told, unless somebody else did
	askAt  time.Time               // when this member asks next; zero: it lacks nothing
	asked  int                     // times in a row
	differ map[wire.Seat]time.Time // whose views show another roster, since when
	had    map[wire.Digest]bool    // roster digests of this opening: who shows one lags
	spent  map[wire.Seat]int       // answers to a seat in this opening
}

// Bounds of what members make each other send about the roster.
const (
	maxRosterAnswers = 64 // answers to one seat in one opening
	maxRosterAsked   = 10 // doublings of the wait between two questions
	maxHad           = 256
)

// tell queues own operations for the next bundle. Invitations and adoptions are
// read from the boards: they are many, and nothing hangs on their speed.
func (m *Machine) tell(list ...*logged) {
	for _, l := range list {
		switch l.op.Body.kind() {
		case opInvite, opAdopt:
		default:
			m.exchanged.news = append(m.exchanged.news, l)
		}
	}
}

// runNews sends what is to be told, and what others asked for and nobody else
// answered.
func (m *Machine) runNews() {
	x := &m.exchanged
	if !m.mayTell() {
		return
	}
	if len(x.due) > 0 && !m.now.Before(x.dueAt) {
		for _, d := range sortedDigests(x.due) {
			x.news = append(x.news, x.due[d])
		}
		clear(x.due)
	}
	for len(x.news) > 0 {
		n, size := 0, 2
		var list []*Operation
		var secrets []EpochSecret
		for _, l := range x.news {
			raw := 4 + len(l.op.Append(nil)) + 64
			if n == MaxNews || size+raw > MaxBody || len(secrets) == MaxNewsKeys {
				break
			}
			n, size = n+1, size+raw
			list = append(list, l.op)
			if key, ok := m.epochSecret(l); ok {
				secrets = append(secrets, EpochSecret{l.digest, key})
			}
		}
		x.news = x.news[n:]
		slices.SortFunc(secrets, func(a, b EpochSecret) int { return bytes.Compare(a.Operation[:], b.Operation[:]) })
		secrets = slices.CompactFunc(secrets, func(a, b EpochSecret) bool { return a.Operation == b.Operation })
		m.sendBundle(KindRoster, AppendNews(nil, list, secrets))
	}
}

// mayTell tells whether this member sends bundles about the roster now.
func (m *Machine) mayTell() bool {
	return m.isMember() && !m.meta.Restored && !m.meta.Superseded && !m.starting.underWay() && (!m.silent() || m.leftItself(m.self))
}

// sawNews takes operations that a member sent, and the keys of epochs.
func (m *Machine) sawNews(body []byte) {
	operations, secrets, err := ParseNews(body)
	if err != nil {
		return
	}
	for _, raw := range operations {
		if l := m.takeOperation(raw, nil); l != nil {
			delete(m.exchanged.due, l.digest)
		}
	}
	for i := range secrets {
		m.learnEpoch(secrets[i].Operation, secrets[i].Key)
		secrets[i].Key.Zero()
	}
	if len(secrets) > 0 {
		m.meta.Taught = m.now.Unix()
		m.saveMeta()
	}
	m.follow()
}

// lackedOperations lists what operations wait for, and the epochs in force whose
// key is not here.
func (m *Machine) lackedOperations() []wire.Digest {
	list := m.roster.Missing()
	for i := range m.state.Epochs {
		h := &m.state.Epochs[i]
		if l := m.log[h.Operation]; l != nil {
			if _, ok := m.epochSecret(l); !ok {
				list = append(list, h.Operation)
			}
		}
	}
	slices.SortFunc(list, compareDigests)
	return slices.Compact(list)
}

// compareRosters holds the roster digest of a view against the own. Who shows one
// that was the own before lags; any other roster has something that this one has
// not, or will soon be the own.
func (m *Machine) compareRosters(st *seatState, theirs wire.Digest) {
	x := &m.exchanged
	if theirs == m.roster.Digest() || x.had[theirs] {
		delete(x.differ, st.seat)
	} else if x.differ[st.seat].IsZero() {
		x.differ[st.seat] = m.now
	}
}

// noteDigest remembers the own roster digest when the roster grew: what others
// showed that differed may be the same by now.
func (m *Machine) noteDigest() {
	x := &m.exchanged
	if len(x.had) == maxHad {
		clear(x.had)
	}
	x.had[m.roster.Digest()] = true
	clear(x.differ)
	x.asked = 0
}

// ask asks for operations that are known to be missing, or, where members' views
// differ for longer than boards and bundles take, for the newest that others have.
func (m *Machine) ask() {
	x := &m.exchanged
	if m.roster == nil || !m.mayTell() {
		return
	}
	list := m.lackedOperations()
	if len(list) == 0 && len(x.differ) == 0 {
		x.askAt, x.asked = time.Time{}, 0
		return
	}
	if x.askAt.IsZero() {
		wait := 2 * m.rules().Deadline << min(x.asked, maxRosterAsked)
		x.askAt = m.now.Add(wait + m.jitter(wait))
		return
	}
	if m.now.Before(x.askAt) || !m.drained() {
		return
	}
	x.askAt = time.Time{}
	x.asked++
	if len(list) == 0 {
		list = []wire.Digest{{}} // the newest
	}
	m.sendBundle(KindRefetch, AppendRefetch(nil, &Refetch{Operations: list}))
}

// askedOperations prepares the answer to a member who asks for operations: after
// a chance wait, unless somebody else gave it.
func (m *Machine) askedOperations(st *seatState, list []wire.Digest) {
	x := &m.exchanged
	if x.spent[st.seat] >= maxRosterAnswers {
		return
	}
	before := len(x.due)
	for _, d := range list {
		want := []wire.Digest{d}
		if d == (wire.Digest{}) {
			want = m.roster.Heads()
			want = want[:min(len(want), MaxNews)]
		}
		for _, d := range want {
			if l := m.log[d]; l != nil && m.roster.Has(d) && len(x.due) < MaxNews {
				x.due[d] = l
			}
		}
	}
	if len(x.due) == before {
		return
	}
	x.spent[st.seat]++
	if before == 0 {
		x.dueAt = m.now.Add(m.jitter(8 * m.cfg.Limits.ExchangeJitter))
	}
}
