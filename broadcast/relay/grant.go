package relay

import (
	"fmt"
	"time"

	"parallax/broadcast/proto"
	"parallax/internal/wire"
)

// grant changes what an invite posting key may do.
func (m *machine) grant(q *request, g proto.Grant) {
	s := &m.st.meta
	if !q.verify(func() bool { return g.Verify(m.cfg.Verify, m.self, s.channel) }) || proto.RankOf(s.admins, g.Signer) == 0 {
		m.replaced(q, g.Digest(), "no admin key of the channel signed this grant")
		return
	}
	if g.PostID == (wire.PostID{}) {
		m.denyf(q, proto.CodeMalformed, "a post id of zeros means none")
		return
	}
	st, found, ready := m.known(q)
	switch {
	case !ready:
		return
	case found:
		m.receipt(q, st)
		return
	}
	old := m.st.grants[g.Posting]
	if old == nil && len(m.st.grants) >= m.cfg.Limits.MaxGrants && !m.forgetGrant() {
		m.denyLimit(q, proto.CodeQuota, "MaxGrants", 0)
		return
	}
	now := &grant{uses: g.Uses, perHour: g.PerHour, expires: g.Expires, revoked: g.Revoke}
	if old != nil {
		now.used, now.hour, now.hourUsed = old.used, old.hour, old.hourUsed
	}
	m.st.grants[g.Posting] = now
	m.op(key(m.unit, keyGrant, g.Posting[:]), now.encode())
	m.receipt(q, m.append(&entry{kind: kindGrant}, g.PostID, g.Digest()))
}

// forgetGrant drops the grant that is dead for longest.
func (m *machine) forgetGrant() bool {
	var dead *grant
	var who [32]byte
	for k, g := range m.st.grants {
		if (g.revoked || g.expires <= m.unix()) &&
			(dead == nil || g.expires < dead.expires || g.expires == dead.expires && string(k[:]) < string(who[:])) {
			dead, who = g, k
		}
	}
	if dead == nil {
		return false
	}
	delete(m.st.grants, who)
	m.op(key(m.unit, keyGrant, who[:]), nil)
	return true
}

// live tells what is wrong with a grant; nil: nothing.
func (g *grant) live(now uint64) *proto.Refusal {
	switch {
	case g == nil || g.revoked:
		return &proto.Refusal{Code: proto.CodeNotAllowed, Err: errCapability}
	case g.expires <= now:
		return &proto.Refusal{Code: proto.CodeExpired, Err: fmt.Errorf("the invite expired at %s", time.Unix(int64(g.expires), 0).UTC().Format(time.RFC3339))}
	case g.used >= g.uses:
		return &proto.Refusal{Code: proto.CodeUsedUp, Err: fmt.Errorf("all %d uses of the invite are taken", g.uses)}
	}
	return nil
}

const hour = 3600 // seconds

// use counts one admission; the refusal says why it does not.
func (g *grant) use(now uint64) *proto.Refusal {
	if r := g.live(now); r != nil {
		return r
	}
	if now >= g.hour+hour || now < g.hour {
		g.hour, g.hourUsed = now, 0
	}
	if g.hourUsed >= g.perHour {
		return &proto.Refusal{Code: proto.CodeRate, Limit: "per hour", Retry: time.Duration(g.hour+hour-now) * time.Second}
	}
	g.used++
	g.hourUsed++
	return nil
}
