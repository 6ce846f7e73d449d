package member

import (
	"slices"
	"time"

	"parallax/internal/wire"
)

// What people were told lasts as long as its cause, not as long as a process: one
// cause is one line, however often the membership is opened. A cause that was not
// met for notedFor has ended; met again, it is told again. The clock is the
// member's own, and decides nothing but that.
const (
	// notedFor is for how long a cause is remembered that is not met any more.
	// Default: 7 days.
	notedFor = 7 * 24 * time.Hour
	// notedEvery is how often it is written that a cause is still met. Default: 1 day.
	notedEvery = 24 * time.Hour
	// maxNoted is how many causes are remembered of one path, and of the group: what
	// comes beyond is not told. Default: 256.
	maxNoted = 256
)

// Parts of the records under keyNoted; u8 after it.
const (
	partNote    = 'n' // path u8 (0xff: the group), id 16: last u64, times u32
	partHidden  = 'h' // seat 32: paths u64 of which it was told that they do not show it
	partAccused = 'c' // seat 32: last u64, times u32
	partAlarm   = 'k' // cause u8, paths u64: last u64, told one by one u8, rest u32 (s)
	partWaits   = 'w' // seat 32, cause u8, paths u64: to be told with others
)

// ofGroup is the scope of what no path did.
const ofGroup = 0xff

// noteKey is one cause.
type noteKey struct {
	scope byte // a path's index, or ofGroup
	id    [16]byte
}

// note is how often and when (Unix seconds) a cause was met last.
type note struct {
	last  int64
	times uint32
}

func (n note) append(b []byte) []byte {
	return wire.AppendU32(wire.AppendU64(b, uint64(n.last)), n.times)
}

func readNote(r *wire.Reader) note { return note{int64(r.U64()), r.U32()} }

// notes are the causes that are remembered.
type notes struct {
	by    map[noteKey]note
	count map[byte]int // by scope
}

// over tells whether a cause that was met then has ended.
func (m *Machine) over(last int64) bool { return m.now.Unix()-last > int64(notedFor/time.Second) }

// noteOf is the cause of what a path did; nil: what the group did.
func noteOf(p *path, cause string) noteKey {
	k, about := noteKey{scope: ofGroup}, []byte(nil)
	if p != nil {
		k.scope, about = byte(p.index), p.ref.Key[:]
	}
	d := wire.Hash("parallax/1/noted", about, []byte(cause))
	k.id = [16]byte(d[:])
	return k
}

// newCause tells whether a cause is to be told: it was not met for long.
func (m *Machine) newCause(p *path, cause string) bool {
	k := noteOf(p, cause)
	n, known := m.noted.by[k]
	switch {
	case known && !m.over(n.last):
		if m.now.Unix()-n.last >= int64(notedEvery/time.Second) {
			m.saveNote(k, note{m.now.Unix(), n.times})
		}
		return false
	case !known && !m.noteRoom(k.scope):
		return false
	}
	m.saveNote(k, note{m.now.Unix(), 1})
	return true
}

// times counts how often a path did something; beyond what is remembered: 0.
func (m *Machine) times(p *path, cause string) uint32 {
	k := noteOf(p, cause)
	n, known := m.noted.by[k]
	if m.over(n.last) {
		n.times = 0
	}
	if !known && !m.noteRoom(k.scope) {
		return 0
	}
	n.times++
	m.saveNote(k, note{m.now.Unix(), n.times})
	return n.times
}

// noteRoom tells whether one more cause is remembered, after those that ended.
func (m *Machine) noteRoom(scope byte) bool {
	if m.noted.count[scope] >= maxNoted {
		m.endNotes(scope)
	}
	return m.noted.count[scope] < maxNoted
}

func (m *Machine) noteRecord(k noteKey) []byte {
	return m.key(keyNoted, []byte{partNote, k.scope}, k.id[:])
}

func (m *Machine) saveNote(k noteKey, n note) {
	if _, known := m.noted.by[k]; !known {
		m.noted.count[k.scope]++
	}
	m.noted.by[k] = n
	m.put(m.noteRecord(k), n.append(nil))
}

