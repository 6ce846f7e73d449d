package member

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// OperationBody is what an operation does: one of the Op types below.
type OperationBody interface {
	kind() uint8
	append(b []byte) []byte
	check(o *Operation) error
}

// Kinds of operations on the wire.
const (
	opInvite uint8 = 1 + iota
	opAdd
	opAdopt
	opRemove
	opRole
	opRelays
	opPolicy
	opEpoch
	opLeave
	opRevoke
	opSpares // roster_spares.go
)

type (
	// OpInvite issues an invite. The record is signed by the same author.
	// Postings are the posting keys of the invite on the relays that it names, so
	// that every admin can end it there: at most MaxRelays, strictly ascending by
	// relay key.
	OpInvite struct {
		Record   InviteRecord
		Postings []Posting
	}

	// OpAdd admits a seat directly, or approves one that asked.
	OpAdd struct {
		Seat         wire.Seat
		Announcement wire.Digest // that was admitted
		Role         uint8
	}

	// OpAdopt makes complete admissions signed facts.
	OpAdopt struct{ Seats []Adopted } // 1 to MaxAdopted, strictly ascending by seat

	// OpRemove puts a seat out. Of its operations those count that the remover
	// knew; of its messages those up to the cut.
	OpRemove struct {
		Seat wire.Seat
		Cut  Cut
	}

	// OpRole gives a member another role, for what it says after the cut. One that
	// takes something away makes void, as a removal does, what its subject did
	// beside it.
	OpRole struct {
		Seat wire.Seat
		Role uint8
		Cut  Cut
	}

	// OpRelays replaces the relay list.
	OpRelays struct {
		Ordinal uint32 // that of the list before + 1; the genesis' is 0
		Relays  []RelayRef
	}

	// OpPolicy replaces the policy.
	OpPolicy struct{ Policy Policy }

	// OpEpoch begins an epoch.
	OpEpoch struct {
		Number     uint64        // NewEpochNumber of what it merges and its commitment
		Commitment wire.Digest   // EpochCommitment of its key
		Merges     []wire.Digest // every epoch head its author knew: 1 to MaxMerged, strictly ascending
		Postings   []Posting     // 1 to MaxRelays, strictly ascending by relay key
	}

	// OpLeave takes its author out.
	OpLeave struct{}

	// OpRevoke ends an invite, whoever issued it and whenever.
	OpRevoke struct{ Invite [16]byte }
)

// Adopted is one admission that an admin vouches for.
type Adopted struct {
	Seat         wire.Seat
	Announcement wire.Digest
	Invite       [16]byte // zero: the seat was admitted by an operation that is void
	Role         uint8    // RoleMember or RoleReader
}

// Cut is what still counts of a removed seat, or as in its role before.
type Cut struct {
	Operation   wire.Digest // its newest operation that the author knew; zero: none
	Incarnation wire.Incarnation
	Sequence    uint64 // of its newest message that the author knew, within Incarnation; 0: none
}

func (c *Cut) append(to []byte) []byte {
	to = append(append(to, c.Operation[:]...), c.Incarnation[:]...)
	return wire.AppendU64(to, c.Sequence)
}

func readCut(r *wire.Reader) (c Cut) {
	r.Fixed(c.Operation[:])
	r.Fixed(c.Incarnation[:])
	c.Sequence = r.U64()
	return c
}

// Posting is what a relay is told to take posts by in an epoch.
type Posting struct {
	Relay keys.RelayPublic
	Key   keys.PostingPublic
}

func (OpInvite) kind() uint8 { return opInvite }
func (OpAdd) kind() uint8    { return opAdd }
func (OpAdopt) kind() uint8  { return opAdopt }
func (OpRemove) kind() uint8 { return opRemove }
func (OpRole) kind() uint8   { return opRole }
func (OpRelays) kind() uint8 { return opRelays }
func (OpPolicy) kind() uint8 { return opPolicy }
func (OpEpoch) kind() uint8  { return opEpoch }
func (OpLeave) kind() uint8  { return opLeave }
func (OpRevoke) kind() uint8 { return opRevoke }

func (b OpInvite) append(to []byte) []byte { return appendPostings(b.Record.Append(to), b.Postings) }

