package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newGroupMembers(a *app) *cobra.Command {
	var every, drawing bool
	c := &cobra.Command{
		Use: "members [GROUP]", Short: "List the members by the group's roster: role, since when, by whom", Args: cli.Args(0, 1),
		Long: "Shows what the signed roster says: who is in, in which role, since when and by whom. What the relays agree on is\n" +
			"in `parallax members`.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, s member.Status) error {
				v, err := ask[member.RosterInfo](c.Context(), client, g.Unit, member.GetRoster{Draw: drawing})
				if err != nil {
					return err
				}
				return a.sayRoster(v, s, every, drawing)
			})
		},
	}
	c.Flags().BoolVar(&every, "all", false, "with those who left or were removed, and what has no effect")
	c.Flags().BoolVar(&drawing, "log", false, "the log of operations itself, as text")
	return c
}

func (a *app) sayRoster(v member.RosterInfo, s member.Status, every, drawing bool) error {
	err := a.Data(v, func(w *strings.Builder) {
		if drawing {
			w.WriteString(cli.CleanLines(strings.TrimRight(v.Drawing, "\n"), "") + "\n")
			return
		}
		var rows [][]cli.Cell
		for _, list := range [][]member.RosterMember{v.Members, v.Asking, v.Pending} {
			for _, m := range list {
				rows = append(rows, rosterRow(m))
			}
		}
		if every {
			for _, m := range v.Removed {
				rows = append(rows, rosterRow(m))
			}
		}
		a.Table(w, []string{"name", "role", "since", "by", "", "seat"}, rows)
		if !every {
			return
		}
		for _, x := range v.Void {
			fmt.Fprintf(w, "%s  %s: %s. It has no effect: %s.\n", x.Operation, cli.Clean(x.By), cli.Clean(x.What), voidWords(x.Cause))
		}
		for _, x := range v.Hidden {
			fmt.Fprintf(w, "%s  %s: %s. %s %s not show it; it counts all the same.\n", x.Operation, cli.Clean(x.By), cli.Clean(x.What), and(x.Missing), plural(x.Missing, "does", "do"))
		}
	})
	for _, d := range v.Disputes {
		if !d.Settled || every {
			a.Say("%s", cli.Clean(d.Text))
		}
	}
	for _, m := range v.Removed {
		if m.Own {
			a.Say("You are not in %s any more.", cli.Clean(s.Group))
		}
	}
	if n := len(v.Removed); n > 0 && !every && !drawing {
		a.Say("Who left or was removed (%d): parallax group members --all", n)
	}
	if n := len(v.Hidden); n > 0 && !every {
		a.Say("%s not shown by all relays that were read; it makes no difference. Which: parallax group members --all", isAreN(n, "change"))
	}
	if v.Headless {
		a.Say("The group has neither owner nor admin any more: nobody can change it.")
	}
	if v.Waiting > 0 {
		a.Say("%s waiting for what came before, which has not arrived here yet.", isAreN(v.Waiting, "change"))
	}
	return err
}

// voidWords says why an operation is kept and has no effect.
func voidWords(cause string) string {
	switch cause {
	case "struck":
		return "whoever removed its author, or took the role away, did not know it"
	case "forked":
		return "its author signed two operations after one"
	case "overruled":
		return "it would undo what somebody nearer to the founder did"
	case "path":
		return "what gave its author the role has no effect itself"
	}
	return cli.Clean(cause)
}

// isAreN is "1 change is", "3 changes are".
func isAreN(n int, one string) string {
	if n == 1 {
		return "1 " + one + " is"
	}
	return cli.Plural(n, one) + " are"
}

// rosterRow tells one seat in a line.
func rosterRow(m member.RosterMember) []cli.Cell {
	role, note := string(m.Role), cli.Cell{}
	var words []string
	if m.Own {
		words = append(words, "you")
	}
	switch {
	case m.Left:
		role, words = "", append(words, "left")
	case m.Suspended:
		words, note.Color = append(words, "signed two operations after one: does not count as admin now"), cli.Yellow
	case m.Role == "" && m.By != "":
		words = append(words, "removed")
	case m.Since.IsZero() && m.Usable:
		words = append(words, "agreed on by the relays; an admin's device confirms it")
	case !m.Usable && !m.Own:
		words, note.Color = append(words, "nothing is sent to this key"), cli.Yellow
	}
	note.Text = strings.Join(words, ", ")
	since := ""
	if !m.Since.IsZero() {
		since = m.Since.Local().Format(time.DateOnly)
	}
	return append(cli.Cells(cli.Clean(m.Label), role, since, cli.Clean(m.By)), note, cli.Cell{Text: m.Seat[:min(len(m.Seat), 8)]})
}

