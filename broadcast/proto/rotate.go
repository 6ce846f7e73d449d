package proto

import (
	"bytes"
	"slices"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Rank is what an admin key may do on its channel. The zero rank is no key's.
type Rank uint8

const (
	// RankAdmin grants, and rotates as long as no owner comes or goes.
	RankAdmin Rank = 1
	// RankOwner rotates to any keys.
	RankOwner Rank = 2
)

// Admin is an admin key of a channel.
type Admin struct {
	Key  keys.AdminPublic
	Rank Rank
}

// Rotate says anew who may do what on a channel: the posting key, and all admin
// keys; and it ends mailboxes. Of two the greater Rotation counts, whatever came
// first; the creation is rotation 0. So an old Rotate brings no old key back, and
// a relay that was restored to an older one is told the newest by any greater
// ordinal.
type Rotate struct {
	PostID    wire.PostID
	Signer    keys.AdminPublic   // one of the admin keys in force before
	Rotation  uint64             // ordinal, from 1; need not be dense
	Posting   keys.PostingPublic // authorises posts and registrations from then on
	Admins    []Admin            // from then on: 1 to MaxAdmins, by key, strictly ascending, one of them an owner
	Ended     []wire.MailboxID   // at most MaxEnded, strictly ascending
	Signature Signature          // by Signer
}

func (Rotate) Type() uint8 { return TypeRotate }
func (m Rotate) Append(b []byte) []byte {
	b = append(b, m.PostID[:]...)
	b = append(b, m.Signer[:]...)
	b = wire.AppendU64(b, m.Rotation)
	b = append(b, m.Posting[:]...)
	b = AppendAdmins(b, m.Admins)
	b = appendMailboxes(b, m.Ended)
	return append(b, m.Signature[:]...)
}
func parseRotate(r *wire.Reader) Message {
	var m Rotate
	r.Fixed(m.PostID[:])
	r.Fixed(m.Signer[:])
	m.Rotation = r.U64()
	r.Fixed(m.Posting[:])
	m.Admins = ReadAdmins(r)
	m.Ended = mailboxes(r)
	r.Fixed(m.Signature[:])
	switch {
	case r.Err() != nil:
	case m.Rotation == 0 || m.Posting == keys.PostingPublic{}:
		r.Fail(ErrRotation)
	case len(m.Ended) > MaxEnded:
		r.Fail(wire.ErrTooLong)
	}
	return m
}

// ReadAdmins reads what AppendAdmins wrote: 1 to MaxAdmins keys, strictly
// ascending, each of a rank there is, one of them an owner. Errors: ErrAdmins,
// those of package wire.
func ReadAdmins(r *wire.Reader) []Admin {
	list := make([]Admin, 0, 4)
	owners := 0
	for range r.U8() {
		var a Admin
		r.Fixed(a.Key[:])
		a.Rank = Rank(r.U8())
		if r.Err() != nil {
			return nil
		}
		if n := len(list); n == MaxAdmins || a.Rank != RankAdmin && a.Rank != RankOwner || n > 0 && bytes.Compare(list[n-1].Key[:], a.Key[:]) >= 0 {
			r.Fail(ErrAdmins)
			return nil
		}
		if a.Rank == RankOwner {
			owners++
		}
		list = append(list, a)
	}
	if r.Err() == nil && owners == 0 {
		r.Fail(ErrAdmins)
	}
	return list
}

// AppendAdmins appends a list of admin keys: u8 count, then of each key 32 and
// rank u8.
func AppendAdmins(b []byte, list []Admin) []byte {
	b = append(b, uint8(len(list)))
	for i := range list {
		b = append(b, list[i].Key[:]...)
		b = append(b, uint8(list[i].Rank))
	}
	return b
}

// RankOf is the rank of a key in a list; 0: it is none of it.
func RankOf(list []Admin, key keys.AdminPublic) Rank {
	i, ok := slices.BinarySearchFunc(list, key, func(a Admin, key keys.AdminPublic) int { return bytes.Compare(a.Key[:], key[:]) })
	if !ok {
		return 0
	}
	return list[i].Rank
}

// SortAdmins puts a list in its order.
func SortAdmins(list []Admin) {
	slices.SortFunc(list, func(a, b Admin) int { return bytes.Compare(a.Key[:], b.Key[:]) })
}
