package adversary

import (
	"time"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/internal/store/memory"
)

// Life is the lineage of a Fork's second log.
type Life uint8

const (
	SameLife Life = iota // that of the first: two statements for one number are a fork
	NewLife              // a greater ordinal, as after a restore
	TwinLife             // the same ordinal under other random bytes; it begins with the creation
)

// revive puts the private store into the state in which the second log begins
// another life.
func (m *forked) revive() (err error) {
	switch m.fork.Life {
	case NewLife:
		_, err = relay.MarkRestored(m.private)
	case TwinLife:
		m.private = memory.New()
	}
	return err
}

// born creates the channel on the private machine once more: its lineage is
// drawn anew.
func (m *forked) born(now time.Time) error {
	if m.fork.Life != TwinLife {
		return nil
	}
	return m.hand(now, Forked, *m.create)
}

// created remembers what made the channel.
func (m *forkedUnit) created(from Place, msg proto.Message) {
	if _, ok := msg.(proto.Create); ok && m.create == nil {
		m.create = &contribution{from, msg}
	}
}
