package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"parallax/broadcast/member"
)

// Request is a wish and the group it is for: its name, the unit of the
// membership or the beginning of the group id, both hex. Empty: the only
// group, and for what concerns none (CreateGroup, JoinGroup, ListGroups).
type Request struct {
	Group string
	Wish  member.Wish
	// ID, not 0, makes a wish idempotent: repeated with the same ID it is not done
	// again, but answered as the first time, also after a restart (of the newest
	// 256 that have an effect). Not for wishes that make a membership.
	ID uint64
}

// Result is the answer to a wish: the type that the wish's documentation names.
type Result = any

// ListGroups lists the memberships of the folder. Answer: []Membership.
type ListGroups struct{}

// Wish implements member.Wish.
func (ListGroups) Wish() string { return "groups" }

// Client speaks to a data folder, in this process or in the one that has it
// open: there is no difference but the time it takes. Errors keep what they
// are for errors.Is and errors.As with *proto.Refusal.
type Client interface {
	// Do waits for the answer to a wish.
	Do(context.Context, Request) (Result, error)
	// Events reads a group's events: those numbered above after (AfterAcked:
	// above the newest that the application acknowledged with
	// member.AckEvents), then live ones, each once and in order, with passing
	// hints (Number 0) between them. An event counts as handled when it is
	// acknowledged, so each is handed over at least once. It ends with an error: ctx's, ErrClosed, ErrGone or another.
	Events(ctx context.Context, group string, after uint64) iter.Seq2[member.Event, error]
	Close() error
}

// codec carries a kind of wish and its answer over the socket.
type codec struct {
	wish   func(json.RawMessage) (member.Wish, error)
	answer func(json.RawMessage) (any, error)
}

func codecOf[W member.Wish, A any]() codec {
	return codec{
		wish: func(b json.RawMessage) (member.Wish, error) {
			var w W
			d := json.NewDecoder(bytes.NewReader(b))
			d.DisallowUnknownFields() // a wish that is understood in part is not obeyed
			err := d.Decode(&w)
			return w, err
		},
		answer: func(b json.RawMessage) (any, error) {
			var a A
			err := json.Unmarshal(b, &a)
			return a, err
		},
	}
}

var codecs = map[string]codec{
	member.CreateGroup{}.Wish(): codecOf[member.CreateGroup, member.GroupInfo](),
	member.JoinGroup{}.Wish():   codecOf[member.JoinGroup, member.GroupInfo](),
	member.MakeInvite{}.Wish():  codecOf[member.MakeInvite, member.InviteInfo](),
	member.SendText{}.Wish():    codecOf[member.SendText, member.SentInfo](),
	member.GetStatus{}.Wish():   codecOf[member.GetStatus, member.Status](),
	member.GetPaths{}.Wish():    codecOf[member.GetPaths, member.Paths](),
	member.GetCode{}.Wish():     codecOf[member.GetCode, member.CodeInfo](),
	member.GetEvidence{}.Wish(): codecOf[member.GetEvidence, []member.EvidenceInfo](),
	member.ConfirmCode{}.Wish(): codecOf[member.ConfirmCode, member.ConfirmInfo](),
	member.UndoConfirm{}.Wish(): codecOf[member.UndoConfirm, member.ConfirmInfo](),
	ListGroups{}.Wish():         codecOf[ListGroups, []Membership](),
	CreateBackup{}.Wish():       codecOf[CreateBackup, BackupInfo](),

	member.PassOn{}.Wish():       codecOf[member.PassOn, member.PassedInfo](),
	member.AckEvents{}.Wish():    codecOf[member.AckEvents, member.AckInfo](),
	member.GetSecurity{}.Wish():  codecOf[member.GetSecurity, member.Security](),
	member.GetCoalition{}.Wish(): codecOf[member.GetCoalition, member.CoalitionInfo](),
	member.GetLocations{}.Wish(): codecOf[member.GetLocations, member.LocationsInfo](),
	member.GetDelivery{}.Wish():  codecOf[member.GetDelivery, member.DeliveryInfo](),

	member.AddRelay{}.Wish():     codecOf[member.AddRelay, member.RelayChange](),
	member.RetireRelay{}.Wish():  codecOf[member.RetireRelay, member.RelayChange](),
	member.ReplaceRelay{}.Wish(): codecOf[member.ReplaceRelay, member.RelayChange](),
	member.AddSpare{}.Wish():     codecOf[member.AddSpare, member.SparesInfo](),
	member.DropSpare{}.Wish():    codecOf[member.DropSpare, member.SparesInfo](),

	member.RemoveMember{}.Wish():   codecOf[member.RemoveMember, member.OperationInfo](),
	member.ApproveMember{}.Wish():  codecOf[member.ApproveMember, member.OperationInfo](),
	member.SetRole{}.Wish():        codecOf[member.SetRole, member.OperationInfo](),
	member.LeaveGroup{}.Wish():     codecOf[member.LeaveGroup, member.OperationInfo](),
	member.RevokeInvite{}.Wish():   codecOf[member.RevokeInvite, member.OperationInfo](),
	member.AddGroupSpare{}.Wish():  codecOf[member.AddGroupSpare, member.OperationInfo](),
	member.DropGroupSpare{}.Wish(): codecOf[member.DropGroupSpare, member.OperationInfo](),
	member.SetPolicy{}.Wish():      codecOf[member.SetPolicy, member.OperationInfo](),
	member.GetRequests{}.Wish():    codecOf[member.GetRequests, []member.RequestInfo](),
	member.RefuseMember{}.Wish():   codecOf[member.RefuseMember, member.OperationInfo](),
	member.GetRoster{}.Wish():      codecOf[member.GetRoster, member.RosterInfo](),
}

// DefaultWait is how long Connect waits for a folder that is locked by a
// process that does not listen, as one that is starting or ending.
const DefaultWait = 10 * time.Second

const connectRetry = 20 * time.Millisecond

// Options tell how to connect. Open is required.
type Options struct {
	MemberConfig               // Dir is set by Connect
	Wait         time.Duration // zero: DefaultWait
	Serve        bool          // a long command: listen on the socket when the node runs here
}

// Connect runs the node in this process if the folder is free, and otherwise
// speaks to the process that has it. Errors: ErrLocked when that process
// neither listens nor ends within Wait; what OpenMember reports.
func Connect(ctx context.Context, dir string, opt Options) (Client, error) {
	orDefault(&opt.Wait, DefaultWait)
	opt.Dir = dir
	until := time.Now().Add(opt.Wait)
	for {
		m, err := OpenMember(opt.MemberConfig)
		if err == nil {
			if opt.Serve {
				if err := m.Serve(); err != nil {
					return nil, errors.Join(err, m.Close())
				}
			}
			return m, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		c, dialErr := dialSocket(ctx, dir)
		if dialErr == nil {
			return c, nil
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%w, which does not answer on its socket (%w)", err, dialErr)
		}
		if !sleep(ctx, connectRetry) {
			return nil, ctx.Err()
		}
	}
}
