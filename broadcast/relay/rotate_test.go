package relay_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast/proto"
	"parallax/broadcast/relay"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/store/memory"
	"parallax/internal/wire"
)

// postingKey "" is the creation's, as is adminKey "".
func postingKey(name string) keys.PostingPrivate {
	if name == "" {
		return thePosting
	}
	return new(keys.PostingPrivate).FromSeed(seedOf("posting " + name))
}

func adminKey(name string) keys.AdminPrivate {
	if name == "" {
		return theAdmin
	}
	return new(keys.AdminPrivate).FromSeed(seedOf("admin " + name))
}

// adminList is the keys of the names that spaces separate; a name that ends in -
// is of an admin, another of an owner, and . is the creator.
func adminList(names string) (list []proto.Admin) {
	for _, name := range strings.Fields(names) {
		name, low := strings.CutSuffix(name, "-")
		a := proto.Admin{Key: adminKey(strings.TrimPrefix(name, ".")).Public(), Rank: proto.RankOwner}
		if low {
			a.Rank = proto.RankAdmin
		}
		list = append(list, a)
	}
	proto.SortAdmins(list)
	return list
}

// rotateFrame names the creator alone if admins is "".
func rotateFrame(post string, ordinal uint64, posting, admins, by string) proto.Rotate {
	if admins == "" {
		admins = "."
	}
	r := proto.Rotate{PostID: postID(post), Rotation: ordinal, Posting: postingKey(posting).Public(), Admins: adminList(admins)}
	r.Sign(adminKey(by), relayID, theChannel)
	return r
}

func postBy(post, posting string, to ...string) proto.Post {
	p := postFrame(post, nil, 0, to...)
	p.Sign(postingKey(posting), relayID, theChannel, p.Digest())
	return p
}

func putBy(post, name, posting string) proto.BoardPut {
	p := putFrame(post, name, 1, "value", "owner")
	p.Sign(postingKey(posting), relayID, theChannel)
	return p
}

func grantBy(post, invite, admin string) proto.Grant {
	g := grantFrame(post, invite, 9, 9, start.AddDate(1, 0, 0), false)
	g.Sign(adminKey(admin), relayID, theChannel)
	return g
}

// inForce checks which keys the channel obeys, by asking: of all these, one
// posting key and some admin keys.
func (r *rig) inForce(posting, admins string, all ...string) {
	r.t.Helper()
	list := adminList(admins)
	for i, name := range append([]string{""}, all...) {
		admin := proto.RankOf(list, adminKey(name).Public()) > 0
		probe := fmt.Sprintf("probe %s %d %d", posting, r.entropy.Uint64(), i)
		want := []bool{name == posting, name == posting, name == posting, admin}
		for j, msg := range []proto.Message{postBy(probe, name, "a"), putBy(probe+" b", probe, name), registerFrame(probe, postingKey(name)), grantBy(probe+" g", "probe", name)} {
			got := r.c.ask(msg)
			if len(got) != 1 {
				r.t.Fatalf("%T: %v", msg, got)
			}
			no, refused := got[0].(proto.Refused)
			if refused == want[j] || refused && no.Code != proto.CodeNotAllowed {
				r.t.Errorf("%T by %q, with %q and %q in force: %+v", msg, name, posting, admins, got[0])
			}
		}
	}
}

