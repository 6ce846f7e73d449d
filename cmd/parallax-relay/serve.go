package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"parallax/broadcast/relay"
	"parallax/internal/cli"
	"parallax/internal/store"
	"parallax/internal/store/guarded"
	"parallax/internal/store/pebble"
	"parallax/node"
)

// drainTime is for members to be told, and turns under way to become durable.
const drainTime = 10 * time.Second

func newServe(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run the relay until SIGTERM or SIGINT", Args: cli.Args(0, 0),
		Long: "Prints the public address once it listens; the log is on stderr. At SIGTERM or SIGINT it takes nothing new,\n" +
			"finishes what it accepted, tells every member that it leaves, and ends.",
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context()) },
	}
	return a.dirFlag(c)
}

func (a *app) serve(ctx context.Context) (err error) {
	cfg, err := readConfig(a.dir)
	if err != nil {
		return err
	}
	id, err := readIdentity(a.dir)
	if err != nil {
		return err
	}
	rc, err := cfg.relayConfig(id)
	if err != nil {
		return err
	}
	log := a.log(cfg.Log)
	path := filepath.Join(a.dir, storeDir)
	st, err := pebble.Open(path, pebble.Options{Log: func(format string, args ...any) { log.Warn(fmt.Sprintf(format, args...)) }})
	if errors.Is(err, store.ErrLocked) {
		return cli.Errorf(cli.Network, "another process serves this relay already: %w", err)
	}
	if err != nil {
		return err
	}
	if err := relay.CheckFormat(st); err != nil {
		if e, ok := errors.AsType[*store.FormatError](err); ok {
			e.Path = path
		}
		return errors.Join(err, st.Close())
	}
	counted, err := guarded.Open(st, guarded.Options{
		Path: filepath.Join(a.dir, guardFile), Log: func(err error) { log.Warn("the guard of the store cannot be written", zap.Error(err)) },
		Restored: func(s store.Store) error {
			n, err := relay.MarkRestored(s)
			if err == nil {
				log.Warn("the store is older than what this relay signed: it was put back to a copy. Every group begins a new lineage here; "+
					"its members are told, and read what is lost from the other relays", zap.Int("groups", n))
			}
			return err
		},
	})
	if err != nil {
		return errors.Join(err, st.Close())
	}
	defer func() { err = errors.Join(err, counted.Close()) }()
	r, err := node.StartRelay(node.RelayConfig{
		Key: id.relay, Listen: cfg.Listen, Announce: cfg.Public, Store: counted, Path: path, Open: relay.Open(rc),
		Limits: cfg.Connections.node(), Log: log,
	})
	if err != nil {
		return err
	}
	info, err := describe(cfg, id, true)
	if err == nil {
		// With port 0 the ports are known only now.
		if len(cfg.Public) == 0 {
			info.Addrs = r.Addrs()
		}
		if info.Address, err = cli.RelayAddress(id.relay.Public(), info.Addrs, ""); err == nil {
			// Before the address: whoever waits for that finds the line in the log.
			log.Info("serving", zap.String("relay", info.Key), zap.String("operator", cfg.Operator.Name))
			err = a.Data(info, func(w *strings.Builder) { fmt.Fprintln(w, info.Address) })
		}
	}
	if err != nil {
		drain, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		return errors.Join(err, r.Close(drain))
	}
	<-ctx.Done()
	log.Info("draining: nothing new is taken, members are told", zap.Duration("at most", drainTime))
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := r.Close(drain); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	log.Info("stopped")
	return nil
}

// log is the relay's log on stderr; peers and addresses never stand in it.
func (a *app) log(cfg logging) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339TimeEncoder
	enc.EncodeDuration = zapcore.StringDurationEncoder
	enc.TimeKey = "time"
	var encoder zapcore.Encoder
	if cfg.Format == "json" {
		encoder = zapcore.NewJSONEncoder(enc)
	} else {
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		enc.ConsoleSeparator = " "
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	level := zapcore.InfoLevel
	if cfg.Level != "" {
		if err := level.Set(cfg.Level); err != nil {
			level = zapcore.InfoLevel // readConfig allows no other
		}
	}
	if a.Verbose {
		level = min(level, zapcore.DebugLevel)
	}
	return node.NewLog(zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(a.Err)), level)))
}
