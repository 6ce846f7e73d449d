package member

import (
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// newEpoch makes the operation that begins an epoch with a fresh key, and keeps
// the key. It merges every epoch head that the roster has by now.
func (m *Machine) newEpoch() (*logged, error) {
	key := keys.NewSecret[keys.RoleEpoch](m.draw32())
	defer key.Zero()
	now := m.roster.State()
	l, err := m.makeOperation(NewOpEpoch(m.gid, &key, now.Epochs, now.Relays))
	if err == nil {
		m.learnEpoch(l.digest, key)
	}
	return l, err
}

// learnEpoch keeps the key of the epoch that an operation begins, if it is that
// one's.
func (m *Machine) learnEpoch(operation wire.Digest, key keys.EpochKey) {
	l := m.log[operation]
	if l == nil {
		return
	}
	if _, had := m.epochSecret(l); had {
		return
	}
	if b, ok := l.op.Body.(OpEpoch); ok && b.Fits(m.gid, &key) {
		m.keyring.hold(Epoch{Number: b.Number, Key: key}, true)
		m.saveEpochs()
	}
}

// epochSecret is the key of the epoch that an operation begins, if it is here.
func (m *Machine) epochSecret(l *logged) (key keys.EpochKey, ok bool) {
	b, ok := l.op.Body.(OpEpoch)
	if !ok {
		return key, false
	}
	e := m.keyring.epochAt(b.Number)
	if e == nil || !b.Fits(m.gid, &e.Key) {
		return key, false
	}
	return e.Key, true
}
