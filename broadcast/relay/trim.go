package relay

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/internal/wire"
)

// trimPause is how long trimming waits when the spine is not what it should
// be. Default: 10 s.
const trimPause = 10 * time.Second

func sortedFans(fans map[wire.Digest]fanUse) []wire.Digest {
	hashes := make([]wire.Digest, 0, len(fans))
	for h := range fans {
		hashes = append(hashes, h)
	}
	slices.SortFunc(hashes, compareNames)
	return hashes
}

// trimDue is when the oldest entry has to go; zero: nothing to trim, or it is
// under way.
func (m *machine) trimDue() time.Time {
	s := &m.st.meta
	if m.trimming || !m.st.exists || s.first > m.durable.head.N || m.durable.lineage() != s.lineage() {
		return time.Time{}
	}
	if s.kept > m.cfg.Limits.MaxLogBytes {
		return maxTime(m.now, m.trimAfter)
	}
	seconds := min(s.firstTime, math.MaxInt64/2) + uint64(m.cfg.Limits.Retention/time.Second)
	return maxTime(time.Unix(int64(seconds), 0), m.trimAfter)
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// trim asks for the spine of the oldest entries once one of them has to go.
func (m *machine) trim() {
	due := m.trimDue()
	if due.IsZero() || m.now.Before(due) {
		return
	}
	m.trimming = true
	l := m.st.meta.lineage()
	m.issue(read{next: m.st.meta.first}, logKey(m.unit, keySpine, l, m.st.meta.first), logEnd(m.unit, keySpine, l), m.cfg.Limits.TrimBytes)
}

// loadedSpine removes one step's worth of the oldest entries.
func (m *machine) loadedSpine(in broadcast.Loaded) error {
	s := &m.st.meta
	m.trimming = false
	if in.Err != nil || len(in.KVs) == 0 {
		m.trimAfter = m.now.Add(trimPause)
		return nil
	}
	first, before, freed, oldest := s.first, s.before, uint64(0), uint64(0)
	var posts []wire.PostID
	for _, kv := range in.KVs {
		sp, err := parseSpine(kv.Value)
		if err != nil {
			return fmt.Errorf("unit %x: %w", m.unit, err)
		}
		if !bytes.Equal(kv.Key, logKey(m.unit, keySpine, s.lineage(), first)) {
			m.trimAfter = m.now.Add(trimPause)
			return nil // a lineage or a prefix that went meanwhile, or damage that readers meet
		}
		oldest = sp.time
		old := sp.time+uint64(m.cfg.Limits.Retention/time.Second) <= m.unix()
		if first > m.durable.head.N || !old && s.kept-freed <= m.cfg.Limits.MaxLogBytes {
			break
		}
		first, before, freed = first+1, sp.h, freed+sp.bytes
		if sp.post != (wire.PostID{}) {
			posts = append(posts, sp.post)
		}
	}
	if first == s.first {
		s.firstTime = oldest
		return nil
	}
	m.cutPrefix(first, before, freed, oldest, posts)
	return nil
}

func (m *machine) cutPrefix(first uint64, before wire.Digest, freed, oldest uint64, posts []wire.PostID) {
	s := &m.st.meta
	for _, letter := range []byte{keyLog, keySpine} {
		m.opRange(logKey(m.unit, letter, s.lineage(), s.first), logKey(m.unit, letter, s.lineage(), first))
	}
	for _, id := range posts {
		m.op(key(m.unit, keyPost, id[:]), nil)
		delete(m.recent, id)
	}
	for len(m.order) > 0 {
		if st, ok := m.recent[m.order[0]]; ok && st.N >= first {
			break
		}
		m.order = m.order[1:]
	}
	for _, hash := range sortedFans(m.st.fans) {
		if m.st.fans[hash].last < first {
			delete(m.st.fans, hash)
			m.op(key(m.unit, keyFanout, hash[:]), nil)
			m.op(key(m.unit, keyFanUse, hash[:]), nil)
		}
	}
	for len(m.tail) > 0 && m.tail[0].st.N < first {
		m.tailBytes -= m.tail[0].size()
		m.tail = m.tail[1:]
	}
	s.first, s.before, s.firstTime = first, before, oldest
	s.kept -= min(freed, s.kept)
	m.cur.changed, m.cur.trims, m.trimming = true, true, true
}
