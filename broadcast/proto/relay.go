package proto

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Frames from relay to member, in the order of docs/protocol.md section 10.

// Welcome answers Hello: the version of this link and what the relay allows.
type Welcome struct {
	Version   uint16
	Features  uint64
	MaxFrame  uint32        // bytes, type and body
	MaxWindow uint32        // entries
	Retention time.Duration // whole seconds
	Nonce     Nonce         // what Open signs
}

func (Welcome) Type() uint8 { return TypeWelcome }
func (m Welcome) Append(b []byte) []byte {
	b = wire.AppendU16(b, m.Version)
	b = wire.AppendU64(b, m.Features)
	b = wire.AppendU32(wire.AppendU32(b, m.MaxFrame), m.MaxWindow)
	b = appendDuration(b, m.Retention, time.Second)
	return append(b, m.Nonce[:]...)
}
func parseWelcome(r *wire.Reader) Message {
	m := Welcome{Version: r.U16(), Features: r.U64(), MaxFrame: r.U32(), MaxWindow: r.U32(), Retention: duration(r, time.Second)}
	r.Fixed(m.Nonce[:])
	return m
}

// InfoIs says who operates the relay, in the operator's own signature, and whom
// the operator belongs together with, in both sides' signatures.
type InfoIs struct {
	Operator  keys.OperatorPublic
	Name      string    // at most MaxName bytes
	Signature Signature // by Operator, over the relay key
	Families  []crossverify.Declaration
}

func (InfoIs) Type() uint8 { return TypeInfoIs }
func (m InfoIs) Append(b []byte) []byte {
	b = append(b, m.Operator[:]...)
	b = appendText(b, m.Name)
	b = append(b, m.Signature[:]...)
	b = append(b, uint8(len(m.Families)))
	for _, d := range m.Families {
		b = d.Append(b)
	}
	return b
}
func parseInfoIs(r *wire.Reader) Message {
	var m InfoIs
	r.Fixed(m.Operator[:])
	m.Name = text(r, MaxName)
	r.Fixed(m.Signature[:])
	n := int(r.U8())
	if n > MaxFamilies {
		r.Fail(wire.ErrTooLong)
	}
	for range n {
		raw := r.Raw(crossverify.DeclarationSize)
		if r.Err() != nil {
			break
		}
		d, err := crossverify.ParseDeclaration(raw)
		if err != nil {
			r.Fail(err)
		}
		m.Families = append(m.Families, d)
	}
	return m
}

// Registered answers Register. Statement is the mailbox's birth: every later
// number is delivered to it.
type Registered struct {
	Mailbox   wire.MailboxID
	Statement crossverify.Statement
}

func (Registered) Type() uint8 { return TypeRegistered }
func (m Registered) Append(b []byte) []byte {
	return m.Statement.Append(append(b, m.Mailbox[:]...))
}
func parseRegistered(r *wire.Reader) Message {
	var m Registered
	r.Fixed(m.Mailbox[:])
	m.Statement = statement(r)
	return m
}

// Opened answers Open: where the log stands, signed over what was shown.
type Opened struct {
	Statement crossverify.Statement
	Shown     *crossverify.Position // what Open.Known said; nil: nothing
	Read      uint64                // how far this mailbox was read in the lineage, as the relay knows; not signed
	Signature Signature             // by the relay; Signed gives what it covers
}

func (Opened) Type() uint8 { return TypeOpened }
func (m Opened) Append(b []byte) []byte {
	b = m.Statement.Append(b)
	b = wire.AppendBool(b, m.Shown != nil)
	if m.Shown != nil {
		b = append(b, m.Shown.Lineage[:]...)
		b = wire.AppendU64(b, m.Shown.N)
		b = append(b, m.Shown.H[:]...)
	}
	return append(wire.AppendU64(b, m.Read), m.Signature[:]...)
}
func parseOpened(r *wire.Reader) Message {
	m := Opened{Statement: statement(r)}
	if r.Bool() {
		m.Shown = new(crossverify.Position)
		r.Fixed(m.Shown.Lineage[:])
		m.Shown.N = r.U64()
		r.Fixed(m.Shown.H[:])
		// Zeros are signed as nothing shown, which has its own encoding.
		if *m.Shown == (crossverify.Position{}) {
			r.Fail(wire.ErrFormat)
		}
	}
	m.Read = r.U64()
	r.Fixed(m.Signature[:])
	return m
}

