package main

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"parallax/internal/cli"
	"parallax/internal/store/sealed"
	"parallax/node"
)

// envPassphrase names a file with the folder's passphrase, as --passphrase-file
// does.
const envPassphrase = "PARALLAX_PASSPHRASE_FILE"

// passphrase is the data folder's, from the file that a flag or the environment
// names. Without one a new folder gets none, and a sealed one asks on a
// terminal; elsewhere the answer is nil.
func (a *app) passphrase(first bool) ([]byte, error) {
	file := a.passFile
	if file == "" {
		file = os.Getenv(envPassphrase)
	}
	switch {
	case file != "":
		return readPassphrase(file)
	case first && a.askNew:
		return a.askTwice("New passphrase of the data folder")
	case first || !cli.Terminal(a.In):
		return nil, nil
	}
	return a.ask("Passphrase of the data folder")
}

// readPassphrase reads a file; one line end after the passphrase is not part of
// it.
func readPassphrase(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, sealed.MaxPassphrase+3))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	if len(raw) == 0 || len(raw) > sealed.MaxPassphrase {
		return nil, cli.Errorf(cli.Usage, "%s: %w", file, sealed.ErrPassphraseLength)
	}
	return raw, nil
}

// ask reads a passphrase from the terminal, which does not show it.
func (a *app) ask(what string) ([]byte, error) {
	f, ok := a.In.(*os.File)
	if !ok || !cli.Terminal(a.In) {
		return nil, fmt.Errorf("%s: %w", strings.ToLower(what), errNoTerminal)
	}
	fmt.Fprintf(a.Err, "%s: ", what)
	p, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.Err)
	if err == nil && len(p) == 0 {
		err = cli.Errorf(cli.Usage, "%w", sealed.ErrPassphraseLength)
	}
	return p, err
}

var errNoTerminal = &cli.Error{Code: cli.Usage, Err: errors.New("there is no terminal to ask on; name a file that holds it")}

func (a *app) askTwice(what string) ([]byte, error) {
	p, err := a.ask(what)
	if err != nil {
		return nil, err
	}
	again, err := a.ask("Once more")
	if err == nil && subtle.ConstantTimeCompare(p, again) == 0 {
		err = cli.Errorf(cli.Usage, "the two are not the same: nothing was changed")
	}
	return p, err
}

// opened says what to do about keys that do not open.
func opened(err error) error {
	if errors.Is(err, sealed.ErrNoPassphrase) {
		return fmt.Errorf("%w: name a file that holds it with --passphrase-file or %s", err, envPassphrase)
	}
	return err
}

func newPassphrase(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "passphrase", Short: "Seal the data folder with a passphrase, or not",
		Long: "All that the folder holds is encrypted. The key to it lies beside it, readable for you alone, unless it is\n" +
			"sealed with a passphrase, which every command then needs that opens the folder.",
	}
	cli.Parent(c)
	c.AddCommand(newPassphraseSet(a), newPassphraseRemove(a))
	return c
}

func newPassphraseSet(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "set", Short: "Set or change the passphrase", Args: cli.Args(0, 0),
		Long: "Sets the passphrase of the data folder, or changes it. Asks for the new one on a terminal, or takes it from\n" +
			"the file that --new-passphrase-file names; the old one, if there is one, as every command does.",
		RunE: func(*cobra.Command, []string) error {
			return a.reseal(func() ([]byte, error) {
				if file != "" {
					return readPassphrase(file)
				}
				if !cli.Terminal(a.In) {
					return nil, cli.Errorf(cli.Usage, "which passphrase? Name a file that holds it with --new-passphrase-file")
				}
				return a.askTwice("New passphrase of the data folder")
			}, "The folder is sealed with the new passphrase. Without it nobody opens the folder again, you neither.")
		},
	}
	c.Flags().StringVar(&file, "new-passphrase-file", "", "file that holds the new passphrase")
	return c
}

func newPassphraseRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove", Short: "Open the folder without a passphrase from now on", Args: cli.Args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return a.reseal(func() ([]byte, error) { return nil, nil }, "The folder opens without a passphrase: whoever can read your files can read your messages.")
		},
	}
}

// reseal seals the folder's key with what fresh answers.
func (a *app) reseal(fresh func() ([]byte, error), done string) error {
	dir, err := a.folder()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "keys")); errors.Is(err, fs.ErrNotExist) {
		return cli.Errorf(cli.Usage, "there is nothing in %s to seal: parallax init", dir)
	}
	p, err := fresh()
	if err != nil {
		return err
	}
	defer clear(p)
	if err := node.SetPassphrase(a.config(dir), p); err != nil {
		return opened(err)
	}
	a.Say("%s", done)
	return a.Data(struct {
		Data   string `json:"data"`
		Sealed bool   `json:"sealed"`
	}{dir, p != nil}, func(*strings.Builder) {})
}
