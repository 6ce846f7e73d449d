package member_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func exampleWelcome() *member.Welcome {
	w := &member.Welcome{Genesis: []byte("genesis"), Epochs: []member.Epoch{
		{Number: 1, Key: keys.NewSecret[keys.RoleEpoch](fill(0xa1))},
		{Number: 2, Key: keys.NewSecret[keys.RoleEpoch](fill(0xa2))},
	}}
	w.Sign(signer(1))
	return w
}

func TestWelcome(t *testing.T) {
	w := exampleWelcome()
	b := w.Append(nil)
	strict(t, member.ParseWelcome, b, w)
	otherFormat(t, member.ParseWelcome, b)
	pin(t, b, 189, "f0a0fa691d717fefece1445fa339e4cdb233b32f0376097e5073b0efdf56a869")
	if !keys.Ed25519(signer(1).Public(), specInput("welcome", b[:len(b)-64]), w.Signature[:]) {
		t.Error("the signature is not Sign(welcome, body)")
	}
	if err := w.Verify(keys.Ed25519); err != nil {
		t.Error(err)
	}
	other := *w
	if other.Author = signer(2).Public(); !errors.Is(other.Verify(keys.Ed25519), member.ErrBadSignature) {
		t.Error("another admin's key")
	}
	w.Epochs[1].Key.Expose()[0]++
	if err := w.Verify(keys.Ed25519); !errors.Is(err, member.ErrBadSignature) {
		t.Errorf("another epoch key: %v", err)
	}
}

func TestWelcomeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*member.Welcome)
		want   error
	}{
		"no epoch":         {func(w *member.Welcome) { w.Epochs = nil }, wire.ErrFormat},
		"epoch twice":      {func(w *member.Welcome) { w.Epochs[1].Number = 1 }, wire.ErrFormat},
		"descending":       {func(w *member.Welcome) { w.Epochs[1].Number = 0 }, wire.ErrFormat},
		"no first":         {func(w *member.Welcome) { w.Epochs = w.Epochs[1:] }, wire.ErrFormat},
		"genesis too long": {func(w *member.Welcome) { w.Genesis = make([]byte, member.MaxGenesis+1) }, wire.ErrTooLong},
		"65 epochs": {func(w *member.Welcome) {
			w.Epochs = make([]member.Epoch, member.MaxEpochs+1)
			for i := range w.Epochs {
				w.Epochs[i].Number = uint64(i) + 1
			}
		}, wire.ErrTooLong},
	} {
		w := exampleWelcome()
		c.change(w)
		if w.Check() == nil {
			t.Errorf("%s: Check takes it", name)
		}
		if _, err := member.ParseWelcome(w.Append(nil)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The longest welcome fits a board entry.
func TestLongestWelcome(t *testing.T) {
	w := exampleWelcome()
	w.Genesis = make([]byte, member.MaxGenesis)
	for i := len(w.Epochs); i < member.MaxEpochs; i++ {
		w.Epochs = append(w.Epochs, member.Epoch{Number: uint64(i) + 1})
	}
	if n := len(w.Append(nil)); n != broadcast.MaxEntryValue {
		t.Errorf("%d bytes, an entry takes %d", n, broadcast.MaxEntryValue)
	}
	if _, err := member.ParseWelcome(w.Append(nil)); err != nil {
		t.Error(err)
	}
}

// What holds secrets does not print them.
func TestSecretsDoNotPrint(t *testing.T) {
	w, i := exampleWelcome(), exampleInvitation()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(format, w.Epochs) + fmt.Sprintf(format, w) + fmt.Sprintf(format, i) + fmt.Sprintf(format, *i)
		for _, secret := range []byte{0xa1, 0xa2, 0xd0, 0xd1, 0xd2} {
			for _, leak := range []string{fmt.Sprintf("%x%[1]x%[1]x", secret), fmt.Sprintf("0x%x, 0x%[1]x", secret), fmt.Sprintf("%d %[1]d %[1]d", secret)} {
				if strings.Contains(text, leak) {
					t.Errorf("%s prints secret %x: %s", format, secret, text)
				}
			}
		}
	}
}

func FuzzParseWelcome(f *testing.F) {
	fuzzObject(f, exampleWelcome().Append(nil), member.ParseWelcome, func(w *member.Welcome) []byte { return w.Append(nil) })
}
