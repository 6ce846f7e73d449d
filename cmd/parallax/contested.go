package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// contested is one key that waits, as `contested --json` shows it.
type contested struct {
	Seat    string    `json:"seat"`
	Member  string    `json:"member"`         // label
	State   string    `json:"state"`          // contested, held
	Since   time.Time `json:"since,omitzero"` // when this device told of it first; none: it did not yet
	Shown   []string  `json:"shown"`          // relays that show it
	Missing []string  `json:"missing"`        // relays that answered without it
	What    string    `json:"what"`
	Done    string    `json:"done"`
	You     string    `json:"you"` // what a person can do
}

func newContested(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "contested [GROUP]", Short: "Show which keys are contested or held, and what to do", Args: cli.Args(0, 1),
		Long: "Shows the members whose key is contested (the relays do not agree on it) or held (too few show it so far), since\n" +
			"when, what was done, and what you can do. Nothing is sent to such a key.\n" +
			"The exit code is 0 whatever is found: 4 is for what fails since a key is contested. Scripts read --json, which\n" +
			"is [] if nothing is.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c, args, func(client node.Client, g node.Membership, s member.Status) error {
				return a.contested(c.Context(), client, g, s)
			})
		},
	}
}

func (a *app) contested(ctx context.Context, c node.Client, g node.Membership, s member.Status) error {
	list := []contested{}
	for _, m := range s.Members {
		if m.Verdict == "contested" || !m.Usable && !m.Own {
			e := contestedOf(m, s)
			if m.Two && !m.Own {
				v, err := ask[member.CodeInfo](ctx, c, g.Unit, member.GetCode{Member: m.Seat})
				if err != nil {
					return err
				}
				e.You = compareTwo(m, v)
			}
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		err := a.Data(list, func(*strings.Builder) {})
		a.Say("Nothing is contested.")
		return err
	}
	since, err := toldOf(ctx, c, g.Unit, s.Events)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Since = since[list[i].Seat]
	}
	return a.Data(list, func(w *strings.Builder) {
		for i, e := range list {
			if i > 0 {
				fmt.Fprintln(w)
			}
			when := ""
			if !e.Since.IsZero() {
				when = " since " + e.Since.Local().Format(time.DateTime)
			}
			mark := a.Paint(cli.Yellow, e.State)
			if e.State == "contested" {
				mark = a.Paint(cli.Red, e.State)
			}
			fmt.Fprintf(w, "%s  %s%s\n    %s\n    %s\n    %s\n", cli.Clean(e.Member), mark, when, cli.Clean(e.What), cli.Clean(e.Done), cli.Clean(e.You))
		}
	})
}

// contestedOf puts into words why a key waits.
func contestedOf(m member.MemberStatus, s member.Status) contested {
	e := contested{Seat: m.Seat, Member: m.Label, State: "contested", Shown: []string{}, Missing: []string{}}
	asked := 0
	var aside []string
	for _, r := range s.Relays {
		switch m.Marks[r.Label] {
		case "matched":
			e.Shown = append(e.Shown, r.Label)
			if r.SetAside {
				aside = append(aside, r.Label)
			}
		case "silent", "dissented", "failed":
			e.Missing = append(e.Missing, r.Label)
		default:
			asked++
		}
	}
	e.Done = "Nothing is sent to it; what comes in its name is kept and not shown. The other members get your messages."
	code := fmt.Sprintf("compare codes with the device: parallax code %q", m.Label)
	namesake := false
	for _, o := range s.Members {
		namesake = namesake || o.Seat != m.Seat && o.Name == m.Name
	}
	if m.Two { // whoever shows one of the two does not lack it
		e.Shown, e.Missing = append(e.Shown, e.Missing...), []string{}
		slices.Sort(e.Shown)
	}
	switch {
	case m.Own:
		e.What = fmt.Sprintf("The relays do not agree on your own keys: your key signed two announcements, or they show another one. %s.", showing(e.Shown, e.Missing))
		e.Done = "The others may hold back what they send to you."
		e.You = "Is there a second installation of yours, or a restored backup? If not, somebody may have your keys: tell the group."
	case m.Two:
		e.What = fmt.Sprintf("%s's own key signed two successors: %s %s one of them each. No relay is blamed.", m.Label, and(e.Shown), plural(e.Shown, "shows", "show"))
	case m.Verdict == "agreed":
		e.What = fmt.Sprintf("The relays agree that %s was admitted, but the keys that they show are not those that were admitted. No relay is blamed.", m.Label)
		e.You = fmt.Sprintf("Ask %s whether there is a second installation, and %s", m.Label, code)
	case m.Verdict == "contested" && namesake:
		e.What = fmt.Sprintf("%s; another member carries the same name. They are two members.", showing(e.Shown, e.Missing))
		e.You = fmt.Sprintf("Nothing needs to be done. If you wonder which one is the person you know, ask how each came into the group, and %s", code)
	case m.Verdict == "contested":
		e.What = showing(e.Shown, e.Missing) + "."
		e.You = fmt.Sprintf("Nothing needs to be done: it is used as soon as enough relays show it. If you know this person, ask how they came into the group, and %s", code)
	default:
		e.State = "held"
		e.What = fmt.Sprintf("%s, %s asked.", showing(e.Shown, e.Missing), stillAsked(asked))
		e.You = "Nothing needs to be done: it is used when enough relays show it, and becomes contested if they have answered without it."
	}
	if len(aside) > 0 {
		e.What += fmt.Sprintf(" %s %s set aside and %s not count.", and(aside), plural(aside, "is", "are"), plural(aside, "does", "do"))
	}
	return e
}

// compareTwo says what to compare of a member whose own key signed two successors.
func compareTwo(m member.MemberStatus, v member.CodeInfo) string {
	parts := member.CodeParts(append([]string{v.Code}, v.Also...))
	which := fmt.Sprintf("Compare code %s with %s", parts[0], m.Label)
	if len(parts) > 1 {
		which = fmt.Sprintf("The two carry different keys: compare code with %s, which has %s", m.Label, strings.Join(parts, " or "))
	}
	return fmt.Sprintf("%s: parallax code %q. Ask whether there is a second installation or a restored backup; the contest ends with the next announcement of %s.", which, m.Label, m.Label)
}

func stillAsked(n int) string {
	if n == 1 {
		return "1 relay is still"
	}
	return fmt.Sprintf("%d relays are still", n)
}

// showing says who shows a member and who does not.
func showing(shown, missing []string) string {
	text := "No relay shows it"
	if len(shown) > 0 {
		text = "Only " + and(shown) + " " + plural(shown, "shows", "show") + " it"
	}
	if len(missing) > 0 {
		text += ", " + and(missing) + " " + plural(missing, "does", "do") + " not"
	}
	return text
}

func plural(list []string, one, many string) string {
	if len(list) == 1 {
		return one
	}
	return many
}

// toldOf is when the newest dispute about each seat was told, among the first
// so many events.
func toldOf(ctx context.Context, c node.Client, unit string, events uint64) (map[string]time.Time, error) {
	since := map[string]time.Time{}
	if events == 0 {
		return since, nil
	}
	for e, err := range c.Events(ctx, unit, 0) {
		if err != nil {
			return nil, err
		}
		if (e.Kind == member.EventDispute || e.Kind == member.EventRelay) && e.Seat != "" && e.ID == "" {
			since[e.Seat] = e.Time
		}
		if e.Number >= events {
			break
		}
	}
	return since, nil
}