func (b OpAdd) append(to []byte) []byte {
	to = append(to, b.Seat[:]...)
	to = append(to, b.Announcement[:]...)
	return append(to, b.Role)
}

func (b OpAdopt) append(to []byte) []byte {
	to = append(to, uint8(len(b.Seats)))
	for i := range b.Seats {
		a := &b.Seats[i]
		to = append(to, a.Seat[:]...)
		to = append(to, a.Announcement[:]...)
		to = append(to, a.Invite[:]...)
		to = append(to, a.Role)
	}
	return to
}

func (b OpRemove) append(to []byte) []byte {
	return b.Cut.append(append(to, b.Seat[:]...))
}

func (b OpRole) append(to []byte) []byte {
	return b.Cut.append(append(append(to, b.Seat[:]...), b.Role))
}

func (b OpRelays) append(to []byte) []byte {
	return appendRelays(wire.AppendU32(to, b.Ordinal), b.Relays)
}

func (b OpPolicy) append(to []byte) []byte { return appendPolicy(to, &b.Policy) }

func (b OpEpoch) append(to []byte) []byte {
	to = wire.AppendU64(to, b.Number)
	to = append(to, b.Commitment[:]...)
	to = append(to, uint8(len(b.Merges)))
	for i := range b.Merges {
		to = append(to, b.Merges[i][:]...)
	}
	return appendPostings(to, b.Postings)
}

func (OpLeave) append(to []byte) []byte { return to }

func (b OpRevoke) append(to []byte) []byte { return append(to, b.Invite[:]...) }

// readOperationBody reads the kind and what follows it. A kind of a later
// version is ErrNewerFormat: to leave it out would make another roster.
func readOperationBody(r *wire.Reader) OperationBody {
	switch kind := r.U8(); kind {
	case opInvite:
		raw := r.Raw(inviteRecordSize)
		if raw == nil {
			return nil
		}
		rec, err := ParseInviteRecord(raw)
		if err != nil {
			r.Fail(err)
			return nil
		}
		return OpInvite{Record: *rec, Postings: readPostings(r)}
	case opAdd:
		var b OpAdd
		r.Fixed(b.Seat[:])
		r.Fixed(b.Announcement[:])
		b.Role = r.U8()
		return b
	case opAdopt:
		var b OpAdopt
		for range readCount8(r, MaxAdopted) {
			var a Adopted
			r.Fixed(a.Seat[:])
			r.Fixed(a.Announcement[:])
			r.Fixed(a.Invite[:])
			a.Role = r.U8()
			b.Seats = append(b.Seats, a)
		}
		return b
	case opRemove:
		var b OpRemove
		r.Fixed(b.Seat[:])
		b.Cut = readCut(r)
		return b
	case opRole:
		var b OpRole
		r.Fixed(b.Seat[:])
		b.Role = r.U8()
		b.Cut = readCut(r)
		return b
	case opRelays:
		return OpRelays{Ordinal: r.U32(), Relays: readRelays(r)}
	case opPolicy:
		return OpPolicy{Policy: readPolicy(r)}
	case opEpoch:
		b := OpEpoch{Number: r.U64()}
		r.Fixed(b.Commitment[:])
		b.Merges = readDigests(r, MaxMerged)
		b.Postings = readPostings(r)
		return b
	case opLeave:
		return OpLeave{}
	case opRevoke:
		var b OpRevoke
		r.Fixed(b.Invite[:])
		return b
	case opSpares:
		return readSpares(r)
	case 0:
		r.Fail(wire.ErrFormat)
	default:
		r.Fail(ErrNewerFormat)
	}
	return nil
}

func appendPostings(to []byte, list []Posting) []byte {
	to = append(to, uint8(len(list)))
	for _, p := range list {
		to = append(append(to, p.Relay[:]...), p.Key[:]...)
	}
	return to
}

func readPostings(r *wire.Reader) (list []Posting) {
	for range readCount8(r, MaxRelays) {
		var p Posting
		r.Fixed(p.Relay[:])
		r.Fixed(p.Key[:])
		list = append(list, p)
	}
	return list
}

