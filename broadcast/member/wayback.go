package member

import (
	"crypto/mlkem"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// WayBack is what a member puts on the boards for another that lacks epoch keys:
// those keys, sealed to the prekeys of the announcement by which it asked
// (docs/protocol.md section 8.5). Who can open it has the private half of what the
// seat's own key signed; who wrote it is not shown and need not be, since a key is
// believed as far as an epoch operation commits to it.
type WayBack struct {
	Announcement wire.Digest // by which the seat asked
	Ephemeral    [32]byte    // X25519
	Ciphertext   [mlkem.CiphertextSize768]byte
	Sealed       []byte // u8 count, of each epoch: number u64 | key 32; then a tag of 16
}

const (
	tagWayBack     = "parallax/1/way/back"
	wayBackKeysMax = 1 + MaxEpochs*(8+keys.SeedSize) + chacha20poly1305.Overhead
)

// wayBackKey is the key that seals: no two have one, since each has an ephemeral
// key of its own.
func (w *WayBack) key(prekey, identity, shared []byte, gid wire.GroupID, seat wire.Seat) [32]byte {
	secret := append(append(append([]byte(nil), prekey...), identity...), shared...)
	defer clear(secret)
	return keys.Derive(secret, tagWayBack, gid[:], seat[:], w.Announcement[:], w.Ephemeral[:], w.Ciphertext[:])
}

// SealWayBack seals 1 to MaxEpochs epochs to an announcement. Error: its keys
// cannot be used.
func SealWayBack(entropy broadcast.Entropy, a *Announcement, epochs []Epoch) (*WayBack, error) {
	var seed [keys.SeedSize]byte
	draw(entropy, seed[:])
	ephemeral := keys.NewDHPrivate[keys.RolePrekey](seed)
	clear(seed[:])
	defer ephemeral.Zero()
	kem, err := mlkem.NewEncapsulationKey768(a.KEM[:])
	if err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	prekey, err := ephemeral.DH(a.Prekey)
	if err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	identity, err := ephemeral.DH(a.Identity)
	if err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	w := &WayBack{Announcement: a.Digest(), Ephemeral: ephemeral.Public()}
	shared, ct := entropy.Encapsulate(kem)
	copy(w.Ciphertext[:], ct)
	key := w.key(prekey, identity, shared, a.Group, a.Seat)
	defer clear(key[:])
	plain := appendEpochs(nil, epochs)
	defer clear(plain)
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("member: ChaCha20-Poly1305 takes any 32 bytes: " + err.Error())
	}
	w.Sealed = aead.Seal(nil, make([]byte, aead.NonceSize()), plain, nil)
	return w, nil
}

// open is what SealWayBack sealed, for the seat whose keys these are.
func (w *WayBack) open(o *ownPrekeys, identity keys.IdentityPrivate, gid wire.GroupID, seat wire.Seat) ([]Epoch, error) {
	dh1, err := o.Key.DH(w.Ephemeral)
	if err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	dh2, err := identity.DH(w.Ephemeral)
	if err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	shared, err := o.KEM.Decapsulate(w.Ciphertext[:])
	if err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	key := w.key(dh1, dh2, shared, gid, seat)
	defer clear(key[:])
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("member: ChaCha20-Poly1305 takes any 32 bytes: " + err.Error())
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), w.Sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("way back: it is sealed to other keys: %w", err)
	}
	defer clear(plain)
	r := wire.NewReader(plain)
	list := readEpochs(r)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	if err := checkEpochs(list); err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	return list, nil
}

// Append appends: format u8 | announcement digest 32 | ephemeral key 32 | ciphertext
// 1,088 | sealed as bytes.
func (w *WayBack) Append(b []byte) []byte {
	b = append(b, objectFormat)
	b = append(b, w.Announcement[:]...)
	b = append(b, w.Ephemeral[:]...)
	b = append(b, w.Ciphertext[:]...)
	return wire.AppendBytes(b, w.Sealed)
}

// ParseWayBack reads what Append wrote and nothing else.
func ParseWayBack(b []byte) (*WayBack, error) {
	w := new(WayBack)
	r := wire.NewReader(b)
	readObjectFormat(r)
	r.Fixed(w.Announcement[:])
	r.Fixed(w.Ephemeral[:])
	r.Fixed(w.Ciphertext[:])
	w.Sealed = r.Bytes(wayBackKeysMax)
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("way back: %w", err)
	}
	return w, nil
}

// appendEpochs appends u8 count, of each epoch: number u64 | key 32.
func appendEpochs(b []byte, list []Epoch) []byte {
	b = append(b, uint8(len(list)))
	for i := range list {
		b = wire.AppendU64(b, list[i].Number)
		b = append(b, list[i].Key.Expose()...)
	}
	return b
}

func readEpochs(r *wire.Reader) (list []Epoch) {
	for range readCount8(r, MaxEpochs) {
		e := Epoch{Number: r.U64()}
		r.Fixed(e.Key.Expose())
		list = append(list, e)
	}
	return list
}

// checkEpochs: 1 to MaxEpochs, strictly ascending by number, the first is FirstEpoch.
func checkEpochs(list []Epoch) error {
	if len(list) == 0 || len(list) > MaxEpochs {
		return fmt.Errorf("it has 1 to %d epochs, not %d: %w", MaxEpochs, len(list), wire.ErrFormat)
	}
	if list[0].Number != FirstEpoch {
		return fmt.Errorf("epoch %d comes first: %w", list[0].Number, wire.ErrFormat)
	}
	for i := 1; i < len(list); i++ {
		if list[i-1].Number >= list[i].Number {
			return fmt.Errorf("epoch %d after epoch %d: %w", list[i].Number, list[i-1].Number, wire.ErrFormat)
		}
	}
	return nil
}
