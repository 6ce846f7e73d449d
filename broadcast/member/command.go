package member

import (
	"errors"
	"time"

	"parallax/internal/keys"
)

// Wish is what a user, a bot or a script asks of a membership: one of the
// types below. Wishes and their answers are plain data that survives JSON, so
// that the command line, the socket and a replay share them.
type Wish interface{ Wish() string }

// CreateGroup founds a group. Answer: GroupInfo. Only for a new membership.
type CreateGroup struct {
	Group    string         `json:"group"`
	Name     string         `json:"name"`
	Relays   []FoundingSpot `json:"relays"`
	Strict   bool           `json:"strict,omitempty"`
	Mode     string         `json:"mode,omitempty"`     // open, approve or closed; empty: open
	Deadline time.Duration  `json:"deadline,omitempty"` // a path may stay silent; zero: DefaultDeadline
	// Retention is how long entries and old keys are kept; zero: DefaultRetention.
	Retention time.Duration `json:"retention,omitempty"`
	// Quorum is how many operators must agree; zero: a majority, or all if Strict.
	Quorum uint8 `json:"quorum,omitempty"`
	// Policy is a policy text (docs/protocol.md section 9.1) that says in place of
	// a quorum which operators are enough; empty: none.
	Policy string `json:"policy,omitempty"`
	// Carriers is how many relays carry a text in full, where others get its
	// digest; zero: 3. At most MaxRelays.
	Carriers uint8 `json:"carriers,omitempty"`
}

// FoundingSpot is a relay that a founder names.
type FoundingSpot struct {
	Key   keys.RelayPublic `json:"key"`
	Addrs []string         `json:"addrs"`
	Token string           `json:"token,omitempty"` // that relay's permission to found a channel
}

// JoinGroup joins by link. Answer: GroupInfo, when the admission is complete
// and every seat on the boards was compared, or the deadline passed. Only for
// a new membership.
type JoinGroup struct {
	Link string `json:"link"`
	Name string `json:"name"`
	// Await: by a link whose holders ask, the answer waits until an admin let this
	// member in, however long that takes; else it comes with Waiting as soon as
	// enough relays have the request.
	Await bool `json:"await,omitempty"`
}

// MakeInvite makes an invitation. Answer: InviteInfo, when q operators keep it.
type MakeInvite struct {
	Uses  uint32        `json:"uses,omitempty"`  // zero: 50
	Valid time.Duration `json:"valid,omitempty"` // zero: 7 days
	Role  Role          `json:"role,omitempty"`  // of who comes by it: member or reader; empty: member
}

// SendText sends to the group. Answer: SentInfo, by Wait. The message is
// durable in the outbox before the first byte leaves, whatever Wait says.
type SendText struct {
	Text string `json:"text"`
	Wait Wait   `json:"wait,omitempty"` // empty: quorum
}

// Wait tells when a send is answered.
type Wait string

const (
	WaitQuorum Wait = "quorum" // receipts of q operators
	WaitAll    Wait = "all"    // receipts of every relay
	WaitNone   Wait = "none"   // durable here
)

// GetStatus asks for the whole state that people look at. Answer: Status.
type GetStatus struct{}

// GetPaths asks how messages came over the paths. Answer: Paths.
type GetPaths struct {
	Message string `json:"message,omitempty"` // message id, or a unique beginning; empty: the newest
	Limit   int    `json:"limit,omitempty"`   // zero: 20
}

// GetCode asks for the 60-digit code of the group, or of the pair with a
// member (name, seat or a unique beginning of it). Answer: CodeInfo.
type GetCode struct {
	Member string `json:"member,omitempty"`
}

// ConfirmCode takes a security code from another member's device, typed or
// scanned: 60 digits in any grouping, or the text form (Code). If it is the
// code of this device too, the seat is marked as verified in person, for the
// signing key that it has. Answer: ConfirmInfo. Errors: ErrCodeDiffers,
// ErrCodeForm, ErrCodeKind; ErrContested for a seat that the group code leaves
// out.
type ConfirmCode struct {
	Member string `json:"member,omitempty"` // may be empty for a scanned group code, which names the device
	Code   string `json:"code"`
	Group  bool   `json:"group,omitempty"` // the code of the group, from that member's device
}

