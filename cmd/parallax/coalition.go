package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// goalWords are what a coalition could do, after "could".
var goalWords = map[string]string{
	"fool":  "make a newcomer with the true link accept a member whom nobody else has",
	"read":  "read a first contact made with false keys, and speak in it",
	"block": "keep somebody from joining",
	"link":  "tell that their channels are one group",
}

func newCoalition(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "coalition [GROUP]", Short: "Show how few operators could fool, read, block or link together", Args: cli.Args(0, 1),
		Long: "Shows the smallest sets of operators that would have to work together to fool somebody who joins with the true\n" +
			"link, to read a first contact, to block a join, to link the group's channels. It counts what is known of them:\n" +
			"operators who declared a family count as one. Relays in one network (/16 of IPv4, /48 of IPv6) are shown as what\n" +
			"might be one hand; so are, with a table of networks that you bring, those of one provider and of one country.\n" +
			"None of that changes who counts. That operators have nothing to do with each other nobody can show. The link\n" +
			"itself is the root of trust: who changes it needs no operator.\n\n" +
			"A table is a file in the form of iptoasn.com, plain or .gz; nothing is fetched. To use it always:\n" +
			"parallax init --networks FILE",
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, _ member.Status) error {
				_, table, err := a.locations(c.Context(), client, g.Unit, file)
				if err != nil {
					return err
				}
				v, err := ask[member.CoalitionInfo](c.Context(), client, g.Unit, member.GetCoalition{Table: table})
				if err != nil {
					return err
				}
				return a.sayCoalition(v)
			})
		},
	}
	networksFlag(c, &file)
	return c
}

func (a *app) sayCoalition(v member.CoalitionInfo) error {
	err := a.Data(v, func(w *strings.Builder) {
		fmt.Fprintf(w, "%s  %s\n%s: %s\n\n", cli.Clean(v.Group), v.ShortID, cli.Plural(v.Operators, "operator"), operators(v.Relays))
		if v.Operators == 1 {
			fmt.Fprintf(w, "One operator, %s: nothing is compared, and nobody would notice.\n", cli.Clean(v.Relays[0].Operator))
		}
		lines(w, v.Goals, v.Relays)
		if aside := setAside(v.Relays); v.Unaware != nil {
			fmt.Fprintf(w, "\n%s set aside by evidence and not counted above, except for linking. Who has not got the evidence, as a\nnewcomer, counts all:\n", isAre(aside))
			lines(w, differing(v.Unaware, v.Goals), v.Relays)
		}
		a.sayNetworks(w, v)
	})
	a.Say("In an open group whoever holds a live link can join and read, in front of everybody: that takes no operator.")
	return err
}

// sayNetworks tells where the relays are, which are together, and what follows if
// that is one hand.
func (a *app) sayNetworks(w *strings.Builder, v member.CoalitionInfo) {
	a.whereTable(w, v.Relays, v.Table)
	var named []string
	for _, r := range v.Relays {
		if r.Named {
			named = append(named, r.Label)
		}
	}
	if len(named) > 0 {
		fmt.Fprintf(w, "\nThe network of %s is not known: an address is a name, and no link of this device stood there lately.\n", and(named))
	}
	a.ifOne(w, v, v.IfOneHand, "This only might mean one hand: strangers rent at one provider. If each of these is one hand:", member.SharedNetwork, member.SharedAS)
	a.ifOne(w, v, v.IfOneCountry, "That is weaker yet: most countries command few of the computers in them. If each of these were one hand:", member.SharedCountry)
}

// ifOne tells what would take fewer if all that is shared of some kinds were one
// hand each.
func (a *app) ifOne(w *strings.Builder, v member.CoalitionInfo, goals []member.GoalInfo, what string, kinds ...string) {
	if goals == nil {
		return
	}
	fmt.Fprintln(w)
	for _, s := range v.Shared {
		if slices.Contains(kinds, s.Kind) {
			fmt.Fprintln(w, together(s, v.Table))
		}
	}
	fmt.Fprintln(w, what)
	var fewer []member.GoalInfo
	for i, g := range goals {
		if g.Parties < v.Goals[i].Parties {
			fewer = append(fewer, g)
		}
	}
	if len(fewer) == 0 {
		fmt.Fprintln(w, "Nothing of this would take fewer.")
	}
	lines(w, fewer, v.Relays)
}

// differing are the goals that are not as they stand in the other list.
func differing(list, other []member.GoalInfo) (rest []member.GoalInfo) {
	for i, g := range list {
		if !reflect.DeepEqual(g, other[i]) {
			rest = append(rest, g)
		}
	}
	return rest
}

