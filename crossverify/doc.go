// Package crossverify holds what members compare relays by: the statements a
// relay signs, the hash chain and the board tree they commit to, the evidence
// that convicts a relay by its own signatures, and the ledger that compares
// what the paths showed (docs/protocol.md sections 7 and 9).
//
// Everything here is a pure value or a pure function of its arguments: times
// and signature checks come in from outside. A Tree and a Ledger belong to one
// goroutine; a Clone of a Tree may be read in another.
package crossverify
