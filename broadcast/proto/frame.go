package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"parallax/broadcast"
	"parallax/internal/wire"
)

// Errors of ReadFrame, besides the reader's own.
var (
	// ErrFrameEmpty: a length of zero, which has no room for the type.
	ErrFrameEmpty = errors.New("frame without a type")
	// ErrFrameTooLong: a body beyond what its type may have.
	ErrFrameTooLong = errors.New("frame is longer than its type allows")
)

// FrameHead is the length in bytes of what stands before a body: u32 length,
// type.
const FrameHead = 5

// firstRead is how many bytes of a body memory is taken for before the first
// of them came. Default: 64 KiB.
const firstRead = 64 << 10

// AppendFrame appends the frame as it goes over a stream: u32 length of type
// and body, type, body.
func AppendFrame(b []byte, f broadcast.Frame) []byte {
	b = wire.AppendU32(b, uint32(1+len(f.Body)))
	b = append(b, f.Type)
	return append(b, f.Body...)
}

// ReadFrame reads one frame. max tells the longest body of a type (MaxBody, or
// less) and is asked before the body is read. A length alone takes no more
// memory than twice what came, and firstRead.
//
// Errors: io.EOF when the stream ends between frames, io.ErrUnexpectedEOF when
// it ends within one, ErrFrameEmpty, ErrFrameTooLong (the returned frame has
// the type then, so that it can be refused by name), or the reader's. After an
// error the stream is of no use.
func ReadFrame(r io.Reader, max func(t uint8) int) (broadcast.Frame, error) {
	var head [FrameHead]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return broadcast.Frame{}, err
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length == 0 {
		return broadcast.Frame{}, ErrFrameEmpty
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return broadcast.Frame{}, unexpected(err)
	}
	f := broadcast.Frame{Type: head[4]}
	n := int64(length) - 1
	if limit := max(f.Type); n > int64(limit) {
		return f, fmt.Errorf("%w: %s of %d bytes, at most %d", ErrFrameTooLong, Name(f.Type), n, limit)
	}
	body := make([]byte, 0, min(n, firstRead))
	for int64(len(body)) < n {
		have := len(body)
		if have == cap(body) {
			grown := make([]byte, have, min(n, 2*int64(have)))
			copy(grown, body)
			body = grown
		}
		body = body[:cap(body)]
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			return f, unexpected(err)
		}
	}
	f.Body = body
	return f, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
