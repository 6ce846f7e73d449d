package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// cursorEvery is how many events may be shown again after a crash.
const cursorEvery = 64

func newTail(a *app) *cobra.Command {
	var follow bool
	var since uint64
	c := &cobra.Command{
		Use: "tail [GROUP]", Short: "Show what is new, and with --follow what comes", Args: cli.Args(0, 1),
		Long: "Shows what was not shown before: messages, joins and alarms, each at least once. The data folder remembers how far.\n" +
			"With --follow it goes on until it is interrupted, and other commands work through it meanwhile.",
		RunE: func(c *cobra.Command, args []string) error {
			t := &tail{app: a, follow: follow, since: c.Flags().Changed("since"), after: since}
			for {
				again, err := t.run(c.Context(), first(args))
				if follow && c.Context().Err() != nil {
					return nil
				}
				if !again {
					return err
				}
			}
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	c.Flags().Uint64Var(&since, "since", 0, "show again what has a number above this one")
	return c
}

// tail shows events from a position on.
type tail struct {
	*app
	follow  bool
	since   bool   // after was given
	after   uint64 // number of the newest event shown
	cursor  uint64 // as stored
	path    string
	unsaved int
	printer printer
	watch   watch
}

// run shows events until there are no more or ctx ends. again: the process that
// had the folder open ended, so that this one can take its place.
func (t *tail) run(ctx context.Context, name string) (again bool, err error) {
	dir, err := t.folder()
	if err != nil {
		return false, err
	}
	if _, err := os.Stat(filepath.Join(dir, "groups")); errors.Is(err, fs.ErrNotExist) {
		return false, cli.Errorf(cli.Usage, "%w (%s)", node.ErrNoGroup, dir)
	}
	c, err := t.connect(ctx, t.follow)
	if err != nil {
		return false, err
	}
	defer func() {
		if e := c.Close(); !again {
			err = errors.Join(err, e)
		}
	}()
	g, err := t.group(ctx, c, name)
	if err != nil {
		return t.retry(err), err
	}
	if err := t.open(filepath.Join(dir, "cursors", g.Unit)); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, t.save()) }()
	var s member.Status
	if t.follow {
		s, err = ask[member.Status](ctx, c, g.Unit, member.GetStatus{})
	} else {
		s, err = t.catchUp(ctx, c, g.Unit)
	}
	if err != nil {
		return t.retry(err), err
	}
	t.watch = watch{start: time.Now()}
	t.printer = printer{app: t.app, relays: labels(s), until: s.Events}
	if t.printer.now, err = marksNow(ctx, c, g.Unit); err != nil {
		return t.retry(err), err
	}
	if !t.follow && t.after >= s.Events {
		return false, nil
	}
	for e, err := range c.Events(ctx, g.Unit, t.after) {
		if err != nil {
			return t.retry(err), err
		}
		if e.Number == 0 {
			t.hint(ctx, c, g.Unit, e)
			continue
		}
		if err := t.printer.event(e); err != nil {
			return false, err
		}
		t.after = e.Number
		if t.unsaved++; t.unsaved >= cursorEvery || e.Number >= s.Events {
			if err := t.save(); err != nil {
				return false, err
			}
		}
		if !t.follow && e.Number >= s.Events {
			break
		}
	}
	return false, nil
}

// hint tells a follower what passes: how far catching up is, now and then, and the
// rest with -v.
func (t *tail) hint(ctx context.Context, c node.Client, unit string, e member.Event) {
	if !t.follow || e.Kind == member.EventMarks || e.Text == "" {
		return
	}
	if e.Kind != member.EventProgress {
		t.Detail("%s", cli.Clean(e.Text))
		return
	}
	s, err := ask[member.Status](ctx, c, unit, member.GetStatus{})
	if err != nil {
		return // the next hint tells
	}
	if text := t.watch.progress(time.Now(), s); text != "" {
		t.Say("%s", text)
	}
}

// retry tells whether a follower takes the place of the process that ended.
func (t *tail) retry(err error) bool { return t.follow && errors.Is(err, node.ErrGone) }

// open reads the cursor; a damaged one shows everything again.
func (t *tail) open(path string) error {
	if t.path != "" {
		return nil // taken over: the position is in memory
	}
	t.path = path
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.cursor, err = strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		t.cursor = 0
	}
	if !t.since {
		t.after = t.cursor
	}
	return nil
}

// save moves the cursor forward.
func (t *tail) save() error {
	t.unsaved = 0
	if t.after <= t.cursor {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(t.path), 0o700); err != nil {
		return err
	}
	if err := cli.WriteOver(t.path, fmt.Appendf(nil, "%d\n", t.after)); err != nil {
		return err
	}
	t.cursor = t.after
	return nil
}

