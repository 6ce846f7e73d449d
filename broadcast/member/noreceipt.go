package member

import (
	"fmt"
	"time"

	"parallax/broadcast/proto"
	"parallax/crossverify"
)

// receiptPing is the value of the Ping that asks a link whether it lives. The
// driver's own Pings have others.
const receiptPing = 1

// pingMost is how long an answer to it is waited for: a link on which nothing
// comes for that long the driver has closed, so one that still stands carries
// answers to the driver's own Pings. Default: 2 min.
const pingMost = 2 * time.Minute

// noReceipts marks the paths whose relay takes posts and answers none of them: a
// failed path, told once. Before that the link is asked whether it lives: a relay
// that went and came back is heard on another link while this one, which leads
// nowhere, does not know it yet. What it took may be delivered or not; the post
// stays in the outbox and is sent again on the next link.
func (m *Machine) noReceipts() {
	for _, p := range m.paths {
		if p.post.pinging && !m.now.Before(p.post.pinged.Add(pingMost)) {
			p.post.pinging = false
		}
		for _, q := range p.queue {
			due := q.sentAt.Add(m.deadlineNow())
			if !m.unanswered(q) || m.now.Before(due) || p.post.pinging {
				continue
			}
			if p.post.pinged.Before(due) {
				p.post.pinged, p.post.pinging = m.now, true
				m.send(p.post.link, proto.Ping{Value: receiptPing})
				continue
			}
			q.overdue = true
			if p.post.unanswered {
				continue
			}
			p.post.unanswered = true
			p.problem = fmt.Sprintf("relay %s gives no receipts", p.label())
			p.stats[crossverify.Failed]++
			m.savePath(p)
			m.relayEvent(p, "receipts", "", fmt.Sprintf("Relay %s takes what you post and gives no receipt for it: others may not get it from there. The other relays carry it, and it is sent there again. Nothing for you to do.", p.name()))
		}
	}
}

// unanswered: a post is on its way, and whoever is in the group may wonder why.
func (m *Machine) unanswered(q *postItem) bool {
	return q.inFlight && !q.overdue && m.genesis != nil && m.isMember()
}

// nextOverdue is when noReceipts has something to look at; zero: never.
func (m *Machine) nextOverdue() (t time.Time) {
	for _, p := range m.paths {
		if at := p.post.pinged.Add(pingMost); p.post.pinging && len(p.queue) > 0 && (t.IsZero() || at.Before(t)) {
			t = at
		}
		if p.post.unanswered || p.post.pinging {
			continue
		}
		for _, q := range p.queue {
			if at := q.sentAt.Add(m.deadlineNow()); m.unanswered(q) && (t.IsZero() || at.Before(t)) {
				t = at
			}
		}
	}
	return t
}

func (m *Machine) deadlineNow() time.Duration {
	if m.genesis == nil {
		return DefaultDeadline
	}
	return m.policy().Deadline
}
