package member

import (
	"errors"
	"time"
)

// RemoveMember puts a member out. Of its messages those count that this member
// had when it asked; nothing is encrypted to it from then on. In an open group
// every live link ends with it: the answer has the new one. Answer:
// OperationInfo, when q operators keep it. Errors: ErrNotAdmin, ErrNotEntitled
// (an owner, by somebody who is none), ErrLastOwner, ErrNothingToDo.
type RemoveMember struct {
	Member string `json:"member"` // name, seat or a unique beginning of it
}

// ApproveMember lets in who asks (GetRequests), if enough relays show one request
// of it: else ErrTooFew, or ErrContested if the seat signed two. It also admits a
// seat directly: one whose admission the relays do not
// agree on, one that was removed, or one whose admission is void. Answer:
// OperationInfo.
type ApproveMember struct {
	Member string `json:"member"`
	Role   Role   `json:"role,omitempty"` // empty: member
}

// SetRole gives a member another role. Answer: OperationInfo.
type SetRole struct {
	Member string `json:"member"`
	Role   Role   `json:"role"`
}

// LeaveGroup takes this member out, for good: it reads and sends nothing any
// more, what it has stays. Answer: OperationInfo, when q operators keep it, or
// after 30 s.
type LeaveGroup struct{}

// RevokeInvite ends an invitation, whoever made it. Answer: OperationInfo.
type RevokeInvite struct {
	ID string `json:"id"` // invite id, hex, or a unique beginning of it
}

// SetPolicy replaces parts of the group's policy; only owners can. What is nil
// stays. Answer: OperationInfo.
type SetPolicy struct {
	// Mode is who lets newcomers in: open, approve or closed. A change ends every
	// invitation; who came by one stays.
	Mode      *string        `json:"mode,omitempty"`
	Quorum    *uint8         `json:"quorum,omitempty"` // operators that must agree; 0: a majority
	Strict    *bool          `json:"strict,omitempty"`
	Deadline  *time.Duration `json:"deadline,omitempty"`
	Retention *time.Duration `json:"retention,omitempty"`
	// Policy is a policy text in place of the quorum; empty: none (docs/protocol.md
	// section 9.1).
	Policy *string `json:"policy,omitempty"`
	// Carriers is how many relays carry a text in full, where others get its digest: at
	// most MaxRelays, which is all, as any number is that the relays do not exceed; 0: 3.
	Carriers *uint8 `json:"carriers,omitempty"`
}

// GetRoster asks what the signed log says of the group. Answer: RosterInfo.
type GetRoster struct {
	Draw bool `json:"draw,omitempty"` // with the log as text
}

func (RemoveMember) Wish() string  { return "member-remove" }
func (ApproveMember) Wish() string { return "member-approve" }
func (SetRole) Wish() string       { return "member-role" }
func (LeaveGroup) Wish() string    { return "leave" }
func (RevokeInvite) Wish() string  { return "invite-revoke" }
func (SetPolicy) Wish() string     { return "policy" }
func (GetRoster) Wish() string     { return "roster" }

// Role is a role in a word: reader, member, admin, owner.
type Role string

// The roles, in the order of what they may do.
const (
	AsReader Role = "reader" // reads and does not speak
	AsMember Role = "member"
	AsAdmin  Role = "admin"
	AsOwner  Role = "owner"
)

