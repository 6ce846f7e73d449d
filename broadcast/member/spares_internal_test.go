package member

import (
	"testing"
	"time"

	"parallax/internal/wire"
)

// reserveOf gives a laid down group spare relays, as its roster would name them.
func reserveOf(m *Machine, list ...Spare) {
	s := *m.state
	s.Spares, s.Reserve = list, wire.Digest{1}
	m.state = &s
}

// TestLively: only what goes beyond all that was named says that a relay which is
// missing here goes on.
func TestLively(t *testing.T) {
	log, newer := wire.NewLineage(1, [8]byte{1}), wire.NewLineage(2, [8]byte{2})
	at := func(l wire.Lineage, n uint64) RelayView { return RelayView{Lineage: l, N: n} }
	m := laidDown(t, 1)
	p := m.paths[1]
	rec := &m.meta.Relays[1]
	p.lineage, p.position, p.read.opened = log, 100, false
	says := func(what string, v RelayView, want bool) {
		t.Helper()
		m.now = m.now.Add(time.Hour)
		was := rec.Lively
		m.noteLively(p, v)
		if got := rec.Lively != was; got != want {
			t.Errorf("%s: lively %v, want %v", what, got, want)
		}
		if want && rec.Lively != m.now.Unix() {
			t.Errorf("%s: at %d, want %d", what, rec.Lively, m.now.Unix())
		}
	}
	says("it is not missing", at(log, 200), false)
	rec.Missing = m.now.Unix()
	says("what was read here", at(log, 100), false)
	says("more than that", at(log, 101), true)
	says("the same again", at(log, 101), false)
	says("less again", at(log, 90), false)
	says("more again", at(log, 105), true)
	says("a newer log", at(newer, 1), true)
	says("the older one", at(log, 900), false)
	says("the newer one again", at(newer, 1), false)
	says("more of it", at(newer, 2), true)
	p.read.opened = true
	says("it answers", at(newer, 300), false)
	p.read.opened, p.standing = false, retired
	says("it is retired", at(newer, 301), false)
}

// TestReplacement: which spare relay takes a place without being asked, and when.
func TestReplacement(t *testing.T) {
	own := spareRecord{FoundingSpot: FoundingSpot{Key: testRef(1).Key, Addrs: []string{"/memory/1"}}, Auto: true}
	auto := Spare{Key: testRef(2).Key, Addrs: []string{"/memory/2"}, Token: "t", Auto: true}
	asked := Spare{Key: testRef(3).Key, Addrs: []string{"/memory/3"}}
	const days = 24 * time.Hour
	ago := func(m *Machine, d time.Duration) int64 { return m.now.Add(-d).Unix() }
	for name, c := range map[string]struct {
		is   func(m *Machine, p *path, rec *relayRecord)
		want RelayRef // zero: none
		wake time.Duration
	}{
		"all answer":        {func(m *Machine, p *path, rec *relayRecord) { reserveOf(m, auto) }, RelayRef{}, 0},
		"missing for a day": {func(m *Machine, p *path, rec *relayRecord) { reserveOf(m, auto); rec.Missing = ago(m, days) }, RelayRef{}, 0},
		"gone": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, auto)
			rec.Missing, rec.Told = ago(m, 4*days), true
		}, testRef(2), 0},
		"gone here, others read it": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, auto)
			rec.Missing, rec.Told, rec.Lively = ago(m, 9*days), true, ago(m, days)
		}, RelayRef{}, 2 * days},
		"gone, an own one": {func(m *Machine, p *path, rec *relayRecord) {
			m.meta.Spares = []spareRecord{own}
			rec.Missing, rec.Told, rec.Lively = ago(m, 9*days), true, ago(m, days)
		}, testRef(1), 0},
		"gone, an own one before": {func(m *Machine, p *path, rec *relayRecord) {
			m.meta.Spares = []spareRecord{own}
			reserveOf(m, auto)
			rec.Missing, rec.Told = ago(m, 4*days), true
		}, testRef(1), 0},
		"gone, to be asked": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, asked)
			rec.Missing, rec.Told = ago(m, 4*days), true
		}, RelayRef{}, 0},
		"gone, to be asked, another": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, asked, auto)
			rec.Missing, rec.Told = ago(m, 4*days), true
		}, testRef(2), 0},
		"convicted": {func(m *Machine, p *path, rec *relayRecord) { reserveOf(m, auto); p.aside = true }, testRef(2), 0},
		"tried in vain an hour ago": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, auto)
			p.aside = true
			m.triedSpare(auto.Key)
			m.now = m.now.Add(time.Hour)
		}, RelayRef{}, 5 * time.Hour},
		"tried in vain six hours ago": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, auto)
			p.aside = true
			m.triedSpare(auto.Key)
			m.now = m.now.Add(6 * time.Hour)
		}, testRef(2), 0},
		"it is one of the group's": {func(m *Machine, p *path, rec *relayRecord) {
			x := auto
			x.Key = m.paths[2].ref.Key
			reserveOf(m, x)
			p.aside = true
		}, RelayRef{}, 0},
		"another is gone, others read this": {func(m *Machine, p *path, rec *relayRecord) {
			reserveOf(m, auto)
			rec.Missing, rec.Told, rec.Lively = ago(m, 9*days), true, ago(m, days)
			m.paths[2].aside = true
		}, testRef(2), 0},
	} {
		m := laidDown(t, 1)
		m.meta.Phase, m.meta.Joined = phaseMember, true
		p := m.paths[1]
		c.is(m, p, &m.meta.Relays[1])
		_, s := m.replacement()
		switch {
		case c.want.Key.IsZero():
			if s != nil {
				t.Errorf("%s: relay %s", name, s.Key)
			}
			if at := m.sparesWake(); c.wake != 0 != !at.IsZero() || c.wake != 0 && !at.Equal(m.now.Truncate(time.Second).Add(c.wake)) {
				t.Errorf("%s: it wakes in %v, want %v", name, at.Sub(m.now), c.wake)
			}
		case s == nil || s.Key != c.want.Key:
			t.Errorf("%s: %+v, want %s", name, s, c.want.Key)
		}
	}
}

// TestGroupTriedKept: that the group's spare relay was tried is kept over a restart,
// and forgotten when it is none any more; whether one is an admin's own is not.
func TestGroupTriedKept(t *testing.T) {
	m := laidDown(t, 1)
	a, b := Spare{Key: testRef(1).Key, Addrs: []string{"/a"}}, Spare{Key: testRef(2).Key, Addrs: []string{"/b"}}
	reserveOf(m, a, b)
	m.triedSpare(a.Key)
	m.triedSpare(b.Key)
	m.triedSpare(testRef(3).Key) // none of them
	if v := m.spares(); len(v) != 2 || v[0].Tried.IsZero() || v[1].Tried.IsZero() || !v[0].Group || len(m.meta.SparesTried) != 2 {
		t.Errorf("%+v, %v", v, m.meta.SparesTried)
	}
	reserveOf(m, b)
	m.forgetTried(m.state)
	if len(m.meta.SparesTried) != 1 || m.meta.SparesTried[b.Key.String()] != m.now.Unix() {
		t.Errorf("%v", m.meta.SparesTried)
	}
}
