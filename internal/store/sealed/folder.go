package sealed

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"parallax/internal/store"
	"parallax/internal/wire"
)

// The file of a folder key:
//
//	u8 format   1
//	u8 form     0: [32] key; 1: u32 KiB, u32 passes, u8 lanes, [16] salt,
//	            [24] nonce, [48] sealed key, AD the file up to the nonce
//	[8]         first bytes of H("folder-key", all before)
//
// The sealing key is Argon2id (RFC 9106) of the passphrase and the salt.
const (
	folderFormat  = 1
	formPlain     = 0
	formSealed    = 1
	saltSize      = 16
	checkSize     = 8
	maxFolderFile = 256 // bytes
)

// Cost of trying a passphrase. The default is the second recommendation of
// RFC 9106, section 4.
const (
	DefaultMemory = 64 << 10 // KiB
	DefaultPasses = 3
	DefaultLanes  = 4
	// What a file may ask for, so that a bad one cannot take all memory.
	maxMemory = 1 << 20 // KiB
	maxPasses = 64
	maxLanes  = 64
	// MaxPassphrase is the longest passphrase, in bytes.
	MaxPassphrase = 1 << 10
)

var (
	// ErrPassphrase: the passphrase is not the one that the keys are sealed
	// with.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrNoPassphrase: the keys are sealed and no passphrase was given.
	ErrNoPassphrase = errors.New("sealed with a passphrase, and none was given")
	// ErrPassphraseLength: nobody could type it, or it is empty.
	ErrPassphraseLength = fmt.Errorf("a passphrase has 1 to %d bytes", MaxPassphrase)
)

// Cost is what one try of a passphrase costs. Zero fields mean the default.
type Cost struct {
	Memory uint32 // KiB
	Passes uint32
	Lanes  uint8
}

func (c *Cost) setDefaults() {
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.Passes == 0 {
		c.Passes = DefaultPasses
	}
	if c.Lanes == 0 {
		c.Lanes = DefaultLanes
	}
}

// bounded tells whether a file may ask for it.
func (c Cost) bounded() bool {
	return c.Passes >= 1 && c.Passes <= maxPasses && c.Lanes >= 1 && c.Lanes <= maxLanes &&
		c.Memory >= 8*uint32(c.Lanes) && c.Memory <= maxMemory
}

// FolderKey seals everything that one data folder keeps.
type FolderKey struct{ key [keySize]byte }

// String does not print the key.
func (*FolderKey) String() string { return "folder key" }

// GoString does not print the key.
func (*FolderKey) GoString() string { return "folder key" }

// NewFolderKey draws a key.
func NewFolderKey(entropy io.Reader) (*FolderKey, error) {
	k := &FolderKey{}
	_, err := io.ReadFull(entropy, k.key[:])
	return k, err
}

// Write puts the key into a file of mode 0600, whole or not at all, in the
// place of the one there: plain if passphrase is nil, else sealed with it.
func (k *FolderKey) Write(path string, passphrase []byte, cost Cost, entropy io.Reader) error {
	b, err := k.encode(passphrase, cost, entropy)
	if err != nil {
		return err
	}
	defer clear(b)
	return replace(path, b)
}

func (k *FolderKey) encode(passphrase []byte, cost Cost, entropy io.Reader) ([]byte, error) {
	b := make([]byte, 0, maxFolderFile) // one array: nothing of it stays elsewhere
	b = append(b, folderFormat, formPlain)
	if passphrase == nil {
		return withCheck(append(b, k.key[:]...)), nil
	}
	if len(passphrase) == 0 || len(passphrase) > MaxPassphrase {
		return nil, ErrPassphraseLength
	}
	cost.setDefaults()
	if !cost.bounded() {
		return nil, fmt.Errorf("sealed: no file may ask for a cost of %+v", cost)
	}
	random := make([]byte, saltSize+nonceSize)
	if _, err := io.ReadFull(entropy, random); err != nil {
		return nil, err
	}
	b[1] = formSealed
	b = wire.AppendU32(b, cost.Memory)
	b = wire.AppendU32(b, cost.Passes)
	b = append(b, cost.Lanes)
	b = append(b, random[:saltSize]...)
	ad := b
	b = append(b, random[saltSize:]...)
	b = cost.aead(passphrase, random[:saltSize]).Seal(b, random[saltSize:], k.key[:], ad)
	return withCheck(b), nil
}

