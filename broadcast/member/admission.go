package member

import (
	"fmt"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	tagAdmission       = "parallax/1/admission"
	tagAdmissionDigest = "parallax/1/admission/digest"
	tagInviteID        = "parallax/1/invite/id"
)

// Admission lets a seat in: whoever holds the invite secret signs it for one
// announcement, while everybody else may be offline. It is an open fact: any
// holder of the link can make one, so members count operators that show it.
type Admission struct {
	Group        wire.GroupID
	Invite       [16]byte // InviteID of the key that signs
	Seat         wire.Seat
	Announcement wire.Digest // of the announcement that was admitted
	Signature    [64]byte    // by the invite key
}

// InviteID names an invite on the board: first bytes of H("invite/id", key).
func InviteID(key keys.InvitePublic) (id [16]byte) {
	d := wire.Hash(tagInviteID, key[:])
	copy(id[:], d[:])
	return id
}

// body is the admission without its signature.
func (a *Admission) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, a.Group[:]...)
	b = append(b, a.Invite[:]...)
	b = append(b, a.Seat[:]...)
	return append(b, a.Announcement[:]...)
}

// Append appends the admission: 177 bytes.
func (a *Admission) Append(b []byte) []byte {
	return append(a.body(b), a.Signature[:]...)
}

// Digest identifies the admission: H("admission/digest", what stands before
// the signature). It is what operators are counted for.
func (a *Admission) Digest() wire.Digest {
	return wire.Hash(tagAdmissionDigest, a.body(nil))
}

// Sign sets Invite to the key's id, and the signature.
func (a *Admission) Sign(key keys.InvitePrivate) {
	a.Invite = InviteID(key.Public())
	copy(a.Signature[:], key.Sign(tagAdmission, a.Group[:], a.Invite[:], a.Seat[:], a.Announcement[:]))
}

// Verify checks that the holder of this invite key signed: ErrBadSignature if
// not. That the invite is live and the announcement is the seat's, others check.
func (a *Admission) Verify(v keys.Verify, key keys.InvitePublic) error {
	if a.Invite != InviteID(key) ||
		!key.Verify(v, a.Signature[:], tagAdmission, a.Group[:], a.Invite[:], a.Seat[:], a.Announcement[:]) {
		return fmt.Errorf("admission of seat %s %w", a.Seat.Short(), ErrBadSignature)
	}
	return nil
}

// ParseAdmission reads what Append wrote and nothing else. It does not check
// the signature: Verify does.
func ParseAdmission(b []byte) (*Admission, error) {
	a := new(Admission)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(a.Group[:])
	r.Fixed(a.Invite[:])
	r.Fixed(a.Seat[:])
	r.Fixed(a.Announcement[:])
	r.Fixed(a.Signature[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	return a, nil
}
