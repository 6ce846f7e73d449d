package proto

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/wire"
)

// Why a frame is refused, besides the errors of package wire, of
// broadcast.ParseExceptions and of package crossverify's parsers.
var (
	// ErrUnknownType: a critical type (below 0x80) of another version: refuse
	// and close the link.
	ErrUnknownType = errors.New("frame of an unknown critical type")
	// ErrSkippable: a type from 0x80 on that this version does not know: go on
	// as if it had not come.
	ErrSkippable = errors.New("frame of an unknown type that may be skipped")
	// ErrUnsorted: mailboxes or board entries that are not strictly ascending.
	ErrUnsorted = errors.New("list is not strictly ascending")
	// ErrRotation: a Rotate of ordinal 0, which is the creation's, or to a
	// posting key of zeros, under which anybody could make a signature.
	ErrRotation = errors.New("rotation without an ordinal or a posting key")
	// ErrAdmins: admin keys that are too many, not strictly ascending, of a rank
	// that there is not, or without an owner.
	ErrAdmins = errors.New("list of admin keys that no channel can have")
	// ErrPlaces: a walk that asks for no place, too many, one twice, or one
	// below another.
	ErrPlaces = errors.New("list of places that no walk asks for")
	// ErrSlots: a slot block of another length than its fan-out list and
	// exceptions make.
	ErrSlots = errors.New("slot block does not fit the fan-out list")
)

// layout is what is known of one type.
type layout struct {
	name  string
	max   int // longest body, bytes
	parse func(*wire.Reader) Message
}

var layouts = [256]layout{
	TypeHello:       {"Hello", 2 + 2 + 8 + 32, parseHello},
	TypeInfo:        {"Info", 0, parseInfo},
	TypeCreate:      {"Create", 16 + 4 + MaxToken + 32 + 32 + sigSize, parseCreate},
	TypeGrant:       {"Grant", 16 + 32 + 32 + 4 + 4 + 8 + 1 + sigSize, parseGrant},
	TypeRegister:    {"Register", 32 + 32 + sigSize, parseRegister},
	TypeOpen:        {"Open", 16 + 16 + 8 + 4 + 1 + statementSize + sigSize, parseOpen},
	TypeAck:         {"Ack", 8, parseAck},
	TypeFetch:       {"Fetch", 8 + 8, parseFetch},
	TypePost:        {"Post", maxPost, parsePost},
	TypeBoardPut:    {"BoardPut", maxPut, parseBoardPut},
	TypeAdmit:       {"Admit", maxPut, parseAdmit},
	TypeBoardList:   {"BoardList", 32 + 4, parseBoardList},
	TypeBoardProve:  {"BoardProve", 32, parseBoardProve},
	TypeStatementOf: {"StatementOf", 8, parseStatementOf},
	TypeSlotBlock:   {"SlotBlock", 8, parseSlotBlock},
	TypePing:        {"Ping", 8, parsePing},
	TypeBye:         {"Bye", 0, parseBye},
	TypeRotate:      {"Rotate", 16 + 32 + 8 + 32 + 1 + MaxAdmins*33 + 4 + MaxEnded*mailboxSize + sigSize, parseRotate},
	TypeBoardWalk:   {"BoardWalk", 32 + 1 + MaxWalk*maxPrefix, parseBoardWalk},
	TypePostDigest:  {"PostDigest", 16 + 8 + 24 + broadcast.SealedDigestSize + sigSize, parsePostDigest},

	TypeWelcome:     {"Welcome", 2 + 8 + 4 + 4 + 4 + 32, parseWelcome},
	TypeInfoIs:      {"InfoIs", 32 + 4 + MaxName + sigSize + 1 + MaxFamilies*crossverify.DeclarationSize, parseInfoIs},
	TypeRegistered:  {"Registered", mailboxSize + statementSize, parseRegistered},
	TypeOpened:      {"Opened", statementSize + 1 + 16 + 8 + 32 + 8 + sigSize, parseOpened},
	TypeDeliver:     {"Deliver", 8 + 32 + 32 + sigSize + 8 + 24 + 4 + MaxEnvelope + 4 + 4 + broadcast.MaxSlotSize, parseDeliver},
	TypeBare:        {"Bare", 8 + 32 + 32 + sigSize, parseBare},
	TypeEntry:       {"Entry", 8 + 32 + sigSize + minEntry + MaxBoardValue, parseEntry},
	TypeTrimmed:     {"Trimmed", 16 + 8 + 32 + sigSize, parseTrimmed},
	TypeCaughtUp:    {"CaughtUp", 8, parseCaughtUp},
	TypeReceipt:     {"Receipt", 16 + statementSize, parseReceipt},
	TypeNeedFanout:  {"NeedFanout", 16 + 32, parseNeedFanout},
	TypeBoardPage:   {"BoardPage", MaxBoardPage, parseBoardPage},
	TypeBoardProof:  {"BoardProof", 32 + 4 + MaxProof + statementSize, parseBoardProof},
	TypeStatementIs: {"StatementIs", statementSize, parseStatementIs},
	TypeSlotBlockIs: {"SlotBlockIs", maxBlock, parseSlotBlockIs},
	TypePong:        {"Pong", 8, parsePong},
	TypeRefused:     {"Refused", 1 + 16 + 2 + 4 + MaxName + 4 + 4 + MaxText, parseRefused},
	TypeLeaving:     {"Leaving", 2 + 4 + 4 + MaxText, parseLeaving},

	TypeDeliverDigest: {"DeliverDigest", 8 + 32 + sigSize + 8 + 24 + broadcast.SealedDigestSize, parseDeliverDigest},
	TypeBoardNodes:    {"BoardNodes", MaxBoardNodes, parseBoardNodes},
}

