package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newDelivery(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "delivery [MSG] [GROUP]", Short: "Show who has a message of yours, and who has not", Args: cli.Args(0, 2),
		Long: "Shows for one of your texts (the newest, if none is named) which relays have it, by their receipts, and what is\n" +
			"known of each member. Members send no confirmations; but every message of theirs says how far they had read each\n" +
			"relay, and which texts had opened last. That is what they say themselves. Nothing heard is no sign of anything.\n" +
			"It ends with exit code 0 also where something is missing. How messages of others came: parallax paths MSG.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(client node.Client) error { return a.delivery(c.Context(), client, args) })
		},
	}
}

func (a *app) delivery(ctx context.Context, c node.Client, args []string) error {
	g, id, err := a.messageAndGroup(ctx, c, args)
	if err != nil {
		return err
	}
	if _, err := a.catchUp(ctx, c, g.Unit); err != nil {
		return err
	}
	v, err := ask[member.DeliveryInfo](ctx, c, g.Unit, member.GetDelivery{Message: id})
	if err != nil {
		return err
	}
	return a.Data(v, func(w *strings.Builder) { a.sayDelivery(w, v) })
}

// messageAndGroup takes [MSG] [GROUP] apart, in either order.
func (a *app) messageAndGroup(ctx context.Context, c node.Client, args []string) (g node.Membership, id string, err error) {
	if len(args) < 2 {
		return a.groupAnd(ctx, c, args)
	}
	if g, err = a.group(ctx, c, args[1]); errors.Is(err, errNotNamed) {
		if other, e := a.group(ctx, c, args[0]); e == nil {
			return other, args[1], nil
		}
	}
	return g, args[0], err
}

func (a *app) sayDelivery(w *strings.Builder, v member.DeliveryInfo) {
	fmt.Fprintf(w, "%s  %s  %s\n%s\n\n", v.ID, v.Sent.Local().Format(time.DateTime), cli.Clean(v.Text), deliveryTally(v))
	var labels []string
	var rows [][]cli.Cell
	for _, r := range v.Relays {
		labels = append(labels, r.Label)
		mark, text := cli.Cell{Text: markNothing, Color: cli.Faint}, cli.Clean(r.Why)
		switch r.State {
		case member.RelayReceipt:
			mark = cli.Cell{Text: markMatched, Color: cli.Green}
			has := "It has it: its"
			if r.Digest {
				has = "Its"
			}
			text = strings.TrimSpace(fmt.Sprintf("%s receipt of %s, number %d. %s", has, clock(r.Time, v.Sent), r.Number, text))
		case member.RelayRefused, member.RelaySetAside:
			mark = cli.Cell{Text: markWrong, Color: cli.Red}
		}
		rows = append(rows, append(cli.Cells(r.Label, cli.Clean(r.Operator)), mark, cli.Cell{Text: text}))
	}
	a.Table(w, []string{"relay", "operator", "", ""}, rows)
	if len(v.Members) == 0 {
		fmt.Fprintln(w, "\nNobody else was in the group.")
		return
	}
	fmt.Fprintln(w)
	rows = nil
	for _, m := range v.Members {
		row := append(cli.Cells(cli.Clean(m.Member)), stateCell(m.State))
		for _, l := range labels {
			row = append(row, readCell(m, l))
		}
		text := cli.Clean(m.Why)
		if m.Message != "" {
			text += fmt.Sprintf(" (%s, %s)", m.Message, clock(m.Time, v.Sent))
		}
		rows = append(rows, append(row, cli.Cell{Text: text}))
	}
	a.Table(w, append(append([]string{"member", ""}, labels...), ""), rows)
	a.Say("Under a relay: %s they say that they read it past this message   ? the same, not compared   %s nothing known", markMatched, markNothing)
}

func stateCell(s member.MemberState) cli.Cell {
	switch s {
	case member.MemberOpened:
		return cli.Cell{Text: string(s), Color: cli.Green}
	case member.MemberNoKey, member.MemberHeld:
		return cli.Cell{Text: string(s), Color: cli.Yellow}
	}
	return cli.Cell{Text: string(s)}
}

func readCell(m member.MemberDelivery, relay string) cli.Cell {
	for _, r := range m.Read {
		if r == relay {
			return cli.Cell{Text: markMatched, Color: cli.Green}
		}
	}
	for _, r := range m.Unchecked {
		if r == relay {
			return cli.Cell{Text: "?", Color: cli.Yellow}
		}
	}
	return cli.Cell{Text: markNothing, Color: cli.Faint}
}

// deliveryTally is all of it in one line.
func deliveryTally(v member.DeliveryInfo) string {
	receipts := 0
	for _, r := range v.Relays {
		if r.State == member.RelayReceipt {
			receipts++
		}
	}
	count := map[member.MemberState]int{}
	for _, m := range v.Members {
		count[m.State]++
	}
	parts := []string{fmt.Sprintf("%d of %s have it", receipts, cli.Plural(len(v.Relays), "relay"))}
	for _, s := range []struct {
		n    int
		what string
	}{
		{count[member.MemberOpened], "opened it by their own word"},
		{count[member.MemberRead], "read a relay past it"},
		{count[member.MemberBehind] + count[member.MemberUnheard], "not known"},
		{count[member.MemberNoKey], "cannot read it"},
		{count[member.MemberHeld], "held back"},
		{count[member.MemberLater], "came later"},
	} {
		if s.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", s.n, s.what))
		}
	}
	return strings.Join(parts, "; ")
}

// clock is a time of day, with the date if it is another day than base.
func clock(t, base time.Time) string {
	t, base = t.Local(), base.Local()
	if t.Format(time.DateOnly) == base.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
