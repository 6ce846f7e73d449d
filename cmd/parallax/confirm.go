package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newConfirm(a *app) *cobra.Command {
	var group, undo bool
	c := &cobra.Command{
		Use: "confirm [GROUP] MEMBER CODE|-", Short: "Confirm a member by the digits on that member's device",
		Args: cobra.MinimumNArgs(1),
		Long: "Compares the digits that the member's own device shows (`parallax code YOU`) with those of this one. If they\n" +
			"are the same, no relay stands between you, and the member is marked as verified in person until you take it back.\n" +
			"Take the digits from the device itself or by voice, never from a message of this group. With - they are read from\n" +
			"stdin, so that a scanner can type them: what `parallax code --qr` shows, or the digits.\n\n" +
			"With --group-code it is the code of the whole group (`parallax code`), on that member's device: it confirms you\n" +
			"two, and marks the others as the same there. Scanned, it names the device, and MEMBER may be left out.",
		Example: "  parallax confirm Bob 57470 12853 61454 83220 12796 25437 63487 05411 98263 59505 73932 83868\n" +
			"  parallax confirm Bob -\n  parallax confirm --group-code Bob -\n  parallax confirm --undo Bob",
		RunE: func(c *cobra.Command, args []string) error {
			if group && undo {
				return cli.Errorf(cli.Usage, "--undo takes back what was confirmed by either code: leave out --group-code")
			}
			if undo {
				return a.with(c.Context(), func(client node.Client) error { return a.unconfirm(c.Context(), client, args) })
			}
			names, code, err := a.splitCode(args) // before the folder is taken: a person may be slow
			if err != nil {
				return err
			}
			return a.with(c.Context(), func(client node.Client) error { return a.confirm(c.Context(), client, names, code, group) })
		},
	}
	c.Flags().BoolVar(&group, "group-code", false, "the code is that of the whole group")
	c.Flags().BoolVar(&undo, "undo", false, "take back that MEMBER was verified in person")
	return c
}

// splitCode takes [GROUP] [MEMBER] CODE apart and reads the code. The digits may
// be one argument or, as people read them out, several: then they begin at the
// first argument but one that begins with a digit.
func (a *app) splitCode(args []string) (names []string, code string, err error) {
	at := len(args) - 1
	if _, err := member.ParseCode(args[at]); err != nil && args[at] != "-" {
		for i := 1; i < at; i++ {
			if args[i] != "" && args[i][0] >= '0' && args[i][0] <= '9' {
				at = i
			}
		}
	}
	if names = args[:at]; len(names) > 2 {
		return nil, "", cli.Errorf(cli.Usage, "there are %d names before the code, at most a group and a member are wanted", len(names))
	}
	code, err = a.readCode(strings.Join(args[at:], " "))
	return names, code, err
}

func (a *app) confirm(ctx context.Context, c node.Client, names []string, code string, group bool) error {
	parsed, err := member.ParseCode(code)
	if err != nil {
		return err
	}
	g, who, err := a.groupAnd(ctx, c, names)
	if err != nil {
		return err
	}
	if who == "" && parsed.Device == "" {
		return cli.Errorf(cli.Usage, "name the member on whose device the code stands: parallax confirm MEMBER CODE")
	}
	if _, err := a.catchUp(ctx, c, g.Unit); err != nil {
		return err
	}
	v, err := ask[member.ConfirmInfo](ctx, c, g.Unit, member.ConfirmCode{Member: who, Code: code, Group: group})
	if err != nil {
		return err
	}
	name := cli.Clean(v.Member)
	err = a.Data(v, func(w *strings.Builder) {
		fmt.Fprintf(w, "%s  %s  %s\n", name, v.Seat[:min(len(v.Seat), 8)], verifiedNow)
	})
	if group {
		a.Say("The code of the group is the same on %s's device: no relay stands between you two.", name)
		if v.Same > 0 {
			a.Say("The same keys are there for %s: marked \"same on %s's device\", not %s.", cli.Plural(v.Same, "other member"), name, verifiedNow)
		}
		if parsed.Device == "" {
			a.Say("Make sure that the device itself says \"seat %s\": digits alone do not tell whose it is.", device(v.Seat))
		}
	} else {
		a.Say("The digits are the same: no relay stands between you and %s.", name)
	}
	a.Say("It stays so until you take it back: parallax confirm --undo %q", v.Member)
	if !v.Usable {
		a.Say("The relays still do not agree on this seat (%s), and a code does not change that: nothing is sent to %s until they do.", v.Verdict, name)
	}
	return err
}

// readCode is the code, or what stdin has for "-": from a terminal until it is
// a code, since scanners end with Enter and nobody presses Ctrl-D.
func (a *app) readCode(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	in := io.LimitReader(a.In, member.MaxCodeText+1)
	if !cli.Terminal(a.In) {
		raw, err := io.ReadAll(in)
		return string(raw), err
	}
	a.Say("Scan the code, or type its digits:")
	var text strings.Builder
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		text.WriteString(lines.Text() + "\n")
		if _, err := member.ParseCode(text.String()); err == nil || strings.TrimSpace(lines.Text()) == "" {
			break
		}
	}
	return text.String(), lines.Err()
}

func (a *app) unconfirm(ctx context.Context, c node.Client, args []string) error {
	if len(args) > 2 {
		return cli.Errorf(cli.Usage, "--undo takes a group and a member, not %d names", len(args))
	}
	g, who, err := a.groupAnd(ctx, c, args)
	if err != nil {
		return err
	}
	if who == "" {
		return cli.Errorf(cli.Usage, "name the member: parallax confirm --undo MEMBER")
	}
	if _, err := a.catchUp(ctx, c, g.Unit); err != nil {
		return err
	}
	v, err := ask[member.ConfirmInfo](ctx, c, g.Unit, member.UndoConfirm{Member: who})
	if err != nil {
		return err
	}
	err = a.Data(v, func(w *strings.Builder) {
		fmt.Fprintf(w, "%s  %s  not %s\n", cli.Clean(v.Member), v.Seat[:min(len(v.Seat), 8)], verifiedNow)
	})
	if v.Same > 0 {
		a.Say("What was the same on that device is not marked any more either: %s.", cli.Plural(v.Same, "member"))
	}
	return err
}

// The word is kept for keys that a person compared with the member's own
// device; relays agree, they verify nothing.
const (
	verifiedNow    = "verified in person"
	verifiedBefore = "was verified under an earlier key"
)

// codesCell says what a person compared of a member.
func codesCell(m member.MemberStatus) cli.Cell {
	switch {
	case m.Verified != nil && !m.Verified.Earlier:
		return cli.Cell{Text: verifiedNow, Color: cli.Green}
	case m.Verified != nil:
		return cli.Cell{Text: verifiedBefore, Color: cli.Yellow}
	case m.SameOn != "":
		return cli.Cell{Text: "same on " + cli.Clean(m.SameOn) + "'s device"}
	}
	return cli.Cell{}
}

// device sets the beginning of a seat in groups of four, to be read out.
func device(seat string) string {
	const digits, each = 24, 4
	var parts []string
	for i := 0; i+each <= min(len(seat), digits); i += each {
		parts = append(parts, seat[i:i+each])
	}
	return strings.Join(parts, " ")
}
