package store

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestEnd(t *testing.T) {
	u := Unit{0: 7, 15: 0xff}
	if got := u.End(); !bytes.Equal(got, append([]byte{7}, append(make([]byte, 13), 1, 0)...)) {
		t.Errorf("End carries wrongly: %x", got)
	}
	if u != (Unit{0: 7, 15: 0xff}) {
		t.Errorf("End changed the unit: %x", u)
	}
	var last Unit
	for i := range last {
		last[i] = 0xff
	}
	if got := last.End(); got != nil {
		t.Errorf("End of the last unit is %x, want nil", got)
	}
}

func TestCheck(t *testing.T) {
	u := Unit{1}
	in := func(s string) []byte { return append(u[:], s...) }
	other := Unit{2, 1}
	for name, c := range map[string]struct {
		op Op
		ok bool
	}{
		"put":              {Op{Key: in("a"), Value: []byte("v")}, true},
		"put empty":        {Op{Key: in("a"), Value: []byte{}}, true},
		"delete":           {Op{Key: in("a")}, true},
		"bare unit":        {Op{Key: u[:], Value: []byte("v")}, true},
		"range":            {Op{Key: in("a"), To: in("b")}, true},
		"empty range":      {Op{Key: in("a"), To: in("a")}, true},
		"whole unit":       {Op{Key: u[:], To: u.End()}, true},
		"other unit":       {Op{Key: other[:], Value: []byte("v")}, false},
		"short key":        {Op{Key: u[:15], Value: []byte("v")}, false},
		"no key":           {Op{Value: []byte("v")}, false},
		"value and to":     {Op{Key: in("a"), Value: []byte("v"), To: in("b")}, false},
		"reversed":         {Op{Key: in("b"), To: in("a")}, false},
		"into other unit":  {Op{Key: in("a"), To: other[:]}, false},
		"past end of unit": {Op{Key: in("a"), To: append(u.End(), 0)}, false},
	} {
		b := Batch{Unit: u, Ops: []Op{{Key: in("x"), Value: []byte("v")}, c.op}}
		if err := b.Check(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFormatErrorAdvice(t *testing.T) {
	newer := (&FormatError{Path: "d", Of: "store", Found: 2, Supported: 1}).Error()
	older := (&FormatError{Path: "d", Of: "store", Found: 0, Supported: 1}).Error()
	if !strings.Contains(newer, "upgrade") || strings.Contains(older, "upgrade") {
		t.Errorf("advice: newer %q, older %q", newer, older)
	}
}
