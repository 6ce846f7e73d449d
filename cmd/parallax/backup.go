package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"parallax/internal/cli"
	"parallax/internal/store/sealed"
	"parallax/node"
)

func newBackup(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "backup", Short: "Back up identity, roster and history, and restore them",
		Long: "A backup holds your keys in every group, who is in it, your history and evidence, in one file that is always\n" +
			"sealed with a passphrase. The state of encrypted sessions is never in it: after a restore the members of each\n" +
			"group agree on new sessions with you by themselves.\n\n" +
			"The passphrase is that of --backup-passphrase-file, else of --passphrase-file or $" + envPassphrase + ",\n" +
			"else asked for on a terminal.",
	}
	cli.Parent(c)
	c.PersistentFlags().StringVar(&file, "backup-passphrase-file", "", "file that holds the passphrase of the backup, if it is not that of the data folder")
	c.AddCommand(newBackupCreate(a, &file), newBackupVerify(a, &file), newBackupRestore(a, &file))
	return c
}

// backupPassphrase is what seals a backup.
func (a *app) backupPassphrase(file string, first bool) (string, error) {
	for _, f := range []string{file, a.passFile, os.Getenv(envPassphrase)} {
		if f != "" {
			p, err := readPassphrase(f)
			return string(p), err
		}
	}
	if !cli.Terminal(a.In) {
		return "", cli.Errorf(cli.Usage, "a backup is sealed with a passphrase: name a file that holds it with --passphrase-file or --backup-passphrase-file")
	}
	ask := a.ask
	if first {
		ask = a.askTwice
	}
	p, err := ask("Passphrase of the backup")
	return string(p), err
}

func newBackupCreate(a *app, passFile *string) *cobra.Command {
	return &cobra.Command{
		Use: "create FILE", Short: "Write a backup into a new file", Args: cli.Args(1, 1),
		Long: "Writes every group of the data folder into one new file. Other commands may run meanwhile.\n" +
			"Exit code 6: some groups could not be read and are not in it.",
		RunE: func(c *cobra.Command, args []string) error {
			file, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			passphrase, err := a.backupPassphrase(*passFile, true)
			if err != nil {
				return err
			}
			return a.with(c.Context(), func(client node.Client) error {
				info, err := ask[node.BackupInfo](c.Context(), client, "", node.CreateBackup{File: file, Passphrase: passphrase})
				if err != nil {
					return err
				}
				if err := a.sayBackup(info); err != nil {
					return err
				}
				a.Say("Keep the passphrase: without it nobody opens the backup. To look into it: parallax backup verify %s", args[0])
				for _, l := range info.LeftOut {
					a.Say("Group %s is not in it: %s", l.Unit, cli.Clean(l.Why))
				}
				if n := len(info.LeftOut); n > 0 {
					return cli.Errorf(cli.Partial, "%s could not be read and is not in the backup", cli.Plural(n, "group"))
				}
				return nil
			})
		},
	}
}

func newBackupVerify(a *app, passFile *string) *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE", Short: "Read a backup to its end and tell what it holds", Args: cli.Args(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			passphrase, err := a.backupPassphrase(*passFile, false)
			if err != nil {
				return err
			}
			info, err := node.VerifyBackup(args[0], passphrase)
			if err != nil {
				return backupError(err)
			}
			if err := a.sayBackup(info); err != nil {
				return err
			}
			a.Say("It is whole, as it was made on %s.", info.Made.Local().Format("2 January 2006 15:04"))
			return nil
		},
	}
}

func newBackupRestore(a *app, passFile *string) *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Fill an empty data folder from a backup", Args: cli.Args(1, 1),
		Long: "Puts all groups of a backup into a data folder that holds none, or nothing. Restore on one device only, and\n" +
			"do not use the old folder again: two devices with one identity take each other's messages.",
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.folder()
			if err != nil {
				return err
			}
			passphrase, err := a.backupPassphrase(*passFile, false)
			if err != nil {
				return err
			}
			info, err := node.Restore(a.config(dir), args[0], passphrase)
			if err != nil {
				return opened(backupError(err))
			}
			if err := a.sayBackup(info); err != nil {
				return err
			}
			a.Say("Restored into %s. Do not use the old folder any more.", dir)
			return nil
		},
	}
}

// backupError says which passphrase is meant.
func backupError(err error) error {
	if errors.Is(err, sealed.ErrPassphrase) {
		return fmt.Errorf("%w; that of a backup may be another one than that of the data folder: --backup-passphrase-file", err)
	}
	return err
}

func (a *app) sayBackup(info node.BackupInfo) error {
	return a.Data(info, func(w *strings.Builder) {
		var rows [][]cli.Cell
		for _, g := range info.Groups {
			rows = append(rows, cli.Cells(cli.Clean(g.Group), cli.Clean(g.Name), fmt.Sprint(g.Members), fmt.Sprint(g.Events), fmt.Sprint(g.Evidence), g.Unit))
		}
		a.Table(w, []string{"group", "you", "members", "events", "evidence", ""}, rows)
	})
}
