// Command parallax-relay is a relay of Parallax: it keeps channels, append-only
// logs with a board beside each, and serves them to whoever connects
// (docs/protocol.md sections 7, 9 and 10). It can read nothing of what it keeps.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"parallax/internal/cli"
)

func main() {
	s := cli.Standard()
	os.Exit(cli.Run(newRoot(s), s, os.Args[1:]))
}

func newRoot(s *cli.Streams) *cobra.Command {
	root := &cobra.Command{
		Use: "parallax-relay", Short: "A relay for Parallax groups",
		Long: "A relay keeps the messages of groups until every member has them, and cannot read them.\n" +
			"Start with `parallax-relay init`, then `parallax-relay serve`.",
	}
	a := &app{Streams: s}
	cli.Root(root, s)
	root.AddCommand(newInit(a), newServe(a), newAddress(a), newCheck(a), newFamily(a))
	return root
}

// app is what the commands share.
type app struct {
	*cli.Streams
	dir string
}

func (a *app) dirFlag(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.dir, "dir", ".", "the relay's folder")
	return c
}
