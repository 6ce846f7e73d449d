package member

import (
	"testing"

	"parallax/broadcast"
	"parallax/internal/keys"
)

// heardFrom is a membership in which so many others said so many texts each.
func heardFrom(t *testing.T, others, texts int) (*Machine, []*peer) {
	m := laidDown(t, 1)
	var list []*peer
	for i := range others {
		list = append(list, newPeer(t, m, string(rune('A'+i))))
	}
	for range texts {
		for _, x := range list {
			x.everywhere(x.text(t, "text"))
		}
	}
	return m, list
}

// sealedLength is how long an envelope with this content is.
func sealedLength(t *testing.T, m *Machine, c *Content) int {
	t.Helper()
	var key keys.ContentKey
	if err := key.Draw(m.entropy); err != nil {
		t.Fatal(err)
	}
	e := m.keyring.epoch()
	envelope, _, err := broadcast.SealEnvelope(m.gid, &e.Key, broadcast.Header{Epoch: e.Number, Seat: m.self, Sequence: 1}, &key, c.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return len(envelope)
}

// TestViewCostsNothing: beyond four texts of others a view names what fits into the
// padding, and all of that; an ack names as many as a view may have.
func TestViewCostsNothing(t *testing.T) {
	m, _ := heardFrom(t, 3, 8)
	full := 0
	for body := 0; body < 3000; body += 7 {
		v := m.view(KindText, body)
		c := &Content{Kind: KindText, View: v, Body: make([]byte, body)}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		least := *c
		least.View.Recents = make([]Recent, minRecents+maxOwnRecents)
		size := sealedLength(t, m, &least)
		if n := len(v.Recents); n < minRecents || sealedLength(t, m, c) != size {
			t.Fatalf("a body of %d bytes: %d texts named, in %d bytes instead of %d", body, n, sealedLength(t, m, c), size)
		}
		if len(v.Recents) == MaxRecents-maxOwnRecents { // this member said nothing
			full++
			continue
		}
		more := *c // as if this member had said two
		more.View.Recents = make([]Recent, len(v.Recents)+maxOwnRecents+1)
		if sealedLength(t, m, &more) == size {
			t.Fatalf("a body of %d bytes: %d texts are named, one more fits", body, len(v.Recents))
		}
	}
	if full == 0 {
		t.Error("no view is full")
	}
	if n := len(m.view(KindAck, 0).Recents); n != MaxRecents-maxOwnRecents {
		t.Errorf("an ack names %d texts", n)
	}
}

// TestViewNamesAll: whoever says much crowds out nobody, and what views of others
// have named makes room for what they have not; the newest stay whatever others name.
func TestViewNamesAll(t *testing.T) {
	m, list := heardFrom(t, 12, 1)
	for range 40 {
		list[0].everywhere(list[0].text(t, "and another thing"))
	}
	named := map[[8]byte]int{}
	view := func() View {
		v := m.view(KindText, 260)
		for _, r := range v.Recents {
			named[r.Seat]++
		}
		return v
	}
	first := view()
	if n := len(first.Recents); n < minRecents+2 || n >= 12 {
		t.Fatalf("%d texts named", n)
	}
	if len(named) != len(first.Recents) {
		t.Errorf("%d sources in %d places", len(named), len(first.Recents))
	}
	newest := first.Recents[:minRecents]
	m.compareView(list[0].st, first) // as somebody's who saw the same
	m.compareView(list[0].st, first)
	second := view()
	if len(named) != 12 {
		t.Errorf("two views name %d of 12 sources", len(named))
	}
	for _, r := range newest[:1] {
		found := false
		for _, o := range second.Recents {
			found = found || o == r
		}
		if !found {
			t.Errorf("the newest text is named no more since others named it")
		}
	}
	for i := 1; i < len(second.Recents); i++ {
		a, b := m.messagesOf(second.Recents[i-1]), m.messagesOf(second.Recents[i])
		for _, x := range a {
			for _, y := range b {
				if x.order <= y.order {
					t.Fatal("not the newest first")
				}
			}
		}
	}
}
