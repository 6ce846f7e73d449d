package member

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Kind is what a content is about (docs/protocol.md section 6).
type Kind uint8

const (
	KindText       Kind = 1 // body: UTF-8
	KindHello      Kind = 2
	KindRoster     Kind = 3 // a roster operation
	KindStatements Kind = 4 // body: Exchange
	KindAgain      Kind = 5 // body: AppendAnswer
	KindRefetch    Kind = 6 // body: AppendRefetch
	KindAck        Kind = 7 // a view and nothing else: the body is empty

	firstSkippable Kind = 0x80
)

// Known tells a kind of this version.
func (k Kind) Known() bool { return k >= KindText && k <= KindAck }

// Skippable tells a kind that who does not know it passes over in silence. An
// unknown kind that is not skippable is shown as "needs a newer version".
func (k Kind) Skippable() bool { return k >= firstSkippable }

// Limits of a content.
const (
	MaxRelayViews = 2 * MaxRelays // relays in one view: of a list and of the one that takes its place
	MaxRecents    = 16            // recent envelopes in one view
	MaxStatements = 16            // statements in one exchange
	MaxEvidences  = 2             // pieces of evidence in one exchange
	MaxContent    = 65_535        // bytes; the padding to 65,536 needs one

	relayViewSize = 32 + 16 + 8 + 32 + 1
	recentSize    = 8 + 8 + 8 + 32
	contentFixed  = 32 + 1 + 8 + 32 + 1 + 1 + 4 // without view lists and body

	// MaxBody is what fits beside the largest view: 61,712 bytes.
	MaxBody = MaxContent - contentFixed - MaxRelayViews*relayViewSize - MaxRecents*recentSize
)

// RelayView is the newest chain head that the sender knew of one relay.
type RelayView struct {
	Relay   keys.RelayPublic
	Lineage wire.Lineage
	N       uint64
	Head    wire.Digest
	// Convicted: the sender holds evidence about the relay and set it aside.
	Convicted bool
}

// Recent is an envelope that the sender had opened not long ago.
type Recent struct {
	Seat        [8]byte // first bytes of its sender's seat
	Incarnation wire.Incarnation
	Sequence    uint64
	D           wire.Digest
}

// View is what the sender saw when it sent: a split view dies with the first
// message that crosses it.
type View struct {
	Roster  wire.Digest
	Relays  []RelayView // at most MaxRelayViews; written in the order of their relays
	Recents []Recent    // at most MaxRecents, in the sender's order
}

// Content is the plaintext of an envelope.
type Content struct {
	Previous wire.Digest // D of the sender's previous envelope; zero: none
	Kind     Kind
	Sent     time.Time // whole seconds, for people only
	View     View
	Body     []byte // at most MaxBody
}

// Check tells whether ParseContent would take what Append writes.
func (c *Content) Check() error {
	switch {
	case len(c.Body) > MaxBody:
		return fmt.Errorf("content: a body of %d bytes, at most %d: %w", len(c.Body), MaxBody, wire.ErrTooLong)
	case len(c.View.Relays) > MaxRelayViews:
		return fmt.Errorf("content: a view of %d relays, at most %d: %w", len(c.View.Relays), MaxRelayViews, wire.ErrTooLong)
	case len(c.View.Recents) > MaxRecents:
		return fmt.Errorf("content: a view of %d recent envelopes, at most %d: %w", len(c.View.Recents), MaxRecents, wire.ErrTooLong)
	case c.Sent.Unix() > maxSeconds:
		return fmt.Errorf("content: sent at %d Unix seconds, at most %d: %w", c.Sent.Unix(), int64(maxSeconds), wire.ErrFormat)
	}
	seen := make(map[keys.RelayPublic]bool, len(c.View.Relays))
	for i := range c.View.Relays {
		if seen[c.View.Relays[i].Relay] {
			return fmt.Errorf("content: two views of relay %s: %w", c.View.Relays[i].Relay, wire.ErrFormat)
		}
		seen[c.View.Relays[i].Relay] = true
	}
	return nil
}

