package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/gologshim"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What stands in a log instead of who was talked to.
const (
	redactedPeer = "[peer]"
	redactedIP   = "[ip]"
)

var (
	// Base58 peer ids: identity-hashed Ed25519 keys, SHA-256 ones, and CIDs.
	peerIDs = regexp.MustCompile(`\b(12D3Koo[1-9A-HJ-NP-Za-km-z]{45}|16Uiu2H[1-9A-HJ-NP-Za-km-z]{45,46}|Qm[1-9A-HJ-NP-Za-km-z]{44}|bafz[a-z2-7]{50,})\b`)
	// Whatever could be an address; netip decides.
	addresses = regexp.MustCompile(`[0-9A-Fa-f]*[:.][0-9A-Fa-f:.]*[0-9A-Fa-f:](%[0-9A-Za-z]+)?|::`)
	// The name in a multiaddr or in what a resolver says.
	names = regexp.MustCompile(`(/(?:dns|dns4|dns6|dnsaddr|sni)/)[^/\s"]+|(lookup )\S+`)
)

// Redact hides peer ids, IP addresses (ports stay) and the names in multiaddrs.
func Redact(s string) string {
	if !strings.ContainsAny(s, ":.123QbD/") {
		return s
	}
	s = peerIDs.ReplaceAllString(s, redactedPeer)
	s = names.ReplaceAllString(s, "${1}${2}[name]")
	return addresses.ReplaceAllStringFunc(s, redactAddress)
}

func redactAddress(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return redactedIP
	}
	// 192.0.2.1:4242, 192.0.2.1., 192.0.2.1: and the same of ::1.
	for i := len(s) - 1; i > 0; i-- {
		if s[i] != ':' && s[i] != '.' {
			continue
		}
		if _, err := netip.ParseAddr(s[:i]); err == nil {
			return redactedIP + s[i:]
		}
	}
	return s
}

// NewLog wraps a logger so that nothing it writes names a peer or an address.
func NewLog(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return redacting{c} }))
}

// redacting is a zap core that redacts messages and every field of text.
type redacting struct{ zapcore.Core }

func (c redacting) With(fields []zapcore.Field) zapcore.Core {
	return redacting{c.Core.With(redactFields(fields))}
}

func (c redacting) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c redacting) Write(e zapcore.Entry, fields []zapcore.Field) error {
	e.Message = Redact(e.Message)
	return c.Core.Write(e, redactFields(fields))
}

func redactFields(fields []zapcore.Field) []zapcore.Field {
	out := make([]zapcore.Field, len(fields))
	for i, f := range fields {
		switch f.Type {
		case zapcore.StringType:
			f.String = Redact(f.String)
		case zapcore.ErrorType:
			if err, ok := f.Interface.(error); ok {
				f.Interface = errors.New(Redact(err.Error()))
			}
		case zapcore.StringerType, zapcore.ReflectType, zapcore.ArrayMarshalerType, zapcore.ObjectMarshalerType, zapcore.InlineMarshalerType:
			f = zap.String(f.Key, Redact(fmt.Sprint(f.Interface)))
		case zapcore.ByteStringType:
			if b, ok := f.Interface.([]byte); ok {
				f = zap.String(f.Key, Redact(string(b)))
			}
		}
		out[i] = f
	}
	return out
}

// The libraries have one log for the process: it goes to the newest relay or
// member that was given a log, and nowhere before.
var (
	library     atomic.Pointer[zap.Logger]
	libraryOnce sync.Once
)

// libraryLog sends libp2p's own log, warnings and worse, to log, redacted.
func libraryLog(log *zap.Logger) {
	library.Store(NewLog(log).Named("libp2p"))
	libraryOnce.Do(func() { gologshim.SetDefaultHandler(slogHandler{}) })
}

// slogHandler takes libp2p's slog records to zap.
type slogHandler struct{ fields []zap.Field }

var slogLevels = map[slog.Level]zapcore.Level{slog.LevelWarn: zapcore.WarnLevel, slog.LevelError: zapcore.ErrorLevel}

func (slogHandler) Enabled(_ context.Context, l slog.Level) bool {
	to, ok := slogLevels[l]
	log := library.Load()
	return ok && log != nil && log.Core().Enabled(to)
}

func (h slogHandler) Handle(_ context.Context, r slog.Record) error {
	log := library.Load()
	if log == nil {
		return nil
	}
	fields := h.fields[:len(h.fields):len(h.fields)]
	r.Attrs(func(a slog.Attr) bool {
		fields = append(fields, slogField(a))
		return true
	})
	log.Log(slogLevels[r.Level], r.Message, fields...)
	return nil
}

func (h slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := h.fields[:len(h.fields):len(h.fields)]
	for _, a := range attrs {
		fields = append(fields, slogField(a))
	}
	return slogHandler{fields}
}

func (h slogHandler) WithGroup(name string) slog.Handler {
	return slogHandler{append(h.fields[:len(h.fields):len(h.fields)], zap.Namespace(name))}
}

// slogField makes text of an attribute, which Redact then sees as a whole.
func slogField(a slog.Attr) zap.Field { return zap.String(a.Key, a.Value.Resolve().String()) }
