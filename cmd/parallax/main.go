// Command parallax is a member of Parallax groups: it creates and joins groups,
// sends and reads messages, and shows what the relays agree on
// (docs/protocol.md; docs/members.md has the commands by example).
//
// Every command works on one data folder. If another command has the folder
// open, it speaks to that one's socket; otherwise it runs the node itself.
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
		Use: "parallax", Short: "Group messages over several relays that are compared with each other",
		Long: "Messages and keys travel over several relays of different operators, and what arrives is compared.\n" +
			"Found a group with `parallax group create`, or join one with `parallax join LINK`.",
	}
	a := &app{Streams: s}
	cli.Root(root, s)
	root.PersistentFlags().StringVar(&a.data, "data", "", "data folder (default $XDG_DATA_HOME/parallax, else ~/.local/share/parallax)")
	root.PersistentFlags().StringVar(&a.passFile, "passphrase-file", "", "file that holds the passphrase of the data folder (default $"+envPassphrase+"); a new folder is sealed with it")
	root.AddCommand(
		newInit(a), newPassphrase(a), newBackup(a), newGroup(a), newInvite(a), newJoin(a), newMember(a), newRelays(a),
		newSend(a), newTail(a), newHistory(a),
		newMembers(a), newSecurity(a), newCode(a), newConfirm(a), newPaths(a),
		newCoalition(a), newDelivery(a), newContested(a),
		newEvidence(a), newCheckEvidence(a), newDemo(),
	)
	return root
}
