package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/crossverify"
	"parallax/internal/cli"
	"parallax/node"
)

func newGroup(a *app) *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "Create, list, change and leave groups"}
	cli.Parent(c)
	c.AddCommand(newCreate(a), newList(a), newGroupMembers(a), newSet(a), newLeave(a))
	return c
}

func newCreate(a *app) *cobra.Command {
	var relays []string
	var name string
	var strict bool
	var policyFile, mode string
	var deadline, retention cli.Duration
	var quorum quorumFlag
	var carriers carriersFlag
	c := &cobra.Command{
		Use: "create NAME --relays A,B,C", Short: "Found a group on relays", Args: cli.Args(1, 1),
		Long: "Founds a group on the relays whose addresses their operators gave you (`parallax-relay address`).\n" +
			"Take relays of operators who have nothing to do with each other: comparing them is what protects the group.\n\n" +
			"A policy text says which operators are enough, where a majority is not what you want:\n\n" +
			"  parallax policy 1\n" +
			"  operator north 4f1c...        # a key: `parallax-relay address --json` shows it\n" +
			"  operator east  90aa...\n" +
			"  operator south 17d3...\n" +
			"  group others any east south   # any, majority, all or a number\n" +
			"  group enough all north others\n" +
			"  quorum enough\n\n" + modesHelp,
		RunE: func(c *cobra.Command, args []string) error {
			own, err := a.ownName(name)
			if err != nil {
				return err
			}
			spots, err := cli.ParseRelays(relays...)
			if err != nil {
				return err
			}
			if err := member.CheckName(args[0]); err != nil {
				return cli.Errorf(cli.Usage, "the group's name: %w", err)
			}
			for name, d := range map[string]cli.Duration{"deadline": deadline, "retention": retention} {
				if !c.Flags().Changed(name) {
					continue
				}
				if err := wholeSeconds(name, d); err != nil {
					return err
				}
			}
			if err := checkMode(mode); err != nil {
				return err
			}
			if strict && policyFile != "" {
				return cli.Errorf(cli.Usage, "--strict needs all relays, --policy says which are enough: take one of the two")
			}
			if quorum != 0 && (strict || policyFile != "") {
				return cli.Errorf(cli.Usage, "--quorum says how many operators are enough, --strict that all are needed, --policy which: take one of them")
			}
			if int(quorum) > len(spots) {
				return cli.Errorf(cli.Usage, "--quorum is %d: over %s, 1 to %d operators can agree; majority is %d", quorum, cli.Plural(len(spots), "relay"), len(spots), len(spots)/2+1)
			}
			if c.Flags().Changed("carriers") {
				if err := carriers.check(len(spots)); err != nil {
					return err
				}
			}
			policy, err := readPolicy(policyFile)
			if err != nil {
				return err
			}
			client, err := a.connect(c.Context(), false)
			if err != nil {
				return err
			}
			a.Say("Founding %s on %s ...", args[0], cli.Plural(len(spots), "relay"))
			w := member.CreateGroup{Group: args[0], Name: own, Relays: spots, Strict: strict, Mode: mode,
				Deadline: time.Duration(deadline), Retention: time.Duration(retention), Quorum: uint8(quorum), Policy: policy, Carriers: uint8(carriers)}
			before, err := ask[[]node.Membership](c.Context(), client, "", node.ListGroups{})
			if err == nil {
				var g member.GroupInfo
				if g, err = a.enter(c.Context(), client, before, w, true); err == nil {
					err = a.sayGroup(g, len(spots), mode)
				}
			}
			return errors.Join(err, client.Close())
		},
	}
	f := c.Flags()
	f.StringArrayVar(&relays, "relays", nil, "addresses of the relays, separated by commas")
	f.StringVar(&name, "name", "", "your name in the group")
	f.BoolVar(&strict, "strict", false, "all relays must agree before a key is used or a message shown, not a majority")
	f.StringVar(&mode, "mode", "open", "who lets newcomers in: open, approve or closed")
	f.StringVar(&policyFile, "policy", "", "file with the group's policy text: which operators are enough")
	f.Var(&deadline, "deadline", "how long a relay may be silent before the others go on (default 30s)")
	f.Var(&retention, "retention", "how long what members were away for can still be read (default 21d)")
	f.Var(&quorum, "quorum", "how many operators must agree, or majority (default majority)")
	f.Var(&carriers, "carriers", "how many relays get each text in full, the others its digest, or all (default 3, or all of fewer)")
	return c
}

