package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// maxLinkText bounds what is read as a link from stdin: the longest link of 16
// relays with all their addresses, and line ends.
const maxLinkText = 128 << 10

func newInvite(a *app) *cobra.Command {
	var uses uint32
	var expires cli.Duration
	var qr bool
	var role string
	c := &cobra.Command{
		Use: "invite [GROUP]", Short: "Make an invitation link, list or revoke invitations", Args: cli.Args(0, 1),
		Long: "Makes a link that lets its readers join, also while you are offline. Pass it on where only they read it. In a group\n" +
			"whose mode is approve who has it asks, and an admin lets them in (`parallax member requests`). With --role reader\n" +
			"who comes by it reads and does not speak; `parallax member role` changes that later.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkInviteRole(role); err != nil {
				return err
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
				v, err := ask[member.InviteInfo](c.Context(), client, g.Unit, member.MakeInvite{Uses: uses, Valid: time.Duration(expires), Role: member.Role(role)})
				if errors.Is(err, member.ErrUnreached) {
					return cli.Errorf(cli.Partial, "%w; for a link that is good at once, make another one then", err)
				}
				if err != nil {
					return err
				}
				a.flush(c.Context(), client, g.Unit)
				if qr {
					a.QR(v.Link)
				}
				err = a.Data(v, func(w *strings.Builder) { fmt.Fprintln(w, v.Link) })
				can, who := "can join", "Whoever reads the link can join."
				if v.Mode == "approve" {
					can, who = "can ask to be let into", "Whoever reads the link can ask; an admin lets them in: parallax member requests"
				}
				a.Say("%d people %s %s with this link until %s; %d of %d relays keep the invitation.",
					v.Uses, can, cli.Clean(s.Group), v.Expires.Local().Format("2 January 15:04"), v.Relays, len(s.Relays))
				a.Say("%s They run: parallax join LINK", strings.TrimSuffix(who, "."))
				if v.Role == member.AsReader {
					a.Say("Who comes by it reads and does not speak: what readers send is not shown.")
				}
				return err
			})
		},
	}
	c.Flags().Uint32Var(&uses, "uses", 0, "how many may join with it (default 50)")
	c.Flags().Var(&expires, "expires", "how long it is good for (default 7d)")
	c.Flags().StringVar(&role, "role", "member", "what who comes by it is: member or reader")
	c.Flags().BoolVar(&qr, "qr", false, "as a QR code as well, on stderr")
	c.AddCommand(newInviteList(a), newInviteRevoke(a))
	return c
}

func newJoin(a *app) *cobra.Command {
	var name string
	var await bool
	c := &cobra.Command{
		Use: "join LINK|-", Short: "Join a group by invitation link", Args: cli.Args(1, 1),
		Long: "Joins a group. With - the link is read from stdin, so that it stands in no shell history.\n" +
			"Every relay's list of members is compared before anything is sent.\n\n" +
			"Where an admin has to let you in, this asks and ends; it goes on whenever parallax runs, or waits with --await.\n" +
			"The same command again looks whether you are in. `parallax group leave` takes the request back.",
		RunE: func(c *cobra.Command, args []string) error {
			link := args[0]
			if link == "-" {
				raw, err := io.ReadAll(io.LimitReader(a.In, maxLinkText))
				if err != nil {
					return err
				}
				link = string(raw)
			}
			inv, err := member.ParseLink(link)
			if err != nil {
				return err
			}
			own, err := a.ownName(name)
			if err != nil {
				return err
			}
			client, err := a.connect(c.Context(), false)
			if err != nil {
				return err
			}
			return errors.Join(a.join(c.Context(), client, inv, own, await), client.Close())
		},
	}
	c.Flags().StringVar(&name, "name", "", "your name in the group")
	c.Flags().BoolVar(&await, "await", false, "wait until an admin let you in, where that is needed")
	return c
}

// joined is the answer of `join --json`.
type joined struct {
	member.GroupInfo
	Members  int `json:"members"` // others
	Relays   int `json:"relays"`
	Answered int `json:"answered"` // relays
	Agreed   int `json:"agreed"`   // others whose keys agree
}

