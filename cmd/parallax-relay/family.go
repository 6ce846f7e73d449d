package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"parallax/crossverify"
	"parallax/internal/cli"
	"parallax/internal/keys"
)

func newFamily(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "family KEY|DECLARATION", Short: "Declare that two operators belong together", Args: cli.Args(1, 1),
		Long: "Operators who belong together, such as two companies of one owner, count as one for groups that know it. Both\n" +
			"sign it: one side runs the command with the other's operator key (`parallax-relay address --json` shows it) and\n" +
			"hands over what it prints; the other side runs it with that. The finished declaration goes into the relay.toml\n" +
			"of both: groups that are founded, and relays that are added, from then on take it from there.",
		RunE: func(_ *cobra.Command, args []string) error { return a.family(args[0]) },
	}
	return a.dirFlag(c)
}

// declaration is what `family --json` prints.
type declaration struct {
	Declaration string `json:"declaration"`
	Complete    bool   `json:"complete"`
}

func (a *app) family(text string) error {
	id, err := readIdentity(a.dir)
	if err != nil {
		return err
	}
	d, err := parseFamily(text, id.operator.Public())
	if err != nil {
		return err
	}
	if err := d.Sign(id.operator); err != nil {
		return cli.Errorf(cli.Usage, "%w", err)
	}
	out := declaration{Declaration: hex.EncodeToString(d.Append(nil)), Complete: d.Check(keys.Ed25519) == nil}
	if err := a.Data(out, func(w *strings.Builder) { fmt.Fprintln(w, out.Declaration) }); err != nil {
		return err
	}
	if out.Complete {
		a.Say("Both sides have signed. Put it into families of [operator] in the relay.toml of both, and restart them.")
	} else {
		a.Say("You have signed. The other operator runs `parallax-relay family` with the line above.")
	}
	return nil
}

// parseFamily reads what the command is given: another operator's key, or what
// that operator made of one's own.
func parseFamily(text string, own keys.OperatorPublic) (d crossverify.Declaration, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return d, cli.Errorf(cli.Usage, "%q is neither an operator key nor a declaration: both are hex digits", text)
	}
	if len(raw) == len(own) {
		d = crossverify.Declare(own, keys.OperatorPublic(raw))
		_, err = crossverify.ParseDeclaration(d.Append(nil)) // two operators, not one
	} else {
		d, err = crossverify.ParseDeclaration(raw)
	}
	if err != nil {
		return d, cli.Errorf(cli.Usage, "%w", err)
	}
	return d, nil
}
