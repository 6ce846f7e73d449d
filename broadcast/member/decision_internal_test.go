package member

import (
	"bytes"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

type sealingEntropy struct{ *rand.ChaCha8 }

func (e sealingEntropy) Encapsulate(k *mlkem.EncapsulationKey768) ([]byte, []byte) {
	var seed [32]byte
	e.Read(seed[:])
	shared, ct, err := mlkemtest.Encapsulate768(k, seed[:])
	if err != nil {
		panic(err)
	}
	return shared, ct
}

func (e sealingEntropy) Fork([32]byte) broadcast.Entropy { return e }

// The epoch keys of a decision open with the prekeys that the request announced,
// and with nothing else; a byte that changed opens nothing.
func TestDecisionOpens(t *testing.T) {
	var o, other ownPrekeys
	for i, k := range []*ownPrekeys{&o, &other} {
		k.version, k.kem = 1, [64]byte{byte(i + 1)}
		k.set([32]byte{byte(i + 1)})
	}
	a := &Announcement{PrekeyID: o.ID, KEMID: o.KEMID, Prekey: o.Key.Public()}
	copy(a.KEM[:], o.KEM.EncapsulationKey().Bytes())
	epochs := []Epoch{{FirstEpoch, keys.NewSecret[keys.RoleEpoch]([32]byte{1})}, {1<<32 | 7, keys.NewSecret[keys.RoleEpoch]([32]byte{2})}}
	d := &Decision{Seat: wire.Seat{1}, Admitted: true}
	if err := d.SealEpochs(sealingEntropy{rand.NewChaCha8([32]byte{3})}, a, epochs); err != nil {
		t.Fatal(err)
	}
	if want := 4 + 4 + 32 + mlkem.CiphertextSize768 + 1 + 2*40 + 16; len(d.Sealed) != want {
		t.Errorf("%d bytes, want %d", len(d.Sealed), want)
	}
	only := func(k *ownPrekeys) func(a, b uint32) *ownPrekeys {
		return func(prekey, kem uint32) *ownPrekeys {
			if prekey == k.ID && kem == k.KEMID {
				return k
			}
			return nil
		}
	}
	list, err := d.openEpochs(only(&o))
	if err != nil || len(list) != 2 || list[1].Number != epochs[1].Number || !list[1].Key.Equal(&epochs[1].Key) {
		t.Fatalf("%v, %d epochs", err, len(list))
	}
	if _, err := d.openEpochs(only(&other)); !errors.Is(err, ErrSealedRequest) {
		t.Errorf("another's prekeys: %v", err)
	}
	if _, err := d.openEpochs(func(a, b uint32) *ownPrekeys { return nil }); !errors.Is(err, ErrSealedRequest) {
		t.Errorf("no prekeys: %v", err)
	}
	moved := *d
	moved.Seat = wire.Seat{2}
	if _, err := moved.openEpochs(only(&o)); err == nil {
		t.Error("it opens as another seat's")
	}
	for i := 0; i < len(d.Sealed); i += 13 {
		x := *d
		x.Sealed = bytes.Clone(d.Sealed)
		x.Sealed[i] ^= 1
		if _, err := x.openEpochs(only(&o)); err == nil {
			t.Fatalf("byte %d may change", i)
		}
	}
	slices.Reverse(epochs)
	if err := d.SealEpochs(sealingEntropy{rand.NewChaCha8([32]byte{3})}, a, epochs); err != nil {
		t.Fatal(err)
	}
	if _, err := d.openEpochs(only(&o)); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("epochs out of order: %v", err)
	}
}
