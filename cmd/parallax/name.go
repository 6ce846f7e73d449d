package main

import (
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
	Name string `toml:"name"`
}

func newInit(a *app) *cobra.Command {
	var name string
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
			made, err := node.InitFolder(a.config(dir))
			if err != nil {
				return err
			}
			if a.askNew && !made {
				return cli.Errorf(cli.Usage, "%s has keys already; to seal them: parallax passphrase set", dir)
			}
			if name != "" {
				text := fmt.Sprintf("# Settings of the parallax command.\n\n# Your name in groups that you create or join from now on.\nname = %q\n", name)
				if err := cli.WriteOver(filepath.Join(dir, configFile), []byte(text)); err != nil {
					return err
				}
			}
			s, err := a.settings()
			if err != nil {
				return err
			}
			v := struct {
				Data string `json:"data"`
				Name string `json:"name,omitempty"`
			}{dir, s.Name}
			if err := a.Data(v, func(w *strings.Builder) { fmt.Fprintln(w, dir) }); err != nil {
				return err
			}
			a.Say("Next: parallax join LINK, or parallax group create NAME --relays A,B,C")
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "your name, as members of your groups see it")
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
