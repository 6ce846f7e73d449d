package member

import (
	"bytes"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// begunEpoch is the key of an epoch that an operation began.
type begunEpoch struct {
	Operation []byte
	Key       []byte
}

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
		m.meta.Begun = append(m.meta.Begun, begunEpoch{slices.Clone(operation[:]), slices.Clone(key.Expose())})
		m.saveMeta()
	}
}

// epochSecret is the key of the epoch that an operation begins, if it is here.
func (m *Machine) epochSecret(l *logged) (key keys.EpochKey, ok bool) {
	i := slices.IndexFunc(m.meta.Begun, func(e begunEpoch) bool { return bytes.Equal(e.Operation, l.digest[:]) })
	if i < 0 || key.Set(m.meta.Begun[i].Key) != nil {
		return key, false
	}
	return key, true
}
