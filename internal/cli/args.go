package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Args wants so many arguments, and otherwise says which ones the command takes,
// or which command below it is the nearest to the first one. Exit code Usage.
func Args(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		var names []string
		for _, sub := range c.Commands() {
			names = append(names, sub.Name())
		}
		if len(args) > 0 {
			if near := Nearest(args[0], names); near != "" {
				return Errorf(Usage, "there is no command %q; did you mean `%s %s`?", c.CommandPath()+" "+args[0], c.CommandPath(), near)
			}
		}
		takes := "no arguments"
		if most > 0 {
			takes = strings.TrimPrefix(c.Use, c.Name()+" ")
		}
		given := fmt.Sprintf("%d arguments were given", len(args))
		if len(args) == 1 {
			given = "1 argument was given"
		}
		return Errorf(Usage, "`%s` takes %s; %s", c.CommandPath(), takes, given)
	}
}
