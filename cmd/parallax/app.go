package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"parallax/broadcast/member"
	"parallax/internal/cli"
	"parallax/node"
)

// How long a command that runs the node itself waits for its relays.
const (
	pollEvery   = 20 * time.Millisecond
	catchUpMost = 6 * time.Second         // for the first relay, while none brings anything
	catchUpLong = 2 * time.Minute         // and while one does: its next command goes on
	catchUpRest = 1500 * time.Millisecond // for the others, once one has caught up, while none brings anything
	catchUpLast = 10 * time.Second        // and while one does
	flushMost   = 3 * time.Second         // for receipts, before the node ends
)

// app is what the commands share.
type app struct {
	*cli.Streams
	data     string
	passFile string // holds the folder's passphrase
	askNew   bool   // a new folder is sealed with a passphrase asked for
}

// folder is the data folder.
func (a *app) folder() (string, error) {
	if a.data != "" {
		return a.data, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "parallax"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", cli.Errorf(cli.Usage, "no data folder: %w; name one with --data", err)
	}
	return filepath.Join(home, ".local", "share", "parallax"), nil
}

// connect opens the data folder, or speaks to the process that has it open.
// With serve this process listens for others while it has the folder.
func (a *app) connect(ctx context.Context, serve bool) (node.Client, error) {
	dir, err := a.folder()
	if err != nil {
		return nil, err
	}
	c, err := node.Connect(ctx, dir, node.Options{MemberConfig: a.config(dir), Serve: serve})
	return c, opened(err)
}

// config is how this process runs the node.
func (a *app) config(dir string) node.MemberConfig {
	return node.MemberConfig{Dir: dir, Open: member.Open(member.Config{}), Log: a.log(), Passphrase: a.passphrase}
}

// log is the node's log: only with -v.
func (a *app) log() *zap.Logger {
	if !a.Verbose || a.Quiet {
		return nil
	}
	enc := zap.NewDevelopmentEncoderConfig()
	enc.EncodeCaller, enc.CallerKey = nil, ""
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.Lock(zapcore.AddSync(a.Err)), zapcore.InfoLevel)
	return node.NewLog(zap.New(core))
}

// with runs f on the data folder, which must hold a group already.
func (a *app) with(ctx context.Context, f func(node.Client) error) error {
	dir, err := a.folder()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "groups")); errors.Is(err, fs.ErrNotExist) {
		return cli.Errorf(cli.Usage, "%w (%s)", node.ErrNoGroup, dir)
	}
	c, err := a.connect(ctx, false)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// ask obeys a wish whose answer is a T.
func ask[T any](ctx context.Context, c node.Client, unit string, w member.Wish) (answer T, err error) {
	v, err := c.Do(ctx, node.Request{Group: unit, Wish: w})
	if err != nil {
		return answer, err
	}
	answer, ok := v.(T)
	if !ok {
		return answer, fmt.Errorf("the answer to wish %q is a %T", w.Wish(), v)
	}
	return answer, nil
}

// errNotNamed: an argument names no group.
var errNotNamed = errors.New("no group is called so")

// group finds the group that a command means: by name, a unique beginning of
// it, unit or beginning of the id (both hex); empty: the only one. Groups that
// do not open stand in nobody's way, and are told when they are named.
func (a *app) group(ctx context.Context, c node.Client, name string) (node.Membership, error) {
	list, err := ask[[]node.Membership](ctx, c, "", node.ListGroups{})
	if err != nil {
		return node.Membership{}, err
	}
	for _, g := range list {
		if g.Err != nil && g.Unit == name {
			return g, g.Err
		}
	}
	g, err := pick(slices.DeleteFunc(slices.Clone(list), func(g node.Membership) bool { return g.Left }), name)
	if g.Unit == "" && (errors.Is(err, errNotNamed) || errors.Is(err, node.ErrNoGroup)) {
		g, err = pick(list, name) // one that was left is meant when no other can be
	}
	if err == nil && g.Err != nil {
		err = g.Err
	}
	return g, err
}

