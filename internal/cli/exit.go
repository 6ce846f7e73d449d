package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/store"
	"parallax/internal/store/sealed"
	"parallax/node"
)

// Exit codes of every command.
const (
	OK         = 0
	Usage      = 1 // the command line, a link, an address or a configuration
	Unexpected = 2 // a mistake of the program, or an interruption
	Network    = 3 // network, disk, another process
	Contested  = 4 // a key that the relays do not agree on, or a code that differs
	Quota      = 5 // rate, quota, size, expiry
	Partial    = 6 // done in part: quorum or members are missing
	Assertion  = 7 // what was to be shown does not hold
	Data       = 8 // data of another format, or damaged
)

// Error is an error with the exit code that its command decided.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error with an exit code.
func Errorf(code int, format string, args ...any) error {
	return &Error{code, fmt.Errorf(format, args...)}
}

// exits is asked in this order: what says most about the cause comes first.
var exits = []struct {
	code   int
	causes []error
}{
	{Data, []error{member.ErrStore, member.ErrNewerFormat, crossverify.ErrEvidenceFormat, node.ErrBackup}},
	{Assertion, []error{crossverify.ErrEvidenceText, crossverify.ErrNotSigned, crossverify.ErrNoContradiction}},
	{Usage, []error{sealed.ErrPassphrase, sealed.ErrNoPassphrase, sealed.ErrPassphraseLength}},
	{Usage, []error{member.ErrLinkNot, member.ErrLinkCut, member.ErrLinkMistyped, member.ErrLinkVersion, member.ErrCodeForm, member.ErrCodeKind}},
	{Partial, []error{member.ErrTooFew, member.ErrDeclined}},
	{Contested, []error{member.ErrContested, member.ErrGenesis, member.ErrCodeDiffers}},
	{Quota, []error{member.ErrExpired, member.ErrOutboxFull, member.ErrTooLong}},
	{Network, []error{
		member.ErrUnreached, member.ErrRefused, node.ErrLocked, node.ErrPortInUse, node.ErrOtherKey, node.ErrNoAnswer,
		node.ErrGone, node.ErrClosed, store.ErrLocked, store.ErrClosed, context.DeadlineExceeded,
	}},
	{Usage, []error{
		member.ErrNoSuch, member.ErrAmbiguous, member.ErrNotAdmin, member.ErrNotReady, member.ErrSuperseded, member.ErrTaken, member.ErrName, member.ErrUnreachable,
		member.ErrNotOwner, member.ErrMode, member.ErrReader, member.ErrOut, member.ErrRestoring, member.ErrNotEntitled, member.ErrNothingToDo, member.ErrLastOwner,
		member.ErrRelayTwice, member.ErrRelayMany, member.ErrRelayLast, member.ErrRelayBusy, member.ErrNoSpare, member.ErrTable,
		node.ErrNoGroup, node.ErrAddress, node.ErrSocketPath, node.ErrNotEmpty,
	}},
	{Unexpected, []error{context.Canceled}},
}

// ExitCode is the exit code of a command that ends with err.
func ExitCode(err error) int {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if r, ok := errors.AsType[*proto.Refusal](err); ok {
		return r.Code.Row().Exit
	}
	if _, ok := errors.AsType[*store.CorruptError](err); ok {
		return Data
	}
	if _, ok := errors.AsType[*store.FormatError](err); ok {
		return Data
	}
	for _, row := range exits {
		for _, cause := range row.causes {
			if errors.Is(err, cause) {
				return row.code
			}
		}
	}
	if isIO(err) {
		return Network
	}
	return Unexpected
}

// isIO tells what the operating system or the network refused.
func isIO(err error) bool {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*os.LinkError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// Line is err as one line for people, without control characters.
func Line(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	var parts []string
	for p := range strings.SplitSeq(err.Error(), "\n") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return Clean(strings.Join(parts, "; "))
}
