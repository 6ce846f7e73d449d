package member_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
)

// talked is a group over so many relays in which everybody has written, so that
// no share of an answer travels any more.
func talked(t testing.TB, relays int, names ...string) *world {
	w := newWorld(t, relays, names...)
	w.group(false)
	for range 2 { // an answer, and what shows that it came
		for _, n := range w.nodes {
			n.must(member.SendText{Text: "hello from " + n.name})
			w.run(time.Second)
		}
	}
	return w
}

// posts is what a member posts on each relay meanwhile: "full" or "digest".
func (n *memberNode) posts(do func()) map[string][]string {
	got := map[string][]string{}
	n.sent = func(r *relayNode, f broadcast.Frame) {
		switch f.Type {
		case proto.TypePost:
			got[r.operator] = append(got[r.operator], "full")
		case proto.TypePostDigest:
			got[r.operator] = append(got[r.operator], "digest")
		}
	}
	do()
	n.sent = nil
	return got
}

func count(got map[string][]string, what string) (n int) {
	for _, list := range got {
		for _, s := range list {
			if s == what {
				n++
			}
		}
	}
	return n
}

func row(t testing.TB, n *memberNode, id string) member.PathsRow {
	t.Helper()
	list := n.must(member.GetPaths{Message: id}).(member.Paths).Messages
	return list[len(list)-1]
}

// Over five relays three carry a text, the others get its digest; everybody is
// shown it once, and all paths match.
func TestDigestMode(t *testing.T) {
	w := talked(t, 5, "Ann", "Bob", "Cy")
	ann, bob := w.nodes[0], w.nodes[1]
	carriers := map[string]int{}
	for i := range 8 {
		var info member.SentInfo
		got := ann.posts(func() { info = ann.must(member.SendText{Text: fmt.Sprint("text ", i)}).(member.SentInfo) })
		if info.Carriers != 3 || count(got, "full") != 3 || count(got, "digest") != 2 {
			t.Fatalf("%+v, posted %v", info, got)
		}
		for op, list := range got {
			if list[0] == "full" {
				carriers[op]++
			}
		}
		w.run(time.Second)
		for _, n := range w.nodes {
			r := row(t, n, info.ID)
			if r.Verdict != "agreed" || len(r.Digests) != 2 {
				t.Errorf("%s: %+v", n.name, r)
			}
			for relay, mark := range r.Marks {
				if mark != "matched" {
					t.Errorf("%s: %s is %s", n.name, relay, mark)
				}
				if digest := got["Op"+relay[1:]][0] == "digest"; digest != slices.Contains(r.Digests, relay) {
					t.Errorf("%s: digests %v, posted %v", n.name, r.Digests, got)
				}
			}
		}
	}
	if len(carriers) != 5 {
		t.Errorf("carriers %v: some never carry", carriers)
	}
	texts := bob.texts()
	if len(texts) != 2*3+8 {
		t.Errorf("Bob was shown %q", texts)
	}
	for _, n := range w.nodes {
		if a := n.alarms(); len(a) > 0 {
			t.Errorf("%s: %q", n.name, a)
		}
	}
	// Marks outlive the process.
	last := row(t, bob, "")
	bob.restart()
	if again := row(t, bob, last.ID); fmt.Sprint(again) != fmt.Sprint(last) {
		t.Errorf("after a restart %+v, before %+v", again, last)
	}
}

// Over three relays all carry everything, as does whoever is told to.
func TestNoDigestMode(t *testing.T) {
	for relays, limit := range map[int]int{3: 0, 4: -1} {
		w := newWorld(t, relays, "Ann", "Bob")
		ann := w.nodes[0]
		ann.open = member.Open(member.Config{Verify: w.verify, Limits: member.Limits{Carriers: limit}})
		ann.start()
		w.group(false)
		w.nodes[1].send("first")
		w.run(time.Second)
		ann.send("second")
		w.run(time.Second)
		got := ann.posts(func() { ann.send("third"); w.run(time.Second) })
		if count(got, "full") != relays || count(got, "digest") != 0 {
			t.Errorf("%d relays: posted %v", relays, got)
		}
	}
}

