package simnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
)

// How links come and go.
const (
	dialTimeout = 5 * time.Second
	retryFirst  = 200 * time.Millisecond // doubled up to Net.Redial
	stallMost   = 900 * time.Millisecond
	noticeMost  = 2 * time.Second // a broken link is noticed within this
)

// conn is one end of a link.
type conn struct {
	id     broadcast.Link
	node   *Node
	peer   *conn
	to     *actor // that reads here; at a relay nil until the first frame
	relay  keys.RelayPublic
	use    broadcast.Use
	rand   *rand.Rand
	came   *uint64       // bytes that arrived here from the peer's node, over all links
	mean   time.Duration // of what this end sends
	last   time.Duration // arrival of the newest frame sent from here
	broken bool          // nothing leaves or arrives any more
	told   bool          // Down was given, or never needed
}

// dial is a wanted link of a member, under way or standing.
type dial struct {
	want  broadcast.WantLink
	end   *conn // nil: not standing
	tries int
	gone  bool // not wanted any more
}

// want makes the links of a member those of the list.
func (n *Node) want(list []broadcast.WantLink) {
	same := func(a, b broadcast.WantLink) bool { return a.Relay == b.Relay && a.Use == b.Use }
	n.dials = slices.DeleteFunc(n.dials, func(d *dial) bool {
		keep := slices.ContainsFunc(list, func(x broadcast.WantLink) bool { return same(x, d.want) })
		if !keep {
			d.gone = true
			if d.end != nil {
				d.end.close()
			}
		}
		return !keep
	})
	for _, x := range list {
		if !slices.ContainsFunc(n.dials, func(d *dial) bool { return same(x, d.want) }) {
			d := &dial{want: x}
			n.dials = append(n.dials, d)
			n.dialAfter(d, retryFirst/8, retryFirst/4)
		}
	}
}

func (n *Node) dialAfter(d *dial, least, most time.Duration) {
	a := n.actors[n.unit]
	if a == nil {
		return
	}
	n.w.after(between(a.rand, least, most), func() { n.dial(a, d) })
}

func (n *Node) dial(a *actor, d *dial) {
	if a.dead || d.gone || d.end != nil {
		return
	}
	w := n.w
	r := w.relays[d.want.Relay]
	d.tries++
	fail := func(after time.Duration, why string) {
		w.after(after, func() {
			if a.dead || d.gone {
				return
			}
			a.input(broadcast.Down{Relay: d.want.Relay, Use: d.want.Use, Why: why})
			n.again(d)
		})
	}
	switch {
	case r == nil:
		fail(time.Millisecond, "no such relay")
		return
	case w.cut[[2]string{n.name, r.name}]:
		fail(dialTimeout, "no answer")
		return
	case !r.up:
		fail(w.mean(n, r)*2, "connection refused")
		return
	}
	mean := w.mean(n, r)
	w.after(mean*3, func() {
		switch {
		case a.dead || d.gone:
		case !r.up || w.cut[[2]string{n.name, r.name}]:
			fail(mean, "connection lost")
		default:
			n.connect(a, d, r, mean)
		}
	})
}

// again dials once more, later each time.
func (n *Node) again(d *dial) {
	wait := min(retryFirst<<min(d.tries, 16), n.w.cfg.Net.Redial)
	n.dialAfter(d, wait/2, wait)
}

func (n *Node) connect(a *actor, d *dial, r *Node, mean time.Duration) {
	w := n.w
	w.links++
	id := broadcast.Link(w.links)
	key := fmt.Sprint(uint64(id))
	w.caller[id] = n.name
	here := &conn{id: id, node: n, to: a, relay: r.key, use: d.want.Use, mean: mean, rand: rand.New(stream(w.cfg.Seed, "link", n.name, r.name, key, "up"))}
	there := &conn{id: id, node: r, mean: mean, rand: rand.New(stream(w.cfg.Seed, "link", n.name, r.name, key, "down")), told: true}
	here.peer, there.peer = there, here
	t := w.carried(n.name, r.name)
	here.came, there.came = &t.Down, &t.Up
	d.end = here
	d.tries = 0
	n.links = append(n.links, here)
	r.links = append(r.links, there)
	a.input(broadcast.Up{Link: id, Relay: r.key, Use: d.want.Use})
}

// mean is the latency of a pair of nodes: the same for all its links.
func (w *World) mean(a, b *Node) time.Duration {
	r := rand.New(stream(w.cfg.Seed, "pair", a.name, b.name))
	return between(r, w.cfg.Net.Latency/2, w.cfg.Net.Latency*2)
}

// send puts frames of a machine on their links. A link that is down swallows them.
func (n *Node) send(a *actor, sends []broadcast.Send) {
	for _, s := range sends {
		i := slices.IndexFunc(n.links, func(c *conn) bool { return c.id == s.Link && c.to == a })
		if i < 0 {
			continue
		}
		c := n.links[i]
		if s.Frame.Type != 0 {
			c.post(s.Frame)
		}
		if s.Close {
			c.close()
		}
	}
}

