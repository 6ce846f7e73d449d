package node

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/creachadair/jrpc2"

	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/internal/store"
	"parallax/internal/store/sealed"
)

// ErrGone: the process that had the folder open ended meanwhile.
var ErrGone = errors.New("the process that has the data folder open has ended; try again")

// causes is every error that keeps its identity across the socket, by a name
// that never changes. A test compares it with the sentinels of the packages.
var causes = map[string]error{
	"not-ready":         member.ErrNotReady,
	"superseded":        member.ErrSuperseded,
	"taken":             member.ErrTaken,
	"not-admin":         member.ErrNotAdmin,
	"not-owner":         member.ErrNotOwner,
	"reader":            member.ErrReader,
	"mode":              member.ErrMode,
	"request-few":       member.ErrTooFew,
	"request-declined":  member.ErrDeclined,
	"request-sealed":    member.ErrSealedRequest,
	"out":               member.ErrOut,
	"restoring":         member.ErrRestoring,
	"no-such":           member.ErrNoSuch,
	"ambiguous":         member.ErrAmbiguous,
	"contested":         member.ErrContested,
	"refused":           member.ErrRefused,
	"unreached":         member.ErrUnreached,
	"genesis":           member.ErrGenesis,
	"roster-waiting":    member.ErrWaiting,
	"roster-group":      member.ErrOtherGroup,
	"roster-entitled":   member.ErrNotEntitled,
	"roster-nothing":    member.ErrNothingToDo,
	"roster-cut":        member.ErrBadCut,
	"roster-on-refused": member.ErrOnRefused,
	"roster-full":       member.ErrRosterFull,
	"roster-last-owner": member.ErrLastOwner,
	"roster-heads":      member.ErrUnknownHeads,
	"roster-sequence":   member.ErrSequence,
	"relay-twice":       member.ErrRelayTwice,
	"relay-many":        member.ErrRelayMany,
	"relay-last":        member.ErrRelayLast,
	"no-spare":          member.ErrNoSpare,
	"table":             member.ErrTable,
	"relay-busy":        member.ErrRelayBusy,
	"too-long":          member.ErrTooLong,
	"outbox-full":       member.ErrOutboxFull,
	"put-back":          member.ErrPutBack,
	"expired":           member.ErrExpired,
	"too-many":          member.ErrTooMany,
	"name":              member.ErrName,
	"newer-format":      member.ErrNewerFormat,
	"suite":             member.ErrSuite,
	"signature":         member.ErrBadSignature,
	"seat":              member.ErrBadSeat,
	"policy-operators":  member.ErrUnreachable,
	"link-not":          member.ErrLinkNot,
	"link-cut":          member.ErrLinkCut,
	"link-mistyped":     member.ErrLinkMistyped,
	"link-version":      member.ErrLinkVersion,
	"record":            member.ErrStore,
	"code-differs":      member.ErrCodeDiffers,
	"code-form":         member.ErrCodeForm,
	"code-kind":         member.ErrCodeKind,

	"closed":    ErrClosed,
	"locked":    ErrLocked,
	"no-group":  ErrNoGroup,
	"gone":      ErrGone,
	"port":      ErrPortInUse,
	"address":   ErrAddress,
	"other-key": ErrOtherKey,
	"no-relay":  ErrNoRelay,
	"no-answer": ErrNoAnswer,
	"socket":    ErrSocketPath,
	"backup":    ErrBackup,
	"not-empty": ErrNotEmpty,

	"passphrase":        sealed.ErrPassphrase,
	"no-passphrase":     sealed.ErrNoPassphrase,
	"passphrase-length": sealed.ErrPassphraseLength,

	"store-closed":    store.ErrClosed,
	"store-locked":    store.ErrLocked,
	"store-batch":     store.ErrBatch,
	"store-conflict":  store.ErrConflict,
	"store-not-found": store.ErrNotFound,

	"canceled": context.Canceled,
	"deadline": context.DeadlineExceeded,
}

// wireError is an error as it crosses the socket.
type wireError struct {
	Text    string       `json:"text"`
	Causes  []string     `json:"causes,omitempty"`
	Refusal *wireRefusal `json:"refusal,omitempty"`
	// A store that is damaged or of another format, with its place.
	Corrupt string             `json:"corrupt,omitempty"`
	Format  *store.FormatError `json:"format,omitempty"`
}

type wireRefusal struct {
	Code  proto.Code    `json:"code"`
	Limit string        `json:"limit,omitempty"`
	Retry time.Duration `json:"retry,omitempty"`
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for name, cause := range causes {
		if errors.Is(err, cause) {
			w.Causes = append(w.Causes, name)
		}
	}
	if r, ok := errors.AsType[*proto.Refusal](err); ok {
		w.Refusal = &wireRefusal{r.Code, r.Limit, r.Retry}
	}
	if c, ok := errors.AsType[*store.CorruptError](err); ok {
		w.Corrupt = c.Path
	}
	if f, ok := errors.AsType[*store.FormatError](err); ok {
		w.Format = f
	}
	return w
}

func (w *wireError) error() error {
	if w == nil {
		return nil
	}
	e := &remoteError{text: w.Text}
	for _, name := range w.Causes {
		if cause := causes[name]; cause != nil {
			e.causes = append(e.causes, cause)
		}
	}
	if w.Refusal != nil {
		e.causes = append(e.causes, &proto.Refusal{Code: w.Refusal.Code, Limit: w.Refusal.Limit, Retry: w.Refusal.Retry})
	}
	if w.Corrupt != "" {
		e.causes = append(e.causes, &store.CorruptError{Path: w.Corrupt, Err: errors.New(w.Text)})
	}
	if w.Format != nil {
		e.causes = append(e.causes, w.Format)
	}
	return e
}

// remoteError is an error of the other process: its text, and what it was for
// errors.Is and errors.As.
type remoteError struct {
	text   string
	causes []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.causes }

// codeFailed is the JSON-RPC code of every error of ours; its data is a
// wireError.
const codeFailed jrpc2.Code = -32000

func toRPC(err error) error {
	if err == nil {
		return nil
	}
	return (&jrpc2.Error{Code: codeFailed, Message: err.Error()}).WithData(toWire(err))
}

// MarshalJSON keeps the identity of Err.
func (m Membership) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireMembership{m.Unit, m.Name, m.ID, m.Ready, toWire(m.Err)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Membership) UnmarshalJSON(b []byte) error {
	var w wireMembership
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*m = Membership{Unit: w.Unit, Name: w.Name, ID: w.ID, Ready: w.Ready, Err: w.Err.error()}
	return nil
}

type wireMembership struct {
	Unit  string     `json:"unit"`
	Name  string     `json:"name,omitempty"`
	ID    string     `json:"id,omitempty"`
	Ready bool       `json:"ready"`
	Err   *wireError `json:"error,omitempty"`
}
