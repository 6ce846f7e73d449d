package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"parallax/broadcast/member"
	"parallax/internal/cli"
)

const demoWidth = 78 // columns of the story

// demoFields are what an event says to a program.
type demoFields map[string]any

// demoSummary is the last line of --json.
type demoSummary struct {
	Sent            int         `json:"sent"`
	Expected        int         `json:"deliveries_expected"`
	Delivered       int         `json:"deliveries"`
	Substitutions   int         `json:"substitutions"`
	Detected        int         `json:"detected"`
	DetectedWhen    string      `json:"detected_when,omitempty"`
	Leaked          int         `json:"leaked"`
	FalseAlarms     int         `json:"false_alarms"`
	ConvictedHonest int         `json:"convicted_honest"`
	SameSeatRefused int         `json:"same_seat_refused"`
	EvidenceFiles   []string    `json:"evidence_files"`
	Relays          []demoMarks `json:"relays"`
	Failures        []string    `json:"failures"`
	OK              bool        `json:"ok"`
	Wall            float64     `json:"wall_seconds"`
}

// demoMarks is how one path did, over all honest members and their messages.
type demoMarks struct {
	Relay     string `json:"relay"`
	Operator  string `json:"operator"`
	Lied      bool   `json:"lied"`
	Matched   uint64 `json:"matched"`
	Dissented uint64 `json:"dissented"`
	Silent    uint64 `json:"silent"`
	Failed    uint64 `json:"failed"`
}

// demoTeller tells the story: lines for people, or with --json an object a line.
type demoTeller struct {
	s     *cli.Streams
	began time.Time
	acts  int
}

func (t *demoTeller) print(format string, args ...any) {
	fmt.Fprintf(t.s.Out, format+"\n", args...)
}

