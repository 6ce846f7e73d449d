package member

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// KEMKeySize is the length of an ML-KEM-768 encapsulation key (FIPS 203).
const KEMKeySize = 1184

const (
	tagAnnouncement       = "parallax/1/announcement"
	tagAnnouncementDigest = "parallax/1/announcement/digest"
)

// MaxMailboxes is how many an announcement names: those of a list of relays and
// of the one that takes its place.
const MaxMailboxes = 2 * MaxRelays

// Mailbox is where a member reads on one relay, and its admin key there: what a
// relay obeys once the roster makes the member an admin.
type Mailbox struct {
	Relay keys.RelayPublic
	ID    wire.MailboxID
	Admin keys.AdminPublic
}

// Announcement is a member's self-signed keys, mailboxes and name for one
// group. Version n+1 is signed by the signing key of version n, so nobody but
// the seat can continue it.
type Announcement struct {
	Suite       uint8 // Suite1
	Group       wire.GroupID
	Seat        wire.Seat
	Version     uint64      // dense from 1
	Previous    wire.Digest // Digest of the version before; zero in version 1
	Signing     keys.SigningPublic
	Identity    keys.IdentityPublic
	Incarnation wire.Incarnation
	PrekeyID    uint32
	Prekey      keys.PrekeyPublic
	KEMID       uint32
	KEM         [KEMKeySize]byte // not decoded here: package ratchet refuses an invalid one
	Expires     time.Time        // of the prekeys
	Name        string
	Mailboxes   []Mailbox // 1 to MaxMailboxes; written in the order of their relays
	Signature   [64]byte
}

// Check tells whether ParseAnnouncement would take what Append writes. It does
// not look at the signature.
func (a *Announcement) Check() error {
	if a.Suite != Suite1 {
		return fmt.Errorf("announcement of seat %s, suite %d: it %w", a.Seat.Short(), a.Suite, ErrSuite)
	}
	if a.Version == 0 || (a.Version == 1) != (a.Previous == wire.Digest{}) {
		return fmt.Errorf("announcement of seat %s: version %d does not go with its previous digest: %w", a.Seat.Short(), a.Version, wire.ErrFormat)
	}
	if err := checkExpiry(a.Expires); err != nil {
		return fmt.Errorf("announcement of seat %s: %w", a.Seat.Short(), err)
	}
	if err := CheckName(a.Name); err != nil {
		return fmt.Errorf("announcement of seat %s: %w", a.Seat.Short(), err)
	}
	if len(a.Mailboxes) == 0 || len(a.Mailboxes) > MaxMailboxes {
		return fmt.Errorf("announcement of seat %s: it has 1 to %d mailboxes, not %d: %w", a.Seat.Short(), MaxMailboxes, len(a.Mailboxes), wire.ErrFormat)
	}
	seen := make(map[keys.RelayPublic]bool, len(a.Mailboxes))
	for _, m := range a.Mailboxes {
		if seen[m.Relay] {
			return fmt.Errorf("announcement of seat %s: two mailboxes on relay %s: %w", a.Seat.Short(), m.Relay, wire.ErrFormat)
		}
		seen[m.Relay] = true
	}
	return nil
}

// body is the announcement without its signature.
func (a *Announcement) body(b []byte) []byte {
	b = slices.Grow(b, 1536+48*len(a.Mailboxes)) // for the fixed fields, the signature after them and a name
	b = append(b, objectFormat, a.Suite)
	b = append(b, a.Group[:]...)
	b = append(b, a.Seat[:]...)
	b = wire.AppendU64(b, a.Version)
	b = append(b, a.Previous[:]...)
	b = append(b, a.Signing[:]...)
	b = append(b, a.Identity[:]...)
	b = append(b, a.Incarnation[:]...)
	b = wire.AppendU32(b, a.PrekeyID)
	b = append(b, a.Prekey[:]...)
	b = wire.AppendU32(b, a.KEMID)
	b = append(b, a.KEM[:]...)
	b = appendSeconds(b, a.Expires)
	b = wire.AppendBytes(b, []byte(a.Name))
	b = append(b, uint8(len(a.Mailboxes)))
	for _, m := range slices.SortedFunc(slices.Values(a.Mailboxes), func(x, y Mailbox) int {
		return bytes.Compare(x.Relay[:], y.Relay[:])
	}) {
		b = append(b, m.Relay[:]...)
		b = append(b, m.ID[:]...)
		b = append(b, m.Admin[:]...)
	}
	return b
}

// Append appends the announcement with its signature.
func (a *Announcement) Append(b []byte) []byte {
	return append(a.body(b), a.Signature[:]...)
}

// Digest identifies this version; it does not depend on the signature.
func (a *Announcement) Digest() wire.Digest {
	return wire.Hash(tagAnnouncementDigest, a.body(nil))
}

// Sign sets the signature: by the signing key of the version before, in
// version 1 by the announcement's own.
func (a *Announcement) Sign(key keys.SigningPrivate) {
	copy(a.Signature[:], key.Sign(tagAnnouncement, a.body(nil)))
}

// Verify checks that the announcement is its seat's: ErrBadSeat or
// ErrBadSignature if not.
//
// Version 1 must be signed by the key that makes the seat; previous is not
// read. A later version must be signed by previous, the signing key of the
// version before; the caller took it from an announcement of the same group
// and seat that it verified, and compares Previous with that one's Digest
// where the two versions are neighbours. Who knows no earlier version passes
// the zero key: then the announcement's own key must make the seat, which
// holds as long as the seat has kept its first key.
func (a *Announcement) Verify(v keys.Verify, previous keys.SigningPublic) error {
	signer := previous
	if a.Version <= 1 || previous.IsZero() {
		if a.Seat != NewSeat(a.Group, a.Signing) {
			return fmt.Errorf("announcement %d of seat %s %w", a.Version, a.Seat.Short(), ErrBadSeat)
		}
		signer = a.Signing
	}
	if !signer.Verify(v, a.Signature[:], tagAnnouncement, a.body(nil)) {
		return fmt.Errorf("announcement %d of seat %s %w", a.Version, a.Seat.Short(), ErrBadSignature)
	}
	return nil
}

// ParseAnnouncement reads what Append wrote and nothing else. It does not
// check the signature: Verify does.
func ParseAnnouncement(b []byte) (*Announcement, error) {
	a := new(Announcement)
	r := wire.NewReader(b)
	readObjectFormat(r)
	a.Suite = r.U8()
	r.Fixed(a.Group[:])
	r.Fixed(a.Seat[:])
	a.Version = r.U64()
	r.Fixed(a.Previous[:])
	r.Fixed(a.Signing[:])
	r.Fixed(a.Identity[:])
	r.Fixed(a.Incarnation[:])
	a.PrekeyID = r.U32()
	r.Fixed(a.Prekey[:])
	a.KEMID = r.U32()
	r.Fixed(a.KEM[:])
	a.Expires = readSeconds(r)
	a.Name = string(r.Bytes(MaxName))
	for range readCount8(r, MaxMailboxes) {
		var m Mailbox
		r.Fixed(m.Relay[:])
		r.Fixed(m.ID[:])
		r.Fixed(m.Admin[:])
		if n := len(a.Mailboxes); n > 0 && bytes.Compare(a.Mailboxes[n-1].Relay[:], m.Relay[:]) >= 0 {
			r.Fail(wire.ErrFormat)
		}
		a.Mailboxes = append(a.Mailboxes, m)
	}
	r.Fixed(a.Signature[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("announcement: %w", err)
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	return a, nil
}