// post sends one frame to the other end.
func (c *conn) post(f broadcast.Frame) {
	if c.broken {
		return
	}
	w := c.node.w
	net := &w.cfg.Net
	delay := c.mean + between(c.rand, 0, net.Jitter)
	if len(w.slow) > 0 {
		delay += w.slow[c.pair()]
	}
	if net.Stall > 0 && c.rand.Float64() < net.Stall {
		delay += between(c.rand, stallMost/4, stallMost)
	}
	if net.Break > 0 && c.rand.Float64() < net.Break {
		c.breakOff("the connection was reset")
		return
	}
	c.last = max(c.last+time.Microsecond, w.now+delay)
	to := c.peer
	w.queue.add(c.last, func() {
		if !to.broken {
			to.arrive(f)
		}
	})
}

func (c *conn) arrive(f broadcast.Frame) {
	n := c.node
	*c.came += uint64(proto.FrameHead + len(f.Body))
	n.w.record(n, c.id, f)
	if c.to == nil {
		u, err := n.route(f)
		if err != nil {
			n.w.Logf("%s: a link begins with what is no greeting: %v", n.name, err)
			c.breakOff("it began with what is no greeting")
			return
		}
		a := n.actors[u]
		if a == nil {
			if a, err = n.openActor(u); err != nil {
				n.w.Logf("%s: a unit does not open: %v", n.name, err)
				c.breakOff("the channel does not open")
				return
			}
		}
		c.to, c.told = a, false
		a.input(broadcast.Up{Link: c.id})
	}
	c.to.input(broadcast.Received{Link: c.id, Frame: f})
}

// close ends the link after what was sent on it.
func (c *conn) close() {
	if c.broken {
		return
	}
	w, peer := c.node.w, c.peer
	c.broken = true
	c.down("closed here")
	w.queue.add(max(c.last, w.now+c.mean)+time.Microsecond, func() {
		if !peer.broken {
			peer.broken = true
			peer.down("closed by the other side")
		}
	})
}

// breakOff ends the link at once; frames on their way are lost, and each end
// notices in its own time.
func (c *conn) breakOff(why string) {
	for _, end := range []*conn{c, c.peer} {
		if end.broken {
			continue
		}
		end.broken = true
		c.node.w.after(between(end.rand, time.Millisecond, noticeMost), func() { end.down(why) })
	}
}

// down tells the machine at this end, once, and dials again what is wanted.
func (c *conn) down(why string) {
	n := c.node
	n.links = slices.DeleteFunc(n.links, func(x *conn) bool { return x == c })
	if c.to == nil || c.to.dead {
		return
	}
	if !c.told {
		c.told = true
		c.to.input(broadcast.Down{Link: c.id, Relay: c.relay, Use: c.use, Why: why})
	}
	if n.relay {
		n.settle(c.to.unit)
		return
	}
	for _, d := range n.dials {
		if d.end == c {
			d.end = nil
			n.again(d)
		}
	}
}

// pair is the (member, relay) of a link.
func (c *conn) pair() [2]string {
	if c.node.relay {
		return [2]string{c.peer.node.name, c.node.name}
	}
	return [2]string{c.node.name, c.peer.node.name}
}

// Traffic is what a member and a relay have exchanged: bytes of frames that
// arrived, heads included.
type Traffic struct{ Up, Down uint64 }

// Traffic is that of one pair so far.
func (w *World) Traffic(member, relay string) Traffic { return *w.carried(member, relay) }

func (w *World) carried(member, relay string) *Traffic {
	pair := [2]string{member, relay}
	if w.traffic[pair] == nil {
		w.traffic[pair] = &Traffic{}
	}
	return w.traffic[pair]
}

// pairs calls do for every pair of one of the members and one of the relays,
// all of them where a list is empty.
func (w *World) pairs(members, relays []string, do func(m, r *Node)) {
	for _, m := range w.order {
		if m.relay || len(members) > 0 && !slices.Contains(members, m.name) {
			continue
		}
		for _, r := range w.order {
			if r.relay && (len(relays) == 0 || slices.Contains(relays, r.name)) {
				do(m, r)
			}
		}
	}
}

// Slow adds a delay to every frame that members and relays (all of them where a
// list is empty) exchange from now on; zero ends it. Links keep their order, so
// what overtakes is what other links carry.
func (w *World) Slow(members, relays []string, by time.Duration) {
	w.pairs(members, relays, func(m, r *Node) {
		if by == 0 {
			delete(w.slow, [2]string{m.name, r.name})
		} else {
			w.slow[[2]string{m.name, r.name}] = by
		}
	})
}

// Partition cuts members from relays (all of them where a list is empty)
// until Heal: standing links break, dials fail.
func (w *World) Partition(members, relays []string) {
	w.pairs(members, relays, func(m, r *Node) {
		w.cut[[2]string{m.name, r.name}] = true
		for _, c := range slices.Clone(m.links) {
			if c.peer.node == r {
				c.breakOff("the network is cut")
			}
		}
	})
}

// Heal ends all partitions.
func (w *World) Heal() { clear(w.cut) }
