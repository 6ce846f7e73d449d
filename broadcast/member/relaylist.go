package member

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// The relays of a membership over time (docs/protocol.md section 8.3). Every
// relay that was ever used is a path with a place of its own, which it keeps: its
// label, its records and its bit in masks go by it.

// MaxPaths is how many relays a membership uses in its whole life: masks over
// paths have 64 bits.
const MaxPaths = 64

// standing is what a path is now.
type standing uint8

const (
	inUse    standing = iota // of the list that counts
	arriving                 // of the newest list, which is not in use yet
	making                   // an admin prepares it here; no list has it
	retired                  // read to its end, not posted to
	closed                   // no link is wanted
	vacant                   // was prepared in vain: the place is free
)

// relayRecord is one path, in the meta record.
type relayRecord struct {
	RelayRef
	Mailbox  []byte // seed
	Standing standing
	Number   int    `json:",omitempty"` // of the label; 0: its place
	Token    string `json:",omitempty"` // making: that relay's permission
	Until    int64  `json:",omitempty"` // retired: Unix seconds until when it is read
	Missing  int64  `json:",omitempty"` // Unix seconds since when it did not answer while others did; 0: it does
	Told     bool   `json:",omitempty"` // that it is missing for long
	Lively   int64  `json:",omitempty"` // Unix seconds when a member's view last showed that it goes on, while it was missing here
	// The view's log (ordinal of its lineage) and number: only a later one says so again.
	LivelyLog, LivelyN uint64 `json:",omitempty"`
}

// relayMask is a set of paths by their places.
type relayMask uint64

func (r relayMask) has(path int) bool { return r>>path&1 == 1 }

func (r relayMask) len() int { return bits.OnesCount64(uint64(r)) }

// listsRecord is which of the paths count, in the meta record.
type listsRecord struct {
	Ordinal uint32     // of the list in use
	Next    *nextList  `json:",omitempty"`
	Eras    []relayEra // at most crossverify.MaxPolicies, oldest first; the last is in force
	Before  int        // eras that are not kept any more
}

// nextList is the newest list of the roster while it is not in use.
type nextList struct {
	Ordinal   uint32
	Relays    relayMask
	Operation wire.Digest // that made it; zero: none does, it is the genesis' again
	since     time.Time   // known, in this opening
}

// relayEra is who counted for a while. A message stays with that of its time.
type relayEra struct {
	Relays relayMask
	Policy Policy
	From   int64 // Unix seconds
}

// era is the number of the list in use, as records of messages have it.
func (l *listsRecord) era() int { return l.Before + len(l.Eras) - 1 }

// counted are the paths that counted in an era; of one that is not kept, in the
// oldest.
func (l *listsRecord) counted(era int) relayMask {
	if len(l.Eras) == 0 {
		return 0
	}
	return l.eraOf(era).Relays
}

// eraOf is what counted then: of what is not kept, the oldest.
func (l *listsRecord) eraOf(era int) relayEra {
	return l.Eras[min(max(0, era-l.Before), len(l.Eras)-1)]
}

// changed is when the relays that count last became others, of what is kept; zero:
// never. Another policy over the same relays is no other list.
func (l *listsRecord) changed() (t time.Time) {
	for i, e := range l.Eras {
		if i > 0 && l.Eras[i-1].Relays != e.Relays || i == 0 && l.Before > 0 {
			t = time.Unix(e.From, 0)
		}
	}
	return t
}

// makePath builds the path of a record.
func (m *Machine) makePath(index int) *path {
	rec := m.meta.Relays[index]
	p := &path{index: index, ref: rec.RelayRef, standing: rec.Standing, number: rec.Number, box: keys.NewPrivate[keys.RoleMailbox](seed(rec.Mailbox))}
	p.channel = ChannelID(&m.keyring.channels, p.ref.Key)
	p.mailbox = NewMailboxID(p.ref.Key, p.channel, p.box.Public())
	return p
}