// OperationInfo answers what changes the roster.
type OperationInfo struct {
	Operation string `json:"operation"`        // its digest, 16 hex digits
	What      string `json:"what"`             // one line for people
	Seat      string `json:"seat,omitempty"`   // whom it is about
	Member    string `json:"member,omitempty"` // its label
	Relays    int    `json:"relays"`           // that keep it already
	// Link is the new invitation, where the operation ended all others.
	Link    string    `json:"link,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	Epoch   bool      `json:"epoch,omitempty"` // a new epoch began with it
}

// RosterInfo answers GetRoster.
type RosterInfo struct {
	Digest     string           `json:"digest"` // of the set of operations: equal ones say the same
	Operations int              `json:"operations"`
	Waiting    int              `json:"waiting"` // operations that wait for others
	Role       Role             `json:"role"`    // own; empty: none
	Headless   bool             `json:"headless,omitempty"`
	Members    []RosterMember   `json:"members"`
	Removed    []RosterMember   `json:"removed"`
	Pending    []RosterMember   `json:"pending"` // admitted by an operation that is void
	Asking     []RosterMember   `json:"asking"`  // known, and in by the relays' agreement alone or not at all
	Invites    []RosterInvite   `json:"invites"`
	Relays     int              `json:"relays"`
	Ordinal    uint32           `json:"ordinal"` // of the relay list
	Epochs     int              `json:"epochs"`  // heads in force
	Policy     RosterPolicy     `json:"policy"`
	Disputes   []RosterDispute  `json:"disputes"`
	Void       []RosterVoidLine `json:"void"`
	Hidden     []RosterHidden   `json:"hidden"` // operations that relays do not show, and enough do
	Drawing    string           `json:"drawing,omitempty"`
}

// RosterMember is one seat.
type RosterMember struct {
	Seat      string    `json:"seat"`
	Name      string    `json:"name"`
	Label     string    `json:"label"`
	Role      Role      `json:"role,omitempty"`
	Own       bool      `json:"own,omitempty"`
	Since     time.Time `json:"since,omitzero"`      // for people
	By        string    `json:"by,omitempty"`        // label of who admitted or removed it
	Left      bool      `json:"left,omitempty"`      // by itself
	Suspended bool      `json:"suspended,omitempty"` // signed two operations after one
	Usable    bool      `json:"usable"`              // it gets messages
}

// RosterInvite is one invitation.
type RosterInvite struct {
	ID      string    `json:"id"`
	By      string    `json:"by"`
	Role    Role      `json:"role"`
	Uses    uint32    `json:"uses"`
	Expires time.Time `json:"expires"`
	Mode    string    `json:"mode"`              // open: it lets in; approve: who has it asks
	Revoked bool      `json:"revoked,omitempty"` // or ended by another mode of the group
	Live    bool      `json:"live"`              // neither revoked nor expired
}

// RosterPolicy is the policy in force.
type RosterPolicy struct {
	Quorum    int           `json:"quorum"` // operators that must agree, as it counts now
	Strict    bool          `json:"strict"`
	Mode      string        `json:"mode"`
	Deadline  time.Duration `json:"deadline"`
	Retention time.Duration `json:"retention"`
	Carriers  int           `json:"carriers"` // relays that carry a text in full; 0: 3; MaxRelays: all
}

// RosterDispute is something that people have to look at.
type RosterDispute struct {
	Kind       string   `json:"kind"` // fork, draw, lists
	Members    []string `json:"members"`
	Operations []string `json:"operations"`
	Settled    bool     `json:"settled,omitempty"`
	Text       string   `json:"text"`
}

// RosterVoidLine is an operation that is kept and has no effect.
type RosterVoidLine struct {
	Operation string `json:"operation"`
	By        string `json:"by"`
	What      string `json:"what"`
	Cause     string `json:"cause"`
}

// RosterHidden is an operation that some relays do not show; it counts.
type RosterHidden struct {
	Operation string   `json:"operation"`
	By        string   `json:"by"`
	What      string   `json:"what"`
	Missing   []string `json:"missing"` // relays that were read without it
}

// Events of the roster.
const (
	EventRemoved EventKind = "removed" // a member was removed
	EventLeft    EventKind = "left"    // a member left
	EventRole    EventKind = "role"    // a member has another role
	EventRoster  EventKind = "roster"  // something else about the group: invitations, policy, a dispute
	EventRequest EventKind = "request" // somebody asks to be let in, or what became of the own request
	EventSilent  EventKind = "unheard" // a reader, or who was removed, sent something that is not shown as a text
)

// Why a wish about the roster is refused, beside the errors of operations.
var (
	ErrNotOwner  = errors.New("only an owner of the group can do this")
	ErrReader    = errors.New("readers do not speak in this group")
	ErrOut       = errors.New("you are not in this group any more")
	ErrRestoring = errors.New("this membership comes from a backup or an older copy and has not read the relays yet")
)