// While shares of an answer travel, three bundles go in full everywhere; then
// the carriers are enough, and the silent one opens all.
func TestSharesGoEverywhere(t *testing.T) {
	w := newWorld(t, 5, "Ann", "Bob")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(5 * time.Second)
	for i := range 5 {
		if i == 2 { // the count outlives the process
			ann.restart()
			w.run(time.Second)
		}
		got := ann.posts(func() { ann.send(fmt.Sprint("text ", i)); w.run(time.Second) })
		if full := count(got, "full"); full != map[bool]int{true: 5, false: 3}[i < 3] {
			t.Errorf("text %d: posted %v", i, got)
		}
	}
	if texts := bob.texts(); len(texts) != 5 {
		t.Errorf("Bob was shown %q", texts)
	}
}

// carriersOf are the relays that got a text in full, and those that got its
// digest.
func (w *world) split(got map[string][]string) (full, digests []*relayNode) {
	for _, r := range w.relays {
		if slices.Contains(got[r.operator], "full") {
			full = append(full, r)
		} else if len(got[r.operator]) > 0 {
			digests = append(digests, r)
		}
	}
	return full, digests
}

// Carriers that all go down take nothing along: those that did not give their
// receipt are replaced, in time for who waits for the answer.
func TestCarriersDown(t *testing.T) {
	w := talked(t, 5, "Ann", "Bob")
	ann, bob := w.nodes[0], w.nodes[1]
	w.relays[0].stop()
	w.relays[1].stop()
	w.relays[2].stop()
	w.run(200 * time.Millisecond)
	// Two relays are left of the five: two of three carriers are down.
	got := ann.posts(func() {
		if _, err := ann.do(member.SendText{Text: "in the storm"}); err == nil {
			t.Error("a quorum took what two relays have")
		}
	})
	if full, _ := w.split(got); len(full) != 2 {
		t.Errorf("in full on %d relays that stand: %v", len(full), got)
	}
	if texts := bob.texts(); texts[len(texts)-1] != "Ann: in the storm" {
		t.Errorf("Bob was shown %q", texts)
	}
	for _, r := range w.relays {
		r.down = false
	}
	w.run(time.Minute)
	r := row(t, bob, "")
	for relay, mark := range r.Marks {
		if mark != "matched" {
			t.Errorf("%s is %s, later", relay, mark)
		}
	}
	if len(bob.alarms()) > 0 {
		t.Errorf("%q", bob.alarms())
	}
}

// bareFor makes relays keep bundles back from a member: the number comes, its
// bytes do not.
func bareFor(victim *memberNode, from []*relayNode) {
	for _, r := range from {
		r.filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
			if to != victim || f.Type != proto.TypeDeliver {
				return []broadcast.Frame{f}
			}
			msg, err := proto.Parse(f)
			if err != nil {
				return nil
			}
			d := msg.(proto.Deliver)
			return []broadcast.Frame{proto.Encode(proto.Bare{N: d.N, D: d.Digest(), Root: d.Root, Signature: d.Signature})}
		}
	}
}

// When every carrier keeps a text from a member, an honest relay's digest tells:
// the member asks, and the sender posts it in full on the others. Nobody is
// blamed, and nobody else is disturbed.
func TestCarriersWithhold(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		w := talked(t, 5, "Ann", "Bob", "Cy", "Di")
		ann, bob, cy := w.nodes[0], w.nodes[1], w.nodes[2]
		var want string
		got := ann.posts(func() {
			// Which relays carry is known when they have it: the bytes are held until then.
			for _, r := range w.relays {
				bareFor(bob, []*relayNode{r})
			}
			want = ann.send("kept back")
		})
		full, digests := w.split(got)
		if len(full) != 3 || len(digests) != 2 {
			t.Fatalf("posted %v", got)
		}
		for _, r := range digests {
			r.filter = nil
		}
		if slices.Contains(bob.texts(), "Ann: kept back") {
			t.Fatal("it came")
		}
		if restarts {
			bob.restart()
			ann.restart()
		}
		got = ann.posts(func() { w.run(10 * time.Second) })
		if again, _ := w.split(got); !slices.Equal(again, digests) || count(got, "full") != 2 {
			t.Errorf("after the question posted %v", got)
		}
		if n := strings.Count(fmt.Sprint(bob.texts()), "kept back"); n != 1 {
			t.Errorf("Bob was shown it %d times", n)
		}
		r := row(t, bob, want)
		for _, x := range full {
			if mark := r.Marks["R"+x.operator[2:]]; mark != "awaiting" && mark != "silent" {
				t.Errorf("%s kept it back and is %s", x.operator, mark)
			}
		}
		for _, x := range digests {
			if mark := r.Marks["R"+x.operator[2:]]; mark != "matched" {
				t.Errorf("%s brought it and is %s", x.operator, mark)
			}
		}
		if len(r.Digests) != 0 {
			t.Errorf("matched by a digest alone: %v", r.Digests)
		}
		if r := row(t, cy, want); r.Verdict != "agreed" || len(r.Digests) != 0 {
			t.Errorf("Cy: %+v", r)
		}
		for _, n := range w.nodes {
			if a := n.alarms(); len(a) > 0 {
				t.Errorf("%s: %q", n.name, a)
			}
			if s := n.must(member.GetStatus{}).(member.Status); s.Missing != 0 {
				t.Errorf("%s misses %d", n.name, s.Missing)
			}
		}
	}
}

