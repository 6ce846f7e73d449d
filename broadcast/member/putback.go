package member

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// A folder that was put back to an older copy of itself (docs/protocol.md section
// 5.4), as by a snapshot of the whole device: what it would send has numbers and
// keys that were used. Relays know how far each mailbox was read; where enough of
// them say that this one was read further than is known here, the membership goes
// on as one that was restored from a backup. Nothing is sealed or posted before they
// said so, or had their time.

// ErrPutBack answers commands that were under way when it showed.
var ErrPutBack = errors.New("this folder is an older copy of itself: the membership is announced anew, and then sends what waits")

const (
	// lookWait is how long commands and posts wait, when a membership is opened, for
	// relays to say how far it was read. Default: 3 s.
	lookWait = 3 * time.Second
	// putBackAgain is how long after a restore, from a backup or this one, it is not
	// believed: slower relays know how far the earlier life had read, and relays that
	// are enough could have everybody agree on sessions all the time. Default: 1 day.
	putBackAgain = 24 * time.Hour
)

// looking is what is known of it in one opening.
type looking struct {
	until    time.Time           // then everything goes on all the same
	later    map[*path][]byte    // a later own announcement, of this installation, as a path shows it
	commands []broadcast.Command // with an effect: they wait for it
}

// saysRead takes how far a relay says that the mailbox was read, of the path's
// lineage or of another. Of one that was restored an earlier life has read more, as
// slower relays say later.
func (m *Machine) saysRead(p *path, f proto.Opened) {
	here := p.position
	if f.Statement.Lineage != p.lineage {
		here = 0
	}
	p.beyond = f.Read > here && !m.meta.Restored && m.now.Unix() >= m.meta.Began+int64(putBackAgain/time.Second)
}

// lookBack goes by what the relays have said.
func (m *Machine) lookBack() {
	if !m.isMember() || m.ledger == nil || m.meta.Restored || m.meta.Superseded || m.out(m.self) {
		if m.starting.unsure {
			m.sure()
		}
		return
	}
	if beyond := func(p *path) bool { return p.read.opened && p.beyond }; m.enough(beyond) {
		// Boards first: they may show that the membership goes on elsewhere.
		if m.enough(func(p *path) bool { return beyond(p) && p.listed && p.caughtUp }) {
			m.putBack()
		}
		return
	}
	if !m.starting.unsure || m.now.Before(m.looking.until) && !m.enough(func(p *path) bool { return p.read.opened && !p.beyond }) {
		return
	}
	m.sure()
	m.retryHeld(m.self)
	if len(m.looking.later) > 0 {
		m.looking.later = nil
		m.superseded()
	}
}

// laterOwn keeps an announcement of the own installation that is not known here
// until the relays have said whether this folder is an older copy.
func (m *Machine) laterOwn(p *path, a *Announcement) {
	if !m.starting.unsure || a.Incarnation != m.keyring.inc {
		m.superseded()
		return
	}
	if m.looking.later == nil {
		m.looking.later = map[*path][]byte{}
	}
	m.looking.later[p] = a.Append(nil)
}

