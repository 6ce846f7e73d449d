package proto

import (
	"slices"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Frames from member to relay, in the order of docs/protocol.md section 10.

// Hello is the first frame of a link: the versions a member speaks, and the
// channel that the link belongs to.
type Hello struct {
	Min, Max uint16
	Features uint64
	Channel  wire.ChannelID
}

func (Hello) Type() uint8 { return TypeHello }
func (m Hello) Append(b []byte) []byte {
	b = wire.AppendU16(wire.AppendU16(b, m.Min), m.Max)
	b = wire.AppendU64(b, m.Features)
	return append(b, m.Channel[:]...)
}
func parseHello(r *wire.Reader) Message {
	m := Hello{Min: r.U16(), Max: r.U16(), Features: r.U64()}
	r.Fixed(m.Channel[:])
	return m
}

// Info asks who operates the relay; InfoIs answers.
type Info struct{}

func (Info) Type() uint8             { return TypeInfo }
func (Info) Append(b []byte) []byte  { return b }
func parseInfo(*wire.Reader) Message { return Info{} }

// Create makes the link's channel. The token is what the operator gave out, at
// most MaxToken bytes; Posting authorises posts from then on.
type Create struct {
	PostID    wire.PostID
	Token     []byte
	Admin     keys.AdminPublic
	Posting   keys.PostingPublic
	Signature Signature // by Admin
}

func (Create) Type() uint8 { return TypeCreate }
func (m Create) Append(b []byte) []byte {
	b = append(b, m.PostID[:]...)
	b = wire.AppendBytes(b, m.Token)
	b = append(b, m.Admin[:]...)
	b = append(b, m.Posting[:]...)
	return append(b, m.Signature[:]...)
}
func parseCreate(r *wire.Reader) Message {
	var m Create
	r.Fixed(m.PostID[:])
	m.Token = r.Bytes(MaxToken)
	r.Fixed(m.Admin[:])
	r.Fixed(m.Posting[:])
	r.Fixed(m.Signature[:])
	return m
}

// Grant lets an invite posting key register and admit, within limits that the
// relay keeps, or takes that back.
type Grant struct {
	PostID    wire.PostID
	Signer    keys.AdminPublic   // one of the channel's admin keys
	Posting   keys.PostingPublic // of an invite
	Uses      uint32
	PerHour   uint32
	Expires   uint64 // Unix seconds
	Revoke    bool
	Signature Signature // by Signer
}

func (Grant) Type() uint8 { return TypeGrant }
func (m Grant) Append(b []byte) []byte {
	b = append(b, m.PostID[:]...)
	b = append(b, m.Signer[:]...)
	b = append(b, m.Posting[:]...)
	b = wire.AppendU32(wire.AppendU32(b, m.Uses), m.PerHour)
	b = wire.AppendU64(b, m.Expires)
	b = wire.AppendBool(b, m.Revoke)
	return append(b, m.Signature[:]...)
}
func parseGrant(r *wire.Reader) Message {
	var m Grant
	r.Fixed(m.PostID[:])
	r.Fixed(m.Signer[:])
	r.Fixed(m.Posting[:])
	m.Uses, m.PerHour, m.Expires, m.Revoke = r.U32(), r.U32(), r.U64(), r.Bool()
	r.Fixed(m.Signature[:])
	return m
}

// Register makes a mailbox; Registered answers.
type Register struct {
	Mailbox    keys.MailboxPublic
	Capability keys.PostingPublic // the channel's posting key or an invite's
	Signature  Signature          // by Capability
}

func (Register) Type() uint8 { return TypeRegister }
func (m Register) Append(b []byte) []byte {
	b = append(b, m.Mailbox[:]...)
	b = append(b, m.Capability[:]...)
	return append(b, m.Signature[:]...)
}
func parseRegister(r *wire.Reader) Message {
	var m Register
	r.Fixed(m.Mailbox[:])
	r.Fixed(m.Capability[:])
	r.Fixed(m.Signature[:])
	return m
}

// Open reads a mailbox from the number after After of Lineage on, at most
// Window entries ahead of the last Ack. Opened answers.
type Open struct {
	Mailbox   wire.MailboxID
	Lineage   wire.Lineage
	After     uint64
	Window    uint32                 // entries
	Known     *crossverify.Statement // the newest known of this relay; nil: none
	Signature Signature              // by the mailbox key, over the link's nonce
}

func (Open) Type() uint8 { return TypeOpen }
func (m Open) Append(b []byte) []byte {
	b = append(b, m.Mailbox[:]...)
	b = append(b, m.Lineage[:]...)
	b = wire.AppendU64(b, m.After)
	b = wire.AppendU32(b, m.Window)
	b = wire.AppendBool(b, m.Known != nil)
	if m.Known != nil {
		b = m.Known.Append(b)
	}
	return append(b, m.Signature[:]...)
}
func parseOpen(r *wire.Reader) Message {
	var m Open
	r.Fixed(m.Mailbox[:])
	r.Fixed(m.Lineage[:])
	m.After, m.Window = r.U64(), r.U32()
	if r.Bool() {
		s := statement(r)
		m.Known = &s
	}
	r.Fixed(m.Signature[:])
	return m
}

// Ack says that everything up to UpTo is durable at the member; it opens the
// window and answers nothing.
type Ack struct{ UpTo uint64 }

func (Ack) Type() uint8               { return TypeAck }
func (m Ack) Append(b []byte) []byte  { return wire.AppendU64(b, m.UpTo) }
func parseAck(r *wire.Reader) Message { return Ack{r.U64()} }

// Fetch asks for the numbers From to To again, both included.
type Fetch struct{ From, To uint64 }

func (Fetch) Type() uint8 { return TypeFetch }
func (m Fetch) Append(b []byte) []byte {
	return wire.AppendU64(wire.AppendU64(b, m.From), m.To)
}
func parseFetch(r *wire.Reader) Message { return Fetch{r.U64(), r.U64()} }

// Post is a masked bundle for one relay. Mailboxes is the fan-out list, or
// empty: the relay knows the list by its hash, else it answers NeedFanout.
// Parse checks Slots against the list only if the list is there; with the list
// from elsewhere CheckSlots does. That Fanout is the list's hash, nobody
// checked.
type Post struct {
	PostID     wire.PostID
	Hint       [broadcast.HintSize]byte
	Nonce      [broadcast.MaskNonceSize]byte // of the mask
	Fanout     wire.Digest                   // broadcast.FanoutHash of the list
	Mailboxes  []wire.MailboxID              // strictly ascending
	Exceptions broadcast.Exceptions
	Envelope   []byte    // masked
	Slots      []byte    // masked, back to back, one for each mailbox
	Signature  Signature // by the posting key, over Digest
}

func (Post) Type() uint8 { return TypePost }
func (m Post) Append(b []byte) []byte {
	b = m.head(b, len(m.Envelope), len(m.Slots))
	b = wire.AppendBytes(b, m.Envelope)
	b = wire.AppendBytes(b, m.Slots)
	return append(b, m.Signature[:]...)
}

// head is what stands before the envelope, with room for all that follows.
func (m *Post) head(b []byte, envelope, slots int) []byte {
	b = slices.Grow(b, maxPost-maxList-MaxEnvelope-MaxSlots-MaxExceptions+
		4+len(m.Mailboxes)*mailboxSize+2+len(m.Exceptions)*3+envelope+slots)
	b = append(b, m.PostID[:]...)
	b = append(b, m.Hint[:]...)
	b = append(b, m.Nonce[:]...)
	b = append(b, m.Fanout[:]...)
	b = appendMailboxes(b, m.Mailboxes)
	return appendExceptions(b, m.Exceptions)
}

// PostFrame is a Post whose Envelope and Slots are places in its own frame: the
// caller fills and masks them there, so that a bundle for many members lies in
// memory once. Everything else must be set before.
type PostFrame struct {
	Post
	body []byte
}

// NewPostFrame lays out the frame of m for an envelope and slots of so many
// bytes, all zero; those of m are not looked at.
func NewPostFrame(m Post, envelope, slots int) *PostFrame {
	f := &PostFrame{Post: m}
	b := f.head(nil, envelope, slots)
	place := func(n int) []byte {
		b = wire.AppendU32(b, uint32(n))
		b = b[:len(b)+n] // fresh from the allocator, so zero
		return b[len(b)-n : len(b) : len(b)]
	}
	f.Envelope, f.Slots = place(envelope), place(slots)
	f.body = b[:len(b)+len(m.Signature)]
	return f
}

// Frame is what Encode makes of the Post; its body is the one that was laid out.
func (f *PostFrame) Frame() broadcast.Frame {
	copy(f.body[len(f.body)-len(f.Signature):], f.Signature[:])
	return broadcast.Frame{Type: TypePost, Body: f.body}
}
func parsePost(r *wire.Reader) Message {
	var m Post
	r.Fixed(m.PostID[:])
	r.Fixed(m.Hint[:])
	r.Fixed(m.Nonce[:])
	r.Fixed(m.Fanout[:])
	m.Mailboxes = mailboxes(r)
	m.Exceptions = exceptions(r)
	m.Envelope = r.Bytes(MaxEnvelope)
	m.Slots = r.Bytes(MaxSlots)
	r.Fixed(m.Signature[:])
	if r.Err() == nil && len(m.Mailboxes) > 0 {
		if err := m.CheckSlots(len(m.Mailboxes)); err != nil {
			r.Fail(err)
		}
	}
	return m
}

// CheckSlots tells whether exceptions and slots fit a fan-out list of count
// mailboxes. Errors: broadcast.ErrExceptions, ErrSlots.
func (m Post) CheckSlots(count int) error { return checkSlots(m.Exceptions, count, m.Slots) }

// BoardPut writes a new version of a board entry.
type BoardPut struct {
	PostID         wire.PostID
	Name           wire.Digest // masked
	Version        uint64
	Value          []byte // sealed, at most MaxBoardValue
	Owner          keys.OwnerPublic
	OwnerSignature Signature // by Owner, over name, version and value
	Capability     keys.PostingPublic
	Signature      Signature // by Capability, over Digest
}

func (BoardPut) Type() uint8 { return TypeBoardPut }
func (m BoardPut) Append(b []byte) []byte {
	b = slices.Grow(b, maxPut-MaxBoardValue+len(m.Value))
	b = append(b, m.PostID[:]...)
	b = append(b, m.Name[:]...)
	b = wire.AppendU64(b, m.Version)
	b = wire.AppendBytes(b, m.Value)
	b = append(b, m.Owner[:]...)
	b = append(b, m.OwnerSignature[:]...)
	b = append(b, m.Capability[:]...)
	return append(b, m.Signature[:]...)
}
func parseBoardPut(r *wire.Reader) Message { return readBoardPut(r) }
func readBoardPut(r *wire.Reader) (m BoardPut) {
	r.Fixed(m.PostID[:])
	r.Fixed(m.Name[:])
	m.Version = r.U64()
	m.Value = r.Bytes(MaxBoardValue)
	r.Fixed(m.Owner[:])
	r.Fixed(m.OwnerSignature[:])
	r.Fixed(m.Capability[:])
	r.Fixed(m.Signature[:])
	return m
}

// Admit is a BoardPut whose capability is an invite posting key; the relay
// counts one use.
type Admit struct{ BoardPut }

func (Admit) Type() uint8               { return TypeAdmit }
func parseAdmit(r *wire.Reader) Message { return Admit{readBoardPut(r)} }

// BoardList asks for the entries with masked names after After (zero: from the
// first), as many as fit Limit bytes of BoardPage.
type BoardList struct {
	After wire.Digest
	Limit uint32 // bytes
}

func (BoardList) Type() uint8 { return TypeBoardList }
func (m BoardList) Append(b []byte) []byte {
	return wire.AppendU32(append(b, m.After[:]...), m.Limit)
}
func parseBoardList(r *wire.Reader) Message {
	var m BoardList
	r.Fixed(m.After[:])
	m.Limit = r.U32()
	return m
}

// BoardProve asks what stands on the board under a masked name; BoardProof
// answers.
type BoardProve struct{ Name wire.Digest }

func (BoardProve) Type() uint8              { return TypeBoardProve }
func (m BoardProve) Append(b []byte) []byte { return append(b, m.Name[:]...) }
func parseBoardProve(r *wire.Reader) Message {
	var m BoardProve
	r.Fixed(m.Name[:])
	return m
}

// StatementOf asks for the statement of one number; StatementIs answers.
type StatementOf struct{ N uint64 }

func (StatementOf) Type() uint8               { return TypeStatementOf }
func (m StatementOf) Append(b []byte) []byte  { return wire.AppendU64(b, m.N) }
func parseStatementOf(r *wire.Reader) Message { return StatementOf{r.U64()} }

// SlotBlock asks for the whole slot block of one number; SlotBlockIs answers.
type SlotBlock struct{ N uint64 }

func (SlotBlock) Type() uint8               { return TypeSlotBlock }
func (m SlotBlock) Append(b []byte) []byte  { return wire.AppendU64(b, m.N) }
func parseSlotBlock(r *wire.Reader) Message { return SlotBlock{r.U64()} }

// Ping asks for a Pong with the same value.
type Ping struct{ Value uint64 }

func (Ping) Type() uint8               { return TypePing }
func (m Ping) Append(b []byte) []byte  { return wire.AppendU64(b, m.Value) }
func parsePing(r *wire.Reader) Message { return Ping{r.U64()} }

// Bye ends the link in good order.
type Bye struct{}

func (Bye) Type() uint8             { return TypeBye }
func (Bye) Append(b []byte) []byte  { return b }
func parseBye(*wire.Reader) Message { return Bye{} }