func TestRotate(t *testing.T) {
	r := newRig(t)
	w, _ := r.follow("a", 1000)
	one[proto.Receipt](t, r.c, grantFrame("g", "i", 5, 5, start.Add(time.Hour), false))
	one[proto.Registered](t, r.c, registerFrame("early", inviteKey("i")))
	before := postBy("before", "", "a")
	put := putBy("put before", "x", "")
	grant := grantBy("grant before", "j", "")
	var was []crossverify.Statement
	for _, msg := range []proto.Message{before, put, grant} {
		was = append(was, one[proto.Receipt](t, r.c, msg).Statement)
	}

	first := rotateFrame("r1", 1, "p1", "", "")
	st := one[proto.Receipt](t, r.c, first).Statement
	if st.D != first.Digest() || st.N != was[2].N+1 || !st.Verify(remembered()) {
		t.Errorf("receipt %+v", st)
	}
	if r.good(w); w.at.N != st.N {
		t.Errorf("the mailbox, which was there before, is at %d", w.at.N)
	}
	if one[proto.Receipt](t, r.c, first).Statement != st {
		t.Error("rotating again gave another statement")
	}
	r.inForce("p1", ".", "p1", "p2")
	// Grants end with the posting key, and with nothing else.
	refused(t, r.c, registerFrame("newcomer", inviteKey("i")), proto.CodeNotAllowed)
	refused(t, r.c, admitFrame("admit", "i", "early"), proto.CodeNotAllowed)
	one[proto.Receipt](t, r.c, grantFrame("g again", "i", 5, 5, start.Add(time.Hour), false))
	one[proto.Receipt](t, r.c, rotateFrame("r1 admins", 2, "p1", ". a2", ""))
	one[proto.Registered](t, r.c, registerFrame("newcomer", inviteKey("i")))
	one[proto.Receipt](t, r.c, admitFrame("admit", "i", "newcomer"))

	second := rotateFrame("r2", 5, "p2", "a2 a3-", "")
	st2 := one[proto.Receipt](t, r.c, second).Statement
	r.inForce("p2", "a2 a3-", "p1", "p2", "a2", "a3")
	// What was answered once is answered so again, under whatever keys; and by
	// nothing but the same bytes.
	for i, msg := range []proto.Message{before, put, grant, first, second, createFrame()} {
		want := append(slices.Clone(was), st, st2, r.birth)[i]
		if got := one[proto.Receipt](t, r.c, msg).Statement; got != want {
			t.Errorf("%T again: number %d, want %d", msg, got.N, want.N)
		}
	}
	forged := postFrame("before", nil, 999, "a")
	refused(t, r.c, forged, proto.CodeNotAllowed)
	other := grantBy("grant before", "k", "")
	refused(t, r.c, other, proto.CodeNotAllowed)

	// The keys in force under their ordinal are another entry, and no more.
	again := rotateFrame("r2 again", 5, "p2", "a2 a3-", "a3")
	if got := one[proto.Receipt](t, r.c, again).Statement; got.D != again.Digest() || got.N == st2.N {
		t.Errorf("by another admin: %+v", got)
	}
	for range 2 { // before and after a restart
		writes := r.writes
		for name, c := range map[string]struct {
			msg  proto.Message
			code proto.Code
		}{
			"smaller":              {rotateFrame("x", 4, "p9", "", "a2"), proto.CodeConflict},
			"the first again":      {rotateFrame("x", 1, "p1", "", "a2"), proto.CodeConflict},
			"other posting key":    {rotateFrame("x", 5, "p9", "a2 a3-", "a2"), proto.CodeConflict},
			"other admin key":      {rotateFrame("x", 5, "p2", "a9", "a2"), proto.CodeConflict},
			"an admin less":        {rotateFrame("x", 5, "p2", "a2", "a2"), proto.CodeConflict},
			"other rank":           {rotateFrame("x", 5, "p2", "a2 a3", "a2"), proto.CodeConflict},
			"an admin's owner":     {rotateFrame("x", 6, "p2", "a2 a3", "a3"), proto.CodeNotAllowed},
			"an admin ends one":    {rotateFrame("x", 6, "p2", "a3", "a3"), proto.CodeNotAllowed},
			"replaced admin key":   {rotateFrame("x", 6, "p9", "", ""), proto.CodeNotAllowed},
			"the keys, by the old": {rotateFrame("x", 5, "p2", "a2 a3-", ""), proto.CodeNotAllowed},
			"its own new key":      {rotateFrame("x", 6, "p9", "a9", "a9"), proto.CodeNotAllowed},
			"too far":              {rotateFrame("x", 5+proto.MaxRotationStep+1, "p9", "a2", "a2"), proto.CodeTooLarge},
			"greatest":             {rotateFrame("x", 1<<64-1, "p9", "a2", "a2"), proto.CodeTooLarge},
			"no post id": {func() proto.Rotate {
				r := rotateFrame("x", 6, "p9", "a2", "a2")
				r.PostID = wire.PostID{}
				return r
			}(), proto.CodeMalformed},
			"changed": {func() proto.Rotate {
				r := rotateFrame("x", 6, "p9", "a2", "a2")
				r.Rotation++
				return r
			}(), proto.CodeNotAllowed},
			"another channel's": {func() proto.Rotate {
				r := rotateFrame("x", 6, "p9", "a2", "a2")
				r.Sign(adminKey("a2"), relayID, wire.ChannelID{})
				return r
			}(), proto.CodeNotAllowed},
		} {
			if no := r.c.ask(c.msg); len(no) != 1 || no[0].(proto.Refused).Code != c.code || no[0].(proto.Refused).PostID != idOf(c.msg) {
				t.Errorf("%s: %+v, want %v", name, no, c.code)
			}
		}
		if r.writes != writes {
			t.Errorf("refusals wrote %d times", r.writes-writes)
		}
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		r.c = r.dial()
	}
	r.inForce("p2", "a2 a3-", "p1", "p2", "a2", "a3")
	if no := one[proto.Refused](t, r.c, rotateFrame("x", 4, "p9", "", "a2")); no.Limit != "5" {
		t.Errorf("the ordinal in force is %q", no.Limit)
	}
	// An admin rotates too, and brings and ends admins.
	one[proto.Receipt](t, r.c, rotateFrame("r3", 5+proto.MaxRotationStep, "p1", "a2 a4-", "a3"))
	r.inForce("p1", "a2 a4-", "p1", "p2", "a2", "a3", "a4")
	f, err := newFront(relay.Open(config()), memory.New(), 1)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, f.dial(), first, proto.CodeNoChannel)
}