// endNotes forgets causes that ended.
func (m *Machine) endNotes(scope byte) {
	for k, n := range m.noted.by {
		if k.scope == scope && m.over(n.last) {
			delete(m.noted.by, k)
			m.noted.count[k.scope]--
			m.del(m.noteRecord(k))
		}
	}
}

func (m *Machine) saveAccused(seat wire.Seat, n note) {
	m.put(m.key(keyNoted, []byte{partAccused}, seat[:]), n.append(nil))
}

// setHidden notes of which paths it was told that they do not show a seat.
func (m *Machine) setHidden(st *seatState, by relayMask) {
	if by == st.hidden {
		return
	}
	st.hidden = by
	if key := m.key(keyNoted, []byte{partHidden}, st.seat[:]); by == 0 {
		m.del(key)
	} else {
		m.put(key, wire.AppendU64(nil, uint64(by)))
	}
}

func (k alarmKey) append(b []byte) []byte {
	return wire.AppendU64(append(b, byte(k.cause)), uint64(k.relays))
}

func readAlarmKey(r *wire.Reader) alarmKey {
	k := alarmKey{cause: alarmCause(r.U8()), relays: relayMask(r.U64())}
	if k.cause > twoOfOne {
		r.Fail(wire.ErrFormat)
	}
	return k
}

// saveAlarm notes what was told of one cause.
func (m *Machine) saveAlarm(k alarmKey, g *gathered) {
	b := append(wire.AppendU64(nil, uint64(m.now.Unix())), byte(g.alone))
	m.put(m.key(keyNoted, []byte{partAlarm}, k.append(nil)), wire.AppendU32(b, uint32(g.rest/time.Second)))
}

func (m *Machine) waitsKey(k alarmKey, seat wire.Seat) []byte {
	return m.key(keyNoted, []byte{partWaits}, seat[:], k.append(nil))
}

// loadNoted reads what was told before this opening.
func (m *Machine) loadNoted(key, value []byte) error {
	if len(key) == 0 {
		return wire.ErrFormat
	}
	k, r := wire.NewReader(key[1:]), wire.NewReader(value)
	var seat wire.Seat
	switch key[0] {
	case partNote:
		at := noteKey{scope: k.U8()}
		k.Fixed(at.id[:])
		m.noted.by[at] = readNote(r)
		m.noted.count[at.scope]++
	case partAccused:
		k.Fixed(seat[:])
		m.accused[seat] = readNote(r)
	case partHidden:
		k.Fixed(seat[:])
		by := relayMask(r.U64())
		if st := m.seats[seat]; st != nil {
			st.hidden = by
		}
	case partAlarm:
		g := m.alarmOf(readAlarmKey(k))
		g.told, g.alone, g.rest = int64(r.U64()), int(r.U8()), time.Duration(r.U32())*time.Second
	case partWaits:
		k.Fixed(seat[:])
		at := readAlarmKey(k)
		if m.seats[seat] != nil {
			g := m.alarmOf(at)
			g.seats = append(g.seats, seat)
		} else {
			m.del(m.waitsKey(at, seat))
		}
	default:
		return wire.ErrFormat
	}
	if err := k.Done(); err != nil {
		return err
	}
	return r.Done()
}

// wakeNotes forgets, at the first input after opening, what ended meanwhile, and
// lets what waited wait no longer than a first alarm does.
func (m *Machine) wakeNotes() {
	for _, k := range m.alarmKeys() {
		g := m.alarms[k]
		if len(g.seats) == 0 && m.over(g.told) {
			delete(m.alarms, k)
			m.del(m.key(keyNoted, []byte{partAlarm}, k.append(nil)))
			continue
		}
		g.rest = max(g.rest, alarmRest)
		g.since = m.now.Add(alarmRest - g.rest)
		g.last = g.since
		slices.SortFunc(g.seats, func(a, b wire.Seat) int { return slices.Compare(a[:], b[:]) })
	}
	for seat, n := range m.accused {
		if m.over(n.last) {
			delete(m.accused, seat)
			m.del(m.key(keyNoted, []byte{partAccused}, seat[:]))
		}
	}
	for scope := range m.noted.count {
		m.endNotes(scope)
	}
}