// checkPostings: each relay stands once, so that a list is written in one way
// only.
func checkPostings(list []Posting) error {
	if len(list) > MaxRelays {
		return fmt.Errorf("posting keys of %d relays, at most %d: %w", len(list), MaxRelays, wire.ErrFormat)
	}
	for i := 1; i < len(list); i++ {
		if !ascending(list[i-1].Relay[:], list[i].Relay[:]) {
			return fmt.Errorf("its relays are not strictly ascending: %w", wire.ErrFormat)
		}
	}
	return nil
}

// inviteRecordSize is the length of InviteRecord.Append.
const inviteRecordSize = 146

func (b OpInvite) check(o *Operation) error {
	if b.Record.Group != o.Group {
		return fmt.Errorf("invite: the record is another group's: %w", wire.ErrFormat)
	}
	if err := checkPostings(b.Postings); err != nil {
		return fmt.Errorf("invite: %w", err)
	}
	return b.Record.Check()
}

func (b OpAdd) check(*Operation) error {
	if privilege(b.Role) == 0 {
		return fmt.Errorf("add: role %d is unknown: %w", b.Role, wire.ErrFormat)
	}
	return nil
}

func (b OpAdopt) check(*Operation) error {
	if len(b.Seats) == 0 || len(b.Seats) > MaxAdopted {
		return fmt.Errorf("adopt: 1 to %d seats, not %d: %w", MaxAdopted, len(b.Seats), wire.ErrFormat)
	}
	for i := range b.Seats {
		if err := checkInviteRole(b.Seats[i].Role); err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
		if i > 0 && !ascending(b.Seats[i-1].Seat[:], b.Seats[i].Seat[:]) {
			return fmt.Errorf("adopt: its seats are not strictly ascending: %w", wire.ErrFormat)
		}
	}
	return nil
}

func (b OpRemove) check(o *Operation) error {
	if b.Seat == o.Seat() {
		return fmt.Errorf("remove: nobody removes itself; it leaves: %w", wire.ErrFormat)
	}
	return nil
}

func (b OpRole) check(*Operation) error {
	if privilege(b.Role) == 0 {
		return fmt.Errorf("role: role %d is unknown: %w", b.Role, wire.ErrFormat)
	}
	return nil
}

// check borrows the genesis' rules: what a founder could not begin with, an
// admin cannot change to.
func (b OpRelays) check(o *Operation) error {
	if b.Ordinal == 0 {
		return fmt.Errorf("relays: list 0 is the genesis': %w", wire.ErrFormat)
	}
	g := Genesis{Name: "relays", Founder: o.Author, Relays: b.Relays,
		Policy: Policy{Mode: ModeOpen, Suite: Suite1, Deadline: time.Second, Retention: time.Second}}
	return g.Check()
}

// check leaves open whether the policy can be met: that depends on the relays in
// force.
func (b OpPolicy) check(*Operation) error {
	_, err := b.Policy.check()
	return err
}

func (b OpEpoch) check(*Operation) error {
	if len(b.Merges) == 0 || len(b.Merges) > MaxMerged {
		return fmt.Errorf("epoch: it merges 1 to %d epochs, not %d: %w", MaxMerged, len(b.Merges), wire.ErrFormat)
	}
	for i := 1; i < len(b.Merges); i++ {
		if !ascending(b.Merges[i-1][:], b.Merges[i][:]) {
			return fmt.Errorf("epoch: what it merges is not strictly ascending: %w", wire.ErrFormat)
		}
	}
	if len(b.Postings) == 0 {
		return fmt.Errorf("epoch: it has no posting keys: %w", wire.ErrFormat)
	}
	if err := checkPostings(b.Postings); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	if generation(b.Number) == 0 || uint32(b.Number) != binary.BigEndian.Uint32(b.Commitment[:4]) {
		return fmt.Errorf("epoch: number %d does not go with its commitment: %w", b.Number, wire.ErrFormat)
	}
	return nil
}

func (OpLeave) check(*Operation) error  { return nil }
func (OpRevoke) check(*Operation) error { return nil }

func ascending(a, b []byte) bool { return bytes.Compare(a, b) < 0 }

// privilege orders roles by what they may do; 0: no role.
func privilege(role uint8) int {
	switch role {
	case RoleReader:
		return 1
	case RoleMember:
		return 2
	case RoleAdmin:
		return 3
	case RoleOwner:
		return 4
	}
	return 0
}