// Encode makes a frame of a message.
func Encode(m Message) broadcast.Frame {
	return broadcast.Frame{Type: m.Type(), Body: m.Append(nil)}
}

// Parse makes a message of a frame: a value, never a pointer, whose slices
// alias f.Body. Errors name the frame and wrap one sentinel: ErrUnknownType,
// ErrSkippable, those above and those of package wire.
func Parse(f broadcast.Frame) (Message, error) {
	l := &layouts[f.Type]
	if l.parse == nil {
		if f.Type < 0x80 {
			return nil, fmt.Errorf("%w: 0x%02x", ErrUnknownType, f.Type)
		}
		return nil, fmt.Errorf("%w: 0x%02x", ErrSkippable, f.Type)
	}
	if len(f.Body) > l.max {
		return nil, fmt.Errorf("%s of %d bytes, at most %d: %w", l.name, len(f.Body), l.max, wire.ErrTooLong)
	}
	r := wire.NewReader(f.Body)
	m := l.parse(r)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return m, nil
}

// text reads bytes that must be UTF-8.
func text(r *wire.Reader, max int) string {
	b := r.Bytes(max)
	if !utf8.Valid(b) {
		r.Fail(wire.ErrFormat)
	}
	return string(b)
}

func appendText(b []byte, s string) []byte {
	return append(wire.AppendU32(b, uint32(len(s))), s...)
}

func statement(r *wire.Reader) (s crossverify.Statement) {
	b := r.Raw(statementSize)
	if b == nil {
		return s
	}
	s, err := crossverify.ParseStatement(b)
	if err != nil {
		r.Fail(err)
	}
	return s
}

func exceptions(r *wire.Reader) broadcast.Exceptions {
	b := r.Bytes(MaxExceptions)
	if b == nil {
		return nil
	}
	e, err := broadcast.ParseExceptions(b)
	if err != nil {
		r.Fail(fmt.Errorf("exceptions: %w", err))
	}
	return e
}

func appendExceptions(b []byte, e broadcast.Exceptions) []byte {
	b = wire.AppendU32(b, uint32(2+3*len(e)))
	return e.Append(b)
}

// mailboxes reads a fan-out list; nil when its count is 0.
func mailboxes(r *wire.Reader) []wire.MailboxID {
	raw := r.Raw(r.Count(MaxMailboxes, mailboxSize) * mailboxSize)
	if len(raw) == 0 {
		return nil
	}
	list := make([]wire.MailboxID, len(raw)/mailboxSize)
	for i := range list {
		list[i] = wire.MailboxID(raw[i*mailboxSize:])
	}
	if !broadcast.FanoutSorted(list) {
		r.Fail(fmt.Errorf("mailboxes: %w", ErrUnsorted))
	}
	return list
}

func appendMailboxes(b []byte, list []wire.MailboxID) []byte {
	b = wire.AppendU32(b, uint32(len(list)))
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return b
}

// checkSlots: do slots of count mailboxes have this length?
func checkSlots(e broadcast.Exceptions, count int, slots []byte) error {
	size, err := broadcast.BlockSize(e, count)
	if err != nil {
		return err
	}
	if size != len(slots) {
		return fmt.Errorf("%w: %d bytes for %d mailboxes, want %d", ErrSlots, len(slots), count, size)
	}
	return nil
}
