package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"parallax/internal/cli"
	"parallax/internal/store"
)

// finding is the outcome of one look. Field names are stable.
type finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

func newCheck(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Look configuration, keys and store over; change nothing, open no port", Args: cli.Args(0, 0),
		RunE: func(*cobra.Command, []string) error { return a.check() },
	}
	return a.dirFlag(c)
}

// check looks at everything, also behind the first thing that is wrong; its
// error is the first one.
func (a *app) check() error {
	var list []finding
	var first error
	add := func(what, good string, err error) bool {
		f := finding{What: what, OK: err == nil, Text: good}
		if err != nil {
			f.Text = cli.Line(err)
			if first == nil {
				first = err
			}
		}
		list = append(list, f)
		return err == nil
	}
	cfg, err := readConfig(a.dir)
	add("configuration", filepath.Join(a.dir, configFile), err)
	id, idErr := readIdentity(a.dir)
	add("keys", "relay "+id.relay.Public().String(), idErr)
	if err == nil && idErr == nil {
		_, err := cfg.relayConfig(id)
		add("limits", "in range", err)
	}
	add("folder", "for its owner alone", checkFolder(a.dir))
	text, err := lookAtStore(filepath.Join(a.dir, storeDir))
	add("store", text, err)
	out := a.Data(list, func(w *strings.Builder) {
		var rows [][]cli.Cell
		for _, f := range list {
			mark := cli.Cell{Text: "✓", Color: cli.Green}
			if !f.OK {
				mark = cli.Cell{Text: "✗", Color: cli.Red}
			}
			rows = append(rows, append([]cli.Cell{mark}, cli.Cells(f.What, f.Text)...))
		}
		a.Table(w, nil, rows)
	})
	return errors.Join(first, out)
}

// checkFolder: whoever may write here can put another store or key in place.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Errorf(cli.Usage, "%s does not exist: name the relay's folder with --dir", dir)
	}
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return cli.Errorf(cli.Usage, "%s: others may write into this folder (mode %04o): chmod 700 it", dir, mode)
	}
	return nil
}

func lookAtStore(path string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "not there yet: the first start makes it", nil
	} else if err != nil {
		return "", err
	}
	err := readable(path)
	if errors.Is(err, store.ErrLocked) {
		return "in use, so a relay is running and reads it: not looked into", nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is readable", path), nil
}
