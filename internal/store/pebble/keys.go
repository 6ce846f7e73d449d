package pebble

import (
	"encoding/binary"

	"parallax/internal/store"
)

// Every key in Pebble begins with one byte for its kind, so no key of a unit
// can be taken for a revision or for the format number:
//
//	0x00 "format"          uint32, big endian
//	0x01 unit (16 bytes)   revision, uint64, big endian
//	0x02 key               value, as the unit gave them
const (
	kindMeta     = 0x00
	kindRevision = 0x01
	kindData     = 0x02
)

var formatKey = append([]byte{kindMeta}, "format"...)

func formatValue(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func revisionKey(u store.Unit) []byte { return append([]byte{kindRevision}, u[:]...) }

func dataKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), kindData), key...)
}
