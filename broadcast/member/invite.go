package member

import (
	"fmt"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Roles that an invitation can give; never admin.
const (
	RoleMember uint8 = 1
	RoleReader uint8 = 2
)

const tagInvite = "parallax/1/invite"

// InviteRecord is an invite as an admin put it on the board. Relays enforce
// its limits; members read from it whose admissions count.
type InviteRecord struct {
	Group     wire.GroupID
	Key       keys.InvitePublic
	Uses      uint32    // admissions in all, at least 1
	PerHour   uint32    // admissions in an hour, at least 1
	Expires   time.Time // whole seconds
	Role      uint8     // RoleMember or RoleReader
	Mode      uint8     // ModeOpen: it admits; ModeApprove: who holds it asks
	Signature [64]byte  // by an admin
}

// Check tells whether ParseInviteRecord would take what Append writes. It does
// not look at the signature.
func (i *InviteRecord) Check() error {
	if i.Uses == 0 || i.PerHour == 0 {
		return fmt.Errorf("invite record: nobody could use it (%d uses, %d an hour): %w", i.Uses, i.PerHour, wire.ErrFormat)
	}
	if err := checkExpiry(i.Expires); err != nil {
		return fmt.Errorf("invite record: %w", err)
	}
	if err := checkInviteRole(i.Role); err != nil {
		return fmt.Errorf("invite record: %w", err)
	}
	if err := checkInviteMode(i.Mode); err != nil {
		return fmt.Errorf("invite record: %w", err)
	}
	return nil
}

func checkInviteMode(mode uint8) error {
	if mode != ModeOpen && mode != ModeApprove {
		return fmt.Errorf("mode %d invites nobody: %w", mode, wire.ErrFormat)
	}
	return nil
}

// An invite's role and mode are one byte: the role, and 16 beside it where an
// admin has to approve.
func inviteByte(role, mode uint8) uint8 { return role | (mode-ModeOpen)<<4 }

func readInviteByte(b uint8) (role, mode uint8) { return b & 0x0f, ModeOpen + b>>4 }

func checkInviteRole(role uint8) error {
	if role != RoleMember && role != RoleReader {
		return fmt.Errorf("role %d is neither member nor reader: %w", role, wire.ErrFormat)
	}
	return nil
}

// body is the record without its signature.
func (i *InviteRecord) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, i.Group[:]...)
	b = append(b, i.Key[:]...)
	b = wire.AppendU32(b, i.Uses)
	b = wire.AppendU32(b, i.PerHour)
	b = appendSeconds(b, i.Expires)
	return append(b, inviteByte(i.Role, i.Mode))
}

// Append appends the record: 146 bytes.
func (i *InviteRecord) Append(b []byte) []byte {
	return append(i.body(b), i.Signature[:]...)
}

// Sign sets the signature.
func (i *InviteRecord) Sign(admin keys.SigningPrivate) {
	copy(i.Signature[:], admin.Sign(tagInvite, i.body(nil)))
}

// Verify checks the signature of an admin: ErrBadSignature if it is another's.
func (i *InviteRecord) Verify(v keys.Verify, admin keys.SigningPublic) error {
	if !admin.Verify(v, i.Signature[:], tagInvite, i.body(nil)) {
		return fmt.Errorf("invite record %x %w", InviteID(i.Key), ErrBadSignature)
	}
	return nil
}

// ParseInviteRecord reads what Append wrote and nothing else. It does not
// check the signature: Verify does.
func ParseInviteRecord(b []byte) (*InviteRecord, error) {
	i := new(InviteRecord)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(i.Group[:])
	r.Fixed(i.Key[:])
	i.Uses = r.U32()
	i.PerHour = r.U32()
	i.Expires = readSeconds(r)
	i.Role, i.Mode = readInviteByte(r.U8())
	r.Fixed(i.Signature[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("invite record: %w", err)
	}
	if err := i.Check(); err != nil {
		return nil, err
	}
	return i, nil
}
