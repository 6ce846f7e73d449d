// Package broadcast is the vocabulary of a message that goes out over several
// relays at once: the contract of the machines that play the roles, the
// envelope, the bundle with one slot per member, the masks that keep two
// relays' copies apart, and the sealed board entries.
//
// Its roles are sub-packages: broadcast/relay keeps channels, broadcast/member
// keeps memberships, broadcast/proto is what they say to each other. The
// layouts are docs/protocol.md sections 6 to 8. Slots are opaque here: only
// package ratchet opens one.
//
// Functions are pure and safe for concurrent use; a Machine is not.
package broadcast
