package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newPassOn(a *app) *cobra.Command {
	var last int
	c := &cobra.Command{
		Use: "pass-on [GROUP]", Short: "Pass the newest messages on to those who joined later", Args: cli.Args(0, 1),
		Long: "Sends the newest messages that this device has to the group once more, for those who were not in it then. They see\n" +
			"them as passed on by you; what they have already is not shown twice. Nothing of this happens by itself: who joins\n" +
			"gets what was said before only if somebody passes it on.",
		RunE: func(c *cobra.Command, args []string) error {
			if last < 1 || last > member.MaxPassOn {
				return cli.Errorf(cli.Usage, "--last is %d, want 1 to %d messages", last, member.MaxPassOn)
			}
			return a.status(c, args, func(client node.Client, g node.Membership, s member.Status) error {
				v, err := ask[member.PassedInfo](c.Context(), client, g.Unit, member.PassOn{Last: last})
				if err != nil {
					return err
				}
				a.flush(c.Context(), client, g.Unit)
				err = a.Data(v, func(w *strings.Builder) { fmt.Fprintln(w, v.Messages) })
				a.Say("%s passed on to %s.", cli.Plural(v.Messages, "message"), cli.Clean(s.Group))
				return err
			})
		},
	}
	c.Flags().IntVar(&last, "last", 50, "so many messages")
	return c
}
