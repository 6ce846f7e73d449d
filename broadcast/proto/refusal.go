package proto

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"parallax/internal/wire"
)

// Code says why a relay refused, as a number on the wire.
type Code uint16

// Codes of docs/protocol.md section 11.
const (
	CodeMalformed    Code = 1
	CodeUnknownType  Code = 2
	CodeVersion      Code = 3
	CodeNoChannel    Code = 4
	CodeNotAllowed   Code = 5
	CodeTooLarge     Code = 6
	CodeQuota        Code = 7
	CodeRate         Code = 8
	CodeExpired      Code = 9
	CodeUsedUp       Code = 10
	CodeConflict     Code = 11
	CodeNotKept      Code = 12
	CodeBusy         Code = 13
	CodeShuttingDown Code = 14
	CodeLineage      Code = 15
	CodeEnded        Code = 16
)

// CodeRow is one row of the table of refusals.
type CodeRow struct {
	Code     Code
	Name     string // as in section 11
	Exit     int    // exit code of a command that ends with it
	Label    string // of metrics
	Sentence string // for people
	Retry    bool   // the same request may succeed later
}

// codes is the one table of refusals; row i is code i+1.
var codes = [...]CodeRow{
	{CodeMalformed, "malformed", 2, "malformed", "the relay could not read the request", false},
	{CodeUnknownType, "unknown type", 2, "unknown_type", "the relay does not know this kind of request; it may run an older version", false},
	{CodeVersion, "version", 2, "version", "the relay and this program share no version of the protocol", false},
	{CodeNoChannel, "no such channel", 3, "no_channel", "the relay does not keep this group's channel", false},
	{CodeNotAllowed, "not allowed", 3, "not_allowed", "the relay did not accept the token, capability, owner or proof shown", false},
	{CodeTooLarge, "too large", 5, "too_large", "the request is larger than the relay takes", false},
	{CodeQuota, "quota", 5, "quota", "the channel's share of the relay is full", true},
	{CodeRate, "rate", 5, "rate", "too many requests in a short time", true},
	{CodeExpired, "expired", 5, "expired", "the invitation or token has expired", false},
	{CodeUsedUp, "used up", 5, "used_up", "the invitation or token was used as often as it may be", false},
	{CodeConflict, "conflict", 2, "conflict", "the relay already keeps something else in this place", false},
	{CodeNotKept, "not kept any more", 3, "not_kept", "the relay no longer keeps what was asked for", false},
	{CodeBusy, "busy", 3, "busy", "the relay is busy", true},
	{CodeShuttingDown, "shutting down", 3, "shutting_down", "the relay is shutting down", true},
	{CodeLineage, "lineage", 3, "lineage", "the position belongs to a log that the relay lost and began anew", false},
	{CodeEnded, "ended", 3, "ended", "an admin ended this mailbox when the group's keys changed", false},
}

// Codes returns the table, in the order of codes.
func Codes() []CodeRow { return append([]CodeRow(nil), codes[:]...) }

// Row is the code's row. A code of a newer version has a row of its own, with
// its number as name, that promises nothing.
func (c Code) Row() CodeRow {
	if c >= 1 && int(c) <= len(codes) {
		return codes[c-1]
	}
	return CodeRow{c, fmt.Sprintf("code %d", uint16(c)), 3, "other", "the relay refused for a reason that this version does not know", false}
}

func (c Code) String() string { return c.Row().Name }

// Refusal is an error that names its code: what a relay answers with Refused,
// and what a member makes of one. It wraps Err.
type Refusal struct {
	Code  Code
	Limit string        // name of the limit that was hit, as in the settings; or empty
	Retry time.Duration // when to try again; zero: not known
	Err   error         // what happened; or nil. A relay's travels to the member
}

func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.Code.Row().Sentence)
	if r.Limit != "" {
		fmt.Fprintf(&b, " (limit %q)", r.Limit)
	}
	if r.Retry > 0 {
		fmt.Fprintf(&b, ", try again in %v", r.Retry)
	}
	if r.Err != nil {
		b.WriteString(": ")
		b.WriteString(r.Err.Error())
	}
	return b.String()
}

func (r *Refusal) Unwrap() error { return r.Err }

// Frame is the refusal of a frame of type of, with the post id that it had
// (zero: none). Texts are cut to what a frame holds.
func (r *Refusal) Frame(of uint8, id wire.PostID) Refused {
	m := Refused{Of: of, PostID: id, Code: r.Code, Limit: clip(r.Limit, MaxName), Retry: r.Retry}
	if r.Err != nil {
		m.Text = clip(r.Err.Error(), MaxText)
	}
	return m
}

// Refusal makes an error of the frame. The relay's words are quoted, so that
// nothing in them can pass for ours or steer a terminal.
func (m Refused) Refusal() *Refusal {
	r := &Refusal{Code: m.Code, Limit: m.Limit, Retry: m.Retry}
	if m.Text != "" {
		r.Err = fmt.Errorf("the relay says %q", m.Text)
	}
	return r
}

// RefusalOf finds the refusal in err. An error that carries none was a frame
// that could not be read: CodeUnknownType for ErrUnknownType, CodeTooLarge for
// ErrFrameTooLong, else CodeMalformed.
func RefusalOf(err error) *Refusal {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	code := CodeMalformed
	switch {
	case errors.Is(err, ErrUnknownType):
		code = CodeUnknownType
	case errors.Is(err, ErrFrameTooLong):
		code = CodeTooLarge
	}
	return &Refusal{Code: code, Err: err}
}

// clip cuts s to at most max bytes of valid UTF-8.
func clip(s string, max int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
