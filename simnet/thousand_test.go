package simnet

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"parallax/broadcast/member"
)

var manyMembers = flag.Int("members", 100, "how large TestThousand's group is when nobody joins any more")

// The shape of TestThousand.
const (
	thousandJoins    = 10
	thousandMessages = 30
	thousandRemovals = 5
	thousandSleepers = 6 // that wake in the end
)

// A group of a thousand over five relays, of which two collude: they show one of
// the newcomers another key under a member's name. Ten join, five are removed,
// thirty texts are sent; everybody who is awake, and who wakes in the end, has all
// of it once, those who were removed what was sent before, nobody has anything
// else, and only the two are set aside. Beside it stands the
// same group on one relay, where nothing is compared: what comparing costs.
func TestThousand(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // here the heap is large
	compared := thousand(t, 5, 2)
	alone := thousand(t, 1, 0)
	t.Logf("bytes of one text of 32 bytes, five relays compared beside one alone:\n"+
		"  sender, to each relay   %8d  %8d\n  sender, altogether      %8d  %8d\n  receiver, from each     %8d  %8d\n  receiver, altogether    %8d  %8d\n"+
		"bytes of a join:\n  newcomer, to each relay %8d  %8d\n  newcomer, altogether up %8d  %8d\n  newcomer, from each     %8d  %8d\n  member, altogether down %8d  %8d",
		compared.sent/5, alone.sent, compared.sent, alone.sent, compared.got/5, alone.got, compared.got, alone.got,
		compared.joined/5, alone.joined, compared.joined, alone.joined, compared.read/5, alone.read, compared.told, alone.told)
	// A view of five relays instead of one: 4 * 88 bytes, within an envelope of
	// the next size class.
	const views = 1024
	if per := compared.sent / 5; per > alone.sent+views {
		t.Errorf("a text costs its sender %d bytes on each of five relays, %d on one alone", per, alone.sent)
	}
	t.Logf("of them to %d relays that carry the digest only: sender %d (%.2f %%), receiver %d", compared.digests, compared.sentDigests,
		100*float64(compared.sentDigests)/float64(compared.sent), compared.gotDigests)
	if compared.digests != 2 || compared.sentDigests*20 >= compared.sent {
		t.Errorf("a text costs its sender %d bytes, %d of them on %d relays that carry its digest: 5 %% or more", compared.sent, compared.sentDigests, compared.digests)
	}
	if per := compared.gotDigests / uint64(max(1, compared.digests)); per > 200 || per == 0 {
		t.Errorf("a text costs its receiver %d bytes from a relay that carries its digest", per)
	}
	if per := compared.got / 5; per > alone.got+views {
		t.Errorf("a text costs its receiver %d bytes from each of five relays, %d from one alone", per, alone.got)
	}
}

// bytes of one text and of one join: altogether, over all relays. Of the text also
// those of the relays that carry its digest only, a receiver of them the average.
type thousandBytes struct {
	sent, got, joined, read, told uint64
	digests                       int // relays
	sentDigests, gotDigests       uint64
}

