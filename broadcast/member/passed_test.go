package member

import (
	"slices"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// envelope seals a text in a seat's name, as whoever has the epoch key can, and
// is what there is to pass on of it.
func (m *Machine) envelope(t *testing.T, seat wire.Seat, inc wire.Incarnation, sequence uint64, c Content) (*Again, wire.Digest) {
	t.Helper()
	var content keys.ContentKey
	if err := content.Draw(m.entropy); err != nil {
		t.Fatal(err)
	}
	c.Sent = unixTime(m.now)
	epoch := m.keyring.epoch()
	h := broadcast.Header{Epoch: epoch.Number, Seat: seat, Incarnation: inc, Sequence: sequence}
	plain := c.Append(nil)
	envelope, d, err := broadcast.SealEnvelope(m.gid, &epoch.Key, h, &content, plain)
	if err != nil {
		t.Fatal(err)
	}
	return &Again{Header: h, Sealed: [broadcast.SealedHeaderSize]byte(envelope), Key: content, Content: plain}, d
}

// passes is a message of x that passes on.
func (x *peer) passes(t *testing.T, list ...*Again) {
	t.Helper()
	x.everywhere(x.write(t, Content{Kind: KindAgain, Body: AppendAnswer(nil, &Answer{Messages: list})}))
}

// texts are the texts shown, with whose they are.
func (m *Machine) shownTexts() (list []string) {
	for _, e := range m.events {
		switch b := e.Body.(Event); b.Kind {
		case EventMessage:
			list = append(list, b.Member+": "+b.Text)
		case EventPassed:
			list = append(list, b.Member+" of "+b.Of+": "+b.Text)
		}
	}
	return list
}

// TestPassedIsThePassers: what a third member passes on is shown as theirs, true
// or false, until an envelope that the sender's own slot opened names it; what is
// named is not replaced, and what is named otherwise is told.
func TestPassedIsThePassers(t *testing.T) {
	m := laidDown(t, 1)
	mal := newPeer(t, m, "Mal")
	bob := newPeer(t, m, "Bob")
	bob.sequence = 20
	inc := bob.st.ann.Incarnation
	true19, d19 := m.envelope(t, bob.st.seat, inc, 19, Content{Kind: KindText, Body: []byte("true 19")})
	true20, d20 := m.envelope(t, bob.st.seat, inc, 20, Content{Kind: KindText, Body: []byte("true 20"), Previous: d19})
	false18, _ := m.envelope(t, bob.st.seat, inc, 18, Content{Kind: KindText, Body: []byte("false 18")})
	false20, _ := m.envelope(t, bob.st.seat, inc, 20, Content{Kind: KindText, Body: []byte("false 20")})
	mal.passes(t, false18, true19, false20)
	mal.passes(t, false18) // once more
	want := []string{"Mal of Bob: false 18", "Mal of Bob: true 19", "Mal of Bob: false 20"}
	if got := m.shownTexts(); !slices.Equal(got, want) {
		t.Fatalf("shown %q", got)
	}
	// Bob's own envelope names number 20: what Mal said of it was false.
	bob.everywhere(bob.write(t, Content{Kind: KindText, Body: []byte("true 21"), Previous: d20}))
	if m.told(EventDispute, "Mal passed on a text as one of Bob that is not the one") != 1 {
		t.Error("what Mal said of number 20 is not told")
	}
	mal.passes(t, false20) // it changes nothing
	if m.told(EventDispute, "Mal passed on") != 2 {
		t.Error("a false text of a number that is named is taken")
	}
	// The true one is Bob's, whoever passes it on; and it names the one before.
	mal.passes(t, true20)
	want = append(want, "Bob: true 21", "Bob: true 20", "Bob: true 19")
	if got := m.shownTexts(); !slices.Equal(got, want) {
		t.Errorf("shown %q, want %q", got, want)
	}
	if len(m.passed) != 1 || m.received[source{bob.st.seat, inc}].has(18) {
		t.Errorf("%d wait for a word of Bob, want number 18", len(m.passed))
	}
	for _, e := range m.events {
		if b := e.Body.(Event); b.Kind == EventMessage && b.Text != "true 21" && (b.Passed != "Mal" || !b.Late) {
			t.Errorf("%q: passed on by %q, late %v", b.Text, b.Passed, b.Late)
		}
	}
}

// TestContentCannotBeExchanged: with D that the sender names, another content is
// refused, and other numbers are not what was named.
func TestContentCannotBeExchanged(t *testing.T) {
	m := laidDown(t, 1)
	mal := newPeer(t, m, "Mal")
	bob := newPeer(t, m, "Bob")
	bob.sequence = 20
	a, d := m.envelope(t, bob.st.seat, bob.st.ann.Incarnation, 20, Content{Kind: KindText, Body: []byte("true")})
	bob.everywhere(bob.write(t, Content{Kind: KindText, Body: []byte("next"), Previous: d}))
	for name, change := range map[string]func(*Again){
		"content":     func(a *Again) { a.Content = slices.Clone(a.Content); a.Content[len(a.Content)-1] ^= 1 },
		"number":      func(a *Again) { a.Header.Sequence = 19 },
		"incarnation": func(a *Again) { a.Header.Incarnation[0] ^= 1 },
	} {
		b := *a
		change(&b)
		mal.passes(t, &b)
		for _, s := range m.shownTexts() {
			if s != "Bob: next" && s[:4] != "Mal " {
				t.Errorf("another %s: shown %q", name, s)
			}
		}
	}
	mal.passes(t, a)
	if got := m.shownTexts(); got[len(got)-1] != "Bob: true" {
		t.Errorf("shown %q", got)
	}
}

// TestPassedIsBounded: who passes on without end pushes out its own.
func TestPassedIsBounded(t *testing.T) {
	m := laidDown(t, 1)
	mal, eve := newPeer(t, m, "Mal"), newPeer(t, m, "Eve")
	bob := newPeer(t, m, "Bob")
	first, d := m.envelope(t, bob.st.seat, bob.st.ann.Incarnation, 1000, Content{Kind: KindText, Body: []byte("true")})
	eve.passes(t, first)
	for i := range 300 {
		a, _ := m.envelope(t, bob.st.seat, wire.Incarnation{byte(i), byte(i >> 8)}, uint64(i+1), Content{Kind: KindText, Body: []byte("x")})
		mal.passes(t, a)
	}
	if len(m.passed) != maxPassed || m.passed[d] == nil {
		t.Errorf("%d are kept, Eve's among them: %v", len(m.passed), m.passed[d] != nil)
	}
	if n := len(m.seats); n != 4 {
		t.Errorf("%d seats", n)
	}
}

// TestAnswersAreFew: nobody is sent what is from before it was in the group, and
// who asks without end is answered up to a limit.
func TestAnswersAreFew(t *testing.T) {
	m := laidDown(t, 1)
	for range 20 {
		m.sendBundle(KindText, []byte("before"))
	}
	bob := newPeer(t, m, "Bob")
	bob.everywhere(bob.text(t, "hello"))
	for range 20 {
		m.sendBundle(KindText, []byte("since"))
	}
	all := Span{m.self, m.keyring.inc, 1, 1 << 60}
	ask := func() (texts int, nothing []Span) {
		m.answersDue = nil
		bob.everywhere(bob.write(t, Content{Kind: KindRefetch, Body: AppendRefetch(nil, &Refetch{Messages: []Span{all}})}))
		for _, a := range m.answersDue {
			if !a.own {
				t.Error("an own text is answered as another's")
			}
			texts += len(a.texts)
			nothing = append(nothing, a.nothing...)
		}
		return texts, nothing
	}
	texts, nothing := ask()
	if want := []Span{{m.self, m.keyring.inc, 1, 20}, {m.self, m.keyring.inc, m.counters.sequence + 1, 1 << 60}}; texts != 20 || nothing[0] != want[0] || nothing[len(nothing)-1] != want[1] {
		t.Errorf("%d texts, nothing of %v", texts, nothing)
	}
	sum := texts
	for range 100 {
		n, _ := ask()
		sum += n
	}
	if sum != answersADay {
		t.Errorf("%d texts are sent again in a day, want %d", sum, answersADay)
	}
	m.now = m.now.Add(24 * time.Hour)
	if n, _ := ask(); n != 20 {
		t.Errorf("the next day %d", n)
	}
}

// TestKindsOfRecordsDiffer: two kinds of record under one letter would be read as
// each other.
func TestKindsOfRecordsDiffer(t *testing.T) {
	seen := map[byte]bool{}
	for _, k := range kinds {
		if seen[k.kind] {
			t.Errorf("two kinds of record have the letter %q", k.kind)
		}
		seen[k.kind] = true
	}
}
