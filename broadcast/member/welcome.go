package member

import (
	"fmt"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// MaxEpochs is how many epoch keys one welcome holds.
const MaxEpochs = 64

const tagWelcome = "parallax/1/welcome"

// Epoch is one epoch key and its number.
type Epoch struct {
	Number uint64
	Key    keys.EpochKey
}

// Welcome holds the live epoch keys. It lies on the board under the door key,
// so in an open group whoever holds a live link reads it.
type Welcome struct {
	Group     wire.GroupID
	Epochs    []Epoch  // 1 to MaxEpochs, strictly ascending by number
	Signature [64]byte // by an admin
}

// Check tells whether ParseWelcome would take what Append writes. It does not
// look at the signature.
func (w *Welcome) Check() error {
	if len(w.Epochs) == 0 || len(w.Epochs) > MaxEpochs {
		return fmt.Errorf("welcome: it has 1 to %d epochs, not %d: %w", MaxEpochs, len(w.Epochs), wire.ErrFormat)
	}
	for i := 1; i < len(w.Epochs); i++ {
		if w.Epochs[i-1].Number >= w.Epochs[i].Number {
			return fmt.Errorf("welcome: epoch %d after epoch %d: %w", w.Epochs[i].Number, w.Epochs[i-1].Number, wire.ErrFormat)
		}
	}
	return nil
}

// body is the welcome without its signature.
func (w *Welcome) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, w.Group[:]...)
	b = append(b, uint8(len(w.Epochs)))
	for i := range w.Epochs {
		b = wire.AppendU64(b, w.Epochs[i].Number)
		b = append(b, w.Epochs[i].Key.Expose()...)
	}
	return b
}

// Append appends the welcome, epoch keys in clear: it is for sealing only.
func (w *Welcome) Append(b []byte) []byte {
	return append(w.body(b), w.Signature[:]...)
}

// Sign sets the signature.
func (w *Welcome) Sign(admin keys.SigningPrivate) {
	copy(w.Signature[:], admin.Sign(tagWelcome, w.body(nil)))
}

// Verify checks the signature of an admin: ErrBadSignature if it is another's.
func (w *Welcome) Verify(v keys.Verify, admin keys.SigningPublic) error {
	if !admin.Verify(v, w.Signature[:], tagWelcome, w.body(nil)) {
		return fmt.Errorf("welcome %w", ErrBadSignature)
	}
	return nil
}

// ParseWelcome reads what Append wrote and nothing else. It does not check the
// signature: Verify does.
func ParseWelcome(b []byte) (*Welcome, error) {
	w := new(Welcome)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(w.Group[:])
	for range readCount8(r, MaxEpochs) {
		e := Epoch{Number: r.U64()}
		r.Fixed(e.Key.Expose())
		w.Epochs = append(w.Epochs, e)
	}
	r.Fixed(w.Signature[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("welcome: %w", err)
	}
	if err := w.Check(); err != nil {
		return nil, err
	}
	return w, nil
}