// TestCarriersSpoil: carriers that show a member slots that do not open are
// repaired in the same way.
func TestCarriersSpoil(t *testing.T) {
	w := talked(t, 5, "Ann", "Bob", "Cy")
	ann, bob := w.nodes[0], w.nodes[1]
	for _, r := range w.relays {
		r.filter = func(to *memberNode, f broadcast.Frame) []broadcast.Frame {
			if msg, err := proto.Parse(f); err == nil && to == bob {
				if d, ok := msg.(proto.Deliver); ok {
					d.Slot = slices.Clone(d.Slot)
					d.Slot[3] ^= 1
					f = proto.Encode(d)
				}
			}
			return []broadcast.Frame{f}
		}
	}
	got := ann.posts(func() { ann.send("spoiled") })
	full, digests := w.split(got)
	for _, r := range digests {
		r.filter = nil
	}
	w.run(10 * time.Second)
	if texts := bob.texts(); texts[len(texts)-1] != "Ann: spoiled" {
		t.Errorf("Bob was shown %q", texts)
	}
	r := row(t, bob, "")
	for _, x := range full {
		if mark := r.Marks["R"+x.operator[2:]]; mark != "failed" {
			t.Errorf("%s spoiled it and is %s", x.operator, mark)
		}
	}
}

// TestDigestTraffic: what a relay that does not carry a text costs a receiver is at
// most 200 bytes, all frames of both directions; and a sender a hundredth of the
// group's texts or less once it has many members.
func TestDigestTraffic(t *testing.T) {
	w := talked(t, 5, "Ann", "Bob", "Cy", "Di", "Eve")
	ann, bob := w.nodes[0], w.nodes[1]
	w.run(2 * time.Minute) // admissions are adopted
	const texts = 64
	for range texts {
		up, down := map[*relayNode]int{}, map[*relayNode]int{}
		size := func(f broadcast.Frame) int { return proto.FrameHead + len(f.Body) }
		bob.sent = func(r *relayNode, f broadcast.Frame) { up[r] += size(f) }
		bob.got = func(r *relayNode, f broadcast.Frame) { down[r] += size(f) }
		got := ann.posts(func() { ann.send("a text of thirty-two characters."); w.run(time.Second) })
		full, digests := w.split(got)
		if len(full) != 3 || len(digests) != 2 {
			t.Fatalf("posted %v", got)
		}
		for _, r := range digests {
			if n := up[r] + down[r]; n > 202 || n == 0 { // an Ack, 13 bytes, comes once in 64 numbers
				t.Fatalf("%d bytes up and %d down of a relay that does not carry it", up[r], down[r])
			}
			if down[r] != 189 {
				t.Errorf("%d bytes down", down[r])
			}
		}
	}
	bob.sent, bob.got = nil, nil
}

