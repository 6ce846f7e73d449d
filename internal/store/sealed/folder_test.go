package sealed

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parallax/internal/store"
	"parallax/internal/wire"
)

// counting is entropy that is the same in every run.
type counting struct{ n byte }

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		c.n++
		b[i] = c.n
	}
	return len(b), nil
}

var cheap = Cost{Memory: 64, Passes: 1, Lanes: 2}

func answer(p string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(p), nil } }

// The bytes of both forms and of a sealed record.
func TestGolden(t *testing.T) {
	var e counting
	k, err := NewFolderKey(&e)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := k.encode(nil, cheap, &e)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.encode([]byte("correct horse"), cheap, &e)
	if err != nil {
		t.Fatal(err)
	}
	value := newKey(0x0102, k.key).seal(nil, bytes.Repeat([]byte{9}, nonceSize), []byte("record"), []byte("value"))
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"plain":  {plain, goldenPlain},
		"sealed": {sealed, goldenSealed},
		"value":  {value, goldenValue},
	} {
		if hex.EncodeToString(c.got) != c.want {
			t.Errorf("%s is %x", name, c.got)
		}
	}
}

const (
	goldenPlain  = "01000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20a4caca4eebff9ad3"
	goldenSealed = "01010000004000000001022122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f4041424344454647486f0b43299c819171e79fb57f01b6f280d6c121a3aa6ee38191bbb248ec7a9a608ca6b7853c0f0b5a7135964c8e8df19b6de3e90a1d4f92fd"
	goldenValue  = "0102090909090909090909090909090909090909090909090909585252c16eb6d03a6e980b07e92afd81396a0e5ea8"
)

func TestFolderKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	k := testKey(t)
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Contains(s, fmt.Sprint(k.key[0])+" ") || s != strings.Repeat("folder key ", 4)[:43] {
		t.Errorf("printed as %q", s)
	}
	if _, _, err := LoadFolderKey(path, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	load := func(ask func() ([]byte, error), wantSealed bool, want error) {
		t.Helper()
		got, sealed, err := LoadFolderKey(path, ask)
		if !errors.Is(err, want) || sealed != wantSealed || err == nil && got.key != k.key {
			t.Errorf("sealed %v, %v; want %v, %v", sealed, err, wantSealed, want)
		}
	}
	write := func(passphrase []byte) {
		t.Helper()
		if err := k.Write(path, passphrase, cheap, &counting{}); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		raw, err := os.ReadFile(path)
		if err != nil || bytes.Contains(raw, k.key[:]) != (passphrase == nil) {
			t.Errorf("the file does not hold what it should (%v)", err)
		}
	}
	never := func() ([]byte, error) { t.Error("asked in vain"); return nil, nil }
	write(nil)
	load(never, false, nil)
	write([]byte("one"))
	load(answer("one"), true, nil)
	load(answer("two"), true, ErrPassphrase)
	load(answer(""), true, ErrPassphrase)
	load(nil, true, ErrNoPassphrase)
	load(func() ([]byte, error) { return nil, nil }, true, ErrNoPassphrase)
	load(func() ([]byte, error) { return nil, io.ErrNoProgress }, true, io.ErrNoProgress)
	write([]byte("two"))
	load(answer("two"), true, nil)
	load(answer("one"), true, ErrPassphrase)
	write(nil)
	load(never, false, nil)
	for _, p := range [][]byte{{}, make([]byte, MaxPassphrase+1)} {
		if err := k.Write(path, p, cheap, &counting{}); !errors.Is(err, ErrPassphraseLength) {
			t.Errorf("passphrase of %d bytes: %v", len(p), err)
		}
	}
	load(never, false, nil) // and the file is as it was
}

func TestFolderKeyDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	for _, passphrase := range [][]byte{nil, []byte("one")} {
		if err := testKey(t).Write(path, passphrase, cheap, &counting{}); err != nil {
			t.Fatal(err)
		}
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string][]byte{"empty": {}, "cut": good[:len(good)-1], "long": append(bytes.Clone(good), 0), "huge": make([]byte, 4096), "check only": withCheck(nil)}
		for i := range good {
			b := bytes.Clone(good)
			b[i] ^= 0x80
			bad[fmt.Sprintf("byte %d", i)] = b
		}
		for name, b := range bad {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := LoadFolderKey(path, answer("one"))
			if name == "byte 0" {
				if f, ok := errors.AsType[*store.FormatError](err); !ok || f.Found != 0x81 || f.Path != path {
					t.Errorf("%s: %v", name, err)
				}
			} else if d, ok := errors.AsType[*store.CorruptError](err); !ok || d.Path != path {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A file may ask for no more than the limits, whatever its checksum.
func TestCostBounded(t *testing.T) {
	for _, c := range []Cost{{maxMemory + 1, 1, 1}, {64, maxPasses + 1, 1}, {8 * 65, 1, 65}, {7, 1, 1}, {64, 1, 9}, {64, 0, 1}, {64, 1, 0}} {
		b := []byte{folderFormat, formSealed}
		b = wire.AppendU32(b, c.Memory)
		b = wire.AppendU32(b, c.Passes)
		b = append(b, c.Lanes)
		b = withCheck(append(b, make([]byte, saltSize+nonceSize+keySize+16)...))
		var d *store.CorruptError
		if _, err := parseFolderKey("f", b); !errors.As(err, &d) {
			t.Errorf("%+v: %v", c, err)
		}
		if c.Memory != 0 && c.Passes != 0 && c.Lanes != 0 {
			if _, err := testKey(t).encode([]byte("x"), c, &counting{}); err == nil {
				t.Errorf("%+v was written", c)
			}
		}
	}
	var d Cost
	d.setDefaults()
	if !d.bounded() || d != (Cost{64 << 10, 3, 4}) {
		t.Errorf("default %+v", d)
	}
}

func FuzzParseFolderKey(f *testing.F) {
	k := &FolderKey{}
	for _, p := range [][]byte{nil, []byte("one")} {
		b, err := k.encode(p, cheap, &counting{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-checkSize], true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, check bool) {
		if check {
			b = withCheck(bytes.Clone(b))
		}
		p, err := parseFolderKey("f", b)
		if err == nil && (p.sealed && (!p.cost.bounded() || len(p.salt) != saltSize || len(p.nonce) != nonceSize || len(p.box) != keySize+16) || len(b) > maxFolderFile) {
			t.Errorf("taken: %+v of %x", p, b)
		}
	})
}

func FuzzParseState(f *testing.F) {
	s := &Store{ring: ring{folder: newKey(0, [keySize]byte{1})}}
	f.Add([]byte{0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, plain []byte) {
		raw := s.ring.folder.aead.Seal(append([]byte{stateFormat}, make([]byte, nonceSize)...), make([]byte, nonceSize), plain, stateAD)
		current, previous, err := s.parseState(raw)
		if err == nil && (current == nil || current.id == 0 || previous != nil && (previous.id == 0 || previous.id == current.id)) {
			t.Errorf("taken: %x", plain)
		}
	})
}
