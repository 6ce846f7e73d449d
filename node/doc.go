// Package node runs machines for real: over libp2p, on a disk, by the clock of
// the computer (docs/protocol.md sections 10 to 12, docs/architecture.md
// "Machines and drivers").
//
// Driver is the one driver of real machines: it Steps what waits, writes the
// batches of many machines in one store.Apply, and lets nothing leave before
// it is durable. A Relay and a Member are each a Driver with links: held
// libp2p streams that carry frames. Client is how commands speak to a data
// folder, in the process that holds its lock or over its socket, with the same
// behaviour.
//
// Everything exported is safe for concurrent use, except that Hooks are called
// by one loop at a time for one unit. What a peer may cost is bounded here:
// connections, streams, bytes waiting before Step, bytes waiting to be sent.
package node
