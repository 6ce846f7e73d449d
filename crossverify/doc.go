// Package crossverify holds what members compare relays by: the statements a
// relay signs, the hash chain and the board tree they commit to, the evidence
// that convicts a relay by its own signatures, the policy that says which
// operators are enough, the ledger that compares what the paths showed, and the
// smallest coalitions that could defeat it (docs/protocol.md sections 7 and 9).
//
// No majority of relays outvotes a signature, and nobody is convicted by what
// others say. testdata has both as models for Spin; TestModel runs them, and
// TestHonestNeverConvicted and TestModelLedger ask the code the same.
//
// Everything here is a pure value or a pure function of its arguments: times
// and signature checks come in from outside. A Tree and a Ledger belong to one
// goroutine; a Clone of a Tree may be read in another.
package crossverify
