package member

import (
	"errors"
	"fmt"

	"parallax/internal/wire"
)

// Join modes (docs/protocol.md section 8.4): who lets newcomers in.

// ErrMode: the group's mode does not allow it.
var ErrMode = errors.New("the group's mode does not allow this")

// modeName is a mode in a word.
func modeName(mode uint8) string {
	switch mode {
	case ModeOpen:
		return "open"
	case ModeApprove:
		return "approve"
	case ModeClosed:
		return "closed"
	}
	return fmt.Sprintf("mode %d", mode)
}

// modeWords says in a sentence who lets newcomers in.
func modeWords(mode uint8) string {
	switch mode {
	case ModeApprove:
		return "an admin approves who wants to join (approve)"
	case ModeClosed:
		return "nobody can be invited (closed)"
	}
	return "who has an invitation joins by it (open)"
}

// ModeNamed reads a mode in a word.
func ModeNamed(word string) (uint8, error) {
	for mode := ModeOpen; mode <= ModeClosed; mode++ {
		if modeName(mode) == word {
			return mode, nil
		}
	}
	return 0, fmt.Errorf("%w: a mode is open, approve or closed, not %q", ErrNoSuch, word)
}

// modeError says what a mode does not allow, and who changes it how.
func modeError(mode uint8) error {
	switch mode {
	case ModeApprove:
		return fmt.Errorf("%w: it is approve, so nobody lets itself in: an admin approves who asks", ErrMode)
	case ModeClosed:
		return fmt.Errorf("%w: it is closed, so there are no invitations; an owner changes it by `parallax group set --mode approve` or `--mode open`", ErrMode)
	}
	return fmt.Errorf("%w: it is %s", ErrMode, modeName(mode))
}

// shutOut tells whether a seat waits for approval because the group was shut to
// those who let themselves in while it came; else who let it in is out.
func (m *Machine) shutOut(seat wire.Seat) bool {
	s := m.standing(seat)
	return s.pending >= 0 && m.roster.all().cause(s.pending) == voidNot
}
