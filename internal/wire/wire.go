// Package wire holds what every other package writes bytes with: the ids, the
// tags under every hash and signature, and a strict reader and writer for the
// fixed, length-prefixed layouts of docs/protocol.md section 2.
//
// Everything here is a pure value or a pure function and safe for concurrent
// use; a Reader belongs to one goroutine.
package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
)

// Ids: size, origin and who may link them are in docs/protocol.md section 3.
type (
	// GroupID is SHA-256 of the genesis. Members only; no relay sees it.
	GroupID [32]byte
	// Seat is a member's stable id in one group. Members only.
	Seat [32]byte
	// Incarnation is 8 random bytes of one installation of a member.
	Incarnation [8]byte
	// ChannelID names a group on one relay; another one on every relay.
	ChannelID [32]byte
	// MailboxID names a member's read position on one channel.
	MailboxID [16]byte
	// PostID makes posting idempotent: one (channel, post id) has one number.
	PostID [16]byte
	// Digest is a SHA-256 value.
	Digest [32]byte
	// Lineage is one unbroken life of a channel's log: ordinal (8 bytes, big
	// endian), then 8 random bytes.
	Lineage [16]byte
)

// NewLineage puts an ordinal and 8 random bytes together.
func NewLineage(ordinal uint64, random [8]byte) (l Lineage) {
	binary.BigEndian.PutUint64(l[:8], ordinal)
	copy(l[8:], random[:])
	return l
}

// Ordinal is the lineage's place in the order of lives of one log.
func (l Lineage) Ordinal() uint64 { return binary.BigEndian.Uint64(l[:8]) }

// Short is the first 8 bytes in hex: how people see a message id.
func (d Digest) Short() string { return hex.EncodeToString(d[:8]) }

func (d Digest) String() string      { return hex.EncodeToString(d[:]) }
func (g GroupID) String() string     { return hex.EncodeToString(g[:]) }
func (s Seat) String() string        { return hex.EncodeToString(s[:]) }
func (s Seat) Short() string         { return hex.EncodeToString(s[:4]) }
func (c ChannelID) String() string   { return hex.EncodeToString(c[:]) }
func (m MailboxID) String() string   { return hex.EncodeToString(m[:]) }
func (l Lineage) String() string     { return hex.EncodeToString(l[:]) }
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// Input is the one encoding under every hash, signature and derivation:
// tag length (1 byte), tag, then every part with its length (4 bytes). It is
// injective, so two different inputs never meet under one hash.
func Input(tag string, parts ...[]byte) []byte {
	return appendInput(make([]byte, 0, inputSize(tag, parts)), tag, parts)
}

func inputSize(tag string, parts [][]byte) int {
	n := 1 + len(tag)
	for _, p := range parts {
		n += 4 + len(p)
	}
	return n
}

func appendInput(b []byte, tag string, parts [][]byte) []byte {
	b = append(b, byte(len(tag)))
	b = append(b, tag...)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// Hash is SHA-256 over Input(tag, parts...), which is not built where it is long
// and stays on the stack where it is short.
func Hash(tag string, parts ...[]byte) (d Digest) {
	var short [320]byte
	if inputSize(tag, parts) <= len(short) {
		return sha256.Sum256(appendInput(short[:0], tag, parts))
	}
	h := sha256.New()
	writeInput(h, tag, parts)
	h.Sum(d[:0])
	return d
}

func writeInput(h hash.Hash, tag string, parts [][]byte) {
	var n [4]byte
	h.Write([]byte{byte(len(tag))})
	h.Write([]byte(tag))
	for _, p := range parts {
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
}

// U64 is v in 8 bytes, big endian: how numbers enter Hash and Input.
func U64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// Errors of a Reader. Parse functions wrap them with what they were reading.
var (
	ErrShort    = errors.New("ends too early")
	ErrTrailing = errors.New("has bytes after its end")
	ErrTooLong  = errors.New("is longer than its limit")
	ErrFormat   = errors.New("has a value outside its format")
)

// Reader reads one value strictly. The first error sticks; Done reports it,
// and reports bytes that are left over.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads from b, which the reader aliases and never changes.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Fail makes err the reader's error unless it has one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Err is the first error so far.
func (r *Reader) Err() error { return r.err }

// Len is the number of bytes not read yet.
func (r *Reader) Len() int { return len(r.b) }

// Done ends reading: the first error, or ErrTrailing if bytes are left.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = ErrTrailing
	}
	return r.err
}

// Raw reads n bytes; the result aliases the input and is nil after an error.
func (r *Reader) Raw(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.b)) {
		r.err = ErrShort
	}
	if r.err != nil {
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Fixed fills dst.
func (r *Reader) Fixed(dst []byte) { copy(dst, r.Raw(len(dst))) }

func (r *Reader) U8() uint8 {
	if b := r.Raw(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *Reader) U16() uint16 {
	if b := r.Raw(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *Reader) U32() uint32 {
	if b := r.Raw(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *Reader) U64() uint64 {
	if b := r.Raw(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bool reads one byte that must be 0 or 1.
func (r *Reader) Bool() bool {
	v := r.U8()
	if v > 1 {
		r.Fail(ErrFormat)
	}
	return v == 1
}

// Bytes reads a 4-byte length of at most max, then as many bytes. The result
// aliases the input; it is never nil without an error.
func (r *Reader) Bytes(max int) []byte {
	n := r.U32()
	if r.err == nil && uint64(n) > uint64(max) {
		r.err = ErrTooLong
	}
	if r.err != nil {
		return nil
	}
	return r.Raw(int(n))
}

// Count reads a 4-byte count of at most max, of items at least min bytes each,
// so that a short input never asks for a large allocation.
func (r *Reader) Count(max, min int) int {
	n := r.U32()
	if r.err == nil && uint64(n) > uint64(max) {
		r.err = ErrTooLong
	}
	if r.err == nil && uint64(n)*uint64(min) > uint64(len(r.b)) {
		r.err = ErrShort
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Appenders: the writing side of Reader. All integers are big endian.

func AppendU16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func AppendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func AppendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// AppendBool appends 0 or 1.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendBytes appends a 4-byte length and v.
func AppendBytes(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