// Deliver is one bundle as one mailbox gets it. The signature is that of the
// statement for N, whose d is Digest and whose h the reader computes.
type Deliver struct {
	N         uint64
	Slots     wire.Digest // crossverify.SlotsDigest of the whole block
	Root      wire.Digest
	Signature Signature
	Hint      [broadcast.HintSize]byte
	Nonce     [broadcast.MaskNonceSize]byte
	Envelope  []byte // masked
	Offset    uint32 // of Slot in the slot block, bytes
	Slot      []byte // masked
}

func (Deliver) Type() uint8 { return TypeDeliver }
func (m Deliver) Append(b []byte) []byte {
	b = slices.Grow(b, 8+32+32+sigSize+8+24+4+len(m.Envelope)+4+4+len(m.Slot))
	b = wire.AppendU64(b, m.N)
	b = append(b, m.Slots[:]...)
	b = append(b, m.Root[:]...)
	b = append(b, m.Signature[:]...)
	b = append(b, m.Hint[:]...)
	b = append(b, m.Nonce[:]...)
	b = wire.AppendBytes(b, m.Envelope)
	b = wire.AppendU32(b, m.Offset)
	return wire.AppendBytes(b, m.Slot)
}
func parseDeliver(r *wire.Reader) Message {
	m := Deliver{N: r.U64()}
	r.Fixed(m.Slots[:])
	r.Fixed(m.Root[:])
	r.Fixed(m.Signature[:])
	r.Fixed(m.Hint[:])
	r.Fixed(m.Nonce[:])
	m.Envelope = r.Bytes(MaxEnvelope)
	m.Offset = r.U32()
	m.Slot = r.Bytes(broadcast.MaxSlotSize)
	return m
}

// Bare is a number without its content: d and what the statement for N signs.
type Bare struct {
	N         uint64
	D, Root   wire.Digest
	Signature Signature
}

func (Bare) Type() uint8 { return TypeBare }
func (m Bare) Append(b []byte) []byte {
	b = wire.AppendU64(b, m.N)
	b = append(b, m.D[:]...)
	b = append(b, m.Root[:]...)
	return append(b, m.Signature[:]...)
}
func parseBare(r *wire.Reader) Message {
	m := Bare{N: r.U64()}
	r.Fixed(m.D[:])
	r.Fixed(m.Root[:])
	r.Fixed(m.Signature[:])
	return m
}

// BoardEntry is the newest version of one board entry.
type BoardEntry struct {
	Name    wire.Digest // masked
	Version uint64
	Value   []byte // sealed
}

// Size is how many bytes of a BoardPage the entry takes.
func (e BoardEntry) Size() int { return minEntry + len(e.Value) }

func (e BoardEntry) append(b []byte) []byte {
	b = append(b, e.Name[:]...)
	b = wire.AppendU64(b, e.Version)
	return wire.AppendBytes(b, e.Value)
}
func boardEntry(r *wire.Reader) (e BoardEntry) {
	r.Fixed(e.Name[:])
	e.Version = r.U64()
	e.Value = r.Bytes(MaxBoardValue)
	return e
}

// Entry is a number that is a board write. The signature is that of the
// statement for N, whose d is Digest.
type Entry struct {
	N         uint64
	Root      wire.Digest
	Signature Signature
	BoardEntry
}

func (Entry) Type() uint8 { return TypeEntry }
func (m Entry) Append(b []byte) []byte {
	b = wire.AppendU64(b, m.N)
	b = append(b, m.Root[:]...)
	b = append(b, m.Signature[:]...)
	return m.append(b)
}
func parseEntry(r *wire.Reader) Message {
	m := Entry{N: r.U64()}
	r.Fixed(m.Root[:])
	r.Fixed(m.Signature[:])
	m.BoardEntry = boardEntry(r)
	return m
}

// Trimmed says that the log begins with First now; H is the head before it.
type Trimmed struct {
	Lineage   wire.Lineage
	First     uint64
	H         wire.Digest
	Signature Signature // by the relay; Signed gives what it covers
}

