package proto

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"parallax/internal/wire"
)

// Section 11, row by row.
func TestCodes(t *testing.T) {
	want := []struct {
		name  string
		code  Code
		retry bool
		exit  int
	}{
		{"malformed", 1, false, 2},
		{"unknown type", 2, false, 2},
		{"version", 3, false, 2},
		{"no such channel", 4, false, 3},
		{"not allowed", 5, false, 3},
		{"too large", 6, false, 5},
		{"quota", 7, true, 5},
		{"rate", 8, true, 5},
		{"expired", 9, false, 5},
		{"used up", 10, false, 5},
		{"conflict", 11, false, 2},
		{"not kept any more", 12, false, 3},
		{"busy", 13, true, 3},
		{"shutting down", 14, true, 3},
		{"lineage", 15, false, 3},
		{"ended", 16, false, 3},
	}
	rows := Codes()
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	labels := map[string]bool{"other": true}
	for i, w := range want {
		r := rows[i]
		if r.Code != w.code || r.Name != w.name || r.Retry != w.retry || r.Exit != w.exit || w.code.Row() != r {
			t.Errorf("row %d is %+v, want %+v", i, r, w)
		}
		if r.Sentence == "" || labels[r.Label] || strings.Trim(r.Label, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("row %d: label %q, sentence %q", i, r.Label, r.Sentence)
		}
		labels[r.Label] = true
	}
	for _, c := range []Code{0, 17, 0xffff} {
		if r := c.Row(); r.Code != c || r.Label != "other" || r.Retry || r.Exit == 0 {
			t.Errorf("%+v", r)
		}
	}
	if s := Code(99).String(); s != "code 99" {
		t.Error(s)
	}
}

func TestRefusalTravels(t *testing.T) {
	sent := &Refusal{Code: CodeQuota, Limit: "relay.disk", Retry: 1500 * time.Microsecond, Err: errors.New("channel holds 64 MiB")}
	id := wire.PostID(fill16(1))
	m, err := Parse(Encode(sent.Frame(TypePost, id)))
	if err != nil {
		t.Fatal(err)
	}
	f := m.(Refused)
	if f.Of != TypePost || f.PostID != id || f.Code != CodeQuota {
		t.Errorf("%+v", f)
	}
	got := f.Refusal()
	if got.Code != sent.Code || got.Limit != sent.Limit || got.Retry != 2*time.Millisecond {
		t.Errorf("%+v", got)
	}
	if s := got.Error(); s != `the channel's share of the relay is full (limit "relay.disk"), try again in 2ms: the relay says "channel holds 64 MiB"` {
		t.Error(s)
	}
	if s := (Refused{Code: CodeBusy}).Refusal().Error(); s != "the relay is busy" {
		t.Error(s)
	}
}

// Whatever a machine's error says, its frame parses.
func TestRefusalIsCut(t *testing.T) {
	for _, text := range []string{strings.Repeat("ö", 200), strings.Repeat("x\xff", 200), "x" + strings.Repeat("ö", 127) + "y", ""} {
		m, err := Parse(Encode((&Refusal{Code: CodeBusy, Limit: text, Err: errors.New(text)}).Frame(0, wire.PostID{})))
		if err != nil {
			t.Fatal(err)
		}
		if f := m.(Refused); !utf8.ValidString(f.Text) || (text != "" && (len(f.Text) < MaxText-3 || len(f.Limit) < MaxName-3)) {
			t.Errorf("%d and %d bytes of %d", len(f.Text), len(f.Limit), len(text))
		}
	}
}

// A relay's words cannot steer a terminal.
func TestRefusalIsQuoted(t *testing.T) {
	r := Refused{Code: CodeBusy, Limit: "\x1b[2J", Text: "fine\n\x1b]0;owned\a"}.Refusal()
	if s := r.Error(); strings.ContainsAny(s, "\x1b\n\a") {
		t.Errorf("%q", s)
	}
}

func TestRefusalOf(t *testing.T) {
	inner := &Refusal{Code: CodeRate, Err: io.EOF}
	if got := RefusalOf(fmt.Errorf("post: %w", inner)); got != inner {
		t.Error(got)
	}
	if !errors.Is(inner, io.EOF) {
		t.Error("the cause is lost")
	}
	for want, err := range map[Code]error{
		CodeMalformed:   fmt.Errorf("Ping: %w", wire.ErrShort),
		CodeUnknownType: fmt.Errorf("%w: 0x7f", ErrUnknownType),
		CodeTooLarge:    fmt.Errorf("%w: Post", ErrFrameTooLong),
	} {
		if got := RefusalOf(err); got.Code != want || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got.Code)
		}
	}
}