// modesHelp says who lets newcomers in.
const modesHelp = "Newcomers: with --mode open whoever has an invitation joins by it, also while you are offline; with approve\n" +
	"whoever has one asks, and an admin lets them in (`parallax member requests`); with closed nobody can be invited."

// checkMode refuses a word that is no mode before anything is done.
func checkMode(word string) error {
	if _, err := member.ModeNamed(word); err != nil {
		hint := ""
		if near := cli.Nearest(strings.ToLower(word), []string{"open", "approve", "closed"}); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return cli.Errorf(cli.Usage, "--mode: a mode is open, approve or closed, not %q%s", word, hint)
	}
	return nil
}

// readPolicy reads a policy text, at most what a group carries of one; "" for no
// file.
func readPolicy(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", cli.Errorf(cli.Usage, "--policy: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, crossverify.MaxRuleText+1))
	if err == nil {
		_, err = crossverify.ParseRule(string(raw))
	}
	if err != nil {
		return "", cli.Errorf(cli.Usage, "--policy %s: %w", path, err)
	}
	return string(raw), nil
}

func (a *app) sayGroup(g member.GroupInfo, relays int, mode string) error {
	err := a.Data(g, func(w *strings.Builder) { fmt.Fprintf(w, "%s  %s\n", cli.Clean(g.Group), g.ShortID) })
	switch relays {
	case 1:
		a.Say("One relay: nothing is compared, so it can show wrong keys unnoticed. Groups on several relays are compared.")
	default:
		a.Say("Everything is compared over %d relays.", relays)
	}
	if mode == "closed" {
		a.Say("The group is closed: nobody can be invited. Who may come in says parallax group set %q --mode approve", g.Group)
		return err
	}
	a.Say("Next: parallax invite %q", g.Group)
	return err
}

// listed is a group as `group list --json` shows it.
type listed struct {
	Unit  string `json:"unit"`
	Name  string `json:"name,omitempty"`
	ID    string `json:"id,omitempty"`
	Ready bool   `json:"ready"`
	Left  bool   `json:"left,omitempty"`
	Asks  bool   `json:"asks,omitempty"` // waits for an admin
	Error string `json:"error,omitempty"`
}

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the groups of the data folder", Args: cli.Args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.folder()
			if err != nil {
				return err
			}
			list, asks := []node.Membership{}, map[string]bool{}
			if _, e := os.Stat(filepath.Join(dir, "groups")); e == nil {
				err = a.with(c.Context(), func(client node.Client) (err error) {
					list, err = ask[[]node.Membership](c.Context(), client, "", node.ListGroups{})
					for _, g := range list {
						if s, e := ask[member.Status](c.Context(), client, g.Unit, member.GetStatus{}); !g.Ready && e == nil {
							asks[g.Unit] = s.Asking != nil
						}
					}
					return err
				})
			}
			if err != nil {
				return err
			}
			out := make([]listed, len(list))
			var rows [][]cli.Cell
			for i, g := range list {
				out[i] = listed{Unit: g.Unit, Name: g.Name, ID: g.ID, Ready: g.Ready, Left: g.Left, Asks: asks[g.Unit]}
				row := cli.Cells(cli.Clean(g.Name), g.Unit, "ready")
				switch {
				case g.Err != nil:
					out[i].Error = cli.Line(g.Err)
					row[2] = cli.Cell{Text: out[i].Error, Color: cli.Red}
				case g.Left:
					row[2].Text = "left"
				case asks[g.Unit]:
					row[2].Text = "waits for an admin"
				case !g.Ready:
					row[2].Text = "not joined yet"
				}
				rows = append(rows, row)
			}
			if len(list) == 0 {
				a.Say("There is no group in %s: create or join one first.", dir)
			}
			return a.Data(out, func(w *strings.Builder) { a.Table(w, nil, rows) })
		},
	}
}
