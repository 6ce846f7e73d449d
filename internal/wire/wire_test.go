package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// TestInput pins the encoding under every hash and signature.
func TestInput(t *testing.T) {
	got := hex.EncodeToString(Input("parallax/1/x", []byte{1, 2}, nil, []byte("abc")))
	want := "0c" + hex.EncodeToString([]byte("parallax/1/x")) + "00000002" + "0102" + "00000000" + "00000003" + "616263"
	if got != want {
		t.Errorf("Input is %s, want %s", got, want)
	}
	if d := Hash("parallax/1/x", []byte{1, 2}, nil, []byte("abc")); d != sha256.Sum256(Input("parallax/1/x", []byte{1, 2}, nil, []byte("abc"))) {
		t.Errorf("Hash is %s, not SHA-256 of Input", d)
	}
	if Hash("a", []byte("bc")) == Hash("ab", []byte("c")) || Hash("a", []byte("b"), []byte("c")) == Hash("a", []byte("bc")) {
		t.Error("two inputs meet under one hash")
	}
}

// TestInputInjective: Input can be read back, so it is injective.
func TestInputInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.StringMatching(`[a-z/0-9]{0,40}`).Draw(t, "tag")
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 20), 0, 5).Draw(t, "parts")
		r := NewReader(Input(tag, parts...))
		if got := string(r.Raw(int(r.U8()))); got != tag {
			t.Fatalf("tag %q reads back as %q", tag, got)
		}
		for i := range parts {
			if got := r.Bytes(20); !bytes.Equal(got, parts[i]) {
				t.Fatalf("part %d reads back as %x", i, got)
			}
		}
		if err := r.Done(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReaderStrict(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		read func(*Reader)
		want error
	}{
		"whole":      {[]byte{0, 0, 0, 1, 7}, func(r *Reader) { r.Bytes(1) }, nil},
		"short":      {[]byte{0, 0, 0, 2, 7}, func(r *Reader) { r.Bytes(9) }, ErrShort},
		"trailing":   {[]byte{1, 2}, func(r *Reader) { r.U8() }, ErrTrailing},
		"too long":   {[]byte{0, 0, 0, 9}, func(r *Reader) { r.Bytes(8) }, ErrTooLong},
		"bool":       {[]byte{2}, func(r *Reader) { r.Bool() }, ErrFormat},
		"count":      {[]byte{0, 0, 1, 0}, func(r *Reader) { r.Count(256, 4) }, ErrShort},
		"count cap":  {[]byte{0, 0, 1, 0}, func(r *Reader) { r.Count(255, 0) }, ErrTooLong},
		"sticks":     {[]byte{1}, func(r *Reader) { r.U64(); r.U8() }, ErrShort},
		"first wins": {nil, func(r *Reader) { r.Fail(ErrFormat); r.Fail(ErrShort) }, ErrFormat},
	} {
		r := NewReader(c.in)
		c.read(r)
		if err := r.Done(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestNumbersRoundTrip(t *testing.T) {
	b := AppendBool(AppendU64(AppendU32(AppendU16(nil, 0xfffe), 0xfffffffd), 1<<63), true)
	r := NewReader(AppendBytes(b, []byte("x")))
	if r.U16() != 0xfffe || r.U32() != 0xfffffffd || r.U64() != 1<<63 || !r.Bool() || string(r.Bytes(1)) != "x" || r.Done() != nil {
		t.Error("numbers do not read back")
	}
}

func TestLineage(t *testing.T) {
	l := NewLineage(7, [8]byte{1, 2, 3})
	if l.Ordinal() != 7 || l.String() != "00000000000000070102030000000000" {
		t.Errorf("lineage %s, ordinal %d", l, l.Ordinal())
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		n := len(r.Bytes(64)) + r.Count(64, 2)
		r.Bool()
		r.U16()
		if r.Done() == nil && n > len(b) {
			t.Fatal("read more than there was")
		}
	})
}