// Append appends the content, not padded.
func (c *Content) Append(b []byte) []byte {
	b = append(b, c.Previous[:]...)
	b = append(b, byte(c.Kind))
	b = appendSeconds(b, c.Sent)
	b = append(b, c.View.Roster[:]...)
	b = append(b, uint8(len(c.View.Relays)))
	for _, v := range slices.SortedFunc(slices.Values(c.View.Relays), func(x, y RelayView) int {
		return bytes.Compare(x.Relay[:], y.Relay[:])
	}) {
		b = append(b, v.Relay[:]...)
		b = append(b, v.Lineage[:]...)
		b = wire.AppendU64(b, v.N)
		b = append(b, v.Head[:]...)
		b = wire.AppendBool(b, v.Convicted)
	}
	b = append(b, uint8(len(c.View.Recents)))
	for i := range c.View.Recents {
		v := &c.View.Recents[i]
		b = append(b, v.Seat[:]...)
		b = append(b, v.Incarnation[:]...)
		b = wire.AppendU64(b, v.Sequence)
		b = append(b, v.D[:]...)
	}
	return wire.AppendBytes(b, c.Body)
}

// ParseContent reads what Append wrote and nothing else; the padding is off
// already. Unknown kinds are taken: what to do with them is the reader's. Body
// aliases b.
func ParseContent(b []byte) (*Content, error) {
	c := new(Content)
	r := wire.NewReader(b)
	r.Fixed(c.Previous[:])
	c.Kind = Kind(r.U8())
	c.Sent = readSeconds(r)
	r.Fixed(c.View.Roster[:])
	for range readCount8(r, MaxRelayViews) {
		var v RelayView
		r.Fixed(v.Relay[:])
		r.Fixed(v.Lineage[:])
		v.N = r.U64()
		r.Fixed(v.Head[:])
		v.Convicted = r.Bool()
		if n := len(c.View.Relays); n > 0 && bytes.Compare(c.View.Relays[n-1].Relay[:], v.Relay[:]) >= 0 {
			r.Fail(wire.ErrFormat)
		}
		c.View.Relays = append(c.View.Relays, v)
	}
	for range readCount8(r, MaxRecents) {
		var v Recent
		r.Fixed(v.Seat[:])
		r.Fixed(v.Incarnation[:])
		v.Sequence = r.U64()
		r.Fixed(v.D[:])
		c.View.Recents = append(c.View.Recents, v)
	}
	c.Body = r.Bytes(MaxBody)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	return c, nil
}

// Exchange is what members hold against each other's views: statements, and
// evidence as text. Nothing in it is checked.
type Exchange struct {
	Statements []crossverify.Statement // at most MaxStatements
	Evidence   []string                // at most MaxEvidences, each at most crossverify.MaxEvidence bytes
}

// The largest exchange fits a body.
const _ = uint(MaxBody - 1 - MaxStatements*crossverify.StatementSize - 1 - MaxEvidences*(4+crossverify.MaxEvidence))

// Append appends the body of a statement exchange; what is beyond a limit is
// left out.
func (x *Exchange) Append(b []byte) []byte {
	list := x.Statements[:min(len(x.Statements), MaxStatements)]
	b = append(b, uint8(len(list)))
	for i := range list {
		b = list[i].Append(b)
	}
	texts := x.Evidence[:min(len(x.Evidence), MaxEvidences)]
	b = append(b, uint8(len(texts)))
	for _, t := range texts {
		b = wire.AppendBytes(b, []byte(t))
	}
	return b
}

// ParseExchange reads what Append wrote and nothing else.
func ParseExchange(b []byte) (*Exchange, error) {
	x := new(Exchange)
	r := wire.NewReader(b)
	for range readCount8(r, MaxStatements) {
		raw := r.Raw(crossverify.StatementSize)
		if raw == nil {
			break
		}
		s, err := crossverify.ParseStatement(raw)
		if err != nil {
			r.Fail(err)
			break
		}
		x.Statements = append(x.Statements, s)
	}
	for range readCount8(r, MaxEvidences) {
		x.Evidence = append(x.Evidence, string(r.Bytes(crossverify.MaxEvidence)))
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("statement exchange: %w", err)
	}
	return x, nil
}
