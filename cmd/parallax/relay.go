package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/internal/keys"
	"parallax/node"
)

func newRelays(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "relay", Short: "List, test, add, replace and retire the group's relays",
		Long: "A group goes on when its relays change: an admin adds, replaces or retires one, and every member's device follows\n" +
			"by itself. A relay is named by its label (R2), its operator's name, or the beginning of its key.",
	}
	cli.Parent(c)
	c.AddCommand(newRelayList(a), newRelayTest(a), newRelayAdd(a), newRelayReplace(a), newRelayRetire(a), newRelaySpare(a))
	return c
}

func newRelayList(a *app) *cobra.Command {
	var every bool
	var file string
	c := &cobra.Command{
		Use: "list [GROUP]", Short: "List the relays: operator, standing, network, address", Args: cli.Args(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, s member.Status) error {
				where, _, err := a.locations(c.Context(), client, g.Unit, file)
				if err != nil {
					return err
				}
				relays := s.Relays
				if every {
					relays = append(relays, s.Former...)
				}
				list := withLocations(relays, where)
				err = a.Data(list, func(w *strings.Builder) {
					var rows [][]cli.Cell
					for _, r := range list {
						row := append(cli.Cells(r.Label, cli.Clean(r.Operator), string(r.Standing)), relayState(r.RelayStatus))
						rows = append(rows, append(row, cli.Cells(shortKey(r.Key), whereabouts(r.Locations), cli.Clean(strings.Join(r.Addrs, ", ")))...))
					}
					for _, r := range s.Spares {
						row := append(cli.Cells("", "", spareStanding(r)), spareState(r))
						rows = append(rows, append(row, cli.Cells(shortKey(r.Key), "", cli.Clean(strings.Join(r.Addrs, ", ")))...))
					}
					a.Table(w, []string{"relay", "operator", "standing", "state", "key", "network", "address"}, rows)
				})
				for _, line := range inPassing(where.Shared, where.Table) {
					a.Say("%s", line)
				}
				if n := len(s.Former); n > 0 && !every {
					a.Say("%s retired: parallax relay list --all", isAreN(n, "relay"))
				}
				for _, r := range s.Relays {
					if !r.Gone.IsZero() {
						what, with := "replace it", " ADDRESS"
						if len(s.Spares) > 0 {
							what, with = "put a spare relay in its place", ""
						}
						a.Say("Relay %s has not answered since %s. An admin can %s: parallax relay replace %s%s",
							r.Label, r.Gone.Local().Format("2 January 15:04"), what, r.Label, with)
					}
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&every, "all", false, "with those that were retired")
	networksFlag(c, &file)
	return c
}

// listedRelay is a relay as `relay list` shows it.
type listedRelay struct {
	member.RelayStatus
	Locations []member.Location `json:"locations"`
	Table     string            `json:"table,omitempty"` // whose word ASes and countries are
}

func withLocations(relays []member.RelayStatus, where member.LocationsInfo) []listedRelay {
	list := []listedRelay{}
	for _, r := range relays {
		l := listedRelay{RelayStatus: r, Locations: []member.Location{}, Table: where.Table}
		for _, at := range where.Relays {
			if at.Label == r.Label {
				l.Locations = at.Locations
			}
		}
		list = append(list, l)
	}
	return list
}

// relayState is whether a relay is there.
func relayState(r member.RelayStatus) cli.Cell {
	switch {
	case r.SetAside:
		return cli.Cell{Text: "set aside", Color: cli.Red}
	case r.Standing == member.StandingClosed:
		return cli.Cell{}
	case r.Ended:
		return cli.Cell{Text: "nothing more for you"}
	case !r.Connected:
		return cli.Cell{Text: "not reached", Color: cli.Yellow}
	case !r.CaughtUp:
		return cli.Cell{Text: "catching up" + soFar(r), Color: cli.Yellow}
	}
	return cli.Cell{Text: "connected", Color: cli.Green}
}

func shortKey(k keys.RelayPublic) string { return hex.EncodeToString(k[:4]) }

// oneSpot reads the address of one relay.
func oneSpot(text string) (member.FoundingSpot, error) {
	spots, err := cli.ParseRelays(text)
	if err != nil {
		return member.FoundingSpot{}, err
	}
	if len(spots) != 1 {
		return member.FoundingSpot{}, cli.Errorf(cli.Usage, "these are addresses of %d relays, one is wanted", len(spots))
	}
	return spots[0], nil
}

// relayChange obeys a wish that changes the list of relays.
func (a *app) relayChange(ctx context.Context, args []string, others int, ready func(rest []string) (w member.Wish, question, begin string, err error), yes bool) error {
	return a.with(ctx, func(client node.Client) error {
		g, rest, err := a.groupFor(ctx, client, args, others)
		if err != nil {
			return err
		}
		w, question, begin, err := ready(rest)
		if err != nil {
			return err
		}
		if _, err := a.catchUp(ctx, client, g.Unit); err != nil {
			return err
		}
		if question != "" {
			if err := a.agree(yes, question); err != nil {
				return err
			}
		}
		a.Say("%s", begin)
		v, err := ask[member.RelayChange](ctx, client, g.Unit, w)
		if err != nil {
			return err
		}
		a.flush(ctx, client, g.Unit)
		return a.sayRelayChange(v)
	})
}

func (a *app) sayRelayChange(v member.RelayChange) error {
	err := a.Data(v, func(w *strings.Builder) {
		if v.Added != "" {
			fmt.Fprintln(w, v.Added)
		}
	})
	switch {
	case v.Added != "" && v.Retired != "":
		a.Say("Relay %s takes the place of %s.", v.Added, v.Retired)
	case v.Added != "":
		a.Say("Relay %s is one of the group's relays.", v.Added)
	case v.Retired != "":
		a.Say("Relay %s is retired. What it keeps is read to its end.", v.Retired)
	}
	if v.InUse {
		a.Say("The new list is in use here; the other members follow by themselves.")
		return err
	}
	if err == nil {
		err = cli.Errorf(cli.Partial, "the change is made, and not in use yet: %s", waitingFor(v.Waiting))
	}
	return err
}

func waitingFor(relays []string) string {
	if len(relays) == 0 {
		return "it will be when enough relays show it; until then both lists are read and posted to"
	}
	return fmt.Sprintf("%s %s not show it; until then both lists are read and posted to", and(relays), plural(relays, "does", "do"))
}

func newRelayAdd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "add [GROUP] ADDRESS", Short: "Add a relay to the group", Args: cli.Args(1, 2),
		Long: "Adds a relay, by the address that its operator gave you (`parallax-relay address`). What newcomers need is carried\n" +
			"over to it; older messages are not. `parallax relay test ADDRESS` tries it before.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.relayChange(c.Context(), args, 1, func(rest []string) (member.Wish, string, string, error) {
				spot, err := oneSpot(rest[0])
				return member.AddRelay{Relay: spot}, "", "Adding the relay ...", err
			}, true)
		},
	}
}

