package member_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// exampleAnnouncement is version 1 of the seat of signing key n, signed.
func exampleAnnouncement(n byte) *member.Announcement {
	key := signer(n)
	a := &member.Announcement{
		Suite: member.Suite1, Group: fill(5), Version: 1, Signing: key.Public(), Identity: keys.IdentityPublic(fill(0x11)),
		Incarnation: wire.Incarnation{1, 2, 3, 4, 5, 6, 7, 8}, PrekeyID: 7, Prekey: keys.PrekeyPublic(fill(0x12)), KEMID: 9,
		Expires: at.Add(28 * 24 * time.Hour), Name: "Zoë",
		Mailboxes: []member.Mailbox{{Relay: keys.RelayPublic(fill(0x21)), ID: wire.MailboxID{1}, Admin: keys.AdminPublic(fill(0x31))}, {Relay: keys.RelayPublic(fill(0x22)), ID: wire.MailboxID{2}, Admin: keys.AdminPublic(fill(0x32))}},
	}
	a.Seat = member.NewSeat(a.Group, a.Signing)
	for i := range a.KEM {
		a.KEM[i] = byte(i)
	}
	a.Sign(key)
	return a
}

// following is version n+1 of a with the signing key next, signed by key.
func following(a *member.Announcement, next keys.SigningPublic, key keys.SigningPrivate) *member.Announcement {
	b := *a
	b.Version, b.Previous, b.Signing = a.Version+1, a.Digest(), next
	b.Sign(key)
	return &b
}

func TestAnnouncement(t *testing.T) {
	a := exampleAnnouncement(3)
	b := a.Append(nil)
	strict(t, member.ParseAnnouncement, b, a)
	otherFormat(t, member.ParseAnnouncement, b)
	pin(t, b, 1643, "bc598ed6d27462509a37bdb385ea4c750becf910b1b0b94c7cc4f84ccffd4d27")
	body := b[:len(b)-64]
	if a.Digest() != wire.Digest(specHash("announcement/digest", body)) {
		t.Error("the digest is not H(announcement/digest, body)")
	}
	if !keys.Ed25519(a.Signing, specInput("announcement", body), a.Signature[:]) {
		t.Error("the signature is not Sign(announcement, body)")
	}
	unsigned := *a
	unsigned.Signature = [64]byte{}
	if unsigned.Digest() != a.Digest() {
		t.Error("the digest depends on the signature")
	}
}

// One set of mailboxes has one encoding, in whatever order it is held.
func TestAnnouncementMailboxOrder(t *testing.T) {
	a := exampleAnnouncement(3)
	b := *a
	b.Mailboxes = slices.Clone(a.Mailboxes)
	slices.Reverse(b.Mailboxes)
	if a.Digest() != b.Digest() {
		t.Error("the digest depends on the order in memory")
	}
	raw := a.Append(nil)
	boxes := raw[len(raw)-64-2*80 : len(raw)-64]
	first := slices.Clone(boxes[:80])
	copy(boxes, boxes[80:])
	copy(boxes[80:], first)
	if _, err := member.ParseAnnouncement(raw); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("mailboxes in descending order: %v", err)
	}
}

