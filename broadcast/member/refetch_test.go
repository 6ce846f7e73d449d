package member

import (
	"bytes"
	"encoding/hex"
	"testing"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// TestRefetchGolden pins the bodies of a refetch and of an answer.
func TestRefetchGolden(t *testing.T) {
	zeros := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	span := Span{Seat: wire.Seat{1}, Incarnation: wire.Incarnation{2}, From: 3, To: 4}
	spanHex := "01" + zeros(31) + "02" + zeros(7) + "0000000000000003" + "0000000000000004"
	again := &Again{Header: broadcast.Header{Epoch: 9, Seat: wire.Seat{1}, Incarnation: wire.Incarnation{2}, Sequence: 3},
		Sealed: [broadcast.SealedHeaderSize]byte{5}, Key: keys.NewSecret[keys.RoleContent]([32]byte{6}), Content: []byte("text")}
	for name, c := range map[string]struct{ got, want string }{
		"operations": {hex.EncodeToString(AppendRefetch(nil, &Refetch{Operations: []wire.Digest{{7}}})), "0101" + "07" + zeros(31)},
		"messages":   {hex.EncodeToString(AppendRefetch(nil, &Refetch{Messages: []Span{span}})), "0201" + spanHex},
		"copies":     {hex.EncodeToString(AppendRefetch(nil, &Refetch{Copies: []wire.Digest{{7}}})), "0301" + "07" + zeros(31)},
		"answer": {hex.EncodeToString(AppendAnswer(nil, &Answer{Messages: []*Again{again}, Nothing: []Span{span}})),
			"01" + "0000000000000009" + "01" + zeros(31) + "02" + zeros(7) + "0000000000000003" + "05" + zeros(73) + "06" + zeros(31) +
				"00000004" + "74657874" + "01" + spanHex},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s", name, c.got)
		}
	}
	for name, bad := range map[string]string{
		"what": "0401" + spanHex, "no copies": "0300", "many copies": "0341" + zeros(65*32), "empty": "", "none": "0200", "no operations": "0100", "many": "0211", "from zero": "0201" + zeros(40) + zeros(8) + zeros(8),
		"backwards": "0201" + zeros(40) + "0000000000000004" + "0000000000000003", "longer": "0201" + spanHex + "00",
	} {
		if _, err := ParseRefetch(unhex(t, bad)); err == nil {
			t.Errorf("a refetch is taken: %s", name)
		}
	}
	for name, bad := range map[string]string{"empty": "", "nothing": "0000", "many": "4100", "longer": "0001" + spanHex + "00"} {
		if _, err := ParseAnswer(unhex(t, bad)); err == nil {
			t.Errorf("an answer is taken: %s", name)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnswerFits: an answer with the longest content and all spans fits into a
// content beside the largest view.
func TestAnswerFits(t *testing.T) {
	a := &Answer{Messages: []*Again{{Header: broadcast.Header{Sequence: 1}, Content: make([]byte, MaxAgainContent)}}}
	for range MaxRefetchSpans {
		a.Nothing = append(a.Nothing, Span{From: 1, To: 1})
	}
	b := AppendAnswer(nil, a)
	if len(b) != MaxBody {
		t.Errorf("%d bytes, a body may have %d", len(b), MaxBody)
	}
	if _, err := ParseAnswer(b); err != nil {
		t.Error(err)
	}
}

func FuzzRefetch(f *testing.F) {
	f.Add(AppendRefetch(nil, &Refetch{Operations: []wire.Digest{{7}}}))
	f.Add(AppendRefetch(nil, &Refetch{Copies: []wire.Digest{{7}, {8}}}))
	f.Add(AppendRefetch(nil, &Refetch{Messages: []Span{{From: 1, To: 2}}}))
	f.Add(AppendAnswer(nil, &Answer{Messages: []*Again{{Header: broadcast.Header{Sequence: 1}, Content: []byte("x")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := ParseRefetch(b); err == nil && !bytes.Equal(AppendRefetch(nil, q), b) {
			t.Errorf("%x reads as what is written %x", b, AppendRefetch(nil, q))
		}
		if a, err := ParseAnswer(b); err == nil && !bytes.Equal(AppendAnswer(nil, a), b) {
			t.Errorf("%x reads as what is written %x", b, AppendAnswer(nil, a))
		}
	})
}

// TestResealedDigest: D follows from what is passed on, and from nothing else of
// one D.
func TestResealedDigest(t *testing.T) {
	gid, epoch := wire.GroupID{1}, keys.NewSecret[keys.RoleEpoch]([32]byte{2})
	content := keys.NewSecret[keys.RoleContent]([32]byte{3})
	h := broadcast.Header{Epoch: 1, Seat: wire.Seat{4}, Sequence: 5, Carriers: 3}
	for _, size := range []int{0, 1, 255, 256, 4000} {
		plain := bytes.Repeat([]byte{0x80}, size)
		envelope, d, err := broadcast.SealEnvelope(gid, &epoch, h, &content, plain)
		if err != nil {
			t.Fatal(err)
		}
		a := &Again{Header: h, Sealed: [broadcast.SealedHeaderSize]byte(envelope), Key: content, Content: plain}
		a.Header.Carriers = 0 // it stands in the sealed header
		if got, err := a.Digest(gid); err != nil || got != d {
			t.Errorf("%d bytes: %s, want %s, %v", size, got, d, err)
		}
		for name, change := range map[string]func(*Again){
			"content":  func(a *Again) { a.Content = append(bytes.Clone(a.Content), 1) },
			"key":      func(a *Again) { a.Key = keys.NewSecret[keys.RoleContent]([32]byte{9}) },
			"sealed":   func(a *Again) { a.Sealed[0] ^= 1 },
			"seat":     func(a *Again) { a.Header.Seat[0] ^= 1 },
			"sequence": func(a *Again) { a.Header.Sequence++ },
			"epoch":    func(a *Again) { a.Header.Epoch++ },
		} {
			other := *a
			change(&other)
			if got, _ := other.Digest(gid); got == d {
				t.Errorf("another %s gives the same D", name)
			}
		}
	}
}