// A rotation ends mailboxes: who reads one is told, and registering it again is
// of no use. A later rotation lets it go on where it was.
func TestRotateEndsMailboxes(t *testing.T) {
	r := newRig(t)
	kept, _ := r.follow("a", 1000)
	ended, reads := r.follow("b", 1000)
	birth := r.register("c")
	rotate := rotateFrame("r1", 1, "p1", "", "")
	for _, name := range []string{"b", "c", "never was"} {
		rotate.Ended = append(rotate.Ended, mailboxID(name))
	}
	slices.SortFunc(rotate.Ended, func(a, b wire.MailboxID) int { return slices.Compare(a[:], b[:]) })
	rotate.Sign(theAdmin, relayID, theChannel)
	before := one[proto.Receipt](t, r.c, postFrame("before", nil, 0, "a", "b")).Statement
	st := one[proto.Receipt](t, r.c, rotate).Statement
	one[proto.Receipt](t, r.c, postBy("after", "p1", "a", "b"))
	if r.good(kept); kept.at.N != st.N+1 {
		t.Errorf("who stays is at %d", kept.at.N)
	}
	if !reads.down || ended.at.N < before.N || ended.at.N > st.N {
		t.Errorf("who is out: link down %v, at %d of %d", reads.down, ended.at.N, st.N)
	}
	for range 2 { // before and after a restart
		c := r.dial()
		r.settle()
		if no, ok := c.ask(c.openFrame("b", ended.at, 9, ended.newest))[0].(proto.Refused); !ok || no.Code != proto.CodeEnded {
			t.Errorf("b opens what was ended: %+v", no)
		}
		// Who has not read what came before reads it, and no more.
		c = r.dial()
		r.settle()
		late := newFollower("c", birth)
		late.listen(c, 1000, nil)
		r.settle()
		if r.good(late); !c.down || late.at.N < before.N || late.at.N > st.N {
			t.Errorf("c, late: link down %v, at %d of %d", c.down, late.at.N, st.N)
		}
		if again := one[proto.Registered](t, r.c, registerFrame("c", postingKey("p1"))).Statement; again != birth {
			t.Errorf("registered anew: %+v", again)
		}
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
		r.c = r.dial()
	}
	// The keys in force named again under their ordinal change nothing.
	again := rotateFrame("r1 again", 1, "p1", "", "")
	one[proto.Receipt](t, r.c, again)
	c := r.dial()
	r.settle()
	if no, ok := c.ask(c.openFrame("b", ended.at, 9, ended.newest))[0].(proto.Refused); !ok {
		t.Errorf("opened: %+v", no)
	}
	one[proto.Receipt](t, r.c, rotateFrame("r2", 2, "p1", "", ""))
	c = r.dial()
	r.settle()
	ended.listen(c, 1000, ended.newest)
	r.settle()
	if r.good(ended); ended.at.N != r.head().N {
		t.Errorf("back at %d of %d", ended.at.N, r.head().N)
	}
}

