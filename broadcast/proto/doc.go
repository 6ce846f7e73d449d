// Package proto is what members and relays say to each other: one struct per
// frame of docs/protocol.md section 10, the inputs of the signatures in them,
// the framing on a stream, the caps per type, and the refusals of section 11.
//
// A message is a plain value; Encode makes a frame of it and Parse a message of
// a frame. Parse returns values, never pointers, so that a type switch names
// the struct itself: case proto.Post. Parsing is strict: what Append would not
// write is refused, so that one message has one encoding. Byte slices in a
// parsed message alias the frame's body, which nobody may change afterwards.
//
// Parse checks layout, order and lengths only. Signatures are checked by the
// Verify methods, meaning by the machines.
//
// Everything is a pure value or function and safe for concurrent use.
package proto

// Protocol is the libp2p protocol id of a link.
const Protocol = "/parallax/1"

// Version is the only version of the protocol that this package speaks.
const Version uint16 = 1

// Types of frames from member to relay.
const (
	TypeHello       uint8 = 0x01
	TypeInfo        uint8 = 0x02
	TypeCreate      uint8 = 0x03
	TypeGrant       uint8 = 0x04
	TypeRegister    uint8 = 0x05
	TypeOpen        uint8 = 0x06
	TypeAck         uint8 = 0x07
	TypeFetch       uint8 = 0x08
	TypePost        uint8 = 0x09
	TypeBoardPut    uint8 = 0x0a
	TypeAdmit       uint8 = 0x0b
	TypeBoardList   uint8 = 0x0c
	TypeBoardProve  uint8 = 0x0d
	TypeStatementOf uint8 = 0x0e
	TypeSlotBlock   uint8 = 0x0f
	TypePing        uint8 = 0x10
	TypeBye         uint8 = 0x11
	TypeRotate      uint8 = 0x12
	TypeBoardWalk   uint8 = 0x13
	TypePostDigest  uint8 = 0x14
)

// Types of frames from relay to member.
const (
	TypeWelcome     uint8 = 0x41
	TypeInfoIs      uint8 = 0x42
	TypeRegistered  uint8 = 0x43
	TypeOpened      uint8 = 0x44
	TypeDeliver     uint8 = 0x45
	TypeBare        uint8 = 0x46
	TypeEntry       uint8 = 0x47
	TypeTrimmed     uint8 = 0x48
	TypeCaughtUp    uint8 = 0x49
	TypeReceipt     uint8 = 0x4a
	TypeNeedFanout  uint8 = 0x4b
	TypeBoardPage   uint8 = 0x4c
	TypeBoardProof  uint8 = 0x4d
	TypeStatementIs uint8 = 0x4e
	TypeSlotBlockIs uint8 = 0x4f
	TypePong        uint8 = 0x50
	TypeRefused     uint8 = 0x51
	TypeLeaving     uint8 = 0x52

	TypeDeliverDigest uint8 = 0x53
	TypeBoardNodes    uint8 = 0x54
)

// Message is one frame's content: a value of one of the structs of this package.
type Message interface {
	// Type is the frame's type.
	Type() uint8
	// Append appends the body. It writes what it is given: a text, list or
	// value beyond its limit is refused by the Parse at the other end.
	Append(b []byte) []byte
}

// Signature is an Ed25519 signature; which key and which input, the field says.
type Signature = [64]byte

// Nonce is the relay's challenge in Welcome, fresh for every link.
type Nonce = [32]byte
