package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// Marks of one path for one subject.
const (
	markMatched = "✓"
	markWrong   = "✗" // dissented
	markFailed  = "!"
	markSilent  = "–"
	markNothing = "·" // awaited
	markDigest  = "=" // matched, by its digest
)

func markCell(m member.Mark) cli.Cell {
	switch m {
	case "matched":
		return cli.Cell{Text: markMatched, Color: cli.Green}
	case "dissented":
		return cli.Cell{Text: markWrong, Color: cli.Red}
	case "failed":
		return cli.Cell{Text: markFailed, Color: cli.Red}
	case "silent":
		return cli.Cell{Text: markSilent, Color: cli.Yellow}
	}
	return cli.Cell{Text: markNothing, Color: cli.Faint}
}

func labels(s member.Status) []string {
	out := make([]string, len(s.Relays))
	for i, r := range s.Relays {
		out[i] = r.Label
	}
	return out
}

// agreed says how many operators show one thing, of those that count. Never
// "verified": comparing is not verifying.
func agreed(operators, of, relays int) string {
	switch {
	case relays == 1:
		return "one relay, not compared"
	case of == 1:
		return "one operator, not compared"
	}
	return fmt.Sprintf("%d of %d", operators, of)
}

// status runs f on a group that caught up.
func (a *app) status(c *cobra.Command, args []string, f func(node.Client, node.Membership, member.Status) error) error {
	return a.with(c.Context(), func(client node.Client) error {
		g, err := a.group(c.Context(), client, first(args))
		if err != nil {
			return err
		}
		s, err := a.catchUp(c.Context(), client, g.Unit)
		if err != nil {
			return err
		}
		return f(client, g, s)
	})
}

func newMembers(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "members [GROUP]", Short: "List the members and what the relays agree on", Args: cli.Args(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(_ node.Client, _ node.Membership, s member.Status) error {
				relays := labels(s)
				return a.Data(s.Members, func(w *strings.Builder) {
					var rows [][]cli.Cell
					for _, m := range s.Members {
						row := append(cli.Cells(cli.Clean(m.Label)), verdictCell(m.Verdict), cli.Cell{Text: agreed(m.Operators, s.Counted, len(relays))})
						for _, r := range relays {
							row = append(row, markCell(m.Marks[r]))
						}
						row = append(row, cli.Cells(role(m), m.Seat[:min(len(m.Seat), 8)])...)
						rows = append(rows, append(row, codesCell(m)))
					}
					head := append([]string{"name", "keys", "operators"}, relays...)
					a.Table(w, append(head, "", "seat", "codes"), rows)
				})
			})
		},
	}
}

func verdictCell(v string) cli.Cell {
	switch v {
	case "agreed":
		return cli.Cell{Text: v, Color: cli.Green}
	case "contested":
		return cli.Cell{Text: v, Color: cli.Red}
	}
	return cli.Cell{Text: v, Color: cli.Yellow}
}

// role says what else there is to know of a member, in few words.
func role(m member.MemberStatus) string {
	var words []string
	if m.Own {
		words = append(words, "you")
	}
	if m.Founder {
		words = append(words, "founder")
	}
	if m.Role != "" && m.Role != member.AsMember && !(m.Founder && m.Role == member.AsOwner) {
		words = append(words, string(m.Role))
	}
	switch {
	case m.Own:
	case !m.Usable:
		words = append(words, "nothing is sent to this key")
	case !m.Session:
		words = append(words, "first contact under way")
	}
	if m.Missing > 0 {
		words = append(words, fmt.Sprintf("%s missing", cli.Plural(int(min(m.Missing, 1<<31-1)), "message")))
	}
	return strings.Join(words, ", ")
}

