package member

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// LinkPrefix is how an invitation link begins.
const LinkPrefix = "parallax:"

const (
	tagLink          = "parallax/1/link"
	tagInviteKey     = "parallax/1/invite/key"
	tagInvitePosting = "parallax/1/invite/posting"
	tagChannel       = "parallax/1/channel"
	tagPosting       = "parallax/1/posting"
	tagChannelAdmin  = "parallax/1/channel/admin"
	tagBoardOwner    = "parallax/1/board/owner"
	tagDoor          = "parallax/1/door"

	linkHead  = 3 // format and length
	linkCheck = 4 // bytes of the check at the end
)

// Why a link is refused; each is a sentence for the person who pasted it.
var (
	ErrLinkNot      = errors.New(`this is not a Parallax invitation: an invitation link begins with "parallax:"`)
	ErrLinkCut      = errors.New("a part of the invitation link is missing: copy the whole link again")
	ErrLinkMistyped = errors.New("the invitation link has a wrong character: copy and paste it, do not type it")
	ErrLinkVersion  = errors.New("the invitation link was made by a newer version of Parallax: update this one")
)

// linkEncoding refuses stray bits in the last character, so that one
// invitation has one link.
var linkEncoding = base64.RawURLEncoding.Strict()

// LinkRelay is a relay as the link names it.
type LinkRelay struct {
	Key   keys.RelayPublic
	Addrs []string // multiaddrs as text
}

// Invitation is what a link carries: enough to find the group's relays, open
// its door and sign an admission. It holds secrets; only Link shows them.
type Invitation struct {
	Group    wire.GroupID
	Door     keys.DoorKey
	Secret   keys.InviteSecret
	Channels keys.ChannelSecret
	Expires  time.Time          // whole seconds; what counts is the invite record
	Role     uint8              // RoleMember or RoleReader
	Mode     uint8              // ModeOpen, or ModeApprove: Door is that of the invite's room
	Requests keys.RequestPublic // in mode approve what requests are sealed to, else zero
	Relays   []LinkRelay
}

// Check tells whether ParseLink would take what Link writes.
func (i *Invitation) Check() error {
	if err := checkExpiry(i.Expires); err != nil {
		return fmt.Errorf("invitation: %w", err)
	}
	if err := checkInviteRole(i.Role); err != nil {
		return fmt.Errorf("invitation: %w", err)
	}
	if err := checkInviteMode(i.Mode); err != nil {
		return fmt.Errorf("invitation: %w", err)
	}
	if (i.Mode == ModeApprove) == i.Requests.IsZero() {
		return fmt.Errorf("invitation: mode %s does not go with its request key: %w", modeName(i.Mode), wire.ErrFormat)
	}
	if len(i.Relays) == 0 || len(i.Relays) > MaxRelays {
		return fmt.Errorf("invitation: it names 1 to %d relays, not %d: %w", MaxRelays, len(i.Relays), wire.ErrFormat)
	}
	seen := make(map[keys.RelayPublic]bool, len(i.Relays))
	for _, l := range i.Relays {
		if seen[l.Key] {
			return fmt.Errorf("invitation: relay %s is named twice: %w", l.Key, wire.ErrFormat)
		}
		seen[l.Key] = true
		if err := checkAddresses(l.Addrs); err != nil {
			return fmt.Errorf("invitation: relay %s: %w", l.Key, err)
		}
	}
	return nil
}

// Link is the invitation as text, secrets included: whoever reads it can join.
func (i *Invitation) Link() string {
	b := append(make([]byte, 0, 512), objectFormat, 0, 0)
	b = append(b, i.Group[:]...)
	b = append(b, i.Door.Expose()...)
	b = append(b, i.Secret.Expose()...)
	b = append(b, i.Channels.Expose()...)
	b = appendSeconds(b, i.Expires)
	b = append(b, inviteByte(i.Role, i.Mode))
	if i.Mode == ModeApprove {
		b = append(b, i.Requests[:]...)
	}
	b = append(b, uint8(len(i.Relays)))
	for _, l := range i.Relays {
		b = append(b, l.Key[:]...)
		b = appendAddresses(b, l.Addrs)
	}
	binary.BigEndian.PutUint16(b[1:], uint16(len(b)-linkHead+linkCheck))
	check := wire.Hash(tagLink, b)
	return LinkPrefix + linkEncoding.EncodeToString(append(b, check[:linkCheck]...))
}

