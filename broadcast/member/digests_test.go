package member

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// spread is a membership with n-1 others over five relays, none of whose posts
// were answered.
func spread(t testing.TB, n int) *Machine {
	m := laidDownOver(t, n, 5)
	for i, p := range m.paths {
		p.syncRoot()
		p.read.link, p.read.opened, p.caughtUp, p.listed = broadcast.Link(i+1), true, true, true
		p.lineage = wire.NewLineage(1, [8]byte{byte(i)})
		p.head = crossverify.ChainStart(p.ref.Key, p.channel, p.lineage)
		m.byLink[p.read.link] = p
		p.queue = nil
	}
	return m
}

// sign signs the next number of a path.
func sign5(p *path, n uint64, d wire.Digest) crossverify.Statement {
	return crossverify.SignStatement(benchRelay(p.index), p.channel, p.lineage, n, d, crossverify.ChainNext(p.head, n, d, p.root), p.root)
}

// shows hands over a digest as the next number of a path.
func (m *Machine) shows5(t testing.TB, p *path, d wire.Digest) {
	t.Helper()
	e := &m.keyring.epoch().Key
	f := proto.DeliverDigest{N: p.position + 1, Root: p.root, Hint: broadcast.Hint(e, p.ref.Key), Nonce: [24]byte(m.entropyBytes(24))}
	f.Sealed = broadcast.SealDigest(m.gid, e, p.ref.Key, f.Nonce, d)
	m.hands5(t, p, f)
}

func (m *Machine) hands5(t testing.TB, p *path, f proto.DeliverDigest) {
	t.Helper()
	f.Signature = sign5(p, f.N, f.Digest()).Signature
	if err := m.Step(m.now, broadcast.Received{Link: p.read.link, Frame: proto.Encode(f)}); err != nil {
		t.Fatal(err)
	}
}

func (m *Machine) statusAt(k messageKey, p *path) crossverify.Status {
	return m.ledger.Report(k.subject()).Status[p.index]
}

// postsOf are the posts of a bundle by their kind.
func (m *Machine) postsOf(b *bundleRecord) (full, digests []*path) {
	for _, p := range m.paths {
		for _, q := range p.queue {
			switch {
			case q.bundle == b.order && q.kind == postBundle:
				full = append(full, p)
			case q.bundle == b.order && q.kind == postDigest:
				digests = append(digests, p)
			}
		}
	}
	return full, digests
}

func (m *Machine) newestBundle() *bundleRecord {
	var b *bundleRecord
	for _, o := range m.bundles {
		if b == nil || o.order > b.order {
			b = o
		}
	}
	return b
}

// TestOwnDigest: the sender reads its digests back. The one that it has a receipt
// for matches; another one under that number convicts.
func TestOwnDigest(t *testing.T) {
	for _, lies := range []bool{false, true} {
		m := spread(t, 3)
		m.cfg.Verify = keys.Ed25519
		msg := m.sendBundle(KindText, []byte("text"))
		_, digests := m.postsOf(m.newestBundle())
		p := digests[0]
		q := p.queue[0]
		sent, err := proto.Parse(m.digestFrame(p, q))
		if err != nil {
			t.Fatal(err)
		}
		post := sent.(proto.PostDigest)
		if again := m.digestFrame(p, q); !bytes.Equal(again.Body, proto.Encode(post).Body) {
			t.Error("another frame the second time")
		}
		q.inFlight = true
		m.receipt(p, proto.Receipt{PostID: q.id, Statement: sign5(p, 1, q.d)})
		if len(p.queue) != 0 {
			t.Fatal("the receipt is not taken")
		}
		f := proto.DeliverDigest{N: 1, Root: p.root, Hint: post.Hint, Nonce: post.Nonce, Sealed: post.Sealed}
		if lies {
			f.Nonce = [24]byte(m.entropyBytes(24))
			f.Sealed = broadcast.SealDigest(m.gid, &m.keyring.epoch().Key, p.ref.Key, f.Nonce, wire.Digest{1})
		}
		m.hands5(t, p, f)
		if got := m.statusAt(msg.key, p) == crossverify.Matched; got == lies {
			t.Errorf("lies %v: matched %v", lies, got)
		}
		if p.aside != lies || len(m.evidence) > 0 != lies {
			t.Errorf("lies %v: aside %v, %d pieces of evidence", lies, p.aside, len(m.evidence))
		}
	}
}

