// Package cli is what the commands of floor 6 share: exit codes, talk and
// data, tables, JSON, QR codes, relay addresses, units, strict TOML, key files.
//
// Data goes to stdout, talk to stderr, so that a pipe carries data alone. Every
// command ends with one line and one of the exit codes of exit.go
// (docs/protocol.md section 11 has those of refusals). What a relay or another
// member wrote passes Clean before a terminal sees it.
//
// A Streams belongs to one command; nothing here is safe for concurrent use
// unless it says so.
package cli