// pick is group on a list.
func pick(list []node.Membership, name string) (node.Membership, error) {
	const leastID = 4
	var exact, begin, id, broken []node.Membership
	usable := 0
	for _, g := range list {
		if g.Err != nil && g.Name == "" {
			broken = append(broken, g)
			continue
		}
		usable++
		switch {
		case name == "" || g.Name == name || g.Unit == name:
			exact = append(exact, g)
		case g.Name != "" && strings.HasPrefix(strings.ToLower(g.Name), strings.ToLower(name)):
			begin = append(begin, g)
		case len(name) >= leastID && strings.HasPrefix(g.ID, strings.ToLower(name)):
			id = append(id, g)
		}
	}
	for _, found := range [][]node.Membership{exact, begin, id} {
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1 && name == "":
			return node.Membership{}, cli.Errorf(cli.Usage, "there are %d groups: name one of %s", len(found), names(found))
		case len(found) > 1:
			return node.Membership{}, cli.Errorf(cli.Usage, "group %q: %w: %s", name, member.ErrAmbiguous, names(found))
		}
	}
	switch {
	case len(list) == 0:
		return node.Membership{}, node.ErrNoGroup
	case usable == 0 && len(broken) > 0:
		return broken[0], broken[0].Err
	}
	return node.Membership{}, cli.Errorf(cli.Usage, "%w: %q; there is %s", errNotNamed, name, names(list))
}

// names lists groups for an error.
func names(list []node.Membership) string {
	seen := map[string]int{}
	for _, g := range list {
		seen[g.Name]++
	}
	var out []string
	for _, g := range list {
		switch {
		case g.Name == "":
			out = append(out, g.Unit)
		case seen[g.Name] > 1:
			out = append(out, fmt.Sprintf("%s (%s)", cli.Clean(g.Name), g.Unit))
		default:
			out = append(out, cli.Clean(g.Name))
		}
	}
	return strings.Join(out, ", ")
}

// groupAnd takes [GROUP] [REST] apart: with one argument it is the group if it
// names one, and otherwise the rest, if there is only one group.
func (a *app) groupAnd(ctx context.Context, c node.Client, args []string) (g node.Membership, rest string, err error) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	g, err = a.group(ctx, c, name)
	if len(args) == 2 {
		rest = args[1]
	}
	if len(args) == 1 && errors.Is(err, errNotNamed) {
		if only, e := a.group(ctx, c, ""); e == nil {
			return only, name, nil
		}
	}
	return g, rest, err
}

// catchUp waits until every relay delivered what it has, or, when some do not
// answer, for a short while; after a long absence it tells how far it is. It says
// which are missing. A status is returned in any case but a failure.
func (a *app) catchUp(ctx context.Context, c node.Client, unit string) (member.Status, error) {
	start := time.Now()
	w := watch{start: start, moved: start}
	for {
		s, err := ask[member.Status](ctx, c, unit, member.GetStatus{})
		if err != nil {
			return s, err
		}
		if s.Left {
			return s, nil // nothing comes any more
		}
		now := time.Now()
		done := w.look(now, s)
		late := w.late(now)
		if text := w.progress(now, s); text != "" {
			a.Say("%s", text)
		}
		if s.Ready && (done == len(s.Relays) || late) {
			a.sayMissing(s)
			return s, nil
		}
		if a := s.Asking; a != nil && !a.Let && (late || a.Kept && a.Read) {
			return s, fmt.Errorf("%w: %s", member.ErrNotReady, cli.Clean(a.Text))
		}
		if late && now.Sub(start) > catchUpMost {
			return s, fmt.Errorf("%w: joining %s goes on while a command runs, such as `parallax tail --follow`", member.ErrNotReady, cli.Clean(s.Group))
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func (a *app) sayMissing(s member.Status) {
	for _, r := range s.Relays {
		why := "it has not answered"
		switch {
		case readToEnd(r):
			continue
		case r.Problem != "":
			why = r.Problem
		case r.Connected:
			a.Say("Relay %s (%s) is not read to its end yet%s. What only it has is not shown yet; reading goes on while parallax runs.", r.Label, cli.Clean(r.Operator), soFar(r))
			continue
		}
		a.Say("Relay %s (%s) is missing: %s. What only it has is not shown yet.", r.Label, cli.Clean(r.Operator), cli.Clean(why))
	}
}

// flush gives relays that are connected the time to take what waits for them,
// before the node in this process ends. What is left goes out next time.
func (a *app) flush(ctx context.Context, c node.Client, unit string) {
	if _, local := c.(*node.Member); !local {
		return
	}
	for start := time.Now(); time.Since(start) < flushMost && ctx.Err() == nil; time.Sleep(pollEvery) {
		s, err := ask[member.Status](ctx, c, unit, member.GetStatus{})
		if err != nil {
			return
		}
		waiting := 0
		for _, r := range s.Relays {
			if r.Connected {
				waiting += r.Outbox
			}
		}
		if waiting == 0 {
			return
		}
	}
}
