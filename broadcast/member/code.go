package member

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// CodeKind tells what a security code compares.
type CodeKind string

const (
	CodePair  CodeKind = "pair"  // two seats
	CodeGroup CodeKind = "group" // all seats of a group
)

// Layout of a code's text form, docs/protocol.md section 5.6.
const (
	codePrefix  = "parallax-code:"
	codeVersion = "1"
	codeDigits  = 60
	codeGroup   = 5  // digits that are read out together
	codeDevice  = 24 // hex digits of a seat
)

// MaxCodeText is how long a code may be as typed or scanned, in bytes, white
// space included.
const MaxCodeText = 1024

var (
	// ErrCodeForm: not a security code; the text names what is wrong.
	ErrCodeForm = errors.New("this is not a security code of 60 digits")
	// ErrCodeKind: a pair code in the place of a group code, or the reverse.
	ErrCodeKind = errors.New("this is a security code of the other kind")
)

// Code is a security code as it goes from one device to another. A code from
// digits alone has no Kind and no Device: the person says what it is.
type Code struct {
	Kind   CodeKind
	Digits string // 60
	Device string // group: the first 24 hex digits of the seat that shows it
}

// String is the text form, in capitals, for which QR codes have a denser mode.
func (c Code) String() string {
	switch c.Kind {
	case CodePair, CodeGroup:
	default:
		return c.Digits
	}
	parts := []string{codePrefix + codeVersion, string(c.Kind), c.Digits}
	if c.Kind == CodeGroup {
		parts = append(parts, c.Device)
	}
	return strings.ToUpper(strings.Join(parts, ":"))
}

// ParseCode reads 60 digits in any grouping, or the text form in any case;
// white space does not count. Errors: ErrCodeForm, ErrNewerFormat.
func ParseCode(text string) (Code, error) {
	if len(text) > MaxCodeText {
		return Code{}, fmt.Errorf("%w: it is too long for one", ErrCodeForm)
	}
	plain := strings.ToLower(strings.Join(strings.Fields(text), ""))
	rest, ok := strings.CutPrefix(plain, codePrefix)
	if !ok {
		digits, err := parseDigits(strings.Fields(text))
		return Code{Digits: digits}, err
	}
	parts := strings.Split(rest, ":")
	switch {
	case parts[0] != codeVersion && isDigits(parts[0]):
		return Code{}, fmt.Errorf("this security code %w", ErrNewerFormat)
	case parts[0] != codeVersion:
		return Code{}, fmt.Errorf("%w: no version stands after %q", ErrCodeForm, codePrefix)
	case len(parts) < 2:
		return Code{}, fmt.Errorf("%w: a part is missing", ErrCodeForm)
	}
	c := Code{Kind: CodeKind(parts[1])}
	want := 3
	switch c.Kind {
	case CodePair:
	case CodeGroup:
		want = 4
	default:
		return Code{}, fmt.Errorf("%w: it is neither of a pair nor of a group", ErrCodeForm)
	}
	if len(parts) != want {
		return Code{}, fmt.Errorf("%w: it has %d parts, not %d", ErrCodeForm, len(parts)+1, want+1)
	}
	var err error
	if c.Digits, err = parseDigits([]string{parts[2]}); err != nil {
		return Code{}, err
	}
	if c.Kind == CodeGroup {
		c.Device = parts[3]
		if len(c.Device) != codeDevice || strings.Trim(c.Device, "0123456789abcdef") != "" {
			return Code{}, fmt.Errorf("%w: the seat at its end is not %d hex digits", ErrCodeForm, codeDevice)
		}
	}
	return c, nil
}

// parseDigits takes the digits of a code, or names the first group of five that
// is wrong.
func parseDigits(groups []string) (string, error) {
	all := strings.Join(groups, "")
	if len(all) == codeDigits && isDigits(all) {
		return all, nil
	}
	if slices.ContainsFunc(groups, func(g string) bool { return len([]rune(g)) > codeGroup }) {
		groups = nil
		for g := range slices.Chunk([]rune(all), codeGroup) {
			groups = append(groups, string(g))
		}
	}
	const most = codeDigits / codeGroup
	for i, g := range groups {
		if i == most {
			return "", fmt.Errorf("%w: it goes on after group %d of five with %q", ErrCodeForm, most, g)
		}
		if len(g) != codeGroup || !isDigits(g) {
			return "", fmt.Errorf("%w: group %d of five is %q, want five digits", ErrCodeForm, i+1, g)
		}
	}
	return "", fmt.Errorf("%w: group %d of five is missing", ErrCodeForm, len(groups)+1)
}

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsDigit(r) })
}