func newHistory(a *app) *cobra.Command {
	var search string
	var limit int
	c := &cobra.Command{
		Use: "history [GROUP]", Short: "Show messages again", Args: cli.Args(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := c.Context()
			if limit < 0 {
				return cli.Errorf(cli.Usage, "--limit is %d, want 0 for all, or a number of messages", limit)
			}
			return a.with(ctx, func(client node.Client) error {
				g, err := a.group(ctx, client, first(args))
				if err != nil {
					return err
				}
				s, err := a.catchUp(ctx, client, g.Unit)
				if err != nil {
					return err
				}
				list, err := messages(ctx, client, g.Unit, s.Events, search)
				if err != nil {
					return err
				}
				if limit > 0 && len(list) > limit {
					a.Say("%d older messages: --limit 0 shows all.", len(list)-limit)
					list = list[len(list)-limit:]
				}
				p := printer{app: a, relays: labels(s), until: s.Events}
				if p.now, err = marksNow(ctx, client, g.Unit); err != nil {
					return err
				}
				for _, e := range list {
					if err := p.event(e); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&search, "search", "", "only messages with this in text or name")
	c.Flags().IntVar(&limit, "limit", 50, "the newest so many; 0: all")
	c.AddCommand(newPassOn(a))
	return c
}

// messages reads the messages among the first so many events.
func messages(ctx context.Context, c node.Client, unit string, events uint64, search string) (list []member.Event, err error) {
	if events == 0 {
		return nil, nil
	}
	search = strings.ToLower(search)
	for e, err := range c.Events(ctx, unit, 0) {
		if err != nil {
			return nil, err
		}
		if (e.Kind == member.EventMessage || e.Kind == member.EventPassed) && hasText(e, search) {
			list = append(list, e)
		}
		if e.Number >= events {
			break
		}
	}
	// What came from its sender after all stands there as the sender's.
	own := map[string]bool{}
	for _, e := range list {
		own[e.ID] = own[e.ID] || e.Kind == member.EventMessage
	}
	return slices.DeleteFunc(list, func(e member.Event) bool { return e.Kind == member.EventPassed && own[e.ID] }), nil
}

// hasText finds lower-case text in what an event says, or in whose names.
func hasText(e member.Event, search string) bool {
	for _, text := range []string{e.Text, e.Member, e.Of} {
		if strings.Contains(strings.ToLower(text), search) {
			return true
		}
	}
	return false
}

// marksNow is how the paths stand for the messages that the membership still
// compares, by message id.
func marksNow(ctx context.Context, c node.Client, unit string) (map[string]map[string]member.Mark, error) {
	const all = 1 << 20
	paths, err := ask[member.Paths](ctx, c, unit, member.GetPaths{Limit: all})
	if err != nil {
		return nil, err
	}
	now := map[string]map[string]member.Mark{}
	for _, row := range paths.Messages {
		now[row.ID] = row.Marks
	}
	return now, nil
}

// printer shows events, as lines for people or as JSON.
type printer struct {
	*app
	relays []string // labels in their order
	// An event carries the marks it was delivered with; of those up to number
	// until the ones of now are known as well, by message id.
	until uint64
	now   map[string]map[string]member.Mark
}

func (p printer) event(e member.Event) error {
	if m := p.now[e.ID]; m != nil && e.Number <= p.until {
		e.Marks = m
	}
	return p.Data(e, func(w *strings.Builder) {
		at := e.Time
		if (e.Kind == member.EventMessage || e.Kind == member.EventPassed) && !e.Sent.IsZero() {
			at = e.Sent
		}
		stamp := p.Paint(cli.Faint, at.Local().Format(time.DateTime))
		switch e.Kind {
		case member.EventMessage:
			who := cli.Clean(e.Member)
			if e.Own {
				who = "you"
			}
			late := ""
			if e.Late {
				late = " (late)"
			}
			if e.Passed != "" {
				late = fmt.Sprintf(" (passed on by %s)", cli.Clean(e.Passed))
			}
			fmt.Fprintf(w, "%s %s%s: %s  %s %s\n", stamp, who, late, cli.CleanLines(e.Text, "    "), p.marks(e.Marks), p.Paint(cli.Faint, e.ID))
		case member.EventPassed: // nothing of the sender's own stands behind it
			fmt.Fprintf(w, "%s %s passed on, as of %s: %s  %s\n", stamp, cli.Clean(e.Member), cli.Clean(e.Of), cli.CleanLines(e.Text, "    "), p.Paint(cli.Faint, e.ID))
		case member.EventJoined:
			fmt.Fprintf(w, "%s + %s\n", stamp, cli.Clean(e.Text))
		case member.EventRemoved, member.EventLeft:
			fmt.Fprintf(w, "%s - %s\n", stamp, cli.Clean(e.Text))
		case member.EventRelay, member.EventSession, member.EventRole, member.EventRoster, member.EventSilent, member.EventRequest:
			fmt.Fprintf(w, "%s · %s\n", stamp, cli.Clean(e.Text))
		default: // dispute, evidence, blame
			text := cli.Clean(e.Text)
			if e.Evidence != "" {
				text += " (parallax evidence " + e.Evidence + ")"
			}
			fmt.Fprintf(w, "%s %s\n", stamp, p.Paint(cli.Yellow, "! "+text))
		}
	})
}

func (p printer) marks(m map[string]member.Mark) string {
	var b strings.Builder
	for _, r := range p.relays {
		c := markCell(m[r])
		b.WriteString(p.Paint(c.Color, c.Text))
	}
	return b.String()
}
