package member

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

func someEpochs(n int) (list []Epoch) {
	for i := range n {
		list = append(list, Epoch{Number: FirstEpoch + uint64(i)<<32, Key: keys.NewSecret[keys.RoleEpoch]([32]byte{byte(i + 1)})})
	}
	return list
}

// TestWayBack: who made the announcement opens it, and nobody else.
func TestWayBack(t *testing.T) {
	m := laidDown(t, 2)
	a, o := m.keyring.ann, m.keyring.newest()
	w, err := SealWayBack(m.entropy, a, someEpochs(3))
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseWayBack(w.Append(nil))
	if err != nil || !bytes.Equal(again.Append(nil), w.Append(nil)) {
		t.Fatalf("it reads as another: %v", err)
	}
	list, err := again.open(o, m.keyring.identity, m.gid, m.self)
	if err != nil || len(list) != 3 || list[2].Number != 2<<32|FirstEpoch || !list[2].Key.Equal(&someEpochs(3)[2].Key) {
		t.Fatalf("%d epochs, %v", len(list), err)
	}
	other := keys.NewDHPrivate[keys.RoleIdentity]([32]byte{9})
	for what, open := range map[string]func(w WayBack) error{
		"another identity": func(w WayBack) error { _, err := w.open(o, other, m.gid, m.self); return err },
		"other prekeys": func(w WayBack) error {
			_, err := w.open(m.drawPrekeys(9), m.keyring.identity, m.gid, m.self)
			return err
		},
		"another seat":  func(w WayBack) error { _, err := w.open(o, m.keyring.identity, m.gid, wire.Seat{1}); return err },
		"another group": func(w WayBack) error { _, err := w.open(o, m.keyring.identity, wire.GroupID{1}, m.self); return err },
		"another announcement": func(w WayBack) error {
			w.Announcement[0] ^= 1
			_, err := w.open(o, m.keyring.identity, m.gid, m.self)
			return err
		},
		"an altered key": func(w WayBack) error {
			w.Sealed = append([]byte{w.Sealed[0] ^ 1}, w.Sealed[1:]...)
			_, err := w.open(o, m.keyring.identity, m.gid, m.self)
			return err
		},
		"an altered secret": func(w WayBack) error {
			w.Ciphertext[7] ^= 1
			_, err := w.open(o, m.keyring.identity, m.gid, m.self)
			return err
		},
		"a key of small order": func(w WayBack) error {
			w.Ephemeral = [32]byte{}
			_, err := w.open(o, m.keyring.identity, m.gid, m.self)
			return err
		},
	} {
		if open(*w) == nil {
			t.Errorf("it opens with %s", what)
		}
	}
	if w2, _ := SealWayBack(m.entropy, a, someEpochs(3)); w2.Ephemeral == w.Ephemeral {
		t.Error("an ephemeral key is used twice")
	}
	if w, err := SealWayBack(m.entropy, a, someEpochs(MaxEpochs+1)); err == nil {
		if _, err := w.open(o, m.keyring.identity, m.gid, m.self); !errors.Is(err, wire.ErrTooLong) && !errors.Is(err, wire.ErrFormat) {
			t.Errorf("more epochs than it holds: %v", err)
		}
	}
}

// TestWayBackGolden pins the layout.
func TestWayBackGolden(t *testing.T) {
	w := &WayBack{Announcement: wire.Digest{1}, Ephemeral: [32]byte{2}, Sealed: []byte{4, 5, 6}}
	w.Ciphertext[0] = 3
	b := w.Append(nil)
	sum := sha256.Sum256(b)
	if got, want := hex.EncodeToString(sum[:]), "bb12ac87522b560087c4080e2bc914796d265acd2449398ebfaab0f556296cda"; len(b) != 1+32+32+1088+4+3 || got != want {
		t.Errorf("%d bytes, hash %s", len(b), got)
	}
}

func FuzzParseWayBack(f *testing.F) {
	w := &WayBack{Sealed: make([]byte, 57)}
	f.Add(w.Append(nil))
	f.Add([]byte{objectFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWayBack(b)
		if err == nil && !bytes.Equal(w.Append(nil), b) {
			t.Error("it reads as another")
		}
	})
}