func (a *app) join(ctx context.Context, c node.Client, inv *member.Invitation, own string, await bool) error {
	before, err := ask[[]node.Membership](ctx, c, "", node.ListGroups{})
	if err != nil {
		return err
	}
	a.Say("Asking %s ...", cli.Plural(len(inv.Relays), "relay"))
	// The link as the machine writes it, without the line ends of a mail.
	g, err := a.enter(ctx, c, before, member.JoinGroup{Link: inv.Link(), Name: own, Await: await}, false)
	if err != nil {
		return err
	}
	unit, err := unitOf(ctx, c, g, before)
	if err != nil {
		return err
	}
	a.flush(ctx, c, unit)
	s, err := ask[member.Status](ctx, c, unit, member.GetStatus{})
	if err != nil {
		return err
	}
	if s.Asking != nil {
		return a.sayAsked(g, s)
	}
	v := joined{GroupInfo: g, Relays: len(s.Relays)}
	for _, r := range s.Relays {
		if r.Connected {
			v.Answered++
		}
	}
	for _, m := range s.Members {
		if m.Own {
			continue
		}
		v.Members++
		if m.Verdict == "agreed" {
			v.Agreed++
		}
	}
	err = a.Data(v, func(w *strings.Builder) { fmt.Fprintf(w, "%s  %s\n", cli.Clean(g.Group), g.ShortID) })
	a.Say("You are %s in %s.", cli.Clean(own), cli.Clean(g.Group))
	if v.Relays == 1 {
		a.Say("One relay: nothing is compared, so it can show wrong keys unnoticed.")
	} else {
		a.Say("Keys of %d/%d members agreed; %d of %d relays answered.", v.Agreed, v.Members, v.Answered, v.Relays)
	}
	a.Say("If whoever invited you sees another number than %s for this group, the link was changed on its way.", g.ShortID)
	return err
}

// asked is the answer of `join --json` where an admin has to let somebody in.
type asked struct {
	member.GroupInfo
	Asking *member.AskingInfo `json:"asking"`
	Relays int                `json:"relays"`
}

func (a *app) sayAsked(g member.GroupInfo, s member.Status) error {
	err := a.Data(asked{GroupInfo: g, Asking: s.Asking, Relays: len(s.Relays)}, func(w *strings.Builder) {
		fmt.Fprintf(w, "%s  %s  not let in yet\n", cli.Clean(g.Group), g.ShortID)
	})
	a.Say("%s", cli.Clean(s.Asking.Text))
	a.Say("If an admin sees another number than %s for this group, the link was changed on its way.", g.ShortID)
	return err
}

// unitOf finds the membership that joining made.
func unitOf(ctx context.Context, c node.Client, g member.GroupInfo, before []node.Membership) (string, error) {
	list, err := ask[[]node.Membership](ctx, c, "", node.ListGroups{})
	if err != nil {
		return "", err
	}
	for _, m := range list {
		if m.ID == g.ID && !known(before, m.Unit) {
			return m.Unit, nil
		}
	}
	return g.ID, nil
}

func known(list []node.Membership, unit string) bool {
	for _, m := range list {
		if m.Unit == unit {
			return true
		}
	}
	return false
}

// enter obeys a wish that makes a membership, and says meanwhile how it goes and
// which relays have problems. With all, a relay that is another one than was
// named ends it at once: the wish cannot succeed without that relay.
func (a *app) enter(ctx context.Context, c node.Client, before []node.Membership, w member.Wish, all bool) (member.GroupInfo, error) {
	ctx, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(ctx, stop, c, before, all) })
	g, err := ask[member.GroupInfo](ctx, c, "", w)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	stop(nil)
	watching.Wait()
	return g, err
}

// watch watches the newest membership until ctx ends.
func (a *app) watch(ctx context.Context, stop context.CancelCauseFunc, c node.Client, before []node.Membership, all bool) {
	var events sync.WaitGroup
	defer events.Wait()
	said := map[string]bool{}
	unit := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollEvery):
		}
		if unit == "" {
			if unit = newest(ctx, c, before); unit != "" {
				events.Go(func() { a.sayProgress(ctx, c, unit) })
			}
			continue
		}
		s, err := ask[member.Status](ctx, c, unit, member.GetStatus{})
		if err != nil {
			continue // not begun yet
		}
		for _, r := range s.Relays {
			if r.Problem == "" || said[r.Label+r.Problem] {
				continue
			}
			said[r.Label+r.Problem] = true
			text := fmt.Sprintf("relay %s (key %s): %s", r.Label, shortKey(r.Key), cli.Clean(r.Problem))
			if all && strings.Contains(r.Problem, node.ErrOtherKey.Error()) {
				stop(fmt.Errorf("%w: %s; ask its operator for the address again", node.ErrOtherKey, text))
				return
			}
			a.Say("Waiting for %s", text)
		}
	}
}

// newest is the unit of the membership that was not there before.
func newest(ctx context.Context, c node.Client, before []node.Membership) string {
	list, err := ask[[]node.Membership](ctx, c, "", node.ListGroups{})
	if err != nil {
		return ""
	}
	for _, m := range list {
		if !known(before, m.Unit) {
			return m.Unit
		}
	}
	return ""
}

func (a *app) sayProgress(ctx context.Context, c node.Client, unit string) {
	for e, err := range c.Events(ctx, unit, 0) {
		if err != nil {
			return
		}
		if e.Kind == member.EventProgress {
			a.Say("%s", cli.Clean(e.Text))
		}
	}
}

// first is the first argument, or nothing.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
