package ratchet

import (
	"fmt"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// The first byte of every session record.
const (
	recordUnmixed    = 1
	recordMixed      = 2 // the first contact was path-mixed
	recordReinforced = 3 // there was an encapsulation after the start
)

// Flags of a record.
const (
	flagInitiator = 1 << 0
	flagInitial   = 1 << 1

	// In format 3 only.
	flagMixed    = 1 << 2 // the first contact was path-mixed
	flagTurned   = 1 << 3 // the sending chain's turn mixed an encapsulation
	flagSent     = 1 << 4 // an own encapsulation is pending
	flagReceived = 1 << 5 // one of the peer is
)

// skippedKeySize is one skipped key in a record: n u32, stored u32, key 32. The
// ratchet key is written once for each chain (34 bytes with the count), so a
// key costs 40 bytes in a long gap and 74 alone. The time is per key because
// retention drops keys one by one, and in seconds because it is counted in days.
const skippedKeySize = 4 + 4 + 32

// SendChain is a sending chain: what a member keeps for each seat in the vector
// of its group, 40 bytes. The zero value is no chain.
type SendChain struct {
	Generation uint32   // of the session that it belongs to
	N          uint32   // messages sent in it (Ns)
	Key        [32]byte // CKs
}

// Append appends generation u32, counter u32, chain key 32.
func (c *SendChain) Append(b []byte) []byte {
	b = wire.AppendU32(b, c.Generation)
	b = wire.AppendU32(b, c.N)
	return append(b, c.Key[:]...)
}

// ParseSendChain reads exactly one entry, 40 bytes. Without a generation all of
// it is zero.
func ParseSendChain(b []byte) (c SendChain, err error) {
	r := wire.NewReader(b)
	c.Generation, c.N = r.U32(), r.U32()
	r.Fixed(c.Key[:])
	if c.N > MaxChain || c.Generation == 0 && c != (SendChain{}) {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return SendChain{}, fmt.Errorf("ratchet: send chain of %d bytes: %w", len(b), err)
	}
	return c, nil
}

func (c SendChain) String() string               { return "[send chain]" }
func (c SendChain) GoString() string             { return "[send chain]" }
func (c SendChain) MarshalText() ([]byte, error) { return nil, errPrint }

// MarshalBinary is AppendBinary to nothing.
func (s *Session) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// AppendBinary appends the session's record; it is secret, and the caller seals
// it before it stores it. ErrProvisional before message 0 has opened.
//
//	format u8 = 1, 2 of a mixed contact, 3 once reinforced
//	flags u8 (1 initiator, 2 has its initial chain; in format 3 also 4 mixed contact,
//	   8 the last turn mixed, 16 own encapsulation pending, 32 the peer's)
//	transcript 32 | own seat 32 | peer's seat 32 | header secret 32
//	root key 32 | own ratchet key, private 32, public 32 | peer's ratchet key 32
//	generation u32 | PN u32
//	initial sending chain key 32, if flagged
//	receiving chain key 32 | Nr u32, unless an initiator without an answer
//	root mixes u8 of the sending chain, in format 3
//	u16 chains with skipped keys, oldest first, each:
//	   ratchet key 32 | root mixes u8, not in format 1 | u16 keys, n ascending, each:
//	   n u32 | stored u32 | key 32
//	in format 2, initiator without an answer:
//	   k u8 | u8 paths, ascending, each: relay key 32 | staged bool, if so:
//	   ratchet key 32 of the answer | share 32
//	in format 2, responder not yet confirmed:
//	   u8 paths, ascending, each: relay key 32 | sealed share of the answer 48
//	in format 3, if flagged: kem id u32 | ciphertext 1088 | shared secret 32 |
//	   generation u32 of its last control slot
//	in format 3, if flagged: the peer's shared secret 32 | digest 32
//
// 336 bytes with both chains and nothing skipped, once confirmed.
func (s *Session) AppendBinary(b []byte) ([]byte, error) {
	if s.generation == 0 {
		return b, fmt.Errorf("ratchet: record of session with seat %s: %w", s.peer.Short(), ErrProvisional)
	}
	flags := byte(0)
	if s.initiator {
		flags |= flagInitiator
	}
	if s.hasInitial {
		flags |= flagInitial
	}
	format := byte(recordUnmixed)
	switch {
	case s.kem != nil:
		format = recordReinforced
		flags |= s.reinforcedFlags()
	case s.mixed:
		format = recordMixed
	}
	b = append(b, format, flags)
	b = append(b, s.transcript[:]...)
	b = append(b, s.self[:]...)
	b = append(b, s.peer[:]...)
	b = append(b, s.headerSecret[:]...)
	b = append(b, s.root[:]...)
	b = append(b, s.seed[:]...)
	b = append(b, s.own[:]...)
	b = append(b, s.remote[:]...)
	b = wire.AppendU32(b, s.generation)
	b = wire.AppendU32(b, s.pn)
	if s.hasInitial {
		b = append(b, s.initial[:]...)
	}
	if s.receiving() {
		b = append(b, s.recv[:]...)
		b = wire.AppendU32(b, s.received)
	}
	if s.kem != nil {
		b = append(b, s.kem.sending)
	}
	b = wire.AppendU16(b, uint16(len(s.skipped.chains)))
	for i := range s.skipped.chains {
		c := &s.skipped.chains[i]
		b = append(b, c.ratchet[:]...)
		if format != recordUnmixed {
			b = append(b, c.mixes)
		}
		b = wire.AppendU16(b, uint16(len(c.keys)))
		for j := range c.keys {
			k := &c.keys[j]
			b = wire.AppendU32(b, k.n)
			b = wire.AppendU32(b, k.at)
			b = append(b, k.mk[:]...)
		}
	}
	return s.appendReinforcement(s.appendShares(b)), nil
}

// appendShares appends what a mixed session keeps until it is confirmed.
func (s *Session) appendShares(b []byte) []byte {
	switch {
	case s.awaited != nil:
		b = append(b, byte(s.awaited.paths.K), byte(len(s.awaited.paths.Relays)))
		for i, relay := range s.awaited.paths.Relays {
			p := &s.awaited.staged[i]
			b = append(b, relay[:]...)
			b = wire.AppendBool(b, p.here)
			if p.here {
				b = append(b, p.ratchet[:]...)
				b = append(b, p.value[:]...)
			}
		}
	case s.answer != nil:
		b = append(b, byte(len(s.answer)))
		for i := range s.answer {
			b = append(b, s.answer[i].relay[:]...)
			b = append(b, s.answer[i].sealed[:]...)
		}
	}
	return b
}

// ParseSession reads exactly one record of AppendBinary. It checks form, limits
// and order; that the bytes are one's own is the caller's seal. Errors:
// ErrVersion, and those of wire.Reader.
func ParseSession(b []byte) (*Session, error) {
	r := wire.NewReader(b)
	format := r.U8()
	if r.Err() == nil && (format < recordUnmixed || format > recordReinforced) {
		return nil, fmt.Errorf("ratchet: session record of format %d, this version reads %d to %d: %w", format, recordUnmixed, recordReinforced, ErrVersion)
	}
	s := &Session{mixed: format == recordMixed}
	s.read(r, format)
	if err := r.Done(); err != nil {
		s.Zero()
		return nil, fmt.Errorf("ratchet: session record of %d bytes: %w", len(b), err)
	}
	s.setHeaderKeys(s.headerSecret)
	return s, nil
}

func (s *Session) read(r *wire.Reader, format byte) {
	flags := r.U8()
	if format == recordReinforced {
		flags = s.takeFlags(r, flags)
	}
	s.initiator, s.hasInitial = flags&flagInitiator != 0, flags&flagInitial != 0
	r.Fixed(s.transcript[:])
	r.Fixed(s.self[:])
	r.Fixed(s.peer[:])
	r.Fixed(s.headerSecret[:])
	r.Fixed(s.root[:])
	r.Fixed(s.seed[:])
	r.Fixed(s.own[:])
	r.Fixed(s.remote[:])
	s.generation, s.pn = r.U32(), r.U32()
	if s.hasInitial {
		r.Fixed(s.initial[:])
	}
	if s.receiving() {
		r.Fixed(s.recv[:])
		s.received = r.U32()
	}
	if s.kem != nil {
		s.readMixes(r)
	}
	if flags&^(flagInitiator|flagInitial) != 0 || s.generation == 0 || s.self == s.peer ||
		s.pn > MaxChain || s.generation == 1 && s.pn != 0 || s.received > MaxChain {
		r.Fail(wire.ErrFormat)
	}
	s.readSkipped(r, format)
	if s.kem != nil {
		s.readReinforcement(r)
	} else if s.mixed && s.generation == 1 {
		s.readShares(r)
	}
}

func (s *Session) readShares(r *wire.Reader) {
	var p Paths
	if s.initiator {
		p.K = int(r.U8())
	}
	n := int(r.U8())
	if n > MaxPaths {
		r.Fail(wire.ErrTooLong)
	}
	if s.initiator && p.K == 0 || p.K > n || n == 0 {
		r.Fail(wire.ErrFormat)
	}
	if r.Err() != nil {
		return
	}
	staged := make([]stagedShare, n)
	for i := range n {
		var relay keys.RelayPublic
		r.Fixed(relay[:])
		if i > 0 && !ascends(p.Relays[i-1], relay) {
			r.Fail(wire.ErrFormat)
		}
		p.Relays = append(p.Relays, relay)
		if !s.initiator {
			a := answerShare{relay: relay}
			r.Fixed(a.sealed[:])
			s.answer = append(s.answer, a)
		} else if staged[i].here = r.Bool(); staged[i].here {
			r.Fixed(staged[i].ratchet[:])
			r.Fixed(staged[i].value[:])
		}
	}
	if s.initiator {
		s.awaited = &awaited{paths: p, staged: staged}
	}
}

func (s *Session) readSkipped(r *wire.Reader, format byte) {
	chains := int(r.U16())
	if chains > MaxSkipped {
		r.Fail(wire.ErrTooLong)
	}
	if chains > 0 && !s.receiving() {
		r.Fail(wire.ErrFormat)
	}
	seen := make(map[keys.RatchetPublic]struct{})
	for i := range chains {
		var c skippedChain
		r.Fixed(c.ratchet[:])
		if format != recordUnmixed {
			c.mixes = r.U8()
		}
		n := int(r.U16())
		switch {
		case r.Err() != nil:
			return
		case n > MaxSkipped-s.skipped.count:
			r.Fail(wire.ErrTooLong)
			return
		case n*skippedKeySize > r.Len():
			r.Fail(wire.ErrShort)
			return
		}
		if _, twice := seen[c.ratchet]; twice || n == 0 {
			r.Fail(wire.ErrFormat)
			return
		}
		seen[c.ratchet] = struct{}{}
		limit := uint32(MaxChain)
		if c.ratchet == s.remote { // the chain still growing
			limit = s.received
			if i != chains-1 {
				r.Fail(wire.ErrFormat)
			}
		}
		if !s.countsMixes(i, &c) {
			r.Fail(wire.ErrFormat)
		}
		c.keys = make([]skippedKey, n)
		last := int64(-1)
		for j := range c.keys {
			k := &c.keys[j]
			k.n, k.at = r.U32(), r.U32()
			r.Fixed(k.mk[:])
			if int64(k.n) <= last || k.n >= limit {
				r.Fail(wire.ErrFormat)
			}
			last = int64(k.n)
		}
		s.skipped.chains = append(s.skipped.chains, c)
		s.skipped.count += n
	}
}

// countsMixes tells whether the i-th chain with skipped keys, oldest first, may
// have its count of root mixes: in a mixed session that of the responder's first
// receiving chain is 0, that of all others 1. Of a reinforced session nobody knows
// the counts of old chains any more.
func (s *Session) countsMixes(i int, c *skippedChain) bool {
	switch {
	case c.ratchet == s.remote:
		return c.mixes == s.currentMixes()
	case s.kem != nil:
		return true
	case s.initiator || i > 0:
		return c.mixes == count(s.mixed)
	}
	return c.mixes <= count(s.mixed)
}
