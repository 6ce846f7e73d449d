package member_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

func exampleContent() *member.Content {
	return &member.Content{
		Previous: fill(1), Kind: member.KindText, Sent: at, Body: []byte("Hello, Zoë."),
		View: member.View{
			Roster: fill(2),
			Relays: []member.RelayView{
				{Relay: keys.RelayPublic(fill(0x21)), Lineage: wire.NewLineage(1, [8]byte{9}), N: 7, Head: fill(3)},
				{Relay: keys.RelayPublic(fill(0x22)), Lineage: wire.NewLineage(2, [8]byte{8}), N: 1 << 40, Head: fill(4), Convicted: true},
			},
			Recents: []member.Recent{
				{Seat: [8]byte{9}, Incarnation: wire.Incarnation{1}, Sequence: 5, D: fill(6)},
				{Seat: [8]byte{3}, Incarnation: wire.Incarnation{2}, Sequence: 1, D: fill(7)},
			},
		},
	}
}

func TestContent(t *testing.T) {
	c := exampleContent()
	b := c.Append(nil)
	strict(t, member.ParseContent, b, c)
	pin(t, b, 381, "ca6661e900f2acdaf2c5a6b8397301b063850809321f75b76c80b34141ed96c5")
	least := &member.Content{Kind: member.KindHello, Body: []byte{}}
	strict(t, member.ParseContent, least.Append(nil), least)
}

// The order of relays is canonical, that of recent envelopes is the sender's.
func TestContentOrder(t *testing.T) {
	c := exampleContent()
	slices.Reverse(c.View.Relays)
	if !bytes.Equal(c.Append(nil), exampleContent().Append(nil)) {
		t.Error("the bytes depend on the order of relays in memory")
	}
	slices.Reverse(c.View.Recents)
	if bytes.Equal(c.Append(nil), exampleContent().Append(nil)) {
		t.Error("the order of recent envelopes is lost")
	}
	b := exampleContent().Append(nil)
	copy(b[74:106], bytes.Repeat([]byte{0x22}, 32)) // the first relay of the view, now as the second
	if _, err := member.ParseContent(b); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("a relay twice: %v", err)
	}
}

// The largest view and the largest body fit the largest size class together.
func TestContentLargest(t *testing.T) {
	c := &member.Content{Kind: member.KindText, Sent: at, Body: make([]byte, member.MaxBody)}
	for i := range member.MaxRelayViews {
		c.View.Relays = append(c.View.Relays, member.RelayView{Relay: keys.RelayPublic(fill(byte(i)))})
	}
	c.View.Recents = make([]member.Recent, member.MaxRecents)
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	b := c.Append(nil)
	if len(b) != member.MaxContent {
		t.Errorf("the largest content has %d bytes, not %d", len(b), member.MaxContent)
	}
	got, err := member.ParseContent(b)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("the largest content does not come back: %v", err)
	}
}

func TestContentRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*member.Content)
		want   error
	}{
		"body":          {func(c *member.Content) { c.Body = make([]byte, member.MaxBody+1) }, wire.ErrTooLong},
		"33 relays":     {func(c *member.Content) { c.View.Relays = make([]member.RelayView, 33) }, wire.ErrTooLong},
		"17 recents":    {func(c *member.Content) { c.View.Recents = make([]member.Recent, 17) }, wire.ErrTooLong},
		"relay twice":   {func(c *member.Content) { c.View.Relays[1].Relay = c.View.Relays[0].Relay }, wire.ErrFormat},
		"sent too late": {func(c *member.Content) { c.Sent = time.Unix(253402300800, 0) }, wire.ErrFormat},
	} {
		x := exampleContent()
		c.change(x)
		if !errors.Is(x.Check(), c.want) {
			t.Errorf("%s: Check: %v, want %v", name, x.Check(), c.want)
		}
		if _, err := member.ParseContent(x.Append(nil)); !errors.Is(err, c.want) {
			t.Errorf("%s: ParseContent: %v, want %v", name, err, c.want)
		}
	}
}

