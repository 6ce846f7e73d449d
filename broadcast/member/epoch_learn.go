package member

import (
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// newEpoch makes the operation that begins an epoch with a fresh key, and keeps
// the key. It merges every epoch head that the roster has by now. The membership
// goes over to it when the roster is followed, once the operation is on its way.
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
	b, ok := l.op.Body.(OpEpoch)
	if _, had := m.epochSecret(l); had || !ok || !b.Fits(m.gid, &key) {
		return
	}
	m.keyring.hold(Epoch{Number: b.Number, Key: key}, true)
	m.saveEpochs()
	m.turnEpoch(m.state.Epochs)
}

// epochSecret is the key of the epoch that an operation begins, if it is here.
func (m *Machine) epochSecret(l *logged) (key keys.EpochKey, ok bool) {
	b, is := l.op.Body.(OpEpoch)
	if !is {
		return key, false
	}
	e := m.keyring.epochAt(b.Number)
	if e == nil || EpochCommitment(m.gid, &e.Key) != b.Commitment {
		return key, false
	}
	return e.Key, true
}
