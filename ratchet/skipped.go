package ratchet

import (
	"slices"
	"sort"
	"time"

	"parallax/internal/keys"
)

// skippedKey is the message key of a slot that has not come yet.
type skippedKey struct {
	n  uint32
	at uint32 // Unix seconds when it was stored; only for dropping
	mk [32]byte
}

// skippedChain holds the keys of one receiving chain, n ascending.
type skippedChain struct {
	ratchet keys.RatchetPublic
	mixes   uint8 // root mixes that its headers count
	keys    []skippedKey
}

// skippedKeys is MKSKIPPED of the Double Ratchet, section 3.2: any number of
// chains, at most MaxSkipped keys. Chains are in the order they began and only
// the newest one grows, so the order is that of storing: the oldest key is the
// first of the first chain. No chain is empty.
type skippedKeys struct {
	chains []skippedChain
	count  int
}

// chain is the place of a ratchet key's chain, or -1.
func (k *skippedKeys) chain(ratchet keys.RatchetPublic) int {
	return slices.IndexFunc(k.chains, func(c skippedChain) bool { return c.ratchet == ratchet })
}

// find is the place of message n in chain c, or -1.
func (k *skippedKeys) find(c int, n uint32) int {
	ks := k.chains[c].keys
	i := sort.Search(len(ks), func(i int) bool { return ks[i].n >= n })
	if i == len(ks) || ks[i].n != n {
		return -1
	}
	return i
}

// remove erases keys [from, to) of chain c.
func (k *skippedKeys) remove(c, from, to int) {
	k.chains[c].keys = slices.Delete(k.chains[c].keys, from, to)
	k.count -= to - from
	if len(k.chains[c].keys) == 0 {
		k.chains = slices.Delete(k.chains, c, c+1)
	}
}

// add appends keys to the newest chain, or begins it. It takes them over.
func (k *skippedKeys) add(ratchet keys.RatchetPublic, mixes uint8, more []skippedKey) {
	if len(more) == 0 {
		return
	}
	k.count += len(more)
	last := len(k.chains) - 1
	if last < 0 || k.chains[last].ratchet != ratchet {
		k.chains = append(k.chains, skippedChain{ratchet: ratchet, mixes: mixes, keys: more})
		return
	}
	joined := slices.Concat(k.chains[last].keys, more)
	clear(k.chains[last].keys)
	clear(more)
	k.chains[last].keys = joined
}

// dropOldest erases the n oldest keys, or as many as there are.
func (k *skippedKeys) dropOldest(n int) (dropped int) {
	for dropped < n && len(k.chains) > 0 {
		part := min(n-dropped, len(k.chains[0].keys))
		k.remove(0, 0, part)
		dropped += part
	}
	return dropped
}

// Skipped is the number of message keys kept for slots that have not come.
func (s *Session) Skipped() int { return s.skipped.count }

// DropSkipped erases the keys stored before a time (in whole seconds) and
// returns how many: those slots cannot be opened any more. The retention time
// is the caller's (Double Ratchet, section 8.4).
func (s *Session) DropSkipped(before time.Time) (dropped int) {
	limit := unixSeconds(before)
	for i := range s.skipped.chains {
		c := &s.skipped.chains[i]
		had := len(c.keys)
		c.keys = slices.DeleteFunc(c.keys, func(k skippedKey) bool { return k.at < limit })
		dropped += had - len(c.keys)
	}
	s.skipped.chains = slices.DeleteFunc(s.skipped.chains, func(c skippedChain) bool { return len(c.keys) == 0 })
	s.skipped.count -= dropped
	return dropped
}

// DropOldest erases the n oldest keys, or as many as there are, and returns how
// many: for the caller's limit over a whole membership.
func (s *Session) DropOldest(n int) int { return s.skipped.dropOldest(n) }

// unixSeconds puts a time into 4 bytes: enough until 2106.
func unixSeconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), 1<<32-1))
}
