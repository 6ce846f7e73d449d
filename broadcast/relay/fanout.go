package relay

import (
	"slices"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// listCache keeps the fan-out lists used last.
type listCache struct {
	max   int
	lists []cachedList // the newest last
}

type cachedList struct {
	hash wire.Digest
	list []wire.MailboxID
}

func (c *listCache) get(hash wire.Digest) []wire.MailboxID {
	for i := len(c.lists) - 1; i >= 0; i-- {
		if l := c.lists[i]; l.hash == hash {
			c.lists = append(slices.Delete(c.lists, i, i+1), l)
			return l.list
		}
	}
	return nil
}

func (c *listCache) put(hash wire.Digest, list []wire.MailboxID) {
	if c.get(hash) != nil {
		return
	}
	if len(c.lists) >= c.max {
		c.lists = slices.Delete(c.lists, 0, 1)
	}
	c.lists = append(c.lists, cachedList{hash, list})
}

// fanout finds the list of a post, or answers that it must come.
func (m *machine) fanout(q *request, p proto.Post) (list []wire.MailboxID, ready bool) {
	_, have := m.st.fans[p.Fanout]
	switch {
	case len(p.Mailboxes) == 0 && !have:
		m.reply(q, proto.NeedFanout{PostID: p.PostID, Fanout: p.Fanout})
		return nil, false
	case !have && len(m.st.fans) >= m.cfg.Limits.MaxFanouts:
		m.denyLimit(q, proto.CodeQuota, "MaxFanouts", m.cfg.Limits.Retention)
		return nil, false
	}
	if list = m.lists.get(p.Fanout); list != nil {
		return list, true
	}
	if len(p.Mailboxes) > 0 {
		m.lists.put(p.Fanout, p.Mailboxes)
		return p.Mailboxes, true
	}
	v, ready := m.get(q, key(m.unit, keyFanout, p.Fanout[:]))
	switch {
	case !ready:
		return nil, false
	case v == nil:
		m.fence(q) // not durable yet, or trimmed by another front-end
		return nil, false
	}
	list, err := parseList(v)
	if err == nil && len(list) == 0 {
		err = wire.ErrShort
	}
	if err != nil {
		m.unreadable(q, corrupt("fan-out list", err))
		return nil, false
	}
	m.lists.put(p.Fanout, list)
	return list, true
}
