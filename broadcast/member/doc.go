// Package member is the member's side of docs/protocol.md: one membership is
// one machine (broadcast.Machine) without I/O, clock or randomness of its own.
//
// It guarantees: a message is handed to the application once, from the first
// path whose slot opens; nothing is encrypted to a key before its seat's
// admission is usable; what a relay does to one path changes that path's
// status only, and a relay is set aside only by evidence, which is its own
// signatures; nothing is encrypted twice for one sequence, whatever crashes.
//
// A machine is not safe for concurrent use; everything else here is a pure
// value. The files: genesis, announcement, admission, invite, welcome, link
// and content are the objects; command and query are what users ask and see;
// machine and state are the frame of a membership; path, board and seats are
// what the relays show; found, join and inviting how people come in; prekeys,
// sessions, mixing, starts and resync how two members agree on keys, reinforce how
// they mix post-quantum ones later; recipients, send and outbox how a message
// leaves; receive, held, sequences, retention and message how one comes; compare is
// what follows when paths differ; code and confirm what people compare;
// coalition, delivery, delivered and deliveryrecord answer who could collude and who
// has a text; carriers and digests are digest mode; receipts keep what relays signed for own board writes; atrest,
// backup and restored what becomes of records. The roster files are the log of who
// is in the group, a value of its own that no machine reads yet.
package member
