package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newMember(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "member", Short: "Remove members, give them roles, let them in",
		Long: "For owners and admins. Each command signs an operation of the group's roster, which every member checks.\n" +
			"A member is named by its name, by its seat, or by the beginning of its seat where two carry one name.",
	}
	cli.Parent(c)
	c.AddCommand(newRemove(a), newRole(a), newApprove(a), newRefuse(a), newRequests(a))
	return c
}

// groupFor takes the group, if it is named, from the front of arguments of which
// the last so many are others.
func (a *app) groupFor(ctx context.Context, c node.Client, args []string, others int) (node.Membership, []string, error) {
	name := ""
	if len(args) > others {
		name, args = args[0], args[1:]
	}
	g, err := a.group(ctx, c, name)
	return g, args, err
}

// agree asks before what cannot be taken back, or not easily.
func (a *app) agree(yes bool, question string) error {
	if yes {
		return nil
	}
	if !cli.Terminal(a.In) {
		return cli.Errorf(cli.Usage, "%s Say so with --yes", question)
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.In).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	if line == "" && err != nil {
		fmt.Fprintln(a.Err)
	}
	return cli.Errorf(cli.Usage, "nothing was changed")
}

// change obeys a wish that changes the roster, and says what became of it.
func (a *app) change(ctx context.Context, c node.Client, g node.Membership, s member.Status, w member.Wish) error {
	v, err := ask[member.OperationInfo](ctx, c, g.Unit, w)
	if errors.Is(err, member.ErrUnreached) {
		return &cli.Error{Code: cli.Partial, Err: err} // it is made, and goes out when the relays are back
	}
	if err != nil {
		return err
	}
	a.flush(ctx, c, g.Unit)
	return a.sayChange(v, s)
}

// sayChange has the new link, if there is one, as data, so that it can be passed
// on.
func (a *app) sayChange(v member.OperationInfo, s member.Status) error {
	err := a.Data(v, func(w *strings.Builder) {
		if v.Link != "" {
			fmt.Fprintln(w, v.Link)
		}
	})
	a.Say("%s", cli.Clean(v.What))
	if v.Epoch {
		a.Say("The group goes on under a new key, which only its members have.")
	}
	if !v.Expires.IsZero() {
		a.Say("The new invitation is good until %s.", v.Expires.Local().Format("2 January 15:04"))
	}
	if len(s.Relays) > 0 && v.Operation != "" {
		a.Detail("Operation %s, kept by %d of %d relays.", v.Operation, v.Relays, len(s.Relays))
	}
	return err
}

func newRemove(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "remove [GROUP] MEMBER", Short: "Remove a member", Args: cli.Args(1, 2),
		Long: "Removes a member: nothing is encrypted to it from then on, and what it sends afterwards is not shown as the word of\n" +
			"a member. Earlier invitations end, since it may know them; the answer is the link of a new one. What it has read\n" +
			"it has. `parallax member approve` takes it in again.",
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
				question := fmt.Sprintf("Remove %s from %s? Invitations made so far end as well.", cli.Clean(labelOf(s, rest[0])), cli.Clean(s.Group))
				if err := a.agree(yes, question); err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, member.RemoveMember{Member: rest[0]})
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// labelOf is how a member is told apart, if the name fits one.
func labelOf(s member.Status, name string) string {
	label := name
	found := 0
	for _, m := range s.Members {
		if m.Name == name || m.Label == name || len(name) >= 4 && strings.HasPrefix(m.Seat, strings.ToLower(name)) {
			label = m.Label
			found++
		}
	}
	if found != 1 {
		return name
	}
	return label
}

func newRole(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "role [GROUP] MEMBER ROLE", Short: "Give a member another role", Args: cli.Args(2, 3),
		Long: "Roles: reader (reads and does not speak), member, admin (invites, approves, removes, replaces relays), owner (all\n" +
			"that, and makes owners and the policy). A group keeps at least one owner; name a second one in good time.",
		RunE: func(c *cobra.Command, args []string) error {
			role, err := roleNamed(args[len(args)-1])
			if err != nil {
				return err
			}
			return a.with(c.Context(), func(client node.Client) error {
				g, rest, err := a.groupFor(c.Context(), client, args, 2)
				if err != nil {
					return err
				}
				s, err := a.catchUp(c.Context(), client, g.Unit)
				if err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, member.SetRole{Member: rest[0], Role: role})
			})
		},
	}
}

// roles in the order of what they may do.
var roles = []member.Role{member.AsReader, member.AsMember, member.AsAdmin, member.AsOwner}

func roleNamed(word string) (member.Role, error) {
	var words []string
	for _, r := range roles {
		if strings.EqualFold(string(r), word) {
			return r, nil
		}
		words = append(words, string(r))
	}
	hint := ""
	if near := cli.Nearest(strings.ToLower(word), words); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return "", cli.Errorf(cli.Usage, "there is no role %q: a role is %s%s", word, or(words), hint)
}

