package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newRelaySpare(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "spare", Short: "Keep relays in reserve for one that is gone",
		Long: "An admin keeps relays in reserve, on this device: nobody else knows of them until one is used. When a relay of the group\n" +
			"has been gone for days, or is convicted, `parallax relay replace RELAY` puts a spare one in its place; with --auto this\n" +
			"device does so by itself, while it runs, with a relay of an operator that the group does not have yet.\n\n" +
			"With --group an owner keeps them for the group: every member knows them, an address's token included; any admin's\n" +
			"`relay replace` takes one, and with --auto the admins' devices do so by themselves, one after the other's turn.\n" +
			"`parallax relay list` shows both.",
	}
	cli.Parent(c)
	c.AddCommand(newSpareAdd(a), newSpareDrop(a))
	return c
}

func newSpareAdd(a *app) *cobra.Command {
	var auto, group bool
	c := &cobra.Command{
		Use: "add [GROUP] ADDRESS", Short: "Keep a relay in reserve", Args: cli.Args(1, 2),
		Long: "Keeps the relay at the address in reserve. `parallax relay test ADDRESS` tries it before. The same relay again\n" +
			"changes what was said of it.",
		RunE: func(c *cobra.Command, args []string) error {
			if group {
				return a.groupSpares(c.Context(), args, func(arg string) (member.Wish, error) {
					spot, err := oneSpot(arg)
					return member.AddGroupSpare{Relay: spot, Auto: auto}, err
				})
			}
			return a.spares(c.Context(), args, func(arg string) (member.Wish, error) {
				spot, err := oneSpot(arg)
				return member.AddSpare{Relay: spot, Auto: auto}, err
			})
		},
	}
	c.Flags().BoolVar(&auto, "auto", false, "put it in the place of a relay that is gone without asking")
	c.Flags().BoolVar(&group, "group", false, "for the group, by its roster, not on this device alone (owners)")
	return c
}

func newSpareDrop(a *app) *cobra.Command {
	var group bool
	c := &cobra.Command{
		Use: "drop [GROUP] KEY", Short: "Keep a relay in reserve no more, by the beginning of its key", Args: cli.Args(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if group {
				return a.groupSpares(c.Context(), args, func(arg string) (member.Wish, error) { return member.DropGroupSpare{Relay: arg}, nil })
			}
			return a.spares(c.Context(), args, func(arg string) (member.Wish, error) { return member.DropSpare{Relay: arg}, nil })
		},
	}
	c.Flags().BoolVar(&group, "group", false, "one of the group's (owners)")
	return c
}

// spares obeys a wish about the spare relays of this device and shows all that are
// kept.
func (a *app) spares(ctx context.Context, args []string, wish func(arg string) (member.Wish, error)) error {
	return a.with(ctx, func(client node.Client) error {
		g, rest, err := a.groupFor(ctx, client, args, 1)
		if err != nil {
			return err
		}
		w, err := wish(rest[0])
		if err != nil {
			return err
		}
		v, err := ask[member.SparesInfo](ctx, client, g.Unit, w)
		if err != nil {
			return err
		}
		own := 0
		err = a.Data(v.Spares, func(w *strings.Builder) {
			var rows [][]cli.Cell
			for _, r := range v.Spares {
				rows = append(rows, append(cli.Cells(shortKey(r.Key), cli.Clean(strings.Join(r.Addrs, ", "))), spareState(r)))
			}
			a.Table(w, nil, rows)
		})
		for _, r := range v.Spares {
			if !r.Group {
				own++
			}
		}
		a.Say("%s in reserve, known to this device alone.", isAreN(own, "relay"))
		if n := len(v.Spares) - own; n > 0 {
			a.Say("The group keeps %s beside.", cli.Plural(n, "relay"))
		}
		return err
	})
}

// groupSpares obeys an owner's wish about the spare relays of the group.
func (a *app) groupSpares(ctx context.Context, args []string, wish func(arg string) (member.Wish, error)) error {
	return a.with(ctx, func(client node.Client) error {
		g, rest, err := a.groupFor(ctx, client, args, 1)
		if err != nil {
			return err
		}
		w, err := wish(rest[0])
		if err != nil {
			return err
		}
		s, err := a.catchUp(ctx, client, g.Unit)
		if err != nil {
			return err
		}
		return a.change(ctx, client, g, s, w)
	})
}

// spareStanding is whose reserve a relay is in, beside the standings of others.
func spareStanding(r member.SpareInfo) string {
	if r.Group {
		return "group's spare"
	}
	return "spare"
}

func spareState(r member.SpareInfo) cli.Cell {
	switch {
	case !r.Tried.IsZero():
		return cli.Cell{Text: "tried in vain " + r.Tried.Local().Format("2 January 15:04"), Color: cli.Yellow}
	case r.Auto:
		return cli.Cell{Text: "by itself"}
	}
	return cli.Cell{Text: "when asked"}
}
