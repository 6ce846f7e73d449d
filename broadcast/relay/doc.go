// Package relay is the channel machine of an honest relay: one append-only log
// with a board beside it, and every mailbox told every number
// (docs/protocol.md sections 1, 7, 9 and 10). It implements broadcast.Machine
// and sees slots and envelopes as opaque bytes.
//
// # What it keeps
//
//   - Everything accepted (creation, bundle, digest, board write, grant, rotation)
//     is an entry of the log; numbers are dense from 1 within a lineage, and each has one
//     signed statement.
//   - What a link is told about new state waits for the turn that makes it
//     durable (Ready.Sends); what is pushed or read is durable already
//     (Ready.Now).
//   - Posting is idempotent: one post id has one number and one statement for
//     as long as its entry is kept. A board write is idempotent by name,
//     version and value, a registration by mailbox key.
//   - Several front-ends may run machines of one unit over one store. The
//     store's revision is the fence between them: a machine whose write is
//     refused reads its state again (Changed) and redoes every request that
//     was not answered yet. With Config.Shared a refusal that depends on
//     state is given only after the store confirmed that the state is the
//     newest.
//   - The posting key and the admin keys in force are those of the rotation with
//     the greatest ordinal. What a replaced key signed is refused, but a post
//     id that has its number keeps its answer. Grants end with the posting key
//     that was in force beside them.
//   - A relay shown a statement of its own that it cannot continue starts a
//     new lineage before it signs again. Requests that came in the same turn
//     are looked at after that.
//
// # What lies in the store
//
// Keys are the unit (16 bytes), a letter, and what the table says; a lineage
// (16) in a key keeps a front-end that missed its end from reading the next
// one's entries. Statements are whole (248 bytes), integers big endian.
//
//	m                  meta: format u8 = 3, relay key 32, channel 32, posting key
//	                   32, admins u8 count (admin key 32, rank u8), creation
//	                   statement (entry 1), head statement, first number kept
//	                   u64, head before it 32, its time u64, bytes kept u64,
//	                   board writes u64, mailbox changes u64, ordinal of the
//	                   rotation in force u64 (0: none), d of its Rotate 32
//	l lineage n        entry: kind u8, time u64, statement; then for a bundle:
//	                   hint 8, nonce 24, fan-out hash 32, slots digest 32,
//	                   exceptions bytes, envelope bytes, slots bytes; for a board
//	                   write: name 32, version u64, value bytes; for a digest:
//	                   hint 8, nonce 24, sealed digest 48
//	s lineage n        spine, what trimming reads: time u64, bytes u64, post id
//	                   16, chain head 32
//	i post id          its statement
//	b name             board: version u64, value digest 32, owner key 32, bytes of
//	                   the value u64, statement
//	v name             board: version u64, value
//	f hash             fan-out list: mailboxes, 16 bytes each
//	u hash             fan-out list: last number that uses it u64, mailboxes u32
//	x mailbox          mailbox: key 32, statement at its birth, the last number
//	                   it gets: lineage 16, u64 (zeros: it has no end)
//	p mailbox          hint, written lazily: last seen u64, how far it was read u64,
//	                   in which lineage 16 (absent: none)
//	g posting key      grant: uses u32, per hour u32, expires u64, revoked bool,
//	                   used u32, hour began u64, used in it u32
//	r                  marker: the store was restored, start a new lineage
//
// Times are Unix seconds; only retention, expiry and rates read them.
//
// A Machine is not safe for concurrent use; Open may be called from any
// goroutine.
package relay
