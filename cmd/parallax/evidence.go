package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/crossverify"
	"parallax/internal/cli"
	"parallax/internal/keys"
	"parallax/node"
)

func newEvidence(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "evidence [GROUP] [ID]", Short: "List evidence against relays, or save one", Args: cli.Args(0, 2),
		Long: "Evidence is a relay's own signatures that cannot all be honest. It says nothing about the group's messages,\n" +
			"and anybody can check it: parallax check-evidence FILE.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(client node.Client) error { return a.evidence(c.Context(), client, args, file) })
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "save the text in this file, which must not exist")
	return c
}

// evidence lists what there is, shows one, or saves one.
func (a *app) evidence(ctx context.Context, c node.Client, args []string, file string) error {
	g, id, err := a.groupAnd(ctx, c, args)
	if err != nil {
		return err
	}
	list, err := ask[[]member.EvidenceInfo](ctx, c, g.Unit, member.GetEvidence{ID: id})
	if err != nil {
		return err
	}
	if file != "" {
		return a.saveEvidence(ctx, c, g, list, file)
	}
	if id != "" && len(list) == 1 {
		return a.Data(list[0], func(w *strings.Builder) { w.WriteString(list[0].Text) })
	}
	if len(list) == 0 {
		a.Say("No relay is convicted.")
	}
	return a.Data(list, func(w *strings.Builder) {
		var rows [][]cli.Cell
		for _, e := range list {
			rows = append(rows, cli.Cells(e.ID, e.Time.Local().Format(time.DateTime), e.Relay, cli.Clean(e.Operator), cli.Clean(e.Sentence)))
		}
		a.Table(w, nil, rows)
	})
}

func (a *app) saveEvidence(ctx context.Context, c node.Client, g node.Membership, list []member.EvidenceInfo, file string) error {
	if len(list) != 1 {
		return cli.Errorf(cli.Usage, "-o saves one piece of evidence, there are %d: name its id", len(list))
	}
	one, err := ask[[]member.EvidenceInfo](ctx, c, g.Unit, member.GetEvidence{ID: list[0].ID})
	if err != nil {
		return err
	}
	if len(one) != 1 {
		return cli.Errorf(cli.Usage, "evidence %s: %w", list[0].ID, member.ErrNoSuch)
	}
	if err := cli.WriteNew(file, []byte(one[0].Text), 0o644); err != nil {
		return err
	}
	a.Say("Saved in %s. Anybody can check it: parallax check-evidence %s", file, file)
	return a.Data(one[0], func(*strings.Builder) {})
}

// checked is the answer of `check-evidence --json`.
type checked struct {
	Convicts bool   `json:"convicts"`
	Relay    string `json:"relay,omitempty"` // Ed25519 key, hex
	PeerID   string `json:"peer_id,omitempty"`
	Form     string `json:"form,omitempty"`
	Sentence string `json:"sentence,omitempty"`
	Reason   string `json:"reason,omitempty"` // why it convicts nobody
}

func newCheckEvidence(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check-evidence FILE|-", Short: "Check evidence against a relay, offline", Args: cli.Args(1, 1),
		Long: "Checks signatures and contradiction from the text alone. It needs no group and no network.\n" +
			"Exit code 0: the relay is convicted. 7: the text convicts nobody.",
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := a.readEvidence(args[0])
			if err != nil {
				return err
			}
			var f crossverify.Finding
			e, err := crossverify.ParseEvidence(text)
			if err == nil {
				f, err = e.Check(keys.Ed25519)
			}
			if err != nil {
				if a.JSON {
					err = errors.Join(err, a.Data(checked{Reason: cli.Line(err)}, nil))
				}
				return fmt.Errorf("this convicts nobody: %w", err)
			}
			id, err := cli.PeerID(f.Relay)
			if err != nil {
				return err
			}
			v := checked{Convicts: true, Relay: f.Relay.String(), PeerID: id.String(), Form: f.Form.String(), Sentence: f.Sentence}
			return a.Data(v, func(w *strings.Builder) {
				fmt.Fprintf(w, "%s\nIts signatures hold, and no honest relay could have made all of them.\nPeer id: %s\n", f.Sentence, id)
			})
		},
	}
}

func (a *app) readEvidence(file string) (string, error) {
	in := a.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, crossverify.MaxEvidence+1))
	return string(raw), err
}