func thousand(t *testing.T, relays, colluding int) (b thousandBytes) {
	begun := time.Now()
	lap := func(what string) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%d relays: %-14s %6.1f s, heap %4d MB", relays, what, time.Since(begun).Seconds(), m.HeapAlloc>>20)
	}
	cfg := Config{Seed: 1, Limit: 1 << 40}
	s := NewScenario(cfg)
	s.Honest = colluding == 0
	s.Relay.Limits.PostsPerMinute = 1 << 20 // the feeder does in seconds what joins do in weeks
	s.Member.Limits.Reinforced = -1         // as in any group of more than a hundred
	s.AddRelays(relays)
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := layDown(s, *manyMembers-thousandJoins, member.CreateGroup{})
	step(err)
	awake := min(max(16, *manyMembers/25), 40, len(l.seats)-thousandSleepers) // machines; the others sleep
	for i := range awake {
		l.wake(l.node(i), i)
	}
	lap("laid down")
	step(s.Run(20 * time.Minute)) // until the founder has adopted all of them
	total := func(nodes ...*Node) (up, down uint64) {
		for _, n := range nodes {
			for _, r := range s.Relays {
				at := s.Traffic(n.name, r.name)
				up, down = up+at.Up, down+at.Down
			}
		}
		return up, down
	}
	members := slices.Clone(l.awake)
	r := s.Rand("thousand")
	var texts []sentText
	out := map[string]time.Duration{} // who was removed, and when
	say := func(n *Node) {
		text := fmt.Sprintf("%-32.32s", fmt.Sprintf("text %d of %s", len(texts)+1, n.name))
		v, err := s.Do(n, member.SendText{Text: text, Wait: member.WaitAll})
		step(err)
		if info := v.(member.SentInfo); info.Waiting > 0 || info.Members < len(l.seats)-1-len(out) {
			t.Errorf("%s sent to %+v", n.name, info)
		}
		texts = append(texts, sentText{text, s.Elapsed()})
	}

	// What one text costs, before anything happens; with the first goes the list of
	// mailboxes, which relays keep.
	say(l.founder)
	step(s.Run(2 * time.Second))
	at := func(r *Relay, nodes ...*Node) (up, down uint64) {
		for _, n := range nodes {
			x := s.Traffic(n.name, r.name)
			up, down = up+x.Up, down+x.Down
		}
		return up, down
	}
	up, down := make([]uint64, relays), make([]uint64, relays)
	for i, r := range s.Relays {
		up[i], _ = at(r, l.founder)
		_, down[i] = at(r, members[1:]...)
	}
	say(l.founder)
	step(s.Run(2 * time.Second))
	for i, r := range s.Relays {
		sent, _ := at(r, l.founder)
		_, got := at(r, members[1:]...)
		sent, got = sent-up[i], (got-down[i])/uint64(len(members)-1)
		b.sent, b.got = b.sent+sent, b.got+got
		if sent < 1024 { // no slots
			b.digests++
			b.sentDigests, b.gotDigests = b.sentDigests+sent, b.gotDigests+got
		}
	}
	lap("first text")

	// Joins, with texts between them.
	victim, since := "", map[string]time.Duration{}
	for i := range thousandJoins {
		n := s.AddMember(fmt.Sprintf("j%02d", i))
		if colluding > 0 && i == thousandJoins/2 {
			victim = n.name
			step(s.Substitute(s.Relays[relays-colluding:], victim, l.seats[5].name, "mallory", false))
		}
		_, down := total(members...)
		step(s.Join(n))
		step(s.Run(time.Second))
		if i == 0 {
			up, got := total(n)
			_, down1 := total(members...)
			b.joined, b.read, b.told = up, got, (down1-down)/uint64(len(members))
		}
		members, since[n.name] = append(members, n), s.Elapsed()
		for range 2 {
			say(members[r.IntN(len(members))])
		}
	}
	lap("joins")
	gone := []string{l.seats[len(l.seats)-2].name, l.seats[len(l.seats)-3].name, l.seats[2].name, l.seats[3].name, "j01"}
	for _, name := range gone[:thousandRemovals] {
		step(s.Run(time.Minute)) // so that what was sent counts
		v, err := s.Do(l.founder, member.RemoveMember{Member: name})
		step(err)
		if info := v.(member.OperationInfo); !info.Epoch || info.Link == "" {
			t.Errorf("removing %s: %+v", name, info)
		}
		out[name] = s.Elapsed()
		members = slices.DeleteFunc(members, func(n *Node) bool { return n.name == name })
		step(s.Run(time.Minute))
		say(members[r.IntN(len(members))])
	}
	lap("removals")
	for len(texts) < thousandMessages {
		say(members[r.IntN(len(members))])
	}
	step(s.Run(40 * time.Second))
	lap("texts")
	ends := thousandEnds{s: s, texts: texts, seats: len(l.seats) + thousandJoins - len(out), colluding: colluding}

	for i := range thousandSleepers { // one after the other, and gone again
		at := len(l.seats) - 1 - i*(len(l.seats)-awake)/thousandSleepers
		n := l.node(at)
		l.wake(n, at)
		step(s.Run(time.Minute))
		ends.of(t, n, 0, out[n.name], false)
		n.Stop()
		n.disk, s.history[n.name] = nil, nil
	}
	lap("sleepers woke")
	for _, n := range members {
		ends.of(t, n, since[n.name], 0, n.name == victim)
	}
	for _, name := range gone[:thousandRemovals] {
		if n := s.Node(name); n != nil && n.up {
			ends.of(t, n, since[name], out[name], false)
		}
	}
	lap("looked at")
	return b
}

// sentText is a text, and when its sending was answered.
type sentText struct {
	text string
	at   time.Duration
}

// thousandEnds is how it must have ended.
type thousandEnds struct {
	s                *Scenario
	texts            []sentText
	seats, colluding int
}

// of is how for a member that is in since a time, and out from another on, if
// that is not zero.
func (e *thousandEnds) of(t *testing.T, n *Node, since, out time.Duration, victim bool) {
	t.Helper()
	s, colluding := e.s, e.colluding
	events, err := s.History(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, e := range events {
		switch e.Kind {
		case member.EventMessage:
			got[e.Text]++
		case member.EventBlame:
			t.Errorf("%s blames a member: %s", n.name, e.Text)
		}
	}
	for _, x := range e.texts {
		if in := x.at >= since && (out == 0 || x.at < out); in && got[x.text] != 1 || got[x.text] > 1 || out > 0 && x.at >= out && got[x.text] > 0 {
			t.Errorf("%s was shown %q of %v %d times", n.name, x.text, x.at, got[x.text])
		}
		delete(got, x.text)
	}
	if len(got) > 0 {
		t.Errorf("%s was shown what nobody sent: %v", n.name, got)
	}
	if out > 0 {
		return
	}
	v, err := s.Do(n, member.GetStatus{})
	if err != nil {
		t.Fatal(err)
	}
	st := v.(member.Status)
	usable := 0
	for _, m := range st.Members {
		if m.Usable {
			usable++
		}
		if !m.Usable && m.Name != "mallory" && m.Session {
			t.Errorf("%s has a session with %s, whom it does not use", n.name, m.Label)
		}
	}
	if usable != e.seats {
		t.Errorf("%s uses %d seats of %d", n.name, usable, e.seats)
	}
	for i, p := range st.Relays {
		lies := i >= len(st.Relays)-colluding
		if lies && !p.SetAside {
			t.Errorf("%s has not set %s aside", n.name, p.Label)
		}
		if p.SetAside && !lies || !p.CaughtUp || p.Outbox > 0 {
			t.Errorf("%s, honest relay %s: %+v", n.name, p.Label, p)
		}
	}
	if victim && st.Disputes == 0 {
		t.Errorf("%s did not notice the substitution", n.name)
	}
}