// appendPath gives a relay a place: its own, if it had one, a vacant one, or the
// next. nil: there is none left.
func (m *Machine) appendPath(ref RelayRef, s standing) *path {
	if p := m.pathOf(ref.Key); p != nil {
		p.ref = ref
		m.setStanding(p, s)
		return p
	}
	box := m.draw32()
	rec := relayRecord{RelayRef: ref, Mailbox: box[:], Standing: s, Number: m.freeNumber(0)}
	index := slices.IndexFunc(m.paths, func(p *path) bool { return p.standing == vacant })
	if index < 0 {
		if index = len(m.paths); index >= MaxPaths {
			return nil
		}
		m.paths = append(m.paths, nil)
		m.meta.Relays = append(m.meta.Relays, rec)
		m.grow()
	}
	m.meta.Relays[index], m.voting = rec, nil
	if index < len(m.meta.Governed) {
		m.meta.Governed[index] = nil // of a relay that was prepared in vain
	}
	if before := m.paths[index]; before != nil && len(before.reached) > 0 {
		m.forgetReached(before)
	}
	p := m.makePath(index)
	p.syncRoot()
	m.paths[index] = p
	m.current = nil
	m.saveMeta()
	return p
}

// freeNumber is a label's number: the wanted one if no other path has it, else
// the next.
func (m *Machine) freeNumber(want int, but ...*path) int {
	next := 1
	for _, p := range m.paths {
		if p == nil || p.standing == vacant || slices.Contains(but, p) {
			continue
		}
		n := p.labelNumber()
		if n == want {
			want = 0
		}
		next = max(next, n+1)
	}
	if want > 0 {
		return want
	}
	return next
}

func (m *Machine) number(p *path, n int) {
	p.number, m.meta.Relays[p.index].Number = n, n
}

// grow gives everything in memory that has a part for each path one more.
func (m *Machine) grow() {
	n := len(m.paths)
	for _, r := range m.delivery.readers {
		r.grow(n)
	}
	for _, dl := range m.delivery.list {
		dl.grow(n)
	}
	for _, s := range m.sets {
		s.grow(n)
	}
	for _, st := range m.seats {
		if st.by != nil {
			st.by = append(st.by, make([]wire.Digest, n-len(st.by))...)
		}
		if st.kept != nil && st.kept.shares != nil {
			st.kept.shares = growShares(st.kept.shares, n)
		}
	}
	for _, b := range m.bundles {
		for i := range b.shares {
			b.shares[i].sealed = growShares(b.shares[i].sealed, n)
		}
	}
}

func (m *Machine) setStanding(p *path, s standing) {
	p.standing = s
	rec := &m.meta.Relays[p.index]
	rec.RelayRef, rec.Standing = p.ref, s
	m.current, m.voting, m.governed = nil, nil, false
	m.saveMeta()
}

// counts: the path's word counts here.
func (p *path) counts() bool { return p.standing == inUse && !p.aside }

// takesPosts: of the list in use, or of the one that follows.
func (p *path) takesPosts() bool { return (p.standing == inUse || p.standing == arriving) && !p.aside }

// keepsBoard: own board entries go there.
func (p *path) keepsBoard() bool {
	return p.takesPosts() || p.standing == making && p.post.operator != nil
}

// listedRelay: members read there and name a mailbox.
func (p *path) listedRelay() bool { return p.standing == inUse || p.standing == arriving }

// used are the paths of the list in use.
func (m *Machine) used() (list []*path) {
	for _, p := range m.paths {
		if p.standing == inUse {
			list = append(list, p)
		}
	}
	return list
}

// usedMask is the same as a set.
func (m *Machine) usedMask() (r relayMask) {
	for _, p := range m.paths {
		if p.standing == inUse {
			r |= 1 << p.index
		}
	}
	return r
}

// rules are the group's policy as the roster has it.
func (m *Machine) rules() *Policy {
	if m.state != nil {
		return &m.state.Policy
	}
	return &m.genesis.Policy
}

// eraNow is who counts from now on.
func (m *Machine) eraNow() relayEra {
	return relayEra{Relays: m.usedMask(), Policy: *m.rules(), From: m.now.Unix()}
}

