package member_test

import (
	"errors"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func exampleInvite() *member.InviteRecord {
	i := &member.InviteRecord{Group: fill(5), Key: inviteKey(8).Public(), Uses: 50, PerHour: 20, Expires: at.Add(7 * 24 * time.Hour), Role: member.RoleMember, Mode: member.ModeOpen}
	i.Sign(signer(1))
	return i
}

func TestInviteRecord(t *testing.T) {
	i := exampleInvite()
	b := i.Append(nil)
	strict(t, member.ParseInviteRecord, b, i)
	otherFormat(t, member.ParseInviteRecord, b)
	pin(t, b, 146, "5253a6ccab49526d4bed4fabeefd0d5437062f8c814bb8caf8beeec150a3ecb8")
	if !keys.Ed25519(signer(1).Public(), specInput("invite", b[:len(b)-64]), i.Signature[:]) {
		t.Error("the signature is not Sign(invite, body)")
	}
	if err := i.Verify(keys.Ed25519, signer(1).Public()); err != nil {
		t.Error(err)
	}
	if err := i.Verify(keys.Ed25519, signer(2).Public()); !errors.Is(err, member.ErrBadSignature) {
		t.Errorf("another admin's key: %v", err)
	}
	i.Uses++
	if err := i.Verify(keys.Ed25519, signer(1).Public()); !errors.Is(err, member.ErrBadSignature) {
		t.Errorf("one use more: %v", err)
	}
}

func TestInviteRecordRefused(t *testing.T) {
	for name, change := range map[string]func(*member.InviteRecord){
		"no uses":   func(i *member.InviteRecord) { i.Uses = 0 },
		"none/hour": func(i *member.InviteRecord) { i.PerHour = 0 },
		"no expiry": func(i *member.InviteRecord) { i.Expires = time.Time{} },
		"1969":      func(i *member.InviteRecord) { i.Expires = time.Unix(-1, 0) },
		"role 0":    func(i *member.InviteRecord) { i.Role = 0 },
		"admin":     func(i *member.InviteRecord) { i.Role = 3 },
	} {
		i := exampleInvite()
		change(i)
		if i.Check() == nil {
			t.Errorf("%s: Check takes it", name)
		}
		if _, err := member.ParseInviteRecord(i.Append(nil)); !errors.Is(err, wire.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseInviteRecord(f *testing.F) {
	fuzzObject(f, exampleInvite().Append(nil), member.ParseInviteRecord, func(i *member.InviteRecord) []byte { return i.Append(nil) })
}
