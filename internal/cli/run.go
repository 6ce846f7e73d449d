package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Version is set when a release is built (-ldflags -X).
var Version = "development"

// Root prepares the root command: flags that all commands have, and errors in
// the place of usage texts.
func Root(root *cobra.Command, s *Streams) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	f := root.PersistentFlags()
	f.BoolVar(&s.JSON, "json", false, "data as JSON, one value a line")
	f.BoolVarP(&s.Quiet, "quiet", "q", false, "no talk on stderr")
	f.BoolVarP(&s.Verbose, "verbose", "v", false, "more talk on stderr")
	f.BoolVar(&s.NoColor, "no-color", false, "no colours")
	Parent(root)
	root.AddCommand(versionCommand(root.Name(), s))
}

// Parent makes a command that only has commands below it show them, and name
// the nearest one when there is no such command.
func Parent(c *cobra.Command) {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, sub := range c.Commands() {
			names = append(names, sub.Name())
		}
		hint := fmt.Sprintf("`%s --help` lists the commands", c.CommandPath())
		if near := Nearest(args[0], names); near != "" {
			hint = fmt.Sprintf("did you mean `%s %s`?", c.CommandPath(), near)
		}
		return fmt.Errorf("there is no command %q; %s", c.CommandPath()+" "+args[0], hint)
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
}

// secondSignal keeps a signal that is sent to a process and at once to its
// group, as timeout(1) does, from cutting the orderly end short.
const secondSignal = time.Second

// Run obeys the command line and returns the exit code. An error is one line
// on stderr, with --json an object {"error":{"code","text"}}. SIGINT and
// SIGTERM end the command's context; one that comes secondSignal later ends the
// process.
func Run(root *cobra.Command, s *Streams, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		time.Sleep(secondSignal)
		stop()
	})
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return OK
	}
	code := ExitCode(err)
	if !started { // cobra's own errors, before any command ran
		code = Usage
	}
	if s.JSON {
		type failure struct {
			Code int    `json:"code"`
			Text string `json:"text"`
		}
		if line, e := json.Marshal(map[string]failure{"error": {code, Line(err)}}); e == nil {
			fmt.Fprintf(s.Err, "%s\n", line)
		}
		return code
	}
	fmt.Fprintf(s.Err, "%s: %s\n", root.Name(), Line(err))
	return code
}

func versionCommand(name string, s *Streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: Args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, v := range info.Settings {
					if v.Key == "vcs.revision" {
						revision = v.Value[:min(len(v.Value), 12)]
					}
				}
			}
			v := struct {
				Program  string `json:"program"`
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				Protocol int    `json:"protocol"`
				Go       string `json:"go"`
			}{name, Version, revision, 1, runtime.Version()}
			return s.Data(v, func(w *strings.Builder) {
				fmt.Fprintf(w, "%s %s (protocol %d, %s)\n", v.Program, strings.TrimSpace(v.Version+" "+v.Revision), v.Protocol, v.Go)
			})
		},
	}
}