// policyOf is an era as crossverify has it.
func (m *Machine) policyOf(e relayEra) crossverify.Policy {
	refs := make([]RelayRef, len(m.paths))
	outside := make([]bool, len(m.paths))
	for i, p := range m.paths {
		outside[i] = !e.Relays.has(i)
		if refs[i] = p.ref; outside[i] {
			refs[i].Families = nil
		}
	}
	return voting(&e.Policy, refs, outside, m.cfg.Verify)
}

// policy is what the paths are compared by: who counts now. It is made once:
// declarations have signatures to check.
func (m *Machine) policy() crossverify.Policy {
	if m.voting == nil {
		p := m.policyOf(m.eraNow())
		m.voting, m.shares = &p, map[sharesKey]int{}
	}
	return *m.voting
}

// makeLedger makes the ledger, with what counted before.
func (m *Machine) makeLedger() {
	l := &m.meta.Lists
	if len(l.Eras) == 0 {
		l.Eras = []relayEra{m.eraNow()}
	}
	m.ledger, m.ledgerEra = nil, nil
	for _, e := range l.Eras {
		if m.ledger == nil {
			m.ledger = crossverify.NewLedger(m.policyOf(e))
		} else {
			m.ledger.SetPolicy(m.policyOf(e))
		}
		m.ledgerEra = append(m.ledgerEra, m.ledger.Era())
	}
}

// eraIn is an era's number in the ledger.
func (m *Machine) eraIn(era int) int {
	return m.ledgerEra[min(max(0, era-m.meta.Lists.Before), len(m.ledgerEra)-1)]
}

// countAnew makes what is in use what counts.
func (m *Machine) countAnew() {
	l, now := &m.meta.Lists, m.eraNow()
	m.voting = nil
	m.ledger.SetPolicy(m.policy())
	if last := l.Eras[len(l.Eras)-1]; last.Relays == now.Relays && last.Policy == now.Policy {
		m.ledgerEra[len(m.ledgerEra)-1] = m.ledger.Era()
		return
	}
	l.Eras, m.ledgerEra = append(l.Eras, now), append(m.ledgerEra, m.ledger.Era())
	if n := len(l.Eras) - crossverify.MaxPolicies; n > 0 {
		l.Eras, m.ledgerEra, l.Before = l.Eras[n:], m.ledgerEra[n:], l.Before+n
	}
	m.saveMeta()
}

// appendLinks appends the links that one path wants.
func (m *Machine) appendLinks(want []broadcast.WantLink, p *path) []broadcast.WantLink {
	founding := m.meta.Phase == phaseFounding
	if (p.listedRelay() || p.standing == retired) && (!founding || p.post.founded) && !m.now.Before(p.openAt) {
		want = append(want, broadcast.WantLink{Relay: p.ref.Key, Use: broadcast.ReadLink, Addrs: p.ref.Addrs})
	}
	posts := (founding || p.standing == making || len(p.queue) > 0) && !p.aside ||
		p.post.link != 0 && p.standing != retired // one that stands is kept: the next message goes at once
	if posts && p.standing != closed && p.standing != vacant {
		want = append(want, broadcast.WantLink{Relay: p.ref.Key, Use: broadcast.PostLink, Addrs: p.ref.Addrs})
	}
	return want
}

// standingOf is a path's standing in words.
func (m *Machine) standingOf(p *path) Standing {
	switch next := m.meta.Lists.Next; {
	case p.standing == arriving:
		return StandingComing
	case p.standing == making:
		return StandingMaking
	case p.standing == retired:
		return StandingRetired
	case p.standing == closed:
		return StandingClosed
	case next != nil && !next.Relays.has(p.index):
		return StandingLeaving
	}
	return StandingInUse
}

// findRelay finds a path of the lists by label, operator's name or key.
func (m *Machine) findRelay(name string) (*path, error) {
	var found []*path
	for _, p := range m.paths {
		key := p.ref.Key.String()
		if p.listedRelay() && (p.label() == name || p.ref.OperatorName == name || len(name) >= 4 && len(name) <= len(key) && key[:len(name)] == name) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: no relay of the list is called %q", ErrNoSuch, name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: %q is the name of relays %s; name the label", ErrAmbiguous, name, labels(found))
}
