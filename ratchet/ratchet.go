// Package ratchet holds the pairwise sessions of docs/protocol.md section 5:
// a start by PQXDH from the prekeys of an announcement (Signal's
// specification, revision 3, last-resort prekeys only), then the Double
// Ratchet (Signal's specification, revision 4). The only payload is the
// 32-byte content key of one envelope; what carries it is a slot of 88 bytes.
//
//	handshake part (1128)  EK 32 | ML-KEM-768 ciphertext 1088 | prekey id u32 | kem id u32
//	hello slot (1264)      handshake part | share space 48 | slot of message 0
//	answering slot (136)   share space 48 | slot
//	control slot (1180)    ML-KEM-768 ciphertext 1088 | kem id u32 | slot
//	slot (88)              masked header 40 | ciphertext 32 | tag 16
//	header (40)            ratchet key 32 | N u32 | root mixes u8 | PN u24
//
// What it guarantees:
//
//   - A slot opens once, for the envelope digest, the seats and the session it
//     was sealed for, and for no other.
//   - Nothing changes before a slot has been authenticated: after an error a
//     Session, its SendChain and its record are what they were.
//   - A late slot opens however many DH steps its pair has made since, as long
//     as its key is kept: keys of skipped messages are stored one by one.
//   - A forged header costs at most one X25519 (two directly after a session
//     was read from its record) and 2 * MaxForwardJump chain steps, and stores
//     nothing.
//
// A sending chain lies outside its Session, as a SendChain: the member keeps
// those of a whole group in one vector, which is all that a send rewrites.
//
// A first contact may be path-mixed (InitiateMixed, AcceptMixed, OpenAnswer): a
// secret of each side is shared over the paths and enters the root keys, so that
// who lacks the shares of k paths can neither open nor make a slot, even with
// every other key of the start. Neither this nor the rest of the package has been
// reviewed by anybody independent. Post-quantum means confidentiality of the
// start against recording, not authentication; and of what follows a control
// slot (Reinforce, SealControl, OpenControl), where a caller uses those.
//
// A Session belongs to one goroutine at a time. Randomness, time and ML-KEM
// encapsulation are parameters. Go keeps copies of keys inside its crypto
// objects until they are collected; everything held here is overwritten when it
// is not needed any more.
package ratchet

import "errors"

// Tags (docs/protocol.md sections 5 and 2). Those of HKDF are its info as they
// stand; those of shares go through wire.Input with the relay key; tagFirst,
// tagPaths, tagAnswer, tagEncapsulation and tagGroupCode through wire.Hash.
const (
	tagStart           = "parallax/1/pqxdh"
	tagFirst           = "parallax/1/first"
	tagPaths           = "parallax/1/paths"
	tagAnswer          = "parallax/1/answer"
	tagMixInitiator    = "parallax/1/mix/initiator"
	tagMixResponder    = "parallax/1/mix/responder"
	tagShareInitiator  = "parallax/1/share/initiator"
	tagShareResponder  = "parallax/1/share/responder"
	tagHeaderInitiator = "parallax/1/header/initiator"
	tagHeaderResponder = "parallax/1/header/responder"
	tagRoot            = "parallax/1/root"
	tagGroupCode       = "parallax/1/group-code"
	tagEncapsulation   = "parallax/1/encapsulation"
	tagMixKEM          = "parallax/1/mix/kem"
)

// Sizes in bytes.
const (
	HandshakeSize     = 32 + 1088 + 4 + 4                    // the handshake part of a hello
	ShareSize         = 48                                   // a sealed share
	SlotSize          = headerSize + 32 + tagSize            // 88, standing sessions
	HelloSlotSize     = HandshakeSize + ShareSize + SlotSize // 1264, first contact
	AnsweringSlotSize = ShareSize + SlotSize                 // 136, until confirmed
	ControlSlotSize   = 1088 + 4 + SlotSize                  // 1180, carries an encapsulation
	SendChainSize     = 4 + 4 + 32                           // one entry of the vector

	headerSize = 32 + 4 + 4
	tagSize    = 16
)

// Limits (docs/protocol.md section 12).
const (
	// MaxForwardJump bounds the messages one slot may skip in one chain:
	// MAX_SKIP of the Double Ratchet, section 3.1.
	MaxForwardJump = 25_000
	// MaxSkipped bounds the message keys kept in one session for slots that
	// have not come yet. A bound over all sessions of a membership is the
	// caller's: Skipped, DropSkipped, DropOldest.
	MaxSkipped = 2_000
	// MaxPaths bounds the relays of a policy, and so the shares of a secret.
	MaxPaths = 16
	// MaxChain bounds the messages of one chain, since PN has 3 bytes.
	MaxChain = 1<<24 - 1
)

// Errors: one for each cause. Session and SendChain are unchanged with each,
// but for a share that OpenAnswer staged.
var (
	// ErrAuth: forged, altered, for another envelope or another session; or a
	// duplicate from a chain of which no key is left.
	ErrAuth = errors.New("slot is not authentic")
	// ErrDuplicate: the slot's chain is known and the slot's key was used or
	// dropped. Said before anything is authenticated.
	ErrDuplicate = errors.New("slot was opened before, or its key was dropped")
	// ErrJump: the header skips more than MaxForwardJump messages of a chain.
	// Said before anything is authenticated.
	ErrJump = errors.New("slot lies too far ahead in its chain")
	// ErrFull: authentic, but opening it would store more than MaxSkipped
	// keys. Drain the mailboxes first, then use OpenDrained.
	ErrFull = errors.New("slot skips more messages than keys may be kept")
	// ErrPrekey: the hello was made from prekeys that are not held (any more).
	// The other side has to start again from a newer announcement.
	ErrPrekey = errors.New("hello names prekeys that are not held")
	// ErrIdentity: the private identity key is not that of the own seat.
	ErrIdentity = errors.New("identity key is not the seat's")
	// ErrSelf: both ends would be one seat.
	ErrSelf = errors.New("a seat has no session with itself")
	// ErrProvisional: a responder's session whose message 0 has not opened
	// proves nothing yet and has no record.
	ErrProvisional = errors.New("message 0 has not opened yet")
	// ErrRolledBack: the send chain is of a later generation than the session:
	// the record is an old copy, and sending from it would use keys twice.
	ErrRolledBack = errors.New("session record is older than its send chain")
	// ErrExhausted: 2^32 - 1 DH steps; start a new session.
	ErrExhausted = errors.New("session has no generation left")
	// ErrPaths: a policy that is none: k not within 1 and the number of relays,
	// too many of them, or not ascending.
	ErrPaths = errors.New("not a policy of paths")
	// ErrPath: a share came on a path that the policy does not have.
	ErrPath = errors.New("relay is not a path of this first contact")
	// ErrShare: a share does not open on the path it came on, or differs from
	// the one before: that path failed.
	ErrShare = errors.New("share does not open on this path")
	// ErrShares: shares of the answer are missing. Not a failure: the slot may
	// open when another path has brought its share.
	ErrShares = errors.New("too few shares of the answer have come")
	// ErrUnconfirmed: the peer is not known to have the session yet.
	ErrUnconfirmed = errors.New("session is not confirmed yet")
	// ErrPending: the peer may still mix the encapsulation before.
	ErrPending = errors.New("an encapsulation is still on its way")
	// ErrVersion: a record of a format this version does not know.
	ErrVersion = errors.New("unknown session record format")
)
