package member_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func exampleRequest() *member.Request {
	a := exampleAnnouncement(1)
	q := &member.Request{Group: a.Group, Made: at, Announcement: a}
	q.Sign(inviteKey(8), signer(1))
	return q
}

func TestRequest(t *testing.T) {
	q := exampleRequest()
	b := q.Append(nil)
	strict(t, member.ParseRequest, b, q)
	otherFormat(t, member.ParseRequest, b)
	pin(t, b, 1833, "f16aef41ba840c578ce84ecce7339c93f46e44ce9b84c315664d6f89754beb50")
	body := b[:len(b)-128]
	if !keys.Ed25519(inviteKey(8).Public(), specInput("request", body), q.ByInvite[:]) || !keys.Ed25519(signer(1).Public(), specInput("request/seat", body), q.BySeat[:]) {
		t.Error("the signatures are not Sign(request, body) and Sign(request/seat, body)")
	}
	if q.Digest() != wire.Digest(specHash("request/digest", body)) {
		t.Error("the digest is not H(request/digest, body)")
	}
	if err := q.Verify(keys.Ed25519, inviteKey(8).Public()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*member.Request){
		"withdrawn by another": func(q *member.Request) {
			q.Withdrawn = true
			q.ByInvite = [64]byte(inviteKey(8).Sign("parallax/1/request", body))
		},
		"another seat's": func(q *member.Request) { q.Sign(inviteKey(8), signer(2)) },
		"without the link": func(q *member.Request) {
			q.Sign(inviteKey(9), signer(1))
			q.Invite = member.InviteID(inviteKey(8).Public())
		},
		"another invite": func(q *member.Request) { q.Sign(inviteKey(9), signer(1)) },
		"an announcement that is not signed": func(q *member.Request) {
			q.Announcement.Signature[0]++
			q.Sign(inviteKey(8), signer(1))
		},
	} {
		q := exampleRequest()
		if change(q); q.Verify(keys.Ed25519, inviteKey(8).Public()) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// A request opens with its invite's request key, for its seat and its invite.
func TestRequestSealed(t *testing.T) {
	q := exampleRequest()
	epoch := keys.NewSecret[keys.RoleEpoch](fill(0xe0))
	id := q.Invite
	key := member.RequestKey(&epoch, q.Group, id)
	sealed, err := q.Seal(rand.NewChaCha8([32]byte{1}), key.Public())
	if err != nil {
		t.Fatal(err)
	}
	pin(t, sealed, 32+1833+16, "bc9fbf571fedb19c7c1d11ca6e9a311a9a4991cd1ca353c56e88ec0f70d1de8b")
	again, _ := q.Seal(rand.NewChaCha8([32]byte{2}), key.Public())
	if bytes.Equal(sealed[:32], again[:32]) {
		t.Error("one ephemeral key twice")
	}
	open, err := member.OpenRequest(sealed, key, q.Group, id, q.Announcement.Seat)
	if err != nil || open.Digest() != q.Digest() {
		t.Fatalf("it does not open: %v", err)
	}
	other := keys.NewSecret[keys.RoleEpoch](fill(0xe1))
	if _, err := member.OpenRequest(sealed, member.RequestKey(&other, q.Group, id), q.Group, id, q.Announcement.Seat); !errors.Is(err, member.ErrSealedRequest) {
		t.Errorf("under another epoch: %v", err)
	}
	if _, err := member.OpenRequest(sealed, key, q.Group, id, wire.Seat{1}); !errors.Is(err, member.ErrSealedRequest) {
		t.Errorf("as another seat's: %v", err)
	}
	if _, err := member.OpenRequest(sealed, key, q.Group, [16]byte{1}, q.Announcement.Seat); !errors.Is(err, member.ErrSealedRequest) {
		t.Errorf("by another invite: %v", err)
	}
	for i := 0; i < len(sealed); i += 7 {
		x := bytes.Clone(sealed)
		x[i] ^= 1
		if _, err := member.OpenRequest(x, key, q.Group, id, q.Announcement.Seat); err == nil {
			t.Fatalf("byte %d may change", i)
		}
	}
	if _, err := q.Seal(rand.NewChaCha8([32]byte{1}), keys.RequestPublic{}); !errors.Is(err, keys.ErrSmallOrder) {
		t.Errorf("sealed to a key of small order: %v", err)
	}
}

// The keys of a room are those of section 8.4.
func TestRoomKeys(t *testing.T) {
	epoch := keys.NewSecret[keys.RoleEpoch](fill(0xe0))
	room := member.RoomKey(&epoch, fill(5), [16]byte{7})
	pin(t, room.Expose(), 32, "315a0a98c84bc6d6d74266d9dd15d2287c6851f22d62ade0ef147a4ccca8d378")
	pub := member.RequestKey(&epoch, fill(5), [16]byte{7}).Public()
	pin(t, pub[:], 32, "c8944fb0ecabefdd6b85fd9bcecd8af545b2679108470cfd7e21c4be57349e5b")
}

func exampleDecision(admitted bool) *member.Decision {
	q := exampleRequest()
	d := &member.Decision{Group: q.Group, Invite: q.Invite, Seat: q.Announcement.Seat, Announcement: q.Announcement.Digest(), Made: at, Admitted: admitted, Reason: "who are you?"}
	if d.Sealed = []byte{}; admitted {
		d.Reason, d.Sealed = "", bytes.Repeat([]byte{9}, 1200)
	}
	d.Sign(signer(2))
	return d
}

func TestDecision(t *testing.T) {
	for _, c := range []struct {
		admitted bool
		size     int
		golden   string
	}{
		{false, 238, "436bdf648c9ae674ec064a058092cb105dda4151a0c72153d1db86add4319e2c"},
		{true, 1426, "1d8d2b36eebd482dc170854a6e032bf74662ed3e940e6bb64194e7cfc34f4a59"},
	} {
		d := exampleDecision(c.admitted)
		b := d.Append(nil)
		strict(t, member.ParseDecision, b, d)
		otherFormat(t, member.ParseDecision, b)
		pin(t, b, c.size, c.golden)
		if !keys.Ed25519(signer(2).Public(), specInput("decision", b[:len(b)-64]), d.Signature[:]) {
			t.Error("the signature is not Sign(decision, body)")
		}
		if err := d.Verify(keys.Ed25519); err != nil {
			t.Error(err)
		}
		d.Admitted = !d.Admitted
		if err := d.Verify(keys.Ed25519); !errors.Is(err, member.ErrBadSignature) {
			t.Errorf("the other way round: %v", err)
		}
		if _, err := member.ParseDecision(d.Append(nil)); !errors.Is(err, wire.ErrFormat) {
			t.Errorf("keys beside a refusal, or none: %v", err)
		}
	}
	d := exampleDecision(false)
	d.Reason = "two\nlines"
	if _, err := member.ParseDecision(d.Append(nil)); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("a reason of two lines: %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	fuzzObject(f, exampleRequest().Append(nil), member.ParseRequest, func(q *member.Request) []byte { return q.Append(nil) })
}

func FuzzParseDecision(f *testing.F) {
	fuzzObject(f, exampleDecision(true).Append(nil), member.ParseDecision, func(d *member.Decision) []byte { return d.Append(nil) })
}

// A link of mode approve carries the request key behind its role; one of another
// mode has none.
func TestLinkToAsk(t *testing.T) {
	i := exampleInvitation()
	i.Mode, i.Requests = member.ModeApprove, keys.RequestPublic(fill(0x77))
	got, err := member.ParseLink(i.Link())
	if err != nil || got.Mode != member.ModeApprove || got.Requests != i.Requests {
		t.Fatalf("%v, %+v", err, got)
	}
	open := exampleInvitation()
	open.Expires = i.Expires
	a, b := unlink(t, i.Link()), unlink(t, open.Link())
	if len(a) != len(b)+32 || a[3+4*32+8] != b[3+4*32+8]+16 {
		t.Errorf("%d and %d bytes, roles %d and %d", len(a), len(b), a[3+4*32+8], b[3+4*32+8])
	}
	i.Requests = keys.RequestPublic{}
	if i.Check() == nil {
		t.Error("without a request key")
	}
	open.Mode = member.ModeClosed
	if open.Check() == nil {
		t.Error("of a closed group")
	}
}
