package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
	"rsc.io/qr"

	"github.com/mdp/qrterminal/v3"
)

// Streams is where a command reads and writes, and how.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	JSON     bool // data as JSON, one value a line
	Quiet    bool // no talk
	Verbose  bool // more talk
	NoColor  bool
}

// Standard is the process's own streams.
func Standard() *Streams { return &Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// Terminal tells whether a stream is a terminal.
func Terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Say talks, unless quiet.
func (s *Streams) Say(format string, args ...any) {
	if !s.Quiet {
		fmt.Fprintf(s.Err, format+"\n", args...)
	}
}

// Detail talks when asked to say more.
func (s *Streams) Detail(format string, args ...any) {
	if s.Verbose && !s.Quiet {
		fmt.Fprintf(s.Err, format+"\n", args...)
	}
}

// Data writes data: v as one line of JSON, or what human writes.
func (s *Streams) Data(v any, human func(w *strings.Builder)) error {
	if !s.JSON {
		var b strings.Builder
		human(&b)
		_, err := io.WriteString(s.Out, b.String())
		return err
	}
	e := json.NewEncoder(s.Out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// QR writes text as a QR code for a terminal, dark on light, as talk: it says
// nothing that the data does not.
func (s *Streams) QR(text string) {
	if _, err := qr.Encode(text, qr.L); err != nil {
		s.Say("This is too long for a QR code (%d characters).", len(text))
		return
	}
	qrterminal.GenerateWithConfig(text, qrterminal.Config{
		Level: qr.L, Writer: s.Err, HalfBlocks: true, QuietZone: 1,
		BlackChar: qrterminal.BLACK_BLACK, WhiteChar: qrterminal.WHITE_WHITE,
		BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK,
	})
}

// Color is an ANSI colour; Plain is none.
type Color string

// Colours that carry meaning beside the sign they colour, never alone.
const (
	Plain  Color = ""
	Green  Color = "32"
	Yellow Color = "33"
	Red    Color = "31"
	Faint  Color = "2"
)

// Paint colours text where Out is a terminal that wants it.
func (s *Streams) Paint(c Color, text string) string {
	if c == Plain || s.NoColor || os.Getenv("NO_COLOR") != "" || !Terminal(s.Out) {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Cell is one cell of a table.
type Cell struct {
	Text  string
	Color Color
}

// Cells makes plain cells.
func Cells(texts ...string) []Cell {
	row := make([]Cell, len(texts))
	for i, t := range texts {
		row[i].Text = t
	}
	return row
}

// Table writes rows in columns; head is nil or the first row. Widths count
// characters.
func (s *Streams) Table(w io.Writer, head []string, rows [][]Cell) {
	if head != nil {
		top := Cells(head...)
		for i := range top {
			top[i].Color = Faint
		}
		rows = append([][]Cell{top}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.Text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range row {
			b.WriteString(s.Paint(c.Color, c.Text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// Clean makes text of others fit for a terminal: control characters, and those
// that turn the direction of writing, become U+FFFD. Line ends become a space.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x2028, r == 0x2029:
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// CleanLines is Clean for text of several lines; lines after the first begin
// with indent, so that none can pass for something else.
func CleanLines(text, indent string) string {
	var lines []string
	for l := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		lines = append(lines, Clean(l))
	}
	return strings.Join(lines, "\n"+indent)
}

// Plural is "1 relay", "3 relays".
func Plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
