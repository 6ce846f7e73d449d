package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newSend(a *app) *cobra.Command {
	var wait string
	c := &cobra.Command{
		Use: "send [GROUP] [TEXT|-]", Short: "Send a message", Args: cli.Args(0, 2),
		Long: "Sends a text, from stdin if it is - or missing. With one argument and one group, the argument is the text.\n" +
			"Exit code 0 says that enough relays took it and every member has a key for it; 6 that some are missing.",
		RunE: func(c *cobra.Command, args []string) error {
			w := member.Wait(wait)
			switch w {
			case member.WaitQuorum, member.WaitAll, member.WaitNone:
			default:
				return cli.Errorf(cli.Usage, "--wait is %q, want quorum, all or none", wait)
			}
			return a.with(c.Context(), func(client node.Client) error { return a.send(c.Context(), client, args, w) })
		},
	}
	c.Flags().StringVar(&wait, "wait", string(member.WaitQuorum), "until how many relays took it: quorum, all, none")
	return c
}

func (a *app) send(ctx context.Context, c node.Client, args []string, wait member.Wait) error {
	g, text, err := a.groupAndText(ctx, c, args)
	if err != nil {
		return err
	}
	if text == "-" {
		raw, err := io.ReadAll(io.LimitReader(a.In, member.MaxBody+1))
		if err != nil {
			return err
		}
		text = strings.TrimSuffix(string(raw), "\n")
	}
	switch {
	case len(text) > member.MaxBody:
		return cli.Errorf(cli.Quota, "%w: at most %d bytes", member.ErrTooLong, member.MaxBody)
	case !utf8.ValidString(text):
		return cli.Errorf(cli.Usage, "what shall be sent is not text (UTF-8)")
	}
	if strings.TrimSpace(text) == "" {
		return cli.Errorf(cli.Usage, "there is nothing to send: the text is empty")
	}
	// Who joined while this device was offline gets the message only when the
	// relays have told of it.
	if _, err := a.catchUp(ctx, c, g.Unit); err != nil {
		return err
	}
	v, err := ask[member.SentInfo](ctx, c, g.Unit, member.SendText{Text: text, Wait: wait})
	if errors.Is(err, member.ErrUnreached) {
		return &cli.Error{Code: cli.Partial, Err: err} // it is in the outbox
	}
	if err != nil {
		return err
	}
	a.flush(ctx, c, g.Unit)
	if err := a.Data(v, func(w *strings.Builder) { fmt.Fprintln(w, v.ID) }); err != nil {
		return err
	}
	a.Detail("%d of %d relays gave their receipt; it is for %s.", v.Receipts, v.Relays, cli.Plural(v.Members, "member"))
	if v.Carriers > 0 {
		verb := "carry"
		if v.Carriers == 1 {
			verb = "carries"
		}
		a.Detail("%s %s it, the others have its digest.", cli.Plural(v.Carriers, "relay"), verb)
	}
	switch {
	case v.Held > 0:
		return cli.Errorf(cli.Partial, "message %s is sent, but not to %s whose key is not agreed on yet: parallax members %q tells whom", v.ID, cli.Plural(v.Held, "member"), g.Name)
	case v.Waiting > 0:
		return cli.Errorf(cli.Partial, "message %s is sent, but %s cannot read it: their first contact is still under way", v.ID, cli.Plural(v.Waiting, "member"))
	}
	return nil
}

// groupAndText takes the arguments apart. With one, it is the group only if it
// is its whole name, so that no text is taken for the beginning of one.
func (a *app) groupAndText(ctx context.Context, c node.Client, args []string) (g node.Membership, text string, err error) {
	switch len(args) {
	case 0:
		g, err = a.group(ctx, c, "")
		return g, "-", err
	case 2:
		g, err = a.group(ctx, c, args[0])
		return g, args[1], err
	}
	list, err := ask[[]node.Membership](ctx, c, "", node.ListGroups{})
	if err != nil {
		return g, "", err
	}
	for _, m := range list {
		if m.Name == args[0] || m.Unit == args[0] {
			if cli.Terminal(a.In) {
				return m, "", cli.Errorf(cli.Usage, "what shall be sent to %s? parallax send %q TEXT", cli.Clean(m.Name), m.Name)
			}
			return m, "-", nil
		}
	}
	g, err = a.group(ctx, c, "")
	return g, args[0], err
}