func (Trimmed) Type() uint8 { return TypeTrimmed }
func (m Trimmed) Append(b []byte) []byte {
	b = append(b, m.Lineage[:]...)
	b = wire.AppendU64(b, m.First)
	b = append(b, m.H[:]...)
	return append(b, m.Signature[:]...)
}
func parseTrimmed(r *wire.Reader) Message {
	var m Trimmed
	r.Fixed(m.Lineage[:])
	m.First = r.U64()
	r.Fixed(m.H[:])
	r.Fixed(m.Signature[:])
	return m
}

// CaughtUp says that N was the newest number when it was sent.
type CaughtUp struct{ N uint64 }

func (CaughtUp) Type() uint8               { return TypeCaughtUp }
func (m CaughtUp) Append(b []byte) []byte  { return wire.AppendU64(b, m.N) }
func parseCaughtUp(r *wire.Reader) Message { return CaughtUp{r.U64()} }

// Receipt answers whatever has a post id: its number, in a statement.
type Receipt struct {
	PostID    wire.PostID
	Statement crossverify.Statement
}

func (Receipt) Type() uint8 { return TypeReceipt }
func (m Receipt) Append(b []byte) []byte {
	return m.Statement.Append(append(b, m.PostID[:]...))
}
func parseReceipt(r *wire.Reader) Message {
	var m Receipt
	r.Fixed(m.PostID[:])
	m.Statement = statement(r)
	return m
}

// NeedFanout answers a Post by hash when the relay does not know the list.
type NeedFanout struct {
	PostID wire.PostID
	Fanout wire.Digest
}

func (NeedFanout) Type() uint8 { return TypeNeedFanout }
func (m NeedFanout) Append(b []byte) []byte {
	return append(append(b, m.PostID[:]...), m.Fanout[:]...)
}
func parseNeedFanout(r *wire.Reader) Message {
	var m NeedFanout
	r.Fixed(m.PostID[:])
	r.Fixed(m.Fanout[:])
	return m
}

// BoardPage answers BoardList. Statement's root is that of the board the
// entries were read from.
type BoardPage struct {
	Entries   []BoardEntry // strictly ascending by name
	More      bool         // there are entries after the last of these
	Statement crossverify.Statement
}

func (BoardPage) Type() uint8 { return TypeBoardPage }
func (m BoardPage) Append(b []byte) []byte {
	b = wire.AppendU32(b, uint32(len(m.Entries)))
	for _, e := range m.Entries {
		b = e.append(b)
	}
	b = wire.AppendBool(b, m.More)
	return m.Statement.Append(b)
}
func parseBoardPage(r *wire.Reader) Message {
	var m BoardPage
	if n := r.Count(MaxBoardEntries, minEntry); n > 0 {
		m.Entries = make([]BoardEntry, n)
	}
	for i := range m.Entries {
		m.Entries[i] = boardEntry(r)
		if r.Err() != nil {
			return m
		}
		if i > 0 && bytes.Compare(m.Entries[i-1].Name[:], m.Entries[i].Name[:]) >= 0 {
			r.Fail(fmt.Errorf("entries: %w", ErrUnsorted))
		}
	}
	m.More = r.Bool()
	m.Statement = statement(r)
	return m
}

// BoardProof answers BoardProve: Proof leads from Name to Statement's root.
type BoardProof struct {
	Name      wire.Digest
	Proof     crossverify.Proof
	Statement crossverify.Statement
}

func (BoardProof) Type() uint8 { return TypeBoardProof }
func (m BoardProof) Append(b []byte) []byte {
	b = append(b, m.Name[:]...)
	b = wire.AppendBytes(b, m.Proof.Append(nil))
	return m.Statement.Append(b)
}
func parseBoardProof(r *wire.Reader) Message {
	var m BoardProof
	r.Fixed(m.Name[:])
	if b := r.Bytes(MaxProof); b != nil {
		p, err := crossverify.ParseProof(b)
		if err != nil {
			r.Fail(err)
		}
		m.Proof = p
	}
	m.Statement = statement(r)
	return m
}

// StatementIs answers StatementOf.
type StatementIs struct{ Statement crossverify.Statement }

