package member

import (
	"errors"
	"fmt"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Roles beyond those of an invitation. Reader, member, admin and owner are the
// order of what they may do; the numbers are not.
const (
	RoleAdmin uint8 = 3
	RoleOwner uint8 = 4
)

// Limits of the roster (docs/protocol.md section 8.1).
const (
	MaxOperation  = 30_000 // bytes of one operation: it fits a content and a board entry
	MaxHeads      = 32     // heads that one operation names beside its predecessor
	MaxAdopted    = 64     // seats of one adopt operation
	MaxMerged     = 16     // epoch heads that one epoch merges
	MaxSequence   = 8_192  // operations of one author in a row
	MaxPath       = 64     // length of a delegation path
	MaxOperations = 16_384 // operations that a roster keeps
	MaxWaiting    = 1_024  // operations that wait for others; then the oldest goes
	MaxRefused    = 1_024  // refused operations that are remembered; then the oldest goes
)

const (
	tagRosterOperation = "parallax/1/roster"
	tagRosterDigest    = "parallax/1/roster/digest"
	tagRosterSet       = "parallax/1/roster/set"
)

// ErrSequence: an operation's sequence does not follow its predecessor's.
var ErrSequence = errors.New("does not continue its author's own operations")

// Operation is one signed entry of the roster. It names what its author knew,
// so that everybody can judge it by that, whenever and on whichever path it
// comes.
type Operation struct {
	Group     wire.GroupID
	Author    keys.SigningPublic // the key that makes the author's seat
	Sequence  uint64             // the author's own, dense from 1
	Previous  wire.Digest        // the author's operation before; zero: none
	Heads     []wire.Digest      // what else the author knew last: at most MaxHeads, strictly ascending
	Time      time.Time          // whole seconds, for people only
	Body      OperationBody
	Signature [64]byte // by Author
}

// Seat is the author's.
func (o *Operation) Seat() wire.Seat { return NewSeat(o.Group, o.Author) }

// Check tells whether ParseOperation would take what Append writes. It looks
// at this operation alone: not at the signature, nor at what others did.
func (o *Operation) Check() error {
	if err := o.check(); err != nil {
		return err
	}
	if n := len(o.Append(make([]byte, 0, 512))); n > MaxOperation {
		return fmt.Errorf("roster operation: %d bytes, at most %d: %w", n, MaxOperation, wire.ErrTooLong)
	}
	return nil
}

func (o *Operation) check() error {
	switch {
	case o.Author.IsZero():
		return fmt.Errorf("roster operation: the author's key is missing: %w", wire.ErrFormat)
	case o.Sequence == 0 || (o.Sequence == 1) != (o.Previous == wire.Digest{}):
		return fmt.Errorf("roster operation: number %d does not go with its previous digest: %w", o.Sequence, ErrSequence)
	case o.Sequence > MaxSequence:
		return fmt.Errorf("roster operation: number %d of one author, at most %d: %w", o.Sequence, MaxSequence, wire.ErrTooLong)
	case len(o.Heads) > MaxHeads:
		return fmt.Errorf("roster operation: %d heads, at most %d: %w", len(o.Heads), MaxHeads, wire.ErrTooLong)
	case o.Time.Unix() > maxSeconds:
		return fmt.Errorf("roster operation: made at %d Unix seconds, at most %d: %w", o.Time.Unix(), int64(maxSeconds), wire.ErrFormat)
	case o.Body == nil:
		return fmt.Errorf("roster operation: it has no body: %w", wire.ErrFormat)
	}
	for i, h := range o.Heads {
		if h == o.Previous || h == (wire.Digest{}) || i > 0 && !ascending(o.Heads[i-1][:], h[:]) {
			return fmt.Errorf("roster operation: its heads are not strictly ascending, or repeat its predecessor: %w", wire.ErrFormat)
		}
	}
	if err := o.Body.check(o); err != nil {
		return fmt.Errorf("roster operation: %w", err)
	}
	return nil
}

func (o *Operation) body(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, o.Group[:]...)
	b = append(b, o.Author[:]...)
	b = wire.AppendU64(b, o.Sequence)
	b = append(b, o.Previous[:]...)
	b = append(b, uint8(len(o.Heads)))
	for i := range o.Heads {
		b = append(b, o.Heads[i][:]...)
	}
	b = appendSeconds(b, o.Time)
	b = append(b, o.Body.kind())
	return o.Body.append(b)
}

// Append appends the operation as docs/protocol.md section 8.1 lays it out.
func (o *Operation) Append(b []byte) []byte {
	return append(o.body(b), o.Signature[:]...)
}

// Digest names the operation; it does not depend on the signature.
func (o *Operation) Digest() wire.Digest {
	return wire.Hash(tagRosterDigest, o.body(make([]byte, 0, 512)))
}

// Sign sets the signature.
func (o *Operation) Sign(author keys.SigningPrivate) {
	copy(o.Signature[:], author.Sign(tagRosterOperation, o.body(nil)))
}

// Verify checks the author's signature, and that of an invite record in it:
// ErrBadSignature if one is another's.
func (o *Operation) Verify(v keys.Verify) error {
	if !o.Author.Verify(v, o.Signature[:], tagRosterOperation, o.body(make([]byte, 0, 512))) {
		return fmt.Errorf("roster operation %s %w", o.Digest().Short(), ErrBadSignature)
	}
	if b, ok := o.Body.(OpInvite); ok {
		return b.Record.Verify(v, o.Author)
	}
	return nil
}

// ParseOperation reads what Append wrote and nothing else. It does not check
// the signature: Verify does.
func ParseOperation(b []byte) (*Operation, error) {
	if len(b) > MaxOperation {
		return nil, fmt.Errorf("roster operation: %d bytes, at most %d: %w", len(b), MaxOperation, wire.ErrTooLong)
	}
	o := new(Operation)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(o.Group[:])
	r.Fixed(o.Author[:])
	o.Sequence = r.U64()
	r.Fixed(o.Previous[:])
	o.Heads = readDigests(r, MaxHeads)
	o.Time = readSeconds(r)
	o.Body = readOperationBody(r)
	r.Fixed(o.Signature[:])
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("roster operation: %w", err)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	return o, nil
}

// readDigests reads a one-byte count of at most limit, and as many digests.
func readDigests(r *wire.Reader, limit int) (list []wire.Digest) {
	for range readCount8(r, limit) {
		var d wire.Digest
		r.Fixed(d[:])
		if r.Err() != nil {
			return nil
		}
		list = append(list, d)
	}
	return list
}