// A relay that was restored to older keys takes any later rotation, and a new
// lineage keeps what it had.
func TestRotateAfterRestore(t *testing.T) {
	r := newRig(t)
	r.register("a")
	one[proto.Receipt](t, r.c, rotateFrame("r1", 1, "p1", "", ""))
	old := r.st.Snapshot()
	one[proto.Receipt](t, r.c, rotateFrame("r2", 2, "p2", "", ""))
	third := rotateFrame("r3", 3, "p3", "a3", "")
	last := one[proto.Receipt](t, r.c, third).Statement

	u := relay.Unit(theChannel)
	rev, err := old.Revision(u)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Apply([]store.Batch{relay.Restored(u, rev)})[0]; err != nil {
		t.Fatal(err)
	}
	n := r.restored(old)
	all := []string{"p1", "p2", "p3", "a3"}
	n.inForce("p1", ".", all...)
	// The same bytes are taken: their ordinal is greater, not the next.
	st := one[proto.Receipt](t, n.c, third).Statement
	if st.D != third.Digest() || st.Lineage.Ordinal() != 2 {
		t.Errorf("%+v", st)
	}
	n.inForce("p3", "a3", all...)
	innocent(t, []crossverify.Statement{last, st})
	// It loses data again, but not this: the admin, who knows only its old
	// lineage, asks again with a frame whose signer was replaced by it.
	future := crossverify.SignStatement(theRelay, theChannel, st.Lineage, 999, wire.Digest{}, wire.Digest{}, wire.Digest{})
	c := n.dial()
	n.settle()
	c.ask(c.openFrame("a", crossverify.Position{}, 9, &future))
	again := one[proto.Receipt](t, n.c, third).Statement
	if again.D != third.Digest() || again.Lineage.Ordinal() != 3 {
		t.Errorf("%+v", again)
	}
	refused(t, n.c, rotateFrame("r2", 2, "p2", "", ""), proto.CodeNotAllowed)
	n.inForce("p3", "a3", all...)
	innocent(t, []crossverify.Statement{last, st, again})
}

// A turn that is made again for a new lineage answers the same, whatever the
// rotation in it did to the key that signed it.
func TestRotateInARecalledTurn(t *testing.T) {
	r := newRig(t)
	r.register("a")
	w := newFollower("a", r.birth)
	c := r.dial()
	r.settle()
	r.c.got = nil
	r.c.send(rotateFrame("r1", 1, "p1", "a1", ""))
	r.changed() // answers it in the turn that begins
	future := crossverify.SignStatement(theRelay, theChannel, r.birth.Lineage, 50, wire.Digest{}, wire.Digest{}, wire.Digest{})
	w.listen(c, 9, &future)
	r.c.send(postBy("1", "p1", "a"))
	r.c.send(postBy("2", "", "a"))
	r.settle()
	r.good(w)
	answers := map[wire.PostID]proto.Message{}
	for _, g := range r.c.got {
		switch g := g.(type) {
		case proto.Receipt:
			if g.Statement.Lineage.Ordinal() != 2 {
				t.Errorf("signed in the lineage that ended: %+v", g)
			}
			answers[g.PostID] = g
		case proto.Refused:
			answers[g.PostID] = g
		}
	}
	for name, want := range map[string]bool{"r1": true, "1": true, "2": false} {
		if _, ok := answers[postID(name)].(proto.Receipt); ok != want {
			t.Errorf("%s: %+v", name, answers[postID(name)])
		}
	}
	r.inForce("p1", "a1", "p1", "a1")
}

// A machine with requests that it verified under keys which another front-end
// replaces verifies them again.
func TestRotateBehindTheBack(t *testing.T) {
	cfg := config()
	cfg.Shared = true
	mem := memory.New()
	var fronts []*front
	var conns []*conn
	for i := range uint64(2) {
		f, err := newFront(relay.Open(cfg), mem.Front(), i)
		if err != nil {
			t.Fatal(err)
		}
		fronts, conns = append(fronts, f), append(conns, f.dial())
		if i == 0 {
			conns[0].ask(createFrame(), registerFrame("a", thePosting))
		}
		f.settle()
	}
	f := fronts[1]
	conns[1].got = nil
	for _, msg := range []proto.Message{postBy("1", "", "a"), grantBy("2", "i", ""), putBy("3", "x", ""), registerFrame("b", thePosting), rotateFrame("r9", 9, "p9", "", "")} {
		conns[1].send(msg)
	}
	for range 3 { // answered in a turn that is not written yet
		f.ready()
		for len(f.reads) > 0 {
			f.read(0)
		}
	}
	one[proto.Receipt](t, conns[0], rotateFrame("r1", 1, "p1", "a1", ""))
	f.settle()
	if f.conflicts == 0 || len(conns[1].got) != 5 {
		t.Fatalf("%d conflicts, %d answers", f.conflicts, len(conns[1].got))
	}
	for _, got := range conns[1].got {
		if no, ok := got.(proto.Refused); !ok || no.Code != proto.CodeNotAllowed {
			t.Errorf("a replaced key was obeyed: %+v", got)
		}
	}
	// And the other way round: what this front-end does not know yet is no reason to refuse.
	one[proto.Receipt](t, conns[1], postBy("4", "p1", "a"))
}

