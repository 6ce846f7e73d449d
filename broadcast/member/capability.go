package member

import (
	"fmt"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
)

// A relay takes what the posting key of one epoch signed, and says nothing of
// which: it goes over when an admin rotates it. So a post that it does not allow
// is signed by the key of another epoch, the same bytes under the same post id,
// until one is taken. Other relays are not asked to wait.

// taking is what a path knows of the posting key that its relay takes.
type taking struct {
	number  uint64 // of the epoch; 0: that in use
	works   uint64 // of the epoch whose key signed what was taken last; 0: nothing was, in this opening
	refused int    // keys refused in a row
}

// maxCapabilities bounds the epochs that are tried at one relay. Default: 8.
const maxCapabilities = 8

// maxRounds bounds how often a post is signed by all of them in turn before it is
// told; an entry of the board is given up then, since a relay may refuse it for
// another cause. Default: 6, which takes two minutes.
const maxRounds = 6

// capability is the epoch whose posting key signs on a path now.
func (m *Machine) capability(p *path) *heldEpoch {
	if e := m.keyring.epochAt(p.taking.number); e != nil {
		return e
	}
	return m.keyring.epoch()
}

// capabilities are the epochs to be tried, the one in use first.
func (m *Machine) capabilities() []*heldEpoch {
	list := []*heldEpoch{m.keyring.epoch()}
	for _, e := range slices.Backward(m.keyring.epochs) {
		if e.checked && e != list[0] && len(list) < maxCapabilities {
			list = append(list, e)
		}
	}
	return list
}

// nextCapability goes over to another epoch's key after that of one was refused.
func (m *Machine) nextCapability(p *path, refused uint64) {
	list := m.capabilities()
	if m.capability(p).Number != refused {
		return // it was refused by then, and another is tried
	}
	i := slices.IndexFunc(list, func(e *heldEpoch) bool { return e.Number == refused })
	p.taking.number = list[(i+1)%len(list)].Number
	if p.taking.refused++; p.taking.refused >= len(list) { // all were: time has to tell
		p.retryAt = m.now.Add(m.cfg.Limits.RetryPost << min(p.taking.refused/len(list)-1, 5))
	}
}

// postAgain keeps a post that the relay did not allow, to be signed by another
// epoch's key.
func (m *Machine) postAgain(p *path, q *postItem, code proto.Code) bool {
	if code != proto.CodeNotAllowed || !m.isMember() && !m.waitsForAdmin() || q.kind != postBoard && !q.ofBundle() || m.out(m.self) {
		return false
	}
	if q.signed == 0 { // by the mailbox, which the relay does not know
		return false
	}
	m.nextCapability(p, q.signed)
	q.rounds++
	late := q.rounds > maxRounds*len(m.capabilities())
	if late && q.ofBundle() {
		m.relayEvent(p, "not allowed", "", fmt.Sprintf("Relay %s does not take what you post any more. You may have been removed, or another device of yours lags behind: ask in the group. It is tried again.", p.name()))
	}
	return !late || q.ofBundle()
}

// taken notes that the relay took what an epoch's key signed.
func (m *Machine) taken(p *path, q *postItem) {
	if q.signed != 0 {
		p.taking.works, p.taking.refused = q.signed, 0
	}
}

// frameOf is the frame of a post that is no bundle, signed by the key of now.
func (m *Machine) frameOf(p *path, q *postItem) broadcast.Frame {
	if put, ok := boardWrite(q); ok && q.kind == postBoard {
		was := put.Capability
		if q.signed = m.signPut(p, &put); put.Capability != was {
			q.frame = proto.Encode(put)
			m.savePost(p, q)
		}
	}
	return q.frame
}

// retryPosts lets what was refused go at once: another key is in use, or the
// relay took a rotation.
func (p *path) retryPosts() { p.retryAt, p.taking.refused = time.Time{}, 0 }