// operators lists them with their relays.
func operators(relays []member.RelayOperator) string {
	var names []string
	of := map[string][]string{}
	for _, r := range relays {
		if of[r.Operator] == nil {
			names = append(names, r.Operator)
		}
		of[r.Operator] = append(of[r.Operator], r.Label)
	}
	for i, n := range names {
		if l := strings.Join(of[n], ", "); strings.HasSuffix(n, "("+l+")") {
			names[i] = cli.Clean(n) // told apart by its relays already
		} else {
			names[i] = fmt.Sprintf("%s (%s)", cli.Clean(n), l)
		}
	}
	return strings.Join(names, ", ")
}

func setAside(relays []member.RelayOperator) (list []string) {
	for _, r := range relays {
		if r.SetAside {
			list = append(list, "Relay "+r.Label)
		}
	}
	return list
}

func isAre(list []string) string {
	if len(list) == 1 {
		return list[0] + " is"
	}
	return and(list) + " are"
}

// lines writes one line a goal.
func lines(w *strings.Builder, goals []member.GoalInfo, relays []member.RelayOperator) {
	for _, g := range goals {
		fmt.Fprintln(w, goalLine(g, relays))
	}
}

// goalLine says how few could do one thing, and who.
func goalLine(g member.GoalInfo, relays []member.RelayOperator) string {
	could := goalWords[g.Goal]
	if g.Parties == 0 {
		switch {
		case g.Goal != "link":
			return "No relay counts any more: none could " + could + "."
		case len(relays) == 1:
			return "There is one channel, so there is nothing to link: its relay sees the whole group."
		}
		return "Nobody could " + could + "."
	}
	all := partiesOf(g)
	var who string
	switch any := isAny(g, all); {
	case g.Parties == 1 && g.Count == 1:
		return fmt.Sprintf("%s alone could %s.", capital(all[0]), could)
	case g.Parties == 1:
		return fmt.Sprintf("One alone could %s: %s.", could, or(all))
	case any && g.Parties == len(all):
		who = and(all)
	case any:
		who = fmt.Sprintf("any %s of %s", number(g.Parties), strings.Join(all, ", "))
	default:
		who = ways(g)
	}
	so := fmt.Sprintf("%d of %d operators", g.Parties, g.Of)
	switch {
	case slices.ContainsFunc(g.Sets, func(set []member.ColludeParty) bool { return slices.ContainsFunc(set, isHand) }):
		so = fmt.Sprintf("%d hands", g.Parties)
	case g.Parties == 2 && g.Of == 2:
		so = "Both operators"
	case g.Parties == g.Of:
		so = fmt.Sprintf("All %d operators", g.Of)
	}
	return fmt.Sprintf("%s together could %s: %s.", so, could, who)
}

func isHand(p member.ColludeParty) bool { return p.Kind != "" }

// partyName is how a line calls one that acts as one.
func partyName(p member.ColludeParty) string {
	names := make([]string, len(p.Operators))
	for i, n := range p.Operators {
		names[i] = cli.Clean(n)
	}
	switch {
	case p.Kind == member.SharedCountry:
		return fmt.Sprintf("whoever commands %s (%s)", p.Name, strings.Join(names, ", "))
	case isHand(p):
		return fmt.Sprintf("whoever has %s (%s)", p.Name, strings.Join(names, ", "))
	case len(names) > 1:
		return fmt.Sprintf("the family of %s", and(names))
	}
	return names[0]
}

// partiesOf are all that the sets of a goal name, in their order.
func partiesOf(g member.GoalInfo) (all []string) {
	for _, set := range g.Sets {
		for _, p := range set {
			if n := partyName(p); !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	return all
}

// isAny tells whether any so many of these will do. The sets are distinct, so
// that many of them are all there can be.
func isAny(g member.GoalInfo, all []string) bool {
	n := 1
	for i := range g.Parties {
		n = n * (len(all) - i) / (i + 1)
	}
	return g.Count == n
}

// maxWays is how many sets one line names.
const maxWays = 4

func ways(g member.GoalInfo) string {
	var list []string
	for _, set := range g.Sets[:min(len(g.Sets), maxWays)] {
		var names []string
		for _, p := range set {
			names = append(names, partyName(p))
		}
		list = append(list, strings.Join(names, " with "))
	}
	if more := g.Count - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and in %s", cli.Plural(more, "other way")))
	}
	return strings.Join(list, "; ")
}

func number(n int) string {
	words := []string{"", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
	if n < len(words) {
		return words[n]
	}
	return fmt.Sprint(n)
}

func and(list []string) string { return inWords(list, " and ") }
func or(list []string) string  { return inWords(list, " or ") }

func inWords(list []string, last string) string {
	n := len(list) - 1
	if n < 1 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:n], ", ") + last + list[n]
}

func capital(s string) string {
	if strings.HasPrefix(s, "whoever") || strings.HasPrefix(s, "the ") {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}
