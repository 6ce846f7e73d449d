package member

import "errors"

// Standing is what a relay is to the group, as far as this device knows.
type Standing string

const (
	StandingInUse   Standing = "in use"  // of the list that counts here
	StandingComing  Standing = "coming"  // of the newest list, which is not in use here yet: read and posted to
	StandingLeaving Standing = "leaving" // in use, and not of the newest list: it ends when that is in use
	StandingMaking  Standing = "making"  // an admin prepares it on this device; no list has it
	StandingRetired Standing = "retired" // not of the list in use: nothing is posted to it, what it keeps is read to its end
	StandingClosed  Standing = "closed"  // retired, and no link to it is wanted any more
)

// AddRelay adds a relay to the group: its channel is made, what newcomers need
// is carried over, then the roster gets the longer list. For admins. Answer:
// RelayChange, when the list is in use on this device, or when the policy's
// deadline passed since the operation was made. Errors: ErrNotAdmin,
// ErrRelayTwice, ErrRelayMany, ErrRefused and ErrUnreached (nothing was changed).
type AddRelay struct {
	Relay FoundingSpot `json:"relay"`
}

// RetireRelay takes a relay out of the list. Relay is its label (R2), its
// operator's name, its key in hex or a unique beginning of that, of four digits
// at least. Answer: RelayChange. Errors: ErrNotAdmin, ErrNoSuch, ErrAmbiguous,
// ErrRelayLast.
type RetireRelay struct {
	Relay string `json:"relay"`
}

// ReplaceRelay is AddRelay and RetireRelay in one operation. Answer and errors:
// theirs, and ErrNoSpare.
type ReplaceRelay struct {
	Relay string       `json:"relay"` // that goes
	By    FoundingSpot `json:"by"`    // that comes; without key and addresses: a spare one (AddSpare)
}

func (AddRelay) Wish() string     { return "relay-add" }
func (RetireRelay) Wish() string  { return "relay-retire" }
func (ReplaceRelay) Wish() string { return "relay-replace" }

// RelayChange answers AddRelay, RetireRelay and ReplaceRelay. The list itself is
// in Status: Relays, and Former for those that were retired.
type RelayChange struct {
	Ordinal uint32 `json:"ordinal"`           // of the new list
	Added   string `json:"added,omitempty"`   // label
	Retired string `json:"retired,omitempty"` // label
	// InUse: enough relays of the list before and of the new one show the
	// operation, and the new list counts on this device. Otherwise it will when
	// they do; until then both lists are read and posted to.
	InUse bool `json:"in_use"`
	// Waiting are the labels of relays that do not show the operation yet.
	Waiting []string `json:"waiting,omitempty"`
}

// Why a change of the relays is refused.
var (
	ErrRelayTwice = errors.New("this relay is in the group's list already")
	ErrRelayMany  = errors.New("the group has as many relays as it can have: retire or replace one")
	ErrRelayBusy  = errors.New("the group's relays are being changed already: wait until the new list is in use")
	ErrRelayLast  = errors.New("this is the group's only relay: replace it instead")
)
