// Package needs is the one place where a test is skipped: for what this machine
// lacks and Go does not bring. Where nothing may be skipped, as in continuous
// integration, the variable PARALLAX_CI turns every skip into a failure.
package needs

import (
	"os"
	"os/exec"
	"testing"
)

// CI is the environment variable that forbids skipping: any text but an empty one.
const CI = "PARALLAX_CI"

// Missing skips a test, loudly, because of what is missing here; what is a
// sentence that says what was not tested and how to get what it takes.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(CI) != "" {
		t.Fatalf("%s (%s is set: nothing is skipped)", what, CI)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s", what)
}

// Tool skips a test unless a program is installed; get says how to install it.
func Tool(t testing.TB, name, get string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		Missing(t, name+" is not installed: "+get)
	}
}
