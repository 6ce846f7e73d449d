package member

import (
	"fmt"
	"slices"

	"parallax/broadcast"
	"parallax/internal/store"
	"parallax/internal/wire"
)

// The newest texts, own and opened, are kept as they can be sent again: content
// key and content, from which D follows. They lie in the store; memory has which
// they are.

// maxKeptBytes bounds the records of the texts kept, beside Limits.Texts.
const maxKeptBytes = 4 << 20

// keptText is a text that can be sent again.
type keptText struct {
	order uint64 // of message.order
	key   messageKey
	d     wire.Digest
	size  int
}

// keptTexts are all of them, oldest first.
type keptTexts struct {
	list  []*keptText
	byKey map[messageKey]*keptText
	bytes int
}

func (k *keptTexts) add(t *keptText) {
	if k.byKey == nil {
		k.byKey = map[messageKey]*keptText{}
	}
	k.list = append(k.list, t)
	k.byKey[t.key] = t
	k.bytes += t.size
}

// keepText keeps a text under the order in which it opened.
func (m *Machine) keepText(a *Again, d wire.Digest, order uint64) {
	if len(a.Content) > MaxAgainContent || m.texts.byKey[a.key()] != nil {
		return
	}
	b := AppendKeptText(nil, a, d)
	m.put(m.key(keyText, wire.U64(order)), b)
	m.texts.add(&keptText{order: order, key: a.key(), d: d, size: len(b)})
	for len(m.texts.list) > m.cfg.Limits.Texts || m.texts.bytes > maxKeptBytes {
		old := m.texts.list[0]
		m.texts.list = m.texts.list[1:]
		m.texts.bytes -= old.size
		delete(m.texts.byKey, old.key)
		m.del(m.key(keyText, wire.U64(old.order)))
	}
}

func (m *Machine) loadKeptText(key, value []byte) error {
	kr := wire.NewReader(key)
	t := &keptText{order: kr.U64(), size: len(value)}
	if err := kr.Done(); err != nil {
		return err
	}
	a, d, err := ParseKeptText(value)
	if err != nil {
		return err
	}
	t.key, t.d = a.key(), d
	a.Key.Zero()
	m.texts.add(t)
	return nil
}

// KeptTexts is where the texts lie that a membership can send again: the keys
// from, and to exclusively.
func KeptTexts(unit store.Unit) (from, to []byte) {
	return append(unit[:len(unit):len(unit)], keyText), append(unit[:len(unit):len(unit)], keyText+1)
}

// AppendKeptText appends the record of a text: D 32, then as in an answer.
func AppendKeptText(b []byte, a *Again, d wire.Digest) []byte {
	return a.append(append(slices.Grow(b, len(d)+a.size()), d[:]...))
}

// ParseKeptText reads what AppendKeptText wrote.
func ParseKeptText(b []byte) (a *Again, d wire.Digest, err error) {
	r := wire.NewReader(b)
	r.Fixed(d[:])
	a = readAgain(r)
	return a, d, r.Done()
}

// readTexts reads texts that are kept and hands over those that still are, in
// the order of the list.
func (m *Machine) readTexts(list []*keptText, then func([]*Again)) {
	read := make([]*Again, len(list))
	left := len(list)
	for i, t := range list {
		m.read(m.key(keyText, wire.U64(t.order)), func(kvs []store.KV) {
			if len(kvs) == 1 {
				if a, d, err := ParseKeptText(kvs[0].Value); err == nil && d == t.d && a.key() == t.key {
					read[i] = a
				}
			}
			if left--; left == 0 {
				then(slices.DeleteFunc(read, func(a *Again) bool { return a == nil }))
			}
		})
	}
}

// read asks for the record of one key; then gets it, or nothing.
func (m *Machine) read(key []byte, then func([]store.KV)) {
	m.lastRead++
	m.readers[m.lastRead] = then
	m.reads = append(m.reads, broadcast.Read{ID: m.lastRead, From: key})
}

// loaded takes the answer to a read. One from before the state was read again is
// not known any more.
func (m *Machine) loaded(in broadcast.Loaded) error {
	then := m.readers[in.ID]
	if then == nil {
		return nil
	}
	delete(m.readers, in.ID)
	if in.Err != nil {
		then(nil)
		return fmt.Errorf("member: reading a text that is kept: %w", in.Err)
	}
	then(in.KVs)
	return nil
}
