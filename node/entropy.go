package node

import (
	"crypto/mlkem"
	"crypto/rand"
	"io"
	"time"

	"golang.org/x/crypto/chacha20"

	"parallax/broadcast"
)

// Entropy is the randomness of production: crypto/rand and crypto/mlkem. Safe
// for concurrent use.
func Entropy() broadcast.Entropy { return entropy{} }

type entropy struct{}

func (entropy) Read(p []byte) (int, error) { return io.ReadFull(rand.Reader, p) }

func (entropy) Encapsulate(k *mlkem.EncapsulationKey768) (shared, ciphertext []byte) {
	return k.Encapsulate()
}

// Fork is a stream of ChaCha20 (RFC 8439) under the seed. A Job draws a few
// kilobytes of it.
func (entropy) Fork(seed [32]byte) broadcast.Entropy {
	c, err := chacha20.NewUnauthenticatedCipher(seed[:], make([]byte, chacha20.NonceSize))
	if err != nil {
		panic("node: ChaCha20 of a 32-byte key and a 12-byte nonce: " + err.Error())
	}
	return forked{entropy{}, c}
}

// forked is the entropy of one Job; ML-KEM draws its own from the system.
type forked struct {
	entropy
	stream *chacha20.Cipher
}

func (f forked) Read(p []byte) (int, error) {
	clear(p)
	f.stream.XORKeyStream(p, p)
	return len(p), nil
}

// Clock is the time of production: the wall clock at the call of Clock, then
// moved on by the monotonic clock alone, so that it never goes back.
func Clock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(time.Since(start)) }
}
