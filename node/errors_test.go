package node

import (
	"encoding/json"
	"errors"
	"testing"

	"parallax/internal/store"
)

// TestStoreErrorsCross: a damaged store, or one of another format, is told over
// the socket with its place, so that the exit code is the same both ways.
func TestStoreErrorsCross(t *testing.T) {
	cross := func(err error) error {
		raw, e := json.Marshal(toWire(err))
		if e != nil {
			t.Fatal(e)
		}
		w := &wireError{}
		if e := json.Unmarshal(raw, w); e != nil {
			t.Fatal(e)
		}
		return w.error()
	}
	corrupt := cross(&store.CorruptError{Path: "/d/000004.sst", Err: errors.New("checksum")})
	if c, ok := errors.AsType[*store.CorruptError](corrupt); !ok || c.Path != "/d/000004.sst" {
		t.Errorf("a damaged store came over as %v", corrupt)
	}
	format := cross(&store.FormatError{Path: "/d", Of: "store", Found: 9, Supported: 1})
	if f, ok := errors.AsType[*store.FormatError](format); !ok || f.Found != 9 {
		t.Errorf("another format came over as %v", format)
	}
}