// "Announcement v+1 is signed by the key of v, so nobody can make a second key
// for a seat" (design section 1).
func TestAnnouncementVerify(t *testing.T) {
	first := exampleAnnouncement(3)
	old, thief := signer(3), signer(4)
	none := keys.SigningPublic{}
	kept := following(first, first.Signing, old)
	rotated := following(first, thief.Public(), old)
	later := following(rotated, thief.Public(), thief)

	forged := exampleAnnouncement(4) // valid for its own seat
	forged.Seat = first.Seat
	forged.Sign(thief)

	zero := *first
	zero.Version = 0

	for _, c := range []struct {
		name     string
		a        *member.Announcement
		previous keys.SigningPublic
		want     error
	}{
		{"version 1", first, none, nil},
		{"version 1 does not read previous", first, thief.Public(), nil},
		{"another's seat", forged, none, member.ErrBadSeat},
		{"another's seat, its own key as previous", forged, thief.Public(), member.ErrBadSeat},
		{"version 0", &zero, none, member.ErrBadSignature},
		{"version 2, key kept", kept, first.Signing, nil},
		{"version 2, nothing known before", kept, none, nil},
		{"version 2, new key", rotated, first.Signing, nil},
		{"version 2, new key, checked by itself", rotated, rotated.Signing, member.ErrBadSignature},
		{"version 2, new key, nothing known before", rotated, none, member.ErrBadSeat},
		{"version 2 by a thief", following(first, thief.Public(), thief), first.Signing, member.ErrBadSignature},
		{"version 2 by a thief, nothing known before", following(first, thief.Public(), thief), none, member.ErrBadSeat},
		{"version 2 by a thief under the old key, nothing known", following(first, first.Signing, thief), none, member.ErrBadSignature},
		{"version 3 by the new key", later, rotated.Signing, nil},
		{"version 3 against the first key", later, first.Signing, member.ErrBadSignature},
	} {
		if err := c.a.Verify(keys.Ed25519, c.previous); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// Every byte is under the signature, so a relay changes none unnoticed.
func TestAnnouncementEveryByteCounts(t *testing.T) {
	b := exampleAnnouncement(3).Append(nil)
	// A Verify that compares the message with what was signed is as strict as
	// Ed25519 and lets every byte be tried.
	ok := specInput("announcement", b[:len(b)-64])
	verify := func(_ [32]byte, message, _ []byte) bool { return string(message) == string(ok) }
	for i := range len(b) - 64 {
		c := slices.Clone(b)
		c[i] ^= 1
		a, err := member.ParseAnnouncement(c)
		if err == nil && a.Verify(verify, a.Signing) == nil {
			t.Errorf("byte %d changed and still verified", i)
		}
	}
}

func TestAnnouncementRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*member.Announcement)
		want   error
	}{
		"suite 0":             {func(a *member.Announcement) { a.Suite = 0 }, member.ErrSuite},
		"suite 2":             {func(a *member.Announcement) { a.Suite = 2 }, member.ErrSuite},
		"version 0":           {func(a *member.Announcement) { a.Version = 0 }, wire.ErrFormat},
		"1 with previous":     {func(a *member.Announcement) { a.Previous = fill(1) }, wire.ErrFormat},
		"2 without previous":  {func(a *member.Announcement) { a.Version = 2 }, wire.ErrFormat},
		"no expiry":           {func(a *member.Announcement) { a.Expires = time.Time{} }, wire.ErrFormat},
		"expiry in year 9999": {func(a *member.Announcement) { a.Expires = time.Unix(253402300800, 0) }, wire.ErrFormat},
		"name":                {func(a *member.Announcement) { a.Name = "\u202eevE" }, member.ErrName},
		"long name":           {func(a *member.Announcement) { a.Name = strings.Repeat("n", 65) }, wire.ErrTooLong},
		"no mailbox":          {func(a *member.Announcement) { a.Mailboxes = nil }, wire.ErrFormat},
		"mailbox twice":       {func(a *member.Announcement) { a.Mailboxes[1].Relay = a.Mailboxes[0].Relay }, wire.ErrFormat},
		"thirty-three mailboxes": {func(a *member.Announcement) {
			a.Mailboxes = nil
			for i := range 33 {
				a.Mailboxes = append(a.Mailboxes, member.Mailbox{Relay: keys.RelayPublic{byte(i)}})
			}
		}, wire.ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			a := exampleAnnouncement(3)
			c.change(a)
			if a.Check() == nil {
				t.Error("Check takes it")
			}
			if _, err := member.ParseAnnouncement(a.Append(nil)); !errors.Is(err, c.want) {
				t.Errorf("ParseAnnouncement: %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzParseAnnouncement(f *testing.F) {
	fuzzObject(f, exampleAnnouncement(3).Append(nil), member.ParseAnnouncement, func(a *member.Announcement) []byte { return a.Append(nil) })
}