// UndoConfirm takes back that a member was verified in person, and what the
// group code showed on that member's device. Answer: ConfirmInfo.
type UndoConfirm struct {
	Member string `json:"member"`
}

// GetEvidence asks for the evidence held. Answer: []EvidenceInfo; with an ID
// just that one, its Text filled.
type GetEvidence struct {
	ID string `json:"id,omitempty"`
}

func (CreateGroup) Wish() string { return "create" }
func (JoinGroup) Wish() string   { return "join" }
func (MakeInvite) Wish() string  { return "invite" }
func (SendText) Wish() string    { return "send" }
func (GetStatus) Wish() string   { return "status" }
func (GetPaths) Wish() string    { return "paths" }
func (GetCode) Wish() string     { return "code" }
func (GetEvidence) Wish() string { return "evidence" }
func (ConfirmCode) Wish() string { return "confirm" }
func (UndoConfirm) Wish() string { return "unconfirm" }

// GroupInfo names a membership.
type GroupInfo struct {
	Group   string `json:"group"`    // its name
	ID      string `json:"id"`       // group id, hex
	ShortID string `json:"short_id"` // for people to compare: T0
	Seat    string `json:"seat"`
	Name    string `json:"name"`              // own name
	Waiting bool   `json:"waiting,omitempty"` // for an admin to let this member in
}

// InviteInfo answers MakeInvite.
type InviteInfo struct {
	Link    string    `json:"link"`
	Mode    string    `json:"mode"` // open: it lets in; approve: who has it asks
	Role    Role      `json:"role"` // of who comes by it
	Uses    uint32    `json:"uses"`
	Expires time.Time `json:"expires"`
	Relays  int       `json:"relays"` // that keep it already
}

// SentInfo answers SendText.
type SentInfo struct {
	ID       string `json:"id"`       // message id, 16 hex digits
	Members  int    `json:"members"`  // with a slot in it
	Waiting  int    `json:"waiting"`  // members without a session: they cannot read it
	Held     int    `json:"held"`     // seats that are contested: nothing is sent to them
	Receipts int    `json:"receipts"` // relays that gave theirs
	Relays   int    `json:"relays"`
	Carriers int    `json:"carriers,omitempty"` // relays that get it in full, the others its digest; 0: all
}

// Mark is what one path did for one subject: awaiting, matched, dissented,
// silent, failed.
type Mark string

// Event is what a membership tells its application. Numbered events are
// history and can be read again; Number 0 events are passing hints.
type Event struct {
	Kind   EventKind `json:"kind"`
	Number uint64    `json:"number,omitempty"`
	Time   time.Time `json:"time"`             // when this device learned it
	ID     string    `json:"id,omitempty"`     // message id
	Seat   string    `json:"seat,omitempty"`   // whom it concerns, hex
	Member string    `json:"member,omitempty"` // display name, told apart where two seats carry one
	Text   string    `json:"text,omitempty"`
	Sent   time.Time `json:"sent,omitzero"` // by the sender's clock
	Own    bool      `json:"own,omitempty"`
	Late   bool      `json:"late,omitempty"`
	// Of: whom a text that Member passed on is said to be of; Passed: who passed
	// on a text of Member.
	Of     string `json:"of,omitempty"`
	Passed string `json:"passed,omitempty"`
	// Alarm: which relay (R1.. in the genesis' order, operator), what was done.
	Relay    string          `json:"relay,omitempty"`
	Evidence string          `json:"evidence,omitempty"` // evidence id
	Marks    map[string]Mark `json:"marks,omitempty"`
	Done     int             `json:"done,omitempty"` // progress
	Total    int             `json:"total,omitempty"`
}

// EventKind tells events apart.
type EventKind string

const (
	EventMessage  EventKind = "message"  // delivered, once
	EventJoined   EventKind = "joined"   // a seat became usable
	EventDispute  EventKind = "dispute"  // a subject is disputed: marked, nobody blamed
	EventRelay    EventKind = "relay"    // a path failed or dissented: status only
	EventNewKey   EventKind = "key"      // a member verified in person has another signing key
	EventEvidence EventKind = "evidence" // a relay's own signatures convict it; it was set aside
	EventBlame    EventKind = "blame"    // a member sent two texts under one number
	EventMarks    EventKind = "marks"    // hint: a message's marks changed
	EventProgress EventKind = "progress" // hint: joining or catching up
	EventLink     EventKind = "link"     // hint: a relay came or went
	EventPassed   EventKind = "passed"   // a member passed on what it says is a text of another
	EventGap      EventKind = "gap"      // messages of a member did not arrive, and nobody sent them again
	EventSession  EventKind = "session"  // session keys were agreed anew, or a seat goes on elsewhere
)

