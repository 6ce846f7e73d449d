package simnet

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"math/rand/v2"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

const (
	tagStream = "parallax/1/simnet/stream"
)

// maxChecks bounds the signature checks a world remembers; a fuller memory is
// emptied whole.
const maxChecks = 1 << 18

// stream is the source that the seed gives to one use of one name: streams of
// different names are independent.
func stream(seed uint64, names ...string) *rand.ChaCha8 {
	parts := [][]byte{wire.U64(seed)}
	for _, n := range names {
		parts = append(parts, []byte(n))
	}
	return rand.NewChaCha8(wire.Hash(tagStream, parts...))
}

// entropy is broadcast.Entropy from a seed. One belongs to one life of one
// machine: a restarted process must not draw the same bytes again.
type entropy struct{ *rand.ChaCha8 }

// Encapsulate is ML-KEM-768 with bytes from the stream.
func (e entropy) Encapsulate(ek *mlkem.EncapsulationKey768) (shared, ciphertext []byte) {
	var m [32]byte
	e.Read(m[:])
	shared, ciphertext, err := mlkemtest.Encapsulate768(ek, m[:])
	if err != nil {
		panic("simnet: deterministic encapsulation: " + err.Error())
	}
	return shared, ciphertext
}

// Fork implements broadcast.Entropy.
func (entropy) Fork(seed [32]byte) broadcast.Entropy { return entropy{rand.NewChaCha8(seed)} }

// Seed draws 32 bytes for a key that belongs to name: the same in every world
// of this seed.
func (w *World) Seed(names ...string) (seed [32]byte) {
	stream(w.cfg.Seed, append([]string{"key"}, names...)...).Read(seed[:])
	return seed
}

// Rand is a stream for a test's own choices.
func (w *World) Rand(names ...string) *rand.Rand {
	return rand.New(stream(w.cfg.Seed, append([]string{"own"}, names...)...))
}

// Knows gives the world a key that many signatures are checked against: to make
// one again, which is always the same, costs half of checking it.
func (w *World) Knows(key ed25519.PrivateKey) { w.known[[32]byte(key[32:])] = key }

// Verify is keys.Ed25519, remembering answers: in one process every statement
// would otherwise be checked once for each member.
func (w *World) Verify(pub [32]byte, message, sig []byte) bool {
	h := sha256.New()
	h.Write(pub[:])
	h.Write(sig)
	h.Write(message)
	var k [32]byte
	h.Sum(k[:0])
	if ok, known := w.checks[k]; known {
		return ok
	}
	if len(w.checks) >= maxChecks {
		clear(w.checks)
	}
	key := w.known[pub]
	ok := key != nil && bytes.Equal(ed25519.Sign(key, message), sig) || keys.Ed25519(pub, message, sig)
	w.checks[k] = ok
	return ok
}

// between draws from [low, high].
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}
