package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

const configFile = "parallax.toml"

// settings is parallax.toml in the data folder.
type settings struct {
	Name     string `toml:"name"`
	Networks string `toml:"networks"`
}

// text is the file.
func (s settings) text() string {
	text := "# Settings of the parallax command.\n"
	if s.Name != "" {
		text += fmt.Sprintf("\n# Your name in groups that you create or join from now on.\nname = %q\n", s.Name)
	}
	if s.Networks != "" {
		text += fmt.Sprintf("\n# Table of networks and countries in the form of iptoasn.com, for what is shown.\nnetworks = %q\n", s.Networks)
	}
	return text
}

func newInit(a *app) *cobra.Command {
	var name, networks string
	c := &cobra.Command{
		Use: "init", Short: "Make the data folder and remember your name", Args: cli.Args(0, 0),
		Long: "Makes the data folder, for you alone, and remembers the name that members of your groups will see.\n" +
			"There is no account: every group gets keys of its own. All that the folder will hold is encrypted; the key to\n" +
			"it lies in it, for you alone, or is sealed with a passphrase (--passphrase, --passphrase-file).",
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.folder()
			if err != nil {
				return err
			}
			if name != "" {
				if err := member.CheckName(name); err != nil {
					return cli.Errorf(cli.Usage, "--name: %w", err)
				}
			}
			if networks != "" {
				if _, err := readTable(networks, member.LocationsInfo{}); err != nil {
					return err
				}
				if networks, err = filepath.Abs(networks); err != nil {
					return err
				}
			}
			before, err := a.settings()
			if err != nil {
				return err
			}
			made, err := node.InitFolder(a.config(dir))
			if err != nil {
				return err
			}
			if a.askNew && !made {
				return cli.Errorf(cli.Usage, "%s has keys already; to seal them: parallax passphrase set", dir)
			}
			s := settings{Name: cmp.Or(name, before.Name), Networks: cmp.Or(networks, before.Networks)}
			if s != before {
				if err := cli.WriteOver(filepath.Join(dir, configFile), []byte(s.text())); err != nil {
					return err
				}
			}
			v := struct {
				Data     string `json:"data"`
				Name     string `json:"name,omitempty"`
				Networks string `json:"networks,omitempty"`
			}{dir, s.Name, s.Networks}
			if err := a.Data(v, func(w *strings.Builder) { fmt.Fprintln(w, dir) }); err != nil {
				return err
			}
			a.Say("Next: parallax join LINK, or parallax group create NAME --relays A,B,C")
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "your name, as members of your groups see it")
	c.Flags().StringVar(&networks, "networks", "", "file with a table of networks and countries, used by coalition, relay list, security and paths")
	c.Flags().BoolVar(&a.askNew, "passphrase", false, "ask for a passphrase and seal the folder with it")
	return c
}

func (a *app) settings() (s settings, err error) {
	dir, err := a.folder()
	if err != nil {
		return s, err
	}
	err = cli.ReadTOML(filepath.Join(dir, configFile), &s)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s, err
}

// ownName is the name given, else the remembered one.
func (a *app) ownName(given string) (string, error) {
	if given == "" {
		s, err := a.settings()
		if err != nil {
			return "", err
		}
		given = s.Name
	}
	if given == "" {
		return "", cli.Errorf(cli.Usage, "under which name? Add --name NAME, or once for all groups: parallax init --name NAME")
	}
	if err := member.CheckName(given); err != nil {
		return "", cli.Errorf(cli.Usage, "--name: %w", err)
	}
	return given, nil
}