func withCheck(b []byte) []byte {
	d := wire.Hash("parallax/1/folder-key", b)
	return append(b, d[:checkSize]...)
}

func (c Cost) aead(passphrase, salt []byte) cipher.AEAD {
	k := argon2.IDKey(passphrase, salt, c.Passes, c.Memory, c.Lanes, keySize)
	defer clear(k)
	aead, err := chacha20poly1305.NewX(k)
	if err != nil {
		panic("sealed: " + err.Error()) // the size is a constant
	}
	return aead
}

// LoadFolderKey reads a key file and removes what a Write that did not end
// left beside it. A sealed one asks for its passphrase, and tells with sealed
// that there is one. Errors: ErrPassphrase, ErrNoPassphrase (ask is nil or
// answers nil), what ask says, *store.CorruptError, *store.FormatError,
// fs.ErrNotExist.
func LoadFolderKey(path string, ask func() ([]byte, error)) (k *FolderKey, sealed bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFolderFile+1))
	defer clear(raw)
	if err != nil {
		return nil, false, err
	}
	if err := discard(path); err != nil {
		return nil, false, err
	}
	p, err := parseFolderKey(path, raw)
	if err != nil {
		return nil, false, err
	}
	if !p.sealed {
		return &FolderKey{p.key}, false, nil
	}
	if ask == nil {
		return nil, true, fmt.Errorf("%s is %w", path, ErrNoPassphrase)
	}
	passphrase, err := ask()
	if err != nil {
		return nil, true, err
	}
	if passphrase == nil {
		return nil, true, fmt.Errorf("%s is %w", path, ErrNoPassphrase)
	}
	k = &FolderKey{}
	plain, err := p.cost.aead(passphrase, p.salt).Open(k.key[:0], p.nonce, p.box, p.ad)
	if err != nil || len(plain) != keySize {
		return nil, true, fmt.Errorf("%s: %w", path, ErrPassphrase)
	}
	return k, true, nil
}

// folderFile is a parsed key file.
type folderFile struct {
	sealed               bool
	key                  [keySize]byte // of a plain one
	cost                 Cost
	salt, nonce, box, ad []byte
}

func parseFolderKey(path string, raw []byte) (p folderFile, err error) {
	damaged := func(why string) error { return &store.CorruptError{Path: path, Err: errors.New(why)} }
	if len(raw) == 0 || len(raw) > maxFolderFile {
		return p, damaged(fmt.Sprintf("%d bytes are no key file", len(raw)))
	}
	if raw[0] > folderFormat {
		return p, &store.FormatError{Path: path, Of: "key file", Found: uint64(raw[0]), Supported: folderFormat}
	}
	body := raw[:max(0, len(raw)-checkSize)]
	if string(withCheck(body[:len(body):len(body)])) != string(raw) {
		return p, damaged("its checksum does not hold")
	}
	r := wire.NewReader(body)
	if r.U8() != folderFormat {
		return p, damaged("there is no such format")
	}
	form := r.U8()
	switch form {
	case formPlain:
		r.Fixed(p.key[:])
	case formSealed:
		p.sealed = true
		p.cost = Cost{Memory: r.U32(), Passes: r.U32(), Lanes: r.U8()}
		p.salt = r.Raw(saltSize)
		p.ad = body[:len(body)-r.Len()]
		p.nonce, p.box = r.Raw(nonceSize), r.Raw(keySize+chacha20poly1305.Overhead)
	}
	if err := r.Done(); err != nil || form > formSealed || p.sealed && !p.cost.bounded() {
		return p, damaged("it is not what this program writes")
	}
	return p, nil
}
