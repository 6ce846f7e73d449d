package node

import (
	"bytes"
	"crypto/mlkem"
	"testing"
)

// TestFork: a job's bytes follow from its seed, differ from seed to seed and
// within a stream, and are not what the machine draws.
func TestFork(t *testing.T) {
	read := func(seed byte, parts ...int) (all []byte) {
		f := Entropy().Fork([32]byte{seed})
		for _, n := range parts {
			b := bytes.Repeat([]byte{0x55}, n) // what stands in the buffer does not matter
			if _, err := f.Read(b); err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return all
	}
	one := read(1, 100)
	if !bytes.Equal(one, read(1, 64, 1, 35)) {
		t.Error("one seed, two streams")
	}
	if bytes.Equal(one, read(2, 100)) {
		t.Error("two seeds, one stream")
	}
	if bytes.Equal(one[:32], one[32:64]) || bytes.Equal(one[:32], make([]byte, 32)) {
		t.Error("the stream repeats")
	}
	k, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	shared, ct := Entropy().Fork([32]byte{1}).Encapsulate(k.EncapsulationKey())
	again, _ := Entropy().Fork([32]byte{1}).Encapsulate(k.EncapsulationKey())
	if got, err := k.Decapsulate(ct); err != nil || !bytes.Equal(got, shared) || bytes.Equal(shared, again) {
		t.Errorf("encapsulation: %v", err)
	}
}
