package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

func newSecurity(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "security [GROUP]", Short: "Show what protects the group, and what does not", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, _ member.Status) error {
				v, err := ask[member.Security](c.Context(), client, g.Unit, member.GetSecurity{})
				if err != nil {
					return err
				}
				where, _, err := a.locations(c.Context(), client, g.Unit, file)
				if err != nil {
					return err
				}
				data := struct {
					member.Security
					Shared []member.SharedLocation `json:"shared"`
					Table  string                  `json:"table,omitempty"` // whose word ASes and countries are
				}{v, where.Shared, where.Table}
				return a.Data(data, func(w *strings.Builder) { a.overview(w, v, where) })
			})
		},
	}
	networksFlag(c, &file)
	return c
}

func (a *app) overview(w *strings.Builder, v member.Security, where member.LocationsInfo) {
	fmt.Fprintf(w, "%s  %s\n\n%s\n%s\n", cli.Clean(v.Group), v.ShortID, tally(v), v.Policy.Words)
	for _, f := range v.Policy.Families {
		names := make([]string, len(f))
		for i, n := range f {
			names[i] = cli.Clean(n)
		}
		fmt.Fprintf(w, "%s declared that they are one family: they count once.\n", and(names))
	}
	for line := range strings.Lines(v.Policy.Text) {
		fmt.Fprintf(w, "  %s\n", cli.Clean(strings.TrimRight(line, "\n")))
	}
	fmt.Fprintln(w)
	a.relayTable(w, v)
	fmt.Fprintln(w)
	switch v.Evidence {
	case 0:
		fmt.Fprintln(w, "No relay is convicted.")
	case 1:
		fmt.Fprintln(w, "1 piece of evidence: parallax evidence")
	default:
		fmt.Fprintf(w, "%d pieces of evidence: parallax evidence\n", v.Evidence)
	}
	if v.Outbox > 0 {
		fmt.Fprintf(w, "%d posts wait for receipts.\n", v.Outbox)
	}
	for _, line := range lacking(v) {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w, secrecy(v))
	if v.Carriers < len(v.Relays) {
		fmt.Fprintf(w, "Texts go in full to %d of %d relays; the others get their digest.\n", v.Carriers, len(v.Relays))
	}
	for _, g := range v.Goals {
		fmt.Fprintln(w, fewest(g))
	}
	for _, s := range notable(where.Shared, member.SharedNetwork, member.SharedAS, member.SharedCountry) {
		fmt.Fprintln(w, together(s, where.Table))
	}
	fmt.Fprintln(w, "Who they are: parallax coalition")
	fmt.Fprintf(w, "\nGroup code, the same for all who see the same members and keys:\n%s", codeLines(v.Code))
	if len(v.Advice) > 0 {
		fmt.Fprintln(w, "\nWhat you can do:")
		for _, line := range v.Advice {
			fmt.Fprintf(w, "- %s\n", cli.Clean(line))
		}
	}
}

// lacking says what did not arrive, and what is being done about it.
func lacking(v member.Security) (lines []string) {
	for _, l := range v.Lacks {
		line := cli.Clean(l.Text)
		if l.State == member.LackMembers && !l.Next.IsZero() {
			line += fmt.Sprintf(" They are asked again after %s, while parallax runs.", l.Next.Local().Format("2 January 15:04"))
		}
		lines = append(lines, line)
	}
	switch n := v.Missing; {
	case n == 1:
		lines = append(lines, "1 message is known here by its digest alone, and was asked for. If it comes, it is shown. Nothing for you to do.")
	case n > 1:
		lines = append(lines, fmt.Sprintf("%d messages are known here by their digests alone, and were asked for. What comes is shown. Nothing for you to do.", n))
	}
	return lines
}

func (a *app) relayTable(w *strings.Builder, v member.Security) {
	var rows [][]cli.Cell
	for _, r := range v.Relays {
		row := append(cli.Cells(r.Label, cli.Clean(r.Operator)), relayState(r))
		row = append(row, cli.Cells(fmt.Sprint(r.Matched), fmt.Sprint(r.Dissented), fmt.Sprint(r.Silent), fmt.Sprint(r.Failed), cli.Clean(r.Problem))...)
		rows = append(rows, row)
	}
	a.Table(w, []string{"relay", "operator", "state", "matched", "dissented", "silent", "failed", ""}, rows)
}

// tally counts the members by what the relays agree on and by what people
// compared.
func tally(v member.Security) string {
	by := ""
	switch {
	case v.Most > v.Fewest:
		by = fmt.Sprintf(" by %d to %d operators", v.Fewest, v.Most)
	case v.Most > 0:
		by = " by " + cli.Plural(v.Most, "operator")
	}
	parts := []string{fmt.Sprintf("%d agreed%s", v.Agreed, by)}
	if v.Unconfirmed > 0 {
		parts = append(parts, fmt.Sprintf("%d unconfirmed", v.Unconfirmed))
	}
	parts = append(parts, fmt.Sprintf("%d %s", v.Verified, verifiedNow), fmt.Sprintf("%d contested", v.Contested))
	return fmt.Sprintf("%s: %s", cli.Plural(len(v.Members), "member"), strings.Join(parts, ", "))
}

// secrecy says what session keys hang on.
func secrecy(v member.Security) string {
	s := "First contacts take one relay: no share of a key goes another way."
	if v.Shares > 0 {
		s = fmt.Sprintf("First contacts take shares of %d of %d relays.", v.Shares, v.ShareRelays)
	}
	s += " Sessions begin with ML-KEM-768"
	if !v.Reinforces {
		return s + "; in a group of this size it is not mixed in again."
	}
	return s + fmt.Sprintf(", and it was mixed in again in %d of %d.", v.Reinforced, v.Sessions)
}

// fewest says by a number who could do what; coalition names them.
func fewest(g member.GoalInfo) string {
	if g.Parties == 0 {
		return fmt.Sprintf("Nobody could %s.", goalWords[g.Goal])
	}
	return fmt.Sprintf("It takes %d of %s to %s.", g.Parties, cli.Plural(g.Of, "operator"), goalWords[g.Goal])
}
