package member

import (
	"fmt"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	// MaxEpochs is how many epoch keys one welcome holds.
	MaxEpochs = 64
	// MaxGenesis is the longest genesis in bytes: a welcome holds it beside the
	// most epochs.
	MaxGenesis = broadcast.MaxEntryValue - (1 + 32 + 4 + 1 + MaxEpochs*(8+keys.SeedSize) + 64)
)

const tagWelcome = "parallax/1/welcome"

// Epoch is one epoch key and its number.
type Epoch struct {
	Number uint64
	Key    keys.EpochKey
}

// Welcome is what a newcomer needs to read the boards. It lies there under the
// door key of the epoch in use, one of each admin, so in an open group whoever
// holds a live link reads it. It is believed as far as what it holds shows: the
// genesis by the group id, the first key by the genesis, others by operations of
// the roster.
type Welcome struct {
	Author    keys.SigningPublic // an admin's: the key that makes its seat
	Genesis   []byte
	Epochs    []Epoch  // 1 to MaxEpochs, strictly ascending by number; the first is FirstEpoch
	Signature [64]byte // by Author
}

// Check tells whether ParseWelcome would take what Append writes. It looks
// neither at the signature nor into the genesis.
func (w *Welcome) Check() error {
	if err := checkEpochs(w.Epochs); err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	if len(w.Genesis) > MaxGenesis {
		return fmt.Errorf("welcome: a genesis of %d bytes, at most %d: %w", len(w.Genesis), MaxGenesis, wire.ErrTooLong)
	}
	return nil
}

// body is the welcome without its signature.
func (w *Welcome) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, w.Author[:]...)
	b = wire.AppendBytes(b, w.Genesis)
	return appendEpochs(b, w.Epochs)
}

// Append appends the welcome, epoch keys in clear: it is for sealing only.
func (w *Welcome) Append(b []byte) []byte {
	return append(w.body(b), w.Signature[:]...)
}

// Sign sets Author and the signature.
func (w *Welcome) Sign(admin keys.SigningPrivate) {
	w.Author = admin.Public()
	copy(w.Signature[:], admin.Sign(tagWelcome, w.body(nil)))
}

// Verify checks the signature of Author: ErrBadSignature if it is another's.
func (w *Welcome) Verify(v keys.Verify) error {
	if !w.Author.Verify(v, w.Signature[:], tagWelcome, w.body(nil)) {
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
	r.Fixed(w.Author[:])
	w.Genesis = r.Bytes(MaxGenesis)
	w.Epochs = readEpochs(r)
	r.Fixed(w.Signature[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("welcome: %w", err)
	}
	if err := w.Check(); err != nil {
		return nil, err
	}
	return w, nil
}
