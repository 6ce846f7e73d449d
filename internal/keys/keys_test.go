package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"parallax/internal/wire"
)

var testSeed = [32]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}

// TestNothingPrints: no verb and no marshaller shows a private key or secret.
func TestNothingPrints(t *testing.T) {
	secret := hex.EncodeToString(testSeed[:4])
	for name, v := range map[string]any{
		"signing":  NewPrivate[RoleMember](testSeed),
		"identity": NewDHPrivate[RoleIdentity](testSeed),
		"epoch":    NewSecret[RoleEpoch](testSeed),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, secret) || strings.Contains(out, "1, 2, 3") || strings.Contains(out, "1 2 3") {
				t.Errorf("%s printed by %s: %s", name, verb, out)
			}
		}
		if out, err := json.Marshal(v); err == nil {
			t.Errorf("%s became JSON: %s", name, out)
		}
	}
}

func TestSign(t *testing.T) {
	k := NewPrivate[RoleRelay](testSeed)
	sig := k.Sign("parallax/1/a", []byte("x"))
	pub := k.Public()
	if !pub.Verify(Ed25519, sig, "parallax/1/a", []byte("x")) {
		t.Error("own signature refused")
	}
	for name, ok := range map[string]bool{
		"another tag":   pub.Verify(Ed25519, sig, "parallax/1/b", []byte("x")),
		"another part":  pub.Verify(Ed25519, sig, "parallax/1/a", []byte("y")),
		"shorter":       pub.Verify(Ed25519, sig[:63], "parallax/1/a", []byte("x")),
		"another key":   RelayPublic{9}.Verify(Ed25519, sig, "parallax/1/a", []byte("x")),
		"parts shifted": pub.Verify(Ed25519, sig, "parallax/1/a", []byte("x"), nil),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
	if k.Seed() != testSeed || NewPrivate[RoleRelay](k.Seed()).Public() != pub {
		t.Error("seed does not read back")
	}
	k.Zero()
	if !k.IsZero() {
		t.Error("Zero left something")
	}
}

func TestDH(t *testing.T) {
	a, b := NewDHPrivate[RoleIdentity]([32]byte{1}), NewDHPrivate[RolePrekey]([32]byte{2})
	x, err := a.DH(b.Public())
	y, err2 := b.DH(a.Public())
	if err != nil || err2 != nil || !bytes.Equal(x, y) {
		t.Errorf("DH disagrees: %v %v", err, err2)
	}
	for _, low := range [][32]byte{{}, {1}} { // points of small order
		if _, err := a.DH(low); !errors.Is(err, ErrSmallOrder) {
			t.Errorf("point %x: %v, want ErrSmallOrder", low[:2], err)
		}
	}
	if a.Seed() != [32]byte{1} {
		t.Error("seed does not read back")
	}
}

func TestSecret(t *testing.T) {
	a, b := NewSecret[RoleDoor](testSeed), NewSecret[RoleDoor]([32]byte{2})
	c := NewSecret[RoleDoor](testSeed)
	if a.Equal(&b) || !a.Equal(&c) {
		t.Error("Equal is wrong")
	}
	if a.Derive("parallax/1/x") == a.Derive("parallax/1/y") || a.Derive("parallax/1/x") == b.Derive("parallax/1/x") {
		t.Error("two derivations meet")
	}
	if err := a.Set(testSeed[:31]); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("31 bytes: %v", err)
	}
	a.Zero()
	if !a.IsZero() || b.IsZero() {
		t.Error("Zero or IsZero is wrong")
	}
}

// TestDerive pins HKDF-SHA-256 with Input as info.
func TestDerive(t *testing.T) {
	got := Derive([]byte("secret"), "parallax/1/x", []byte("part"))
	if again := Derive([]byte("secret"), "parallax/1/x", []byte("part")); got != again || got == [32]byte{} {
		t.Error("Derive is not a function")
	}
	const want = "8e4f677af0fcd79ca787d8e407fcc95763c2acc120c282e8e3e760ddb6a65ac7"
	if h := hex.EncodeToString(got[:]); h != want {
		t.Errorf("Derive is %s, want %s", h, want)
	}
}

// Derive is the standard library's HKDF, whatever the lengths.
func TestDeriveIsHKDF(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, 33, 64, 65, 100, 127, 128, 129, 1000} {
		for _, secret := range [][]byte{nil, bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, n)} {
			part := bytes.Repeat([]byte{9}, n)
			want, err := hkdf.Key(sha256.New, secret, nil, string(wire.Input("tag", part, secret)), SeedSize)
			if err != nil {
				t.Fatal(err)
			}
			if got := Derive(secret, "tag", part, secret); !bytes.Equal(got[:], want) {
				t.Errorf("part of %d bytes, secret of %d: %x, want %x", n, len(secret), got, want)
			}
		}
	}
}