// claim is a request, and who signed it.
type claim struct {
	msg     proto.Message
	posting string // signer of a post or a registration
	admin   string // signer of a grant or a rotation
	rotate  *proto.Rotate
	to      string // posting key that a rotation names
	admins  string // that it names
}

func (c *claim) String() string {
	if c.rotate != nil {
		return fmt.Sprintf("rotation %d to %q %q by %q", c.rotate.Rotation, c.to, c.admins, c.admin)
	}
	return fmt.Sprintf("%T by %q %q", c.msg, c.posting, c.admin)
}

var (
	keyNames   = []string{"", "1", "2"}
	adminNames = []string{".", ". 1", ". 1-", "1 2-", ".- 2", "1- 2 .-"}
)

// draw makes a request; pick chooses below n.
func draw(pick func(n int) int, i int) *claim {
	key := func() string { return keyNames[pick(len(keyNames))] }
	id := fmt.Sprint("claim ", i)
	c := &claim{}
	switch pick(5) {
	case 0, 1:
		c.admin, c.to, c.admins = key(), key(), adminNames[pick(len(adminNames))]
		r := rotateFrame(id, uint64(1+pick(5)), c.to, c.admins, c.admin)
		c.msg, c.rotate = r, &r
	case 2:
		c.posting = key()
		c.msg = postBy(id, c.posting, "a")
	case 3:
		c.posting = key()
		c.msg = registerFrame(id, postingKey(c.posting))
	case 4:
		c.admin = key()
		c.msg = grantBy(id, "i", c.admin)
	}
	return c
}

// capability is what the channel ought to obey.
type capability struct {
	ordinal         uint64
	posting, admins string
}

// rank of a key by name.
func (k capability) rank(name string) proto.Rank {
	return proto.RankOf(adminList(k.admins), adminKey(name).Public())
}

func ownersOf(names string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(names), func(s string) bool { return strings.HasSuffix(s, "-") }), " ")
}

// allowed tells whether c may be taken, and what is in force after it.
func (k capability) allowed(c *claim) (capability, bool) {
	switch {
	case c.rotate == nil:
		_, grant := c.msg.(proto.Grant)
		return k, grant && k.rank(c.admin) > 0 || !grant && c.posting == k.posting
	case k.rank(c.admin) == 0:
		return k, false
	}
	next := capability{c.rotate.Rotation, c.to, c.admins}
	if next == k {
		return next, true
	}
	return next, next.ordinal > k.ordinal && (k.rank(c.admin) == proto.RankOwner || ownersOf(c.admins) == ownersOf(k.admins))
}

