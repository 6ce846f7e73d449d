package member

import (
	"crypto/mlkem"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	tagDecision     = "parallax/1/decision"
	tagDecisionSeal = "parallax/1/decision/seal"
)

// MaxReason is how many bytes an admin's word to who is refused may have. Default:
// 256.
const MaxReason = 256

// maxSealedEpochs: prekey id, kem id, ephemeral key, ML-KEM ciphertext, and the
// keys of MaxEpochs with a tag.
const maxSealedEpochs = 4 + 4 + 32 + mlkem.CiphertextSize768 + 1 + MaxEpochs*(8+keys.SeedSize) + 16

// ErrSealedRequest: a request or a decision that is sealed to somebody else, or was
// altered.
var ErrSealedRequest = errors.New("does not open: it is sealed to somebody else, or was altered")

// Decision is what an admin says to a request: to who is let in the epoch keys,
// sealed; to who is refused a word. That the seat is in does not follow from it,
// but from the admin's operation on the boards.
type Decision struct {
	Group        wire.GroupID
	Invite       [16]byte
	Seat         wire.Seat
	Announcement wire.Digest        // of the request
	Author       keys.SigningPublic // the key that makes the admin's seat
	Made         time.Time          // for people
	Admitted     bool
	Reason       string   // one line; empty: none
	Sealed       []byte   // the epoch keys, sealed to the announcement's prekeys; empty if refused
	Signature    [64]byte // by Author
}

// body is the decision without its signature.
func (d *Decision) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, d.Group[:]...)
	b = append(b, d.Invite[:]...)
	b = append(b, d.Seat[:]...)
	b = append(b, d.Announcement[:]...)
	b = append(b, d.Author[:]...)
	b = appendSeconds(b, d.Made)
	b = wire.AppendBool(b, d.Admitted)
	b = wire.AppendBytes(b, []byte(d.Reason))
	return wire.AppendBytes(b, d.Sealed)
}

// Append appends the decision.
func (d *Decision) Append(b []byte) []byte { return append(d.body(b), d.Signature[:]...) }

// Sign sets Author and the signature.
func (d *Decision) Sign(admin keys.SigningPrivate) {
	d.Author = admin.Public()
	copy(d.Signature[:], admin.Sign(tagDecision, d.body(nil)))
}

// Verify checks the signature of Author: ErrBadSignature if it is another's.
func (d *Decision) Verify(v keys.Verify) error {
	if !d.Author.Verify(v, d.Signature[:], tagDecision, d.body(nil)) {
		return fmt.Errorf("decision on seat %s %w", d.Seat.Short(), ErrBadSignature)
	}
	return nil
}

// ParseDecision reads what Append wrote and nothing else. It does not check the
// signature: Verify does.
func ParseDecision(b []byte) (*Decision, error) {
	d := new(Decision)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(d.Group[:])
	r.Fixed(d.Invite[:])
	r.Fixed(d.Seat[:])
	r.Fixed(d.Announcement[:])
	r.Fixed(d.Author[:])
	d.Made = readSeconds(r)
	d.Admitted = r.Bool()
	d.Reason = string(r.Bytes(MaxReason))
	d.Sealed = r.Bytes(maxSealedEpochs)
	r.Fixed(d.Signature[:])
	err := r.Done()
	if err == nil && d.Admitted == (len(d.Sealed) == 0) {
		err = wire.ErrFormat
	}
	if err == nil {
		err = checkReason(d.Reason)
	}
	if err != nil {
		return nil, fmt.Errorf("decision: %w", err)
	}
	return d, nil
}

// checkReason: a line that people are shown, as a name is.
func checkReason(text string) error {
	if len(text) > MaxReason {
		return fmt.Errorf("a reason of %d bytes: it may have %d: %w", len(text), MaxReason, wire.ErrTooLong)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("a reason that is no valid UTF-8: %w", wire.ErrFormat)
	}
	for _, c := range text {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || unicode.Is(unicode.Bidi_Control, c) {
			return fmt.Errorf("a reason with the character %U: one line of plain text: %w", c, wire.ErrFormat)
		}
	}
	return nil
}

// SealEpochs sets Sealed: epoch keys sealed to the prekeys of the announcement that
// the decision names. Layout: prekey id u32 | kem id u32 | ephemeral key 32 |
// ML-KEM-768 ciphertext 1,088 | ChaCha20-Poly1305(u8 count of: epoch u64, key 32).
func (d *Decision) SealEpochs(entropy broadcast.Entropy, a *Announcement, epochs []Epoch) error {
	kem, err := mlkem.NewEncapsulationKey768(a.KEM[:])
	if err != nil {
		return fmt.Errorf("the ML-KEM key of seat %s: %w", d.Seat.Short(), err)
	}
	var own keys.PrekeyPrivate
	if err := own.Draw(entropy); err != nil {
		return err
	}
	defer own.Zero()
	dh, err := own.DH(a.Prekey)
	if err != nil {
		return fmt.Errorf("the prekey of seat %s: %w", d.Seat.Short(), err)
	}
	ss, ct := entropy.Encapsulate(kem)
	pub := own.Public()
	head := wire.AppendU32(wire.AppendU32(nil, a.PrekeyID), a.KEMID)
	head = append(append(head, pub[:]...), ct...)
	plain := []byte{uint8(len(epochs))}
	for i := range epochs {
		plain = append(wire.AppendU64(plain, epochs[i].Number), epochs[i].Key.Expose()...)
	}
	defer clear(plain)
	d.Sealed = append(head, sealOnce(d.seal(dh, ss, head), plain)...)
	return nil
}

func (d *Decision) seal(dh, ss, head []byte) [32]byte {
	secret := append(append(make([]byte, 0, 64), dh...), ss...)
	defer clear(secret)
	clear(dh)
	clear(ss)
	return keys.Derive(secret, tagDecisionSeal, d.Group[:], d.Invite[:], d.Seat[:], d.Announcement[:], head)
}

// openEpochs opens Sealed by the own prekeys that it names.
func (d *Decision) openEpochs(held func(prekey, kem uint32) *ownPrekeys) ([]Epoch, error) {
	const headSize = 4 + 4 + 32 + mlkem.CiphertextSize768
	if len(d.Sealed) < headSize {
		return nil, fmt.Errorf("decision: %w", wire.ErrShort)
	}
	r := wire.NewReader(d.Sealed)
	o := held(r.U32(), r.U32())
	if o == nil {
		return nil, fmt.Errorf("decision for keys that are gone: %w", ErrSealedRequest)
	}
	var pub [32]byte
	r.Fixed(pub[:])
	dh, err := o.Key.DH(pub)
	if err != nil {
		return nil, fmt.Errorf("decision: %w", err)
	}
	ss, err := o.KEM.Decapsulate(r.Raw(mlkem.CiphertextSize768))
	if err != nil {
		return nil, fmt.Errorf("decision: %w", err)
	}
	plain, err := openOnce(d.seal(dh, ss, d.Sealed[:headSize]), d.Sealed[headSize:])
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	var list []Epoch
	pr := wire.NewReader(plain)
	for range readCount8(pr, MaxEpochs) {
		e := Epoch{Number: pr.U64()}
		pr.Fixed(e.Key.Expose())
		if n := len(list); n == 0 && e.Number != FirstEpoch || n > 0 && list[n-1].Number >= e.Number {
			pr.Fail(wire.ErrFormat)
		}
		list = append(list, e)
	}
	if err := pr.Done(); err != nil || len(list) == 0 {
		return nil, fmt.Errorf("decision: its epochs: %w", wire.ErrFormat)
	}
	return list, nil
}