// Status answers GetStatus.
type Status struct {
	GroupInfo
	Strict   bool           `json:"strict"`
	Quorum   int            `json:"quorum"`
	Counted  int            `json:"operators"`        // that count and are not set aside, a declared family as one
	Ready    bool           `json:"ready"`            // joined
	Joining  bool           `json:"joining"`          // by link, not at its end yet
	Asking   *AskingInfo    `json:"asking,omitempty"` // while an admin has to let this member in
	Left     bool           `json:"left,omitempty"`
	Relays   []RelayStatus  `json:"relays"`
	Former   []RelayStatus  `json:"former,omitempty"` // relays that were retired
	Spares   []SpareInfo    `json:"spares,omitempty"` // relays kept in reserve on this device
	Ordinal  uint32         `json:"ordinal"`          // of the list in use; 0: the genesis'
	Members  []MemberStatus `json:"members"`
	Evidence int            `json:"evidence"`
	Disputes int            `json:"disputes"`
	Verified int            `json:"verified"` // members verified in person, under the keys they have now
	Outbox   int            `json:"outbox"`   // posts that wait for receipts
	Missing  int            `json:"missing"`  // messages that digests tell of, asked for and not come
	Messages uint64         `json:"messages"`
	Events   uint64         `json:"events"` // number of the newest event
	Acked    uint64         `json:"acked"`  // number up to which the application acknowledged them
}

// RelayStatus is one path.
type RelayStatus struct {
	Label     string           `json:"label"` // R1..
	Key       keys.RelayPublic `json:"key"`
	Operator  string           `json:"operator"`
	Addrs     []string         `json:"addrs,omitempty"`
	Standing  Standing         `json:"standing"`
	Gone      time.Time        `json:"gone,omitzero"` // since when it has not answered while others did; zero: it answers
	Connected bool             `json:"connected"`
	CaughtUp  bool             `json:"caught_up"`
	Ended     bool             `json:"ended,omitempty"` // it says that nothing more is for this member: an admin ended its mailbox
	SetAside  bool             `json:"set_aside"`
	Position  uint64           `json:"position"` // number read up to
	// Done of Total is how far it is caught up with: of what waited there when its
	// mailbox was opened. Zero when that was nothing, and at its end.
	Done      uint64 `json:"done,omitempty"`
	Total     uint64 `json:"total,omitempty"`
	Outbox    int    `json:"outbox"`
	Matched   uint64 `json:"matched"`
	Dissented uint64 `json:"dissented"`
	Silent    uint64 `json:"silent"`
	Failed    uint64 `json:"failed"`
	Problem   string `json:"problem,omitempty"`
}

// MemberStatus is one seat.
type MemberStatus struct {
	Seat      string          `json:"seat"`
	Name      string          `json:"name"`
	Label     string          `json:"label"`   // name, told apart where two seats carry one
	Verdict   string          `json:"verdict"` // unconfirmed, agreed, contested
	Usable    bool            `json:"usable"`
	Session   bool            `json:"session"`
	Own       bool            `json:"own"`
	Founder   bool            `json:"founder"`
	Role      Role            `json:"role"`
	Operators int             `json:"operators"`     // that show it
	Two       bool            `json:"two,omitempty"` // its own key signed two announcements of its newest version
	Marks     map[string]Mark `json:"marks"`
	Missing   uint64          `json:"missing,omitempty"`  // messages of it that did not arrive, between those that did
	Verified  *Verified       `json:"verified,omitempty"` // in person, by this device's owner
	SameOn    string          `json:"same_on,omitempty"`  // label of the member on whose device the key was the same
}

