package proto

import (
	"parallax/broadcast"
	"parallax/crossverify"
)

// Caps. Sizes are bytes and defaults at once: both ends compile them in, since
// a frame that one may send the other must be able to take.
const (
	// MaxFrame is the longest frame, type and body: a Post with the most
	// slots, all of them first contacts, fits.
	MaxFrame = 8 << 20
	// MaxBoardPage is the longest body of a BoardPage.
	MaxBoardPage = 2 << 20
	// MaxMailboxes is the longest fan-out list, in mailboxes.
	MaxMailboxes = broadcast.MaxMailboxes
	// MaxEnvelope is the longest envelope.
	MaxEnvelope = broadcast.MaxEnvelope
	// MaxSlots is the longest slot block.
	MaxSlots = MaxMailboxes * broadcast.MaxSlotSize
	// MaxExceptions is the longest list of slot exceptions.
	MaxExceptions = broadcast.MaxExceptions
	// MaxBoardValue is the longest value of a board entry.
	MaxBoardValue = broadcast.MaxBoardValue
	// MaxToken is the longest token that lets somebody create a channel.
	MaxToken = 64
	// MaxName is the longest name of an operator or of a limit.
	MaxName = 64
	// MaxFamilies is how many family declarations a relay hands over.
	MaxFamilies = 4
	// MaxText is the longest sentence in a refusal and the longest address.
	MaxText = 256
	// MaxProof is the longest board proof.
	MaxProof = 2 + crossverify.MaxSiblings*32 + 1 + maxLeaf
	// MaxUnknown is the longest body of a type that this version does not
	// know: read, then refused or skipped.
	MaxUnknown = 64 << 10

	// MaxRotationStep is how far one Rotate may go beyond the ordinal in force:
	// far enough for a relay that was restored from an old backup, and so
	// little that no mistake uses the ordinals up. Default: 1,048,576.
	MaxRotationStep = 1 << 20
	// MaxAdmins is how many admin keys a channel has.
	MaxAdmins = 64
	// MaxEnded is how many mailboxes one Rotate ends.
	MaxEnded = 1024

	// MaxBoardEntries is how many entries a page has at most: what fits when
	// all values are empty.
	MaxBoardEntries = (MaxBoardPage - BoardPageSize) / minEntry
	// BoardPageSize is the length of a BoardPage without entries.
	BoardPageSize = 4 + 1 + crossverify.StatementSize
	// MaxWalk is how many places of the board's tree one BoardWalk asks for: as
	// many reads of a value may follow at the relay.
	MaxWalk = 64
	// MaxBoardNodes is the longest body of a BoardNodes: an entry or nodes for
	// each place, and as many bytes of values as a page has.
	MaxBoardNodes = MaxBoardPage
)

// Sizes of parts, in bytes.
const (
	sigSize       = 64
	statementSize = crossverify.StatementSize
	mailboxSize   = 16
	maxLeaf       = 32 + 8 + 32
	minEntry      = 32 + 8 + 4
	maxList       = 4 + MaxMailboxes*mailboxSize
	maxPut        = 16 + 32 + 8 + 4 + MaxBoardValue + 32 + sigSize + 32 + sigSize
	maxPost       = 16 + 8 + 24 + 32 + maxList + 4 + MaxExceptions + 4 + MaxEnvelope + 4 + MaxSlots + sigSize
	maxPrefix     = 2 + 32
	maxNodes      = crossverify.MaxNodes + 32<<crossverify.WalkLevels
	maxBlock      = 8 + maxList + 4 + MaxExceptions + 4 + MaxSlots
)

// A Post and a slot block always fit into MaxFrame.
const (
	_ = uint(MaxFrame - 1 - maxPost)
	_ = uint(MaxFrame - 1 - maxBlock)
)

// Nodes for the most places, and one entry more, always fit into MaxBoardNodes.
const _ = uint(MaxBoardNodes - statementSize - 1 - MaxWalk*(1+maxNodes) - minEntry - MaxBoardValue)

// MaxBody is the longest body in bytes that a frame of this type can have; a
// driver refuses a longer one before it reads it.
func MaxBody(t uint8) int {
	if l := layouts[t]; l.parse != nil {
		return l.max
	}
	return MaxUnknown
}

// FromMember tells whether t is a type that members send: nothing else is worth
// reading for a relay, but for telling what was refused.
func FromMember(t uint8) bool { return t >= TypeHello && t <= TypePostDigest }

// Name is the frame's name in section 10, for logs and metrics; "unknown" for
// a type this version does not know.
func Name(t uint8) string {
	if l := layouts[t]; l.parse != nil {
		return l.name
	}
	return "unknown"
}
