package proto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"parallax/broadcast"
)

func TestFrameGolden(t *testing.T) {
	got := AppendFrame([]byte{0xee}, Encode(Ping{7}))
	if s := hex.EncodeToString(got); s != "ee"+"00000009"+"10"+"0000000000000007" {
		t.Error(s)
	}
	if s := hex.EncodeToString(AppendFrame(nil, Encode(Bye{}))); s != "00000001"+"11" {
		t.Error(s)
	}
}

func TestReadFrames(t *testing.T) {
	big := Encode(Post{Envelope: make([]byte, MaxEnvelope), Slots: bytes.Repeat([]byte{1, 2, 3}, 100_000)})
	frames := []broadcast.Frame{Encode(Ping{1}), Encode(Bye{}), big, Encode(Ack{2})}
	var stream []byte
	for _, f := range frames {
		stream = AppendFrame(stream, f)
	}
	for name, r := range map[string]io.Reader{
		"whole":     bytes.NewReader(stream),
		"halves":    iotest.HalfReader(bytes.NewReader(stream)),
		"data, EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		for i, want := range frames {
			got, err := ReadFrame(r, MaxBody)
			if err != nil || got.Type != want.Type || !bytes.Equal(got.Body, want.Body) {
				t.Fatalf("%s, frame %d: type 0x%02x, %d bytes, %v", name, i, got.Type, len(got.Body), err)
			}
		}
		if _, err := ReadFrame(r, MaxBody); err != io.EOF {
			t.Fatalf("%s: at the end: %v", name, err)
		}
	}
}

func TestReadFrameCut(t *testing.T) {
	stream := AppendFrame(nil, Encode(Ping{1}))
	for n := 1; n < len(stream); n++ {
		if _, err := ReadFrame(bytes.NewReader(stream[:n]), MaxBody); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestReadFrameRefused(t *testing.T) {
	read := func(s string) (broadcast.Frame, error) {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return ReadFrame(bytes.NewReader(b), MaxBody)
	}
	if _, err := read("00000000" + "10"); !errors.Is(err, ErrFrameEmpty) {
		t.Error(err)
	}
	f, err := read("0000000a" + "10")
	if !errors.Is(err, ErrFrameTooLong) || f.Type != TypePing {
		t.Error(f, err)
	}
	if r := RefusalOf(err); r.Code != CodeTooLarge {
		t.Error(r)
	}
	if _, err := read("ffffffff" + "09"); !errors.Is(err, ErrFrameTooLong) {
		t.Error(err)
	}
	// The driver's own limit counts, whatever the type may have.
	if _, err := ReadFrame(bytes.NewReader(AppendFrame(nil, Encode(Ping{1}))), func(uint8) int { return 7 }); !errors.Is(err, ErrFrameTooLong) {
		t.Error(err)
	}
}

// widest remembers the longest buffer it was asked to fill.
type widest struct {
	r   io.Reader
	max int
}

func (w *widest) Read(p []byte) (int, error) {
	w.max = max(w.max, len(p))
	return w.r.Read(p)
}

// A stranger who only claims a long frame gets little memory for it.
func TestReadFrameMemory(t *testing.T) {
	for _, sent := range []int{0, 1000, firstRead - 1, firstRead, 3 * firstRead, 1 << 20} {
		claim := append([]byte{0, 0x40, 0, 0, TypePost}, make([]byte, sent)...)
		r := widest{r: bytes.NewReader(claim)}
		if _, err := ReadFrame(&r, MaxBody); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		if r.max > max(firstRead, 2*sent) {
			t.Errorf("%d bytes made room for %d", sent, r.max)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, s := range samples() {
		f.Add(AppendFrame(nil, Encode(s.m)))
	}
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ReadFrame(bytes.NewReader(b), MaxBody)
		if err != nil {
			return
		}
		if again := AppendFrame(nil, frame); !bytes.HasPrefix(b, again) {
			t.Fatal("another encoding")
		}
	})
}