// Verified says that a person compared a code with the member's own device.
type Verified struct {
	By      CodeKind  `json:"by"`
	Time    time.Time `json:"time"`
	Key     string    `json:"key"`     // that was compared, hex
	Earlier bool      `json:"earlier"` // the seat has another key now: it *was* verified
}

// Paths answers GetPaths: messages × relays, newest last.
type Paths struct {
	Relays   []string   `json:"relays"`          // labels
	Aside    []string   `json:"aside,omitempty"` // of those that are set aside: they do not count
	Messages []PathsRow `json:"messages"`
	Times    []PathTime `json:"times"` // of the relays in use
}

// PathTime is how long one relay takes and may take, as learned since this process
// opened the membership (docs/protocol.md section 9.1).
type PathTime struct {
	Relay    string `json:"relay"`    // label
	Delays   int    `json:"delays"`   // messages that it is known from, at most 64
	Usual    int64  `json:"usual_ms"` // half of them came within it after the first relay showed them
	Deadline int    `json:"deadline"` // seconds, then it is silent for a message
	Learned  bool   `json:"learned"`  // the deadline follows from the delays; else it is the policy's
}

// PathsRow is one message.
type PathsRow struct {
	ID      string `json:"id"`
	Member  string `json:"member"`
	Text    string `json:"text"`
	Verdict string `json:"verdict"`
	// Operators with a relay that matched, and of how many: those of the message's
	// time that are not set aside. A declared family is one.
	Operators int             `json:"operators"`
	Of        int             `json:"of"`
	Marks     map[string]Mark `json:"marks"`
	Digests   []string        `json:"digests,omitempty"` // labels of relays that match it by its digest alone
}

// CodeInfo answers GetCode.
type CodeInfo struct {
	Code   string   `json:"code"`           // twelve groups of five digits
	Also   []string `json:"also,omitempty"` // pair: of the other signing keys, where the member's own key signed two announcements
	Kind   CodeKind `json:"kind"`
	Text   string   `json:"text"` // the text form, for another device to scan
	Of     string   `json:"of"`
	Own    string   `json:"own"`    // own name
	Device string   `json:"device"` // beginning of the own seat, as group codes carry it
	Seats  int      `json:"seats"`
	// Without are, of a group, the labels of members whose keys are not used here: on
	// a device where they are, the digits are others.
	Without []string `json:"without,omitempty"`
	Usable  bool     `json:"usable"`
}

// ConfirmInfo answers ConfirmCode and UndoConfirm.
type ConfirmInfo struct {
	Member   string   `json:"member"` // label
	Seat     string   `json:"seat"`
	Kind     CodeKind `json:"kind"`
	Verified bool     `json:"verified"` // in person; false: taken back
	Verdict  string   `json:"verdict"`  // of the relays, which no code changes
	Usable   bool     `json:"usable"`
	Same     int      `json:"same"` // others that the member's device shows the same, or whose mark went with it
}

// EvidenceInfo describes evidence held.
type EvidenceInfo struct {
	ID       string    `json:"id"`
	Relay    string    `json:"relay"` // label
	Operator string    `json:"operator"`
	Sentence string    `json:"sentence"`
	Time     time.Time `json:"time"`
	Text     string    `json:"text,omitempty"`
}

// Why a wish is refused. Each has one exit code in cmd/parallax.
var (
	ErrNotReady   = errors.New("this membership is not ready: it has not joined yet")
	ErrSuperseded = errors.New("another installation took over this seat: it sends nothing any more")
	ErrTaken      = errors.New("this membership exists already")
	ErrNotAdmin   = errors.New("only an owner or admin of the group can do this")
	ErrNoSuch     = errors.New("there is nothing of that name")
	ErrAmbiguous  = errors.New("that name fits more than one")
	ErrContested  = errors.New("the key is contested: the relays do not agree on it")
	ErrRefused    = errors.New("a relay refused")
	ErrUnreached  = errors.New("the relays could not be reached")
	ErrGenesis    = errors.New("what the relays show is not the group of this link")
	ErrTooLong    = errors.New("the text is longer than a message may be")
	ErrOutboxFull = errors.New("too many messages wait for receipts")
	ErrExpired    = errors.New("the invitation has expired or is used up")

	ErrTooMany = errors.New("there are too many of these already")

	ErrCodeDiffers = errors.New("the codes differ")
)