// TestDigestCrashes: whatever crashes, over five relays, everything is shown once
// to everybody, and nobody is alarmed.
func TestDigestCrashes(t *testing.T) {
	for seed := range uint64(3) {
		w := talked(t, 5, "Ann", "Bob", "Cy")
		rng := rand.New(rand.NewPCG(seed, 7))
		want := map[string]int{}
		for _, s := range w.nodes[0].history() {
			want[s]++
		}
		for i := range 20 {
			n := w.nodes[rng.IntN(len(w.nodes))]
			text := fmt.Sprintf("m%d", i)
			n.later(text)
			want[n.name+": "+text]++
			for range rng.IntN(6) {
				w.turn()
			}
			switch rng.IntN(3) {
			case 0:
				w.nodes[rng.IntN(len(w.nodes))].restart()
			case 1:
				r := w.relays[rng.IntN(len(w.relays))]
				for _, u := range r.units {
					u.restart()
				}
			}
		}
		w.run(30 * time.Second)
		for _, n := range w.nodes {
			got := map[string]int{}
			for _, s := range n.history() {
				got[s]++
			}
			if !maps.Equal(got, want) {
				t.Errorf("seed %d: %s has %v, want %v", seed, n.name, got, want)
			}
			if a := n.alarms(); len(a) > 0 {
				t.Errorf("seed %d: %s has alarms %q", seed, n.name, a)
			}
			if s := n.must(member.GetStatus{}).(member.Status); s.Missing != 0 || s.Outbox != 0 {
				t.Errorf("seed %d: %s misses %d, %d in the outbox", seed, n.name, s.Missing, s.Outbox)
			}
			for _, r := range n.must(member.GetPaths{Limit: 20}).(member.Paths).Messages {
				for relay, mark := range r.Marks {
					if mark != "matched" {
						t.Errorf("seed %d: %s: %s of %q is %s", seed, n.name, relay, r.Text, mark)
					}
				}
			}
		}
	}
}

// TestDigestDelivery: a receipt of a digest is not taken for one of the text, and
// to have read past it is not to have read it.
func TestDigestDelivery(t *testing.T) {
	w := talked(t, 5, "Ann", "Bob", "Cy")
	ann, bob := w.nodes[0], w.nodes[1]
	for _, r := range w.relays {
		bob.cutFrom(r)
	}
	var id string
	got := ann.posts(func() { id = ann.send("not read yet") })
	_, digests := w.split(got)
	dl := ann.delivery(id)
	for _, r := range dl.Relays {
		digest := slices.ContainsFunc(digests, func(x *relayNode) bool { return "R"+x.operator[2:] == r.Label })
		if r.State != member.RelayReceipt || r.Digest != digest || digest != strings.Contains(r.Why, "digest") {
			t.Errorf("%+v", r)
		}
	}
	// Bob reads the digests alone, and writes.
	for _, r := range digests {
		for _, use := range []broadcast.Use{broadcast.ReadLink, broadcast.PostLink} {
			delete(bob.after, linkKey{r.key.Public(), use})
		}
	}
	w.run(time.Second)
	bob.later("what did you say?")
	w.run(time.Second)
	v := of(t, ann.delivery(id), "Bob")
	if v.State != member.MemberBehind || !strings.Contains(v.Why, "where only the digest is") {
		t.Errorf("%+v", v)
	}
	w.run(2 * time.Minute)
	bob.send("now I see")
	w.run(time.Second)
	if v := of(t, ann.delivery(id), "Bob"); v.State != member.MemberOpened {
		t.Errorf("later %+v", v)
	}
}

// cutFrom ends a member's links to a relay, for a while.
func (n *memberNode) cutFrom(r *relayNode) {
	for k, l := range n.up {
		if k.Relay == r.key.Public() {
			n.w.cut(n.actor, l)
			n.after[k] = n.w.now.Add(time.Minute)
		}
	}
}

// TestCarriersByPolicy: the group's policy says how many carry.
func TestCarriersByPolicy(t *testing.T) {
	w := newWorld(t, 4, "Ann")
	ann := w.nodes[0]
	var spots []member.FoundingSpot
	for _, r := range w.relays {
		spots = append(spots, member.FoundingSpot{Key: r.key.Public(), Addrs: []string{"/memory/1"}, Token: "token"})
	}
	ann.must(member.CreateGroup{Group: "Test", Name: "Ann", Relays: spots, Carriers: 2})
	got := ann.posts(func() { ann.send("text") })
	if count(got, "full") != 2 || count(got, "digest") != 2 {
		t.Errorf("posted %v", got)
	}
}
