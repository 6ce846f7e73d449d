package member

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	tagRoom          = "parallax/1/room"
	tagRequest       = "parallax/1/request"
	tagRequestSeat   = "parallax/1/request/seat"
	tagRequestKey    = "parallax/1/request/key"
	tagRequestSeal   = "parallax/1/request/seal"
	tagRequestDigest = "parallax/1/request/digest"
)

// MaxRequest is the longest request in bytes, sealed. Default: 8 KiB.
const MaxRequest = 8 << 10

// RoomKey is what an invite's room on the boards is masked under: HKDF(first epoch
// key, "room", gid, invite id). In mode approve it stands in the link in the place
// of a door key. Every member has it, no relay, and nobody who was removed before
// the invite was made, since the id is random.
func RoomKey(first *keys.EpochKey, gid wire.GroupID, invite [16]byte) keys.DoorKey {
	return keys.NewSecret[keys.RoleDoor](first.Derive(tagRoom, gid[:], invite[:]))
}

// RequestKey opens what newcomers ask by one invite: X25519 from HKDF(epoch key,
// "request/key", gid, invite id), of the epoch that was in use when the invite was
// made. Members of that epoch have it, others who hold the link have not.
func RequestKey(epoch *keys.EpochKey, gid wire.GroupID, invite [16]byte) keys.RequestPrivate {
	return keys.NewDHPrivate[keys.RoleRequest](epoch.Derive(tagRequestKey, gid[:], invite[:]))
}

// Request asks the admins to let a seat in, or takes that back. It says nothing of
// who counts: an admin's operation does.
type Request struct {
	Group        wire.GroupID
	Invite       [16]byte
	Made         time.Time // by the newcomer's clock: for people, and the request's end
	Withdrawn    bool
	Announcement *Announcement // version 1
	ByInvite     [64]byte      // by the invite key
	BySeat       [64]byte      // by the key that makes the seat
}

// body is the request without its signatures.
func (q *Request) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, q.Group[:]...)
	b = append(b, q.Invite[:]...)
	b = appendSeconds(b, q.Made)
	b = wire.AppendBool(b, q.Withdrawn)
	return wire.AppendBytes(b, q.Announcement.Append(nil))
}

// Append appends the request, names in clear: it is for sealing only.
func (q *Request) Append(b []byte) []byte {
	return append(append(q.body(b), q.ByInvite[:]...), q.BySeat[:]...)
}

// Digest is what the paths are compared by: H("request/digest", what stands before
// the signatures).
func (q *Request) Digest() wire.Digest { return wire.Hash(tagRequestDigest, q.body(nil)) }

// Sign sets Invite and both signatures.
func (q *Request) Sign(invite keys.InvitePrivate, seat keys.SigningPrivate) {
	q.Invite = InviteID(invite.Public())
	copy(q.ByInvite[:], invite.Sign(tagRequest, q.body(nil)))
	copy(q.BySeat[:], seat.Sign(tagRequestSeat, q.body(nil)))
}

// Verify checks that a holder of the link and the seat itself made it, and that
// the announcement is the seat's.
func (q *Request) Verify(v keys.Verify, invite keys.InvitePublic) error {
	if err := q.Announcement.Verify(v, keys.SigningPublic{}); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if body := q.body(nil); q.Invite != InviteID(invite) || !invite.Verify(v, q.ByInvite[:], tagRequest, body) ||
		!q.Announcement.Signing.Verify(v, q.BySeat[:], tagRequestSeat, body) {
		return fmt.Errorf("request of seat %s %w", q.Announcement.Seat.Short(), ErrBadSignature)
	}
	return nil
}

// ParseRequest reads what Append wrote and nothing else. It does not check the
// signatures: Verify does.
func ParseRequest(b []byte) (*Request, error) {
	q := new(Request)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(q.Group[:])
	r.Fixed(q.Invite[:])
	q.Made = readSeconds(r)
	q.Withdrawn = r.Bool()
	ann := r.Bytes(MaxRequest)
	r.Fixed(q.ByInvite[:])
	r.Fixed(q.BySeat[:])
	err := r.Done()
	if err == nil {
		q.Announcement, err = ParseAnnouncement(ann)
	}
	if err == nil && (q.Announcement.Group != q.Group || q.Announcement.Version != 1) {
		err = wire.ErrFormat
	}
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return q, nil
}

// Seal seals the request to the invite's request key, with an ephemeral key drawn
// from entropy: ephemeral public key 32 | ChaCha20-Poly1305(request).
func (q *Request) Seal(entropy io.Reader, to keys.RequestPublic) ([]byte, error) {
	var own keys.RequestPrivate
	if err := own.Draw(entropy); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	defer own.Zero()
	shared, err := own.DH(to)
	if err != nil {
		return nil, fmt.Errorf("request key: %w", err)
	}
	pub := own.Public()
	plain := q.Append(nil)
	defer clear(plain)
	return append(pub[:], sealOnce(requestSeal(shared, q.Group, q.Invite, q.Announcement.Seat, pub, to), plain)...), nil
}

// OpenRequest opens what is sealed to a request key, as the request of one seat by
// one invite. ErrSealedRequest: it is sealed to another, or altered.
func OpenRequest(b []byte, key keys.RequestPrivate, gid wire.GroupID, invite [16]byte, seat wire.Seat) (*Request, error) {
	var pub keys.RequestPublic
	if len(b) < len(pub) || len(b) > MaxRequest {
		return nil, fmt.Errorf("request of %d bytes: %w", len(b), wire.ErrFormat)
	}
	copy(pub[:], b)
	shared, err := key.DH(pub)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	plain, err := openOnce(requestSeal(shared, gid, invite, seat, pub, key.Public()), b[len(pub):])
	if err != nil {
		return nil, err
	}
	q, err := ParseRequest(plain)
	if err == nil && (q.Group != gid || q.Invite != invite || q.Announcement.Seat != seat) {
		err = fmt.Errorf("request of another seat, invite or group: %w", wire.ErrFormat)
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

func requestSeal(shared []byte, gid wire.GroupID, invite [16]byte, seat wire.Seat, own, to keys.RequestPublic) [32]byte {
	defer clear(shared)
	return keys.Derive(shared, tagRequestSeal, gid[:], invite[:], seat[:], own[:], to[:])
}

// sealOnce seals under a key that seals nothing else: ChaCha20-Poly1305 with a zero
// nonce.
func sealOnce(key [32]byte, plain []byte) []byte {
	defer clear(key[:])
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("member: the key has 32 bytes: " + err.Error())
	}
	return a.Seal(nil, make([]byte, a.NonceSize()), plain, nil)
}

// openOnce reverses sealOnce.
func openOnce(key [32]byte, sealed []byte) ([]byte, error) {
	defer clear(key[:])
	a, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("member: the key has 32 bytes: " + err.Error())
	}
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), sealed, nil)
	if err != nil {
		return nil, ErrSealedRequest
	}
	return plain, nil
}