func newRelayReplace(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "replace [GROUP] RELAY [ADDRESS]", Short: "Put another relay in the place of one", Args: cli.Args(1, 3),
		Long: "Adds the relay at the address, or a spare one, and retires the named one, as one change. The old one need not answer\n" +
			"any more. Spare relays: parallax relay spare.",
		RunE: func(c *cobra.Command, args []string) error {
			others := 1
			if strings.Contains(args[len(args)-1], "/") {
				others = 2
			}
			return a.relayChange(c.Context(), args, others, func(rest []string) (member.Wish, string, string, error) {
				var spot member.FoundingSpot
				var err error
				if len(rest) == 2 {
					spot, err = oneSpot(rest[1])
				}
				return member.ReplaceRelay{Relay: rest[0], By: spot}, fmt.Sprintf("Retire relay %s for good and take the new one in its place?", cli.Clean(rest[0])), "Replacing the relay ...", err
			}, yes)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func newRelayRetire(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "retire [GROUP] RELAY", Short: "Take a relay out of the group", Args: cli.Args(1, 2),
		Long: "Takes a relay out: nothing is posted to it any more, and members read what it keeps to its end. With fewer operators\n" +
			"fewer must work together to deceive: parallax coalition.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.relayChange(c.Context(), args, 1, func(rest []string) (member.Wish, string, string, error) {
				return member.RetireRelay{Relay: rest[0]}, fmt.Sprintf("Retire relay %s for good?", cli.Clean(rest[0])), "Retiring the relay ...", nil
			}, yes)
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// tested is one address, as `relay test --json` shows it.
type tested struct {
	Relay    string  `json:"relay,omitempty"` // label, if it is of a group
	Key      string  `json:"key"`
	Addr     string  `json:"addr"`
	OK       bool    `json:"ok"`
	Millis   float64 `json:"ms,omitempty"`
	Operator string  `json:"operator,omitempty"` // its name
	Vouches  string  `json:"operator_key,omitempty"`
	Problem  string  `json:"problem,omitempty"`
}

func newRelayTest(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "test [GROUP] | test ADDRESS...", Short: "Try the addresses of relays", Args: cobra.ArbitraryArgs,
		Long: "Tries each address of the group's relays, or of those that are named, by itself: whether the relay answers there\n" +
			"under its own key, how fast, and who operates it. Nothing is changed there.\n" +
			"Exit code 6: a relay does not answer at any of its addresses; 3: none does.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && strings.Contains(args[0], "/") {
				spots, err := cli.ParseRelays(args...)
				if err != nil {
					return err
				}
				relays := make([]member.RelayStatus, len(spots))
				for i, s := range spots {
					relays[i] = member.RelayStatus{Key: s.Key, Addrs: s.Addrs}
				}
				return a.testRelays(c.Context(), relays)
			}
			if len(args) > 1 {
				return cli.Errorf(cli.Usage, "%d arguments, want one group, or addresses of relays", len(args))
			}
			return a.with(c.Context(), func(client node.Client) error {
				g, err := a.group(c.Context(), client, first(args))
				if err != nil {
					return err
				}
				s, err := ask[member.Status](c.Context(), client, g.Unit, member.GetStatus{})
				if err != nil {
					return err
				}
				return a.testRelays(c.Context(), s.Relays)
			})
		},
	}
}

