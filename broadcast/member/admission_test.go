package member_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func inviteKey(n byte) keys.InvitePrivate { return new(keys.InvitePrivate).FromSeed(fill(n)) }

func exampleAdmission() *member.Admission {
	a := &member.Admission{Group: fill(5), Seat: fill(6), Announcement: fill(7)}
	a.Sign(inviteKey(8))
	return a
}

func TestAdmission(t *testing.T) {
	a := exampleAdmission()
	b := a.Append(nil)
	strict(t, member.ParseAdmission, b, a)
	otherFormat(t, member.ParseAdmission, b)
	pin(t, b, 177, "6f8e48609aaddf03d62f4eb6c7a284d1733db542720044411b9230e250f2f58b")
	key := inviteKey(8).Public()
	id := specHash("invite/id", key[:])
	if !bytes.Equal(a.Invite[:], id[:16]) {
		t.Errorf("invite id %x", a.Invite)
	}
	if !keys.Ed25519(key, specInput("admission", a.Group[:], a.Invite[:], a.Seat[:], a.Announcement[:]), a.Signature[:]) {
		t.Error("the signature is not Sign(admission, gid, invite id, seat, announcement digest)")
	}
	if a.Digest() != wire.Digest(specHash("admission/digest", b[:len(b)-64])) {
		t.Error("the digest is not H(admission/digest, what stands before the signature)")
	}
}

func TestAdmissionVerify(t *testing.T) {
	b := exampleAdmission().Append(nil)
	a, err := member.ParseAdmission(b)
	if err != nil || a.Verify(keys.Ed25519, inviteKey(8).Public()) != nil {
		t.Fatal("a good admission does not verify", err)
	}
	if err := a.Verify(keys.Ed25519, inviteKey(9).Public()); !errors.Is(err, member.ErrBadSignature) {
		t.Errorf("another invite's key: %v", err)
	}
	for i := 1; i < len(b); i++ {
		c := slices.Clone(b)
		c[i] ^= 0x40
		a, err := member.ParseAdmission(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Verify(keys.Ed25519, inviteKey(8).Public()); !errors.Is(err, member.ErrBadSignature) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
}

func FuzzParseAdmission(f *testing.F) {
	fuzzObject(f, exampleAdmission().Append(nil), member.ParseAdmission, func(a *member.Admission) []byte { return a.Append(nil) })
}
