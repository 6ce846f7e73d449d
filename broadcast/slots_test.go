package broadcast

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"parallax/internal/wire"
)

func TestSlotSizes(t *testing.T) {
	for class, want := range map[Class]int{Standing: 88, Answering: 136, FirstContact: 1264, Control: 1180, 4: 0} {
		if class.Size() != want {
			t.Errorf("class %d: %d bytes", class, class.Size())
		}
	}
}

func TestSlotGoldens(t *testing.T) {
	e := Exceptions{{1, FirstContact}, {258, Answering}, {259, Control}}
	if got := hex.EncodeToString(e.Append(nil)); got != "0003"+"000102"+"010201"+"010303" {
		t.Error(got)
	}
	if got := hex.EncodeToString(Exceptions(nil).Append(nil)); got != "0000" {
		t.Error(got)
	}
	list := []wire.MailboxID{{1}, {2}}
	if got := FanoutHash(list).String(); got != goldenFanout {
		t.Error(got)
	}
	if FanoutHash(list) != wire.Hash("parallax/1/fanout", append(bytes.Clone(list[0][:]), list[1][:]...)) {
		t.Error("not H(fanout, list)")
	}
}

func TestExceptionsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		hex  string
		want error
	}{
		"nothing":         {"", wire.ErrShort},
		"count only":      {"0001", wire.ErrShort},
		"cut":             {"00010001", wire.ErrShort},
		"trailing":        {"000000", wire.ErrTrailing},
		"one too many":    {"0001" + "000101" + "000201", wire.ErrTrailing},
		"twice":           {"0002" + "000101" + "000101", ErrExceptions},
		"descending":      {"0002" + "000201" + "000101", ErrExceptions},
		"standing":        {"0001" + "000100", ErrExceptions},
		"unknown class":   {"0001" + "000104", ErrExceptions},
		"beyond the last": {"0001" + "100001", ErrExceptions},
		"too many":        {"1001", wire.ErrTooLong},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := ParseExceptions(b); !errors.Is(err, c.want) || e != nil {
			t.Errorf("%s: %v, %v", what, e, err)
		}
	}
}

func drawExceptions(t *rapid.T, count int) Exceptions {
	var e Exceptions
	for i := range count {
		switch rapid.IntRange(0, 4).Draw(t, "class") {
		case 3:
			e = append(e, Exception{uint16(i), Control})
		case 1:
			e = append(e, Exception{uint16(i), Answering})
		case 2:
			e = append(e, Exception{uint16(i), FirstContact})
		}
	}
	return e
}

// Spans lie back to back, in order, and fill the block.
func TestSlotSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(0, 40).Draw(t, "mailboxes")
		e := drawExceptions(t, count)
		classes := make([]Class, count)
		for _, x := range e {
			classes[x.Index] = x.Class
		}
		at := 0
		for i := range count {
			offset, size := SlotSpan(e, i)
			if offset != at || size != classes[i].Size() {
				t.Fatalf("slot %d at %d, %d bytes; want %d, %d", i, offset, size, at, classes[i].Size())
			}
			at += size
		}
		if size, err := BlockSize(e, count); err != nil || size != at {
			t.Fatalf("block of %d bytes, %v; want %d", size, err, at)
		}
		got, err := ParseExceptions(e.Append(nil))
		if err != nil || !slices.Equal(got, e) {
			t.Fatalf("%v %v", got, err)
		}
		if len(e) > 0 {
			if _, err := BlockSize(e, int(e[len(e)-1].Index)); !errors.Is(err, ErrExceptions) {
				t.Fatalf("exception beyond the list: %v", err)
			}
		}
	})
}

func TestFanoutOrder(t *testing.T) {
	list := []wire.MailboxID{{3}, {1}, {2, 9}, {2}}
	SortFanout(list)
	if !FanoutSorted(list) || list[0] != (wire.MailboxID{1}) || list[3] != (wire.MailboxID{3}) {
		t.Error(list)
	}
	if i, ok := FanoutIndex(list, wire.MailboxID{2, 9}); !ok || i != 2 {
		t.Error(i, ok)
	}
	if _, ok := FanoutIndex(list, wire.MailboxID{4}); ok {
		t.Error("found what is not there")
	}
	if FanoutSorted([]wire.MailboxID{{1}, {1}}) {
		t.Error("a mailbox twice")
	}
}

func FuzzParseExceptions(f *testing.F) {
	f.Add(Exceptions(nil).Append(nil))
	f.Add(Exceptions{{0, Answering}, {4095, FirstContact}}.Append(nil))
	f.Add([]byte{0, 1, 0, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseExceptions(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.Append(nil), b) {
			t.Fatal("another encoding")
		}
		if _, err := BlockSize(e, MaxMailboxes); err != nil {
			t.Fatal(err)
		}
	})
}