// TestCarrierMustCarry: where the header says that it goes in full, a digest does
// not count, before and after the message has opened.
func TestCarrierMustCarry(t *testing.T) {
	m := spread(t, 3)
	msg := m.sendBundle(KindText, []byte("text"))
	full, digests := m.postsOf(m.newestBundle())
	for _, p := range m.paths {
		m.shows5(t, p, msg.d)
		want := crossverify.Awaiting
		if slices.Contains(digests, p) {
			want = crossverify.Matched
		}
		if got := m.statusAt(msg.key, p); got != want || len(full) != 3 {
			t.Errorf("%s: %v, want %v", p.label(), got, want)
		}
	}
	if bits.OnesCount64(msg.digests) != 2 || len(m.digests.open) != 0 {
		t.Errorf("digests on %b, %d open", msg.digests, len(m.digests.open))
	}
}

// TestDigestFirst: digests that come before the message are compared when it
// opens, also after a restart.
func TestDigestFirst(t *testing.T) {
	m := spread(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	it := x.write(t, Content{Kind: KindText, Body: []byte("second")})
	it = x.carriedBy(t, it, m.paths[0], m.paths[1], m.paths[2])
	for _, p := range m.paths[2:] {
		m.shows5(t, p, it.d)
	}
	seen := m.digests.open[it.d]
	if seen == nil || seen.paths != 0b11100 {
		t.Fatalf("%+v", seen)
	}
	op := m.ops[m.opAt[string(m.key(keyCarried, []byte{partDigest}, it.d[:]))]]
	clear(m.digests.open)
	if err := m.loadCarried(op.Key[17:], op.Value); err != nil {
		t.Fatal(err)
	}
	x.on(m.paths[0], it)
	msg := m.messages[it.key()]
	if msg == nil || msg.digests != 0b11000 || len(m.digests.open) != 0 {
		t.Fatalf("%+v, %d open", msg, len(m.digests.open))
	}
	for i, want := range []crossverify.Status{crossverify.Matched, crossverify.Awaiting, crossverify.Awaiting, crossverify.Matched, crossverify.Matched} {
		if got := m.statusAt(it.key(), m.paths[i]); got != want {
			t.Errorf("%s: %v, want %v", m.paths[i].label(), got, want)
		}
	}
	// A full copy may follow a digest; a second one repeats.
	x.on(m.paths[3], it)
	if msg.digests != 0b10000 || m.told(EventRelay, "") != 0 {
		t.Errorf("digests %b, told %d", msg.digests, m.told(EventRelay, ""))
	}
	x.on(m.paths[3], it)
	if m.told(EventRelay, "repeated") != 1 {
		t.Error("a repetition is not told")
	}
	// One that does not open fails, digest or not.
	x.on(m.paths[4], x.spoiled(it))
	if got := m.statusAt(it.key(), m.paths[4]); got != crossverify.Failed {
		t.Errorf("a spoiled slot behind a digest: %v", got)
	}
}

// carriedBy is a copy of an item with a header that names carriers: sealed anew,
// with a slot of the peer's session.
func (x *peer) carriedBy(t *testing.T, it *item, carriers ...*path) *item {
	var full uint64
	for _, p := range carriers {
		full |= p.bit()
	}
	var content keys.ContentKey
	if err := content.Draw(x.m.entropy); err != nil {
		t.Fatal(err)
	}
	h := it.header
	h.Carriers = x.m.carrierBits(full)
	c := Content{Kind: KindText, Sent: unixTime(x.m.now), Body: []byte("carried")}
	envelope, d, err := broadcast.SealEnvelope(x.m.gid, &x.m.keyring.epoch().Key, h, &content, c.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return &item{header: h, d: d, envelope: envelope, slot: x.session.Seal(&x.chain, &content, d, nil)}
}

// TestClosedDigest: what is not sealed by the group's key is a failed copy, told
// once, and nothing is asked.
func TestClosedDigest(t *testing.T) {
	m := spread(t, 2)
	for range 3 {
		p := m.paths[1]
		e := &m.keyring.epoch().Key
		f := proto.DeliverDigest{N: p.position + 1, Root: p.root, Hint: broadcast.Hint(e, p.ref.Key)}
		f.Sealed[7] = 1
		m.hands5(t, p, f)
	}
	if m.paths[1].stats[crossverify.Failed] != 3 || m.told(EventRelay, "digest that does not open") != 1 || len(m.digests.open) != 0 {
		t.Errorf("failed %d, told %d, open %d", m.paths[1].stats[crossverify.Failed], m.told(EventRelay, "digest"), len(m.digests.open))
	}
}

// asked are the digests in the questions of the outbox, and how many questions.
func (m *Machine) asked(t testing.TB) (questions int) {
	t.Helper()
	for _, msg := range m.messages {
		if msg.kind == KindRefetch {
			questions++
		}
	}
	return questions
}

// TestQuestionsAreFew: digests of nothing, however many, cost a member a dozen
// questions an hour, memory for some thousand, and one sentence.
func TestQuestionsAreFew(t *testing.T) {
	m := spread(t, 2)
	true5 := wire.Hash("true")
	for i := range 6000 {
		if i == 100 {
			for _, p := range m.paths {
				m.shows5(t, p, true5)
			}
		}
		m.sawDigest(m.paths[i%5], wire.Hash("nothing", wire.U64(uint64(i))))
	}
	if n := len(m.digests.open); n > 4096 || n < 3800 || m.digests.open[true5] == nil {
		t.Fatalf("%d digests are kept; what all show is: %v", len(m.digests.open), m.digests.open[true5] != nil)
	}
	until := m.now.Add(time.Hour)
	for m.now.Before(until) {
		m.Tick(m.now.Add(10 * time.Second))
	}
	if n := m.asked(t); n != 12 {
		t.Errorf("%d questions in an hour", n)
	}
	if n := m.told(EventRelay, "in vain"); n > 1 {
		t.Errorf("told %d times", n)
	}
	if m.toldOf() == 0 || m.toldOf() > 12*MaxRefetchCopies {
		t.Errorf("%d missing", m.toldOf())
	}
}

// TestOneAsks: whoever sees the question of another waits; after two it is given
// up, told once, and forgotten when the retention time is over.
func TestOneAsks(t *testing.T) {
	m := spread(t, 2)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	d := wire.Hash("nothing")
	m.shows5(t, m.paths[0], d)
	ask := func() {
		x.everywhere(x.write(t, Content{Kind: KindRefetch, Body: AppendRefetch(nil, &Refetch{Copies: []wire.Digest{d}})}))
	}
	ask()
	m.Tick(m.now.Add(m.policy().Deadline))
	if n := m.asked(t); n != 1 { // Bob's
		t.Fatalf("%d questions", n)
	}
	m.Tick(m.now.Add(m.policy().Deadline))
	if n := m.asked(t); n != 2 || m.digests.open[d].asks != 2 {
		t.Fatalf("%d questions, %+v", n, m.digests.open[d])
	}
	for range 10 {
		m.Tick(m.now.Add(m.policy().Deadline))
	}
	if n := m.asked(t); n != 2 || m.told(EventRelay, "in vain") != 1 || m.toldOf() != 1 {
		t.Errorf("%d questions, told %d, missing %d", n, m.told(EventRelay, "in vain"), m.toldOf())
	}
	if at := m.askAt(); !at.IsZero() {
		t.Errorf("it wakes at %v", at)
	}
	m.now = m.now.Add(m.retention() + time.Hour)
	m.shows5(t, m.paths[0], wire.Hash("another"))
	m.Tick(m.now.Add(2 * m.policy().Deadline))
	if m.digests.open[d] != nil {
		t.Error("it is kept for ever")
	}
}

// TestNotAsked: for what is held and cannot open for want of a session, and for
// what only a convicted relay tells of, nobody asks.
func TestNotAsked(t *testing.T) {
	m := spread(t, 1)
	x := newPeer(t, m, "Bob")
	it := x.write(t, Content{Kind: KindText, Body: []byte("held")})
	it.slot = m.entropyBytes(88) // Bob has no session yet
	x.everywhere(it)
	m.shows5(t, m.paths[4], it.d)
	d := wire.Hash("by one")
	m.shows5(t, m.paths[3], d)
	m.paths[3].aside = true
	for range 10 {
		m.Tick(m.now.Add(m.policy().Deadline))
	}
	if n := m.asked(t); n != 0 || m.told(EventRelay, "in vain") != 0 {
		t.Errorf("%d questions", n)
	}
}

// TestRepairs: a bundle is kept for who asks, in memory and store, for a time and
// up to a size; only who has a slot in it is answered, and once.
func TestRepairs(t *testing.T) {
	m := spread(t, 1)
	x := newPeer(t, m, "Bob")
	x.everywhere(x.text(t, "hello"))
	m.greet()
	quiet := func(b *bundleRecord) { // all receipts come
		for _, p := range m.paths {
			for _, q := range slices.Clone(p.queue) {
				if q.bundle == b.order {
					m.noteCarried(p, q)
					m.forgetPost(p, q)
				}
			}
		}
		m.mend()
	}
	for len(m.bundles) > 0 {
		quiet(m.newestBundle())
	}
	for _, s := range x.st.session.list { // its answer travelled before
		s.everywhere = sharesEverywhere
	}
	msg := m.sendBundle(KindText, []byte("text"))
	b := m.newestBundle()
	full, digests := m.postsOf(b)
	if len(full) != 3 || len(digests) != 2 {
		t.Fatalf("in full on %d, digests on %d", len(full), len(digests))
	}
	quiet(b)
	if m.bundles[b.order] == nil || m.untaken() != 0 {
		t.Fatal("it is not kept, or it counts for the outbox")
	}
	m.askedForCopies(m.seatOf(wire.Seat{9}), []wire.Digest{msg.d})
	if again, _ := m.postsOf(b); len(again) != 0 {
		t.Error("who has no slot is answered")
	}
	for range 2 {
		m.askedForCopies(x.st, []wire.Digest{msg.d, {1}})
	}
	if again, _ := m.postsOf(b); !slices.Equal(again, digests) {
		t.Errorf("answered on %d relays", len(again))
	}
	q := digests[0].queue[0]
	if f := m.post(digests[0], q, true); !bytes.Equal(m.unmaskedEnvelope(digests[0], f), b.envelope) {
		t.Error("another envelope")
	}
	quiet(b)
	if m.bundles[b.order] != nil || m.repairs[b.order] != nil {
		t.Error("what all relays have is kept")
	}
	// For an hour.
	m.sendBundle(KindText, []byte("for an hour"))
	b = m.newestBundle()
	quiet(b)
	if at := m.mendAt(); at.Before(m.now.Add(59*time.Minute)) || at.After(m.now.Add(time.Hour)) {
		t.Errorf("it is looked at again at %v", at)
	}
	m.Tick(m.now.Add(time.Hour + time.Second))
	if m.bundles[b.order] != nil {
		t.Error("it is kept for more than an hour")
	}
	// The oldest go.
	var orders []uint64
	two := 0
	for i := range 5 {
		m.sendBundle(KindText, []byte(fmt.Sprint(i)))
		b := m.newestBundle()
		orders = append(orders, b.order)
		quiet(b)
		if i >= 3 {
			two += len(b.envelope) + len(b.slots)
		}
	}
	m.cfg.Limits.RepairBytes = two
	m.mend()
	var kept []uint64
	for _, o := range orders {
		if m.bundles[o] != nil {
			kept = append(kept, o)
		}
	}
	if !slices.Equal(kept, orders[3:]) {
		t.Errorf("kept %v of %v", kept, orders)
	}
}

func (m *Machine) unmaskedEnvelope(p *path, f *proto.PostFrame) []byte {
	e := slices.Clone(f.Envelope)
	broadcast.Mask(e, &m.keyring.epoch().Key, p.ref.Key, f.Nonce, 0)
	return e
}

// TestReplaceCarriers: a carrier without receipt is replaced after half a
// deadline, one that refuses at once, and no others.
func TestReplaceCarriers(t *testing.T) {
	m := spread(t, 2)
	m.sendBundle(KindText, []byte("text"))
	b := m.newestBundle()
	full, _ := m.postsOf(b)
	for _, p := range full[:2] {
		q := p.queue[0]
		q.inFlight = true
		m.post(p, q, true)
		m.receipt(p, proto.Receipt{PostID: q.id, Statement: sign5(p, 1, q.d)})
	}
	m.Tick(m.now.Add(m.carrierWait() - time.Second))
	if now, _ := m.postsOf(b); len(now) != 1 {
		t.Fatalf("in full on %d more before the time", len(now)-1)
	}
	m.Tick(m.now.Add(time.Second))
	now, _ := m.postsOf(b)
	if len(now) != 2 {
		t.Fatalf("in full on %d more", len(now)-1)
	}
	// The new one refuses for good: the last relay carries it.
	p := now[slices.IndexFunc(now, func(p *path) bool { return !slices.Contains(full, p) })]
	q := p.queue[slices.IndexFunc(p.queue, func(q *postItem) bool { return q.kind == postBundle })]
	q.inFlight = true
	m.refusedPost(p, proto.Refused{Of: proto.TypePost, PostID: q.id, Code: proto.CodeTooLarge})
	m.settle()
	now, _ = m.postsOf(b)
	if len(now) != 2 || slices.Contains(now, p) {
		t.Fatalf("in full on %d after the refusal", len(now))
	}
	if r := m.repairs[b.order]; bits.OnesCount64(r.full) != 5 {
		t.Errorf("posted in full on %b", r.full)
	}
}

// TestPick: one of each operator before a second one, all as likely.
func TestPick(t *testing.T) {
	m := spread(t, 1)
	for _, p := range m.paths[1:4] {
		p.ref.Operator = m.paths[0].ref.Operator
	}
	for range 50 {
		if full := pick(m.shuffled(m.paths), 3); bits.OnesCount64(full) != 3 || full&m.paths[4].bit() == 0 {
			t.Fatalf("%b", full)
		}
	}
	n := [5]int{}
	for range 5000 {
		n[m.below(5)]++
	}
	for i := range n {
		if n[i] < 800 || n[i] > 1200 {
			t.Errorf("%v", n)
		}
	}
}

// TestCarrierBits: the bits go by the order of relay keys.
func TestCarrierBits(t *testing.T) {
	m := spread(t, 1)
	sorted := slices.Clone(m.paths)
	slices.SortFunc(sorted, func(a, b *path) int { return bytes.Compare(a.ref.Key[:], b.ref.Key[:]) })
	for i, p := range sorted {
		if got := m.carrierBits(p.bit()); got != 1<<i {
			t.Errorf("%s is bit %b", p.label(), got)
		}
		for j, o := range sorted {
			if m.carries(o, 1<<i, 0) != (i == j) {
				t.Errorf("bit %d and place %d", i, j)
			}
		}
		if !m.carries(p, 0, 0) {
			t.Error("0 is not all")
		}
	}
}

// TestEverybodyIsReached: somebody who has no mailbox on the carriers is not left
// out.
func TestEverybodyIsReached(t *testing.T) {
	m := spread(t, 3)
	set := m.recipients()
	for i := range 4 {
		set.boxes[1][i] = wire.MailboxID{}
	}
	for range 40 {
		full := m.chooseCarriers(KindText, set)
		if full != 0 && full&m.paths[4].bit() == 0 {
			t.Fatalf("carriers %b", full)
		}
	}
}

// TestDigestRecords pins what is stored, and that nothing else reads.
func TestDigestRecords(t *testing.T) {
	m := spread(t, 1)
	m.saveDigest(&seenDigest{d: wire.Digest{1}, paths: 2, asks: 3, since: 4})
	op := m.ops[len(m.ops)-1]
	z := func(n int) string { return strings.Repeat("00", n) }
	if got := hex.EncodeToString(op.Key[16:]) + " " + hex.EncodeToString(op.Value); got != "7a0101"+z(31)+" "+z(7)+"0203"+z(7)+"04" {
		t.Errorf("digest %s", got)
	}
	m.bundles[5] = &bundleRecord{order: 5}
	m.saveRepair(&repair{bundle: m.bundles[5], want: 3, full: 6, got: 2, until: 9})
	rep := m.ops[len(m.ops)-1]
	if got := hex.EncodeToString(rep.Key[16:]) + " " + hex.EncodeToString(rep.Value); got != "7a00"+z(7)+"05 03"+z(7)+"06"+z(7)+"02"+z(7)+"09" {
		t.Errorf("repair %s", got)
	}
	for name, err := range map[string]error{
		"short key":        m.loadCarried(op.Key[17:49], op.Value),
		"digest, cut":      m.loadCarried(op.Key[17:], op.Value[1:]),
		"digest, longer":   m.loadCarried(op.Key[17:], append(slices.Clone(op.Value), 0)),
		"repair, cut":      m.loadCarried(rep.Key[17:], rep.Value[1:]),
		"repair, longer":   m.loadCarried(rep.Key[17:], append(slices.Clone(rep.Value), 0)),
		"another part":     m.loadCarried(append([]byte{2}, rep.Key[18:]...), rep.Value),
		"nothing":          m.loadCarried(nil, nil),
		"repair of none":   m.loadCarried(append([]byte{0}, wire.U64(6)...), rep.Value),
		"repair, long key": m.loadCarried(append(slices.Clone(rep.Key[17:]), 0), rep.Value),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestDigestBytes measures what a text costs its sender, over five relays: the
// frames of the two that get the digest, beside those of the three that carry it.
// Under 5 % in every group of 20 and more.
func TestDigestBytes(t *testing.T) {
	for _, n := range []int{3, 10, 20, 50, 100, 300} {
		m := spread(t, n)
		m.sendBundle(KindText, make([]byte, 32))
		full, digest := 0, 0
		for _, p := range m.paths {
			q := p.queue[0]
			if q.kind == postDigest {
				digest += proto.FrameHead + len(m.digestFrame(p, q).Body)
			} else {
				full += proto.FrameHead + len(m.post(p, q, false).Frame().Body)
			}
		}
		share := float64(digest) / float64(full)
		t.Logf("%d members: carriers %d B, digests %d B: %.1f %%", n, full, digest, 100*share)
		if digest != 2*165 || n >= 20 && share >= 0.05 {
			t.Errorf("%d members: digests are %d B of %d", n, digest, full)
		}
	}
}

// TestDigestOnceMore: a number that was shown bare may turn out to be a digest when
// it is asked for once more.
func TestDigestOnceMore(t *testing.T) {
	m := spread(t, 3)
	m.cfg.Verify = keys.Ed25519
	msg := m.sendBundle(KindText, []byte("text"))
	_, digests := m.postsOf(m.newestBundle())
	p := digests[0]
	e := &m.keyring.epoch().Key
	f := proto.DeliverDigest{N: 1, Root: p.root, Hint: broadcast.Hint(e, p.ref.Key), Nonce: [24]byte{1}}
	f.Sealed = broadcast.SealDigest(m.gid, e, p.ref.Key, f.Nonce, msg.d)
	f.Signature = sign5(p, 1, f.Digest()).Signature
	for _, frame := range []proto.Message{proto.Bare{N: 1, D: f.Digest(), Root: p.root, Signature: f.Signature}, f} {
		if err := m.Step(m.now, broadcast.Received{Link: p.read.link, Frame: proto.Encode(frame)}); err != nil {
			t.Fatal(err)
		}
		if _, bare := frame.(proto.Bare); bare && !m.fetchNext(p) {
			t.Fatal("nothing is asked for once more")
		}
		if p.problem != "" {
			t.Fatal(p.problem)
		}
	}
	if m.statusAt(msg.key, p) != crossverify.Matched {
		t.Errorf("%v", m.statusAt(msg.key, p))
	}
}
