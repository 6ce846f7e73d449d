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

func newInviteList(a *app) *cobra.Command {
	var every bool
	c := &cobra.Command{
		Use: "list [GROUP]", Short: "List the invitations that are good", Args: cli.Args(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, s member.Status) error {
				v, err := ask[member.RosterInfo](c.Context(), client, g.Unit, member.GetRoster{})
				if err != nil {
					return err
				}
				list := []member.RosterInvite{}
				for _, i := range v.Invites {
					if i.Live || every {
						list = append(list, i)
					}
				}
				err = a.Data(list, func(w *strings.Builder) {
					var rows [][]cli.Cell
					for _, i := range list {
						rows = append(rows, inviteRow(i))
					}
					if len(rows) > 0 {
						a.Table(w, []string{"invitation", "by", "as", "for", "until", ""}, rows)
					}
				})
				if len(list) == 0 {
					a.Say("No invitation to %s is good now: parallax invite %q", cli.Clean(s.Group), s.Group)
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&every, "all", false, "with those that ended")
	return c
}

func inviteRow(i member.RosterInvite) []cli.Cell {
	state := ""
	switch {
	case i.Revoked:
		state = "revoked"
	case !i.Live:
		state = "expired"
	case i.Mode == "approve":
		state = "who has it asks"
	}
	return cli.Cells(i.ID[:min(len(i.ID), 8)], cli.Clean(i.By), string(i.Role), fmt.Sprintf("%d at most", i.Uses), i.Expires.Local().Format(time.DateTime), state)
}

func newInviteRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke [GROUP] INVITATION", Short: "End an invitation", Args: cli.Args(1, 2),
		Long: "Ends an invitation, whoever made it: nobody can join by it any more, who came by it stays. It is named by the\n" +
			"beginning of what `parallax invite list` shows. The links made with it are dead as well.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(client node.Client) error {
				g, rest, err := a.groupFor(c.Context(), client, args, 1)
				if err != nil {
					return err
				}
				s, err := a.catchUp(c.Context(), client, g.Unit)
				if err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, member.RevokeInvite{ID: rest[0]})
			})
		},
	}
}
