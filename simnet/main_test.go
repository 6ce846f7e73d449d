package simnet

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets the heap grow: a world is small and soon garbage, and a seed
// costs an eighth less.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
