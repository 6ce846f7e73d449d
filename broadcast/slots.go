package broadcast

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"parallax/internal/wire"
)

// Class says how long a slot is. The sizes are those of docs/protocol.md
// section 5; what is inside a slot only package ratchet knows.
type Class uint8

const (
	Standing     Class = 0 // a standing session
	Answering    Class = 1 // a session whose answer's share still travels
	FirstContact Class = 2 // a session that begins
	Control      Class = 3 // a standing session with an encapsulation in front
)

// Sizes of a slot in bytes, by class.
const (
	StandingSize     = 88
	AnsweringSize    = 136
	FirstContactSize = 1264
	ControlSize      = 1180
	MaxSlotSize      = FirstContactSize
)

// MaxMailboxes is how many mailboxes a fan-out list names, hence how many
// slots a bundle has at most. Default: 4,096.
const MaxMailboxes = 4096

// MaxExceptions is the length in bytes of the longest encoded Exceptions.
const MaxExceptions = 2 + 3*MaxMailboxes

// ErrExceptions: exceptions out of order, of an unknown class, or beyond the
// fan-out list.
var ErrExceptions = errors.New("slot exceptions do not fit the fan-out list")

const tagFanout = "parallax/1/fanout"

// Size is the slot's length in bytes; 0 for a class that does not exist.
func (c Class) Size() int {
	switch c {
	case Standing:
		return StandingSize
	case Answering:
		return AnsweringSize
	case FirstContact:
		return FirstContactSize
	case Control:
		return ControlSize
	}
	return 0
}

// Exception is a slot that has not the standing size: the place of its mailbox
// in the fan-out list, and its class.
type Exception struct {
	Index uint16
	Class Class
}

// Exceptions are strictly ascending by Index and never of class Standing, so
// that one slot block has one encoding. A valid value comes from
// ParseExceptions or is built in the order of the fan-out list.
type Exceptions []Exception

// Append appends the encoding of docs/protocol.md section 6: u16 count, then
// index u16 and class u8 for each.
func (e Exceptions) Append(b []byte) []byte {
	b = wire.AppendU16(b, uint16(len(e)))
	for _, x := range e {
		b = append(wire.AppendU16(b, x.Index), byte(x.Class))
	}
	return b
}

// ParseExceptions reads what Append wrote, and nothing else. No exceptions are
// nil. Errors: those of package wire, ErrExceptions.
func ParseExceptions(b []byte) (Exceptions, error) {
	r := wire.NewReader(b)
	n := int(r.U16())
	if n > MaxMailboxes {
		r.Fail(wire.ErrTooLong)
	}
	if n*3 > r.Len() {
		r.Fail(wire.ErrShort)
	}
	if r.Err() != nil || n == 0 {
		return nil, r.Done()
	}
	e := make(Exceptions, n)
	last := -1
	for i := range e {
		e[i] = Exception{Index: r.U16(), Class: Class(r.U8())}
		if int(e[i].Index) <= last || int(e[i].Index) >= MaxMailboxes ||
			e[i].Class == Standing || e[i].Class.Size() == 0 {
			r.Fail(ErrExceptions)
		}
		last = int(e[i].Index)
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	return e, nil
}

// SlotSpan is the place of slot index within the slot block: the bytes from
// offset to offset+size. index is the mailbox's place in the fan-out list and
// not negative; whether the block is that long, BlockSize tells.
func SlotSpan(e Exceptions, index int) (offset, size int) {
	offset, size = index*StandingSize, StandingSize
	for _, x := range e {
		if int(x.Index) >= index {
			if int(x.Index) == index {
				size = x.Class.Size()
			}
			break
		}
		offset += x.Class.Size() - StandingSize
	}
	return offset, size
}

// BlockSize is the length in bytes of the slot block for count mailboxes.
// ErrExceptions: an exception names a slot beyond the last.
func BlockSize(e Exceptions, count int) (int, error) {
	if n := len(e); n > 0 && int(e[n-1].Index) >= count {
		return 0, fmt.Errorf("%w: exception for slot %d of %d", ErrExceptions, e[n-1].Index, count)
	}
	size, _ := SlotSpan(e, count)
	return size, nil
}

// FanoutHash names a fan-out list: H("fanout", list). The list must be sorted
// (SortFanout), else the relay refuses it.
func FanoutHash(list []wire.MailboxID) wire.Digest {
	b := make([]byte, 0, len(list)*len(wire.MailboxID{}))
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return wire.Hash(tagFanout, b)
}

// SortFanout sorts a fan-out list in place, ascending. Two equal mailboxes stay
// two; FanoutSorted finds them.
func SortFanout(list []wire.MailboxID) { slices.SortFunc(list, compareMailboxes) }

// FanoutSorted tells whether list is strictly ascending, as parsers demand it.
func FanoutSorted(list []wire.MailboxID) bool {
	for i := 1; i < len(list); i++ {
		if compareMailboxes(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// FanoutIndex finds a mailbox's place in a sorted list.
func FanoutIndex(list []wire.MailboxID, m wire.MailboxID) (int, bool) {
	return slices.BinarySearchFunc(list, m, compareMailboxes)
}

func compareMailboxes(a, b wire.MailboxID) int { return bytes.Compare(a[:], b[:]) }
