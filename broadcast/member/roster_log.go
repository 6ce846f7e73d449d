package member

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/wire"
)

// logged is an operation that the membership's roster has, or that waits in it.
type logged struct {
	op     *Operation
	digest wire.Digest
	order  uint64 // of its record
	shown  uint64 // paths whose boards showed it, a bit each
	page   uint32 // of the own pages, where place is not 0
	place  uint8  // in the page, from 1; 0: this seat does not carry it

	hidden relayMask // that these do not show it was told, in this opening
	sealed uint64    // 1 + newest generation of a page that showed it, in this opening; 0: none did
	since  time.Time // when it came, in this opening; zero: before
}

// begin makes the roster of a genesis that just became known.
func (m *Machine) beginRoster() {
	m.roster = NewRoster(m.genesis, m.cfg.Verify)
	m.state = m.roster.State()
}

// takeOperation takes an operation as it lies on a path's board, or (p nil) as a
// member sent it, and returns what the membership keeps of it; nil: nothing. What
// it changes is followed up by follow.
func (m *Machine) takeOperation(raw []byte, p *path) *logged {
	op, err := ParseOperation(raw)
	switch {
	case errors.Is(err, ErrNewerFormat):
		m.tellOnce("newer operation", Event{Kind: EventRoster, Text: "Somebody in the group uses a newer version of parallax, and changed something that this one does not understand: update this one, or members may get out of step."})
		return nil
	case err != nil:
		if p != nil {
			m.invalid(p, "a roster operation")
		}
		return nil
	}
	l := m.log[op.Digest()]
	known := l != nil
	switch {
	case l == nil:
		if l = m.addOperation(op); l == nil {
			if p != nil && !m.roster.signed(op) {
				m.invalid(p, "a roster operation")
			}
			return nil
		}
	case l.op.Signature != op.Signature && op.Verify(m.cfg.Verify) != nil:
		if p != nil {
			m.invalid(p, "a roster operation")
		}
		return nil
	}
	if p != nil && l.shown&(1<<p.index) == 0 {
		l.shown |= 1 << p.index
		m.claimOperation(l, p)
		m.saveLogged(l)
	}
	if !known {
		m.askedForOperation(l)
	}
	return l
}

// addOperation adds an operation that is not known yet; nil: it is refused.
func (m *Machine) addOperation(op *Operation) *logged {
	l, err := m.acceptOperation(op)
	if errors.Is(err, ErrRosterFull) {
		m.tellOnce("roster full", Event{Kind: EventRoster, Text: fmt.Sprintf("The group's roster has %d operations, as many as it keeps: what members change from now on does not count on this device. Begin a new group.", MaxOperations)})
	}
	return l
}

// acceptOperation adds an operation that is not in the log to the roster, and
// keeps it, also if it waits there for others.
func (m *Machine) acceptOperation(op *Operation) (*logged, error) {
	if _, err := m.roster.Add(op); err != nil && !errors.Is(err, ErrWaiting) {
		return nil, err
	}
	m.counters.order++
	l := &logged{op: op, digest: op.Digest(), order: m.counters.order, since: m.now}
	m.log[l.digest] = l
	m.fresh = append(m.fresh, l)
	m.saveLogged(l)
	m.saveCounters()
	m.trimWaiting()
	return l, nil
}

// trimWaiting forgets operations that waited too long, or for one that was
// refused.
func (m *Machine) trimWaiting() {
	if len(m.log) == m.roster.Len()+len(m.roster.order) {
		return
	}
	for _, l := range m.sortedLog() {
		d := l.digest
		if !m.roster.Has(d) && m.roster.waiting[d] == nil {
			delete(m.log, d)
			m.del(m.loggedKey(l))
		}
	}
}

func (m *Machine) claimOperation(l *logged, p *path) {
	m.ledger.Claim(m.now, crossverify.Path(p.index), operationSubject(l), l.digest)
}

// showsOperation tells of a path whether its board showed an operation.
func (m *Machine) showsOperation(l *logged) func(*path) bool {
	return func(p *path) bool { return l.shown&(1<<p.index) != 0 }
}

func (m *Machine) loggedKey(l *logged) []byte { return m.key(keyLog, wire.U64(l.order)) }

// saveLogged writes: shown u64 | page u32 | place u8 | operation.
func (m *Machine) saveLogged(l *logged) {
	b := wire.AppendU64(nil, l.shown)
	b = wire.AppendU32(b, l.page)
	m.put(m.loggedKey(l), l.op.Append(append(b, l.place)))
}

// loadLogged takes a record: the signature was checked before it was written.
func (m *Machine) loadLogged(key, value []byte) error {
	if m.roster == nil || len(value) > loggedHead+MaxOperation {
		return wire.ErrFormat
	}
	kr, r := wire.NewReader(key), wire.NewReader(value)
	l := &logged{order: kr.U64(), shown: r.U64(), page: r.U32(), place: r.U8()}
	raw := r.Raw(r.Len())
	if err := errors.Join(kr.Done(), r.Done()); err != nil {
		return err
	}
	op, err := ParseOperation(raw)
	if err != nil {
		return err
	}
	if l.place > MaxPaged || l.place > 0 && l.page >= maxPages || bits.Len64(l.shown) > len(m.paths) {
		return fmt.Errorf("an operation lies on page %d at %d, on boards %x: %w", l.page, l.place, l.shown, wire.ErrFormat)
	}
	l.op, l.digest = op, op.Digest()
	m.roster.verify = func([32]byte, []byte, []byte) bool { return true }
	_, err = m.roster.Add(op)
	m.roster.verify = m.cfg.Verify
	if err != nil && !errors.Is(err, ErrWaiting) {
		return err
	}
	m.log[l.digest] = l
	return nil
}

const loggedHead = 8 + 4 + 1

// finishLog puts the own pages together after every record was read.
func (m *Machine) finishLog() error {
	if m.roster == nil {
		return nil
	}
	for _, l := range m.log {
		if l.place == 0 {
			continue
		}
		for len(m.pages) <= int(l.page) {
			m.pages = append(m.pages, nil)
		}
		page := &m.pages[l.page]
		for len(*page) < int(l.place) {
			*page = append(*page, nil)
		}
		(*page)[l.place-1] = l
	}
	for i, page := range m.pages {
		if len(page) == 0 {
			return fmt.Errorf("%w: the own roster page %d is missing", ErrStore, i)
		}
		for j, l := range page {
			if l == nil {
				return fmt.Errorf("%w: of the own roster page %d operation %d is missing", ErrStore, i, j+1)
			}
		}
	}
	m.state = m.roster.State()
	m.endsUnknown, m.stale = m.roster.endsUnknown(), m.roster.staleInvites(m.state.Epochs)
	m.readInvites()
	return nil
}

// claimLog tells the comparison which boards showed which operations, and which were
// asked for them: it is not stored but with them.
func (m *Machine) claimLog() {
	for _, l := range m.sortedLog() {
		for _, p := range m.paths {
			if l.shown&(1<<p.index) != 0 {
				m.claimOperation(l, p)
			}
		}
		m.askedForOperation(l)
	}
}

// sortedLog is by order of coming.
func (m *Machine) sortedLog() []*logged {
	return slices.SortedFunc(maps.Values(m.log), func(a, b *logged) int { return cmp.Compare(a.order, b.order) })
}

// tellOnce shows an event once for one cause.
func (m *Machine) tellOnce(cause string, e Event) {
	if m.newCause(nil, cause) {
		m.show(e)
	}
}

// signed tells whether an operation is its author's.
func (r *Roster) signed(op *Operation) bool { return op.Verify(r.verify) == nil }
