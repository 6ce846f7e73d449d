// Package simnet runs the machines that ship, members and relays, in virtual
// time: one event queue, one seed, no goroutine, no clock, no socket. It is
// the second driver of broadcast.Machine beside package node, and keeps the
// same law: inputs are stepped together, a write is durable before what
// depends on it is sent, and what is sent is shown after that.
//
// It guarantees that a seed decides everything: the same World with the same
// seed gives the same trace, byte for byte (World.Trace), on any computer. An
// actor draws from a stream of its own, so that adding one does not shift what
// the others draw.
//
// Links are streams: frames arrive in order or the link breaks. What may go
// wrong is delay, a stall, a broken link, a partition, an outage, a crash at
// any moment with writes half done, a disk restored from an older copy, and
// clocks that disagree. Package adversary adds relays that lie.
//
// A World belongs to one goroutine; two worlds share nothing.
package simnet