func (StatementIs) Type() uint8               { return TypeStatementIs }
func (m StatementIs) Append(b []byte) []byte  { return m.Statement.Append(b) }
func parseStatementIs(r *wire.Reader) Message { return StatementIs{statement(r)} }

// SlotBlockIs answers SlotBlock. Slots has the length that the list and the
// exceptions make; crossverify.SlotsDigest binds it to the number's d.
type SlotBlockIs struct {
	N          uint64
	Mailboxes  []wire.MailboxID // strictly ascending
	Exceptions broadcast.Exceptions
	Slots      []byte // masked
}

func (SlotBlockIs) Type() uint8 { return TypeSlotBlockIs }
func (m SlotBlockIs) Append(b []byte) []byte {
	b = slices.Grow(b, 8+4+len(m.Mailboxes)*mailboxSize+4+2+3*len(m.Exceptions)+4+len(m.Slots))
	b = wire.AppendU64(b, m.N)
	b = appendMailboxes(b, m.Mailboxes)
	b = appendExceptions(b, m.Exceptions)
	return wire.AppendBytes(b, m.Slots)
}
func parseSlotBlockIs(r *wire.Reader) Message {
	m := SlotBlockIs{N: r.U64(), Mailboxes: mailboxes(r), Exceptions: exceptions(r), Slots: r.Bytes(MaxSlots)}
	if r.Err() == nil {
		if err := checkSlots(m.Exceptions, len(m.Mailboxes), m.Slots); err != nil {
			r.Fail(err)
		}
	}
	return m
}

// Pong answers Ping.
type Pong struct{ Value uint64 }

func (Pong) Type() uint8               { return TypePong }
func (m Pong) Append(b []byte) []byte  { return wire.AppendU64(b, m.Value) }
func parsePong(r *wire.Reader) Message { return Pong{r.U64()} }

// Refused says why a frame was not obeyed. Build it with Refusal.Frame and
// read it with Refusal: its texts come from a stranger.
type Refused struct {
	Of     uint8       // type of the refused frame
	PostID wire.PostID // of the refused request; zero: it had none
	Code   Code
	Limit  string        // name of the limit that was hit; at most MaxName bytes
	Retry  time.Duration // when to try again; whole milliseconds
	Text   string        // for people; at most MaxText bytes
}

func (Refused) Type() uint8 { return TypeRefused }
func (m Refused) Append(b []byte) []byte {
	b = append(b, m.Of)
	b = append(b, m.PostID[:]...)
	b = wire.AppendU16(b, uint16(m.Code))
	b = appendText(b, m.Limit)
	b = appendDuration(b, m.Retry, time.Millisecond)
	return appendText(b, m.Text)
}
func parseRefused(r *wire.Reader) Message {
	m := Refused{Of: r.U8()}
	r.Fixed(m.PostID[:])
	m.Code = Code(r.U16())
	m.Limit = text(r, MaxName)
	m.Retry = duration(r, time.Millisecond)
	m.Text = text(r, MaxText)
	return m
}

// Leaving says that the relay closes the link, when to come back, and where
// to go instead.
type Leaving struct {
	Code      Code
	Retry     time.Duration // whole milliseconds
	Successor string        // a multiaddr, or empty; at most MaxText bytes
}

func (Leaving) Type() uint8 { return TypeLeaving }
func (m Leaving) Append(b []byte) []byte {
	b = wire.AppendU16(b, uint16(m.Code))
	b = appendDuration(b, m.Retry, time.Millisecond)
	return appendText(b, m.Successor)
}
func parseLeaving(r *wire.Reader) Message {
	return Leaving{Code: Code(r.U16()), Retry: duration(r, time.Millisecond), Successor: text(r, MaxText)}
}

// appendDuration writes d in whole units as u32, rounded up so that nobody
// comes back too early, and kept within what a u32 holds.
func appendDuration(b []byte, d, unit time.Duration) []byte {
	n := max(d, 0) / unit
	if d > n*unit {
		n++
	}
	return wire.AppendU32(b, uint32(min(n, math.MaxUint32)))
}

func duration(r *wire.Reader, unit time.Duration) time.Duration {
	return time.Duration(r.U32()) * unit
}