// putBack makes the membership one that was restored from a backup: whatever no
// backup holds is dropped, since a later state of it was in use.
func (m *Machine) putBack() {
	m.meta.PutBack, m.meta.Restored, m.meta.Asked = true, true, 0
	later := m.looking.later
	m.sure() // what made operations is refused now, texts wait
	m.looking = looking{}
	m.forgetUntaken()
	for _, st := range m.sortedSeats() {
		m.forgetKept(st)
		st.hellos, st.stuck = 0, time.Time{}
		if st.session.list != nil || st.session.index != 0 {
			st.session = sessions{}
			m.del(m.key(keySessions, st.seat[:]))
		}
		m.review(st)
	}
	m.chains, m.skipped = chainVector{}, 0
	m.del(m.key(keyVector))
	for _, p := range m.paths {
		m.forgetPosts(p)
		p.beyond = false
	}
	for _, order := range slices.Sorted(maps.Keys(m.repairs)) {
		m.forgetRepair(m.repairs[order])
	}
	for _, order := range slices.Sorted(maps.Keys(m.bundles)) {
		m.forgetBundle(m.bundles[order])
	}
	for _, hash := range sortedDigests(m.sets) {
		m.del(m.key(keySet, hash[:]))
	}
	clear(m.sets)
	m.current = nil
	for _, d := range sortedDigests(m.digests.open) {
		m.del(m.key(keyCarried, []byte{partDigest}, d[:]))
	}
	clear(m.digests.open)
	for _, h := range m.sortedHeld() {
		m.unhold(h)
	}
	for _, u := range m.unread {
		m.del(u.key)
	}
	m.unread = nil
	for _, t := range sortedDigests(m.seen) {
		m.del(m.key(keyHello, t[:]))
	}
	clear(m.seen)
	for _, o := range m.keyring.prekeys {
		m.del(m.key(keyPrekeys, wire.U64(o.version)))
	}
	m.keyring.prekeys = nil
	m.starting = starting{last: m.starting.last, texts: m.starting.texts}
	for i := range m.starting.texts {
		m.starting.texts[i].until = m.now.Add(m.rules().Deadline)
	}
	for _, w := range m.waiting {
		m.answer(w.id, nil, ErrPutBack)
	}
	m.waiting = nil
	m.show(Event{Kind: EventSession, Own: true, Seat: m.self.String(), Member: m.meta.Name,
		Text: fmt.Sprintf("This folder is an older copy: the relays know that your membership of %s read further. It goes on under new session keys. What was written here after the copy was made stays with the others, and is missing in this history.", m.meta.Group)})
	for _, p := range m.paths {
		if raw, ok := later[p]; ok {
			m.sawAnnouncement(p, m.self, raw)
		}
	}
}

// forgetUntaken forgets what is in the outbox and not enough relays took, since the
// later state may have sent something else under these numbers. The texts among it
// are sent again: perhaps it sent some of them, and twice is better than never.
func (m *Machine) forgetUntaken() {
	waits := m.waitsOn()
	for _, order := range slices.Sorted(maps.Keys(m.bundles)) {
		msg := m.messages[m.bundles[order].key]
		if msg == nil || m.tookEnough(waits[order]) {
			continue
		}
		if msg.kind == KindText {
			m.meta.Again = append(m.meta.Again, msg.text)
		}
		m.forgetMessage(msg)
	}
	m.saveMeta()
}

// sayAgain sends those texts when the membership speaks again.
func (m *Machine) sayAgain() {
	if m.meta == nil || len(m.meta.Again) == 0 || m.meta.Restored || m.meta.Superseded || m.mute() != nil || m.textsWait() {
		return
	}
	for _, text := range m.meta.Again {
		m.speak(text)
	}
	m.meta.Again = nil
	m.saveMeta()
}

// waitsForRelays tells whether a command has to wait: the operation, the text or the
// announcement that it makes would follow the newest that is known here.
func (m *Machine) waitsForRelays(c broadcast.Command) bool {
	if !m.starting.unsure || answerTo(c.Wish) == nil {
		return false
	}
	if !slices.ContainsFunc(m.looking.commands, func(o broadcast.Command) bool { return o.ID == c.ID }) {
		m.looking.commands = append(m.looking.commands, c)
	}
	return true
}

// sure ends the wait, and goes on with the commands that came meanwhile.
func (m *Machine) sure() {
	m.starting.unsure = false
	commands := m.looking.commands
	m.looking.commands = nil
	for _, c := range commands {
		m.command(c)
	}
}

// ackOwn acknowledges what else would wait for a quarter of the window: the first
// time that nothing is left to read, and own posts. It is what tells an older
// copy of this folder that it is one.
func (m *Machine) ackOwn() {
	for _, p := range m.paths {
		if p.caughtUp && len(p.read.stalls) == 0 && (p.read.acked <= p.read.from || p.read.acked < p.posted && p.posted <= p.position) {
			m.ack(p)
		}
	}
}
