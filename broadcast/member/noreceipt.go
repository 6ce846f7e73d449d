package member

import (
	"fmt"
	"time"

	"parallax/crossverify"
)

// noReceipts marks the paths whose relay takes posts and answers none of them: a
// failed path, told once. What it took may be delivered or not; the post stays in
// the outbox and is sent again on the next link.
func (m *Machine) noReceipts() {
	for _, p := range m.paths {
		for _, q := range p.queue {
			if !m.unanswered(p, q) || m.now.Before(q.sentAt.Add(m.policy().Deadline)) {
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

// unanswered: a relay that said something since, but not this. One that says
// nothing at all may be down, and its link not know it yet.
func (m *Machine) unanswered(p *path, q *postItem) bool {
	return q.inFlight && !q.overdue && !p.heardAt.Before(q.sentAt) && m.genesis != nil && m.isMember()
}

// nextOverdue is when noReceipts has something to look at; zero: never.
func (m *Machine) nextOverdue() (t time.Time) {
	for _, p := range m.paths {
		if p.post.unanswered {
			continue
		}
		for _, q := range p.queue {
			if at := q.sentAt.Add(m.deadlineNow()); m.unanswered(p, q) && (t.IsZero() || at.Before(t)) {
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