// codeLines sets twelve groups of five digits in three lines.
func codeLines(code string) string {
	groups := strings.Fields(code)
	var b strings.Builder
	for i, g := range groups {
		b.WriteString(g)
		if i%4 == 3 || i == len(groups)-1 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// mostWithout is how many members that a group code leaves out are named.
const mostWithout = 3

func newCode(a *app) *cobra.Command {
	var qr bool
	c := &cobra.Command{
		Use: "code [GROUP] [MEMBER]", Short: "Show the digits to compare with others", Args: cli.Args(0, 2),
		Long: "Shows 60 digits. Those of the group are the same on every device that sees the same members and keys; those of\n" +
			"a member are for you two. Compare them where no relay can change them: side by side, or by telephone.\n" +
			"What is the same is remembered by `parallax confirm`.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(client node.Client) error { return a.code(c.Context(), client, args, qr) })
		},
	}
	c.Flags().BoolVar(&qr, "qr", false, "as a QR code as well, on stderr")
	return c
}

func (a *app) code(ctx context.Context, c node.Client, args []string, qr bool) error {
	g, who, err := a.groupAnd(ctx, c, args)
	if err != nil {
		return err
	}
	if _, err := a.catchUp(ctx, c, g.Unit); err != nil {
		return err
	}
	v, err := ask[member.CodeInfo](ctx, c, g.Unit, member.GetCode{Member: who})
	if err != nil {
		return err
	}
	say := func() {
		if who == "" {
			a.Say("The code of %s, over %s. The same digits on another device: you both see the same members and keys.", cli.Clean(v.Of), cli.Plural(v.Seats, "member"))
			if n := len(v.Without); n > 0 {
				names := make([]string, 0, mostWithout)
				for _, name := range v.Without[:min(n, mostWithout)] {
					names = append(names, cli.Clean(name))
				}
				if n > mostWithout {
					names = append(names, fmt.Sprintf("%d more", n-mostWithout))
				}
				a.Say("Not in it: %s, whose keys wait; on a device that uses them the digits are others.", and(names))
			}
			a.Say("This device is %s, seat %s.", cli.Clean(v.Own), device(v.Device))
		} else {
			a.Say("The code of you (%s) and %s. The same digits on that device: no relay stands between you.", cli.Clean(v.Own), cli.Clean(v.Of))
			for _, also := range v.Also {
				a.Say("The own key of %s signed another announcement too, with another key. Its code: %s", cli.Clean(v.Of), also)
			}
		}
	}
	if qr { // talk first: the image and the digits together fill a screen of 24 lines
		say()
		a.QR(v.Text)
	}
	err = a.Data(v, func(w *strings.Builder) { w.WriteString(codeLines(v.Code)) })
	if !qr {
		say()
	}
	if err == nil && !v.Usable {
		err = fmt.Errorf("%w: nothing is sent to %s until it is settled; compare this code", member.ErrContested, cli.Clean(v.Of))
	}
	return err
}

func newPaths(a *app) *cobra.Command {
	var limit int
	var file string
	c := &cobra.Command{
		Use: "paths [GROUP] [MSG]", Short: "Show how messages came: messages × relays", Args: cli.Args(0, 2),
		Long: "Shows what each relay did for each message, and how long after the first one each usually shows it. One that does not\n" +
			"within its deadline is silent (–) for it. The deadline is learned while this process, or a `parallax tail --follow`,\n" +
			"runs: 4 times the delay that one message in twenty is above at most, from 2 s to 2 min; before 8 messages taught it,\n" +
			"the group's.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(client node.Client) error {
				g, id, err := a.groupAnd(c.Context(), client, args)
				if err != nil {
					return err
				}
				if _, err := a.catchUp(c.Context(), client, g.Unit); err != nil {
					return err
				}
				v, err := ask[member.Paths](c.Context(), client, g.Unit, member.GetPaths{Message: id, Limit: limit})
				if err != nil {
					return err
				}
				where, _, err := a.locations(c.Context(), client, g.Unit, file)
				if err != nil {
					return err
				}
				return a.paths(v, where, id == "")
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 20, "the newest so many")
	networksFlag(c, &file)
	return c
}

// shownPaths is what `paths --json` shows.
type shownPaths struct {
	member.Paths
	Shared []member.SharedLocation `json:"shared"`          // where relays of several operators are
	Table  string                  `json:"table,omitempty"` // whose word ASes and countries are
}

// paths shows messages × relays and, with times, how long each relay takes.
func (a *app) paths(v member.Paths, where member.LocationsInfo, times bool) error {
	if v.Messages == nil {
		v.Messages = []member.PathsRow{}
	}
	digests := false
	err := a.Data(shownPaths{v, where.Shared, where.Table}, func(w *strings.Builder) {
		var rows [][]cli.Cell
		for _, m := range v.Messages {
			row := cli.Cells(m.ID, cli.Clean(m.Member))
			for _, r := range v.Relays {
				if slices.Contains(m.Digests, r) {
					row, digests = append(row, cli.Cell{Text: markDigest, Color: cli.Green}), true
					continue
				}
				row = append(row, markCell(m.Marks[r]))
			}
			rows = append(rows, append(row, verdictCell(m.Verdict), cli.Cell{Text: agreed(m.Operators, m.Of, len(v.Relays))}, cli.Cell{Text: cli.Clean(m.Text)}))
		}
		a.Table(w, append(append([]string{"message", "from"}, v.Relays...), "verdict", "operators", "text"), rows)
		if times && slices.ContainsFunc(v.Times, func(t member.PathTime) bool { return t.Delays > 0 }) {
			w.WriteByte('\n')
			a.Table(w, []string{"relay", "usually after", "silent after", ""}, timeRows(v.Times))
		}
	})
	if len(v.Relays) == 1 {
		a.Say("One relay: nothing is compared.")
	} else {
		a.Say("%s the same on this relay   %s another one   %s it did not open   %s nothing when its time had passed   %s nothing yet", markMatched, markWrong, markFailed, markSilent, markNothing)
	}
	if times && len(v.Times) > 1 && !slices.ContainsFunc(v.Times, func(t member.PathTime) bool { return t.Delays > 0 }) {
		a.Say("A relay is silent for a message that it does not show %s after another did. How long each takes is learned while messages come.", cli.Duration(time.Duration(v.Times[0].Deadline)*time.Second))
	}
	if digests {
		a.Say("%s its digest is the same on this relay: others carry the message", markDigest)
	}
	for _, line := range inPassing(where.Shared, where.Table) {
		a.Say("%s", line)
	}
	if len(v.Aside) > 0 {
		a.Say("%s %s set aside: compared, and not counted.", and(v.Aside), plural(v.Aside, "is", "are"))
	}
	return err
}

// timeRows tells how long each relay takes, and may take.
func timeRows(list []member.PathTime) (rows [][]cli.Cell) {
	for _, t := range list {
		row := cli.Cells(t.Relay, markNothing, cli.Duration(time.Duration(t.Deadline)*time.Second).String(), "the group's deadline; too few messages to learn from")
		if t.Delays > 0 {
			row[1].Text = usually(time.Duration(t.Usual) * time.Millisecond)
		}
		if t.Learned {
			row[3].Text = fmt.Sprintf("learned from %s", cli.Plural(t.Delays, "message"))
		}
		rows = append(rows, row)
	}
	return rows
}

// usually is a delay in milliseconds below a second, in tenths of one above.
func usually(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
