package member

import (
	"cmp"
	"slices"

	"parallax/internal/wire"
)

// The records under keyDelivery, as parts in this order, so that a text finds
// its set, and a sign its text.

func (m *Machine) deliveryKey(part byte, dl *delivery) []byte {
	return m.key(keyDelivery, []byte{part}, dl.key.incarnation[:], wire.U64(dl.key.sequence))
}

func (m *Machine) loadDelivery(key, value []byte) error {
	m.delivery.make()
	if len(key) == 0 {
		return wire.ErrFormat
	}
	switch rest := key[1:]; {
	case key[0] == partSet && len(rest) == 32:
		return m.loadDeliverySet(wire.Digest(rest), value)
	case key[0] == partText && len(rest) == 16:
		return m.loadText(rest, value)
	case key[0] == partOpened && len(rest) == 16+32:
		return m.loadOpened(rest, value)
	case key[0] == partReader && len(rest) == 32:
		return m.loadReader(wire.Seat(rest), value)
	}
	return wire.ErrFormat
}

// append writes, for each seat: seat 32 | incarnation 8 | state u8.
func (s *deliverySet) append(b []byte) []byte {
	for i := range s.seats {
		b = append(b, s.seats[i][:]...)
		b = append(b, s.of[i][:]...)
		b = append(b, byte(s.states[i]))
	}
	return b
}

func (m *Machine) loadDeliverySet(hash wire.Digest, value []byte) error {
	s := &deliverySet{hash: hash}
	r := wire.NewReader(value)
	for r.Len() > 0 && r.Err() == nil {
		var seat wire.Seat
		var of wire.Incarnation
		r.Fixed(seat[:])
		r.Fixed(of[:])
		state := slotState(r.U8())
		if n := len(s.seats); state < slotSent || state > slotContested || n > 0 && slices.Compare(s.seats[n-1][:], seat[:]) >= 0 {
			r.Fail(wire.ErrFormat)
		}
		s.seats, s.of, s.states = append(s.seats, seat), append(s.of, of), append(s.states, state)
	}
	m.delivery.sets[hash] = s
	return r.Done()
}

// saveDelivery writes: set 32 | d 32 | sent u64 | order u64 | text bytes | u8
// relays, each: phase u8 | digest bool | lineage 16 | n u64 | head 32 | at u64 | reason bytes.
func (m *Machine) saveDelivery(dl *delivery) {
	b := append(slices.Clone(dl.set.hash[:]), dl.d[:]...)
	b = wire.AppendU64(wire.AppendU64(b, uint64(dl.sent)), dl.order)
	b = wire.AppendBytes(b, []byte(dl.text))
	b = append(b, byte(len(dl.relays)))
	for i := range dl.relays {
		r := &dl.relays[i]
		b = wire.AppendBool(append(b, byte(r.phase)), r.digest)
		b = append(b, r.lineage[:]...)
		b = append(wire.AppendU64(b, r.n), r.head[:]...)
		b = wire.AppendBytes(wire.AppendU64(b, uint64(r.at)), []byte(r.reason))
	}
	m.put(m.deliveryKey(partText, dl), b)
}

func (m *Machine) loadText(key, value []byte) error {
	dl := &delivery{opened: map[wire.Seat]sign{}}
	dl.key.seat = m.self
	kr := wire.NewReader(key)
	kr.Fixed(dl.key.incarnation[:])
	dl.key.sequence = kr.U64()
	if err := kr.Done(); err != nil {
		return err
	}
	r := wire.NewReader(value)
	var set wire.Digest
	r.Fixed(set[:])
	r.Fixed(dl.d[:])
	dl.sent, dl.order = int64(r.U64()), r.U64()
	dl.text = string(r.Bytes(MaxContent))
	paths := int(r.U8())
	if paths > len(m.paths) {
		return wire.ErrFormat
	}
	for range paths {
		x := relayDelivery{phase: relayPhase(r.U8()), digest: r.Bool()}
		if x.phase < relayPosted || x.phase > relayNone {
			r.Fail(wire.ErrFormat)
		}
		r.Fixed(x.lineage[:])
		x.n = r.U64()
		r.Fixed(x.head[:])
		x.at = int64(r.U64())
		x.reason = string(r.Bytes(maxReason))
		dl.relays = append(dl.relays, x)
	}
	if err := r.Done(); err != nil {
		return err
	}
	dl.grow(len(m.paths))
	if dl.set = m.delivery.sets[set]; dl.set == nil {
		return wire.ErrFormat
	}
	m.keepDelivery(dl)
	list := m.delivery.list // in the order of keys so far, which is that of incarnations first
	at, _ := slices.BinarySearchFunc(list[:len(list)-1], dl.order, func(o *delivery, order uint64) int { return cmp.Compare(o.order, order) })
	copy(list[at+1:], list[at:len(list)-1])
	list[at] = dl
	return nil
}

// append writes: message id 8 | sent u64.
func (s sign) append(b []byte) []byte { return wire.AppendU64(append(b, s.id[:]...), uint64(s.sent)) }

func readSign(r *wire.Reader) (s sign) {
	r.Fixed(s.id[:])
	s.sent = int64(r.U64())
	return s
}

func (m *Machine) loadOpened(key, value []byte) error {
	k := messageKey{source: source{seat: m.self}}
	var seat wire.Seat
	kr := wire.NewReader(key)
	kr.Fixed(k.incarnation[:])
	k.sequence = kr.U64()
	kr.Fixed(seat[:])
	dl := m.delivery.byKey[k]
	if err := kr.Done(); err != nil || dl == nil {
		return wire.ErrFormat
	}
	r := wire.NewReader(value)
	dl.opened[seat] = readSign(r)
	return r.Done()
}

// saveReader writes: heard sign | order u64 | u8 relays, each: claim | u8
// readings that agree, each like a claim. A claim: lineage 16 | n u64 | head 32 | sign.
func (m *Machine) saveReader(seat wire.Seat, r *reader) {
	b := wire.AppendU64(r.heard.append(nil), r.order)
	b = append(b, byte(len(r.claims)))
	for i := range r.claims {
		b = r.claims[i].append(b)
		b = append(b, byte(len(r.agreed[i])))
		for _, c := range r.agreed[i] {
			b = c.append(b)
		}
	}
	m.put(m.key(keyDelivery, []byte{partReader}, seat[:]), b)
}

func (c *reading) append(b []byte) []byte {
	b = append(b, c.lineage[:]...)
	b = append(wire.AppendU64(b, c.n), c.head[:]...)
	return c.by.append(b)
}

func readReading(r *wire.Reader) (c reading) {
	r.Fixed(c.lineage[:])
	c.n = r.U64()
	r.Fixed(c.head[:])
	c.by = readSign(r)
	return c
}

func (m *Machine) loadReader(seat wire.Seat, value []byte) error {
	r := wire.NewReader(value)
	x := &reader{heard: readSign(r), order: r.U64(), agreed: make([][]reading, len(m.paths)), claims: make([]reading, len(m.paths))}
	paths := int(r.U8())
	if paths > len(m.paths) {
		return wire.ErrFormat
	}
	for i := range paths {
		c := readReading(r)
		x.claims[i] = c
		if c.n > 0 {
			at := pathNumber{i, c.n}
			m.delivery.pending[at] = append(m.delivery.pending[at], seat)
		}
		for range r.U8() {
			if x.agreed[i] = append(x.agreed[i], readReading(r)); len(x.agreed[i]) > maxLives {
				return wire.ErrTooLong
			}
		}
	}
	m.delivery.readers[seat] = x
	return r.Done()
}
