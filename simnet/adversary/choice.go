package adversary

import (
	"slices"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// Newcomers chooses the fork for the next n mailboxes that register, for the
// link on which each registers, for those that open it later, and for the next
// n links that bring an admission: by its time, the newcomer's own.
func Newcomers(n int) func(Place, proto.Message) Side {
	var boxes []wire.MailboxID
	admitted := 0
	return func(at Place, m proto.Message) Side {
		switch m := m.(type) {
		case proto.Register:
			id := proto.MailboxOf(at.Relay, at.Channel, m.Mailbox)
			if len(boxes) < n && !slices.Contains(boxes, id) {
				boxes = append(boxes, id)
			}
			if slices.Contains(boxes, id) {
				return Forked
			}
			return Truth
		case proto.Open:
			if slices.Contains(boxes, m.Mailbox) {
				return Forked
			}
			return Truth
		case proto.Admit:
			if admitted < len(boxes) {
				admitted++
				return Forked
			}
		}
		return Undecided
	}
}
