package pebble

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble's manifest and logs are sequences of records, cut into chunks that lie
// in blocks of frameBlock bytes, none over a block's end. A chunk is: checksum
// of all behind the length (4 bytes, little endian), length of the payload (2),
// type (1), in logs the log's number (4), in newer logs an offset (8), payload.
// What is left of a block is zero. Types come in fours (whole record, first,
// middle, last chunk of one), one four for each form of the header.
//
// Pebble takes whatever it cannot read in the manifest, or in the last block of
// the newest log, for the place where a crash cut the file off, and would go on
// without the records behind it. The checks here tell a cut from damage.
const (
	frameBlock  = 32 << 10
	frameFields = 7 // checksum, length, type
)

// page is what a disk is taken to write whole or not at all, at the end of a
// file that grows.
const page = 4096

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk is one chunk of a file, as its header has it.
type chunk struct {
	size    int  // header included; 0: no header is there
	begins  bool // a record begins with it
	log     bool // of a log, whose number is
	number  uint32
	payload []byte
	summed  []byte // what the checksum is of
	sum     uint32
}

// whole tells whether the checksum holds.
func (c chunk) whole() bool {
	if c.summed == nil {
		return false
	}
	sum := crc32.Checksum(c.summed, castagnoli)
	return c.sum == (sum>>15|sum<<17)+0xa282ead8 // stored like that since LevelDB
}

// chunkAt reads the chunk that b begins with.
func chunkAt(b []byte) (c chunk) {
	if len(b) < frameFields || b[6] == 0 {
		return c
	}
	headers := [...]int{frameFields, frameFields + 4, frameFields + 12}
	form := int(b[6]-1) / 4
	if form >= len(headers) || len(b) < headers[form] {
		return c
	}
	c.begins = (b[6]-1)%4 <= 1
	if c.log = form > 0; c.log {
		c.number = binary.LittleEndian.Uint32(b[frameFields:])
	}
	c.size = headers[form] + int(binary.LittleEndian.Uint16(b[4:]))
	if c.size > len(b) {
		return c
	}
	c.payload, c.summed, c.sum = b[headers[form]:c.size], b[6:c.size], binary.LittleEndian.Uint32(b)
	return c
}

// frameEnd is where the row of whole chunks that ok accepts ends.
func frameEnd(data []byte, ok func(chunk) bool) (at int) {
	for at < len(data) {
		left := data[at:min(len(data), at+frameBlock-at%frameBlock)]
		c := chunkAt(left)
		switch {
		case ok(c) && c.whole():
			at += c.size
		case c.size == 0 && len(left) < frameFields+12 && zero(left): // no room for a header
			at += len(left)
		default:
			return at
		}
	}
	return at
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// checkManifest refuses a damaged manifest. Every record is made durable before
// the next one is begun, and the first before the file counts; so a crash tears
// the last record only: nothing whole begins behind it, and where it is torn a
// page ends.
func checkManifest(fs vfs.FS, path string) error {
	data, err := readAll(fs, path)
	if err != nil {
		return err
	}
	mine := func(c chunk) bool { return !c.log }
	at := frameEnd(data, mine)
	if at == len(data) && at > 0 {
		return nil
	}
	torn := chunkAt(data[at:])
	damage := at == 0 || torn.size > 0 && at+torn.size <= len(data) && at/page == (at+torn.size-1)/page
	for i := at + 1; i < len(data) && !damage; i++ {
		// A middle or last chunk is no proof: it may belong to the torn record.
		c := chunkAt(data[i:])
		damage = mine(c) && c.begins && c.whole()
	}
	if damage {
		return fmt.Errorf("%w: %s cannot be read from byte %d on", engine.ErrCorruption, path, at)
	}
	return nil
}

// Every commit begins with one byte that goes to the log only: whether all
// commits before it were fsynced when it was written. Where such a one is read
// behind something that is not whole, no crash was at work. Damage to what was
// written last cannot be told from a crash.
const (
	afterLazy    = 0
	afterDurable = 1
)

// A record of the log has a header of 12 bytes; then the byte above, as the
// first entry of the batch: kind, length, byte.
const (
	recordHeader = 12
	kindLogData  = 3
)

// checkLog refuses a damaged log. number is that of its name; what has another
// one is left over from the file's last use.
func checkLog(fs vfs.FS, path string, number uint32) error {
	data, err := readAll(fs, path)
	if err != nil {
		return err
	}
	mine := func(c chunk) bool { return c.log && c.number == number }
	at := frameEnd(data, mine)
	for i := at + 1; i < len(data); i++ {
		c := chunkAt(data[i:])
		if !mine(c) || !c.begins || len(c.payload) < recordHeader+3 {
			continue
		}
		if p := c.payload[recordHeader:]; p[0] == kindLogData && p[1] == 1 && p[2] == afterDurable && c.whole() {
			return fmt.Errorf("%w: %s cannot be read from byte %d on, and goes on at byte %d", engine.ErrCorruption, path, at, i)
		}
	}
	return nil
}

func readAll(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return data, nil
}
