package member

import (
	"fmt"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// What members ask each other for, and what they answer (docs/protocol.md
// section 6.1): bodies of the content kinds 6 and 5.

// What a refetch asks for: the first byte of its body.
const (
	refetchOperations = 1
	refetchMessages   = 2
	refetchCopies     = 3
)

// Limits of a refetch and of an answer.
const (
	MaxRefetchOperations = 32
	MaxRefetchSpans      = 16
	MaxRefetchCopies     = 64
	MaxAgain             = 64 // messages in one answer
)

// Refetch asks for what the sender lacks, of one kind: the other lists are empty.
type Refetch struct {
	Operations []wire.Digest // of the roster, at most MaxRefetchOperations
	Messages   []Span        // at most MaxRefetchSpans
	Copies     []wire.Digest // D of bundles that no relay shows in full (section 6.2), at most MaxRefetchCopies
}

// Span are messages of one installation of a seat, From to To.
type Span struct {
	Seat        wire.Seat
	Incarnation wire.Incarnation
	From, To    uint64
}

// AppendRefetch appends the body of a refetch: what u8, then for operations and
// copies u8 count of digests 32; for messages u8 count of spans. What is beyond
// the limits is left out.
func AppendRefetch(b []byte, q *Refetch) []byte {
	switch {
	case len(q.Operations) > 0:
		return appendAsked(append(b, refetchOperations), q.Operations, MaxRefetchOperations)
	case len(q.Copies) > 0:
		return appendAsked(append(b, refetchCopies), q.Copies, MaxRefetchCopies)
	}
	return appendSpans(append(b, refetchMessages), q.Messages)
}

// ParseRefetch reads what AppendRefetch wrote and nothing else. It asks for
// something.
func ParseRefetch(b []byte) (*Refetch, error) {
	q, r := &Refetch{}, wire.NewReader(b)
	switch what := r.U8(); what {
	case refetchOperations:
		q.Operations = readAsked(r, MaxRefetchOperations)
	case refetchMessages:
		q.Messages = readSpans(r)
	case refetchCopies:
		q.Copies = readAsked(r, MaxRefetchCopies)
	default:
		return nil, fmt.Errorf("refetch of what %d: %w", what, wire.ErrFormat)
	}
	if len(q.Operations)+len(q.Messages)+len(q.Copies) == 0 {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("refetch: %w", err)
	}
	return q, nil
}

func appendAsked(b []byte, list []wire.Digest, most int) []byte {
	list = list[:min(len(list), most)]
	b = append(b, uint8(len(list)))
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return b
}

func readAsked(r *wire.Reader, most int) (list []wire.Digest) {
	for range readCount8(r, most) {
		var d wire.Digest
		r.Fixed(d[:])
		list = append(list, d)
	}
	return list
}

// appendSpans appends u8 count of: seat 32 | incarnation 8 | from u64 | to u64.
func appendSpans(b []byte, list []Span) []byte {
	list = list[:min(len(list), MaxRefetchSpans)]
	b = append(b, uint8(len(list)))
	for i := range list {
		s := &list[i]
		b = append(append(b, s.Seat[:]...), s.Incarnation[:]...)
		b = wire.AppendU64(wire.AppendU64(b, s.From), s.To)
	}
	return b
}

func readSpans(r *wire.Reader) (list []Span) {
	for range readCount8(r, MaxRefetchSpans) {
		var s Span
		r.Fixed(s.Seat[:])
		r.Fixed(s.Incarnation[:])
		if s.From, s.To = r.U64(), r.U64(); s.From == 0 || s.To < s.From {
			r.Fail(wire.ErrFormat)
		}
		list = append(list, s)
	}
	return list
}

// Again is an envelope's content once more, with what its digest D follows from:
// who passes it on can make no other content of the same D.
type Again struct {
	Header  broadcast.Header // Carriers stands in Sealed alone
	Sealed  [broadcast.SealedHeaderSize]byte
	Key     keys.ContentKey
	Content []byte // as Content.Append wrote it, at most MaxAgainContent
}

const (
	againFixed  = 8 + 32 + 8 + 8 + broadcast.SealedHeaderSize + 32 + 4
	spansFixed  = 1 + MaxRefetchSpans*(32+8+8+8)
	answerFixed = 1 + spansFixed

	// MaxAgainContent is the longest content that fits into an answer: 62,083
	// bytes. Longer ones are not sent again.
	MaxAgainContent = MaxBody - answerFixed - againFixed
)

// size is what it takes in an answer.
func (a *Again) size() int { return againFixed + len(a.Content) }

// key is which message it is.
func (a *Again) key() messageKey {
	return messageKey{source{a.Header.Seat, a.Header.Incarnation}, a.Header.Sequence}
}

// Digest is D of the envelope.
func (a *Again) Digest(gid wire.GroupID) (wire.Digest, error) {
	return broadcast.ResealedDigest(gid, a.Sealed[:], a.Header, &a.Key, a.Content)
}

// append appends: epoch u64 | seat 32 | incarnation 8 | sequence u64 | sealed
// header 74 | content key 32 | content bytes.
func (a *Again) append(b []byte) []byte {
	b = wire.AppendU64(b, a.Header.Epoch)
	b = append(append(b, a.Header.Seat[:]...), a.Header.Incarnation[:]...)
	b = wire.AppendU64(b, a.Header.Sequence)
	b = append(append(b, a.Sealed[:]...), a.Key.Expose()...)
	return wire.AppendBytes(b, a.Content)
}

func readAgain(r *wire.Reader) *Again {
	a := &Again{}
	a.Header.Epoch = r.U64()
	r.Fixed(a.Header.Seat[:])
	r.Fixed(a.Header.Incarnation[:])
	if a.Header.Sequence = r.U64(); a.Header.Sequence == 0 {
		r.Fail(wire.ErrFormat)
	}
	r.Fixed(a.Sealed[:])
	r.Fixed(a.Key.Expose())
	a.Content = r.Bytes(MaxAgainContent)
	return a
}

// Answer answers a refetch of messages, or passes on.
type Answer struct {
	Messages []*Again // at most MaxAgain
	// Nothing are numbers of the answer's own author under which it has nothing
	// for the reader: no text, or one that it does not keep any more.
	Nothing []Span // at most MaxRefetchSpans
}

// AppendAnswer appends the body of an answer: u8 count of messages, u8 count of
// spans. What is beyond the limits is left out.
func AppendAnswer(b []byte, a *Answer) []byte {
	list := a.Messages[:min(len(a.Messages), MaxAgain)]
	b = append(b, uint8(len(list)))
	for _, x := range list {
		b = x.append(b)
	}
	return appendSpans(b, a.Nothing)
}

// ParseAnswer reads what AppendAnswer wrote and nothing else. It says something.
// The contents alias b.
func ParseAnswer(b []byte) (*Answer, error) {
	a, r := &Answer{}, wire.NewReader(b)
	for range readCount8(r, MaxAgain) {
		a.Messages = append(a.Messages, readAgain(r))
	}
	a.Nothing = readSpans(r)
	if len(a.Messages)+len(a.Nothing) == 0 {
		r.Fail(wire.ErrFormat)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("answer to a refetch: %w", err)
	}
	return a, nil
}
