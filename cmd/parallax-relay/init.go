package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"parallax/internal/cli"
	"parallax/internal/keys"
)

func newInit(a *app) *cobra.Command {
	var operator, operatorKey string
	var listen, public []string
	c := &cobra.Command{
		Use: "init", Short: "Make a relay: configuration and keys in a folder", Args: cli.Args(0, 0),
		Long: "Writes relay.toml, relay.key and operator.key into the folder and prints the address that founders need.\n" +
			"It asks nothing and never overwrites.",
		RunE: func(*cobra.Command, []string) error { return a.init(operator, operatorKey, listen, public) },
	}
	c.Flags().StringVar(&operator, "operator", "", "name of who runs the relay, as members see it")
	c.Flags().StringVar(&operatorKey, "operator-key", "", "operator.key of another relay of the same operator")
	c.Flags().StringSliceVar(&listen, "listen", defaultListen, "addresses to listen on")
	c.Flags().StringSliceVar(&public, "public", nil, "addresses where others find it, when they are other ones")
	return a.dirFlag(c)
}

func (a *app) init(operator, operatorKey string, listen, public []string) error {
	for _, name := range []string{configFile, relayKeyFile, operatorKeyFile, storeDir, guardFile} {
		path := filepath.Join(a.dir, name)
		switch _, err := os.Lstat(path); {
		case err == nil:
			return cli.Errorf(cli.Usage, "%s is there already and nothing is overwritten: `parallax-relay serve --dir %s` starts this relay, or choose another folder with --dir", path, a.dir)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	token, err := newToken()
	if err != nil {
		return err
	}
	cfg := &config{Listen: listen, Public: public, Access: access{Tokens: []string{token}}}
	cfg.Operator.Name = operator
	if err := cfg.check(); err != nil {
		return &cli.Error{Code: cli.Usage, Err: err}
	}
	id, err := newIdentity(operatorKey)
	if err != nil {
		return err
	}
	if _, err := cfg.relayConfig(id); err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	// The configuration holds the token, so it is for the owner alone as well.
	if err := errors.Join(
		cli.WriteKey(filepath.Join(a.dir, relayKeyFile), roleRelay, id.relay.Seed()),
		cli.WriteKey(filepath.Join(a.dir, operatorKeyFile), roleOperator, id.operator.Seed()),
		cli.WriteNew(filepath.Join(a.dir, configFile), []byte(writeConfig(operator, listen, public, token)), 0o600),
	); err != nil {
		return err
	}
	return a.explain(cfg, id)
}

func newIdentity(operatorKey string) (id identity, err error) {
	if err := id.relay.Draw(rand.Reader); err != nil {
		return id, err
	}
	if operatorKey == "" {
		return id, id.operator.Draw(rand.Reader)
	}
	var seed [keys.SeedSize]byte
	if seed, err = readKey(operatorKey, roleOperator); err != nil {
		return id, err
	}
	id.operator.FromSeed(seed)
	clear(seed[:])
	return id, nil
}

// explain prints the address as data, and what to do next as talk.
func (a *app) explain(cfg *config, id identity) error {
	info, err := describe(cfg, id, false)
	if err != nil {
		return err
	}
	info.Folder = a.dir
	if err := a.Data(info, func(w *strings.Builder) { fmt.Fprintln(w, info.Address) }); err != nil {
		return err
	}
	a.Say("")
	a.Say("The line above is the relay's address for founders; it ends with the token that lets them found a group here. Keep it private.")
	a.Say("Without the token it is public: `parallax-relay address --public --dir %s`.", a.dir)
	a.Say("")
	a.Say("Keys: %s is the relay, %s is you as its operator. Back both up; without them it is another relay.",
		filepath.Join(a.dir, relayKeyFile), filepath.Join(a.dir, operatorKeyFile))
	a.Say("Limits for each group: 1 GiB, 21 days, 600 posts a minute for each link; 128 connections from one address. %s has all of them.", filepath.Join(a.dir, configFile))
	if rules := firewall(cfg.Listen); len(rules) > 0 {
		a.Say("Firewall, if there is one:")
		for _, r := range rules {
			a.Say("  %s", r)
		}
	}
	a.Say("Next: parallax-relay serve --dir %s", a.dir)
	return nil
}

// firewall is the lines that open the ports, in two dialects.
func firewall(listen []string) (rules []string) {
	for _, text := range listen {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			continue
		}
		kind := "udp"
		port, err := a.ValueForProtocol(ma.P_UDP)
		if err != nil {
			kind = "tcp"
			if port, err = a.ValueForProtocol(ma.P_TCP); err != nil {
				continue
			}
		}
		rules = append(rules, fmt.Sprintf("ufw allow %s/%s          or: nft add rule inet filter input %s dport %s accept", port, kind, kind, port))
	}
	return rules
}
