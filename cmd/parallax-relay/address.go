package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"parallax/internal/cli"
)

// relayInfo is what is said about a relay. Field names are stable.
type relayInfo struct {
	Address  string   `json:"address"`
	PeerID   string   `json:"peer_id"`
	Key      string   `json:"key"`
	Addrs    []string `json:"addrs"`
	Token    string   `json:"token,omitempty"`
	Operator string   `json:"operator"` // key
	Name     string   `json:"operator_name,omitempty"`
	Folder   string   `json:"folder,omitempty"`
}

func describe(cfg *config, id identity, public bool) (relayInfo, error) {
	peer, err := cli.PeerID(id.relay.Public())
	if err != nil {
		return relayInfo{}, err
	}
	info := relayInfo{PeerID: peer.String(), Key: id.relay.Public().String(), Addrs: cfg.shown(), Operator: id.operator.Public().String(), Name: cfg.Operator.Name}
	if !public {
		info.Token = cfg.foundingToken()
	}
	if len(info.Addrs) == 0 {
		return info, cli.Errorf(cli.Usage, "this computer has no address that others could reach: set `public` in %s", configFile)
	}
	info.Address, err = cli.RelayAddress(id.relay.Public(), info.Addrs, info.Token)
	return info, err
}

func newAddress(a *app) *cobra.Command {
	var public, qr bool
	c := &cobra.Command{
		Use: "address", Short: "Print the address for founders, with the founding token", Args: cli.Args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := readConfig(a.dir)
			if err != nil {
				return err
			}
			id, err := readIdentity(a.dir)
			if err != nil {
				return err
			}
			info, err := describe(cfg, id, public)
			if err != nil {
				return err
			}
			if info.Token == "" && !public && !cfg.Access.Open {
				a.Say("There is no token in %s, so nobody can found a group here.", configFile)
			}
			if qr {
				a.QR(info.Address)
			}
			return a.Data(info, func(w *strings.Builder) { fmt.Fprintln(w, info.Address) })
		},
	}
	c.Flags().BoolVar(&public, "public", false, "without the token, to be published")
	c.Flags().BoolVar(&qr, "qr", false, "as a QR code as well, on stderr")
	return a.dirFlag(c)
}