func newApprove(a *app) *cobra.Command {
	var role string
	c := &cobra.Command{
		Use: "approve [GROUP] MEMBER", Short: "Let somebody in", Args: cli.Args(1, 2),
		Long: "Lets in who asks by an invitation of a group whose mode is approve, if enough relays show the same request (exit\n" +
			"code 6 if not). Before, compare the beginning of the seat where no relay is in between. It also lets a seat in\n" +
			"directly: one on which the relays do not agree, one that was removed, or one whose\n" +
			"inviter was removed. `parallax member requests` lists who waits. If the relays do not agree, compare codes first.\n" +
			"Who was removed learns of it from a device of an admin, within minutes while both are online.",
		RunE: func(c *cobra.Command, args []string) error {
			var as member.Role
			if role != "" {
				var err error
				if as, err = roleNamed(role); err != nil {
					return err
				}
			}
			return a.with(c.Context(), func(client node.Client) error {
				g, rest, err := a.groupFor(c.Context(), client, args, 1)
				if err != nil {
					return err
				}
				s, err := a.catchUp(c.Context(), client, g.Unit)
				if err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, member.ApproveMember{Member: rest[0], Role: as})
			})
		},
	}
	c.Flags().StringVar(&role, "role", "", "as what: reader, member, admin or owner (default: what the invitation says, else member)")
	return c
}

func newRefuse(a *app) *cobra.Command {
	var reason, invitation string
	c := &cobra.Command{
		Use: "refuse [GROUP] MEMBER", Short: "Refuse somebody who asks to be let in", Args: cli.Args(0, 2),
		Long: "Says no to who asks, and takes them off every admin's list. They are told, with the reason if you give one; who\n" +
			"holds the same invitation can read it. `member approve` lets them in all the same, by their seat.\n" +
			"With --invitation all who asked by one invitation are refused; end it as well: parallax invite revoke.",
		RunE: func(c *cobra.Command, args []string) error {
			others := 1
			if invitation != "" {
				others = 0
			}
			if len(args) < others || len(args) > others+1 {
				return cli.Errorf(cli.Usage, "who is refused? %s [GROUP] MEMBER, or --invitation ID", c.CommandPath())
			}
			return a.with(c.Context(), func(client node.Client) error {
				g, rest, err := a.groupFor(c.Context(), client, args, others)
				if err != nil {
					return err
				}
				s, err := a.catchUp(c.Context(), client, g.Unit)
				if err != nil {
					return err
				}
				return a.change(c.Context(), client, g, s, member.RefuseMember{Member: first(rest), Invite: invitation, Reason: reason})
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "one line for who is refused")
	c.Flags().StringVar(&invitation, "invitation", "", "all who asked by this invitation")
	return c
}

// request is one who waits, as `member requests --json` shows it.
type request struct {
	member.RosterMember
	Why string `json:"why"`
	// Of who asks by an invitation.
	Request *member.RequestInfo `json:"request,omitempty"`
}

// asks says how a request came.
func asks(r member.RequestInfo, relays int) string {
	why := fmt.Sprintf("asks since %s, %d of %s show the same request", r.Since.Local().Format("2 January 15:04"), len(r.Shown), cli.Plural(relays, "relay"))
	switch {
	case r.Differs:
		why = "signed two different requests: it cannot be approved"
	case !r.Agreed:
		why += fmt.Sprintf("; %s needed", isAreN(r.Needed, "operator"))
	}
	if r.Ended {
		why += "; its invitation ended"
	}
	return why
}

func newRequests(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "requests [GROUP]", Short: "List who waits to be let in", Args: cli.Args(0, 1),
		Long: "Lists who is not in the group, or not fully, until an admin approves. Scripts read --json, which is [] for nobody.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, s member.Status) error {
				v, err := ask[member.RosterInfo](c.Context(), client, g.Unit, member.GetRoster{})
				if err != nil {
					return err
				}
				list := []request{}
				if v.Role == member.AsAdmin || v.Role == member.AsOwner {
					asked, err := ask[[]member.RequestInfo](c.Context(), client, g.Unit, member.GetRequests{})
					if err != nil {
						return err
					}
					for _, r := range asked {
						m := member.RosterMember{Seat: r.Seat, Name: r.Name, Label: r.Label, Role: r.Role}
						list = append(list, request{m, asks(r, len(s.Relays)), &r})
					}
				}
				for _, m := range v.Pending {
					why := "who let them in was removed, or the group was shut when they came"
					if m.By != "" {
						why = m.By + ", who let them in, was removed, or the group was shut when they came"
					}
					list = append(list, request{m, why, nil})
				}
				for _, m := range v.Asking {
					if !m.Usable && !m.Own {
						list = append(list, request{m, "the relays do not agree on them (yet): parallax contested", nil})
					}
				}
				err = a.Data(list, func(w *strings.Builder) {
					var rows [][]cli.Cell
					for _, m := range list {
						rows = append(rows, cli.Cells(cli.Clean(m.Label), m.Seat[:min(len(m.Seat), 8)], cli.Clean(m.Why)))
					}
					a.Table(w, nil, rows)
				})
				if len(list) == 0 {
					a.Say("Nobody waits to be let into %s.", cli.Clean(s.Group))
				} else {
					a.Say("To let somebody in: parallax member approve MEMBER, or refuse. Where it matters, ask for the beginning of the seat first.")
				}
				return err
			})
		},
	}
}