func (t *demoTeller) json(v any) {
	e := json.NewEncoder(t.s.Out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// emit writes an event for programs, and tells whether that was all.
func (t *demoTeller) emit(kind string, f demoFields) bool {
	if !t.s.JSON {
		return false
	}
	all := demoFields{"event": kind, "seconds": demoSeconds(time.Since(t.began))}
	maps.Copy(all, f)
	t.json(all)
	return true
}

// event tells one thing.
func (t *demoTeller) event(kind string, f demoFields, format string, args ...any) {
	if !t.emit(kind, f) {
		t.print("%s", demoWrap(fmt.Sprintf(format, args...), "   "))
	}
}

func (t *demoTeller) begin(d *demo) {
	o := d.demoOptions
	if t.emit("begin", demoFields{"relays": o.relays, "members": o.members, "lying": o.lying, "quorum": o.need(), "strict": o.strict, "folder": d.dir}) {
		return
	}
	t.print("%s", demoWrap(fmt.Sprintf("Parallax demo: %s of unaffiliated operators, %s and a newcomer, %s. All of it runs on this computer, with real connections and files; nothing is configured.",
		cli.Plural(o.relays, "relay"), cli.Plural(o.members, "member"), cli.Plural(o.lying, "liar")), ""))
	after := "; deleted at the end (--keep DIR leaves it)"
	if o.keep != "" {
		after = ""
	}
	t.print("Folder: %s%s", d.dir, after)
}

func (t *demoTeller) act(format string, args ...any) {
	t.acts++
	text := fmt.Sprintf(format, args...)
	if t.emit("act", demoFields{"number": t.acts, "title": text}) {
		return
	}
	head := fmt.Sprintf("%d  %s", t.acts, text)
	at := fmt.Sprintf("%.1f s", demoSeconds(time.Since(t.began)))
	gap := max(2, demoWidth-utf8.RuneCountInString(head)-len(at))
	t.print("\n%s%s%s", t.s.Paint(demoBold, head), strings.Repeat(" ", gap), t.s.Paint(cli.Faint, at))
}

const demoBold cli.Color = "1"

// relay tells where a relay is.
func (t *demoTeller) relay(r *demoRelay) {
	if !t.emit("relay", demoFields{"relay": r.label, "operator": r.operator, "address": r.listen}) {
		t.print("   %-4s%-9s%s", r.label, r.operator, r.listen)
	}
}

// demoSigns are the marks as people see them, each with its colour.
var demoSigns = map[member.Mark]struct {
	sign  string
	color cli.Color
}{
	"matched": {"✓", cli.Green}, "dissented": {"✗", cli.Red}, "silent": {"–", cli.Yellow},
	"failed": {"!", cli.Red}, "awaiting": {"·", cli.Faint},
}

// marksHead names the columns of marks.
func (t *demoTeller) marksHead(d *demo) {
	if t.s.JSON {
		return
	}
	var b strings.Builder
	for _, r := range d.relays {
		fmt.Fprintf(&b, "%-4s", r.label)
	}
	t.print("   %s", t.s.Paint(cli.Faint, b.String()+"(✓ same copy  ✗ altered copy  · none)"))
}

// text tells a message: how the paths stood, who sent it, who got it.
func (t *demoTeller) text(d *demo, m *demoText, marks map[string]member.Mark) {
	got := len(m.to) - len(m.missing())
	if t.emit("message", demoFields{"id": m.id, "from": m.from.name, "text": m.text, "marks": marks, "delivered": got, "expected": len(m.to)}) {
		return
	}
	var b strings.Builder
	for _, r := range d.relays {
		s, ok := demoSigns[marks[r.label]]
		if !ok {
			s = demoSigns["awaiting"]
		}
		b.WriteString(t.s.Paint(s.color, s.sign) + strings.Repeat(" ", 3))
	}
	t.print("   %s%-6s %-48q %2d of %d", b.String(), m.from.name, m.text, got, len(m.to))
}

// code tells the group's security code.
func (t *demoTeller) code(code string, members int) {
	if t.emit("code", demoFields{"code": code, "members": members}) {
		return
	}
	t.print("   Security code of the group, the same at all %d members:", members)
	digits := strings.Fields(code)
	for len(digits) > 0 {
		n := min(6, len(digits))
		t.print("      %s", strings.Join(digits[:n], " "))
		digits = digits[n:]
	}
}

// alarm shows an alarm in the words of the node that raised it.
func (t *demoTeller) alarm(who string, e member.Event) {
	if t.emit("alarm", demoFields{"member": who, "relay": e.Relay, "concerns": e.Member, "text": e.Text, "marks": e.Marks}) {
		return
	}
	t.print("   %s", t.s.Paint(cli.Red, "ALARM at "+who))
	t.print("%s", demoWrap(cli.Clean(e.Text), "   | "))
}

// evidence tells where the evidence lies: whole paths, to be copied.
func (t *demoTeller) evidence(files []string) {
	if t.emit("evidence", demoFields{"files": files}) {
		return
	}
	t.print("   Anybody can check it, offline: parallax check-evidence FILE")
	for _, f := range files {
		t.print("      %s", f)
	}
}

// failure tells what was not as it must be.
func (t *demoTeller) failure(text string) {
	if !t.emit("failure", demoFields{"text": text}) {
		t.print("   %s", t.s.Paint(cli.Red, demoWrap("NOT AS IT MUST BE: "+text, "")))
	}
}

// summary ends the story.
func (t *demoTeller) summary(d *demo) {
	s := &d.sum
	s.Failures, s.OK = append([]string{}, d.failures...), len(d.failures) == 0
	s.EvidenceFiles = append([]string{}, s.EvidenceFiles...)
	if t.s.JSON {
		t.json(map[string]*demoSummary{"summary": s})
		return
	}
	t.act("Summary")
	row := func(what, format string, args ...any) { t.print("   %-34s %s", what, fmt.Sprintf(format, args...)) }
	row("messages sent", "%d", s.Sent)
	row("deliveries", "%d of %d", s.Delivered, s.Expected)
	if s.Substitutions > 0 {
		row("substitutions noticed", "%d of %d, %s", s.Detected, s.Substitutions, s.DetectedWhen)
		row("read by the false "+demoNames[1], "%d", s.Leaked)
		row("second keys refused (apart)", "%d of %d", s.SameSeatRefused, d.lying)
	}
	row("false alarms", "%d", s.FalseAlarms)
	row("honest relays or members blamed", "%d", s.ConvictedHonest)
	row("pieces of evidence", "%d", len(s.EvidenceFiles))
	t.print("")
	var rows [][]cli.Cell
	for _, r := range s.Relays {
		note := ""
		if r.Lied {
			note = "lied"
		}
		cell := func(n uint64, c cli.Color) cli.Cell {
			if n == 0 {
				c = cli.Plain
			}
			return cli.Cell{Text: fmt.Sprint(n), Color: c}
		}
		rows = append(rows, []cli.Cell{{Text: "   " + r.Relay}, {Text: r.Operator}, cell(r.Matched, cli.Green), cell(r.Dissented, cli.Red),
			cell(r.Silent, cli.Yellow), cell(r.Failed, cli.Red), {Text: note, Color: cli.Red}})
	}
	t.s.Table(t.s.Out, []string{"   relay", "operator", "matched", "dissented", "silent", "failed", ""}, rows)
	t.print("")
	if s.OK {
		t.print("   %s", t.s.Paint(cli.Green, "Every message arrived, every substitution was noticed, nobody honest was blamed."))
	} else {
		t.print("   %s", t.s.Paint(cli.Red, fmt.Sprintf("NOT AS IT MUST BE (%d):", len(s.Failures))))
		for _, f := range s.Failures {
			t.print("%s", demoWrap(f, "   - "))
		}
	}
	t.print("   %.1f seconds on this computer.", s.Wall)
	if d.keep != "" {
		t.print("   Everything is left in %s", d.dir)
		t.print("   Look around: parallax paths --data %s", filepath.Join(d.dir, demoMembersDir, demoNewcomer))
	} else if len(s.EvidenceFiles) > 0 {
		t.print("   Data folders are deleted, the evidence stays.")
	}
}

func demoSeconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Millisecond)) / float64(time.Second)
}

// demoWrap breaks text into lines of demoWidth, each after the same margin.
func demoWrap(text, margin string) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(margin+line+" "+word) > demoWidth {
			lines = append(lines, margin+line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, margin+line), "\n")
}