// ParseLink reads a link as people paste it: spaces and line ends anywhere are
// dropped, the prefix may be in capitals. Its errors are ErrLinkNot,
// ErrLinkCut, ErrLinkMistyped and ErrLinkVersion, in this order of looking.
func ParseLink(s string) (*Invitation, error) {
	s = strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return -1
		}
		return c
	}, s)
	if len(s) < len(LinkPrefix) || !strings.EqualFold(s[:len(LinkPrefix)], LinkPrefix) {
		return nil, ErrLinkNot
	}
	raw, err := decodeLink(s[len(LinkPrefix):])
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	if raw[0] > objectFormat {
		return nil, ErrLinkVersion
	}
	i := new(Invitation)
	r := wire.NewReader(raw[linkHead : len(raw)-linkCheck])
	r.Fixed(i.Group[:])
	r.Fixed(i.Door.Expose())
	r.Fixed(i.Secret.Expose())
	r.Fixed(i.Channels.Expose())
	i.Expires = readSeconds(r)
	if i.Role, i.Mode = readInviteByte(r.U8()); i.Mode == ModeApprove {
		r.Fixed(i.Requests[:])
	}
	for range readCount8(r, MaxRelays) {
		var l LinkRelay
		r.Fixed(l.Key[:])
		l.Addrs = readAddresses(r)
		if r.Err() != nil {
			break
		}
		i.Relays = append(i.Relays, l)
	}
	err = r.Done()
	if err == nil && raw[0] != objectFormat {
		err = wire.ErrFormat
	}
	if err == nil {
		err = i.Check()
	}
	if err != nil { // the check holds, so nobody mistyped: it was made like this
		return nil, fmt.Errorf("%w; this one %w", ErrLinkNot, err)
	}
	return i, nil
}

// decodeLink turns what follows the prefix into bytes, at least head and
// check, and looks at length and check: these two stay where they are in every
// later format, so that a newer link is told from a mistyped one.
func decodeLink(text string) ([]byte, error) {
	if n := strings.IndexFunc(text, notInLink); n >= 0 {
		c := []rune(text[n:])[0]
		return nil, fmt.Errorf("%w (%q, number %d after the colon, is in no link)", ErrLinkMistyped, c, n+1)
	}
	if len(text) < linkEncoding.EncodedLen(linkHead) {
		return nil, ErrLinkCut
	}
	head, err := linkEncoding.DecodeString(text[:linkEncoding.EncodedLen(linkHead)])
	if err != nil {
		return nil, ErrLinkMistyped
	}
	length := int(binary.BigEndian.Uint16(head[1:]))
	switch want := linkEncoding.EncodedLen(linkHead + length); {
	case len(text) < want:
		return nil, fmt.Errorf("%w (%d of %d characters are there)", ErrLinkCut, len(text), want)
	case len(text) > want:
		return nil, fmt.Errorf("%w (%d characters too many)", ErrLinkMistyped, len(text)-want)
	case length < linkCheck:
		return nil, ErrLinkMistyped
	}
	raw, err := linkEncoding.DecodeString(text)
	if err != nil {
		return nil, ErrLinkMistyped
	}
	end := len(raw) - linkCheck
	if check := wire.Hash(tagLink, raw[:end]); !bytes.Equal(check[:linkCheck], raw[end:]) {
		return nil, ErrLinkMistyped
	}
	return raw, nil
}

// notInLink tells a character outside the alphabet of RFC 4648 section 5.
func notInLink(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
}

// InviteKey is the key that signs admissions.
func (i *Invitation) InviteKey() keys.InvitePrivate {
	return new(keys.InvitePrivate).FromSeed(i.Secret.Derive(tagInviteKey))
}

// InvitePosting is the key that registers a newcomer's mailbox on one relay
// and posts its admission there; the relay counts its uses.
func (i *Invitation) InvitePosting(relay keys.RelayPublic) keys.PostingPrivate {
	return new(keys.PostingPrivate).FromSeed(i.Secret.Derive(tagInvitePosting, relay[:]))
}

// Channel is the group's channel id on one relay.
func (i *Invitation) Channel(relay keys.RelayPublic) wire.ChannelID {
	return ChannelID(&i.Channels, relay)
}

// ChannelID is the group's channel id on one relay: another one on every relay.
func ChannelID(channels *keys.ChannelSecret, relay keys.RelayPublic) wire.ChannelID {
	return channels.Derive(tagChannel, relay[:])
}

// PostingKey authorises posts and registrations on one relay in one epoch.
func PostingKey(epoch *keys.EpochKey, relay keys.RelayPublic) keys.PostingPrivate {
	return new(keys.PostingPrivate).FromSeed(epoch.Derive(tagPosting, relay[:]))
}

// DoorKey is what the links of an epoch open: HKDF(epoch key, "door", gid).
func DoorKey(epoch *keys.EpochKey, gid wire.GroupID) keys.DoorKey {
	return keys.NewSecret[keys.RoleDoor](epoch.Derive(tagDoor, gid[:]))
}

// ChannelAdmin is a seat's admin key on one relay; secret is its owner secret.
func ChannelAdmin(secret [32]byte, relay keys.RelayPublic) keys.AdminPrivate {
	return new(keys.AdminPrivate).FromSeed(keys.Derive(secret[:], tagChannelAdmin, relay[:]))
}

// OwnerKey owns the board entry of this name on one relay; secret is a seat's
// owner secret.
func OwnerKey(secret [32]byte, relay keys.RelayPublic, name string) keys.OwnerPrivate {
	return new(keys.OwnerPrivate).FromSeed(keys.Derive(secret[:], tagBoardOwner, relay[:], []byte(name)))
}