func (a *app) testRelays(ctx context.Context, relays []member.RelayStatus) error {
	answers := make([][]node.Probe, len(relays))
	var asking sync.WaitGroup
	for i, r := range relays {
		asking.Go(func() { answers[i] = node.ProbeRelay(ctx, r.Key, r.Addrs) })
	}
	asking.Wait()
	list := []tested{}
	answered := 0
	for i, r := range relays {
		good := false
		for _, p := range answers[i] {
			t := tested{Relay: r.Label, Key: r.Key.String(), Addr: p.Addr, OK: p.Err == nil}
			if p.Err != nil {
				t.Problem = cli.Line(p.Err)
			} else {
				good = true
				t.Millis = float64(p.Took.Round(100*time.Microsecond)) / float64(time.Millisecond)
				t.Operator, t.Vouches = p.Name, p.Operator.String()
			}
			list = append(list, t)
		}
		if good {
			answered++
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := a.Data(list, func(w *strings.Builder) {
		var rows [][]cli.Cell
		for _, t := range list {
			name := t.Relay
			if name == "" {
				name = t.Key[:8]
			}
			row := append(cli.Cells(name, cli.Clean(t.Addr)), cli.Cell{Text: markWrong, Color: cli.Red})
			text := cli.Clean(t.Problem)
			if t.OK {
				row[2] = cli.Cell{Text: markMatched, Color: cli.Green}
				text = fmt.Sprintf("%.0f ms, operator %s", t.Millis, operatorName(t))
			}
			rows = append(rows, append(row, cli.Cell{Text: text}))
		}
		a.Table(w, nil, rows)
	})
	switch {
	case err != nil || answered == len(relays):
		return err
	case answered == 0:
		return cli.Errorf(cli.Network, "no relay answers")
	}
	return cli.Errorf(cli.Partial, "%d of %s answer", answered, cli.Plural(len(relays), "relay"))
}

func operatorName(t tested) string {
	if t.Operator == "" {
		return t.Vouches[:min(len(t.Vouches), 8)]
	}
	return fmt.Sprintf("%s (%s)", cli.Clean(t.Operator), t.Vouches[:min(len(t.Vouches), 8)])
}
