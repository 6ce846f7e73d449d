package member

import (
	"bytes"
	"encoding/binary"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	tagEpochCommitment = "parallax/1/epoch/commitment"
	tagEpochMerged     = "parallax/1/epoch/merged"
)

// FirstEpoch is the number of the epoch that a group begins with.
const FirstEpoch uint64 = 1

// EpochCommitment is H("epoch/commitment", gid, epoch key): an epoch operation
// names its key by it.
func EpochCommitment(gid wire.GroupID, key *keys.EpochKey) wire.Digest {
	return wire.Hash(tagEpochCommitment, gid[:], key.Expose())
}

// NewEpochNumber is the number of an epoch that merges these: one generation
// (the upper 32 bits) above the greatest, and the first 4 bytes of its
// commitment below, so that epochs begun at once have different numbers.
func NewEpochNumber(commitment wire.Digest, merges ...EpochHead) uint64 {
	var g uint64
	for i := range merges {
		g = max(g, generation(merges[i].Number))
	}
	return (g+1)<<32 | uint64(binary.BigEndian.Uint32(commitment[:4]))
}

func generation(number uint64) uint64 { return number >> 32 }

// NewOpEpoch is the operation that begins an epoch with this key, merges the
// heads, and tells these relays their posting keys: 1 to MaxRelays, keys
// distinct.
func NewOpEpoch(gid wire.GroupID, key *keys.EpochKey, heads []EpochHead, relays []RelayRef) OpEpoch {
	heads = heads[:min(len(heads), MaxMerged)]
	b := OpEpoch{Commitment: EpochCommitment(gid, key)}
	b.Number = NewEpochNumber(b.Commitment, heads...)
	for i := range heads {
		b.Merges = append(b.Merges, heads[i].Operation)
	}
	for i := range relays {
		relay := relays[i].Key
		b.Postings = append(b.Postings, Posting{Relay: relay, Key: PostingKey(key, relay).Public()})
	}
	slices.SortFunc(b.Postings, func(x, y Posting) int { return bytes.Compare(x.Relay[:], y.Relay[:]) })
	return b
}

// Fits tells whether a key is the one that the operation commits to, and the
// posting keys are its. Whoever is given the key checks it.
func (b OpEpoch) Fits(gid wire.GroupID, key *keys.EpochKey) bool {
	if EpochCommitment(gid, key) != b.Commitment {
		return false
	}
	return !slices.ContainsFunc(b.Postings, func(p Posting) bool { return PostingKey(key, p.Relay).Public() != p.Key })
}

// EpochInUse is the epoch under which members send while these are the epoch
// heads. list holds the key of each head, in the order of State.Epochs. One
// head is in use itself. Of several the key is HKDF(all keys one after
// another, "epoch/merged", gid, the heads' digests), so that who lacks one of
// them, as a seat removed beside another epoch, does not have it; its number is
// of the heads' greatest generation.
func EpochInUse(gid wire.GroupID, heads []EpochHead, list []keys.EpochKey) (Epoch, error) {
	if len(heads) == 0 || len(heads) != len(list) {
		return Epoch{}, wire.ErrFormat
	}
	if len(heads) == 1 {
		return Epoch{Number: heads[0].Number, Key: list[0]}, nil
	}
	secret := make([]byte, 0, len(list)*keys.SeedSize)
	parts := [][]byte{gid[:]}
	var g uint64
	for i := range heads {
		secret = append(secret, list[i].Expose()...)
		parts = append(parts, heads[i].Operation[:])
		g = max(g, generation(heads[i].Number))
	}
	key := keys.Derive(secret, tagEpochMerged, parts...)
	clear(secret)
	e := Epoch{Key: keys.NewSecret[keys.RoleEpoch](key)}
	clear(key[:])
	name := EpochCommitment(gid, &e.Key)
	e.Number = g<<32 | uint64(binary.BigEndian.Uint32(name[:4]))
	return e, nil
}

// staleInvites are the invites that some epoch in force was begun without knowing
// of, nor they of it: a link leads to the epoch that it was made in.
func (r *Roster) staleInvites(heads []EpochHead) (stale map[[16]byte]bool) {
	for _, i := range r.lists[opInvite] {
		n := r.ops[i]
		for h := range heads {
			e, begun := r.index[heads[h].Operation]
			if begun && r.ops[e].kind == opEpoch && !n.past.has(e) {
				if stale == nil {
					stale = map[[16]byte]bool{}
				}
				stale[InviteID(n.op.Body.(OpInvite).Record.Key)] = true
			}
		}
	}
	return stale
}

// endsUnknown tells whether somebody's end (a removal, or leaving) is in the past
// of no epoch head: who is out would have the keys in use.
func (r *Roster) endsUnknown() bool {
	v := r.all()
	var heads []int
	for _, h := range v.epochs() {
		if i, ok := r.index[h.Operation]; ok {
			heads = append(heads, i)
		}
	}
	for seat := range r.touching {
		st := v.seat(seat)
		if !st.gone {
			continue
		}
		for _, e := range st.ends {
			if !slices.ContainsFunc(heads, func(h int) bool { return r.ops[h].past.has(e) }) {
				return true
			}
		}
	}
	return false
}
