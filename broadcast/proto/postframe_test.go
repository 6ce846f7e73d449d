package proto

import (
	"bytes"
	"testing"

	"parallax/broadcast"
	"parallax/internal/wire"
)

// TestPostFrame: a Post laid out in place has the bytes that Encode makes of it,
// with and without list, exceptions and slots.
func TestPostFrame(t *testing.T) {
	for name, m := range map[string]Post{
		"bare":  {PostID: wire.PostID{1}, Envelope: bytes.Repeat([]byte{2}, broadcast.MinEnvelope)},
		"slots": {Nonce: [24]byte{3}, Envelope: []byte{4}, Slots: bytes.Repeat([]byte{5}, 5*broadcast.StandingSize)},
		"all": {Hint: [8]byte{6}, Fanout: wire.Digest{7}, Mailboxes: []wire.MailboxID{{8}, {9}}, Exceptions: broadcast.Exceptions{{Index: 1, Class: broadcast.FirstContact}},
			Envelope: []byte{10}, Slots: bytes.Repeat([]byte{11}, broadcast.StandingSize+broadcast.FirstContactSize)},
	} {
		t.Run(name, func(t *testing.T) {
			f := NewPostFrame(m, len(m.Envelope), len(m.Slots))
			if !bytes.Equal(f.Envelope, make([]byte, len(m.Envelope))) || !bytes.Equal(f.Slots, make([]byte, len(m.Slots))) {
				t.Error("the places are not empty")
			}
			copy(f.Envelope, m.Envelope)
			copy(f.Slots, m.Slots)
			m.Signature = Signature{12, 63: 13}
			f.Signature = m.Signature
			if f.Digest() != m.Digest() {
				t.Error("another digest")
			}
			if got, want := f.Frame(), Encode(m); got.Type != want.Type || !bytes.Equal(got.Body, want.Body) {
				t.Errorf("frame %x\nencoded %x", got.Body, want.Body)
			}
			if f.Envelope = append(f.Envelope, 1); !bytes.Equal(f.Frame().Body, Encode(m).Body) {
				t.Error("a longer envelope runs into the slots")
			}
		})
	}
}
