package sealed

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/store"
)

const (
	keySize   = chacha20poly1305.KeySize
	nonceSize = chacha20poly1305.NonceSizeX
	idSize    = 2
	// overhead is how much longer a sealed value is.
	overhead = idSize + nonceSize + chacha20poly1305.Overhead
)

var errOpen = errors.New("it does not open: altered, or of another place")

// key is one key with its number: 0 is the folder key.
type key struct {
	id    uint16
	made  time.Time // whole seconds; of a state key
	bytes [keySize]byte
	aead  cipher.AEAD
}

func newKey(id uint16, b [keySize]byte) *key {
	aead, err := chacha20poly1305.NewX(b[:])
	if err != nil {
		panic("sealed: " + err.Error()) // the size is a constant
	}
	return &key{id: id, bytes: b, aead: aead}
}

// seal appends a sealed value.
func (k *key) seal(dst, nonce, record, value []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, k.id)
	dst = append(dst, nonce...)
	return k.aead.Seal(dst, nonce, value, recordAD(record))
}

// forget drops the key. The cipher's own copy goes with the garbage.
func (k *key) forget() {
	clear(k.bytes[:])
	k.aead = nil
}

// ring is the keys of a store.
type ring struct {
	folder   *key
	state    *key
	previous *key // while its records are sealed anew; else nil
}

// of is the key that seals a record.
func (r *ring) of(record, kinds []byte) *key {
	if n := len(store.Unit{}); len(record) > n && slices.Contains(kinds, record[n]) {
		return r.state
	}
	return r.folder
}

// open opens a value. It is never nil.
func (r *ring) open(record, value []byte) ([]byte, error) {
	if len(value) < overhead {
		return nil, fmt.Errorf("%d bytes cannot be a sealed value", len(value))
	}
	id := binary.BigEndian.Uint16(value)
	for _, k := range []*key{r.folder, r.state, r.previous} {
		if k == nil || k.id != id {
			continue
		}
		plain, err := k.aead.Open(make([]byte, 0, len(value)-overhead), value[idSize:idSize+nonceSize], value[idSize+nonceSize:], recordAD(record))
		if err != nil {
			return nil, errOpen
		}
		return plain, nil
	}
	return nil, fmt.Errorf("sealed with state key %d, which is gone", id)
}
