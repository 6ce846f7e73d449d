package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"parallax/broadcast/member"
	"parallax/internal/cli"
)

// Bounds of the demo's scene.
const (
	demoRelays     = 3
	demoMembers    = 5
	demoLying      = 1
	demoMinMembers = 4  // one to found, one to hide, one to go offline, one to speak meanwhile
	demoMaxMembers = 16 // an invitation admits 20 an hour

	demoDeadline = 3 * time.Second  // a path may stay silent: the group's policy
	demoLinks    = 64               // for so many relays times members; longer in greater scenes
	demoPatience = 30 * time.Second // for what must come to pass
	demoGlance   = 100 * time.Millisecond
)

// demoOptions is the scene, as the flags say it.
type demoOptions struct {
	relays, members, lying int
	strict                 bool
	keep                   string
}

func newDemo() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch a group catch a lying relay, on this computer alone",
		Long: `Starts relays of several operators and members, all real and all on this
computer, and lets some of the relays lie to a newcomer: they hide a member and
show a seat of their own under the same name. The demo tells what happens and
ends with exit code 0 only if every message arrived, every substitution was
noticed and nobody honest was blamed.`,
		Example: `  parallax demo
  parallax demo --relays 5 --members 12 --lying 2
  parallax demo --relays 3 --lying 2            # the liars are a majority
  parallax demo --relays 3 --lying 2 --strict   # and a group that asks all relays`,
		Args: cli.Args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(c.Flags().Changed("lying")); err != nil {
				return err
			}
			return runDemo(c.Context(), o, demoStreams(c))
		},
	}
	f := c.Flags()
	f.IntVar(&o.relays, "relays", demoRelays, "relays, each of another operator")
	f.IntVar(&o.members, "members", demoMembers, "members before the newcomer")
	f.IntVar(&o.lying, "lying", demoLying, "relays that lie, all by one plan; fewer than there are relays")
	f.BoolVar(&o.strict, "strict", false, "a group that needs all relays to agree, instead of a majority")
	f.StringVar(&o.keep, "keep", "", "leave all folders in this empty or new folder")
	return c
}

// check refuses scenes that cannot be played. A single relay has nobody who
// could contradict it, so there the lie is left out.
func (o *demoOptions) check(chosen bool) error {
	switch {
	case o.relays < 1 || o.relays > member.MaxRelays:
		return cli.Errorf(cli.Usage, "--relays %d: a group has 1 to %d relays", o.relays, member.MaxRelays)
	case o.members < demoMinMembers || o.members > demoMaxMembers:
		return cli.Errorf(cli.Usage, "--members %d: the demo plays with %d to %d members", o.members, demoMinMembers, demoMaxMembers)
	case o.lying < 0:
		return cli.Errorf(cli.Usage, "--lying %d: give 0 or more", o.lying)
	case o.relays == 1:
		o.lying = 0
	case o.lying >= o.relays && chosen:
		return cli.Errorf(cli.Usage, "--lying %d of %d relays: when all of them lie together nothing is left to compare; give at most %d", o.lying, o.relays, o.relays-1)
	}
	o.lying = min(o.lying, o.relays-1)
	return nil
}

// need is how many operators must show an open fact before it counts.
func (o *demoOptions) need() int {
	if o.strict {
		return o.relays
	}
	return o.relays/2 + 1
}

// deadline is how long a path may stay silent.
func (o *demoOptions) deadline() time.Duration {
	return demoDeadline * time.Duration((o.relays*o.members+demoLinks-1)/demoLinks)
}

// survives tells whether the honest relays alone make the quorum, so that the
// newcomer can use the hidden member's key before the liars are set aside.
func (o *demoOptions) survives() bool { return o.relays-o.lying >= o.need() }

// demoStreams reads the flags that the root command gives to all commands.
func demoStreams(c *cobra.Command) *cli.Streams {
	is := func(name string) bool {
		f := c.Flag(name)
		return f != nil && f.Value.String() == "true"
	}
	return &cli.Streams{Out: c.OutOrStdout(), Err: c.ErrOrStderr(), JSON: is("json"), Quiet: is("quiet"), NoColor: is("no-color")}
}

// demo is one performance.
type demo struct {
	demoOptions
	tell       *demoTeller
	dir        string
	relays     []*demoRelay
	members    []*demoMember   // in the order in which they joined
	newcomer   *demoMember     // nil: not yet
	plot       *demoPlot       // nil: nobody lies
	accomplice *demoAccomplice // nil: nobody lies
	link       string
	texts      []*demoText
	failures   []string // what was not as it must be
	sum        demoSummary
}

// runDemo plays the demo. Its error is of exit code Assertion when something
// was not as it must be.
func runDemo(ctx context.Context, o demoOptions, s *cli.Streams) error {
	d := &demo{demoOptions: o, tell: &demoTeller{s: s, began: time.Now()}}
	if err := d.makeFolder(); err != nil {
		return err
	}
	defer d.sweep()
	defer d.close()
	for _, act := range []func(context.Context) error{d.open, d.found, d.talk, d.outage, d.substitute, d.aftermath} {
		if err := act(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.fail("the demo could not go on: %v", err)
			break
		}
	}
	d.judge(ctx)
	d.close()
	d.tell.summary(d)
	if len(d.failures) > 0 {
		return cli.Errorf(cli.Assertion, "the demo did not go as it must: %s", d.failures[0])
	}
	return nil
}

// fail notes what was not as it must be; the demo goes on.
func (d *demo) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.failures = append(d.failures, text)
	d.tell.failure(text)
}

// makeFolder makes the folder that everything lies in.
func (d *demo) makeFolder() (err error) {
	if d.keep == "" {
		d.dir, err = os.MkdirTemp("", "parallax-demo-")
		return err
	}
	if d.dir, err = filepath.Abs(d.keep); err != nil {
		return err
	}
	entries, err := os.ReadDir(d.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(d.dir, 0o700)
	case err != nil:
		return err
	case len(entries) > 0:
		return cli.Errorf(cli.Usage, "--keep %s: the folder is not empty; name a new one", d.keep)
	}
	return nil
}

// sweep removes what nobody asked to keep. Evidence stays: it is what a member
// would show to others.
func (d *demo) sweep() {
	if d.keep != "" {
		return
	}
	if len(d.sum.EvidenceFiles) == 0 {
		_ = os.RemoveAll(d.dir)
		return
	}
	for _, name := range []string{demoRelaysDir, demoMembersDir} {
		_ = os.RemoveAll(filepath.Join(d.dir, name))
	}
}

// close ends all nodes; it may be called again.
func (d *demo) close() {
	if d.accomplice != nil {
		d.accomplice.close()
	}
	for _, m := range d.honest() {
		if err := m.stop(); err != nil {
			d.fail("%s's node did not end well: %v", m.name, err)
		}
	}
	for _, r := range d.relays {
		if err := r.stop(); err != nil {
			d.fail("relay %s did not end well: %v", r.label, err)
		}
	}
}

// honest are the members that play no trick, the newcomer last.
func (d *demo) honest() []*demoMember {
	all := append([]*demoMember(nil), d.members...)
	if d.newcomer != nil {
		all = append(all, d.newcomer)
	}
	return all
}

// liars are the relays that lie.
func (d *demo) liars() []*demoRelay {
	return d.relays[min(1, len(d.relays)) : min(1, len(d.relays))+d.lying]
}

// await looks until something holds, the patience ends or ctx does.
func (d *demo) await(ctx context.Context, patience time.Duration, holds func() bool) bool {
	until := time.Now().Add(patience)
	for !holds() {
		if ctx.Err() != nil || time.Now().After(until) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}