func newLeave(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "leave [GROUP]", Short: "Leave a group, for good", Args: cli.Args(0, 1),
		Long: "Takes you out of the group: this device reads and sends nothing there any more. Your history stays on it. An admin\n" +
			"can let you in again by a new invitation only. Who waits for an admin takes the request back with it.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(client node.Client) error {
				g, err := a.group(c.Context(), client, first(args))
				if err != nil {
					return err
				}
				s, err := a.catchUp(c.Context(), client, g.Unit)
				if s.Asking != nil {
					if err := a.agree(yes, fmt.Sprintf("Take your request to be let into %s back?", cli.Clean(s.Group))); err != nil {
						return err
					}
					return a.change(c.Context(), client, g, s, member.LeaveGroup{})
				}
				if err != nil {
					return err
				}
				if err := a.agree(yes, fmt.Sprintf("Leave %s? Your history stays on this device; nothing new comes.", cli.Clean(s.Group))); err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, member.LeaveGroup{})
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func newSet(a *app) *cobra.Command {
	var quorum quorumFlag
	var carriers carriersFlag
	var strict bool
	var deadline, retention cli.Duration
	var policyFile, mode string
	c := &cobra.Command{
		Use: "set [GROUP]", Short: "Change the group's policy", Args: cli.Args(0, 1),
		Long: "For owners. Changes what is named; the rest stays. --strict=false, --quorum majority,\n" +
			"--carriers default and --policy \"\" take back what was set.\n\n" + modesHelp +
			"\nAnother mode ends every invitation; who came by one stays.",
		RunE: func(c *cobra.Command, args []string) error {
			var w member.SetPolicy
			set := 0
			given := func(name string) bool {
				if c.Flags().Changed(name) {
					set++
					return true
				}
				return false
			}
			if given("quorum") {
				n := uint8(quorum)
				w.Quorum = &n
			}
			if given("strict") {
				w.Strict = &strict
			}
			if given("mode") {
				if err := checkMode(mode); err != nil {
					return err
				}
				w.Mode = &mode
			}
			for name, d := range map[string]*cli.Duration{"deadline": &deadline, "retention": &retention} {
				if !given(name) {
					continue
				}
				if err := wholeSeconds(name, *d); err != nil {
					return err
				}
				t := time.Duration(*d)
				if name == "deadline" {
					w.Deadline = &t
				} else {
					w.Retention = &t
				}
			}
			if given("carriers") {
				n := uint8(carriers)
				w.Carriers = &n
			}
			if given("policy") {
				text, err := readPolicy(policyFile)
				if err != nil {
					return err
				}
				w.Policy = &text
			}
			if set == 0 {
				return cli.Errorf(cli.Usage, "what shall be changed? %s --help lists it", c.CommandPath())
			}
			return a.with(c.Context(), func(client node.Client) error {
				g, err := a.group(c.Context(), client, first(args))
				if err != nil {
					return err
				}
				s, err := a.catchUp(c.Context(), client, g.Unit)
				if err != nil {
					return err
				}
				if err := carriers.check(len(s.Relays)); err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, w)
			})
		},
	}
	f := c.Flags()
	f.Var(&quorum, "quorum", "how many operators must agree, or majority")
	f.Var(&carriers, "carriers", "how many relays get each text in full, the others its digest, all, or default")
	f.BoolVar(&strict, "strict", false, "all relays must agree")
	f.StringVar(&mode, "mode", "", "who lets newcomers in: open, approve or closed")
	f.Var(&deadline, "deadline", "how long a relay may be silent before the others go on")
	f.Var(&retention, "retention", "how long what members were away for can still be read")
	f.StringVar(&policyFile, "policy", "", "file with a policy text: which operators are enough")
	return c
}