// "From 0x80 on an unknown kind is skipped, below it is shown" (section 6): a
// content of any kind parses.
func TestKinds(t *testing.T) {
	for k := range 256 {
		c := exampleContent()
		c.Kind = member.Kind(k)
		got, err := member.ParseContent(c.Append(nil))
		if err != nil || got.Kind != c.Kind {
			t.Fatalf("kind %d: %v", k, err)
		}
		if known, skip := k >= 1 && k <= 7, k >= 0x80; c.Kind.Known() != known || c.Kind.Skippable() != skip {
			t.Errorf("kind %#x: known %v, skippable %v", k, c.Kind.Known(), c.Kind.Skippable())
		}
	}
	list := []member.Kind{member.KindText, member.KindHello, member.KindRoster, member.KindStatements, member.KindAgain, member.KindRefetch, member.KindAck}
	if fmt.Sprint(list) != "[1 2 3 4 5 6 7]" {
		t.Errorf("numbers of kinds: %v", list)
	}
}

func exampleStatements(n int) (list []crossverify.Statement) {
	key := new(keys.RelayPrivate).FromSeed(fill(0x31))
	for i := range n {
		list = append(list, crossverify.SignStatement(key, fill(7), wire.NewLineage(1, [8]byte{}), uint64(i+1), fill(1), fill(2), fill(3)))
	}
	return list
}

func TestExchange(t *testing.T) {
	for _, n := range []int{0, 1, 2, member.MaxStatements} {
		x := &member.Exchange{Statements: exampleStatements(n)}
		if n > 0 {
			x.Evidence = []string{"", strings.Repeat("e", crossverify.MaxEvidence)}[:min(n, 2)]
		}
		b := x.Append(nil)
		if len(b) > member.MaxBody {
			t.Errorf("%d bytes do not fit a body", len(b))
		}
		got, err := member.ParseExchange(b)
		if err != nil || !reflect.DeepEqual(got, x) {
			t.Errorf("%d statements: %v", n, err)
		}
		for cut := 0; cut < len(b); cut += 1 + cut/5000*500 {
			if _, err := member.ParseExchange(b[:cut]); !errors.Is(err, wire.ErrShort) {
				t.Fatalf("%d statements, the first %d bytes: %v", n, cut, err)
			}
		}
		if _, err := member.ParseExchange(append(b, 0)); !errors.Is(err, wire.ErrTrailing) {
			t.Errorf("%d statements and a byte: %v", n, err)
		}
	}
	x := member.Exchange{Statements: exampleStatements(2), Evidence: []string{"parallax evidence 1"}}
	pin(t, x.Append(nil), 521, "69bcbf547e5d565a7325d991163af772ca58970159b8382f0fe284f6690e3f89")
	x = member.Exchange{Statements: exampleStatements(17), Evidence: []string{"a", "b", "c"}}
	got, err := member.ParseExchange(x.Append(nil))
	if err != nil || len(got.Statements) != member.MaxStatements || len(got.Evidence) != member.MaxEvidences {
		t.Errorf("beyond the limits: %+v came back, %v", got, err)
	}
	for _, b := range [][]byte{
		append([]byte{17}, make([]byte, 17*crossverify.StatementSize)...),
		append([]byte{0, 3}, make([]byte, 3*4)...),
		append([]byte{0, 1, 0, 0, 0x60, 1}, make([]byte, crossverify.MaxEvidence+1)...),
	} {
		if _, err := member.ParseExchange(b); !errors.Is(err, wire.ErrTooLong) {
			t.Errorf("%d bytes beyond a limit: %v", len(b), err)
		}
	}
}

func FuzzParseContent(f *testing.F) {
	fuzzObject(f, exampleContent().Append(nil), member.ParseContent, func(c *member.Content) []byte { return c.Append(nil) })
}

func FuzzParseExchange(f *testing.F) {
	x := member.Exchange{Statements: exampleStatements(2), Evidence: []string{"parallax evidence 1"}}
	fuzzObject(f, x.Append(nil), member.ParseExchange, func(x *member.Exchange) []byte { return x.Append(nil) })
}
