package node

import (
	"crypto/mlkem"
	"crypto/rand"
	"io"
	"time"

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

// Clock is the time of production: the wall clock at the call of Clock, then
// moved on by the monotonic clock alone, so that it never goes back.
func Clock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(time.Since(start)) }
}
