package broadcast

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/keys"
)

func boardKeys(epoch byte) BoardKeys { return NewBoardKeys(epochKey(epoch).Expose(), testRelay) }

func TestBoardGolden(t *testing.T) {
	masked, sealed := boardKeys(0x10).Seal("genesis", 1, []byte("value"))
	if got := masked.String(); got != goldenName {
		t.Errorf("name %s", got)
	}
	if got := hex.EncodeToString(sealed); got != goldenSealed {
		t.Errorf("sealed %s", got)
	}
	if want := 24 + 4 + len("genesis") + 8 + 4 + len("value"); len(sealed) != want {
		t.Errorf("%d bytes, want %d", len(sealed), want)
	}
}

func TestBoardRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, 40, MaxEntryName).Draw(t, "name")
		version := rapid.Uint64().Draw(t, "version")
		value := rapid.SliceOfN(rapid.Byte(), 0, 500).Draw(t, "value")
		k := boardKeys(1)
		masked, sealed := k.Seal(name, version, value)
		again, same := k.Seal(name, version, value)
		if masked != again || !bytes.Equal(sealed, same) || masked != k.Name(name) {
			t.Fatal("sealing is not deterministic")
		}
		n, v, err := k.Open(masked, version, sealed)
		if err != nil || n != name || !bytes.Equal(v, value) {
			t.Fatal(n, v, err)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "byte")
		sealed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, _, err := k.Open(masked, version, sealed); !errors.Is(err, ErrSealed) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
	})
}

func TestBoardRefused(t *testing.T) {
	k := boardKeys(1)
	masked, sealed := k.Seal("welcome", 3, []byte("v"))
	otherMasked, otherSealed := k.Seal("genesis", 3, []byte("v"))
	relay2 := testRelay
	relay2[0] ^= 1
	for what, open := range map[string]func() error{
		"another name":     func() error { _, _, err := k.Open(otherMasked, 3, sealed); return err },
		"another's value":  func() error { _, _, err := k.Open(masked, 3, otherSealed); return err },
		"an older version": func() error { _, _, err := k.Open(masked, 2, sealed); return err },
		"another epoch":    func() error { k := boardKeys(2); _, _, err := k.Open(masked, 3, sealed); return err },
		"another relay": func() error {
			_, _, err := NewBoardKeys(epochKey(1).Expose(), relay2).Open(masked, 3, sealed)
			return err
		},
		"cut":        func() error { _, _, err := k.Open(masked, 3, sealed[:len(sealed)-1]); return err },
		"longer":     func() error { _, _, err := k.Open(masked, 3, append(bytes.Clone(sealed), 0)); return err },
		"nothing":    func() error { _, _, err := k.Open(masked, 3, nil); return err },
		"nonce only": func() error { _, _, err := k.Open(masked, 3, sealed[:24]); return err },
		"a value too long": func() error {
			m, s := k.Seal("n", 1, make([]byte, MaxEntryValue+1))
			_, _, err := k.Open(m, 1, s)
			return err
		},
		"a name too long": func() error {
			n := strings.Repeat("n", MaxEntryName+1)
			m, s := k.Seal(n, 1, nil)
			_, _, err := k.Open(m, 1, s)
			return err
		},
		"a name not in UTF-8": func() error { m, s := k.Seal("\xff", 1, nil); _, _, err := k.Open(m, 1, s); return err },
	} {
		if err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The longest entry fits the relay's limit and opens.
func TestBoardLongest(t *testing.T) {
	k := boardKeys(1)
	name := strings.Repeat("n", MaxEntryName)
	masked, sealed := k.Seal(name, 1, make([]byte, MaxEntryValue))
	if len(sealed) != MaxBoardValue {
		t.Fatalf("%d bytes", len(sealed))
	}
	if _, _, err := k.Open(masked, 1, sealed); err != nil {
		t.Fatal(err)
	}
}

// Equal entries differ from relay to relay, and every other entry has another
// nonce, so that no stream is used twice.
func TestBoardApart(t *testing.T) {
	seen := map[string]string{}
	for r := range byte(3) {
		k := NewBoardKeys(epochKey(1).Expose(), keys.RelayPublic{r})
		for _, name := range []string{"", "a", "b"} {
			for version := range uint64(3) {
				for _, value := range []string{"", "a", "b"} {
					what := fmt.Sprintf("relay %d %q version %d %q", r, name, version, value)
					_, sealed := k.Seal(name, version, []byte(value))
					nonce := string(sealed[:24])
					if seen[nonce] != "" {
						t.Fatalf("%s and %s have one nonce", seen[nonce], what)
					}
					seen[nonce] = what
				}
			}
		}
	}
}

func TestBoardKeysDoNotPrint(t *testing.T) {
	k := boardKeys(1)
	secret := epochKey(1).Derive(tagBoardName, testRelay[:])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, k); s != "[secret]" || strings.Contains(s, hex.EncodeToString(secret[:4])) {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func FuzzBoardOpen(f *testing.F) {
	k := boardKeys(1)
	masked, sealed := k.Seal("genesis", 1, []byte("value"))
	sum := sha256.Sum256(sealed)
	f.Add(masked[:], uint64(1), sealed)
	f.Add(sum[:], uint64(1), sealed)
	f.Fuzz(func(t *testing.T, name []byte, version uint64, sealed []byte) {
		var m [32]byte
		copy(m[:], name)
		n, v, err := k.Open(m, version, sealed)
		if err != nil {
			return
		}
		if m2, s2 := k.Seal(n, version, v); m2 != m || !bytes.Equal(s2, sealed) {
			t.Fatal("another encoding")
		}
	})
}