// On one relay, with restarts and new lineages between, each answer is the one
// that the keys in force make.
func TestRotationsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") }
		r := newRig(t)
		birth := r.register("a")
		k := capability{admins: "."}
		var claims []*claim
		last := -1                                  // brought k
		numbered := map[int]crossverify.Statement{} // of the lineage
		born := map[int]bool{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			i := len(claims)
			switch pick(8) {
			case 0:
				if err := r.start(); err != nil {
					rt.Fatal(err)
				}
				r.c = r.dial()
				continue
			case 1:
				if pick(3) > 0 {
					continue
				}
				future := crossverify.SignStatement(theRelay, theChannel, birth.Lineage, 999, wire.Digest{}, wire.Digest{}, wire.Digest{})
				c := r.dial()
				r.settle()
				c.ask(c.openFrame("a", crossverify.Position{}, 9, &future))
				c.hangUp()
				birth = r.head()
				clear(numbered)
				continue
			case 2, 3:
				if i > 0 {
					i = pick(i)
				}
			}
			if i == len(claims) {
				claims = append(claims, draw(pick, i))
			}
			c := claims[i]
			next, allowed := k.allowed(c)
			st, again := numbered[i]
			want := allowed || again || born[i] || i == last
			got := r.c.ask(c.msg)
			if len(got) != 1 {
				rt.Fatalf("%v: %v", c, got)
			}
			switch g := got[0].(type) {
			case proto.Refused:
				if want {
					rt.Fatalf("%v with %+v in force: %+v", c, k, g)
				}
				if g.Code != proto.CodeNotAllowed && (g.Code != proto.CodeConflict || c.rotate == nil || k.rank(c.admin) == 0) {
					rt.Fatalf("%v with %+v in force: %+v", c, k, g)
				}
				continue
			case proto.Receipt:
				if again && g.Statement != st {
					rt.Fatalf("%v: another answer", c)
				}
				numbered[i] = g.Statement
			case proto.Registered:
				born[i] = true
			}
			if !want {
				rt.Fatalf("%v with %+v in force was obeyed", c, k)
			}
			if allowed && !again && c.rotate != nil && next.ordinal > k.ordinal {
				k, last = next, i
			}
		}
		r.inForce(k.posting, k.admins, keyNames[1:]...)
		if t.Failed() {
			rt.Fatalf("%+v ought to be in force", k)
		}
	})
}

// asked is a claim under way.
type asked struct {
	*claim
	sent   int // entries in the log when it was sent first
	answer proto.Message
	until  int // entries in the log when it was answered
	conn   *conn
}

