package crossverify

import (
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Tags of section 9.1: what the hashed ids of subjects are over.
const (
	tagOperation = "parallax/1/subject/operation"
	tagHead      = "parallax/1/subject/head"
	tagHeadValue = "parallax/1/subject/head/value"
)

// Subject is what paths are compared about, the same on all paths. It holds
// everything that an honest value depends on, so that under one Subject an
// honest value never changes: two digests are always somebody's doing. Envelope,
// Admission, Announcement, Operation and Head make them.
type Subject struct {
	Kind        Kind
	ID          wire.Digest
	Incarnation wire.Incarnation
	N           uint64
}

// Envelope is one message: a seat's sequence counts within its incarnation,
// which is drawn anew at every restore. Its digest is the envelope's D.
func Envelope(seat wire.Seat, incarnation wire.Incarnation, sequence uint64) Subject {
	return Subject{Kind: Message, ID: wire.Digest(seat), Incarnation: incarnation, N: sequence}
}

// Admission is one admission by invite key, by the digest of all it says: a
// seat may be admitted again, by another invite or for another announcement,
// and that is another subject. Its digest is the same one. Claimed under the
// seat instead, all admissions of the seat stand against each other, and T3's
// liveness needs q > R/2 (section 9.1).
func Admission(digest wire.Digest) Subject { return Subject{Kind: Open, ID: digest} }

// Announcement is one version of a seat's announcement; its digest is the
// announcement's. Newer versions are other subjects, so a path that still has
// an older one lacks this one and does not contradict it.
func Announcement(seat wire.Seat, version uint64) Subject {
	return Subject{Kind: Signed, ID: wire.Digest(seat), N: version}
}

// Operation is the roster operation with which its author's log goes on at
// sequence, counted from 1; its digest is the operation's.
func Operation(author wire.Seat, sequence uint64) Subject {
	return Subject{Kind: Signed, ID: wire.Hash(tagOperation, author[:]), N: sequence}
}

// Head is number n of one life of a relay's log for a channel. A restore makes
// another lineage, hence another subject. Statement.Claim says which digest.
func Head(relay keys.RelayPublic, channel wire.ChannelID, lineage wire.Lineage, n uint64) Subject {
	return Subject{Kind: Signed, ID: wire.Hash(tagHead, relay[:], channel[:], lineage[:]), N: n}
}

// Claim is s as something to compare: views and forwards that brought a
// statement of one number, on whichever path, must have brought the same. Two
// digests of checked statements are the relay's doing, and FindFork has them.
func (s Statement) Claim() (Subject, wire.Digest) {
	return Head(s.Relay, s.Channel, s.Lineage, s.N), wire.Hash(tagHeadValue, s.D[:], s.H[:], s.Root[:])
}