// entries is how many numbers are durable, of one lineage.
func entries(t *testing.T, st store.Store) int {
	t.Helper()
	kvs, _, err := st.Scan(unitKey('l'), unitKey('l'+1), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return len(kvs)
}

// Three front-ends over one store, any schedule of writes, reads, hints and
// crashes: the log is the order in which everything happened. Each number obeys
// the keys that the numbers before it made, each refusal was right at some time
// while it was asked for, and in force are the keys of the greatest ordinal that
// has a receipt.
func TestRotationsOnFrontends(t *testing.T) {
	refusals, rotations, conflicts := 0, 0, 0
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		cfg := config()
		cfg.Verify, cfg.Shared = cached, true
		cfg.Limits.RecentPosts = []int{1, 4096}[seed%2]
		mem := memory.New()
		var fronts []*front
		for i := range uint64(3) {
			f, err := newFront(relay.Open(cfg), mem.Front(), seed*10+i)
			if err != nil {
				t.Fatal(err)
			}
			fronts = append(fronts, f)
		}
		fronts[0].dial().ask(createFrame(), registerFrame("a", thePosting))
		var all []*asked
		for i := range 25 {
			all = append(all, &asked{claim: draw(rnd.IntN, i), sent: -1})
		}
		ask := func(a *asked) {
			if a.answer != nil || a.conn != nil && !a.conn.down {
				return
			}
			if a.sent < 0 {
				a.sent = entries(t, mem)
			}
			a.conn = fronts[rnd.IntN(len(fronts))].dial()
			conn := a.conn
			conn.hear = func(msg proto.Message) {
				if _, hello := msg.(proto.Welcome); !hello && a.conn == conn {
					a.answer, a.until = msg, entries(t, mem)
				}
			}
			conn.send(a.msg)
		}
		for step := range 400 {
			f := fronts[rnd.IntN(len(fronts))]
			switch rnd.IntN(9) {
			case 0, 1:
				ask(all[rnd.IntN(min(len(all), 1+step/12))])
			case 2, 3:
				if len(f.turns) < inFlight {
					f.ready()
				}
			case 4, 5:
				if len(f.turns) > 0 {
					f.apply()
				}
			case 6, 7:
				if len(f.reads) > 0 {
					f.read(rnd.IntN(len(f.reads)))
				}
			case 8:
				switch {
				case rnd.IntN(8) == 0:
					if len(f.turns) > 0 && rnd.IntN(2) == 0 {
						f.write()
					}
					if err := f.start(); err != nil {
						t.Fatal(err)
					}
				case f.hinted && rnd.IntN(2) == 0:
					f.changed()
				}
			}
		}
		for range 5 {
			for _, a := range all {
				ask(a)
			}
			for _, f := range fronts {
				f.settle()
			}
		}
		byNumber := map[int]*asked{}
		for _, a := range all {
			if r, ok := a.answer.(proto.Receipt); ok {
				byNumber[int(r.Statement.N)] = a
			}
		}
		if n := entries(t, mem); n != 1+len(byNumber) {
			t.Fatalf("seed %d: %d entries, %d receipts", seed, n, len(byNumber))
		}
		after := []capability{{admins: "."}, {admins: "."}} // after each number; the creation is 1
		greatest := uint64(0)
		for n := 2; n <= 1+len(byNumber); n++ {
			c := byNumber[n]
			next, ok := after[n-1].allowed(c.claim)
			if !ok {
				t.Fatalf("seed %d: number %d is %v, with %+v in force", seed, n, c, after[n-1])
			}
			if after = append(after, next); c.rotate != nil {
				greatest = max(greatest, c.rotate.Rotation)
				rotations++
			}
		}
		end := after[len(after)-1]
		if end.ordinal != greatest {
			t.Fatalf("seed %d: %+v in force, ordinal %d has a receipt", seed, end, greatest)
		}
		for _, a := range all {
			switch g := a.answer.(type) {
			case nil:
				t.Fatalf("seed %d: %v was not answered", seed, a)
			case proto.Registered:
				if _, ok := after[g.Statement.N].allowed(a.claim); !ok {
					t.Fatalf("seed %d: %v at %d, with %+v in force", seed, a, g.Statement.N, after[g.Statement.N])
				}
			case proto.Refused:
				refusals++
				right := slices.ContainsFunc(after[a.sent:a.until+1], func(k capability) bool {
					_, ok := k.allowed(a.claim)
					return !ok
				})
				if !right || g.Code != proto.CodeNotAllowed && g.Code != proto.CodeConflict {
					t.Fatalf("seed %d: %v while %+v were in force: %+v", seed, a, after[a.sent:a.until+1], g)
				}
			}
		}
		for _, f := range fronts {
			if conflicts += f.conflicts; f.stepErr != nil {
				t.Fatalf("seed %d: %v", seed, f.stepErr)
			}
			f.settle()
			r := &rig{front: f, t: t, c: f.dial()}
			if r.inForce(end.posting, end.admins, keyNames[1:]...); t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	t.Logf("%d rotations, %d refusals, %d conflicts", rotations, refusals, conflicts)
	if rotations == 0 || refusals == 0 || conflicts == 0 {
		t.Error("nothing happened")
	}
}

// TestMailboxWritesOwnEntries: after a rotation who reads a mailbox writes later
// versions of its own entries and nothing else, until the mailbox is ended.
func TestMailboxWritesOwnEntries(t *testing.T) {
	r := newRig(t)
	r.register("a")
	r.register("b")
	by := func(post, name string, version uint64, owner, box string) proto.BoardPut {
		p := putFrame(post, name, version, "value", owner)
		p.Sign(keys.NewPrivate[keys.RolePosting](mailboxKey(box).Seed()), relayID, theChannel)
		return p
	}
	one[proto.Receipt](t, r.c, putFrame("p1", "own", 1, "value", "owner"))
	rotation := rotateFrame("r1", 1, "next", "", "")
	rotation.Ended = []wire.MailboxID{mailboxID("b")}
	rotation.Sign(theAdmin, relayID, theChannel)
	one[proto.Receipt](t, r.c, rotation)
	one[proto.Receipt](t, r.c, by("p2", "own", 2, "owner", "a"))
	one[proto.Receipt](t, r.c, by("p3", "own", 5, "owner", "a"))
	refused(t, r.c, by("p4", "new", 1, "owner", "a"), proto.CodeNotAllowed)
	refused(t, r.c, by("p5", "own", 6, "another", "a"), proto.CodeNotAllowed)
	refused(t, r.c, by("p6", "own", 6, "owner", "b"), proto.CodeNotAllowed)
	refused(t, r.c, by("p7", "own", 6, "owner", "nobody"), proto.CodeNotAllowed)
	p := postFrame("p8", nil, 0, "a")
	p.Sign(keys.NewPrivate[keys.RolePosting](mailboxKey("a").Seed()), relayID, theChannel, p.Digest())
	refused(t, r.c, p, proto.CodeNotAllowed)
	refused(t, r.c, registerFrame("c", keys.NewPrivate[keys.RolePosting](mailboxKey("a").Seed())), proto.CodeNotAllowed)
}
